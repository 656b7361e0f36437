package snp_test

import (
	"fmt"
	"time"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/snp"
)

// A report is verified with the certificate of its chip and what AMD publishes about the
// product, under roots of one's own, at a given moment.
func Example() {
	var report, vcek []byte         // from the guest
	collateral := &snp.Collateral{} // from AMD's service, by whatever way
	var roots []*snp.Root           // compiled in
	result, err := snp.Verify(report, vcek, collateral, roots, time.Now())
	if err != nil {
		fmt.Println("refused:", fault.CodeOf(err) != "")
		return
	}
	fmt.Println(result.Product, result.Reported, result.Expiry)
	// Output: refused: true
}
