package pruntime_test

import (
	"slices"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest"
)

// TestJoinWhileCodeWaits: a seat that begins with a snapshot, and so without the messages
// before it, gives its word for every code for which contracts wait. Of three seats one is
// free and one never gets the code, so the contract runs only with the word of the one that
// joins.
func TestJoinWhileCodeWaits(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before bool // the code was announced in an epoch before, too, of which the joining seat hears nothing
	}{
		{"announced since the snapshot", false},
		{"announced before the snapshot", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			g := w.add("gatekeeper", proto.RoleGatekeeper).start()
			quick, slow := w.add("quick", proto.RoleWorker).start(), w.add("slow", proto.RoleWorker, func(n *node) { n.noCodes = true }).start()
			w.until("the gatekeeper is active", g.serving)
			w.cluster = w.chain.CreateCluster([]byte("owner"), 3)
			w.until("two serve", func() bool { return quick.serving() && slow.serving() })
			w.until("the cluster has a key", func() bool { return w.chain.Cluster(w.cluster).EpochKey != [32]byte{} })
			phase := func(id proto.ContractID) uint8 {
				b, _ := w.chain.C.Get(w.chain.Height(), proto.StoreContracts, proto.KeyContract(id))
				ct, err := proto.ParseContract(b)
				if err != nil {
					t.Fatal(err)
				}
				return ct.Phase
			}
			said := func(n *node) bool {
				return slices.ContainsFunc(w.chain.Taken(), func(x chaintest.Taken) bool {
					e, ok := x.Entry.(proto.CodePrepared)
					return ok && x.Worker == n.rt.Self() && e.Code == w.code
				})
			}

			if tc.before {
				old := w.announce(w.module)
				w.until("one has prepared the code", func() bool { return said(quick) })
				w.turn()
				if p := phase(old); p != proto.ContractExpired {
					t.Fatalf("the contract of the epoch before is in phase %d", p)
				}
			} else {
				w.turn()
			}
			kept := w.chain.Cluster(w.cluster).State.Cursor.Seq
			id := w.announce(w.module)
			w.until("one has prepared the code", func() bool { return said(quick) })
			for range 5 {
				w.step()
			}
			if p := phase(id); p != proto.ContractWaiting {
				t.Fatalf("with one word the contract is in phase %d", p)
			}

			late := w.add("late", proto.RoleWorker).start()
			w.until("it has a seat", func() bool { return len(w.chain.Cluster(w.cluster).Seats) == 3 })
			late.has(id, "gi", "1")
			if !said(late) {
				t.Error("it gave no word for the code")
			}
			for _, e := range w.chain.Taken() {
				if r, ok := e.Entry.(proto.Receipt); ok && e.Worker == late.rt.Self() && r.FromSeq <= kept {
					t.Errorf("it answered message %d, the snapshot is of %d", r.FromSeq, kept)
				}
			}
		})
	}
}
