package comet_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
)

// A client that holds one trusted header follows the chain and reads its state.
func Example() {
	chain := comettest.New(comettest.Config{}) // stands in for a real one
	chain.CreateTopic(proto.TopicSystem)
	chain.Run(100)

	client := comet.NewClient(comet.Params{
		ChainID:        chain.ChainID(),
		TrustingPeriod: 14 * 24 * time.Hour,
		MaxClockDrift:  10 * time.Second,
	}, chain.Header(1), rand.Reader)

	// A relayer brings a light block. The client parses it strictly and verifies it.
	block, err := comet.ParseLightBlock(chain.Light(100).Marshal())
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(client.Advance(block, chain.Time()), client.Trusted().Height)

	// The state after block 99 is in header 100.
	value, proof := chain.Prove(99, proto.StoreMQ, proto.KeyTopic(proto.TopicSystem))
	fmt.Println(comet.VerifyExistence(client.Trusted().AppHash, proto.StoreMQ, proto.KeyTopic(proto.TopicSystem), value, proof.Marshal()))

	// What too few signed is refused, and the error says which way.
	chain.Next()
	err = client.Advance(chain.Block(101).Signed(comettest.FirstN(2)), chain.Time())
	fmt.Println(errors.Is(err, comet.ErrTooFewSigned), err)
	// Output:
	// <nil> 100
	// <nil>
	// true light client: too few validators signed: power 20 of 40 signed block 101
}
