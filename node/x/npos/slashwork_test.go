package npos

import (
	"errors"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

func TestCancelSlash(t *testing.T) {
	e := nominated(t, quick())
	e.skip(3)
	e.report(3, 1)
	cancel := func(who string, ids ...uint64) tx {
		return msg(e.k.CancelSlash, &types.MsgCancelSlash{Authority: who, Ids: ids})
	}
	e.attempts(t, []attempt{
		{"anybody", cancel(name(1), 1), ErrAuthority},
		{"none", cancel(authority), ErrSlash},
		{"one that is not there", cancel(authority, 2), ErrSlash},
		{"one and one that is not there", cancel(authority, 1, 2), ErrSlash},
		{"good", cancel(authority, 1), nil},
		{"again", cancel(authority, 1), ErrSlash},
	})
	e.era(2)
	e.skip(3)
	for n, want := range map[int]uint64{1: 1000, 20: 800, 21: 400} {
		if l := e.ledger(n); l.Active != pha(want) || l.Slashes != 0 {
			t.Errorf("account %d: %+v", n, l)
		}
	}
}

// TestCancelTogether: slashes that build on each other are cancelled in one message, in
// whatever order it names them, and leave nothing; none is while it is worked out.
func TestCancelTogether(t *testing.T) {
	p := quick()
	p.SlashDeferEras = 2
	e := nominated(t, p)
	e.skip(3)
	cancel := func(ids ...uint64) tx {
		return msg(e.k.CancelSlash, &types.MsgCancelSlash{Authority: authority, Ids: ids})
	}
	e.accuse = []accusation{{consOf(1), 3}}
	e.attempt(t, "in the block of the report", cancel(1), ErrSlash)
	e.report(3, 2) // and so validator 1 pays more
	var ids []uint64
	err := e.k.eachSlash(e.Context(), func(id uint64, s *slash) (bool, error) {
		if s.Validator.Equals(account(1)) {
			ids = append(ids, id)
		}
		return true, nil
	})
	if err != nil || len(ids) != 2 {
		t.Fatalf("slashes %d of validator 1, %v", ids, err)
	}
	e.attempt(t, "both", cancel(ids...), nil)
	e.skip(2)
	if x := e.exposure(1, 1); x.Slashed != 0 || !e.taken(1, 20).IsZero() || e.ledger(20).Slashes != 0 {
		t.Fatalf("%+v, %v is counted", x, e.taken(1, 20))
	}
}

// TestHistoryShortened: governance may shorten history while an offence of an era that
// is then too old is being worked out. The era is forgotten after that.
func TestHistoryShortened(t *testing.T) {
	p := quick()
	p.UnbondingEras, p.HistoryEras, p.SlashDeferEras = 8, 9, 0
	const crowd = 12 * pageStakers
	e := started(t, p, 6, func(e *env) (txs []tx) {
		for n := 100; n < 100+crowd; n++ {
			e.fund(account(n), pha(20))
			txs = append(txs, e.nominate(n, 20, 1))
		}
		return txs
	})
	e.era(8)
	for _, v := range []int{1, 2} {
		e.accuse = append(e.accuse, accusation{consOf(v), 5})
	}
	e.Block(func(ctx sdk.Context) error {
		p, err := e.k.Params(ctx)
		p.UnbondingEras, p.HistoryEras = 1, 2
		return errors.Join(err, e.k.SetParams(ctx, p))
	})
	if list := e.slashes(); len(list) == 0 || list[0].State != slashComputing {
		t.Fatalf("%+v", list)
	}
	e.skip(120)
	e.check()
	if l := e.ledger(100); !l.Active.Less(pha(20)) || len(e.slashes()) != 0 {
		t.Fatalf("%+v, %d slashes", l, len(e.slashes()))
	}
	if _, err := e.k.period(e.Context(), 1); !errors.Is(err, ErrEra) {
		t.Fatalf("era 1 is kept: %v", err)
	}
}

// TestFailedSlash: a slash that cannot be worked out stops neither the chain nor the
// next one; what it names stays bonded until governance cancels it.
func TestFailedSlash(t *testing.T) {
	e := nominated(t, quick())
	e.skip(3)
	e.Start()
	if err := e.k.report(e.Context(), account(1), 1, 1, 3, oneOfFour, new(Params)); err != nil {
		t.Fatal(err)
	}
	if err := e.k.kv(e.Context()).Delete(key(prefixExposure, u64(1), account(1))); err != nil {
		t.Fatal(err)
	}
	x, err := e.k.exposure(e.Context(), 1, account(2))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.k.workSlashes(e.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if list := e.slashes(); len(list) != 1 || list[0].State != slashFailed {
		t.Fatalf("%+v", list)
	}
	if err := e.k.report(e.Context(), account(2), 1, 1, 3, oneOfFour, new(Params)); err != nil {
		t.Fatal(err)
	}
	e.Must(func(ctx sdk.Context) error { return e.k.workSlashes(ctx, 1) })
	if got := pha(1000).SaturatingSub(e.ledger(2).Active); got != of(x.Own, oneOfFour) {
		t.Fatalf("validator 2 lost %v", got)
	}
	e.Must(msg(e.k.CancelSlash, &types.MsgCancelSlash{Authority: authority, Ids: []uint64{1}}))
	e.Must(func(ctx sdk.Context) error { return e.k.workSlashes(ctx, 1) })
	if list := e.slashes(); len(list) != 0 {
		t.Fatalf("%+v", list[0])
	}
	e.Abandon()
}

// TestOffenceAfterCancelled: a report that governance cancelled does not come back, and
// does not pay for other offences of the same session, era or span.
func TestOffenceAfterCancelled(t *testing.T) {
	for _, c := range []struct {
		name    string
		wait    int
		height  uint64 // of the second report
		slashed bool
	}{
		{"the same report", 0, 3, false},
		{"the same session", 0, 4, true},
		{"another session", 5, 8, true},
		{"another era of the span", 20, 15, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := quick()
			p.SlashDeferEras = 2
			e := nominated(t, p)
			e.skip(5)
			e.report(3, 1)
			taken := e.taken(1, 20)
			if taken.IsZero() {
				t.Fatal("the first report has no effect")
			}
			e.Block(msg(e.k.CancelSlash, &types.MsgCancelSlash{Authority: authority, Ids: []uint64{1}}))
			e.skip(c.wait + 1)
			if got := e.taken(1, 20); !got.IsZero() || e.exposure(1, 1).Slashed != 0 {
				t.Fatalf("%v is counted after the slash was cancelled", got)
			}
			before := e.ledger(20).Active
			e.report(c.height, 1)
			if got := len(e.slashes()) == 1; got != c.slashed {
				t.Fatalf("%d slashes", len(e.slashes()))
			}
			e.era(e.active() + 3)
			want := npos.U128{}
			if c.slashed {
				want = of(pha(800), oneOfFour)
			}
			if got := before.SaturatingSub(e.ledger(20).Active); got != want {
				t.Errorf("the nominator lost %v, not %v", got, want)
			}
		})
	}
}

// taken is what the reports on an era cost a staker.
func (e *env) taken(era uint64, n int) npos.U128 {
	e.t.Helper()
	list, err := read(e.k.kv(e.Context()), key(prefixTaken, u64(era), account(n)), parseShares)
	if err != nil {
		e.t.Fatal(err)
	}
	if len(list) == 0 {
		return npos.U128{}
	}
	return list[0].Amount
}
