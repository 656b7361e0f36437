package npos_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"github.com/phala-go/phala/npos"
)

// randomInstance draws an instance; every kind of stake that has its own rounding
// behaviour turns up: equal ones, tiny ones, the largest allowed, zero.
func randomInstance(t testing.TB, rng *rand.Rand) *npos.Instance {
	t.Helper()
	candidates, voters := 1+rng.IntN(20), 1+rng.IntN(40)
	kind := rng.IntN(6)
	stakes, rows := make([]npos.U128, voters), make([][]uint32, voters)
	for v := range stakes {
		switch kind {
		case 0:
			stakes[v] = npos.U64(100)
		case 1:
			stakes[v] = npos.U64(rng.Uint64N(4)) // sole supporters of many: saturates
		case 2:
			stakes[v] = npos.U64(rng.Uint64N(1000))
		case 3:
			stakes[v] = npos.U64(rng.Uint64() >> rng.IntN(64))
		case 4:
			stakes[v] = npos.U64(rng.Uint64() >> 4)
		case 5: // 2^96 / 64 each at most
			stakes[v] = npos.U128{Hi: rng.Uint64N(1 << 26), Lo: rng.Uint64()}
		}
		for c := range candidates {
			if rng.IntN(candidates) < 4 {
				rows[v] = append(rows[v], uint32(c))
			}
		}
		rng.Shuffle(len(rows[v]), func(i, j int) { rows[v][i], rows[v][j] = rows[v][j], rows[v][i] })
	}
	in, err := npos.NewInstance(candidates, stakes, rows)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func randomBalancing(rng *rand.Rand) npos.Balancing {
	return npos.Balancing{Iterations: rng.IntN(8), Tolerance: npos.U64(rng.Uint64N(3))}
}

// eachRandom runs a property on seeded random instances; PHALA_LONG=1 runs many more.
func eachRandom(t *testing.T, rounds int, property func(*testing.T, *rand.Rand, *npos.Instance)) {
	t.Helper()
	if os.Getenv("PHALA_LONG") != "" {
		rounds *= 50
	}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 5))
		in := randomInstance(t, rng)
		property(t, rng, in)
		if t.Failed() {
			t.Fatalf("at seed %d", seed)
		}
	}
}

// compareEvaluations requires the plain and the incremental evaluation to give
// the same result bit for bit.
func compareEvaluations(t *testing.T, in *npos.Instance, seats int, b npos.Balancing) *npos.Result {
	t.Helper()
	plain, err := npos.SeqPhragmenPlain(in, seats, b)
	if err != nil {
		t.Fatal(err)
	}
	quick, err := npos.SeqPhragmen(in, seats, b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(plain, quick) {
		t.Fatalf("the evaluations differ:\nplain       %+v\nincremental %+v", plain, quick)
	}
	return quick
}

// checkResult requires what holds for the result of any method: seats are filled,
// every unit of every voter with a winner is placed once, on winners it approves
// of (which NewResult checks), and the backings are the sums.
func checkResult(t *testing.T, in *npos.Instance, r *npos.Result, seats int) {
	t.Helper()
	var winners []uint32
	elected := map[uint32]bool{}
	for _, w := range r.Winners {
		winners = append(winners, w.Candidate)
		elected[w.Candidate] = true
	}
	again, err := npos.NewResult(in, winners, r.Assignments)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range again.Winners {
		if w.Backing != r.Winners[i].Backing {
			t.Errorf("winner %d claims %v, has %v", w.Candidate, r.Winners[i].Backing, w.Backing)
		}
	}
	var placed npos.U128
	for _, a := range r.Assignments {
		var sum npos.U128
		for _, e := range a.Edges {
			if e.Weight.IsZero() {
				t.Errorf("voter %d has an empty edge", a.Voter)
			}
			sum = sum.SaturatingAdd(e.Weight)
		}
		if sum != in.Stake(int(a.Voter)) {
			t.Errorf("voter %d places %v of %v", a.Voter, sum, in.Stake(int(a.Voter)))
		}
		placed = placed.SaturatingAdd(sum)
	}
	if got := r.Score().SumStake; got != placed {
		t.Errorf("backings sum to %v, assignments to %v", got, placed)
	}
	assigned := map[uint32]bool{}
	for _, a := range r.Assignments {
		assigned[a.Voter] = true
	}
	for v := range in.Voters() {
		won := uint64(0)
		for _, c := range in.Approvals(v) {
			if elected[c] {
				won++
			}
		}
		if won > 0 && !in.Stake(v).Less(npos.U64(won)) && !assigned[uint32(v)] {
			t.Errorf("voter %d backs nobody although %d of its candidates won", v, won)
		}
	}
	if len(r.Winners) > seats {
		t.Errorf("%d winners of %d seats", len(r.Winners), seats)
	}
}

func TestEvaluationsAgree(t *testing.T) {
	saturated := 0
	eachRandom(t, 1500, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		seats := 1 + rng.IntN(in.Candidates()+2)
		r := compareEvaluations(t, in, seats, randomBalancing(rng))
		checkResult(t, in, r, seats)
		if len(r.Winners) != min(seats, in.Candidates()) {
			t.Errorf("%d winners of %d seats and %d candidates", len(r.Winners), seats, in.Candidates())
		}
		for _, w := range r.Winners {
			if w.Load == npos.MaxU128 && !in.ApprovalStake(int(w.Candidate)).IsZero() {
				saturated++
			}
		}
	})
	if saturated == 0 {
		t.Error("no instance reached the saturated loads that it should cover")
	}
}

