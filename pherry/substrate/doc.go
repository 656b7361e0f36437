// Package substrate is a JSON-RPC client for what a relayer needs from a node of a Substrate chain: headers, finality
// proofs, state read proofs and notifications of finalized blocks. It runs outside the enclave and is trusted with
// nothing: all that it fetches is verified by package lightclient/grandpa, wherever it came from.
//
// # Connections
//
// [New] takes an http, https, ws or wss address. Over HTTP each call is one POST. Over WebSocket (RFC 6455, text
// frames, no extensions) calls and subscriptions share one connection, which is made when first needed and made again
// after it broke. A call that loses its connection is sent again, a few times: all methods here only read.
//
// A [Subscription] outlives connections too: it subscribes again on the next one and marks the first event after that
// with Gap, since what happened in between is lost. Over HTTP there are no subscriptions; [Client.FollowFinalized]
// polls there.
//
// # For the light client
//
// [Client.NextUpdate] makes the update that advances a trusted state to the end of its authority set or to the newest
// justified block; [Client.CatchUp] crosses many sets at once with a warp-sync proof made from the node's stored
// justifications. [Client.ReadProof] and [Client.PrefixProof] return the nodes of read proofs.
//
// # Errors
//
// Errors match one [Kind] each: a connection that failed, an answer that breaks the protocol, an error answer of the
// node (an [*RPCError] with its code), something that the node does not have, a message beyond the limit, or a
// closed client.
package substrate
