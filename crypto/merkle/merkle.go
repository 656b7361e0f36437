package merkle

import (
	"crypto/sha256"
	"math/bits"
)

// LeafHash returns the hash of one leaf.
func LeafHash(leaf []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(leaf)
	return [32]byte(h.Sum(nil))
}

// InnerHash returns the hash of two subtrees.
func InnerHash(left, right [32]byte) [32]byte {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Root returns the root over leaves.
func Root(leaves [][]byte) [32]byte {
	hashes := make([][32]byte, len(leaves))
	for i, l := range leaves {
		hashes[i] = LeafHash(l)
	}
	return RootOfHashes(hashes)
}

// RootOfHashes returns the root over leaf hashes.
func RootOfHashes(hashes [][32]byte) [32]byte {
	switch n := len(hashes); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return hashes[0]
	default:
		k := split(n)
		return InnerHash(RootOfHashes(hashes[:k]), RootOfHashes(hashes[k:]))
	}
}

// Proof returns the siblings of leaf i, from the leaf up.
func Proof(leaves [][]byte, i int) [][32]byte {
	hashes := make([][32]byte, len(leaves))
	for j, l := range leaves {
		hashes[j] = LeafHash(l)
	}
	return proof(hashes, i)
}

func proof(hashes [][32]byte, i int) [][32]byte {
	n := len(hashes)
	if n <= 1 {
		return nil
	}
	if k := split(n); i < k {
		return append(proof(hashes[:k], i), RootOfHashes(hashes[k:]))
	} else {
		return append(proof(hashes[k:], i-k), RootOfHashes(hashes[:k]))
	}
}

// Proofs returns the root and the proof of every leaf, in time that is linear but for the
// proofs' own length: Proof for each leaf would be quadratic.
func Proofs(leaves [][]byte) (root [32]byte, proofs [][][32]byte) {
	hashes := make([][32]byte, len(leaves))
	for i, l := range leaves {
		hashes[i] = LeafHash(l)
	}
	proofs = make([][][32]byte, len(leaves))
	return prove(hashes, proofs), proofs
}

// prove returns the root over hashes and adds to each proof the siblings up to it.
func prove(hashes [][32]byte, proofs [][][32]byte) [32]byte {
	if len(hashes) <= 1 {
		return RootOfHashes(hashes)
	}
	k := split(len(hashes))
	left, right := prove(hashes[:k], proofs[:k]), prove(hashes[k:], proofs[k:])
	for i := range proofs {
		if i < k {
			proofs[i] = append(proofs[i], right)
		} else {
			proofs[i] = append(proofs[i], left)
		}
	}
	return InnerHash(left, right)
}

// Verify reports whether leaf is number i of n under root. A proof of the wrong
// length is refused.
func Verify(root [32]byte, leaf []byte, i, n int, siblings [][32]byte) bool {
	if i < 0 || i >= n {
		return false
	}
	got, ok := climb(LeafHash(leaf), i, n, siblings)
	return ok && got == root
}

func climb(h [32]byte, i, n int, siblings [][32]byte) ([32]byte, bool) {
	if n == 1 {
		return h, len(siblings) == 0
	}
	if len(siblings) == 0 {
		return h, false
	}
	last := siblings[len(siblings)-1]
	rest := siblings[:len(siblings)-1]
	if k := split(n); i < k {
		left, ok := climb(h, i, k, rest)
		return InnerHash(left, last), ok
	} else {
		right, ok := climb(h, i-k, n-k, rest)
		return InnerHash(last, right), ok
	}
}
