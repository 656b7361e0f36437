package npos

// Billion is the number of parts in which epsilons and rates are given.
const Billion = 1_000_000_000

// Score measures a set of supports. In order of significance: the smallest
// support, to be maximised; the sum, to be maximised; the sum of squares, to be
// minimised (Cevallos and Stewart, "Validator Election in Nominated
// Proof-of-Stake", arXiv 2004.12990; Substrate calls it ElectionScore).
type Score struct {
	MinimalStake    U128 `json:"minimal_stake"`
	SumStake        U128 `json:"sum_stake"`
	SumStakeSquared U256 `json:"sum_stake_squared"`
}

// Evaluate is the score of the given supports. No supports have the zero score,
// which no other is below.
func Evaluate(totals []U128) Score {
	var s Score
	for i, t := range totals {
		if i == 0 || t.Less(s.MinimalStake) {
			s.MinimalStake = t
		}
		s.SumStake = s.SumStake.SaturatingAdd(t)
		s.SumStakeSquared = s.SumStakeSquared.saturatingAdd(mul128(t, t))
	}
	return s
}

// Compare is 1 when s is better than o, -1 when it is worse, 0 when equal.
func (s Score) Compare(o Score) int {
	if c := s.MinimalStake.Cmp(o.MinimalStake); c != 0 {
		return c
	}
	if c := s.SumStake.Cmp(o.SumStake); c != 0 {
		return c
	}
	return o.SumStakeSquared.Cmp(s.SumStakeSquared)
}

// Better tells whether s beats o by more than epsilon billionths of o: in the
// smallest support; or, that being no worse and within epsilon, in the sum; or,
// both being so, in the sum of squares.
func (s Score) Better(o Score, epsilon uint32) bool {
	epsilon = min(epsilon, Billion)
	for _, f := range [][2]U256{
		{{lo: s.MinimalStake}, {lo: o.MinimalStake}},
		{{lo: s.SumStake}, {lo: o.SumStake}},
	} {
		if c := compareWithin(f[0], f[1], f[1].mulBillionth(epsilon)); c > 0 {
			return true
		} else if c < 0 || f[0].Cmp(f[1]) < 0 {
			return false
		}
	}
	return compareWithin(s.SumStakeSquared, o.SumStakeSquared, o.SumStakeSquared.mulBillionth(epsilon)) < 0
}

// compareWithin is the order of a and b, where a difference up to margin counts
// as equal.
func compareWithin(a, b, margin U256) int {
	switch {
	case a.Cmp(b.saturatingAdd(margin)) > 0:
		return 1
	case a.Cmp(b.saturatingSub(margin)) < 0:
		return -1
	}
	return 0
}
