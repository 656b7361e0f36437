package pruntime_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// turn lets the cluster go to its next epoch and its snapshot be stored.
func (w *world) turn() {
	w.t.Helper()
	w.chain.EndEpoch(w.cluster)
	next := w.chain.Cluster(w.cluster).Next
	w.until("the next epoch started", func() bool { return w.chain.Cluster(w.cluster).Epoch == next })
	w.until("its snapshot is stored", func() bool { return w.chain.Cluster(w.cluster).State.Epoch == next })
}

// TestEpochs: the key changes and nobody notices: commands before, during and after are
// answered, and the seats agree.
func TestEpochs(t *testing.T) {
	w, _, ws := network(t, 2)
	id := w.deploy()
	keys := map[[32]byte]bool{}
	for range 3 {
		keys[w.chain.Cluster(w.cluster).EpochKey] = true
		if out := w.call(id, "n"); out.Status != proto.StatusOK {
			t.Fatal(out.Status, out.Error)
		}
		w.chain.EndEpoch(w.cluster)
		next := w.chain.Cluster(w.cluster).Next
		// Commands while the keys change.
		var all []*sent
		w.until("the next epoch started", func() bool {
			all = append(all, w.push(id, "n"))
			return w.chain.Cluster(w.cluster).Epoch == next
		})
		for _, s := range all {
			if out := w.answer(s); out.Status != proto.StatusOK {
				t.Fatal(out.Status, out.Error)
			}
		}
		w.until("its snapshot is stored", func() bool { return w.chain.Cluster(w.cluster).State.Epoch == next })
	}
	if len(keys) != 3 {
		t.Errorf("%d keys in 3 epochs", len(keys))
	}
	if a, b := ws[0].rt.Status(), ws[1].rt.Status(); *a.StateRoot != *b.StateRoot {
		t.Errorf("roots %s and %s", a.StateRoot, b.StateRoot)
	}
	// Their snapshots are on the chain and not on their disks any more.
	w.until("the snapshots are dropped", func() bool {
		for _, n := range ws {
			files, err := os.ReadDir(n.cfg.DataDir)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if strings.HasPrefix(f.Name(), "snapshot-") {
					return false
				}
			}
		}
		return true
	})
}

// has waits until the worker, which may still prepare the contract's code, answers a
// query with a value.
func (n *node) has(id proto.ContractID, input, want string) {
	n.w.t.Helper()
	n.w.until(fmt.Sprintf("%s answers %q to %s", n.name, want, input), func() bool {
		a, err := n.query(id, input)
		return err == nil && a.Status == proto.StatusOK && string(a.Return) == want
	})
}

