package transcript

import (
	"crypto/sha256"
	"encoding/binary"
)

// Bytes returns the transcript of fields under domain.
func Bytes(domain string, fields ...[]byte) []byte {
	n := 4 + len(domain)
	for _, f := range fields {
		n += 4 + len(f)
	}
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint32(b, uint32(len(domain)))
	b = append(b, domain...)
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// Hash returns the SHA-256 of Bytes(domain, fields...).
func Hash(domain string, fields ...[]byte) [32]byte {
	return sha256.Sum256(Bytes(domain, fields...))
}

// U64 is v as a field: eight bytes, big-endian.
func U64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }
