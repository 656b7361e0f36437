package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/internal/shared"
	"github.com/phala-go/phala/npos/report"
)

func instance(t testing.TB, seed uint64, candidates, voters int) (*npos.Instance, []npos.U128, [][]uint32) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	stakes, rows := make([]npos.U128, voters), make([][]uint32, voters)
	for v := range stakes {
		stakes[v] = npos.U64(1e12 + rng.Uint64N(1e15))
		for c := range uint32(candidates) {
			if rng.IntN(candidates) < 4 {
				rows[v] = append(rows[v], c)
			}
		}
	}
	in, err := npos.NewInstance(candidates, stakes, rows)
	if err != nil {
		t.Fatal(err)
	}
	return in, stakes, rows
}

func elect(t testing.TB, in *npos.Instance, seats int) *npos.Result {
	t.Helper()
	r, err := npos.SeqPhragmen(in, seats, npos.Balancing{Iterations: 5})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var pha = report.Unit{Symbol: "PHA", Decimals: 12}

func names() report.Names {
	return report.Names{
		Candidate: func(c uint32) string { return fmt.Sprintf("validator <%d>", c) },
		Voter:     func(v uint32) string { return fmt.Sprintf("nominator %d", v) },
	}
}

func TestGoldenReport(t *testing.T) {
	in, _, _ := instance(t, 1, 12, 60)
	r, err := report.New(in, elect(t, in, 7))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := r.WriteText(&text, pha, names()); err != nil {
		t.Fatal(err)
	}
	shared.Golden(t, "report.txt", text.Bytes())
	object, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	shared.Golden(t, "report.json", append(object, '\n'))
	shared.Golden(t, "report.svg", r.SVG(pha, names()))
}

// attacked is the number of the attacker's candidates that win when it puts stake
// each behind wanted candidates of its own, last in the list.
func attacked(t *testing.T, stakes []npos.U128, rows [][]uint32, candidates, seats, wanted int, each npos.U128) int {
	t.Helper()
	stakes, rows = append([]npos.U128{}, stakes...), append([][]uint32{}, rows...)
	for i := range wanted {
		stakes, rows = append(stakes, each), append(rows, []uint32{uint32(candidates + i)})
	}
	in, err := npos.NewInstance(candidates+wanted, stakes, rows)
	if err != nil {
		t.Fatal(err)
	}
	r, err := npos.SeqPhragmen(in, seats, npos.Balancing{})
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for _, w := range r.Winners {
		if int(w.Candidate) >= candidates {
			won++
		}
	}
	return won
}

// The attack cost is exact: carried out in a real election it wins the seats, with
// one unit less a candidate it does not.
func TestAttackCostByAttacking(t *testing.T) {
	for seed := range uint64(60) {
		candidates := 5 + int(seed%15)
		in, stakes, rows := instance(t, seed, candidates, 40)
		seats := 1 + int(seed)%candidates
		honest, err := npos.SeqPhragmen(in, seats, npos.Balancing{})
		if err != nil {
			t.Fatal(err)
		}
		for wanted := 1; wanted <= seats; wanted++ {
			cost := report.AttackCost(honest, seats, wanted)
			each := cost.Div(npos.U64(uint64(wanted)))
			if won := attacked(t, stakes, rows, candidates, seats, wanted, each); won != wanted {
				t.Fatalf("seed %d: %v each wins %d of %d seats, not %d", seed, each, won, seats, wanted)
			}
			if won := attacked(t, stakes, rows, candidates, seats, wanted, each.SaturatingSub(npos.U64(1))); won >= wanted && each != npos.U64(1) {
				t.Fatalf("seed %d: less than %v each still wins %d of %d seats", seed, each, won, seats)
			}
		}
	}
}

// Other ways to spend the same stake (one voter for all, or votes for others'
// candidates as well) win no more seats for less.
func TestAttackCostIsLeast(t *testing.T) {
	for seed := range uint64(40) {
		in, stakes, rows := instance(t, seed, 12, 40)
		const seats = 9
		honest, err := npos.SeqPhragmen(in, seats, npos.Balancing{})
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(seed, 4))
		wanted := 1 + rng.IntN(seats)
		budget, _ := npos.MulDiv(report.AttackCost(honest, seats, wanted), npos.U64(999), npos.U64(1000))
		var own []uint32
		for i := range wanted + rng.IntN(3) {
			own = append(own, uint32(12+i))
		}
		for try := range 20 {
			s, r := append([]npos.U128{}, stakes...), append([][]uint32{}, rows...)
			left := budget
			for left.Lo > 1e9 && try > 0 {
				part := npos.U64(1 + rng.Uint64N(left.Lo))
				row := own[rng.IntN(len(own)):]
				if rng.IntN(3) == 0 {
					row = append([]uint32{uint32(rng.IntN(12))}, row...)
				}
				s, r = append(s, part), append(r, row)
				left = left.SaturatingSub(part)
			}
			s, r = append(s, left), append(r, own)
			attack, err := npos.NewInstance(12+len(own), s, r)
			if err != nil {
				t.Fatal(err)
			}
			result, err := npos.SeqPhragmen(attack, seats, npos.Balancing{})
			if err != nil {
				t.Fatal(err)
			}
			won := 0
			for _, w := range result.Winners {
				if w.Candidate >= 12 {
					won++
				}
			}
			if won >= wanted {
				t.Fatalf("seed %d, try %d: %d seats for less than the cost of %d", seed, try, won, wanted)
			}
		}
	}
}

