package era

import (
	"fmt"

	"github.com/phala-go/phala/npos"
)

// EquivocationFraction is what validators lose, in billionths, when offenders of n
// double-sign in one session: min(1, (3*offenders/n)^2), rounded down (Web3
// Foundation, "Slashing mechanisms": the square makes one accident cheap and a
// third of the set lose everything).
func EquivocationFraction(offenders, n uint32) uint32 {
	if n == 0 || 3*uint64(offenders) >= uint64(n) {
		return npos.Billion
	}
	k := 3 * uint64(offenders) // below 2^32, so its square fits a word
	q, _ := npos.MulDiv(npos.U64(k*k), npos.U64(npos.Billion), npos.U64(uint64(n)*uint64(n)))
	return uint32(q.Lo)
}

// UnresponsivenessFraction is what validators lose, in billionths, when offline of n
// stay silent in one session: nothing up to a tenth of the set, then
// min(1, 3*(offline - (n/10 + 1))/n) * 7 %, rounded down. Polkadot has dropped this
// slash and only disables; a chain may do so by not calling it.
func UnresponsivenessFraction(offline, n uint32) uint32 {
	excess := uint64(n)/10 + 1
	if uint64(offline) <= excess {
		return 0
	}
	const most = 7 * npos.Billion / 100
	k := min(3*(uint64(offline)-excess), uint64(n))
	return uint32(most * k / uint64(n))
}

// DisablingLimit is how many of n validators may be disabled at once: as many as may
// be faulty, which is below one third.
func DisablingLimit(n uint32) uint32 {
	if n == 0 {
		return 0
	}
	return (n - 1) / 3
}

// Slash is the part of an exposure that a fraction (in billionths) takes, each
// holder's rounded down.
func (e Exposure) Slash(fraction uint32) (Exposure, error) {
	out := Exposure{Others: make([]npos.U128, len(e.Others))}
	if fraction > npos.Billion {
		return out, &Error{CodeFraction, fmt.Sprintf("%d billionths", fraction)}
	}
	take := func(stake npos.U128) npos.U128 {
		q, _ := npos.MulDiv(stake, npos.U64(uint64(fraction)), npos.U64(npos.Billion))
		return q
	}
	out.Own = take(e.Own)
	for i, o := range e.Others {
		out.Others[i] = take(o)
	}
	return out, nil
}
