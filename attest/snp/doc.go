// Package snp verifies AMD SEV-SNP attestation reports.
//
// It is the AMD part of package attest, which most callers want instead. Input:
// a report in canonical form ([Canonical]), the VCEK, a [Collateral] (ASK and, if
// there is one, the ARK's revocation list), pinned roots and a time. Output: a
// [Result], or a refusal of package fault. Nothing is read from a clock, a file or
// the network.
//
// Sources: AMD SEV Secure Nested Paging Firmware ABI Specification
// (ATTESTATION_REPORT, TCB_VERSION, guest policy); AMD Versioned Chip Endorsement
// Key Certificate and KDS Interface Specification (the VCEK's extensions).
//
// AMD signs no list of TCB levels: which versions are good enough is for the
// caller to say, on [Result.Reported]. A list of revoked ASKs exists, so
// [Result.RevocationChecked] tells whether one was at hand.
package snp
