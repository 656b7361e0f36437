package wasmprep_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// runLimit keeps endless random programs short.
const runLimit = 200_000

// checkModule prepares one valid module in three ways (the rules as they are,
// without joined charges, and with every instruction charged by itself) and
// runs each on the compiler and the interpreter:
//   - the engines agree on everything, gas included;
//   - the three agree on everything but gas;
//   - exact and naive gas agree whenever the call ends well, and a trap costs
//     at least what was executed;
//   - joined charges cost no less than exact ones;
//   - the original module, unmetered, does the same.
func checkModule(t testing.TB, compiler, interp wazero.Runtime, code []byte) (ran, trapped int) {
	t.Helper()
	rules := wasmprep.RulesV1()
	var byRules [3][]outcome
	variants := []wasmprep.Rules{rules.Naive(), rules.Exact(), rules}
	var m *wasmprep.Module
	for v, r := range variants {
		var err error
		if m, err = wasmprep.Prepare(code, r); err != nil {
			t.Fatalf("valid module refused: %v", err)
		}
		byRules[v] = prepared(t, compiler, m, runLimit)
		for i, o := range prepared(t, interp, m, runLimit) {
			c := byRules[v][i]
			if deep(o.failure) || deep(c.failure) {
				continue
			}
			if !o.same(c) || o.gas != c.gas {
				t.Fatalf("variant %d, function %d:\ninterpreter %s\ncompiler    %s", v, i, describe(o), describe(c))
			}
		}
	}
	limited := func(i int) bool {
		for v := range byRules {
			if f := byRules[v][i].failure; f == "out-of-gas" || deep(f) {
				return true
			}
		}
		return false
	}
	// Where arithmetic may have made a NaN, its bits, and all that follows
	// from them, may differ from the original's (which then may never end);
	// TestNaNs and the official suite judge that.
	var plain []outcome
	if m.Stats.Canonical == 0 {
		plain = raw(t, compiler, code, m, limited)
	}
	for i, exact := range byRules[1] {
		if limited(i) {
			continue
		}
		ran++
		naive, joined := byRules[0][i], byRules[2][i]
		if !exact.same(naive) || !exact.same(joined) {
			t.Fatalf("function %d:\nnaive  %s\nexact  %s\njoined %s", i, describe(naive), describe(exact), describe(joined))
		}
		if exact.failure == "" && exact.gas != naive.gas || exact.gas < naive.gas {
			t.Fatalf("function %d costs %d, its instructions %d (%s)", i, exact.gas, naive.gas, exact.failure)
		}
		if joined.gas < exact.gas {
			t.Fatalf("function %d: joined charges %d below exact %d", i, joined.gas, exact.gas)
		}
		if m.Stats.Canonical > 0 {
			continue
		}
		if o := plain[i]; o.failure != exact.failure || !slices.Equal(o.results, exact.results) || o.memory != exact.memory {
			t.Fatalf("function %d:\noriginal %s\nprepared %s", i, describe(o), describe(exact))
		}
		if exact.failure != "" {
			trapped++
		}
	}
	return ran, trapped
}

// deep tells a stack overflow of an engine's own, whose depth is not ours.
func deep(failure string) bool { return failure == "stack overflow" || failure == "call-depth" }

func entropy(r *rand.Rand) []byte {
	b := make([]byte, 100+r.IntN(900))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestRandomModules(t *testing.T) {
	n, seed := 300, uint64(20261120)
	if os.Getenv("PHALA_LONG") == "1" {
		n = 5000
	}
	t.Logf("seed %d, %d modules", seed, n)
	r := rand.New(rand.NewPCG(seed, 1))
	compiler, interp := newRuntime(t, true), newRuntime(t, false)
	ran, trapped := 0, 0
	for i := range n {
		code := wasmtest.Random(entropy(r))
		a, b := checkModule(t, compiler, interp, code)
		if t.Failed() {
			t.Fatalf("module %d", i)
		}
		ran, trapped = ran+a, trapped+b
	}
	t.Logf("%d calls compared, %d of them trapped", ran, trapped)
	if ran < n || trapped == 0 || trapped == ran {
		t.Errorf("the generator is one-sided: %d modules, %d calls, %d traps", n, ran, trapped)
	}
}

func FuzzRun(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 8 {
		f.Add(entropy(r))
	}
	compiler, interp := newRuntime(f, true), newRuntime(f, false)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4096 {
			return
		}
		checkModule(t, compiler, interp, wasmtest.Random(data))
	})
}
