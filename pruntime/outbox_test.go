package pruntime

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// TestOutboxPosition: an entry is dropped only when the chain took it, not when it took
// another one under the same number: one of an earlier life of this enclave, which was on
// its way when the enclave restarted.
func TestOutboxPosition(t *testing.T) {
	key, err := identity.FromURI("//Worker")
	if err != nil {
		t.Fatal(err)
	}
	self := proto.WorkerID(key.Public())
	created := proto.OutboxCursor("chain", self)
	mine := func(n byte) proto.Challenge { return proto.Challenge{Nonce: [32]byte{n}} }
	fold := func(c proto.Cursor, es ...proto.Challenge) proto.Cursor {
		for _, e := range es {
			c = c.FoldEntry(self, proto.MarshalEntry(e))
		}
		return c
	}
	sign := func(first uint64, payloads [][]byte) (out [][64]byte, _ error) {
		for i, p := range payloads {
			sig, err := key.Sign(rand.Reader, proto.EntrySignedBytes("chain", self, first+uint64(i), p))
			if err != nil {
				return nil, err
			}
			out = append(out, sig)
		}
		return out, nil
	}
	for _, c := range []struct {
		name   string
		proofs []proto.Cursor
		base   uint64
		left   int
	}{
		{"nothing proven yet", nil, 0, 3},
		{"nothing taken", []proto.Cursor{created}, 1, 3},
		{"two taken", []proto.Cursor{created, fold(created, mine(1), mine(2))}, 3, 1},
		{"all taken, one by one", []proto.Cursor{created, fold(created, mine(1)), fold(created, mine(1), mine(2)), fold(created, mine(1), mine(2), mine(3))}, 4, 0},
		{"an older proof after a newer one", []proto.Cursor{created, fold(created, mine(1), mine(2)), fold(created, mine(1))}, 3, 1},
		{"others took the numbers", []proto.Cursor{created, fold(created, mine(8), mine(9))}, 3, 3},
		{"others took more numbers than we have", []proto.Cursor{created, fold(created, mine(5), mine(6), mine(7), mine(8), mine(9))}, 6, 3},
		{"others, then ours", []proto.Cursor{created, fold(created, mine(9)), fold(created, mine(9), mine(1), mine(2))}, 4, 1},
		{"started behind", []proto.Cursor{fold(created, mine(7)), fold(created, mine(7), mine(1))}, 3, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := outbox{chain: "chain", self: self, sign: sign}
			for n := byte(1); n <= 3; n++ {
				o.push(mine(n))
			}
			for i, p := range c.proofs {
				o.acknowledge(p, int64(10*i))
			}
			if _, entries, _ := o.entries(10, int64(10*(len(c.proofs)-1))+settle-1); strings.HasPrefix(c.name, "others took") && len(entries) > 0 {
				t.Error("it does not wait for what is still on its way")
			}
			first, entries, err := o.entries(10, 1000)
			if err != nil || o.base != c.base || len(o.queue) != c.left {
				t.Fatalf("base %d with %d left, %v; want %d with %d", o.base, len(o.queue), err, c.base, c.left)
			}
			if c.base != 0 && (first != c.base || len(entries) != c.left) {
				t.Fatalf("run of %d from %d", len(entries), first)
			}
			for i, e := range entries {
				if err := identity.Verify(key.Public(), proto.EntrySignedBytes("chain", self, first+uint64(i), e.Payload), e.Signature[:]); err != nil {
					t.Errorf("entry %d: %v", i, err)
				}
			}
		})
	}
}
