package rpc_test

import (
	"context"
	"fmt"

	"github.com/phala-go/phala/client/rpc"
)

// A node's newest block. Nothing of it is believed: package lightclient/comet verifies it.
func Example() {
	ctx := context.Background()
	node := rpc.New("http://127.0.0.1:26657")
	st, err := node.Status(ctx)
	if err != nil {
		fmt.Println(err) // rpc.ErrUnreachable: no answer, or not one of a node
		return
	}
	b, err := node.LightBlock(ctx, st.Height)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(st.Chain, b.Header.Height, len(b.Validators.Validators), "validators")
}
