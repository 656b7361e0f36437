package npos_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/phala-go/phala/npos"
)

// The benchmarks report the project's speed figures under their lasting names:
// phragmen_297_ms, phragmen_600_ms, phragmen_peak_mb, phragmen_100k_nominators_s.

// polkadotScale is a synthetic instance of the size that Polkadot runs: nominators
// of 16 targets each with stakes spread over four decades in units of 10^-12,
// favouring some candidates, with a self-stake per candidate.
func polkadotScale(tb testing.TB, candidates, nominators, targets int) *npos.Instance {
	tb.Helper()
	ids, ballots := polkadotBallots(candidates, nominators, targets)
	in, err := npos.Setup(ids, ballots)
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

func polkadotBallots(candidates, nominators, targets int) ([]string, []npos.Ballot[string]) {
	rng := rand.New(rand.NewPCG(2026, 11))
	ids := make([]string, candidates)
	ballots := make([]npos.Ballot[string], 0, candidates+nominators)
	for i := range ids {
		ids[i] = fmt.Sprintf("phala1validator%026d", i)
		ballots = append(ballots, npos.Ballot[string]{Voter: ids[i], Stake: npos.U64(1e16 + rng.Uint64N(1e15)), Approvals: ids[i : i+1]})
	}
	for n := range nominators {
		stake := npos.U64((100 + rng.Uint64N(900)) * 1e12)
		for range rng.IntN(4) {
			stake, _ = npos.MulDiv(stake, npos.U64(10), npos.U64(1))
		}
		picks := map[int]bool{}
		b := npos.Ballot[string]{Voter: fmt.Sprintf("phala1nominator%026d", n), Stake: stake}
		for len(b.Approvals) < targets {
			c := min(rng.IntN(candidates), rng.IntN(candidates))
			if !picks[c] {
				picks[c] = true
				b.Approvals = append(b.Approvals, ids[c])
			}
		}
		ballots = append(ballots, b)
	}
	return ids, ballots
}

// benchElect reports the time of one election under a name.
func benchElect(b *testing.B, in *npos.Instance, seats int, balancing npos.Balancing, unit string, per time.Duration) {
	b.ReportAllocs()
	for b.Loop() {
		r, err := npos.SeqPhragmen(in, seats, balancing)
		if err != nil || len(r.Winners) != seats {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(per), unit)
}

func BenchmarkPhragmen297(b *testing.B) {
	benchElect(b, polkadotScale(b, 1000, 22500, 16), 297, npos.Balancing{}, "phragmen_297_ms", time.Millisecond)
}

func BenchmarkPhragmen600(b *testing.B) {
	benchElect(b, polkadotScale(b, 1000, 22500, 16), 600, npos.Balancing{}, "phragmen_600_ms", time.Millisecond)
}

func BenchmarkPhragmen297Balanced(b *testing.B) {
	benchElect(b, polkadotScale(b, 1000, 22500, 16), 297, npos.Balancing{Iterations: 10}, "phragmen_297_balanced_ms", time.Millisecond)
}

func BenchmarkPhragmen600Balanced(b *testing.B) {
	benchElect(b, polkadotScale(b, 1000, 22500, 16), 600, npos.Balancing{Iterations: 10}, "phragmen_600_balanced_ms", time.Millisecond)
}

// BenchmarkPhragmenSetup is what naming by identity costs before an election.
func BenchmarkPhragmenSetup(b *testing.B) {
	ids, ballots := polkadotBallots(1000, 22500, 16)
	for b.Loop() {
		if _, err := npos.Setup(ids, ballots); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "phragmen_setup_ms")
}

// BenchmarkPhragmenPeak reports all memory that setting up and running the
// election with balancing allocates, released or not: no less than the peak.
func BenchmarkPhragmenPeak(b *testing.B) {
	ids, ballots := polkadotBallots(1000, 22500, 16)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for b.Loop() {
		in, err := npos.Setup(ids, ballots)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := npos.SeqPhragmen(in, 600, npos.Balancing{Iterations: 10}); err != nil {
			b.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/1e6, "phragmen_peak_mb")
}

// BenchmarkPhragmenGrowth shows the time by the number of nominators, up to where
// BenchmarkPhragmen100k ends.
func BenchmarkPhragmenGrowth(b *testing.B) {
	for _, nominators := range []int{1000, 3000, 10_000, 30_000} {
		b.Run(fmt.Sprint(nominators), func(b *testing.B) {
			benchElect(b, polkadotScale(b, 1000, nominators, 16), 297, npos.Balancing{}, fmt.Sprintf("phragmen_%d_nominators_s", nominators), time.Second)
		})
	}
}

// BenchmarkPhragmen100k is the upper end of the growth.
func BenchmarkPhragmen100k(b *testing.B) {
	benchElect(b, polkadotScale(b, 1000, 100_000, 16), 297, npos.Balancing{}, "phragmen_100k_nominators_s", time.Second)
}

// BenchmarkPhragmenPlain is the textbook evaluation, for comparison.
func BenchmarkPhragmenPlain(b *testing.B) {
	in := polkadotScale(b, 1000, 22500, 16)
	for b.Loop() {
		if _, err := npos.SeqPhragmenPlain(in, 297, npos.Balancing{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "phragmen_plain_297_ms")
}

func BenchmarkPJR(b *testing.B) {
	in := polkadotScale(b, 1000, 22500, 16)
	r, err := npos.SeqPhragmen(in, 297, npos.Balancing{})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			npos.CheckStandardPJR(in, r)
		}
	})
	b.Run("lowest", func(b *testing.B) {
		for b.Loop() {
			npos.LowestPJR(in, r)
		}
	})
}

// TestFullScale cross-checks both evaluations at full scale; it takes long, so only
// with PHALA_LONG=1.
func TestFullScale(t *testing.T) {
	if os.Getenv("PHALA_LONG") == "" {
		t.Skip("set PHALA_LONG=1 to elect 297 of 1,000 by 22,500 nominators both ways")
	}
	in := polkadotScale(t, 1000, 22500, 16)
	compareEvaluations(t, in, 297, npos.Balancing{Iterations: 10})
}

// BenchmarkReduce is the reduction of an election's result, and what it leaves.
func BenchmarkReduce(b *testing.B) {
	in := polkadotScale(b, 1000, 22500, 16)
	edges, removed := 0, 0
	for b.Loop() {
		b.StopTimer()
		r, err := npos.SeqPhragmen(in, 297, npos.Balancing{Iterations: 10})
		if err != nil {
			b.Fatal(err)
		}
		edges = 0
		for _, a := range r.Assignments {
			edges += len(a.Edges)
		}
		b.StartTimer()
		if removed, err = npos.Reduce(r.Assignments); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(edges), "edges_before")
	b.ReportMetric(float64(edges-removed), "edges_after")
}
