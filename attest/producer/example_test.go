package producer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/phala-go/phala/attest/producer"
)

// A development network's worker names its simulator. One that is not there is
// an error; nothing else is tried.
func ExampleOpen() {
	_, err := producer.Open(context.Background(), "simulator:unix:/nonexistent/tee.sock", producer.Options{})
	fmt.Println(errors.Is(err, producer.ErrNoTEE))
	// Output: true
}
