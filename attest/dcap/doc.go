// Package dcap verifies Intel SGX and TDX quotes by Intel's data center
// attestation primitives.
//
// It is the Intel part of package attest, which most callers want instead. Input:
// a quote in canonical form ([Canonical]), a [Collateral], a pinned [Root] and a time.
// Output: a [Result], or a refusal of package fault. Nothing is read from a
// clock, a file or the network.
//
// Sources of the formats and rules: Intel SGX ECDSA Quote Library Reference for
// DCAP, appendix A (quote version 3); Intel TDX DCAP Quoting Library API, appendix
// A (versions 4 and 5); Intel SGX PCK Certificate and CRL Profile
// Specification; Intel's provisioning certification service, interface version
// 4 (TCB info version 3, enclave identity version 2, and the algorithm of TCB
// levels); Intel TDX Module 1.5 ABI (attributes).
//
// # Choices
//
// The quote's root certificate must equal the pinned one byte for byte, and its PCK CA
// the collateral's in all that is signed: nothing self-signed is ever parsed for trust,
// and a verification takes nine P-256 signatures.
//
// Intel's JSON is checked by signature first and read second, by a parser that
// refuses repeated and unknown members, escapes, fractions and null. If Intel
// adds a member, evidence with the new document is refused until the software
// knows what the member restricts; collateral that is still valid goes on.
//
// Of TCB levels the first in the signed order counts that the platform
// reaches. [Converge] gives a platform of several parts the needs of all of
// them.
package dcap
