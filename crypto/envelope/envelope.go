package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/transcript"
)

// Version is the first byte of every envelope.
const Version = 1

// Sizes in bytes.
const (
	nonceSize = 12
	tagSize   = 16
	// Overhead is what an envelope adds to the padded plaintext.
	Overhead = 1 + 32 + nonceSize + tagSize
	// MinBucket is the smallest padded plaintext.
	MinBucket = 256
	// MaxPlaintext is the largest message that can be sealed.
	MaxPlaintext = 1<<20 - 4
)

// Failure classes. Test with errors.Is.
var (
	ErrMalformed = errors.New("envelope: malformed")
	ErrVersion   = errors.New("envelope: unknown version")
	ErrTooLarge  = errors.New("envelope: message too large")
	// ErrOpen says nothing more: wrong key, wrong context and changed bytes are one.
	ErrOpen = errors.New("envelope: does not open with this key in this context")
)

// A Context is everything that an envelope is bound to besides its bytes.
type Context struct {
	Purpose string // such as "command"
	Chain   string // chain id
	Cluster []byte // cluster id; empty where there is none
	Epoch   uint64 // epoch of the recipient's key; 0 where there is none
	Outer   []byte // canonical encoding of all outer fields
}

func (c Context) aad(sender, recipient commkey.PublicKey, dir commkey.Direction) []byte {
	return transcript.Bytes("phala/envelope/v1", []byte{Version, byte(dir)}, []byte(c.Purpose), []byte(c.Chain),
		c.Cluster, transcript.U64(c.Epoch), sender[:], recipient[:], c.Outer)
}

func (c Context) label(dir commkey.Direction) commkey.Label {
	return commkey.Label{Purpose: c.Purpose, Chain: c.Chain, Epoch: c.Epoch, Direction: dir}
}

// Bucket returns the padded size of an n-byte message: its length prefix of four
// bytes and the message, rounded up to a power of two of at least MinBucket.
func Bucket(n int) int {
	n += 4
	if n <= MinBucket {
		return MinBucket
	}
	return 1 << bits.Len(uint(n-1))
}

// Seal seals plaintext to recipient with the fresh key pair sender, which the
// caller keeps to open the answer. rng gives the nonce.
func Seal(rng io.Reader, c Context, sender *commkey.SecretKey, recipient commkey.PublicKey, plaintext []byte) ([]byte, error) {
	key, err := sender.AsInitiator(recipient, c.label(commkey.Request))
	if err != nil {
		return nil, err
	}
	pub := sender.Public()
	out := append(make([]byte, 0, Overhead+Bucket(len(plaintext))), Version)
	out = append(out, pub[:]...)
	return seal(rng, key, out, c.aad(pub, recipient, commkey.Request), plaintext)
}

// Open opens an envelope with the recipient's key and returns the message and
// the sender's fresh public key.
func Open(c Context, recipient *commkey.SecretKey, env []byte) ([]byte, commkey.PublicKey, error) {
	sender, err := Sender(env)
	if err != nil {
		return nil, sender, err
	}
	msg, _, err := OpenToReply(c, "", recipient, env)
	return msg, sender, err
}

// OpenToReply is Open for a recipient who will answer, for the purpose that answer names:
// sealing the answer agrees on no key again.
func OpenToReply(c Context, answer string, recipient *commkey.SecretKey, env []byte) ([]byte, *Replier, error) {
	sender, err := Sender(env)
	if err != nil {
		return nil, nil, err
	}
	a, err := recipient.Respond(sender)
	if err != nil {
		return nil, nil, err
	}
	key, err := a.Key(c.label(commkey.Request))
	if err != nil {
		return nil, nil, err
	}
	msg, err := open(key, env[33:], c.aad(sender, recipient.Public(), commkey.Request))
	if err != nil {
		return nil, nil, err
	}
	c.Purpose = answer
	if key, err = a.Key(c.label(commkey.Reply)); err != nil {
		return nil, nil, err
	}
	return msg, NewReplier(c, sender, recipient.Public(), key), nil
}

