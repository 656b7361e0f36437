package bags_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/bags"
)

func pha(n uint64) npos.U128 {
	v, _ := npos.MulDiv(npos.U64(n), npos.U64(1e12), npos.U64(1))
	return v
}

func ExampleNew() {
	t, err := bags.New(pha(1), pha(1_000_000), 7)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, bound := range t[:7] {
		fmt.Println(bound)
	}
	fmt.Println("5 PHA are in bag", t.Bag(pha(5)))
	// Output:
	// 1000000000000
	// 10000000000000
	// 100000000000000
	// 1000000000000000
	// 10000000000000000
	// 100000000000000000
	// 1000000000000000000
	// 5 PHA are in bag 1
}

func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		lowest, highest npos.U128
		n               int
	}{
		{pha(1), pha(1_000_000_000), 200}, {npos.U64(1), npos.MaxU128, bags.Most}, {npos.U64(1), npos.U64(2), 2},
		{npos.U64(5), npos.U64(14), 10}, {npos.U64(1), npos.U64(1000), 100}, {pha(1), npos.MaxU128, 7},
	} {
		bounds, err := bags.New(c.lowest, c.highest, c.n)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if err := bounds.Validate(); err != nil || bounds[0] != c.lowest || bounds[c.n-1] != c.highest {
			t.Errorf("%+v: %v, from %v to %v", c, err, bounds[0], bounds[c.n-1])
		}
		// The ratio is constant up to the rounding of steps: no bag is wider than the
		// one above it by more than that.
		for i := 2; i < c.n-1; i++ {
			below, width := bounds[i-1].SaturatingSub(bounds[i-2]), bounds[i].SaturatingSub(bounds[i-1])
			if width.Less(below) {
				t.Errorf("%+v: bag %d is %v wide, the one below %v", c, i, width, below)
			}
		}
	}
}

// Bag agrees with looking through the bounds one by one, at and around each of them.
func TestBagOfStake(t *testing.T) {
	bounds, err := bags.New(pha(1), pha(1_000_000_000), 200)
	if err != nil {
		t.Fatal(err)
	}
	naive := func(s npos.U128) int {
		for i, b := range bounds {
			if !b.Less(s) {
				return i
			}
		}
		return -1
	}
	one := npos.U64(1)
	stakes := []npos.U128{{}, one, npos.MaxU128}
	for _, b := range bounds {
		stakes = append(stakes, b.SaturatingSub(one), b, b.SaturatingAdd(one))
	}
	rng := rand.New(rand.NewPCG(4, 0))
	for range 2000 {
		stakes = append(stakes, npos.U128{Hi: rng.Uint64() >> rng.IntN(64), Lo: rng.Uint64()})
	}
	for i, s := range stakes {
		if got := bounds.Bag(s); got != naive(s) {
			t.Errorf("%v is in bag %d, want %d", s, got, naive(s))
		}
		before := stakes[(i*7)%len(stakes)]
		from, to, moves := bounds.Moves(before, s)
		if from != naive(before) || to != naive(s) || moves != (from != to) {
			t.Errorf("from %v to %v: %d, %d, %v", before, s, from, to, moves)
		}
	}
}

func TestRefusals(t *testing.T) {
	got := func(lowest, highest npos.U128, n int) error {
		_, err := bags.New(lowest, highest, n)
		return err
	}
	most := npos.MaxU128
	for _, c := range []struct {
		name string
		err  error
		want bags.Code
	}{
		{"one bag", got(pha(1), pha(2), 1), bags.CodeRange},
		{"too many bags", got(pha(1), pha(2), bags.Most+1), bags.CodeRange},
		{"from zero", got(npos.U128{}, pha(2), 5), bags.CodeRange},
		{"backwards", got(pha(2), pha(1), 5), bags.CodeRange},
		{"no range", got(pha(1), pha(1), 5), bags.CodeRange},
		{"no room", got(npos.U64(1), npos.U64(4), 5), bags.CodeRange},
		{"narrower than a ratio tells apart", got(npos.U128{Hi: 1 << 36}, npos.U128{Hi: 1<<36 + 1<<5}, 1000), bags.CodeRange},
		{"steps too large", got(npos.U64(1), most, 2), bags.CodeRange},
		{"no thresholds", bags.Thresholds{}.Validate(), bags.CodeOrder},
		{"with a limit", bags.Thresholds{pha(1), pha(2)}.Validate(), bags.CodeOrder},
		{"equal", bags.Thresholds{pha(1), pha(1), most}.Validate(), bags.CodeOrder},
		{"descending", bags.Thresholds{pha(2), pha(1), most}.Validate(), bags.CodeOrder},
	} {
		if !errors.Is(c.err, c.want) || !strings.Contains(c.err.Error(), "bag") {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
}
