package npos

import "fmt"

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
	if err := distinctVoters(assignments); err != nil {
		return 0, err
	}
	removed = reduceFours(assignments)
	return removed + reduceCycles(assignments), nil
}

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

// reduceFours cancels cycles of two voters with two candidates in common. For
// each ordered pair of candidates it remembers one earlier voter that backs both.
func reduceFours(assignments []Assignment) int {
	type pair struct{ first, second uint32 }
	holder := make(map[pair]int)
	removed := 0
	for at := range assignments {
		var listed []uint32
		for _, e := range assignments[at].Edges {
			listed = append(listed, e.Candidate)
		}
		for i, c1 := range listed {
			for _, c2 := range listed[i+1:] {
				key := pair{c1, c2}
				other, known := holder[key]
				if !known {
					holder[key] = at
					continue
				}
				if assignments[at].both(c1, c2) != 2 {
					continue // lost one of the two meanwhile, or lists one twice
				}
				if assignments[other].both(c1, c2) != 2 {
					holder[key] = at
					continue
				}
				mine, theirs := cancelFour(&assignments[at], &assignments[other], c1, c2)
				removed += mine + theirs
				switch {
				case mine == 0:
					holder[key] = at
				case theirs > 0:
					delete(holder, key)
				}
			}
		}
	}
	return removed
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
type forest struct{ parent []int32 }

// path is the way from a node up to its root, both included.
func (f *forest) path(node int32) []int32 {
	p := []int32{node}
	for f.parent[node] >= 0 {
		node = f.parent[node]
		p = append(p, node)
	}
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

// reduceCycles adds the edges one by one to a forest and cancels every cycle that
// one closes.
func reduceCycles(assignments []Assignment) int {
	voters := int32(len(assignments))
	node := make(map[uint32]int32) // candidate to its node
	f := forest{parent: make([]int32, voters)}
	candidate := []uint32{} // node less voters to candidate
	for i := range f.parent {
		f.parent[i] = -1
	}
	removed := 0
	for v := range voters {
		a := &assignments[v]
		for i := 0; i < len(a.Edges); {
			c := a.Edges[i].Candidate
			t, known := node[c]
			if !known {
				t = voters + int32(len(candidate))
				node[c] = t
				candidate = append(candidate, c)
				f.parent = append(f.parent, -1)
			}
			cycle := f.cycle(t, v)
			switch {
			case cycle == nil:
				f.link(v, t)
				i++
			case len(cycle) == 2: // a repeated candidate
				i++
			default:
				gone, moved := cancelCycle(assignments, candidate, &f, cycle)
				removed += gone
				if !moved {
					i++
				}
			}
		}
	}
	return removed
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
