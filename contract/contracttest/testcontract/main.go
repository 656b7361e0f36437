// A contract for the tests of package contracttest: it uses everything that a contract
// can.
package main

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/phala-go/phala/contract"
)

// Everything is the contract.
type Everything struct {
	Owner contract.Value[contract.Account]
	Items contract.Map[string, string]
}

// Moved is an event.
type Moved struct {
	To     contract.Account `json:"to"`
	Amount uint64           `json:"amount"`
}

// Init makes the deployer the owner.
func (e *Everything) Init(ctx *contract.Command) error { e.Owner.Set(ctx.Caller()); return nil }

// An Item is a key and its value.
type Item struct{ Key, Value string }

// Store stores an item.
func (e *Everything) Store(ctx *contract.Command, i Item) error {
	e.Items.Set(i.Key, i.Value)
	return nil
}

// Churn stores one large item again and again.
func (e *Everything) Churn(ctx *contract.Command, times int) error {
	large := strings.Repeat("x", 250_000)
	for range times {
		e.Items.Set("large", large)
	}
	return nil
}

// A Flood is how many events and log lines of how many bytes.
type Flood struct{ Events, Lines, Bytes int }

// Flood emits and logs.
func (e *Everything) Flood(ctx *contract.Command, f Flood) error {
	for range f.Events {
		contract.Emit(ctx, Item{"flood", strings.Repeat("x", f.Bytes)})
	}
	for range f.Lines {
		ctx.Log("%s", strings.Repeat("x", f.Bytes))
	}
	return nil
}

// Remove removes one.
func (e *Everything) Remove(ctx *contract.Command, key string) error { e.Items.Delete(key); return nil }

// Load returns a value.
func (e *Everything) Load(ctx *contract.Query, key string) (string, error) {
	v, _ := e.Items.Get(key)
	return v, nil
}

// Hashes returns all digests of a text.
func (e *Everything) Hashes(ctx *contract.Query, text string) ([]string, error) {
	b := []byte(text)
	return []string{fmt.Sprintf("%x", contract.SHA256(b)), fmt.Sprintf("%x", contract.SHA512(b)), fmt.Sprintf("%x", contract.BLAKE2b256(b)),
		fmt.Sprintf("%x", contract.BLAKE2b512(b)), fmt.Sprintf("%x", contract.Keccak256(b))}, nil
}

// Signed is a signature and whose it is.
type Signed struct{ Public, Signature []byte }

// Sign signs a text with a bound and a raw key of every scheme, and checks that each
// verifies as it should.
func (e *Everything) Sign(ctx *contract.Query, text string) ([]Signed, error) {
	var out []Signed
	digest := contract.Keccak256([]byte(text))
	bound := contract.SignedBytes(ctx.Self(), digest[:])
	for _, s := range []contract.Scheme{contract.Sr25519, contract.Ed25519, contract.Secp256k1} {
		for _, raw := range []bool{false, true} {
			k, signed := ctx.Signer(s, "test"), bound
			if raw {
				k, signed = ctx.RawSigner(s, "test"), digest[:]
			} else if s == contract.Secp256k1 {
				d := contract.SHA256(bound)
				signed = d[:]
			}
			sig := k.Sign(digest[:])
			if !s.Verify(k.Public(), signed, sig[:64]) || s.Verify(k.Public(), []byte("something else, 32 bytes long ..."), sig[:64]) {
				return nil, contract.Errorf(100, "scheme %d, raw %t: does not verify as it should", s, raw)
			}
			if s == contract.Secp256k1 {
				pub, ok := contract.RecoverSecp256k1([32]byte(signed), sig)
				if !ok || string(pub) != string(k.Public()) {
					return nil, contract.Errorf(100, "recovered %x", pub)
				}
			}
			out = append(out, Signed{k.Public(), sig})
		}
	}
	return out, nil
}

// SignRaw signs what is not a digest with a raw secp256k1 key, which breaks.
func (e *Everything) SignRaw(ctx *contract.Query) error {
	ctx.RawSigner(contract.Secp256k1, "test").Sign([]byte("short"))
	return nil
}

// Secret shows a secret, which no real contract does.
func (e *Everything) Secret(ctx *contract.Query, label string) (string, error) {
	s := ctx.Secret(label)
	return hex.EncodeToString(s[:]), nil
}