// TestErasedDisks: every worker's disk is lost, and so are the bodies before the
// snapshot. The state comes back.
func TestErasedDisks(t *testing.T) {
	w, _, ws := network(t, 2)
	id := w.deploy()
	if out := w.call(id, "pkvalue"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.turn()
	after := w.call(id, "pqlater")
	if after.Status != proto.StatusOK {
		t.Fatal(after.Status, after.Error)
	}
	kept := w.chain.Cluster(w.cluster).State.Cursor.Seq
	var ids []proto.WorkerID
	for _, n := range ws {
		ids = append(ids, n.rt.Self())
		n.stop()
		n.off = true
	}
	// The operators start anew, with new identities, and get the seats.
	for i := range ws {
		w.chain.Replace(ids[i])
		n := w.add([]string{"new-0", "new-1"}[i], proto.RoleWorker).start()
		w.until("the new worker serves", n.serving)
		n.has(id, "gk", "value")
		n.has(id, "gq", "later")
	}
	if out := w.call(id, "pkmore"); out.Status != proto.StatusOK {
		t.Errorf("a command afterwards: %s %s", out.Status, out.Error)
	}
	// They did not replay what is in the snapshot.
	for _, e := range w.chain.Taken() {
		if r, ok := e.Entry.(proto.Receipt); ok && !slices.Contains(ids, e.Worker) && r.FromSeq <= kept {
			t.Errorf("%s answered message %d, the snapshot is of %d", e.Worker, r.FromSeq, kept)
		}
	}
}

// TestOldCheckpoint: a worker that comes back after its epoch's key is not released any
// more continues from the stored state.
func TestOldCheckpoint(t *testing.T) {
	w, _, ws := network(t, 3)
	id := w.deploy()
	lost := ws[2]
	saved := snapshot(t, lost.cfg.DataDir)
	lost.stop()
	lost.off = true
	if out := w.call(id, "pkvalue"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.turn()
	w.turn()
	w.call(id, "pqlater")
	saved.into(t, lost.cfg.DataDir)
	lost.off = false
	lost.start()
	w.until("it serves again", lost.serving)
	lost.has(id, "gk", "value")
	lost.has(id, "gq", "later")
	if a, b := ws[0].rt.Status(), lost.rt.Status(); *a.StateRoot != *b.StateRoot {
		t.Errorf("roots %s and %s", a.StateRoot, b.StateRoot)
	}
}

// TestForgedState: pieces that the cluster did not agree on are refused, and a worker
// that waits for its state answers nothing.
func TestForgedState(t *testing.T) {
	w, _, ws := network(t, 2)
	id := w.deploy()
	w.call(id, "pkvalue")
	w.turn()
	w.chain.Replace(ws[0].rt.Self())
	ws[0].stop()
	ws[0].off = true
	n := w.add("new", proto.RoleWorker, func(n *node) { n.noState = true }).start()
	w.until("it waits for the state", func() bool { return n.rt.Status().WantState != nil })
	if _, err := n.query(id, "gk"); !errors.Is(err, pruntime.ErrNotServing) {
		t.Errorf("without the state: %v", err)
	}
	s, piece, _ := w.chain.Snapshot(w.cluster, w.chain.Cluster(w.cluster).State.Epoch)
	refused := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, pruntime.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := *s
	other.Root[0] ^= 1
	refused("no description", n.rt.PutSnapshot(nil))
	refused("another state", n.rt.PutSnapshot(other.Marshal()))
	refused("a piece before the description", n.rt.PutPiece(0, piece(0)))
	refused("a worker that has its state", ws[1].rt.PutSnapshot(s.Marshal()))
	if err := n.rt.PutSnapshot(s.Marshal()); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(piece(0))
	bad[5] ^= 1
	refused("an edited piece", n.rt.PutPiece(0, bad))
	refused("a piece that there is none of", n.rt.PutPiece(len(s.Pieces), piece(0)))
	refused("a piece of negative number", n.rt.PutPiece(-1, piece(0)))
	if n.serving() {
		t.Error("it serves without the state")
	}
	n.noState = false
	w.until("it serves", n.serving)
	n.has(id, "gk", "value")
	if err := n.rt.PutPiece(0, piece(0)); !errors.Is(err, pruntime.ErrState) {
		t.Errorf("again: %v", err)
	}
}

// TestLongAway: a worker that comes back after more messages than may wait, of epochs
// whose keys are gone, does not keep them all and does not stop: it continues from the
// stored state that comes after them.
func TestLongAway(t *testing.T) {
	w, _, ws := network(t, 3)
	id := w.deploy()
	lost := ws[2]
	lost.stop()
	lost.off = true
	w.turn()
	// Messages that mean nothing to a cluster.
	for range 9 {
		for range 4000 {
			w.chain.Send(proto.TopicCluster(w.cluster), proto.ChallengeEchoed{})
		}
		w.step()
	}
	w.call(id, "pkvalue")
	w.turn()
	lost.off = false
	lost.start()
	w.until("it serves again", lost.serving)
	lost.has(id, "gk", "value")
	if a, b := ws[0].rt.Status(), lost.rt.Status(); *a.StateRoot != *b.StateRoot {
		t.Errorf("roots %s and %s", a.StateRoot, b.StateRoot)
	}
}

// TestLateState: the only seat comes back from before the epoch, more messages wait than
// it keeps, and the pieces of the state come late. It goes on, and nothing is lost.
func TestLateState(t *testing.T) {
	w, _, ws := network(t, 1)
	id := w.deploy()
	lost := ws[0]
	lost.stop()
	lost.start()
	w.until("it serves", lost.serving)
	saved := snapshot(t, lost.cfg.DataDir)
	if out := w.call(id, "pkvalue"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.turn()
	lost.stop()
	lost.off = true
	for range 9 {
		for range 4000 {
			w.chain.Send(proto.TopicCluster(w.cluster), proto.ChallengeEchoed{})
		}
		w.step()
	}
	more := w.push(id, "pqmore")
	w.step()
	saved.into(t, lost.cfg.DataDir)
	lost.off, lost.noState = false, true
	lost.start()
	w.until("it wants the state", func() bool { return lost.rt.Status().WantState != nil })
	for range 10 {
		w.step()
	}
	lost.noState = false
	w.until("it serves again", lost.serving)
	lost.has(id, "gk", "value")
	lost.has(id, "gq", "more")
	if out := w.answer(more); out.Status != proto.StatusOK {
		t.Error(out.Status, out.Error)
	}
}

// TestStateBeforeItsKey: pieces that are there before the key which opens them do not make
// a worker give the state up.
func TestStateBeforeItsKey(t *testing.T) {
	w, _, ws := network(t, 3)
	id := w.deploy()
	lost := ws[2]
	lost.off = true // its relayer is away; the process runs
	w.chain.EndAdmission(lost.rt.Self())
	if out := w.call(id, "pkvalue"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.turn()
	w.turn()
	lost.off = false
	for range 5 {
		w.step()
	}
	if err := lost.register(); err != nil {
		t.Fatal(err)
	}
	w.until("it serves again", lost.serving)
	lost.has(id, "gk", "value")
}
