package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
)

// TestContinue: a stopped devnet goes on where it was, at other ports where somebody took
// them meanwhile; a foreign state is refused with the command that helps; taken ports are
// avoided.
func TestContinue(t *testing.T) {
	port := freePort(t)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	n, opt := startWith(t, devnet.Options{Workers: 1, Port: port})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if n.State().Ports.RPC[0] == port {
		t.Error("a taken port was used")
	}
	if _, err := n.Client.Call(ctx, n.State().Contracts["hello"], "SetGreeting", "kept", client.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := devnet.Start(ctx, opt); !errors.Is(err, devnet.ErrRunning) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second one in the folder: %v", err)
	}
	fresh := opt
	fresh.Fresh = true
	if _, err := devnet.Start(ctx, fresh); !errors.Is(err, devnet.ErrRunning) {
		t.Errorf("afresh under one that runs: %v", err)
	}
	if c := count(ctx, t, n); c != 1 {
		t.Errorf("with others that tried to start, the count is %d", c)
	}
	n.Stop()

	// Whatever was free a moment ago is somebody else's now.
	before := n.State().Ports
	for _, p := range []int{before.RPC[0], before.P2P[0], before.TEE[1], before.Private[0], before.Public[1]} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	plain := opt
	plain.Workers = 0 // as "phala devnet" without flags
	again, err := devnet.Start(ctx, plain)
	if err != nil {
		t.Fatal(err)
	}
	after := again.State().Ports
	if after.RPC[0] == before.RPC[0] || after.Public[1] == before.Public[1] || after.TEE[0] != before.TEE[0] || after.Public[0] != before.Public[0] {
		t.Errorf("ports were %+v and are %+v", before, after)
	}
	if c := count(ctx, t, again); c != 1 {
		t.Errorf("after a restart the count is %d", c)
	}
	again.Stop()

	for name, edit := range map[string]func(*devnet.Options){
		"other workers":    func(o *devnet.Options) { o.Workers = 2 },
		"other validators": func(o *devnet.Options) { o.Bonds = []int64{million, million} },
		"TLS":              func(o *devnet.Options) { o.TLS = true },
	} {
		other := opt
		edit(&other)
		refused(ctx, t, name, other)
	}
	genesis := filepath.Join(opt.Dir, "node", "config", "genesis.json")
	b, err := os.ReadFile(genesis)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(genesis, append(b, ' '), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(ctx, t, "another genesis", opt)

	// What is no devnet's is not cleared.
	fresh.Dir = t.TempDir()
	precious := filepath.Join(fresh.Dir, "precious")
	if err := os.WriteFile(precious, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = devnet.Start(ctx, fresh)
	if _, gone := os.Stat(precious); err == nil || gone != nil {
		t.Errorf("in somebody's folder: %v, %v", err, gone)
	}
}

// TestContinueUnborn: a devnet that is stopped before its first block, while its node
// makes the databases, goes on as the network that it is; one that cannot, because it does
// not fit what is there now, begins anew without asking, because nothing is lost.
func TestContinueUnborn(t *testing.T) {
	opt := devnet.Options{Dir: filepath.Join(t.TempDir(), "devnet"), Bin: bin(t), Workers: 1, Out: t.Output()}
	chain := func() string {
		t.Helper()
		s, err := devnet.Load(opt.Dir)
		if err != nil {
			t.Fatal(err)
		}
		if s.RootHeight != 0 {
			t.Fatal("it knows a block")
		}
		return s.Chain
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	var first string
	for i := range 3 {
		if _, err := devnet.Start(stopped, opt); !errors.Is(err, context.Canceled) {
			t.Fatalf("start %d: %v", i+1, err)
		}
		if c := chain(); i > 0 && c != first {
			t.Fatalf("start %d made another network", i+1)
		} else {
			first = c
		}
	}
	n, err := devnet.Start(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	n.Stop()
	if n.State().Chain != first || n.State().RootHeight == 0 {
		t.Errorf("it is %q with a root of height %d, not %q with one", n.State().Chain, n.State().RootHeight, first)
	}

	opt.Dir = filepath.Join(t.TempDir(), "devnet")
	devnet.Start(stopped, opt)
	first = chain()
	opt.Workers = 2
	devnet.Start(stopped, opt)
	if chain() == first {
		t.Error("it went on with another number of workers than it is made for")
	}
}

// refused starts a devnet that does not fit its folder.
func refused(ctx context.Context, t *testing.T, name string, opt devnet.Options) {
	t.Helper()
	n, err := devnet.Start(ctx, opt)
	if err == nil {
		n.Stop()
	}
	if !errors.Is(err, devnet.ErrForeign) || !strings.Contains(err.Error(), "bin/phala devnet --fresh") {
		t.Errorf("%s: got %v, want ErrForeign with the command that helps", name, err)
	}
}

// TestDevnetCommand runs the program itself: stopped at any moment of its start, it starts
// again; once ready it names its processes, and Ctrl-C leaves none of them.
func TestDevnetCommand(t *testing.T) {
	b, dir := bin(t), filepath.Join(t.TempDir(), "devnet")
	begin := func() (*exec.Cmd, io.Reader) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(b, "phala"), "devnet", "--devnet", dir, "--output", "json")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = t.Output()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	seed := rand.Uint64()
	if s := os.Getenv("PHALA_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("PHALA_SEED=%d repeats this", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 4 {
		cmd, out := begin()
		pause := time.Duration(rng.IntN(2500)) * time.Millisecond
		stop := time.AfterFunc(pause, func() { cmd.Process.Signal(os.Interrupt) })
		io.Copy(io.Discard, out)
		stop.Stop()
		var exit *exec.ExitError
		// Before it listens to signals one ends it.
		early := func() bool { w, ok := exit.Sys().(syscall.WaitStatus); return ok && w.Signal() == syscall.SIGINT }
		if err := cmd.Wait(); err != nil && !(errors.As(err, &exit) && (exit.ExitCode() == 1 || early())) {
			t.Fatalf("stopped after %s: %v", pause, err)
		}
	}
	cmd, out := begin()
	var ready struct {
		Simulated  bool
		Account    string
		Error      string
		Components []struct {
			Name, Log string
			PID       int
		}
		Seconds map[string]float64
	}
	if err := json.NewDecoder(bufio.NewReader(out)).Decode(&ready); err != nil {
		t.Fatal(err)
	}
	if !ready.Simulated || ready.Account == "" || len(ready.Components) != 6 || ready.Seconds["ready_s"] <= 0 {
		t.Errorf("it says %+v", ready)
	}
	for _, c := range ready.Components {
		if err := syscall.Kill(c.PID, 0); err != nil {
			t.Errorf("%s, process %d: %v", c.Name, c.PID, err)
		}
		if _, err := os.Stat(c.Log); err != nil {
			t.Error(err)
		}
	}
	answer, err := exec.CommandContext(t.Context(), filepath.Join(b, "phala"), "query", "hello", "GetGreeting", "--devnet", dir).Output()
	if err != nil || string(answer) != "\"Hello, confidential world!\"\n" {
		t.Errorf("it answers %q, %v", answer, err)
	}
	cmd.Process.Signal(os.Interrupt)
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v", err)
	}
	for _, c := range ready.Components {
		if err := syscall.Kill(c.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("%s is left as process %d: %v", c.Name, c.PID, err)
		}
	}
}
