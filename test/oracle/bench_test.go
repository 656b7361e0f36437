package oracle

import (
	"fmt"
	"testing"
	"time"

	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/types"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

// step is one header to verify, in both forms, all conversions done.
type step struct {
	q            *question
	trusted, new *types.SignedHeader
	set, next    *types.ValidatorSet
}

func newStep(b *testing.B, c *comettest.Chain, from, to int64) *step {
	s := &step{q: &question{comet.Params{ChainID: c.ChainID(), TrustingPeriod: 1000 * time.Hour, MaxClockDrift: time.Second},
		c.Header(from), c.Block(from + 1).Set.Validators(), c.Light(to), c.Time()}}
	s.trusted, s.new = toSigned(c.Light(from)), toSigned(s.q.block)
	var err error
	if s.set, err = toSet(s.q.block.Validators); err != nil {
		b.Fatal(err)
	}
	if s.next, err = toSet(s.q.next); err != nil {
		b.Fatal(err)
	}
	return s
}

func (s *step) ours(b *testing.B, blind *zeros) time.Duration {
	start := time.Now()
	err := comet.Verify(&s.q.params, &s.q.trusted, s.q.next, s.q.block, s.q.now, blind)
	d := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func (s *step) theirs(b *testing.B) time.Duration {
	start := time.Now()
	err := light.Verify(s.trusted, s.next, s.new, s.set, s.q.params.TrustingPeriod, s.q.now, s.q.params.MaxClockDrift, light.DefaultTrustLevel)
	d := time.Since(start)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// zeros is a cheap source for blinding: both sides spend next to nothing on theirs.
type zeros struct{ n byte }

func (z *zeros) Read(p []byte) (int, error) {
	for i := range p {
		z.n++
		p[i] = z.n
	}
	return len(p), nil
}

func report(b *testing.B, n int, kind string, ours, theirs time.Duration) {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(b.N) }
	b.ReportMetric(us(ours), fmt.Sprintf("%sheader_verify_us_%d", kind, n))
	b.ReportMetric(us(theirs), fmt.Sprintf("cometbft_%sheader_verify_us_%d", kind, n))
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHeaderVerify verifies headers one by one, ours and CometBFT's in turn in
// the same run, with sets that both have seen before. A ratio below 1 means that
// ours is faster.
func BenchmarkHeaderVerify(b *testing.B) {
	for _, n := range []int{4, 21, 100, 175} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := comettest.New(comettest.Config{Validators: comettest.NewSet("bench", n)})
			c.Run(12)
			var steps []*step
			for h := int64(1); h < 12; h++ {
				s := newStep(b, c, h, h+1)
				if h > 1 { // one prepared set, as a client keeps it
					s.q.block.Validators, s.q.next, s.set, s.next = steps[0].q.block.Validators, steps[0].q.next, steps[0].set, steps[0].next
				}
				steps = append(steps, s)
			}
			blind := new(zeros)
			for _, s := range steps {
				s.ours(b, blind)
				s.theirs(b)
			}
			var ours, theirs time.Duration
			for i := 0; b.Loop(); i++ {
				s := steps[i%len(steps)]
				ours += s.ours(b, blind)
				theirs += s.theirs(b)
			}
			report(b, n, "", ours, theirs)
		})
	}
}

// BenchmarkSkipVerify skips into a set of which half is new.
func BenchmarkSkipVerify(b *testing.B) {
	for _, n := range []int{4, 21, 100, 175} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			old := comettest.NewSet("bench", n)
			half := comettest.SetOf(append(old.Signers()[:(n+1)/2:(n+1)/2], comettest.NewSet("new", n/2).Signers()...))
			c := comettest.New(comettest.Config{Validators: old})
			c.Run(2)
			c.Announce(half)
			c.Run(10)
			s := newStep(b, c, 1, 10)
			blind := new(zeros)
			s.ours(b, blind)
			s.theirs(b)
			var ours, theirs time.Duration
			for b.Loop() {
				ours += s.ours(b, blind)
				theirs += s.theirs(b)
			}
			report(b, n, "skip_", ours, theirs)
		})
	}
}

// BenchmarkFirstHeader verifies the first header of a set that neither has seen, as
// happens after each change of the set.
func BenchmarkFirstHeader(b *testing.B) {
	labels := 0
	for _, n := range []int{4, 21, 100, 175} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			blind := new(zeros)
			var ours, theirs time.Duration
			for b.Loop() {
				labels++
				c := comettest.New(comettest.Config{Validators: comettest.NewSet(fmt.Sprint("first", labels), n)})
				c.Run(2)
				s := newStep(b, c, 1, 2)
				ours += s.ours(b, blind)
				theirs += s.theirs(b)
			}
			report(b, n, "first_", ours, theirs)
		})
	}
}
