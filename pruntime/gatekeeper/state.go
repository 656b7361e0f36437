package gatekeeper

import (
	"fmt"
	"maps"
	"slices"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

// Marshal encodes what the gatekeeper knows, without its share.
func (g *Gatekeeper) Marshal() []byte {
	w := new(wire.Writer).Fixed(g.master[:]).Count(len(g.workers))
	for _, id := range sorted(g.workers) {
		k := g.workers[id]
		w.Fixed(id[:]).Fixed(k.session[:]).U64(k.said).U64(k.epoch).U64(k.expires).U64(k.until).Fixed(k.machine[:])
		w.U64(k.named.Height).Fixed(k.named.Hash[:]).U64(k.root.Height).Fixed(k.root.Hash[:]).Count(len(k.seats))
		for _, c := range slices.Sorted(maps.Keys(k.seats)) {
			w.U32(uint32(c))
		}
	}
	w.Count(len(g.clusters))
	for _, c := range slices.Sorted(maps.Keys(g.clusters)) {
		w.U32(uint32(c)).U64(g.clusters[c].first).U64(g.clusters[c].last)
	}
	w.Count(len(g.collateral))
	for _, p := range slices.Sorted(maps.Keys(g.collateral)) {
		w.String(p).Blob(g.collateral[p])
	}
	return w.Bytes()
}

// Restore decodes what Marshal returned. What waited for a block is due afterwards, and
// nothing else: workers that restarted meanwhile announce their sessions themselves.
func (g *Gatekeeper) Restore(b []byte) error {
	r := wire.NewReader(b)
	master, workers, clusters := r.Array32(), map[proto.WorkerID]*worker{}, map[proto.ClusterID]*epochs{}
	for range r.Count(1<<20, 212) {
		id := proto.WorkerID(r.Array32())
		if workers[id] != nil {
			r.Fail(fmt.Errorf("%w: worker %s twice", wire.ErrNotCanonical, id))
		}
		k := &worker{session: r.Array32(), said: r.U64(), epoch: r.U64(), expires: r.U64(), until: r.U64(), machine: r.Array32(),
			named: Block{r.U64(), r.Array32()}, root: Block{r.U64(), r.Array32()}, seats: map[proto.ClusterID]bool{}}
		for range r.Count(proto.MaxSeats, 4) {
			k.seats[proto.ClusterID(r.U32())] = true
		}
		workers[id] = k
	}
	for range r.Count(1<<20, 20) {
		id, e := proto.ClusterID(r.U32()), &epochs{r.U64(), r.U64()}
		if clusters[id] != nil || e.last < e.first || e.last-e.first >= maxEpochs {
			r.Fail(fmt.Errorf("%w: epochs %d to %d of cluster %s", wire.ErrNotCanonical, e.first, e.last, id))
		}
		clusters[id] = e
	}
	collateral := map[string][]byte{}
	for range r.Count(1<<16, 8) {
		p := r.String(64)
		collateral[p] = r.Blob(1 << 20)
	}
	if err := r.Close(); err != nil {
		return fmt.Errorf("gatekeeper: state: %w", err)
	}
	g.master, g.workers, g.clusters, g.collateral, g.machines = master, workers, clusters, collateral, map[[32]byte]proto.WorkerID{}
	for id, w := range workers {
		if w.expires > 0 {
			g.machines[w.machine] = id
		}
		if w.waits() {
			g.markAll(id, w)
		}
	}
	return nil
}
