package npos

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/npos"
)

// TestAudit: an audit counts what there is, and finds each record that was changed.
func TestAudit(t *testing.T) {
	one := npos.U64(1)
	for _, c := range []struct {
		name, want string
		tamper     func(ctx sdk.Context, e *env) error
	}{
		{"a stake grows", "stakes of", func(ctx sdk.Context, e *env) error {
			l := e.ledger(20)
			l.Active = l.Active.SaturatingAdd(one)
			return e.k.setLedger(ctx, account(20), l)
		}},
		{"a stake is forgotten", "stakes of", func(ctx sdk.Context, e *env) error {
			return e.k.kv(ctx).Delete(key(prefixLedger, account(20)))
		}},
		{"an empty chunk", "is empty or out of order", func(ctx sdk.Context, e *env) error {
			l := e.ledger(20)
			l.Chunks = []chunk{{npos.U128{}, 9}}
			return e.k.setLedger(ctx, account(20), l)
		}},
		{"more money than stakes", "stakes of", func(ctx sdk.Context, e *env) error {
			return e.bank.MintCoins(ctx, ModuleName, coinsOf(denom, one))
		}},
		{"more money than rewards", "rewards of", func(ctx sdk.Context, e *env) error {
			return e.bank.MintCoins(ctx, RewardsName, coinsOf(denom, one))
		}},
		{"an era paid more than it had", "paid 1 of 0", func(ctx sdk.Context, e *env) error {
			p, err := e.k.period(ctx, 1)
			if err != nil {
				return err
			}
			p.Paid = one
			return e.k.setPeriod(ctx, 1, p)
		}},
		{"a page loses a backer", "pages", func(ctx sdk.Context, e *env) error {
			at := key(prefixPage, u64(1), sized(account(1)), u32(0))
			list, err := read(e.k.kv(ctx), at, parseShares)
			if err != nil || len(list) == 0 {
				return errors.Join(err, errors.New("nobody stands behind it"))
			}
			return e.k.kv(ctx).Set(at, marshalShares(list[1:]))
		}},
		{"a seat without an exposure", "and no exposure", func(ctx sdk.Context, e *env) error {
			return e.k.kv(ctx).Delete(key(prefixExposure, u64(1), account(1)))
		}},
		{"an exposure that is not the power", "exposure", func(ctx sdk.Context, e *env) error {
			x := e.exposure(1, 1)
			x.Own, x.Total = x.Own.SaturatingAdd(one), x.Total.SaturatingAdd(one)
			return e.k.setExposure(ctx, 1, account(1), x)
		}},
		{"disabled and not jailed", "jailed false, disabled true", func(ctx sdk.Context, e *env) error {
			x := e.exposure(1, 1)
			x.Disabled = true
			return e.k.setExposure(ctx, 1, account(1), x)
		}},
		{"power that nobody stands behind", "power: supply", func(ctx sdk.Context, e *env) error {
			return errors.Join(e.bank.MintCoins(ctx, ModuleName, coinsOf(PowerDenom, one)),
				e.bank.SendCoinsFromModuleToModule(ctx, ModuleName, stakingtypes.BondedPoolName, coinsOf(PowerDenom, one)))
		}},
		{"a candidate that is none", "candidate true, role", func(ctx sdk.Context, e *env) error {
			return e.k.kv(ctx).Set(key(prefixCandidate, account(20)), []byte{})
		}},
		{"a candidate without a key", "consensus key of 0 bytes", func(ctx sdk.Context, e *env) error {
			return e.k.kv(ctx).Delete(key(prefixOperator, account(1)))
		}},
		{"another answers for its key", "has the consensus key of", func(ctx sdk.Context, e *env) error {
			return e.k.kv(ctx).Set(key(prefixKey, consOf(1)), account(2))
		}},
		{"a nominator out of its place", "is not in its place", func(ctx sdk.Context, e *env) error {
			return e.k.kv(ctx).Delete(key(prefixList, e.ledger(20).place()))
		}},
		{"a place of nobody", "entries for", func(ctx sdk.Context, e *env) error {
			l := e.ledger(20)
			l.Seq += 1000
			return e.k.kv(ctx).Set(key(prefixList, l.place()), account(39))
		}},
		{"a slash that nobody waits for", "slashes of 0", func(ctx sdk.Context, e *env) error {
			l := e.ledger(20)
			l.Slashes = 1
			return e.k.setLedger(ctx, account(20), l)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := nominated(t, quick())
			e.Block()
			before, err := e.k.Audit(e.Context())
			if err != nil {
				t.Fatal(err)
			}
			var bonded npos.U128
			for n := 1; n <= 40; n++ {
				bonded = bonded.SaturatingAdd(e.ledger(n).Active)
			}
			if before.Bonded != bonded || bonded.IsZero() || !before.Unbonding.IsZero() || !before.Rewards.IsZero() {
				t.Errorf("%+v, bonded %v", before, bonded)
			}
			e.Start()
			if err := c.tamper(e.Context(), e); err != nil {
				t.Fatal(err)
			}
			if _, err := e.k.Audit(e.Context()); !errors.Is(err, ErrAudit) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want ... %s", err, c.want)
			}
		})
	}
}

// TestAuditWhileAnEraIsForgotten: governance makes stake slashable for longer while an old
// era is half forgotten. No money is missing, and a chain can begin from there.
func TestAuditWhileAnEraIsForgotten(t *testing.T) {
	p := quick()
	e := nominated(t, p)
	e.era(p.HistoryEras)
	half := func() bool {
		seats, err := e.k.seats(e.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		return len(seats) > 0 && e.exposure(1, 1) == nil
	}
	for i := 0; !half(); i++ {
		if i > 1000 {
			t.Fatal("the first era is not forgotten in parts")
		}
		e.Block()
	}
	if _, err := e.k.Audit(e.Context()); err != nil {
		t.Fatal(err)
	}
	p.UnbondingEras, p.HistoryEras = 100, 101
	e.Block(func(ctx sdk.Context) error { return e.k.SetParams(ctx, p) })
	if !half() {
		t.Fatal("the era is forgotten all the same")
	}
	if _, err := e.k.Audit(e.Context()); err != nil {
		t.Error(err)
	}
}

// TestGenesisAddsUp: a chain does not begin from an export whose stakes are not what the
// module holds.
func TestGenesisAddsUp(t *testing.T) {
	e := nominated(t, quick())
	e.Block()
	var g Genesis
	if err := json.Unmarshal(Module{e.k}.ExportGenesis(e.Context(), nil), &g); err != nil {
		t.Fatal(err)
	}
	l := e.ledger(20)
	l.Active = l.Active.SaturatingAdd(npos.U64(1))
	found := false
	for i := range g.State {
		if string(g.State[i].Key) == string(key(prefixLedger, account(20))) {
			g.State[i].Value, found = l.marshal(), true
		}
	}
	b, err := json.Marshal(g)
	if err != nil || !found {
		t.Fatal(found, err)
	}
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, ErrAudit) {
			t.Fatalf("recovered %v", err)
		}
	}()
	Module{e.k}.InitGenesis(e.Context(), nil, b)
	t.Fatal("a chain begins")
}