// naiveRounds elects with exact rational loads of math/big: the mathematical
// method without any rounding.
func naiveRounds(in *npos.Instance, seats int) (winners []uint32, tied bool) {
	load := make([]big.Rat, in.Voters())
	elected := map[uint32]bool{}
	for len(winners) < seats {
		var best *big.Rat
		at := -1
		for c := range in.Candidates() {
			approval := in.ApprovalStake(c).Big()
			if elected[uint32(c)] || approval.Sign() == 0 {
				continue
			}
			score := big.NewRat(1, 1)
			for v := range in.Voters() {
				for _, x := range in.Approvals(v) {
					if x == uint32(c) {
						score.Add(score, new(big.Rat).Mul(&load[v], new(big.Rat).SetInt(in.Stake(v).Big())))
					}
				}
			}
			score.Quo(score, new(big.Rat).SetInt(approval))
			if best != nil && best.Cmp(score) == 0 {
				tied = true
			}
			if best == nil || score.Cmp(best) < 0 {
				best, at = score, c
			}
		}
		if at < 0 {
			return winners, tied
		}
		elected[uint32(at)] = true
		winners = append(winners, uint32(at))
		for v := range in.Voters() {
			for _, x := range in.Approvals(v) {
				if x == uint32(at) {
					load[v].Set(best)
				}
			}
		}
	}
	return winners, tied
}

// Rounding loads to 128 bits elects whom the exact rational method elects, as long
// as no two exact scores are equal, which rounding may order either way.
func TestAgainstExactRationals(t *testing.T) {
	compared := 0
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 77))
		in := randomInstance(t, rng)
		if in.TotalStake().Hi > 0 {
			continue // little resolution left: near ties differ
		}
		seats := 1 + rng.IntN(min(in.Candidates(), 6))
		want, tied := naiveRounds(in, seats)
		if tied {
			continue
		}
		compared++
		r, err := npos.SeqPhragmen(in, seats, npos.Balancing{})
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range want {
			if r.Winners[i].Candidate != c {
				t.Fatalf("seed %d, round %d: elected %d, exact %d", seed, i, r.Winners[i].Candidate, c)
			}
		}
	}
	if compared < 50 {
		t.Errorf("only %d instances without ties", compared)
	}
}

func TestBalancingNeverLowersTheScore(t *testing.T) {
	raised := 0
	eachRandom(t, 600, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		seats := 1 + rng.IntN(in.Candidates())
		b := npos.Balancing{Iterations: 1 + rng.IntN(6)}
		plain, err := npos.SeqPhragmen(in, seats, npos.Balancing{})
		if err != nil {
			t.Fatal(err)
		}
		balanced, err := npos.SeqPhragmen(in, seats, b)
		if err != nil {
			t.Fatal(err)
		}
		further, err := npos.Balance(in, balanced, b)
		if err != nil {
			t.Fatal(err)
		}
		checkResult(t, in, further, seats)
		if balanced.Score().Compare(plain.Score()) < 0 || further.Score().Compare(balanced.Score()) < 0 {
			t.Errorf("scores %v, %v, %v", plain.Score(), balanced.Score(), further.Score())
		}
		if balanced.Score().Compare(plain.Score()) > 0 {
			raised++
		}
	})
	if raised == 0 {
		t.Error("balancing never raised a score")
	}
}

