package npos_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/internal/shared"
)

func TestSetup(t *testing.T) {
	ballot := func(voter string, stake uint64, approvals ...string) npos.Ballot[string] {
		return npos.Ballot[string]{Voter: voter, Stake: npos.U64(stake), Approvals: approvals}
	}
	in, err := npos.Setup([]string{"a", "b", "c"}, []npos.Ballot[string]{
		ballot("v", 5, "b", "nobody", "b", "a"), ballot("w", 7), ballot("x", 9, "gone"), ballot("a", 0, "a"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if in.Candidates() != 3 || in.Voters() != 4 || in.Edges() != 3 || in.TotalStake() != npos.U64(5) {
		t.Errorf("%+v", in)
	}
	if got := in.Approvals(0); !reflect.DeepEqual(got, []uint32{1, 0}) {
		t.Errorf("approvals %v", got)
	}
	if in.ApprovalStake(0) != npos.U64(5) || !in.ApprovalStake(2).IsZero() || in.Stake(1) != npos.U64(7) {
		t.Errorf("%+v", in)
	}
}

func TestRefusals(t *testing.T) {
	half := npos.U128{Hi: 1 << 31}
	one := []npos.U128{npos.U64(10)}
	row := func(c ...uint32) [][]uint32 { return [][]uint32{c} }
	instance := func(n int, stakes []npos.U128, rows [][]uint32) error {
		_, err := npos.NewInstance(n, stakes, rows)
		return err
	}
	setup := func(candidates []int, voters ...int) error {
		var ballots []npos.Ballot[int]
		for _, v := range voters {
			ballots = append(ballots, npos.Ballot[int]{Voter: v})
		}
		_, err := npos.Setup(candidates, ballots)
		return err
	}
	valid, err := npos.NewInstance(3, []npos.U128{npos.U64(10), npos.U64(20)}, [][]uint32{{0, 1}, {1}})
	if err != nil {
		t.Fatal(err)
	}
	result := func(winners []uint32, list ...npos.Assignment) error {
		_, err := npos.NewResult(valid, winners, list)
		return err
	}
	gives := func(voter, candidate uint32, weight uint64) npos.Assignment {
		return npos.Assignment{Voter: voter, Edges: []npos.Edge{{Candidate: candidate, Weight: npos.U64(weight)}}}
	}
	r, err := npos.NewResult(valid, []uint32{1}, []npos.Assignment{gives(0, 1, 10)})
	if err != nil {
		t.Fatal(err)
	}
	challenge := func(candidate int) error {
		_, err := npos.ChallengePJR(valid, r, candidate, npos.U64(1))
		return err
	}
	shares := func(a npos.Assignment, stake uint64, accuracy uint32) error {
		_, err := a.Shares(npos.U64(stake), accuracy)
		return err
	}
	staked := func(parts uint64, accuracy uint32) error {
		_, err := npos.Staked(0, []npos.Share{{Parts: parts}}, npos.U64(5), accuracy)
		return err
	}
	_, reduce := npos.Reduce([]npos.Assignment{gives(1, 1, 1), gives(1, 1, 1)})
	_, balance := npos.Balance(valid, &npos.Result{Winners: r.Winners, Assignments: []npos.Assignment{gives(0, 0, 1)}}, npos.Balancing{})
	for _, c := range []struct {
		name string
		err  error
		want npos.Code
	}{
		{"too many candidates", instance(npos.MaxCandidates+1, nil, nil), npos.CodeTooLarge},
		{"negative candidates", instance(-1, nil, nil), npos.CodeTooLarge},
		{"stakes without rows", instance(1, one, nil), npos.CodeUnknownVoter},
		{"unknown candidate", instance(1, one, row(1)), npos.CodeUnknownCandidate},
		{"repeated candidate", instance(1, one, row(0, 0)), npos.CodeDuplicateTarget},
		{"total stake", instance(1, []npos.U128{half, half}, [][]uint32{{0}, {0}}), npos.CodeStakeOverflow},
		{"stake beyond 128 bits", instance(1, []npos.U128{npos.U64(1), npos.MaxU128}, [][]uint32{{0}, {0}}), npos.CodeStakeOverflow},
		{"candidate twice", setup([]int{4, 5, 4}), npos.CodeDuplicateCandidate},
		{"voter twice", setup([]int{4}, 1, 2, 1), npos.CodeDuplicateVoter},
		{"unknown winner", result([]uint32{3}), npos.CodeUnknownCandidate},
		{"winner twice", result([]uint32{1, 1}), npos.CodeDuplicateCandidate},
		{"unknown voter", result([]uint32{1}, gives(2, 1, 1)), npos.CodeUnknownVoter},
		{"assigned twice", result([]uint32{1}, gives(0, 1, 1), gives(0, 1, 1)), npos.CodeDuplicateVoter},
		{"loser backed", result([]uint32{1}, gives(0, 0, 1)), npos.CodeNotElected},
		{"not approved", result([]uint32{0}, gives(1, 0, 1)), npos.CodeNotApproved},
		{"overspent", result([]uint32{1}, gives(0, 1, 11)), npos.CodeOverspent},
		{"edge twice", result([]uint32{1}, npos.Assignment{Edges: []npos.Edge{{Candidate: 1}, {Candidate: 1}}}), npos.CodeDuplicateTarget},
		{"challenge of nobody", challenge(3), npos.CodeUnknownCandidate},
		{"negative challenge", challenge(-1), npos.CodeUnknownCandidate},
		{"challenge of a winner", challenge(1), npos.CodeElected},
		{"no accuracy", shares(gives(0, 0, 1), 1, 0), npos.CodeAccuracy},
		{"share above one", shares(gives(0, 0, 2), 1, 100), npos.CodeOverspent},
		{"staked without accuracy", staked(1, 0), npos.CodeAccuracy},
		{"staked above one", staked(101, 100), npos.CodeOverspent},
		{"reduce with a voter twice", reduce, npos.CodeDuplicateVoter},
		{"balance of another's result", balance, npos.CodeNotElected},
	} {
		var typed *npos.Error
		if !errors.Is(c.err, c.want) || !errors.As(c.err, &typed) || typed.Detail == "" {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

func TestEdgeCases(t *testing.T) {
	empty, err := npos.NewInstance(0, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	unapproved, err := npos.NewInstance(2, []npos.U128{npos.U64(3)}, [][]uint32{nil})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		in             *npos.Instance
		seats, winners int
	}{
		{"nothing at all", empty, 3, 0}, {"no seats", unapproved, 0, 0}, {"negative seats", unapproved, -1, 0},
		{"no approvals elect in order", unapproved, 5, 2},
	} {
		r := compareEvaluations(t, c.in, c.seats, npos.Balancing{Iterations: 2})
		if len(r.Winners) != c.winners || len(r.Assignments) != 0 {
			t.Errorf("%s: %+v", c.name, r)
		}
		for i, w := range r.Winners {
			if int(w.Candidate) != i || w.Load != npos.MaxU128 {
				t.Errorf("%s: winner %d is %+v", c.name, i, w)
			}
		}
		if p := npos.PhragMMS(c.in, c.seats, npos.Balancing{}); len(p.Winners) != 0 {
			t.Errorf("%s: PhragMMS elects %v", c.name, p.Winners)
		}
		if cert := npos.CheckStandardPJR(c.in, r); cert.Holds != (c.winners > 0 || c.in == empty) {
			t.Errorf("%s: %+v", c.name, cert)
		}
	}
	if s := npos.Evaluate(nil); s != (npos.Score{}) {
		t.Errorf("no supports score %v", s)
	}
}

// Balancing touches a voter from a difference of the tolerance on, and stops after a
// round in which no voter had more.
func TestBalancingTolerance(t *testing.T) {
	in, err := npos.NewInstance(2, []npos.U128{npos.U64(10), npos.U64(10), npos.U64(6)}, [][]uint32{{0}, {1}, {0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	all := func(voter, candidate uint32, weight uint64) npos.Assignment {
		return npos.Assignment{Voter: voter, Edges: []npos.Edge{{Candidate: candidate, Weight: npos.U64(weight)}}}
	}
	r, err := npos.NewResult(in, []uint32{0, 1}, []npos.Assignment{all(0, 0, 10), all(1, 1, 10), all(2, 0, 6)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tolerance  uint64
		backing    uint64
		iterations int
	}{{0, 13, 2}, {5, 13, 2}, {6, 13, 1}, {7, 16, 1}} {
		got, err := npos.Balance(in, r, npos.Balancing{Iterations: 9, Tolerance: npos.U64(c.tolerance)})
		if err != nil {
			t.Fatal(err)
		}
		if got.Winners[0].Backing != npos.U64(c.backing) || got.Iterations != c.iterations {
			t.Errorf("tolerance %d: %+v", c.tolerance, got)
		}
	}
}

// FuzzElection lets the fuzzer draw the instance: both evaluations must agree, and
// the result must stand its own check.
func FuzzElection(f *testing.F) {
	f.Add([]byte{3, 2, 0, 10, 0b011, 20, 0b101, 30, 0b110})
	f.Add([]byte{8, 6, 4, 1, 0xff, 1, 0xff, 0, 0x0f, 255, 0x81})
	f.Add([]byte{1, 1, 0, 0, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 3 || len(data) > 200 {
			return
		}
		candidates, seats := 1+int(data[0]%8), int(data[1]%10)
		var stakes []npos.U128
		var rows [][]uint32
		for i := 3; i+1 < len(data); i += 2 {
			stake := npos.U64(uint64(data[i]))
			if data[2]&1 == 1 {
				stake = npos.U128{Hi: uint64(data[i]) << 8, Lo: uint64(data[i]) * 7919}
			}
			var row []uint32
			for c := range candidates {
				if data[i+1]>>c&1 == 1 {
					row = append(row, uint32(c))
				}
			}
			stakes, rows = append(stakes, stake), append(rows, row)
		}
		in, err := npos.NewInstance(candidates, stakes, rows)
		if err != nil {
			t.Fatal(err)
		}
		b := npos.Balancing{Iterations: int(data[2] >> 4)}
		checkResult(t, in, compareEvaluations(t, in, seats, b), max(seats, 0))
		checkResult(t, in, npos.PhragMMS(in, seats, b), max(seats, 0))
	})
}

// The result of a fixed instance, frozen: a change here splits the network.
func TestGoldenElection(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	stakes, rows := make([]npos.U128, 200), make([][]uint32, 200)
	for v := range stakes {
		stakes[v] = npos.U64(1e12 + rng.Uint64N(1e15))
		for c := range uint32(30) {
			if rng.IntN(6) == 0 {
				rows[v] = append(rows[v], c)
			}
		}
	}
	in, err := npos.NewInstance(30, stakes, rows)
	if err != nil {
		t.Fatal(err)
	}
	r := compareEvaluations(t, in, 10, npos.Balancing{Iterations: 10})
	shared.Golden(t, "election.golden", goldenText(r))
	p := npos.PhragMMS(in, 10, npos.Balancing{Iterations: 3})
	shared.Golden(t, "phragmms.golden", goldenText(p))
	// Many equal weights, so that the choice among equals shows.
	for i := range p.Assignments {
		for j := range p.Assignments[i].Edges {
			w := &p.Assignments[i].Edges[j].Weight
			w.Hi, w.Lo = 0, 1+w.Lo%3
		}
	}
	if _, err := npos.Reduce(p.Assignments); err != nil {
		t.Fatal(err)
	}
	shared.Golden(t, "reduced.golden", goldenText(p))
}

// goldenText is a result as lines: winners, then a voter and its edges each.
func goldenText(r *npos.Result) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "iterations %d\n", r.Iterations)
	for i, w := range r.Winners {
		fmt.Fprintf(&b, "winner %d %d backing %v load %v\n", i, w.Candidate, w.Backing, w.Load)
	}
	for _, a := range r.Assignments {
		fmt.Fprintf(&b, "voter %d", a.Voter)
		for _, e := range a.Edges {
			fmt.Fprintf(&b, " %d:%v", e.Candidate, e.Weight)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
