package envelope_test

import (
	"crypto/rand"
	"fmt"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
)

func Example() {
	worker, _ := commkey.Generate(rand.Reader) // the worker's EcdhKey
	fresh, _ := commkey.Generate(rand.Reader)  // made by the client for this message

	ctx := envelope.Context{Purpose: "query", Chain: "phala-1", Epoch: 3}
	env, err := envelope.Seal(rand.Reader, ctx, fresh, worker.Public(), []byte("what is my balance?"))
	if err != nil {
		fmt.Println(err)
		return
	}
	question, from, err := envelope.Open(ctx, worker, env)
	fmt.Println(string(question), err)

	reply, _ := envelope.SealReply(rand.Reader, ctx, worker, from, []byte("42 PHA"))
	answer, err := envelope.OpenReply(ctx, fresh, worker.Public(), reply)
	fmt.Println(string(answer), err)
	// Output:
	// what is my balance? <nil>
	// 42 PHA <nil>
}
