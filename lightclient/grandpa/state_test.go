package grandpa_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

const testSlot = 300_000_000 // 2027-01

// line is a chain without forks, finalized by four voters, under construction.
type line struct {
	t      testing.TB
	voters []*grandpatest.Voter
	setID  uint64
	state  *grandpa.State
	blocks []*grandpa.Header // from the trusted block on
	slot   uint64
}

func newLine(t testing.TB) *line {
	l := &line{t: t, setID: 9, slot: testSlot}
	for i := range 4 {
		l.voters = append(l.voters, grandpatest.NewVoter(80, i, 1))
	}
	genesis := &grandpa.Header{Number: 100, Digest: []grandpa.DigestItem{slotLog(l.slot)}}
	l.blocks = []*grandpa.Header{genesis}
	cp, err := grandpa.NewCheckpoint("line", genesis, &grandpa.AuthoritySetState{
		Current: grandpatest.Authorities(l.voters), SetID: l.setID, History: []grandpa.SetChange{{SetID: 8, LastBlock: 90}}})
	if err != nil {
		t.Fatal(err)
	}
	if l.state, err = grandpa.NewState(cp, grandpa.PolkadotParams()); err != nil {
		t.Fatal(err)
	}
	return l
}

func slotLog(slot uint64) grandpa.DigestItem {
	return grandpa.DigestItem{Kind: grandpa.DigestPreRuntime, Engine: grandpa.EngineBABE,
		Data: binary.LittleEndian.AppendUint64([]byte{2, 0, 0, 0, 0}, slot)}
}

func frnk(data ...byte) grandpa.DigestItem {
	return grandpa.DigestItem{Kind: grandpa.DigestConsensus, Engine: grandpa.EngineGRANDPA, Data: data}
}

func (l *line) now() time.Time { return time.UnixMilli(int64(l.slot) * 6000).Add(time.Second) }

// add appends n blocks, the last with the given logs.
func (l *line) add(n int, logs ...grandpa.DigestItem) {
	for i := range n {
		l.slot++
		last := l.blocks[len(l.blocks)-1]
		h := &grandpa.Header{ParentHash: last.Hash(), Number: last.Number + 1, Digest: []grandpa.DigestItem{slotLog(l.slot)}}
		h.StateRoot[0] = byte(h.Number)
		if i == n-1 {
			h.Digest = append(h.Digest, logs...)
		}
		l.blocks = append(l.blocks, h)
	}
}

func (l *line) justify(h *grandpa.Header) *grandpa.Justification {
	j := &grandpa.Justification{Round: 3, Commit: grandpa.Commit{Target: h.ID()}}
	for _, v := range l.voters[:3] {
		j.Commit.Votes = append(j.Commit.Votes, v.Vote(h.ID(), 3, l.setID))
	}
	return j
}

// update finalizes all blocks.
func (l *line) update() *grandpa.Update {
	return &grandpa.Update{Headers: l.blocks[1:], Justification: l.justify(l.blocks[len(l.blocks)-1])}
}

func (l *line) apply() error {
	next, err := l.state.Apply(l.update(), l.now())
	if (next == nil) == (err == nil) {
		l.t.Errorf("Apply returned %v and %v", next, err)
	}
	if err == nil {
		l.state, l.blocks = next, l.blocks[len(l.blocks)-1:]
	}
	return err
}

// rotate announces a set of n new voters with the delay.
func (l *line) rotate(n int, delay uint32) ([]*grandpatest.Voter, grandpa.DigestItem) {
	var next []*grandpatest.Voter
	for i := range n {
		next = append(next, grandpatest.NewVoter(81+int64(l.setID), i, 1))
	}
	change := &grandpa.ScheduledChange{Next: grandpatest.Authorities(next), Delay: delay}
	return next, change.DigestItem()
}

func want(t *testing.T, what string, err error, kinds ...error) {
	t.Helper()
	if len(kinds) == 0 && err != nil {
		t.Errorf("%s: %v", what, err)
	}
	for _, k := range kinds {
		if !errors.Is(err, k) {
			t.Errorf("%s: got %v, want %v", what, err, k)
		}
	}
}

