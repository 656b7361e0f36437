// Package verify follows the chain of proof from the validators' signatures to an
// enclave's code, link by link, and stops at the first that does not hold.
//
// For a worker or gatekeeper: the chain from its trust root; the worker's registration
// and its admission, proven under the newest header; the measurement's place on the
// allow-list; the enclave's own certificate, signed by its identity (package ratls); the
// hardware's evidence in it, under the network's roots; the software that the evidence
// measures and the machine, against what was admitted and, where the verifier has built it,
// against the build; and that the key to which queries are sealed is in that enclave.
//
// For a contract: its record, the bytes of its code, its cluster, the newest final
// receipt with the signatures of the seats, and then every seat as above.
//
// Nothing here believes a node or a worker: what they give is proven, signed, hashed, or
// refused. On a simulated network every link may hold and nothing is protected; the
// [Report] says so.
package verify
