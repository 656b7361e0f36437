package bags

import (
	"fmt"
	"sort"

	"github.com/phala-go/phala/npos"
)

// Code names one class of failure; test with errors.Is.
type Code string

// Error gives the code as text.
func (c Code) Error() string { return string(c) }

// The failure classes of this package.
const (
	// CodeRange: bounds of zero, out of order, or too close for the number of bags.
	CodeRange Code = "bags: bad range"
	// CodeOrder: thresholds that do not strictly ascend to the unlimited one.
	CodeOrder Code = "bags: thresholds out of order"
)

// Error is a failure: its class and what happened to what.
type Error struct {
	Code   Code
	Detail string
}

// Error gives the class and the detail as one line.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Unwrap gives the code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Code }

// Most is the largest number of bags.
const Most = 1000

// Thresholds are the upper bounds of the bags, strictly ascending, the last being
// npos.MaxU128.
type Thresholds []npos.U128

// New makes n bags whose bounds grow by a constant ratio from lowest (the minimum
// bond, say) to highest (the largest stake worth telling apart, such as the total
// issuance), and one above. The ratio is the least fraction of 2^32 that reaches
// highest, found with integers only, so that every machine gets the same bags; where
// the ratio moves a small bound by less than a unit it moves by one.
func New(lowest, highest npos.U128, n int) (Thresholds, error) {
	if n < 2 || n > Most || lowest.IsZero() || !lowest.Less(highest) {
		return nil, &Error{CodeRange, fmt.Sprintf("%d bags from %v to %v; from 2 to %d, from above zero upwards", n, lowest, highest, Most)}
	}
	const most = 1 << 62 // a step grows at most 2^30 times
	extra := uint64(sort.Search(most, func(e int) bool {
		return climb(lowest, highest, n, uint64(e))[n-1] == highest
	}))
	out := climb(lowest, highest, n, extra)
	if out[n-1] != highest {
		return nil, &Error{CodeRange, fmt.Sprintf("%d bags are too few from %v to %v", n, lowest, highest)}
	}
	if highest != npos.MaxU128 {
		out = append(out, npos.MaxU128)
	}
	if out.Validate() != nil {
		return nil, &Error{CodeRange, fmt.Sprintf("%d bags are too many from %v to %v", n, lowest, highest)}
	}
	return out, nil
}

// climb is n bounds from lowest by the ratio 1 + extra/2^32, none above highest.
func climb(lowest, highest npos.U128, n int, extra uint64) Thresholds {
	out := make(Thresholds, n)
	at := lowest
	for i := range out {
		out[i] = at
		step, ok := npos.MulDiv(at, npos.U64(extra), npos.U64(1<<32))
		if step.IsZero() {
			step = npos.U64(1)
		}
		if at = at.SaturatingAdd(step); !ok || highest.Less(at) {
			at = highest
		}
	}
	return out
}

// Validate checks thresholds that come from elsewhere (genesis, governance).
func (t Thresholds) Validate() error {
	for i := 1; i < len(t); i++ {
		if !t[i-1].Less(t[i]) {
			return &Error{CodeOrder, fmt.Sprintf("bag %d ends at %v, the one before at %v", i, t[i], t[i-1])}
		}
	}
	if len(t) == 0 || len(t) > Most+1 || t[len(t)-1] != npos.MaxU128 {
		return &Error{CodeOrder, fmt.Sprintf("%d bags; the last must be without limit", len(t))}
	}
	return nil
}

// Bag is the number of the bag for a stake.
func (t Thresholds) Bag(stake npos.U128) int {
	return sort.Search(len(t)-1, func(i int) bool { return !t[i].Less(stake) })
}

// Moves tells whether a change of stake needs the staker to be moved, and where from
// and to.
func (t Thresholds) Moves(before, after npos.U128) (from, to int, moves bool) {
	from, to = t.Bag(before), t.Bag(after)
	return from, to, from != to
}