func TestApply(t *testing.T) {
	l := newLine(t)
	l.add(5)
	want(t, "five blocks", l.apply())
	if l.state.Block.Number != 105 || l.state.StateRoot[0] != 105 || l.state.Set.ID() != 9 || l.state.Slot != testSlot+5 {
		t.Errorf("state %+v", l.state)
	}
	l.add(1)
	want(t, "one block", l.apply())
	l.add(3, frnk(append([]byte{3}, make([]byte, 8)...)...))
	want(t, "OnDisabled", l.apply())
	l.add(1, grandpa.DigestItem{Kind: grandpa.DigestEnvironmentUpdated},
		grandpa.DigestItem{Kind: grandpa.DigestConsensus, Engine: grandpa.EngineID{'B', 'E', 'E', 'F'}, Data: []byte{9}})
	want(t, "logs of other engines", l.apply())
}

// The set changes after the announcing block: OnDisabled logs stand before the change, as on Kusama #7,472,481.
func TestSetChange(t *testing.T) {
	l := newLine(t)
	next, log := l.rotate(5, 0)
	l.add(3, frnk(append([]byte{3}, make([]byte, 8)...)...), log)
	want(t, "change", l.apply())
	if l.state.Set.ID() != 10 || l.state.Set.Len() != 5 {
		t.Fatalf("set %d of %d", l.state.Set.ID(), l.state.Set.Len())
	}
	l.add(2)
	want(t, "pitfall 10: old set after its end", l.apply(), grandpa.ErrVoter)
	l.voters, l.setID = next, 10
	l.voters = l.voters[:4]
	want(t, "three of five", l.apply(), grandpa.ErrThreshold)
	l.voters = []*grandpatest.Voter{next[0], next[1], next[2], next[3]}
	u := l.update()
	u.Justification.Commit.Votes = append(u.Justification.Commit.Votes, next[3].Vote(u.Justification.Commit.Target, 3, 10))
	_, err := l.state.Apply(u, l.now())
	want(t, "four of five", err)
}

// The id grows with an identical list too, and a vote under the old id is void (pitfall 12 and section 1.2).
func TestPitfall12SetIDOfSameList(t *testing.T) {
	l := newLine(t)
	same := &grandpa.ScheduledChange{Next: grandpatest.Authorities(l.voters)}
	l.add(1, same.DigestItem())
	want(t, "change to the same list", l.apply())
	l.add(1)
	want(t, "old id", l.apply(), grandpa.ErrSignature)
	l.setID++
	want(t, "new id", l.apply())
}

func TestPitfall12DelayedChange(t *testing.T) {
	l := newLine(t)
	next, log := l.rotate(4, 3)
	l.add(2, log) // #102, change after #105
	want(t, "announcement", l.apply())
	if l.state.Pending == nil || l.state.Pending.At != 105 || l.state.Set.ID() != 9 {
		t.Fatalf("state %+v", l.state)
	}
	again, err := grandpa.DecodeState(l.state.Append(nil))
	if err != nil || again.Pending.At != 105 || !bytes.Equal(again.Append(nil), l.state.Append(nil)) {
		t.Fatalf("pending change lost in the encoding: %v", err)
	}
	_, err = l.state.ApplyWarp(&grandpa.WarpProof{Fragments: []grandpa.WarpFragment{{Header: l.blocks[0], Justification: l.justify(l.blocks[0])}}}, l.now())
	want(t, "warp over a pending change", err, grandpa.ErrChangeSkip)
	early := *l
	_, log2 := l.rotate(4, 0)
	early.add(1, log2)
	want(t, "second change while one is pending", early.apply(), grandpa.ErrManyChanges, grandpa.ErrNewCheckpoint)
	past := *l
	past.add(4)
	want(t, "range past the change", past.apply(), grandpa.ErrChangeSkip)
	l.add(3)
	want(t, "up to the change, by the old set", l.apply())
	if l.state.Pending != nil || l.state.Set.ID() != 10 || l.state.Set.Authorities()[0] != next[0].Authority {
		t.Errorf("state %+v", l.state)
	}
	within := newLine(t)
	_, log = within.rotate(4, 2)
	within.add(1, log)
	within.add(2)
	want(t, "announced and enacted in one range", within.apply())
	if within.state.Set.ID() != 10 {
		t.Error("change not enacted")
	}
	over := newLine(t)
	_, log = over.rotate(4, ^uint32(0))
	over.add(1, log)
	want(t, "delay beyond the last block number", over.apply(), grandpa.ErrUnknownDigest)
}

