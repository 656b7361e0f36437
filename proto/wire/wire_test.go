package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
)

func sample() []byte {
	return new(Writer).U8(1).U16(2).U32(3).U64(4).Bool(true).Blob([]byte{5, 6}).String("x").Fixed([]byte{7}).Count(1).U8(8).Bytes()
}

func TestGolden(t *testing.T) {
	const want = "01" + "0002" + "00000003" + "0000000000000004" + "01" + "000000020506" + "0000000178" + "07" + "00000001" + "08"
	if got := hex.EncodeToString(sample()); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	r := NewReader(sample())
	var fixed [1]byte
	a, b, c, d, e, f, g := r.U8(), r.U16(), r.U32(), r.U64(), r.Bool(), r.Blob(2), r.String(1)
	r.Fixed(fixed[:])
	n, h := r.Count(1, 1), r.U8()
	if err := r.Close(); err != nil || a != 1 || b != 2 || c != 3 || d != 4 || !e || !bytes.Equal(f, []byte{5, 6}) || g != "x" || fixed[0] != 7 || n != 1 || h != 8 {
		t.Fatal(a, b, c, d, e, f, g, fixed, n, h, err)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		read func(r *Reader)
		want error
	}{
		{"number cut", []byte{0, 0, 0}, func(r *Reader) { r.U32() }, ErrShort},
		{"boolean 2", []byte{2}, func(r *Reader) { r.Bool() }, ErrNotCanonical},
		{"blob longer than the input", []byte{0, 0, 0, 9, 1}, func(r *Reader) { r.Blob(100) }, ErrShort},
		{"blob above the limit", []byte{0xff, 0xff, 0xff, 0xff}, func(r *Reader) { r.Blob(100) }, ErrTooLong},
		{"count above the limit", []byte{0, 0, 1, 0}, func(r *Reader) { r.Count(255, 1) }, ErrTooLong},
		{"count that the input cannot hold", []byte{0, 0, 0, 2, 1, 2, 3}, func(r *Reader) { r.Count(255, 2) }, ErrShort},
		{"trailing byte", []byte{1, 2}, func(r *Reader) { r.U8() }, ErrTrailing},
		{"first error stays", []byte{2}, func(r *Reader) { r.Bool(); r.U64() }, ErrNotCanonical},
	} {
		r := NewReader(c.in)
		c.read(r)
		if err := r.Close(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// FuzzReader: no input panics, and no read returns more than the input holds.
func FuzzReader(f *testing.F) {
	f.Add(sample(), []byte{0, 1, 2, 3, 4, 5, 6})
	f.Fuzz(func(t *testing.T, in, ops []byte) {
		r := NewReader(in)
		total := 0
		for _, op := range ops {
			switch op % 7 {
			case 0:
				r.U8()
			case 1:
				r.U16()
			case 2:
				r.U32()
			case 3:
				r.U64()
			case 4:
				r.Bool()
			case 5:
				total += len(r.Blob(1 << 20))
			case 6:
				if n := r.Count(1<<20, 1); n > r.Left() {
					t.Fatalf("%d elements in %d bytes", n, r.Left())
				}
			}
		}
		if total > len(in) {
			t.Fatalf("%d bytes out of %d", total, len(in))
		}
	})
}
