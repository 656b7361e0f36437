// Package proto is the protocol: every message that crosses a trust boundary
// between clients, the chain and the enclaves, with its one binary encoding
// (package wire).
//
// There are four families.
//
//   - Inbox messages ([Message]) go from the chain to enclaves. The chain folds
//     them into the head of a topic; an enclave folds them again and compares with
//     the proven head. Their payloads are [Event]s.
//   - Outbox entries ([Entry]) go from an enclave to the chain, each signed by the
//     IdentityKey with the sender's sequence.
//   - Sealed messages ([Invocation], [Query], [Output], [Answer]) go between clients and
//     enclaves inside an envelope. A [Grant] lets one account ask in another's name.
//   - State records ([WorkerInfo], [Cluster], [Contract], …) are the values of the
//     chain's store, so that a client or an enclave reads them with a state proof.
//     A code, which is a Wasm module, is named by the hash of its [CodeManifest],
//     against which each of its chunks is checked alone.
//
// All decoders are strict: one encoding for each value, lengths bounded before
// anything is allocated, nothing behind the last field. testdata/golden.json
// freezes an example of each type; docs/protocol.md lists them field by field.
package proto
