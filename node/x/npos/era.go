package npos

import (
	"context"
	"fmt"

	"cosmossdk.io/math"

	"github.com/cosmos/cosmos-sdk/crypto/keys/ed25519"
	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/npos"
)

// period returns what is kept of an era.
func (k *Keeper) period(ctx context.Context, e uint64) (*period, error) {
	p, err := read(k.kv(ctx), key(prefixEra, u64(e)), parsePeriod)
	if err == nil && p == nil {
		err = ErrEra.Wrapf("%d", e)
	}
	return p, err
}

func (k *Keeper) setPeriod(ctx context.Context, e uint64, p *period) error {
	return k.kv(ctx).Set(key(prefixEra, u64(e)), p.marshal())
}

func (k *Keeper) exposure(ctx context.Context, e uint64, who sdk.AccAddress) (*exposure, error) {
	return read(k.kv(ctx), key(prefixExposure, u64(e), who), parseExposure)
}

func (k *Keeper) setExposure(ctx context.Context, e uint64, who sdk.AccAddress, x *exposure) error {
	return k.kv(ctx).Set(key(prefixExposure, u64(e), who), x.marshal())
}

func (k *Keeper) seats(ctx context.Context, e uint64) ([]seat, error) {
	return read(k.kv(ctx), key(prefixSeats, u64(e)), parseSeats)
}

// EndBlock does the block's part of what is to do, and begins an era when its time
// has come. It runs before x/staking's, which tells CometBFT.
func (k *Keeper) EndBlock(ctx sdk.Context) error {
	active, err := k.Active(ctx)
	if err != nil || active == 0 {
		return err
	}
	x, err := k.progress(ctx)
	if err != nil {
		return err
	}
	e, err := k.period(ctx, active)
	if err != nil {
		return err
	}
	if x.Phase == phaseReady && uint64(ctx.BlockHeight()) >= e.End {
		return k.rotate(ctx, active, e, x)
	}
	if err := k.elect(ctx, active, x); err != nil {
		return err
	}
	if err := k.workSlashes(ctx, active); err != nil {
		return err
	}
	cached, write := ctx.CacheContext()
	if err := k.prune(cached, active); err != nil {
		// Nothing of what goes on needs an old era to be forgotten.
		emit(ctx, "prune_failed", "error", err.Error())
		return nil
	}
	write()
	return nil
}

// Begin elects and begins the first era, in one block, of a chain that has none: at
// genesis, after its transactions.
func (k *Keeper) Begin(ctx sdk.Context) error {
	if active, err := k.Active(ctx); err != nil || active > 0 {
		return err
	}
	x := &progress{}
	if err := k.beginSnapshot(ctx, x); err != nil {
		return err
	}
	for x.Phase != phaseReady {
		var err error
		switch x.Phase {
		case phaseSnapshot:
			err = k.snapshot(ctx, x)
		case phaseElection:
			err = k.count(ctx, 0, x)
		case phaseExposures:
			err = k.expose(ctx, 1, x)
		}
		if err != nil {
			return fmt.Errorf("first election: %w", err)
		}
	}
	return k.activate(ctx, 1, x)
}

// rotate ends the active era and begins the next.
func (k *Keeper) rotate(ctx sdk.Context, active uint64, e *period, x *progress) error {
	if err := k.issue(ctx, active, e); err != nil {
		return err
	}
	return k.activate(ctx, active+1, x)
}

// issue mints what the era that ends has earned.
func (k *Keeper) issue(ctx sdk.Context, n uint64, e *period) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	supply, err := natural(k.bank.GetSupply(ctx, k.denom).Amount)
	if err != nil {
		return err
	}
	millis := uint64(max(0, ctx.BlockTime().UnixMilli()-e.Time))
	staked := e.Staked
	if supply.Less(staked) { // what was slashed and spent since may have been burnt
		staked = supply
	}
	stakers, treasury, err := p.curve().Issue(staked, supply, min(millis, p.MaxEraSeconds*1000))
	if err != nil {
		return err
	}
	if all := stakers.SaturatingAdd(treasury); !all.IsZero() {
		if err := k.bank.MintCoins(ctx, RewardsName, k.coins(all)); err != nil {
			return err
		}
	}
	if err := k.toTreasury(ctx, RewardsName, treasury); err != nil {
		return err
	}
	e.Issued = stakers
	emit(ctx, "issued", "era", fmt.Sprint(n), "stakers", stakers.String(), "treasury", treasury.String())
	return k.setPeriod(ctx, n, e)
}

// toTreasury gives what a module account holds to the community pool.
func (k *Keeper) toTreasury(ctx context.Context, module string, a npos.U128) error {
	if a.IsZero() {
		return nil
	}
	return k.treasury.FundCommunityPool(ctx, k.coins(a), k.accounts.GetModuleAddress(module))
}

// activate begins an era whose exposures are written.
func (k *Keeper) activate(ctx sdk.Context, n uint64, x *progress) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	h := uint64(ctx.BlockHeight())
	start := h + uint64(sdk.ValidatorUpdateDelay) + 1
	if n == 1 { // the genesis set signs from the first block on
		start = h
	}
	e := &period{Begun: h, Start: start, End: h + p.EraBlocks(), Session: p.SessionBlocks, Time: ctx.BlockTime().UnixMilli(), Staked: x.Staked}
	if err := k.setPeriod(ctx, n, e); err != nil {
		return err
	}
	seats, err := k.seats(ctx, n)
	if err != nil {
		return err
	}
	if err := k.setPower(ctx, n, seats); err != nil {
		return err
	}
	s := k.kv(ctx)
	if err := s.Set(key(prefixPoints, u64(n)), marshalPoints(make([]uint64, len(seats)))); err != nil {
		return err
	}
	if err := s.Set(keyActive, u64(n)); err != nil {
		return err
	}
	emit(ctx, "era", "era", fmt.Sprint(n), "seats", fmt.Sprint(len(seats)), "staked", x.Staked.String())
	*x = progress{}
	return k.endElection(ctx, x)
}

