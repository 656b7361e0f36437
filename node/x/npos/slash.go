package npos

import (
	"context"
	"encoding/binary"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
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
