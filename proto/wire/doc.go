// Package wire is the binary encoding of everything that the enclave signs,
// hashes, seals or reads from outside.
//
// The encoding is positional and has exactly one form for each value, so that
// equal values have equal hashes and a decoded message re-encodes to the bytes it
// came from:
//
//	u8, u16, u32, u64   big-endian, fixed width
//	bool                one byte, 0 or 1
//	bytes, string       u32 length, then the bytes
//	fixed [N]byte       N bytes
//	list                u32 count, then the elements
//
// A Writer cannot fail. A Reader never panics and never allocates more than the
// input it was given holds: every variable-length read names the largest length
// that the caller accepts and is refused before it allocates. The first error
// sticks; Close reports it, and also refuses bytes that nobody read.
package wire