// Move emits an event for everybody and one for its reader, and says whether that is one.
func (e *Everything) Move(ctx *contract.Command, m Moved) (bool, error) {
	contract.Emit(ctx, m)
	ctx.Log("moved %d", m.Amount)
	ok := contract.EmitTo(ctx, m.To, &m)
	if m.Amount == 13 {
		return ok, contract.Errorf(113, "unlucky")
	}
	return ok, nil
}

// A Trip is a call to be made.
type Trip struct {
	To     contract.ID
	Method string
	Arg    any    `json:",omitempty"`
	Ask    bool   `json:",omitempty"` // a query
	Gas    uint64 `json:",omitempty"`
	Pass   bool   `json:",omitempty"` // return the callee's error
}

// Travel writes, calls, and says how it went; it carries on when the callee fails.
func (e *Everything) Travel(ctx *contract.Command, t Trip) (string, error) {
	e.Items.Set("travelled", t.Method)
	var out any
	var err error
	if t.Ask {
		out, err = contract.Ask[any](ctx, t.To, t.Method, t.Arg, contract.Gas(t.Gas))
	} else {
		out, err = contract.Call[any](ctx, t.To, t.Method, t.Arg, contract.Gas(t.Gas))
	}
	if err != nil && t.Pass {
		return "", fmt.Errorf("on the way: %w", err)
	}
	if err != nil {
		return err.Error(), nil
	}
	return fmt.Sprint(out), nil
}

// Look asks another contract from a query.
func (e *Everything) Look(ctx *contract.Query, t Trip) (string, error) {
	return contract.Ask[string](ctx, t.To, t.Method, t.Arg)
}

// Welcome may be called while the contract runs.
func (e *Everything) Welcome(ctx *contract.Command) (string, error) {
	v, _ := e.Items.Get("travelled")
	e.Items.Set("welcome", v)
	return v, nil
}

// Fetch asks a server.
func (e *Everything) Fetch(ctx *contract.Query, url string) (string, error) {
	r, err := ctx.Fetch(&contract.HTTPRequest{Method: "POST", URL: url, Header: []contract.HTTPField{{Name: "X-Key", Value: "k"}}, Body: []byte("body")})
	if err != nil {
		return "", contract.Errorf(101, "%v", err)
	}
	return fmt.Sprint(r.Status, r.Header, string(r.Body)), nil
}

// Break panics after writing.
func (e *Everything) Break(ctx *contract.Command) error {
	e.Items.Set("broken", "yes")
	var none []int
	return fmt.Errorf("%d", none[len("x")])
}

// A Bush is a type that is in itself in many ways.
type Bush struct {
	A, B, C, D, E, F, G, H *Bush           `json:",omitempty"`
	Rest                   []Bush          `json:",omitempty"`
	Named                  map[string]Bush `json:",omitempty"`
	Leaves                 int
}

// Grow answers with as many bytes of JSON as there are leaves.
func (e *Everything) Grow(ctx *contract.Command, b Bush) (string, error) {
	e.Items.Set("grown", "yes")
	return strings.Repeat("x", b.Leaves-len(`""`)), nil
}

// Size is how long a text is.
func (e *Everything) Size(ctx *contract.Query, text string) (int, error) { return len(text), nil }

// Differ is what the kit must find: it is not the same natively and as Wasm.
func (e *Everything) Differ(ctx *contract.Command, how string) (string, error) {
	switch how {
	case "answer":
		return platform, nil
	case "storage":
		e.Items.Set("os", platform)
	case "event":
		contract.Emit(ctx, Item{"os", platform})
	case "error":
		return "", contract.Errorf(100, "%s", platform)
	case "code":
		return "", contract.Errorf(uint32(100+len(platform)), "same")
	case "end":
		if platform == "wasm" {
			panic("only as Wasm")
		}
	}
	return "", nil
}

// DifferQuery makes a request that is not the same.
func (e *Everything) DifferQuery(ctx *contract.Query) error {
	_, err := ctx.Fetch(&contract.HTTPRequest{URL: "https://example.org/" + platform})
	return err
}

func init() { contract.Register(&Everything{}, contract.Reentrant("Welcome")) }

func main() {}
