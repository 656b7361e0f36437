package inbox_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// TestHold: the past of a topic that joins may come ahead of the advance that proves it,
// in parts, and is delivered with it; what does not fold is dropped and believed by nobody.
func TestHold(t *testing.T) {
	c := busy(30)
	topic := all[len(all)-1]
	rest := all[:len(all)-1]
	join := func() (*inbox.State, *inbox.Advance, []*proto.Message) {
		s := stateAt(t, c, 1, rest...)
		apply(t, s, honest(c, s, 4), c.Header(9).Time)
		if err := s.Follow(topic); err != nil {
			t.Fatal(err)
		}
		a := honest(c, s, 8)
		var past, others []*proto.Message
		for _, m := range a.Messages {
			if m.Topic == topic {
				past = append(past, m)
			} else {
				others = append(others, m)
			}
		}
		a.Messages = others
		return s, a, past
	}
	s, a, past := join()
	if len(past) < 4 || !s.Joining(topic) || s.Next(topic) != 1 {
		t.Fatalf("%d messages, next %d", len(past), s.Next(topic))
	}
	full := *a
	full.Messages = slices.Concat(past, a.Messages)
	twin, _, _ := join()
	want, err := twin.Apply(&full, c.Header(9).Time)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]*proto.Message{past[:1], past[1:3], past[3:]} {
		if err := s.Hold(part); err != nil {
			t.Fatal(err)
		}
	}
	if s.Next(topic) != uint64(len(past))+1 {
		t.Fatalf("next %d", s.Next(topic))
	}
	got, err := s.Apply(a, c.Header(9).Time)
	if err != nil || len(got.Items) != len(want.Items) || s.Joining(topic) || string(s.Marshal()) != string(twin.Marshal()) {
		t.Fatalf("%d items, want %d, %v", len(got.Items), len(want.Items), err)
	}
	for i := range got.Items {
		if got.Items[i].Message != want.Items[i].Message || got.Items[i].Cursor != want.Items[i].Cursor {
			t.Fatalf("item %d differs", i)
		}
	}
	for _, x := range []struct {
		name string
		msgs func(past []*proto.Message) []*proto.Message
		want error
	}{
		{"not the next one", func(p []*proto.Message) []*proto.Message { return p[1:] }, inbox.ErrOrder},
		{"twice", func(p []*proto.Message) []*proto.Message { return []*proto.Message{p[0], p[0]} }, inbox.ErrOrder},
		{"of a topic that has joined", func([]*proto.Message) []*proto.Message { return []*proto.Message{{Topic: rest[0], Seq: 1}} }, inbox.ErrTopics},
		{"of a topic that is not followed", func([]*proto.Message) []*proto.Message { return []*proto.Message{{Topic: "cluster/99", Seq: 1}} }, inbox.ErrTopics},
	} {
		s, _, past := join()
		if err := s.Hold(x.msgs(past)); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
	// An edited message holds until the proof, and then nothing of it is left.
	s, a, past = join()
	before := s.Marshal()
	bad := *past[0]
	bad.Payload = append([]byte{1}, bad.Payload...)
	if err := s.Hold(slices.Concat([]*proto.Message{&bad}, past[1:])); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(a, c.Header(9).Time); !errors.Is(err, inbox.ErrFold) || string(s.Marshal()) != string(before) || s.Next(topic) != 1 {
		t.Fatalf("%v, next %d", err, s.Next(topic))
	}
	if err := s.Hold(past); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(a, c.Header(9).Time); err != nil {
		t.Fatalf("the honest ones afterwards: %v", err)
	}
}
