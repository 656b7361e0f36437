package engine

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
	"github.com/tetratelabs/wazero/api"
	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/sha3"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/pruntime/engine/image"
)

// A HashAlgorithm is a number of the ABI.
type HashAlgorithm uint32

// The hash functions.
const (
	SHA256     HashAlgorithm = 1
	SHA512     HashAlgorithm = 2
	BLAKE2b256 HashAlgorithm = 3
	BLAKE2b512 HashAlgorithm = 4
	Keccak256  HashAlgorithm = 5
)

// Sum hashes b; ok is false for an unknown algorithm.
func (a HashAlgorithm) Sum(b []byte) (sum []byte, ok bool) {
	switch a {
	case SHA256:
		h := sha256.Sum256(b)
		return h[:], true
	case SHA512:
		h := sha512.Sum512(b)
		return h[:], true
	case BLAKE2b256:
		h := blake2b.Sum256(b)
		return h[:], true
	case BLAKE2b512:
		h := blake2b.Sum512(b)
		return h[:], true
	case Keccak256:
		h := sha3.NewLegacyKeccak256()
		h.Write(b)
		return h.Sum(nil), true
	}
	return nil, false
}

// A SignatureScheme is a number of the ABI.
type SignatureScheme uint32

// The signature schemes. A contract's keys of a scheme sign bound messages only, see
// [BoundMessage]; those of the scheme with Raw are other keys and sign what they are given.
const (
	Sr25519   SignatureScheme = 1 // signing context "substrate"
	Ed25519   SignatureScheme = 2 // verified as ZIP-215 says
	Secp256k1 SignatureScheme = 3 // of a 32-byte digest
	Raw       SignatureScheme = 16
)

// String names the scheme.
func (s SignatureScheme) String() string {
	prefix := ""
	if s&Raw != 0 {
		prefix = "raw/"
	}
	switch s &^ Raw {
	case Sr25519:
		return prefix + "sr25519"
	case Ed25519:
		return prefix + "ed25519"
	case Secp256k1:
		return prefix + "secp256k1"
	}
	return fmt.Sprintf("scheme %d", uint32(s))
}

func (s SignatureScheme) known() bool { k := s &^ Raw; return k >= Sr25519 && k <= Secp256k1 }

// BoundMessage is what the keys of a contract sign unless they are raw ones: nobody who
// checks for it can take another contract's signature, or one over anything that is not
// a contract's message, for this contract's.
func BoundMessage(contract [32]byte, msg []byte) []byte {
	return transcript.Bytes("phala/contract-message/v1", contract[:], msg)
}

// zip215 is ZIP-215: a rule that every implementation applies alike.
var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

// Verify checks a signature over exactly msg. Keys and signatures of a wrong length or
// form do not verify.
func (s SignatureScheme) Verify(public, msg, sig []byte) bool {
	switch s {
	case Sr25519:
		return len(public) == 32 && identity.Verify(identity.PublicKey(public), msg, sig) == nil
	case Ed25519:
		return len(public) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize && ed25519.VerifyWithOptions(public, msg, sig, zip215)
	case Secp256k1:
		if len(public) != 33 || len(msg) != 32 || len(sig) != 64 {
			return false
		}
		key, err := secp256k1.ParsePubKey(public)
		r, s, ok := scalars(sig)
		return err == nil && ok && ecdsa.NewSignature(r, s).Verify(msg, key)
	}
	return false
}

// scalars reads r ‖ s. A high s is refused: with it every signature would have a second
// form.
func scalars(sig []byte) (r, s *secp256k1.ModNScalar, ok bool) {
	r, s = new(secp256k1.ModNScalar), new(secp256k1.ModNScalar)
	over := r.SetByteSlice(sig[:32])
	over = s.SetByteSlice(sig[32:64]) || over
	return r, s, !over && !r.IsZero() && !s.IsZero() && !s.IsOverHalfOrder()
}

// RecoverSecp256k1 returns the key, 33 bytes, that made a signature r ‖ s ‖ v over a digest.
func RecoverSecp256k1(digest, sig []byte) ([]byte, bool) {
	if len(digest) != 32 || len(sig) != 65 || sig[64] > 1 {
		return nil, false
	}
	if _, _, ok := scalars(sig); !ok {
		return nil, false
	}
	key, _, err := ecdsa.RecoverCompact(append([]byte{31 + sig[64]}, sig[:64]...), digest)
	if err != nil {
		return nil, false
	}
	return key.SerializeCompressed(), true
}

// PublicKey is the public key of a seed.
func (s SignatureScheme) PublicKey(seed [32]byte) []byte {
	switch s &^ Raw {
	case Sr25519:
		pub := sr25519Key(seed).Public()
		return pub[:]
	case Ed25519:
		return ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	}
	return secp256k1.PrivKeyFromBytes(seed[:]).PubKey().SerializeCompressed()
}

