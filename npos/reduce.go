package npos

import (
	"fmt"
	"math"
)

// Reduce removes as many edges as it can from assignments without changing any
// voter's total or any candidate's backing, so that a result takes less room: what
// remains has no cycle, hence fewer edges than voters and candidates together. It
// changes the assignments in place, drops no voter, and returns the number of
// edges removed. (Web3 Foundation, "Reducing the number of edges"; cycles of length
// four are cancelled first, then all others, in the order of the assignments, which
// gives the results of Substrate's `reduce`.)
//
// A voter listed twice is refused before anything changes. A candidate that a
// voter lists twice stays as it is; only its first edge takes part.
func Reduce(assignments []Assignment) (removed int, err error) {
	r, err := NewReduction(assignments)
	if err != nil {
		return 0, err
	}
	for done := false; !done; {
		_, done = r.Step(math.MaxInt)
	}
	return r.Removed(), nil
}

// A Reduction is a Reduce in progress, for callers that may only do so much at a
// time. What it leaves does not depend on how it was cut into steps.
type Reduction struct {
	assignments []Assignment
	fours       *fours
	cycles      *cycles
	at          int // the next assignment
	removed     int
}

// NewReduction begins to reduce assignments, in place.
func NewReduction(assignments []Assignment) (*Reduction, error) {
	if err := distinctVoters(assignments); err != nil {
		return nil, err
	}
	return &Reduction{assignments: assignments, fours: newFours()}, nil
}

// Step does about as many units of work as given, at least one voter's; a unit is a
// node looked at, and a pair of edges counts as eight. It returns whether all is done, and the
// units that are left then.
func (r *Reduction) Step(units int) (left int, done bool) {
	for units > 0 && !r.done() {
		var removed, work int
		if r.cycles == nil {
			removed, work = r.fours.add(r.assignments, r.at)
		} else {
			removed, work = r.cycles.add(r.assignments, int32(r.at))
		}
		r.removed += removed
		units -= 1 + work
		if r.at++; r.at == len(r.assignments) && r.cycles == nil {
			r.at, r.fours, r.cycles = 0, nil, newCycles(len(r.assignments))
		}
	}
	return max(units, 0), r.done()
}

func (r *Reduction) done() bool { return r.at == len(r.assignments) }

// Removed is the number of edges removed so far.
func (r *Reduction) Removed() int { return r.removed }

func distinctVoters(assignments []Assignment) error {
	seen := make(map[uint32]struct{}, len(assignments))
	for _, a := range assignments {
		if _, twice := seen[a.Voter]; twice {
			return &Error{CodeDuplicateVoter, fmt.Sprintf("number %d", a.Voter)}
		}
		seen[a.Voter] = struct{}{}
	}
	return nil
}

// find is the position of a candidate in an assignment, or -1.
func (a *Assignment) find(candidate uint32) int {
	for i, e := range a.Edges {
		if e.Candidate == candidate {
			return i
		}
	}
	return -1
}

// shift adds amount to (or takes it from) the edge to a candidate; an edge that
// comes to zero is removed, which the return value tells.
func (a *Assignment) shift(candidate uint32, amount U128, up bool) bool {
	i := a.find(candidate)
	w := &a.Edges[i].Weight
	if up {
		*w = w.SaturatingAdd(amount)
		return false
	}
	*w = w.SaturatingSub(amount)
	if !w.IsZero() {
		return false
	}
	a.Edges = append(a.Edges[:i], a.Edges[i+1:]...)
	return true
}

// fours cancels cycles of two voters with two candidates in common. For each ordered
// pair of candidates it remembers one earlier voter that backs both.
type fours struct{ holder map[candidatePair]int }

type candidatePair struct{ first, second uint32 }

func newFours() *fours { return &fours{make(map[candidatePair]int)} }

// add cancels the cycles that the next voter closes with earlier ones.
func (f *fours) add(assignments []Assignment, at int) (removed, work int) {
	var listed []uint32
	for _, e := range assignments[at].Edges {
		listed = append(listed, e.Candidate)
	}
	for i, c1 := range listed {
		for _, c2 := range listed[i+1:] {
			work += 8 // a look-up, and a scan of two voters
			key := candidatePair{c1, c2}
			other, known := f.holder[key]
			if !known {
				f.holder[key] = at
				continue
			}
			if assignments[at].both(c1, c2) != 2 {
				continue // lost one of the two meanwhile, or lists one twice
			}
			if assignments[other].both(c1, c2) != 2 {
				f.holder[key] = at
				continue
			}
			mine, theirs := cancelFour(&assignments[at], &assignments[other], c1, c2)
			removed += mine + theirs
			switch {
			case mine == 0:
				f.holder[key] = at
			case theirs > 0:
				delete(f.holder, key)
			}
		}
	}
	return removed, work
}

// both counts the edges to either candidate.
func (a *Assignment) both(c1, c2 uint32) int {
	n := 0
	for _, e := range a.Edges {
		if e.Candidate == c1 || e.Candidate == c2 {
			n++
		}
	}
	return n
}

