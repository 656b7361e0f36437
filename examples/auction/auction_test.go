package main

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/contract/contracttest"
	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
)

func code(err error) uint32 {
	var e *contract.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestAuction(t *testing.T) {
	type bid struct {
		who    string
		amount uint64
	}
	k := contracttest.New(t)
	seller := k.Account("seller")
	for _, c := range []struct {
		name    string
		reserve uint64
		bids    []bid
		winner  string
		price   uint64
	}{
		{"nobody bids", 0, nil, "", 0},
		{"one bids, and pays the reserve", 10, []bid{{"ann", 50}}, "ann", 10},
		{"one bids without a reserve, and pays the least there is", 0, []bid{{"ann", 50}}, "ann", 1},
		{"the highest pays the second highest", 0, []bid{{"ann", 50}, {"ben", 70}, {"cid", 60}}, "ben", 60},
		{"in another order", 0, []bid{{"ben", 70}, {"cid", 60}, {"ann", 50}}, "ben", 60},
		{"the second is below the reserve", 55, []bid{{"ann", 50}, {"ben", 70}}, "ben", 55},
		{"all are below the reserve", 100, []bid{{"ann", 50}, {"ben", 70}}, "", 0},
		{"exactly the reserve", 70, []bid{{"ben", 70}}, "ben", 70},
		{"of two equal the first wins", 0, []bid{{"ben", 70}, {"ann", 70}, {"cid", 5}}, "ben", 70},
		{"a bid is replaced by a higher", 0, []bid{{"ann", 50}, {"ben", 60}, {"ann", 70}}, "ann", 60},
		{"a bid is replaced by a lower", 0, []bid{{"ann", 50}, {"ben", 40}, {"ann", 30}}, "ben", 30},
		{"repeating a bid loses its turn", 0, []bid{{"ann", 50}, {"ben", 50}, {"ann", 50}}, "ben", 50},
		{"a bid is withdrawn", 0, []bid{{"ann", 50}, {"ben", 40}, {"ann", 0}}, "ben", 1},
		{"the most that can be bid", 0, []bid{{"ann", math.MaxUint64}, {"ben", math.MaxUint64 - 1}}, "ann", math.MaxUint64 - 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			restore := k.Snapshot()
			defer restore()
			k.Deploy(seller, Terms{Item: "a horse", Reserve: c.reserve, Blocks: 10})
			for _, b := range c.bids {
				k.Call(k.Account(b.who), "Bid", b.amount, nil)
			}
			k.NextBlock(10)
			bidders := map[string]bool{}
			for _, b := range c.bids {
				bidders[b.who] = true
			}
			want := Result{Sold: c.winner != "", Price: c.price, Bidders: uint64(len(bidders))}
			if want.Sold {
				want.Winner = k.Account(c.winner)
			}
			var got Result
			if k.Query("", "Result", nil, &got); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	k := contracttest.New(t)
	seller, ann := k.Account("seller"), k.Account("ann")
	for _, terms := range []Terms{{}, {Item: "a horse"}, {Blocks: 10}, {Item: "a horse", Blocks: math.MaxUint64}} {
		if err := k.TryDeploy(seller, terms); code(err) != CodeTerms {
			t.Errorf("%+v: got %v", terms, err)
		}
	}
	k.Deploy(seller, Terms{Item: "a horse", Blocks: 2})
	k.Call(ann, "Bid", 5, nil)
	var n uint64
	if k.Query(ann, "MyBid", nil, &n); n != 5 {
		t.Errorf("the bid is %d", n)
	}
	for name, c := range map[string]struct {
		err  error
		code uint32
	}{
		"the seller bids":            {k.TryCall(seller, "Bid", 100, nil), CodeSeller},
		"the seller looks":           {k.TryQuery(seller, "Result", nil, nil), CodeOpen},
		"a bidder looks":             {k.TryQuery(ann, "Result", nil, nil), CodeOpen},
		"somebody without a bid":     {k.TryQuery(seller, "MyBid", nil, nil), CodeNoBid},
		"somebody without a name":    {k.TryQuery("", "MyBid", nil, nil), CodeNoBid},
		"a bid of less than nothing": {k.TryCall(ann, "Bid", -5, nil), contract.CodeArguments},
	} {
		if c.err == nil || code(c.err) != c.code {
			t.Errorf("%s: got %v, want code %d", name, c.err, c.code)
		}
	}
	// The last block with bids, and the first without.
	k.NextBlock(1)
	k.Call(ann, "Bid", 6, nil)
	var s Sale
	if k.Query("", "Sale", nil, &s); s != (Sale{"a horse", seller, k.Height() + 1, true}) {
		t.Errorf("the sale is %+v", s)
	}
	k.NextBlock(1)
	if err := k.TryCall(ann, "Bid", 7, nil); code(err) != CodeOver {
		t.Errorf("a bid after the end: %v", err)
	}
	if k.Query(ann, "MyBid", nil, &n); n != 6 {
		t.Errorf("the bid is %d after the end", n)
	}
	var r Result
	if k.Query(seller, "Result", nil, &r); r != (Result{true, ann, 1, 1}) {
		t.Errorf("the result is %+v", r)
	}
}

// TestAgainstModel compares with sorting.
func TestAgainstModel(t *testing.T) {
	seed := uint64(20261121)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	k := contracttest.New(t, contracttest.Native)
	for range 200 {
		restore, reserve := k.Snapshot(), r.Uint64N(20)
		k.Deploy(k.Account("seller"), Terms{Item: "x", Reserve: reserve, Blocks: 1})
		type entry struct {
			who    string
			amount uint64
		}
		var bids []entry // in turn
		for range r.IntN(8) {
			who, n := string(rune('a'+r.IntN(5))), r.Uint64N(30)
			k.Call(k.Account(who), "Bid", n, nil)
			bids = slices.DeleteFunc(bids, func(e entry) bool { return e.who == who })
			bids = append(bids, entry{who, n})
		}
		least := max(reserve, 1)
		valid := slices.DeleteFunc(slices.Clone(bids), func(e entry) bool { return e.amount < least })
		slices.SortStableFunc(valid, func(a, b entry) int { return int(b.amount) - int(a.amount) })
		want := Result{Bidders: uint64(len(bids))}
		if len(valid) > 0 {
			want = Result{true, k.Account(valid[0].who), least, uint64(len(bids))}
		}
		if len(valid) > 1 {
			want.Price = valid[1].amount
		}
		k.NextBlock(1)
		var got Result
		if k.Query("", "Result", nil, &got); got != want {
			t.Fatalf("reserve %d, bids %v: got %+v, want %+v", reserve, bids, got, want)
		}
		restore()
	}
}

// TestNothingBetrays: what everybody sees of bids does not tell how high they are.
func TestNothingBetrays(t *testing.T) {
	w := clustertest.New(t, clustertest.Prepare(t, clustertest.Module(t, "."), ""))
	if s := w.Deploy("seller", Terms{Item: "a horse", Reserve: 100, Blocks: 50}); s.Status != proto.StatusOK {
		t.Fatal(s.Status, s.Error)
	}
	var first *clustertest.Seen
	for _, b := range []struct {
		who    string
		amount uint64
	}{{"ann", 1}, {"ben", math.MaxUint64}, {"cid", 100}, {"dan", 0}, {"ann", 1 << 60}, {"ben", 2}} {
		s := w.Call(b.who, "Bid", b.amount)
		if first == nil {
			first = s
		}
		if s.Status != proto.StatusOK || s.Envelope != first.Envelope || s.Sealed != first.Sealed || s.Receipt != first.Receipt || s.Public() != first.Public() {
			t.Errorf("a bid of %d shows as %+v, the first as %+v", b.amount, s, first)
		}
		t.Logf("a bid of %d uses %d gas", b.amount, s.GasUsed)
		if from := uint64(1) << (s.Bucket - 1); s.GasUsed < from+from/32 || s.GasUsed > 2*from-from/32 {
			t.Errorf("%d gas is too near the ends of its bucket, %d and %d", s.GasUsed, from, 2*from)
		}
	}
}
