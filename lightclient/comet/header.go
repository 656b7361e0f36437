package comet

import (
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/crypto/merkle"
)

// A Hash is a SHA-256.
type Hash [32]byte

// A BlockID names a block and the parts that it was gossiped in.
type BlockID struct {
	Hash       []byte // 32 bytes, or none for the block before the first
	PartsTotal uint32
	PartsHash  []byte
}

// A Header is a CometBFT block header.
type Header struct {
	VersionBlock       uint64
	VersionApp         uint64
	ChainID            string
	Height             int64
	Time               time.Time // UTC
	LastBlockID        BlockID
	LastCommitHash     []byte
	DataHash           []byte
	ValidatorsHash     []byte
	NextValidatorsHash []byte
	ConsensusHash      []byte
	AppHash            []byte
	LastResultsHash    []byte
	EvidenceHash       []byte
	ProposerAddress    []byte
}

// Hash is the Merkle root over the header's fields, each in the protobuf encoding
// that the CometBFT data-structure specification gives it.
func (h *Header) Hash() Hash {
	return merkle.Root([][]byte{
		h.version(), wrapBytes([]byte(h.ChainID)), wrapVarint(uint64(h.Height)), timestamp(h.Time), h.LastBlockID.proto(),
		wrapBytes(h.LastCommitHash), wrapBytes(h.DataHash), wrapBytes(h.ValidatorsHash), wrapBytes(h.NextValidatorsHash), wrapBytes(h.ConsensusHash),
		wrapBytes(h.AppHash), wrapBytes(h.LastResultsHash), wrapBytes(h.EvidenceHash), wrapBytes(h.ProposerAddress),
	})
}

// blockProtocol is the version of the block format that this package reads.
const blockProtocol = 11

// check refuses the headers that every full node refuses for their form alone, and
// those that announce no validators.
func (h *Header) check() error {
	if h.Height <= 0 || h.VersionBlock != blockProtocol {
		return errf(ErrMalformed, "header %d of block protocol %d", h.Height, h.VersionBlock)
	}
	if len(h.ValidatorsHash) != 32 || len(h.NextValidatorsHash) != 32 || len(h.ProposerAddress) != 20 {
		return errf(ErrMalformed, "header %d: validators %x, next %x, proposer %x", h.Height, h.ValidatorsHash, h.NextValidatorsHash, h.ProposerAddress)
	}
	for i, b := range [][]byte{h.LastBlockID.Hash, h.LastBlockID.PartsHash, h.LastCommitHash, h.DataHash, h.ConsensusHash, h.LastResultsHash, h.EvidenceHash} {
		if len(b) != 0 && len(b) != 32 {
			return errf(ErrMalformed, "header %d: hash %d has %d bytes", h.Height, i, len(b))
		}
	}
	return nil
}

func (h *Header) version() []byte {
	return appendVarint(appendVarint(nil, 1, h.VersionBlock), 2, h.VersionApp)
}

// appendVarint appends a field unless it is zero, as proto3 does.
func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

// appendBytes appends a field unless it is empty.
func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return appendMessage(b, field, v)
}

// appendMessage appends a field even when it is empty: a non-nullable message.
func appendMessage(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// wrapBytes and wrapVarint are google.protobuf.BytesValue, StringValue, Int64Value.
func wrapBytes(v []byte) []byte   { return appendBytes(nil, 1, v) }
func wrapVarint(v uint64) []byte  { return appendVarint(nil, 1, v) }
func sfixed64(v int64) (b []byte) { return binary.LittleEndian.AppendUint64(nil, uint64(v)) }

// timestamp is google.protobuf.Timestamp.
func timestamp(t time.Time) []byte {
	return appendVarint(appendVarint(nil, 1, uint64(t.Unix())), 2, uint64(t.Nanosecond()))
}

func (id *BlockID) proto() []byte {
	parts := appendBytes(appendVarint(nil, 1, uint64(id.PartsTotal)), 2, id.PartsHash)
	return appendMessage(appendBytes(nil, 1, id.Hash), 2, parts)
}

// signBytes is what a validator signed: the length-prefixed CanonicalVote of a
// precommit for the block. Only the time differs from vote to vote, so the parts
// around it are made once.
type signBytes struct{ before, after []byte }

const precommit = 2

func newSignBytes(chainID string, c *Commit) signBytes {
	b := appendVarint(nil, 1, precommit)
	b = append(protowire.AppendTag(b, 2, protowire.Fixed64Type), sfixed64(c.Height)...)
	if c.Round != 0 {
		b = append(protowire.AppendTag(b, 3, protowire.Fixed64Type), sfixed64(int64(c.Round))...)
	}
	b = appendMessage(b, 4, c.BlockID.proto())
	return signBytes{b, appendBytes(nil, 6, []byte(chainID))}
}

func (s signBytes) vote(t time.Time) []byte {
	ts := timestamp(t)
	n := len(s.before) + protowire.SizeTag(5) + protowire.SizeBytes(len(ts)) + len(s.after)
	b := protowire.AppendVarint(make([]byte, 0, n+3), uint64(n))
	b = appendMessage(append(b, s.before...), 5, ts)
	return append(b, s.after...)
}
