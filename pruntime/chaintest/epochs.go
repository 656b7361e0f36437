package chaintest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/phala-go/phala/proto"
)

// EndEpoch announces a cluster's next epoch. It starts when a majority of the seats
// published the same key for it.
func (c *Chain) EndEpoch(id proto.ClusterID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.announce(c.cluster(id))
}

func (c *Chain) announce(cl *proto.Cluster) {
	cl.Next, cl.NextSealed = max(cl.Epoch, cl.Next)+1, nil
	c.putCluster(cl)
	c.send(proto.TopicGatekeeper, proto.EpochAnnounced{Cluster: cl.ID, Epoch: cl.Next})
}

// Replace takes a worker's seat for good, gives it to another one that serves, and
// changes the cluster's key.
func (c *Chain) Replace(id proto.WorkerID) {
	c.mu.Lock()
	cl := c.cluster(c.workers[id].State.Cluster)
	c.mu.Unlock()
	c.Unseat(id)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone[id] = true
	cl.SeatsWanted++
	c.announce(cl)
}

func (c *Chain) nextKey(cl *proto.Cluster, w proto.WorkerID, key [32]byte) error {
	same := 1
	for _, s := range cl.NextSealed {
		if s.Worker == w {
			return nil
		}
		if s.Public == key {
			same++
		}
	}
	cl.NextSealed = append(cl.NextSealed, proto.SealedEpoch{Worker: w, Public: key})
	if same >= cl.Majority() {
		cl.Epoch, cl.EpochKey, cl.Sealed, cl.Next, cl.NextSealed = cl.Next, key, cl.NextSealed, 0, nil
		c.send(proto.TopicCluster(cl.ID), proto.EpochStarted{Cluster: cl.ID, Epoch: cl.Epoch})
		// Contracts whose constructors are sealed to the key of before are given up.
		c.waiting = slices.DeleteFunc(c.waiting, func(ct *proto.Contract) bool {
			if ct.Cluster != cl.ID || ct.Command.Epoch >= cl.Epoch {
				return false
			}
			ct.Phase = proto.ContractExpired
			c.C.Put(proto.StoreContracts, proto.KeyContract(ct.ID), ct.Marshal())
			return true
		})
	}
	c.putCluster(cl)
	return nil
}

func (c *Chain) putTaken(id proto.ClusterID, epoch uint64, rec *proto.SnapshotRecord) {
	k := proto.KeySnapshot(id, epoch)
	c.taken[string(k)] = rec
	c.C.Put(proto.StoreContracts, k, rec.Marshal())
}

func (c *Chain) snapshotTaken(cl *proto.Cluster, w proto.WorkerID, s *proto.Snapshot) error {
	if s.Epoch != cl.Epoch {
		return nil
	}
	rec := c.taken[string(proto.KeySnapshot(cl.ID, s.Epoch))]
	if rec == nil {
		rec = &proto.SnapshotRecord{}
	}
	if rec.Agreed {
		return nil
	}
	i := 0
	for i < len(rec.Taken) && !bytes.Equal(rec.Taken[i].Marshal(), s.Marshal()) {
		i++
	}
	if i == len(rec.Taken) {
		rec.Taken = append(rec.Taken, *s)
	}
	n := 1
	for _, v := range rec.Votes {
		if v.Worker == w {
			return nil
		}
		if v.Index == uint32(i) {
			n++
		}
	}
	rec.Votes = append(rec.Votes, proto.SnapshotVote{Worker: w, Index: uint32(i)})
	if n >= cl.Majority() {
		rec.Agreed, rec.Index, rec.Have, rec.Holder = true, uint32(i), make([]bool, len(s.Pieces)), w
		c.send(proto.TopicCluster(cl.ID), proto.SnapshotWanted{Cluster: cl.ID, State: s.Ref(), Holder: w})
	}
	c.putTaken(cl.ID, s.Epoch, rec)
	return nil
}

func pieceKey(c proto.ClusterID, epoch uint64, i uint32) string {
	return fmt.Sprint("state/", c, "/", epoch, "/", i)
}

func (c *Chain) snapshotPiece(cl *proto.Cluster, e *proto.SnapshotPiece) error {
	rec := c.taken[string(proto.KeySnapshot(cl.ID, e.Epoch))]
	if rec == nil || !rec.Agreed || int(e.Index) >= len(rec.Have) || sha256.Sum256(e.Piece) != rec.Snapshot().Pieces[e.Index] {
		return refuse("contracts", 18, "piece %d of epoch %d", e.Index, e.Epoch)
	}
	if rec.Have[e.Index] {
		return nil
	}
	rec.Have[e.Index] = true
	c.chunks[pieceKey(cl.ID, e.Epoch, e.Index)] = bytes.Clone(e.Piece)
	c.putTaken(cl.ID, e.Epoch, rec)
	if rec.Missing() == 0 {
		cl.State = rec.Snapshot().Ref()
		c.putCluster(cl)
		for _, t := range []string{proto.TopicGatekeeper, proto.TopicCluster(cl.ID)} {
			c.send(t, proto.SnapshotStored{Cluster: cl.ID, State: cl.State})
		}
	}
	return nil
}

// Snapshot returns the agreed snapshot of an epoch and what has its pieces.
func (c *Chain) Snapshot(id proto.ClusterID, epoch uint64) (s *proto.Snapshot, piece func(i int) []byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec := c.taken[string(proto.KeySnapshot(id, epoch))]
	if rec == nil || !rec.Agreed {
		return nil, nil, false
	}
	return rec.Snapshot(), func(i int) []byte {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.chunks[pieceKey(id, epoch, uint32(i))]
	}, true
}
