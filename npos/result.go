package npos

import (
	"fmt"
)

// Edge is the stake one voter gives to one candidate.
type Edge struct {
	Candidate uint32 `json:"candidate"`
	Weight    U128   `json:"weight"`
}

// Assignment is how one voter's stake is spread over winners.
type Assignment struct {
	Voter uint32 `json:"voter"`
	Edges []Edge `json:"edges"`
}

// Winner is an elected candidate.
type Winner struct {
	Candidate uint32 `json:"candidate"`
	// Backing is the stake assigned to it.
	Backing U128 `json:"backing"`
	// Load is its Phragmén score in the round that elected it, over MaxU128: the
	// load that one seat laid on each unit of stake behind it. It is MaxU128 for
	// a winner without any approval, and zero where the method has no loads.
	Load U128 `json:"load"`
}

// Result is the outcome of an election.
type Result struct {
	// Winners are in the order in which they were elected.
	Winners []Winner `json:"winners"`
	// Assignments are in the order of the voters; only voters that back a winner
	// have one, only edges of positive weight are listed, and the weights of each
	// voter sum to exactly its stake. (A voter with fewer units of stake than it has
	// winners may back none: each share rounds to nothing.)
	Assignments []Assignment `json:"assignments"`
	// Iterations is how many rounds of balancing ran.
	Iterations int `json:"iterations"`
}

// Support is a winner with the voters that back it: in staking, its exposure.
type Support struct {
	Candidate uint32    `json:"candidate"`
	Total     U128      `json:"total"`
	Backers   []Backing `json:"backers"`
}

// Backing is the stake that one voter gives to the candidate of a Support.
type Backing struct {
	Voter uint32 `json:"voter"`
	Stake U128   `json:"stake"`
}

// Supports turns the assignments around: one support per winner, in the order of
// the winners, with its backers in the order of the voters.
func (r *Result) Supports() []Support {
	out := make([]Support, len(r.Winners))
	at := make(map[uint32]int, len(r.Winners))
	for i, w := range r.Winners {
		out[i].Candidate = w.Candidate
		at[w.Candidate] = i
	}
	for _, a := range r.Assignments {
		for _, e := range a.Edges {
			s := &out[at[e.Candidate]]
			s.Total = s.Total.SaturatingAdd(e.Weight)
			s.Backers = append(s.Backers, Backing{a.Voter, e.Weight})
		}
	}
	return out
}

// Score is the score of the winners' backings.
func (r *Result) Score() Score {
	totals := make([]U128, len(r.Winners))
	for i, w := range r.Winners {
		totals[i] = w.Backing
	}
	return Evaluate(totals)
}

