package transcript_test

import (
	"fmt"

	"github.com/phala-go/phala/crypto/transcript"
)

// What is signed names its purpose, and no two lists of fields give the same bytes.
func Example() {
	fmt.Printf("%q\n", transcript.Bytes("example/v1", []byte("ab"), []byte("c")))
	fmt.Printf("%q\n", transcript.Bytes("example/v1", []byte("a"), []byte("bc")))
	fmt.Println(transcript.Hash("example/v1", transcript.U64(7)) == transcript.Hash("example/v2", transcript.U64(7)))
	// Output:
	// "\x00\x00\x00\nexample/v1\x00\x00\x00\x02ab\x00\x00\x00\x01c"
	// "\x00\x00\x00\nexample/v1\x00\x00\x00\x01a\x00\x00\x00\x02bc"
	// false
}
