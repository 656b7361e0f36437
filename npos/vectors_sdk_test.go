package npos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/internal/shared"
)

// The published test cases of the reference implementation (Substrate's
// sp-npos-elections and sp-arithmetic); the schema is in the README beside them.

type sdkFile struct {
	Cases []sdkCase `json:"cases"`
}

type sdkCase struct {
	Name      string          `json:"name"`
	Algorithm string          `json:"algorithm"`
	Input     json.RawMessage `json:"input"`
	Expected  json.RawMessage `json:"expected"`
	Derived   json.RawMessage `json:"derived"`
	Then      []struct {
		Input    sdkBalancing `json:"input"`
		Expected sdkOutcome   `json:"expected"`
	} `json:"then"`
}

type sdkBalancing struct {
	Iterations int       `json:"iterations"`
	Tolerance  npos.U128 `json:"tolerance"`
}

type sdkElection struct {
	Seats      int        `json:"seats"`
	Candidates []uint64   `json:"candidates"`
	Voters     []sdkVoter `json:"voters"`
	Balancing  *sdkBalancing
	Accuracy   string `json:"accuracy"`
}

type sdkVoter struct {
	ID        uint64    `json:"id"`
	Stake     npos.U128 `json:"stake"`
	Approvals []uint64  `json:"approvals"`
}

// sdkPair is [candidate or voter, amount].
type sdkPair struct {
	ID     uint64
	Amount string
}

func (p *sdkPair) UnmarshalJSON(b []byte) error {
	return json.Unmarshal(b, &[]any{&p.ID, &p.Amount})
}

type sdkDistribution struct {
	Voter        uint64    `json:"voter"`
	Distribution []sdkPair `json:"distribution"`
}

type sdkWinner struct {
	ID      uint64     `json:"id"`
	Backing *npos.U128 `json:"backing"`
	Round   *int       `json:"round"`
}

type sdkOutcome struct {
	Winners           []sdkWinner       `json:"winners"`
	WinnersOrder      string            `json:"winners_order"`
	Rounds            []json.RawMessage `json:"rounds"`
	Accuracy          string            `json:"accuracy"`
	SharesKind        string            `json:"shares_kind"`
	Assignments       []sdkDistribution `json:"assignments"`
	Staked            []sdkDistribution `json:"staked"`
	AssignmentsCount  *int              `json:"assignments_count"`
	AssignmentTargets []struct {
		Voter   uint64   `json:"voter"`
		Targets []uint64 `json:"targets"`
	} `json:"assignment_targets"`
	Supports []struct {
		ID     uint64    `json:"id"`
		Total  npos.U128 `json:"total"`
		Voters []sdkPair `json:"voters"`
	} `json:"supports"`
	SupportsAbsent []uint64              `json:"supports_absent"`
	Fixed          map[string]sdkOutcome `json:"fixed"`
}

