package npos

import (
	"bytes"
	"fmt"
	"slices"

	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/npos"
)

// check tests what must hold after every block, from the stores alone.
func (e *env) check() {
	e.t.Helper()
	for _, f := range []func() error{e.checkTokens, e.checkRewards, e.checkPower, e.checkExposures, e.checkList, e.checkSlashes, e.checkSigners} {
		if err := f(); err != nil {
			e.t.Fatalf("height %d, era %d: %v", e.Height(), e.active(), err)
		}
	}
}

func (e *env) ledgers(f func(who sdk.AccAddress, l *ledger) error) error {
	return kv.Each(e.k.kv(e.Context()), []byte(prefixLedger), func(who, b []byte) (bool, error) {
		l, err := parseLedger(b)
		if err != nil {
			return false, err
		}
		return true, f(who, l)
	})
}

// checkTokens: the module's account holds every stake and nothing else.
func (e *env) checkTokens() error {
	var sum npos.U128
	err := e.ledgers(func(who sdk.AccAddress, l *ledger) error {
		sum = sum.SaturatingAdd(l.total())
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
	if held := e.balance(e.accounts.GetModuleAddress(ModuleName)); held != sum {
		return fmt.Errorf("stakes of %v, %v held", sum, held)
	}
	return nil
}

// checkRewards: the rewards' account holds what eras earned and did not pay.
func (e *env) checkRewards() error {
	var sum npos.U128
	err := kv.Each(e.k.kv(e.Context()), []byte(prefixEra), func(n, b []byte) (bool, error) {
		p, err := parsePeriod(b)
		if err != nil {
			return false, err
		}
		if p.pot().Less(p.Paid) {
			return false, fmt.Errorf("era %x paid %v of %v", n, p.Paid, p.pot())
		}
		if !p.Swept {
			sum = sum.SaturatingAdd(p.pot().SaturatingSub(p.Paid))
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	if held := e.balance(e.accounts.GetModuleAddress(RewardsName)); held != sum {
		return fmt.Errorf("rewards of %v, %v held", sum, held)
	}
	return nil
}

// checkPower: x/staking's delegations are the active era's exposures, in units that
// only its pools hold.
func (e *env) checkPower() error {
	ctx := e.Context()
	seats, err := e.k.seats(ctx, e.active())
	if err != nil {
		return err
	}
	var staked npos.U128
	for _, s := range seats {
		x, err := e.k.exposure(ctx, e.active(), s.Operator)
		if err != nil {
			return err
		}
		staked = staked.SaturatingAdd(x.Total)
		v, err := e.staking.GetValidator(ctx, sdk.ValAddress(s.Operator))
		if err != nil {
			return err
		}
		d, err := e.staking.GetDelegation(ctx, e.accounts.GetModuleAddress(ModuleName), sdk.ValAddress(s.Operator))
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
	all, err := e.staking.GetAllDelegations(ctx)
	if err != nil {
		return err
	}
	if len(all) != len(seats) {
		return fmt.Errorf("%d delegations, %d seats", len(all), len(seats))
	}
	p, err := e.k.period(ctx, e.active())
	if err != nil {
		return err
	}
	if p.Staked != staked {
		return fmt.Errorf("era stakes %v, exposures are %v", p.Staked, staked)
	}
	pools := math.ZeroInt()
	for _, name := range []string{stakingtypes.BondedPoolName, stakingtypes.NotBondedPoolName} {
		pools = pools.Add(e.bank.GetBalance(ctx, e.accounts.GetModuleAddress(name), PowerDenom).Amount)
	}
	if supply := e.bank.GetSupply(ctx, PowerDenom).Amount; !pools.Equal(integer(staked)) || !supply.Equal(pools) {
		return fmt.Errorf("power: supply %s, pools %s, staked %v", supply, pools, staked)
	}
	bonded := e.bank.GetBalance(ctx, e.accounts.GetModuleAddress(stakingtypes.BondedPoolName), PowerDenom).Amount
	sum := math.ZeroInt()
	vals, err := e.staking.GetAllValidators(ctx)
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

// checkExposures: pages add up to what their validator has, and nobody stands behind
// validators with more than can be taken from it: in every era that can be slashed.
func (e *env) checkExposures() error {
	ctx := e.Context()
	p, err := e.k.Params(ctx)
	if err != nil {
		return err
	}
	for n := e.active(); n > 0 && n+p.UnbondingEras > e.active(); n-- {
		behind := map[string]npos.U128{}
		seats, err := e.k.seats(ctx, n)
		if err != nil {
			return err
		}
		if !slices.IsSortedFunc(seats, func(a, b seat) int { return bytes.Compare(a.Operator, b.Operator) }) {
			return fmt.Errorf("seats of era %d are not in order", n)
		}
		for _, s := range seats {
			x, err := e.k.exposure(ctx, n, s.Operator)
			if err != nil {
				return err
			}
			sum, backers := x.Own, uint32(0)
			behind[string(s.Operator)] = behind[string(s.Operator)].SaturatingAdd(x.Own)
			for page := range x.pages() {
				list, err := e.k.page(ctx, n, s.Operator, page)
				if err != nil {
					return err
				}
				for _, h := range list {
					sum, backers = sum.SaturatingAdd(h.Amount), backers+1
					behind[string(h.Staker)] = behind[string(h.Staker)].SaturatingAdd(h.Amount)
				}
			}
			if sum != x.Total || backers != x.Backers || x.Total.Less(npos.U64(powerUnit)) {
				return fmt.Errorf("era %d: %s has %v of %d, pages %v of %d", n, s.Operator, x.Total, x.Backers, sum, backers)
			}
		}
		for who, a := range behind {
			spans, err := read(e.k.kv(ctx), key(prefixSpans, []byte(who)), parseSpans)
			if err != nil {
				return err
			}
			l, err := e.k.ledger(ctx, sdk.AccAddress(who))
			if err != nil {
				return err
			}
			if l == nil {
				l = &ledger{}
			}
			have := l.total()
			if spans != nil {
				for _, s := range spans.List {
					have = have.SaturatingAdd(s.Slashed)
				}
			}
			if have.Less(a) {
				return fmt.Errorf("era %d: %s stands with %v and has %v", n, sdk.AccAddress(who), a, have)
			}
		}
	}
	return nil
}

// checkList: the list holds every nominator once, in its bag.
func (e *env) checkList() error {
	s, listed := e.k.kv(e.Context()), 0
	err := e.ledgers(func(who sdk.AccAddress, l *ledger) error {
		candidate, err := s.Has(key(prefixCandidate, who))
		if err != nil || candidate != (l.Role == roleCandidate) {
			return fmt.Errorf("%s: candidate %v, role %s, %v", who, candidate, l.Role, err)
		}
		if (l.Seq > 0) != (l.Role == roleNominator) {
			return fmt.Errorf("%s: place %d, role %s", who, l.Seq, l.Role)
		}
		if l.Seq == 0 {
			return nil
		}
		listed++
		at, err := s.Get(key(prefixList, l.place()))
		if err != nil || !bytes.Equal(at, who) || int(l.Bag) != e.k.thresholds.Bag(l.Active) {
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
func (e *env) checkSlashes() error {
	waiting := map[string]uint32{}
	err := kv.Each(e.k.kv(e.Context()), []byte(prefixSlashPage), func(_, b []byte) (bool, error) {
		list, err := parseShares(b)
		for _, h := range list {
			waiting[string(h.Staker)]++
		}
		return true, err
	})
	if err != nil {
		return err
	}
	return e.ledgers(func(who sdk.AccAddress, l *ledger) error {
		if l.Slashes != waiting[string(who)] {
			return fmt.Errorf("%s counts %d slashes of %d", who, l.Slashes, waiting[string(who)])
		}
		return nil
	})
}

// checkSigners: from the second block after this one CometBFT's set is the seats that
// are not disabled, with the power of their exposures; a third are disabled at most.
func (e *env) checkSigners() error {
	if e.Height() == 0 {
		return nil
	}
	ctx, set := e.Context(), e.set(e.Height()+2)
	seats, err := e.k.seats(ctx, e.active())
	if err != nil {
		return err
	}
	disabled := 0
	for _, s := range seats {
		x, err := e.k.exposure(ctx, e.active(), s.Operator)
		if err != nil {
			return err
		}
		power, signs := set[string(s.Cons[:])]
		if signs == x.Disabled || signs && !integer(x.Total).QuoRaw(powerUnit).Equal(math.NewInt(power)) {
			return fmt.Errorf("%s signs %v with %d; disabled %v, exposure %v", s.Operator, signs, power, x.Disabled, x.Total)
		}
		if x.Disabled {
			disabled++
		}
	}
	if len(set)+disabled != len(seats) || disabled > 0 && 3*disabled >= len(seats) {
		return fmt.Errorf("%d sign, %d of %d seats are disabled", len(set), disabled, len(seats))
	}
	return nil
}
