package proto_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/phala-go/phala/proto"
)

// TestDepositBuckets: what is kept covers what was bound and stays below the limit, what
// is refunded is there, and nothing smaller than a unit shows.
func TestDepositBuckets(t *testing.T) {
	for _, c := range []struct {
		bucket         proto.DepositBucket
		limit          uint64
		kept, refunded uint64
	}{
		{0, 1 << 40, 0, 0},
		{1, 1 << 40, 1, 0},
		{25, 1 << 40, 1 << 24, 0},
		{25, 1000, 1000, 0},
		{64, math.MaxUint64, 1 << 63, 0},
		{65, 1 << 40, 0, 1},
		{128, 1 << 40, 0, 1 << 63},
		{129, 1 << 40, 0, 0},
		{255, 1 << 40, 0, 0},
	} {
		if k, r := c.bucket.Kept(c.limit), c.bucket.Refunded(); k != c.kept || r != c.refunded {
			t.Errorf("bucket %d of %d keeps %d and refunds %d, want %d and %d", c.bucket, c.limit, k, r, c.kept, c.refunded)
		}
	}
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20_000 {
		amount := rng.Uint64N(proto.MaxDeposit+1) >> rng.UintN(61)
		limit := amount + rng.Uint64N(proto.MaxDeposit-amount+1)>>rng.UintN(61)
		k := proto.KeepDeposit(amount)
		if kept := k.Kept(limit); kept < amount || kept > limit || k.Refunded() != 0 || (amount > proto.DepositUnit && kept >= 2*amount) {
			t.Fatalf("seed %d: of %d, %d is bound and %d kept", seed, limit, amount, kept)
		}
		r := proto.RefundDeposit(amount)
		if back := r.Refunded(); back > amount || (back == 0) != (amount < proto.DepositUnit) || (back > 0 && back*2 <= amount) || r.Kept(limit) != 0 {
			t.Fatalf("seed %d: of %d, %d is refunded", seed, amount, back)
		}
	}
}

// TestReceiptLeaf: no event can be changed, moved, opened or left out.
func TestReceiptLeaf(t *testing.T) {
	a, b := proto.Emitted{Body: []byte("a")}, proto.Emitted{Sealed: true, Body: []byte("b")}
	seen := map[proto.Hash]int{}
	for i, events := range [][]proto.Emitted{nil, {a}, {b}, {a, b}, {b, a}, {a, a}, {{Sealed: true, Body: []byte("a")}}, {{Body: []byte("ab")}}, {{Body: []byte{}}}} {
		h := proto.ReceiptLeaf(proto.Hash{1}, events)
		if j, twice := seen[h]; twice {
			t.Errorf("lists %d and %d have one leaf", i, j)
		}
		seen[h] = i
	}
	if proto.ReceiptLeaf(proto.Hash{1}, nil) == proto.ReceiptLeaf(proto.Hash{2}, nil) {
		t.Error("two outputs have one leaf")
	}
}

// TestCodeAgreement: a majority counts for one image only.
func TestCodeAgreement(t *testing.T) {
	seat := func(n int) proto.WorkerID { return proto.WorkerID{byte(n)} }
	one, two := proto.Hash{1}, proto.Hash{2}
	cl := &proto.Cluster{ID: 7, SeatsWanted: 3, Seats: []proto.WorkerID{seat(1), seat(2), seat(3)}}
	vote := func(n int, image proto.Hash) proto.CodeVote {
		return proto.CodeVote{Cluster: 7, Worker: seat(n), Image: image}
	}
	for _, c := range []struct {
		name              string
		prepared, refused []proto.CodeVote
		agreed, hopeless  bool
	}{
		{"nobody", nil, nil, false, false},
		{"one of three", []proto.CodeVote{vote(1, one)}, nil, false, false},
		{"two of three", []proto.CodeVote{vote(1, one), vote(2, one)}, nil, true, false},
		{"two images", []proto.CodeVote{vote(1, two), vote(2, one)}, nil, false, false},
		{"two images, then a majority", []proto.CodeVote{vote(1, two), vote(2, one), vote(3, one)}, nil, true, false},
		{"three images", []proto.CodeVote{vote(1, two), vote(2, one), vote(3, proto.Hash{3})}, nil, false, true},
		{"one refuses", nil, []proto.CodeVote{vote(1, proto.Hash{})}, false, false},
		{"two refuse", nil, []proto.CodeVote{vote(1, proto.Hash{}), vote(2, proto.Hash{})}, false, true},
		{"two images and a refusal", []proto.CodeVote{vote(1, one), vote(2, two)}, []proto.CodeVote{vote(3, proto.Hash{})}, false, true},
		{"words without a seat", []proto.CodeVote{vote(1, one), vote(8, one), vote(9, one)}, nil, false, false},
		{"words in another cluster", []proto.CodeVote{vote(1, one), {Cluster: 8, Worker: seat(2), Image: one}}, nil, false, false},
	} {
		code := &proto.Code{Prepared: c.prepared, Refused: c.refused}
		image, agreed := code.Agreed(cl)
		if agreed != c.agreed || code.Hopeless(cl) != c.hopeless || (agreed && image != one) {
			t.Errorf("%s: agreed %t on %s, hopeless %t", c.name, agreed, image, code.Hopeless(cl))
		}
	}
}
