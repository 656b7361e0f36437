package dprf_test

import (
	"crypto/rand"
	"fmt"

	"github.com/phala-go/phala/crypto/dprf"
)

// Two of three holders evaluate the function together.
func Example() {
	secret, _ := dprf.Generate(rand.Reader)
	shares, _ := secret.Split(rand.Reader, 2, 3)
	var partials []dprf.Partial
	for _, i := range []uint32{1, 3} {
		s := shares[i-1]
		p, proof, _ := s.Evaluate(rand.Reader, "traffic/cluster/1/epoch/1")
		if err := dprf.Verify(s.Public(), "traffic/cluster/1/epoch/1", p, proof); err != nil {
			fmt.Println(err)
			return
		}
		partials = append(partials, dprf.Partial{Index: i, Point: p})
	}
	key, err := dprf.Combine("traffic/cluster/1/epoch/1", partials)
	fmt.Println(len(key), err)
	// Output: 32 <nil>
}
