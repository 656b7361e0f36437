// Package inbox makes sure that an enclave processes exactly the messages that the
// chain finalised for it, in the chain's order, none omitted, none repeated,
// whoever feeds it.
//
// A [State] holds a light client and a cursor {seq, head} for each topic that the
// enclave follows. An [Advance] brings light blocks up to some header H+1, the
// cursors that the state after block H holds for all topics, each with its proof,
// and the messages up to them. [State.Apply] verifies the headers, checks the proofs
// against the header's app hash, folds the messages and compares. Either everything
// fits and the messages come out as a [Batch] in the order in which they are to be
// processed, or the state is as before.
//
// The order is: height, then rank of the topic (system, gatekeeper, cluster,
// worker), then the topic's name, then sequence.
//
// A topic that is followed late ([State.Follow]) brings its whole past in its first
// advance. Messages of other topics from those heights have been delivered before; they
// do not come again.
//
// [State.Join] starts at proven cursors without a past. [State.SyncHeaders] moves the
// light client alone, for a relayer that has more headers than one advance holds.
//
// Nothing here reads a clock, a file or a random source.
package inbox
