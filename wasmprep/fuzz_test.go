package wasmprep_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// FuzzPrepare feeds arbitrary bytes: no panic, typed errors only, and what is
// accepted stays accepted by the engine once it is prepared, unless the
// engine refuses the original too.
func FuzzPrepare(f *testing.F) {
	for _, m := range wasmtest.Corpus() {
		if len(m.Code) < 1<<16 {
			f.Add(m.Code)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		f.Add(wasmtest.Random(entropy(r)))
	}
	rules := corpusRules()
	rules.Limits.TableEntries, rules.Limits.MemoryPages = 1<<12, 64
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	f.Cleanup(func() { rt.Close(ctx) })
	f.Fuzz(func(t *testing.T, code []byte) {
		m, err := wasmprep.Prepare(code, rules)
		if err != nil {
			var e *wasmprep.Error
			if !errors.As(err, &e) || e.Kind == "" || e.Offset < 0 || e.Offset > len(code) || e.Error() == "" {
				t.Fatalf("error %#v", err)
			}
			return
		}
		c, err := rt.CompileModule(ctx, m.Code)
		if err == nil {
			c.Close(ctx)
			return
		}
		if orig, origErr := rt.CompileModule(ctx, code); origErr == nil {
			orig.Close(ctx)
			t.Fatalf("the original compiles, the prepared module does not: %v", err)
		}
	})
}

// TestMutatedModules flips bytes of valid modules: the same property as the
// fuzzer's on a fixed seed, for every test run.
func TestMutatedModules(t *testing.T) {
	const seed = 99
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var small [][]byte
	for _, m := range wasmtest.Corpus() {
		if len(m.Code) < 1<<16 {
			small = append(small, m.Code)
		}
	}
	accepted, refused := 0, 0
	for range 4000 {
		code := append([]byte(nil), small[r.IntN(len(small))]...)
		for range 1 + r.IntN(3) {
			code[r.IntN(len(code))] ^= 1 << r.IntN(8)
		}
		if r.IntN(4) == 0 {
			code = code[:r.IntN(len(code))]
		}
		_, err := wasmprep.Prepare(code, corpusRules())
		var e *wasmprep.Error
		switch {
		case err == nil:
			accepted++
		case errors.As(err, &e):
			refused++
		default:
			t.Fatalf("untyped error %v", err)
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the mutations show nothing", accepted, refused)
	}
}
