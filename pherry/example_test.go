package pherry_test

import (
	"context"
	"log/slog"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/pherry"
)

// A relayer between a node and a pruntime. It keeps nothing: started again, it asks both
// where they are.
func Example() {
	key, err := identity.FromURI("//Operator")
	if err != nil {
		panic(err)
	}
	node := rpc.New("http://127.0.0.1:26657")
	r := &pherry.Relayer{Node: node, Runtime: pherry.NewRuntime("http://127.0.0.1:8000"),
		Operator: &tx.Sender{Node: node, Chain: "phala-1", Key: key}, Interval: 50 * time.Millisecond, Log: slog.Default()}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	r.Run(ctx) // until the context ends
}
