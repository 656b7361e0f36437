package npos_test

import (
	"encoding/json"
	"errors"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/npos"
)

// randomU128 favours the lengths and patterns at which word arithmetic goes wrong.
func randomU128(rng *rand.Rand) npos.U128 {
	edge := []uint64{0, 1, 2, 1 << 63, 1<<63 - 1, 1<<64 - 1, 1<<64 - 2, 1 << 32}
	word := func() uint64 {
		if rng.IntN(3) == 0 {
			return edge[rng.IntN(len(edge))]
		}
		return rng.Uint64() >> rng.IntN(64)
	}
	v := npos.U128{Hi: word(), Lo: word()}
	if rng.IntN(3) == 0 {
		v.Hi = 0
	}
	return v
}

func TestArithmeticAgainstBigIntegers(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, 0))
	limit := npos.MaxU128.Big()
	for i := range 200_000 {
		a, b, c := randomU128(rng), randomU128(rng), randomU128(rng)
		x, y, z := a.Big(), b.Big(), c.Big()
		check := func(what string, got npos.U128, ok bool, want *big.Int) {
			t.Helper()
			fits := want.Sign() >= 0 && want.Cmp(limit) <= 0
			if ok != fits || fits && got.Big().Cmp(want) != 0 || !fits && got != npos.MaxU128 {
				t.Fatalf("seed %d, case %d: %s of %v, %v, %v is %v (%v), want %v", seed, i, what, a, b, c, got, ok, want)
			}
		}
		sum, ok := a.Add(b)
		check("sum", sum, ok, new(big.Int).Add(x, y))
		if d := new(big.Int).Sub(x, y); d.Sign() >= 0 {
			check("difference", a.SaturatingSub(b), true, d)
		} else if !a.SaturatingSub(b).IsZero() {
			t.Fatalf("%v - %v saturates to %v", a, b, a.SaturatingSub(b))
		}
		if a.Cmp(b) != x.Cmp(y) || a.Less(b) != (x.Cmp(y) < 0) {
			t.Fatalf("order of %v and %v", a, b)
		}
		product := new(big.Int).Mul(x, y)
		if z.Sign() == 0 {
			if _, ok := npos.MulDiv(a, b, c); ok {
				t.Fatal("divided by zero")
			}
			continue
		}
		q, r := new(big.Int).QuoRem(product, z, new(big.Int))
		got, ok := npos.MulDiv(a, b, c)
		check("a*b/c", got, ok, q)
		if !c.Less(b) {
			check("a*b/c by a fixed divisor", npos.FixedDivisor(a, b, c), true, q)
		}
		if r.Sign() > 0 {
			q.Add(q, big.NewInt(1))
		}
		got, ok = npos.MulDivCeil(a, b, c)
		check("a*b/c up", got, ok, q)
		check("a/c", a.Div(c), true, new(big.Int).Quo(x, z))
		parts := rng.Uint32N(npos.Billion + 1)
		want := new(big.Int).Mul(product, big.NewInt(int64(parts)))
		want.Add(want, big.NewInt(npos.Billion-1)).Quo(want, big.NewInt(npos.Billion))
		if got := npos.MulBillionth(a, b, parts).Big(); got.Cmp(want) != 0 {
			t.Fatalf("%v * %v * %d billionths is %v, want %v", a, b, parts, got, want)
		}
	}
}

func TestAmountText(t *testing.T) {
	for _, s := range []string{"0", "1", "9", "10", "18446744073709551615", "18446744073709551616", "99999999999999999999999999999999999999", "340282366920938463463374607431768211455"} {
		v, err := npos.ParseU128(s)
		if err != nil || v.String() != s || v.Big().String() != s {
			t.Errorf("%s reads as %v, %v", s, v, err)
		}
		if back, err := npos.FromBig(v.Big()); err != nil || back != v {
			t.Errorf("%s back from a big integer: %v, %v", s, back, err)
		}
	}
	for _, s := range []string{"", "-1", "+1", "01", "00", "1.0", "1e3", " 1", "0x10", "1_000", "１", "340282366920938463463374607431768211456", "999999999999999999999999999999999999999", strings.Repeat("9", 1000)} {
		if v, err := npos.ParseU128(s); !errors.Is(err, npos.CodeAmount) {
			t.Errorf("%q reads as %v, %v", s, v, err)
		}
	}
	for _, b := range []*big.Int{nil, big.NewInt(-1), new(big.Int).Lsh(big.NewInt(1), 128)} {
		if v, err := npos.FromBig(b); !errors.Is(err, npos.CodeAmount) {
			t.Errorf("%v converts to %v, %v", b, v, err)
		}
	}
	score := npos.Evaluate([]npos.U128{npos.MaxU128, npos.U64(7)})
	text, err := json.Marshal(score)
	const golden = `{"minimal_stake":"7","sum_stake":"340282366920938463463374607431768211455","sum_stake_squared":"115792089237316195423570985008687907852589419931798687112530834793049593217074"}`
	if err != nil || string(text) != golden {
		t.Errorf("%s, %v", text, err)
	}
	var back npos.Score
	if err := json.Unmarshal(text, &back); err != nil || back != score {
		t.Errorf("%v, %v", back, err)
	}
	for _, s := range []string{`""`, `"-5"`, `"05"`, `"x"`, `"` + strings.Repeat("9", 78) + `"`, `"` + strings.Repeat("9", 500) + `"`} {
		var v npos.U256
		if err := json.Unmarshal([]byte(s), &v); !errors.Is(err, npos.CodeAmount) {
			t.Errorf("%s reads as %v, %v", s, v, err)
		}
	}
}

