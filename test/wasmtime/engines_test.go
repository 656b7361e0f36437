//go:build cgo

package wasmtime

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	wt "github.com/bytecodealliance/wasmtime-go/v39"
	"github.com/tetratelabs/wazero"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
	"github.com/phala-go/phala/wasmprep/wasmtest/corpushost"
)

const slice = 1 << 22

// outcome is what both engines must agree on.
type outcome struct {
	results []uint64
	ending  string // "", "out-of-gas", "call-depth", "trap" or the guest's own
	gas     uint64
	memory  [32]byte
	globals []uint64
	output  []byte
}

func (o outcome) String() string {
	return fmt.Sprintf("results %x ending %q gas %d memory %x globals %x output %x", o.results, o.ending, o.gas, o.memory[:6], o.globals, o.output)
}

func (o outcome) equal(p outcome) bool {
	return slices.Equal(o.results, p.results) && o.ending == p.ending && o.gas == p.gas && o.memory == p.memory &&
		slices.Equal(o.globals, p.globals) && slices.Equal(o.output, p.output)
}

// engine runs calls on one instance of a module; fresh makes a new instance
// for each call.
type engine interface {
	run(t testing.TB, m *wasmprep.Module, calls []wasmtest.Call, limit uint64, fresh bool) []outcome
}

// --- wasmtime ---

type wasmtimeEngine struct{ engine *wt.Engine }

func newWasmtime() wasmtimeEngine {
	cfg := wt.NewConfig()
	cfg.SetMaxWasmStack(4 << 20)
	cfg.SetCraneliftOptLevel(wt.OptLevelNone) // compiles the Go contract faster
	cfg.SetWasmSIMD(false)
	cfg.SetWasmRelaxedSIMD(false)
	cfg.SetWasmThreads(false)
	return wasmtimeEngine{wt.NewEngineWithConfig(cfg)}
}

// wtInstance is one instance and its meter.
type wtInstance struct {
	store   *wt.Store
	inst    *wt.Instance
	host    *wasmtest.Host
	limit   int64
	granted int64
	ending  string
}

func (w *wtInstance) global(name string) *wt.Global {
	return w.inst.GetExport(w.store, name).Global()
}

func (w *wtInstance) i64(name string) int64 { return w.global(name).Get(w.store).I64() }

func kinds(ts []wasmprep.ValType) (out []*wt.ValType) {
	for _, t := range ts {
		k := map[wasmprep.ValType]wt.ValKind{wasmprep.I32: wt.KindI32, wasmprep.I64: wt.KindI64, wasmprep.F32: wt.KindF32, wasmprep.F64: wt.KindF64}[t]
		out = append(out, wt.NewValType(k))
	}
	return out
}

func bits(v wt.Val) uint64 {
	switch v.Kind() {
	case wt.KindI32:
		return uint64(uint32(v.I32()))
	case wt.KindI64:
		return uint64(v.I64())
	case wt.KindF32:
		return uint64(f32bits(v.F32()))
	}
	return f64bits(v.F64())
}

// refill is image.Meter's rule over again, on wasmtime's terms.
func (w *wtInstance) refill() *wt.Trap {
	if w.i64(wasmprep.DepthGlobal) < 0 {
		w.ending = "call-depth"
		return wt.NewTrap("call depth")
	}
	left := w.i64(wasmprep.GasGlobal)
	grant := min(max(slice, slice-left), w.limit-w.granted)
	w.granted += grant
	if err := w.global(wasmprep.GasGlobal).Set(w.store, wt.ValI64(left+grant)); err != nil {
		return wt.NewTrap(err.Error())
	}
	if left+grant < 0 {
		w.ending = "out-of-gas"
		return wt.NewTrap("out of gas")
	}
	return nil
}

func (e wasmtimeEngine) instantiate(t testing.TB, mod *wt.Module, m *wasmprep.Module) *wtInstance {
	t.Helper()
	w := &wtInstance{store: wt.NewStore(e.engine), host: &wasmtest.Host{}}
	linker := wt.NewLinker(e.engine)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(linker.FuncNew(wasmprep.GasModule, wasmprep.RefillName, wt.NewFuncType(nil, nil), func(*wt.Caller, []wt.Val) ([]wt.Val, *wt.Trap) {
		return nil, w.refill()
	}))
	linker.AllowShadowing(true) // a guest may import a function twice
	for _, imp := range m.Imports {
		f := w.host.Func(imp.Module, imp.Name)
		if f == nil {
			t.Fatalf("no host function %s.%s", imp.Module, imp.Name)
		}
		must(linker.FuncNew(imp.Module, imp.Name, wt.NewFuncType(kinds(imp.Type.Params), kinds(imp.Type.Results)),
			func(c *wt.Caller, vals []wt.Val) (out []wt.Val, trap *wt.Trap) {
				defer func() {
					if r := recover(); r != nil {
						exit, ok := r.(wasmtest.Exit)
						if !ok {
							panic(r)
						}
						w.ending = exit.Reason
						out, trap = nil, wt.NewTrap(exit.Reason)
					}
				}()
				args := make([]uint64, len(vals))
				for i, v := range vals {
					args[i] = bits(v)
				}
				r := f(c.GetExport(wasmprep.MemoryExport).Memory().UnsafeData(c), args)
				if len(imp.Type.Results) == 0 {
					return nil, nil
				}
				return []wt.Val{wt.ValI32(int32(r))}, nil
			}))
	}
	inst, err := linker.Instantiate(w.store, mod)
	must(err)
	w.inst = inst
	return w
}

