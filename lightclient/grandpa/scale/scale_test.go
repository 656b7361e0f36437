package scale

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"math/rand"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Values and encodings from the SCALE chapter of the Polkadot specification and the mode boundaries.
func TestCompactGolden(t *testing.T) {
	for _, c := range []struct {
		v   string
		enc string
	}{
		{"0", "00"},
		{"1", "04"},
		{"42", "a8"},
		{"63", "fc"},
		{"64", "0101"},
		{"69", "1501"},
		{"16383", "fdff"},
		{"16384", "02000100"},
		{"65535", "feff0300"},
		{"1073741823", "feffffff"},
		{"1073741824", "0300000040"},
		{"4294967295", "03ffffffff"},
		{"4294967296", "070000000001"},
		{"100000000000000", "0b00407a10f35a"},
		{"18446744073709551615", "13ffffffffffffffff"},
		{"18446744073709551616", "17000000000000000001"},
		{"340282366920938463463374607431768211455", "33ffffffffffffffffffffffffffffffff"},
	} {
		want, _ := new(big.Int).SetString(c.v, 10)
		enc := unhex(t, c.enc)
		d := NewDecoder(enc)
		got := d.CompactU128("v")
		if err := d.Finish(); err != nil || got.Big().Cmp(want) != 0 {
			t.Errorf("decode %s = %s, %v; want %s", c.enc, got, err, c.v)
		}
		if back := AppendCompactU128(nil, got); !bytes.Equal(back, enc) {
			t.Errorf("encode %s = %x, want %s", c.v, back, c.enc)
		}
	}
}

func TestRefused(t *testing.T) {
	compact := func(d *Decoder) { d.Compact("x") }
	for _, c := range []struct {
		name string
		enc  string
		read func(*Decoder)
		kind Kind
	}{
		{"empty compact", "", compact, ErrShort},
		{"two-byte mode cut", "01", compact, ErrShort},
		{"four-byte mode cut", "020001", compact, ErrShort},
		{"big mode cut", "03000000", compact, ErrShort},
		{"zero in two bytes", "0100", compact, ErrNonCanonical},
		{"63 in two bytes", "fd00", compact, ErrNonCanonical},
		{"63 in four bytes", "fe000000", compact, ErrNonCanonical},
		{"16383 in four bytes", "feff0000", compact, ErrNonCanonical},
		{"2^30-1 in big mode", "03ffffff3f", compact, ErrNonCanonical},
		{"leading zero in big mode", "07ffffffff00", compact, ErrNonCanonical},
		{"2^64 as u64", "17000000000000000001", compact, ErrTooLarge},
		{"17 bytes", "37" + "ffffffffffffffffffffffffffffffffff", compact, ErrTooLarge},
		{"2^32 as u32", "070000000001", func(d *Decoder) { d.Compact32("x") }, ErrTooLarge},
		{"bool 2", "02", func(d *Decoder) { d.Bool("x") }, ErrTag},
		{"option 0xff", "ff", func(d *Decoder) { d.Option("x") }, ErrTag},
		{"u8 cut", "", func(d *Decoder) { d.U8("x") }, ErrShort},
		{"u32 cut", "010203", func(d *Decoder) { d.U32("x") }, ErrShort},
		{"u64 cut", "01020304050607", func(d *Decoder) { d.U64("x") }, ErrShort},
		{"u128 cut", "0102", func(d *Decoder) { d.U128("x") }, ErrShort},
		{"negative raw", "00", func(d *Decoder) { d.Raw(-1, "x") }, ErrShort},
		{"bytes longer than input", "1061", func(d *Decoder) { d.Bytes(100, "x") }, ErrShort},
		{"bytes above limit", "0c616263", func(d *Decoder) { d.Bytes(2, "x") }, ErrTooLarge},
		{"vec of 2^30 elements", "0300000040", func(d *Decoder) { d.Len(1, 1<<31, "x") }, ErrShort},
		{"vec of 2^63 elements", "130000000000000080", func(d *Decoder) { d.Len(132, 1<<40, "x") }, ErrTooLarge},
		{"two elements of 4 in 7 bytes", "0801020304050607", func(d *Decoder) { d.Len(4, 9, "x") }, ErrShort},
		{"negative limit", "00", func(d *Decoder) { d.Len(1, -1, "x") }, ErrTooLarge},
		{"trailing", "0400", compact, ErrTrailing},
	} {
		d := NewDecoder(unhex(t, c.enc))
		c.read(d)
		if err := d.Finish(); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.kind)
		}
	}
}