// A Replier answers one request, and can do nothing else. It does not print.
type Replier struct {
	c                    Context
	initiator, responder commkey.PublicKey
	key                  commkey.Key
}

// NewReplier returns the Replier of an answer's context and key, for a process to which
// another one has opened a request.
func NewReplier(c Context, initiator, responder commkey.PublicKey, key commkey.Key) *Replier {
	return &Replier{c, initiator, responder, key}
}

// Key is the key of the answer.
func (r *Replier) Key() commkey.Key { return r.key }

// Format makes every verb print nothing of the key.
func (*Replier) Format(f fmt.State, _ rune) { io.WriteString(f, "replier(secret)") }

// Seal seals the answer, as SealReply does.
func (r *Replier) Seal(rng io.Reader, plaintext []byte) ([]byte, error) {
	return seal(rng, r.key, nil, r.c.aad(r.initiator, r.responder, commkey.Reply), plaintext)
}

// Sender returns the fresh public key in an envelope without opening it.
func Sender(env []byte) (commkey.PublicKey, error) {
	var pub commkey.PublicKey
	if len(env) < Overhead+MinBucket {
		return pub, fmt.Errorf("%w: %d bytes, at least %d", ErrMalformed, len(env), Overhead+MinBucket)
	}
	if env[0] != Version {
		return pub, fmt.Errorf("%w: %d", ErrVersion, env[0])
	}
	copy(pub[:], env[1:33])
	return pub, nil
}

// SealReply seals an answer to the fresh key of a request: nonce ‖ ciphertext.
func SealReply(rng io.Reader, c Context, responder *commkey.SecretKey, requester commkey.PublicKey, plaintext []byte) ([]byte, error) {
	key, err := responder.AsResponder(requester, c.label(commkey.Reply))
	if err != nil {
		return nil, err
	}
	return NewReplier(c, requester, responder.Public(), key).Seal(rng, plaintext)
}

// OpenReply opens an answer with the fresh key that the request was sealed with.
func OpenReply(c Context, requester *commkey.SecretKey, responder commkey.PublicKey, reply []byte) ([]byte, error) {
	if len(reply) < nonceSize+tagSize+MinBucket {
		return nil, fmt.Errorf("%w: reply of %d bytes", ErrMalformed, len(reply))
	}
	key, err := requester.AsInitiator(responder, c.label(commkey.Reply))
	if err != nil {
		return nil, err
	}
	return open(key, reply, c.aad(requester.Public(), responder, commkey.Reply))
}

func newGCM(key commkey.Key) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("envelope: broken invariant: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("envelope: broken invariant: " + err.Error())
	}
	return gcm
}

func seal(rng io.Reader, key commkey.Key, out, aad, plaintext []byte) ([]byte, error) {
	if len(plaintext) > MaxPlaintext {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(plaintext), MaxPlaintext)
	}
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(rng, nonce[:]); err != nil {
		return nil, fmt.Errorf("envelope: read random nonce: %w", err)
	}
	padded := make([]byte, Bucket(len(plaintext)))
	binary.BigEndian.PutUint32(padded, uint32(len(plaintext)))
	copy(padded[4:], plaintext)
	return newGCM(key).Seal(append(out, nonce[:]...), nonce[:], padded, aad), nil
}

func open(key commkey.Key, b, aad []byte) ([]byte, error) {
	padded, err := newGCM(key).Open(nil, b[:nonceSize], b[nonceSize:], aad)
	if err != nil {
		return nil, ErrOpen
	}
	if len(padded) < 4 {
		return nil, fmt.Errorf("%w: no length", ErrMalformed)
	}
	n := int(binary.BigEndian.Uint32(padded))
	if n > MaxPlaintext || len(padded) != Bucket(n) {
		return nil, fmt.Errorf("%w: message of %d bytes padded to %d", ErrMalformed, n, len(padded))
	}
	for _, b := range padded[4+n:] {
		if b != 0 {
			return nil, fmt.Errorf("%w: padding is not zero", ErrMalformed)
		}
	}
	return padded[4 : 4+n], nil
}