// Every header of the range is looked at, not the last one only.
func TestPitfall10ChangePassedOver(t *testing.T) {
	ends := newLine(t)
	_, last := ends.rotate(4, 0)
	ends.add(4, last)
	want(t, "change in the last header", ends.apply())
	l := newLine(t)
	_, log := l.rotate(4, 0)
	l.add(2, log)
	l.add(2)
	want(t, "change before the last header", l.apply(), grandpa.ErrChangeSkip)
}

func TestNeedsNewCheckpoint(t *testing.T) {
	_, change := newLine(t).rotate(4, 0)
	forced := frnk(append([]byte{2, 50, 0, 0, 0}, change.Data[1:]...)...)
	disabled := frnk(append([]byte{3}, make([]byte, 8)...)...)
	one := grandpatest.NewVoter(1, 1, 1).Authority
	twice := (&grandpa.ScheduledChange{Next: []grandpa.Authority{one, one}}).DigestItem()
	for _, c := range []struct {
		name string
		logs []grandpa.DigestItem
		kind error
	}{
		{"forced change", []grandpa.DigestItem{forced}, grandpa.ErrForcedChange},
		{"forced change after a scheduled one", []grandpa.DigestItem{change, forced}, grandpa.ErrForcedChange},
		{"forced change behind another log", []grandpa.DigestItem{disabled, forced}, grandpa.ErrForcedChange},
		{"pause", []grandpa.DigestItem{frnk(4, 0, 0, 0, 0)}, grandpa.ErrPause},
		{"resume", []grandpa.DigestItem{frnk(5, 0, 0, 0, 0)}, grandpa.ErrPause},
		{"unknown log", []grandpa.DigestItem{frnk(6)}, grandpa.ErrUnknownDigest},
		{"log of kind 0", []grandpa.DigestItem{frnk(0)}, grandpa.ErrUnknownDigest},
		{"empty log", []grandpa.DigestItem{frnk()}, grandpa.ErrUnknownDigest},
		{"change cut short", []grandpa.DigestItem{frnk(change.Data[:len(change.Data)-1]...)}, grandpa.ErrUnknownDigest},
		{"change with a byte more", []grandpa.DigestItem{frnk(append(bytes.Clone(change.Data), 0)...)}, grandpa.ErrUnknownDigest},
		{"OnDisabled cut short", []grandpa.DigestItem{frnk(3, 0)}, grandpa.ErrUnknownDigest},
		{"two changes", []grandpa.DigestItem{change, change}, grandpa.ErrManyChanges},
		{"change to nobody", []grandpa.DigestItem{frnk(1, 0, 0, 0, 0, 0)}, grandpa.ErrUnusableSet},
		{"change to one key twice", []grandpa.DigestItem{twice}, grandpa.ErrUnusableSet},
	} {
		for _, place := range []string{"last", "earlier"} {
			l := newLine(t)
			l.add(2, c.logs...)
			if place == "earlier" {
				l.add(2)
			}
			err := l.apply()
			if place == "earlier" && c.kind == grandpa.ErrUnusableSet {
				want(t, c.name+" passed over", err, grandpa.ErrChangeSkip)
				continue
			}
			want(t, c.name+" in the "+place+" header", err, c.kind, grandpa.ErrNewCheckpoint)
			if err != nil && !strings.Contains(err.Error(), "a new checkpoint is needed") {
				t.Errorf("%s: message does not say so: %v", c.name, err)
			}
			// The same headers without the voters' signatures prove nothing and must not alarm anybody.
			u := l.update()
			u.Justification.Commit.Votes[0].Signature[5] ^= 1
			_, err = l.state.Apply(u, l.now())
			want(t, c.name+" unproven", err, grandpa.ErrSignature)
			if errors.Is(err, grandpa.ErrNewCheckpoint) {
				t.Errorf("%s: an unproven header asks for a new checkpoint", c.name)
			}
			if place == "last" {
				w := &grandpa.WarpProof{Fragments: []grandpa.WarpFragment{{Header: l.blocks[2], Justification: l.justify(l.blocks[2])}}, Finished: true}
				_, err = l.state.ApplyWarp(w, l.now())
				want(t, c.name+" in a warp fragment", err, c.kind, grandpa.ErrNewCheckpoint)
			}
		}
	}
}

func TestApplyRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(l *line, u *grandpa.Update) time.Time
		kind   error
	}{
		{"no headers", func(l *line, u *grandpa.Update) time.Time { u.Headers = nil; return l.now() }, grandpa.ErrStale},
		{"first header missing", func(l *line, u *grandpa.Update) time.Time { u.Headers = u.Headers[1:]; return l.now() }, grandpa.ErrFork},
		{"middle header missing", func(l *line, u *grandpa.Update) time.Time {
			u.Headers = append(append([]*grandpa.Header(nil), u.Headers[:1]...), u.Headers[2:]...)
			return l.now()
		}, grandpa.ErrFork},
		{"last header missing", func(l *line, u *grandpa.Update) time.Time { u.Headers = u.Headers[:3]; return l.now() }, grandpa.ErrTarget},
		{"trusted header sent along", func(l *line, u *grandpa.Update) time.Time { u.Headers = l.blocks; return l.now() }, grandpa.ErrFork},
		{"header altered", func(l *line, u *grandpa.Update) time.Time {
			h := *u.Headers[1]
			h.StateRoot[9] ^= 1
			u.Headers = []*grandpa.Header{u.Headers[0], &h, u.Headers[2], u.Headers[3]}
			return l.now()
		}, grandpa.ErrFork},
		{"last header's state root altered", func(l *line, u *grandpa.Update) time.Time {
			h := *u.Headers[3]
			h.StateRoot[9] ^= 1
			u.Headers = append(append([]*grandpa.Header(nil), u.Headers[:3]...), &h)
			return l.now()
		}, grandpa.ErrTarget},
		{"number jumps", func(l *line, u *grandpa.Update) time.Time {
			h := *u.Headers[0]
			h.Number += 5
			u.Headers = []*grandpa.Header{&h}
			return l.now()
		}, grandpa.ErrFork},
		{"justification of an earlier header", func(l *line, u *grandpa.Update) time.Time {
			u.Justification = l.justify(u.Headers[1])
			return l.now()
		}, grandpa.ErrTarget},
		{"pitfall 8: more headers than allowed", func(l *line, u *grandpa.Update) time.Time {
			u.Headers = make([]*grandpa.Header, grandpa.MaxHeaders+1)
			return l.now()
		}, grandpa.ErrLimit},
		{"pitfall 11: trusting period over", func(l *line, u *grandpa.Update) time.Time {
			return l.state.Time().Add(21*24*time.Hour + time.Second)
		}, grandpa.ErrExpired},
		{"pitfall 11: header from the future", func(l *line, u *grandpa.Update) time.Time { return l.now().Add(-2 * time.Minute) }, grandpa.ErrTime},
		{"clock at year 1", func(l *line, u *grandpa.Update) time.Time { return time.Time{} }, grandpa.ErrTime},
	} {
		l := newLine(t)
		l.add(4)
		u := l.update()
		now := c.change(l, u)
		_, err := l.state.Apply(u, now)
		want(t, c.name, err, c.kind)
	}
	stale := newLine(t)
	stale.add(4)
	old := stale.update()
	want(t, "first update", stale.apply())
	_, err := stale.state.Apply(old, stale.now())
	want(t, "replayed update", err, grandpa.ErrStale)
	first := newLine(t)
	first.add(1)
	_, err = first.state.Apply(first.update(), first.state.Time().Add(21*24*time.Hour))
	want(t, "at the last moment of the trusting period", err)
}

