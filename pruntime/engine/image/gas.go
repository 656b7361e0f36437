package image

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/wasmprep"
)

// Kind is the class of a failed call; it is itself an error for errors.Is.
type Kind string

// Error returns the kind's stable code.
func (k Kind) Error() string { return "image: " + string(k) }

// The classes of failure.
const (
	// ErrOutOfGas: the call used more than its limit.
	ErrOutOfGas Kind = "out-of-gas"
	// ErrCallDepth: the guest recursed deeper than the rules allow.
	ErrCallDepth Kind = "call-depth"
	// ErrTrap: the guest trapped, or a host function failed.
	ErrTrap Kind = "trap"
	// ErrNoExport: the guest exports no such function, or of another type.
	ErrNoExport Kind = "no-export"
	// ErrInstantiate: the module could not be instantiated.
	ErrInstantiate Kind = "instantiate"
	// ErrState: the instance cannot be restored to its image.
	ErrState Kind = "state"
)

// MaxGas bounds a call's limit, so that no sum of charges can wrap.
const MaxGas = 1 << 60

// DefaultSlice is the gas between two yields: some milliseconds of work.
const DefaultSlice = 4 << 20

// Meter accounts the gas of one call. The guest counts down the slice in its
// own global; the Meter hands out slices until the limit is reached.
type Meter struct {
	limit, slice, granted int64
	gas, depth            api.MutableGlobal
}

// charge takes n units on behalf of a host function.
func (m *Meter) charge(n int64) {
	left := int64(m.gas.Get()) - n
	m.gas.Set(uint64(left))
	if left < 0 {
		m.refill()
	}
}

// refill tops the slice up, or ends the call by a panic that wazero hands to
// the caller as an error. It yields: a guest is otherwise one uninterruptible
// stretch of machine code, which would hold up every garbage collection.
func (m *Meter) refill() {
	if int64(m.depth.Get()) < 0 {
		panic(ErrCallDepth)
	}
	left := int64(m.gas.Get())
	// A long bulk operation may owe more than a slice.
	grant := max(m.slice, m.slice-left)
	grant = min(grant, m.limit-m.granted)
	m.granted += grant
	left += grant
	m.gas.Set(uint64(left))
	if left < 0 {
		panic(ErrOutOfGas)
	}
	runtime.Gosched()
}

// used returns the gas taken so far, never more than the limit.
func (m *Meter) used() uint64 {
	return uint64(min(m.granted-int64(m.gas.Get()), m.limit))
}

type meterKey struct{}

// Charge takes n units of gas from the call that ctx belongs to. Host
// functions call it before they act. It does not return when the gas is
// exhausted: it panics with ErrOutOfGas, which ends the guest's call.
func Charge(ctx context.Context, n uint64) {
	if m, ok := ctx.Value(meterKey{}).(*Meter); ok {
		m.charge(int64(min(n, MaxGas)))
	}
}

// Remaining returns the gas that the call which ctx belongs to may still use.
func Remaining(ctx context.Context) uint64 {
	if m, ok := ctx.Value(meterKey{}).(*Meter); ok {
		return uint64(m.limit) - m.used()
	}
	return 0
}

// InstantiateGas registers the host module that prepared modules import. It
// is needed once per runtime, before any prepared module is instantiated.
func InstantiateGas(ctx context.Context, rt wazero.Runtime) error {
	_, err := rt.NewHostModuleBuilder(wasmprep.GasModule).NewFunctionBuilder().
		WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {
			m, ok := ctx.Value(meterKey{}).(*Meter)
			if !ok {
				panic(ErrOutOfGas) // a call around Instance.Call has no gas
			}
			m.refill()
		}), nil, nil).Export(wasmprep.RefillName).Instantiate(ctx)
	if err != nil {
		return fmt.Errorf("gas host module: %w", err)
	}
	return nil
}

// classify turns what wazero returned into an error of a Kind.
func classify(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrOutOfGas), errors.Is(err, ErrCallDepth):
		return fmt.Errorf("call of %s: %w", name, err)
	}
	return fmt.Errorf("call of %s: %w: %w", name, ErrTrap, err)
}
