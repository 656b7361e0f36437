package npos

import (
	"context"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

var _ types.MsgServer = (*Keeper)(nil)

// Bond puts tokens of the sender under its stake.
func (k *Keeper) Bond(ctx context.Context, m *types.MsgBond) (*types.MsgBondResponse, error) {
	who, err := k.account(m.Staker)
	if err != nil {
		return nil, err
	}
	a, err := amount(m.Amount)
	if err != nil {
		return nil, err
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	l, err := k.bond(ctx, who, a)
	if err != nil {
		return nil, err
	}
	if l.Active.Less(p.MinNominatorBond) {
		return nil, ErrMinimum.Wrapf("a stake of %v; at least %v%s", l.Active, p.MinNominatorBond, k.denom)
	}
	return &types.MsgBondResponse{}, k.place(ctx, who, l)
}

// bond moves tokens to the module and adds them to a ledger, which the caller stores.
func (k *Keeper) bond(ctx context.Context, who sdk.AccAddress, a npos.U128) (*ledger, error) {
	l, err := k.ledger(ctx, who)
	if err != nil {
		return nil, err
	}
	if l == nil {
		l = &ledger{}
	}
	if a.IsZero() {
		return l, nil
	}
	if have := k.bank.SpendableCoin(ctx, who, k.denom).Amount; have.LT(integer(a)) {
		return nil, ErrFunds.Wrapf("%s has %s%s to spend, not %v", who, have, k.denom, a)
	}
	if err := k.bank.SendCoinsFromAccountToModule(ctx, who, ModuleName, k.coins(a)); err != nil {
		return nil, err
	}
	l.Active = l.Active.SaturatingAdd(a) // tokens are far below 2^128
	emit(ctx, "bonded", "staker", who.String(), "amount", a.String())
	return l, nil
}

// least is the smallest stake that a role allows.
func (p *Params) least(r role) npos.U128 {
	switch r {
	case roleCandidate:
		return p.MinValidatorBond
	case roleNominator:
		return p.MinNominatorBond
	}
	return npos.U128{}
}

// Unbond takes tokens out of the stake.
func (k *Keeper) Unbond(ctx context.Context, m *types.MsgUnbond) (*types.MsgUnbondResponse, error) {
	who, l, a, p, err := k.change(ctx, m.Staker, m.Amount)
	if err != nil {
		return nil, err
	}
	if l.Active.Less(a) {
		return nil, ErrNotBonded.Wrapf("%v of %v%s", a, l.Active, k.denom)
	}
	left := l.Active.SaturatingSub(a)
	if least := p.least(l.Role); left.Less(least) {
		return nil, ErrMinimum.Wrapf("%v would be left; a %s keeps %v%s at least, or chills first", left, l.Role, least, k.denom)
	}
	active, err := k.Active(ctx)
	if err != nil {
		return nil, err
	}
	// The stake may stand behind a validator until the end of the next era, whose
	// election may have read it already.
	free := active + 1 + p.UnbondingEras
	l.Active = left
	if n := len(l.Chunks); n > 0 && l.Chunks[n-1].Era >= free {
		// Governance may have shortened the period: chunks stay in order.
		l.Chunks[n-1].Amount, free = l.Chunks[n-1].Amount.SaturatingAdd(a), l.Chunks[n-1].Era
	} else {
		if n == maxChunks {
			return nil, ErrChunks.Wrapf("at most %d: withdraw, or wait for the next era", maxChunks)
		}
		l.Chunks = append(l.Chunks, chunk{a, free})
	}
	emit(ctx, "unbonded", "staker", who.String(), "amount", a.String(), "era", fmt.Sprint(free))
	return &types.MsgUnbondResponse{Era: free}, k.place(ctx, who, l)
}

// change reads what a message about an existing stake names.
func (k *Keeper) change(ctx context.Context, staker, a string) (who sdk.AccAddress, l *ledger, value npos.U128, p Params, err error) {
	if who, err = k.account(staker); err != nil {
		return
	}
	if value, err = amount(a); err != nil {
		return
	}
	if p, err = k.Params(ctx); err != nil {
		return
	}
	if l, err = k.ledger(ctx, who); err == nil && l == nil {
		err = ErrNotBonded.Wrapf("%s has no stake", who)
	}
	return
}

// Rebond puts tokens that are unbonding under the stake again.
func (k *Keeper) Rebond(ctx context.Context, m *types.MsgRebond) (*types.MsgRebondResponse, error) {
	who, l, a, p, err := k.change(ctx, m.Staker, m.Amount)
	if err != nil {
		return nil, err
	}
	rest := a
	for n := len(l.Chunks); n > 0 && !rest.IsZero(); n = len(l.Chunks) {
		last := &l.Chunks[n-1]
		if rest.Less(last.Amount) {
			last.Amount, rest = last.Amount.SaturatingSub(rest), npos.U128{}
			break
		}
		rest = rest.SaturatingSub(last.Amount)
		l.Chunks = l.Chunks[:n-1]
	}
	if !rest.IsZero() {
		return nil, ErrNotBonded.Wrapf("%v%s more than is unbonding", rest, k.denom)
	}
	l.Active = l.Active.SaturatingAdd(a)
	if l.Active.Less(p.MinNominatorBond) {
		return nil, ErrMinimum.Wrapf("a stake of %v; at least %v%s", l.Active, p.MinNominatorBond, k.denom)
	}
	emit(ctx, "rebonded", "staker", who.String(), "amount", a.String())
	return &types.MsgRebondResponse{}, k.place(ctx, who, l)
}

// Withdraw pays out what has finished unbonding.
func (k *Keeper) Withdraw(ctx context.Context, m *types.MsgWithdraw) (*types.MsgWithdrawResponse, error) {
	who, err := k.account(m.Staker)
	if err != nil {
		return nil, err
	}
	l, err := k.ledger(ctx, who)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, ErrNotBonded.Wrapf("%s has no stake", who)
	}
	active, err := k.Active(ctx)
	if err != nil {
		return nil, err
	}
	var out npos.U128
	n := 0
	for ; n < len(l.Chunks) && l.Chunks[n].Era <= active; n++ {
		out = out.SaturatingAdd(l.Chunks[n].Amount)
	}
	if n == 0 {
		if len(l.Chunks) == 0 {
			return nil, ErrNothing.Wrap("nothing is unbonding")
		}
		return nil, ErrNothing.Wrapf("the first amount may be withdrawn in era %d; this is %d", l.Chunks[0].Era, active)
	}
	// What is free of new offences may still be named in a report on its way.
	if l.Slashes > 0 {
		return nil, ErrSlashes.Wrapf("%d wait to be applied or cancelled", l.Slashes)
	}
	computing, err := k.computing(ctx)
	if err != nil {
		return nil, err
	}
	if computing {
		return nil, ErrSlashes.Wrap("an offence is being worked out: try again in some blocks")
	}
	l.Chunks = l.Chunks[n:]
	if !out.IsZero() {
		if err := k.bank.SendCoinsFromModuleToAccount(ctx, ModuleName, who, k.coins(out)); err != nil {
			return nil, err
		}
	}
	if l.Active.IsZero() && len(l.Chunks) == 0 {
		// Slashes can take all of a stake that still has a role. A candidate without a
		// consensus key must not be: bonding again would bring it into an election.
		if l.Role != roleNone {
			if err := k.chill(ctx, who, l); err != nil {
				return nil, err
			}
		}
		if err := k.forgetOperator(ctx, who, active); err != nil {
			return nil, err
		}
	}
	emit(ctx, "withdrawn", "staker", who.String(), "amount", out.String())
	return &types.MsgWithdrawResponse{Amount: out.String()}, k.setLedger(ctx, who, l)
}
