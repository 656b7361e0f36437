// Package merkle is the binary Merkle tree of RFC 6962 over SHA-256, the one that
// CometBFT uses for headers and validator sets and this project for receipts.
//
// A leaf hashes as SHA-256(0x00 ‖ leaf), an inner node as SHA-256(0x01 ‖ left ‖
// right), the empty tree as SHA-256 of nothing. The left subtree of n leaves holds
// the largest power of two below n.
package merkle
