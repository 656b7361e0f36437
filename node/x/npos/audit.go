package npos

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"cosmossdk.io/math"

	"github.com/cosmos/cosmos-sdk/crypto/keys/ed25519"
	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/npos"
)

// ErrAudit: what the module holds is not what its records say.
var ErrAudit = errors.New("npos: the accounts do not add up")

// Totals is where the module's money is, base units: all of it is in one of these.
type Totals struct {
	Bonded    npos.U128 `json:"bonded"`    // counts in elections
	Unbonding npos.U128 `json:"unbonding"` // can be slashed, and withdrawn in its time
	Rewards   npos.U128 `json:"rewards"`   // of eras, not paid yet
}

// Audit compares everything that the module keeps with what others keep of it: every
// token is in exactly one place, exposures are stakes, x/staking's power is exposures.
// It reads all of it and changes nothing.
func (k *Keeper) Audit(ctx sdk.Context) (Totals, error) {
	active, err := k.Active(ctx)
	if err != nil {
		return Totals{}, err
	}
	a := &auditor{Keeper: k, ctx: ctx, active: active}
	for _, check := range []func() error{a.checkTokens, a.checkRewards, a.checkPower, a.checkExposures, a.checkList, a.checkSlashes} {
		if err := check(); err != nil {
			return a.totals, fmt.Errorf("%w: %w", ErrAudit, err)
		}
	}
	return a.totals, nil
}

type auditor struct {
	*Keeper
	ctx    sdk.Context
	active uint64
	totals Totals
}

// holds compares a module account with what it is to hold.
func (a *auditor) holds(module, what string, sum npos.U128) error {
	if held := a.bank.GetBalance(a.ctx, a.accounts.GetModuleAddress(module), a.denom).Amount; !held.Equal(integer(sum)) {
		return fmt.Errorf("%s of %v, %v held", what, sum, held)
	}
	return nil
}

// seated is the exposure of a validator of an era.
func (a *auditor) seated(era uint64, who sdk.AccAddress) (*exposure, error) {
	x, err := a.exposure(a.ctx, era, who)
	if err == nil && x == nil {
		err = fmt.Errorf("%s has a seat in era %d and no exposure", who, era)
	}
	return x, err
}

func (a *auditor) ledgers(f func(who sdk.AccAddress, l *ledger) error) error {
	return kv.Each(a.kv(a.ctx), []byte(prefixLedger), func(who, b []byte) (bool, error) {
		l, err := parseLedger(b)
		if err != nil {
			return false, err
		}
		return true, f(who, l)
	})
}

