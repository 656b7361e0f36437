package scale_test

import (
	"errors"
	"fmt"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

func Example() {
	in := scale.AppendCompact(nil, 1_000_000)
	in = scale.AppendBytes(in, []byte("FRNK"))
	in = scale.AppendBool(in, true)

	d := scale.NewDecoder(in)
	number := d.Compact32("block number")
	engine := d.Bytes(4, "engine")
	flag := d.Bool("flag")
	fmt.Println(number, string(engine), flag, d.Finish())

	d = scale.NewDecoder([]byte{0x01, 0x00}) // zero in the two-byte mode
	d.Compact("count")
	fmt.Println(errors.Is(d.Finish(), scale.ErrNonCanonical), d.Err())
	// Output:
	// 1000000 FRNK true <nil>
	// true scale: encoding not canonical (reading count at byte 0)
}
