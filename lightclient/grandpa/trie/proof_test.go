package trie_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/lightclient/grandpa/scale"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustProof(t testing.TB, nodes [][]byte) *trie.Proof {
	t.Helper()
	p, err := trie.NewProof(nodes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func Example() {
	state := grandpatest.BuildTrie([]trie.Entry{ // stands for a chain's state
		{Key: []byte("name"), Value: []byte("phala")},
		{Key: []byte("number"), Value: []byte{42}},
	}, grandpatest.Version1)
	nodes := state.Prove([][]byte{[]byte("name"), []byte("nothing")}, nil) // what state_getReadProof returns

	proof, err := trie.NewProof(nodes)
	if err != nil {
		panic(err)
	}
	value, present, err := proof.Get(state.Root, []byte("name"))
	fmt.Printf("%s %v %v\n", value, present, err)
	_, present, err = proof.Get(state.Root, []byte("nothing"))
	fmt.Println(present, err)
	empty, _ := trie.NewProof(nil)
	_, _, err = empty.Get(state.Root, []byte("name"))
	fmt.Println(errors.Is(err, trie.ErrMissing))
	// Output:
	// phala true <nil>
	// false <nil>
	// true
}

// sp-trie's nodes (testdata/oracle) read back to sp-trie's entries.
func TestOracleTries(t *testing.T) {
	raw, err := os.ReadFile("../testdata/tries.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Entries [][2]string
		Root0   string
		Nodes0  []string
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for i, v := range vectors {
		root := trie.Hash(unhex(t, v.Root0))
		var nodes [][]byte
		for _, n := range v.Nodes0 {
			nodes = append(nodes, unhex(t, n))
		}
		p := mustProof(t, nodes)
		all, err := p.Prefix(root, nil, 1000)
		if err != nil || len(all) != len(v.Entries) {
			t.Errorf("trie %d: %d of %d entries, %v", i, len(all), len(v.Entries), err)
			continue
		}
		for k, e := range v.Entries {
			key, value := unhex(t, e[0]), unhex(t, e[1])
			if !bytes.Equal(all[k].Key, key) || !bytes.Equal(all[k].Value, value) {
				t.Errorf("trie %d: entry %d is %x: %x", i, k, all[k].Key, all[k].Value)
			}
			got, present, err := p.Get(root, key)
			if err != nil || !present || got == nil || !bytes.Equal(got, value) {
				t.Errorf("trie %d: Get(%x) = %x, %v, %v", i, key, got, present, err)
			}
		}
	}
}

func TestSharedProofs(t *testing.T) {
	for _, c := range []struct {
		file, root    string
		nodes, values int
	}{
		{"polkadot-genesis.proof-small.scale", "29d0d972cd27cbc511e9589fcb7a4506d5eb6a9e8df205f00472e5ab354a4e17", 6, 1},
		{"proof-large-root-886ca67c.scale", "886ca67c0e8d0003e2531bb25b1da0fe2f80d4b9eb6719e819f363265bd670fa", 423, 92},
	} {
		raw := grandpatest.Shared(t, c.file)
		nodes, err := trie.DecodeNodes(raw)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(trie.AppendNodes(nil, nodes), raw) {
			t.Errorf("%s: encodes differently", c.file)
		}
		p := mustProof(t, nodes)
		if p.Len() != c.nodes {
			t.Errorf("%s: %d nodes, want %d", c.file, p.Len(), c.nodes)
		}
		root := trie.Hash(unhex(t, c.root))
		entries, used, err := p.Available(root, 1000)
		if err != nil || len(entries) != c.values || used != c.nodes {
			t.Errorf("%s: %d values from %d nodes, %v; want %d from %d", c.file, len(entries), used, err, c.values, c.nodes)
		}
		for _, e := range entries {
			if got, ok, err := p.Get(root, e.Key); err != nil || !ok || !bytes.Equal(got, e.Value) {
				t.Errorf("%s: %x is %x, %v, %v", c.file, e.Key, got, ok, err)
			}
		}
		if _, _, err := p.Available(root, c.values-1); !errors.Is(err, trie.ErrLimit) {
			t.Errorf("%s: limit: %v", c.file, err)
		}
		if _, err := p.Keys(root, nil, 1000); !errors.Is(err, trie.ErrMissing) {
			t.Errorf("%s: a partial trie passes for a whole one: %v", c.file, err)
		}
	}
}

func sharedParasHeads(t testing.TB) (root trie.Hash, key []byte, nodes [][]byte) {
	var file struct {
		StateRoot, Key string
		Proof          []string
	}
	if err := json.Unmarshal(grandpatest.Shared(t, "relay-paras-heads-1000-proof-v1.json"), &file); err != nil {
		t.Fatal(err)
	}
	for _, n := range file.Proof {
		nodes = append(nodes, unhex(t, n))
	}
	return trie.Hash(unhex(t, file.StateRoot)), unhex(t, file.Key), nodes
}

// A real proof of state version 1: the value is a node of its own. Every single-bit change in it fails.
func TestSharedParasHeads(t *testing.T) {
	root, key, nodes := sharedParasHeads(t)
	p := mustProof(t, nodes)
	value, present, err := p.Get(root, key)
	if err != nil || !present || len(value) < 100 || p.Len() != 7 {
		t.Fatalf("%x, %v, %v (%d nodes)", value, present, err, p.Len())
	}
	if all, err := p.Prefix(root, key, 1); err != nil || len(all) != 1 || !bytes.Equal(all[0].Value, value) {
		t.Errorf("prefix: %v, %v", all, err)
	}
	for i := range nodes {
		for bit := range 8 * len(nodes[i]) {
			bad := slices.Clone(nodes)
			bad[i] = bytes.Clone(nodes[i])
			bad[i][bit/8] ^= 1 << (bit % 8)
			if _, _, err := mustProof(t, bad).Get(root, key); !errors.Is(err, trie.ErrMissing) {
				t.Fatalf("node %d, bit %d flipped: %v", i, bit, err)
			}
		}
		less := slices.Delete(slices.Clone(nodes), i, i+1)
		if _, _, err := mustProof(t, less).Get(root, key); !errors.Is(err, trie.ErrMissing) {
			t.Errorf("node %d left out: %v", i, err)
		}
	}
	for bit := range 256 {
		bad := root
		bad[bit/8] ^= 1 << (bit % 8)
		if _, _, err := p.Get(bad, key); !errors.Is(err, trie.ErrMissing) {
			t.Errorf("root bit %d flipped: %v", bit, err)
		}
	}
	absent := bytes.Clone(key)
	absent[len(absent)-1] ^= 1
	if _, present, err := p.Get(root, absent); err != nil || present {
		t.Errorf("key besides the value: %v, %v", present, err)
	}
}

// The whole state of Westend's genesis, built from the chain specification, has the root that the checkpoint names,
// and reads back.
func TestSharedWestendGenesis(t *testing.T) {
	zipped, err := gzip.NewReader(bytes.NewReader(grandpatest.Shared(t, "genesis-westend-chain-spec-raw.json.gz")))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(zipped)
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Genesis struct {
			Raw struct{ Top map[string]string }
		}
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	var entries []trie.Entry
	for k, v := range spec.Genesis.Raw.Top {
		entries = append(entries, trie.Entry{Key: unhex(t, k), Value: unhex(t, v)})
	}
	if len(entries) != 93 {
		t.Errorf("%d keys, want 93", len(entries))
	}
	built := grandpatest.BuildTrie(entries, grandpatest.Version0)
	if got := hex.EncodeToString(built.Root[:]); got != "7e92439a94f79671f9cade9dff96a094519b9001a7432244d46ab644bb6f746f" {
		t.Errorf("root %s", got)
	}
	all, err := mustProof(t, built.Prove(nil, [][]byte{nil})).Prefix(built.Root, nil, 100)
	if err != nil || len(all) != 93 {
		t.Errorf("%d entries, %v", len(all), err)
	}
}

// Proofs of random tries, in version 0, 1 and mixed, answer as the plain list of entries does; a proof with a node
// left out gives the same answer or ErrMissing; the compact form proves the same.
func TestProofsAgainstTwin(t *testing.T) {
	const seed = 1616
	r := rand.New(rand.NewSource(seed))
	for i := range 250 {
		version := []func([]byte) int{grandpatest.Version0, grandpatest.Version1,
			func(key []byte) int { return int(key[len(key)-1]) & 1 }}[i%3]
		entries := grandpatest.RandomEntries(r, r.Intn(40))
		built := grandpatest.BuildTrie(entries, version)
		twin := map[string][]byte{}
		for _, e := range entries {
			twin[string(e.Key)] = e.Value
		}
		var keys [][]byte
		for range 6 {
			k := make([]byte, r.Intn(4))
			r.Read(k)
			if len(entries) > 0 && r.Intn(2) == 0 {
				k = bytes.Clone(entries[r.Intn(len(entries))].Key)
				switch r.Intn(5) {
				case 0:
					k = k[:r.Intn(len(k)+1)]
				case 1:
					k = append(k, byte(r.Intn(256)))
				case 2:
					k[r.Intn(len(k))] ^= 1 << r.Intn(8)
				}
			}
			keys = append(keys, k)
		}
		prefix := keys[0]
		if len(prefix) > 1 {
			prefix = prefix[:r.Intn(len(prefix))]
		}
		nodes := built.Prove(keys, [][]byte{prefix})
		r.Shuffle(len(nodes), func(a, b int) { nodes[a], nodes[b] = nodes[b], nodes[a] })
		full := mustProof(t, nodes)
		less := full
		if len(nodes) > 0 {
			less = mustProof(t, nodes[1:])
		}
		compact := full
		if items := built.ProveCompact(keys, [][]byte{prefix}); len(items) > 0 {
			root, p, err := trie.DecodeCompact(items)
			if err != nil || root != built.Root {
				t.Fatalf("seed %d, trie %d: compact proof: root %x, want %x: %v", seed, i, root, built.Root, err)
			}
			compact = p
		}
		for _, k := range keys {
			want, exists := twin[string(k)]
			for name, p := range map[string]*trie.Proof{"full": full, "compact": compact, "cut": less} {
				got, present, err := p.Get(built.Root, k)
				if name == "cut" && errors.Is(err, trie.ErrMissing) {
					continue
				}
				if err != nil || present != exists || !bytes.Equal(got, want) {
					t.Fatalf("seed %d, trie %d, %s: Get(%x) = %x, %v, %v; want %x, %v", seed, i, name, k, got, present, err, want, exists)
				}
			}
		}
		var want []trie.Entry
		for _, e := range built.Entries {
			if bytes.HasPrefix(e.Key, prefix) {
				want = append(want, e)
			}
		}
		for name, p := range map[string]*trie.Proof{"full": full, "compact": compact, "cut": less} {
			got, err := p.Prefix(built.Root, prefix, 1000)
			if name == "cut" && errors.Is(err, trie.ErrMissing) {
				continue
			}
			same := slices.EqualFunc(got, want, func(a, b trie.Entry) bool { return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) })
			if err != nil || !same {
				t.Fatalf("seed %d, trie %d, %s: prefix %x has %d entries, want %d: %v", seed, i, name, prefix, len(got), len(want), err)
			}
			names, err := p.Keys(built.Root, prefix, 1000)
			if err != nil || len(names) != len(want) {
				t.Fatalf("seed %d, trie %d, %s: %d keys, %v", seed, i, name, len(names), err)
			}
		}
		if len(want) > 0 {
			if _, err := full.Prefix(built.Root, prefix, len(want)-1); !errors.Is(err, trie.ErrLimit) {
				t.Fatalf("limit below the number of entries: %v", err)
			}
		}
	}
}

// Keys alone do not need the nodes of hashed values.
func TestKeysWithoutValues(t *testing.T) {
	built := grandpatest.BuildTrie([]trie.Entry{{Key: []byte{1}, Value: make([]byte, 99)}, {Key: []byte{2}, Value: make([]byte, 98)}}, grandpatest.Version1)
	nodes := built.Prove([][]byte{{1}}, nil) // the second value's node is not in it
	p := mustProof(t, nodes)
	for _, n := range built.Prove([][]byte{{2}}, nil) {
		if len(n) < 98 {
			nodes = append(nodes, n)
		}
	}
	p = mustProof(t, nodes)
	if keys, err := p.Keys(built.Root, nil, 9); err != nil || len(keys) != 2 {
		t.Errorf("%v, %v", keys, err)
	}
	if _, err := p.Prefix(built.Root, nil, 9); !errors.Is(err, trie.ErrMissing) {
		t.Errorf("prefix without a value: %v", err)
	}
}

func TestHostileProofs(t *testing.T) {
	empty := mustProof(t, nil)
	if _, present, err := empty.Get(trie.EmptyRoot, []byte{1}); present || err != nil {
		t.Errorf("empty trie: %v, %v", present, err)
	}
	if all, err := empty.Prefix(trie.EmptyRoot, nil, 9); len(all) != 0 || err != nil {
		t.Errorf("empty trie: %v, %v", all, err)
	}
	if _, _, err := empty.Get(trie.Hash{}, nil); !errors.Is(err, trie.ErrMissing) {
		t.Errorf("root not there: %v", err)
	}
	if _, _, err := empty.Get(trie.EmptyRoot, make([]byte, trie.MaxKeyLength+1)); !errors.Is(err, trie.ErrLimit) {
		t.Errorf("long key: %v", err)
	}
	if _, err := empty.Prefix(trie.EmptyRoot, make([]byte, trie.MaxKeyLength+1), 9); !errors.Is(err, trie.ErrLimit) {
		t.Errorf("long prefix: %v", err)
	}
	if _, err := trie.NewProof(make([][]byte, trie.MaxNodes+1)); !errors.Is(err, trie.ErrLimit) {
		t.Errorf("many nodes: %v", err)
	}
	if _, err := trie.NewProof([][]byte{make([]byte, trie.MaxBytes), {1}}); !errors.Is(err, trie.ErrLimit) {
		t.Errorf("many bytes: %v", err)
	}
	// A node that is damaged matters only on the path. leafOf returns a root branch of raw children.
	rootOf := func(children ...[]byte) (trie.Hash, *trie.Proof) {
		enc := []byte{0x80, byte(1<<len(children) - 1), 0}
		for _, c := range children {
			enc = scale.AppendBytes(enc, c)
		}
		p := mustProof(t, [][]byte{enc})
		built := trieHash(enc)
		return built, p
	}
	root, p := rootOf([]byte{0x41, 0x02, 0x04, 0xaa}, []byte{0x0f}, nil)
	if v, present, err := p.Get(root, []byte{0x02}); err != nil || !present || v[0] != 0xaa {
		t.Errorf("good child: %x, %v, %v", v, present, err)
	}
	for _, k := range []byte{0x10, 0x20} {
		if _, _, err := p.Get(root, []byte{k}); !errors.Is(err, trie.ErrNode) {
			t.Errorf("damaged child %#x: %v", k, err)
		}
	}
	if _, err := p.Prefix(root, nil, 9); !errors.Is(err, trie.ErrNode) {
		t.Errorf("prefix over damaged children: %v", err)
	}
	root, p = rootOf([]byte{0x40, 0x04, 0xaa}) // a value at an odd number of nibbles
	if _, err := p.Prefix(root, nil, 9); !errors.Is(err, trie.ErrNode) {
		t.Errorf("odd key: %v", err)
	}
	// The same child 16 times at every level: 16^20 paths through 20 nodes.
	level := []byte{0x40, 0x04, 0xaa}
	var nodes [][]byte
	for range 20 {
		ref := level
		if len(level) >= 32 {
			h := trieHash(level)
			ref = h[:]
		}
		next := []byte{0x80, 0xff, 0xff}
		for range 16 {
			next = scale.AppendBytes(next, ref)
		}
		level = next
		nodes = append(nodes, level)
	}
	start := time.Now()
	if _, err := mustProof(t, nodes).Keys(trieHash(level), nil, 1<<40); !errors.Is(err, trie.ErrLimit) && !errors.Is(err, trie.ErrNode) {
		t.Errorf("exponential trie: %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("exponential trie took %s", took)
	}
}

func trieHash(enc []byte) trie.Hash { return grandpatest.Blake2_256(enc) }

func TestCompactRefuses(t *testing.T) {
	r := rand.New(rand.NewSource(4))
	built := grandpatest.BuildTrie(grandpatest.RandomEntries(r, 30), grandpatest.Version1)
	items := built.ProveCompact(nil, [][]byte{nil})
	if root, _, err := trie.DecodeCompact(items); err != nil || root != built.Root {
		t.Fatal(err)
	}
	if _, _, err := trie.DecodeCompact(nil); !errors.Is(err, trie.ErrMissing) {
		t.Errorf("nothing: %v", err)
	}
	for i := range items {
		if _, _, err := trie.DecodeCompact(items[:i]); err == nil {
			t.Errorf("cut after %d items: accepted", i)
		}
	}
	if _, _, err := trie.DecodeCompact(append(slices.Clone(items), []byte{0x40, 0})); !errors.Is(err, trie.ErrEncode) {
		t.Errorf("item more: %v", err)
	}
	if _, _, err := trie.DecodeCompact([][]byte{{0x01, 0x40, 0x00}}); !errors.Is(err, trie.ErrNode) {
		t.Errorf("announced value missing: %v", err)
	}
	if _, _, err := trie.DecodeCompact([][]byte{{0x01, 0x40, 0x04, 0xaa}, make([]byte, 40)}); !errors.Is(err, trie.ErrNode) {
		t.Errorf("announced value, but one there: %v", err)
	}
	for i := range items { // a change anywhere changes the root
		for bit := range 8 * len(items[i]) {
			bad := slices.Clone(items)
			bad[i] = bytes.Clone(items[i])
			bad[i][bit/8] ^= 1 << (bit % 8)
			if root, _, err := trie.DecodeCompact(bad); err == nil && root == built.Root {
				t.Fatalf("item %d, bit %d: same root", i, bit)
			}
		}
	}
}

func TestDecodeNodesRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		enc  string
		kind scale.Kind
	}{
		"count beyond input": {"0300000040", scale.ErrTooLarge},
		"short":              {"0808aa", scale.ErrShort},
		"trailing":           {"0404aa00", scale.ErrTrailing},
	} {
		if _, err := trie.DecodeNodes(unhex(t, c.enc)); !errors.Is(err, c.kind) || !errors.Is(err, trie.ErrEncode) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the nodes are, a lookup ends with one of the three answers, and what Prefix lists, Get finds.
func FuzzProof(f *testing.F) {
	r := rand.New(rand.NewSource(5))
	for range 4 {
		built := grandpatest.BuildTrie(grandpatest.RandomEntries(r, 6), grandpatest.Version1)
		nodes := built.Prove(nil, [][]byte{nil})
		if len(nodes) > 0 {
			f.Add(trie.AppendNodes(nil, nodes), built.Entries[0].Key)
		}
	}
	f.Fuzz(func(t *testing.T, in, key []byte) {
		nodes, err := trie.DecodeNodes(in)
		if err != nil || len(nodes) == 0 {
			return
		}
		p, err := trie.NewProof(nodes)
		if err != nil {
			return
		}
		root := trieHash(nodes[0])
		p.Get(root, key)
		all, err := p.Prefix(root, nil, 100)
		if err != nil {
			return
		}
		for _, e := range all {
			if v, ok, err := p.Get(root, e.Key); err != nil || !ok || !bytes.Equal(v, e.Value) {
				t.Errorf("Prefix lists %x: %x, Get finds %x, %v, %v", e.Key, e.Value, v, ok, err)
			}
		}
	})
}

func FuzzCompact(f *testing.F) {
	r := rand.New(rand.NewSource(6))
	for range 4 {
		built := grandpatest.BuildTrie(grandpatest.RandomEntries(r, 6), grandpatest.Version1)
		f.Add(trie.AppendNodes(nil, built.ProveCompact(nil, [][]byte{nil})))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		items, err := trie.DecodeNodes(in)
		if err != nil {
			return
		}
		if root, p, err := trie.DecodeCompact(items); err == nil {
			if _, err := p.Keys(root, nil, 1000); errors.Is(err, trie.ErrEncode) {
				t.Error(err)
			}
		}
	})
}

// BenchmarkTrieProof checks a real proof of seven nodes from the raw nodes to the value. Target: 50 µs.
func BenchmarkTrieProof(b *testing.B) {
	root, key, nodes := sharedParasHeads(b)
	b.ReportAllocs()
	for b.Loop() {
		p, err := trie.NewProof(nodes)
		if err != nil {
			b.Fatal(err)
		}
		if _, present, err := p.Get(root, key); err != nil || !present {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Microsecond)/float64(b.N), "trie_proof_us")
}
