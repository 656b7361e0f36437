// Package oracle judges the light client of package comet against the reference
// implementations: CometBFT's own types and light verifier, ics23-go, and the
// Cosmos SDK's multistore over IAVL.
//
// It is a module of its own, so that nothing of what it imports can reach the
// enclave. Everything is in its tests. The random ones print their seed; set
// PHALA_LONG=1 for a longer run.
package oracle