// NewResult makes a result from winners and assignments that come from elsewhere
// (another program, a stored exposure) and checks it against the instance: every
// edge must be an approval, go to a winner and, with the voter's others, not
// exceed its stake. It computes the backings.
func NewResult(in *Instance, winners []uint32, assignments []Assignment) (*Result, error) {
	r := &Result{Winners: make([]Winner, len(winners)), Assignments: assignments}
	at := make(map[uint32]int, len(winners))
	for i, c := range winners {
		if int(c) >= in.Candidates() {
			return nil, &Error{CodeUnknownCandidate, fmt.Sprintf("winner %d is number %d of %d", i, c, in.Candidates())}
		}
		if _, twice := at[c]; twice {
			return nil, &Error{CodeDuplicateCandidate, fmt.Sprintf("winner %d: number %d", i, c)}
		}
		at[c] = i
		r.Winners[i].Candidate = c
	}
	seen := make([]bool, in.Voters())
	for _, a := range assignments {
		if int(a.Voter) >= in.Voters() {
			return nil, &Error{CodeUnknownVoter, fmt.Sprintf("number %d of %d", a.Voter, in.Voters())}
		}
		if seen[a.Voter] {
			return nil, &Error{CodeDuplicateVoter, fmt.Sprintf("number %d", a.Voter)}
		}
		seen[a.Voter] = true
		if err := r.take(in, at, a); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// take adds one assignment to the backings after checking it.
func (r *Result) take(in *Instance, at map[uint32]int, a Assignment) error {
	var spent U128
	for i, e := range a.Edges {
		w, elected := at[e.Candidate]
		switch {
		case !elected:
			return &Error{CodeNotElected, fmt.Sprintf("voter %d backs number %d", a.Voter, e.Candidate)}
		case !in.approves(int(a.Voter), e.Candidate):
			return &Error{CodeNotApproved, fmt.Sprintf("voter %d backs number %d", a.Voter, e.Candidate)}
		}
		for _, earlier := range a.Edges[:i] {
			if earlier.Candidate == e.Candidate {
				return &Error{CodeDuplicateTarget, fmt.Sprintf("voter %d backs number %d twice", a.Voter, e.Candidate)}
			}
		}
		sum, ok := spent.Add(e.Weight)
		if stake := in.Stake(int(a.Voter)); !ok || stake.Less(sum) {
			return &Error{CodeOverspent, fmt.Sprintf("voter %d of stake %v", a.Voter, stake)}
		}
		spent = sum
		r.Winners[w].Backing, _ = r.Winners[w].Backing.add(e.Weight)
	}
	return nil
}

// Share is the part of a voter's stake, in units of the accuracy, that goes to
// one candidate.
type Share struct {
	Candidate uint32
	Parts     uint64
}

// Shares expresses an assignment as shares that sum to exactly accuracy: each
// weight's share of stake rounded down, zero shares dropped, the rest normalised.
// Common accuracies are Billion and 65535.
func (a Assignment) Shares(stake U128, accuracy uint32) ([]Share, error) {
	shares, err := a.Truncated(stake, accuracy)
	if err != nil {
		return nil, err
	}
	parts := make([]U128, len(shares))
	for i, s := range shares {
		parts[i] = U128{Lo: s.Parts}
	}
	var n normalizer
	if err := n.run(parts, U128{Lo: uint64(accuracy)}, MaxU128); err != nil {
		return nil, err
	}
	for i, p := range parts {
		shares[i].Parts = p.Lo
	}
	return shares, nil
}

// Truncated is Shares without the last step: the shares may sum to less than
// accuracy.
func (a Assignment) Truncated(stake U128, accuracy uint32) ([]Share, error) {
	if accuracy == 0 {
		return nil, &Error{CodeAccuracy, fmt.Sprintf("voter %d", a.Voter)}
	}
	var out []Share
	for _, e := range a.Edges {
		if stake.Less(e.Weight) {
			return nil, &Error{CodeOverspent, fmt.Sprintf("voter %d of stake %v gives %v", a.Voter, stake, e.Weight)}
		}
		if p, ok := MulDiv(e.Weight, U128{Lo: uint64(accuracy)}, stake); ok && !p.IsZero() {
			out = append(out, Share{e.Candidate, p.Lo})
		}
	}
	return out, nil
}

// Staked turns shares of a stake into weights, each rounded to the nearest unit
// (half down), so their sum may miss the stake by a few units; Normalize mends it.
func Staked(voter uint32, shares []Share, stake U128, accuracy uint32) (Assignment, error) {
	a := Assignment{Voter: voter}
	if accuracy == 0 {
		return a, &Error{CodeAccuracy, fmt.Sprintf("voter %d", voter)}
	}
	for _, s := range shares {
		if s.Parts > uint64(accuracy) {
			return a, &Error{CodeOverspent, fmt.Sprintf("voter %d gives %d of %d parts", voter, s.Parts, accuracy)}
		}
		if s.Parts == 0 {
			continue
		}
		acc := U128{Lo: uint64(accuracy)}
		q, _ := MulDiv(stake, U128{Lo: s.Parts}, acc)
		rest, _ := mul128(stake, U128{Lo: s.Parts}).lo.sub(mul128(q, acc).lo)
		if rest.Lo*2 > uint64(accuracy) {
			q, _ = q.add(U128{Lo: 1})
		}
		a.Edges = append(a.Edges, Edge{s.Candidate, q})
	}
	return a, nil
}
