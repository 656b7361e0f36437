package corpushost

import (
	"context"
	"fmt"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// Rules are the first rules version with the corpus's host functions.
func Rules() wasmprep.Rules {
	types := func(b []byte) (ts []wasmprep.ValType) {
		for _, t := range b {
			ts = append(ts, wasmprep.ValType(t))
		}
		return ts
	}
	add := make(map[wasmprep.ImportKey]wasmprep.FuncType)
	for k, t := range wasmtest.HostImports() {
		add[wasmprep.ImportKey{Module: k[0], Name: k[1]}] = wasmprep.FuncType{Params: types(t[0]), Results: types(t[1])}
	}
	return wasmprep.RulesV1().WithImports(add)
}

type key struct{}

// With binds calls under the returned context to a host.
func With(ctx context.Context, h *wasmtest.Host) context.Context {
	return context.WithValue(ctx, key{}, h)
}

// Instantiate registers every import that Rules allows.
func Instantiate(ctx context.Context, rt wazero.Runtime) error {
	builders := map[string]wazero.HostModuleBuilder{}
	for k, f := range Rules().Imports {
		if builders[k.Module] == nil {
			builders[k.Module] = rt.NewHostModuleBuilder(k.Module)
		}
		call := func(ctx context.Context, mod api.Module, stack []uint64) {
			host := ctx.Value(key{}).(*wasmtest.Host)
			mem, _ := mod.Memory().Read(0, mod.Memory().Size())
			args := slices.Clone(stack[:len(f.Params)])
			for i, p := range f.Params {
				if p == wasmprep.I32 {
					args[i] = uint64(uint32(args[i])) // the upper half is undefined
				}
			}
			r := host.Func(k.Module, k.Name)(mem, args)
			if len(f.Results) > 0 {
				stack[0] = r
			}
		}
		if k.Name == "empty" { // measured by itself, without the lookups
			call = func(context.Context, api.Module, []uint64) {}
		}
		builders[k.Module].NewFunctionBuilder().
			WithGoModuleFunction(api.GoModuleFunc(call), values(f.Params), values(f.Results)).Export(k.Name)
	}
	for name, b := range builders {
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("host module %s: %w", name, err)
		}
	}
	return nil
}

func values(ts []wasmprep.ValType) (vs []api.ValueType) {
	for _, v := range ts {
		vs = append(vs, api.ValueType(v))
	}
	return vs
}
