package npos

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

// attempt runs a transaction in a block of its own and checks its outcome; what is
// refused changes nothing.
func (e *env) attempt(t *testing.T, what string, f tx, want error) {
	t.Helper()
	e.Start()
	before := e.Dump(ModuleName)
	_, err := e.Tx(f)
	if !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if want != nil && !reflect.DeepEqual(before, e.Dump(ModuleName)) {
		t.Errorf("%s: was refused and changed something", what)
	}
	e.Finish()
	e.check()
}

type attempt struct {
	what string
	tx   tx
	want error
}

func (e *env) attempts(t *testing.T, list []attempt) {
	t.Helper()
	for _, a := range list {
		e.attempt(t, a.what, a.tx, a.want)
	}
}

// stay are parameters whose first era outlasts a test.
func stay() Params {
	p := quick()
	p.SessionBlocks, p.SessionsPerEra = 1000, 2
	return p
}

func TestBond(t *testing.T) {
	e := started(t, stay(), 3)
	raw := func(who, amount string) tx { return msg(e.k.Bond, &types.MsgBond{Staker: who, Amount: amount}) }
	e.attempts(t, []attempt{
		{"good", e.bond(20, 10), nil},
		{"more", raw(name(20), "1"), nil},
		{"below the minimum", e.bond(21, 9), ErrMinimum},
		{"more than there is", e.bond(21, 10_001), ErrFunds},
		{"nothing", raw(name(21), "0"), ErrAmount},
		{"no number", raw(name(21), "ten"), ErrAmount},
		{"no amount", raw(name(21), ""), ErrAmount},
		{"negative", raw(name(21), "-1"), ErrAmount},
		{"leading zero", raw(name(21), "010000000000000"), ErrAmount},
		{"2^96", raw(name(21), "79228162514264337593543950336"), ErrAmount},
		{"2^128", raw(name(21), "340282366920938463463374607431768211456"), ErrAmount},
		{"no account", raw("phala1", "1"), ErrAddress},
		{"account of another chain", raw("cosmos1qypqxpq9qcrsszg2pvxq6rs0zqg3yyc5lzv7xu", "1"), ErrAddress},
	})
	if l := e.ledger(20); l.Active != pha(10).SaturatingAdd(npos.U64(1)) || l.Role != roleNone {
		t.Fatalf("%+v", l)
	}
}

func TestNominate(t *testing.T) {
	e := started(t, stay(), 20)
	raw := func(targets ...string) tx {
		return msg(e.k.Nominate, &types.MsgNominate{Staker: name(30), Targets: targets})
	}
	many := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	e.attempts(t, []attempt{
		{"without stake", e.nominate(30, 0, 1), ErrMinimum},
		{"good, with its bond", e.nominate(30, 100, many...), nil},
		{"other targets", e.nominate(30, 0, 17), nil},
		{"17 targets", e.nominate(30, 0, append(many, 17)...), ErrTargets},
		{"no target", e.nominate(30, 0), ErrTargets},
		{"a target twice", e.nominate(30, 0, 1, 2, 1), ErrTargets},
		{"a target that is no candidate", e.nominate(30, 0, 1, 25), ErrTargets},
		{"itself", e.nominate(30, 0, 30), ErrTargets},
		{"a target that is no account", raw("x"), ErrAddress},
		{"below the minimum", e.nominate(31, 9, 1), ErrMinimum},
		{"more than there is", e.nominate(31, 10_001, 1), ErrFunds},
		{"candidate", e.nominate(1, 0, 2), ErrRole},
		{"candidate that chilled", e.chill(1), nil},
		{"now it may", e.nominate(1, 0, 2), nil},
		{"target that chilled", e.nominate(30, 0, 1), ErrTargets},
		{"no account", msg(e.k.Nominate, &types.MsgNominate{Staker: "", Targets: []string{name(1)}}), ErrAddress},
		{"bond that is none", msg(e.k.Nominate, &types.MsgNominate{Staker: name(30), Targets: []string{name(2)}, Bond: "0"}), ErrAmount},
	})
	if l := e.ledger(30); len(l.Targets) != 1 || !l.Targets[0].Equals(account(17)) || l.Active != pha(100) {
		t.Fatalf("%+v", l)
	}
}