func sr25519Key(seed [32]byte) *identity.KeyPair {
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		panic("engine: broken invariant: " + err.Error())
	}
	return k
}

// Sign signs a message with the key of a seed: a bound message of the contract, or, with
// Raw, the bytes as they are. Every replica makes the same signature. What cannot be
// signed is a raw secp256k1 digest that is not 32 bytes long.
func (s SignatureScheme) Sign(seed, contract [32]byte, msg []byte) ([]byte, error) {
	if s&Raw == 0 {
		msg = BoundMessage(contract, msg)
		if s == Secp256k1 {
			digest := sha256.Sum256(msg)
			msg = digest[:]
		}
	}
	switch s &^ Raw {
	case Sr25519:
		// The scheme mixes these bytes with the secret and the message into its nonce. That
		// they follow from both as well makes the signature the same on every replica.
		sum := sha256.Sum256(msg)
		nonce, err := hkdf.Key(sha256.New, seed[:], sum[:], "phala/contract-nonce/v1", 64)
		if err != nil {
			panic("engine: broken invariant: " + err.Error())
		}
		sig, err := sr25519Key(seed).Sign(bytes.NewReader(nonce), msg)
		return sig[:], err
	case Ed25519:
		return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), msg), nil
	}
	if len(msg) != 32 {
		return nil, fmt.Errorf("secp256k1 signs a digest of 32 bytes, not %d", len(msg))
	}
	compact := ecdsa.SignCompact(secp256k1.PrivKeyFromBytes(seed[:]), msg, true)
	return append(compact[1:65:65], compact[0]-31), nil
}

// MaxLabel bounds the label of a contract's key.
const MaxLabel = 256

func scheme(v uint64, raw bool) SignatureScheme {
	s := SignatureScheme(v)
	if !s.known() || (s&Raw != 0 && !raw) {
		panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("signature scheme %d", uint32(v))})
	}
	return s
}

// secret asks the host for this contract's key of a label.
func (r *run) secret(m api.Module, purpose string, ptr, n uint32) [32]byte {
	if n > MaxLabel {
		panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("label of %d bytes, at most %d", n, MaxLabel)})
	}
	return r.host.Secret(purpose, bytes.Clone(view(m, ptr, n)))
}

var cryptographic = []function{
	{"hash", types(i32, i32, i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Hash+r.gas.HashByte*uint64(uint32(s[2])))
		sum, ok := HashAlgorithm(s[0]).Sum(view(m, uint32(s[1]), uint32(s[2])))
		if !ok {
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("hash algorithm %d", uint32(s[0]))})
		}
		copy(view(m, uint32(s[3]), uint32(len(sum))), sum)
	}},
	{"verify", types(i32, i32, i32, i32, i32, i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		sch := scheme(s[0], false)
		image.Charge(ctx, r.gas.Verify[sch]+r.gas.HashByte*uint64(uint32(s[4])))
		key, msg, sig := view(m, uint32(s[1]), uint32(s[2])), view(m, uint32(s[3]), uint32(s[4])), view(m, uint32(s[5]), uint32(s[6]))
		ok := sch.Verify(key, msg, sig)
		s[0] = 0
		if ok {
			s[0] = 1
		}
	}},
	{"recover", types(i32, i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Recover)
		key, ok := RecoverSecp256k1(view(m, uint32(s[0]), 32), view(m, uint32(s[1]), 65))
		out := view(m, uint32(s[2]), 33)
		s[0] = 0
		if ok {
			copy(out, key)
			s[0] = 1
		}
	}},
	{"public_key", types(i32, i32, i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		sch := scheme(s[0], true)
		image.Charge(ctx, r.gas.Derive+r.gas.Public[sch&^Raw])
		pub := sch.PublicKey(r.secret(m, sch.String(), uint32(s[1]), uint32(s[2])))
		copy(view(m, uint32(s[3]), uint32(len(pub))), pub)
		s[0] = uint64(len(pub))
	}},
	{"sign", types(i32, i32, i32, i32, i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		sch := scheme(s[0], true)
		image.Charge(ctx, r.gas.Derive+r.gas.Sign[sch&^Raw]+r.gas.HashByte*uint64(uint32(s[4])))
		sig, err := sch.Sign(r.secret(m, sch.String(), uint32(s[1]), uint32(s[2])), r.host.Self(), view(m, uint32(s[3]), uint32(s[4])))
		if err != nil {
			panic(&Error{Kind: ErrTrap, Detail: err.Error()})
		}
		copy(view(m, uint32(s[5]), uint32(len(sig))), sig)
		s[0] = uint64(len(sig))
	}},
	{"derive", types(i32, i32, i32), nil, func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Derive)
		secret := r.secret(m, "secret", uint32(s[0]), uint32(s[1]))
		copy(view(m, uint32(s[2]), 32), secret[:])
	}},
}
