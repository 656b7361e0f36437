package inbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// show is a batch in short: height, and topic with sequence.
func show(b *inbox.Batch) string {
	var out []string
	for _, it := range b.Items {
		name := it.Message.Topic
		if name == worker1 {
			name = "worker"
		}
		out = append(out, fmt.Sprintf("%d:%s#%d", it.Height, name, it.Message.Seq))
	}
	return strings.Join(out, " ")
}

func quiet() *comettest.Chain {
	c := comettest.New(comettest.Config{})
	for _, n := range append(all, "cluster/10") {
		c.CreateTopic(n)
	}
	c.Next()
	return c
}

// TestOrder: height, then rank, then name, then sequence, however the relayer sorts
// the topics.
func TestOrder(t *testing.T) {
	c := quiet()
	for _, n := range []string{worker1, cluster2, "cluster/10", cluster1, gate, system, worker1, cluster2, system} {
		c.Send(n, "x", note(1))
	}
	c.Next()
	c.Send(worker1, "x", note(2))
	c.Next()
	c.Send(system, "x", note(3))
	c.Next()
	c.Run(6)
	const want = "2:system#1 2:system#2 2:gatekeeper#1 2:cluster/1#1 2:cluster/10#1 2:cluster/2#1 2:cluster/2#2 2:worker#1 2:worker#2 3:worker#3 4:system#3"
	for _, reverse := range []bool{false, true} {
		s := stateAt(t, c, 1, append(all, "cluster/10")...)
		a := honest(c, s, 5)
		if reverse {
			slices.Reverse(a.Topics)
			slices.SortStableFunc(a.Messages, func(x, y *proto.Message) int { return strings.Compare(y.Topic, x.Topic) })
		}
		b := apply(t, s, a, c.Time())
		if got := show(b); got != want {
			t.Errorf("reverse %v:\ngot  %s\nwant %s", reverse, got, want)
		}
		for _, it := range b.Items {
			if cur, _ := c.Cursor(int64(it.Height), it.Message.Topic); it.Message.Seq == cur.Seq && it.Cursor != cur {
				t.Errorf("cursor of %s#%d is %v, want %v", it.Message.Topic, it.Message.Seq, it.Cursor, cur)
			}
			if it.Time != uint64(c.Header(int64(it.Height)).Time.UnixMilli()) || it.Height != it.Message.Height || it.Event == nil {
				t.Errorf("item %+v", it)
			}
		}
	}
}

// again is the state after sealing and unsealing.
func again(t testing.TB, s *inbox.State) *inbox.State {
	t.Helper()
	raw := s.Marshal()
	r, err := inbox.Parse(raw, newClient)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(r.Marshal(), raw) || r.Height() != s.Height() || !slices.Equal(r.Topics(), s.Topics()) || r.Client().TrustedHash() != s.Client().TrustedHash() {
		t.Fatal("the state did not survive sealing")
	}
	return r
}

// TestFollowOldTopic: a topic that is followed late brings all its messages, however
// old, once, while the others go on.
func TestFollowOldTopic(t *testing.T) {
	c := busy(14)
	s := stateAt(t, c, 1, system)
	apply(t, s, honest(c, s, 6), c.Time())
	if err := s.Follow(cluster1); err != nil {
		t.Fatal(err)
	}
	s = again(t, s)

	// Only the late topic may bring old messages.
	a := honest(c, s, 8)
	a.Messages = append(c.Messages(system, 0, 6), a.Messages...)
	if _, err := s.Apply(a, c.Time()); !errors.Is(err, inbox.ErrOrder) {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		height int64
		want   int
	}{
		{"at the same height", 6, 10},
		{"two blocks later", 8, 10 + 4 + 4},
	} {
		s := again(t, s)
		b := apply(t, s, honest(c, s, tc.height), c.Time())
		if len(b.Items) != tc.want || b.Height != uint64(tc.height) {
			t.Fatalf("%s: %d items up to %d: %s", tc.name, len(b.Items), b.Height, show(b))
		}
		if !slices.IsSortedFunc(b.Items, func(x, y inbox.Item) int { return int(x.Height) - int(y.Height) }) {
			t.Fatalf("%s: not in order: %s", tc.name, show(b))
		}
		// From now on it is like the others.
		again := honest(c, s, tc.height)
		again.Messages = c.Messages(cluster1, 0, tc.height)
		if _, err := s.Apply(again, c.Time()); !errors.Is(err, inbox.ErrNotLater) {
			t.Errorf("%s: its messages once more: %v", tc.name, err)
		}
		b = apply(t, s, honest(c, s, 12), c.Time())
		if want := int(12-tc.height) * 4; len(b.Items) != want {
			t.Errorf("%s: then %d items, want %d", tc.name, len(b.Items), want)
		}
	}
	// Held back, it holds everything back.
	a = honest(c, s, 8)
	a.Topics = slices.DeleteFunc(a.Topics, func(p inbox.Proven) bool { return p.Topic == cluster1 })
	a.Messages = c.Messages(system, 10, 8)
	if _, err := s.Apply(a, c.Time()); !errors.Is(err, inbox.ErrTopics) {
		t.Errorf("left out: %v", err)
	}
}

