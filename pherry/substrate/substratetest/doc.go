// Package substratetest is a JSON-RPC server over a synthetic network (package grandpatest) that answers as a
// Substrate node does: same methods, shapes and error codes, over HTTP and WebSocket. It is for tests only. It can also
// misbehave on demand.
package substratetest
