// Package devnet runs the whole network on one machine: real processes, production
// code paths, a simulated TEE. It is what "phala devnet" does, and what the tests of
// the programs start: with several validators, whose keys they have, with components
// that they end, kill, restart and copy.
//
// A devnet lives in a folder: the chain, the enclaves' sealed files, logs, the chosen
// ports. Starting again continues, at other ports where somebody took them meanwhile; a
// folder that was made by another build of the enclave is refused, because sealed files
// open only for the code that sealed them, and so is one in which a devnet runs.
package devnet
