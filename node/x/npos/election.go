package npos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/npos"
)

// What a block does for the next era at most, in units of work. On the machine of the
// benchmark each takes ten to thirty milliseconds.
const (
	votersPerBlock = 500     // nominators read into the snapshot
	unitsPerBlock  = 400_000 // approvals and candidates looked at
	sharesPerBlock = 2_000   // entries of exposures written, or one validator's
	leftPerBlock   = 500     // entries of an election that is over forgotten
)

func (k *Keeper) progress(ctx context.Context) (*progress, error) {
	x, err := read(k.kv(ctx), keyProgress, parseProgress)
	if x == nil {
		x = &progress{}
	}
	return x, err
}

func (k *Keeper) setProgress(ctx context.Context, x *progress) error {
	return k.kv(ctx).Set(keyProgress, x.marshal())
}

// elect does one block's part of the election of the next era. It begins with the
// last session of the active one.
func (k *Keeper) elect(ctx sdk.Context, active uint64, x *progress) error {
	switch x.Phase {
	case phaseIdle:
		if left, err := k.forgetElection(ctx); err != nil || left {
			return err
		}
		e, err := k.period(ctx, active)
		if err != nil {
			return err
		}
		h := uint64(ctx.BlockHeight())
		if h+min(e.Session, e.End-e.Begun) < e.End || h < x.NotBefore {
			return nil
		}
		return k.beginSnapshot(ctx, x)
	case phaseSnapshot:
		return k.snapshot(ctx, x)
	case phaseElection:
		return k.count(ctx, active, x)
	case phaseExposures:
		return k.expose(ctx, active+1, x)
	}
	return nil
}

// beginSnapshot reads the candidates: those whose own stake is still large enough.
func (k *Keeper) beginSnapshot(ctx context.Context, x *progress) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	list, err := k.candidates(ctx, &p)
	if err != nil {
		return err
	}
	b := marshalCandidates(list)
	*x = progress{Phase: phaseSnapshot, Places: p.Seats, Balancing: p.BalancingIterations, Limit: p.MaxElectingVoters}
	// The hash names the whole input of the run that is kept in memory.
	x.Hash = sha256.Sum256(slices.Concat(b, u32(x.Places), u32(x.Balancing), u32(x.Limit)))
	if err := k.kv(ctx).Set(keySnapshot, b); err != nil {
		return err
	}
	return k.setProgress(ctx, x)
}

// candidates are those who would stand now, in the order of their accounts. Whoever
// was slashed below the minimum does not.
func (k *Keeper) candidates(ctx context.Context, p *Params) (list []candidate, err error) {
	s := k.kv(ctx)
	err = kv.Each(s, []byte(prefixCandidate), func(op, _ []byte) (bool, error) {
		l, err := k.ledger(ctx, op)
		if err != nil || l == nil || l.Active.Less(p.MinValidatorBond) {
			return true, err
		}
		pub, err := s.Get(key(prefixOperator, op))
		if err != nil {
			return false, err
		}
		list = append(list, candidate{Operator: slices.Clone(op), Cons: [20]byte(consAddress(pub)), Commission: l.Commission, Stake: l.Active})
		return true, nil
	})
	return list, err
}

