package verify_test

import (
	"context"
	"fmt"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/verify"
	"github.com/phala-go/phala/proto"
)

// A contract, from the validators' signatures to the code in each of its enclaves.
func Example() {
	c := client.Open(client.Network{Chain: "phala-1", Node: "http://127.0.0.1:26657", RootHeight: 1}, nil)
	r := verify.Contract(context.Background(), c, proto.ContractID{}, verify.Options{})
	for _, l := range r.Links {
		fmt.Println(l.OK, l.Name, l.Detail)
	}
	if r.OK && r.Simulated {
		fmt.Println("nothing is protected: the TEEs are simulated")
	}
}
