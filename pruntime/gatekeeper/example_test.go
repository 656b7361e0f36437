package gatekeeper_test

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/gatekeeper"
)

// The first gatekeeper makes the master key and publishes it; from when the chain says that
// it is the network's, it releases keys.
func Example() {
	secret, err := dprf.Generate(rand.Reader)
	if err != nil {
		fmt.Println(err)
		return
	}
	var sent []proto.Entry
	g := gatekeeper.New(gatekeeper.Config{Chain: "phala-1", RNG: rand.Reader, Send: func(e proto.Entry) { sent = append(sent, e) }}, nil)
	g.Adopt(secret)
	if err := g.Launch(); err != nil {
		fmt.Println(err)
		return
	}
	publish := sent[0].(proto.PublishMasterKey)
	fmt.Println(g.Active())
	g.Handle(proto.MasterKeySet(publish), 5, time.Unix(1_700_000_000, 0))
	fmt.Println(g.Active(), g.Master() == publish.Public)
	// Output:
	// false
	// true true
}
