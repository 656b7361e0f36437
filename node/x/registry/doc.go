// Package registry says which enclaves belong to the network and which of them may
// be used now.
//
// An operator registers a worker or gatekeeper with evidence: an attestation whose
// report data binds chain, trust root, IdentityKey, session EcdhKey, operator, role
// and a recent block. Every validator verifies it at block time with the roots that
// genesis fixed and reaches the same verdict. The evidence goes on to the gatekeeper
// topic, where gatekeepers verify it again with their own roots before they release
// a key.
//
// [Keeper.Serving] is the one function that says whether a worker is serving; every
// module and client asks it.
package registry