// A fixed point of balancing is balanced by definition: no voter backs a winner
// while another of its winners has less, beyond what a division leaves over.
func TestBalancingConverges(t *testing.T) {
	eachRandom(t, 150, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		if in.TotalStake().Hi > 0 || in.TotalStake().Lo > 1e9 {
			return
		}
		r, err := npos.SeqPhragmen(in, 1+rng.IntN(in.Candidates()), npos.Balancing{})
		if err != nil {
			t.Fatal(err)
		}
		if r, err = npos.Balance(in, r, npos.Balancing{Iterations: 2000}); err != nil {
			t.Fatal(err)
		}
		backing := map[uint32]npos.U128{}
		for _, w := range r.Winners {
			backing[w.Candidate] = w.Backing
		}
		// Each voter's division leaves up to a unit an edge over, which normalising
		// gives to its smallest weights, wherever those are.
		slack := uint64(in.Edges())
		for _, a := range r.Assignments {
			approvals := in.Approvals(int(a.Voter))
			for _, e := range a.Edges {
				if e.Weight.Less(npos.U64(uint64(len(approvals)))) {
					continue // such a left-over
				}
				for _, c := range approvals {
					if other, won := backing[c]; won && other.SaturatingAdd(npos.U64(slack)).Less(backing[e.Candidate]) {
						t.Errorf("voter %d backs %d (%v) rather than %d (%v)", a.Voter, e.Candidate, backing[e.Candidate], c, other)
					}
				}
			}
		}
	})
}

func TestPhragMMSProperties(t *testing.T) {
	eachRandom(t, 400, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		seats := 1 + rng.IntN(in.Candidates())
		r := npos.PhragMMS(in, seats, randomBalancing(rng))
		checkResult(t, in, r, seats)
		electable := 0
		for c := range in.Candidates() {
			if !in.ApprovalStake(c).IsZero() {
				electable++
			}
		}
		if len(r.Winners) != min(seats, electable) {
			t.Errorf("%d winners of %d seats, %d electable", len(r.Winners), seats, electable)
		}
	})
}

// Every subset of voters that agrees on r candidates and has r/seats of the stake
// must have r winners it approves of: PJR by its definition, over all subsets of
// candidates, beside the certificate.
func TestCertificateMeansPJR(t *testing.T) {
	certified, refused := 0, 0
	eachRandom(t, 300, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		if in.Candidates() > 10 || in.TotalStake().IsZero() {
			return
		}
		seats := 1 + rng.IntN(in.Candidates())
		r, err := npos.SeqPhragmen(in, seats, npos.Balancing{Iterations: 3})
		if err != nil {
			t.Fatal(err)
		}
		if rng.IntN(2) == 0 { // a poor committee: the last candidates, fed by hand
			r = lastCandidates(t, in, seats)
		}
		// The definition compares in real numbers; round its threshold up.
		threshold, _ := npos.StandardThreshold(in, seats).Add(npos.U64(1))
		cert := npos.CheckPJR(in, r, threshold)
		violated := violatesPJR(in, r, threshold)
		if cert.Holds && violated {
			t.Errorf("certified %+v, but a group is under-represented", cert)
		}
		if cert.Holds {
			certified++
		}
		if violated {
			refused++
		}
		if cert.CounterExample >= 0 {
			bad, err := npos.ChallengePJR(in, r, cert.CounterExample, threshold)
			if err != nil || bad == cert.Holds {
				t.Errorf("challenge says %v, %v of %+v", bad, err, cert)
			}
		}
		low := npos.LowestPJR(in, r)
		if !npos.CheckPJR(in, r, low).Holds {
			t.Errorf("does not hold at its lowest threshold %v", low)
		}
		if one := npos.U64(1); !low.IsZero() && npos.CheckPJR(in, r, low.SaturatingSub(one)).Holds {
			t.Errorf("holds below its lowest threshold %v", low)
		}
	})
	if certified == 0 || refused == 0 {
		t.Errorf("%d certified, %d violated: both should occur", certified, refused)
	}
}

