package pruntime_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// refuses fails the test when the node answers.
func refuses(t *testing.T, what string, n *node, id proto.ContractID) {
	t.Helper()
	if a, err := n.query(id, "gi"); !errors.Is(err, pruntime.ErrNotServing) {
		t.Fatalf("%s: answers %v, %v", what, a, err)
	}
	if st := n.rt.Status(); st.Serving || st.Why == "" {
		t.Errorf("%s: it says serving %v, why %q", what, st.Serving, st.Why)
	}
}

// TestCutOff: a worker whose relayer stopped answers until its lease is over, and again
// when it is back.
func TestCutOff(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	n.off = true
	last := 0
	for i := range 60 {
		w.step()
		if n.serving() {
			last = i + 1
		}
	}
	// The lease counts from the sending of the last challenge that came back.
	if last >= int(lease.Seconds()) || last < int(lease.Seconds())/2-3 {
		t.Errorf("it served for %d of %s", last, lease)
	}
	refuses(t, "cut off", n, id)
	n.off = false
	w.until("it serves again", n.serving)
}

// TestFrozen: a worker that was frozen wakes up with its lease over, and does not count an
// echo that comes late.
func TestFrozen(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	w.until("a challenge is on its way", func() bool { return n.rt.Status().Outbox.Count > 0 })
	n.ahead += lease
	refuses(t, "frozen", n, id)
	n.off = true
	n.relay() // what was on its way arrives; the lease counts from its sending
	refuses(t, "frozen, after the echo of an old challenge", n, id)
	n.off = false
	w.until("it serves again", n.serving)
	// Not an instant longer than the lease.
	n.off = true
	for range 5 {
		w.step()
	}
	at := n.ahead
	for n.ahead < at+2*lease && n.serving() {
		n.ahead += 100 * time.Millisecond
	}
	if n.ahead-at > lease {
		t.Errorf("served %s after the last block", n.ahead-at)
	}
}

// TestCloned: of two enclaves with one identity, one serves: the one whose session the
// chain took last. They do not fight.
func TestCloned(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	n.stop()
	files := snapshot(t, n.cfg.DataDir)
	n.start()
	w.until("it serves", n.serving)
	clone := w.add("clone", proto.RoleWorker, func(m *node) { m.tee = n.tee })
	files.into(t, clone.cfg.DataDir)
	clone.start()
	w.code = proto.Hash{} // its code is on disk of the first only
	if err := clone.rt.Prepare(w.module); err != nil {
		t.Fatal(err)
	}
	if clone.rt.Self() != n.rt.Self() {
		t.Fatal("it is not a clone")
	}
	w.until("the clone serves", clone.serving)
	refuses(t, "cloned", n, id)
	sessions := func() (count int) {
		for _, x := range w.chain.Taken() {
			if _, ok := x.Entry.(proto.StartSession); ok {
				count++
			}
		}
		return count
	}
	before := sessions()
	for range int(6 * lease.Seconds()) {
		w.step()
		if info, _ := w.chain.Worker(n.rt.Self()); n.serving() && proto.Hash(info.State.Session) != n.rt.Status().Session && w.chain.Height() > int64(info.State.SessionHeight)+3 {
			t.Fatal("one serves whose session is not the chain's")
		}
		if n.serving() && clone.serving() {
			t.Fatal("both serve")
		}
	}
	if took := sessions() - before; took > 12 {
		t.Errorf("%d sessions in six leases", took)
	}
}

// TestSessionRotates: each interval has its own session key; the older one opens until the
// chain has the newer, and no longer.
func TestSessionRotates(t *testing.T) {
	w, _, ws := network(t, 1, func(n *node) { n.cfg.SessionInterval = 40 * time.Second })
	id, n := w.deploy(), ws[0]
	first := n.rt.Status().Session
	w.until("a new session is made", func() bool { return n.rt.Status().Session != first })
	if a, err := n.ask(&proto.Query{To: id, Input: []byte("gi")}, [32]byte(first)); err != nil || string(a.Return) != "1" {
		t.Errorf("the older session, before the chain has the newer: %v, %v", a, err)
	}
	second := n.rt.Status().Session
	w.until("the chain has it", func() bool {
		info, _ := w.chain.Worker(n.rt.Self())
		return proto.Hash(info.State.Session) == second
	})
	w.step()
	w.step()
	if _, err := n.ask(&proto.Query{To: id}, [32]byte(first)); !errors.Is(err, pruntime.ErrNotServing) {
		t.Errorf("the older session still opens: %v", err)
	}
	if !n.serving() || n.rt.Status().Session != second {
		t.Error("it does not serve with the new session")
	}
}

// TestSessionIsAnnouncedAgain: a session that the chain did not take, because the entry
// named an old block when it arrived, is announced again.
func TestSessionIsAnnouncedAgain(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	n.stop()
	n.start()
	n.off = true
	// It learns the chain and says what it has to say, and then nobody comes for a long time.
	if err := n.rt.Advance(w.chain.Advance(n.rt.Status()).Marshal()); err != nil {
		t.Fatal(err)
	}
	w.chain.Next(700)
	n.off = false
	w.until("it serves", n.serving)
	w.until("the contract answers", func() bool {
		a, err := n.query(id, "gi")
		return err == nil && string(a.Return) == "1"
	})
}

// TestLateSeat: a worker that was given a seat in a cluster with a past answers nothing
// until it has gone through it, however fresh it was before.
func TestLateSeat(t *testing.T) {
	meanwhile(t, "a query while it caught up", func() bool { return askedOfLate(t) > 0 })
}

// askedOfLate counts the queries that come while a worker goes through its cluster's past.
func askedOfLate(t *testing.T) (behind int) {
	t.Helper()
	w, g, ws := network(t, 3)
	id, n := w.deploy(), ws[2]
	w.chain.Unseat(n.rt.Self())
	for range 30 {
		w.push(id, "s\x00\x00\x40\x00")
	}
	w.call(id, "n")
	for _, topic := range []string{proto.TopicGatekeeper, proto.TopicWorker(n.rt.Self())} {
		w.chain.Send(topic, proto.Seated{Cluster: w.cluster, Worker: n.rt.Self(), Epoch: 1})
	}
	caughtUp := func() bool { a, err := n.query(id, "gn"); return err == nil && string(a.Return) == "\x01" }
	stale := false
	for range 20 {
		w.chain.Next(1)
		if err := g.relay(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- n.relay() }()
		for busy := true; busy; {
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				busy = false
			default:
			}
			a, err := n.query(id, "gn")
			if err != nil && strings.Contains(err.Error(), "catching up") {
				behind++
			}
			if err == nil && string(a.Return) != "\x01" && !stale {
				stale = true
				t.Errorf("it answers from message %d", a.Seq)
			}
		}
	}
	if !caughtUp() {
		t.Error("it does not answer when it has caught up")
	}
	return behind
}
