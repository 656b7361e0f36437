package npos

import (
	"fmt"
	"math"
)

// Limits of an instance. They bound memory before anything is allocated, and
// keep every intermediate value of the algorithms exact.
const (
	// MaxCandidates and MaxVoters bound the two sides of the approval graph.
	MaxCandidates = 1 << 20
	MaxVoters     = 1 << 24
	// MaxApprovals bounds the approvals of all voters together.
	MaxApprovals = 1 << 28
)

// MaxTotalStake (2^96 - 1) bounds the sum of all stakes: for 12 decimals that is
// 79 thousand million million whole tokens. Up to it no product exceeds 256
// bits, sums of squares stay exact, and a Phragmén score keeps at least 32
// significant bits.
var MaxTotalStake = U128{Hi: 1<<32 - 1, Lo: math.MaxUint64}

// Ballot is one voter (in staking: a nominator, or a candidate's self-stake),
// with its stake in the smallest unit and the candidates it approves of.
type Ballot[ID comparable] struct {
	Voter     ID
	Stake     U128
	Approvals []ID
}

// Instance is the input of an election: candidates and voters by their position
// in the lists it was made from. The order of both is part of the input, since it
// breaks ties: the first candidate of equal score wins. An Instance is immutable
// and safe for concurrent use.
type Instance struct {
	stake    []U128   // by voter
	start    []uint32 // voter v's approvals are target[start[v]:start[v+1]]
	target   []uint32 // candidate
	approval []U128   // by candidate: the stake of all voters approving of it
	total    U128     // the stake of all voters with an approval
}

// Setup makes an instance from candidates and ballots named by identity. A vote
// for an identity that is not a candidate is dropped (a validator may have
// withdrawn after it was nominated), as is a second vote for the same one.
// Candidates or voters listed twice are refused.
func Setup[ID comparable](candidates []ID, ballots []Ballot[ID]) (*Instance, error) {
	index := make(map[ID]uint32, len(candidates))
	for i, c := range candidates {
		if _, twice := index[c]; twice {
			return nil, &Error{CodeDuplicateCandidate, fmt.Sprintf("candidate %d: %v", i, c)}
		}
		index[c] = uint32(i)
	}
	b := newBuilder(len(candidates), len(ballots))
	seen := make(map[ID]struct{}, len(ballots))
	var row []uint32
	for i, ballot := range ballots {
		if _, twice := seen[ballot.Voter]; twice {
			return nil, &Error{CodeDuplicateVoter, fmt.Sprintf("voter %d: %v", i, ballot.Voter)}
		}
		seen[ballot.Voter] = struct{}{}
		row = row[:0]
		for _, c := range ballot.Approvals {
			if at, ok := index[c]; ok {
				row = append(row, at)
			}
		}
		b.add(ballot.Stake, row, true)
	}
	return b.done()
}

// NewInstance makes an instance of candidates numbered from zero and of voters
// given as stakes and rows of candidate numbers. It is strict: an unknown or
// repeated candidate in a row is refused.
func NewInstance(candidates int, stakes []U128, approvals [][]uint32) (*Instance, error) {
	if len(stakes) != len(approvals) {
		return nil, &Error{CodeUnknownVoter, fmt.Sprintf("%d stakes but %d rows of approvals", len(stakes), len(approvals))}
	}
	b := newBuilder(candidates, len(stakes))
	for v, row := range approvals {
		b.add(stakes[v], row, false)
	}
	return b.done()
}

// builder collects an instance voter by voter; the first failure sticks.
type builder struct {
	in   *Instance
	mark []uint32 // by candidate: the last voter (plus one) seen to approve of it
	err  error
}

