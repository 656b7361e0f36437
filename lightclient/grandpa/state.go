package grandpa

import (
	"fmt"
	"math/bits"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// Params are the parts of a source chain's configuration that its finality proofs do not carry. They are fixed with
// the checkpoint and kept in the state.
type Params struct {
	// SlotDuration is the length of a BABE or Aura slot: 6 s on Polkadot, Kusama and Westend.
	SlotDuration time.Duration
	// TrustingPeriod is the age at which a state can no longer be advanced. It must be shorter than the time after
	// which former authorities have their stake back (28 days on Polkadot, 7 on Kusama), since from then on they
	// can sign another history at no cost.
	TrustingPeriod time.Duration
	// MaxClockDrift is how far a header's time may lie ahead of the given time.
	MaxClockDrift time.Duration
}

// PolkadotParams returns the parameters for Polkadot: slots of 6 s, trust for 21 of the 28 days of unbonding.
func PolkadotParams() Params {
	return Params{SlotDuration: 6 * time.Second, TrustingPeriod: 21 * 24 * time.Hour, MaxClockDrift: time.Minute}
}

func (p Params) check() error {
	if p.SlotDuration < time.Millisecond || p.SlotDuration%time.Millisecond != 0 {
		return fail(ErrCheckpoint, "slot duration %s is not a positive number of milliseconds", p.SlotDuration)
	}
	if p.TrustingPeriod <= 0 || p.MaxClockDrift < 0 ||
		p.TrustingPeriod%time.Millisecond != 0 || p.MaxClockDrift%time.Millisecond != 0 {
		return fail(ErrCheckpoint, "trusting period %s or clock drift %s is not a number of milliseconds in range",
			p.TrustingPeriod, p.MaxClockDrift)
	}
	return nil
}

// SlotTime returns the time at which a slot starts: its number times the slot duration after the Unix epoch. ok is
// false for slots beyond the year 10,000.
func (p Params) SlotTime(slot uint64) (t time.Time, ok bool) {
	hi, ms := bits.Mul64(slot, uint64(p.SlotDuration/time.Millisecond))
	if hi != 0 || ms > 253_402_300_799_999 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(ms)).UTC(), true
}

// A Pending is an announced authority change with a delay: its list becomes the set after block At.
type Pending struct {
	At   uint32
	Next []Authority
}

// State is what a client trusts: a finalized block and the authority set for the blocks after it. It is immutable;
// Apply and ApplyWarp return a new one or an error, never something half-advanced.
type State struct {
	Params    Params
	Block     BlockID
	StateRoot Hash
	Slot      uint64
	Set       *AuthoritySet
	Pending   *Pending
}

// NewState starts from a checkpoint.
func NewState(cp *Checkpoint, p Params) (*State, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	slot, ok := cp.Header.Slot()
	if !ok {
		return nil, fail(ErrCheckpoint, "header #%d has no slot", cp.Header.Number)
	}
	if _, ok := p.SlotTime(slot); !ok {
		return nil, fail(ErrCheckpoint, "header #%d has slot %d, out of range", cp.Header.Number, slot)
	}
	return &State{Params: p, Block: cp.Header.ID(), StateRoot: cp.Header.StateRoot, Slot: slot, Set: cp.Set}, nil
}

// Time returns the time of the trusted block.
func (s *State) Time() time.Time {
	t, _ := s.Params.SlotTime(s.Slot) // in range for every State
	return t
}

// CheckTrust refuses a state older than the trusting period at now: it cannot be advanced any more.
func (s *State) CheckTrust(now time.Time) error {
	if age := now.Sub(s.Time()); age > s.Params.TrustingPeriod {
		return fail(ErrExpired, "%s is %s old, trusting period %s", s.Block, age.Round(time.Second), s.Params.TrustingPeriod)
	}
	return nil
}

