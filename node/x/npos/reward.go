package npos

import (
	"context"
	"fmt"

	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

// BeginBlock takes the fees of the block before into the era's rewards and counts who
// signed it.
func (k *Keeper) BeginBlock(ctx sdk.Context) error {
	active, err := k.Active(ctx)
	if err != nil || active == 0 {
		return err
	}
	if err := k.takeFees(ctx, active); err != nil {
		return err
	}
	return k.countVotes(ctx, active, ctx.VoteInfos())
}

func (k *Keeper) takeFees(ctx sdk.Context, active uint64) error {
	fees, err := natural(k.bank.GetBalance(ctx, k.accounts.GetModuleAddress(k.fees), k.denom).Amount)
	if err != nil || fees.IsZero() {
		return err
	}
	if err := k.bank.SendCoinsFromModuleToModule(ctx, k.fees, RewardsName, k.coins(fees)); err != nil {
		return err
	}
	e, err := k.period(ctx, active)
	if err != nil {
		return err
	}
	e.Fees = e.Fees.SaturatingAdd(fees)
	return k.setPeriod(ctx, active, e)
}

// countVotes gives a point for each signature under the block before.
func (k *Keeper) countVotes(ctx sdk.Context, active uint64, votes []abci.VoteInfo) error {
	if len(votes) == 0 {
		return nil
	}
	seats, err := k.seats(ctx, active)
	if err != nil {
		return err
	}
	points, err := read(k.kv(ctx), key(prefixPoints, u64(active)), parsePoints)
	if err != nil {
		return err
	}
	number := make(map[[20]byte]int, len(seats))
	for i, s := range seats {
		number[s.Cons] = i
	}
	for _, v := range votes {
		if len(v.Validator.Address) != 20 || v.BlockIdFlag != cmtproto.BlockIDFlagCommit {
			continue
		}
		if i, ok := number[[20]byte(v.Validator.Address)]; ok {
			points[i]++
		}
	}
	return k.kv(ctx).Set(key(prefixPoints, u64(active)), marshalPoints(points))
}

// share is a validator's part of what an era has earned, by its points.
func (k *Keeper) share(ctx context.Context, n uint64, e *period, who sdk.AccAddress) (npos.U128, error) {
	seats, err := k.seats(ctx, n)
	if err != nil {
		return npos.U128{}, err
	}
	points, err := read(k.kv(ctx), key(prefixPoints, u64(n)), parsePoints)
	if err != nil {
		return npos.U128{}, err
	}
	var mine, all npos.U128
	for i, s := range seats {
		all = all.SaturatingAdd(npos.U64(points[i]))
		if s.Operator.Equals(who) {
			mine = npos.U64(points[i])
		}
	}
	return era.Part(e.pot(), mine, all)
}

// Payout pays the next unpaid page of a validator's rewards for an era. The first page
// pays the validator too: its commission, and what its own stake earned.
func (k *Keeper) Payout(ctx context.Context, m *types.MsgPayout) (*types.MsgPayoutResponse, error) {
	if _, err := k.account(m.Sender); err != nil {
		return nil, err
	}
	who, err := k.account(m.Validator)
	if err != nil {
		return nil, err
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	active, err := k.Active(ctx)
	if err != nil {
		return nil, err
	}
	if m.Era == 0 || m.Era >= active || m.Era+p.HistoryEras < active {
		return nil, ErrEra.Wrapf("%d; from %d to %d are paid", m.Era, oldest(active, &p), active-min(active, 1))
	}
	e, err := k.period(ctx, m.Era)
	if err != nil {
		return nil, err
	}
	x, err := k.exposure(ctx, m.Era, who)
	if err != nil {
		return nil, err
	}
	if x == nil {
		return nil, ErrNoSeat.Wrapf("%s in era %d", who, m.Era)
	}
	if x.Paid >= x.pages() || e.Swept {
		return nil, ErrPaid.Wrapf("%s in era %d", who, m.Era)
	}
	reward, err := k.share(ctx, m.Era, e, who)
	if err != nil {
		return nil, err
	}
	if reward.IsZero() {
		return nil, ErrNothing.Wrapf("%s earned nothing in era %d", who, m.Era)
	}
	list, err := k.page(ctx, m.Era, who, x.Paid)
	if err != nil {
		return nil, err
	}
	paid, err := k.payPage(ctx, who, x, reward, list)
	if err != nil {
		return nil, err
	}
	x.Paid++
	e.Paid = e.Paid.SaturatingAdd(paid)
	if e.pot().Less(e.Paid) {
		return nil, fmt.Errorf("npos: era %d pays %v of %v", m.Era, e.Paid, e.pot())
	}
	if err := k.setExposure(ctx, m.Era, who, x); err != nil {
		return nil, err
	}
	emit(ctx, "paid", "validator", who.String(), "era", fmt.Sprint(m.Era), "page", fmt.Sprint(x.Paid-1), "amount", paid.String())
	return &types.MsgPayoutResponse{Paid: paid.String(), Pages: x.pages() - x.Paid}, k.setPeriod(ctx, m.Era, e)
}

// oldest is the oldest era whose rewards can be paid.
func oldest(active uint64, p *Params) uint64 { return max(active-min(active, p.HistoryEras), 1) }

func (k *Keeper) page(ctx context.Context, e uint64, who sdk.AccAddress, page uint32) ([]share, error) {
	return read(k.kv(ctx), key(prefixPage, u64(e), sized(who), u32(page)), parseShares)
}

// payPage pays a page of an exposure and returns what it paid.
func (k *Keeper) payPage(ctx context.Context, who sdk.AccAddress, x *exposure, reward npos.U128, list []share) (paid npos.U128, err error) {
	commission, err := era.Part(reward, npos.U64(uint64(x.Commission)), npos.U64(npos.Billion))
	if err != nil {
		return paid, err
	}
	rest := reward.SaturatingSub(commission)
	pay := func(to sdk.AccAddress, stake, extra npos.U128) error {
		a, err := era.Part(rest, stake, x.Total)
		if err != nil {
			return err
		}
		if a = a.SaturatingAdd(extra); a.IsZero() {
			return nil
		}
		paid = paid.SaturatingAdd(a)
		return k.bank.SendCoinsFromModuleToAccount(ctx, RewardsName, to, k.coins(a))
	}
	if x.Paid == 0 {
		if err := pay(who, x.Own, commission); err != nil {
			return paid, err
		}
	}
	for _, s := range list {
		if err := pay(s.Staker, s.Amount, npos.U128{}); err != nil {
			return paid, err
		}
	}
	return paid, nil
}

// keysPerBlock bounds how much of old eras a block forgets.
const keysPerBlock = 64

// prune gives what an old era did not pay to the treasury, then forgets it.
func (k *Keeper) prune(ctx context.Context, active uint64) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	s := k.kv(ctx)
	var first uint64
	err = kv.Each(s, []byte(prefixEra), func(n, _ []byte) (bool, error) { first, err = parseU64(n); return false, err })
	if err != nil {
		return err
	}
	if first+p.HistoryEras >= active {
		return nil
	}
	if busy, err := k.computing(ctx); err != nil || busy {
		return err // it may read this era: governance can shorten history at any time
	}
	e, err := k.period(ctx, first)
	if err != nil {
		return err
	}
	if !e.Swept {
		left := e.pot().SaturatingSub(e.Paid)
		e.Swept = true
		emit(ctx, "swept", "era", fmt.Sprint(first), "amount", left.String())
		if err := k.toTreasury(ctx, RewardsName, left); err != nil {
			return err
		}
		return k.setPeriod(ctx, first, e)
	}
	for _, prefix := range []string{prefixExposure, prefixPage, prefixTaken, prefixOffender, prefixForgiven, prefixSeats, prefixPoints} {
		any := false
		prefix += string(u64(first))
		if err := kv.Each(s, []byte(prefix), func(_, _ []byte) (bool, error) { any = true; return false, nil }); err != nil {
			return err
		}
		if any {
			_, err := k.clear(ctx, prefix, keysPerBlock)
			return err
		}
	}
	return s.Delete(key(prefixEra, u64(first)))
}
