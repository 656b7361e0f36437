package npos_test

import (
	"encoding/json"
	"math"
	"math/big"
	"slices"
	"strconv"
	"testing"

	"github.com/phala-go/phala/npos"
)

// Runs of an independent implementation, Web3 Foundation's npos.py, which computes
// in floating point: winners must be the same, supports equal up to rounding.

type w3fInstance struct {
	Name       string     `json:"name"`
	Seats      int        `json:"seats"`
	Candidates []uint64   `json:"candidates"`
	Voters     []w3fVoter `json:"voters"`
	Seq        w3fRun     `json:"seq_phragmen"`
	Balanced   w3fRun     `json:"seq_phragmen_balanced"`
	Long       w3fRun     `json:"seq_phragmen_balanced_long"`
	PhragMMS   w3fRun     `json:"phragmms"`
}

type w3fVoter struct {
	ID        uint64
	Stake     npos.U128
	Approvals []uint64
}

func (v *w3fVoter) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&v.ID, &v.Stake, &v.Approvals})
}

type w3fRun struct {
	Iterations int       `json:"iterations"`
	Tolerance  npos.U128 `json:"tolerance"`
	Winners    []struct {
		ID       uint64  `json:"id"`
		Score    string  `json:"score"`
		Support  string  `json:"support"`
		Approval *string `json:"approval_stake"`
	} `json:"winners"`
	AgreeRounds *int  `json:"fixed_point_order_agrees_rounds"`
	Agrees      *bool `json:"fixed_point_order_agrees"`
}