// snapshot reads the next nominators, the largest first.
func (k *Keeper) snapshot(ctx context.Context, x *progress) error {
	s := k.kv(ctx)
	list, err := read(s, keySnapshot, parseCandidates)
	if err != nil {
		return err
	}
	number := numbered(list)
	var page []voter
	room, looked := uint32(0), 0
	if x.Voters < x.Limit {
		room = x.Limit - x.Voters
	}
	if room > 0 {
		err = k.eachNominator(ctx, x.Cursor, func(place []byte, who sdk.AccAddress, l *ledger) (bool, error) {
			looked++
			x.Cursor = slices.Clone(place)
			was, err := s.Has(key(prefixMoved, who))
			if err != nil {
				return false, err
			}
			if v := number.vote(who, l); !was && len(v.Targets) > 0 {
				page = append(page, v)
			}
			return looked < votersPerBlock && uint32(len(page)) < room, nil
		})
		if err != nil {
			return err
		}
	}
	if len(page) > 0 {
		b := marshalVoters(page)
		if err := s.Set(key(prefixVoters, u32(x.Pages)), b); err != nil {
			return err
		}
		x.Pages++
		x.Voters += uint32(len(page))
		x.Hash = sha256.Sum256(append(x.Hash[:], b...))
	}
	if looked < votersPerBlock {
		if err := k.endSnapshot(ctx, x); err != nil {
			return err
		}
	}
	return k.setProgress(ctx, x)
}

