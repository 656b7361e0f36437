package npos

import (
	"bytes"
	"context"

	sdk "github.com/cosmos/cosmos-sdk/types"
)

// The list of nominators: in bags of about the same stake, the largest first, and
// within a bag in the order in which they came to it. Bonding a little more changes
// the ledger alone.

// place stores a ledger and keeps the list in step with it.
func (k *Keeper) place(ctx context.Context, who sdk.AccAddress, l *ledger) error {
	s := k.kv(ctx)
	bag := uint16(k.thresholds.Bag(l.Active))
	if listed := l.Role == roleNominator; listed && l.Seq > 0 && l.Bag == bag || !listed && l.Seq == 0 {
		return k.setLedger(ctx, who, l)
	}
	var from, to []byte
	if l.Seq > 0 {
		from = l.place()
		if err := s.Delete(key(prefixList, from)); err != nil {
			return err
		}
	}
	l.Bag, l.Seq = 0, 0
	if l.Role == roleNominator {
		seq, err := k.next(ctx, keySequence)
		if err != nil {
			return err
		}
		l.Bag, l.Seq = bag, seq
		to = l.place()
		if err := s.Set(key(prefixList, to), who); err != nil {
			return err
		}
	}
	if err := k.setLedger(ctx, who, l); err != nil {
		return err
	}
	return k.moved(ctx, who, l, from, to)
}

// place is a nominator's key in the list: the last bag first.
func (l *ledger) place() []byte { return append(u16(^l.Bag), u64(l.Seq)...) }

// moved keeps a snapshot that is being taken whole while the list changes under it:
// nobody is read twice, and nobody who was in the list throughout is left out.
func (k *Keeper) moved(ctx context.Context, who sdk.AccAddress, l *ledger, from, to []byte) error {
	x, err := k.progress(ctx)
	if err != nil || x.Phase != phaseSnapshot {
		return err
	}
	passed := func(place []byte) bool { return place != nil && bytes.Compare(place, x.Cursor) <= 0 }
	s := k.kv(ctx)
	mark := key(prefixMoved, who)
	if passed(from) {
		return s.Set(mark, []byte{1})
	}
	if !passed(to) {
		return nil
	}
	if was, err := s.Has(mark); err != nil || was {
		return err
	}
	if err := s.Set(mark, []byte{1}); err != nil {
		return err
	}
	if x.Voters >= x.Limit {
		return nil
	}
	list, err := read(s, keySnapshot, parseCandidates)
	if err != nil {
		return err
	}
	v := numbered(list).vote(who, l)
	if len(v.Targets) == 0 {
		return nil
	}
	if err := s.Set(key(prefixExtra, u32(x.Extras)), marshalVoters([]voter{v})); err != nil {
		return err
	}
	x.Extras++
	x.Voters++
	return k.setProgress(ctx, x)
}

// numbers are the candidates of a snapshot by account.
type numbers map[string]uint16

func numbered(list []candidate) numbers {
	n := make(numbers, len(list))
	for i, c := range list {
		n[string(c.Operator)] = uint16(i)
	}
	return n
}

// vote is a nominator's entry in a snapshot, without the targets that are no
// candidates any more. Whoever stands in the snapshot votes for itself already, and has
// no other vote if it became a nominator since: its stake counts once.
func (n numbers) vote(who sdk.AccAddress, l *ledger) voter {
	v := voter{Staker: who, Stake: l.Active}
	if _, stands := n[string(who)]; stands || l.Active.IsZero() {
		return v
	}
	for _, t := range l.Targets {
		if i, ok := n[string(t)]; ok {
			v.Targets = append(v.Targets, i)
		}
	}
	return v
}
