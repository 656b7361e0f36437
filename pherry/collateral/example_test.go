package collateral_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/pherry/collateral"
)

// One round for a worker whose evidence is at hand. pherry does it every six hours.
func Example() {
	node := rpc.New("http://127.0.0.1:26657")
	source, err := pcs.New(pcs.Options{Roots: attest.ProductionRoots()})
	if err != nil {
		fmt.Println(err)
		return
	}
	var evidence attest.Evidence
	k := &collateral.Keeper{
		Chain: &collateral.Registry{Node: node, Operator: &tx.Sender{Node: node, Chain: "phala-1"}}, Source: source, Roots: attest.ProductionRoots(), Now: time.Now, Log: slog.Default(),
		Workers: func(context.Context) ([]collateral.Worker, error) {
			return []collateral.Worker{{Name: "mine", Evidence: evidence}}, nil
		},
	}
	for _, w := range k.Round(context.Background()).Warnings {
		fmt.Println(w)
	}
}
