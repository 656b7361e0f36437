package commkey_test

import (
	"crypto/rand"
	"fmt"

	"github.com/phala-go/phala/crypto/commkey"
)

// Two parties derive one key; the direction makes another.
func Example() {
	client, _ := commkey.Generate(rand.Reader)
	worker, _ := commkey.Generate(rand.Reader)
	label := commkey.Label{Purpose: "query", Chain: "phala-1", Direction: commkey.Request}
	a, _ := client.AsInitiator(worker.Public(), label)
	b, _ := worker.AsResponder(client.Public(), label)
	label.Direction = commkey.Reply
	c, _ := worker.AsResponder(client.Public(), label)
	fmt.Println(a == b, a == c)
	// Output: true false
}
