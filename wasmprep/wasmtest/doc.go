// Package wasmtest makes WebAssembly modules for tests: by hand, at random,
// and from a corpus of compiled contracts. Nothing but tests imports it.
package wasmtest
