package npos

import "fmt"

// Certificate is the outcome of a check for proportional justified representation
// (arXiv 2004.12990, section 5): t-PJR says that every group of voters that
// agrees on r candidates and could back each with stake t has at least r winners
// it approves of. The standard property takes t = total stake / seats.
//
// The test is sufficient and takes one pass over the approvals, so that anyone can
// certify a result whoever computed it: it holds when, for every candidate that
// did not win, the stake its voters can spare without pushing a winner below t
// (its pre-score) stays below t.
type Certificate struct {
	Threshold U128 `json:"threshold"`
	// Holds is true when the result is certified to have t-PJR.
	Holds bool `json:"holds"`
	// MaxPreScore is the highest pre-score of a candidate that did not win, and
	// CounterExample the first candidate that has it; -1 when all won.
	MaxPreScore    U128 `json:"max_pre_score"`
	CounterExample int  `json:"counter_example"`
	// Unelected is the number of candidates that did not win. With none the
	// property holds trivially.
	Unelected int `json:"unelected"`
}

// StandardThreshold is total stake / seats, rounded down: the t of standard PJR.
func StandardThreshold(in *Instance, seats int) U128 {
	t, _ := in.total.divmod64(uint64(max(seats, 1)))
	return t
}

// CheckPJR checks a result of the instance against a threshold.
func CheckPJR(in *Instance, r *Result, threshold U128) Certificate {
	return newPJR(in, r).check(threshold)
}

// CheckStandardPJR is CheckPJR with the standard threshold for the result's
// number of winners.
func CheckStandardPJR(in *Instance, r *Result) Certificate {
	return CheckPJR(in, r, StandardThreshold(in, len(r.Winners)))
}

// ChallengePJR checks a claim that the result lacks t-PJR because of one
// candidate. It costs no more than that candidate's voters. A candidate that does
// not exist or has won is no counter-example and is refused.
func ChallengePJR(in *Instance, r *Result, candidate int, threshold U128) (bool, error) {
	if candidate < 0 || candidate >= in.Candidates() {
		return false, &Error{CodeUnknownCandidate, fmt.Sprintf("number %d of %d", candidate, in.Candidates())}
	}
	p := newPJR(in, r)
	if p.elected[candidate] {
		return false, &Error{CodeElected, fmt.Sprintf("number %d", candidate)}
	}
	var score U128
	for v := range in.Voters() {
		if in.approves(v, uint32(candidate)) {
			score = score.SaturatingAdd(p.slack(v, threshold))
		}
	}
	return !score.Less(threshold), nil
}

// LowestPJR is the smallest threshold for which the result is certified; the
// smaller, the stronger.
func LowestPJR(in *Instance, r *Result) U128 {
	p := newPJR(in, r)
	low, high := U128{}, in.total // low fails or is 0; total + 1 always holds
	if c := p.check(low); c.Holds {
		return low
	}
	high, _ = high.add(U128{Lo: 1})
	for {
		gap, _ := high.sub(low)
		half, _ := gap.divmod64(2)
		if half.IsZero() {
			return high
		}
		mid, _ := low.add(half)
		if p.check(mid).Holds {
			high = mid
		} else {
			low = mid
		}
	}
}

// pjr holds a result by voter.
type pjr struct {
	in      *Instance
	edges   [][]Edge // by voter
	elected []bool
	backing []U128
}

func newPJR(in *Instance, r *Result) *pjr {
	p := &pjr{in: in, edges: make([][]Edge, in.Voters()), elected: make([]bool, in.Candidates()), backing: make([]U128, in.Candidates())}
	for _, w := range r.Winners {
		p.elected[w.Candidate], p.backing[w.Candidate] = true, w.Backing
	}
	for _, a := range r.Assignments {
		p.edges[a.Voter] = a.Edges
	}
	return p
}

// slack is the stake a voter can spare when each winner it backs needs to keep no
// more than t: its stake less the sum of weight * min(1, t/backing). Rounding
// makes it too high rather than too low, so that a certificate stays valid.
func (p *pjr) slack(voter int, t U128) U128 {
	var kept U128
	for _, e := range p.edges[voter] {
		w := e.Weight
		if backing := p.backing[e.Candidate]; t.Less(backing) {
			w, _ = MulDiv(w, t, backing)
		}
		kept = kept.SaturatingAdd(w)
	}
	return p.in.stake[voter].SaturatingSub(kept)
}

func (p *pjr) check(t U128) Certificate {
	scores := make([]U128, p.in.Candidates())
	for v := range p.in.Voters() {
		s := U128{}
		for i, c := range p.in.Approvals(v) {
			if i == 0 {
				s = p.slack(v, t)
			}
			scores[c] = scores[c].SaturatingAdd(s)
		}
	}
	cert := Certificate{Threshold: t, CounterExample: -1}
	for c, s := range scores {
		if p.elected[c] {
			continue
		}
		cert.Unelected++
		if !s.Less(cert.MaxPreScore) {
			cert.MaxPreScore, cert.CounterExample = s, c
		}
	}
	cert.Holds = cert.Unelected == 0 || cert.MaxPreScore.Less(t)
	return cert
}
