package proto

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of the inbox.
const (
	MaxTopic   = 96      // bytes of a topic's name
	MaxSender  = 64      // bytes of a sender
	MaxPayload = 2 << 20 // bytes of a message's payload
)

// A WorkerID is a worker's or gatekeeper's IdentityKey.
type WorkerID [32]byte

// String returns 64 hexadecimal digits.
func (w WorkerID) String() string { return hex.EncodeToString(w[:]) }

// MarshalText returns String.
func (w WorkerID) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (w *WorkerID) UnmarshalText(b []byte) error { return unhex32((*[32]byte)(w), b) }

// A ContractID names a contract: see NewContractID.
type ContractID [32]byte

// String returns 64 hexadecimal digits.
func (c ContractID) String() string { return hex.EncodeToString(c[:]) }

// MarshalText returns String.
func (c ContractID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (c *ContractID) UnmarshalText(b []byte) error { return unhex32((*[32]byte)(c), b) }

// A Hash is a SHA-256.
type Hash [32]byte

// String returns 64 hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns String.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(b []byte) error { return unhex32((*[32]byte)(h), b) }

func unhex32(dst *[32]byte, b []byte) error {
	raw, err := hex.DecodeString(strings.TrimPrefix(string(b), "0x"))
	if err != nil || len(raw) != 32 {
		return fmt.Errorf("proto: %q is not 64 hexadecimal digits", b)
	}
	copy(dst[:], raw)
	return nil
}

// A ClusterID numbers a cluster, from 1.
type ClusterID uint32

// String returns the decimal number.
func (c ClusterID) String() string { return strconv.FormatUint(uint64(c), 10) }

// Bytes returns four bytes, big-endian.
func (c ClusterID) Bytes() []byte { return new(wire.Writer).U32(uint32(c)).Bytes() }

// NewContractID derives a contract's id from what its deployment names.
func NewContractID(chain string, cluster ClusterID, deployer []byte, code Hash, salt []byte) ContractID {
	return ContractID(transcript.Hash("phala/contract-id/v1", []byte(chain), cluster.Bytes(), deployer, code[:], salt))
}

// The topics.
const (
	TopicSystem     = "system"
	TopicGatekeeper = "gatekeeper"
)

// TopicCluster is the topic of a cluster's commands.
func TopicCluster(c ClusterID) string { return "cluster/" + c.String() }

// TopicWorker is the topic of messages for one worker or gatekeeper.
func TopicWorker(w WorkerID) string { return "worker/" + w.String() }

// TopicRank orders messages of one height: system before gatekeeper before
// cluster before worker. Topics of one rank are ordered by name.
func TopicRank(topic string) int {
	switch kind, _, _ := strings.Cut(topic, "/"); kind {
	case TopicSystem:
		return 0
	case TopicGatekeeper:
		return 1
	case "cluster":
		return 2
	case "worker":
		return 3
	}
	return 4
}

// A Cursor is a position in a topic: Seq messages have been folded into Head.
// It is the value that the chain commits for each topic.
type Cursor struct {
	Seq  uint64
	Head Hash
}

// CreatedCursor is the position of a topic in which there is no message yet.
func CreatedCursor(chain, topic string) Cursor {
	return Cursor{0, transcript.Hash("phala/inbox/created/v1", []byte(chain), []byte(topic))}
}

// Fold returns the position after m, which must be the topic's next message.
func (c Cursor) Fold(m *Message) Cursor {
	return c.FoldHash(m.Topic, sha256.Sum256(m.Marshal()))
}

// FoldHash is Fold for a message whose hash is known.
func (c Cursor) FoldHash(topic string, message [32]byte) Cursor {
	seq := c.Seq + 1
	return Cursor{seq, transcript.Hash("phala/inbox/v1", []byte(topic), transcript.U64(seq), c.Head[:], message[:])}
}

// Marshal returns 40 bytes.
func (c Cursor) Marshal() []byte {
	return wire.NewWriter(40).U64(c.Seq).Fixed(c.Head[:]).Bytes()
}

// ParseCursor reads what Marshal returned.
func ParseCursor(b []byte) (Cursor, error) {
	r := wire.NewReader(b)
	c := Cursor{r.U64(), r.Array32()}
	return c, r.Close()
}

// A Message is one entry of a topic: what the chain finalised, when, from whom.
type Message struct {
	Topic   string
	Seq     uint64 // from 1, without gaps
	Height  uint64 // block that contains it
	Time    uint64 // that block's time, Unix milliseconds
	Sender  []byte // account that sent it, or a module's name
	Payload []byte // an Event
}

// Marshal encodes m.
func (m *Message) Marshal() []byte {
	return wire.NewWriter(40 + len(m.Topic) + len(m.Sender) + len(m.Payload)).
		String(m.Topic).U64(m.Seq).U64(m.Height).U64(m.Time).Blob(m.Sender).Blob(m.Payload).Bytes()
}

// ParseMessage decodes a message.
func ParseMessage(b []byte) (*Message, error) {
	r := wire.NewReader(b)
	m := &Message{r.String(MaxTopic), r.U64(), r.U64(), r.U64(), r.Blob(MaxSender), r.Blob(MaxPayload)}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: message: %w", err)
	}
	return m, nil
}
