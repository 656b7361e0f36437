package wasmprep

import (
	"fmt"
	"unicode/utf8"
)

// reader walks the module's bytes. It carries the first error and then yields
// zeros, so that callers may check once per item; every loop over it checks.
type reader struct {
	b   []byte
	p   int
	end int // reads stop here: the end of the section or body
	fn  int // function index for errors, -1 outside bodies
	err *Error
}

func (r *reader) fail(kind Kind, at int, format string, args ...any) {
	if r.err == nil {
		r.err = &Error{Kind: kind, Func: r.fn, Offset: at, Detail: fmt.Sprintf(format, args...)}
	}
	r.p = r.end
}

func (r *reader) left() int { return r.end - r.p }

func (r *reader) byte() byte {
	if r.p >= r.end {
		r.fail(ErrMalformed, r.p, "unexpected end")
		return 0
	}
	c := r.b[r.p]
	r.p++
	return c
}

func (r *reader) bytes(n int) []byte {
	if n < 0 || n > r.left() {
		r.fail(ErrMalformed, r.p, "%d bytes announced, %d left", n, r.left())
		return nil
	}
	s := r.b[r.p : r.p+n]
	r.p += n
	return s
}

// u32 reads an unsigned LEB128 of at most 32 bits and at most 5 bytes.
func (r *reader) u32() uint32 {
	if r.p < r.end {
		if c := r.b[r.p]; c < 0x80 {
			r.p++
			return uint32(c)
		}
	}
	at := r.p
	var v uint32
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		if shift == 28 && c > 0x0f {
			r.fail(ErrMalformed, at, "LEB128 exceeds 32 bits")
			return 0
		}
		v |= uint32(c&0x7f) << shift
		if c < 0x80 {
			return v
		}
	}
}

// signed reads a signed LEB128 of the given width (32, 33 or 64 bits).
func (r *reader) signed(bits uint) int64 {
	at := r.p
	var v int64
	for shift := uint(0); ; shift += 7 {
		c := r.byte()
		if r.err != nil {
			return 0
		}
		v |= int64(c&0x7f) << shift
		if rest := bits - shift; rest <= 7 {
			// The last byte: its bits above the width must repeat the sign.
			ext := int8(c<<1) >> 1 >> (rest - 1)
			if c >= 0x80 || (ext != 0 && ext != -1) {
				r.fail(ErrMalformed, at, "signed LEB128 exceeds %d bits", bits)
				return 0
			}
		}
		if c < 0x80 {
			if sh := shift + 7; sh < 64 {
				v = v << (64 - sh) >> (64 - sh)
			}
			return v
		}
	}
}

// count reads a vector length, refusing what exceeds limit or what could not
// fit into the bytes left (each element takes at least one).
func (r *reader) count(limit int, what string) int {
	at := r.p
	n := r.u32()
	if r.err != nil {
		return 0
	}
	if uint64(n) > uint64(limit) {
		r.fail(ErrLimit, at, "%d %s, limit %d", n, what, limit)
		return 0
	}
	if int(n) > r.left() {
		r.fail(ErrMalformed, at, "%d %s announced, %d bytes left", n, what, r.left())
		return 0
	}
	return int(n)
}

func (r *reader) name(limit int) string {
	at := r.p
	n := r.count(limit, "bytes of name")
	s := r.bytes(n)
	if r.err == nil && !utf8.Valid(s) {
		r.fail(ErrMalformed, at, "name is not UTF-8")
		return ""
	}
	return string(s)
}

// appendU32 appends v as the shortest unsigned LEB128.
func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendS64 appends v as the shortest signed LEB128.
func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}
