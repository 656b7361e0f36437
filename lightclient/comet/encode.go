package comet

import (
	"time"

	"github.com/phala-go/phala/proto/wire"
)

// Limits of the encoding.
const (
	maxChainID = 64
	maxHash    = 32
	maxAddress = 20
)

func writeTime(w *wire.Writer, t time.Time) {
	w.U64(uint64(t.Unix())).U32(uint32(t.Nanosecond()))
}

// readTime accepts the range of google.protobuf.Timestamp.
func readTime(r *wire.Reader) time.Time {
	s, n := int64(r.U64()), r.U32()
	if s < -62135596800 || s > 253402300799 || n > 999_999_999 {
		r.Fail(errf(ErrMalformed, "time %d.%d", s, n))
		return time.Time{}
	}
	return time.Unix(s, int64(n)).UTC()
}

func (id *BlockID) write(w *wire.Writer) { w.Blob(id.Hash).U32(id.PartsTotal).Blob(id.PartsHash) }

func readBlockID(r *wire.Reader) BlockID {
	return BlockID{r.Blob(maxHash), r.U32(), r.Blob(maxHash)}
}

// Marshal encodes a header.
func (h *Header) Marshal() []byte {
	w := wire.NewWriter(512)
	h.write(w)
	return w.Bytes()
}

func (h *Header) write(w *wire.Writer) {
	w.U64(h.VersionBlock).U64(h.VersionApp).String(h.ChainID).U64(uint64(h.Height))
	writeTime(w, h.Time)
	h.LastBlockID.write(w)
	for _, b := range [][]byte{h.LastCommitHash, h.DataHash, h.ValidatorsHash, h.NextValidatorsHash, h.ConsensusHash, h.AppHash, h.LastResultsHash, h.EvidenceHash, h.ProposerAddress} {
		w.Blob(b)
	}
}

func readHeader(r *wire.Reader) Header {
	h := Header{VersionBlock: r.U64(), VersionApp: r.U64(), ChainID: r.String(maxChainID), Height: int64(r.U64())}
	h.Time = readTime(r)
	h.LastBlockID = readBlockID(r)
	for _, b := range []*[]byte{&h.LastCommitHash, &h.DataHash, &h.ValidatorsHash, &h.NextValidatorsHash, &h.ConsensusHash, &h.AppHash, &h.LastResultsHash, &h.EvidenceHash} {
		*b = r.Blob(maxHash)
	}
	h.ProposerAddress = r.Blob(maxAddress)
	return h
}

// ParseHeader decodes a header.
func ParseHeader(b []byte) (*Header, error) {
	r := wire.NewReader(b)
	h := readHeader(r)
	if err := r.Close(); err != nil {
		return nil, errf(ErrMalformed, "header: %v", err)
	}
	return &h, nil
}

// Marshal encodes a light block.
func (b *LightBlock) Marshal() []byte {
	n := 0
	if b.Validators != nil {
		n = len(b.Validators.Validators)
	}
	w := wire.NewWriter(600 + 97*len(b.Commit.Signatures) + 40*n)
	b.Header.write(w)
	w.U64(uint64(b.Commit.Height)).U32(uint32(b.Commit.Round))
	b.Commit.BlockID.write(w)
	w.Count(len(b.Commit.Signatures))
	for i := range b.Commit.Signatures {
		s := &b.Commit.Signatures[i]
		w.U8(s.Flag)
		if s.Flag == FlagAbsent {
			continue
		}
		w.Fixed(s.Address[:])
		writeTime(w, s.Time)
		w.Fixed(s.Signature[:])
	}
	w.Count(n)
	if b.Validators != nil {
		for _, v := range b.Validators.Validators {
			w.Fixed(v.PublicKey[:]).U64(uint64(v.Power))
		}
	}
	return w.Bytes()
}

// ReadLightBlock decodes a light block that other fields may follow.
func ReadLightBlock(r *wire.Reader) *LightBlock {
	b := &LightBlock{Header: readHeader(r)}
	b.Commit.Height, b.Commit.Round = int64(r.U64()), int32(r.U32())
	b.Commit.BlockID = readBlockID(r)
	for range r.Count(MaxValidators, 1) {
		s := CommitSig{Flag: r.U8()}
		if s.Flag < FlagAbsent || s.Flag > FlagNil {
			r.Fail(errf(ErrMalformed, "signature flag %d", s.Flag))
		}
		if s.Flag != FlagAbsent {
			r.Fixed(s.Address[:])
			s.Time = readTime(r)
			r.Fixed(s.Signature[:])
		}
		b.Commit.Signatures = append(b.Commit.Signatures, s)
	}
	if n := r.Count(MaxValidators, 40); n > 0 {
		b.Validators = &ValidatorSet{Validators: make([]Validator, n)}
		for i := range b.Validators.Validators {
			b.Validators.Validators[i] = Validator{r.Array32(), int64(r.U64())}
		}
	}
	return b
}

// ParseLightBlock decodes a light block.
func ParseLightBlock(in []byte) (*LightBlock, error) {
	r := wire.NewReader(in)
	b := ReadLightBlock(r)
	if err := r.Close(); err != nil {
		return nil, errf(ErrMalformed, "light block: %v", err)
	}
	return b, nil
}
