package npos

import (
	"fmt"
	"math/big"
	"math/bits"
	"strings"
)

// U128 is an unsigned 128-bit integer: an amount of stake in the chain's
// smallest unit, or a numerator over MaxU128 (see Winner.Score). The zero value
// is zero. Its text form is plain decimal digits without sign or leading zeros.
type U128 struct{ Hi, Lo uint64 }

// MaxU128 is 2^128 - 1. It is also the denominator of every Phragmén load and
// score, the finest that fits.
var MaxU128 = U128{^uint64(0), ^uint64(0)}

// U64 widens v.
func U64(v uint64) U128 { return U128{Lo: v} }

// IsZero tells whether a is zero.
func (a U128) IsZero() bool { return a.Hi|a.Lo == 0 }

// Cmp is -1, 0 or 1 as a is below, equal to or above b.
func (a U128) Cmp(b U128) int {
	switch {
	case a == b:
		return 0
	case a.Less(b):
		return -1
	}
	return 1
}

// Less tells whether a < b.
func (a U128) Less(b U128) bool { return a.Hi < b.Hi || a.Hi == b.Hi && a.Lo < b.Lo }

// add is a + b modulo 2^128 and the carry out.
func (a U128) add(b U128) (U128, uint64) {
	lo, c := bits.Add64(a.Lo, b.Lo, 0)
	hi, c := bits.Add64(a.Hi, b.Hi, c)
	return U128{hi, lo}, c
}

// sub is a - b modulo 2^128 and the borrow out.
func (a U128) sub(b U128) (U128, uint64) {
	lo, c := bits.Sub64(a.Lo, b.Lo, 0)
	hi, c := bits.Sub64(a.Hi, b.Hi, c)
	return U128{hi, lo}, c
}

// Add is a + b; ok is false when the sum does not fit, and the sum then MaxU128.
func (a U128) Add(b U128) (sum U128, ok bool) {
	s, c := a.add(b)
	if c != 0 {
		return MaxU128, false
	}
	return s, true
}

// SaturatingAdd is a + b, or MaxU128 when that is too large.
func (a U128) SaturatingAdd(b U128) U128 {
	s, _ := a.Add(b)
	return s
}

// SaturatingSub is a - b, or zero when b is larger.
func (a U128) SaturatingSub(b U128) U128 {
	d, c := a.sub(b)
	if c != 0 {
		return U128{}
	}
	return d
}

// divmod64 is the quotient and remainder by a non-zero word.
func (a U128) divmod64(d uint64) (U128, uint64) {
	hi, r := a.Hi/d, a.Hi%d
	lo, r := bits.Div64(r, a.Lo, d)
	return U128{hi, lo}, r
}

// Div is floor(a / b), and MaxU128 for b = 0.
func (a U128) Div(b U128) U128 {
	q, _ := MulDiv(a, U128{Lo: 1}, b)
	return q
}

// MulDiv is floor(a*b/c) with a 256-bit intermediate. ok is false, and the
// quotient MaxU128, when c is zero or the quotient does not fit.
func MulDiv(a, b, c U128) (quotient U128, ok bool) {
	p := mul128(a, b)
	if !p.hi.Less(c) {
		return MaxU128, false
	}
	if c.Hi == 0 {
		q1, r := bits.Div64(p.hi.Lo, p.lo.Hi, c.Lo)
		q0, _ := bits.Div64(r, p.lo.Lo, c.Lo)
		return U128{q1, q0}, true
	}
	s := uint(bits.LeadingZeros64(c.Hi))
	d, n := c.shl(s), p.shl(s)
	q1, r := div3by2(n.hi, n.lo.Hi, d)
	q0, _ := div3by2(r, n.lo.Lo, d)
	return U128{q1, q0}, true
}

