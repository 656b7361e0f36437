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
	cl := &proto.Cluster{ID: 7, Rules: 2, SeatsWanted: 3, Seats: []proto.WorkerID{seat(1), seat(2), seat(3)}}
	vote := func(n int, image proto.Hash) proto.CodeVote {
		return proto.CodeVote{Cluster: 7, Worker: seat(n), Rules: 2, Image: image}
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
		{"words in another cluster", []proto.CodeVote{vote(1, one), {Cluster: 8, Worker: seat(2), Rules: 2, Image: one}}, nil, false, false},
		{"words under the rules of before", []proto.CodeVote{vote(1, one), {Cluster: 7, Worker: seat(2), Rules: 1, Image: one}}, []proto.CodeVote{{Cluster: 7, Worker: seat(3), Rules: 1}}, false, false},
	} {
		code := &proto.Code{Prepared: c.prepared, Refused: c.refused}
		image, agreed := code.Agreed(cl)
		if agreed != c.agreed || code.Hopeless(cl) != c.hopeless || (agreed && image != one) {
			t.Errorf("%s: agreed %t on %s, hopeless %t", c.name, agreed, image, code.Hopeless(cl))
		}
	}
}

// TestRulesAgreement: all seats, and at least as many as decide otherwise, must have
// prepared the same codes to the same images.
func TestRulesAgreement(t *testing.T) {
	seat := func(n int) proto.WorkerID { return proto.WorkerID{byte(n)} }
	word := func(n int, seq uint64, image byte) proto.RulesWord {
		return proto.RulesWord{Worker: seat(n), Seq: seq, Images: proto.Hash{image}}
	}
	for _, c := range []struct {
		name    string
		wanted  uint32 // seats that the cluster is to have
		seats   int
		words   []proto.RulesWord
		agreed  bool
		missing int
	}{
		{"nobody", 3, 3, nil, false, 3},
		{"a majority", 3, 3, []proto.RulesWord{word(1, 9, 1), word(2, 9, 1)}, false, 1},
		{"all", 3, 3, []proto.RulesWord{word(1, 9, 1), word(2, 9, 1), word(3, 9, 1)}, true, 0},
		{"other images", 3, 3, []proto.RulesWord{word(1, 9, 1), word(2, 9, 2), word(3, 9, 1)}, false, 0},
		{"other codes", 3, 3, []proto.RulesWord{word(1, 9, 1), word(2, 8, 1), word(3, 9, 1)}, false, 0},
		{"who has no seat is not asked", 3, 3, []proto.RulesWord{word(1, 9, 1), word(2, 9, 1), word(3, 9, 1), word(4, 9, 2), word(5, 8, 1)}, true, 0},
		{"nor counts", 3, 3, []proto.RulesWord{word(1, 9, 1), word(2, 9, 1), word(4, 9, 1)}, false, 1},
		{"a free seat", 3, 2, []proto.RulesWord{word(1, 9, 1), word(2, 9, 1)}, true, 0},
		{"one for three", 3, 1, []proto.RulesWord{word(1, 9, 1)}, false, 0},
		{"no seat", 1, 0, nil, false, 0},
		{"no images", 1, 1, []proto.RulesWord{word(1, 9, 0)}, true, 0},
	} {
		cl := &proto.Cluster{SeatsWanted: c.wanted, Wanted: 2, CodesSeq: 9, Ready: c.words}
		for n := range c.seats {
			cl.Seats = append(cl.Seats, seat(n+1))
		}
		images, agreed := cl.RulesAgreed()
		if agreed != c.agreed || agreed && images != c.words[0].Images || len(cl.RulesMissing()) != c.missing {
			t.Errorf("%s: agreed %t on %s, missing %v", c.name, agreed, images, cl.RulesMissing())
		}
		if cl.Wanted = 0; cl.RulesMissing() != nil {
			t.Errorf("%s: nothing is wanted, and %v are missing", c.name, cl.RulesMissing())
		}
	}
	// The order in which codes are listed does not matter; the version does.
	a, b := proto.CodeImage{Code: proto.Hash{1}, Image: proto.Hash{2}}, proto.CodeImage{Code: proto.Hash{2}}
	d := proto.ImagesDigest(2, []proto.CodeImage{a, b})
	if d != proto.ImagesDigest(2, []proto.CodeImage{b, a}) || d == proto.ImagesDigest(3, []proto.CodeImage{a, b}) || d == proto.ImagesDigest(2, []proto.CodeImage{a}) {
		t.Error("the digest does not say what it is of")
	}
}
