package proto_test

import (
	"fmt"

	"github.com/phala-go/phala/proto"
)

// An enclave folds the messages of a topic and compares with the proven cursor.
func Example() {
	topic := proto.TopicCluster(1)
	message := &proto.Message{Topic: topic, Seq: 1, Height: 10, Time: 1_700_000_000_000, Sender: []byte("contracts"),
		Payload: proto.MarshalEvent(proto.EpochStarted{Cluster: 1, Epoch: 2})}
	proven := proto.CreatedCursor("phala-1", topic).Fold(message) // what the chain commits

	received, err := proto.ParseMessage(message.Marshal())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(proto.CreatedCursor("phala-1", topic).Fold(received) == proven)
	event, err := proto.ParseEvent(received.Payload)
	fmt.Printf("%T %+v %v\n", event, event, err)

	received.Height++ // edited on the way
	fmt.Println(proto.CreatedCursor("phala-1", topic).Fold(received) == proven)
	// Output:
	// true
	// proto.EpochStarted {Cluster:1 Epoch:2} <nil>
	// false
}
