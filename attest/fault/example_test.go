package fault_test

import (
	"errors"
	"fmt"

	"github.com/phala-go/phala/attest/fault"
)

// A refusal has a code that stays the same, whatever is wrapped around it.
func Example() {
	err := fault.Wrap(fault.QuoteMalformed, "signature data", errors.New("it ends after 3 bytes"))
	err = fmt.Errorf("register: %w", err)
	fmt.Println(string(fault.CodeOf(err)))
	fmt.Println(fault.CodeOf(errors.New("another error")) == "")
	// Output:
	// quote.malformed
	// true
}
