package client

import (
	"crypto/sha256"
	"testing"

	"github.com/phala-go/phala/proto"
)

// TestAgreed: of a record only the receipt that is final counts, and of its seats those
// that signed that one.
func TestAgreed(t *testing.T) {
	one, other := proto.Receipt{Cluster: 1, FromSeq: 3, ToSeq: 3, StateRoot: proto.Hash{1}}, proto.Receipt{Cluster: 1, FromSeq: 3, ToSeq: 3, StateRoot: proto.Hash{2}}
	vote := func(n byte, r proto.Receipt) proto.ReceiptVote {
		return proto.ReceiptVote{Worker: proto.WorkerID{n}, Digest: sha256.Sum256(proto.MarshalEntry(r))}
	}
	rec := &proto.ReceiptRecord{Receipts: []proto.Receipt{other, one}, Agreed: 1, Votes: []proto.ReceiptVote{vote(1, one), vote(2, other), vote(3, one)}}
	if r, seats := agreed(rec); r != nil || seats != 0 {
		t.Errorf("not final: %+v by %d seats", r, seats)
	}
	rec.Final = true
	if r, seats := agreed(rec); r == nil || r.StateRoot != one.StateRoot || seats != 2 {
		t.Errorf("final: %+v by %d seats, want the second by 2", r, seats)
	}
}
