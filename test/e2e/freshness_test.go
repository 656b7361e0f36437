package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/pherry"
)

// TestOutOfTouch: a worker that is cut off from the chain, one that was frozen, one whose
// copy took over, and one that woke up in an older state answer nothing, and say why;
// each serves again once the chain has heard of it.
func TestOutOfTouch(t *testing.T) {
	const lease = 6 * time.Second
	n, opt := startWith(t, devnet.Options{Workers: 1, Flags: []string{fmt.Sprintf("--lease=%s", lease)}})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	hello, worker, dir := n.State().Contracts["hello"], n.Private("worker-1"), filepath.Join(opt.Dir, "worker-1")
	public := endpoint(ctx, t, n, status(ctx, t, worker).Worker)
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	calls := 0
	answers := func(what string) {
		t.Helper()
		until(ctx, t, what+": it answers", func() error {
			a, err := n.Client.Query(ctx, hello, "Count", nil, client.QueryOptions{})
			if err == nil && string(a.Return) != fmt.Sprint(calls) {
				t.Fatalf("%s: it counts %s commands of %d", what, a.Return, calls)
			}
			return err
		})
	}
	refused := func(why string) error {
		code, got, err := refusal(ctx, public)
		if err != nil || code != "not_serving" || !strings.Contains(got, why) {
			return fmt.Errorf("it answers %s: %s, %v; want not_serving: %s", code, got, err, why)
		}
		if _, err := n.Client.Query(ctx, hello, "Count", nil, client.QueryOptions{}); !errors.Is(err, client.ErrNoWorker) {
			return fmt.Errorf("a query: %v", err)
		}
		if st := status(ctx, t, worker); st.Serving || st.Fatal != "" {
			return fmt.Errorf("it says serving %v, fatal %q", st.Serving, st.Fatal)
		}
		return nil
	}
	refuses := func(what, why string) {
		t.Helper()
		if err := refused(why); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	call := func() {
		t.Helper()
		calls++
		if _, err := n.Client.Call(ctx, hello, "SetGreeting", fmt.Sprint("number ", calls), client.CallOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	call()
	must(n.End("worker-1")) // seals a checkpoint
	older := filepath.Join(t.TempDir(), "copy")
	must(os.CopyFS(older, os.DirFS(dir)))
	old := snapshotFiles(t, dir)
	must(n.Run("worker-1"))
	answers("restarted")

	must(n.Kill("pherry"))
	silent(ctx, t, public)
	refuses("cut off", "no challenge came back")
	must(n.Run("pherry"))
	answers("connected again")

	var frozen *os.Process
	for _, p := range n.Processes() {
		if p.Name == "worker-1" {
			frozen, _ = os.FindProcess(p.PID())
		}
	}
	serves(ctx, t, worker)
	must(n.Kill("pherry"), frozen.Signal(syscall.SIGSTOP))
	at := time.Now()
	until(ctx, t, "the lease to end", func() error {
		if time.Since(at) < lease {
			return errors.New("not over")
		}
		return nil
	})
	must(frozen.Signal(syscall.SIGCONT))
	refuses("frozen for a lease", "no challenge came back")
	must(n.Run("pherry"))
	answers("thawed")

	// A copy of its files, on the same machine, is the same enclave: one of them serves.
	call()
	private := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	must(n.Also("clone", "worker-1", "--data="+older, "--private="+private, fmt.Sprintf("--public=127.0.0.1:%d", freePort(t))),
		n.Also("pherry-2", "pherry", "--pruntime=http://"+private))
	clone := pherry.NewRuntime("http://" + private)
	until(ctx, t, "the copy to take over", func() error {
		c, err := clone.Status(ctx)
		if err != nil {
			return err
		}
		if w := status(ctx, t, worker); w.Worker != c.Worker {
			t.Fatalf("%s is no copy of %s", c.Worker, w.Worker)
		}
		if !c.Serving {
			return fmt.Errorf("it does not serve: %s", c.Why)
		}
		return refused("session")
	})
	must(n.Kill("pherry-2"), n.Kill("clone"))
	answers("alone again")

	// The files from before that call: it knows one command, and the chain two.
	must(n.Kill("pherry"), n.End("worker-1"))
	put(t, dir, old)
	must(n.Run("worker-1"))
	until(ctx, t, "its API", func() error { _, err := worker.Status(ctx); return err })
	refuses("in an older state", "")
	must(n.Run("pherry"))
	answers("caught up")
}
