// Package registry says which enclaves belong to the network and which of them may
// be used now.
//
// An operator registers a worker or gatekeeper with evidence: an attestation whose
// report data binds chain, attestation roots, trust root, IdentityKey, session EcdhKey,
// operator, role, attestation epoch, a recent block and the settings that bound its
// freshness. Every validator verifies it at block time, with the roots that genesis
// fixed and the collateral that the chain holds, and reaches the same verdict, which is
// kept (proto.Attestation). The evidence goes on to the gatekeeper topic with that
// collateral, where gatekeepers verify it again by themselves before they release a key.
//
// # Collateral
//
// Anyone brings a vendor's newer collateral with MsgUpdateCollateral; the vendor's
// signatures are what is trusted, and nothing in it may be older than what is held.
// Intel's data for a TCB recovery are signed months before they count: up to which TCB
// evaluation number they are taken is Params.TCBEvaluations. Evidence that brings its own is refused: it could be from before a revocation. When
// the vendor revised what it judges, by a TCB evaluation or by revoking another key, whoever
// was admitted before shows new evidence within RenewalBlocks.
//
// # Policy
//
// Governance says which measurements may be used in which role between which heights,
// what is denied from which height on (families, products, machines, certificates,
// advisories), how old a TCB may be, how bad a confidence level, how far an enclave's
// settings go, and whether registrations are frozen. Each rule is an entry of its own.
//
// Whatever ends an admission (policy, a revision, expiry of evidence or collateral, another
// worker on the machine) does so through one number, the height in WorkerInfo.Expires,
// which whoever reads the record with a proof sees as well. [Keeper.Serving] is the one
// function that says whether a worker is serving; every module and client goes by it or by
// that record. Of a worker that is not admitted the queue takes nothing.
//
// # Trust roots
//
// The chain keeps the header hashes of its first block and of every
// proto.TrustRootInterval blocks for ever. Light clients of enclaves may start at any of
// them, so that there is always one younger than a trusting period.
//
// # Work
//
// Verifying is bounded for a block, that of transactions that fail included
// ([Keeper.Reserve], called before they run), and paid in gas before it is done. Figures:
// go test -bench . ./x/registry.
package registry
