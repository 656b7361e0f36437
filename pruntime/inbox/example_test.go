package inbox_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// An enclave follows two topics. A relayer brings an advance; one that leaves a
// message out is refused and changes nothing.
func Example() {
	chain := comettest.New(comettest.Config{}) // stands in for a real one
	chain.CreateTopic(proto.TopicSystem)
	chain.CreateTopic(proto.TopicCluster(1))
	chain.Run(3)
	chain.Send(proto.TopicCluster(1), "alice", proto.ChallengeEchoed{})
	chain.Send(proto.TopicSystem, "gov", proto.ChallengeEchoed{})
	chain.Run(8)

	client := comet.NewClient(comet.Params{ChainID: chain.ChainID(), TrustingPeriod: time.Hour, MaxClockDrift: time.Second}, chain.Header(1), rand.Reader)
	state := inbox.New(chain.ChainID(), client)
	for _, topic := range []string{proto.TopicSystem, proto.TopicCluster(1)} {
		if err := state.Follow(topic); err != nil {
			fmt.Println(err)
		}
	}

	// The relayer's side: headers up to 8, which prove the state after block 7.
	advance := &inbox.Advance{Blocks: []*comet.LightBlock{chain.Light(8)}}
	for _, topic := range state.Topics() {
		cursor, proof := chain.Cursor(7, topic)
		at, _ := state.Cursor(topic)
		advance.Topics = append(advance.Topics, inbox.Proven{Topic: topic, Cursor: cursor, Proof: proof})
		advance.Messages = append(advance.Messages, chain.Messages(topic, at.Seq, 7)...)
	}

	less := *advance
	less.Messages = less.Messages[:1]
	_, err := state.Apply(&less, chain.Time())
	fmt.Println(errors.Is(err, inbox.ErrFold), state.Height())

	batch, err := state.Apply(advance, chain.Time())
	if err != nil {
		fmt.Println(err)
	}
	for _, item := range batch.Items {
		fmt.Printf("height %d: %s, message %d from %s\n", item.Height, item.Message.Topic, item.Message.Seq, item.Message.Sender)
	}
	fmt.Println(state.Height())
	// Output:
	// true 0
	// height 4: system, message 1 from gov
	// height 4: cluster/1, message 1 from alice
	// 7
}
