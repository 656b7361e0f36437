package mtreap

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestAgainstMap applies random operations to a treap and to Go's map, and checks
// contents, order, counts, roots and that old versions do not change.
func TestAgainstMap(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m, model := New([32]byte{1}), map[string]string{}
		type version struct {
			m    *Map
			root [32]byte
			want map[string]string
		}
		var old []version
		for step := range 400 {
			k := fmt.Sprint(rng.IntN(60))
			if rng.IntN(3) == 0 {
				m = m.Delete([]byte(k))
				delete(model, k)
			} else {
				v := fmt.Sprint(rng.IntN(1000))
				m = m.Set([]byte(k), []byte(v))
				model[k] = v
			}
			if step%50 == 0 {
				c := map[string]string{}
				for k, v := range model {
					c[k] = v
				}
				old = append(old, version{m, m.Root(), c})
			}
			check(t, seed, m, model)
		}
		for _, v := range old {
			check(t, seed, v.m, v.want)
			if v.m.Root() != v.root {
				t.Fatalf("seed %d: an old version changed", seed)
			}
		}
		// Any order of the same contents gives the same root.
		other := New([32]byte{1})
		for k, v := range model { // in random order
			other = other.Set([]byte(k), []byte(v))
		}
		if other.Root() != m.Root() {
			t.Fatalf("seed %d: the root depends on the order of writes", seed)
		}
		if New([32]byte{2}).Set([]byte("a"), nil).Root() == New([32]byte{1}).Set([]byte("a"), nil).Root() {
			t.Fatal("the root does not depend on the key")
		}
	}
}

func check(t *testing.T, seed uint64, m *Map, model map[string]string) {
	t.Helper()
	var keys []string
	size := 0
	for k, v := range model {
		keys = append(keys, k)
		size += len(k) + len(v)
	}
	slices.Sort(keys)
	if m.Len() != len(keys) || m.Size() != size {
		t.Fatalf("seed %d: %d entries of %d bytes, want %d of %d", seed, m.Len(), m.Size(), len(keys), size)
	}
	i := 0
	m.Each(func(k, v []byte) bool {
		if string(k) != keys[i] || string(v) != model[keys[i]] {
			t.Fatalf("seed %d: entry %d is %s=%s", seed, i, k, v)
		}
		i++
		return true
	})
	for probe := range 61 {
		key := []byte(fmt.Sprint(probe))
		v, ok := m.Get(key)
		if want, has := model[string(key)]; ok != has || string(v) != want {
			t.Fatalf("seed %d: Get(%s) = %s, %v", seed, key, v, ok)
		}
		j, _ := slices.BinarySearch(keys, string(key))
		k, _, ok := m.Next(key)
		if ok != (j < len(keys)) || (ok && string(k) != keys[j]) {
			t.Fatalf("seed %d: Next(%s) = %s, %v", seed, key, k, ok)
		}
	}
}

// TestRootChanges: every change of a key or a value changes the root.
func TestRootChanges(t *testing.T) {
	m := New([32]byte{9})
	seen := map[[32]byte]string{m.Root(): "empty"}
	for i := range 100 {
		m = m.Set([]byte{byte(i)}, []byte("v"))
		for name, v := range map[string]*Map{"added": m, "value": m.Set([]byte{byte(i)}, []byte("w")), "key": m.Delete([]byte{byte(i)}).Set([]byte{byte(i), 0}, []byte("v"))} {
			r := v.Root()
			if old, ok := seen[r]; ok {
				t.Fatalf("%d %s has the root of %s", i, name, old)
			}
			seen[r] = fmt.Sprint(i, name)
		}
	}
	root := m.Root()
	if got := hex.EncodeToString(root[:]); got != "d37c0e1f06fa32e86b072696d6050d9e6c4df97c7fdc9651e433bbd3532386fc" {
		t.Errorf("the root's definition changed: %s", got)
	}
}

func BenchmarkSetAndRoot(b *testing.B) {
	m := New([32]byte{1})
	for i := range 100_000 {
		m = m.Set(fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{1}, 32))
	}
	m.Root()
	i := 0
	for b.Loop() {
		m = m.Set(fmt.Appendf(nil, "key %d", i%100_000), fmt.Append(nil, i))
		m.Root()
		i += 7919
	}
}

// unhashed is how many nodes the next Root hashes: the others are from before.
func unhashed(n *node) int {
	if n == nil || n.hashed {
		return 0
	}
	return 1 + unhashed(n.left) + unhashed(n.right)
}

// TestRootCost: a root costs in proportion to what was written, whatever else there is.
func TestRootCost(t *testing.T) {
	for _, size := range []int{1_000, 10_000, 100_000} {
		m := New([32]byte{1})
		for i := range size {
			m = m.Set(fmt.Appendf(nil, "key %d", i), []byte("value"))
		}
		m.Root()
		if n := unhashed(m.root); n != 0 {
			t.Fatalf("%d nodes have no hash after Root", n)
		}
		depth := bits.Len(uint(size))
		for _, writes := range []int{1, 10, 100} {
			next := m
			for i := range writes {
				switch k := fmt.Appendf(nil, "key %d", i*7919%size); i % 3 {
				case 0:
					next = next.Set(k, []byte("other"))
				case 1:
					next = next.Delete(k)
				default:
					next = next.Set(append(k, '!'), nil)
				}
			}
			// A path is about 1.4 times as deep as in a perfect tree, and twice that at times.
			if n := unhashed(next.root); n == 0 || n > writes*3*depth {
				t.Errorf("%d writes to %d entries: %d nodes to hash, of depth %d", writes, size, n, depth)
			}
			if unhashed(m.root) != 0 {
				t.Error("the version before has to be hashed again")
			}
		}
	}
}

// TestRootHashesWhatWasWritten: the root after a write costs the bytes of that write,
// however large the entries on the way to it are. Keys and values are scribbled over once
// they were hashed: who hashes any of them again gets another root.
func TestRootHashesWhatWasWritten(t *testing.T) {
	m, twin := New([32]byte{1}), New([32]byte{1})
	entry := func(i int) (k, v []byte) { return fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, 1000) }
	var values [][]byte
	for i := range 1000 {
		k, v := entry(i)
		m, values = m.Set(k, v), append(values, v)
		k, v = entry(i)
		twin = twin.Set(k, v)
	}
	if m.Root() != twin.Root() {
		t.Fatal("equal contents have different roots")
	}
	for _, v := range values {
		clear(v)
	}
	for _, c := range []struct {
		name  string
		write func(m *Map) *Map
	}{
		{"a new entry", func(m *Map) *Map { return m.Set([]byte("cursor"), []byte("12345")) }},
		{"a new value", func(m *Map) *Map { return m.Set([]byte("cursor"), []byte("6")) }},
		{"another value of a large entry", func(m *Map) *Map { return m.Set([]byte("key 500"), []byte("small")) }},
		{"a removed entry", func(m *Map) *Map { return m.Delete([]byte("key 7")) }},
		{"a thousand new entries", func(m *Map) *Map {
			for i := range 1000 {
				m = m.Set(fmt.Appendf(nil, "nonce %d", i), nil)
			}
			return m
		}},
	} {
		m, twin = c.write(m), c.write(twin)
		if m.Root() != twin.Root() {
			t.Errorf("%s: entries that were not written were hashed again", c.name)
		}
	}
}
