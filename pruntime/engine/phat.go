package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
)

// Limits of the host functions.
const (
	MaxKey    = 1 << 10
	MaxValue  = 256 << 10
	MaxOutput = 192 << 10 // sealed, padded and signed it fits one outbox entry
	maxStderr = 2 << 10
	maxRandom = 1 << 10
	// MaxWritten is how many bytes of keys and values one command or query stores, with
	// everything that it calls, whether they stay or not. Hosts count: deposits do not
	// bound what will not stay, and every replica holds it until the command ends.
	MaxWritten = 16 << 20
)

// ErrWritten ends a call whose command or query has stored MaxWritten bytes.
func ErrWritten() *Error {
	return &Error{Kind: ErrTrap, Detail: fmt.Sprintf("a command or query stores at most %d bytes, with all that it calls", MaxWritten)}
}

// A run is the state of one call inside the host functions.
type run struct {
	gas    *HostGas
	host   Host // nil while a module initialises: there is no state, no key, no identity
	input  []byte
	output []byte
	staged []byte // the value or key that a read found
	query  bool
	failed *Error
	logged bool
	stderr []byte
	// reentry: the contract is already running further out. It must accept that, by
	// asking, before it does anything that matters.
	reentry, accepted bool
	clock             uint64 // virtual, nanoseconds: the block's time, moved on by sleeping
}

type runKey struct{}

func withCall(ctx context.Context, r *run) context.Context {
	return context.WithValue(ctx, runKey{}, r)
}

func of(ctx context.Context) *run { return ctx.Value(runKey{}).(*run) }

// view returns a piece of the guest's memory, or ends the call.
func view(m api.Module, ptr, n uint32) []byte {
	b, ok := m.Memory().Read(ptr, n)
	if !ok {
		panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("host function given %d bytes at %d, outside memory", n, ptr)})
	}
	return b
}

func key(m api.Module, ptr, n uint32) []byte {
	if n > MaxKey {
		panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("storage key of %d bytes, at most %d", n, MaxKey)})
	}
	return bytes.Clone(view(m, ptr, n))
}

type function struct {
	name    string
	params  []api.ValueType
	results []api.ValueType
	f       func(ctx context.Context, m api.Module, r *run, s []uint64)
}

// harmless are the functions of module phat that a call may use before it has accepted
// that it is a re-entry: what it needs to find out who calls and what for, and to refuse.
var harmless = map[string]bool{"input_len": true, "input_read": true, "fail": true, "caller": true, "self": true, "height": true, "time": true,
	"is_query": true, "reentry": true, "log": true, "hash": true, "verify": true, "recover": true}

const (
	i32 = api.ValueTypeI32
	i64 = api.ValueTypeI64
)

func types(t ...api.ValueType) []api.ValueType { return t }

// phat is the contract ABI, module "phat"; docs/abi.md is its manual.
var phat = slices.Concat(basic, cryptographic, outward)

