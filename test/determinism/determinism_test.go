package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/contract/contracttest"
	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

const (
	processes = 5
	runs      = 20 // in each
)

var texts = []string{"to be or not to be that is the question", "ein Ring sie zu knechten sie alle zu finden"}

// history is what every replica goes through. It returns the state root and the answers.
func history(t *testing.T, p *engine.Program) (string, []string) {
	t.Helper()
	w := clustertest.New(t, p)
	seen := []*clustertest.Seen{w.Deploy("alice", nil)}
	for _, text := range texts {
		seen = append(seen, w.Call("alice", "Careful", text), w.Call("bob", "Careless", nil))
	}
	var answers []string
	for i, s := range seen {
		if s.Status != proto.StatusOK {
			t.Fatalf("command %d ends with %s: %s", i, s.Status, s.Error)
		}
		answers = append(answers, fmt.Sprintf("%d %s", s.GasUsed, s.Return))
	}
	return w.Root().String(), answers
}

// native runs Careful in this process, where every map has a seed of its own and the
// scheduler is the machine's, and returns what is stored.
func native(t *testing.T, k *contracttest.Kit) string {
	t.Helper()
	owner := k.Account("owner")
	k.Deploy(owner, nil)
	for _, text := range texts {
		k.Call(owner, "Careful", text, nil)
		k.NextBlock(1)
	}
	stored := k.Stored()
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(stored)) {
		fmt.Fprintf(&b, "%q=%q\n", key, stored[key])
	}
	return b.String()
}

// TestReplica is one replica's process: TestOneRoot starts it.
func TestReplica(t *testing.T) {
	dir := os.Getenv("PHALA_DETERMINISM")
	if dir == "" {
		t.Skip("TestOneRoot starts this in processes of their own")
	}
	module, err := os.ReadFile(filepath.Join(dir, "contract.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	p := clustertest.Prepare(t, module, filepath.Join(dir, "cache"))
	var out bytes.Buffer
	for range runs {
		root, _ := history(t, p)
		fmt.Fprintln(&out, root)
	}
	for range runs {
		fmt.Fprintf(&out, "%q\n", native(t, contracttest.New(t, contracttest.Native)))
	}
	if err := os.WriteFile(os.Getenv("PHALA_DETERMINISM_OUT"), out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOneRoot: a hundred runs in five processes give one state root and one sequence of
// answers. The processes differ in what a machine can differ in: seeds of the host's
// maps (each process and each map has its own), the moment and the time zone, how many
// threads there are, when the collector runs. The native runs, whose maps and goroutines
// really are in another order each time, leave one state as well.
func TestOneRoot(t *testing.T) {
	dir := t.TempDir()
	module := clustertest.Module(t, ".")
	if err := os.WriteFile(filepath.Join(dir, "contract.wasm"), module, 0o600); err != nil {
		t.Fatal(err)
	}
	p := clustertest.Prepare(t, module, filepath.Join(dir, "cache")) // compiled once for all
	root, answers := history(t, p)
	if _, again := history(t, p); !slices.Equal(again, answers) {
		t.Errorf("a second time the answers are\n%q\nfirst\n%q", again, answers)
	}
	stored := fmt.Sprintf("%q", native(t, contracttest.New(t))) // compared with Wasm by the kit
	counted := 0
	for i := range processes {
		out := filepath.Join(dir, fmt.Sprint("out", i))
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReplica$", "-test.count=1")
		cmd.Env = append(os.Environ(), "PHALA_DETERMINISM="+dir, "PHALA_DETERMINISM_OUT="+out,
			"TZ="+[]string{"UTC", "Asia/Tokyo", "America/New_York", "Pacific/Chatham"}[i%4],
			fmt.Sprint("GOMAXPROCS=", 1+i%5), fmt.Sprint("GOGC=", []int{5, 100, 400}[i%3]))
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("process %d: %v\n%s", i, err, b)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			want := root
			if n >= runs {
				want = stored
			}
			if line != want {
				t.Fatalf("process %d, run %d: got\n%s\nwant\n%s", i, n, line, want)
			}
			counted++
		}
	}
	if counted != 2*processes*runs {
		t.Errorf("%d results were compared, want %d", counted, 2*processes*runs)
	}
}

// TestCarelessNatively: what Careless keeps does change by chance where nothing holds it,
// so TestOneRoot compares something.
func TestCarelessNatively(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		k := contracttest.New(t, contracttest.Native)
		k.Deploy(k.Account("owner"), nil)
		var trace string
		k.Call(k.Account("owner"), "Careless", nil, &trace)
		seen[trace] = true
	}
	if len(seen) != 3 {
		t.Errorf("three native runs left %d traces", len(seen))
	}
}