func FuzzParseU128(f *testing.F) {
	for _, s := range []string{"0", "01", "340282366920938463463374607431768211456", "-3", "12a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := npos.ParseU128(s)
		b, ok := new(big.Int).SetString(s, 10)
		canonical := ok && b.Sign() >= 0 && b.BitLen() <= 128 && b.String() == s
		if canonical != (err == nil) || canonical && v.Big().Cmp(b) != 0 {
			t.Errorf("%q reads as %v, %v", s, v, err)
		}
	})
}

// stepNormalize is Normalize unit by unit, as its rule is stated.
func stepNormalize(values []uint64, target uint64) []uint64 {
	out := slices.Clone(values)
	order := make([]int, len(values))
	var sum uint64
	for i, v := range values {
		order[i] = i
		sum += v
	}
	if sum == target || len(values) == 0 {
		return out
	}
	slices.SortStableFunc(order, func(i, j int) int { return int(int64(values[i]) - int64(values[j])) })
	n := uint64(len(values))
	if sum < target {
		portion, rest, at := (target-sum)/n, (target-sum)%n, 0
		raise := func(by uint64) {
			out[order[at]] += by
			if out[order[at]] >= target/n {
				at = (at + 1) % len(order)
			}
		}
		for range values {
			if portion > 0 {
				raise(portion)
			}
		}
		for ; rest > 0; rest-- {
			raise(1)
		}
		return out
	}
	portion, rest, at := (sum-target)/n, (sum-target)%n, len(order)-1
	floor := values[order[0]]
	down := func() {
		if out[order[at]] <= floor {
			at = (at + len(order) - 1) % len(order)
		}
	}
	for range values {
		if portion == 0 {
			break
		}
		take := min(portion, out[order[at]])
		rest += portion - take
		out[order[at]] -= take
		down()
	}
	for rest > 0 {
		if out[order[at]] == 0 {
			at = (at + len(order) - 1) % len(order)
			continue
		}
		out[order[at]]--
		rest--
		down()
	}
	return out
}

func TestNormalizeAgainstSingleSteps(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 20_000 {
		values := make([]uint64, rng.IntN(8))
		spread := 1 + rng.Uint64N(2000)
		for j := range values {
			values[j] = rng.Uint64N(spread)
			if rng.IntN(4) == 0 {
				values[j] *= 50
			}
		}
		target := rng.Uint64N(4 * spread)
		in := make([]npos.U128, len(values))
		for j, v := range values {
			in[j] = npos.U64(v)
		}
		got, err := npos.Normalize(in, npos.U64(target))
		if err != nil {
			t.Fatal(err)
		}
		var sum uint64
		for j, w := range stepNormalize(values, target) {
			sum += got[j].Lo
			if got[j] != npos.U64(w) {
				t.Fatalf("seed %d, case %d: %v to %d is %v", seed, i, values, target, got)
			}
		}
		if len(values) > 0 && sum != target {
			t.Fatalf("seed %d, case %d: %v to %d sums to %d", seed, i, values, target, sum)
		}
	}
}

// An excess that single steps would take years to remove.
func TestNormalizeHugeExcess(t *testing.T) {
	huge := npos.U128{Hi: 1 << 60}
	large := npos.U128{Hi: 1 << 26}
	for _, in := range [][]npos.U128{{npos.U64(5), npos.U64(5), huge, huge, huge}, {large, large, large, huge}} {
		for _, target := range []npos.U128{{}, npos.U64(1), npos.U64(12), npos.U64(1 << 40), large} {
			got, err := npos.Normalize(in, target)
			if err != nil {
				t.Fatal(err)
			}
			var sum npos.U128
			for _, v := range got {
				sum = sum.SaturatingAdd(v)
			}
			if sum != target {
				t.Errorf("%v to %v: %v", in, target, got)
			}
		}
	}
	if _, err := npos.Normalize([]npos.U128{npos.MaxU128, npos.U64(1)}, npos.U64(1)); !errors.Is(err, npos.CodeSumOverflow) {
		t.Errorf("error %v", err)
	}
}
