package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/pruntime/fetch"
)

// A contract's request does not reach the operator's own network.
func Example() {
	c, err := fetch.New(fetch.Options{Now: time.Now}) // a worker's: the newest verified header's time
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = c.Fetch(context.Background(), [32]byte{1}, []byte("GET http://127.0.0.1:8000/v1/status\n\n"))
	fmt.Println(errors.Is(err, fetch.ErrPrivate))
	// Output: true
}