func TestValidate(t *testing.T) {
	p := stay()
	p.MaxCandidates, p.MinCommission = 5, 7
	e := started(t, stay(), 3)
	raw := func(n int, key []byte, commission uint32, bond string) tx {
		return msg(e.k.Validate, &types.MsgValidate{Staker: name(n), ConsensusKey: key, Commission: commission, Bond: bond})
	}
	e.Start()
	if err := e.k.SetParams(e.Context(), p); err != nil {
		t.Fatal(err)
	}
	e.Finish()
	e.attempts(t, []attempt{
		{"good", e.validate(4, 100, npos.Billion), nil},
		{"another commission", e.validate(4, 0, 7), nil},
		{"keeping its key", raw(4, nil, 8, ""), nil},
		{"commission below the minimum", e.validate(4, 0, 6), ErrCommission},
		{"commission above all", e.validate(4, 0, npos.Billion+1), ErrCommission},
		{"below the minimum", e.validate(5, 99, 7), ErrMinimum},
		{"more than there is", e.validate(5, 10_001, 7), ErrFunds},
		{"without a key", raw(5, nil, 7, pha(100).String()), ErrKey},
		{"key of 31 bytes", raw(5, make([]byte, 31), 7, pha(100).String()), ErrKey},
		{"key of another", raw(5, consKey(1), 7, pha(100).String()), ErrKey},
		{"another key before it had a seat", raw(4, consKey(40), 7, ""), nil},
		{"its old key is free", raw(5, consKey(4), 7, pha(100).String()), nil},
		{"another key with a seat", raw(1, consKey(41), 7, ""), ErrKey},
		{"no room", e.validate(6, 100, 7), ErrFull},
		{"amount that is none", raw(6, consKey(6), 7, "x"), ErrAmount},
		{"no account", msg(e.k.Validate, &types.MsgValidate{Staker: "phala1x"}), ErrAddress},
		{"nominator", e.nominate(20, 100, 1), nil},
		{"nominator stands", e.validate(20, 100, 7), ErrRole},
	})
	if l := e.ledger(4); l.Role != roleCandidate || l.Commission != 7 || l.Active != pha(100) {
		t.Fatalf("%+v", l)
	}
}

// TestEvict: where there is no room, candidates below the minimum make it, one for each
// that comes.
func TestEvict(t *testing.T) {
	p := stay()
	p.MaxCandidates = 4
	e := started(t, p, 4)
	e.attempt(t, "no room", e.validate(7, 5000, 0), ErrFull)
	e.Block(e.bond(2, 1000), func(ctx sdk.Context) error {
		p.MinValidatorBond = pha(2000)
		return e.k.SetParams(ctx, p)
	})
	for _, n := range []int{7, 8, 9} { // in place of 1, 3 and 4
		e.attempt(t, "room", e.validate(n, 5000, 0), nil)
	}
	e.attempt(t, "no room again", e.validate(10, 5000, 0), ErrFull)
	if l := e.ledger(1); l.Role != roleNone || l.Active != pha(1000) || e.ledger(2).Role != roleCandidate {
		t.Fatalf("%+v", l)
	}
	if x := e.exposure(1, 1); x == nil {
		t.Fatal("the seat is gone before its era is")
	}
}

func TestChill(t *testing.T) {
	e := started(t, stay(), 3, func(e *env) []tx { return []tx{e.nominate(20, 100, 1)} })
	e.attempts(t, []attempt{
		{"nominator", e.chill(20), nil},
		{"again", e.chill(20), ErrNothing},
		{"candidate with a seat", e.chill(1), nil},
		{"who never bonded", e.chill(21), ErrNothing},
		{"no account", msg(e.k.Chill, &types.MsgChill{Staker: "?"}), ErrAddress},
	})
	if e.exposure(1, 1) == nil {
		t.Fatal("the seat is gone before its era is")
	}
}

