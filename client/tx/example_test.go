package tx_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
)

// A payment. What the chain refuses has a codespace and a number that stay the same.
func Example() {
	key, err := identity.FromURI("//Alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	s := &tx.Sender{Node: rpc.New("http://127.0.0.1:26657"), Chain: "phala-1", Key: key}
	from, to := key.Public(), [32]byte{1}
	res, err := s.Send(context.Background(), 100_000, tx.Send(from[:], to[:], "1000000000000"))
	var refused *tx.Refused
	switch {
	case errors.As(err, &refused):
		fmt.Println(refused.Space, refused.Code, refused.Log)
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("in block", res.Height)
	}
}
