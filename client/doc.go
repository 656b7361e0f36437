// Package client is the Go SDK: it deploys and calls confidential contracts.
//
// A [Client] trusts one thing: the chain's trust root, a header hash. From there it
// verifies the newest header with its own light client and reads everything that
// matters with state proofs: which cluster a contract is in, to which key commands are
// sealed, which workers have seats, their session keys and endpoints, and the final
// receipts. The node that it asks can refuse, or be behind; it cannot lie.
//
//	c, _ := client.Open(client.Network{Chain: "phala-1", Node: "http://…", Root: root}, key)
//	res, err := c.Call(ctx, contract, "SetGreeting", "Hi", client.CallOptions{})
//
// Commands go through the chain: sealed, ordered, run by every seat of the cluster,
// answered when a majority agreed. Queries go straight to a worker. With a read grant
// ([Client.Grant]) another account queries in this one's name, until it is revoked.
package client
