package grandpa_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

// rounds is the number of GRANDPA rounds of each synthetic network.
func rounds() int {
	if os.Getenv("PHALA_LONG") == "1" {
		return 5000
	}
	return 1000
}

var networks = []grandpatest.Options{
	{Seed: 1, Voters: 7, ChangeEvery: 5},
	{Seed: 2, Voters: 4, ChangeEvery: 3},
	{Seed: 3, Voters: 10, ChangeEvery: 11, MaxDelay: 6},
	{Seed: 4, Voters: 6, ChangeEvery: 7, MaxDelay: 3},
	{Seed: 5, Voters: 1, ChangeEvery: 4},
	{Seed: 6, Voters: 13},
	{Seed: 7, Voters: 5, ChangeEvery: 2},
}

// The client follows every network to its end, and refuses all that an adversary makes of what was ever signed.
func TestSyntheticNetworks(t *testing.T) {
	for _, o := range networks {
		t.Run(fmt.Sprintf("seed %d", o.Seed), func(t *testing.T) {
			t.Parallel()
			n := grandpatest.NewNetwork(o)
			state, err := grandpa.NewState(n.Checkpoint(), grandpatest.Params())
			if err != nil {
				t.Fatal(err)
			}
			refused := map[grandpa.Kind]int{}
			for round := range rounds() {
				before := *n
				u := n.RunRound()
				for range 4 {
					attack(t, n, &before, state, u, refused)
				}
				enc := u.Append(nil)
				decoded, err := grandpa.DecodeUpdate(enc)
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				next, err := state.Apply(decoded, n.Now())
				if err != nil {
					t.Fatalf("round %d: honest update refused: %v", round, err)
				}
				if next.Block != n.Finalized.ID || next.Set.ID() != n.SetID || next.StateRoot != n.Finalized.StateRoot {
					t.Fatalf("round %d: at %s set %d, network at %s set %d", round, next.Block, next.Set.ID(), n.Finalized.ID, n.SetID)
				}
				if _, err := next.Apply(decoded, n.Now()); !errors.Is(err, grandpa.ErrStale) {
					t.Fatalf("round %d: the same update twice: %v", round, err)
				}
				sealed, err := grandpa.DecodeState(next.Append(nil))
				if err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				state = sealed
			}
			for _, kind := range []grandpa.Kind{grandpa.ErrSignature, grandpa.ErrThreshold, grandpa.ErrDuplicate, grandpa.ErrVoter,
				grandpa.ErrFork, grandpa.ErrAncestry, grandpa.ErrTarget} {
				if refused[kind] == 0 && o.Voters > 1 {
					t.Errorf("no attack was refused as %q: %v", kind, refused)
				}
			}
			t.Logf("%d blocks, %d sets, refusals %v", n.Finalized.Number, n.SetID+1, refused)
		})
	}
}

