package wasmprep

// Depth and exhaustion need not be tested at every call. A function is
// unguarded when everything that one activation of it can do before the next
// test is cheap: its body and the unguarded functions it calls, taken
// together, cost at most Costs.Unguarded gas and Costs.UnguardedFrame depth
// units. All others are guarded: they count their frame, and those of the
// unguarded functions below it, and test both counters on entry. Functions
// that call indirectly are guarded, and at least one function of every cycle
// of direct calls is, so recursion is always counted.
//
// What runs between two tests is then one body, passed once, and what it calls
// unguarded. A body can call very often, so one whose unguarded calls come to
// more than Costs.Unpaid has its callees guarded. And bodies can be many: when
// a recursion returns, the rest of each. So a guarded function that costs more
// than Costs.Unguarded tests the gas when it is left, too.

// summary is what the call graph needs to know of a function.
type summary struct {
	cost     uint64   // of the whole body, entry included
	frame    int64    // depth units of the function alone
	calls    []uint32 // the defined functions it calls, in order
	indirect bool
	state    visit
	guarded  bool
	// below is the deepest stack of unguarded functions under this one.
	below int64
	// total is the cost of the body and the unguarded functions it calls.
	total uint64
}

type visit uint8

const (
	unvisited visit = iota
	visiting
	visited
)

// guard decides which functions are guarded. It visits functions by index
// and calls in order, so the result depends on the module alone.
func guard(fs []summary, c *Costs) {
	for i := range fs {
		visitCalls(fs, uint32(i), c)
	}
}

func visitCalls(fs []summary, i uint32, c *Costs) {
	f := &fs[i]
	switch f.state {
	case visited:
		return
	case visiting: // a cycle of direct calls closes here
		f.guarded = true
		return
	}
	f.state = visiting
	f.guarded = f.guarded || f.indirect
	f.total = f.cost
	for _, callee := range f.calls {
		visitCalls(fs, callee, c)
		if g := &fs[callee]; !g.guarded {
			f.total = min(f.total+g.total, 1<<40)
			f.below = max(f.below, g.frame+g.below)
		}
	}
	if f.total-f.cost > c.Unpaid {
		for _, callee := range f.calls {
			fs[callee].guarded = true
		}
		f.total, f.below = f.cost, 0
	}
	if f.total > c.Unguarded || f.frame+f.below > c.UnguardedFrame {
		f.guarded = true
	}
	f.state = visited
}
