package era_test

import (
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

func ExampleCurve_Issue() {
	token := func(n uint64) npos.U128 { v, _ := npos.MulDiv(npos.U64(n), npos.U64(1e12), npos.U64(1)); return v }
	curve := era.Polkadot()
	rate, _ := curve.StakingRate(token(500), token(1000))
	stakers, treasury, _ := curve.Issue(token(500), token(1000), era.Year)
	fmt.Println("half staked pays", rate, "of", uint64(era.One), "a year")
	fmt.Println(stakers, treasury)
	// Output:
	// half staked pays 75000000000000000 of 1000000000000000000 a year
	// 75000000000000 25000000000000
}

// realRate is the curve in 300-bit floating point, which rounds away far below
// what a rate shows.
func realRate(c era.Curve, staked, issuance uint64) *big.Float {
	f := func(v uint64) *big.Float { return new(big.Float).SetPrec(300).SetUint64(v) }
	quo := func(a, b *big.Float) *big.Float { return new(big.Float).Quo(a, b) }
	x := quo(f(staked), f(issuance))
	ideal := quo(f(uint64(c.Ideal)), f(uint64(era.One)))
	share := quo(x, ideal)
	if x.Cmp(ideal) >= 0 {
		e := new(big.Float).Sub(x, ideal)
		e.Quo(e, quo(f(uint64(c.Falloff)), f(uint64(era.One))))
		// 2^-e by its binary digits: 2^-1, 2^-1/2, 2^-1/4, …
		whole, _ := e.Int64()
		share = f(1)
		share.SetMantExp(share, -int(whole))
		e.Sub(e, f(uint64(whole)))
		root := quo(f(1), f(2))
		for range 200 {
			root = new(big.Float).Sqrt(root)
			e.Add(e, e)
			if e.Cmp(f(1)) >= 0 {
				share.Mul(share, root)
				e.Sub(e, f(1))
			}
		}
	}
	share.Mul(share, f(uint64(c.Max-c.Min)))
	return share.Add(share, f(uint64(c.Min)))
}

func TestStakingRate(t *testing.T) {
	const seed = 8
	rng := rand.New(rand.NewPCG(seed, 0))
	check := func(c era.Curve, staked, issuance uint64) {
		t.Helper()
		got, err := c.StakingRate(npos.U64(staked), npos.U64(issuance))
		if err != nil {
			t.Fatal(err)
		}
		// The staked share is rounded to 10^-18 first; where the curve is steep
		// that shows as up to Max/Ideal or Max/Falloff units.
		want := realRate(c, staked, issuance)
		off := new(big.Float).Sub(want, new(big.Float).SetUint64(uint64(got)))
		if d, _ := off.Float64(); d < -100 || d > 100 {
			t.Errorf("seed %d: %d of %d staked pays %d, exactly %v (off by %v)", seed, staked, issuance, got, want, d)
		}
		if got < c.Min || got > c.Max {
			t.Errorf("%d of %d staked pays %d", staked, issuance, got)
		}
	}
	for staked := uint64(0); staked <= 1000; staked++ {
		check(era.Polkadot(), staked, 1000)
	}
	for range 3000 {
		c := era.Curve{Min: era.Rate(rng.Uint64N(uint64(era.Percent(10)))), Ideal: 1 + era.Rate(rng.Uint64N(uint64(era.One))), Falloff: era.Percent(1 + rng.Uint64N(100))}
		c.Max = c.Min + era.Rate(rng.Uint64N(uint64(era.Percent(20))))
		if c.Ideal < era.Percent(1) {
			continue
		}
		issuance := 1 + rng.Uint64()>>rng.IntN(40)
		check(c, rng.Uint64N(issuance), issuance)
	}
}

// Points that anyone can check by hand.
func TestStakingRateLandmarks(t *testing.T) {
	of := func(staked, issuance uint64) era.Rate {
		r, err := era.Polkadot().StakingRate(npos.U64(staked), npos.U64(issuance))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct {
		name             string
		staked, issuance uint64
		want             era.Rate
	}{
		{"nothing staked: the minimum", 0, 100, 25_000_000_000_000_000},
		{"at the ideal: the maximum", 75, 100, 100_000_000_000_000_000},
		{"one falloff above: half way", 80, 100, 62_500_000_000_000_000},
		{"two falloffs above: a quarter", 85, 100, 43_750_000_000_000_000},
		{"all staked: five falloffs", 100, 100, 27_343_750_000_000_000},
		{"more than all", 101, 100, 27_343_750_000_000_000},
		{"nothing issued", 0, 0, 25_000_000_000_000_000},
		{"something of nothing", 1, 0, 25_000_000_000_000_000},
	} {
		if got := of(c.staked, c.issuance); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	for x := uint64(1); x <= 1000; x++ { // up to the ideal it rises, then falls
		if a, b := of(x-1, 1000), of(x, 1000); x <= 750 && b <= a || x > 750 && b >= a {
			t.Errorf("from %d to %d thousandths: %d to %d", x-1, x, a, b)
		}
	}
}

func TestIssueAddsUp(t *testing.T) {
	c := era.Polkadot()
	issuance, _ := npos.MulDiv(npos.U64(1e18), npos.U64(1e9), npos.U64(1))
	staked, _ := npos.MulDiv(issuance, npos.U64(3), npos.U64(7))
	var stakers, all npos.U128
	const day = Day
	for range 365 {
		s, r, err := c.Issue(staked, issuance, day)
		if err != nil {
			t.Fatal(err)
		}
		stakers, all = stakers.SaturatingAdd(s), all.SaturatingAdd(s).SaturatingAdd(r)
	}
	s, r, err := c.Issue(staked, issuance, 365*day)
	if err != nil {
		t.Fatal(err)
	}
	if whole := s.SaturatingAdd(r); whole.Less(all) || npos.U64(365).Less(whole.SaturatingSub(all)) || s.Less(stakers) || npos.U64(365).Less(s.SaturatingSub(stakers)) {
		t.Errorf("a year issues %v, %v; its days %v, all %v", s, r, stakers, all)
	}
	s, r, err = c.Issue(staked, issuance, era.Year)
	if tenth := issuance.Div(npos.U64(10)); err != nil || s.SaturatingAdd(r) != tenth {
		t.Errorf("%v and %v are not %v, %v", s, r, tenth, err)
	}
	if s, r, err := c.Issue(staked, issuance, 0); err != nil || !s.IsZero() || !r.IsZero() {
		t.Errorf("no time issues %v, %v, %v", s, r, err)
	}
	if _, _, err := c.Issue(npos.MaxU128, npos.MaxU128, era.Year); err != nil {
		t.Errorf("the largest issuance: %v", err)
	}
}

// Day is 24 hours in milliseconds.
const Day = 24 * 3600 * 1000

func TestRefusals(t *testing.T) {
	good := era.Polkadot()
	vary := func(f func(*era.Curve)) error {
		c := good
		f(&c)
		_, _, err := c.Issue(npos.U64(1), npos.U64(2), Day)
		return err
	}
	_, _, long := good.Issue(npos.U64(1), npos.U64(2), era.Year+1)
	_, part := era.Part(npos.U64(9), npos.U64(3), npos.U64(2))
	_, commission := era.Exposure{Own: npos.U64(1)}.Split(npos.U64(9), npos.Billion+1)
	_, overflow := era.Exposure{Own: npos.MaxU128, Others: []npos.U128{npos.U64(1)}}.Split(npos.U64(9), 0)
	_, slash := era.Exposure{}.Slash(npos.Billion + 1)
	var future, old era.Spans
	_, early := future.Slash(4, 3, npos.U64(1))
	if _, err := old.Slash(5, 5, npos.U64(1)); err != nil {
		t.Fatal(err)
	}
	old.Prune(6)
	_, pruned := old.Slash(5, 7, npos.U64(1))
	for _, c := range []struct {
		name string
		err  error
		want era.Code
	}{
		{"min above max", vary(func(c *era.Curve) { c.Min = c.Max + 1 }), era.CodeCurve},
		{"max above one", vary(func(c *era.Curve) { c.Max = era.One + 1 }), era.CodeCurve},
		{"no ideal", vary(func(c *era.Curve) { c.Ideal = 0 }), era.CodeCurve},
		{"ideal above one", vary(func(c *era.Curve) { c.Ideal = era.One + 1 }), era.CodeCurve},
		{"steep falloff", vary(func(c *era.Curve) { c.Falloff = era.Percent(1) - 1 }), era.CodeCurve},
		{"flat falloff", vary(func(c *era.Curve) { c.Falloff = era.One + 1 }), era.CodeCurve},
		{"long era", long, era.CodeTime},
		{"part above whole", part, era.CodeFraction},
		{"commission above one", commission, era.CodeFraction},
		{"exposure overflows", overflow, era.CodeOverflow},
		{"slash above one", slash, era.CodeFraction},
		{"slash of the future", early, era.CodeSpan},
		{"slash before the spans kept", pruned, era.CodeSpan},
	} {
		var typed *era.Error
		if !errors.Is(c.err, c.want) || !errors.As(c.err, &typed) || typed.Error() == "" {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}

func TestSplitNeverExceeds(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		amount := npos.U64(rng.Uint64() >> rng.IntN(64))
		var points []uint64
		for range rng.IntN(9) {
			points = append(points, rng.Uint64()>>rng.IntN(64))
		}
		var paid npos.U128
		for _, part := range era.Divide(amount, points) {
			paid = paid.SaturatingAdd(part)
		}
		if amount.Less(paid) || npos.U64(uint64(len(points))).Less(amount.SaturatingSub(paid)) && hasPoints(points) {
			t.Fatalf("seed %d: %v by %v pays %v", seed, amount, points, paid)
		}
		e := era.Exposure{Own: npos.U64(rng.Uint64() >> rng.IntN(64))}
		for range rng.IntN(9) {
			e.Others = append(e.Others, npos.U64(rng.Uint64()>>rng.IntN(64)))
		}
		commission := rng.Uint32N(npos.Billion + 1)
		p, err := e.Split(amount, commission)
		if err != nil {
			t.Fatal(err)
		}
		sum := p.Commission.SaturatingAdd(p.Own).SaturatingAdd(p.Left)
		for i, o := range p.Others {
			sum = sum.SaturatingAdd(o)
			total, err := e.Total()
			if err != nil {
				t.Fatal(err)
			}
			want := new(big.Int)
			if !total.IsZero() {
				want.Sub(amount.Big(), p.Commission.Big())
				want.Mul(want, e.Others[i].Big()).Quo(want, total.Big())
			}
			if want.Cmp(o.Big()) != 0 {
				t.Fatalf("seed %d: backer %d gets %v, want %v", seed, i, o, want)
			}
		}
		if sum != amount {
			t.Fatalf("seed %d: %+v of %v", seed, p, amount)
		}
		fraction := rng.Uint32N(npos.Billion + 1)
		slashed, err := e.Slash(fraction)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range slashed.Others {
			want := e.Others[i].Big()
			if want.Mul(want, big.NewInt(int64(fraction))); want.Quo(want, big.NewInt(npos.Billion)).Cmp(o.Big()) != 0 {
				t.Fatalf("seed %d: %d of %v slashes %v", seed, fraction, e.Others[i], o)
			}
		}
	}
	p, err := era.Exposure{Own: npos.U64(600), Others: []npos.U128{npos.U64(300), npos.U64(100)}}.Split(npos.U64(1001), npos.Billion/10)
	want := era.Payout{Commission: npos.U64(100), Own: npos.U64(540), Others: []npos.U128{npos.U64(270), npos.U64(90)}, Left: npos.U64(1)}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("%+v, %v; want %+v", p, err, want)
	}
}

func hasPoints(points []uint64) bool {
	for _, p := range points {
		if p > 0 {
			return true
		}
	}
	return false
}

func TestOffenceFractions(t *testing.T) {
	for _, c := range []struct{ k, n, equivocation, silence, limit uint32 }{
		{1, 100, 900_000, 0, 33}, {1, 1000, 9_000, 0, 333}, {10, 100, 90_000_000, 0, 33},
		{33, 100, 980_100_000, 46_200_000, 33}, {34, 100, npos.Billion, 48_300_000, 33},
		{1, 3, npos.Billion, 0, 0}, {1, 4, 562_500_000, 0, 1}, {0, 7, 0, 0, 2}, {12, 100, 129_600_000, 2_100_000, 33},
		{100, 100, npos.Billion, 70_000_000, 33}, {5, 0, npos.Billion, 0, 0}, {1, 1, npos.Billion, 0, 0},
		{1 << 30, 1<<32 - 1, 562_500_000, 31_499_999, 1431655764},
	} {
		if got := era.EquivocationFraction(c.k, c.n); got != c.equivocation {
			t.Errorf("%d of %d equivocating lose %d, want %d", c.k, c.n, got, c.equivocation)
		}
		if got := era.DisablingLimit(c.n); got != c.limit || c.n > 0 && 3*uint64(got) >= uint64(c.n) {
			t.Errorf("%d of %d may be disabled, want %d", got, c.n, c.limit)
		}
		if c.n == 0 {
			continue
		}
		if got := era.UnresponsivenessFraction(c.k, c.n); got != c.silence {
			t.Errorf("%d of %d silent lose %d, want %d", c.k, c.n, got, c.silence)
		}
	}
}

// In any sequence of reports the staker loses, per span, the largest slash of one
// era; the spans are cut as the reports come in.
func TestSpansAgainstDefinition(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 6))
		var s era.Spans
		var taken uint64
		byEra := map[uint64]uint64{} // the reported total of each era
		cuts := []uint64{0}          // first eras of the spans
		now := uint64(0)
		for range 30 {
			now += rng.Uint64N(3)
			at := now - min(now, rng.Uint64N(6))
			byEra[at] += rng.Uint64N(100)
			extra, err := s.Slash(at, now, npos.U64(byEra[at]))
			if err != nil {
				t.Fatal(err)
			}
			taken += extra.Lo
			if at >= cuts[len(cuts)-1] && byEra[at] > 0 {
				cuts = append(cuts, now+1)
			}
			var want uint64
			for i, from := range cuts {
				var most uint64
				for e, total := range byEra {
					if e >= from && (i+1 == len(cuts) || e < cuts[i+1]) {
						most = max(most, total)
					}
				}
				want += most
			}
			if taken != want {
				t.Fatalf("seed %d: took %d, want %d; %+v", seed, taken, want, s)
			}
		}
	}
	var s era.Spans
	if extra, err := s.Slash(3, 4, npos.U128{}); err != nil || !extra.IsZero() || len(s.List) != 0 {
		t.Errorf("a slash of nothing leaves %+v, %v, %v", s, extra, err)
	}
	for _, e := range []uint64{2, 9, 20} {
		if _, err := s.Slash(e, e, npos.U64(5)); err != nil {
			t.Fatal(err)
		}
	}
	s.Prune(15)
	want := []era.Span{{Start: 10, Slashed: npos.U64(5)}, {Start: 21}}
	if !reflect.DeepEqual(s.List, want) {
		t.Errorf("pruned to %+v, want %+v", s.List, want)
	}
}

// TestUndo: a slash that is taken back leaves what other slashes of its span cost, and
// other spans, as they were.
func TestUndo(t *testing.T) {
	var s era.Spans
	for _, c := range []struct{ era, now, total, extra uint64 }{{2, 5, 100, 100}, {3, 5, 150, 50}, {7, 8, 30, 30}} {
		if got, err := s.Slash(c.era, c.now, npos.U64(c.total)); err != nil || got != npos.U64(c.extra) {
			t.Fatal(got, err)
		}
	}
	s.Undo(3, npos.U64(50))
	s.Undo(2, npos.U64(100))
	if got, err := s.Slash(4, 9, npos.U64(40)); err != nil || got != npos.U64(40) {
		t.Errorf("another fault of the span costs %v, %v", got, err)
	}
	if got, err := s.Slash(6, 9, npos.U64(35)); err != nil || got != npos.U64(5) {
		t.Errorf("the span after it has %v more, %v", got, err)
	}
	var none era.Spans
	none.Undo(3, npos.U64(1))
}