// CheckFresh refuses a state older than maxAge at now: valid, but too old to act upon. GRANDPA has no clock, so a
// client cut off from the chain sees old truths; this is the reader's own limit against it.
func (s *State) CheckFresh(now time.Time, maxAge time.Duration) error {
	if age := now.Sub(s.Time()); age > maxAge {
		return fail(ErrTooOld, "%s is %s old, limit %s", s.Block, age.Round(time.Second), maxAge)
	}
	return nil
}

// An Update advances a state: the headers after the trusted block without a gap, and the justification of the last.
type Update struct {
	Headers       []*Header
	Justification *Justification
}

// DecodeHeaders decodes Vec<Header>.
func DecodeHeaders(b []byte) ([]*Header, error) {
	if len(b) > MaxProofBytes {
		return nil, fail(ErrLimit, "headers of %d bytes, limit %d", len(b), MaxProofBytes)
	}
	d := scale.NewDecoder(b)
	list := readHeaders(d, MaxHeaders, "headers")
	if err := d.Finish(); err != nil {
		return nil, decodeError("headers", err)
	}
	return list, nil
}

// AppendHeaders appends the encoding that DecodeHeaders reads.
func AppendHeaders(b []byte, list []*Header) []byte { return appendHeaders(b, list) }

// DecodeUpdate decodes Vec<Header> ‖ GrandpaJustification.
func DecodeUpdate(b []byte) (*Update, error) {
	if len(b) > MaxProofBytes {
		return nil, fail(ErrLimit, "update of %d bytes, limit %d", len(b), MaxProofBytes)
	}
	d := scale.NewDecoder(b)
	u := &Update{Headers: readHeaders(d, MaxHeaders, "headers"), Justification: readJustification(d)}
	if err := d.Finish(); err != nil {
		return nil, decodeError("update", err)
	}
	return u, nil
}

// Append appends the SCALE encoding of u to b.
func (u *Update) Append(b []byte) []byte { return u.Justification.Append(appendHeaders(b, u.Headers)) }

// Update makes an update of a finality proof. before are headers between the trusted block and those of the proof,
// which begin after the block that was asked for. The proof's block must be the justified one.
func (p *FinalityProof) Update(before ...*Header) (*Update, error) {
	if p.Block != p.Justification.Commit.Target.Hash {
		return nil, fail(ErrTarget, "finality proof of %s has a justification of %s", p.Block, p.Justification.Commit.Target)
	}
	headers := append(append([]*Header(nil), before...), p.UnknownHeaders...)
	return &Update{Headers: headers, Justification: p.Justification}, nil
}

