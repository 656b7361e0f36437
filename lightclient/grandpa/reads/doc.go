// Package reads gives typed answers out of proven Substrate state: what contracts and the enclave want to know of a
// relay chain or a parachain.
//
// A [View] is a state root that is trusted, because the header that names it is final (package grandpa), and a read
// proof (package trie). Its methods look items up and decode them strictly. There are four outcomes:
//
//   - a value;
//   - for map entries, ok false: the chain has no such entry, and that is proven;
//   - [ErrAbsent]: a value that every such chain has is proven absent, so this is another kind of chain;
//   - [ErrProof] or [ErrValue]: the proof lacks nodes, or the value does not have the layout that is read here.
//
// # Parachains
//
// A parachain block is final when its head is in the state of a final relay block. [View.Para] therefore takes the
// parachain's header from the relay's Paras::Heads and makes a View of its state: the same code, one more proof.
//
// # Messages between parachains
//
// HRMP messages wait in the relay's Hrmp::HrmpChannelContents; the channel's record holds the head of a hash chain
// over all messages ever sent (polkadot-sdk, runtime/parachains/hrmp; cumulus, MessageQueueChain):
//
//	head' = BLAKE2b-256(head ‖ sent_at u32 ‖ BLAKE2b-256(SCALE(message)))      head of an empty chain: 32 zero bytes
//
// where SCALE(message) has the message's length in front. [Since] returns the messages after a head that the reader
// remembers, and so proves that none is missing.
//
// # Layouts and units
//
// Balances are in the chain's smallest unit, times are UTC, commissions are parts per billion. Layouts are those of
// the runtimes since 2023 named at each method; a runtime upgrade that changes one makes the read fail, not lie.
package reads
