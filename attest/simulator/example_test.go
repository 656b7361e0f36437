package simulator_test

import (
	"fmt"
	"os"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
)

// A network, a machine, evidence of software on it, and the verdict.
func Example() {
	dir, err := os.MkdirTemp("", "simulated")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	store, err := simulator.Open(dir, now, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	machine, err := store.Machine("alice", now)
	if err != nil {
		fmt.Println(err)
		return
	}
	evidence, err := machine.Evidence(attest.TDX, []byte("software"), [64]byte{1})
	if err != nil {
		fmt.Println(err)
		return
	}
	if evidence.Collateral, err = store.Collateral(attest.TDX, now); err != nil {
		fmt.Println(err)
		return
	}
	verdict, err := attest.Verify(evidence, store.Roots, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, onRealNetwork := attest.Verify(evidence, attest.ProductionRoots(), now)
	fmt.Println(verdict.TEE, verdict.TCBStatus, verdict.Simulated)
	fmt.Println(onRealNetwork)
	// Output:
	// tdx UpToDate true
	// attestation refused: pck.root: the quote's chain ends in another root than the pinned one
}
