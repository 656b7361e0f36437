// Package api is a pruntime's HTTP API: a public port for clients and a private one
// for the relayer and the operator. Control messages are JSON; blocks, messages and
// envelopes are the protocol's binary encodings.
//
// Public:
//
//	GET  /v1/info          what the enclave says about itself (JSON, pruntime.Status)
//	POST /v1/query         a sealed query in, a sealed answer out (binary)
//	GET  /v1/certificate   who the enclave is, with evidence (DER, package ratls)
//	GET  /v1/conflict      two valid headers for one height, where they stopped it (JSON)
//
// Private, on top of these:
//
//	GET  /v1/status        the same as /v1/info
//	POST /v1/trust-header  the header of the trust root (binary)
//	POST /v1/advance       light blocks, proofs, messages (binary)
//	POST /v1/messages      the past of topics that join (binary, an advance's messages)
//	POST /v1/headers       light blocks on the way to one (binary, an advance without topics)
//	GET  /v1/registration  what the operator submits (JSON)
//	GET  /v1/outbox        signed entries that the chain does not have (JSON)
//	POST /v1/acknowledge   the outbox's position on the chain with its proof (JSON)
//	POST /v1/blocks        proofs of blocks that a gatekeeper asks for (JSON)
//	PUT  /v1/code/{hash}   a contract's module (binary)
//	PUT  /v1/state         the snapshot that a joining worker asks for (binary)
//	PUT  /v1/state/{index} one piece of it (binary)
//	GET  /metrics          Prometheus
//	GET  /healthz, /readyz
//
// An error is {"error": {"code", "message"}}: the code is stable, the message says
// what happened to what and what to do next. Whoever reaches the private port can make
// the enclave wait; it can not make it lie.
package api
