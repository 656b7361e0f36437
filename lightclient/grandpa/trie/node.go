package trie

import (
	"encoding/binary"
	"fmt"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// maxPartial is the longest partial key in nibbles (NIBBLE_SIZE_BOUND of sp-trie).
const maxPartial = 65535

// escapeCompact is the byte in front of a node of a compact proof whose value follows as the next item.
const escapeCompact = 0x01

// A node is a decoded trie node. All slices point into its encoding.
type node struct {
	partial  []byte // partial key, packed; with an odd count the first byte holds one nibble
	nibbles  int    // length of the partial key in nibbles
	leaf     bool
	hasValue bool
	hashed   bool   // value is the hash of the value's own node
	value    []byte // value, or its hash
	bitmap   uint16 // which children there are
	children [16][]byte
}

// decodeNode decodes a node as sp-trie's NodeCodec encodes it, in either state version: the variant and the length of
// the partial key in the header, the partial key, for branches the children's bitmap, the value, and each child as a
// Vec<u8> that is a hash if 32 bytes long and otherwise the child itself.
//
// Stricter than sp-trie: nothing may follow the node, child references are at most 32 bytes, and the empty node is
// refused, as it stands for a whole empty trie only.
func decodeNode(b []byte, n *node) error {
	*n = node{}
	d := scale.NewDecoder(b)
	first := d.U8("node header")
	var bits uint
	branch := false
	switch {
	case d.Err() != nil:
		return d.Err()
	case first>>6 == 0b01:
		n.leaf, n.hasValue, bits = true, true, 6
	case first>>6 == 0b10:
		branch, bits = true, 6
	case first>>6 == 0b11:
		branch, n.hasValue, bits = true, true, 6
	case first>>5 == 0b001:
		n.leaf, n.hasValue, n.hashed, bits = true, true, true, 5
	case first>>4 == 0b0001:
		branch, n.hasValue, n.hashed, bits = true, true, true, 4
	default:
		d.Fail(scale.ErrTag, fmt.Sprintf("node header %#02x", first))
		return d.Err()
	}
	mask := byte(1)<<bits - 1
	n.nibbles = int(first & mask)
	if first&mask == mask {
		for more := byte(255); more == 255 && d.Err() == nil; {
			more = d.U8("partial key length")
			if n.nibbles += int(more); n.nibbles > maxPartial {
				d.Fail(scale.ErrTooLarge, "partial key length")
			}
		}
	}
	n.partial = d.Raw((n.nibbles+1)/2, "partial key")
	if n.nibbles%2 == 1 && d.Err() == nil && n.partial[0]>>4 != 0 {
		d.Fail(scale.ErrNonCanonical, "padding of an odd partial key")
	}
	if branch {
		if b := d.Raw(2, "children bitmap"); b != nil {
			n.bitmap = binary.LittleEndian.Uint16(b)
		}
		if n.bitmap == 0 {
			d.Fail(scale.ErrTag, "children bitmap of zero")
		}
	}
	switch {
	case n.hashed:
		n.value = d.Raw(32, "value hash")
	case n.hasValue:
		n.value = d.Bytes(len(b), "value")
	}
	for i := range n.children {
		if n.bitmap>>i&1 == 1 {
			n.children[i] = d.Bytes(32, "child reference")
		}
	}
	return d.Finish()
}

// nibble returns the i-th nibble of the partial key.
func (n *node) nibble(i int) byte { return nibbleAt(n.partial, i+n.nibbles%2) }

// nibbleAt returns the i-th nibble of packed bytes, the high half of a byte first.
func nibbleAt(b []byte, i int) byte {
	if i%2 == 0 {
		return b[i/2] >> 4
	}
	return b[i/2] & 15
}
