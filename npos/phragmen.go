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
	e := NewElection(in, seats, balancing)
	return e.run()
}

// SeqPhragmenPlain is SeqPhragmen evaluated as the method is defined: every score
// from every approval in every round. It is the independent check of SeqPhragmen.
func SeqPhragmenPlain(in *Instance, seats int, balancing Balancing) (*Result, error) {
	e := &Election{in: in, balancing: balancing, rounds: plainRounds(in, seats), state: assigning}
	e.assign()
	return e.run()
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
