// Package pruntime is the runtime inside the enclave: it follows the chain through its
// own light client, runs the contracts of its cluster or, as a gatekeeper, releases keys,
// and answers encrypted queries. A worker's keys are in another process, which it asks.
//
// A [Runtime] is driven from outside by a relayer that it does not trust (package
// pherry): light blocks and messages go in, signed outbox entries come out. Everything
// that matters is proven: headers by signatures, messages by the heads in the app hash,
// the outbox's position by a proof. A relayer can delay; it cannot change anything.
//
// Parts: keyring (secret keys, and what is done with them), keys (sealed files), inbox (what the chain said), cluster (contracts' state),
// engine (Wasm), gatekeeper (key release), api (HTTP).
package pruntime
