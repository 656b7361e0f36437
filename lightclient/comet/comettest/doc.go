// Package comettest makes synthetic CometBFT chains with Cosmos SDK state for
// tests and benchmarks of what follows such a chain: package comet, the inbox, the
// enclave runtime and the relayer.
//
// A [Chain] has validators with keys of its own, signs real commits over real
// headers, changes its validator set, forks, keeps the message queue's topics in a
// store mq and proves any key of any store against the app hash of the next header.
// The encodings are written from the CometBFT and ICS-23 specifications and share no
// code with package comet, except for the header's hash; test/oracle holds both
// against the reference implementations.
//
// Everything is a function of the configuration: two chains made with the same calls
// are equal byte for byte. There is no randomness, no clock and no I/O. Misuse
// panics: this is support for tests.
//
// A block is signed when its light block is asked for, so that a long chain costs
// one header hash per block (about 5 µs) and a signature per validator only where it
// is looked at.
package comettest