// MulDivCeil is MulDiv rounded up.
func MulDivCeil(a, b, c U128) (quotient U128, ok bool) {
	q, ok := MulDiv(a, b, c)
	if !ok || mul128(q, c) == mul128(a, b) {
		return q, ok
	}
	return q.Add(U128{Lo: 1})
}

// shl is a << s for s < 64; bits shifted out are lost.
func (a U128) shl(s uint) U128 {
	return U128{a.Hi<<s | a.Lo>>(64-s), a.Lo << s}
}

// div3by2 is the one-word quotient and the remainder of (u*2^64 + u0) / d, for
// d with its top bit set and u < d (Knuth, TAOCP 4.3.1 algorithm D).
func div3by2(u U128, u0 uint64, d U128) (uint64, U128) {
	q := ^uint64(0)
	if u.Hi < d.Hi {
		q, _ = bits.Div64(u.Hi, u.Lo, d.Hi)
	}
	// q is at most 2 too large; r is the numerator minus q*d modulo 2^192.
	h0, l0 := bits.Mul64(q, d.Lo)
	h1, l1 := bits.Mul64(q, d.Hi)
	l1, c := bits.Add64(l1, h0, 0)
	h1 += c
	r0, c := bits.Sub64(u0, l0, 0)
	r1, c := bits.Sub64(u.Lo, l1, c)
	r2, _ := bits.Sub64(u.Hi, h1, c)
	for r2 != 0 {
		q--
		r0, c = bits.Add64(r0, d.Lo, 0)
		r1, c = bits.Add64(r1, d.Hi, c)
		r2 += c
	}
	return q, U128{r1, r0}
}

// String is the decimal form.
func (a U128) String() string {
	if a.Hi == 0 {
		return fmt.Sprint(a.Lo)
	}
	const chunk = 10_000_000_000_000_000_000 // 10^19, the largest power in a word
	q, r := a.divmod64(chunk)
	return fmt.Sprintf("%s%019d", q.String(), r)
}

// ParseU128 reads what String writes; anything else is CodeAmount.
func ParseU128(s string) (U128, error) {
	if s == "" || len(s) > 39 || (s[0] == '0' && len(s) > 1) {
		return U128{}, &Error{CodeAmount, fmt.Sprintf("%q", clip(s))}
	}
	var a U128
	for i := range len(s) {
		d := s[i] - '0'
		if d > 9 {
			return U128{}, &Error{CodeAmount, fmt.Sprintf("%q", clip(s))}
		}
		p := mul128(a, U128{Lo: 10})
		sum, ok := p.lo.Add(U128{Lo: uint64(d)})
		if !ok || !p.hi.IsZero() {
			return U128{}, &Error{CodeAmount, fmt.Sprintf("%q is above 2^128-1", clip(s))}
		}
		a = sum
	}
	return a, nil
}

// clip keeps hostile input out of error texts.
func clip(s string) string {
	if len(s) > 48 {
		s = strings.ToValidUTF8(s[:48], "") + "…"
	}
	return s
}

// MarshalText writes the decimal form; in JSON an amount is therefore a string.
func (a U128) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the decimal form.
func (a *U128) UnmarshalText(text []byte) error {
	v, err := ParseU128(string(text))
	if err == nil {
		*a = v
	}
	return err
}

// Big is a as a new big integer, for callers whose amounts are big integers.
func (a U128) Big() *big.Int {
	b := new(big.Int).SetUint64(a.Hi)
	return b.Lsh(b, 64).Or(b, new(big.Int).SetUint64(a.Lo))
}

// FromBig converts b; negative or larger than 128 bits is CodeAmount.
func FromBig(b *big.Int) (U128, error) {
	if b == nil || b.Sign() < 0 || b.BitLen() > 128 {
		return U128{}, &Error{CodeAmount, "big integer is absent, negative or above 2^128-1"}
	}
	lo := new(big.Int).And(b, new(big.Int).SetUint64(^uint64(0)))
	return U128{new(big.Int).Rsh(b, 64).Uint64(), lo.Uint64()}, nil
}
