package wire_test

import (
	"errors"
	"fmt"

	"github.com/phala-go/phala/proto/wire"
)

// A value has one encoding, and a decoder takes no other: Close refuses what is left over.
func Example() {
	b := new(wire.Writer).U32(7).String("hello").Count(2).U8(1).U8(2).Bytes()
	fmt.Printf("%x\n", b)

	r := wire.NewReader(b)
	id, name := r.U32(), r.String(16)
	var list []uint8
	for range r.Count(8, 1) { // at most eight, of at least one byte each
		list = append(list, r.U8())
	}
	fmt.Println(id, name, list, r.Close())

	r = wire.NewReader(b)
	r.U32()
	fmt.Println(r.String(3) == "", r.Err() != nil)
	r = wire.NewReader(b[:2])
	r.U32()
	fmt.Println(errors.Is(r.Close(), wire.ErrShort))
	// Output:
	// 000000070000000568656c6c6f000000020102
	// 7 hello [1 2] <nil>
	// true true
	// true
}
