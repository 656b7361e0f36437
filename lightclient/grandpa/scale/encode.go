package scale

import (
	"encoding/binary"
	"math/big"
	"math/bits"
)

// U128 is an unsigned 128-bit integer, the Balance type of Substrate chains.
type U128 struct{ Hi, Lo uint64 }

// Less reports whether u < v.
func (u U128) Less(v U128) bool { return u.Hi < v.Hi || u.Hi == v.Hi && u.Lo < v.Lo }

// Big returns u as a big integer.
func (u U128) Big() *big.Int {
	var be [16]byte
	binary.BigEndian.PutUint64(be[:], u.Hi)
	binary.BigEndian.PutUint64(be[8:], u.Lo)
	return new(big.Int).SetBytes(be[:])
}

// String returns u in decimal.
func (u U128) String() string { return u.Big().String() }

// AppendU128 appends u in 16 bytes, little-endian.
func AppendU128(b []byte, u U128) []byte {
	b = binary.LittleEndian.AppendUint64(b, u.Lo)
	return binary.LittleEndian.AppendUint64(b, u.Hi)
}

// AppendCompact appends v as a compact integer in its shortest form.
func AppendCompact(b []byte, v uint64) []byte { return AppendCompactU128(b, U128{Lo: v}) }

// AppendCompactU128 appends v as a compact integer in its shortest form.
func AppendCompactU128(b []byte, v U128) []byte {
	switch {
	case v.Hi == 0 && v.Lo < 1<<6:
		return append(b, byte(v.Lo<<2))
	case v.Hi == 0 && v.Lo < 1<<14:
		return binary.LittleEndian.AppendUint16(b, uint16(v.Lo<<2|1))
	case v.Hi == 0 && v.Lo < 1<<30:
		return binary.LittleEndian.AppendUint32(b, uint32(v.Lo<<2|2))
	}
	n := (bits.Len64(v.Lo) + 7) / 8
	if v.Hi != 0 {
		n = 8 + (bits.Len64(v.Hi)+7)/8
	}
	n = max(n, 4)
	var le [16]byte
	binary.LittleEndian.PutUint64(le[:], v.Lo)
	binary.LittleEndian.PutUint64(le[8:], v.Hi)
	b = append(b, byte(n-4)<<2|3)
	return append(b, le[:n]...)
}

// AppendBytes appends v as a Vec<u8>.
func AppendBytes(b, v []byte) []byte { return append(AppendCompact(b, uint64(len(v))), v...) }

// AppendBool appends a boolean, also the tag of an Option.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
