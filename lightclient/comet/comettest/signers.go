package comettest

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
)

// A Signer is a validator with its key.
type Signer struct {
	Key   ed25519.PrivateKey
	Power int64
}

// Validator returns the public half.
func (s Signer) Validator() comet.Validator {
	return comet.Validator{PublicKey: [32]byte(s.Key.Public().(ed25519.PublicKey)), Power: s.Power}
}

// A Set is a validator set with its keys, in the chain's order: by power, largest
// first, then by address.
type Set struct {
	signers   []Signer
	addresses []comet.Address
	hash      comet.Hash
}

// NewSigner returns validator i of a label. Equal labels give equal keys.
func NewSigner(label string, i int, power int64) Signer {
	seed := sha256.Sum256(fmt.Appendf(nil, "comettest signer %s %d", label, i))
	return Signer{ed25519.NewKeyFromSeed(seed[:]), power}
}

// NewSet returns n validators of power 10 each.
func NewSet(label string, n int) *Set {
	return NewSetOf(label, slices.Repeat([]int64{10}, n)...)
}

// NewSetOf returns one validator for each power.
func NewSetOf(label string, powers ...int64) *Set {
	signers := make([]Signer, len(powers))
	for i, p := range powers {
		signers[i] = NewSigner(label, i, p)
	}
	return SetOf(signers)
}

// SetOf orders signers into a set.
func SetOf(signers []Signer) *Set {
	type member struct {
		s Signer
		a comet.Address
	}
	members := make([]member, len(signers))
	for i, s := range signers {
		v := s.Validator()
		members[i] = member{s, v.Address()}
	}
	slices.SortFunc(members, func(x, y member) int {
		return cmp.Or(cmp.Compare(y.s.Power, x.s.Power), bytes.Compare(x.a[:], y.a[:]))
	})
	set := new(Set)
	for _, m := range members {
		set.signers, set.addresses = append(set.signers, m.s), append(set.addresses, m.a)
	}
	set.hash = set.Validators().Hash()
	return set
}

// Len is the number of validators.
func (s *Set) Len() int { return len(s.signers) }

// Signers returns the validators with their keys, in order.
func (s *Set) Signers() []Signer { return slices.Clone(s.signers) }

// Hash is the set's hash in headers.
func (s *Set) Hash() []byte { return s.hash[:] }

// Validators returns a new comet.ValidatorSet, in which nothing is prepared yet.
func (s *Set) Validators() *comet.ValidatorSet {
	vs := &comet.ValidatorSet{Validators: make([]comet.Validator, len(s.signers))}
	for i, v := range s.signers {
		vs.Validators[i] = v.Validator()
	}
	return vs
}

// Signing says who signs a header and how. The zero value is everyone, in round 0,
// for the header's own chain.
type Signing struct {
	Round   int32
	ChainID string                     // signed instead of the header's, when not empty
	Flag    func(i int) uint8          // what validator i does; nil: comet.FlagCommit
	Time    func(i int) time.Time      // of the vote of validator i; nil: one second after the header's and i ms
	Alter   func(i int, sig *[64]byte) // changes the signature of validator i
}

// FirstN has the first n validators commit and the others be absent.
func FirstN(n int) Signing {
	return Signing{Flag: func(i int) uint8 {
		if i < n {
			return comet.FlagCommit
		}
		return comet.FlagAbsent
	}}
}

// CloneHeader returns a header that shares no bytes with h.
func CloneHeader(h comet.Header) comet.Header {
	for _, b := range []*[]byte{&h.LastBlockID.Hash, &h.LastBlockID.PartsHash, &h.LastCommitHash, &h.DataHash, &h.ValidatorsHash, &h.NextValidatorsHash,
		&h.ConsensusHash, &h.AppHash, &h.LastResultsHash, &h.EvidenceHash, &h.ProposerAddress} {
		*b = slices.Clone(*b)
	}
	return h
}

// Sign makes the light block of a header that set commits. The header need not be of
// any chain.
func Sign(h comet.Header, set *Set, how Signing) *comet.LightBlock {
	h = CloneHeader(h)
	hash := h.Hash()
	parts := sha256.Sum256(append([]byte("parts"), hash[:]...))
	c := comet.Commit{Height: h.Height, Round: how.Round, BlockID: comet.BlockID{Hash: hash[:], PartsTotal: 1, PartsHash: parts[:]}}
	chain := h.ChainID
	if how.ChainID != "" {
		chain = how.ChainID
	}
	for i, s := range set.signers {
		sig := comet.CommitSig{Flag: comet.FlagCommit}
		if how.Flag != nil {
			sig.Flag = how.Flag(i)
		}
		if sig.Flag != comet.FlagAbsent {
			sig.Address = set.addresses[i]
			sig.Time = h.Time.Add(time.Second + time.Duration(i)*time.Millisecond)
			if how.Time != nil {
				sig.Time = how.Time(i)
			}
			id := c.BlockID
			if sig.Flag == comet.FlagNil {
				id = comet.BlockID{}
			}
			copy(sig.Signature[:], ed25519.Sign(s.Key, VoteSignBytes(chain, c.Height, c.Round, id, sig.Time)))
			if how.Alter != nil {
				how.Alter(i, &sig.Signature)
			}
		}
		c.Signatures = append(c.Signatures, sig)
	}
	return &comet.LightBlock{Header: h, Commit: c, Validators: set.Validators()}
}

// VoteSignBytes is what a validator signs in a precommit: the length-prefixed
// protobuf CanonicalVote. An empty id is a vote for nil.
func VoteSignBytes(chain string, height int64, round int32, id comet.BlockID, at time.Time) []byte {
	m := []byte{0x08, 2} // type = precommit
	m = binary.LittleEndian.AppendUint64(append(m, 0x11), uint64(height))
	if round != 0 {
		m = binary.LittleEndian.AppendUint64(append(m, 0x19), uint64(int64(round)))
	}
	if len(id.Hash) > 0 || id.PartsTotal > 0 || len(id.PartsHash) > 0 {
		parts := bytesField(varintField(nil, 1, uint64(id.PartsTotal)), 2, id.PartsHash)
		m = messageField(m, 4, messageField(bytesField(nil, 1, id.Hash), 2, parts))
	}
	m = messageField(m, 5, varintField(varintField(nil, 1, uint64(at.Unix())), 2, uint64(at.Nanosecond())))
	m = bytesField(m, 6, []byte(chain))
	return append(binary.AppendUvarint(nil, uint64(len(m))), m...)
}

// The three forms of a protobuf field: a varint and bytes that are left out when
// empty, and a message that is not.
func varintField(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(append(b, byte(field<<3)), v)
}

func bytesField(b []byte, field int, v []byte) []byte {
	if len(v) == 0 {
		return b
	}
	return messageField(b, field, v)
}

func messageField(b []byte, field int, v []byte) []byte {
	return append(binary.AppendUvarint(append(b, byte(field<<3|2)), uint64(len(v))), v...)
}
