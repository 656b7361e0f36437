// Package trie reads proofs of Substrate state: sets of nodes of the base-16 Merkle-Patricia trie whose root a block
// header names (Polkadot specification, chapter "State"; node format of sp-trie). It only reads; nothing here
// changes a trie.
//
// # Nodes
//
// A node is named by the BLAKE2b-256 hash of its encoding; children whose encoding is shorter than 32 bytes stand in
// their parent instead. In state version 1, values of 33 bytes and more are nodes of their own, named by hash; since
// chains rewrite their nodes lazily after the change of version, one trie holds nodes of both versions, and this
// package reads both without being told.
//
// # Three answers
//
// A lookup ends in one of three ways: the value, the certainty that there is none, or an error. [ErrMissing] means
// that the proof lacks a node on the way, so nothing is known; it must never be taken for an absent key.
//
// # Proof forms
//
//   - [NewProof] takes the nodes of the RPC state_getReadProof, in any order; [DecodeNodes] reads their SCALE form.
//   - [DecodeCompact] takes sp-trie's CompactProof, in which hashes that follow from other nodes are left out.
//
// Keys are raw storage keys; package storage makes them. Child tries are separate tries: their root is the value of
// the key ":child_storage:default:" ‖ id of the main trie.
//
// # Limits
//
// MaxNodes, MaxBytes and MaxKeyLength bound what a proof can cost. Lookups decode the nodes on the path only, so a
// damaged node elsewhere does no harm.
package trie