func (e wasmtimeEngine) run(t testing.TB, m *wasmprep.Module, calls []wasmtest.Call, limit uint64, fresh bool) (out []outcome) {
	t.Helper()
	mod, err := wt.NewModule(e.engine, m.Code)
	if err != nil {
		t.Fatalf("wasmtime refuses the prepared module: %v", err)
	}
	defer mod.Close()
	var w *wtInstance
	for _, c := range calls {
		if w == nil || fresh {
			w = e.instantiate(t, mod, m)
		}
		w.limit, w.granted, w.ending, w.host.Output = int64(limit), min(slice, int64(limit)), "", nil
		if err := w.global(wasmprep.GasGlobal).Set(w.store, wt.ValI64(w.granted)); err != nil {
			t.Fatal(err)
		}
		fn := w.inst.GetFunc(w.store, c.Export)
		if fn == nil {
			t.Fatalf("no function %s", c.Export)
		}
		params := fn.Type(w.store).Params()
		args := make([]any, len(params))
		for i, p := range params {
			a := uint64(0)
			if i < len(c.Args) {
				a = c.Args[i]
			}
			args[i] = value(p.Kind(), a)
		}
		res, err := fn.Call(w.store, args...)
		var o outcome
		o.gas = uint64(min(w.granted-w.i64(wasmprep.GasGlobal), w.limit))
		switch {
		case err != nil && w.ending != "":
			o.ending = w.ending
		case err != nil:
			o.ending = "trap"
		case w.granted-w.i64(wasmprep.GasGlobal) > w.limit:
			o.ending = "out-of-gas"
		default:
			o.results = resultBits(res)
		}
		o.output = w.host.Output
		if m.HasMemory {
			o.memory = sha256.Sum256(w.inst.GetExport(w.store, wasmprep.MemoryExport).Memory().UnsafeData(w.store))
		}
		for _, g := range m.Snapshot {
			o.globals = append(o.globals, bits(w.global(g.Name).Get(w.store)))
		}
		out = append(out, o)
		if o.ending != "" && !fresh {
			break
		}
	}
	return out
}

func value(k wt.ValKind, a uint64) any {
	switch k {
	case wt.KindI32:
		return int32(a)
	case wt.KindI64:
		return int64(a)
	case wt.KindF32:
		return f32from(uint32(a))
	}
	return f64from(a)
}

func resultBits(res any) []uint64 {
	switch r := res.(type) {
	case nil:
		return nil
	case int32:
		return []uint64{uint64(uint32(r))}
	case int64:
		return []uint64{uint64(r)}
	case float32:
		return []uint64{uint64(f32bits(r))}
	case float64:
		return []uint64{f64bits(r)}
	case []wt.Val:
		var out []uint64
		for _, v := range r {
			out = append(out, bits(v))
		}
		return out
	}
	panic(fmt.Sprintf("result of type %T", res))
}

// --- wazero ---

type wazeroEngine struct {
	rt wazero.Runtime
}

func newWazero(t testing.TB) wazeroEngine {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
	t.Cleanup(func() { rt.Close(ctx) })
	if err := image.InstantiateGas(ctx, rt); err != nil {
		t.Fatal(err)
	}
	if err := corpushost.Instantiate(ctx, rt); err != nil {
		t.Fatal(err)
	}
	return wazeroEngine{rt}
}

func (e wazeroEngine) run(t testing.TB, m *wasmprep.Module, calls []wasmtest.Call, limit uint64, fresh bool) (out []outcome) {
	t.Helper()
	host := &wasmtest.Host{}
	code, err := image.Compile(context.Background(), e.rt, m)
	if err != nil {
		t.Fatal(err)
	}
	defer code.Compiled.Close(context.Background())
	var inst *image.Instance
	for _, c := range calls {
		if inst == nil || fresh {
			host = &wasmtest.Host{}
			if inst, err = image.New(context.Background(), code); err != nil {
				t.Fatal(err)
			}
			defer inst.Close(context.Background())
		}
		host.Output = nil
		ctx := corpushost.With(context.Background(), host)
		inst.SetSlice(slice)
		args := make([]uint64, len(inst.Module().ExportedFunction(c.Export).Definition().ParamTypes()))
		copy(args, c.Args)
		var o outcome
		o.results, o.gas, err = inst.Call(ctx, c.Export, limit, args...)
		var exit wasmtest.Exit
		switch {
		case err == nil:
		case errors.As(err, &exit):
			o.ending = exit.Reason
		case errors.Is(err, image.ErrOutOfGas):
			o.ending = "out-of-gas"
		case errors.Is(err, image.ErrCallDepth):
			o.ending = "call-depth"
		default:
			o.ending = "trap"
		}
		if err != nil {
			o.results = nil
		}
		o.output = host.Output
		if m.HasMemory {
			mem, _ := inst.Module().Memory().Read(0, inst.Module().Memory().Size())
			o.memory = sha256.Sum256(mem)
		}
		for _, g := range m.Snapshot {
			v := inst.Module().ExportedGlobal(g.Name).Get()
			if g.Type == wasmprep.I32 || g.Type == wasmprep.F32 {
				v = uint64(uint32(v))
			}
			o.globals = append(o.globals, v)
		}
		out = append(out, o)
		if o.ending != "" && !fresh {
			break
		}
	}
	return out
}
