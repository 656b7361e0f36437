package era

import (
	"fmt"

	"github.com/phala-go/phala/npos"
)

// Part is floor(amount * part / whole): what a holder of part of whole gets of amount.
// Nothing of nothing is zero. A part above the whole is refused.
func Part(amount, part, whole npos.U128) (npos.U128, error) {
	if whole.Less(part) {
		return npos.U128{}, &Error{CodeFraction, fmt.Sprintf("%v of %v", part, whole)}
	}
	if whole.IsZero() {
		return npos.U128{}, nil
	}
	q, _ := npos.MulDiv(amount, part, whole)
	return q, nil
}

// Divide splits an era's payout over its validators by their era points, each part
// rounded down. Without any points nobody gets anything.
func Divide(amount npos.U128, points []uint64) []npos.U128 {
	var sum npos.U128
	for _, p := range points {
		sum = sum.SaturatingAdd(npos.U64(p)) // 2^64 of them would be needed to saturate
	}
	out := make([]npos.U128, len(points))
	for i, p := range points {
		out[i], _ = Part(amount, npos.U64(p), sum)
	}
	return out
}

// Exposure is what stands behind one validator in one era: its own stake and each
// backer's.
type Exposure struct {
	Own    npos.U128
	Others []npos.U128
}

// Total is the sum of the exposure.
func (e Exposure) Total() (npos.U128, error) {
	sum, ok := e.Own, true
	for i, o := range e.Others {
		if sum, ok = sum.Add(o); !ok {
			return sum, &Error{CodeOverflow, fmt.Sprintf("at backer %d", i)}
		}
	}
	return sum, nil
}

// Payout is how an amount goes to a validator and its backers.
type Payout struct {
	// Commission goes to the validator before, Own for its own stake.
	Commission, Own npos.U128
	// Others go to the backers, in the order of the exposure.
	Others []npos.U128
	// Left is what rounding leaves; the caller decides where it goes.
	Left npos.U128
}

// Split divides a validator's payout: its commission (in billionths) first, then the
// rest by exposure, each part rounded down. To pay a large exposure in pages take
// Commission from here once and each backer's Part of the amount less commission.
func (e Exposure) Split(amount npos.U128, commission uint32) (Payout, error) {
	total, err := e.Total()
	if err != nil {
		return Payout{}, err
	}
	var p Payout
	if p.Commission, err = Part(amount, npos.U64(uint64(commission)), npos.U64(npos.Billion)); err != nil {
		return Payout{}, err
	}
	rest := amount.SaturatingSub(p.Commission)
	if p.Own, err = Part(rest, e.Own, total); err != nil {
		return Payout{}, err
	}
	p.Left = rest.SaturatingSub(p.Own)
	p.Others = make([]npos.U128, len(e.Others))
	for i, o := range e.Others {
		if p.Others[i], err = Part(rest, o, total); err != nil {
			return Payout{}, err
		}
		p.Left = p.Left.SaturatingSub(p.Others[i])
	}
	return p, nil
}