func TestFollowRefused(t *testing.T) {
	c := busy(4)
	s := stateAt(t, c, 1, system)
	for _, tc := range []struct {
		name, topic string
		want        error
	}{
		{"followed already", system, inbox.ErrTopicExists},
		{"no name", "", inbox.ErrTopics},
		{"a name that no message can carry", strings.Repeat("x", proto.MaxTopic+1), inbox.ErrTopics},
	} {
		if err := s.Follow(tc.topic); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for i := range inbox.MaxTopics - 1 {
		if err := s.Follow(fmt.Sprint("t/", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Follow("one more"); !errors.Is(err, inbox.ErrTopics) {
		t.Errorf("one more than allowed: %v", err)
	}
	again(t, s)
	s.Unfollow("t/0")
	if _, ok := s.Cursor("t/0"); ok || len(s.Topics()) != inbox.MaxTopics-1 {
		t.Error("still followed")
	}
}

// TestJoin: a state that starts at proven cursors, without the past, delivers from
// there exactly what one that followed from the beginning does.
func TestJoin(t *testing.T) {
	c := busy(20)
	at := func(h int64, topics ...string) (out []inbox.Proven) {
		for _, n := range topics {
			cur, p := c.Cursor(h, n)
			out = append(out, inbox.Proven{Topic: n, Cursor: cur, Proof: p})
		}
		return out
	}
	s := stateAt(t, c, 1)
	if err := s.SyncHeaders(c.LightRange(2, 11), c.Time()); err != nil {
		t.Fatal(err)
	}
	before := s.Marshal()
	for _, tc := range []struct {
		name string
		at   []inbox.Proven
		want error
	}{
		{"an older state", at(9, all...), comet.ErrProof},
		{"a newer state", at(11, all...), comet.ErrProof},
		{"one of them older", append(at(10, system, gate), at(9, cluster1)...), comet.ErrProof},
		{"a topic twice", at(10, system, gate, system), inbox.ErrTopics},
		{"another topic's proof", func() []inbox.Proven {
			p := at(10, system, gate)
			p[0].Proof, p[1].Proof = p[1].Proof, p[0].Proof
			return p
		}(), comet.ErrProof},
		{"a cursor edited", func() []inbox.Proven {
			p := at(10, system)
			p[0].Cursor.Seq++
			return p
		}(), comet.ErrProof},
		{"no name", []inbox.Proven{{}}, inbox.ErrTopics},
	} {
		if err := s.Join(tc.at); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !bytes.Equal(s.Marshal(), before) {
			t.Fatalf("%s: the refused join changed the state", tc.name)
		}
	}
	if err := s.Join(at(10, all[:3]...)); err != nil {
		t.Fatal(err)
	}
	if s.Height() != 10 {
		t.Errorf("joined at %d, want 10", s.Height())
	}
	if err := s.Join(at(10, all...)); !errors.Is(err, inbox.ErrTopicExists) {
		t.Errorf("again: %v", err)
	}
	if err := s.Join(at(10, all[3:]...)); err != nil {
		t.Fatal(err)
	}
	s = again(t, s)
	if b := apply(t, s, honest(c, s, 10), c.Time()); len(b.Items) != 0 {
		t.Errorf("joining delivered the past: %s", show(b))
	}
	// What was before is not taken back in, even by one who has it.
	a := honest(c, s, 12)
	a.Messages = append(c.Messages(system, 16, 10), a.Messages...)
	if _, err := s.Apply(a, c.Time()); !errors.Is(err, inbox.ErrOrder) {
		t.Errorf("the past: %v", err)
	}
	full := stateAt(t, c, 1, all...)
	apply(t, full, honest(c, full, 10), c.Time())
	want, got := apply(t, full, honest(c, full, 18), c.Time()), apply(t, s, honest(c, s, 18), c.Time())
	if show(got) != show(want) || len(got.Items) != 8*2*len(all) {
		t.Errorf("got  %s\nwant %s", show(got), show(want))
	}
	for i := range got.Items {
		if got.Items[i].Cursor != want.Items[i].Cursor {
			t.Fatalf("item %d: cursors differ", i)
		}
	}
	many := stateAt(t, c, 11)
	for i := range inbox.MaxTopics {
		if err := many.Follow(fmt.Sprint("t/", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := many.Join(at(10, system)); !errors.Is(err, inbox.ErrTopics) {
		t.Errorf("one more than allowed: %v", err)
	}
}

// TestUnknownEvent: a message of a kind that this version does not know is not
// skipped: nothing moves until the enclave is upgraded.
func TestUnknownEvent(t *testing.T) {
	for name, payload := range map[string][]byte{"unknown kind": {200, 1, 2}, "no kind": {}, "trailing byte": append(proto.MarshalEvent(note(1)), 0)} {
		c := quiet()
		c.Send(system, "x", note(1))
		c.Next()
		c.SendRaw(cluster1, "x", payload)
		c.Run(5)
		s := stateAt(t, c, 1, all...)
		before := s.Marshal()
		if _, err := s.Apply(honest(c, s, 4), c.Time()); !errors.Is(err, inbox.ErrUnknown) || !bytes.Equal(s.Marshal(), before) {
			t.Errorf("%s: %v", name, err)
		}
		if b := apply(t, s, honest(c, s, 2), c.Time()); show(b) != "2:system#1" {
			t.Errorf("%s: up to it: %s", name, show(b))
		}
	}
}

// TestSyncHeaders: headers alone move the client and deliver nothing; what is verified
// before a bad one stays verified.
func TestSyncHeaders(t *testing.T) {
	c := busy(12)
	s := stateAt(t, c, 1, all...)
	blocks := c.LightRange(2, 8)
	blocks[4] = c.Block(6).Signed(comettest.FirstN(1))
	if err := s.SyncHeaders(blocks, c.Time()); !errors.Is(err, comet.ErrTooFewSigned) {
		t.Fatal(err)
	}
	if s.Client().Trusted().Height != 5 || s.Height() != 0 {
		t.Fatalf("at %d, delivered %d", s.Client().Trusted().Height, s.Height())
	}
	if b := apply(t, s, honest(c, s, 9), c.Time()); len(b.Items) != 8*2*len(all) {
		t.Fatalf("%d items", len(b.Items))
	}
}

// TestClockAcrossAdvances: a host that turns its clock back gains nothing: trust that
// expired stays expired.
func TestClockAcrossAdvances(t *testing.T) {
	c := busy(12)
	s := stateAt(t, c, 1, all...)
	apply(t, s, honest(c, s, 4), c.Header(5).Time)
	next, end := honest(c, s, 6), c.Header(5).Time.Add(period)
	if _, err := s.Apply(next, end); !errors.Is(err, comet.ErrExpired) {
		t.Fatal(err)
	}
	// The clock passes the end in an advance that brings nothing new.
	same := honest(c, s, 4)
	same.Blocks = c.LightRange(5, 5)
	apply(t, s, same, end)
	if _, err := s.Apply(next, c.Header(7).Time); !errors.Is(err, comet.ErrExpired) {
		t.Fatalf("turning the clock back renewed trust: %v", err)
	}
}
