package pruntime

import (
	"slices"

	"github.com/phala-go/phala/proto"
)

// A SignedEntry is an outbox entry as the chain takes it.
type SignedEntry struct {
	Payload   []byte
	Signature [64]byte
}

// outbox numbers and signs what the enclave has to say. Numbers are given from the
// position that the chain proves, not from memory. The position says which entries the
// chain took, by their folded hash: entries of an earlier life, still on their way when
// the enclave restarted, may have taken the numbers that it gives now. What the chain did
// not take keeps its place and is numbered again; what it took twice it refuses, which
// does no harm.
type outbox struct {
	chain string
	self  proto.WorkerID
	sign  func(first uint64, payloads [][]byte) ([][64]byte, error)
	base  uint64       // sequence of queue[0]; 0 until the chain's position was proven
	at    proto.Cursor // that position: base-1 entries
	from  int64        // height from which entries are given out
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

// settle is how many blocks the outbox is silent after it found the chain at a position
// that it did not expect: what an earlier life of this enclave sent lands meanwhile, and
// does not mix with what is numbered now.
const settle = 2

// acknowledge takes the position that the header of a height proves. It reports whether
// entries of their moment were given out and dropped, which may have arrived or not.
func (o *outbox) acknowledge(position proto.Cursor, height int64) (dropped bool) {
	next := position.Seq + 1
	if o.base != 0 && next <= o.base {
		return false // an older proof
	}
	expected := o.base == 0 && position.Seq == 0 // nothing was ever said
	if o.base != 0 && next-o.base <= uint64(len(o.queue)) {
		c, n := o.at, next-o.base
		for _, q := range o.queue[:n] {
			c = c.FoldEntry(o.self, q.payload)
		}
		if expected = c == position; expected {
			o.queue = o.queue[n:]
		}
	}
	o.base, o.at = next, position
	if !expected {
		o.from = height + settle
		// What was given out may be among what the chain took. Most of it does no harm twice.
		before := len(o.queue)
		o.queue = slices.DeleteFunc(o.queue, func(q queued) bool { return q.seq != 0 && passing(q.payload) })
		dropped = len(o.queue) < before
	}
	return dropped
}

// again reports whether an entry is not kept over a restart: what is of its moment, and the
// key of an epoch, which is released again to the new session and published then.
func again(payload []byte) bool {
	e, _ := proto.ParseEntry(payload)
	_, key := e.(proto.PublishEpochKey)
	return key || passing(payload)
}

// passing reports whether an entry is of its moment: a session or a challenge, which the
// enclave makes anew when it does not arrive. Twice, or after a restart, a session would
// take the place of the present one.
func passing(payload []byte) bool {
	switch e, _ := proto.ParseEntry(payload); e.(type) {
	case proto.StartSession, proto.Challenge:
		return true
	}
	return false
}

// maxEntries is how many bytes of entries are given out at once: three pieces of a
// snapshot, which fit a transaction.
const maxEntries = 800 << 10

// entries returns signed entries from the first that the chain does not have.
func (o *outbox) entries(limit int, height int64) (uint64, []SignedEntry, error) {
	if o.base == 0 || height < o.from {
		return 0, nil, nil
	}
	n, size := 0, 0
	for n < min(limit, len(o.queue)) {
		if size += len(o.queue[n].payload) + 64; n > 0 && size > maxEntries {
			break
		}
		n++
	}
	// A queue is numbered from one end to the other: what is signed for its place is in
	// front.
	signed := 0
	for signed < n && o.queue[signed].seq == o.base+uint64(signed) {
		signed++
	}
	if signed < n {
		var payloads [][]byte
		for i := range o.queue[signed:n] {
			payloads = append(payloads, o.queue[signed+i].payload)
		}
		signatures, err := o.sign(o.base+uint64(signed), payloads)
		if err != nil {
			return 0, nil, err
		}
		for i, s := range signatures {
			q := &o.queue[signed+i]
			q.signature, q.seq = s, o.base+uint64(signed+i)
		}
	}
	var out []SignedEntry
	for _, q := range o.queue[:n] {
		out = append(out, SignedEntry{q.payload, q.signature})
	}
	return o.base, out, nil
}
