package pruntime

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/inbox"
	"github.com/phala-go/phala/pruntime/keys"
)

// ErrState: a piece of a cluster's state that this worker did not ask for, or that is not
// the one that it asked for.
var ErrState = errors.New("pruntime: piece of a state refused")

// joining collects the pieces of a state.
type joining struct {
	ref      proto.StateRef
	manifest *proto.Snapshot // nil until it came
	pieces   [][]byte
	missing  int
}

// needsState reports whether messages are missing between the replica's state and those
// that wait: the seat is newer than they, or they were too many to wait. Nothing is
// processed over such a gap.
func (r *Runtime) needsState(s *seat) bool {
	if s.replica == nil {
		return false
	}
	delivered, _ := r.state.Cursor(proto.TopicCluster(s.cluster))
	return s.processed+uint64(len(s.pending)) != delivered.Seq
}

// want returns what the relayer is to bring of the cluster's state, nil for nothing: it
// is wanted where messages are missing, or the keys of the replica's epoch are not
// released any more, and the chain keeps a state that is newer than the replica's. The
// caller holds the lock.
func (r *Runtime) want() *joining {
	s := r.seat
	if s == nil || s.replica == nil || !(r.needsState(s) || errors.Is(s.blocked, cluster.ErrNeedKey)) ||
		s.stored == s.unusable || s.processed >= s.stored.Cursor.Seq || !s.replica.HasEpoch(s.stored.Epoch) {
		return nil
	}
	if s.joining == nil || s.joining.ref != s.stored {
		s.joining = &joining{ref: s.stored}
	}
	return s.joining
}

// A WantedState is the part of a cluster's state that a worker lacks: GET its
// SnapshotRecord and pieces from a node.
type WantedState struct {
	Cluster   proto.ClusterID `json:"cluster"`
	Epoch     uint64          `json:"epoch"`
	Described bool            `json:"described"`        // the snapshot's description is here
	Pieces    []int           `json:"pieces,omitempty"` // the first of those that are missing
}

// wanted is want for the status.
func (r *Runtime) wanted() *WantedState {
	j := r.want()
	if j == nil {
		return nil
	}
	w := &WantedState{Cluster: r.seat.cluster, Epoch: j.ref.Epoch, Described: j.manifest != nil}
	for i, p := range j.pieces {
		if p == nil && len(w.Pieces) < 64 {
			w.Pieces = append(w.Pieces, i)
		}
	}
	return w
}

