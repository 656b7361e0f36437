// Package pherry is the relayer between a node and pruntimes. Neither trusts it: it
// moves light blocks, proofs and messages into the enclaves and signed outbox entries
// to the chain, and keeps nothing. What it forgets it asks again, so it can be stopped,
// restarted, run twice or replaced at any time.
//
// [Relayer.Run] serves one pruntime; a program runs one for each. A round is:
//
//  1. ask the pruntime where it stands, the node what its newest block is;
//  2. bring the trust root's header, if it is wanted;
//  3. register the enclave, or renew its registration, with the operator's account;
//  4. bring what the enclave has not seen: headers, the cursors of its topics with
//     their proofs, the messages between;
//  5. tell it, with a proof, which of its outbox entries the chain has, and submit the
//     others;
//  6. fetch contract codes and pieces of a cluster's state that it asks for, and for a
//     gatekeeper the proofs of blocks.
//
// A round that fails is tried again; the next one asks anew.
package pherry
