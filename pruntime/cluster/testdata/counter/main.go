// Counter is the contract of the benchmarks: the one that phala new makes.
package main

import "github.com/phala-go/phala/contract"

// Counter keeps a number that only its owner may see.
type Counter struct {
	Owner contract.Value[contract.Account]
	Total contract.Value[uint64]
}

// Init makes the deployer the owner.
func (c *Counter) Init(ctx *contract.Command) error {
	c.Owner.Set(ctx.Caller())
	return nil
}

// Add adds n. Anyone may.
func (c *Counter) Add(ctx *contract.Command, n uint64) error {
	c.Total.Set(c.Total.Get() + n)
	return nil
}

// Current returns the total. Only the owner may ask.
func (c *Counter) Current(ctx *contract.Query) (uint64, error) {
	if err := ctx.RequireOwner(c.Owner.Get()); err != nil {
		return 0, err
	}
	return c.Total.Get(), nil
}

func init() { contract.Register(&Counter{}) }

func main() {}
