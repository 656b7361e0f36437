package pcs_test

import (
	"context"
	"fmt"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/pcs"
)

// A PCCS of one's own, under the vendors' roots.
func Example() {
	c, err := pcs.New(pcs.Options{Intel: "https://pccs.example:8081", Roots: attest.ProductionRoots()})
	if err != nil {
		fmt.Println(err)
		return
	}
	collateral, info, err := c.Collateral(context.Background(), "tdx/b0c06f000000/platform")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(collateral.Marshal()), "bytes until", info.Expiry)
}
