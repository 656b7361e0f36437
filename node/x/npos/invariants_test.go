package npos

import (
	"errors"
	"fmt"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/npos"
)

// check tests what must hold after every block: what an audit finds in the stores, and
// what CometBFT was told.
func (e *env) check() {
	e.t.Helper()
	_, err := e.k.Audit(e.Context())
	if err == nil {
		err = errors.Join(e.checkCovered(), e.checkSigners())
	}
	if err != nil {
		e.t.Fatalf("height %d, era %d: %v", e.Height(), e.active(), err)
	}
}

// checkCovered: nobody stands behind validators with more than it has or was slashed by
// since, in every era that can be slashed. It is no part of an audit, which does not know
// what was taken, and because it does not hold for eras before governance made unbonding
// longer.
func (e *env) checkCovered() error {
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
		for _, s := range seats {
			x, err := e.k.exposure(ctx, n, s.Operator)
			if err != nil {
				return err
			}
			behind[string(s.Operator)] = behind[string(s.Operator)].SaturatingAdd(x.Own)
			for page := range x.pages() {
				list, err := e.k.page(ctx, n, s.Operator, page)
				if err != nil {
					return err
				}
				for _, h := range list {
					behind[string(h.Staker)] = behind[string(h.Staker)].SaturatingAdd(h.Amount)
				}
			}
		}
		for who, amount := range behind {
			l, err := e.k.ledger(ctx, sdk.AccAddress(who))
			if err != nil {
				return err
			}
			if l == nil {
				l = &ledger{}
			}
			have := l.total()
			for _, c := range e.losses[who] { // the era's election read its stake in the era before
				if c.Era+1 >= n {
					have = have.SaturatingAdd(c.Amount)
				}
			}
			if have.Less(amount) {
				return fmt.Errorf("era %d: %s stands with %v and has %v", n, sdk.AccAddress(who), amount, have)
			}
		}
	}
	return nil
}

// totals are all stakes.
func (e *env) totals(ctx sdk.Context) (map[string]npos.U128, error) {
	all := map[string]npos.U128{}
	return all, kv.Each(e.k.kv(ctx), []byte(prefixLedger), func(who, b []byte) (bool, error) {
		l, err := parseLedger(b)
		if err == nil {
			all[string(who)] = l.total()
		}
		return true, err
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
