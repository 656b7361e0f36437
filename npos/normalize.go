package npos

import (
	"fmt"
	"slices"
)

// Normalize changes values as evenly as it can so that they sum to target, and
// returns the result; the input stays. A shortfall goes to the smallest values
// until each reaches target/len, an excess comes off the largest until they
// reach the former minimum. Order and ties by position decide, so every machine
// gets the same (the rule of Substrate's sp-arithmetic `normalize`). It fails
// with CodeSumOverflow when the values sum to more than MaxU128. No values stay
// no values, whatever the target.
func Normalize(values []U128, target U128) ([]U128, error) {
	out := slices.Clone(values)
	var n normalizer
	if err := n.run(out, target, MaxU128); err != nil {
		return nil, err
	}
	return out, nil
}

// normalizer keeps its scratch space between calls.
type normalizer struct{ order []int32 }

// run normalises values in place; limit is the largest sum their type holds.
func (n *normalizer) run(values []U128, target, limit U128) error {
	var sum U128
	for _, v := range values {
		s, ok := sum.Add(v)
		if !ok || limit.Less(s) {
			return &Error{CodeSumOverflow, fmt.Sprintf("%d values sum to more than %v", len(values), limit)}
		}
		sum = s
	}
	if len(values) == 0 || sum == target {
		return nil
	}
	// order[i] is the position of the i-th smallest value; ties keep their order.
	n.order = n.order[:0]
	for i := range values {
		n.order = append(n.order, int32(i))
	}
	slices.SortStableFunc(n.order, func(i, j int32) int { return values[i].Cmp(values[j]) })
	if sum.Less(target) {
		diff, _ := target.sub(sum)
		n.raise(values, diff, target)
	} else {
		diff, _ := sum.sub(target)
		n.lower(values, diff)
	}
	return nil
}

// raise adds diff in equal portions, then one by one, always to the smallest
// value still below the average that target asks for.
func (n *normalizer) raise(values []U128, diff, target U128) {
	count := uint64(len(values))
	portion, rest := diff.divmod64(count)
	average, _ := target.divmod64(count)
	at := 0
	add := func(x U128) {
		v := &values[n.order[at]]
		*v, _ = v.add(x) // stays at most target
		if !v.Less(average) {
			at = (at + 1) % len(values)
		}
	}
	if !portion.IsZero() {
		for range values {
			add(portion)
		}
	}
	for ; rest > 0; rest-- {
		add(U128{Lo: 1})
	}
}

// lower takes diff off in equal portions, then unit by unit, always from the
// largest value still above the former minimum. What a portion could not take
// from a value too small for it joins the units, of which there may then be very
// many; spend takes them in bulk, with the outcome that single steps have.
func (n *normalizer) lower(values []U128, diff U128) {
	count := uint64(len(values))
	portion, r := diff.divmod64(count)
	rest := U128{Lo: r}
	floor := values[n.order[0]]
	at := len(values) - 1
	if !portion.IsZero() {
		for range values {
			v := &values[n.order[at]]
			if v.Less(portion) {
				missing, _ := portion.sub(*v)
				rest, _ = rest.add(missing)
			}
			*v = v.SaturatingSub(portion)
			if !floor.Less(*v) {
				at = (at + len(values) - 1) % len(values)
			}
		}
	}
	n.spend(values, rest, floor, at)
}

// spend takes rest units off the values, walking downwards from position at.
func (n *normalizer) spend(values []U128, rest, floor U128, at int) {
	for idle := 0; !rest.IsZero(); at = (at + len(values) - 1) % len(values) {
		v := &values[n.order[at]]
		var take U128
		switch {
		case floor.Less(*v): // down to the floor before moving on
			take, _ = v.sub(floor)
		case !v.IsZero(): // at or below it: one unit a visit
			take = U128{Lo: 1}
		}
		if rest.Less(take) {
			take = rest
		}
		*v, _ = v.sub(take)
		rest, _ = rest.sub(take)
		if idle++; idle >= len(values) {
			// Every value was visited, so all are at the floor or below and
			// whole rounds take one unit from each that is not zero.
			rest = n.rounds(values, rest)
			idle = 0
		}
	}
}

// rounds takes as many whole rounds of one unit from each non-zero value as can
// be taken before a value reaches zero or rest runs out.
func (n *normalizer) rounds(values []U128, rest U128) U128 {
	least, live := MaxU128, uint64(0)
	for _, v := range values {
		if !v.IsZero() {
			live++
			if v.Less(least) {
				least = v
			}
		}
	}
	if live == 0 {
		return U128{}
	}
	k, _ := rest.divmod64(live)
	if least.Less(k) {
		k = least
	}
	for i, v := range values {
		if !v.IsZero() {
			values[i], _ = v.sub(k)
		}
	}
	spent := mul128(k, U128{Lo: live})
	rest, _ = rest.sub(spent.lo)
	return rest
}