func TestUnbondRebondWithdraw(t *testing.T) {
	e := started(t, quick(), 4, func(e *env) []tx { return []tx{e.nominate(20, 100, 1), e.bond(21, 100)} })
	raw := func(f func(context.Context, *types.MsgUnbond) (*types.MsgUnbondResponse, error), who, amount string) tx {
		return msg(f, &types.MsgUnbond{Staker: who, Amount: amount})
	}
	before := e.balance(account(21))
	e.attempts(t, []attempt{
		{"good", e.unbond(20, 40), nil},
		{"below what a nominator keeps", e.unbond(20, 51), ErrMinimum},
		{"more than is bonded", e.unbond(20, 61), ErrNotBonded},
		{"nothing", raw(e.k.Unbond, name(20), "0"), ErrAmount},
		{"who has no stake", e.unbond(22, 1), ErrNotBonded},
		{"no account", raw(e.k.Unbond, "", "1"), ErrAddress},
		{"all of who does nothing", e.unbond(21, 100), nil},
	})
	e.attempts(t, []attempt{
		{"before its time", e.withdraw(21), ErrNothing},
		{"who unbonds nothing", e.withdraw(22), ErrNotBonded},
	})
	e.attempts(t, []attempt{
		{"rebond more than unbonds", e.rebond(20, 41), ErrNotBonded},
		{"rebond", e.rebond(20, 15), nil},
		{"rebond nothing", msg(e.k.Rebond, &types.MsgRebond{Staker: name(20), Amount: "0"}), ErrAmount},
		{"rebond without stake", e.rebond(22, 1), ErrNotBonded},
		{"rebond below the minimum", e.rebond(21, 9), ErrMinimum},
	})
	if l := e.ledger(20); l.Active != pha(75) || !reflect.DeepEqual(l.Chunks, []chunk{{pha(25), 5}}) {
		t.Fatalf("%+v", l)
	}
	e.era(4)
	e.attempt(t, "one era early", e.withdraw(21), ErrNothing)
	e.era(5)
	e.attempt(t, "in time", e.withdraw(21), nil)
	if got := e.balance(account(21)).SaturatingSub(before); got != pha(100) {
		t.Fatalf("received %v", got)
	}
	if l, err := e.k.ledger(e.Context(), account(21)); l != nil || err != nil {
		t.Fatalf("a stake of nothing is kept: %+v, %v", l, err)
	}
	e.attempt(t, "again", e.withdraw(21), ErrNotBonded)
}

// TestChunks: what unbonds in one era is one amount; there are at most so many.
func TestChunks(t *testing.T) {
	p := quick()
	p.UnbondingEras, p.HistoryEras = 100, 101
	e := started(t, p, 2, func(e *env) []tx { return []tx{e.bond(20, 1000)} })
	for i := range maxChunks {
		e.attempt(t, "in a new era", e.unbond(20, 1), nil)
		e.attempt(t, "in the same era", e.unbond(20, 1), nil)
		if l := e.ledger(20); len(l.Chunks) != i+1 {
			t.Fatalf("%d amounts after %d eras", len(l.Chunks), i+1)
		}
		e.era(e.active() + 1)
	}
	e.attempts(t, []attempt{
		{"one too many", e.unbond(20, 1), ErrChunks},
		{"rebond takes the youngest", e.rebond(20, 3), nil},
		{"now there is room", e.unbond(20, 1), nil},
	})
}

// TestChunksStayInOrder: where governance has shortened the period, what unbonds later is
// not free before what began to unbond earlier.
func TestChunksStayInOrder(t *testing.T) {
	e := started(t, quick(), 2, func(e *env) []tx { return []tx{e.bond(20, 1000)} })
	e.attempt(t, "for three eras", e.unbond(20, 1), nil)
	p := quick()
	p.UnbondingEras, p.SlashDeferEras = 1, 0
	e.attempt(t, "governance", func(ctx sdk.Context) error { return e.k.SetParams(ctx, p) }, nil)
	e.attempt(t, "for one era", e.unbond(20, 2), nil)
	if l := e.ledger(20); !reflect.DeepEqual(l.Chunks, []chunk{{pha(3), 5}}) {
		t.Fatalf("%+v", l.Chunks)
	}
	e.era(3)
	e.attempt(t, "in a later era", e.unbond(20, 4), nil)
	e.era(4)
	e.attempt(t, "again", e.unbond(20, 5), nil)
	if l := e.ledger(20); !reflect.DeepEqual(l.Chunks, []chunk{{pha(7), 5}, {pha(5), 6}}) {
		t.Fatalf("%+v", l.Chunks)
	}
}

