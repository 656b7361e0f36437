package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Failure classes of a Reader. Test with errors.Is.
var (
	// ErrShort: the input ends inside a value.
	ErrShort = errors.New("wire: input ends inside a value")
	// ErrTooLong: a length or count is above the limit that the decoder set.
	ErrTooLong = errors.New("wire: length above the limit")
	// ErrNotCanonical: a value has another encoding than the only one allowed.
	ErrNotCanonical = errors.New("wire: not the canonical encoding")
	// ErrTrailing: bytes follow the last value.
	ErrTrailing = errors.New("wire: bytes after the last value")
)

// A Writer appends values to a byte slice. The zero value is ready to use.
type Writer struct{ buf []byte }

// NewWriter returns a Writer with room for n bytes.
func NewWriter(n int) *Writer { return &Writer{buf: make([]byte, 0, n)} }

// Bytes returns what was written. The slice aliases the Writer's buffer.
func (w *Writer) Bytes() []byte { return w.buf }

// U8 appends one byte.
func (w *Writer) U8(v uint8) *Writer { w.buf = append(w.buf, v); return w }

// U16 appends v in two bytes.
func (w *Writer) U16(v uint16) *Writer { w.buf = binary.BigEndian.AppendUint16(w.buf, v); return w }

// U32 appends v in four bytes.
func (w *Writer) U32(v uint32) *Writer { w.buf = binary.BigEndian.AppendUint32(w.buf, v); return w }

// U64 appends v in eight bytes.
func (w *Writer) U64(v uint64) *Writer { w.buf = binary.BigEndian.AppendUint64(w.buf, v); return w }

// Bool appends 0 or 1.
func (w *Writer) Bool(v bool) *Writer {
	if v {
		return w.U8(1)
	}
	return w.U8(0)
}

// Fixed appends b without a length: the reader knows it.
func (w *Writer) Fixed(b []byte) *Writer { w.buf = append(w.buf, b...); return w }

// Blob appends a length and b.
func (w *Writer) Blob(b []byte) *Writer {
	w.U32(uint32(len(b)))
	w.buf = append(w.buf, b...)
	return w
}

// String appends a length and s.
func (w *Writer) String(s string) *Writer {
	w.U32(uint32(len(s)))
	w.buf = append(w.buf, s...)
	return w
}

// Count appends the number of elements of a list that follows.
func (w *Writer) Count(n int) *Writer { return w.U32(uint32(n)) }

// A Reader takes values from a byte slice. After the first error every read
// returns the zero value.
type Reader struct {
	buf []byte
	off int
	err error
}

// NewReader reads b. Results of Blob are copies: b may be reused.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail makes err the Reader's error unless it already has one. Decoders use it
// for rules of their own, such as an unknown kind.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// Left is the number of bytes not yet read.
func (r *Reader) Left() int { return len(r.buf) - r.off }

// Close returns the first error, or ErrTrailing when input is left.
func (r *Reader) Close() error {
	if r.err != nil {
		return r.err
	}
	if n := r.Left(); n > 0 {
		return fmt.Errorf("%w: %d bytes at offset %d", ErrTrailing, n, r.off)
	}
	return nil
}

func (r *Reader) take(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n > r.Left() {
		r.err = fmt.Errorf("%w: %d bytes wanted at offset %d, %d left", ErrShort, n, r.off, r.Left())
		return nil
	}
	b := r.buf[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

// U8 reads one byte.
func (r *Reader) U8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two bytes.
func (r *Reader) U16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes.
func (r *Reader) U32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (r *Reader) U64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bool reads 0 or 1; any other byte is refused.
func (r *Reader) Bool() bool {
	v := r.U8()
	if v > 1 {
		r.Fail(fmt.Errorf("%w: boolean byte %d", ErrNotCanonical, v))
	}
	return v == 1
}

// Fixed fills dst.
func (r *Reader) Fixed(dst []byte) { copy(dst, r.take(len(dst))) }

// Array32 reads 32 bytes.
func (r *Reader) Array32() (a [32]byte) { r.Fixed(a[:]); return a }

// Blob reads a length of at most limit and a copy of that many bytes.
func (r *Reader) Blob(limit int) []byte {
	b := r.view(limit)
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}

// String reads a length of at most limit and that many bytes.
func (r *Reader) String(limit int) string { return string(r.view(limit)) }

func (r *Reader) view(limit int) []byte {
	n := r.U32()
	if r.err != nil {
		return nil
	}
	if uint64(n) > uint64(limit) {
		r.err = fmt.Errorf("%w: %d bytes at offset %d, at most %d", ErrTooLong, n, r.off, limit)
		return nil
	}
	return r.take(int(n))
}

// Count reads the number of elements of a list: at most limit, and no more than
// the rest of the input can hold when each element takes at least size bytes.
func (r *Reader) Count(limit, size int) int {
	n := r.U32()
	if r.err != nil {
		return 0
	}
	if uint64(n) > uint64(limit) {
		r.err = fmt.Errorf("%w: %d elements at offset %d, at most %d", ErrTooLong, n, r.off, limit)
		return 0
	}
	if size > 0 && int(n) > r.Left()/size {
		r.err = fmt.Errorf("%w: %d elements of %d bytes or more at offset %d, %d bytes left", ErrShort, n, size, r.off, r.Left())
		return 0
	}
	return int(n)
}