// Why a candidate is not elected is exact: with one seat more the first of the
// unelected wins it, with what it was said to offer; and each winner was the best
// offer of its round.
func TestOffersByElecting(t *testing.T) {
	for seed := range uint64(40) {
		in, _, _ := instance(t, seed, 6+int(seed%10), 40)
		full, err := report.New(in, elect(t, in, in.Candidates()))
		if err != nil {
			t.Fatal(err)
		}
		for seats := range in.Candidates() {
			r, err := report.New(in, elect(t, in, seats))
			if err != nil {
				t.Fatal(err)
			}
			if seats == 0 {
				continue // nobody was elected: loads are not known
			}
			next := full.Validators[seats]
			if got := r.Unelected[0]; len(r.Unelected) != in.Candidates()-seats || got.Offer != next.ElectedWith || got.Offer.IsZero() {
				t.Errorf("seed %d, %d seats: %+v is next, elected was %+v", seed, seats, got, next)
			}
		}
	}
}

func TestReportOfOddSets(t *testing.T) {
	empty, err := npos.NewInstance(0, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	silent, err := npos.NewInstance(3, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	one, _, _ := instance(t, 3, 5, 9)
	for _, c := range []struct {
		name  string
		in    *npos.Instance
		seats int
		third int // seats of the 1/3 attack
		two   int
	}{
		{"nothing", empty, 3, 0, 0}, {"no stake", silent, 3, 1, 3}, {"one seat", one, 1, 1, 1},
		{"two seats", one, 2, 1, 2}, {"four seats", one, 4, 2, 3}, {"all elected", one, 5, 2, 4},
	} {
		r, err := report.New(c.in, elect(t, c.in, c.seats))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Attacks) > 0 && (r.Attacks[0].Seats != c.third || r.Attacks[1].Seats != c.two) || c.third == 0 != (len(r.Attacks) == 0) {
			t.Errorf("%s: %+v", c.name, r.Attacks)
		}
		var text bytes.Buffer
		if err := r.WriteText(&text, pha, report.Names{}); err != nil || !strings.Contains(text.String(), "smallest support") {
			t.Errorf("%s: %v\n%s", c.name, err, &text)
		}
		bars(t, r.SVG(pha, report.Names{}), r.Seats)
	}
	r := report.AttackCost(&npos.Result{}, 3, 4)
	if !r.IsZero() {
		t.Errorf("more seats than there are cost %v", r)
	}
}

// bars requires well-formed XML with one bar a validator inside the drawing.
func bars(t *testing.T, svg []byte, want int) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(svg))
	got := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "rect" {
			continue
		}
		at := map[string]float64{}
		bar := false
		for _, a := range e.Attr {
			bar = bar || a.Value == "bar"
			var v float64
			if _, err := fmt.Sscanf(a.Value, "%f", &v); err == nil {
				at[a.Name.Local] = v
			}
		}
		if bar {
			got++
			if at["x"]+at["width"] > 1200 || at["y"]+at["height"] > 460.01 || at["y"] < 70 {
				t.Errorf("bar outside the plot: %v", at)
			}
		}
	}
	if got != want {
		t.Errorf("%d bars, want %d", got, want)
	}
}

func TestUnitFormat(t *testing.T) {
	for _, c := range []struct {
		unit   report.Unit
		amount npos.U128
		digits int
		want   string
	}{
		{pha, npos.U64(0), 2, "0.00 PHA"}, {pha, npos.U64(999_999_999_999), 2, "0.99 PHA"},
		{pha, npos.U64(1_234_567_890_000_000_000), 0, "1,234,567 PHA"}, {pha, npos.U64(1e12), 99, "1.000000000000 PHA"},
		{report.Unit{}, npos.U64(1000), 2, "1,000"}, {report.Unit{Symbol: "u"}, npos.U64(999), 2, "999 u"},
		{report.Unit{Decimals: 2}, npos.U64(123456), 1, "1,234.5"}, {pha, npos.U64(7), -1, "0 PHA"},
	} {
		if got := c.unit.Format(c.amount, c.digits); got != c.want {
			t.Errorf("%v of %+v: %q, want %q", c.amount, c.unit, got, c.want)
		}
	}
}

func ExampleNew() {
	in, err := npos.NewInstance(3, []npos.U128{npos.U64(100), npos.U64(60), npos.U64(30)}, [][]uint32{{0}, {1, 0}, {2}})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := npos.SeqPhragmen(in, 2, npos.Balancing{Iterations: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	r, err := report.New(in, result)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("smallest support", r.Score.MinimalStake, "certified", r.PJR.Holds)
	for _, a := range r.Attacks {
		fmt.Println(a.Part, "of the seats:", a.NewStake)
	}
	// Output:
	// smallest support 60 certified true
	// 1/3 of the seats: 44
	// 2/3 of the seats: 322
}
