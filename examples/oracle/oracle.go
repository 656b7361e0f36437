// Oracle tells other chains a price. A query asks several sources at once, takes the
// median, so that no minority of them decides, and signs it with a key that only this
// contract has, in every enclave that runs it and for as long as it exists. Whoever knows
// the public key can check the signature anywhere: a contract on another chain needs
// SHA-256 and secp256k1 and no connection to this one.
//
// What is signed is bound to this contract, and its sources cannot change: who pins the
// public key pins them.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/phala-go/phala/contract"
)

// Oracle is the contract.
type Oracle struct {
	Terms contract.Value[Terms]
}

// Terms are what the oracle reports, and from where.
type Terms struct {
	Asset   string   `json:"asset"` // such as BTC/USD, at most 32 bytes
	Sources []Source `json:"sources"`
	Quorum  int      `json:"quorum"` // how many must answer: more than half
}

// A Source answers with JSON. Path leads to the price in it: names of fields and numbers
// of list entries, with points between.
type Source struct {
	URL  string `json:"url"`
	Path string `json:"path"`
}

// Refusals.
const (
	CodeTerms  = 100 // no oracle can work like that
	CodeQuorum = 101 // too few sources answered
)

// A price is a number of units of 10^-8.
const (
	Decimals = 8
	unit     = 100_000_000
)

// maxSources is how many requests a query may make.
const maxSources = 8

// label of the key that signs.
const label = "price"

// Init sets the terms.
func (o *Oracle) Init(ctx *contract.Command, t Terms) error {
	switch n := len(t.Sources); {
	case t.Asset == "" || len(t.Asset) > 32 || strings.ContainsRune(t.Asset, 0):
		return contract.Errorf(CodeTerms, "an asset's name has 1 to 32 bytes")
	case n == 0 || n > maxSources:
		return contract.Errorf(CodeTerms, "%d sources: 1 to %d are possible", n, maxSources)
	case t.Quorum <= n/2 || t.Quorum > n:
		return contract.Errorf(CodeTerms, "a quorum of %d: with %d sources it is %d to %d", t.Quorum, n, n/2+1, n)
	}
	seen := map[string]bool{}
	for _, s := range t.Sources {
		host, _, _ := strings.Cut(strings.TrimPrefix(s.URL, "https://"), "/")
		switch {
		case !strings.HasPrefix(s.URL, "https://"):
			return contract.Errorf(CodeTerms, "%s: only https, or the worker's host could forge the answer", s.URL)
		case seen[host]:
			return contract.Errorf(CodeTerms, "%s is asked twice: it would count as two", host)
		case s.Path == "":
			return contract.Errorf(CodeTerms, "%s: say where the price is: path", s.URL)
		}
		seen[host] = true
	}
	o.Terms.Set(t)
	return nil
}

// A Quote is a signed price.
type Quote struct {
	Asset     string   `json:"asset"`
	Price     uint64   `json:"price"` // in 10^-8
	Decimals  int      `json:"decimals"`
	Time      uint64   `json:"time"` // Unix milliseconds, of the chain
	Message   []byte   `json:"message"`
	Signature []byte   `json:"signature"` // r ‖ s ‖ v
	Answers   []Answer `json:"answers"`
}

// An Answer is what one source said.
type Answer struct {
	URL   string `json:"url"`
	Price uint64 `json:"price,omitempty"`
	Error string `json:"error,omitempty"`
}