// basic is input and output, storage, and what a call knows about itself.
var basic = []function{
	{"input_len", nil, types(i32), func(ctx context.Context, _ api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		s[0] = uint64(len(r.input))
	}},
	{"input_read", types(i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call+r.gas.Byte*uint64(len(r.input)))
		copy(view(m, uint32(s[0]), uint32(len(r.input))), r.input)
	}},
	{"output", types(i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n := uint32(s[1])
		if n > MaxOutput {
			panic(&Error{Kind: ErrOutput, Detail: fmt.Sprintf("%d bytes, at most %d", n, MaxOutput)})
		}
		image.Charge(ctx, r.gas.Call+r.gas.Byte*uint64(n))
		r.output = bytes.Clone(view(m, uint32(s[0]), n))
	}},
	{"fail", types(i32, i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n := min(uint32(s[2]), 4096)
		image.Charge(ctx, r.gas.Call+r.gas.Byte*uint64(n))
		r.failed = &Error{Kind: ErrContract, Code: uint32(s[0]), Detail: string(view(m, uint32(s[1]), n))}
	}},
	{"kv_get", types(i32, i32), types(i64), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Read+r.gas.Byte*uint64(uint32(s[1])))
		v, ok := r.host.Get(key(m, uint32(s[0]), uint32(s[1])))
		r.stage(ctx, v, ok, s)
	}},
	{"kv_next", types(i32, i32, i32, i32), types(i64), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Read+r.gas.Byte*(uint64(uint32(s[1]))+uint64(uint32(s[3]))))
		k, _, ok := r.host.Next(key(m, uint32(s[0]), uint32(s[1])), key(m, uint32(s[2]), uint32(s[3])))
		r.stage(ctx, k, ok, s)
	}},
	{"staged_read", types(i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call+r.gas.Byte*uint64(len(r.staged)))
		copy(view(m, uint32(s[0]), uint32(len(r.staged))), r.staged)
	}},
	{"kv_put", types(i32, i32, i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n := uint32(s[3])
		if n > MaxValue {
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("storage value of %d bytes, at most %d", n, MaxValue)})
		}
		image.Charge(ctx, r.gas.Write+r.gas.Byte*(uint64(uint32(s[1]))+2*uint64(n)))
		if err := r.host.Put(key(m, uint32(s[0]), uint32(s[1])), bytes.Clone(view(m, uint32(s[2]), n))); err != nil {
			panic(hostError(err))
		}
	}},
	{"kv_delete", types(i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Write+r.gas.Byte*uint64(uint32(s[1])))
		if err := r.host.Delete(key(m, uint32(s[0]), uint32(s[1]))); err != nil {
			panic(hostError(err))
		}
	}},
	{"caller", types(i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		c := r.host.Caller()
		copy(view(m, uint32(s[0]), uint32(len(c))), c)
		s[0] = uint64(len(c))
	}},
	{"reader", types(i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		c := r.host.Reader()
		copy(view(m, uint32(s[0]), uint32(len(c))), c)
		s[0] = uint64(len(c))
	}},
	{"self", types(i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		id := r.host.Self()
		copy(view(m, uint32(s[0]), 32), id[:])
	}},
	{"height", nil, types(i64), func(ctx context.Context, _ api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		s[0] = r.host.Height()
	}},
	{"time", nil, types(i64), func(ctx context.Context, _ api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		s[0] = r.host.Time()
	}},
	{"is_query", nil, types(i32), func(ctx context.Context, _ api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		s[0] = 0
		if r.query {
			s[0] = 1
		}
	}},
	{"reentry", nil, types(i32), func(ctx context.Context, _ api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		r.accepted = true
		s[0] = 0
		if r.reentry {
			s[0] = 1
		}
	}},
	{"random", types(i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n := uint32(s[1])
		if n > maxRandom {
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("%d random bytes, at most %d at once", n, maxRandom)})
		}
		image.Charge(ctx, r.gas.Random+r.gas.Byte*uint64(n))
		if _, err := io.ReadFull(r.host.Random(), view(m, uint32(s[0]), n)); err != nil {
			panic(&Error{Kind: ErrHost, Detail: err.Error()})
		}
	}},
	{"log", types(i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n, gas := min(uint32(s[1]), 4096), r.gas.Call
		if !r.logged {
			gas += r.gas.Sealed // the lines are sealed to their reader, together
		}
		image.Charge(ctx, gas+r.gas.Byte*uint64(n))
		r.logged = true
		r.host.Log(bytes.Clone(view(m, uint32(s[0]), n)))
	}},
}

// hostError is what a host function ends the call with when the host failed: the host's
// own word where it is one.
func hostError(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	return &Error{Kind: ErrHost, Detail: err.Error(), Err: err}
}

// stage keeps what a read found and returns its length, -1 for nothing.
func (r *run) stage(ctx context.Context, v []byte, ok bool, s []uint64) {
	if !ok {
		r.staged = nil
		s[0] = ^uint64(0)
		return
	}
	image.Charge(ctx, r.gas.Byte*uint64(len(v)))
	r.staged = v
	s[0] = uint64(len(v))
}

// imports lists every function that a module may import.
func imports() map[wasmprep.ImportKey]wasmprep.FuncType {
	vals := func(ts []api.ValueType) (out []wasmprep.ValType) {
		for _, t := range ts {
			out = append(out, wasmprep.ValType(t))
		}
		return out
	}
	m := map[wasmprep.ImportKey]wasmprep.FuncType{}
	for module, fs := range map[string][]function{"phat": phat, "wasi_snapshot_preview1": wasi} {
		for _, f := range fs {
			m[wasmprep.ImportKey{Module: module, Name: f.name}] = wasmprep.FuncType{Params: vals(f.params), Results: vals(f.results)}
		}
	}
	return m
}

func instantiatePhat(ctx context.Context, rt wazero.Runtime) error {
	return build(ctx, rt, "phat", phat)
}

func build(ctx context.Context, rt wazero.Runtime, module string, fs []function) error {
	b := rt.NewHostModuleBuilder(module)
	for _, f := range fs {
		outside := module == "phat"
		guarded := outside && !harmless[f.name] || f.name == "random_get"
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, s []uint64) {
			r := of(ctx)
			if outside && r.host == nil {
				panic(errInitialising)
			}
			if guarded && r.reentry && !r.accepted {
				panic(errReentered())
			}
			f.f(ctx, m, r, s)
		}), f.params, f.results).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// errInitialising ends the preparation of a module that uses the chain's functions before
// there is a call: what they gave would be in the image, which is public.
var errInitialising = &Error{Kind: ErrTrap, Detail: "while a module initialises it may call no function of module phat"}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
