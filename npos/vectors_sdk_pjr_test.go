package npos_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/phala-go/phala/npos"
)

// The reference's cases for PJR and for reduction.

type sdkPJRInput struct {
	sdkElection
	Thresholds []npos.U128
	Supports   []struct {
		ID     uint64
		Total  npos.U128
		Voters []sdkPair
	}
}

type sdkWeighted struct {
	ID      uint32
	Weight  npos.U128
	Backing npos.U128
	Elected bool
}

func slackOf(stake npos.U128, edges []sdkWeighted, threshold npos.U128) npos.U128 {
	var own []npos.Edge
	backing := map[uint32]npos.U128{}
	for _, e := range edges {
		if e.Elected {
			own = append(own, npos.Edge{Candidate: e.ID, Weight: e.Weight})
			backing[e.ID] = e.Backing
		}
	}
	return npos.PJRSlack(stake, own, backing, threshold)
}

func sdkPJR(t *testing.T, c sdkCase) {
	switch op := decode[struct{ Op string }](t, c.Input).Op; op {
	case "slack":
		in := decode[struct {
			Stake      npos.U128
			Thresholds []npos.U128
			Edges      []sdkWeighted
		}](t, c.Input)
		want := decode[struct{ Slack []npos.U128 }](t, c.Expected)
		for i, threshold := range in.Thresholds {
			if got := slackOf(in.Stake, in.Edges, threshold); got != want.Slack[i] {
				t.Errorf("slack at %v is %v, want %v", threshold, got, want.Slack[i])
			}
		}
	case "pre_score":
		in := decode[struct {
			Candidate uint32
			Threshold npos.U128
			Voters    []struct {
				Stake npos.U128
				Edges []sdkWeighted
			}
		}](t, c.Input)
		var got npos.U128
		for _, v := range in.Voters {
			if slices.ContainsFunc(v.Edges, func(e sdkWeighted) bool { return e.ID == in.Candidate }) {
				got = got.SaturatingAdd(slackOf(v.Stake, v.Edges, in.Threshold))
			}
		}
		if want := decode[struct {
			PreScore npos.U128 `json:"pre_score"`
		}](t, c.Expected).PreScore; got != want {
			t.Errorf("pre-score %v, want %v", got, want)
		}
	case "check", "threshold":
		sdkPJRCheck(t, c)
	default:
		t.Fatalf("no test for %q", op)
	}
}

func sdkPJRCheck(t *testing.T, c sdkCase) {
	in := decode[sdkPJRInput](t, c.Input)
	instance := setup(t, in.sdkElection)
	var winners []uint32
	byVoter := make([]npos.Assignment, len(in.Voters))
	for _, s := range in.Supports {
		winner := uint32(slices.Index(in.Candidates, s.ID))
		winners = append(winners, winner)
		for _, v := range s.Voters {
			at := slices.IndexFunc(in.Voters, func(x sdkVoter) bool { return x.ID == v.ID })
			byVoter[at].Voter = uint32(at)
			byVoter[at].Edges = append(byVoter[at].Edges, npos.Edge{Candidate: winner, Weight: amount(t, v.Amount)})
		}
	}
	byVoter = slices.DeleteFunc(byVoter, func(a npos.Assignment) bool { return a.Edges == nil })
	r, err := npos.NewResult(instance, winners, byVoter)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range in.Supports {
		if r.Winners[i].Backing != s.Total {
			t.Errorf("support %d is %v, want %v", s.ID, r.Winners[i].Backing, s.Total)
		}
	}
	want := decode[struct {
		PJR       []bool
		Confirmed bool `json:"counter_example_confirmed"`
	}](t, c.Expected)
	derived := decode[struct {
		CounterExamples []uint64  `json:"counter_examples"`
		Passing         npos.U128 `json:"lowest_passing_threshold"`
		Failing         npos.U128 `json:"highest_failing_threshold"`
	}](t, c.Derived)
	for i, threshold := range in.Thresholds {
		cert := npos.CheckPJR(instance, r, threshold)
		if cert.Holds != want.PJR[i] || in.Candidates[cert.CounterExample] != derived.CounterExamples[i] {
			t.Errorf("at %v: %+v", threshold, cert)
		}
		confirmed, err := npos.ChallengePJR(instance, r, cert.CounterExample, threshold)
		if err != nil || confirmed != want.Confirmed {
			t.Errorf("challenge at %v: %v, %v", threshold, confirmed, err)
		}
	}
	if !derived.Passing.IsZero() {
		if got := npos.LowestPJR(instance, r); got != derived.Passing {
			t.Errorf("lowest threshold %v, want %v", got, derived.Passing)
		}
		if npos.CheckPJR(instance, r, derived.Failing).Holds || !npos.CheckPJR(instance, r, derived.Passing).Holds {
			t.Error("the check disagrees with the thresholds")
		}
		var passed bool
		for x := uint64(0); x < 100; x++ {
			now := npos.CheckPJR(instance, r, npos.U64(x)).Holds
			if passed && !now {
				t.Errorf("holds below %d but not at it", x)
			}
			passed = now
		}
	}
}

func sdkReduce(t *testing.T, c sdkCase) {
	in := decode[struct {
		Variant string
		Staked  []sdkDistribution
	}](t, c.Input)
	want := decode[struct {
		Staked  []sdkDistribution
		Removed *int
		Error   *string
		AtMost  *int `json:"edges_left_at_most"`
	}](t, c.Expected)
	var list []npos.Assignment
	before := 0
	for _, d := range in.Staked {
		a := npos.Assignment{Voter: uint32(d.Voter)}
		for _, p := range d.Distribution {
			a.Edges = append(a.Edges, npos.Edge{Candidate: uint32(p.ID), Weight: amount(t, p.Amount)})
			before++
		}
		list = append(list, a)
	}
	var removed int
	var err error
	switch in.Variant {
	case "four":
		removed = npos.ReduceFours(list)
	case "all":
		removed = npos.ReduceCycles(list)
	default:
		removed, err = npos.Reduce(list)
	}
	if want.Error != nil {
		if !errors.Is(err, npos.CodeDuplicateVoter) {
			t.Errorf("error %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if want.Removed != nil && removed != *want.Removed {
		t.Errorf("removed %d, want %d", removed, *want.Removed)
	}
	if want.AtMost != nil && before-removed > *want.AtMost {
		t.Errorf("%d edges left, want at most %d", before-removed, *want.AtMost)
	}
	for i, d := range want.Staked {
		var got []sdkPair
		for _, e := range list[i].Edges {
			got = append(got, sdkPair{uint64(e.Candidate), e.Weight.String()})
		}
		if !slices.Equal(got, d.Distribution) {
			t.Errorf("voter %d: %v, want %v", d.Voter, got, d.Distribution)
		}
	}
}
