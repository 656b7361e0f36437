package client_test

import (
	"context"
	"fmt"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// Calling a contract: the command goes through the chain, the query to a worker.
func Example() {
	key, err := identity.FromURI("//Alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	var root proto.Hash // the trust root: from whoever you trust, never from the node
	c := client.Open(client.Network{Chain: "phala-1", Node: "http://127.0.0.1:26657", RootHeight: 1, Root: root}, key)

	var hello proto.ContractID
	receipt, err := c.Call(context.Background(), hello, "SetGreeting", "Hi", client.CallOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(receipt.Status, receipt.Height)
	answer, err := c.Query(context.Background(), hello, "GetGreeting", nil, client.QueryOptions{MinHeight: receipt.Height})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(answer.Return))
}

// An auditor reads in the owner's name for a month, or until the owner ends it.
func ExampleClient_Grant() {
	ctx := context.Background()
	var network client.Network
	var alice, auditor *identity.KeyPair
	var ledger proto.ContractID

	owner, reader := client.Open(network, alice), client.Open(network, auditor)
	grant, err := owner.Grant(ctx, reader.Account(), 30*24*time.Hour, ledger)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := reader.Query(ctx, ledger, "Balance", nil, client.QueryOptions{Grant: grant})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(string(answer.Return))
	if _, err := owner.Revoke(ctx, grant, client.CallOptions{}); err != nil {
		fmt.Println(err)
	}
}
