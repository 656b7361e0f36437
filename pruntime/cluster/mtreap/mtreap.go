package mtreap

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
)

// A Map is one version of the contents. The zero value is not usable: see New.
type Map struct {
	key  *[32]byte
	root *node
	n    int
	size int
}

type node struct {
	key, value  []byte
	sum         *sums // of key and value, shared with the node's copies; nil until asked for
	prio        [32]byte
	left, right *node
	hash        [32]byte // zero until asked for
	hashed      bool
}

// sums are the digests of an entry, so that a write below it does not cost its bytes.
type sums struct{ key, value [32]byte }

// New returns an empty map hashed under key.
func New(key [32]byte) *Map { return &Map{key: &key} }

// Len is the number of entries.
func (m *Map) Len() int { return m.n }

// Size is the number of bytes in keys and values.
func (m *Map) Size() int { return m.size }

func (m *Map) mac(parts ...[]byte) (out [32]byte) {
	h := hmac.New(sha256.New, m.key[:])
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// Get returns the value of key. The caller does not change it.
func (m *Map) Get(key []byte) ([]byte, bool) {
	for n := m.root; n != nil; {
		switch c := bytes.Compare(key, n.key); {
		case c == 0:
			return n.value, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return nil, false
}

// Set returns the map with key set to value. Both are kept, not copied.
func (m *Map) Set(key, value []byte) *Map {
	old, had := m.Get(key)
	out := *m
	if had {
		out.size += len(value) - len(old)
	} else {
		out.n++
		out.size += len(key) + len(value)
	}
	add := &node{key: key, value: value, prio: m.mac([]byte("priority"), key)}
	if had {
		out.root = replace(m.root, key, value)
	} else {
		out.root = insert(m.root, add)
	}
	return &out
}

func replace(n *node, key, value []byte) *node {
	c := *n
	c.hashed = false
	switch d := bytes.Compare(key, n.key); {
	case d == 0:
		c.value, c.sum = value, nil
	case d < 0:
		c.left = replace(n.left, key, value)
	default:
		c.right = replace(n.right, key, value)
	}
	return &c
}

func insert(n, add *node) *node {
	if n == nil {
		return add
	}
	if bytes.Compare(add.prio[:], n.prio[:]) > 0 {
		add.left, add.right = split(n, add.key)
		return add
	}
	c := *n
	c.hashed = false
	if bytes.Compare(add.key, n.key) < 0 {
		c.left = insert(n.left, add)
	} else {
		c.right = insert(n.right, add)
	}
	return &c
}

// split parts a tree into keys below and above key, which is not in it.
func split(n *node, key []byte) (below, above *node) {
	if n == nil {
		return nil, nil
	}
	c := *n
	c.hashed = false
	if bytes.Compare(n.key, key) < 0 {
		c.right, above = split(n.right, key)
		return &c, above
	}
	below, c.left = split(n.left, key)
	return below, &c
}

// Delete returns the map without key.
func (m *Map) Delete(key []byte) *Map {
	old, had := m.Get(key)
	if !had {
		return m
	}
	out := *m
	out.n--
	out.size -= len(key) + len(old)
	out.root = remove(m.root, key)
	return &out
}

func remove(n *node, key []byte) *node {
	d := bytes.Compare(key, n.key)
	if d == 0 {
		return merge(n.left, n.right)
	}
	c := *n
	c.hashed = false
	if d < 0 {
		c.left = remove(n.left, key)
	} else {
		c.right = remove(n.right, key)
	}
	return &c
}

func merge(l, r *node) *node {
	switch {
	case l == nil:
		return r
	case r == nil:
		return l
	}
	if bytes.Compare(l.prio[:], r.prio[:]) > 0 {
		c := *l
		c.hashed = false
		c.right = merge(l.right, r)
		return &c
	}
	c := *r
	c.hashed = false
	c.left = merge(l, r.left)
	return &c
}

// Next returns the first entry whose key is at least key.
func (m *Map) Next(key []byte) (k, v []byte, ok bool) {
	for n := m.root; n != nil; {
		if bytes.Compare(n.key, key) >= 0 {
			k, v, ok = n.key, n.value, true
			n = n.left
		} else {
			n = n.right
		}
	}
	return k, v, ok
}

// Each calls f for every entry in order of keys until it wants no more.
func (m *Map) Each(f func(key, value []byte) (more bool)) { each(m.root, f) }

func each(n *node, f func(k, v []byte) bool) bool {
	return n == nil || each(n.left, f) && f(n.key, n.value) && each(n.right, f)
}

// Root returns the hash of the contents: of an empty map, the HMAC of nothing. It
// costs in proportion to what was written since it was last asked for. It must not
// be called on versions that share nodes from several goroutines at once.
func (m *Map) Root() [32]byte {
	if m.root == nil {
		return m.mac()
	}
	return m.hash(m.root)
}

func (m *Map) hash(n *node) [32]byte {
	if n == nil {
		return [32]byte{}
	}
	if !n.hashed {
		l, r := m.hash(n.left), m.hash(n.right)
		if n.sum == nil {
			n.sum = &sums{sha256.Sum256(n.key), sha256.Sum256(n.value)}
		}
		n.hash, n.hashed = m.mac(l[:], r[:], n.sum.key[:], n.sum.value[:]), true
	}
	return n.hash
}
