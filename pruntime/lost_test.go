package pruntime_test

import (
	"testing"
	"time"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// TestLostOutbox: entries that were signed before a kill and reach the chain after it do
// not take the place of what the enclave has to say now.
func TestLostOutbox(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	for range 10 {
		w.step()
	}
	// Four heights of commands whose receipts a relayer takes and holds back.
	n.off = true
	w.until("nothing is on its way", func() bool { n.lastErr = n.relay(); return n.rt.Status().Outbox.Count == 0 })
	var all []*sent
	for range 4 {
		all = append(all, w.push(id, "n"))
		w.chain.Next(1)
	}
	w.chain.Next(1)
	if err := n.rt.Advance(w.chain.Advance(n.rt.Status()).Marshal()); err != nil {
		t.Fatal(err)
	}
	if err := n.acknowledge(); err != nil {
		t.Fatal(err)
	}
	first, entries, err := n.rt.Outbox(100)
	if err != nil || len(entries) < 4 {
		t.Fatal(len(entries), err)
	}
	entries = entries[:len(entries)-1] // and not all of them
	n.kill()
	n.start()
	// It starts, catches up and gets to know the chain's position; then the old run arrives.
	if err := n.rt.Advance(w.chain.Advance(n.rt.Status()).Marshal()); err != nil {
		t.Fatal(err)
	}
	if err := n.acknowledge(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.rt.Outbox(100); err != nil {
		t.Fatal(err)
	}
	if err := w.chain.Submit(n.rt.Self(), first, plain(entries)); err != nil {
		t.Fatal(err)
	}
	n.off = false
	for i, s := range all {
		if out := w.answer(s); out.Status != proto.StatusOK || int(out.Return[0]) != i+1 {
			t.Errorf("command %d ends with %s %x", i, out.Status, out.Return)
		}
	}
	w.until("it serves", n.serving)
}

// TestLostSession: a session that was given out under numbers which entries of the life
// before took is announced again at once, and not after a third of the lease.
func TestLostSession(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	n.off = true
	w.until("nothing is on its way", func() bool { n.lastErr = n.relay(); return n.rt.Status().Outbox.Count == 0 })
	w.push(id, "n")
	w.chain.Next(2)
	bring := func() (uint64, []pruntime.SignedEntry) {
		t.Helper()
		err := n.rt.Advance(w.chain.Advance(n.rt.Status()).Marshal())
		if err == nil {
			err = n.acknowledge()
		}
		first, entries, oerr := n.rt.Outbox(100)
		if err != nil || oerr != nil {
			t.Fatal(err, oerr)
		}
		return first, entries
	}
	first, receipts := bring()
	if len(receipts) == 0 {
		t.Fatal("no receipt is on its way")
	}
	n.kill()
	n.start()
	bring()
	w.chain.Next(3)
	if again, entries := bring(); len(entries) == 0 || again != first {
		t.Fatalf("%d entries from %d are given out, want a session from %d", len(entries), again, first)
	}
	if err := w.chain.Submit(n.rt.Self(), first, plain(receipts)); err != nil {
		t.Fatal(err)
	}
	n.off = false
	from := w.chain.C.Height()
	w.until("it serves", func() bool { n.prepared(id); return n.serving() })
	if took, third := w.chain.C.Height()-from, int64(lease/time.Second/3); took >= third {
		t.Errorf("it took %d blocks, a third of the lease is %d", took, third)
	}
}
