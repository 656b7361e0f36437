package mtreap_test

import (
	"fmt"

	"github.com/phala-go/phala/pruntime/cluster/mtreap"
)

// Equal contents have equal roots, in whatever order they were written; older versions stay
// as they were.
func Example() {
	key := [32]byte{1} // secret: without it a root says nothing about the contents
	empty := mtreap.New(key)
	a := empty.Set([]byte("x"), []byte("1")).Set([]byte("y"), []byte("2"))
	b := empty.Set([]byte("y"), []byte("0")).Set([]byte("x"), []byte("1")).Set([]byte("y"), []byte("2"))
	fmt.Println(a.Root() == b.Root(), a.Root() == empty.Root(), empty.Len())
	a.Each(func(k, v []byte) bool {
		fmt.Printf("%s=%s\n", k, v)
		return true
	})
	// Output:
	// true false 0
	// x=1
	// y=2
}
