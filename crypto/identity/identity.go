package identity

import (
	"errors"
	"fmt"
	"io"

	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"
)

// Sizes in bytes.
const (
	PublicKeySize = 32
	SignatureSize = 64
	SeedSize      = 32
)

// Failure classes. Test with errors.Is.
var (
	ErrSeed      = errors.New("identity: seed is not 32 bytes")
	ErrPublicKey = errors.New("identity: not a valid public key")
	ErrSignature = errors.New("identity: signature does not verify")
	ErrScheme    = errors.New("identity: unknown signature scheme")
	ErrPhrase    = errors.New("identity: not a valid recovery phrase")
	ErrPath      = errors.New("identity: not a valid derivation path")
)

var signing = sr25519.NewSigningContext([]byte("substrate"))

// A PublicKey is a compressed Ristretto point. It is also the holder's account
// address on the chain.
type PublicKey [PublicKeySize]byte

// Hex returns the key as 64 lower-case hexadecimal digits.
func (p PublicKey) Hex() string { return fmt.Sprintf("%x", p[:]) }

// A KeyPair signs. Make one with FromSeed, FromPhrase or Generate.
type KeyPair struct {
	kp  *sr25519.KeyPair
	pub PublicKey
}

// String names the public key only.
func (k *KeyPair) String() string { return "identity " + k.pub.Hex() }

// GoString is String, so that no format verb prints the secret.
func (k *KeyPair) GoString() string { return k.String() }

// Format makes every verb print String.
func (k *KeyPair) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// Public returns the public key.
func (k *KeyPair) Public() PublicKey { return k.pub }

// Generate makes a key pair from 32 bytes of rng and returns its seed as well,
// which is what the owner must keep.
func Generate(rng io.Reader) (*KeyPair, [SeedSize]byte, error) {
	var seed [SeedSize]byte
	if _, err := io.ReadFull(rng, seed[:]); err != nil {
		return nil, seed, fmt.Errorf("identity: read random seed: %w", err)
	}
	k, err := FromSeed(seed[:])
	return k, seed, err
}

// FromSeed makes the key pair of a 32-byte mini secret, expanded in ed25519 mode.
func FromSeed(seed []byte) (*KeyPair, error) {
	if len(seed) != SeedSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrSeed, len(seed))
	}
	msk, err := sr25519.NewMiniSecretKeyFromBytes(seed)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSeed, err)
	}
	return fromSecret(msk.ExpandEd25519())
}

func fromSecret(sk *sr25519.SecretKey) (*KeyPair, error) {
	k := &KeyPair{kp: sk.KeyPair()}
	b, err := k.kp.PublicKey().MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("identity: encode public key: %w", err)
	}
	copy(k.pub[:], b)
	return k, nil
}

// secretBytes is the scalar (32 bytes) and the signing nonce seed (32 bytes).
func (k *KeyPair) secretBytes() []byte {
	b, err := k.kp.SecretKey().MarshalBinary()
	if err != nil {
		panic("identity: broken invariant: a secret key does not encode: " + err.Error())
	}
	return b
}

// Secret returns the 64-byte secret: scalar, then signing nonce seed. It is what
// an enclave seals; FromSecret reads it back.
func (k *KeyPair) Secret() []byte { return k.secretBytes() }

// FromSecret reads what Secret returned.
func FromSecret(secret []byte) (*KeyPair, error) {
	sk, err := sr25519.NewSecretKeyFromBytes(secret)
	if err != nil {
		return nil, errors.New("identity: not a valid 64-byte secret")
	}
	return fromSecret(sk)
}

// Sign signs msg with SchemeSr25519. rng blinds the signature's nonce: two
// signatures over one message differ and both verify.
func (k *KeyPair) Sign(rng io.Reader, msg []byte) ([SignatureSize]byte, error) {
	var out [SignatureSize]byte
	sig, err := k.kp.Sign(rng, signing.NewTranscriptBytes(msg))
	if err != nil {
		return out, fmt.Errorf("identity: sign: %w", err)
	}
	b, err := sig.MarshalBinary()
	if err != nil {
		return out, fmt.Errorf("identity: encode signature: %w", err)
	}
	copy(out[:], b)
	return out, nil
}

// Verify checks an sr25519 signature over exactly msg.
func Verify(pub PublicKey, msg, sig []byte) error {
	pk, err := sr25519.NewPublicKeyFromBytes(pub[:])
	if err != nil {
		return fmt.Errorf("%w: %x: %v", ErrPublicKey, pub[:], err)
	}
	s, err := sr25519.NewSignatureFromBytes(sig)
	if err != nil {
		return fmt.Errorf("%w: malformed: %v", ErrSignature, err)
	}
	if !pk.Verify(signing.NewTranscriptBytes(msg), s) {
		return fmt.Errorf("%w: by %x", ErrSignature, pub[:])
	}
	return nil
}