// Apply verifies an update at time now and returns the advanced state.
//
// Every header of the range is looked at. An authority change (with delay d, announced at block N) ends the range at
// block N+d: that block must be finalized by the old set and be the last header; the new set, with the id plus one,
// signs from the next block on. Whether a header asks for a new checkpoint is judged only after the justification
// has verified, so a relayer cannot make a client give up with headers of its own making.
func (s *State) Apply(u *Update, now time.Time) (*State, error) {
	if err := s.CheckTrust(now); err != nil {
		return nil, err
	}
	if len(u.Headers) == 0 {
		return nil, fail(ErrStale, "update without headers")
	}
	if len(u.Headers) > MaxHeaders {
		return nil, fail(ErrLimit, "update of %d headers, limit %d", len(u.Headers), MaxHeaders)
	}
	last := u.Headers[len(u.Headers)-1]
	if last.Number <= s.Block.Number {
		return nil, fail(ErrStale, "update ends at #%d, trusted is %s", last.Number, s.Block)
	}
	at := s.Block
	for _, h := range u.Headers {
		if h.ParentHash != at.Hash || at.Number == ^uint32(0) || h.Number != at.Number+1 {
			return nil, fail(ErrFork, "header #%d with parent %s does not extend %s", h.Number, h.ParentHash, at)
		}
		at = h.ID()
	}
	if at != u.Justification.Commit.Target {
		return nil, fail(ErrTarget, "justification of %s, last header is %s", u.Justification.Commit.Target, at)
	}
	if err := u.Justification.Verify(s.Set); err != nil {
		return nil, within("justification of "+at.String(), err)
	}
	next := &State{Params: s.Params, Block: at, StateRoot: last.StateRoot, Slot: s.Slot, Set: s.Set, Pending: s.Pending}
	for i, h := range u.Headers {
		if err := next.checkSlot(h, now); err != nil {
			return nil, err
		}
		change, err := h.ScheduledChange()
		if err != nil {
			return nil, err
		}
		if change != nil {
			if next.Pending != nil {
				return nil, fail(ErrManyChanges, "block #%d announces a change while the one for #%d is pending",
					h.Number, next.Pending.At)
			}
			if change.Delay > ^uint32(0)-h.Number {
				return nil, fail(ErrUnknownDigest, "change announced at #%d has delay %d", h.Number, change.Delay)
			}
			next.Pending = &Pending{At: h.Number + change.Delay, Next: change.Next}
		}
		if next.Pending == nil || next.Pending.At != h.Number {
			continue
		}
		if i != len(u.Headers)-1 {
			return nil, fail(ErrChangeSkip, "the set changes after #%d, but the range goes on to #%d", h.Number, last.Number)
		}
		if err := next.enact(&ScheduledChange{Next: next.Pending.Next}); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// checkSlot checks that h was made after the state's block and not ahead of now, and takes over its slot.
func (s *State) checkSlot(h *Header, now time.Time) error {
	slot, ok := h.Slot()
	if !ok {
		return fail(ErrTime, "header #%d has no slot", h.Number)
	}
	if slot <= s.Slot {
		return fail(ErrTime, "header #%d has slot %d, not after slot %d of an earlier block", h.Number, slot, s.Slot)
	}
	t, ok := s.Params.SlotTime(slot)
	if !ok || t.Sub(now) > s.Params.MaxClockDrift {
		return fail(ErrTime, "header #%d has slot %d, ahead of the time %s", h.Number, slot, now.UTC().Format(time.RFC3339))
	}
	s.Slot = slot
	return nil
}

// enact makes the announced authorities the set.
func (s *State) enact(change *ScheduledChange) error {
	set, err := s.Set.Next(change)
	if err != nil {
		return &Error{Kind: ErrUnusableSet, Detail: fmt.Sprintf("change at #%d", s.Block.Number), Cause: err}
	}
	s.Set, s.Pending = set, nil
	return nil
}

// ApplyWarp verifies a warp-sync proof at time now and returns the advanced state. Each fragment is the last block of
// its set, justified by that set, and names the next one; only the last fragment of a finished proof may be a block
// without a change. Headers in between are not needed: a set whose honest members have moved on signs nothing under
// its old id. The proof must begin after the trusted block, and changes with a delay are refused, as the format
// cannot carry them.
func (s *State) ApplyWarp(w *WarpProof, now time.Time) (*State, error) {
	if err := s.CheckTrust(now); err != nil {
		return nil, err
	}
	if len(w.Fragments) == 0 {
		return nil, fail(ErrStale, "warp proof without fragments")
	}
	if len(w.Fragments) > MaxWarpFragments {
		return nil, fail(ErrLimit, "warp proof of %d fragments, limit %d", len(w.Fragments), MaxWarpFragments)
	}
	if s.Pending != nil {
		return nil, fail(ErrChangeSkip, "a change is pending for #%d: send the headers up to it", s.Pending.At)
	}
	cur := *s
	for i, f := range w.Fragments {
		id := f.Header.ID()
		switch {
		case id.Number <= cur.Block.Number:
			return nil, fail(ErrStale, "fragment %d is %s, trusted is %s", i, id, cur.Block)
		case id.Number == cur.Block.Number+1 && f.Header.ParentHash != cur.Block.Hash:
			return nil, fail(ErrFork, "fragment %d is %s, which does not extend %s", i, id, cur.Block)
		case id != f.Justification.Commit.Target:
			return nil, fail(ErrTarget, "fragment %d is %s with a justification of %s", i, id, f.Justification.Commit.Target)
		}
		if err := f.Justification.Verify(cur.Set); err != nil {
			return nil, within("fragment "+id.String(), err)
		}
		if err := cur.checkSlot(f.Header, now); err != nil {
			return nil, err
		}
		change, err := f.Header.ScheduledChange()
		if err != nil {
			return nil, err
		}
		cur.Block, cur.StateRoot = id, f.Header.StateRoot
		if change == nil {
			if i != len(w.Fragments)-1 || !w.Finished {
				return nil, fail(ErrIncomplete, "fragment %d, %s, has no set change and is not the final one", i, id)
			}
			continue
		}
		if change.Delay != 0 {
			return nil, fail(ErrChangeSkip, "fragment %d, %s, announces a change with delay %d: send headers", i, id, change.Delay)
		}
		if err := cur.enact(change); err != nil {
			return nil, err
		}
	}
	return &cur, nil
}

// stateVersion is the first byte of an encoded State.
const stateVersion = 1

// Append appends the canonical encoding of s to b, for sealing: version byte 1 ‖ slot duration, trusting period and
// clock drift in milliseconds, u64 each ‖ hash ‖ number u32 ‖ state root ‖ slot u64 ‖ set id u64 ‖ authorities
// Vec<(key, weight u64)> ‖ Option<(at u32, authorities)>, all SCALE.
func (s *State) Append(b []byte) []byte {
	b = append(b, stateVersion)
	for _, d := range []time.Duration{s.Params.SlotDuration, s.Params.TrustingPeriod, s.Params.MaxClockDrift} {
		b = appendU64(b, uint64(d/time.Millisecond))
	}
	b = appendBlockID(b, s.Block)
	b = append(b, s.StateRoot[:]...)
	b = appendU64(appendU64(b, s.Slot), s.Set.id)
	b = appendAuthorities(b, s.Set.list)
	b = scale.AppendBool(b, s.Pending != nil)
	if s.Pending != nil {
		b = appendAuthorities(appendU32(b, s.Pending.At), s.Pending.Next)
	}
	return b
}

// DecodeState decodes what Append has written and checks it as NewState would.
func DecodeState(b []byte) (*State, error) {
	d := scale.NewDecoder(b)
	if v := d.U8("version"); v != stateVersion {
		d.Fail(scale.ErrTag, "state version")
	}
	ms := func(what string) time.Duration {
		v := d.U64(what)
		if v > uint64(1<<63-1)/uint64(time.Millisecond) {
			d.Fail(scale.ErrTooLarge, what)
			return 0
		}
		return time.Duration(v) * time.Millisecond
	}
	s := &State{Params: Params{SlotDuration: ms("slot duration"), TrustingPeriod: ms("trusting period"), MaxClockDrift: ms("clock drift")}}
	s.Block = readBlockID(d)
	s.StateRoot = readHash(d, "state root")
	s.Slot = d.U64("slot")
	setID := d.U64("set id")
	list := readAuthorities(d)
	if d.Option("pending change") {
		s.Pending = &Pending{At: d.U32("block of change"), Next: readAuthorities(d)}
	}
	if err := d.Finish(); err != nil {
		return nil, decodeError("state", err)
	}
	if err := s.Params.check(); err != nil {
		return nil, err
	}
	if _, ok := s.Params.SlotTime(s.Slot); !ok {
		return nil, fail(ErrTime, "state has slot %d, out of range", s.Slot)
	}
	if s.Pending != nil && s.Pending.At <= s.Block.Number {
		return nil, fail(ErrChangeSkip, "state at %s has a change pending for #%d", s.Block, s.Pending.At)
	}
	set, err := NewAuthoritySet(setID, list)
	if err != nil {
		return nil, err
	}
	s.Set = set
	return s, nil
}
