package attest_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/fault"
)

// A chain's view of a registration: bytes from a transaction, collateral from
// state, the block's time.
func ExampleVerify() {
	inTransaction := shared().evidenceWithoutCollateral()
	inState := shared().collateralInState()
	blockTime := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	roots, err := attest.NetworkRoots(attest.ClassSimulated, shared().rootBytes)
	if err != nil {
		fmt.Println(err)
		return
	}

	evidence, err := attest.Parse(inTransaction)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := evidence.CollateralKey()
	if err != nil {
		fmt.Println(err)
		return
	}
	evidence.Collateral = inState[key]
	verdict, err := attest.Verify(evidence, roots, blockTime)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(key, verdict.TCBStatus, "level", verdict.ConfidenceLevel)

	_, err = attest.Verify(evidence, roots, blockTime.AddDate(0, 2, 0))
	fmt.Println(errors.Is(err, fault.CRLExpired), string(fault.CodeOf(err)))
	// Output:
	// tdx/deadbeef0001/platform UpToDate level 1
	// true crl.expired
}
