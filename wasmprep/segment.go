package wasmprep

// A segment is a set of instructions that, traps aside, are executed equally
// often: it starts at a label and goes on behind nested blocks which cannot be
// left except through their own end. Its whole cost is charged at its start,
// so a trap never loses gas. settle then joins segments where a charge of its
// own would cost more than it is worth.

// noSegment stands for dead code, which costs nothing.
const noSegment = -1

type segKind uint8

const (
	segPlain segKind = iota // the function's entry, or behind a block's end
	segArm                  // an arm of an if, or what follows a br_if
	segLoop                 // a loop's head
)

type segment struct {
	cost   uint64
	parent int // the segment that dominates this one
	kind   segKind
	edges  int    // a loop's head: its last back edge, plus one
	folded uint64 // part of cost that came from arms
}

// backEdge is a branch from a segment to a loop.
type backEdge struct {
	from int
	next int // the loop's back edge before this one, plus one
}

// settle moves charges between a function's segments.
//
// Rotation: a loop's head that costs at most RotateMax (the usual dispatcher
// in front of a br_table) is paid by whoever goes there: the segment before
// the loop and each branch back. This is exact but for a branch that is not
// taken.
//
// Folding: an arm that costs at most FoldMax is charged with the segment it
// hangs on, whether or not it is taken, as long as what a segment pays for
// its arms does not exceed its own cost by more than FoldSlack.
func (w *walker) settle() {
	c := &w.m.rules.Costs
	// Inner loops have higher indices than those around them. Going down, a
	// head's cost is complete when its turn comes, and what it hands to
	// segments that have had theirs stays with them.
	for i := len(w.segs) - 1; i > 0; i-- {
		if s := &w.segs[i]; s.kind == segLoop && s.cost <= c.RotateMax && !w.selfLoop(i) {
			for e := s.edges; e != 0; e = w.backEdges[e-1].next {
				w.segs[w.backEdges[e-1].from].cost += s.cost
			}
			w.segs[s.parent].cost += s.cost
			s.cost = 0
		}
	}
	for i := len(w.segs) - 1; i > 0; i-- {
		s, p := &w.segs[i], &w.segs[w.segs[i].parent]
		if s.kind == segArm && s.cost <= c.FoldMax && p.folded+s.cost <= p.cost-p.folded+c.FoldSlack {
			p.cost += s.cost
			p.folded += s.cost
			s.cost = 0
		}
	}
}

// selfLoop tells whether the loop with head i is branched to from its head:
// then moving the charge would only move it around.
func (w *walker) selfLoop(i int) bool {
	for e := w.segs[i].edges; e != 0; e = w.backEdges[e-1].next {
		if w.backEdges[e-1].from == i {
			return true
		}
	}
	return false
}

// entryCost is the charge at the function's entry.
func (w *walker) entryCost() uint64 {
	c := &w.m.rules.Costs
	return w.segs[0].cost + uint64(c.Call) + uint64(c.Local)*uint64(len(w.locals)-w.params)
}

// summary describes the walked body for the call graph.
func (w *walker) summary() summary {
	s := summary{cost: w.entryCost(), indirect: w.indirect}
	for _, seg := range w.segs[1:] {
		s.cost += seg.cost
	}
	if len(w.direct) > 0 {
		s.calls = append([]uint32(nil), w.direct...)
	}
	s.frame = w.m.rules.Costs.Frame + int64(len(w.locals)) + int64(w.maxOpds) + int64(w.instrs/8)
	return s
}
