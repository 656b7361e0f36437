package identity_test

import (
	"crypto/rand"
	"fmt"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
)

func Example() {
	alice, err := identity.FromURI("//Alice")
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := alice.Sign(rand.Reader, []byte("hello"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(identity.Verify(alice.Public(), []byte("hello"), sig[:]))
	ss58, _ := address.SS58(42, alice.Public())
	fmt.Println(ss58)
	// Output:
	// <nil>
	// 5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY
}
