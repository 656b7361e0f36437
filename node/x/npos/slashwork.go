package npos

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

// workSlashes does a block's part of the slashes: it takes back what was cancelled,
// computes what is reported, in order, then applies what is due.
func (k *Keeper) workSlashes(ctx sdk.Context, active uint64) error {
	for range pagesPerBlock {
		var id uint64
		var due *slash
		err := k.eachSlash(ctx, func(n uint64, s *slash) (bool, error) {
			if s.State == slashCancelling {
				id, due = n, s
				return false, nil
			}
			if s.State == slashComputing && (due == nil || due.State != slashComputing) {
				id, due = n, s
			}
			if due == nil && s.State != slashFailed && (s.State != slashWaiting || s.Applies <= active) {
				id, due = n, s
			}
			return true, nil
		})
		if err != nil || due == nil {
			return err
		}
		if err := k.workSlash(ctx, id, *due); err != nil {
			// A chain goes on without a slash rather than stop for it.
			emit(ctx, "slash_failed", "id", fmt.Sprint(id), "error", err.Error())
			if due.State == slashComputing {
				due.Page, due.Pages = 0, max(1, due.Page) // what there is to cancel
			}
			due.State = slashFailed
			if err := k.setSlash(ctx, id, due); err != nil {
				return err
			}
		}
	}
	return nil
}

// workSlash does a page of a slash, or nothing when it fails.
func (k *Keeper) workSlash(ctx sdk.Context, id uint64, s slash) error {
	cached, write := ctx.CacheContext()
	work := k.applyPage
	switch s.State {
	case slashComputing:
		work = k.computePage
	case slashWaiting:
		s.State = slashApplying
	}
	if err := work(cached, id, &s); err != nil {
		return err
	}
	write()
	return nil
}

// computePage works out what a page of an exposure loses by a slash.
func (k *Keeper) computePage(ctx context.Context, id uint64, s *slash) error {
	list, err := k.exposed(ctx, s)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return ErrNoSeat.Wrapf("%s in era %d", s.Validator, s.Era)
	}
	var out []share
	for _, h := range list {
		extra, err := k.owes(ctx, s, h)
		if err != nil {
			return err
		}
		if extra.IsZero() {
			continue
		}
		l, err := k.ledger(ctx, h.Staker)
		if err != nil {
			return err
		}
		if l == nil {
			continue // nothing is left to take
		}
		l.Slashes++
		if err := k.setLedger(ctx, h.Staker, l); err != nil {
			return err
		}
		out = append(out, share{h.Staker, extra})
		s.Amount, s.Stakers = s.Amount.SaturatingAdd(extra), s.Stakers+1
	}
	if err := k.kv(ctx).Set(key(prefixSlashPage, u64(id), u32(s.Page)), marshalShares(out)); err != nil {
		return err
	}
	if s.Page++; s.Page == s.Pages {
		s.Page, s.State = 0, slashWaiting
		emit(ctx, "slash", "id", fmt.Sprint(id), "validator", s.Validator.String(), "era", fmt.Sprint(s.Era), "applies", fmt.Sprint(s.Applies), "amount", s.Amount.String())
	}
	return k.setSlash(ctx, id, s)
}

// exposed are the stakers in the page of an exposure that a slash has come to; nobody
// when the era is forgotten.
func (k *Keeper) exposed(ctx context.Context, s *slash) ([]share, error) {
	x, err := k.exposure(ctx, s.Era, s.Validator)
	if err != nil || x == nil {
		return nil, err
	}
	list, err := k.page(ctx, s.Era, s.Validator, s.Page)
	if err == nil && s.Page == 0 {
		list = append([]share{{s.Validator, x.Own}}, list...)
	}
	return list, err
}

// owes is what a staker loses by a slash beyond what earlier ones took: by its
// exposure, and by the spans of package npos/era.
func (k *Keeper) owes(ctx context.Context, s *slash, h share) (npos.U128, error) {
	more := s.of(h.Amount)
	if more.IsZero() {
		return npos.U128{}, nil
	}
	kvs := k.kv(ctx)
	taken := key(prefixTaken, u64(s.Era), h.Staker)
	var total npos.U128
	if list, err := read(kvs, taken, parseShares); err != nil {
		return total, err
	} else if len(list) == 1 {
		total = list[0].Amount
	}
	total = total.SaturatingAdd(more)
	if err := kvs.Set(taken, marshalShares([]share{{h.Staker, total}})); err != nil {
		return total, err
	}
	spans, err := read(kvs, key(prefixSpans, h.Staker), parseSpans)
	if err != nil {
		return total, err
	}
	if spans == nil {
		spans = &era.Spans{}
	}
	p, err := k.Params(ctx)
	if err != nil {
		return total, err
	}
	spans.Prune(min(s.Era, s.Reported-min(s.Reported, p.UnbondingEras)))
	if len(spans.List) > 0 && s.Era < spans.List[0].Start {
		// Governance has lengthened the period: what was paid that long ago is forgotten,
		// and nobody pays twice.
		return npos.U128{}, nil
	}
	extra, err := spans.Slash(s.Era, s.Reported, total)
	if err != nil {
		return total, err
	}
	return extra, kvs.Set(key(prefixSpans, h.Staker), marshalSpans(spans))
}

