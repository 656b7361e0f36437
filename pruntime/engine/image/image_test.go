package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

const gasLimit = 1 << 40

// scribbler is a module whose exports dirty memory and globals in every way
// a call can:
//
//	init(): what an image is made of
//	write(at, v): stores v at at, and v into both globals
//	fill(at, v, n): fills n bytes
//	grow(n): grows the memory
//	trap(at): writes and then traps
//	spin(): never ends
//	host(at): writes and calls the host
func scribbler() []byte {
	var b wasmtest.Builder
	i := func(n int) []byte { return bytes.Repeat([]byte{wasmtest.I32}, n) }
	host := b.Import("env", "host", nil, nil)
	b.Memory(2, 64)
	b.Global(wasmtest.I32, true, 5)
	b.Global(wasmtest.F64, true, 0x3ff0000000000000)
	b.Data(100, []byte("initial data"))
	b.Func("init", nil, nil, nil, 0x41, 3, 0x40, 0, 0x1a, // five pages
		0x41, wasmtest.S64(70000), 0x41, wasmtest.S64(0xab), 0x41, wasmtest.S64(9000), 0xfc, 11, 0, 0x41, wasmtest.S64(42), 0x24, 0)
	write := b.Func("write", i(2), nil, nil, 0x20, 0, 0x20, 1, 0x36, 2, 0, 0x20, 1, 0x24, 0, 0x20, 1, 0xb7, 0x24, 1)
	b.Func("fill", i(3), nil, nil, 0x20, 0, 0x20, 1, 0x20, 2, 0xfc, 11, 0)
	b.Func("grow", i(1), i(1), nil, 0x20, 0, 0x40, 0)
	b.Func("trap", i(1), nil, nil, 0x20, 0, 0x41, 1, 0x10, wasmtest.U32(write), 0x00)
	b.Func("spin", nil, nil, nil, 0x03, 0x40, 0x0c, 0, 0x0b)
	b.Func("host", i(1), nil, nil, 0x20, 0, 0x41, 9, 0x10, wasmtest.U32(write), 0x10, wasmtest.U32(host))
	return b.Bytes()
}

var errHost = errors.New("host says no")

type hostFunc func(ctx context.Context)

type hostKey struct{}

// setup compiles a module and captures its image after the named call.
func setup(t testing.TB, code []byte, first string, mode Mode) (*Image, context.Context) {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() { rt.Close(ctx) })
	if err := InstantiateGas(ctx, rt); err != nil {
		t.Fatal(err)
	}
	_, err := rt.NewHostModuleBuilder("env").NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {
		if f, ok := ctx.Value(hostKey{}).(hostFunc); ok {
			f(ctx)
		}
	}), nil, nil).Export("host").Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	rules := wasmprep.RulesV1().WithImports(map[wasmprep.ImportKey]wasmprep.FuncType{{Module: "env", Name: "host"}: {}})
	m, err := wasmprep.Prepare(code, rules)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compile(ctx, rt, m)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if first != "" {
		if _, _, err := inst.Call(ctx, first, gasLimit); err != nil {
			t.Fatal(err)
		}
	}
	img, err := Capture(inst, mode)
	if err != nil {
		t.Fatal(err)
	}
	if img.Hash() != inst.StateHash() {
		t.Fatal("the image differs from what it was captured from")
	}
	if err := inst.Close(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return img, ctx
}

var modes = []struct {
	name string
	mode Mode
}{{"dirty pages", Auto}, {"portable", Portable}}

func eachMode(t *testing.T, f func(t *testing.T, mode Mode)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { f(t, m.mode) })
	}
}

// TestDirtyPagesAvailable: on Linux the quick way must work, or the rest
// would test the portable way twice.
func TestDirtyPagesAvailable(t *testing.T) {
	img, _ := setup(t, scribbler(), "init", Auto)
	if runtime.GOOS == "linux" && !img.DirtyPages() {
		t.Error("instances are not restored page-wise on this system")
	}
	if img, _ := setup(t, scribbler(), "init", Portable); img.DirtyPages() {
		t.Error("the portable way was asked for")
	}
}

