package trie

import (
	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// Limits on proofs. They are far above what real reads need (the largest proof checked here has 423 nodes).
const (
	MaxNodes     = 65_536   // nodes in one proof
	MaxBytes     = 16 << 20 // bytes of all nodes of one proof
	MaxKeyLength = 32_767   // bytes of a key
)

// Hash is a BLAKE2b-256 hash.
type Hash = [32]byte

// EmptyRoot is the root of a trie without entries: the hash of the empty node, a zero byte.
var EmptyRoot = blake2b.Sum256([]byte{0})

// A Proof is a set of trie nodes, found by their hashes. The order and completeness of the nodes that it was made of
// do not matter: what a lookup needs and is not there is an error, never an absent key. It is immutable.
type Proof struct {
	nodes map[Hash][]byte
}

// NewProof makes a proof of encoded nodes as state_getReadProof returns them. It keeps the slices. Repeated and
// superfluous nodes are harmless and allowed.
func NewProof(nodes [][]byte) (*Proof, error) {
	if len(nodes) > MaxNodes {
		return nil, fail(ErrLimit, "%d nodes, limit %d", len(nodes), MaxNodes)
	}
	total := 0
	p := &Proof{nodes: make(map[Hash][]byte, len(nodes))}
	for _, n := range nodes {
		if total += len(n); total > MaxBytes {
			return nil, fail(ErrLimit, "more than %d bytes of nodes", MaxBytes)
		}
		p.nodes[blake2b.Sum256(n)] = n
	}
	return p, nil
}

// DecodeNodes decodes a list of nodes, Vec<Vec<u8>>, the SCALE form of a StorageProof. The nodes point into b.
func DecodeNodes(b []byte) ([][]byte, error) {
	if len(b) > MaxBytes+5*MaxNodes {
		return nil, fail(ErrLimit, "proof of %d bytes", len(b))
	}
	d := scale.NewDecoder(b)
	nodes := make([][]byte, d.Len(1, MaxNodes, "proof nodes"))
	for i := range nodes {
		nodes[i] = d.Bytes(MaxBytes, "proof node")
	}
	if err := d.Finish(); err != nil {
		return nil, &Error{Kind: ErrEncode, Detail: "list of nodes", Cause: err}
	}
	return nodes, nil
}

// AppendNodes appends a list of nodes as Vec<Vec<u8>>.
func AppendNodes(b []byte, nodes [][]byte) []byte {
	b = scale.AppendCompact(b, uint64(len(nodes)))
	for _, n := range nodes {
		b = scale.AppendBytes(b, n)
	}
	return b
}

// Len returns the number of distinct nodes.
func (p *Proof) Len() int { return len(p.nodes) }

// resolve returns the encoding of the child that ref stands for: the node with that hash, or ref itself.
func (p *Proof) resolve(ref []byte) ([]byte, error) {
	if len(ref) != 32 {
		return ref, nil
	}
	return p.fetch(Hash(ref), "node")
}

func (p *Proof) fetch(hash Hash, what string) ([]byte, error) {
	b, ok := p.nodes[hash]
	if !ok {
		return nil, fail(ErrMissing, "%s %x", what, hash)
	}
	return b, nil
}

// load decodes a node that lies at nibble position at of the path.
func load(b []byte, n *node, at int) error {
	if err := decodeNode(b, n); err != nil {
		return &Error{Kind: ErrNode, Detail: where(at), Cause: err}
	}
	return nil
}

func (p *Proof) valueOf(n *node) ([]byte, error) {
	if n.hashed {
		return p.fetch(Hash(n.value), "value")
	}
	return n.value, nil
}

// Get looks up key in the trie with the given root. present false without an error is a proof that the key has no
// value. The value points into the proof; it is not nil if present.
//
// Only nodes on the path to the key are decoded.
func (p *Proof) Get(root Hash, key []byte) (value []byte, present bool, err error) {
	if len(key) > MaxKeyLength {
		return nil, false, fail(ErrLimit, "key of %d bytes, limit %d", len(key), MaxKeyLength)
	}
	if root == EmptyRoot {
		return nil, false, nil
	}
	enc, err := p.fetch(root, "root")
	if err != nil {
		return nil, false, err
	}
	var n node
	for at := 0; ; {
		if err := load(enc, &n, at); err != nil {
			return nil, false, err
		}
		left := 2*len(key) - at
		if n.nibbles > left {
			return nil, false, nil
		}
		for i := range n.nibbles {
			if n.nibble(i) != nibbleAt(key, at+i) {
				return nil, false, nil
			}
		}
		at += n.nibbles
		if n.nibbles == left {
			if !n.hasValue {
				return nil, false, nil
			}
			value, err := p.valueOf(&n)
			return value, err == nil, err
		}
		if n.leaf {
			return nil, false, nil
		}
		child := nibbleAt(key, at)
		if n.bitmap>>child&1 == 0 {
			return nil, false, nil
		}
		at++
		if enc, err = p.resolve(n.children[child]); err != nil {
			return nil, false, err
		}
	}
}

// An Entry is a key with its value.
type Entry struct{ Key, Value []byte }

// Prefix returns all entries whose keys begin with prefix, in the order of their keys. The list is complete: a node
// missing below the prefix is an error. More than limit entries are ErrLimit.
func (p *Proof) Prefix(root Hash, prefix []byte, limit int) ([]Entry, error) {
	var out []Entry
	_, err := p.walk(root, prefix, false, func(key []byte, n *node) error {
		if len(out) >= limit {
			return fail(ErrLimit, "more than %d entries below prefix %x", limit, prefix)
		}
		value, err := p.valueOf(n)
		if err != nil {
			return err
		}
		out = append(out, Entry{Key: append([]byte(nil), key...), Value: value})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Keys returns all keys that begin with prefix, in order, as Prefix does, but does not need the nodes of hashed
// values.
func (p *Proof) Keys(root Hash, prefix []byte, limit int) ([][]byte, error) {
	var out [][]byte
	_, err := p.walk(root, prefix, false, func(key []byte, n *node) error {
		if len(out) >= limit {
			return fail(ErrLimit, "more than %d keys below prefix %x", limit, prefix)
		}
		out = append(out, append([]byte(nil), key...))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Available returns what the proof shows without being asked for anything: the entries whose values it holds, at most
// limit, in the order of their keys, and how many of its nodes (values included) hang together with the root. Nothing
// follows about keys that are not listed.
func (p *Proof) Available(root Hash, limit int) (entries []Entry, used int, err error) {
	values := map[Hash]bool{}
	used, err = p.walk(root, nil, true, func(key []byte, n *node) error {
		value, err := p.valueOf(n)
		if err != nil {
			return nil // another node that the proof does not need to hold
		}
		if len(entries) >= limit {
			return fail(ErrLimit, "more than %d entries", limit)
		}
		if n.hashed {
			values[Hash(n.value)] = true
		}
		entries = append(entries, Entry{Key: append([]byte(nil), key...), Value: value})
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return entries, used + len(values), nil
}

// walk calls visit for every node with a value whose key begins with prefix, in order, and returns how many distinct
// nodes it fetched by hash. A missing child is an error unless partial is set.
func (p *Proof) walk(root Hash, prefix []byte, partial bool, visit func(key []byte, n *node) error) (int, error) {
	if len(prefix) > MaxKeyLength {
		return 0, fail(ErrLimit, "prefix of %d bytes, limit %d", len(prefix), MaxKeyLength)
	}
	if root == EmptyRoot {
		return 0, nil
	}
	enc, err := p.fetch(root, "root")
	if err != nil {
		return 0, err
	}
	fetched := map[Hash]bool{root: true}
	// An explicit stack instead of recursion: the depth is the sender's choice. An item is a node still to be
	// visited; its path, in nibbles and one a byte, is the first keep nibbles of path (those of its parent, which stay
	// there until all its children are visited) and the child's nibble.
	type item struct {
		enc   []byte
		keep  int
		child int // -1 for the root
	}
	stack := []item{{enc: enc, child: -1}}
	var path, key []byte
	visited := 0
	for len(stack) > 0 {
		it := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		// One node can stand in many places of a trie that somebody made for that purpose.
		if visited++; visited > MaxNodes {
			return 0, fail(ErrLimit, "more than %d nodes below prefix %x", MaxNodes, prefix)
		}
		path = path[:it.keep]
		if it.child >= 0 {
			path = append(path, byte(it.child))
		}
		var n node
		if err := load(it.enc, &n, len(path)); err != nil {
			return 0, err
		}
		for i := range n.nibbles {
			path = append(path, n.nibble(i))
		}
		if !agrees(path, prefix) {
			continue
		}
		if len(path) > 2*MaxKeyLength {
			return 0, fail(ErrLimit, "key longer than %d bytes", MaxKeyLength)
		}
		if n.hasValue && len(path) >= 2*len(prefix) {
			if len(path)%2 == 1 {
				return 0, fail(ErrNode, "value at a key of %d nibbles", len(path))
			}
			key = key[:0]
			for i := 0; i < len(path); i += 2 {
				key = append(key, path[i]<<4|path[i+1])
			}
			if err := visit(key, &n); err != nil {
				return 0, err
			}
		}
		for c := 15; c >= 0; c-- {
			if n.bitmap>>c&1 == 0 || len(path) < 2*len(prefix) && nibbleAt(prefix, len(path)) != byte(c) {
				continue
			}
			enc, err := p.resolve(n.children[c])
			if err != nil {
				if partial {
					continue
				}
				return 0, err
			}
			if len(n.children[c]) == 32 {
				fetched[Hash(n.children[c])] = true
			}
			stack = append(stack, item{enc: enc, keep: len(path), child: c})
		}
	}
	return len(fetched), nil
}

// agrees reports whether a path in nibbles and a prefix in bytes are equal as far as both go.
func agrees(path, prefix []byte) bool {
	for i := range min(len(path), 2*len(prefix)) {
		if path[i] != nibbleAt(prefix, i) {
			return false
		}
	}
	return true
}