// eachNominator goes through the list after a place.
func (k *Keeper) eachNominator(ctx context.Context, after []byte, f func(place []byte, who sdk.AccAddress, l *ledger) (more bool, err error)) error {
	from := key(prefixList, after)
	if after != nil {
		from = append(from, 0)
	}
	it, err := k.kv(ctx).Iterator(from, kv.PrefixEnd([]byte(prefixList)))
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		who := sdk.AccAddress(it.Value())
		l, err := k.ledger(ctx, who)
		if err != nil {
			return err
		}
		more, err := f(it.Key()[len(prefixList):], who, l)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// endSnapshot closes the snapshot: who moved is part of it.
func (k *Keeper) endSnapshot(ctx context.Context, x *progress) error {
	s := k.kv(ctx)
	x.Phase = phaseElection
	h := sha256.New()
	h.Write(x.Hash[:])
	err := kv.Each(s, []byte(prefixExtra), func(_, v []byte) (bool, error) { h.Write(v); return true, nil })
	if err != nil {
		return err
	}
	x.Hash = [32]byte(h.Sum(nil))
	return nil
}

// clear deletes up to limit keys with a prefix and returns how many it deleted.
func (k *Keeper) clear(ctx context.Context, prefix string, limit int) (int, error) {
	var keys [][]byte
	err := kv.Each(k.kv(ctx), []byte(prefix), func(rest, _ []byte) (bool, error) {
		keys = append(keys, append([]byte(prefix), rest...))
		return len(keys) < limit, nil
	})
	if err != nil {
		return 0, err
	}
	for _, b := range keys {
		if err := k.kv(ctx).Delete(b); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// count does the next step of the election proper.
func (k *Keeper) count(ctx sdk.Context, active uint64, x *progress) error {
	x.Steps++
	done, err := k.runs.reached(x.Hash, x.Steps, func() (*run, error) { return k.newRun(ctx, x) })
	if e := (*npos.Error)(nil); errors.As(err, &e) {
		// What is bonded cannot make such an input; were it so all the same, the chain
		// goes on with the validators it has.
		emit(ctx, "election_error", "error", e.Error())
		return k.failed(ctx, active, x)
	}
	if err != nil {
		return err
	}
	if !done {
		return k.setProgress(ctx, x)
	}
	seats, err := k.winners(ctx, x)
	if err != nil {
		return err
	}
	if len(seats) == 0 {
		return k.failed(ctx, active, x)
	}
	x.Phase, x.Winners = phaseExposures, uint32(len(seats))
	return k.setProgress(ctx, x)
}

// failed gives an election up that nobody won. The active era goes on, so that the
// chain has validators and their stake stays bonded, and the next session tries again.
func (k *Keeper) failed(ctx sdk.Context, active uint64, x *progress) error {
	if active == 0 {
		return ErrNoSeat.Wrap("nobody stands with enough stake")
	}
	e, err := k.period(ctx, active)
	if err != nil {
		return err
	}
	*x = progress{NotBefore: uint64(ctx.BlockHeight()) + e.Session}
	emit(ctx, "election_failed", "era", fmt.Sprint(active+1))
	return k.endElection(ctx, x)
}

// endElection ends an election. What it has read is forgotten after it, before the next
// one begins: who moved meanwhile has an entry each, too many for the block that begins
// an era.
func (k *Keeper) endElection(ctx context.Context, x *progress) error {
	if err := k.kv(ctx).Delete(keySnapshot); err != nil {
		return err
	}
	k.runs.drop()
	return k.setProgress(ctx, x)
}

// forgetElection forgets a block's part of the election before; it returns whether there
// may be more.
func (k *Keeper) forgetElection(ctx context.Context) (more bool, err error) {
	limit := leftPerBlock
	for _, prefix := range []string{prefixVoters, prefixExtra, prefixMoved} {
		n, err := k.clear(ctx, prefix, limit)
		if err != nil {
			return true, err
		}
		if limit -= n; limit == 0 {
			return true, nil
		}
	}
	return false, nil
}

// expose writes the next winners' exposures.
func (k *Keeper) expose(ctx context.Context, next uint64, x *progress) error {
	seats, err := k.winners(ctx, x)
	if err != nil {
		return err
	}
	s := k.kv(ctx)
	written := 0
	for ; int(x.Seats) < len(seats) && written < sharesPerBlock; x.Seats++ {
		w := &seats[x.Seats]
		written += 1 + len(w.backers)
		if err := s.Set(key(prefixExposure, u64(next), w.Operator), w.exposure.marshal()); err != nil {
			return err
		}
		page := uint32(0)
		for list := range slices.Chunk(w.backers, pageStakers) {
			if err := s.Set(key(prefixPage, u64(next), sized(w.Operator), u32(page)), marshalShares(list)); err != nil {
				return err
			}
			page++
		}
		x.Staked = x.Staked.SaturatingAdd(w.Total)
	}
	if int(x.Seats) < len(seats) {
		return k.setProgress(ctx, x)
	}
	list := make([]seat, len(seats))
	for i, w := range seats {
		list[i] = seat{w.Operator, w.Cons}
	}
	if err := s.Set(key(prefixSeats, u64(next)), marshalSeats(list)); err != nil {
		return err
	}
	x.Phase = phaseReady
	return k.setProgress(ctx, x)
}

// A winner is an exposure that is not written yet.
type winner struct {
	Operator sdk.AccAddress
	exposure
	backers []share
}

// winners are the seats of the election that is done, in the order of operators.
func (k *Keeper) winners(ctx context.Context, x *progress) ([]winner, error) {
	return k.runs.winners(x.Hash, x.Steps, func() (*run, error) { return k.newRun(ctx, x) })
}

// newRun reads the snapshot.
func (k *Keeper) newRun(ctx context.Context, x *progress) (*run, error) {
	s := k.kv(ctx)
	list, err := read(s, keySnapshot, parseCandidates)
	if err != nil {
		return nil, err
	}
	r := &run{hash: x.Hash, candidates: list, places: int(x.Places), balancing: npos.Balancing{Iterations: int(x.Balancing)}}
	var stakes []npos.U128
	var rows [][]uint32
	for i, c := range list { // a candidate votes for itself
		r.voters = append(r.voters, c.Operator)
		stakes, rows = append(stakes, c.Stake), append(rows, []uint32{uint32(i)})
	}
	for _, prefix := range []string{prefixVoters, prefixExtra} {
		err := kv.Each(s, []byte(prefix), func(_, b []byte) (bool, error) {
			page, err := parseVoters(b)
			for _, v := range page {
				row := make([]uint32, len(v.Targets))
				for i, t := range v.Targets {
					row[i] = uint32(t)
				}
				r.voters = append(r.voters, v.Staker)
				stakes, rows = append(stakes, v.Stake), append(rows, row)
			}
			return true, err
		})
		if err != nil {
			return nil, err
		}
	}
	r.instance, err = npos.NewInstance(len(list), stakes, rows)
	return r, err
}
