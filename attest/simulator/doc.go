// Package simulator issues simulated evidence: real formats, under roots that
// were made for one network and say that they are simulated.
//
// It must never be part of a program that holds secrets. Only the program
// tee-simulator imports it, and tests; a test of package attest holds the
// repository to that.
//
// A [Network] is a PKI: an Intel-like root with PCK authority and TCB signer, and
// AMD-like ARK and ASK. A [Machine] is one processor, with an identity, certified
// keys and a secret under its sealing keys. A [Publication] is what the vendor
// would publish, before it is signed; a [Quote] or report is what the processor
// would sign. All can be changed before they are signed, which is how the
// tests of the verifiers make their negative cases.
//
// A [Store] keeps a network in a directory and may be shared by processes; a
// [Server] is one enclave on one machine, over HTTP. Collateral is issued anew
// each day and is valid for thirty.
//
// Time is an argument everywhere; keys and serial numbers are random.
package simulator
