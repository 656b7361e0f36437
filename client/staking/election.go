package staking

import (
	"context"
	"fmt"
	"slices"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/snapshot"
)

// PHA has twelve decimals.
const (
	Symbol   = "PHA"
	Decimals = 12
)

// Election reads the input of an election held now: candidates, voters and seats, in the
// order that breaks ties. Balancing is what the chain does after it.
func (c *Client) Election(ctx context.Context, progress func(voters int)) (s *snapshot.Snapshot, balancing int, err error) {
	p, err := c.Params(ctx)
	if err != nil {
		return nil, 0, err
	}
	list, err := c.Validators(ctx, 0)
	if err != nil {
		return nil, 0, err
	}
	s = &snapshot.Snapshot{Version: snapshot.Version, Symbol: Symbol, Decimals: Decimals, Seats: int(p.Seats)}
	for _, v := range list {
		if v.Candidate {
			s.Candidates = append(s.Candidates, v.Operator)
		}
	}
	// The candidates come first, each with its own vote; then the nominators, the largest
	// first, of whom so many vote.
	voters, err := c.Voters(ctx, len(s.Candidates)+p.MaxElectingVoters, progress)
	if err != nil {
		return nil, 0, err
	}
	for _, v := range voters {
		s.Voters = append(s.Voters, snapshot.Voter{ID: v.Account, Stake: v.Amount.Amount, Approvals: v.Targets})
	}
	return s, int(p.BalancingIterations), nil
}

// Set reads the validators of the active era with who stands behind them, as an election
// whose result is this set. A voter's stake is what it stands with in the era; it approves
// of those that it backs and of those that it nominates today. The best backed comes first.
func (c *Client) Set(ctx context.Context, progress func(voters int)) (*snapshot.Snapshot, error) {
	s, _, err := c.Election(ctx, progress)
	if err != nil {
		return nil, err
	}
	list, err := c.Validators(ctx, 0)
	if err != nil {
		return nil, err
	}
	candidate, voter := map[string]bool{}, map[string]int{}
	for _, name := range s.Candidates {
		candidate[name] = true
	}
	for i, v := range s.Voters {
		voter[v.ID] = i
	}
	staked := map[string]npos.U128{}
	seats := 0
	for _, v := range list {
		if !v.Elected {
			continue
		}
		seats++
		if !candidate[v.Operator] {
			candidate[v.Operator] = true
			s.Candidates = append(s.Candidates, v.Operator)
		}
		exposure, err := c.Exposure(ctx, 0, v.Operator)
		if err != nil {
			return nil, err
		}
		support := snapshot.Support{Candidate: v.Operator, Backers: []snapshot.Backer{}}
		for _, b := range exposure {
			support.Backers = append(support.Backers, snapshot.Backer{Voter: b.Account, Stake: b.Amount})
			sum, ok := staked[b.Account].Add(b.Amount)
			if !ok {
				return nil, fmt.Errorf("%w: the stakes of %s overflow", ErrAnswer, b.Account)
			}
			staked[b.Account] = sum
			i, known := voter[b.Account]
			if !known {
				i = len(s.Voters)
				voter[b.Account] = i
				s.Voters = append(s.Voters, snapshot.Voter{ID: b.Account})
			}
			approves := false
			for _, a := range s.Voters[i].Approvals {
				approves = approves || a == v.Operator
			}
			if !approves {
				s.Voters[i].Approvals = append(s.Voters[i].Approvals, v.Operator)
			}
		}
		s.Supports = append(s.Supports, support)
	}
	for name, stake := range staked {
		s.Voters[voter[name]].Stake = stake
	}
	total := func(sup snapshot.Support) (t npos.U128) {
		for _, b := range sup.Backers {
			t = t.SaturatingAdd(b.Stake)
		}
		return t
	}
	slices.SortStableFunc(s.Supports, func(a, b snapshot.Support) int { return total(b).Cmp(total(a)) })
	s.Seats = seats
	return s, nil
}
