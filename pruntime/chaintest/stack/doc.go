// Package stack runs enclaves behind their real HTTP API, with real relayers, on a chain
// in memory: everything between a client and a contract but the node's process. It is the
// one place besides tee-simulator that imports the issuer of simulated evidence, so nothing
// but tests may import it, which a test of package attest holds the repository to.
package stack
