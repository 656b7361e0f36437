// Package measure computes what an allow-list names for a build, before any machine runs
// it: the digest over the measured properties, attest.MeasurementDigest.
//
// What a processor measures of software is fixed by its build and by how it is started.
// Three sources are read:
//
//   - [SGX]: the signature structure (SIGSTRUCT) that gramine-sgx-sign writes, which holds
//     MRENCLAVE and everything else of an enclave's identity
//   - [TDX]: the registers of a dstack image, with the run-time register replayed from an
//     event log ([Replay])
//   - [SNP]: the launch digest that a calculator like sev-snp-measure gives, with what the
//     launch fixes besides
//
// All functions are pure. What the verifier finds on hardware must be the same; a
// property that only the machine decides is refused here, because an allow-list could
// not name it.
package measure
