package pruntime

import (
	"crypto/rand"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// A SignedEntry is an outbox entry as the chain takes it.
type SignedEntry struct {
	Payload   []byte
	Signature [64]byte
}

// outbox numbers and signs what the enclave has to say. Numbers are given from the
// position that the chain proves, not from memory: after a restart the entries that
// the chain does not have are numbered again, and what it already has is refused there
// as a repetition, which does no harm.
type outbox struct {
	chain string
	self  proto.WorkerID
	key   *identity.KeyPair
	base  uint64 // sequence of queue[0]; 0 until the chain's position was proven
	queue []queued
}

type queued struct {
	payload   []byte
	signature [64]byte
	seq       uint64 // for which it is signed
}

func (o *outbox) push(e proto.Entry) {
	o.queue = append(o.queue, queued{payload: proto.MarshalEntry(e)})
}

func (o *outbox) acknowledge(next uint64) {
	switch {
	case o.base == 0 || next > o.base+uint64(len(o.queue)):
		// First proof since the start; or another instance of this identity spoke, and
		// what we have to say comes after.
		o.base = next
	case next > o.base:
		o.queue = o.queue[next-o.base:]
		o.base = next
	}
}

func (o *outbox) entries(limit int) (uint64, []SignedEntry, error) {
	if o.base == 0 {
		return 0, nil, nil
	}
	var out []SignedEntry
	size := 0
	for i := range o.queue {
		q, seq := &o.queue[i], o.base+uint64(i)
		if size += len(q.payload) + 64; len(out) >= limit || (len(out) > 0 && size > 512<<10) {
			break
		}
		if q.seq != seq {
			sig, err := o.key.Sign(rand.Reader, proto.EntrySignedBytes(o.chain, o.self, seq, q.payload))
			if err != nil {
				return 0, nil, err
			}
			q.signature, q.seq = sig, seq
		}
		out = append(out, SignedEntry{q.payload, q.signature})
	}
	return o.base, out, nil
}
