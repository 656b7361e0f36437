package npos

import (
	"context"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/phala-go/phala/node/x/npos/types"

	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
)

// What other modules are given in place of x/staking and x/slashing, so that whatever
// they find is punished here and nowhere else.

// stakingUnbonding is how long x/staking keeps the record of a validator that lost its
// seat. Slashing does not depend on it.
const stakingUnbonding = time.Hour

// StakingParams are x/staking's parameters. They are fixed: nobody delegates there but
// this module, which counts seats and unbonds by itself.
func StakingParams() stakingtypes.Params {
	p := stakingtypes.DefaultParams()
	p.BondDenom, p.KeyRotationFee = PowerDenom, sdk.NewCoin(PowerDenom, math.OneInt())
	p.MaxValidators, p.HistoricalEntries, p.UnbondingTime = 2*maxSeats, 0, stakingUnbonding
	return p
}

// SlashingView is the x/staking that x/slashing is given: who misses too many blocks
// is disabled by x/npos, which decides by itself what else it costs.
type SlashingView struct {
	*stakingkeeper.Keeper
	NPoS *Keeper
}

// Slash does nothing.
func (SlashingView) Slash(context.Context, sdk.ConsAddress, int64, int64, math.LegacyDec) (math.Int, error) {
	return math.ZeroInt(), nil
}

// SlashWithInfractionReason does nothing.
func (SlashingView) SlashWithInfractionReason(context.Context, sdk.ConsAddress, int64, int64, math.LegacyDec, stakingtypes.Infraction) (math.Int, error) {
	return math.ZeroInt(), nil
}

// Jail reports that a validator does not sign.
func (v SlashingView) Jail(ctx context.Context, cons sdk.ConsAddress) error {
	return v.NPoS.silent(ctx, cons)
}

// Unjail is refused: a disabled validator is back when the era ends.
func (SlashingView) Unjail(context.Context, sdk.ConsAddress) error {
	return ErrNothing.Wrap("a disabled validator is back when the era ends")
}

// IsValidatorJailed is true for one that x/staking has forgotten: after a long halt its
// last votes may arrive later than that.
func (v SlashingView) IsValidatorJailed(ctx context.Context, cons sdk.ConsAddress) (bool, error) {
	jailed, err := v.Keeper.IsValidatorJailed(ctx, cons)
	if stakingtypes.ErrNoValidatorFound.Is(err) {
		return true, nil
	}
	return jailed, err
}

// EvidenceStaking is the x/staking that x/evidence is given: every consensus key that
// somebody answers for is a validator's, seated or not.
type EvidenceStaking struct {
	*stakingkeeper.Keeper
	NPoS *Keeper
}

// ValidatorByConsAddr finds the operator that answers for a key.
func (v EvidenceStaking) ValidatorByConsAddr(ctx context.Context, cons sdk.ConsAddress) (stakingtypes.ValidatorI, error) {
	op, err := v.NPoS.kv(ctx).Get(key(prefixKey, cons))
	if err != nil {
		return nil, err
	}
	if op == nil {
		return nil, stakingtypes.ErrNoValidatorFound
	}
	return stakingtypes.Validator{OperatorAddress: sdk.ValAddress(op).String(), Status: stakingtypes.Bonded}, nil
}

// EvidenceSlashing is the x/slashing that x/evidence is given.
type EvidenceSlashing struct{ NPoS *Keeper }

// IsTombstoned is never so: x/npos counts an offence once by itself.
func (EvidenceSlashing) IsTombstoned(context.Context, sdk.ConsAddress) bool { return false }

// HasValidatorSigningInfo is always so.
func (EvidenceSlashing) HasValidatorSigningInfo(context.Context, sdk.ConsAddress) bool { return true }

// Tombstone does nothing.
func (EvidenceSlashing) Tombstone(context.Context, sdk.ConsAddress) error { return nil }

// Slash does nothing.
func (EvidenceSlashing) Slash(context.Context, sdk.ConsAddress, math.LegacyDec, int64, int64) error {
	return nil
}

// SlashWithInfractionReason reports the offence; the fraction is x/npos's own.
func (v EvidenceSlashing) SlashWithInfractionReason(ctx context.Context, cons sdk.ConsAddress, _ math.LegacyDec, _, distribution int64, _ stakingtypes.Infraction) error {
	return v.NPoS.equivocated(ctx, cons, distribution+sdk.ValidatorUpdateDelay)
}

// SlashFractionDoubleSign is not used.
func (EvidenceSlashing) SlashFractionDoubleSign(context.Context) (math.LegacyDec, error) {
	return math.LegacyZeroDec(), nil
}

// Jail does nothing: the report disabled the validator.
func (EvidenceSlashing) Jail(context.Context, sdk.ConsAddress) error { return nil }

// JailUntil does nothing.
func (EvidenceSlashing) JailUntil(context.Context, sdk.ConsAddress, time.Time) error { return nil }

// TreasuryStaking is the x/staking that x/distribution is given, which is the treasury
// and owes validators nothing: nobody can pay it for one.
type TreasuryStaking struct{ *stakingkeeper.Keeper }

// Validator finds none.
func (TreasuryStaking) Validator(context.Context, sdk.ValAddress) (stakingtypes.ValidatorI, error) {
	return nil, stakingtypes.ErrNoValidatorFound
}

// GenesisStaking is the x/staking that x/genutil is given: after the genesis
// transactions the first era is elected.
type GenesisStaking struct {
	*stakingkeeper.Keeper
	NPoS *Keeper
}

// ApplyAndReturnValidatorSetUpdates elects, then returns the first validators.
func (v GenesisStaking) ApplyAndReturnValidatorSetUpdates(ctx context.Context) ([]abci.ValidatorUpdate, error) {
	if err := v.NPoS.Begin(sdk.UnwrapSDKContext(ctx)); err != nil {
		return nil, err
	}
	return v.Keeper.ApplyAndReturnValidatorSetUpdates(ctx)
}

// ValidateGenesisTx checks what a genesis transaction may be: one candidacy.
func ValidateGenesisTx(msgs []sdk.Msg) error {
	if len(msgs) != 1 {
		return ErrNothing.Wrapf("a genesis transaction of %d messages; it has one", len(msgs))
	}
	if _, ok := msgs[0].(*types.MsgValidate); !ok {
		return ErrRole.Wrapf("a genesis transaction is a MsgValidate, not a %T", msgs[0])
	}
	return nil
}
