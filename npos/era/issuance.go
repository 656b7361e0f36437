package era

import (
	"fmt"

	"github.com/phala-go/phala/npos"
)

// Rate is a fraction of one in units of 10^-18.
type Rate uint64

// One is the rate of one whole.
const One Rate = 1_000_000_000_000_000_000

// Percent is p per cent.
func Percent(p uint64) Rate { return Rate(p) * (One / 100) }

// Year is the year that annual rates refer to: 365.25 days, in milliseconds.
const Year = 36525 * 24 * 36_000

// Curve is Polkadot's issuance curve (Web3 Foundation, "Token economics", inflation
// model; Substrate's era_payout and compute_inflation): with x the staked share of
// all tokens, validators and nominators together receive per year
//
//	Min + (Max-Min) * x/Ideal                      of all tokens, for x < Ideal
//	Min + (Max-Min) * 2^((Ideal-x)/Falloff)        for x >= Ideal
//
// which peaks at the ideal share and so pulls towards it. What is below Max goes to
// the treasury, so the total issuance is always Max a year.
type Curve struct {
	Min, Max, Ideal, Falloff Rate
}

// Polkadot is the curve with Polkadot's parameters of 2020 to 2024, without parachain
// auctions: 2.5 %, 10 %, 75 %, 5 %.
func Polkadot() Curve {
	return Curve{Min: Percent(5) / 2, Max: Percent(10), Ideal: Percent(75), Falloff: Percent(5)}
}

// Validate refuses parameters for which the curve is not defined: Min <= Max <= One,
// 0 < Ideal <= One, and a falloff from 1 % to One.
func (c Curve) Validate() error {
	if c.Min > c.Max || c.Max > One || c.Ideal == 0 || c.Ideal > One || c.Falloff < Percent(1) || c.Falloff > One {
		return &Error{CodeCurve, fmt.Sprintf("%+v", c)}
	}
	return nil
}

// StakingRate is what is paid for staking per year, as a fraction of all tokens,
// when staked of issuance tokens are staked. More staked than issued counts as all,
// and none issued as none staked.
func (c Curve) StakingRate(staked, issuance npos.U128) (Rate, error) {
	if err := c.Validate(); err != nil {
		return 0, err
	}
	x := One
	if staked.Less(issuance) || issuance.IsZero() {
		x = scale(One, staked, issuance)
	}
	span := c.Max - c.Min
	if x < c.Ideal {
		return c.Min + scale(span, npos.U64(uint64(x)), npos.U64(uint64(c.Ideal))), nil
	}
	return c.Min + scale(span, npos.U64(uint64(exp2(uint64(x-c.Ideal), uint64(c.Falloff)))), npos.U64(uint64(One))), nil
}

// scale is floor(r * part / whole) for part <= whole; nothing of nothing is zero.
func scale(r Rate, part, whole npos.U128) Rate {
	q, ok := npos.MulDiv(npos.U64(uint64(r)), part, whole)
	if !ok {
		return 0
	}
	return Rate(q.Lo)
}

// Issue is what an era of the given length issues: to the stakers and to the
// treasury. Both together are what Max gives, rounded down once. An era longer than a
// year is refused: after a halt the caller decides what time counts.
func (c Curve) Issue(staked, issuance npos.U128, millis uint64) (stakers, treasury npos.U128, err error) {
	rate, err := c.StakingRate(staked, issuance)
	if err != nil {
		return npos.U128{}, npos.U128{}, err
	}
	if millis > Year {
		return npos.U128{}, npos.U128{}, &Error{CodeTime, fmt.Sprintf("an era of %d ms; a year is %d", millis, uint64(Year))}
	}
	whole, _ := npos.MulDiv(npos.U64(uint64(One)), npos.U64(Year), npos.U64(1))
	part := func(r Rate) npos.U128 {
		time, _ := npos.MulDiv(npos.U64(uint64(r)), npos.U64(millis), npos.U64(1))
		q, _ := npos.MulDiv(issuance, time, whole)
		return q
	}
	stakers = part(rate)
	return stakers, part(c.Max).SaturatingSub(stakers), nil
}

// Fixed-point numbers with 126 fractional bits, and ln 2 as one.
var (
	fixedOne = npos.U128{Hi: 1 << 62}
	fixedLn2 = npos.U128{Hi: 0x2c5c85fdf473de6a, Lo: 0xf278ece600fcbdab}
)

// exp2 is 2^(-n/d) rounded down to a rate: the whole part by shifting, the rest by
// the series of the exponential function, whose terms fall below the last bit after
// some thirty.
func exp2(n, d uint64) Rate {
	if n/d >= 64 {
		return 0
	}
	y, _ := npos.MulDiv(fixedLn2, npos.U64(n%d), npos.U64(d))
	sum, term := fixedOne, fixedOne
	for k := uint64(1); !term.IsZero(); k++ {
		term, _ = npos.MulDiv(term, y, fixedOne)
		term = term.Div(npos.U64(k))
		if k%2 == 1 {
			sum = sum.SaturatingSub(term)
		} else {
			sum = sum.SaturatingAdd(term)
		}
	}
	return scale(One, sum, fixedOne) >> (n / d)
}
