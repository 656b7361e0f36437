// Package sr25519 makes IdentityKeys usable as Cosmos SDK accounts: transactions
// are signed with sr25519 in the context "substrate", and an account's address is
// its 32-byte public key, so that a user's account is its IdentityKey.
//
// The SDK removed its own sr25519 in v0.54; this is not that one (its addresses
// were 20-byte hashes). Validators' consensus keys stay ed25519: CometBFT accepts
// a closed set.
package sr25519

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	cryptotypes "github.com/cosmos/cosmos-sdk/crypto/types"

	"github.com/phala-go/phala/crypto/identity"
)

// KeyType is the name of the algorithm.
const KeyType = "sr25519"

var (
	_ cryptotypes.PubKey  = (*PubKey)(nil)
	_ cryptotypes.PrivKey = (*PrivKey)(nil)
)

// Address returns the key itself.
func (k *PubKey) Address() crypto.Address { return crypto.Address(bytes.Clone(k.Key)) }

// Bytes returns the compressed point.
func (k *PubKey) Bytes() []byte { return k.Key }

// String names the key.
func (k *PubKey) String() string { return "PubKeySr25519{" + hex.EncodeToString(k.Key) + "}" }

// Type returns KeyType.
func (k *PubKey) Type() string { return KeyType }

// Equals compares keys.
func (k *PubKey) Equals(o cryptotypes.PubKey) bool {
	return k.Type() == o.Type() && bytes.Equal(k.Key, o.Bytes())
}

// VerifySignature checks a signature over msg.
func (k *PubKey) VerifySignature(msg, sig []byte) bool {
	if len(k.Key) != identity.PublicKeySize {
		return false
	}
	return identity.Verify(identity.PublicKey(k.Key), msg, sig) == nil
}

func (k *PrivKey) pair() (*identity.KeyPair, error) { return identity.FromSeed(k.Key) }

// Bytes returns the mini secret.
func (k *PrivKey) Bytes() []byte { return k.Key }

// Type returns KeyType.
func (k *PrivKey) Type() string { return KeyType }

// Equals compares keys.
func (k *PrivKey) Equals(o cryptotypes.LedgerPrivKey) bool {
	return k.Type() == o.Type() && bytes.Equal(k.Key, o.Bytes())
}

// PubKey returns the public key.
func (k *PrivKey) PubKey() cryptotypes.PubKey {
	p, err := k.pair()
	if err != nil {
		panic("sr25519: broken invariant: " + err.Error())
	}
	pub := p.Public()
	return &PubKey{Key: pub[:]}
}

// Sign signs msg.
func (k *PrivKey) Sign(msg []byte) ([]byte, error) {
	p, err := k.pair()
	if err != nil {
		return nil, err
	}
	sig, err := p.Sign(rand.Reader, msg)
	return sig[:], err
}

// FromSeed returns the private key of a 32-byte mini secret.
func FromSeed(seed []byte) (*PrivKey, error) {
	if _, err := identity.FromSeed(seed); err != nil {
		return nil, fmt.Errorf("sr25519: %w", err)
	}
	return &PrivKey{Key: bytes.Clone(seed)}, nil
}

// RegisterInterfaces lets transactions carry these keys.
func RegisterInterfaces(r codectypes.InterfaceRegistry) {
	r.RegisterImplementations((*cryptotypes.PubKey)(nil), &PubKey{})
	r.RegisterImplementations((*cryptotypes.PrivKey)(nil), &PrivKey{})
}

// RegisterLegacyAminoCodec names the keys in amino JSON.
func RegisterLegacyAminoCodec(c *codec.LegacyAmino) {
	c.RegisterConcrete(&PubKey{}, "phala/PubKeySr25519", nil)
	c.RegisterConcrete(&PrivKey{}, "phala/PrivKeySr25519", nil)
}
