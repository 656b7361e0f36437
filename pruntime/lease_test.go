package pruntime

import (
	"testing"
	"time"
)

// TestLeaseCountsWhenReached: a challenge that came back counts from when the state has
// come to where it did, and then from its sending.
func TestLeaseCountsWhenReached(t *testing.T) {
	const length = 30 * time.Second
	start := time.Unix(1_700_000_000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	l := new(lease)
	send := func(s int) (nonce [32]byte) {
		t.Helper()
		nonce, due := l.challenge(at(s), length)
		if !due {
			t.Fatalf("no challenge is due after %d s", s)
		}
		return nonce
	}
	first := send(0)
	if _, due := l.challenge(at(9), length); due {
		t.Error("another one before a third of the lease is over")
	}
	l.echoed([32]byte{1}, 5)
	l.reached(100)
	if l.valid(at(1), length) {
		t.Error("another nonce counts")
	}
	l.echoed(first, 7)
	if l.valid(at(1), length) {
		t.Error("it counts before the state has come there")
	}
	if _, due := l.challenge(at(9), length); due {
		t.Error("another one is sent while one waits for the state")
	}
	if l.reached(7); l.valid(at(1), length) {
		t.Error("it counts before its own height is in the state")
	}
	second := send(10)
	l.echoed(second, 20)
	third := send(20)
	l.echoed(third, 40)
	l.echoed(third, 41)
	if l.reached(8); !l.valid(at(29), length) || l.valid(at(30), length) {
		t.Error("the first does not count from its sending, for the length of the lease")
	}
	if l.reached(40); !l.valid(at(39), length) || l.valid(at(40), length) {
		t.Error("the second does not count, or the third does before its time")
	}
	if l.reached(41); !l.valid(at(49), length) || l.valid(at(50), length) {
		t.Error("the third does not count")
	}
	// A state that never comes forward keeps no more than it must.
	for i := range 100 {
		l.echoed(send(100+10*i), uint64(100+i))
	}
	if len(l.back) != maxEchoes {
		t.Errorf("%d echoes are kept", len(l.back))
	}
	if l.reached(1000); !l.valid(at(1119), length) {
		t.Error("the newest of many does not count")
	}
}
