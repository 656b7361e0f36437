package comettest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/phala-go/phala/lightclient/comet"
)

// An Op is one step of an ICS-23 proof from a node to its parent: the parent is the
// SHA-256 of prefix, node, suffix.
type Op struct{ Prefix, Suffix []byte }

// An Existence is an ICS-23 existence proof in the form that both IAVL and the
// store tree use. Tests edit its fields and marshal it again.
type Existence struct {
	Key, Value []byte
	LeafPrefix []byte
	Path       []Op // from the leaf to the root
}

// Marshal encodes the proof as ics23.CommitmentProof.
func (e *Existence) Marshal() []byte {
	leaf := bytesField(varintField(varintField(varintField(nil, 1, 1), 3, 1), 4, 1), 5, e.LeafPrefix)
	m := messageField(bytesField(bytesField(nil, 1, e.Key), 2, e.Value), 3, leaf)
	for _, op := range e.Path {
		m = messageField(m, 4, bytesField(bytesField(varintField(nil, 1, 1), 2, op.Prefix), 3, op.Suffix))
	}
	return messageField(nil, 1, m)
}

// Root is the root that the proof leads to.
func (e *Existence) Root() [32]byte {
	h := leafHash(e.LeafPrefix, e.Key, e.Value)
	for _, op := range e.Path {
		h = sha256.Sum256(slices.Concat(op.Prefix, h[:], op.Suffix))
	}
	return h
}

func leafHash(prefix, key, value []byte) [32]byte {
	sum := sha256.Sum256(value)
	b := binary.AppendUvarint(slices.Clone(prefix), uint64(len(key)))
	b = append(append(b, key...), 32)
	return sha256.Sum256(append(b, sum[:]...))
}

type entry struct {
	key, value []byte
	version    int64
}

// A tree is either kind of the two trees of a Cosmos SDK state: IAVL, or the simple
// Merkle tree of the stores.
type tree struct {
	hash        [32]byte
	head        []byte // what precedes the children, or key and value
	sep         []byte // what precedes each child
	left, right *tree
	leaf        *entry
	height      int64
	size        int64
	version     int64
}

func buildTree(entries []entry, iavl bool) *tree {
	n := len(entries)
	switch n {
	case 0:
		return &tree{hash: sha256.Sum256(nil)}
	case 1:
		t := &tree{leaf: &entries[0], size: 1, version: entries[0].version, head: []byte{0}}
		if iavl {
			t.head = t.iavlHead()
		}
		t.hash = leafHash(t.head, t.leaf.key, t.leaf.value)
		return t
	}
	split := (n + 1) / 2
	if !iavl {
		split = 1 << (bits.Len(uint(n-1)) - 1)
	}
	l, r := buildTree(entries[:split], iavl), buildTree(entries[split:], iavl)
	t := &tree{left: l, right: r, height: 1 + max(l.height, r.height), size: l.size + r.size, version: max(l.version, r.version), head: []byte{1}}
	if iavl {
		t.head, t.sep = t.iavlHead(), []byte{32}
	}
	t.hash = sha256.Sum256(slices.Concat(t.head, t.sep, l.hash[:], t.sep, r.hash[:]))
	return t
}

func (t *tree) iavlHead() []byte {
	return binary.AppendVarint(binary.AppendVarint(binary.AppendVarint(nil, t.height), t.size), t.version)
}

// prove returns the proof of entry i of n.
func (t *tree) prove(i int64) *Existence {
	if t.leaf != nil {
		return &Existence{Key: t.leaf.key, Value: t.leaf.value, LeafPrefix: t.head}
	}
	if i < t.left.size {
		e := t.left.prove(i)
		e.Path = append(e.Path, Op{slices.Concat(t.head, t.sep), slices.Concat(t.sep, t.right.hash[:])})
		return e
	}
	e := t.right.prove(i - t.left.size)
	e.Path = append(e.Path, Op{slices.Concat(t.head, t.sep, t.left.hash[:], t.sep), nil})
	return e
}

// A store is one version of a key-value store. It is not changed once made.
type store struct {
	entries []entry // by key
	tree    *tree
}

func newStore(entries []entry) *store { return &store{entries, buildTree(entries, true)} }

func (s *store) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(s.entries, key, func(e entry, k []byte) int { return bytes.Compare(e.key, k) })
}

// A state is one version of all stores.
type state struct {
	names  []string // in order
	stores map[string]*store
	root   *tree
}

func (s *state) seal() *state {
	entries := make([]entry, len(s.names))
	for i, n := range s.names {
		entries[i] = entry{key: []byte(n), value: s.stores[n].tree.hash[:]}
	}
	s.root = buildTree(entries, false)
	return s
}

// with returns the state after writes at a version.
func (s *state) with(writes map[string]map[string][]byte, version int64) *state {
	if len(writes) == 0 {
		return s
	}
	next := &state{slices.Clone(s.names), make(map[string]*store), nil}
	for n, st := range s.stores {
		next.stores[n] = st
	}
	for name, w := range writes {
		old := next.stores[name]
		if old == nil {
			old = newStore(nil)
			next.names = append(next.names, name)
		}
		entries := make([]entry, 0, len(old.entries)+len(w))
		for _, e := range old.entries {
			if _, ok := w[string(e.key)]; !ok {
				entries = append(entries, e)
			}
		}
		for k, v := range w {
			if v != nil {
				entries = append(entries, entry{[]byte(k), v, version})
			}
		}
		slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
		next.stores[name] = newStore(entries)
	}
	slices.Sort(next.names)
	return next.seal()
}

func (s *state) get(name string, key []byte) ([]byte, bool) {
	st := s.stores[name]
	if st == nil {
		return nil, false
	}
	i, ok := st.find(key)
	if !ok {
		return nil, false
	}
	return st.entries[i].value, true
}

// A Proof is a key's two proofs in a form that tests can edit.
type Proof struct{ IAVL, Store *Existence }

// Marshal encodes the proof.
func (p Proof) Marshal() comet.StoreProof {
	return comet.StoreProof{IAVL: p.IAVL.Marshal(), Store: p.Store.Marshal()}
}

func (s *state) prove(name string, key []byte) (Proof, bool) {
	st := s.stores[name]
	if st == nil {
		return Proof{}, false
	}
	i, ok := st.find(key)
	if !ok {
		return Proof{}, false
	}
	n, _ := slices.BinarySearch(s.names, name)
	return Proof{st.tree.prove(int64(i)), s.root.prove(int64(n))}, true
}