// Header times strictly increase; a finalized header without a readable slot leaves the client without a clock.
func TestPitfall11Slots(t *testing.T) {
	replace := func(item ...grandpa.DigestItem) error {
		l := newLine(t)
		l.add(1)
		l.blocks[1].Digest = item
		l.add(1)
		return l.apply()
	}
	primary := append([]byte{1, 0, 0, 0, 0}, append(binary.LittleEndian.AppendUint64(nil, testSlot+1), make([]byte, 96)...)...)
	aura := grandpa.DigestItem{Kind: grandpa.DigestPreRuntime, Engine: grandpa.EngineAura, Data: binary.LittleEndian.AppendUint64(nil, testSlot+1)}
	babe := func(b []byte) grandpa.DigestItem {
		return grandpa.DigestItem{Kind: grandpa.DigestPreRuntime, Engine: grandpa.EngineBABE, Data: b}
	}
	want(t, "secondary plain", replace(slotLog(testSlot+1)))
	want(t, "primary", replace(babe(primary)))
	want(t, "secondary VRF", replace(babe(append([]byte{3}, primary[1:]...))))
	want(t, "Aura", replace(aura))
	want(t, "no pre-runtime log", replace(), grandpa.ErrTime)
	want(t, "same slot as the trusted block", replace(slotLog(testSlot)), grandpa.ErrTime)
	want(t, "earlier slot", replace(slotLog(testSlot-1)), grandpa.ErrTime)
	want(t, "slot after the next block's", replace(slotLog(testSlot+2)), grandpa.ErrTime)
	want(t, "largest slot", replace(slotLog(^uint64(0))), grandpa.ErrTime)
	want(t, "two slots", replace(slotLog(testSlot+1), aura), grandpa.ErrTime)
	want(t, "unknown pre-digest", replace(babe(append([]byte{4}, primary[1:]...))), grandpa.ErrTime)
	want(t, "cut pre-digest", replace(babe(primary[:50])), grandpa.ErrTime)
	want(t, "slot in a consensus log", replace(grandpa.DigestItem{Kind: grandpa.DigestConsensus, Engine: grandpa.EngineBABE, Data: primary}), grandpa.ErrTime)
}

func TestPitfall11Freshness(t *testing.T) {
	l := newLine(t)
	at := l.state.Time()
	want(t, "just made", l.state.CheckFresh(at, time.Minute))
	want(t, "a minute", l.state.CheckFresh(at.Add(time.Minute), time.Minute))
	want(t, "a minute and a bit", l.state.CheckFresh(at.Add(time.Minute+1), time.Minute), grandpa.ErrTooOld)
	want(t, "host clock behind", l.state.CheckFresh(at.Add(-time.Hour), time.Minute))
	if s := at.UTC().Format(time.RFC3339); s != "2027-01-15T08:00:00Z" {
		t.Errorf("slot %d is %s", testSlot, s)
	}
}

// warpLine makes three set changes with blocks in between.
func warpLine(t *testing.T) (l *line, w *grandpa.WarpProof) {
	l = newLine(t)
	w = &grandpa.WarpProof{Finished: true}
	for range 3 {
		next, log := l.rotate(4, 0)
		l.add(3, log)
		last := l.blocks[len(l.blocks)-1]
		w.Fragments = append(w.Fragments, grandpa.WarpFragment{Header: last, Justification: l.justify(last)})
		l.voters, l.setID = next, l.setID+1
	}
	l.add(2)
	last := l.blocks[len(l.blocks)-1]
	w.Fragments = append(w.Fragments, grandpa.WarpFragment{Header: last, Justification: l.justify(last)})
	return l, w
}

