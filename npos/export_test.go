package npos

// What tests of package npos_test need from inside.

// NormalizeWithin is Normalize for values of a type whose largest is limit.
func NormalizeWithin(values []U128, target, limit U128) error {
	var n normalizer
	return n.run(values, target, limit)
}

// ReduceFours and ReduceCycles are the two halves of Reduce.
func ReduceFours(a []Assignment) (removed int) {
	f := newFours()
	for at := range a {
		n, _ := f.add(a, at)
		removed += n
	}
	return removed
}

func ReduceCycles(a []Assignment) (removed int) {
	c := newCycles(len(a))
	for v := range a {
		n, _ := c.add(a, int32(v))
		removed += n
	}
	return removed
}

// CompareWithin is the comparison inside Score.Better, on amounts.
func CompareWithin(this, that U128, epsilon uint32) int {
	q := U256{lo: that}
	return compareWithin(U256{lo: this}, q, q.mulBillionth(epsilon))
}

// PhragMMSSteps gives control after each part of each PhragMMS round.
type PhragMMSSteps struct{ m *phragMMS }

func NewPhragMMSSteps(in *Instance, accuracy uint32) *PhragMMSSteps {
	return &PhragMMSSteps{newPhragMMS(in, accuracy)}
}

// Elect runs one round without balancing and returns the winner and its score.
func (s *PhragMMSSteps) Elect() (winner uint32, score U128) {
	_, score = s.m.best()
	s.m.round(Balancing{})
	return s.m.winners[len(s.m.winners)-1].Candidate, score
}

func (s *PhragMMSSteps) Balance(b Balancing) { s.m.balance(b) }

// Edges are a voter's edges with those of weight zero.
func (s *PhragMMSSteps) Edges(voter int) []Edge {
	var out []Edge
	for e := s.m.start[voter]; e < s.m.start[voter+1]; e++ {
		out = append(out, Edge{s.m.target[e], s.m.weight[e]})
	}
	return out
}

// PJRSlack is the slack of a single voter with the given edges.
func PJRSlack(stake U128, edges []Edge, backing map[uint32]U128, t U128) U128 {
	in := &Instance{stake: []U128{stake}}
	p := pjr{in: in, edges: [][]Edge{edges}, backing: make([]U128, 64)}
	for c, b := range backing {
		p.backing[c] = b
	}
	return p.slack(0, t)
}

// FixedDivisor is floor(a*b/c) by the prepared divisor; b must not exceed c.
func FixedDivisor(a, b, c U128) U128 {
	d := newDivisor(c)
	return d.mulDiv(a, b)
}

// MulBillionth and the raw parts of a U256, for comparison with math/big.
func MulBillionth(a, b U128, parts uint32) U256 { return mul128(a, b).mulBillionth(parts) }
