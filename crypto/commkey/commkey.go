package commkey

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"
	"github.com/oasisprotocol/curve25519-voi/primitives/sr25519"

	"github.com/phala-go/phala/crypto/transcript"
)

// Failure classes. Test with errors.Is.
var (
	ErrPublicKey = errors.New("commkey: not a valid public key")
	ErrSecretKey = errors.New("commkey: not a valid secret key")
)

// A PublicKey is a compressed Ristretto point.
type PublicKey [32]byte

// A SecretKey agrees. It prints as its public key only.
type SecretKey struct {
	s   *scalar.Scalar
	pub PublicKey
}

// Public returns the public key.
func (k *SecretKey) Public() PublicKey { return k.pub }

// Format makes every verb print the public key.
func (k *SecretKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "ecdh %x", k.pub[:]) }

// Bytes returns the canonical scalar, 32 bytes; New reads it back.
func (k *SecretKey) Bytes() []byte {
	b := make([]byte, 32)
	if err := k.s.ToBytes(b); err != nil {
		panic("commkey: broken invariant: a scalar does not encode: " + err.Error())
	}
	return b
}

// Generate makes a key from 64 bytes of rng.
func Generate(rng io.Reader) (*SecretKey, error) {
	var wide [64]byte
	if _, err := io.ReadFull(rng, wide[:]); err != nil {
		return nil, fmt.Errorf("commkey: read random key: %w", err)
	}
	s, err := scalar.NewFromBytesModOrderWide(wide[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSecretKey, err)
	}
	return fromScalar(s)
}

// FromSeed expands a 32-byte seed as sr25519 does in ed25519 mode: derived keys
// (an epoch key, say) are made this way.
func FromSeed(seed [32]byte) (*SecretKey, error) {
	msk, err := sr25519.NewMiniSecretKeyFromBytes(seed[:])
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSecretKey, err)
	}
	b, err := msk.ExpandEd25519().MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSecretKey, err)
	}
	return New(b[:32])
}

// New reads a canonical non-zero scalar.
func New(b []byte) (*SecretKey, error) {
	s, err := scalar.NewFromCanonicalBytes(b)
	if err != nil {
		return nil, ErrSecretKey
	}
	return fromScalar(s)
}

func fromScalar(s *scalar.Scalar) (*SecretKey, error) {
	if s.Equal(scalar.New()) == 1 {
		return nil, ErrSecretKey
	}
	k := &SecretKey{s: s}
	var c curve.CompressedRistretto
	c.SetRistrettoPoint(curve.NewRistrettoPoint().MulBasepoint(curve.RISTRETTO_BASEPOINT_TABLE, s))
	copy(k.pub[:], c[:])
	return k, nil
}

// Check reports whether p is the canonical encoding of a point other than the
// identity.
func (p PublicKey) Check() error {
	_, err := p.point()
	return err
}

func (p PublicKey) point() (*curve.RistrettoPoint, error) {
	c := curve.CompressedRistretto(p)
	pt, err := curve.NewRistrettoPoint().SetCompressed(&c)
	if err != nil {
		return nil, fmt.Errorf("%w: %x: %v", ErrPublicKey, p[:], err)
	}
	if pt.IsIdentity() {
		return nil, fmt.Errorf("%w: the identity", ErrPublicKey)
	}
	return pt, nil
}

// Agree returns the compressed point secret·peer. It is the input of a key
// derivation, never a key.
func (k *SecretKey) Agree(peer PublicKey) ([32]byte, error) {
	pt, err := peer.point()
	if err != nil {
		return [32]byte{}, err
	}
	var c curve.CompressedRistretto
	c.SetRistrettoPoint(pt.Mul(pt, k.s))
	return [32]byte(c), nil
}

// A Direction says who wrote the message that a key protects.
type Direction uint8

// Request goes from the initiator to the responder, Reply back.
const (
	Request Direction = 1
	Reply   Direction = 2
)

// A Label says what a CommKey is for.
type Label struct {
	Purpose   string // such as "command" or "query"
	Chain     string // chain id
	Epoch     uint64 // the responder's key epoch; 0 where there is none
	Direction Direction
}

// A Key is an AES-256 key. It does not print.
type Key [32]byte

// Format makes every verb print nothing of the key.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, "commkey(secret)") }

// AsInitiator derives the key for the party that started the exchange.
func (k *SecretKey) AsInitiator(responder PublicKey, l Label) (Key, error) {
	return k.derive(responder, k.pub, responder, l)
}

// AsResponder derives the same key for the party that was addressed.
func (k *SecretKey) AsResponder(initiator PublicKey, l Label) (Key, error) {
	a, err := k.Respond(initiator)
	if err != nil {
		return Key{}, err
	}
	return a.Key(l)
}

// An Agreement is what the responder shares with an initiator, for deriving the keys of
// several labels without agreeing again, which is the costly part. It does not print.
type Agreement struct {
	shared               [32]byte
	initiator, responder PublicKey
}

// Format makes every verb print nothing of the secret.
func (*Agreement) Format(f fmt.State, _ rune) { io.WriteString(f, "agreement(secret)") }

// Respond agrees as the party that was addressed.
func (k *SecretKey) Respond(initiator PublicKey) (*Agreement, error) {
	shared, err := k.Agree(initiator)
	return &Agreement{shared, initiator, k.pub}, err
}

// Initiator is the public key of who started the exchange.
func (a *Agreement) Initiator() PublicKey { return a.initiator }

// Responder is the public key of who was addressed.
func (a *Agreement) Responder() PublicKey { return a.responder }

func (k *SecretKey) derive(peer, initiator, responder PublicKey, l Label) (Key, error) {
	shared, err := k.Agree(peer)
	if err != nil {
		return Key{}, err
	}
	return (&Agreement{shared, initiator, responder}).Key(l)
}

// Key derives the key of a label.
func (a *Agreement) Key(l Label) (Key, error) {
	salt := append(append(make([]byte, 0, 64), a.initiator[:]...), a.responder[:]...)
	info := transcript.Bytes("phala/commkey/v1", []byte(l.Purpose), []byte(l.Chain), transcript.U64(l.Epoch), []byte{byte(l.Direction)})
	b, err := hkdf.Key(sha256.New, a.shared[:], salt, string(info), 32)
	if err != nil {
		return Key{}, fmt.Errorf("commkey: derive: %w", err)
	}
	return Key(b), nil
}
