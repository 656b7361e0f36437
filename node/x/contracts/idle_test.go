package contracts

import (
	"fmt"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
)

// BenchmarkIdle is the end of a block in which no cluster has anything to do, with 10,000
// clusters that wait for seats, and workers that all have one.
func BenchmarkIdle(b *testing.B) {
	for _, workers := range []int{0, 100, 1000} {
		b.Run(fmt.Sprint(workers, "-workers"), func(b *testing.B) {
			e := newEnv(b)
			var txs []func(sdk.Context) error
			for n := range workers {
				txs = append(txs, e.register(n+1))
			}
			for n := 0; n < workers; n += 25 {
				txs = append(txs, e.create(1, 25, true))
			}
			e.Block(txs...)
			e.Block()
			txs = nil
			for range 10_000 {
				txs = append(txs, e.create(1, 1, true))
			}
			e.Block(txs...)
			e.Start()
			for b.Loop() {
				if err := e.k.EndBlock(e.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
