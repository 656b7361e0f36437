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
		for ; !e.Step(1 + rng.IntN(30)); steps++ {
			if r, err := e.Result(); r != nil || err != nil {
				t.Fatalf("a result before the end: %v, %v", r, err)
			}
		}
		got, err := e.Result()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("in %d steps %+v, %v; want %+v", steps, got, err, want)
		}
		if !e.Step(1) {
			t.Fatal("an election that was done goes on")
		}
		e = npos.NewElection(in, seats, b)
		for steps = 1; !e.Step(1); steps++ {
		}
		if least := min(seats, in.Candidates()); steps < least+in.Voters() {
			t.Fatalf("%d steps of a unit for %d seats and %d voters", steps, least, in.Voters())
		}
	})
}
