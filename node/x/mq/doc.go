// Package mq is the chain's message queue: the canonical, encrypted order of what
// enclaves are told, and the outbox through which they answer.
//
// A topic is a list of messages. The committed state holds one record for each
// topic, {seq, head}, where each message is folded into the head:
//
//	head' = SHA-256(transcript "phala/inbox/v1": topic, seq, head, SHA-256(message))
//
// A proof of that record in the app hash therefore proves every message up to seq,
// their order, and that none is missing. Modules append while a block executes, to a
// transient store; EndBlock folds, so a topic's record is written once in a block.
// The bodies go to a side database ([Bodies]).
//
// A worker's outbox is a numbered list of entries that its IdentityKey signed.
// Anyone may submit a contiguous run of it; entries that the chain has are skipped,
// so two relayers do not disturb each other. A run that brings something new is
// carried without a fee, up to [FreeEntries] in a block; a run that brings nothing
// is refused before it reaches a block.
package mq
