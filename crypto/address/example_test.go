package address_test

import (
	"fmt"

	"github.com/phala-go/phala/crypto/address"
)

// One account in both forms.
func Example() {
	account, err := address.Parse("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY")
	if err != nil {
		fmt.Println(err)
		return
	}
	text, _ := address.Bech32(address.HRP, account)
	fmt.Println(text)
	// Output: phala16s6e83c4lhf3ccg5r27sf2vl66pzep2cs4xvmcu626zw0ftd5f7sqyvhd0
}
