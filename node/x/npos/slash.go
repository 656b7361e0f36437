package npos

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

// pagesPerBlock bounds how many pages of exposures a block works through for slashes.
const pagesPerBlock = 2

// equivocated takes the report that the owner of a consensus key signed two blocks of
// one height. Whoever did so in the same session of the same era pays the more, the
// more they were. Reports that nobody can be slashed for any more change nothing.
func (k *Keeper) equivocated(ctx context.Context, cons []byte, height int64) error {
	active, p, who, err := k.accused(ctx, cons)
	if err != nil || who == nil {
		return err
	}
	n, e, err := k.eraAt(ctx, active, uint64(max(0, height)))
	if err != nil || n == 0 || n+p.UnbondingEras <= active {
		return err
	}
	x, err := k.exposure(ctx, n, who)
	if err != nil || x == nil {
		return err
	}
	s := k.kv(ctx)
	if forgiven, err := s.Has(key(prefixForgiven, u64(n), u64(uint64(height)), who)); err != nil || forgiven {
		return err
	}
	session := e.session(n, uint64(height))
	if again, err := s.Has(key(string(session), who)); err != nil || again {
		return err // two reports on one session are one offence
	}
	if err := s.Set(key(string(session), who), []byte{1}); err != nil {
		return err
	}
	seats, err := k.seats(ctx, n)
	if err != nil {
		return err
	}
	var offenders []sdk.AccAddress
	err = kv.Each(s, session, func(op, _ []byte) (bool, error) {
		offenders = append(offenders, append(sdk.AccAddress(nil), op...))
		return true, nil
	})
	if err != nil {
		return err
	}
	fraction := era.EquivocationFraction(uint32(len(offenders)), uint32(len(seats)))
	emit(ctx, "equivocation", "validator", who.String(), "era", fmt.Sprint(n), "height", fmt.Sprint(height), "fraction", fmt.Sprint(fraction))
	for _, op := range offenders {
		at := uint64(height)
		if !op.Equals(who) {
			at = 0
		}
		if err := k.report(ctx, op, n, active, at, fraction, &p); err != nil {
			return err
		}
	}
	return k.disable(ctx, active, who)
}

// session is the prefix of the offenders of a height's session, in the era n.
func (e *period) session(n, height uint64) []byte {
	return key(prefixOffender, u64(n), u64((height-e.Start)/max(1, e.Session)))
}

// silent takes the report that the owner of a consensus key does not sign. That costs
// no stake: who does not sign earns nothing, and loses the seat for the era.
func (k *Keeper) silent(ctx context.Context, cons []byte) error {
	active, _, who, err := k.accused(ctx, cons)
	if err != nil || who == nil {
		return err
	}
	emit(ctx, "silent", "validator", who.String())
	return k.disable(ctx, active, who)
}

func (k *Keeper) accused(ctx context.Context, cons []byte) (active uint64, p Params, who sdk.AccAddress, err error) {
	if who, err = k.kv(ctx).Get(key(prefixKey, cons)); err != nil {
		return
	}
	if active, err = k.Active(ctx); err != nil {
		return
	}
	p, err = k.Params(ctx)
	return
}

// eraAt is the era whose validators signed a height; 0 when it is not kept.
func (k *Keeper) eraAt(ctx context.Context, active, height uint64) (uint64, *period, error) {
	for n := active; n > 0; n-- {
		e, err := read(k.kv(ctx), key(prefixEra, u64(n)), parsePeriod)
		if err != nil || e == nil {
			return 0, nil, err
		}
		if e.Start <= height {
			return n, e, nil
		}
	}
	return 0, nil, nil
}

// report queues the slash of a validator for an era up to a fraction, unless it was
// slashed by as much already.
func (k *Keeper) report(ctx context.Context, who sdk.AccAddress, n, active, height uint64, fraction uint32, p *Params) error {
	x, err := k.exposure(ctx, n, who)
	if err != nil || x == nil || fraction <= x.Slashed {
		return err
	}
	id, err := k.next(ctx, keySlashSeq)
	if err != nil {
		return err
	}
	sl := &slash{Validator: who, Era: n, Reported: active, Applies: active + p.SlashDeferEras, Height: height, From: x.Slashed, To: fraction, Pages: x.pages()}
	x.Slashed = fraction
	if err := k.setExposure(ctx, n, who, x); err != nil {
		return err
	}
	return k.setSlash(ctx, id, sl)
}

func (k *Keeper) setSlash(ctx context.Context, id uint64, s *slash) error {
	return k.kv(ctx).Set(key(prefixSlash, u64(id)), s.marshal())
}

// disable takes a validator of the active era out of the set that signs until the era
// ends, as long as fewer than a third are: more could be the work of few, who would
// then decide alone.
func (k *Keeper) disable(ctx context.Context, active uint64, who sdk.AccAddress) error {
	x, err := k.exposure(ctx, active, who)
	if err != nil || x == nil || x.Disabled {
		return err
	}
	seats, err := k.seats(ctx, active)
	if err != nil {
		return err
	}
	disabled := uint32(0)
	for _, s := range seats {
		other, err := k.exposure(ctx, active, s.Operator)
		if err != nil {
			return err
		}
		if other.Disabled {
			disabled++
		}
	}
	if disabled >= era.DisablingLimit(uint32(len(seats))) {
		emit(ctx, "not_disabled", "validator", who.String(), "disabled", fmt.Sprint(disabled))
		return nil
	}
	x.Disabled = true
	if err := k.setExposure(ctx, active, who, x); err != nil {
		return err
	}
	emit(ctx, "disabled", "validator", who.String())
	return k.staking.Jail(ctx, x.Cons[:])
}

// eachSlash goes through the slashes by number.
func (k *Keeper) eachSlash(ctx context.Context, f func(id uint64, s *slash) (more bool, err error)) error {
	return kv.Each(k.kv(ctx), []byte(prefixSlash), func(id, b []byte) (bool, error) {
		s, err := parseSlash(b)
		if err != nil {
			return false, err
		}
		return f(binary.BigEndian.Uint64(id), s)
	})
}

// computing tells whether an offence is reported whose stakers are not known yet.
func (k *Keeper) computing(ctx context.Context) (yes bool, err error) {
	err = k.eachSlash(ctx, func(_ uint64, s *slash) (bool, error) {
		yes = yes || s.State == slashComputing
		return !yes, nil
	})
	return yes, err
}

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

// take removes up to an amount from a stake: from what is active first, then from what
// unbonds, the youngest first. It returns what it took.
func (l *ledger) take(a npos.U128) npos.U128 {
	rest := a
	cut := func(from *npos.U128) {
		part := rest
		if from.Less(part) {
			part = *from
		}
		*from, rest = from.SaturatingSub(part), rest.SaturatingSub(part)
	}
	cut(&l.Active)
	for i := len(l.Chunks) - 1; i >= 0 && !rest.IsZero(); i-- {
		cut(&l.Chunks[i].Amount)
		if l.Chunks[i].Amount.IsZero() {
			l.Chunks = append(l.Chunks[:i], l.Chunks[i+1:]...)
		}
	}
	return a.SaturatingSub(rest)
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
