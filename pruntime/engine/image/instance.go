package image

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/phala-go/phala/wasmprep"
)

// Code is a compiled contract: what images and instances are made from.
type Code struct {
	// Runtime holds the host modules, InstantiateGas's among them.
	Runtime wazero.Runtime
	// Compiled is Module.Code compiled in Runtime.
	Compiled wazero.CompiledModule
	Module   *wasmprep.Module
}

// Compile compiles a prepared module.
func Compile(ctx context.Context, rt wazero.Runtime, m *wasmprep.Module) (*Code, error) {
	c, err := rt.CompileModule(ctx, m.Code)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return &Code{Runtime: rt, Compiled: c, Module: m}, nil
}

// Instance is an instance of a contract, for one call at a time.
type Instance struct {
	code    *Code
	mod     api.Module
	mem     api.Memory // nil without a memory
	gas     api.MutableGlobal
	depth   api.MutableGlobal
	globals []api.MutableGlobal // those of the snapshot
	funcs   map[string]*function
	stack   []byte // on which every call begins
	view    *view  // the restorable mapping; nil when wazero owns the memory
	private int    // bytes of it that the pool counts while the instance is idle
	failed  bool
	slice   int64
	// fullDepth is the depth budget between calls.
	fullDepth uint64
}

// instantiate makes an instance whose memory comes from alloc, or from wazero
// itself if alloc is nil. Nothing of the guest runs.
func instantiate(ctx context.Context, code *Code, alloc experimental.MemoryAllocator) (*Instance, error) {
	if alloc != nil {
		ctx = experimental.WithMemoryAllocator(ctx, alloc)
	}
	cfg := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	mod, err := code.Runtime.InstantiateModule(ctx, code.Compiled, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInstantiate, err)
	}
	inst := &Instance{code: code, mod: mod, funcs: make(map[string]*function), slice: DefaultSlice}
	if code.Module.HasMemory {
		inst.mem = mod.ExportedMemory(wasmprep.MemoryExport)
	}
	global := func(name string) api.MutableGlobal {
		g, ok := mod.ExportedGlobal(name).(api.MutableGlobal)
		if !ok && err == nil {
			err = fmt.Errorf("%w: module has no mutable global %s: not prepared", ErrInstantiate, name)
		}
		return g
	}
	inst.gas, inst.depth = global(wasmprep.GasGlobal), global(wasmprep.DepthGlobal)
	for _, g := range code.Module.Snapshot {
		inst.globals = append(inst.globals, global(g.Name))
	}
	if err != nil {
		mod.Close(ctx)
		return nil, err
	}
	inst.fullDepth = inst.depth.Get()
	return inst, nil
}

// New makes an instance in the module's initial state: memory as the data
// segments left it, nothing run. It is how an image starts.
func New(ctx context.Context, code *Code) (*Instance, error) {
	return instantiate(ctx, code, nil)
}

// Module returns the wazero module, for reading its memory.
func (i *Instance) Module() api.Module { return i.mod }

// SetSlice sets the gas between two yields.
func (i *Instance) SetSlice(gas uint64) { i.slice = int64(max(1, min(gas, MaxGas))) }

// Close releases the instance and its memory.
func (i *Instance) Close(ctx context.Context) error { return i.mod.Close(ctx) }

// Failed reports whether a call failed; the instance must not be used again.
func (i *Instance) Failed() bool { return i.failed }

// Call calls an exported function with at most limit gas and returns its
// results and the gas used. Host functions see ctx, with Charge and Remaining
// bound to this call. After an error the instance is spoiled: its pool
// throws it away.
func (i *Instance) Call(ctx context.Context, name string, limit uint64, args ...uint64) (results []uint64, used uint64, err error) {
	fn := i.function(name)
	if fn == nil {
		return nil, 0, fmt.Errorf("%w: %q", ErrNoExport, name)
	}
	if got, want := len(args), len(fn.Definition().ParamTypes()); got != want {
		return nil, 0, fmt.Errorf("call of %s with %d arguments, want %d: %w", name, got, want, ErrNoExport)
	}
	if i.failed {
		return nil, 0, fmt.Errorf("call of %s on a failed instance: %w", name, ErrState)
	}
	m := &Meter{limit: int64(min(limit, MaxGas)), slice: i.slice, gas: i.gas, depth: i.depth}
	m.granted = min(m.slice, m.limit)
	i.gas.Set(uint64(m.granted))
	i.failed = true // until it is known to have ended well; also when a panic passes
	results, err = fn.Call(context.WithValue(ctx, meterKey{}, m), args...)
	i.resetStack(fn)
	if err == nil && m.granted-int64(i.gas.Get()) > m.limit {
		// Gas is tested at loops and calls, so the last stretch may overdraw.
		err = ErrOutOfGas
	}
	i.failed = err != nil
	for j := range results {
		// A 32-bit result's upper half is whatever the register held.
		results[j] = trim(results[j], fn.Definition().ResultTypes()[j])
	}
	return results, m.used(), classify(name, err)
}

// Revive lets an instance be called again after a trap, with its depth budget
// reset and everything else as the trap left it. Pools never do this; it
// serves test suites that go on after a trap.
func (i *Instance) Revive() {
	if !i.failed {
		return
	}
	i.failed = false
	i.depth.Set(i.fullDepth)
}

// trim clears the undefined upper half of a 32-bit value.
func trim(v uint64, t api.ValueType) uint64 {
	if t == api.ValueTypeI32 || t == api.ValueTypeF32 {
		return uint64(uint32(v))
	}
	return v
}