// Price asks the sources and signs their median. Anybody may ask.
func (o *Oracle) Price(ctx *contract.Query) (Quote, error) {
	t := o.Terms.Get()
	q := Quote{Asset: t.Asset, Decimals: Decimals, Time: ctx.Time()}
	var prices []uint64
	for _, s := range t.Sources {
		a := Answer{URL: s.URL}
		if p, err := s.ask(ctx); err != nil {
			a.Error = err.Error()
		} else {
			a.Price = p
			prices = append(prices, p)
		}
		q.Answers = append(q.Answers, a)
	}
	if len(prices) < t.Quorum {
		var why []string
		for _, a := range q.Answers {
			if a.Error != "" {
				why = append(why, a.URL+": "+a.Error)
			}
		}
		return Quote{}, contract.Errorf(CodeQuorum, "%d of %d sources answered, %d are needed: %s", len(prices), len(t.Sources), t.Quorum, strings.Join(why, "; "))
	}
	q.Price = median(prices)
	q.Message = Message(q.Asset, q.Price, q.Time, len(prices))
	q.Signature = ctx.Signer(contract.Secp256k1, label).Sign(q.Message)
	return q, nil
}

// Message is what a quote's signature is over, as the contract's message: the digest is
// SHA-256(contract.SignedBytes(id, message)).
//
//	14 bytes  "phala-price/v1"
//	32 bytes  the asset, zeros behind it
//	 8 bytes  the price in 10^-8, big-endian
//	 8 bytes  the time, Unix milliseconds, big-endian
//	 1 byte   how many sources answered
func Message(asset string, price, time uint64, sources int) []byte {
	b := append([]byte("phala-price/v1"), make([]byte, 32)...)
	copy(b[14:], asset)
	b = binary.BigEndian.AppendUint64(b, price)
	b = binary.BigEndian.AppendUint64(b, time)
	return append(b, byte(sources))
}

// An Identity is what another chain needs to know of this oracle, once.
type Identity struct {
	Contract contract.ID `json:"contract"`
	Public   []byte      `json:"public"` // secp256k1, compressed
	Terms    Terms       `json:"terms"`
}

// Identity tells what to pin.
func (o *Oracle) Identity(ctx *contract.Query) (Identity, error) {
	return Identity{ctx.Self(), ctx.Signer(contract.Secp256k1, label).Public(), o.Terms.Get()}, nil
}

func (s Source) ask(ctx *contract.Query) (uint64, error) {
	r, err := ctx.Fetch(&contract.HTTPRequest{URL: s.URL, Header: []contract.HTTPField{{Name: "Accept", Value: "application/json"}}})
	if err != nil {
		return 0, err
	}
	if r.Status != 200 {
		return 0, fmt.Errorf("status %d", r.Status)
	}
	return find(r.Body, s.Path)
}

// find reads the price at a path.
func find(body []byte, path string) (uint64, error) {
	for step := range strings.SplitSeq(path, ".") {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		if json.Unmarshal(body, &object) == nil && object[step] != nil {
			body = object[step]
			continue
		}
		i, err := strconv.ParseUint(step, 10, 16)
		if json.Unmarshal(body, &list) != nil || err != nil || i >= uint64(len(list)) {
			return 0, fmt.Errorf("the answer has no %q of %q", step, path)
		}
		body = list[i]
	}
	var text string
	if json.Unmarshal(body, &text) != nil {
		text = string(body) // a number, as it is written: no float ever rounds it
	}
	return parse(text)
}

var errPrice = errors.New("not a price")

// parse reads a decimal number above zero. Digits behind the eighth are left out.
func parse(s string) (uint64, error) {
	whole, fraction, point := strings.Cut(s, ".")
	if point && fraction == "" || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, errPrice
	}
	if len(fraction) > Decimals {
		fraction = fraction[:Decimals]
	}
	w, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || w >= math.MaxUint64/unit {
		return 0, errPrice
	}
	f, _ := strconv.ParseUint(fraction+strings.Repeat("0", Decimals-len(fraction)), 10, 64)
	if w == 0 && f == 0 {
		return 0, errPrice
	}
	return w*unit + f, nil
}

// median is the middle one, or the mean of the middle two.
func median(prices []uint64) uint64 {
	slices.Sort(prices)
	n := len(prices)
	low, high := prices[(n-1)/2], prices[n/2]
	return low + (high-low)/2
}

func init() { contract.Register(&Oracle{}) }

func main() {}
