package dcap_test

import (
	"fmt"
	"time"

	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
)

// A quote is verified with what Intel publishes about its platform, under a root of one's
// own, at a given moment.
func Example() {
	var quote, root []byte           // from the enclave; compiled in
	collateral := &dcap.Collateral{} // from Intel's service, by whatever way
	r, err := dcap.NewRoot(root)
	if err != nil {
		fmt.Println("refused:", fault.CodeOf(err))
		return
	}
	result, err := dcap.Verify(quote, collateral, r, time.Now())
	if err != nil {
		fmt.Println("refused:", fault.CodeOf(err))
		return
	}
	fmt.Println(result.Status, result.Advisories, result.Expiry)
}
