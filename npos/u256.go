package npos

import (
	"fmt"
	"math/big"
	"math/bits"
)

// U256 is an unsigned 256-bit integer: products of two amounts, and the sum of
// squared supports in a Score. The zero value is zero.
type U256 struct{ hi, lo U128 }

// mul128 is the exact product.
func mul128(a, b U128) U256 {
	h00, l00 := bits.Mul64(a.Lo, b.Lo)
	h01, l01 := bits.Mul64(a.Lo, b.Hi)
	h10, l10 := bits.Mul64(a.Hi, b.Lo)
	h11, l11 := bits.Mul64(a.Hi, b.Hi)
	w1, c := bits.Add64(h00, l01, 0)
	w2, c := bits.Add64(h01, l11, c)
	w3 := h11 + c
	w1, c = bits.Add64(w1, l10, 0)
	w2, c = bits.Add64(w2, h10, c)
	w3 += c
	return U256{U128{w3, w2}, U128{w1, l00}}
}

// shl is p << s for s < 64; bits shifted out are lost.
func (p U256) shl(s uint) U256 {
	hi := p.hi.shl(s)
	hi.Lo |= p.lo.Hi >> (64 - s)
	return U256{hi, p.lo.shl(s)}
}

// Cmp is -1, 0 or 1 as p is below, equal to or above q.
func (p U256) Cmp(q U256) int {
	if c := p.hi.Cmp(q.hi); c != 0 {
		return c
	}
	return p.lo.Cmp(q.lo)
}

// saturatingAdd is p + q, or 2^256 - 1 when that is too large.
func (p U256) saturatingAdd(q U256) U256 {
	lo, c := p.lo.add(q.lo)
	hi, c1 := p.hi.add(q.hi)
	hi, c2 := hi.add(U128{Lo: c})
	if c1|c2 != 0 {
		return U256{MaxU128, MaxU128}
	}
	return U256{hi, lo}
}

// saturatingSub is p - q, or zero when q is larger.
func (p U256) saturatingSub(q U256) U256 {
	if p.Cmp(q) <= 0 {
		return U256{}
	}
	lo, c := p.lo.sub(q.lo)
	hi, _ := p.hi.sub(q.hi)
	hi, _ = hi.sub(U128{Lo: c})
	return U256{hi, lo}
}

// mulBillionth is ceil(p * parts / 10^9) for parts <= 10^9, so it never overflows.
func (p U256) mulBillionth(parts uint32) U256 {
	// Word by word: p = q*10^9 + r, so p*parts/10^9 = q*parts + r*parts/10^9.
	words := [4]uint64{p.hi.Hi, p.hi.Lo, p.lo.Hi, p.lo.Lo}
	var q [4]uint64
	var r uint64
	for i, w := range words {
		q[i], r = bits.Div64(r, w, Billion)
	}
	carry := (r*uint64(parts) + Billion - 1) / Billion
	for i := 3; i >= 0; i-- {
		h, l := bits.Mul64(q[i], uint64(parts))
		var c uint64
		q[i], c = bits.Add64(l, carry, 0)
		carry = h + c
	}
	return U256{U128{q[0], q[1]}, U128{q[2], q[3]}}
}

// Big is p as a new big integer.
func (p U256) Big() *big.Int {
	b := p.hi.Big()
	return b.Lsh(b, 128).Or(b, p.lo.Big())
}

// String is the decimal form.
func (p U256) String() string { return p.Big().String() }

// MarshalText writes the decimal form.
func (p U256) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the decimal form; anything else is CodeAmount.
func (p *U256) UnmarshalText(text []byte) error {
	b, ok := new(big.Int), len(text) > 0 && len(text) <= 78 && (text[0] != '0' || len(text) == 1)
	for _, c := range text {
		ok = ok && c >= '0' && c <= '9'
	}
	if ok {
		_, ok = b.SetString(string(text), 10)
	}
	if !ok || b.BitLen() > 256 {
		return &Error{CodeAmount, fmt.Sprintf("%q is not an unsigned 256-bit number", clip(string(text)))}
	}
	hi, _ := FromBig(new(big.Int).Rsh(b, 128))
	lo, _ := FromBig(new(big.Int).And(b, MaxU128.Big()))
	*p = U256{hi, lo}
	return nil
}
