package npos

// Balancing asks for star balancing after (or, in PhragMMS, during) an election.
type Balancing struct {
	// Iterations is the most rounds over all voters; zero means no balancing.
	Iterations int
	// Tolerance ends it early: once no voter's backed winners differ by more.
	Tolerance U128
}

// SeqPhragmen elects up to seats winners by the sequential Phragmén method
// (arXiv 2004.12990, section 4.1; Brill et al., "Phragmén's voting methods and
// justified representation"), then balances if asked. The result is exact and
// reproducible: integer arithmetic only, equal scores go to the earlier candidate,
// loads are fractions of MaxU128 rounded down as in Substrate's
// sp-npos-elections, whose results it equals bit for bit wherever those do not
// saturate.
//
// Fewer candidates than seats elect them all; candidates without any stake behind
// them come last. Balancing that would lower the score by rounding is discarded.
//
// The scores are kept up to date instead of recomputed: electing a candidate
// changes only the terms of its own voters. SeqPhragmenPlain is the textbook
// evaluation and gives the same result, for many times the work.
func SeqPhragmen(in *Instance, seats int, balancing Balancing) (*Result, error) {
	return finish(in, incrementalRounds(in, seats), balancing)
}

// SeqPhragmenPlain is SeqPhragmen evaluated as the method is defined: every score
// from every approval in every round. It is the independent check of SeqPhragmen.
func SeqPhragmenPlain(in *Instance, seats int, balancing Balancing) (*Result, error) {
	return finish(in, plainRounds(in, seats), balancing)
}

// rounds is the outcome of the election rounds.
type rounds struct {
	winners   []Winner // with loads, without backings
	voterLoad []U128   // by voter
	edgeLoad  []U128   // by approval; meaningful for those of winners
}

// plainRounds runs the rounds as defined.
func plainRounds(in *Instance, seats int) rounds {
	out := rounds{voterLoad: make([]U128, in.Voters()), edgeLoad: make([]U128, in.Edges())}
	elected := make([]bool, in.Candidates())
	score := make([]U128, in.Candidates())
	for len(out.winners) < min(seats, in.Candidates()) {
		for c := range score {
			score[c] = MaxU128.Div(in.approval[c]) // 1/approval; MaxU128 for none
		}
		for v, load := range out.voterLoad {
			for _, c := range in.Approvals(v) {
				if !elected[c] {
					term, _ := MulDiv(load, in.stake[v], in.approval[c])
					score[c] = score[c].SaturatingAdd(term)
				}
			}
		}
		best := -1
		for c := range score {
			if !elected[c] && (best < 0 || before(in, score, c, best)) {
				best = c
			}
		}
		elected[best] = true
		out.winners = append(out.winners, Winner{Candidate: uint32(best), Load: score[best]})
		for v := range out.voterLoad {
			for e := in.start[v]; e < in.start[v+1]; e++ {
				if in.target[e] == uint32(best) {
					out.edgeLoad[e] = score[best].SaturatingSub(out.voterLoad[v])
					out.voterLoad[v] = score[best]
				}
			}
		}
	}
	return out
}

// before tells whether candidate c goes before the best one so far, which stands
// earlier in the list and so wins ties. A candidate without approval has an
// infinite score, above even a saturated one.
func before(in *Instance, score []U128, c, best int) bool {
	if in.approval[c].IsZero() || in.approval[best].IsZero() {
		return !in.approval[c].IsZero()
	}
	return score[c].Less(score[best])
}

// incrementalRounds runs the same rounds on running sums. A score is
// min(MaxU128, 1/approval + sum of terms) in any order of adding, because the
// terms are not negative; so a sum with room to spare, from which old terms can be
// taken out again, gives the very same value.
func incrementalRounds(in *Instance, seats int) rounds {
	out := rounds{voterLoad: make([]U128, in.Voters()), edgeLoad: make([]U128, in.Edges())}
	term := out.edgeLoad // an approval needs its term only until its candidate wins
	n := in.Candidates()
	sum, over := make([]U128, n), make([]uint64, n) // over counts multiples of 2^128
	by := make([]divisor, n)
	score := make([]U128, n)
	elected := make([]bool, n)
	for c, a := range in.approval {
		if !a.IsZero() {
			by[c] = newDivisor(a)
		}
		sum[c] = MaxU128.Div(a)
		score[c] = sum[c]
	}
	start, edge, voter := in.byCandidate()
	for len(out.winners) < min(seats, n) {
		best := -1
		for c := range score {
			if !elected[c] && (best < 0 || before(in, score, c, best)) {
				best = c
			}
		}
		elected[best] = true
		load := score[best]
		out.winners = append(out.winners, Winner{Candidate: uint32(best), Load: load})
		for i := start[best]; i < start[best+1]; i++ {
			v := voter[i]
			out.edgeLoad[edge[i]] = load.SaturatingSub(out.voterLoad[v])
			out.voterLoad[v] = load
			stake := in.stake[v]
			if stake.IsZero() {
				continue
			}
			for e := in.start[v]; e < in.start[v+1]; e++ {
				c := in.target[e]
				if elected[c] {
					continue
				}
				t := by[c].mulDiv(load, stake)
				s, carry := sum[c].add(t)
				s, borrow := s.sub(term[e])
				over[c] += carry - borrow
				sum[c], term[e], score[c] = s, t, s
				if over[c] != 0 {
					score[c] = MaxU128
				}
			}
		}
	}
	return out
}

// finish turns loads into weights, balances, and makes the result.
func finish(in *Instance, r rounds, balancing Balancing) (*Result, error) {
	l := &ledger{in: in, elected: make([]bool, in.Candidates()), backing: make([]U128, in.Candidates())}
	for _, w := range r.winners {
		l.elected[w.Candidate] = true
	}
	l.start = make([]uint32, 1, in.Voters()+1)
	kept := 0
	for e, c := range in.target {
		if l.elected[c] && !r.edgeLoad[e].IsZero() {
			kept++
		}
	}
	l.target, l.weight = make([]uint32, 0, kept), make([]U128, 0, kept)
	for v := range in.Voters() {
		for e := in.start[v]; e < in.start[v+1]; e++ {
			c := in.target[e]
			if !l.elected[c] {
				continue
			}
			weight, _ := MulDiv(in.stake[v], r.edgeLoad[e], r.voterLoad[v])
			// An edge that rounds to nothing is dropped, or normalising would
			// give it the voter's odd units.
			if !weight.IsZero() {
				l.target, l.weight = append(l.target, c), append(l.weight, weight)
				l.backing[c] = l.backing[c].SaturatingAdd(weight)
			}
		}
		l.start = append(l.start, uint32(len(l.target)))
		if err := l.normalize(v); err != nil {
			return nil, err
		}
	}
	unbalanced := l.result(r.winners)
	if balancing.Iterations <= 0 {
		return unbalanced, nil
	}
	iterations := l.balance(balancing)
	return better(l.result(r.winners), unbalanced, iterations), nil
}

// better is the balanced result unless rounding made it the worse one.
func better(balanced, unbalanced *Result, iterations int) *Result {
	if balanced.Score().Compare(unbalanced.Score()) < 0 {
		balanced = unbalanced
	}
	balanced.Iterations = iterations
	return balanced
}
