package comet

import (
	"crypto/sha256"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

	"github.com/phala-go/phala/crypto/merkle"
)

// A Validator has an ed25519 key; this chain allows no other for consensus.
type Validator struct {
	PublicKey [32]byte
	Power     int64
}

// An Address is the first 20 bytes of the SHA-256 of a validator's key.
type Address [20]byte

// Address returns the validator's address.
func (v *Validator) Address() Address {
	sum := sha256.Sum256(v.PublicKey[:])
	return Address(sum[:20])
}

// Limits of a validator set.
const (
	MaxValidators = 1000
	maxPower      = 1<<60 - 1 // the protocol's: (2^63 - 1) / 8
)

// A ValidatorSet is an ordered list of validators. It keeps what is derived from
// them, so that a set that signs many blocks is prepared once: the list must not
// change after the set was used.
type ValidatorSet struct {
	Validators []Validator

	hash      Hash
	hashed    bool
	checked   bool
	fault     error
	total     int64
	addresses []Address
	index     map[Address]int
	expanded  []*ed25519.ExpandedPublicKey
}

// Hash is the Merkle root over the validators, each as protobuf SimpleValidator.
func (s *ValidatorSet) Hash() Hash {
	if !s.hashed {
		leaves := make([][]byte, len(s.Validators))
		for i := range s.Validators {
			v := &s.Validators[i]
			key := appendMessage(nil, 1, v.PublicKey[:]) // oneof ed25519 = 1
			leaves[i] = appendVarint(appendMessage(nil, 1, key), 2, uint64(v.Power))
		}
		s.hash, s.hashed = merkle.Root(leaves), true
	}
	return s.hash
}

// check refuses sets that no chain has: empty, too large, with the same validator
// twice, with a power that is not positive or a sum above the protocol's bound.
func (s *ValidatorSet) check() error {
	if !s.checked {
		s.checked, s.fault = true, s.prepare()
	}
	return s.fault
}

func (s *ValidatorSet) prepare() error {
	n := len(s.Validators)
	if n == 0 || n > MaxValidators {
		return errf(ErrMalformed, "validator set of %d", n)
	}
	s.addresses = make([]Address, n)
	s.index = make(map[Address]int, n)
	s.expanded = make([]*ed25519.ExpandedPublicKey, n)
	for i := range s.Validators {
		v := &s.Validators[i]
		if v.Power <= 0 || v.Power > maxPower-s.total {
			return errf(ErrMalformed, "validator %d has power %d", i, v.Power)
		}
		s.total += v.Power
		a := v.Address()
		if j, ok := s.index[a]; ok {
			return errf(ErrMalformed, "validator %d is validator %d again", i, j)
		}
		s.addresses[i], s.index[a] = a, i
	}
	return nil
}

// key returns a validator's key, expanded once.
func (s *ValidatorSet) key(i int) (*ed25519.ExpandedPublicKey, error) {
	if s.expanded[i] == nil {
		k, err := ed25519.NewExpandedPublicKey(s.Validators[i].PublicKey[:])
		if err != nil {
			return nil, errf(ErrSignature, "key of validator %d: %v", i, err)
		}
		s.expanded[i] = k
	}
	return s.expanded[i], nil
}