// TestModesAgree: the image's hash does not depend on how it is restored, and
// its golden value pins the format.
func TestModesAgree(t *testing.T) {
	a, _ := setup(t, scribbler(), "init", Auto)
	b, _ := setup(t, scribbler(), "init", Portable)
	if a.Hash() != b.Hash() {
		t.Errorf("hashes %x and %x", a.Hash(), b.Hash())
	}
	const want = "aa0ba6ebba7369040af32bb2c520f68e30f9ff56039568b3492e7a5069687edb"
	if got := fmt.Sprintf("%x", a.Hash()); got != want {
		t.Errorf("image hash %s, want %s", got, want)
	}
	if a.Bytes() != 5<<16 {
		t.Errorf("image of %d bytes, want five pages", a.Bytes())
	}
}

// TestRestoreProperty: many goroutines scribble at random over pooled
// instances; every instance taken from the pool equals the image bit by bit.
func TestRestoreProperty(t *testing.T) {
	const seed = 4711
	t.Logf("seed %d", seed)
	eachMode(t, func(t *testing.T, mode Mode) {
		img, ctx := setup(t, scribbler(), "init", mode)
		pool := NewPool(img, 8)
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(g)))
				for range 60 {
					inst, err := pool.Get(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					if h := inst.StateHash(); h != img.Hash() {
						t.Errorf("goroutine %d: instance in state %x, image %x", g, h, img.Hash())
						return
					}
					mem, _ := inst.Module().Memory().Read(0, inst.Module().Memory().Size())
					if !bytes.Equal(mem, img.memory) {
						t.Errorf("goroutine %d: memory differs from the image", g)
						return
					}
					for range r.IntN(6) {
						scribble(r, inst, ctx)
					}
					if err := pool.Put(ctx, inst); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		st := pool.Stats()
		t.Logf("%+v", st)
		if st.Reused == 0 || st.Discarded == 0 {
			t.Errorf("stats %+v: both ways should have been taken", st)
		}
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

// scribble makes one random call; some fail, some grow the memory.
func scribble(r *rand.Rand, inst *Instance, ctx context.Context) {
	at := uint64(r.IntN(5<<16 - 16))
	switch r.IntN(20) {
	case 0:
		inst.Call(ctx, "grow", gasLimit, 1)
	case 1:
		inst.Call(ctx, "trap", gasLimit, at)
	case 2:
		inst.Call(ctx, "spin", 10000)
	case 3, 4, 5:
		inst.Call(ctx, "fill", gasLimit, at, uint64(r.IntN(256)), uint64(r.IntN(1<<16)))
	default:
		inst.Call(ctx, "write", gasLimit, at, uint64(r.Uint32()))
	}
}

// TestDiscard: what must never be used again is not.
func TestDiscard(t *testing.T) {
	cases := []struct {
		name string
		keep bool
		use  func(t *testing.T, ctx context.Context, inst *Instance)
	}{
		{"clean call", true, func(t *testing.T, ctx context.Context, inst *Instance) {
			mustCall(t, ctx, inst, "write", 8, 1)
		}},
		{"no call", true, func(*testing.T, context.Context, *Instance) {}},
		{"grow by nothing", true, func(t *testing.T, ctx context.Context, inst *Instance) { mustCall(t, ctx, inst, "grow", 0) }},
		{"unknown export", true, func(t *testing.T, ctx context.Context, inst *Instance) {
			if _, _, err := inst.Call(ctx, "missing", gasLimit); !errors.Is(err, ErrNoExport) {
				t.Errorf("error %v", err)
			}
		}},
		{"wrong number of arguments", true, func(t *testing.T, ctx context.Context, inst *Instance) {
			if _, _, err := inst.Call(ctx, "write", gasLimit, 1); !errors.Is(err, ErrNoExport) {
				t.Errorf("error %v", err)
			}
		}},
		{"grown", false, func(t *testing.T, ctx context.Context, inst *Instance) { mustCall(t, ctx, inst, "grow", 1) }},
		{"trapped", false, func(t *testing.T, ctx context.Context, inst *Instance) {
			if _, _, err := inst.Call(ctx, "trap", gasLimit, 8); !errors.Is(err, ErrTrap) {
				t.Errorf("error %v", err)
			}
			if _, _, err := inst.Call(ctx, "write", gasLimit, 8, 1); !errors.Is(err, ErrState) {
				t.Errorf("a call after the trap: %v", err)
			}
			if _, err := Capture(inst, Auto); !errors.Is(err, ErrState) {
				t.Errorf("a capture after the trap: %v", err)
			}
		}},
		{"out of gas", false, func(t *testing.T, ctx context.Context, inst *Instance) {
			if _, used, err := inst.Call(ctx, "spin", 5000); !errors.Is(err, ErrOutOfGas) || used != 5000 {
				t.Errorf("%d gas, error %v", used, err)
			}
		}},
		{"out of gas in the last stretch", false, func(t *testing.T, ctx context.Context, inst *Instance) {
			if _, used, err := inst.Call(ctx, "write", 3, 8, 1); !errors.Is(err, ErrOutOfGas) || used != 3 {
				t.Errorf("%d gas, error %v", used, err)
			}
		}},
		{"host function failed", false, func(t *testing.T, ctx context.Context, inst *Instance) {
			ctx = context.WithValue(ctx, hostKey{}, hostFunc(func(context.Context) { panic(errHost) }))
			if _, _, err := inst.Call(ctx, "host", gasLimit, 8); !errors.Is(err, errHost) || !errors.Is(err, ErrTrap) {
				t.Errorf("error %v", err)
			}
		}},
	}
	eachMode(t, func(t *testing.T, mode Mode) {
		img, ctx := setup(t, scribbler(), "init", mode)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				pool := NewPool(img, 2)
				defer pool.Close(ctx)
				inst, err := pool.Get(ctx)
				if err != nil {
					t.Fatal(err)
				}
				c.use(t, ctx, inst)
				if err := pool.Put(ctx, inst); err != nil {
					t.Fatal(err)
				}
				next, err := pool.Get(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if (next == inst) != c.keep {
					t.Errorf("instance reused: %v, want %v", next == inst, c.keep)
				}
				if next.StateHash() != img.Hash() {
					t.Error("the next call does not start from the image")
				}
				pool.Put(ctx, next)
			})
		}
	})
}

func mustCall(t *testing.T, ctx context.Context, inst *Instance, name string, args ...uint64) {
	t.Helper()
	if _, _, err := inst.Call(ctx, name, gasLimit, args...); err != nil {
		t.Fatal(err)
	}
}

// TestHostCharges: host functions take gas from the call they serve.
func TestHostCharges(t *testing.T) {
	img, ctx := setup(t, scribbler(), "init", Auto)
	run := func(limit uint64, f hostFunc) (uint64, error) {
		inst, err := img.Instantiate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer inst.Close(ctx)
		inst.SetSlice(100)
		_, used, err := inst.Call(context.WithValue(ctx, hostKey{}, f), "host", limit, 8)
		return used, err
	}
	free, err := run(gasLimit, func(context.Context) {})
	if err != nil {
		t.Fatal(err)
	}
	paid, err := run(gasLimit, func(ctx context.Context) { Charge(ctx, 12345) })
	if err != nil || paid != free+12345 {
		t.Errorf("%d gas with a charge of 12345, %d without: %v", paid, free, err)
	}
	var left uint64
	if _, err := run(100000, func(ctx context.Context) { Charge(ctx, 50000); left = Remaining(ctx) }); err != nil || left == 0 || left > 50000-free/2 {
		t.Errorf("%d left of 100000 after 50000: %v", left, err)
	}
	acted := false
	used, err := run(10000, func(ctx context.Context) { Charge(ctx, 10001); acted = true })
	if !errors.Is(err, ErrOutOfGas) || used != 10000 || acted {
		t.Errorf("overcharged: %d gas, error %v, acted %v", used, err, acted)
	}
	if _, err := run(10000, func(ctx context.Context) { Charge(ctx, 1<<63) }); !errors.Is(err, ErrOutOfGas) {
		t.Errorf("an absurd charge: %v", err)
	}
	if Remaining(ctx) != 0 {
		t.Error("gas without a call")
	}
}

// TestLimitsOfGas: limits of 0 and beyond MaxGas.
func TestLimitsOfGas(t *testing.T) {
	img, ctx := setup(t, scribbler(), "init", Auto)
	for _, limit := range []uint64{0, 1, MaxGas, 1 << 63, 1<<64 - 1} {
		inst, err := img.Instantiate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, used, err := inst.Call(ctx, "write", limit, 8, 1)
		if want := limit < 10; errors.Is(err, ErrOutOfGas) != want || used > limit {
			t.Errorf("limit %d: %d gas, error %v", limit, used, err)
		}
		inst.Close(ctx)
	}
}

// TestNoMemory: a module without a memory has an image too.
func TestNoMemory(t *testing.T) {
	var b wasmtest.Builder
	b.Global(wasmtest.I64, true, 1)
	b.Func("bump", nil, []byte{wasmtest.I64}, nil, 0x23, 0, 0x42, 1, 0x7c, 0x24, 0, 0x23, 0)
	eachMode(t, func(t *testing.T, mode Mode) {
		img, ctx := setup(t, b.Bytes(), "bump", mode)
		pool := NewPool(img, 1)
		defer pool.Close(ctx)
		for range 3 {
			inst, err := pool.Get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			res, _, err := inst.Call(ctx, "bump", gasLimit)
			if err != nil || res[0] != 3 {
				t.Fatalf("%v, %v: want 3, one more than in the image", res, err)
			}
			pool.Put(ctx, inst)
		}
	})
}

// filler is a module whose call writes all of its memory.
func filler(pages uint32) []byte {
	var b wasmtest.Builder
	b.Memory(pages, 1024)
	b.Data(5000, []byte("somewhere"))
	b.Func("fill", nil, nil, nil, 0x41, 0, 0x41, 7, 0x41, wasmtest.S64(int64(pages)<<16), 0xfc, 11, 0)
	return b.Bytes()
}

// TestManyDirtyPages: beyond the threshold pages are dropped, not copied, and the state is
// the image's all the same.
func TestManyDirtyPages(t *testing.T) {
	for pages, kept := range map[uint32]int{40: 40 << 16, 128: 128 << 16, 200: 128 << 16} {
		t.Run(fmt.Sprint(pages, " pages"), func(t *testing.T) {
			eachMode(t, func(t *testing.T, mode Mode) {
				img, ctx := setup(t, filler(pages), "", mode)
				pool := NewPool(img, 1)
				defer pool.Close(ctx)
				for range 3 {
					inst, err := pool.Get(ctx)
					if err != nil {
						t.Fatal(err)
					}
					if inst.StateHash() != img.Hash() {
						t.Fatal("not the image")
					}
					mustCall(t, ctx, inst, "fill")
					pool.Put(ctx, inst)
				}
				if st := pool.Stats(); st.Made != 1 {
					t.Errorf("%+v: the instance was not reused", st)
				}
				if img.DirtyPages() && pool.private != kept {
					t.Errorf("%d bytes are kept, want %d", pool.private, kept)
				}
			})
		})
	}
}

// TestIdleMemory: what the idle instances of a pool keep is bounded together.
func TestIdleMemory(t *testing.T) {
	const pages, many = 100, 8
	img, ctx := setup(t, filler(pages), "", Auto)
	if !img.DirtyPages() {
		t.Skip("instances are not restored page-wise on this system")
	}
	pool := NewPool(img, many)
	defer pool.Close(ctx)
	use := func(want int) {
		t.Helper()
		var held []*Instance
		for range many {
			inst, err := pool.Get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if inst.StateHash() != img.Hash() {
				t.Fatal("not the image")
			}
			mustCall(t, ctx, inst, "fill")
			held = append(held, inst)
		}
		if pool.private != 0 {
			t.Errorf("%d bytes are kept with no instance idle", pool.private)
		}
		for _, inst := range held {
			if err := pool.Put(ctx, inst); err != nil {
				t.Fatal(err)
			}
		}
		if pool.private != want {
			t.Errorf("%d bytes are kept, want %d", pool.private, want)
		}
	}
	for range 3 {
		use(maxPrivate / (pages << 16) * (pages << 16))
	}
	if st := pool.Stats(); st.Made != many || st.Discarded != 0 {
		t.Errorf("%+v", st)
	}
}

func TestClosedPool(t *testing.T) {
	img, ctx := setup(t, scribbler(), "init", Auto)
	pool := NewPool(img, 1)
	inst, err := pool.Get(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := pool.Put(ctx, inst); err != nil {
		t.Error(err)
	}
	if _, err := pool.Get(ctx); !errors.Is(err, ErrState) {
		t.Errorf("a closed pool gives %v", err)
	}
}

// TestUnprepared: a module that did not pass through wasmprep is refused.
func TestUnprepared(t *testing.T) {
	img, ctx := setup(t, scribbler(), "init", Auto)
	raw := build(func(b *wasmtest.Builder) { b.Func("f", nil, nil, nil) })
	if _, err := Compile(ctx, img.code.Runtime, &wasmprep.Module{Code: []byte("junk")}); err == nil {
		t.Error("junk compiles")
	}
	c, err := Compile(ctx, img.code.Runtime, &wasmprep.Module{Code: raw})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(ctx, c); !errors.Is(err, ErrInstantiate) {
		t.Errorf("error %v", err)
	}
}

func build(f func(b *wasmtest.Builder)) []byte {
	var b wasmtest.Builder
	f(&b)
	return b.Bytes()
}