func newBuilder(candidates, voters int) *builder {
	b := &builder{in: &Instance{start: []uint32{0}}}
	if candidates < 0 || candidates > MaxCandidates || voters > MaxVoters {
		b.err = &Error{CodeTooLarge, fmt.Sprintf("%d candidates, %d voters; at most %d and %d", candidates, voters, MaxCandidates, MaxVoters)}
		return b
	}
	b.mark = make([]uint32, candidates)
	b.in.approval = make([]U128, candidates)
	b.in.stake = make([]U128, 0, voters)
	b.in.start = append(make([]uint32, 0, voters+1), 0)
	return b
}

func (b *builder) add(stake U128, row []uint32, dropRepeated bool) {
	in, voter := b.in, len(b.in.stake)
	if b.err != nil {
		return
	}
	if len(in.target)+len(row) > MaxApprovals {
		b.err = &Error{CodeTooLarge, fmt.Sprintf("more than %d approvals", MaxApprovals)}
		return
	}
	if len(row) > 0 {
		total, ok := in.total.Add(stake)
		if !ok || MaxTotalStake.Less(total) {
			b.err = &Error{CodeStakeOverflow, fmt.Sprintf("at voter %d; at most %v", voter, MaxTotalStake)}
			return
		}
		in.total = total
	}
	for _, c := range row {
		if int(c) >= len(b.mark) {
			b.err = &Error{CodeUnknownCandidate, fmt.Sprintf("voter %d approves of number %d of %d", voter, c, len(b.mark))}
			return
		}
		if b.mark[c] == uint32(voter)+1 {
			if dropRepeated {
				continue
			}
			b.err = &Error{CodeDuplicateTarget, fmt.Sprintf("voter %d approves of number %d twice", voter, c)}
			return
		}
		b.mark[c] = uint32(voter) + 1
		in.target = append(in.target, c)
		in.approval[c], _ = in.approval[c].add(stake)
	}
	in.stake = append(in.stake, stake)
	in.start = append(in.start, uint32(len(in.target)))
}

func (b *builder) done() (*Instance, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.in, nil
}

// Candidates is the number of candidates.
func (in *Instance) Candidates() int { return len(in.approval) }

// Voters is the number of voters, those without a valid approval included.
func (in *Instance) Voters() int { return len(in.stake) }

// Edges is the number of valid approvals of all voters.
func (in *Instance) Edges() int { return len(in.target) }

// TotalStake is the stake of all voters with at least one valid approval.
func (in *Instance) TotalStake() U128 { return in.total }

// Stake is the stake of a voter.
func (in *Instance) Stake(voter int) U128 { return in.stake[voter] }

// Approvals are the candidates a voter approves of, in the order it gave them.
// The slice is the instance's own: read only.
func (in *Instance) Approvals(voter int) []uint32 {
	return in.target[in.start[voter]:in.start[voter+1]]
}

// ApprovalStake is the stake of all voters that approve of a candidate: the most
// support it could get.
func (in *Instance) ApprovalStake(candidate int) U128 { return in.approval[candidate] }

// approves tells whether a voter approves of a candidate.
func (in *Instance) approves(voter int, candidate uint32) bool {
	for _, c := range in.Approvals(voter) {
		if c == candidate {
			return true
		}
	}
	return false
}

// byCandidate inverts the approvals: candidate c has edges edge[start[c]:start[c+1]],
// of voters voter[start[c]:start[c+1]], in the order of the voters.
func (in *Instance) byCandidate() (start, edge, voter []uint32) {
	start = make([]uint32, in.Candidates()+1)
	for _, c := range in.target {
		start[c+1]++
	}
	for c := range in.Candidates() {
		start[c+1] += start[c]
	}
	next := make([]uint32, in.Candidates())
	copy(next, start)
	edge, voter = make([]uint32, len(in.target)), make([]uint32, len(in.target))
	for v := range in.Voters() {
		for e := in.start[v]; e < in.start[v+1]; e++ {
			at := next[in.target[e]]
			edge[at], voter[at] = e, uint32(v)
			next[in.target[e]]++
		}
	}
	return start, edge, voter
}
