package npos

import (
	"bytes"
	"context"
	"slices"

	"github.com/cosmos/cosmos-sdk/crypto/keys/ed25519"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

// optional reads an amount that may be absent.
func optional(s string) (npos.U128, error) {
	if s == "" {
		return npos.U128{}, nil
	}
	return amount(s)
}

// Validate makes the sender a candidate, or changes its candidacy.
func (k *Keeper) Validate(ctx context.Context, m *types.MsgValidate) (*types.MsgValidateResponse, error) {
	who, err := k.account(m.Staker)
	if err != nil {
		return nil, err
	}
	extra, err := optional(m.Bond)
	if err != nil {
		return nil, err
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	if m.Commission < p.MinCommission || m.Commission > npos.Billion {
		return nil, ErrCommission.Wrapf("%d billionths; between %d and %d", m.Commission, p.MinCommission, npos.Billion)
	}
	l, err := k.bond(ctx, who, extra)
	if err != nil {
		return nil, err
	}
	if l.Role == roleNominator {
		return nil, ErrRole.Wrapf("%s nominates: chill first", who)
	}
	if l.Active.Less(p.MinValidatorBond) {
		return nil, ErrMinimum.Wrapf("a stake of %v; a candidate has %v%s at least", l.Active, p.MinValidatorBond, k.denom)
	}
	if err := k.setKey(ctx, who, m.ConsensusKey, &p); err != nil {
		return nil, err
	}
	if l.Role != roleCandidate {
		n, err := k.countCandidates(ctx)
		if err != nil {
			return nil, err
		}
		if n >= p.MaxCandidates {
			if gone, err := k.evict(ctx, &p); err != nil {
				return nil, err
			} else if !gone {
				return nil, ErrFull.Wrapf("%d candidates", n)
			}
		}
		if err := k.kv(ctx).Set(key(prefixCandidate, who), []byte{1}); err != nil {
			return nil, err
		}
	}
	l.Role, l.Commission = roleCandidate, m.Commission
	emit(ctx, "candidate", "validator", who.String())
	return &types.MsgValidateResponse{}, k.place(ctx, who, l)
}

// evict chills a candidate whose stake is below the minimum, by a slash or because the
// minimum was raised: it is not elected, and must not keep others out.
func (k *Keeper) evict(ctx context.Context, p *Params) (bool, error) {
	var who sdk.AccAddress
	var l *ledger
	err := kv.Each(k.kv(ctx), []byte(prefixCandidate), func(op, _ []byte) (bool, error) {
		var err error
		if l, err = k.ledger(ctx, op); err != nil {
			return false, err
		}
		if l.Active.Less(p.MinValidatorBond) {
			who = slices.Clone(op)
		}
		return who == nil, nil
	})
	if err != nil || who == nil {
		return false, err
	}
	return true, k.chill(ctx, who, l)
}

// setKey gives an operator its consensus key.
func (k *Keeper) setKey(ctx context.Context, who sdk.AccAddress, pub []byte, p *Params) error {
	s := k.kv(ctx)
	old, err := s.Get(key(prefixOperator, who))
	if err != nil {
		return err
	}
	if len(pub) == 0 && old != nil || bytes.Equal(pub, old) && old != nil {
		return nil
	}
	if len(pub) != ed25519.PubKeySize {
		return ErrKey.Wrapf("%d bytes; an ed25519 key has %d", len(pub), ed25519.PubKeySize)
	}
	cons := consAddress(pub)
	if owner, err := s.Get(key(prefixKey, cons)); err != nil {
		return err
	} else if owner != nil {
		return ErrKey.Wrapf("it belongs to %s", sdk.AccAddress(owner))
	}
	if old != nil {
		active, err := k.Active(ctx)
		if err != nil {
			return err
		}
		if last, err := k.lastSeat(ctx, who, active, p); err != nil {
			return err
		} else if last > 0 {
			return ErrKey.Wrapf("the present one had a seat in era %d, and is answered for until era %d", last, last+p.UnbondingEras)
		}
		if err := k.dropStakingValidator(ctx, who); err != nil {
			return err
		}
		if err := s.Delete(key(prefixKey, consAddress(old))); err != nil {
			return err
		}
	}
	if err := s.Set(key(prefixKey, cons), who); err != nil {
		return err
	}
	return s.Set(key(prefixOperator, who), pub)
}

func consAddress(pub []byte) []byte { return (&ed25519.PubKey{Key: pub}).Address() }

// lastSeat is the last era in which an operator had a seat that it can be slashed for,
// the next era included; 0 for none.
func (k *Keeper) lastSeat(ctx context.Context, who sdk.AccAddress, active uint64, p *Params) (uint64, error) {
	x, err := k.progress(ctx)
	if err != nil {
		return 0, err
	}
	if x.Phase != phaseIdle { // it may be about to win the next one
		list, err := read(k.kv(ctx), keySnapshot, parseCandidates)
		if err != nil {
			return 0, err
		}
		for _, c := range list {
			if bytes.Equal(c.Operator, who) {
				return active + 1, nil
			}
		}
	}
	for e := active; e > 0 && e+p.UnbondingEras >= active; e-- {
		if ok, err := k.kv(ctx).Has(key(prefixExposure, u64(e), who)); err != nil || ok {
			return e, err
		}
	}
	return 0, nil
}

// forgetOperator frees the consensus key of an account that has no stake any more.
func (k *Keeper) forgetOperator(ctx context.Context, who sdk.AccAddress, active uint64) error {
	s := k.kv(ctx)
	pub, err := s.Get(key(prefixOperator, who))
	if err != nil || pub == nil {
		return err
	}
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	if last, err := k.lastSeat(ctx, who, active, &p); err != nil || last > 0 {
		return err
	}
	if err := k.dropStakingValidator(ctx, who); err != nil {
		if ErrKey.Is(err) { // x/staking still has it: the key stays its owner's
			return nil
		}
		return err
	}
	if err := s.Delete(key(prefixKey, consAddress(pub))); err != nil {
		return err
	}
	return s.Delete(key(prefixOperator, who))
}

func (k *Keeper) countCandidates(ctx context.Context) (n uint32, err error) {
	err = kv.Each(k.kv(ctx), []byte(prefixCandidate), func(_, _ []byte) (bool, error) { n++; return true, nil })
	return n, err
}

// Nominate makes the sender a nominator, or changes its targets.
func (k *Keeper) Nominate(ctx context.Context, m *types.MsgNominate) (*types.MsgNominateResponse, error) {
	who, err := k.account(m.Staker)
	if err != nil {
		return nil, err
	}
	extra, err := optional(m.Bond)
	if err != nil {
		return nil, err
	}
	if len(m.Targets) == 0 || len(m.Targets) > MaxTargets {
		return nil, ErrTargets.Wrapf("%d; from 1 to %d", len(m.Targets), MaxTargets)
	}
	targets := make([]sdk.AccAddress, len(m.Targets))
	for i, t := range m.Targets {
		if targets[i], err = k.account(t); err != nil {
			return nil, err
		}
		for _, earlier := range targets[:i] {
			if earlier.Equals(targets[i]) {
				return nil, ErrTargets.Wrapf("%s is named twice", t)
			}
		}
		if ok, err := k.kv(ctx).Has(key(prefixCandidate, targets[i])); err != nil {
			return nil, err
		} else if !ok {
			return nil, ErrTargets.Wrapf("%s is no candidate", t)
		}
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	l, err := k.bond(ctx, who, extra)
	if err != nil {
		return nil, err
	}
	if l.Role == roleCandidate {
		return nil, ErrRole.Wrapf("%s is a candidate: chill first", who)
	}
	if l.Active.Less(p.MinNominatorBond) {
		return nil, ErrMinimum.Wrapf("a stake of %v; a nominator has %v%s at least", l.Active, p.MinNominatorBond, k.denom)
	}
	l.Role, l.Targets = roleNominator, targets
	emit(ctx, "nominated", "staker", who.String())
	return &types.MsgNominateResponse{}, k.place(ctx, who, l)
}

// Chill ends the sender's candidacy or nomination.
func (k *Keeper) Chill(ctx context.Context, m *types.MsgChill) (*types.MsgChillResponse, error) {
	who, err := k.account(m.Staker)
	if err != nil {
		return nil, err
	}
	l, err := k.ledger(ctx, who)
	if err != nil {
		return nil, err
	}
	if l == nil || l.Role == roleNone {
		return nil, ErrNothing.Wrapf("%s is neither a candidate nor a nominator", who)
	}
	return &types.MsgChillResponse{}, k.chill(ctx, who, l)
}

func (k *Keeper) chill(ctx context.Context, who sdk.AccAddress, l *ledger) error {
	if l.Role == roleCandidate {
		if err := k.kv(ctx).Delete(key(prefixCandidate, who)); err != nil {
			return err
		}
	}
	l.Role, l.Commission, l.Targets = roleNone, 0, nil
	emit(ctx, "chilled", "staker", who.String())
	return k.place(ctx, who, l)
}

// UpdateParams replaces the parameters; governance only.
func (k *Keeper) UpdateParams(ctx context.Context, m *types.MsgUpdateParams) (*types.MsgUpdateParamsResponse, error) {
	if m.Authority != k.authority {
		return nil, ErrAuthority.Wrapf("not %q", clip(m.Authority))
	}
	p, err := ParseParams([]byte(m.Params))
	if err != nil {
		return nil, ErrParams.Wrap(err.Error())
	}
	return &types.MsgUpdateParamsResponse{}, k.SetParams(ctx, p)
}
