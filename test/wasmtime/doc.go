// Package wasmtime judges wasmprep with a second WebAssembly engine.
//
// Its tests run prepared modules (the corpus, hand-written modules and random
// ones) on wasmtime and on wazero and expect the same results, the same gas
// and the same memory. It is a module of its own because wasmtime needs cgo
// and a large prebuilt library, which the enclave's module must not see;
// without cgo its tests are skipped.
package wasmtime
