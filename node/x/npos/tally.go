package npos

import (
	"context"

	"cosmossdk.io/collections"
	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	govkeeper "github.com/cosmos/cosmos-sdk/x/gov/keeper"
	v1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"

	"github.com/phala-go/phala/npos"
)

// Tally counts a proposal's votes by the exposures of the active era: a staker who
// voted has its own part of each, a validator's vote is that of the rest behind it.
func (k *Keeper) Tally(ctx context.Context, gov govkeeper.Keeper, proposal v1.Proposal) (voted math.LegacyDec, all math.Int, results map[v1.VoteOption]math.LegacyDec, err error) {
	voted, all = math.LegacyZeroDec(), math.ZeroInt()
	results = map[v1.VoteOption]math.LegacyDec{}
	for _, o := range []v1.VoteOption{v1.OptionYes, v1.OptionAbstain, v1.OptionNo, v1.OptionNoWithVeto} {
		results[o] = math.LegacyZeroDec()
	}
	votes, err := takeVotes(ctx, gov, proposal.Id)
	if err != nil {
		return voted, all, results, err
	}
	active, err := k.Active(ctx)
	if err != nil {
		return voted, all, results, err
	}
	seats, err := k.seats(ctx, active)
	if err != nil {
		return voted, all, results, err
	}
	add := func(options v1.WeightedVoteOptions, stake npos.U128) error {
		power := math.LegacyNewDecFromInt(integer(stake))
		for _, o := range options {
			weight, err := math.LegacyNewDecFromStr(o.Weight)
			if err != nil {
				return err
			}
			results[o.Option] = results[o.Option].Add(power.Mul(weight))
		}
		voted = voted.Add(power)
		return nil
	}
	for _, s := range seats {
		x, err := k.exposure(ctx, active, s.Operator)
		if err != nil {
			return voted, all, results, err
		}
		all = all.Add(integer(x.Total))
		if len(votes) == 0 {
			continue
		}
		rest := x.Total
		for page := range x.pages() {
			list, err := k.page(ctx, active, s.Operator, page)
			if err != nil {
				return voted, all, results, err
			}
			for _, h := range list {
				if o, ok := votes[string(h.Staker)]; ok {
					rest = rest.SaturatingSub(h.Amount)
					if err := add(o, h.Amount); err != nil {
						return voted, all, results, err
					}
				}
			}
		}
		if o, ok := votes[string(s.Operator)]; ok {
			if err := add(o, rest); err != nil {
				return voted, all, results, err
			}
		}
	}
	return voted, all, results, nil
}

// takeVotes removes a proposal's votes and returns them by account.
func takeVotes(ctx context.Context, gov govkeeper.Keeper, id uint64) (map[string]v1.WeightedVoteOptions, error) {
	votes := map[string]v1.WeightedVoteOptions{}
	var keys []collections.Pair[uint64, sdk.AccAddress]
	err := gov.Votes.Walk(ctx, collections.NewPrefixedPairRange[uint64, sdk.AccAddress](id), func(key collections.Pair[uint64, sdk.AccAddress], v v1.Vote) (bool, error) {
		votes[string(key.K2())] = v.Options
		keys = append(keys, key)
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := gov.Votes.Remove(ctx, key); err != nil {
			return nil, err
		}
	}
	return votes, nil
}