// setPower makes x/staking's validators those of an era, with the power of their
// exposures. The delegations are this module's, in PowerDenom: what stands behind a
// validator is counted there and held here.
func (k *Keeper) setPower(ctx sdk.Context, n uint64, seats []seat) error {
	old, err := k.seats(ctx, n-1)
	if err != nil {
		return err
	}
	d := pools{before: map[string]npos.U128{}, after: make(map[string]npos.U128, len(seats))}
	for _, s := range seats {
		x, err := k.exposure(ctx, n, s.Operator)
		if err != nil {
			return err
		}
		d.after[string(s.Operator)] = x.Total
	}
	for _, s := range old {
		x, err := k.exposure(ctx, n-1, s.Operator)
		if err != nil {
			return err
		}
		d.before[string(s.Operator)] = x.Total
		if x.Disabled { // an era's fault ends with it
			if err := k.staking.Unjail(ctx, s.Cons[:]); err != nil {
				return err
			}
		}
		if _, stays := d.after[string(s.Operator)]; !stays {
			if err := k.delegate(ctx, s.Operator, &d); err != nil {
				return err
			}
		}
	}
	for _, s := range seats {
		if err := k.delegate(ctx, s.Operator, &d); err != nil {
			return err
		}
	}
	return k.settle(ctx, &d)
}

// pools is the power before and after a change of era, and what the change adds to or
// takes from each of x/staking's pools.
type pools struct {
	before, after map[string]npos.U128
	add, take     [2]npos.U128 // not bonded, bonded
}

// delegate changes the delegation to one validator from before to after.
func (k *Keeper) delegate(ctx sdk.Context, op sdk.AccAddress, d *pools) error {
	before, after := d.before[string(op)], d.after[string(op)]
	if before == after {
		return nil
	}
	v, err := k.stakingValidator(ctx, op)
	if err != nil {
		return err
	}
	pool, status := 0, stakingtypes.Unbonded
	if v.IsBonded() {
		pool, status = 1, stakingtypes.Bonded
	}
	self := k.accounts.GetModuleAddress(ModuleName)
	if before.Less(after) {
		more := after.SaturatingSub(before)
		d.add[pool] = d.add[pool].SaturatingAdd(more)
		_, err = k.staking.Delegate(ctx, self, integer(more), status, v, false)
		return err
	}
	less := before.SaturatingSub(after)
	d.take[pool] = d.take[pool].SaturatingAdd(less)
	_, err = k.staking.Unbond(ctx, self, sdk.ValAddress(op), math.LegacyNewDecFromInt(integer(less)))
	return err
}

// settle makes x/staking's pools hold the power of their validators.
func (k *Keeper) settle(ctx sdk.Context, d *pools) error {
	for i, pool := range []string{stakingtypes.NotBondedPoolName, stakingtypes.BondedPoolName} {
		if d.take[i].Less(d.add[i]) {
			more := coinsOf(PowerDenom, d.add[i].SaturatingSub(d.take[i]))
			if err := k.bank.MintCoins(ctx, ModuleName, more); err != nil {
				return err
			}
			if err := k.bank.SendCoinsFromModuleToModule(ctx, ModuleName, pool, more); err != nil {
				return err
			}
		} else if d.add[i].Less(d.take[i]) {
			if err := k.bank.BurnCoins(ctx, pool, coinsOf(PowerDenom, d.take[i].SaturatingSub(d.add[i]))); err != nil {
				return err
			}
		}
	}
	return nil
}

// stakingValidator returns x/staking's record of an operator, which it makes for one
// that is new there.
func (k *Keeper) stakingValidator(ctx sdk.Context, op sdk.AccAddress) (v stakingtypes.Validator, err error) {
	val := sdk.ValAddress(op)
	v, err = k.staking.GetValidator(ctx, val)
	if err == nil || !stakingtypes.ErrNoValidatorFound.Is(err) {
		return v, err
	}
	pub, err := k.kv(ctx).Get(key(prefixOperator, op))
	if err != nil {
		return v, err
	}
	v, err = stakingtypes.NewValidator(val.String(), &ed25519.PubKey{Key: pub}, stakingtypes.Description{})
	if err != nil {
		return v, err
	}
	v.MinSelfDelegation = math.OneInt()
	if err := k.staking.SetValidator(ctx, v); err != nil {
		return v, err
	}
	if err := k.staking.SetValidatorByConsAddr(ctx, v); err != nil {
		return v, err
	}
	if err := k.staking.SetNewValidatorByPowerIndex(ctx, v); err != nil {
		return v, err
	}
	return v, k.staking.Hooks().AfterValidatorCreated(ctx, val)
}

// dropStakingValidator removes x/staking's record of an operator that changes its key
// or leaves.
func (k *Keeper) dropStakingValidator(ctx context.Context, op sdk.AccAddress) error {
	v, err := k.staking.GetValidator(ctx, sdk.ValAddress(op))
	if stakingtypes.ErrNoValidatorFound.Is(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !v.IsUnbonded() || v.Tokens.IsPositive() {
		return ErrKey.Wrapf("it was used until %s ago: try again later", stakingUnbonding)
	}
	return k.staking.RemoveValidator(ctx, sdk.ValAddress(op))
}
