package contract_test

import (
	"fmt"

	"github.com/phala-go/phala/contract"
)

// Counter is a contract: its fields are its storage, its methods what callers may do.
type Counter struct {
	Total contract.Value[uint64]
	By    contract.Map[contract.Account, uint64]
}

// Add is a command: it may write.
func (c *Counter) Add(ctx *contract.Command, n uint64) (uint64, error) {
	if n == 0 {
		return 0, contract.Errorf(100, "add at least one")
	}
	mine, _ := c.By.Get(ctx.Caller())
	c.By.Set(ctx.Caller(), mine+n)
	c.Total.Set(c.Total.Get() + n)
	return c.Total.Get(), nil
}

// Current is a query: it reads.
func (c *Counter) Current(ctx *contract.Query) (uint64, error) { return c.Total.Get(), nil }

func Example() {
	contract.Register(&Counter{})
	for _, m := range contract.Registered().Describe().Methods {
		fmt.Println(m.Kind, m.Name)
	}
	// Output:
	// command Add
	// query Current
}
