package comettest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
)

func Example() {
	c := comettest.New(comettest.Config{})
	c.CreateTopic(proto.TopicSystem)
	c.Run(3)
	c.Send(proto.TopicSystem, "gov", proto.RulesActivated{Version: 2, EffectiveHeight: 9})
	c.Announce(comettest.NewSet("later", 7))
	c.Run(6)

	p := comet.Params{ChainID: c.ChainID(), TrustingPeriod: time.Hour, MaxClockDrift: time.Second}
	client := comet.NewClient(p, c.Header(1), rand.NewChaCha8([32]byte{}))
	for h := int64(2); h <= 6; h++ {
		if err := client.Advance(c.Light(h), c.Time()); err != nil {
			fmt.Println(err)
		}
	}
	cursor, proof := c.Cursor(5, proto.TopicSystem) // the state after block 5 is in header 6
	err := comet.VerifyExistence(client.Trusted().AppHash, proto.StoreMQ, proto.KeyTopic(proto.TopicSystem), cursor.Marshal(), proof)
	fmt.Println(client.Trusted().Height, cursor.Seq, err)
	// Output: 6 1 <nil>
}

// TestDeterministic: the same calls make the same bytes; another salt, other ones.
func TestDeterministic(t *testing.T) {
	build := func() *comettest.Chain {
		c := comettest.New(comettest.Config{Validators: comettest.NewSetOf("x", 5, 9, 1)})
		c.CreateTopic("system")
		for i := range uint64(5) {
			c.Send("system", "s", proto.RulesActivated{Version: 1, EffectiveHeight: i + 100})
			c.Next()
		}
		return c
	}
	a, b := build(), build()
	if !bytes.Equal(a.Light(5).Marshal(), b.Light(5).Marshal()) {
		t.Fatal("two chains made alike differ")
	}
	f := a.Fork("fork")
	a.Next()
	f.Next()
	ha, hf := a.Header(6), f.Header(6)
	if ha.Hash() == hf.Hash() || !bytes.Equal(ha.LastBlockID.Hash, hf.LastBlockID.Hash) {
		t.Fatal("a fork must share its past and differ in its future")
	}
}

// TestEveryKeyIsProven: every key of every store of a growing and shrinking state
// is proven against the next header and against no other.
func TestEveryKeyIsProven(t *testing.T) {
	c := comettest.New(comettest.Config{})
	rng := rand.New(rand.NewPCG(1, 1))
	stores := []string{"bank", proto.StoreMQ, "one", "zz"}
	for range 12 {
		for range rng.IntN(9) {
			c.Put(stores[rng.IntN(len(stores))], fmt.Appendf(nil, "k%d", rng.IntN(20)), fmt.Appendf(nil, "v%d", rng.Uint64()))
		}
		c.Put("bank", fmt.Appendf(nil, "k%d", rng.IntN(20)), nil)
		c.Next()
	}
	c.Next()
	proofs := 0
	for h := int64(1); h < c.Height(); h++ {
		next := c.Header(h + 1)
		for _, s := range stores {
			for i := range 20 {
				key := fmt.Appendf(nil, "k%d", i)
				if _, ok := c.Get(h, s, key); !ok {
					continue
				}
				value, p := c.Prove(h, s, key)
				if err := comet.VerifyExistence(next.AppHash, s, key, value, p.Marshal()); err != nil {
					t.Fatalf("height %d store %s key %s: %v", h, s, key, err)
				}
				proofs++
			}
		}
	}
	if proofs < 200 {
		t.Fatalf("only %d proofs", proofs)
	}
}
