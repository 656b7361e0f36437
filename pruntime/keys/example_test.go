package keys_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/phala-go/phala/pruntime/keys"
)

// A sealed file opens for the enclave that wrote it, under its own name, unchanged.
func Example() {
	dir, err := os.MkdirTemp("", "keys-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	sealing, network := [32]byte{1}, []byte("chain and trust root") // from the TEE; from the settings
	s, err := keys.Open(dir, sealing, network, rand.Reader)
	if err == nil {
		err = s.Put("identity", []byte("seed"))
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := s.Get("identity")
	fmt.Printf("%s %v\n", b, err)

	other, err := keys.Open(dir, [32]byte{2}, network, rand.Reader)
	if err == nil {
		_, err = other.Get("identity")
	}
	fmt.Println("another enclave:", errors.Is(err, keys.ErrSealed))
	err = os.Rename(filepath.Join(dir, "identity"), filepath.Join(dir, "master-share"))
	if err == nil {
		_, err = s.Get("master-share")
	}
	fmt.Println("under another name:", errors.Is(err, keys.ErrSealed))
	// Output:
	// seed <nil>
	// another enclave: true
	// under another name: true
}