// of is a slash's part of an exposure.
func (s *slash) of(a npos.U128) npos.U128 {
	at := func(fraction uint32) npos.U128 {
		q, _ := npos.MulDiv(a, npos.U64(uint64(fraction)), npos.U64(npos.Billion))
		return q
	}
	return at(s.To).SaturatingSub(at(s.From))
}

// undo takes back what a page of a slash that is cancelled recorded: list is what it
// would have taken.
func (k *Keeper) undo(ctx context.Context, s *slash, list []share) error {
	kvs := k.kv(ctx)
	for _, h := range list {
		at := key(prefixSpans, h.Staker)
		spans, err := read(kvs, at, parseSpans)
		if err != nil {
			return err
		}
		if spans == nil {
			continue
		}
		spans.Undo(s.Era, h.Amount)
		if err := kvs.Set(at, marshalSpans(spans)); err != nil {
			return err
		}
	}
	exposed, err := k.exposed(ctx, s)
	if err != nil {
		return err
	}
	for _, h := range exposed {
		taken := key(prefixTaken, u64(s.Era), h.Staker)
		was, err := read(kvs, taken, parseShares)
		if err != nil {
			return err
		}
		if len(was) != 1 {
			continue // the era is being forgotten
		}
		was[0].Amount = was[0].Amount.SaturatingSub(s.of(h.Amount))
		if err := kvs.Set(taken, marshalShares(was)); err != nil {
			return err
		}
	}
	return nil
}

// applyPage takes a page of a slash from its stakers, or lets them off.
func (k *Keeper) applyPage(ctx context.Context, id uint64, s *slash) error {
	pageKey := key(prefixSlashPage, u64(id), u32(s.Page))
	list, err := read(k.kv(ctx), pageKey, parseShares)
	if err != nil {
		return err
	}
	if s.State == slashCancelling {
		if err := k.undo(ctx, s, list); err != nil {
			return err
		}
	}
	var all npos.U128
	for _, h := range list {
		l, err := k.ledger(ctx, h.Staker)
		if err != nil {
			return err
		}
		if l == nil || l.Slashes == 0 {
			return fmt.Errorf("npos: slash %d of %s, who has none", id, h.Staker)
		}
		l.Slashes--
		if s.State == slashApplying {
			all = all.SaturatingAdd(l.take(h.Amount))
		}
		if err := k.place(ctx, h.Staker, l); err != nil {
			return err
		}
	}
	if err := k.toTreasury(ctx, ModuleName, all); err != nil {
		return err
	}
	if err := k.kv(ctx).Delete(pageKey); err != nil {
		return err
	}
	if !all.IsZero() {
		emit(ctx, "slashed", "id", fmt.Sprint(id), "amount", all.String())
	}
	if s.Page++; s.Page == s.Pages {
		return k.kv(ctx).Delete(key(prefixSlash, u64(id)))
	}
	return k.setSlash(ctx, id, s)
}

// CancelSlash drops slashes that wait, or that failed; governance only.
func (k *Keeper) CancelSlash(ctx context.Context, m *types.MsgCancelSlash) (*types.MsgCancelSlashResponse, error) {
	if m.Authority != k.authority {
		return nil, ErrAuthority.Wrapf("not %q", clip(m.Authority))
	}
	if len(m.Ids) == 0 {
		return nil, ErrSlash.Wrap("none is named")
	}
	// The last first: a later slash of a validator begins where an earlier one ends.
	ids := slices.Clone(m.Ids)
	slices.SortFunc(ids, func(a, b uint64) int { return cmp.Compare(b, a) })
	for _, id := range ids {
		s, err := read(k.kv(ctx), key(prefixSlash, u64(id)), parseSlash)
		if err != nil {
			return nil, err
		}
		if s == nil || s.State != slashWaiting && s.State != slashFailed {
			return nil, ErrSlash.Wrapf("number %d is not waiting", id)
		}
		s.State = slashCancelling
		if err := k.setSlash(ctx, id, s); err != nil {
			return nil, err
		}
		if err := k.forgive(ctx, s); err != nil {
			return nil, err
		}
		emit(ctx, "slash_cancelled", "id", fmt.Sprint(id), "validator", s.Validator.String())
	}
	return &types.MsgCancelSlashResponse{}, nil
}

// forgive makes a validator that was accused wrongly liable for its other offences
// again, and not for this one.
func (k *Keeper) forgive(ctx context.Context, s *slash) error {
	x, err := k.exposure(ctx, s.Era, s.Validator)
	if err != nil || x == nil {
		return err
	}
	if x.Slashed == s.To {
		x.Slashed = s.From
		if err := k.setExposure(ctx, s.Era, s.Validator, x); err != nil {
			return err
		}
	}
	if s.Height == 0 {
		return nil
	}
	e, err := k.period(ctx, s.Era)
	if err != nil {
		return err
	}
	if err := k.kv(ctx).Delete(key(string(e.session(s.Era, s.Height)), s.Validator)); err != nil {
		return err
	}
	return k.kv(ctx).Set(key(prefixForgiven, u64(s.Era), u64(s.Height), s.Validator), []byte{1})
}
