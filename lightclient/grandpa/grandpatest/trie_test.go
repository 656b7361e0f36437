package grandpatest

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/rand"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

var update = flag.Bool("update", false, "write testdata/proofs.json")

// The builder makes the roots, and in version 0 the nodes, that sp-trie makes.
func TestBuilderAgainstSpTrie(t *testing.T) {
	raw, err := os.ReadFile("../testdata/tries.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Entries [][2]string
		Root0   string
		Root1   string
		Nodes0  []string
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 30 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for i, v := range vectors {
		var entries []trie.Entry
		for _, e := range v.Entries {
			entries = append(entries, trie.Entry{Key: unhex(e[0]), Value: unhex(e[1])})
		}
		t0, t1 := BuildTrie(entries, Version0), BuildTrie(entries, Version1)
		if got := hex.EncodeToString(t0.Root[:]); got != v.Root0[2:] {
			t.Errorf("trie %d: version 0 root %s, sp-trie has %s", i, got, v.Root0)
		}
		if got := hex.EncodeToString(t1.Root[:]); got != v.Root1[2:] {
			t.Errorf("trie %d: version 1 root %s, sp-trie has %s", i, got, v.Root1)
		}
		var nodes []string
		for _, n := range t0.Prove(nil, [][]byte{nil}) {
			nodes = append(nodes, "0x"+hex.EncodeToString(n))
		}
		slices.Sort(nodes)
		nodes = slices.Compact(nodes)
		if !slices.Equal(nodes, v.Nodes0) {
			t.Errorf("trie %d: nodes %v, sp-trie has %v", i, nodes, v.Nodes0)
		}
	}
}

type judged struct {
	Root    string      `json:"root"`
	Nodes   []string    `json:"nodes"`
	Entries [][2]string `json:"entries"`
}

// The proofs in testdata/proofs.json are those of the builder, in version 1 and mixed; sp-trie has read the listed
// entries from them (testdata/oracle).
func TestJudgedProofs(t *testing.T) {
	r := rand.New(rand.NewSource(33))
	var all []judged
	for i := range 16 {
		version := Version1
		if i%2 == 1 {
			version = func(key []byte) int { return int(key[len(key)-1]) & 1 }
		}
		built := BuildTrie(RandomEntries(r, 3+r.Intn(30)), version)
		var prefixes, keys [][]byte
		if i%4 < 2 {
			prefixes = [][]byte{nil}
		} else {
			keys = [][]byte{built.Entries[0].Key, built.Entries[len(built.Entries)/2].Key}
		}
		j := judged{Root: hex.EncodeToString(built.Root[:])}
		for _, n := range built.Prove(keys, prefixes) {
			j.Nodes = append(j.Nodes, hex.EncodeToString(n))
		}
		p, err := trie.NewProof(built.Prove(keys, prefixes))
		if err != nil {
			t.Fatal(err)
		}
		// sp-trie iterates over what the partial trie holds: every entry whose node and value are there.
		for _, e := range built.Entries {
			if v, ok, err := p.Get(built.Root, e.Key); err == nil && ok {
				j.Entries = append(j.Entries, [2]string{hex.EncodeToString(e.Key), hex.EncodeToString(v)})
			}
		}
		all = append(all, j)
	}
	got, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile("../testdata/proofs.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("../testdata/proofs.json")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("proofs differ from testdata/proofs.json, which sp-trie has judged")
	}
}
