// Package grandpa is a light client for the finality of Substrate chains such as Polkadot, Kusama, Westend and, read
// through them, their parachains. Given a checkpoint that one trusts, it verifies that blocks are final, trusting no
// relayer, node or RPC service. It is pure: no I/O, no clock, no randomness, no goroutines; time is an argument.
//
// # Trust
//
// A [Checkpoint] is a finalized header with the [AuthoritySet] that finalizes what follows, in the form in which chain
// specifications carry it (lightSyncState). [NewState] turns it into a [State], which [State.Apply] advances by an
// [Update]: the headers after the trusted block without a gap, and the [Justification] of the last. [State.ApplyWarp]
// advances it by a [WarpProof], which holds the last block of each authority set only. Both return a new state or an
// error and leave the old one as it is. [State.Append] and [DecodeState] are its sealed form.
//
// The state root of the trusted block opens the chain's state: package trie checks read proofs against it, package
// storage makes the keys and package reads the typed reads.
//
// # What a justification must show
//
// [Justification.Verify] lists the rules. They are those of GRANDPA (Stewart and Kokoris-Kogias, "GRANDPA: a
// Byzantine Finality Gadget") as Substrate encodes them (Polkadot specification, chapter "Finality"),
// tightened: one vote per authority, no unknown voters, exact ancestry. A justification is accepted only if full
// nodes accept it; those with equivocations need [Justification.Trim] first.
//
// A precommit is the ed25519 signature, by the rules of ZIP-215, of
//
//	0x01 ‖ target hash [32] ‖ target number u32 ‖ round u64 ‖ set id u64      (53 bytes)
//
// Block hashes are BLAKE2b-256 of the SCALE-encoded header. Integers are little-endian, block numbers 32 bits wide.
//
// # Authority sets
//
// A header announces the next authorities in a digest log of engine FRNK. With delay d, announced in block N, the
// change is enacted when block N+d is finalized by the old set; the set id, part of every signed vote, then grows by
// one even if the list stays the same. Every header of an update is searched for such logs.
//
// Some events break the chain of trust for good: a forced change (authorities replaced without finality), a pause
// or resume of GRANDPA, a GRANDPA log this client does not know, two changes at once, and a state older than the
// trusting period. Their errors match [ErrNewCheckpoint]. They are reported only for headers that the trusted set
// has finalized.
//
// # Time
//
// GRANDPA has no clock. The time of a block is its BABE or Aura slot times the slot duration. [State.CheckTrust]
// bounds how old a state may be and still be advanced (weak subjectivity), [State.CheckFresh] how old it may be and
// still be acted upon; [Params] has the limits. Slots must increase from block to block and not lie ahead of the
// given time.
//
// # Errors
//
// Every error is an [*Error] whose [Kind] errors.Is finds; malformed encodings carry a scale.Kind too.
//
// # Limits
//
// The Max constants bound every list before anything is allocated. Verifying n votes with m ancestry headers takes
// time linear in n + m; 401 votes take about 4 ms on one core.
package grandpa