func w3fSetup(t *testing.T, candidates []uint64, voters []w3fVoter) *npos.Instance {
	t.Helper()
	var ballots []npos.Ballot[uint64]
	for _, v := range voters {
		ballots = append(ballots, npos.Ballot[uint64]{Voter: v.ID, Stake: v.Stake, Approvals: v.Approvals})
	}
	in, err := npos.Setup(candidates, ballots)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func float(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func asFloat(v npos.U128) float64 {
	f, _ := new(big.Float).SetInt(v.Big()).Float64()
	return f
}

// compareW3F checks winners in order, and supports within units or a relative
// difference of 1e-9, whichever is more.
func compareW3F(t *testing.T, in w3fInstance, r *npos.Result, want w3fRun, units float64) {
	t.Helper()
	if len(r.Winners) != len(want.Winners) {
		t.Fatalf("%d winners, want %d", len(r.Winners), len(want.Winners))
	}
	order := len(want.Winners)
	if want.AgreeRounds != nil {
		order = *want.AgreeRounds
	}
	for i, w := range want.Winners[:order] {
		if got := in.Candidates[r.Winners[i].Candidate]; got != w.ID {
			t.Fatalf("round %d elects %d, want %d", i, got, w.ID)
		}
		if w.Score != "" {
			load := asFloat(r.Winners[i].Load) / math.Ldexp(1, 128)
			if s := float(t, w.Score); math.Abs(load-s) > 1e-9*s {
				t.Errorf("round %d has score %v, want %v", i, load, s)
			}
		}
		if order < len(want.Winners) {
			continue // supports depend on all rounds
		}
		s, got := float(t, w.Support), asFloat(r.Winners[i].Backing)
		if math.Abs(got-s) > max(units, 1e-9*s) {
			t.Errorf("%d is backed by %v, want %v", w.ID, got, s)
		}
	}
}

func TestIndependentVectors(t *testing.T) {
	var file struct {
		Instances []w3fInstance `json:"instances"`
	}
	readVectors(t, "vectors-npos-py-seed1.json", &file)
	if len(file.Instances) < 40 {
		t.Fatalf("only %d instances", len(file.Instances))
	}
	for _, c := range file.Instances {
		t.Run(c.Name, func(t *testing.T) {
			in := w3fSetup(t, c.Candidates, c.Voters)
			// Rounding loses less than a unit an edge, and normalising gives all of
			// a voter's back to its least edge; so a support moves by some units,
			// never more than seqUnits and, levelled by balancing, balancedUnits.
			const seqUnits, balancedUnits = 40, 30
			for name, elect := range methods {
				r, err := elect(in, c.Seats, npos.Balancing{})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if c.Seq.Agrees == nil || !*c.Seq.Agrees {
					t.Fatal("the vectors say that fixed point elects others; choose another seed")
				}
				compareW3F(t, c, r, c.Seq, seqUnits)
			}
			for _, want := range []w3fRun{c.Balanced, c.Long} {
				r, err := npos.SeqPhragmen(in, c.Seats, npos.Balancing{Iterations: want.Iterations, Tolerance: want.Tolerance})
				if err != nil {
					t.Fatal(err)
				}
				compareW3F(t, c, r, want, balancedUnits)
			}
			r := npos.PhragMMS(in, c.Seats, npos.Balancing{Iterations: c.PhragMMS.Iterations, Tolerance: c.PhragMMS.Tolerance})
			compareW3F(t, c, r, c.PhragMMS, balancedUnits)
		})
	}
}

func TestIndependentSourceTests(t *testing.T) {
	var file struct {
		Tests []struct {
			Name       string     `json:"name"`
			Algorithm  string     `json:"algorithm"`
			Seats      int        `json:"seats"`
			Iterations int        `json:"iterations"`
			Voters     []w3fVoter `json:"voters"`
			Expected   w3fRun     `json:"expected"`
		} `json:"source_tests"`
	}
	readVectors(t, "vectors-npos-py-seed1.json", &file)
	for _, c := range file.Tests {
		t.Run(c.Name, func(t *testing.T) {
			// npos.py takes the candidates in the order of their first approval.
			var candidates []uint64
			for _, v := range c.Voters {
				for _, a := range v.Approvals {
					if !slices.Contains(candidates, a) {
						candidates = append(candidates, a)
					}
				}
			}
			in := w3fSetup(t, candidates, c.Voters)
			balance := npos.Balancing{Iterations: c.Iterations}
			var r *npos.Result
			switch c.Algorithm {
			case "phragmms":
				r = npos.PhragMMS(in, c.Seats, balance)
				steps := npos.NewPhragMMSSteps(in, npos.Billion)
				for i, w := range c.Expected.Winners {
					winner, score := steps.Elect()
					if w.Score != "" && (candidates[winner] != w.ID || asFloat(score) != float(t, w.Score)) {
						t.Errorf("round %d elects %d with score %v", i, candidates[winner], score)
					}
					steps.Balance(balance)
				}
			case "seq_phragmen":
				var err error
				if r, err = npos.SeqPhragmen(in, c.Seats, balance); err != nil {
					t.Fatal(err)
				}
			case "approval":
				for _, w := range c.Expected.Winners {
					if got := in.ApprovalStake(slices.Index(candidates, w.ID)); got.String() != *w.Approval {
						t.Errorf("%d is approved by %v, want %s", w.ID, got, *w.Approval)
					}
				}
				return
			default:
				t.Fatalf("no test for %q", c.Algorithm)
			}
			for i, w := range c.Expected.Winners {
				if candidates[r.Winners[i].Candidate] != w.ID {
					t.Errorf("round %d elects %d, want %d", i, candidates[r.Winners[i].Candidate], w.ID)
				}
				if w.Support != "" && r.Winners[i].Backing.String() != w.Support {
					t.Errorf("%d is backed by %v, want %s", w.ID, r.Winners[i].Backing, w.Support)
				}
				if c.Algorithm == "seq_phragmen" {
					load := asFloat(r.Winners[i].Load) / math.Ldexp(1, 128)
					if s := float(t, w.Score); math.Abs(load-s) > 1e-12 {
						t.Errorf("round %d has score %v, want %v", i, load, s)
					}
				}
			}
		})
	}
}