func TestPayout(t *testing.T) {
	p := quick()
	e := started(t, p, 3, func(e *env) []tx {
		return []tx{e.validate(2, 0, npos.Billion/10), e.nominate(20, 600, 2), e.nominate(21, 400, 2), e.nominate(22, 300, 1)}
	})
	raw := func(sender, validator string, era uint64) tx {
		return msg(e.k.Payout, &types.MsgPayout{Sender: sender, Validator: validator, Era: era})
	}
	e.offline[string(consOf(3))] = true
	e.era(2)
	n := e.active() - 1
	period, err := e.k.period(e.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	share, err := e.k.share(e.Context(), n, period, account(2))
	if err != nil || share.IsZero() {
		t.Fatal(share, err)
	}
	have := map[int]npos.U128{}
	for _, i := range []int{2, 20, 21, 22} {
		have[i] = e.balance(account(i))
	}
	e.attempts(t, []attempt{
		{"good", e.payout(2, n), nil},
		{"again", e.payout(2, n), ErrPaid},
		{"who earned nothing", e.payout(3, n), ErrNothing},
		{"an era that runs", e.payout(2, n+1), ErrEra},
		{"a future era", e.payout(2, n+100), ErrEra},
		{"era 0", e.payout(2, 0), ErrEra},
		{"who had no seat", e.payout(20, n), ErrNoSeat},
		{"no validator", raw(name(1), "x", n), ErrAddress},
		{"no sender", raw("x", name(2), n), ErrAddress},
	})
	// A tenth is commission; of the rest each has what it has of 2,000.
	part := func(of npos.U128, a, b uint64) npos.U128 { q, _ := npos.MulDiv(of, npos.U64(a), npos.U64(b)); return q }
	commission := part(share, 1, 10)
	rest := share.SaturatingSub(commission)
	x := e.exposure(n, 2)
	if x.Total != pha(2000) || x.Paid != 1 {
		t.Fatalf("%+v", x)
	}
	for i, want := range map[int]npos.U128{2: commission.SaturatingAdd(part(rest, 1000, 2000)), 20: part(rest, 600, 2000), 21: part(rest, 400, 2000), 22: {}} {
		if got := e.balance(account(i)).SaturatingSub(have[i]); got != want {
			t.Errorf("account %d received %v, want %v", i, got, want)
		}
	}
	e.era(n + p.HistoryEras)
	e.skip(5)
	e.attempt(t, "the last era that is kept", e.payout(1, n), nil)
	e.era(n + p.HistoryEras + 1)
	e.attempt(t, "an era that is forgotten", e.payout(1, n), ErrEra)
	e.skip(20)
	e.check()
	if x := e.exposure(n, 2); x != nil {
		t.Fatal("the old era is kept")
	}
}

// TestPayoutPages: a large exposure is paid page by page, each once.
func TestPayoutPages(t *testing.T) {
	p := quick()
	p.MaxElectingVoters, p.Seats = 1000, 1
	const crowd = 2*pageStakers + 5
	e := started(t, p, 1, func(e *env) (txs []tx) {
		for n := 100; n < 100+crowd; n++ {
			e.fund(account(n), pha(50))
			txs = append(txs, e.nominate(n, 50, 1))
		}
		return txs
	})
	e.era(2)
	x := e.exposure(1, 1)
	if x.pages() != 3 || x.Backers != crowd {
		t.Fatalf("%+v", x)
	}
	for page := range 3 {
		e.attempt(t, "page", e.payout(1, 1), nil)
		for n := 100; n < 100+crowd; n++ {
			if paid := !e.balance(account(n)).IsZero(); paid != (e.pageOf(1, 1, n) <= page) {
				t.Fatalf("after page %d, nominator %d of page %d is paid: %v", page, n, e.pageOf(1, 1, n), paid)
			}
		}
	}
	e.attempt(t, "a page too many", e.payout(1, 1), ErrPaid)
}

// pageOf is the page of an exposure that a nominator is in.
func (e *env) pageOf(era uint64, validator, n int) int {
	for page := uint32(0); ; page++ {
		list, err := e.k.page(e.Context(), era, account(validator), page)
		if err != nil || list == nil {
			e.t.Fatal("no such nominator", err)
		}
		for _, h := range list {
			if h.Staker.Equals(account(n)) {
				return int(page)
			}
		}
	}
}

func TestUpdateParams(t *testing.T) {
	e := started(t, stay(), 2)
	p := stay()
	p.Seats = 9
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	raw := func(sender, params string) tx {
		return msg(e.k.UpdateParams, &types.MsgUpdateParams{Authority: sender, Params: params})
	}
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	e.attempts(t, []attempt{
		{"governance", raw(authority, good), nil},
		{"anybody else", raw(name(1), good), ErrAuthority},
		{"nobody", raw("", good), ErrAuthority},
		{"no JSON", raw(authority, "{"), ErrParams},
		{"two values", raw(authority, good+good), ErrParams},
		{"unknown field", raw(authority, with(`"seats"`, `"chairs"`)), ErrParams},
		{"no seats", raw(authority, with(`"seats":9`, `"seats":0`)), ErrParams},
		{"too many seats", raw(authority, with(`"seats":9`, `"seats":301`)), ErrParams},
		{"short session", raw(authority, with(`"session_blocks":1000`, `"session_blocks":4`)), ErrParams},
		{"no session", raw(authority, with(`"sessions_per_era":2`, `"sessions_per_era":0`)), ErrParams},
		{"no unbonding", raw(authority, with(`"unbonding_eras":3`, `"unbonding_eras":0`)), ErrParams},
		{"slashes later than stakes leave", raw(authority, with(`"slash_defer_eras":1`, `"slash_defer_eras":3`)), ErrParams},
		{"history that slashing needs", raw(authority, with(`"history_eras":6`, `"history_eras":3`)), ErrParams},
		{"no least nomination", raw(authority, with(`"min_nominator_bond":"10000000000000"`, `"min_nominator_bond":"0"`)), ErrParams},
		{"a validator without power", raw(authority, with(`"min_validator_bond":"100000000000000"`, `"min_validator_bond":"999999999999"`)), ErrParams},
		{"commission above all", raw(authority, with(`"min_commission":0`, `"min_commission":1000000001`)), ErrParams},
		{"no candidates", raw(authority, with(`"max_candidates":20`, `"max_candidates":0`)), ErrParams},
		{"more candidates than a block bears", raw(authority, with(`"max_candidates":20`, `"max_candidates":1001`)), ErrParams},
		{"more voters than a block bears", raw(authority, with(`"max_electing_voters":22500`, `"max_electing_voters":22501`)), ErrParams},
		{"balancing without end", raw(authority, with(`"balancing_iterations":10`, `"balancing_iterations":101`)), ErrParams},
		{"eras that pay nothing", raw(authority, with(`"max_era_seconds":172800`, `"max_era_seconds":0`)), ErrParams},
		{"a curve that is none", raw(authority, with(`"falloff":50000000000000000`, `"falloff":0`)), ErrParams},
	})
	if p, err := e.k.Params(e.Context()); err != nil || p.Seats != 9 {
		t.Fatalf("%+v, %v", p, err)
	}
}

// TestStakingIsClosed: nobody but this module can give x/staking's validators power.
func TestStakingIsClosed(t *testing.T) {
	e := started(t, stay(), 2)
	supply := e.bank.GetSupply(e.Context(), PowerDenom)
	for n := 1; n <= 40; n++ {
		if b := e.bank.GetBalance(e.Context(), account(n), PowerDenom); !b.IsZero() {
			t.Fatalf("account %d has %s", n, b)
		}
	}
	v, err := e.staking.GetValidator(e.Context(), sdk.ValAddress(account(1)))
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	if _, err := e.Tx(func(ctx sdk.Context) error {
		_, err := e.staking.Delegate(ctx, account(20), integer(pha(1)), 1, v, true)
		return err
	}); err == nil {
		t.Fatal("a delegation was accepted")
	}
	e.Finish()
	if got := e.bank.GetSupply(e.Context(), PowerDenom); !got.Equal(supply) {
		t.Fatalf("supply %s, was %s", got, supply)
	}
	e.check()
}