// cancelFour sends the smallest weight of the cycle around it, the later of equal
// ones, and returns how many edges each voter lost.
func cancelFour(mine, theirs *Assignment, c1, c2 uint32) (lostMine, lostTheirs int) {
	if mine.find(c2) < mine.find(c1) {
		c1, c2 = c2, c1
	}
	least, corner := MaxU128, 0
	for i, w := range []U128{
		mine.Edges[mine.find(c1)].Weight, mine.Edges[mine.find(c2)].Weight,
		theirs.Edges[theirs.find(c1)].Weight, theirs.Edges[theirs.find(c2)].Weight,
	} {
		if !least.Less(w) {
			least, corner = w, i
		}
	}
	// Opposite corners move together: (mine,c1) with (theirs,c2).
	firstDown := corner == 0 || corner == 3
	for _, up := range []bool{true, false} {
		a, b := c1, c2 // mine moves at a, theirs at b
		if up == firstDown {
			a, b = c2, c1
		}
		if mine.shift(a, least, up) {
			lostMine++
		}
		if theirs.shift(b, least, up) {
			lostTheirs++
		}
	}
	return lostMine, lostTheirs
}

// forest is a set of rooted trees over voters and candidates. Which node of a tree
// is its root does not matter.
type forest struct {
	parent []int32
	walked int // nodes visited so far
}

// path is the way from a node up to its root, both included.
func (f *forest) path(node int32) []int32 {
	p := []int32{node}
	for f.parent[node] >= 0 {
		node = f.parent[node]
		p = append(p, node)
	}
	f.walked += len(p)
	return p
}

// link joins two trees by the edge between a and b, after turning a's tree so that
// a is its root.
func (f *forest) link(a, b int32) {
	p := f.path(a)
	for i := len(p) - 1; i > 0; i-- {
		f.parent[p[i]] = p[i-1]
	}
	f.parent[a] = b
}

// cut removes the edge between a and b, if it is one.
func (f *forest) cut(a, b int32) {
	switch {
	case f.parent[a] == b:
		f.parent[a] = -1
	case f.parent[b] == a:
		f.parent[b] = -1
	}
}

// cycles adds the edges one by one to a forest and cancels every cycle that one
// closes.
type cycles struct {
	forest
	voters    int32
	node      map[uint32]int32 // candidate to its node
	candidate []uint32         // node less voters to candidate
}

func newCycles(voters int) *cycles {
	c := &cycles{forest: forest{parent: make([]int32, voters)}, voters: int32(voters), node: make(map[uint32]int32)}
	for i := range c.parent {
		c.parent[i] = -1
	}
	return c
}

// add adds the next voter's edges.
func (c *cycles) add(assignments []Assignment, v int32) (removed, work int) {
	a := &assignments[v]
	before := c.walked
	for i := 0; i < len(a.Edges); {
		name := a.Edges[i].Candidate
		t, known := c.node[name]
		if !known {
			t = c.voters + int32(len(c.candidate))
			c.node[name] = t
			c.candidate = append(c.candidate, name)
			c.parent = append(c.parent, -1)
		}
		cycle := c.cycle(t, v)
		work += 1 + len(cycle)
		switch {
		case cycle == nil:
			c.link(v, t)
			i++
		case len(cycle) == 2: // a repeated candidate
			i++
		default:
			gone, moved := cancelCycle(assignments, c.candidate, &c.forest, cycle)
			removed += gone
			if !moved {
				i++
			}
		}
	}
	return removed, work + c.walked - before
}

// cycle is the path from a to b in the forest, or nil when they are in two trees.
func (f *forest) cycle(a, b int32) []int32 {
	up, down := f.path(a), f.path(b)
	if up[len(up)-1] != down[len(down)-1] {
		return nil
	}
	i, j := len(up)-1, len(down)-1
	for i > 0 && j > 0 && up[i-1] == down[j-1] {
		i, j = i-1, j-1
	}
	path := up[:i+1]
	for j--; j >= 0; j-- {
		path = append(path, down[j])
	}
	return path
}

// cancelCycle sends the smallest weight around the cycle that the last node, a
// voter, closes with the first, a candidate. It returns how many edges that
// removed, and whether one of them was the closing voter's, whose later edges have
// then moved up. (Of its two one grows, so both cannot go.)
func cancelCycle(assignments []Assignment, candidate []uint32, f *forest, cycle []int32) (removed int, moved bool) {
	voters, n := int32(len(assignments)), len(cycle)
	// Edge i joins cycle[i] and cycle[i+1]; voters stand at odd positions.
	ends := func(i int) (*Assignment, uint32) {
		v, t := cycle[i], cycle[(i+1)%n]
		if i%2 == 0 {
			v, t = t, v
		}
		return &assignments[v], candidate[t-voters]
	}
	least, at := MaxU128, 0
	for i := 1; i < n; i += 2 {
		for _, e := range []int{i, i - 1} {
			a, c := ends(e)
			if w := a.Edges[a.find(c)].Weight; w.Less(least) {
				least, at = w, e
			}
		}
	}
	closing := true // whether the closing edge stays
	for i := 1; i < n; i += 2 {
		for _, e := range []int{i - 1, i} {
			a, c := ends(e)
			if !a.shift(c, least, e%2 != at%2) {
				continue
			}
			removed++
			moved = moved || i == n-1
			if e == n-1 {
				closing = false
			} else {
				f.cut(cycle[e], cycle[e+1])
			}
		}
	}
	if closing {
		f.link(cycle[n-1], cycle[0])
	}
	return removed, moved
}
