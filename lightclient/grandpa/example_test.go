package grandpa_test

import (
	"fmt"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

// A client starts from a checkpoint and follows the chain by updates that anybody may deliver.
func Example() {
	network := grandpatest.NewNetwork(grandpatest.Options{Seed: 42, Voters: 4}) // stands for a real chain

	checkpoint, err := grandpa.ParseCheckpoint(network.Checkpoint().JSON())
	if err != nil {
		panic(err)
	}
	state, err := grandpa.NewState(checkpoint, grandpa.PolkadotParams())
	if err != nil {
		panic(err)
	}
	fmt.Println("start at", state.Block.Number, "of set", state.Set.ID())

	message := network.RunRound().Append(nil) // what a relayer sends
	update, err := grandpa.DecodeUpdate(message)
	if err != nil {
		panic(err)
	}
	state, err = state.Apply(update, network.Now())
	if err != nil {
		panic(err)
	}
	fmt.Println("final:", state.Block == network.Finalized.ID, "fresh:", state.CheckFresh(network.Now(), time.Minute) == nil)

	_, err = state.Apply(update, network.Now())
	fmt.Println("again refused:", err != nil)
	// Output:
	// start at 0 of set 0
	// final: true fresh: true
	// again refused: true
}
