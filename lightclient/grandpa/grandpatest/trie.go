package grandpatest

import (
	"bytes"
	"sort"

	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

// A Trie is a whole state trie in memory. It is built plainly, from a sorted list by recursion, and shares no code
// with the reader that it tests.
type Trie struct {
	Root    [32]byte
	Entries []trie.Entry
	top     *trieNode
}

type trieNode struct {
	partial  []byte // nibbles
	value    []byte
	hasValue bool
	hashed   bool
	children [16]*trieNode
	enc      []byte
}

// Version1 is the state version function under which values of 33 bytes and more are nodes of their own.
func Version1([]byte) int { return 1 }

// Version0 is the state version function under which all values stand in their node.
func Version0([]byte) int { return 0 }

// BuildTrie makes the trie of the entries, which must have distinct keys. version gives the state version in which
// each key was last written.
func BuildTrie(entries []trie.Entry, version func(key []byte) int) *Trie {
	t := &Trie{Entries: append([]trie.Entry(nil), entries...), Root: trie.EmptyRoot}
	sort.Slice(t.Entries, func(i, j int) bool { return bytes.Compare(t.Entries[i].Key, t.Entries[j].Key) < 0 })
	if len(entries) == 0 {
		return t
	}
	t.top = buildNode(t.Entries, 0, version)
	t.Root = blake2b.Sum256(t.top.enc)
	return t
}

func nibbles(key []byte) []byte {
	out := make([]byte, 0, 2*len(key))
	for _, b := range key {
		out = append(out, b>>4, b&15)
	}
	return out
}

// buildNode makes the node for entries that agree in their first depth nibbles.
func buildNode(entries []trie.Entry, depth int, version func([]byte) int) *trieNode {
	first, last := nibbles(entries[0].Key)[depth:], nibbles(entries[len(entries)-1].Key)[depth:]
	common := 0
	for common < len(first) && common < len(last) && first[common] == last[common] {
		common++
	}
	n := &trieNode{partial: first[:common]}
	if len(first) == common {
		n.value, n.hasValue = entries[0].Value, true
		n.hashed = version(entries[0].Key) == 1 && len(n.value) > 32
		entries = entries[1:]
	}
	for len(entries) > 0 {
		nibble := nibbles(entries[0].Key)[depth+common]
		end := sort.Search(len(entries), func(i int) bool { return nibbles(entries[i].Key)[depth+common] > nibble })
		n.children[nibble] = buildNode(entries[:end], depth+common+1, version)
		entries = entries[end:]
	}
	n.enc = n.encode(func(c *trieNode) []byte { return c.reference() }, false)
	return n
}

// reference returns the hash of the node, or the node itself if shorter.
func (n *trieNode) reference() []byte {
	if len(n.enc) < 32 {
		return n.enc
	}
	h := blake2b.Sum256(n.enc)
	return h[:]
}

func (n *trieNode) encode(child func(*trieNode) []byte, detach bool) (out []byte) {
	branch := false
	for _, c := range n.children {
		branch = branch || c != nil
	}
	hashed := n.hashed && !detach
	var prefix, width byte
	switch {
	case branch && n.hasValue && hashed:
		prefix, width = 0x10, 4
	case branch && n.hasValue:
		prefix, width = 0xc0, 6
	case branch:
		prefix, width = 0x80, 6
	case hashed:
		prefix, width = 0x20, 5
	default:
		prefix, width = 0x40, 6
	}
	limit := 1<<width - 1
	if rest := len(n.partial) - limit; rest < 0 {
		out = append(out, prefix|byte(len(n.partial)))
	} else {
		out = append(out, prefix|byte(limit))
		for ; rest > 254; rest -= 255 {
			out = append(out, 255)
		}
		out = append(out, byte(rest))
	}
	half := n.partial
	if len(half)%2 == 1 {
		out, half = append(out, half[0]), half[1:]
	}
	for ; len(half) > 0; half = half[2:] {
		out = append(out, half[0]<<4|half[1])
	}
	if branch {
		var bitmap uint16
		for i, c := range n.children {
			if c != nil {
				bitmap |= 1 << i
			}
		}
		out = append(out, byte(bitmap), byte(bitmap>>8))
	}
	switch {
	case hashed:
		h := blake2b.Sum256(n.value)
		out = append(out, h[:]...)
	case n.hasValue && detach:
		out = append(out, 0)
	case n.hasValue:
		out = scale.AppendBytes(out, n.value)
	}
	for _, c := range n.children {
		if c != nil {
			out = scale.AppendBytes(out, child(c))
		}
	}
	return out
}

// visit calls f for each node on the paths to the keys, and for all nodes whose path begins with one of the prefixes,
// parents first. value says that the node's value belongs to what was asked for.
func (t *Trie) visit(keys, prefixes [][]byte, f func(n *trieNode, value bool)) {
	var walk func(n *trieNode, path []byte)
	walk = func(n *trieNode, path []byte) {
		path = append(path[:len(path):len(path)], n.partial...)
		value := false
		for _, k := range keys {
			value = value || bytes.Equal(nibbles(k), path)
		}
		for _, p := range prefixes {
			value = value || bytes.HasPrefix(path, nibbles(p))
		}
		f(n, value)
		for i, c := range n.children {
			if c == nil {
				continue
			}
			below := append(path[:len(path):len(path)], byte(i))
			wanted := false
			for _, k := range keys {
				wanted = wanted || bytes.HasPrefix(nibbles(k), below)
			}
			for _, p := range prefixes {
				wanted = wanted || bytes.HasPrefix(nibbles(p), below) || bytes.HasPrefix(below, nibbles(p))
			}
			if wanted {
				walk(c, below)
			}
		}
	}
	if t.top != nil {
		walk(t.top, nil)
	}
}

// Prove returns the nodes that prove the keys, present or absent, and everything below the prefixes, as
// state_getReadProof gives them.
func (t *Trie) Prove(keys, prefixes [][]byte) [][]byte {
	var out [][]byte
	t.visit(keys, prefixes, func(n *trieNode, value bool) {
		if n == t.top || len(n.enc) >= 32 {
			out = append(out, n.enc)
		}
		if value && n.hashed {
			out = append(out, n.value)
		}
	})
	return out
}

// ProveCompact returns the same proof in the compact form.
func (t *Trie) ProveCompact(keys, prefixes [][]byte) [][]byte {
	included, withValue := map[*trieNode]bool{}, map[*trieNode]bool{}
	var order []*trieNode
	t.visit(keys, prefixes, func(n *trieNode, value bool) {
		if n == t.top || len(n.enc) >= 32 {
			included[n] = true
			order = append(order, n)
		}
		withValue[n] = value && n.hashed
	})
	var out [][]byte
	for _, n := range order {
		enc := n.encode(func(c *trieNode) []byte {
			if included[c] {
				return nil
			}
			return c.reference()
		}, withValue[n])
		if withValue[n] {
			out = append(out, append([]byte{1}, enc...), n.value)
		} else {
			out = append(out, enc)
		}
	}
	return out
}

// Blake2_256 returns the BLAKE2b-256 hash of b.
func Blake2_256(b []byte) [32]byte { return blake2b.Sum256(b) }
