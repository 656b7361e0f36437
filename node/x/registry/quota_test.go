package registry

import (
	"errors"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
	errs "github.com/cosmos/cosmos-sdk/types/errors"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/node/x/registry/types"
)

// TestRegistrationsPerBlock: the block's quota; the next block takes more.
func TestRegistrationsPerBlock(t *testing.T) {
	e := newEnv(t)
	e.edit(func(p *Params) { p.RegistrationsPerBlock = 2 })
	register, update := e.apply(1).message(t), &types.MsgUpdateCollateral{Collateral: collateral(t, attest.SGX, simulated(t))}
	take := func(msgs ...sdk.Msg) func(sdk.Context) error {
		return func(ctx sdk.Context) error { return e.k.Reserve(ctx, msgs, 10*gasEvidence) }
	}
	e.Start()
	e.Must(take(register))
	e.Must(take(&types.MsgUpdateParams{}, update))
	for _, more := range [][]sdk.Msg{{register}, {update}} {
		if _, err := e.Tx(take(more...)); !errors.Is(err, ErrBusy) {
			t.Fatalf("got %v", err)
		}
	}
	e.Must(take(&types.MsgSetFloor{}))
	e.Finish()
	e.Block(take(register))
}

// TestReserveRefuses: what takes no place in a block because it is too cheap.
func TestReserveRefuses(t *testing.T) {
	e := newEnv(t)
	e.edit(func(p *Params) { p.RegistrationsPerBlock = 4 }) // more than a transaction may have
	register, update := e.apply(1).message(t), &types.MsgUpdateCollateral{Collateral: collateral(t, attest.SGX, simulated(t))}
	many := []sdk.Msg{}
	for range 64 {
		many = append(many, &types.MsgUpdateCollateral{Collateral: []byte{1}})
	}
	const both = gasSignature + gasEvidence + gasCollateral
	e.Start()
	for _, c := range []struct {
		name string
		gas  uint64
		want error
		msgs []sdk.Msg
	}{
		{"64 messages of a byte", 1 << 40, ErrCollateral, many},
		{"three", 1 << 40, ErrBusy, []sdk.Msg{update, update, update}},
		{"collateral that does not parse", 1 << 40, ErrCollateral, []sdk.Msg{&types.MsgUpdateCollateral{Collateral: []byte{1}}}},
		{"collateral that is too long", 1 << 40, ErrCollateral, []sdk.Msg{&types.MsgUpdateCollateral{Collateral: make([]byte, MaxCollateral+1)}}},
		{"registration that does not parse", 1 << 40, ErrMalformed, []sdk.Msg{&types.MsgRegisterWorker{Evidence: register.Evidence}}},
		{"evidence that does not parse", 1 << 40, ErrEvidence, []sdk.Msg{&types.MsgRegisterWorker{Registration: register.Registration}}},
		{"collateral without its gas", gasCollateral - 1, errs.ErrOutOfGas, []sdk.Msg{update}},
		{"registration without its gas", gasSignature + gasEvidence - 1, errs.ErrOutOfGas, []sdk.Msg{register}},
		{"both with gas for less", both - 1, errs.ErrOutOfGas, []sdk.Msg{update, register}},
	} {
		if _, err := e.Tx(func(ctx sdk.Context) error { return e.k.Reserve(ctx, c.msgs, c.gas) }); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// All places are left.
	for range 2 {
		e.Must(func(ctx sdk.Context) error { return e.k.Reserve(ctx, []sdk.Msg{update, register}, both) })
	}
	e.Finish()
}
