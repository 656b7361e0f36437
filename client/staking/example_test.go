package staking_test

import (
	"context"
	"fmt"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/staking"
	"github.com/phala-go/phala/npos"
)

// Who would be elected now.
func Example() {
	c := &staking.Client{Node: rpc.New("http://127.0.0.1:26657")}
	s, rounds, err := c.Election(context.Background(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	in, err := s.Instance()
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := npos.SeqPhragmen(in, s.Seats, npos.Balancing{Iterations: rounds})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range r.Winners {
		fmt.Println(s.Candidates[w.Candidate], w.Backing)
	}
}
