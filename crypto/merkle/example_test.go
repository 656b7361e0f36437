package merkle_test

import (
	"fmt"

	"github.com/phala-go/phala/crypto/merkle"
)

func Example() {
	leaves := [][]byte{[]byte("a"), []byte("b"), []byte("c")}
	proof := merkle.Proof(leaves, 1)
	fmt.Println(merkle.Verify(merkle.Root(leaves), []byte("b"), 1, 3, proof))
	fmt.Println(merkle.Verify(merkle.Root(leaves), []byte("x"), 1, 3, proof))
	// Output:
	// true
	// false
}
