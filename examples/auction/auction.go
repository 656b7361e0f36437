// Auction is a sealed-bid auction. Until a block's height, nobody sees a bid but who made
// it: not the seller, not the other bidders, not who runs the network. Then the highest
// bidder wins, and pays what the second highest bid (Vickrey's rule: bidding what it is
// worth to you is the best you can do). All other bids stay sealed for ever.
package main

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/phala-go/phala/contract"
)

// Auction is the contract. The seller deploys it.
type Auction struct {
	Seller  contract.Value[contract.Account]
	Item    contract.Value[string]
	Reserve contract.Value[uint64]
	End     contract.Value[uint64] // first height at which no bid is taken
	Bids    contract.Map[contract.Account, Bid]
	Made    contract.Value[uint64] // bids ever made
	Bidders contract.Value[uint64] // who ever made one
}

// Refusals.
const (
	CodeOver   = 100 // bidding has ended
	CodeOpen   = 101 // bidding has not ended
	CodeNoBid  = 102 // the caller has made none
	CodeTerms  = 103 // the auction cannot be held like that
	CodeSeller = 104 // the seller may not bid
)

// A Bid is stored in a form of fixed length, so that what a command uses does not tell
// how much is bid.
type Bid struct {
	Amount uint64 // 0: withdrawn
	Turn   uint64 // of two equal bids, the lower wins
}

// MarshalJSON writes two numbers of sixteen hexadecimal digits.
func (b Bid) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `"%016x%016x"`, b.Amount, b.Turn), nil
}

// UnmarshalJSON reads them.
func (b *Bid) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil || len(s) != 32 {
		return fmt.Errorf("not a bid: %s", text)
	}
	var err1, err2 error
	b.Amount, err1 = strconv.ParseUint(s[:16], 16, 64)
	if b.Turn, err2 = strconv.ParseUint(s[16:], 16, 64); err1 != nil || err2 != nil {
		return fmt.Errorf("not a bid: %s", text)
	}
	return nil
}

func (b Bid) beats(c Bid) bool {
	return b.Amount > c.Amount || b.Amount == c.Amount && b.Turn < c.Turn
}

// Terms are what an auction is opened with. The reserve is nobody's business: a bid below
// it is taken like any other, and does not win.
type Terms struct {
	Item    string `json:"item"`
	Reserve uint64 `json:"reserve,omitempty"`
	Blocks  uint64 `json:"blocks"` // how long bids are taken
}

// Init opens the auction.
func (a *Auction) Init(ctx *contract.Command, t Terms) error {
	switch {
	case t.Item == "":
		return contract.Errorf(CodeTerms, "say what is for sale: item")
	case t.Blocks == 0 || t.Blocks > math.MaxUint64-ctx.Height():
		return contract.Errorf(CodeTerms, "bids cannot be taken for %d blocks", t.Blocks)
	}
	a.Seller.Set(ctx.Caller())
	a.Item.Set(t.Item)
	a.Reserve.Set(t.Reserve)
	a.End.Set(ctx.Height() + t.Blocks)
	return nil
}

// Bid makes the caller's bid, in place of an earlier one, whose turn it loses; 0
// withdraws it.
func (a *Auction) Bid(ctx *contract.Command, amount uint64) error {
	if end := a.End.Get(); ctx.Height() >= end {
		return contract.Errorf(CodeOver, "bidding ended at height %d, now is %d", end, ctx.Height())
	}
	if ctx.Caller() == a.Seller.Get() {
		return contract.Errorf(CodeSeller, "the seller may not bid")
	}
	turn := a.Made.Get() + 1
	a.Made.Set(turn)
	bidders := a.Bidders.Get()
	if _, again := a.Bids.Get(ctx.Caller()); !again {
		bidders++
	}
	a.Bidders.Set(bidders) // also when it is the same: to make a bid, or another, is the same work
	a.Bids.Set(ctx.Caller(), Bid{amount, turn})
	return nil
}

// MyBid is the caller's bid, at any time.
func (a *Auction) MyBid(ctx *contract.Query) (uint64, error) {
	b, ok := a.Bids.Get(ctx.Caller())
	if !ok || b.Amount == 0 {
		return 0, contract.Errorf(CodeNoBid, "%q has made no bid: sign the query", ctx.Caller())
	}
	return b.Amount, nil
}

// Sale is what everybody may know at any time.
type Sale struct {
	Item   string           `json:"item"`
	Seller contract.Account `json:"seller"`
	End    uint64           `json:"end"`
	Open   bool             `json:"open"`
}

// Sale tells what is sold, by whom and until when.
func (a *Auction) Sale(ctx *contract.Query) (Sale, error) {
	return Sale{a.Item.Get(), a.Seller.Get(), a.End.Get(), ctx.Height() < a.End.Get()}, nil
}

// A Result is what comes out. Without a bid that reaches the reserve nobody wins.
type Result struct {
	Sold    bool             `json:"sold"`
	Winner  contract.Account `json:"winner,omitempty"`
	Price   uint64           `json:"price,omitempty"`
	Bidders uint64           `json:"bidders"`
}

// Result is who won and what they pay. Everybody may ask, once bidding has ended.
func (a *Auction) Result(ctx *contract.Query) (Result, error) {
	end := a.End.Get()
	if ctx.Height() < end {
		return Result{}, contract.Errorf(CodeOpen, "bids are taken until height %d, now is %d", end, ctx.Height())
	}
	var best, second Bid
	var winner contract.Account
	least := max(a.Reserve.Get(), 1)
	for who, b := range a.Bids.All() {
		switch {
		case b.Amount < least:
		case b.beats(best):
			winner, best, second = who, b, best
		case b.beats(second):
			second = b
		}
	}
	if winner == "" {
		return Result{Bidders: a.Bidders.Get()}, nil
	}
	return Result{true, winner, max(second.Amount, least), a.Bidders.Get()}, nil
}

func init() { contract.Register(&Auction{}) }

func main() {}
