// Another contract for the tests of package contracttest: one that is called.
package main

import (
	"fmt"

	"github.com/phala-go/phala/contract"
)

// Other is the contract.
type Other struct {
	Count contract.Value[uint64]
	Last  contract.Value[contract.Account]
}

// Add adds and refuses large numbers after having added them.
func (o *Other) Add(ctx *contract.Command, n uint64) (uint64, error) {
	o.Count.Set(o.Count.Get() + n)
	o.Last.Set(ctx.Caller())
	contract.Emit(ctx, Added{n})
	if n > 1000 {
		return 0, contract.Errorf(107, "%d is too much", n)
	}
	return o.Count.Get(), nil
}

// Added is an event.
type Added struct{ N uint64 }

// Total returns the sum and who added last.
func (o *Other) Total(ctx *contract.Query) (string, error) {
	return fmt.Sprint(o.Count.Get(), " ", o.Last.Get()), nil
}

// Back calls its caller back.
func (o *Other) Back(ctx *contract.Command, method string) (string, error) {
	o.Count.Set(o.Count.Get() + 1)
	return contract.Call[string](ctx, contract.ID([]byte(ctx.Caller())), method, nil)
}

// Burn uses up its gas.
func (o *Other) Burn(ctx *contract.Command) error {
	for {
		o.Count.Set(1)
	}
}

func init() { contract.Register(&Other{}) }

func main() {}
