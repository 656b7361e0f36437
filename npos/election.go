package npos

import "math"

// An Election is a sequential Phragmén election in progress, for callers that may
// only do so much at a time: a chain pages it over blocks. Its result does not depend
// on how it was cut into steps.
type Election struct {
	in        *Instance
	seats     int
	balancing Balancing
	state     int
	rounds
	counting
	ledger  *ledger
	voter   int // the next one to assign
	plain   *Result
	balance balancingRun
	outcome *Result
	err     error
}

// The states of an Election.
const (
	electing = iota
	assigning
	balancing
	finished
)

// counting is what the rounds keep up to date instead of computing it anew. A score
// is min(MaxU128, 1/approval + sum of terms) in any order of adding, because the
// terms are not negative; so a sum with room to spare, from which old terms can be
// taken out again, gives the very same value.
type counting struct {
	sum                []U128
	over               []uint64 // multiples of 2^128
	by                 []divisor
	score              []U128
	elected            []bool
	start, edge, voter []uint32
}

// NewElection begins an election; see SeqPhragmen. It takes time in proportion to the
// approvals, a small part of what the election takes.
func NewElection(in *Instance, seats int, b Balancing) *Election {
	n := in.Candidates()
	e := &Election{in: in, seats: seats, balancing: b,
		rounds:   rounds{voterLoad: make([]U128, in.Voters()), edgeLoad: make([]U128, in.Edges())},
		counting: counting{sum: make([]U128, n), over: make([]uint64, n), by: make([]divisor, n), score: make([]U128, n), elected: make([]bool, n)}}
	for c, a := range in.approval {
		if !a.IsZero() {
			e.by[c] = newDivisor(a)
		}
		e.sum[c] = MaxU128.Div(a)
		e.score[c] = e.sum[c]
	}
	e.start, e.edge, e.counting.voter = in.byCandidate()
	return e
}

// Step does about as many units of work as given, at least one part; a unit is an
// approval or a candidate looked at. The largest part is the election of one candidate:
// its voters with their approvals. It returns whether the election is done, and the
// units that are left then.
func (e *Election) Step(units int) (left int, done bool) {
	for units > 0 && e.state != finished {
		switch e.state {
		case electing:
			if len(e.winners) < min(e.seats, e.in.Candidates()) {
				units -= e.elect()
			} else {
				e.assign()
			}
		case assigning:
			units -= e.assignVoter()
		case balancing:
			units -= e.balanceVoter()
		}
	}
	return max(units, 0), e.state == finished
}

// Result is the outcome of an election that is done, nil before.
func (e *Election) Result() (*Result, error) { return e.outcome, e.err }

// run makes all steps.
func (e *Election) run() (*Result, error) {
	for done := false; !done; {
		_, done = e.Step(math.MaxInt)
	}
	return e.Result()
}

// elect runs one round and returns its work.
func (e *Election) elect() (work int) {
	best := -1
	for c := range e.score {
		if !e.elected[c] && (best < 0 || before(e.in, e.score, c, best)) {
			best = c
		}
	}
	work = len(e.score)
	e.elected[best] = true
	load := e.score[best]
	e.winners = append(e.winners, Winner{Candidate: uint32(best), Load: load})
	term := e.edgeLoad // an approval needs its term only until its candidate wins
	for i := e.start[best]; i < e.start[best+1]; i++ {
		v := e.counting.voter[i]
		e.edgeLoad[e.edge[i]] = load.SaturatingSub(e.voterLoad[v])
		e.voterLoad[v] = load
		stake := e.in.stake[v]
		if stake.IsZero() {
			continue
		}
		work += int(e.in.start[v+1] - e.in.start[v])
		for a := e.in.start[v]; a < e.in.start[v+1]; a++ {
			c := e.in.target[a]
			if e.elected[c] {
				continue
			}
			t := e.by[c].mulDiv(load, stake)
			s, carry := e.sum[c].add(t)
			s, borrow := s.sub(term[a])
			e.over[c] += carry - borrow
			e.sum[c], term[a], e.score[c] = s, t, s
			if e.over[c] != 0 {
				e.score[c] = MaxU128
			}
		}
	}
	return work
}

// assign begins to turn loads into weights.
func (e *Election) assign() {
	e.state = assigning
	e.counting = counting{}
	l := &ledger{in: e.in, elected: make([]bool, e.in.Candidates()), backing: make([]U128, e.in.Candidates())}
	for _, w := range e.winners {
		l.elected[w.Candidate] = true
	}
	l.start = make([]uint32, 1, e.in.Voters()+1)
	kept := 0
	for i, c := range e.in.target {
		if l.elected[c] && !e.edgeLoad[i].IsZero() {
			kept++
		}
	}
	l.target, l.weight = make([]uint32, 0, kept), make([]U128, 0, kept)
	e.ledger = l
}

// assignVoter spreads the next voter's stake over its winners and returns the work.
func (e *Election) assignVoter() int {
	l, v := e.ledger, e.voter
	if v == e.in.Voters() {
		e.plain = l.result(e.winners)
		if e.balancing.Iterations <= 0 {
			e.finish(e.plain)
		} else {
			e.balance, e.state = balancingRun{Balancing: e.balancing}, balancing
		}
		return 1 + e.in.Edges()
	}
	e.voter++
	for i := e.in.start[v]; i < e.in.start[v+1]; i++ {
		c := e.in.target[i]
		if !l.elected[c] {
			continue
		}
		weight, _ := MulDiv(e.in.stake[v], e.edgeLoad[i], e.voterLoad[v])
		// An edge that rounds to nothing is dropped, or normalising would give it the
		// voter's odd units.
		if !weight.IsZero() {
			l.target, l.weight = append(l.target, c), append(l.weight, weight)
			l.backing[c] = l.backing[c].SaturatingAdd(weight)
		}
	}
	l.start = append(l.start, uint32(len(l.target)))
	if err := l.normalize(v); err != nil {
		e.err = err
		e.finish(nil)
	}
	return 1 + int(e.in.start[v+1]-e.in.start[v])
}

// balanceVoter balances one voter and returns the work.
func (e *Election) balanceVoter() int {
	v := e.balance.voter
	if e.balance.next(e.ledger) {
		if v < e.in.Voters() {
			return 1 + int(e.ledger.start[v+1]-e.ledger.start[v])
		}
		return 1
	}
	e.finish(better(e.ledger.result(e.winners), e.plain, e.balance.iteration))
	return 1 + e.in.Edges()
}

// finish keeps the result and nothing else.
func (e *Election) finish(r *Result) {
	*e = Election{in: e.in, state: finished, outcome: r, err: e.err}
}

// better is the balanced result unless rounding made it the worse one.
func better(balanced, unbalanced *Result, iterations int) *Result {
	if balanced.Score().Compare(unbalanced.Score()) < 0 {
		balanced = unbalanced
	}
	balanced.Iterations = iterations
	return balanced
}
