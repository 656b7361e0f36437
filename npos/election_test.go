package npos_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/phala-go/phala/npos"
)

// TestElectionInSteps: however an election is cut into steps, its result is that of
// SeqPhragmen, and the work is bounded by what is promised for a step.
func TestElectionInSteps(t *testing.T) {
	eachRandom(t, 2000, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		seats, b := rng.IntN(25), randomBalancing(rng)
		want, err := npos.SeqPhragmen(in, seats, b)
		if err != nil {
			t.Fatal(err)
		}
		e := npos.NewElection(in, seats, b)
		steps := 0
		for ; !stepped(e.Step(1 + rng.IntN(30))); steps++ {
			if r, err := e.Result(); r != nil || err != nil {
				t.Fatalf("a result before the end: %v, %v", r, err)
			}
		}
		got, err := e.Result()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("in %d steps %+v, %v; want %+v", steps, got, err, want)
		}
		if !stepped(e.Step(1)) {
			t.Fatal("an election that was done goes on")
		}
		e = npos.NewElection(in, seats, b)
		for steps = 1; !stepped(e.Step(1)); steps++ {
		}
		if least := min(seats, in.Candidates()); steps < least+in.Voters() {
			t.Fatalf("%d steps of a unit for %d seats and %d voters", steps, least, in.Voters())
		}
	})
}

func stepped(_ int, done bool) bool { return done }

// TestReductionInSteps: however a reduction is cut into steps, it leaves what Reduce
// leaves.
func TestReductionInSteps(t *testing.T) {
	eachRandom(t, 1000, func(t *testing.T, rng *rand.Rand, in *npos.Instance) {
		elect := func() []npos.Assignment {
			r, err := npos.SeqPhragmen(in, 6, npos.Balancing{Iterations: 3})
			if err != nil {
				t.Fatal(err)
			}
			return r.Assignments
		}
		want, got := elect(), elect()
		removed, err := npos.Reduce(want)
		if err != nil {
			t.Fatal(err)
		}
		r, err := npos.NewReduction(got)
		if err != nil {
			t.Fatal(err)
		}
		for !stepped(r.Step(1 + rng.IntN(20))) {
		}
		if !reflect.DeepEqual(got, want) || r.Removed() != removed || !stepped(r.Step(1)) {
			t.Fatalf("%d removed, %+v; want %d, %+v", r.Removed(), got, removed, want)
		}
	})
}
