// Package gatekeeper is what a pruntime in the gatekeeper role does: it holds a share
// of the master key and releases cluster keys to workers that earned them. It never
// runs contracts.
//
// The master key is the secret of a distributed PRF (package crypto/dprf); every key
// below it is the PRF of a label. One gatekeeper is the sharing 1 of 1: the first one
// makes the key, publishes its public key, and the chain decides that it counts.
//
// A gatekeeper follows the topic gatekeeper, which carries every registration with its
// evidence. It verifies the evidence itself, with the roots that are compiled into it
// or fixed by its network, so that validators alone cannot admit a fake worker to keys.
// It releases the keys of a cluster to a worker that has a seat there, to the worker's
// current session key, and to no other: the stable key, and the traffic keys from the
// epoch of the newest stored snapshot, where a worker without a state begins, to the one
// that was announced last.
//
// What it asks for beyond the chain's word, before a key leaves it:
//
//   - evidence that verifies with the newest collateral that it ever saw for that
//     platform, is of its own software or one that it was made to serve, and binds the registration ([Judge]);
//   - the attestation roots and settings of the worker are its own, or stricter;
//   - a confidence level that its own policy takes, and one worker for a machine: the
//     one that registered last;
//   - an attestation epoch that it has not seen from this worker;
//   - the block that the session names, and the header from which the worker's light
//     client started, are on the gatekeeper's own chain: it verified that header itself,
//     or a state proof under one that it verified says so ([Gatekeeper.Confirm]). A worker
//     on a fork, or one with a trust root of its host's making, gets nothing.
package gatekeeper
