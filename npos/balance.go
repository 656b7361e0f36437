package npos

import "slices"

// ledger is an election in progress as weighted edges from voters to candidates.
type ledger struct {
	in      *Instance
	start   []uint32 // voter v's edges are start[v]:start[v+1]
	target  []uint32
	weight  []U128
	elected []bool
	backing []U128 // by candidate: the sum of the weights of its edges

	norm   normalizer
	edges  []uint32 // scratch: one voter's elected edges
	values []U128   // scratch: their weights
}

// newLedger is a ledger with an edge of weight zero per approval for which keep
// holds.
func newLedger(in *Instance, keep func(candidate uint32) bool) *ledger {
	l := &ledger{in: in, elected: make([]bool, in.Candidates()), backing: make([]U128, in.Candidates())}
	l.start = make([]uint32, 1, in.Voters()+1)
	for v := range in.Voters() {
		for _, c := range in.Approvals(v) {
			if keep(c) {
				l.target = append(l.target, c)
			}
		}
		l.start = append(l.start, uint32(len(l.target)))
	}
	l.weight = make([]U128, len(l.target))
	return l
}

// electedEdges fills l.edges and l.values for a voter.
func (l *ledger) electedEdges(voter int) {
	l.edges, l.values = l.edges[:0], l.values[:0]
	for e := l.start[voter]; e < l.start[voter+1]; e++ {
		if l.elected[l.target[e]] {
			l.edges = append(l.edges, e)
			l.values = append(l.values, l.weight[e])
		}
	}
}

// normalize makes the weights of a voter's elected edges sum to its stake.
func (l *ledger) normalize(voter int) error {
	l.electedEdges(voter)
	if err := l.norm.run(l.values, l.in.stake[voter], MaxU128); err != nil {
		return err
	}
	for i, e := range l.edges {
		c := l.target[e]
		l.backing[c] = l.backing[c].SaturatingSub(l.weight[e]).SaturatingAdd(l.values[i])
		l.weight[e] = l.values[i]
	}
	return nil
}

// balance is star balancing (arXiv 2004.12990, appendix A): voter by voter, in
// order, the stake is spread over the voter's winners so that the least backed
// come up to one level. It returns the number of rounds over all voters.
func (l *ledger) balance(b Balancing) int {
	r := balancingRun{Balancing: b}
	for r.next(l) {
	}
	return r.iteration
}

// balancingRun is how far balancing has come.
type balancingRun struct {
	Balancing
	iteration int // of the rounds that began
	voter     int // the next one of this round
	most      U128
}

// next balances one voter; it returns false once balancing has ended.
func (r *balancingRun) next(l *ledger) bool {
	if r.iteration == 0 || r.voter == l.in.Voters() {
		if r.iteration > 0 && !r.Tolerance.Less(r.most) || r.iteration >= r.Iterations {
			return false
		}
		r.iteration, r.voter, r.most = r.iteration+1, 0, U128{}
		return true
	}
	if d := l.balanceVoter(r.voter, r.Tolerance); r.most.Less(d) {
		r.most = d
	}
	r.voter++
	return true
}