// lastCandidates is a committee chosen without regard to the votes; each voter
// gives all to the first of its winners.
func lastCandidates(t *testing.T, in *npos.Instance, seats int) *npos.Result {
	t.Helper()
	var winners []uint32
	for c := in.Candidates() - seats; c < in.Candidates(); c++ {
		winners = append(winners, uint32(c))
	}
	var list []npos.Assignment
	for v := range in.Voters() {
		for _, c := range in.Approvals(v) {
			if int(c) >= in.Candidates()-seats && !in.Stake(v).IsZero() {
				list = append(list, npos.Assignment{Voter: uint32(v), Edges: []npos.Edge{{Candidate: c, Weight: in.Stake(v)}}})
				break
			}
		}
	}
	r, err := npos.NewResult(in, winners, list)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// violatesPJR tries every set of r candidates: the voters that approve of all of
// it, if they own r*t, must together approve of r winners.
func violatesPJR(in *npos.Instance, r *npos.Result, t npos.U128) bool {
	elected := uint32(0)
	for _, w := range r.Winners {
		elected |= 1 << w.Candidate
	}
	approvals := make([]uint32, in.Voters())
	for v := range approvals {
		for _, c := range in.Approvals(v) {
			approvals[v] |= 1 << c
		}
	}
	for set := uint32(1); set < 1<<in.Candidates(); set++ {
		var stake npos.U128
		union := uint32(0)
		for v, a := range approvals {
			if a&set == set {
				stake = stake.SaturatingAdd(in.Stake(v))
				union |= a
			}
		}
		size := bitCount(set)
		need, _ := npos.MulDiv(t, npos.U64(uint64(size)), npos.U64(1))
		if !stake.Less(need) && bitCount(union&elected) < size {
			return true
		}
	}
	return false
}

func bitCount(x uint32) (n int) {
	for ; x != 0; x &= x - 1 {
		n++
	}
	return n
}

func TestReduceKeepsSumsAndLeavesNoCycle(t *testing.T) {
	total := 0
	eachRandom(t, 600, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		r := npos.PhragMMS(in, 1+rng.IntN(in.Candidates()), npos.Balancing{Iterations: 2})
		var list []npos.Assignment
		before := 0
		for _, a := range r.Assignments {
			list = append(list, npos.Assignment{Voter: a.Voter, Edges: append([]npos.Edge(nil), a.Edges...)})
			before += len(a.Edges)
		}
		removed, err := npos.Reduce(list)
		if err != nil {
			t.Fatal(err)
		}
		total += removed
		after, roots, nodes := 0, unionFind{}, map[string]bool{}
		for _, a := range list {
			for _, e := range a.Edges {
				after++
				v, c := fmt.Sprint("v", a.Voter), fmt.Sprint("c", e.Candidate)
				nodes[v], nodes[c] = true, true
				if !roots.join(v, c) {
					t.Errorf("a cycle through voter %d and candidate %d is left", a.Voter, e.Candidate)
				}
			}
		}
		if after != before-removed {
			t.Errorf("%d edges, removed %d, left %d", before, removed, after)
		}
		var winners []uint32
		for _, w := range r.Winners {
			winners = append(winners, w.Candidate)
		}
		reduced, err := npos.NewResult(in, winners, list)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range reduced.Winners {
			if w.Backing != r.Winners[i].Backing {
				t.Errorf("candidate %d had %v, has %v", w.Candidate, r.Winners[i].Backing, w.Backing)
			}
		}
		checkResult(t, in, &npos.Result{Winners: r.Winners, Assignments: list}, len(winners))
	})
	if total == 0 {
		t.Error("nothing was ever removed")
	}
}

type unionFind map[string]string

func (u unionFind) root(x string) string {
	for u[x] != "" {
		x = u[x]
	}
	return x
}

func (u unionFind) join(a, b string) bool {
	a, b = u.root(a), u.root(b)
	if a == b {
		return false
	}
	u[a] = b
	return true
}
