package report

import (
	"slices"

	"github.com/phala-go/phala/npos"
)

// Report says how well an elected set represents the stake behind it, and what it
// would cost to take it over. All of it is recomputed from the instance and the
// result, so anyone can check it.
type Report struct {
	Candidates int `json:"candidates"`
	Voters     int `json:"voters"`
	Approvals  int `json:"approvals"`
	// Seats is the number of winners.
	Seats int `json:"seats"`
	// TotalStake is the stake of all voters that approve of a candidate.
	TotalStake npos.U128 `json:"total_stake"`
	// Score is the election score; its MinimalStake is the maximin support: what
	// the least backed seat costs.
	Score npos.Score `json:"score"`
	// MaximinBound is TotalStake / Seats: no committee of this size has a higher
	// smallest support.
	MaximinBound npos.U128 `json:"maximin_bound"`
	// PJR is the certificate at the standard threshold, LowestPJR the smallest
	// threshold that is certified too.
	PJR       npos.Certificate `json:"pjr"`
	LowestPJR npos.U128        `json:"lowest_pjr"`
	// Attacks are the costs of one third and two thirds of the seats.
	Attacks    []Attack    `json:"attacks"`
	Validators []Validator `json:"validators"`
	// Unelected are the other candidates, the nearest to a seat first.
	Unelected []Unelected `json:"unelected"`
}

// Validator is an elected candidate and why it is one.
type Validator struct {
	Candidate uint32 `json:"candidate"`
	// Round is when it was elected, from zero, and ElectedWith why: the stake for
	// a seat that its voters could give then, counting what they spend on earlier
	// winners. No other candidate's voters could give more. Zero where the result
	// does not come from an election here (npos.NewResult).
	Round       int       `json:"round"`
	ElectedWith npos.U128 `json:"elected_with"`
	// Support is the stake assigned to it, of Backers voters; LargestBacker gives
	// the most of them.
	Support       npos.U128    `json:"support"`
	Backers       int          `json:"backers"`
	LargestBacker npos.Backing `json:"largest_backer"`
	// ApprovalStake is the stake of all voters that approve of it.
	ApprovalStake npos.U128 `json:"approval_stake"`
}

// Unelected is a candidate without a seat and why: Offer is the stake that its
// voters could give for one more seat, to compare with Validator.ElectedWith; zero
// where that is.
type Unelected struct {
	Candidate     uint32    `json:"candidate"`
	ApprovalStake npos.U128 `json:"approval_stake"`
	Offer         npos.U128 `json:"offer"`
}

// Attack is the cost of taking a number of seats of the set.
type Attack struct {
	// Part is "1/3" (enough to halt the chain) or "2/3" (more than that: enough to
	// decide alone), and Seats the number of seats it takes.
	Part  string `json:"part"`
	Seats int    `json:"seats"`
	// NewStake is the least stake that wins those seats in an election by
	// sequential Phragmén when everybody else votes as now; see AttackCost.
	NewStake npos.U128 `json:"new_stake"`
	// OfTotal is NewStake in billionths of the present total stake.
	OfTotal npos.U128 `json:"of_total"`
	// Incumbent is the stake behind the least backed Seats of the present set:
	// what is at risk of slashing if those misbehave.
	Incumbent npos.U128 `json:"incumbent"`
}

// New makes the report of a result of the instance (see npos.NewResult). It runs
// one election, for the attack costs.
func New(in *npos.Instance, r *npos.Result) (*Report, error) {
	seats := len(r.Winners)
	out := &Report{
		Candidates: in.Candidates(), Voters: in.Voters(), Approvals: in.Edges(), Seats: seats,
		TotalStake: in.TotalStake(), Score: r.Score(), MaximinBound: npos.StandardThreshold(in, seats),
		PJR: npos.CheckStandardPJR(in, r), LowestPJR: npos.LowestPJR(in, r),
		Attacks: []Attack{}, Validators: []Validator{}, Unelected: unelected(in, r),
	}
	supports := make([]npos.U128, 0, seats)
	for i, s := range r.Supports() {
		v := Validator{Candidate: s.Candidate, Round: i, ElectedWith: stakeFor(r.Winners[i].Load), Support: s.Total, Backers: len(s.Backers), ApprovalStake: in.ApprovalStake(int(s.Candidate))}
		for _, b := range s.Backers {
			if v.LargestBacker.Stake.Less(b.Stake) {
				v.LargestBacker = b
			}
		}
		out.Validators = append(out.Validators, v)
		supports = append(supports, s.Total)
	}
	if seats == 0 {
		return out, nil
	}
	honest, err := npos.SeqPhragmen(in, seats, npos.Balancing{})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(supports, npos.U128.Cmp)
	for _, part := range []Attack{{Part: "1/3", Seats: (seats + 2) / 3}, {Part: "2/3", Seats: 2*seats/3 + 1}} {
		part.NewStake = AttackCost(honest, seats, part.Seats)
		part.OfTotal, _ = npos.MulDivCeil(part.NewStake, npos.U64(npos.Billion), in.TotalStake())
		for _, s := range supports[:part.Seats] {
			part.Incumbent = part.Incumbent.SaturatingAdd(s)
		}
		out.Attacks = append(out.Attacks, part)
	}
	return out, nil
}

