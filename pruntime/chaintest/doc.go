// Package chaintest is a chain in memory for the tests of enclaves, relayers and
// clients: comettest's headers, proofs and topics, and on top of them what the modules
// mq, registry and contracts do with workers, outboxes, clusters, codes and commands.
// Money, gas and evidence are left out: this chain admits everybody, which is what a
// gatekeeper must not rely on.
//
// [Chain.Server] serves it as a CometBFT node's RPC. Nothing but tests imports this
// package; misuse panics.
package chaintest
