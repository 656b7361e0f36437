package scale

import (
	"encoding/binary"
	"fmt"
)

// Kind classifies a decoding failure. It is itself an error, so that errors.Is(err, scale.ErrShort) works on any
// error of this package.
type Kind string

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return "scale: " + string(k) }

// The classes of decoding failures.
const (
	ErrShort        Kind = "input ends early"                  // fewer bytes than the value needs
	ErrTrailing     Kind = "trailing bytes"                    // bytes left over after the last value
	ErrNonCanonical Kind = "encoding not canonical"            // a second way to write the same value
	ErrTooLarge     Kind = "number or length beyond the limit" // above the caller's limit or the type's range
	ErrTag          Kind = "unknown tag"                       // boolean, option or variant byte without a meaning
)

// Error is a decoding failure with its place.
type Error struct {
	Kind   Kind
	Offset int    // byte at which the refused value starts
	What   string // the value that was being read
}

// Error describes the failure.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (reading %s at byte %d)", e.Kind.Error(), e.What, e.Offset)
}

// Unwrap lets errors.Is find the Kind.
func (e *Error) Unwrap() error { return e.Kind }

// A Decoder reads SCALE values from a byte slice. It never retains a copy: slices it returns point into the input.
type Decoder struct {
	in  []byte
	off int
	err error
}

// NewDecoder returns a decoder at the start of in.
func NewDecoder(in []byte) *Decoder { return &Decoder{in: in} }

// Err returns the first failure, or nil.
func (d *Decoder) Err() error { return d.err }

// Offset returns the number of bytes read.
func (d *Decoder) Offset() int { return d.off }

// Remaining returns the number of bytes not yet read; it is 0 after a failure.
func (d *Decoder) Remaining() int {
	if d.err != nil {
		return 0
	}
	return len(d.in) - d.off
}

// Since returns the input between an earlier Offset and the present one. It is nil after a failure.
func (d *Decoder) Since(offset int) []byte {
	if d.err != nil {
		return nil
	}
	return d.in[offset:d.off:d.off]
}

// Finish returns the first failure, or ErrTrailing if input is left.
func (d *Decoder) Finish() error {
	if d.err == nil && d.off != len(d.in) {
		d.Fail(ErrTrailing, fmt.Sprintf("end of value, %d bytes left", len(d.in)-d.off))
	}
	return d.err
}

// Fail records a failure at the present offset, unless there already is one. Callers use it for values that are
// well-formed SCALE but that their own format refuses.
func (d *Decoder) Fail(kind Kind, what string) { d.failAt(d.off, kind, what) }

func (d *Decoder) failAt(offset int, kind Kind, what string) {
	if d.err == nil {
		d.err = &Error{Kind: kind, Offset: offset, What: what}
	}
}

// Raw reads n bytes without a length prefix.
func (d *Decoder) Raw(n int, what string) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 || n > len(d.in)-d.off {
		d.Fail(ErrShort, what)
		return nil
	}
	out := d.in[d.off : d.off+n : d.off+n]
	d.off += n
	return out
}

// U8 reads one byte.
func (d *Decoder) U8(what string) uint8 {
	if b := d.Raw(1, what); b != nil {
		return b[0]
	}
	return 0
}

// U32 reads a little-endian 32-bit integer.
func (d *Decoder) U32(what string) uint32 {
	if b := d.Raw(4, what); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 reads a little-endian 64-bit integer.
func (d *Decoder) U64(what string) uint64 {
	if b := d.Raw(8, what); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// U128 reads a little-endian 128-bit integer.
func (d *Decoder) U128(what string) U128 {
	if b := d.Raw(16, what); b != nil {
		return U128{Lo: binary.LittleEndian.Uint64(b), Hi: binary.LittleEndian.Uint64(b[8:])}
	}
	return U128{}
}

// Bool reads a boolean; any byte but 0 and 1 is refused.
func (d *Decoder) Bool(what string) bool {
	start := d.off
	b := d.U8(what)
	if b > 1 {
		d.failAt(start, ErrTag, what)
		return false
	}
	return b == 1
}

// Option reads the tag of an Option and reports whether a value follows.
func (d *Decoder) Option(what string) bool { return d.Bool(what) }

// Compact reads a compact integer of at most 64 bits, which must be in its shortest form.
func (d *Decoder) Compact(what string) uint64 {
	start := d.off
	v := d.CompactU128(what)
	if v.Hi != 0 {
		d.failAt(start, ErrTooLarge, what)
		return 0
	}
	return v.Lo
}

// Compact32 reads a compact integer of at most 32 bits, which must be in its shortest form.
func (d *Decoder) Compact32(what string) uint32 {
	start := d.off
	v := d.Compact(what)
	if v > 0xffffffff {
		d.failAt(start, ErrTooLarge, what)
		return 0
	}
	return uint32(v)
}

// CompactU128 reads a compact integer of at most 128 bits, which must be in its shortest form.
func (d *Decoder) CompactU128(what string) U128 {
	start := d.off
	first := d.U8(what)
	if d.err != nil {
		return U128{}
	}
	var v, least U128 // least: smallest value for which this mode is the shortest
	switch first & 3 {
	case 0:
		return U128{Lo: uint64(first >> 2)}
	case 1:
		v.Lo, least.Lo = uint64(first>>2)|uint64(d.U8(what))<<6, 1<<6
	case 2:
		rest := d.Raw(3, what)
		if rest == nil {
			return U128{}
		}
		v.Lo = uint64(first>>2) | uint64(rest[0])<<6 | uint64(rest[1])<<14 | uint64(rest[2])<<22
		least.Lo = 1 << 14
	case 3:
		n := int(first>>2) + 4
		if n > 16 {
			d.failAt(start, ErrTooLarge, what)
			return U128{}
		}
		rest := d.Raw(n, what)
		if rest == nil {
			return U128{}
		}
		var le [16]byte
		copy(le[:], rest)
		v = U128{Lo: binary.LittleEndian.Uint64(le[:]), Hi: binary.LittleEndian.Uint64(le[8:])}
		if n == 4 {
			least.Lo = 1 << 30
		} else if rest[n-1] == 0 {
			d.failAt(start, ErrNonCanonical, what)
			return U128{}
		}
	}
	if d.err != nil {
		return U128{}
	}
	if v.Less(least) {
		d.failAt(start, ErrNonCanonical, what)
		return U128{}
	}
	return v
}

// Len reads the element count of a Vec. It refuses counts above max and counts that cannot fit into the rest of the
// input when each element takes at least elemMin bytes (elemMin 0 is read as 1). The result is 0 after a failure,
// so it is safe to allocate by it and to loop to it.
func (d *Decoder) Len(elemMin, max int, what string) int {
	start := d.off
	n := d.Compact(what)
	if d.err != nil {
		return 0
	}
	if max < 0 || n > uint64(max) {
		d.failAt(start, ErrTooLarge, what)
		return 0
	}
	if elemMin < 1 {
		elemMin = 1
	}
	if n > uint64((len(d.in)-d.off)/elemMin) {
		d.failAt(start, ErrShort, what)
		return 0
	}
	return int(n)
}

// Bytes reads a Vec<u8> of at most max bytes. The result is never nil unless the decoder has failed.
func (d *Decoder) Bytes(max int, what string) []byte {
	return d.Raw(d.Len(1, max, what), what)
}
