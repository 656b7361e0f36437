package main

import (
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
)

// TestRulesStatus: whoever asks sees which seat keeps a cluster under its old rules, and why.
func TestRulesStatus(t *testing.T) {
	seat := func(n byte) proto.WorkerID { return proto.WorkerID{n} }
	seats := []seatStatus{{Worker: seat(1), Rules: 2}, {Worker: seat(2), Rules: 1}, {Worker: seat(3), Rules: 2}}
	word := func(n byte, seq uint64, image byte) proto.RulesWord {
		return proto.RulesWord{Worker: seat(n), Seq: seq, Images: proto.Hash{image}}
	}
	for _, c := range []struct {
		name    string
		wanted  uint32
		ready   []proto.RulesWord
		missing int
		says    []string // nothing else
	}{
		{"nothing is wanted", 0, nil, 0, nil},
		{"one is ready", 2, []proto.RulesWord{word(1, 5, 1)}, 2, []string{"version 2 is wanted, 1 of 3 seats", seat(2).String() + " knows up to version 1", seat(3).String() + " prepares"}},
		{"all but the old one", 2, []proto.RulesWord{word(1, 5, 1), word(3, 4, 2)}, 1, []string{"2 of 3 seats", seat(2).String() + " knows up to version 1"}},
		{"they differ", 2, []proto.RulesWord{word(1, 5, 1), word(2, 5, 1), word(3, 5, 2), word(9, 5, 3)}, 0, []string{"3 of 3 seats", "different images"}},
		{"who lost its seat does not count", 2, []proto.RulesWord{word(1, 5, 1), word(2, 5, 1), word(9, 5, 3)}, 1, []string{"2 of 3 seats", seat(3).String() + " prepares"}},
	} {
		st := rulesOf(&proto.Cluster{Rules: 1, Wanted: c.wanted, Ready: c.ready, Seats: []proto.WorkerID{seat(1), seat(2), seat(3)}})
		if st.Version != 1 || st.Wanted != c.wanted || len(st.Missing) != c.missing {
			t.Errorf("%s: %+v", c.name, st)
		}
		var b strings.Builder
		st.print(&b, seats)
		if n := strings.Count(b.String(), "\n"); n != len(c.says) {
			t.Errorf("%s: %d lines:\n%s", c.name, n, b.String())
		}
		for _, s := range c.says {
			if !strings.Contains(b.String(), s) {
				t.Errorf("%s: nothing of %q in\n%s", c.name, s, b.String())
			}
		}
	}
}

// TestStalled: a cluster without enough seats, or without a key, is not all right because
// none of its seats has a problem.
func TestStalled(t *testing.T) {
	key := [32]byte{1}
	for _, c := range []struct {
		name   string
		wanted uint32
		seats  int
		key    [32]byte
		says   string
	}{
		{"all seats", 3, 3, key, ""},
		{"a majority", 3, 2, key, ""},
		{"no majority", 3, 1, key, "cluster 7 has 1 of 3 seats, and needs 2"},
		{"nobody", 1, 0, key, "cluster 7 has 0 of 1 seats, and needs 1"},
		{"no key", 1, 1, [32]byte{}, "cluster 7 has no key yet"},
	} {
		got := stalled(&proto.Cluster{ID: 7, SeatsWanted: c.wanted, Seats: make([]proto.WorkerID, c.seats), EpochKey: c.key})
		if (got == "") != (c.says == "") || !strings.HasPrefix(got, c.says) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.says)
		}
	}
}
