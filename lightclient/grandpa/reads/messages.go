package reads

import (
	"fmt"

	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

// maxMessages bounds a queue (Polkadot's channels hold at most 1,000 messages).
const maxMessages = 4096

// A Message is an inbound HRMP or downward message with the relay block at which it was sent.
type Message struct {
	SentAt uint32
	Data   []byte
}

func readMessages(d *scale.Decoder) []Message {
	list := make([]Message, d.Len(5, maxMessages, "messages"))
	for i := range list {
		list[i] = Message{SentAt: d.U32("sent at"), Data: d.Bytes(trie.MaxBytes, "message")}
	}
	return list
}

// A Channel is a one-way HRMP channel (polkadot-sdk HrmpChannel). Sizes are in bytes. Head is the head of the hash
// chain over all messages ever sent through it, zero before the first.
type Channel struct {
	MaxCapacity, MaxTotalSize, MaxMessageSize uint32
	MessageCount, TotalSize                   uint32 // of the messages still waiting
	Head                                      Hash
	SenderDeposit, RecipientDeposit           scale.U128
}

// HrmpChannel returns Hrmp::HrmpChannels(sender, recipient). ok false means that there is no such channel.
func (v *View) HrmpChannel(sender, recipient uint32) (c Channel, ok bool, err error) {
	key := storage.Map("Hrmp", "HrmpChannels", storage.Twox64Concat, keyU32(sender, recipient))
	return read(v, fmt.Sprintf("Hrmp::HrmpChannels(%d, %d)", sender, recipient), key, func(d *scale.Decoder) (c Channel) {
		c.MaxCapacity = d.U32("max capacity")
		c.MaxTotalSize = d.U32("max total size")
		c.MaxMessageSize = d.U32("max message size")
		c.MessageCount = d.U32("message count")
		c.TotalSize = d.U32("total size")
		if d.Option("head") {
			c.Head = readHash(d, "head")
		}
		c.SenderDeposit = d.U128("sender deposit")
		c.RecipientDeposit = d.U128("recipient deposit")
		return c
	})
}

// HrmpMessages returns Hrmp::HrmpChannelContents(sender, recipient), the messages that the recipient has not taken
// yet, oldest first. No entry means none.
func (v *View) HrmpMessages(sender, recipient uint32) ([]Message, error) {
	key := storage.Map("Hrmp", "HrmpChannelContents", storage.Twox64Concat, keyU32(sender, recipient))
	list, _, err := read(v, fmt.Sprintf("Hrmp::HrmpChannelContents(%d, %d)", sender, recipient), key, readMessages)
	return list, err
}

// HrmpSenders returns Hrmp::HrmpIngressChannelsIndex(para): the parachains with a channel to para, ascending.
func (v *View) HrmpSenders(para uint32) ([]uint32, error) {
	return v.paraList("HrmpIngressChannelsIndex", para)
}

// HrmpRecipients returns Hrmp::HrmpEgressChannelsIndex(para): the parachains with a channel from para, ascending.
func (v *View) HrmpRecipients(para uint32) ([]uint32, error) {
	return v.paraList("HrmpEgressChannelsIndex", para)
}

func (v *View) paraList(name string, para uint32) ([]uint32, error) {
	key := storage.Map("Hrmp", name, storage.Twox64Concat, keyU32(para))
	list, _, err := read(v, fmt.Sprintf("Hrmp::%s(%d)", name, para), key, func(d *scale.Decoder) []uint32 {
		list := make([]uint32, d.Len(4, 1<<16, "parachains"))
		for i := range list {
			list[i] = d.U32("parachain")
			if i > 0 && list[i] <= list[i-1] {
				d.Fail(scale.ErrNonCanonical, "order of parachains")
			}
		}
		return list
	})
	return list, err
}

// DownwardHead returns Dmp::DownwardMessageQueueHeads(para), the head of the hash chain over all messages from the
// relay chain to the parachain; zero before the first.
func (v *View) DownwardHead(para uint32) (Hash, error) {
	key := storage.Map("Dmp", "DownwardMessageQueueHeads", storage.Twox64Concat, keyU32(para))
	h, _, err := read(v, fmt.Sprintf("Dmp::DownwardMessageQueueHeads(%d)", para), key,
		func(d *scale.Decoder) Hash { return readHash(d, "head") })
	return h, err
}

// DownwardMessages returns Dmp::DownwardMessageQueues(para), the messages from the relay chain that the parachain has
// not taken yet, oldest first.
func (v *View) DownwardMessages(para uint32) ([]Message, error) {
	key := storage.Map("Dmp", "DownwardMessageQueues", storage.Twox64Concat, keyU32(para))
	list, _, err := read(v, fmt.Sprintf("Dmp::DownwardMessageQueues(%d)", para), key, readMessages)
	return list, err
}

// An Outbound is a message that a parachain sends in its present block.
type Outbound struct {
	Recipient uint32
	Data      []byte
}

// HrmpOutbound returns ParachainSystem::HrmpOutboundMessages of a parachain's own state: the messages that the block
// sends. The item is cleared in each block; no entry means none.
func (v *View) HrmpOutbound() ([]Outbound, error) {
	const item = "ParachainSystem::HrmpOutboundMessages"
	list, _, err := read(v, item, storage.Value("ParachainSystem", "HrmpOutboundMessages"), func(d *scale.Decoder) []Outbound {
		list := make([]Outbound, d.Len(5, maxMessages, "messages"))
		for i := range list {
			list[i] = Outbound{Recipient: d.U32("recipient"), Data: d.Bytes(trie.MaxBytes, "message")}
		}
		return list
	})
	return list, err
}

// Fold extends a queue's hash chain by messages and returns the new head.
func Fold(head Hash, messages ...Message) Hash {
	for _, m := range messages {
		head = extend(head, m.SentAt, messageHash(m))
	}
	return head
}

func messageHash(m Message) Hash { return blake2b.Sum256(scale.AppendBytes(nil, m.Data)) }

func extend(head Hash, sentAt uint32, message Hash) Hash {
	b := append(append(head[:], keyU32(sentAt)...), message[:]...)
	return blake2b.Sum256(b)
}

// Since returns the messages of a queue that came after the head that the reader remembers, given the present head.
// ok false means that they do not connect: messages after the remembered head have already left the queue.
func Since(remembered, head Hash, queue []Message) (messages []Message, ok bool) {
	hashes := make([]Hash, len(queue))
	for i, m := range queue {
		hashes[i] = messageHash(m)
	}
	for start := len(queue); start >= 0; start-- {
		at := remembered
		for i := start; i < len(queue); i++ {
			at = extend(at, queue[i].SentAt, hashes[i])
		}
		if at == head {
			return queue[start:], true
		}
	}
	return nil, false
}
