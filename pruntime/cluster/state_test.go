package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"testing"

	"github.com/phala-go/phala/proto"
)

// random pushes a block of random messages, good and bad.
func (w *world) random(seed uint64) {
	rng := seeded(seed)
	ops := []string{"n", "n", "pkv", "t", "f", "r", "e" + fmt.Sprint(seed), "?"}
	var last [16]byte
	for range 1 + rng.IntN(5) {
		c := w.command(ops[rng.IntN(len(ops))], func(c *command) { c.inv.Expiry = w.height + uint64(rng.IntN(6)) })
		switch rng.IntN(10) {
		case 0:
			c.inv.Nonce = last
		case 1:
			c.inv.After = last
		case 2:
			c.inv.To[0] ^= 1
		case 3:
			c.pushed.GasTier--
		case 4:
			w.message(proto.CodeAnnounced{Code: proto.Hash{byte(seed)}})
		case 5, 6:
			c.inv.To, c.inv.Input = proto.ClusterAddress, (&proto.Revocation{All: rng.IntN(2) == 0, NotAfter: w.now() + uint64(rng.IntN(5000))}).Marshal()
		}
		last = c.inv.Nonce
		w.push(c)
	}
}

// TestReplicasAgree: replicas that process the same messages, one of them restored from
// its encoding half-way, sign the same receipts; one that is given anything else does not.
func TestReplicasAgree(t *testing.T) {
	for seed := range uint64(4) {
		w := ready(t)
		keys, _ := testKeys(t)
		other := w.replica(rand.Reader)
		for h := range uint64(12) {
			w.random(seed*100 + h)
			items := w.items
			res := w.block()
			if h == 6 {
				next := New(chain, home, keys, other.programs, rand.Reader)
				if err := next.Restore(other.Snapshot().Marshal()); err != nil {
					t.Fatal(err)
				}
				other = next
			}
			before := other.Snapshot().Marshal()
			got, err := other.Apply(context.Background(), items)
			if err != nil {
				t.Fatal(err)
			}
			if !sameReceipt(res, got) || other.Snapshot().Root() != w.c.Snapshot().Root() {
				t.Fatalf("seed %d, block %d: the replicas differ", seed, h)
			}
			if res.Receipt.Head != w.cursor.Head || res.Receipt.ToSeq != w.cursor.Seq || int(res.Receipt.ToSeq-res.Receipt.FromSeq)+1 != len(res.Receipt.Items) ||
				w.c.Snapshot().Cursor() != w.cursor || res.Receipt.StateRoot != w.c.Snapshot().Root() {
				t.Fatalf("seed %d, block %d: receipt %+v, cursor %+v", seed, h, res.Receipt, w.cursor)
			}
			// A replica that had another bit in its state, or another position, says so.
			for name, edit := range map[string]func(c *Cluster){
				"another value": func(c *Cluster) {
					s := c.Snapshot()
					m := s.m.Set(append(storagePrefix(w.target), "extra"...), []byte{1})
					c.state.Store(&Snapshot{m, m.Root()})
				},
				"a nonce forgotten": func(c *Cluster) {
					s := c.Snapshot()
					// That of the constructor, which expires last.
					m, last := s.m, uint64(0)
					s.m.Each(func(k, v []byte) bool {
						if bytes.HasPrefix(k, []byte("n/")) && binary.BigEndian.Uint64(v) > last {
							last, m = binary.BigEndian.Uint64(v), s.m.Delete(k)
						}
						return true
					})
					c.state.Store(&Snapshot{m, m.Root()})
				},
			} {
				odd := New(chain, home, keys, other.programs, rand.Reader)
				if err := odd.Restore(before); err != nil {
					t.Fatal(err)
				}
				edit(odd)
				got, err := odd.Apply(context.Background(), items)
				if err != nil {
					t.Fatal(err)
				}
				if sameReceipt(res, got) {
					t.Fatalf("seed %d, block %d: %s is not noticed", seed, h, name)
				}
			}
		}
	}
}

// TestReceiptNamesMessages: a replica that was fed other messages cannot sign the same.
func TestReceiptNamesMessages(t *testing.T) {
	w := ready(t)
	twin := w.replica(rand.Reader)
	w.push(w.command("e"))
	items := w.items
	res := w.block()
	for name, edit := range map[string]func(){
		"another head":   func() { items[0].Cursor.Head[0] ^= 1 },
		"another height": func() { items[0].Height++ },
	} {
		saved := items[0]
		edit()
		c := New(chain, home, twin.keys, twin.programs, rand.Reader)
		if err := c.Restore(twin.Snapshot().Marshal()); err != nil {
			t.Fatal(err)
		}
		got, err := c.Apply(context.Background(), items)
		if err != nil {
			t.Fatal(err)
		}
		if sameReceipt(res, got) {
			t.Errorf("%s: the same receipt", name)
		}
		items[0] = saved
	}
}

