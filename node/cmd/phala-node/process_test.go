package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/node/app"
	"github.com/phala-go/phala/node/x/registry"
)

// asNode makes this test's binary run as phala-node.
const asNode = "PHALA_TEST_AS_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(asNode) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The network of newHome: its chain and its operator's seed.
const chain = "phala-test-1"

var operator = strings.Repeat("11", 32)

// newHome makes the folder of a network's only validator.
func newHome(t *testing.T, accounts ...app.AccountSpec) string {
	t.Helper()
	home := filepath.Join(t.TempDir(), "node")
	spec := &app.NetworkSpec{ChainID: chain, GenesisTime: time.Now().Add(-time.Second), BlockInterval: "100ms", MinGasPrice: "0.001ppha", Registry: registry.DefaultParams(), Accounts: accounts,
		Validators: []app.ValidatorSpec{{Home: home, Seed: operator, RPC: "tcp://127.0.0.1:0", P2P: "tcp://127.0.0.1:0"}}}
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "spec.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := nodeCommand("init-network", file).CombinedOutput(); err != nil {
		t.Fatalf("init-network: %v\n%s", err, out)
	}
	return home
}

func nodeCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asNode+"=1")
	return cmd
}

// A process is a node that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

func startNode(t *testing.T, home string) *process {
	t.Helper()
	n := &process{t: t, cmd: nodeCommand("start", "--home", home, "--log_no_color"), log: filepath.Join(t.TempDir(), "log"), done: make(chan struct{})}
	f, err := os.Create(n.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n.cmd.Stdout, n.cmd.Stderr = f, f
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		n.cmd.Wait()
		close(n.done)
	}()
	t.Cleanup(func() {
		n.cmd.Process.Kill()
		<-n.done
	})
	return n
}

func (n *process) output() string {
	b, err := os.ReadFile(n.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		n.t.Fatal(err)
	}
	return string(b)
}

// until polls until the node has come somewhere. The limit ends what hangs.
func (n *process) until(what string, f func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(15 * time.Minute); !f(); time.Sleep(100 * time.Microsecond) {
		select {
		case <-n.done:
			if !f() {
				n.t.Fatalf("the node ended before %s; it said\n%s", what, n.output())
			}
			return
		default:
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("the node does not come to %s; it said\n%s", what, n.output())
		}
	}
}