func TestFields(t *testing.T) {
	d := NewDecoder(unhex(t, "07"+"01020304"+"0102030405060708"+"01000000000000000200000000000000"+"00"+"01"+"0c616263"+"08aabb"))
	if v := d.U8("u8"); v != 7 {
		t.Error("u8", v)
	}
	if v := d.U32("u32"); v != 0x04030201 {
		t.Errorf("u32 %x", v)
	}
	if v := d.U64("u64"); v != 0x0807060504030201 {
		t.Errorf("u64 %x", v)
	}
	if v := d.U128("u128"); v != (U128{Lo: 1, Hi: 2}) || v.String() != "36893488147419103233" {
		t.Error("u128", v)
	}
	if d.Bool("b") || !d.Option("o") {
		t.Error("bool or option")
	}
	mark := d.Offset()
	if v := d.Bytes(3, "bytes"); string(v) != "abc" {
		t.Errorf("bytes %q", v)
	}
	if v := d.Since(mark); !bytes.Equal(v, []byte("\x0cabc")) {
		t.Errorf("since %x", v)
	}
	if n := d.Len(1, 2, "vec"); n != 2 || d.Remaining() != 2 {
		t.Error("len", n, d.Remaining())
	}
	if v := d.Raw(2, "raw"); !bytes.Equal(v, []byte{0xaa, 0xbb}) {
		t.Errorf("raw %x", v)
	}
	if err := d.Finish(); err != nil {
		t.Error(err)
	}
	if b := AppendU128(nil, U128{Lo: 1, Hi: 2}); !bytes.Equal(b, unhex(t, "01000000000000000200000000000000")) {
		t.Errorf("AppendU128 %x", b)
	}
	if b := AppendBool(AppendBool(nil, true), false); !bytes.Equal(b, []byte{1, 0}) {
		t.Errorf("AppendBool %x", b)
	}
}

// After a failure nothing is read any more and the first failure stays.
func TestSticky(t *testing.T) {
	d := NewDecoder([]byte{2, 1, 1, 1, 1, 1, 1, 1, 1, 1})
	d.Bool("first")
	if d.U8("a") != 0 || d.U32("b") != 0 || d.U64("c") != 0 || d.Compact("d") != 0 || d.Len(1, 9, "e") != 0 ||
		d.Bytes(9, "f") != nil || d.Raw(1, "g") != nil || d.Remaining() != 0 || d.Since(0) != nil {
		t.Error("a failed decoder returned data")
	}
	var e *Error
	if !errors.As(d.Finish(), &e) || e.What != "first" || e.Offset != 0 {
		t.Errorf("first failure lost: %v", d.Err())
	}
}

// Any value survives encoding and decoding; any accepted encoding is the one that the encoder writes.
func TestCompactRoundTrip(t *testing.T) {
	const seed = 6
	r := rand.New(rand.NewSource(seed))
	for i := range 20_000 {
		v := U128{Hi: r.Uint64(), Lo: r.Uint64()}
		switch shift := uint(r.Intn(128)); {
		case shift >= 64:
			v = U128{Lo: v.Hi >> (shift - 64)}
		default:
			v.Hi >>= shift
		}
		d := NewDecoder(AppendCompactU128(nil, v))
		if got := d.CompactU128("v"); got != v || d.Finish() != nil {
			t.Fatalf("seed %d, step %d: %v became %v, %v", seed, i, v, got, d.Err())
		}
	}
}

func FuzzCompact(f *testing.F) {
	for _, s := range []string{"00", "fc", "0101", "02000100", "0300000040", "13ffffffffffffffff", "0100", "37"} {
		b, _ := hex.DecodeString(s)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d := NewDecoder(in)
		v := d.CompactU128("v")
		if d.Finish() == nil && !bytes.Equal(AppendCompactU128(nil, v), in) {
			t.Errorf("%x accepted as %v, which encodes as %x", in, v, AppendCompactU128(nil, v))
		}
	})
}
