package npos

import (
	"bytes"
	"slices"
	"sync"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/npos"
)

// runCache holds the election that is in progress in memory. The state says only how
// many steps were made: an election is a function of its snapshot, so a node that
// restarts makes the same steps again. A block that is executed more than once asks
// for a step that was made already.
type runCache struct {
	mu  sync.Mutex
	run *run
}

// A run is an election of a snapshot.
type run struct {
	hash       [32]byte
	candidates []candidate
	voters     []sdk.AccAddress
	election   *npos.Election
	instance   *npos.Instance
	places     int
	balancing  npos.Balancing
	reduction  *npos.Reduction // so that exposures take less room
	reduced    bool
	steps      uint64 // made, the reading of the snapshot included
	doneAt     uint64 // the step that was the last; 0 while there are more
	seats      []winner
}

// reached makes steps until there were so many, and tells whether the election was
// done by then.
func (c *runCache) reached(hash [32]byte, steps uint64, fresh func() (*run, error)) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.get(hash, steps, fresh)
	if err != nil {
		return false, err
	}
	return r.doneAt > 0 && r.doneAt <= steps, nil
}

// winners is what the election gave that is done after so many steps.
func (c *runCache) winners(hash [32]byte, steps uint64, fresh func() (*run, error)) ([]winner, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.get(hash, steps, fresh)
	if err != nil {
		return nil, err
	}
	return r.seats, nil
}

// drop frees the memory of an election that is over.
func (c *runCache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = nil
}

func (c *runCache) get(hash [32]byte, steps uint64, fresh func() (*run, error)) (*run, error) {
	if c.run == nil || c.run.hash != hash {
		r, err := fresh()
		if err != nil {
			return nil, err
		}
		r.steps = 1
		c.run = r
	}
	r := c.run
	for r.steps < steps && r.doneAt == 0 {
		r.steps++
		if err := r.step(); err != nil {
			c.run = nil // so that asking again fails again
			return nil, err
		}
	}
	return r, nil
}

// step does a block's part of what is to do: prepare, elect, reduce the result, read it.
func (r *run) step() error {
	for units := unitsPerBlock; units > 0 && r.doneAt == 0; {
		var done bool
		switch {
		case r.election == nil:
			r.election = npos.NewElection(r.instance, r.places, r.balancing)
			units -= r.instance.Edges()
		case r.reduction == nil:
			if units, done = r.election.Step(units); !done {
				continue
			}
			result, err := r.election.Result()
			if err != nil {
				return err
			}
			if r.reduction, err = npos.NewReduction(result.Assignments); err != nil {
				return err
			}
			units -= r.instance.Edges()
		case !r.reduced:
			units, r.reduced = r.reduction.Step(units)
		default:
			seats, err := r.result()
			if err != nil {
				return err
			}
			r.seats, r.doneAt = seats, r.steps
		}
	}
	return nil
}

// result turns an election's result into seats. Whoever has less than one unit of
// consensus power behind it has none.
func (r *run) result() ([]winner, error) {
	result, err := r.election.Result()
	if err != nil {
		return nil, err
	}
	out := []winner{}
	for _, s := range result.Supports() {
		if s.Total.Less(npos.U64(powerUnit)) {
			continue
		}
		c := &r.candidates[s.Candidate]
		w := winner{Operator: c.Operator, exposure: exposure{Cons: c.Cons, Commission: c.Commission, Total: s.Total}}
		for _, b := range s.Backers {
			if who := r.voters[b.Voter]; b.Voter == s.Candidate {
				w.Own = b.Stake // the first voters are the candidates
			} else {
				w.backers = append(w.backers, share{who, b.Stake})
			}
		}
		w.Backers = uint32(len(w.backers))
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b winner) int { return bytes.Compare(a.Operator, b.Operator) })
	return out, nil
}
