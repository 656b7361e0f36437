// Package mtreap is an ordered map with a root hash: a persistent Merkle treap.
//
// A treap is a binary search tree by key and a heap by priority. Here a key's
// priority is a keyed hash of it, so the tree's form follows from its keys alone:
// equal contents have equal roots, whatever the order of the writes. A write copies
// the path to its key, O(log n) nodes, and leaves older versions as they were;
// readers of an old version need no lock.
//
// A node hashes as
//
//	HMAC-SHA256(key, left ‖ right ‖ SHA-256(entry key) ‖ SHA-256(value))
//
// with 32 zero bytes for a missing child. The HMAC key is secret: whoever sees a
// root cannot guess a small state and compare. Without the key the priorities are
// unknown too, so nobody can choose keys that make the tree deep.
package mtreap
