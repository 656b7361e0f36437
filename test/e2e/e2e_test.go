// Package e2e tests the real programs as separate processes. It needs the folder of the
// built binaries in PHALA_BIN; make test-e2e sets it.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

func bin(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PHALA_BIN")
	if dir == "" {
		t.Skip("PHALA_BIN does not name the folder of the built programs: run make test-e2e")
	}
	return dir
}

func start(t *testing.T, workers int) (*devnet.Net, devnet.Options) {
	t.Helper()
	return startWith(t, devnet.Options{Workers: workers})
}

// startWith starts a network with the options' workers and validators.
func startWith(t *testing.T, opt devnet.Options) (*devnet.Net, devnet.Options) {
	t.Helper()
	b := bin(t)
	opt.Dir, opt.Bin, opt.Out, opt.Hello = filepath.Join(t.TempDir(), "devnet"), b, io.Discard, filepath.Join(b, "hello.wasm")
	if opt.Port == 0 {
		// Between those that systems give to services and to connections: whatever else
		// starts a network on this machine now looks elsewhere.
		opt.Port = 10_000 + rand.IntN(20_000)
	}
	n, err := devnet.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(opt.Dir, "logs", "*.log"))
			for _, l := range logs {
				b, _ := os.ReadFile(l)
				t.Logf("%s ends with:\n%s", filepath.Base(l), b[max(0, len(b)-1500):])
			}
		}
		n.Stop()
	})
	return n, opt
}

func count(ctx context.Context, t *testing.T, n *devnet.Net) uint64 {
	t.Helper()
	a, err := n.Client.Query(ctx, n.State().Contracts["hello"], "Count", nil, client.QueryOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var v uint64
	if err := json.Unmarshal(a.Return, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// until calls f until it succeeds.
func until(ctx context.Context, t *testing.T, what string, f func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v; last: %v", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// TestSeatsAgree: two workers run the same commands, reach the same state root, and a
// receipt is final with both signatures; not when one of them says something else.
func TestSeatsAgree(t *testing.T) {
	n, opt := start(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	hello := n.State().Contracts["hello"]
	for i := range 5 {
		r, err := n.Client.Call(ctx, hello, "SetGreeting", fmt.Sprintf("number %d", i), client.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Seats != 2 {
			t.Fatalf("receipt of message %d is signed by %d seats, want 2", r.Seq, r.Seats)
		}
	}
	targets, err := n.Client.Targets(ctx, hello)
	if err != nil || len(targets) != 2 {
		t.Fatal(len(targets), err)
	}
	input, err := client.Input("GetGreeting", nil)
	if err != nil {
		t.Fatal(err)
	}
	roots := map[proto.Hash]bool{}
	for _, target := range targets {
		a, err := n.Client.Ask(ctx, target, hello, input, client.QueryOptions{})
		if err != nil || string(a.Return) != `"number 4"` {
			t.Fatalf("worker %s answers %v, %v", target.Worker, a, err)
		}
		roots[a.StateRoot] = true
	}
	if len(roots) != 1 {
		t.Errorf("two workers have state roots %v", roots)
	}
	t.Run("one differs", func(t *testing.T) { differs(ctx, t, n, opt) })
}

func TestMain(m *testing.M) { os.Exit(m.Run()) }

// eventually runs a program again and again until it succeeds: what it asks for depends on
// the chain's height.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: eventually program args...")
	}
	for deadline := time.Now().Add(5 * time.Minute); ; {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s did not succeed within five minutes: %v", strings.Join(args, " "), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestCommands runs the phala tool against a devnet, by the scripts in testdata.
func TestCommands(t *testing.T) {
	n, opt := start(t, 1)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"eventually": eventually},
		Setup: func(e *testscript.Env) error {
			b, err := filepath.Abs(opt.Bin)
			e.Setenv("PATH", b+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("BIN", b)
			e.Setenv("PHALA_DEVNET", opt.Dir)
			e.Setenv("PHALA_KEYS", filepath.Join(e.WorkDir, "keys"))
			// What the go command needs to build a contract: the same caches as outside.
			for _, name := range []string{"HOME", "GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS", "GONOSUMDB", "GONOSUMCHECK", "GOSUMDB"} {
				if v, err := exec.Command("go", "env", name).Output(); err == nil && strings.TrimSpace(string(v)) != "" {
					e.Setenv(name, strings.TrimSpace(string(v)))
				} else if v := os.Getenv(name); v != "" {
					e.Setenv(name, v)
				}
			}
			source, serr := filepath.Abs("../..")
			err = errors.Join(err, serr)
			e.Setenv("SOURCE", source)
			e.Setenv("HELLO", n.State().Contracts["hello"].String())
			network, merr := json.Marshal(n.State().Network)
			return errors.Join(err, merr, os.WriteFile(filepath.Join(e.WorkDir, "network.json"), network, 0o600))
		},
	})
}
