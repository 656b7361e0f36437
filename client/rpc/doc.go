// Package rpc speaks to a CometBFT node: the few JSON-RPC calls that relayers and
// clients need, and the conversion of what it answers into light blocks.
//
// Nothing that a node answers is trusted here. Light blocks are verified by package
// lightclient/comet, values by their proofs.
package rpc
