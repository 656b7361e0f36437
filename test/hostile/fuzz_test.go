package hostile

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// Small numbers, so that limits are reached often.
const (
	slice    = 2_000
	gasLimit = 100_000
	pages    = 2
)

// A watch is a gas host of its own beside package image's: it hands out slices by the
// rules' text and looks at how the guest behaves between two of them.
type watch struct {
	t       testing.TB
	most    int64 // what the guest may overdraw between two tests
	granted int64
	mod     api.Module
	yields  int
	ended   bool
}

type watchKey struct{}

var errEnded = errors.New("out of gas")

func (w *watch) global(name string) api.MutableGlobal {
	return w.mod.ExportedGlobal(name).(api.MutableGlobal)
}

func (w *watch) left() int64 { return int64(w.global(wasmprep.GasGlobal).Get()) }

func (w *watch) refill() {
	w.yields++
	left := w.left()
	if w.ended {
		w.t.Error("the guest went on after it ran out of gas")
	}
	deep := int64(w.global(wasmprep.DepthGlobal).Get()) < 0
	if left >= 0 && !deep {
		w.t.Errorf("the guest yields with %d gas left", left)
	}
	if left < -w.most {
		w.t.Errorf("the guest overdrew its slice by %d, more than %d", -left, w.most)
	}
	if deep {
		w.ended = true
		panic(errEnded)
	}
	grant := min(max(slice, slice-left), gasLimit-w.granted)
	w.granted += grant
	w.global(wasmprep.GasGlobal).Set(uint64(left + grant))
	if left+grant < 0 {
		w.ended = true
		panic(errEnded)
	}
}

// overdraw bounds what a module can use between two tests for exhaustion: its code passed
// once, the calls in it of functions that do not test (Costs.Unguarded each), and one
// bulk operation or growth, which are charged before they run and then tested.
func overdraw(code []byte) int64 {
	c := wasmprep.RulesV1().Costs
	const dear = 4 // gas for each byte of code, more than code comes to on the whole
	return dear*int64(len(code)) + int64(bytes.Count(code, []byte{0x10}))*int64(c.Unguarded) + 2*int64(c.GrowPage)
}

type watched struct {
	rt    wazero.Runtime
	rules wasmprep.Rules
}

func newWatched(t testing.TB) *watched {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	t.Cleanup(func() { rt.Close(ctx) })
	_, err := rt.NewHostModuleBuilder(wasmprep.GasModule).NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {
		ctx.Value(watchKey{}).(*watch).refill()
	}), nil, nil).Export(wasmprep.RefillName).Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rules := wasmprep.RulesV1()
	rules.Limits.MemoryPages = pages
	return &watched{rt, rules}
}

// check runs every function of a random module: used gas stays within the limit, memory
// within the rules', and the host is asked at least once for every slice.
func (e *watched) check(t testing.TB, data []byte) (yields int, limited bool) {
	ctx := context.Background()
	code := wasmtest.Random(data)
	m, err := wasmprep.Prepare(code, e.rules)
	if err != nil {
		t.Fatalf("a valid module is refused: %v", err)
	}
	compiled, err := image.Compile(ctx, e.rt, m)
	if err != nil {
		t.Fatalf("the prepared module does not compile: %v", err)
	}
	defer compiled.Compiled.Close(ctx)
	for _, x := range m.Exports {
		mod, err := e.rt.InstantiateModule(ctx, compiled.Compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			t.Fatal(err)
		}
		w := &watch{t: t, mod: mod, most: overdraw(code), granted: slice}
		w.global(wasmprep.GasGlobal).Set(slice)
		_, err = mod.ExportedFunction(x.Name).Call(context.WithValue(ctx, watchKey{}, w), make([]uint64, len(x.Type.Params))...)
		used := w.granted - w.left()
		if (err != nil && errors.Is(err, errEnded)) != w.ended {
			t.Errorf("%s ended with %v", x.Name, err)
		}
		if w.granted > gasLimit || used > gasLimit+w.most || used < 0 {
			t.Errorf("%s was granted %d and used %d of %d gas", x.Name, w.granted, used, gasLimit)
		}
		if at := (used - w.most*int64(w.yields+1)) / slice; int64(w.yields) < at {
			t.Errorf("%s used %d gas with %d yields", x.Name, used, w.yields)
		}
		if size := mod.Memory().Size(); size > pages<<16 {
			t.Errorf("%s has %d bytes of memory", x.Name, size)
		}
		yields, limited = yields+w.yields, limited || w.ended
		mod.Close(ctx)
	}
	return yields, limited
}