// balanceVoter respreads one voter's stake, unless the winners it backs are
// within tolerance already. It returns the difference it found: the highest
// backing among the winners it gives stake to, less the lowest among all its
// winners, plus its idle stake.
func (l *ledger) balanceVoter(voter int, tolerance U128) U128 {
	l.electedEdges(voter)
	if len(l.edges) <= 1 {
		return U128{}
	}
	stake := l.in.stake[voter]
	difference := l.difference(stake)
	if difference.Less(tolerance) {
		return difference
	}
	for _, e := range l.edges {
		c := l.target[e]
		l.backing[c] = l.backing[c].SaturatingSub(l.weight[e])
		l.weight[e] = U128{}
	}
	slices.SortStableFunc(l.edges, func(a, b uint32) int {
		return l.backing[l.target[a]].Cmp(l.backing[l.target[b]])
	})
	// Fill up the least backed first: find how many of them the stake can raise
	// to the level of the highest among them.
	var below U128 // the sum of the backings so far
	split := len(l.edges)
	for i, e := range l.edges {
		backing := l.backing[l.target[e]]
		if need := mul128(backing, U128{Lo: uint64(i)}).lo.SaturatingSub(below); stake.Less(need) {
			split = i
			break
		}
		below = below.SaturatingAdd(backing)
	}
	level := l.backing[l.target[l.edges[split-1]]]
	excess := stake.SaturatingAdd(below).SaturatingSub(mul128(level, U128{Lo: uint64(split)}).lo)
	portion, _ := excess.divmod64(uint64(split))
	level = level.SaturatingAdd(portion)
	for _, e := range l.edges[:split] {
		c := l.target[e]
		l.weight[e] = level.SaturatingSub(l.backing[c])
		l.backing[c] = l.backing[c].SaturatingAdd(l.weight[e])
	}
	// The division leaves up to split-1 units over. Normalising cannot fail: the
	// weights sum to at most the stake.
	_ = l.normalize(voter)
	return difference
}

// difference is the measure that balanceVoter returns, of the voter in l.edges.
func (l *ledger) difference(stake U128) U128 {
	var highest, used U128
	backs, lowest := false, MaxU128
	for i, e := range l.edges {
		backing := l.backing[l.target[e]]
		if backing.Less(lowest) {
			lowest = backing
		}
		if !l.values[i].IsZero() {
			backs = true
			used = used.SaturatingAdd(l.values[i])
			if highest.Less(backing) {
				highest = backing
			}
		}
	}
	if !backs {
		return stake
	}
	return highest.SaturatingSub(lowest).SaturatingAdd(stake.SaturatingSub(used))
}

// result reads the ledger out for the given winners.
func (l *ledger) result(winners []Winner) *Result {
	r := &Result{Winners: slices.Clone(winners)}
	for i, w := range r.Winners {
		r.Winners[i].Backing = l.backing[w.Candidate]
	}
	count := 0
	for _, w := range l.weight {
		if !w.IsZero() {
			count++
		}
	}
	edges := make([]Edge, 0, count) // one array for all assignments
	for v := range l.in.Voters() {
		first := len(edges)
		for e := l.start[v]; e < l.start[v+1]; e++ {
			if !l.weight[e].IsZero() {
				edges = append(edges, Edge{l.target[e], l.weight[e]})
			}
		}
		if len(edges) > first {
			r.Assignments = append(r.Assignments, Assignment{uint32(v), edges[first:len(edges):len(edges)]})
		}
	}
	return r
}

// Balance balances a result further and returns the better of both by score; the
// given one stays. Unlike the balancing inside SeqPhragmen it also considers the
// winners a voter approves of but gives nothing to. The result must belong to the
// instance (see NewResult).
func Balance(in *Instance, r *Result, b Balancing) (*Result, error) {
	winners := make([]uint32, len(r.Winners))
	for i, w := range r.Winners {
		winners[i] = w.Candidate
	}
	checked, err := NewResult(in, winners, r.Assignments)
	if err != nil {
		return nil, err
	}
	elected := make([]bool, in.Candidates())
	for _, c := range winners {
		elected[c] = true
	}
	l := newLedger(in, func(c uint32) bool { return elected[c] })
	l.elected = elected
	for _, w := range checked.Winners {
		l.backing[w.Candidate] = w.Backing
	}
	for _, a := range r.Assignments {
		for _, edge := range a.Edges {
			for e := l.start[a.Voter]; e < l.start[a.Voter+1]; e++ {
				if l.target[e] == edge.Candidate {
					l.weight[e] = edge.Weight
				}
			}
		}
	}
	unbalanced := l.result(r.Winners)
	iterations := l.balance(b)
	return better(l.result(r.Winners), unbalanced, iterations), nil
}
