//go:build cgo

package wasmtime

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
	"github.com/phala-go/phala/wasmprep/wasmtest/corpushost"
)

func f32bits(f float32) uint32 { return math.Float32bits(f) }
func f64bits(f float64) uint64 { return math.Float64bits(f) }
func f32from(b uint32) float32 { return math.Float32frombits(b) }
func f64from(b uint64) float64 { return math.Float64frombits(b) }

// compare runs the calls on both engines and returns how many ended well.
func compare(t testing.TB, a, b engine, m *wasmprep.Module, calls []wasmtest.Call, limit uint64, fresh bool) (ok, failed int) {
	t.Helper()
	as, bs := a.run(t, m, calls, limit, fresh), b.run(t, m, calls, limit, fresh)
	if len(as) != len(bs) {
		t.Fatalf("%d and %d calls", len(as), len(bs))
	}
	for i := range as {
		// How deep an engine's own stack goes is not part of the rules.
		if as[i].ending == "call-depth" || bs[i].ending == "call-depth" {
			continue
		}
		if !as[i].equal(bs[i]) {
			t.Errorf("%s%v:\nwasmtime %s\nwazero   %s", calls[i].Export, calls[i].Args, as[i], bs[i])
		}
		if as[i].ending == "" {
			ok++
		} else {
			failed++
		}
	}
	return ok, failed
}

// TestCorpus: results, gas, memory, globals and output of every corpus call.
func TestAgainstWasmtimeCorpus(t *testing.T) {
	a, b := newWasmtime(), newWazero(t)
	for _, mod := range wasmtest.Corpus() {
		t.Run(mod.Name, func(t *testing.T) {
			if mod.Name == "deep" {
				mod.Calls = mod.Calls[:1] // the second is deeper than wasmtime's stack
			}
			m, err := wasmprep.Prepare(mod.Code, corpushost.Rules())
			if err != nil {
				t.Fatal(err)
			}
			calls := mod.Calls
			if m.HasStart {
				calls = append([]wasmtest.Call{{Export: wasmprep.StartExport}}, calls...)
			}
			ok, failed := compare(t, a, b, m, calls, 1<<33, false)
			t.Logf("%d calls ended well, %d not", ok, failed)
			if ok+failed == 0 {
				t.Error("nothing was compared")
			}
		})
	}
}

// TestRandom does the same with random modules, floats and traps included;
// NaN bits must agree although wasmtime runs without its own canonicalisation.
func TestAgainstWasmtimeRandom(t *testing.T) {
	n, seed := 150, uint64(20261120)
	if os.Getenv("PHALA_LONG") == "1" {
		n = 5000
	}
	t.Logf("seed %d, %d modules", seed, n)
	r := rand.New(rand.NewPCG(seed, 2))
	a, b := newWasmtime(), newWazero(t)
	ok, failed := 0, 0
	for i := range n {
		data := make([]byte, 100+r.IntN(900))
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		x, y := compareRandom(t, a, b, data)
		if ok, failed = ok+x, failed+y; t.Failed() {
			t.Fatalf("module %d", i)
		}
	}
	t.Logf("%d calls ended well, %d not", ok, failed)
	if ok == 0 || failed == 0 {
		t.Error("the random modules are one-sided")
	}
}

func compareRandom(t testing.TB, a, b engine, data []byte) (ok, failed int) {
	m, err := wasmprep.Prepare(wasmtest.Random(data), corpushost.Rules())
	if err != nil {
		t.Fatal(err)
	}
	var calls []wasmtest.Call
	for _, x := range m.Exports {
		calls = append(calls, wasmtest.Call{Export: x.Name})
	}
	return compare(t, a, b, m, calls, 200_000, true)
}

func FuzzAgainstWasmtime(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 4 {
		data := make([]byte, 400)
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		f.Add(data)
	}
	a, b := newWasmtime(), newWazero(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 4096 {
			compareRandom(t, a, b, data)
		}
	})
}
