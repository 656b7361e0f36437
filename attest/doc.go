// Package attest decides what a worker's hardware evidence proves.
//
// [Verify] takes evidence, a network's roots and a time, and returns a
// [Verdict] or a refusal that names the failing step (package fault). It is a
// pure function: no clock, network, file, randomness or state. Every validator
// reaches the same verdict from the same bytes, in any year, and a gatekeeper
// reaches it by itself.
//
// # Evidence
//
// Three classes: Intel SGX (quotes of version 3), Intel TDX (versions 4 and 5)
// and AMD SEV-SNP (reports of version 2 to 5). An [Evidence] holds the quote or
// report in canonical form, for SNP the VCEK, and the vendor's [Collateral], which
// may instead be kept by a chain, under [Evidence.CollateralKey], and be filled in
// before verification.
//
// Canonical means that bytes which no signature covers have one accepted form:
// signatures with the low s, PEM text laid out one way, nothing after the end.
// Hardware emits either s, so whoever produces evidence passes it through
// [Canonical]; what is refused is the variation by those who carry it.
//
// # What is checked, in this order
//
// Intel (package dcap): the quote's form; the root, byte for byte; the root's
// CRL; PCK CA and its CRL; the signer and signature of TCB info, then its
// content and dates; the same of the QE identity; the PCK certificate, its
// revocation and its SGX extension; the QE's report and what it binds; the
// quote's signature; that TCB info is about this platform; the QE's identity
// and level; the TDX module's identity and level; the platform's level; the
// convergence of the three, in which the worse counts; the attributes of the
// software itself.
//
// AMD (package snp): the report's form and signer; ASK, ARK and CRL; the VCEK; the
// report's signature; that the VCEK belongs to the report's chip and TCB; the
// order of the TCB versions; the guest's policy.
//
// A revoked key, a revoked TCB, a debuggable enclave, unknown attribute bits,
// anything not valid at the given time: refused. Every other TCB status is a
// verdict: level, floor, grace and allow-list are a network's policy.
//
// # Real and simulated networks
//
// [NetworkRoots] decides from a genesis, once and for ever. Only the class
// "simulated" makes a network simulated, with roots that must say in their
// subject that they are, and that may share no key with a vendor's. Every
// other class is real and uses the vendors' roots, which are compiled in. What a
// simulated network's workers show goes through the same code and the same
// formats; its verdicts say Simulated. The issuer of simulated evidence is package
// simulator, which only the program tee-simulator, tests and one package of test helpers
// (pruntime/chaintest/stack) may import; a test holds the repository to it.
//
// # Collateral
//
// Anyone may bring newer collateral: [CheckUpdate] verifies it by the vendor's
// signatures alone and refuses one of which any part is older than what is
// held; [CheckRetraction] lets an earlier TCB recovery back in, and no older list.
// Revocation lists are ordered by number and date, because Intel's have all had the
// number 1; [CollateralInfo.Revises] tells a list that revokes more from the same signed anew.
//
// # Digests
//
// [MeasurementDigest] is what an allow-list names: SHA-256 over every measured
// property with its name, each length-prefixed. [MachineID] is the processor's
// identity, the same for SGX and TDX. Both are frozen by golden vectors.
//
// # Trusted code base
//
// The verifier links nothing but Go's standard library, of that neither net nor
// crypto/x509 nor encoding/json: 4,800 lines of its own, comments included, and
// no third-party line. google/go-sev-guest v0.15.0, which could verify SNP reports,
// would bring 44,935 lines of third-party code into the enclave (35,717 of them
// protobuf; all Go files but tests in go list -deps of its verify package), more
// than twice what is allowed beside the Wasm engine; and it goes by crypto/x509, which
// changes between Go releases what it accepts. So it, google/go-tdx-guest and
// oasis-core's pcs are judges instead, in test/attest-oracle, where each
// disagreement is written down and asserted. Those that matter: go-tdx-guest
// (at commit 91f9a52f36c7) drops the platform's status when the TDX module has one
// of its own, so that it accepts a revoked platform, and panics on a quote with a
// wrong inner length; oasis-core (v26.1) reads no revocation lists.
//
// # Cost
//
// Measured on one core of an AMD EPYC at 2 GHz: 0.5-0.6 ms for a TDX or SGX quote with
// collateral and both CRLs, 0.8 ms for an SNP report (go test -bench Verify
// ./attest/dcap ./attest/snp). Evidence for TDX with collateral has some 13 KB on a
// real platform, 5 KB without.
//
// # Limits
//
// A valid quote is necessary and never sufficient: keys that sign quotes have
// been extracted from real processors. Turin reports are tested on simulated ones
// only, since none real was at hand. VLEK-signed reports and masked chips are
// refused: they name no machine. A TD whose module was updated under it is judged by
// the version it was launched with, the older one.
package attest