func entropy(r *rand.Rand) []byte {
	b := make([]byte, 50+r.IntN(900))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestSlices runs seeded random modules.
func TestSlices(t *testing.T) {
	n, seed := 400, uint64(20261121)
	if os.Getenv("PHALA_LONG") == "1" {
		n = 20_000
	}
	t.Logf("seed %d, %d modules", seed, n)
	r := rand.New(rand.NewPCG(seed, 1))
	e := newWatched(t)
	yields, limited := 0, 0
	for i := range n {
		y, l := e.check(t, entropy(r))
		if t.Failed() {
			t.Fatalf("module %d", i)
		}
		yields += y
		if l {
			limited++
		}
	}
	t.Logf("%d yields; %d modules reached the limit", yields, limited)
	if yields < n || limited == 0 || limited == n {
		t.Error("the modules are one-sided")
	}
}

// FuzzSlices: arbitrary valid modules through instrument-and-run never exceed gas, memory
// or slice.
func FuzzSlices(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 8 {
		f.Add(entropy(r))
	}
	e := newWatched(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 4096 {
			e.check(t, data)
		}
	})
}

// script makes a contract of arbitrary bytes: host functions called with arbitrary
// arguments, mostly near where something is, in loops and among growth, and traps.
func script(t testing.TB, data []byte) []byte {
	next := func() byte {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return b
	}
	c := newContract(t)
	c.pages = pages
	funcs := abi(t)
	arg := func() []byte {
		switch b := next(); b % 8 {
		case 0:
			return n32(uint32(next()) << 24)
		case 1:
			return n32(1<<16 - uint32(next())%64)
		case 2:
			return n32(0xffffffff - uint32(next()))
		case 3:
			return wasmtest.Cat(n32(uint32(next())), 0x28, 0, 0) // what is in memory
		default:
			return n32(uint32(next()))
		}
	}
	var body []byte
	for len(data) > 0 && len(body) < 1<<14 {
		switch b := next(); b % 16 {
		case 0:
			body = append(body, wasmtest.Cat(arg(), 0x40, 0, 0x1a)...) // grow
		case 1:
			body = append(body, wasmtest.Cat(arg(), arg(), 0x36, 0, 0)...) // store
		case 2:
			body = append(body, wasmtest.Cat(arg(), 0x04, 0x40, 0x00, 0x0b)...) // trap if
		default:
			f := funcs[int(b)%len(funcs)]
			var call []byte
			for _, p := range f.params {
				call = append(call, arg()...)
				if p == wasmtest.I64 {
					call = append(call, 0xad) // i64.extend_i32_u
				}
			}
			call = wasmtest.Cat(call, 0x10, wasmtest.U32(c.index[f.name]))
			if len(f.results) > 0 {
				call = append(call, 0x1a)
			}
			if next()%8 == 0 {
				call = times(1+uint32(next()), call)
			}
			body = append(body, call...)
		}
	}
	return c.module(body)
}

// checkScript runs a random contract as a command: a status, an answer within the limit,
// gas within the limit, and other contracts' view unchanged when it failed.
func checkScript(t testing.TB, data []byte) proto.Status {
	module := script(t, data)
	p, err := sharedEngine(t).Prepare(context.Background(), module)
	if err != nil {
		t.Fatalf("a valid contract is refused: %v", err)
	}
	defer p.Close(context.Background())
	w := clustertest.New(t, p)
	w.Gas = 8 << 20
	w.Deploy("alice", nil)
	s := w.Input("mallory", data)
	if s.GasUsed > w.Gas || len(s.Return) > proto.MaxReturn || len(s.Error) > proto.MaxError || (s.Status == proto.StatusOK) != (s.Error == "") {
		t.Errorf("ends with %s %.100q, %d gas, %d bytes", s.Status, s.Error, s.GasUsed, len(s.Return))
	}
	if out, err := w.Query("alice", "", nil); s.Status != proto.StatusOK && (err != nil || string(out) != "was") {
		t.Errorf("after %s the storage says %q, %v", s.Status, out, err)
	}
	return s.Status
}

func TestRandomHostCalls(t *testing.T) {
	n, seed := 300, uint64(20261121)
	if os.Getenv("PHALA_LONG") == "1" {
		n = 10_000
	}
	t.Logf("seed %d, %d contracts", seed, n)
	r := rand.New(rand.NewPCG(seed, 2))
	seen := map[proto.Status]int{}
	for i := range n {
		data := entropy(r)
		seen[checkScript(t, data[:r.IntN(len(data))/8])]++
		if t.Failed() {
			t.Fatalf("contract %d", i)
		}
	}
	t.Log(seen)
	for _, s := range []proto.Status{proto.StatusOK, proto.StatusTrap, proto.StatusOutOfGas, proto.StatusContractError} {
		if seen[s] == 0 {
			t.Errorf("no contract ended with %s: the scripts are one-sided", s)
		}
	}
}

func FuzzHostCalls(f *testing.F) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 8 {
		f.Add(entropy(r)[:40])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) <= 1024 {
			checkScript(t, data)
		}
	})
}