func TestApplyWarp(t *testing.T) {
	l, w := warpLine(t)
	decoded, err := grandpa.DecodeWarpProof(w.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.state.ApplyWarp(decoded, l.now())
	if err != nil || s.Set.ID() != 12 || s.Block.Number != 111 || s.StateRoot[0] != 111 {
		t.Fatalf("warp: %+v, %v", s, err)
	}
	part := &grandpa.WarpProof{Fragments: w.Fragments[:2]}
	half, err := l.state.ApplyWarp(part, l.now())
	if err != nil || half.Set.ID() != 11 {
		t.Fatalf("partial warp: %v", err)
	}
	rest, err := half.ApplyWarp(&grandpa.WarpProof{Fragments: w.Fragments[2:], Finished: true}, l.now())
	if err != nil || !bytes.Equal(rest.Append(nil), s.Append(nil)) {
		t.Errorf("two halves differ from the whole: %v", err)
	}
	f := w.Fragments
	foreign := *f[0].Header
	foreign.StateRoot[3] ^= 1
	delayed := newLine(t)
	_, log := delayed.rotate(4, 1)
	delayed.add(1, log)
	for _, c := range []struct {
		name string
		s    *grandpa.State
		w    grandpa.WarpProof
		now  time.Time
		kind error
	}{
		{"empty", l.state, grandpa.WarpProof{Finished: true}, l.now(), grandpa.ErrStale},
		{"fragment left out", l.state, grandpa.WarpProof{Fragments: []grandpa.WarpFragment{f[0], f[2], f[3]}, Finished: true}, l.now(), grandpa.ErrVoter},
		{"first left out", l.state, grandpa.WarpProof{Fragments: f[1:], Finished: true}, l.now(), grandpa.ErrVoter},
		{"out of order", l.state, grandpa.WarpProof{Fragments: []grandpa.WarpFragment{f[0], f[0]}, Finished: true}, l.now(), grandpa.ErrStale},
		{"no change and not finished", l.state, grandpa.WarpProof{Fragments: f}, l.now(), grandpa.ErrIncomplete},
		{"header not the justified one", l.state, grandpa.WarpProof{Fragments: []grandpa.WarpFragment{{Header: &foreign, Justification: f[0].Justification}}}, l.now(), grandpa.ErrTarget},
		{"already known", s, *w, l.now(), grandpa.ErrStale},
		{"too many fragments", l.state, grandpa.WarpProof{Fragments: make([]grandpa.WarpFragment, grandpa.MaxWarpFragments+1)}, l.now(), grandpa.ErrLimit},
		{"future", l.state, *w, l.now().Add(-time.Hour), grandpa.ErrTime},
		{"expired", l.state, *w, l.now().Add(30 * 24 * time.Hour), grandpa.ErrExpired},
		{"delayed change", delayed.state, grandpa.WarpProof{Fragments: []grandpa.WarpFragment{{Header: delayed.blocks[1], Justification: delayed.justify(delayed.blocks[1])}}}, delayed.now(), grandpa.ErrChangeSkip},
	} {
		_, err := c.s.ApplyWarp(&c.w, c.now)
		want(t, c.name, err, c.kind)
	}
	sibling := newLine(t)
	sibling.add(1)
	sibling.blocks[1].ParentHash[0] ^= 1
	_, err = sibling.state.ApplyWarp(&grandpa.WarpProof{Fragments: []grandpa.WarpFragment{{Header: sibling.blocks[1], Justification: sibling.justify(sibling.blocks[1])}}, Finished: true}, sibling.now())
	want(t, "next block with another parent", err, grandpa.ErrFork)
	early, mid := warpLine(t)
	mid.Fragments = []grandpa.WarpFragment{mid.Fragments[0], {Header: early.blocks[4], Justification: early.justify(early.blocks[4])}}
	_, err = early.state.ApplyWarp(mid, early.now())
	want(t, "fragment by a later set than the next", err, grandpa.ErrVoter)
}

func TestFinalityProof(t *testing.T) {
	l := newLine(t)
	l.add(6)
	p := &grandpa.FinalityProof{Block: l.blocks[6].Hash(), Justification: l.justify(l.blocks[6]), UnknownHeaders: l.blocks[2:]}
	decoded, err := grandpa.DecodeFinalityProof(p.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	u, err := decoded.Update(l.blocks[1])
	want(t, "update of a proof", err)
	_, err = l.state.Apply(u, l.now())
	want(t, "proof with the header before it", err)
	u, _ = decoded.Update()
	_, err = l.state.Apply(u, l.now())
	want(t, "proof without it", err, grandpa.ErrFork)
	decoded.Block[0] ^= 1
	_, err = decoded.Update(l.blocks[1])
	want(t, "proof of another block than justified", err, grandpa.ErrTarget)
}

func TestCheckpointRefuses(t *testing.T) {
	l := newLine(t)
	header := l.blocks[0]
	next, log := l.rotate(2, 0)
	_, late := l.rotate(2, 4)
	announcing := func(log grandpa.DigestItem) *grandpa.Header {
		return &grandpa.Header{Number: 100, Digest: []grandpa.DigestItem{slotLog(5), log}}
	}
	current := grandpatest.Authorities(l.voters)
	history := []grandpa.SetChange{{SetID: 7, LastBlock: 80}, {SetID: 8, LastBlock: 90}}
	pending := func(number uint32) []grandpa.PendingNode {
		return []grandpa.PendingNode{{Block: grandpa.BlockID{Number: number}}}
	}
	for _, c := range []struct {
		name   string
		header *grandpa.Header
		state  grandpa.AuthoritySetState
		kind   error // nil: accepted
	}{
		{"plain", header, grandpa.AuthoritySetState{Current: current, SetID: 9, History: history}, nil},
		{"no history", header, grandpa.AuthoritySetState{Current: current, SetID: 9}, nil},
		{"pending above the header", header, grandpa.AuthoritySetState{Current: current, SetID: 9, PendingStandard: pending(101)}, nil},
		{"pending at the header", header, grandpa.AuthoritySetState{Current: current, SetID: 9, PendingStandard: pending(100)}, grandpa.ErrCheckpoint},
		{"forced change pending", header, grandpa.AuthoritySetState{Current: current, SetID: 9, PendingForced: make([]grandpa.PendingChange, 1)}, grandpa.ErrCheckpoint},
		{"history out of order", header, grandpa.AuthoritySetState{Current: current, SetID: 9, History: []grandpa.SetChange{history[1], history[0]}}, grandpa.ErrCheckpoint},
		{"history of another set", header, grandpa.AuthoritySetState{Current: current, SetID: 10, History: history}, grandpa.ErrCheckpoint},
		{"history after the header", header, grandpa.AuthoritySetState{Current: current, SetID: 9, History: []grandpa.SetChange{{SetID: 8, LastBlock: 101}}}, grandpa.ErrCheckpoint},
		{"no authorities", header, grandpa.AuthoritySetState{SetID: 9}, grandpa.ErrSet},
		{"header that announces the current set", announcing(log), grandpa.AuthoritySetState{Current: grandpatest.Authorities(next), SetID: 9,
			History: []grandpa.SetChange{{SetID: 8, LastBlock: 100}}}, nil},
		{"header that announces another set", announcing(log), grandpa.AuthoritySetState{Current: current, SetID: 9,
			History: []grandpa.SetChange{{SetID: 8, LastBlock: 100}}}, grandpa.ErrCheckpoint},
		{"header that announces the set, unknown to the history", announcing(log), grandpa.AuthoritySetState{Current: grandpatest.Authorities(next), SetID: 9,
			History: history}, grandpa.ErrCheckpoint},
		{"header with a delayed change", announcing(late), grandpa.AuthoritySetState{Current: current, SetID: 9, History: history}, grandpa.ErrCheckpoint},
		{"header with a pause", announcing(frnk(4, 0, 0, 0, 0)), grandpa.AuthoritySetState{Current: current, SetID: 9}, grandpa.ErrPause},
	} {
		_, err := grandpa.NewCheckpoint("x", c.header, &c.state)
		if c.kind == nil {
			want(t, c.name, err)
		} else {
			want(t, c.name, err, c.kind)
		}
	}
	cp, err := grandpa.NewCheckpoint("x", &grandpa.Header{Number: 1}, &grandpa.AuthoritySetState{Current: current})
	if err != nil {
		t.Fatal(err)
	}
	_, err = grandpa.NewState(cp, grandpa.PolkadotParams())
	want(t, "no slot", err, grandpa.ErrCheckpoint)
	cp.Header.Digest = []grandpa.DigestItem{slotLog(1 << 60)}
	_, err = grandpa.NewState(cp, grandpa.PolkadotParams())
	want(t, "slot out of range", err, grandpa.ErrCheckpoint)
	for name, p := range map[string]grandpa.Params{
		"no slot duration":   {TrustingPeriod: time.Hour},
		"microseconds":       {SlotDuration: 1500 * time.Microsecond, TrustingPeriod: time.Hour},
		"no trusting period": {SlotDuration: time.Second},
		"negative drift":     {SlotDuration: time.Second, TrustingPeriod: time.Hour, MaxClockDrift: -time.Second},
	} {
		_, err = grandpa.NewState(cp, p)
		want(t, name, err, grandpa.ErrCheckpoint)
	}
	good := string(mustCheckpoint(t, header, current).JSON())
	for name, edit := range map[string]func(string) string{
		"not JSON":          func(s string) string { return s[:len(s)/2] },
		"no lightSyncState": func(s string) string { return strings.Replace(s, "lightSyncState", "x", 1) },
		"no 0x":             func(s string) string { return strings.Replace(s, "Header\": \"0x", "Header\": \"", 1) },
		"odd hex":           func(s string) string { return strings.Replace(s, "Header\": \"0x", "Header\": \"0x0", 1) },
		"short set": func(s string) string {
			return strings.Replace(s, "AuthoritySet\": \"0x10", "AuthoritySet\": \"0x14", 1)
		},
		"short root": func(s string) string { return strings.Replace(s, "{", `{"genesis":{"stateRootHash":"0x00"},`, 1) },
	} {
		if edit(good) == good {
			t.Fatalf("%s: case changes nothing", name)
		}
		if _, err := grandpa.ParseCheckpoint([]byte(edit(good))); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	_, err = grandpa.ParseCheckpoint(make([]byte, grandpa.MaxCheckpointBytes+1))
	want(t, "huge", err, grandpa.ErrLimit)
}

func mustCheckpoint(t *testing.T, h *grandpa.Header, current []grandpa.Authority) *grandpa.Checkpoint {
	cp, err := grandpa.NewCheckpoint("x", h, &grandpa.AuthoritySetState{Current: current, SetID: 9})
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// stateGolden is the encoding of newLine's state.
const stateGolden = "017017000000000000008c256c0000000060ea00000000000025eeb71568d5888c1dab726fa51939fc426f381a8cf580" +
	"727243e36661473c6764000000000000000000000000000000000000000000000000000000000000000000000000a3e1" +
	"1100000000090000000000000010eb90cc3c528766044c536ba4dbf038945500bb2f1ec5d133b63ceef44068dd9f0100" +
	"00000000000085cfdc5ec40a680b373a0b422d9283b76ce39363207b747a05b94755352d08a80100000000000000c2e0" +
	"484fe116f613fcf9dd7b9f0f0045c45303c4a1aad591b609df7c483b917d0100000000000000ed68f2535c4205e4f70a" +
	"7c83639497eddd4dd96cfbd5acc13eecf48b54acf648010000000000000000"

// The sealed form is frozen: a change must get a new version byte.
func TestStateGolden(t *testing.T) {
	l := newLine(t)
	enc := l.state.Append(nil)
	s, err := grandpa.DecodeState(enc)
	if err != nil || !bytes.Equal(s.Append(nil), enc) {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(enc); got != stateGolden {
		t.Errorf("encoding of the state is\n%s", got)
	}
	for name, edit := range map[string]func([]byte) []byte{
		"version":        func(b []byte) []byte { b[0] = 2; return b },
		"trailing":       func(b []byte) []byte { return append(b, 0) },
		"cut":            func(b []byte) []byte { return b[:len(b)-1] },
		"slot duration":  func(b []byte) []byte { clear(b[1:9]); return b },
		"huge period":    func(b []byte) []byte { b[16] = 0xff; return b },
		"slot too large": func(b []byte) []byte { b[1+24+36+32+7] = 0xff; return b },
		"pending option": func(b []byte) []byte { b[len(b)-1] = 2; return b },
		"pending before the block": func(b []byte) []byte {
			b[len(b)-1] = 1
			return append(b, 100, 0, 0, 0, 0)
		},
		"authority twice": func(b []byte) []byte {
			at := 1 + 24 + 36 + 32 + 8 + 8 + 1
			copy(b[at:at+40], b[at+40:at+80])
			return b
		},
	} {
		if _, err := grandpa.DecodeState(edit(bytes.Clone(enc))); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}
