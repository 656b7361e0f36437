package npos

import (
	"slices"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

// report has x/evidence find in the next block that validators signed twice at a height.
func (e *env) report(height uint64, validators ...int) sdk.Events {
	e.t.Helper()
	for _, v := range validators {
		e.accuse = append(e.accuse, accusation{consOf(v), height})
	}
	events := e.Block()
	e.check()
	return events
}

// of is a fraction in billionths of an amount.
func of(a npos.U128, fraction uint64) npos.U128 {
	q, _ := npos.MulDiv(a, npos.U64(fraction), npos.U64(npos.Billion))
	return q
}

func (e *env) treasury() npos.U128 {
	e.t.Helper()
	pool, err := e.distr.FeePool.Get(e.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	a, err := natural(pool.CommunityPool.AmountOf(denom).TruncateInt())
	if err != nil {
		e.t.Fatal(err)
	}
	return a
}

func (e *env) slashes() (list []*slash) {
	e.t.Helper()
	if err := e.k.eachSlash(e.Context(), func(_ uint64, s *slash) (bool, error) { list = append(list, s); return true, nil }); err != nil {
		e.t.Fatal(err)
	}
	return list
}

// nominated are four validators, the first two of them with nominators.
func nominated(t *testing.T, p Params) *env {
	return started(t, p, 4, func(e *env) []tx { return []tx{e.nominate(20, 800, 1), e.nominate(21, 400, 1, 2)} })
}

const oneOfFour = 562_500_000 // (3 * 1/4)^2

// TestEquivocation: a double signature costs everybody who stood behind the validator
// at that height the fraction of what they stood with, when the slash is applied.
func TestEquivocation(t *testing.T) {
	e := nominated(t, quick())
	e.skip(3)
	x := e.exposure(1, 1)
	before := map[int]npos.U128{}
	for _, n := range []int{1, 2, 20, 21} {
		before[n] = e.ledger(n).Active
	}
	at := e.Height()
	e.report(at, 1)
	e.report(at, 1)   // the same again
	e.report(at-1, 1) // another of the same session
	if list := e.slashes(); len(list) != 1 || list[0].To != oneOfFour || list[0].State != slashWaiting || list[0].Applies != 2 {
		t.Fatalf("%+v", list)
	}
	if got := e.exposure(1, 1); !got.Disabled || got.Slashed != oneOfFour {
		t.Fatalf("%+v", got)
	}
	for n, a := range before {
		if got := e.ledger(n).Active; got != a {
			t.Fatalf("account %d was slashed before its time", n)
		}
	}
	treasury := e.treasury()
	e.era(2)
	treasury = e.treasury() // what is issued at the era's end is not the slash's
	e.skip(2)
	backing := map[int]npos.U128{1: x.Own, 20: pha(800), 2: {}}
	backing[21] = x.Total.SaturatingSub(x.Own).SaturatingSub(pha(800))
	var all npos.U128
	for n, b := range backing {
		lost := before[n].SaturatingSub(e.ledger(n).Active)
		if want := of(b, oneOfFour); lost != want {
			t.Errorf("account %d with %v lost %v, want %v", n, b, lost, want)
		}
		all = all.SaturatingAdd(lost)
	}
	if got := e.treasury().SaturatingSub(treasury); got != all {
		t.Errorf("the treasury received %v of %v", got, all)
	}
	if len(e.slashes()) != 0 || e.ledger(20).Slashes != 0 {
		t.Fatal("a slash is left")
	}
	// The next era has it back, with what is left.
	if got := e.exposure(2, 1); got == nil || got.Disabled {
		t.Fatalf("%+v", got)
	}
	e.skip(20)
	e.check()
}

// TestOffendersTogether: the second of one session makes the first pay more.
func TestOffendersTogether(t *testing.T) {
	p := quick()
	p.Seats = 7
	e := started(t, p, 7)
	e.skip(3)
	e.report(3, 1)
	e.report(3, 2)
	one, two := uint32(183_673_469), uint32(734_693_877) // (3/7)^2, (6/7)^2
	list := e.slashes()
	if len(list) != 3 || list[0].To != one || list[1].From+list[2].From != one || list[1].To != two || list[2].To != two {
		t.Fatalf("%d slashes", len(list))
	}
	e.era(2)
	e.skip(4)
	for _, n := range []int{1, 2} {
		// The first pays in two parts, each rounded down from the fraction.
		if got := e.ledger(n).Active; got != pha(1000).SaturatingSub(of(pha(1000), uint64(two))) {
			t.Errorf("validator %d has %v", n, got)
		}
	}
	// Less for another session of the era costs nothing more.
	e = started(t, p, 7)
	e.skip(3)
	e.report(3, 1)
	e.report(3, 2)
	e.skip(3)
	e.report(7, 1)
	if list := e.slashes(); len(list) != 3 || e.exposure(1, 1).Slashed != two {
		t.Fatalf("%d slashes, up to %d", len(list), e.exposure(1, 1).Slashed)
	}
	// Another session counts by itself.
	e = started(t, p, 7)
	e.skip(8)
	e.report(2, 1)
	e.report(7, 2)
	if list := e.slashes(); len(list) != 2 || list[0].To != one || list[1].To != one {
		t.Fatalf("%+v", list)
	}
}

// TestOffenceAtTheChange: an era's validators sign from the second block after the one
// that began it.
func TestOffenceAtTheChange(t *testing.T) {
	e := nominated(t, quick())
	e.era(3)
	second, err := e.k.period(e.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	for height, era := range map[uint64]uint64{second.Begun: 1, second.Begun + 1: 1, second.Begun + 2: 2} {
		if n, _, err := e.k.eraAt(e.Context(), 3, height); n != era || err != nil {
			t.Errorf("height %d is of era %d, %v", height, n, err)
		}
	}
	e.report(second.Begun+1, 1)
	e.report(second.Begun+2, 2)
	if list := e.slashes(); len(list) != 2 || list[0].Era != 1 || list[1].Era != 2 {
		t.Fatalf("%+v", list)
	}
}

// TestSlashFollowsStake: who moved to other validators, chilled or unbonded since pays
// for the era in which it stood behind the offender.
func TestSlashFollowsStake(t *testing.T) {
	e := nominated(t, quick())
	e.Block(e.nominate(20, 0, 3))
	e.Block(e.chill(21))
	e.Block(e.unbond(21, 400))
	e.era(3)
	if x := e.exposure(3, 1); x.Backers != 0 {
		t.Fatalf("validator 1 still has %d backers", x.Backers)
	}
	moved := e.exposure(1, 1).Total.SaturatingSub(pha(1800)) // of account 21
	e.report(4, 1)
	e.attempt(t, "withdrawal while a slash waits", e.withdraw(21), ErrNothing)
	e.era(4)
	e.skip(3)
	if got := e.ledger(20).Active; got != pha(800).SaturatingSub(of(pha(800), oneOfFour)) {
		t.Errorf("the nominator who moved has %v", got)
	}
	l := e.ledger(21)
	if got := l.total(); got != pha(400).SaturatingSub(of(moved, oneOfFour)) || !l.Active.IsZero() {
		t.Errorf("the nominator who left has %v", got)
	}
	if x := e.exposure(4, 3); x == nil {
		t.Error("validator 3 lost its seat")
	}
}

// TestWithdrawalWaits: tokens that are due stay while a slash that names their owner
// waits, and are paid, less the slash, afterwards.
func TestWithdrawalWaits(t *testing.T) {
	p := quick()
	p.UnbondingEras, p.SlashDeferEras = 3, 2
	e := nominated(t, p)
	e.Block(e.chill(20))
	e.Block(e.unbond(20, 800)) // due in era 5
	e.era(4)                   // the last in which stake of era 2 can be reported
	if x := e.exposure(2, 1); x == nil {
		t.Fatal("no seat in era 2")
	}
	period, err := e.k.period(e.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	e.report(period.Start+3, 1) // era 1 is too old
	if list := e.slashes(); len(list) != 0 {
		t.Fatalf("%+v", list)
	}
	// A nominator of era 2's: account 21 stays until then.
	if period, err = e.k.period(e.Context(), 2); err != nil {
		t.Fatal(err)
	}
	e.Block(e.chill(21))
	e.Block(e.unbond(21, 400))
	e.report(period.Start+1, 1, 2)
	if len(e.slashes()) != 3 || e.ledger(21).Slashes == 0 {
		t.Fatalf("%d slashes, %d name account 21", len(e.slashes()), e.ledger(21).Slashes)
	}
	e.attempt(t, "cancel by anybody", msg(e.k.CancelSlash, &types.MsgCancelSlash{Authority: name(1), Ids: []uint64{1}}), ErrAuthority)
	e.era(5)
	e.attempt(t, "due and not named", e.withdraw(20), nil)
	e.era(6)
	e.skip(3)
	if l := e.ledger(21); !l.total().IsZero() || l.Slashes != 0 {
		t.Fatalf("two of four offended, all is lost: %+v", l)
	}
}

// TestWithdrawRefusedWhileSlashed: the amount is due, the slash that names its owner is
// not applied yet.
func TestWithdrawRefusedWhileSlashed(t *testing.T) {
	p := quick()
	p.UnbondingEras, p.SlashDeferEras = 3, 2
	e := nominated(t, p)
	e.Block(e.chill(20))
	e.Block(e.unbond(20, 800)) // due in era 5
	e.era(3)
	e.report(5, 1) // era 1, applied in era 5
	e.era(4)
	e.report(e.Height(), 2) // era 4 names nobody of era 1
	due := e.ledger(20).Chunks[0].Amount
	for e.active() < 5 {
		e.Block()
	}
	e.attempt(t, "named", e.withdraw(20), ErrSlashes)
	e.skip(1)
	before := e.balance(account(20))
	e.attempt(t, "after it was applied", e.withdraw(20), nil)
	if got := e.balance(account(20)).SaturatingSub(before); got != due.SaturatingSub(of(pha(800), oneOfFour)) {
		t.Fatalf("received %v of %v", got, due)
	}
}

// TestWithdrawRefusedWhileComputing: an offence is reported in the block that makes an
// amount due, and its stakers are not known before the next one's end.
func TestWithdrawRefusedWhileComputing(t *testing.T) {
	p := quick()
	p.SlashDeferEras = 0
	e := nominated(t, p)
	for e.phase() < phaseElection {
		e.Block()
	}
	e.Block(e.chill(20), e.unbond(20, 800)) // the election has read it: it stands in era 2, and is due in era 5
	e.era(4)
	second, err := e.k.period(e.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	now, err := e.k.period(e.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	for e.Height() < now.End-1 {
		e.Block()
	}
	e.report(second.Start, 1)
	if list := e.slashes(); e.active() != 5 || len(list) != 1 || list[0].State != slashComputing {
		t.Fatalf("era %d, %+v", e.active(), list)
	}
	e.attempt(t, "before its stakers are known", e.withdraw(20), ErrSlashes)
	e.skip(1)
	before := e.balance(account(20))
	e.attempt(t, "after it was applied", e.withdraw(20), nil)
	if got := e.balance(account(20)).SaturatingSub(before); got != pha(800).SaturatingSub(of(pha(800), oneOfFour)) {
		t.Fatalf("received %v", got)
	}
}

// TestSpans: offences in two eras that are found together cost the larger one, not both.
func TestSpans(t *testing.T) {
	e := nominated(t, quick())
	e.era(2)
	first, second := e.exposure(1, 1).Own, e.exposure(2, 1).Own
	period, err := e.k.period(e.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	e.skip(3)
	e.report(3, 1)
	e.report(period.Start, 1)
	e.era(3)
	e.skip(3)
	// The first report ended the span after era 2, so both eras are in it.
	want := of(max128(first, second), oneOfFour)
	if got := pha(1000).SaturatingSub(e.ledger(1).Active); got != want {
		t.Errorf("two faults of one span cost %v, want %v", got, want)
	}
	// A fault after that is a new one.
	e.era(5)
	x := e.exposure(5, 1)
	if period, err = e.k.period(e.Context(), 5); err != nil {
		t.Fatal(err)
	}
	e.skip(2)
	e.report(period.Start, 1)
	left := e.ledger(1).Active
	e.era(6)
	e.skip(3)
	if got := left.SaturatingSub(e.ledger(1).Active); got != of(x.Own, oneOfFour) {
		t.Errorf("a new fault costs %v of %v", got, x.Own)
	}
}

func max128(a, b npos.U128) npos.U128 {
	if a.Less(b) {
		return b
	}
	return a
}

// TestSpansForgotten: what a staker keeps of its slashes does not grow with them, and
// eras that could not be reported any more cost nothing if governance lets them be again.
func TestSpansForgotten(t *testing.T) {
	p := quick()
	p.HistoryEras = 30
	e := nominated(t, p)
	spans := func() []era.Span {
		s, err := read(e.k.kv(e.Context()), key(prefixSpans, account(1)), parseSpans)
		if err != nil || s == nil {
			t.Fatal(s, err)
		}
		return s.List
	}
	longest := 0
	for n := uint64(1); n <= 10; n++ {
		e.era(n)
		e.skip(3)
		period, err := e.k.period(e.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		if n != 2 && e.exposure(n, 1) != nil {
			e.report(period.Start, 1)
		}
		e.Block(e.bond(1, 700), e.validate(1, 0, 0))
		longest = max(longest, len(spans()))
	}
	if longest < 3 || longest > int(p.UnbondingEras)+2 {
		t.Fatalf("up to %d spans for %d eras", longest, p.UnbondingEras)
	}
	e.Block(func(ctx sdk.Context) error {
		p.UnbondingEras = 20
		return e.k.SetParams(ctx, p)
	})
	second, err := e.k.period(e.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	e.accuse = append(e.accuse, accusation{consOf(1), second.Start})
	e.Block() // stakes that old may be gone: that they are there is not checked
	list := e.slashes()
	if last := list[len(list)-1]; last.Era != 2 || last.State != slashWaiting {
		t.Fatalf("%+v", last)
	}
}

// TestSilence: who does not sign loses the seat for the era and no stake, as long as
// fewer than a third are out; the next era has it back.
func TestSilence(t *testing.T) {
	p := quick()
	p.SessionBlocks, p.SessionsPerEra = 10, 3
	e := started(t, p, 4)
	for _, v := range []int{1, 2, 3} {
		e.offline[string(consOf(v))] = true
	}
	var out, held []string
	for e.active() == 1 {
		e.Block()
		e.check()
	}
	for _, v := range []int{1, 2, 3, 4} {
		if x := e.exposure(1, v); x.Disabled {
			out = append(out, name(v))
		} else {
			held = append(held, name(v))
		}
		if got := e.ledger(v).Active; got != pha(1000) {
			t.Errorf("validator %d has %v", v, got)
		}
	}
	if len(out) != 1 || len(held) != 3 {
		t.Fatalf("disabled: %v", out)
	}
	if s := e.set(e.Height() + 2); len(s) != 4 {
		t.Fatalf("%d validators sign in the next era", len(s))
	}
	if len(e.slashes()) != 0 {
		t.Fatal("silence was slashed")
	}
}

// TestUnknownReports: what nobody answers for, or nobody can be slashed for any more,
// changes nothing and stops nothing.
func TestUnknownReports(t *testing.T) {
	e := started(t, quick(), 5)
	seated := e.elected()
	e.skip(3)
	for v := 1; v <= 5; v++ {
		if !slices.Contains(seated, v) {
			e.report(2, v) // a candidate without a seat
		}
	}
	e.report(3, 39)           // a key that nobody has
	e.report(1000, seated[0]) // a height to come counts for the era that runs
	if list := e.slashes(); len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	e.era(5)
	e.report(3, seated[1])
	if len(e.slashes()) != 0 {
		t.Fatal("an offence of era 1 is slashed in era 5")
	}
	// Nothing was taken by x/staking or x/slashing either: check compared their pools.
	e.check()
}