// attack builds a hostile update from what the adversary has: every block, every honest vote ever cast, the keys of
// the faulty voters and of outsiders. Whatever it is, it may be accepted only if its target is a block that the
// honest votes of one round and the faulty ones together finalize.
func attack(t *testing.T, n, before *grandpatest.Network, state *grandpa.State, honest *grandpa.Update, refused map[grandpa.Kind]int) {
	t.Helper()
	r := n.Rand
	voters, setID := before.Voters, before.SetID // those under which the client still is
	// The block to be smuggled in: any recent one, forks included.
	recent := n.All[max(0, len(n.All)-25):]
	target := recent[r.Intn(len(recent))]
	round := honest.Justification.Round
	strongest := r.Intn(4) == 0
	if strongest { // the fork block for which honest voters have voted in this very round
		for _, v := range n.OldVotes[max(0, len(n.OldVotes)-len(voters)):] {
			for _, b := range recent {
				if b.ID == v.Target && v.Round == round && v.SetID == setID && !n.Best.Extends(b) {
					target = b
				}
			}
		}
	}
	j := &grandpa.Justification{Round: round, Commit: grandpa.Commit{Target: target.ID}}
	base := before.Finalized
	headers := grandpatest.Headers(base, target)
	if !target.Extends(base) && r.Intn(2) == 0 {
		headers = grandpatest.Headers(before.Finalized, n.Canonical(target.Number)) // pretend that it does
	}
	choice := r.Intn(5)
	if strongest {
		choice = -1
		for _, v := range n.OldVotes[max(0, len(n.OldVotes)-len(voters)):] {
			if v.Round == round && v.SetID == setID && v.Target == target.ID {
				j.Commit.Votes = append(j.Commit.Votes, v.Vote)
			}
		}
	}
	switch choice {
	case 0: // the round's true votes under another target
		j.Commit.Votes = append(j.Commit.Votes, honest.Justification.Commit.Votes...)
		j.Ancestries = honest.Justification.Ancestries
	case 1: // old votes of honest voters, of any round and set
		for _, v := range n.OldVotes[max(0, len(n.OldVotes)-60):] {
			if r.Intn(3) == 0 {
				j.Commit.Votes = append(j.Commit.Votes, v.Vote)
			}
		}
	case 2: // the honest update itself, to be damaged below
		j = cloneJustification(honest.Justification)
		headers = honest.Headers
	case 3: // forged votes of all honest voters
		for _, v := range voters {
			if !v.Faulty {
				vote := grandpa.Vote{Target: target.ID, Authority: v.Key}
				r.Read(vote.Signature[:])
				j.Commit.Votes = append(j.Commit.Votes, vote)
			}
		}
	}
	for _, v := range voters { // all faulty voters help, some twice
		if v.Faulty {
			j.Commit.Votes = append(j.Commit.Votes, v.Vote(target.ID, round, setID))
			if !strongest && r.Intn(4) == 0 {
				j.Commit.Votes = append(j.Commit.Votes, v.Vote(recent[r.Intn(len(recent))].ID, round, setID))
			}
		}
	}
	if r.Intn(3) == 0 { // one vote per voter only, and the ancestry that the votes need
		seen := map[grandpa.Key]bool{}
		kept := j.Commit.Votes[:0]
		for _, v := range j.Commit.Votes {
			if !seen[v.Authority] {
				seen[v.Authority] = true
				kept = append(kept, v)
			}
		}
		j.Commit.Votes = kept
		j.Ancestries = nil
		have := map[grandpa.Hash]bool{}
		for _, v := range kept {
			for _, b := range recent {
				if b.ID == v.Target && b.Extends(target) {
					for ; b != target; b = b.Parent {
						if !have[b.ID.Hash] {
							have[b.ID.Hash] = true
							j.Ancestries = append(j.Ancestries, b.Header)
						}
					}
				}
			}
		}
	}
	for range r.Intn(3) {
		if strongest && r.Intn(2) == 0 {
			break
		}
		votes := j.Commit.Votes
		switch r.Intn(10) {
		case 0: // pad with copies
			if len(votes) > 0 {
				j.Commit.Votes = append(votes, votes[r.Intn(len(votes))])
			}
		case 1: // pad with outsiders
			j.Commit.Votes = append(votes, grandpatest.NewVoter(999, r.Intn(50), 1).Vote(target.ID, round, setID))
		case 2: // forge the missing honest votes
			for _, v := range voters {
				j.Commit.Votes = append(j.Commit.Votes, grandpa.Vote{Target: target.ID, Authority: v.Key})
			}
		case 3: // move a vote to the target
			if len(votes) > 0 {
				votes[r.Intn(len(votes))].Target = target.ID
			}
		case 4: // another round
			j.Round = uint64(r.Intn(int(round) + 2))
		case 5: // drop an ancestry header, or add one
			if len(j.Ancestries) > 0 && r.Intn(2) == 0 {
				j.Ancestries = j.Ancestries[1:]
			} else {
				j.Ancestries = append(j.Ancestries, recent[r.Intn(len(recent))].Header)
			}
		case 6: // pass authorities of the adversary's own off in a header
			if len(headers) > 0 {
				own := []*grandpatest.Voter{grandpatest.NewVoter(999, 0, 1)}
				h := *headers[len(headers)-1]
				change := &grandpa.ScheduledChange{Next: grandpatest.Authorities(own)}
				h.Digest = append([]grandpa.DigestItem{change.DigestItem()}, h.Digest...)
				headers = append(append([]*grandpa.Header(nil), headers[:len(headers)-1]...), &h)
				if r.Intn(2) == 0 {
					j.Commit.Target = h.ID()
				}
			}
		case 7: // leave out a header
			if len(headers) > 1 {
				headers = append([]*grandpa.Header(nil), headers[1:]...)
			}
		case 8: // votes that the faulty voters sign for the next set already
			for _, v := range voters {
				if v.Faulty {
					j.Commit.Votes = append(j.Commit.Votes, v.Vote(target.ID, round, setID+1))
				}
			}
		case 9: // another number for the target
			j.Commit.Target.Number++
		}
	}
	u := &grandpa.Update{Headers: headers, Justification: j}
	next, err := state.Apply(u, n.Now())
	if err == nil {
		reached := n.Canonical(next.Block.Number)
		if reached.ID != next.Block || next.Block.Number > n.Reachable.Number {
			t.Fatalf("seed %d, round %d of set %d: accepted %s, which the honest majority did not finalize",
				n.Options.Seed, round, setID, next.Block)
		}
		return
	}
	var e *grandpa.Error
	if !errors.As(err, &e) {
		t.Fatalf("untyped error %v", err)
	}
	if errors.Is(err, grandpa.ErrNewCheckpoint) {
		t.Fatalf("an unproven update made the client ask for a new checkpoint: %v", err)
	}
	refused[e.Kind]++
	// The gate behind the headers must hold as well: the justification alone.
	if onChain := n.Canonical(j.Commit.Target.Number); onChain.ID != j.Commit.Target || onChain.Number > n.Reachable.Number {
		if err := j.Verify(state.Set); err == nil {
			t.Fatalf("seed %d, round %d of set %d: justification of %s verifies", n.Options.Seed, round, setID, j.Commit.Target)
		} else if errors.As(err, &e) {
			refused[e.Kind]++
		}
	}
}

func cloneJustification(j *grandpa.Justification) *grandpa.Justification {
	c := *j
	c.Commit.Votes = append([]grandpa.Vote(nil), j.Commit.Votes...)
	c.Ancestries = append([]*grandpa.Header(nil), j.Ancestries...)
	return &c
}
