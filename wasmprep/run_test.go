package wasmprep_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
)

// outcome is all that can be observed of a call.
type outcome struct {
	results []uint64
	failure string // "", "out-of-gas", "call-depth" or the trap
	gas     uint64
	memory  [32]byte
	globals []uint64
}

func (o outcome) same(p outcome) bool {
	return slices.Equal(o.results, p.results) && o.failure == p.failure && o.memory == p.memory && slices.Equal(o.globals, p.globals)
}

// newRuntime makes a runtime with the gas host module.
func newRuntime(t testing.TB, compiler bool) wazero.Runtime {
	t.Helper()
	ctx := context.Background()
	cfg := wazero.NewRuntimeConfigInterpreter()
	if compiler {
		cfg = wazero.NewRuntimeConfigCompiler()
	}
	rt := wazero.NewRuntimeWithConfig(ctx, cfg)
	t.Cleanup(func() { rt.Close(ctx) })
	if err := image.InstantiateGas(ctx, rt); err != nil {
		t.Fatal(err)
	}
	return rt
}

// prepared runs the calls f0, f1, … one after the other on one instance of a
// prepared module.
func prepared(t testing.TB, rt wazero.Runtime, m *wasmprep.Module, limit uint64) []outcome {
	t.Helper()
	ctx := context.Background()
	code, err := image.Compile(ctx, rt, m)
	if err != nil {
		t.Fatalf("the prepared module does not compile: %v", err)
	}
	defer code.Compiled.Close(ctx)
	var out []outcome
	for _, x := range m.Exports {
		inst, err := image.New(ctx, code)
		if err != nil {
			t.Fatal(err)
		}
		var o outcome
		o.results, o.gas, err = inst.Call(ctx, x.Name, limit, make([]uint64, len(x.Type.Params))...)
		o.failure = failure(err)
		observe(&o, inst.Module(), m)
		inst.Close(ctx)
		out = append(out, o)
	}
	return out
}

func observe(o *outcome, mod api.Module, m *wasmprep.Module) {
	if m.HasMemory {
		mem := mod.Memory()
		b, _ := mem.Read(0, mem.Size())
		o.memory = sha256.Sum256(b)
	}
	for _, g := range m.Snapshot {
		if g.Name != wasmprep.DepthGlobal {
			o.globals = append(o.globals, mod.ExportedGlobal(g.Name).Get())
		}
	}
}

func failure(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, image.ErrOutOfGas):
		return "out-of-gas"
	case errors.Is(err, image.ErrCallDepth):
		return "call-depth"
	}
	return trap(err)
}

// trap extracts wazero's name of a trap.
func trap(err error) string {
	_, s, ok := strings.Cut(err.Error(), "wasm error: ")
	if !ok {
		return err.Error()
	}
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// raw runs the original module the same way, without metering.
func raw(t testing.TB, rt wazero.Runtime, code []byte, m *wasmprep.Module, skip func(i int) bool) []outcome {
	t.Helper()
	ctx := context.Background()
	c, err := rt.CompileModule(ctx, code)
	if err != nil {
		t.Fatalf("wasmprep accepts what wazero does not: %v", err)
	}
	defer c.Close(ctx)
	var out []outcome
	for i, x := range m.Exports {
		var o outcome
		if skip(i) {
			out = append(out, o)
			continue
		}
		mod, err := rt.InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			t.Fatal(err)
		}
		o.results, err = mod.ExportedFunction(x.Name).Call(ctx, make([]uint64, len(x.Type.Params))...)
		if err != nil {
			o.failure = trap(err)
		}
		if mem := mod.ExportedMemory("memory"); mem != nil {
			b, _ := mem.Read(0, mem.Size())
			o.memory = sha256.Sum256(b)
		}
		mod.Close(ctx)
		out = append(out, o)
	}
	return out
}

func mustPrepare(t testing.TB, code []byte, rules wasmprep.Rules) *wasmprep.Module {
	t.Helper()
	m, err := wasmprep.Prepare(code, rules)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func describe(o outcome) string {
	return fmt.Sprintf("results %x failure %q gas %d memory %x globals %x", o.results, o.failure, o.gas, o.memory[:4], o.globals)
}
