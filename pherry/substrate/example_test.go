package substrate_test

import (
	"context"
	"fmt"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/pherry/substrate"
	"github.com/phala-go/phala/pherry/substrate/substratetest"
)

// A relayer fetches what a light client needs; the light client decides.
func Example() {
	node := substratetest.New(grandpatest.NewNetwork(grandpatest.Options{Seed: 3, Voters: 4})) // stands for a real node
	defer node.Close()
	state, err := grandpa.NewState(node.Network.Checkpoint(), grandpatest.Params())
	if err != nil {
		panic(err)
	}
	node.RunRound()

	client, err := substrate.New(node.WS(), substrate.Options{})
	if err != nil {
		panic(err)
	}
	defer client.Close()
	update, err := client.NextUpdate(context.Background(), state)
	if err != nil {
		panic(err)
	}
	state, err = state.Apply(update, node.Network.Now())
	fmt.Println(state.Block == node.Network.Finalized.ID, err)
	// Output: true <nil>
}