// PutSnapshot takes the description of the state that is wanted.
func (r *Runtime) PutSnapshot(b []byte) error {
	m, err := proto.ParseSnapshot(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	r.lock()
	defer r.unlock()
	j := r.want()
	if j == nil || m.Ref() != j.ref {
		return fmt.Errorf("%w: the snapshot of epoch %d is not wanted", ErrState, m.Epoch)
	}
	if j.manifest == nil {
		j.manifest, j.pieces, j.missing = m, make([][]byte, len(m.Pieces)), len(m.Pieces)
	}
	return nil
}

// PutPiece takes one piece of the state that is wanted, and with the last one continues
// from it.
func (r *Runtime) PutPiece(i int, b []byte) error {
	r.lock()
	defer r.unlock()
	j := r.want()
	if j == nil || j.manifest == nil {
		return fmt.Errorf("%w: no piece is wanted", ErrState)
	}
	if i < 0 || i >= len(j.pieces) || sha256.Sum256(b) != j.manifest.Pieces[i] {
		return fmt.Errorf("%w: piece %d is not of the snapshot of epoch %d", ErrState, i, j.ref.Epoch)
	}
	if j.pieces[i] != nil {
		return nil
	}
	j.pieces[i] = bytes.Clone(b)
	if j.missing--; j.missing > 0 {
		return nil
	}
	s := r.seat
	s.joining = nil
	state, err := s.replica.Unseal(j.manifest, j.pieces)
	if err == nil {
		err = s.replica.Adopt(state)
	}
	if errors.Is(err, cluster.ErrRules) {
		return r.halt(err)
	}
	if err != nil {
		// The pieces are those that a majority of the seats agreed on, and they are not a
		// state: to bring them again does not help, a later snapshot may.
		s.unusable = j.ref
		r.cfg.Log.Error("the cluster's stored state cannot be used", "cluster", s.cluster, "epoch", j.ref.Epoch, "error", err)
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	s.processed = j.ref.Cursor.Seq
	for len(s.pending) > 0 && s.pending[0].Message.Seq <= s.processed {
		s.pending = s.pending[1:]
	}
	s.blocked = nil
	if err := r.bringAgain(s); err != nil {
		return err
	}
	for _, h := range state.Codes() {
		r.codes.want(h, state.Rules())
	}
	r.cfg.Log.Info("continuing from the cluster's state", "cluster", s.cluster, "epoch", j.ref.Epoch, "message", j.ref.Cursor.Seq)
	r.vote()
	return r.runCluster()
}

// bringAgain follows the cluster's topic from the replica's own position where messages
// in between were dropped and no newer state takes their place.
func (r *Runtime) bringAgain(s *seat) error {
	if !r.needsState(s) || s.stored.Cursor.Seq > s.processed || errors.Is(s.blocked, cluster.ErrNeedKey) {
		return nil
	}
	topic := proto.TopicCluster(s.cluster)
	r.state.Unfollow(topic)
	s.pending = nil
	return r.state.FollowFrom(topic, s.replica.Snapshot().Cursor())
}

const snapshotPrefix = "snapshot-"

// A snapshot is kept in a file for each piece.
func snapshotFile(c proto.ClusterID, epoch uint64, piece int) string {
	return fmt.Sprintf("%s%010d-%020d-%04d", snapshotPrefix, c, epoch, piece)
}

// posting is how far a snapshot that this seat was asked for has been posted.
type posting struct {
	epoch uint64
	next  int
}

// dropSnapshots deletes the snapshots up to an epoch.
func (r *Runtime) dropSnapshots(c proto.ClusterID, upTo uint64) error {
	names, err := r.store.List(snapshotPrefix)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n <= snapshotFile(c, upTo, proto.MaxPieces) {
			if err := r.store.Delete(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepState does what an epoch's beginning and the chain's words about snapshots ask of
// a seat, once the messages that say so were processed: take a snapshot of the state,
// post its pieces when asked, forget it when the nodes have it.
func (r *Runtime) keepState(s *seat, started uint64, done []inbox.Item) error {
	if started != 0 {
		snap := s.replica.Snapshot()
		r.mu.Unlock() // as long as the state is large
		manifest, pieces, err := s.replica.Seal(snap)
		for i := 0; i < len(pieces) && err == nil; i++ {
			err = r.store.Put(snapshotFile(s.cluster, started, i), pieces[i])
		}
		r.mu.Lock()
		if err != nil {
			// The other seats have it; this one goes on.
			r.cfg.Log.Error("no snapshot", "cluster", s.cluster, "epoch", started, "error", err)
			return nil
		}
		r.outbox.push(proto.SnapshotTaken{Cluster: s.cluster, Snapshot: *manifest})
	}
	for i := range done {
		switch e := done[i].Event.(type) {
		case proto.SnapshotWanted:
			if e.Holder == r.self {
				s.posting = &posting{epoch: e.State.Epoch}
			}
		case proto.SnapshotStored:
			if err := r.dropSnapshots(s.cluster, e.State.Epoch); err != nil {
				return err
			}
		}
	}
	return nil
}

// postPieces puts the next pieces of a snapshot that this seat was asked for into the
// outbox, when that is nearly empty: what keeps the worker alive must not wait behind a
// whole state.
func (r *Runtime) postPieces() {
	s := r.seat
	if s == nil || s.posting == nil || len(r.outbox.queue) > 2 {
		return
	}
	for range 3 {
		b, err := r.store.Get(snapshotFile(s.cluster, s.posting.epoch, s.posting.next))
		if err != nil {
			if !errors.Is(err, keys.ErrNone) {
				r.cfg.Log.Error("snapshot lost", "cluster", s.cluster, "epoch", s.posting.epoch, "error", err) // another seat is asked
			}
			s.posting = nil
			return
		}
		r.outbox.push(proto.SnapshotPiece{Cluster: s.cluster, Epoch: s.posting.epoch, Index: uint32(s.posting.next), Piece: b})
		s.posting.next++
	}
}

// noteStored remembers the newest state that the chain keeps, when the message that says
// so is delivered: the ones before it may never be processed here.
func (s *seat) noteStored(e proto.SnapshotStored) {
	if e.State.Cursor.Seq > s.stored.Cursor.Seq {
		s.stored = e.State
	}
}
