// Package contracts keeps clusters, codes, contracts, commands and receipts.
//
// A cluster is a committee of workers that all run the same contracts. Its topic,
// cluster/<id>, holds everything that changes its state, in order. The chain never
// sees what a command says: it checks that the payer can pay for the gas tier, holds
// the money, and appends the envelope.
//
// For every height with messages, each seat posts a receipt: the topic's head, the
// root of the cluster's state, the Merkle root over blinded commitments to the
// outputs, and a gas bucket for each command. A receipt is final when a majority of
// the seats said the same; then the escrow of its commands is settled: the bucket's
// price goes to the operators whose seats agreed, the rest returns to the payer. Every
// word stays on record with its signature. While seats disagree and none has a
// majority, the event receipt_disputed names both sides; a seat that said otherwise
// than the final receipt is named in the event receipt_diverged.
//
// Codes are uploaded in chunks by anybody, in any order. Each is unpacked and checked
// against the manifest that the code's hash commits to, then kept beside the state.
//
// Deploying is public. A contract waits until a majority of seats reported its code
// prepared, so that compiling never holds up a cluster.
//
// A cluster runs under one version of the rules. It comes to the one that governance wants
// when all of its seats have prepared its codes under it; see rules.go.
//
// Money is in base units: 10^12 are 1 PHA.
package contracts