// TestEmptyState: a cluster in which nothing happened has a state of its own.
func TestEmptyState(t *testing.T) {
	keys, _ := testKeys(t)
	a, b := New(chain, 1, keys, nil, rand.Reader).Snapshot(), New(chain, 2, keys, nil, rand.Reader).Snapshot()
	if a.Root() == b.Root() || a.Rules() != 1 || a.Cursor() != proto.CreatedCursor(chain, "cluster/1") || len(a.Codes()) != 0 {
		t.Errorf("roots %s and %s, rules %d, cursor %+v", a.Root(), b.Root(), a.Rules(), a.Cursor())
	}
}

func TestSnapshotEncoding(t *testing.T) {
	w := ready(t)
	for h := range uint64(3) {
		w.random(h)
		w.block()
	}
	s := w.c.Snapshot()
	b := s.Marshal()
	key := w.c.rootKey()
	got, err := ParseSnapshot(key, b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Root() != s.Root() || got.Cursor() != s.Cursor() || !bytes.Equal(got.Marshal(), b) {
		t.Error("it is not what was encoded")
	}
	if _, err := ParseSnapshot([32]byte{1}, b); err == nil {
		t.Error("it opens under another key")
	}
	for i := range b {
		edited := bytes.Clone(b)
		edited[i] ^= 1 << (i % 8)
		if _, err := ParseSnapshot(key, edited); err == nil {
			t.Fatalf("byte %d of %d edited, and it is taken", i, len(b))
		}
		if _, err := ParseSnapshot(key, b[:i]); err == nil {
			t.Fatalf("cut to %d bytes, and it is taken", i)
		}
	}
	if _, err := ParseSnapshot(key, append(bytes.Clone(b), 0)); err == nil {
		t.Error("a byte behind it, and it is taken")
	}
	old := w.c.Snapshot()
	if err := w.c.Restore(b[1:]); err == nil || w.c.Snapshot() != old {
		t.Errorf("a failed restore changed the state, %v", err)
	}
}

// FuzzParseSnapshot: no bytes make it panic or allocate more than a few times their size.
func FuzzParseSnapshot(f *testing.F) {
	keys, _ := testKeys(f)
	c := New(chain, home, keys, nil, rand.Reader)
	f.Add(c.Snapshot().Marshal())
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSnapshot(c.rootKey(), b)
		if err == nil && !bytes.Equal(s.Marshal(), b) {
			t.Error("two encodings of one state")
		}
	})
}

// BenchmarkCommand is a command from its envelope to its receipt, with an empty contract.
func BenchmarkCommand(b *testing.B) {
	w := ready(b)
	for b.Loop() {
		b.StopTimer()
		w.push(w.command("?"))
		b.StartTimer()
		w.block()
		w.history = nil
	}
}

// TestGolden freezes the state: two enclaves of one rules version must have these roots.
func TestGolden(t *testing.T) {
	w := newWorld(t, home)
	w.rng = mrand.NewChaCha8([32]byte{})
	w.code = proto.Hash{0xc0, 0xde} // whatever the module's bytes are
	w.c.programs = programs{w.code: script(t)}
	w.instantiate(nil)
	w.push(w.command("pkvalue"))
	w.push(w.command("t"))
	w.push(w.command("n", func(c *command) { c.inv.Expiry = w.height }))
	w.run()
	w.message(proto.CodeAnnounced{Code: proto.Hash{1}})
	w.block()
	keys, _ := testKeys(t)
	for name, c := range map[string]struct{ got, want string }{
		"empty": {New(chain, home, keys, nil, rand.Reader).Snapshot().Root().String(), "cf59fc912b18460173d29dd152905b026100ef0832afee846e0c5402b04d8403"},
		"used":  {w.c.Snapshot().Root().String(), "12656f731d3deafd779ef7c802f9d77c785f128b8ec8901995b4fbea41a78985"},
	} {
		if c.got != c.want {
			t.Errorf("%s: the root is %s, the rules say %s", name, c.got, c.want)
		}
	}
}

// TestUnknownRulesState: a state under rules that this build does not know is not taken
// over.
func TestUnknownRulesState(t *testing.T) {
	keys, _ := testKeys(t)
	replica := New(chain, home, keys, programs{}, rand.Reader)
	key := replica.rootKey()
	for _, c := range []struct {
		version uint32
		want    error
	}{{0, ErrRules}, {1, nil}, {2, ErrRules}} {
		m := emptyState(key, chain, home).m.Set(keyRules, binary.BigEndian.AppendUint32(nil, c.version))
		if err := replica.Restore((&Snapshot{m, m.Root()}).Marshal()); !errors.Is(err, c.want) {
			t.Errorf("version %d: %v", c.version, err)
		}
	}
}
