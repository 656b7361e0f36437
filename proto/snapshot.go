package proto

import (
	"crypto/sha256"
	"fmt"

	"github.com/phala-go/phala/proto/wire"
)

// Limits of snapshots.
const (
	PieceSize = 256 << 10 // bytes of a piece; of the last one, at most
	MaxPieces = 4096      // 1 GiB of state
)

// A StateRef names a cluster's state that a majority of its seats agreed on, as a
// snapshot from which others continue.
type StateRef struct {
	Epoch    uint64 // the epoch at whose start it was taken
	Cursor   Cursor // position in the cluster's topic
	Root     Hash   // state root there
	Manifest Hash   // of the Snapshot that holds it
}

// IsZero reports whether r names no state.
func (r *StateRef) IsZero() bool { return *r == StateRef{} }

func (r *StateRef) encode(w *wire.Writer) {
	w.U64(r.Epoch).Fixed(r.Cursor.Marshal()).Fixed(r.Root[:]).Fixed(r.Manifest[:])
}

// Marshal returns 112 bytes.
func (r *StateRef) Marshal() []byte {
	w := wire.NewWriter(112)
	r.encode(w)
	return w.Bytes()
}

func readStateRef(r *wire.Reader) StateRef {
	return StateRef{r.U64(), Cursor{r.U64(), r.Array32()}, r.Array32(), r.Array32()}
}

// ParseStateRef reads what Marshal returned.
func ParseStateRef(b []byte) (*StateRef, error) {
	r := wire.NewReader(b)
	s := readStateRef(r)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: state: %w", err)
	}
	return &s, nil
}

// A Snapshot describes a cluster's state, encrypted to the cluster and cut into pieces.
// Every seat makes the same one.
type Snapshot struct {
	Epoch  uint64
	Cursor Cursor
	Root   Hash
	Size   uint64 // bytes of all pieces
	Pieces []Hash // SHA-256 of each; all but the last have PieceSize bytes
}

func (s *Snapshot) encode(w *wire.Writer) {
	w.U64(s.Epoch).Fixed(s.Cursor.Marshal()).Fixed(s.Root[:]).U64(s.Size).Count(len(s.Pieces))
	for _, h := range s.Pieces {
		w.Fixed(h[:])
	}
}

// Marshal encodes s.
func (s *Snapshot) Marshal() []byte {
	w := new(wire.Writer)
	s.encode(w)
	return w.Bytes()
}

// Ref names the state that s holds.
func (s *Snapshot) Ref() StateRef {
	return StateRef{s.Epoch, s.Cursor, s.Root, sha256.Sum256(s.Marshal())}
}

// PieceLen is the length of piece i.
func (s *Snapshot) PieceLen(i int) int {
	if i == len(s.Pieces)-1 {
		return int(s.Size - PieceSize*uint64(i))
	}
	return PieceSize
}

func readSnapshot(r *wire.Reader) Snapshot {
	s := Snapshot{Epoch: r.U64(), Cursor: Cursor{r.U64(), r.Array32()}, Root: r.Array32(), Size: r.U64()}
	for range r.Count(MaxPieces, 32) {
		s.Pieces = append(s.Pieces, r.Array32())
	}
	if r.Err() == nil && (s.Size == 0 || s.Size > PieceSize*MaxPieces || (s.Size+PieceSize-1)/PieceSize != uint64(len(s.Pieces))) {
		r.Fail(fmt.Errorf("%w: snapshot of %d bytes in %d pieces", wire.ErrNotCanonical, s.Size, len(s.Pieces)))
	}
	return s
}

// ParseSnapshot decodes a Snapshot.
func ParseSnapshot(b []byte) (*Snapshot, error) {
	r := wire.NewReader(b)
	s := readSnapshot(r)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: snapshot: %w", err)
	}
	return &s, nil
}

// KeySnapshot is where store contracts keeps the SnapshotRecord of a cluster's epoch.
func KeySnapshot(c ClusterID, epoch uint64) []byte {
	return wire.NewWriter(16).Fixed([]byte("s/")).Fixed(c.Bytes()).U64(epoch).Bytes()
}

// A SnapshotRecord collects what the seats said about an epoch's snapshot, and which
// pieces of the agreed one the nodes have.
type SnapshotRecord struct {
	Taken  []Snapshot // distinct, in order of arrival
	Votes  []SnapshotVote
	Agreed bool
	Index  uint32 // of the agreed one, when Agreed
	Have   []bool // its pieces
	Holder WorkerID
	Asked  uint64 // height at which Holder was asked; 0: nobody was
}

// A SnapshotVote is one seat's word: the index of the snapshot that it took.
type SnapshotVote struct {
	Worker WorkerID
	Index  uint32
}

// Snapshot returns the agreed snapshot, or nil.
func (s *SnapshotRecord) Snapshot() *Snapshot {
	if !s.Agreed {
		return nil
	}
	return &s.Taken[s.Index]
}

// Missing is the number of pieces still to come.
func (s *SnapshotRecord) Missing() (n int) {
	for _, h := range s.Have {
		if !h {
			n++
		}
	}
	return n
}

// Marshal encodes s.
func (s *SnapshotRecord) Marshal() []byte {
	w := new(wire.Writer).Count(len(s.Taken))
	for i := range s.Taken {
		s.Taken[i].encode(w)
	}
	w.Count(len(s.Votes))
	for _, v := range s.Votes {
		w.Fixed(v.Worker[:]).U32(v.Index)
	}
	w.Bool(s.Agreed).U32(s.Index).Count(len(s.Have))
	for _, h := range s.Have {
		w.Bool(h)
	}
	return w.Fixed(s.Holder[:]).U64(s.Asked).Bytes()
}

// ParseSnapshotRecord decodes a SnapshotRecord.
func ParseSnapshotRecord(b []byte) (*SnapshotRecord, error) {
	r := wire.NewReader(b)
	s := new(SnapshotRecord)
	for range r.Count(MaxSeats, 92) {
		s.Taken = append(s.Taken, readSnapshot(r))
	}
	for range r.Count(MaxSeats, 36) {
		s.Votes = append(s.Votes, SnapshotVote{r.Array32(), r.U32()})
	}
	s.Agreed, s.Index = r.Bool(), r.U32()
	for range r.Count(MaxPieces, 1) {
		s.Have = append(s.Have, r.Bool())
	}
	s.Holder, s.Asked = r.Array32(), r.U64()
	if r.Err() == nil {
		switch {
		case !s.Agreed && (s.Index != 0 || len(s.Have) != 0):
			r.Fail(fmt.Errorf("%w: pieces of a snapshot that nobody agreed on", wire.ErrNotCanonical))
		case s.Agreed && (int(s.Index) >= len(s.Taken) || len(s.Have) != len(s.Taken[s.Index].Pieces)):
			r.Fail(fmt.Errorf("%w: snapshot %d of %d, flags for %d pieces", wire.ErrNotCanonical, s.Index, len(s.Taken), len(s.Have)))
		}
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: snapshot record: %w", err)
	}
	return s, nil
}
