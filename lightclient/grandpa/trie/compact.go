package trie

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

func where(nibble int) string { return fmt.Sprintf("at nibble %d of the path", nibble) }

// encode writes n in the form that decodeNode reads.
func (n *node) encode() []byte {
	var first byte
	var bits uint
	switch {
	case n.leaf && !n.hashed:
		first, bits = 0b01<<6, 6
	case n.leaf:
		first, bits = 0b001<<5, 5
	case !n.hasValue:
		first, bits = 0b10<<6, 6
	case !n.hashed:
		first, bits = 0b11<<6, 6
	default:
		first, bits = 0b0001<<4, 4
	}
	mask := 1<<bits - 1
	out := make([]byte, 0, 64+len(n.partial)+len(n.value))
	if n.nibbles < mask {
		out = append(out, first|byte(n.nibbles))
	} else {
		out = append(out, first|byte(mask))
		rest := n.nibbles - mask
		for ; rest >= 255; rest -= 255 {
			out = append(out, 255)
		}
		out = append(out, byte(rest))
	}
	out = append(out, n.partial...)
	if !n.leaf {
		out = binary.LittleEndian.AppendUint16(out, n.bitmap)
	}
	switch {
	case n.hashed:
		out = append(out, n.value...)
	case n.hasValue:
		out = scale.AppendBytes(out, n.value)
	}
	for i := range n.children {
		if n.bitmap>>i&1 == 1 {
			out = scale.AppendBytes(out, n.children[i])
		}
	}
	return out
}

// DecodeCompact expands a compact proof (sp-trie CompactProof) and returns the root that it proves. In a compact
// proof the nodes stand in depth-first order; the hash of a child that is included is left out, as it follows from
// the child, and so is the hash of an included value, which stands behind its node, whose encoding then has the
// escape byte 0x01 in front.
//
// The caller must hold the root against one it trusts. All items must be used.
func DecodeCompact(items [][]byte) (root Hash, p *Proof, err error) {
	if len(items) > MaxNodes {
		return root, nil, fail(ErrLimit, "%d items, limit %d", len(items), MaxNodes)
	}
	total := 0
	for _, it := range items {
		if total += len(it); total > MaxBytes {
			return root, nil, fail(ErrLimit, "more than %d bytes of nodes", MaxBytes)
		}
	}
	p = &Proof{nodes: make(map[Hash][]byte, len(items))}
	type open struct {
		n     node
		child int // the child whose node is awaited
	}
	var stack []*open
	for i := 0; i < len(items); {
		enc := items[i]
		i++
		attached := len(enc) > 0 && enc[0] == escapeCompact
		if attached {
			enc = enc[1:]
		}
		cur := &open{}
		if err := load(enc, &cur.n, 0); err != nil {
			return root, nil, &Error{Kind: ErrNode, Detail: fmt.Sprintf("item %d", i-1), Cause: err}
		}
		if attached {
			if !cur.n.hasValue || cur.n.hashed || len(cur.n.value) != 0 || i == len(items) {
				return root, nil, fail(ErrNode, "item %d announces a value that cannot follow", i-1)
			}
			hash := blake2b.Sum256(items[i])
			p.nodes[hash] = items[i]
			cur.n.hashed, cur.n.value = true, hash[:]
			i++
		}
		// Close every node whose omitted children are all known.
		for {
			for cur.child < 16 && (cur.n.bitmap>>cur.child&1 == 0 || len(cur.n.children[cur.child]) != 0) {
				cur.child++
			}
			if cur.child < 16 {
				stack = append(stack, cur)
				break
			}
			full := cur.n.encode()
			hash := blake2b.Sum256(full)
			p.nodes[hash] = full
			if len(stack) == 0 {
				if i != len(items) {
					return root, nil, fail(ErrEncode, "%d items behind the end of the compact proof", len(items)-i)
				}
				return hash, p, nil
			}
			cur = stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			cur.n.children[cur.child] = append([]byte(nil), hash[:]...)
			cur.child++
		}
	}
	return root, nil, fail(ErrMissing, "compact proof ends with %d nodes unfinished", len(stack))
}
