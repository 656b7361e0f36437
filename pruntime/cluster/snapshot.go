package cluster

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
)

// ErrSnapshot: a snapshot is not of this cluster, was made under another key, or is not
// the one that was agreed on.
var ErrSnapshot = errors.New("cluster: snapshot refused")

// Every seat makes the same snapshot, byte for byte, so that a majority can agree on its
// hash. The key is derived from the root of what it encrypts, which is a keyed hash of
// all of it: no two plaintexts ever meet under one key, and the nonce may be the number
// of the piece. It also takes the keys of the epoch that begins: whoever lost a seat
// before it does not open the snapshot.
func (c *Cluster) snapshotCipher(ref *proto.StateRef) (cipher.AEAD, []byte, error) {
	blind, ok := c.keys.Blind[ref.Epoch]
	if !ok {
		return nil, nil, fmt.Errorf("%w: epoch %d", ErrNeedKey, ref.Epoch)
	}
	mix := hmac.New(sha256.New, c.keys.Stable[:])
	mix.Write(blind[:])
	key := subkey([32]byte(mix.Sum(nil)), "snapshot/v1", transcript.U64(ref.Epoch), ref.Cursor.Marshal(), ref.Root[:])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, transcript.Bytes("phala/snapshot/v1", []byte(c.chain), c.id.Bytes(), transcript.U64(ref.Epoch), ref.Cursor.Marshal(), ref.Root[:]), err
}

func pieceNonce(i int) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 8, 12), uint32(i))
}

const (
	gcmTag    = 16
	pieceText = proto.PieceSize - gcmTag
	// padding hides the exact size of a state in the last piece.
	padding = 16 << 10
)

// Seal encrypts a state for whoever has the cluster's stable key, and describes it.
func (c *Cluster) Seal(s *Snapshot) (*proto.Snapshot, [][]byte, error) {
	ref := proto.StateRef{Epoch: s.Epoch(), Cursor: s.Cursor(), Root: s.root}
	aead, aad, err := c.snapshotCipher(&ref)
	if err != nil {
		return nil, nil, err
	}
	plain := s.Marshal()
	if len(plain) > maxSnapshot {
		return nil, nil, fmt.Errorf("%w: state of %d bytes, at most %d", ErrSnapshot, len(plain), maxSnapshot)
	}
	// A length, then the state, then zeros up to a full step.
	padded := make([]byte, (8+len(plain)+padding-1)/padding*padding)
	binary.BigEndian.PutUint64(padded, uint64(len(plain)))
	copy(padded[8:], plain)
	out := &proto.Snapshot{Epoch: ref.Epoch, Cursor: ref.Cursor, Root: ref.Root}
	var pieces [][]byte
	for i := 0; len(padded) > 0; i++ {
		n := min(len(padded), pieceText)
		p := aead.Seal(nil, pieceNonce(i), padded[:n], aad)
		padded = padded[n:]
		pieces, out.Pieces, out.Size = append(pieces, p), append(out.Pieces, sha256.Sum256(p)), out.Size+uint64(len(p))
	}
	return out, pieces, nil
}

// maxSnapshot is how large a state may be: the pieces that one snapshot may have.
const maxSnapshot = proto.MaxPieces*pieceText - padding - 8

// Unseal opens the pieces of a snapshot and checks that they are the state that it names.
func (c *Cluster) Unseal(s *proto.Snapshot, pieces [][]byte) (*Snapshot, error) {
	ref := s.Ref()
	aead, aad, err := c.snapshotCipher(&ref)
	if err != nil {
		return nil, err
	}
	if len(pieces) != len(s.Pieces) {
		return nil, fmt.Errorf("%w: %d of %d pieces", ErrSnapshot, len(pieces), len(s.Pieces))
	}
	padded := make([]byte, 0, s.Size)
	for i, p := range pieces {
		if padded, err = aead.Open(padded, pieceNonce(i), p, aad); err != nil {
			return nil, fmt.Errorf("%w: piece %d does not open", ErrSnapshot, i)
		}
	}
	if len(padded) < 8 || binary.BigEndian.Uint64(padded) > uint64(len(padded)-8) {
		return nil, fmt.Errorf("%w: no state in %d bytes", ErrSnapshot, len(padded))
	}
	state, err := c.parse(padded[8 : 8+binary.BigEndian.Uint64(padded)])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if state.root != ref.Root || state.Cursor() != ref.Cursor || state.Epoch() != ref.Epoch {
		return nil, fmt.Errorf("%w: it holds another state than it names", ErrSnapshot)
	}
	return state, nil
}

// Adopt continues from a state that is newer than this replica's.
func (c *Cluster) Adopt(s *Snapshot) error {
	if old := c.state.Load().Cursor(); s.Cursor().Seq <= old.Seq {
		return fmt.Errorf("%w: of message %d, this replica is at %d", ErrSnapshot, s.Cursor().Seq, old.Seq)
	}
	c.state.Store(s)
	c.forget(s.Epoch())
	return nil
}