// checkTokens: the module's account holds every stake and nothing else.
func (a *auditor) checkTokens() error {
	t := &a.totals
	err := a.ledgers(func(who sdk.AccAddress, l *ledger) error {
		t.Bonded = t.Bonded.SaturatingAdd(l.Active)
		t.Unbonding = t.Unbonding.SaturatingAdd(l.total().SaturatingSub(l.Active))
		for i, c := range l.Chunks {
			if c.Amount.IsZero() || i > 0 && c.Era <= l.Chunks[i-1].Era {
				return fmt.Errorf("chunk %d of %s is empty or out of order", i, who)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return a.holds(ModuleName, "stakes", t.Bonded.SaturatingAdd(t.Unbonding))
}

// checkRewards: the rewards' account holds what eras earned and did not pay.
func (a *auditor) checkRewards() error {
	sum := &a.totals.Rewards
	err := kv.Each(a.kv(a.ctx), []byte(prefixEra), func(n, b []byte) (bool, error) {
		p, err := parsePeriod(b)
		if err != nil {
			return false, err
		}
		if p.pot().Less(p.Paid) {
			return false, fmt.Errorf("era %x paid %v of %v", n, p.Paid, p.pot())
		}
		if !p.Swept {
			*sum = sum.SaturatingAdd(p.pot().SaturatingSub(p.Paid))
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return a.holds(RewardsName, "rewards", *sum)
}

// checkPower: x/staking's delegations are the active era's exposures, in units that
// only its pools hold.
func (a *auditor) checkPower() error {
	ctx := a.ctx
	seats, err := a.seats(ctx, a.active)
	if err != nil {
		return err
	}
	var staked npos.U128
	for _, s := range seats {
		x, err := a.seated(a.active, s.Operator)
		if err != nil {
			return err
		}
		staked = staked.SaturatingAdd(x.Total)
		v, err := a.staking.GetValidator(ctx, sdk.ValAddress(s.Operator))
		if err != nil {
			return err
		}
		d, err := a.staking.GetDelegation(ctx, a.accounts.GetModuleAddress(ModuleName), sdk.ValAddress(s.Operator))
		if err != nil {
			return err
		}
		if want := integer(x.Total); !v.Tokens.Equal(want) || !v.DelegatorShares.Equal(math.LegacyNewDecFromInt(want)) || !d.Shares.Equal(v.DelegatorShares) {
			return fmt.Errorf("%s has %s tokens, %s shares, exposure %s", s.Operator, v.Tokens, v.DelegatorShares, want)
		}
		cons, err := v.GetConsAddr()
		if err != nil || !bytes.Equal(cons, s.Cons[:]) {
			return fmt.Errorf("%s has two consensus keys, %v", s.Operator, err)
		}
		if v.Jailed != x.Disabled {
			return fmt.Errorf("%s jailed %v, disabled %v", s.Operator, v.Jailed, x.Disabled)
		}
	}
	all, err := a.staking.GetAllDelegations(ctx)
	if err != nil {
		return err
	}
	if len(all) != len(seats) {
		return fmt.Errorf("%d delegations, %d seats", len(all), len(seats))
	}
	p, err := a.period(ctx, a.active)
	if err != nil {
		return err
	}
	if p.Staked != staked {
		return fmt.Errorf("era stakes %v, exposures are %v", p.Staked, staked)
	}
	pools := math.ZeroInt()
	for _, name := range []string{stakingtypes.BondedPoolName, stakingtypes.NotBondedPoolName} {
		pools = pools.Add(a.bank.GetBalance(ctx, a.accounts.GetModuleAddress(name), PowerDenom).Amount)
	}
	if supply := a.bank.GetSupply(ctx, PowerDenom).Amount; !pools.Equal(integer(staked)) || !supply.Equal(pools) {
		return fmt.Errorf("power: supply %s, pools %s, staked %v", supply, pools, staked)
	}
	bonded := a.bank.GetBalance(ctx, a.accounts.GetModuleAddress(stakingtypes.BondedPoolName), PowerDenom).Amount
	sum := math.ZeroInt()
	vals, err := a.staking.GetAllValidators(ctx)
	if err != nil {
		return err
	}
	for _, v := range vals {
		if v.IsBonded() {
			sum = sum.Add(v.Tokens)
		}
	}
	if !bonded.Equal(sum) {
		return fmt.Errorf("bonded pool %s, bonded validators %s", bonded, sum)
	}
	return nil
}

// checkExposures: pages add up to what their validator has, in every era that can be
// slashed.
func (a *auditor) checkExposures() error {
	ctx := a.ctx
	p, err := a.Params(ctx)
	if err != nil {
		return err
	}
	for n := a.active; n > 0 && n+p.UnbondingEras > a.active; n-- {
		e, err := read(a.kv(ctx), key(prefixEra, u64(n)), parsePeriod)
		if err != nil || e == nil || e.Swept {
			return err // it is being forgotten, as those before it were; how long they are kept may have changed since
		}
		seats, err := a.seats(ctx, n)
		if err != nil {
			return err
		}
		if !slices.IsSortedFunc(seats, func(a, b seat) int { return bytes.Compare(a.Operator, b.Operator) }) {
			return fmt.Errorf("seats of era %d are not in order", n)
		}
		for _, s := range seats {
			x, err := a.seated(n, s.Operator)
			if err != nil {
				return err
			}
			sum, backers := x.Own, uint32(0)
			for page := range x.pages() {
				list, err := a.page(ctx, n, s.Operator, page)
				if err != nil {
					return err
				}
				for _, h := range list {
					sum, backers = sum.SaturatingAdd(h.Amount), backers+1
				}
			}
			if sum != x.Total || backers != x.Backers || x.Total.Less(npos.U64(powerUnit)) {
				return fmt.Errorf("era %d: %s has %v of %d, pages %v of %d", n, s.Operator, x.Total, x.Backers, sum, backers)
			}
		}
	}
	return nil
}

// checkKey: a candidate has a consensus key, for which nobody else answers.
func (a *auditor) checkKey(who sdk.AccAddress) error {
	pub, err := a.kv(a.ctx).Get(key(prefixOperator, who))
	if err != nil || len(pub) != ed25519.PubKeySize {
		return fmt.Errorf("%s is a candidate with a consensus key of %d bytes, %v", who, len(pub), err)
	}
	owner, err := a.kv(a.ctx).Get(key(prefixKey, consAddress(pub)))
	if err != nil || !bytes.Equal(owner, who) {
		return fmt.Errorf("%s has the consensus key of %q, %v", who, sdk.AccAddress(owner).String(), err)
	}
	return nil
}

// checkList: the list holds every nominator once, in its bag, and candidates have keys.
func (a *auditor) checkList() error {
	s, listed := a.kv(a.ctx), 0
	err := a.ledgers(func(who sdk.AccAddress, l *ledger) error {
		candidate, err := s.Has(key(prefixCandidate, who))
		if err != nil || candidate != (l.Role == roleCandidate) {
			return fmt.Errorf("%s: candidate %v, role %s, %v", who, candidate, l.Role, err)
		}
		if candidate {
			if err := a.checkKey(who); err != nil {
				return err
			}
		}
		if (l.Seq > 0) != (l.Role == roleNominator) {
			return fmt.Errorf("%s: place %d, role %s", who, l.Seq, l.Role)
		}
		if l.Seq == 0 {
			return nil
		}
		listed++
		at, err := s.Get(key(prefixList, l.place()))
		if err != nil || !bytes.Equal(at, who) || int(l.Bag) != a.thresholds.Bag(l.Active) {
			return fmt.Errorf("%s is not in its place: %x, %v", who, at, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	entries := 0
	err = kv.Each(s, []byte(prefixList), func(_, _ []byte) (bool, error) { entries++; return true, nil })
	if err != nil || entries != listed {
		return fmt.Errorf("%d entries for %d nominators, %v", entries, listed, err)
	}
	return nil
}

// checkSlashes: every staker knows how many slashes wait for it.
func (a *auditor) checkSlashes() error {
	waiting := map[string]uint32{}
	err := kv.Each(a.kv(a.ctx), []byte(prefixSlashPage), func(_, b []byte) (bool, error) {
		list, err := parseShares(b)
		for _, h := range list {
			waiting[string(h.Staker)]++
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return a.ledgers(func(who sdk.AccAddress, l *ledger) error {
		if l.Slashes != waiting[string(who)] {
			return fmt.Errorf("%s counts %d slashes of %d", who, l.Slashes, waiting[string(who)])
		}
		return nil
	})
}