// readVectors decodes a file of the shared data.
func readVectors(t *testing.T, name string, into any) {
	t.Helper()
	if err := json.Unmarshal(shared.File(t, name), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// decode fills v from one part of a case.
func decode[T any](t *testing.T, raw json.RawMessage) T {
	t.Helper()
	var v T
	if len(raw) == 0 {
		return v
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return v
}

func amount(t *testing.T, s string) npos.U128 {
	t.Helper()
	v, err := npos.ParseU128(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func setup(t *testing.T, e sdkElection) *npos.Instance {
	t.Helper()
	var ballots []npos.Ballot[uint64]
	for _, v := range e.Voters {
		ballots = append(ballots, npos.Ballot[uint64]{Voter: v.ID, Stake: v.Stake, Approvals: v.Approvals})
	}
	in, err := npos.Setup(e.Candidates, ballots)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func balancing(b *sdkBalancing) npos.Balancing {
	if b == nil {
		return npos.Balancing{}
	}
	return npos.Balancing{Iterations: b.Iterations, Tolerance: b.Tolerance}
}

func TestReferenceVectors(t *testing.T) {
	var file sdkFile
	readVectors(t, "vectors-polkadot-sdk.json", &file)
	if len(file.Cases) < 80 {
		t.Fatalf("only %d cases", len(file.Cases))
	}
	run := map[string]func(*testing.T, sdkCase){
		"seq_phragmen": sdkElect, "phragmms": sdkPhragMMS, "setup_inputs": sdkSetup,
		"seq_phragmen_core": sdkCore, "balance": sdkCore, "normalize": sdkNormalize,
		"staked_to_ratio": sdkToRatio, "ratio_to_staked": sdkToStaked,
		"score_compare": sdkScores, "score_order": sdkScores, "threshold_compare": sdkThreshold,
		"pjr": sdkPJR, "reduce": sdkReduce,
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			f := run[c.Algorithm]
			if f == nil {
				t.Fatalf("no test for algorithm %q", c.Algorithm)
			}
			f(t, c)
		})
	}
}

func sdkElect(t *testing.T, c sdkCase) {
	e := decode[sdkElection](t, c.Input)
	in := setup(t, e)
	for name, elect := range methods {
		t.Run(name, func(t *testing.T) {
			r, err := elect(in, e.Seats, balancing(e.Balancing))
			if err != nil {
				t.Fatal(err)
			}
			compareOutcome(t, e, in, r, decode[sdkOutcome](t, c.Expected))
			compareOutcome(t, e, in, r, decode[sdkOutcome](t, c.Derived))
			for _, then := range c.Then {
				balanced, err := npos.Balance(in, r, balancing(&then.Input))
				if err != nil {
					t.Fatal(err)
				}
				compareOutcome(t, e, in, balanced, then.Expected)
			}
		})
	}
}

// methods are the two evaluations of sequential Phragmén.
var methods = map[string]func(*npos.Instance, int, npos.Balancing) (*npos.Result, error){
	"incremental": npos.SeqPhragmen, "plain": npos.SeqPhragmenPlain,
}

// compareOutcome checks whatever the outcome states.
func compareOutcome(t *testing.T, e sdkElection, in *npos.Instance, r *npos.Result, want sdkOutcome) {
	t.Helper()
	if want.Winners != nil && len(want.Winners) != len(r.Winners) {
		t.Fatalf("%d winners, want %d", len(r.Winners), len(want.Winners))
	}
	for i, w := range want.Winners {
		at := slices.IndexFunc(r.Winners, func(x npos.Winner) bool { return e.Candidates[x.Candidate] == w.ID })
		if at < 0 {
			t.Fatalf("candidate %d did not win", w.ID)
		}
		if w.Round != nil && *w.Round != at || want.WinnersOrder == "exact" && at != i {
			t.Errorf("candidate %d won in round %d", w.ID, at)
		}
		if w.Backing != nil && *w.Backing != r.Winners[at].Backing {
			t.Errorf("candidate %d is backed by %v, want %v", w.ID, r.Winners[at].Backing, *w.Backing)
		}
	}
	if len(want.Rounds) > 0 && len(want.Rounds) != len(r.Winners) {
		t.Errorf("%d rounds, want %d", len(r.Winners), len(want.Rounds))
	}
	if want.AssignmentsCount != nil && len(r.Assignments) != *want.AssignmentsCount {
		t.Errorf("%d assignments, want %d", len(r.Assignments), *want.AssignmentsCount)
	}
	if want.SharesKind != "rational" && want.Assignments != nil {
		compareShares(t, e, in, r, want.Assignments, want.Accuracy)
	}
	compareStaked(t, e, r.Assignments, want.Staked)
	for _, a := range want.AssignmentTargets {
		var got []uint64
		for _, edge := range assignmentOf(t, e, r.Assignments, a.Voter).Edges {
			got = append(got, e.Candidates[edge.Candidate])
		}
		if !slices.Equal(got, a.Targets) {
			t.Errorf("voter %d backs %v, want %v", a.Voter, got, a.Targets)
		}
	}
	compareSupports(t, e, r, want)
	for accuracy, o := range want.Fixed {
		o.Accuracy = accuracy
		compareOutcome(t, e, in, r, o)
	}
}

func assignmentOf(t *testing.T, e sdkElection, list []npos.Assignment, voter uint64) npos.Assignment {
	t.Helper()
	for _, a := range list {
		if e.Voters[a.Voter].ID == voter {
			return a
		}
	}
	t.Fatalf("voter %d has no assignment", voter)
	return npos.Assignment{}
}

func compareShares(t *testing.T, e sdkElection, in *npos.Instance, r *npos.Result, want []sdkDistribution, accuracy string) {
	t.Helper()
	if len(want) != len(r.Assignments) {
		t.Errorf("%d assignments, want %d", len(r.Assignments), len(want))
	}
	parts := uint32(amount(t, accuracy).Lo)
	for _, d := range want {
		a := assignmentOf(t, e, r.Assignments, d.Voter)
		shares, err := a.Shares(in.Stake(int(a.Voter)), parts)
		if err != nil {
			t.Fatal(err)
		}
		var got []sdkPair
		for _, s := range shares {
			got = append(got, sdkPair{e.Candidates[s.Candidate], fmt.Sprint(s.Parts)})
		}
		if !slices.Equal(got, d.Distribution) {
			t.Errorf("voter %d gives %v of %s, want %v", d.Voter, got, accuracy, d.Distribution)
		}
	}
}

func compareStaked(t *testing.T, e sdkElection, list []npos.Assignment, want []sdkDistribution) {
	t.Helper()
	for _, d := range want {
		var got []sdkPair
		for _, edge := range assignmentOf(t, e, list, d.Voter).Edges {
			got = append(got, sdkPair{e.Candidates[edge.Candidate], edge.Weight.String()})
		}
		if !slices.Equal(got, d.Distribution) {
			t.Errorf("voter %d gives %v, want %v", d.Voter, got, d.Distribution)
		}
	}
}

func compareSupports(t *testing.T, e sdkElection, r *npos.Result, want sdkOutcome) {
	t.Helper()
	got := map[uint64]npos.Support{}
	for _, s := range r.Supports() {
		got[e.Candidates[s.Candidate]] = s
	}
	for _, id := range want.SupportsAbsent {
		if _, there := got[id]; there {
			t.Errorf("candidate %d has a support", id)
		}
	}
	for _, w := range want.Supports {
		s := got[w.ID]
		backers := map[uint64]string{}
		for _, b := range s.Backers {
			backers[e.Voters[b.Voter].ID] = b.Stake.String()
		}
		if s.Total != w.Total || len(backers) != len(w.Voters) {
			t.Errorf("candidate %d has %v of %v, want %v of %v", w.ID, s.Total, backers, w.Total, w.Voters)
		}
		for _, v := range w.Voters {
			if backers[v.ID] != v.Amount {
				t.Errorf("voter %d backs %d with %s, want %s", v.ID, w.ID, backers[v.ID], v.Amount)
			}
		}
	}
}

func sdkPhragMMS(t *testing.T, c sdkCase) {
	e := decode[sdkElection](t, c.Input)
	in := setup(t, e)
	if e.Accuracy != "" {
		sdkPhragMMSSteps(t, c, e, in)
		return
	}
	r := npos.PhragMMS(in, e.Seats, balancing(e.Balancing))
	compareOutcome(t, e, in, r, decode[sdkOutcome](t, c.Expected))
	compareOutcome(t, e, in, r, decode[sdkOutcome](t, c.Derived))
}

func sdkPhragMMSSteps(t *testing.T, c sdkCase, e sdkElection, in *npos.Instance) {
	type round struct {
		Winner  uint64            `json:"winner"`
		Score   npos.U128         `json:"score"`
		Elect   []sdkDistribution `json:"edges_after_elect"`
		Balance []sdkDistribution `json:"edges_after_balance"`
	}
	m := npos.NewPhragMMSSteps(in, uint32(amount(t, e.Accuracy).Lo))
	edges := func(want []sdkDistribution) {
		t.Helper()
		var list []npos.Assignment
		for v := range e.Voters {
			list = append(list, npos.Assignment{Voter: uint32(v), Edges: m.Edges(v)})
		}
		compareStaked(t, e, list, want)
	}
	for i, want := range decode[struct{ Rounds []round }](t, c.Expected).Rounds {
		winner, score := m.Elect()
		if e.Candidates[winner] != want.Winner || score != want.Score {
			t.Errorf("round %d: %d with score %v, want %d with %v", i, e.Candidates[winner], score, want.Winner, want.Score)
		}
		edges(want.Elect)
		m.Balance(balancing(e.Balancing))
		edges(want.Balance)
	}
}

func sdkSetup(t *testing.T, c sdkCase) {
	e := decode[sdkElection](t, c.Input)
	in := setup(t, e)
	if in.Edges() != 0 || in.Candidates() != len(e.Candidates) || !in.TotalStake().IsZero() {
		t.Errorf("%d edges, %d candidates, stake %v", in.Edges(), in.Candidates(), in.TotalStake())
	}
	r, err := npos.SeqPhragmen(in, 1, npos.Balancing{})
	if err != nil || len(r.Assignments) != 0 {
		t.Errorf("%v, %v", r, err)
	}
}

// sdkCore compares the state that an election leaves behind.
func sdkCore(t *testing.T, c sdkCase) {
	type edges struct {
		ID    uint64    `json:"id"`
		Edges []sdkPair `json:"edges"`
	}
	type candidate struct {
		ID      uint64    `json:"id"`
		Elected bool      `json:"elected"`
		Round   int       `json:"round"`
		Backing npos.U128 `json:"backing"`
	}
	want := decode[struct {
		Voters     []edges     `json:"voters"`
		Candidates []candidate `json:"candidates"`
	}](t, c.Expected)
	e := decode[sdkElection](t, c.Input)
	in := setup(t, e)
	r, err := npos.SeqPhragmen(in, e.Seats, balancing(e.Balancing))
	if err != nil {
		t.Fatal(err)
	}
	if n := decode[struct{ Iterations int }](t, c.Derived).Iterations; n != 0 && r.Iterations != n {
		t.Errorf("%d iterations, want %d", r.Iterations, n)
	}
	var staked []sdkDistribution
	for _, v := range want.Voters {
		staked = append(staked, sdkDistribution{v.ID, v.Edges})
	}
	compareStaked(t, e, r.Assignments, staked)
	for _, w := range want.Candidates {
		at := slices.IndexFunc(r.Winners, func(x npos.Winner) bool { return e.Candidates[x.Candidate] == w.ID })
		if w.Elected != (at >= 0) {
			t.Errorf("candidate %d: elected %v", w.ID, at >= 0)
		} else if w.Elected && (at != w.Round || r.Winners[at].Backing != w.Backing) {
			t.Errorf("candidate %d: round %d with %v", w.ID, at, r.Winners[at].Backing)
		}
	}
}

func sdkNormalize(t *testing.T, c sdkCase) {
	in := decode[struct {
		Target      npos.U128
		Values      []npos.U128
		Bits        uint
		OnlyElected bool `json:"only_elected"`
		Edges       []struct{ Elected bool }
	}](t, c.Input)
	want := decode[struct {
		Values []npos.U128
		Error  *string
	}](t, c.Expected)
	limit := npos.MaxU128
	if in.Bits > 0 && in.Bits < 64 {
		limit = npos.U64(1<<in.Bits - 1)
	}
	values := slices.Clone(in.Values)
	if in.OnlyElected {
		values = values[:0]
		for i, e := range in.Edges {
			if e.Elected {
				values = append(values, in.Values[i])
			}
		}
	}
	err := npos.NormalizeWithin(values, in.Target, limit)
	if want.Error != nil {
		if !errors.Is(err, npos.CodeSumOverflow) {
			t.Errorf("error %v, want %s", err, *want.Error)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if in.OnlyElected { // put the others back
		all := slices.Clone(in.Values)
		for i, e := range in.Edges {
			if e.Elected {
				all[i], values = values[0], values[1:]
			}
		}
		values = all
	}
	if want.Values != nil && !slices.Equal(values, want.Values) {
		t.Errorf("%v, want %v", values, want.Values)
	}
}

func sdkToRatio(t *testing.T, c sdkCase) {
	in := decode[struct {
		Accuracy string
		Staked   []sdkDistribution
	}](t, c.Input)
	want := decode[struct{ Assignments []sdkDistribution }](t, c.Expected)
	for i, d := range in.Staked {
		var a npos.Assignment
		var sum npos.U128
		for _, p := range d.Distribution {
			w := amount(t, p.Amount)
			a.Edges = append(a.Edges, npos.Edge{Candidate: uint32(p.ID), Weight: w})
			sum = sum.SaturatingAdd(w)
		}
		shares, err := a.Truncated(sum, uint32(amount(t, in.Accuracy).Lo))
		if err != nil {
			t.Fatal(err)
		}
		var got []sdkPair
		for _, s := range shares {
			got = append(got, sdkPair{uint64(s.Candidate), fmt.Sprint(s.Parts)})
		}
		if !slices.Equal(got, want.Assignments[i].Distribution) {
			t.Errorf("%v, want %v", got, want.Assignments[i].Distribution)
		}
	}
}

func sdkToStaked(t *testing.T, c sdkCase) {
	in := decode[struct {
		Accuracy    string
		Stake       npos.U128
		Assignments []sdkDistribution
	}](t, c.Input)
	want := decode[struct{ Staked []sdkDistribution }](t, c.Expected)
	for i, d := range in.Assignments {
		var shares []npos.Share
		for _, p := range d.Distribution {
			shares = append(shares, npos.Share{Candidate: uint32(p.ID), Parts: amount(t, p.Amount).Lo})
		}
		a, err := npos.Staked(0, shares, in.Stake, uint32(amount(t, in.Accuracy).Lo))
		if err != nil {
			t.Fatal(err)
		}
		var got []sdkPair
		for _, e := range a.Edges {
			got = append(got, sdkPair{uint64(e.Candidate), e.Weight.String()})
		}
		if !slices.Equal(got, want.Staked[i].Distribution) {
			t.Errorf("%v, want %v", got, want.Staked[i].Distribution)
		}
	}
}

func sdkScores(t *testing.T, c sdkCase) {
	in := decode[struct {
		Rows []struct {
			This, That [3]string
			Epsilon    string
		}
	}](t, c.Input)
	want := decode[struct {
		Better []bool
		Order  []int
	}](t, c.Expected)
	score := func(s [3]string) (out npos.Score) {
		out.MinimalStake, out.SumStake = amount(t, s[0]), amount(t, s[1])
		if err := out.SumStakeSquared.UnmarshalText([]byte(s[2])); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for i, row := range in.Rows {
		this, that := score(row.This), score(row.That)
		if want.Order != nil {
			if got := this.Compare(that); got != want.Order[i] || that.Compare(this) != -got {
				t.Errorf("row %d: order %d, want %d", i, got, want.Order[i])
			}
			continue
		}
		if got := this.Better(that, uint32(amount(t, row.Epsilon).Lo)); got != want.Better[i] {
			t.Errorf("row %d: better %v, want %v", i, got, want.Better[i])
		}
	}
}

func sdkThreshold(t *testing.T, c sdkCase) {
	in := decode[struct {
		That     npos.U128
		This     []npos.U128
		Epsilon  string
		Rounding string `json:"epsilon_rounding"`
	}](t, c.Input)
	want := decode[struct{ Order []int }](t, c.Expected)
	epsilon := uint32(amount(t, in.Epsilon).Lo)
	if in.Rounding != "up" {
		// The source multiplies to the nearest unit here, which makes the margin
		// zero; scores always round it up, as the first case does.
		epsilon = 0
	}
	for i, this := range in.This {
		if got := npos.CompareWithin(this, in.That, epsilon); got != want.Order[i] {
			t.Errorf("%v against %v: %d, want %d", this, in.That, got, want.Order[i])
		}
	}
}