// stakeFor is the stake for a seat that a load or score stands for: one over it. A
// load of nothing is no load.
func stakeFor(load npos.U128) npos.U128 {
	if load.IsZero() || load == npos.MaxU128 {
		return npos.U128{}
	}
	return npos.MaxU128.Div(load)
}

// unelected scores the candidates that did not win as a further round would.
func unelected(in *npos.Instance, r *npos.Result) []Unelected {
	load := make([]npos.U128, in.Candidates())
	won := make([]bool, in.Candidates())
	loads := false
	for _, w := range r.Winners {
		load[w.Candidate], won[w.Candidate] = w.Load, true
		loads = loads || !w.Load.IsZero()
	}
	score := make([]npos.U128, in.Candidates())
	for c := range score {
		score[c] = npos.MaxU128.Div(in.ApprovalStake(c))
	}
	for v := range in.Voters() {
		// A voter's load is that of its newest winner, the highest.
		var own npos.U128
		for _, c := range in.Approvals(v) {
			if own.Less(load[c]) {
				own = load[c]
			}
		}
		for _, c := range in.Approvals(v) {
			if !won[c] {
				term, _ := npos.MulDiv(own, in.Stake(v), in.ApprovalStake(int(c)))
				score[c] = score[c].SaturatingAdd(term)
			}
		}
	}
	out := []Unelected{}
	for c := range score {
		if !won[c] {
			u := Unelected{Candidate: uint32(c), ApprovalStake: in.ApprovalStake(c)}
			if loads {
				u.Offer = stakeFor(score[c])
			}
			out = append(out, u)
		}
	}
	slices.SortStableFunc(out, func(a, b Unelected) int {
		if c := b.Offer.Cmp(a.Offer); c != 0 {
			return c
		}
		return b.ApprovalStake.Cmp(a.ApprovalStake)
	})
	return out
}

// AttackCost is the least stake with which somebody wins wanted of seats seats in
// an election by sequential Phragmén, given the election without the attacker,
// whose voters it assumes to vote the same.
//
// It is the cost of the direct attack: own candidates, with the same stake s and
// nobody else's behind each. Such a candidate has the constant score 1/s and wins
// once all others' scores are above. The others' scores only depend on one another,
// and wanted seats are won if and only if the seats-wanted+1-th of them is above
// 1/s. So s is the least stake whose score is below the highest of the first
// seats-wanted+1 scores (ties count for the others), and the cost is wanted * s.
// One voter approving of all own candidates costs the same. Voting for others'
// candidates besides shifts their scores too; that is not covered. Where fewer
// others stand, or have any stake, a unit a seat suffices.
func AttackCost(honest *npos.Result, seats, wanted int) npos.U128 {
	if wanted <= 0 || wanted > seats {
		return npos.U128{}
	}
	highest := npos.MaxU128
	if last := seats - wanted; last < len(honest.Winners) {
		highest = npos.U128{}
		for _, w := range honest.Winners[:last+1] {
			if highest.Less(w.Load) {
				highest = w.Load
			}
		}
	}
	// floor(MaxU128/s) < highest if and only if s > floor(MaxU128/highest).
	each := npos.U64(1)
	if highest != npos.MaxU128 {
		each = npos.MaxU128.Div(highest).SaturatingAdd(each)
	}
	cost, _ := npos.MulDiv(each, npos.U64(uint64(wanted)), npos.U64(1))
	return cost
}
