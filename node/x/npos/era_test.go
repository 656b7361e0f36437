package npos

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

// TestNominationsElect: seats follow the nominations, at the next era and not before.
func TestNominationsElect(t *testing.T) {
	p := quick()
	p.Seats = 2
	e := started(t, p, 4, func(e *env) []tx { return []tx{e.nominate(20, 900, 1, 2)} })
	if got := e.elected(); !slices.Equal(got, []int{1, 2}) {
		t.Fatalf("elected %v", got)
	}
	e.Block(e.nominate(20, 0, 3, 4))
	for e.active() == 1 {
		if got := e.elected(); !slices.Equal(got, []int{1, 2}) {
			t.Fatalf("elected %v before the era's end", got)
		}
		e.Block()
		e.check()
	}
	if got := e.elected(); !slices.Equal(got, []int{3, 4}) {
		t.Fatalf("elected %v", got)
	}
	// CometBFT has them from the second block on.
	if now, then := e.set(e.Height()+1), e.set(e.Height()+2); now[string(consOf(1))] == 0 || then[string(consOf(3))] != 1450 || then[string(consOf(1))] != 0 {
		t.Fatalf("sets %v, %v", now, then)
	}
	period, err := e.k.period(e.Context(), 2)
	if err != nil || period.Start != e.Height()+2 {
		t.Fatalf("%+v, %v", period, err)
	}
	// A validator that is back after x/staking forgot it.
	e.Block(e.nominate(20, 0, 1, 2))
	e.era(e.active() + 2)
	e.later += 2 * stakingUnbonding
	e.skip(3)
	if _, err := e.staking.GetValidator(e.Context(), sdk.ValAddress(account(3))); err == nil {
		t.Fatal("x/staking has not forgotten it")
	}
	e.Block(e.nominate(20, 0, 3, 4))
	e.era(e.active() + 2)
	if got := e.elected(); !slices.Equal(got, []int{3, 4}) {
		t.Fatalf("elected %v", got)
	}
	e.check()
}

// TestMaxElectingVoters: the largest vote.
func TestMaxElectingVoters(t *testing.T) {
	p := quick()
	p.MaxElectingVoters = 2
	e := started(t, p, 3, func(e *env) []tx {
		return []tx{e.nominate(20, 10, 1), e.nominate(21, 3000, 2), e.nominate(22, 40, 3), e.nominate(23, 500, 3)}
	})
	for v, want := range map[int]uint64{1: 1000, 2: 4000, 3: 1500} {
		if x := e.exposure(1, v); x.Total != pha(want) {
			t.Errorf("validator %d has %v", v, x.Total)
		}
	}
}

// TestNobodyStands: where nobody can be elected the era goes on, and stakes with it.
func TestNobodyStands(t *testing.T) {
	e := started(t, quick(), 3, func(e *env) []tx { return []tx{e.bond(20, 100)} })
	for n := 1; n <= 3; n++ {
		e.Block(e.chill(n))
	}
	e.Block(e.unbond(1, 1000), e.unbond(20, 100))
	failed := 0
	for range 40 {
		failed += len(testchain.Values(e.Block(), "npos_election_failed", "era"))
		e.check()
	}
	if e.active() != 1 || failed < 3 || len(e.set(e.Height())) != 3 {
		t.Fatalf("era %d, %d elections failed, %d validators sign", e.active(), failed, len(e.set(e.Height())))
	}
	e.attempt(t, "the era did not end", e.withdraw(20), ErrNothing)
	e.Block(e.validate(2, 0, 0))
	e.era(2)
	if got := e.elected(); !slices.Equal(got, []int{2}) {
		t.Fatalf("elected %v", got)
	}
	e.check()
}

// TestIssuance: an era issues what the curve says for its time and stake; the stakers'
// part and the fees are the era's, the rest is the treasury's.
func TestIssuance(t *testing.T) {
	for _, longest := range []uint64{1000, 4} { // seconds; an era takes ten
		p := quick()
		p.MaxEraSeconds = longest
		e := started(t, p, 4)
		e.Start()
		fees := coinsOf(denom, npos.U64(12345))
		e.Must(func(ctx sdk.Context) error {
			if err := e.bank.MintCoins(ctx, "faucet", fees); err != nil {
				return err
			}
			return e.bank.SendCoinsFromModuleToModule(ctx, "faucet", "fee_collector", fees)
		})
		e.Finish()
		supply, err := natural(e.bank.GetSupply(e.Context(), denom).Amount)
		if err != nil {
			t.Fatal(err)
		}
		treasury := e.treasury()
		e.era(2)
		first, err := e.k.period(e.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		second, err := e.k.period(e.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		millis := min(uint64(second.Time-first.Time), longest*1000)
		stakers, rest, err := p.curve().Issue(pha(4000), supply, millis)
		if err != nil {
			t.Fatal(err)
		}
		if first.Issued != stakers || first.Fees != npos.U64(12345) || e.treasury().SaturatingSub(treasury) != rest || stakers.IsZero() || rest.IsZero() {
			t.Errorf("issued %v and %v, fees %v; want %v and %v", first.Issued, e.treasury().SaturatingSub(treasury), first.Fees, stakers, rest)
		}
		now, err := natural(e.bank.GetSupply(e.Context(), denom).Amount)
		if err != nil || now != supply.SaturatingAdd(stakers).SaturatingAdd(rest) {
			t.Errorf("supply %v, was %v, %v", now, supply, err)
		}
	}
}

// TestKeyChange: a validator may change its key once the old one is not answered for.
func TestKeyChange(t *testing.T) {
	p := quick()
	p.Seats = 2
	e := started(t, p, 3, func(e *env) []tx { return []tx{e.nominate(20, 900, 1, 2)} })
	other := msg(e.k.Validate, &types.MsgValidate{Staker: name(1), ConsensusKey: consKey(30)})
	e.attempt(t, "with a seat", other, ErrKey)
	e.Block(e.chill(1))
	e.era(5)
	e.attempt(t, "when x/staking has not forgotten it", other, ErrKey)
	e.later += 2 * stakingUnbonding
	e.skip(3)
	e.attempt(t, "after that", msg(e.k.Validate, &types.MsgValidate{Staker: name(1), ConsensusKey: consKey(30), Bond: pha(3000).String()}), nil)
	e.era(e.active() + 2)
	if x := e.exposure(e.active(), 1); x == nil || !bytes.Equal(x.Cons[:], consOf(30)) {
		t.Fatalf("%+v", x)
	}
	if s := e.set(e.Height() + 2); s[string(consOf(30))] != 4000 {
		t.Fatalf("CometBFT has %v", s)
	}
	e.check()
}

// TestKeyAnsweredFor: an operator does not exchange a key while it can be reported for
// what that signed, or may be about to sign; x/staking, which has forgotten it or does not
// know it yet, would not mind.
func TestKeyAnsweredFor(t *testing.T) {
	p := quick()
	p.Seats = 2
	e := started(t, p, 3, func(e *env) []tx { return []tx{e.nominate(20, 900, 1, 2)} })
	other := func(n int) tx {
		return msg(e.k.Validate, &types.MsgValidate{Staker: name(n), ConsensusKey: consKey(20 + n), Bond: pha(500).String()})
	}
	e.attempt(t, "stands", e.validate(10, 100, 0), nil)
	e.Block(e.chill(1))
	for e.phase() != phaseSnapshot {
		e.Block()
	}
	e.attempt(t, "when its key is in a snapshot", other(10), ErrKey)
	e.era(3)
	e.later += 2 * stakingUnbonding
	e.skip(2)
	if _, err := e.staking.GetValidator(e.Context(), sdk.ValAddress(account(1))); !stakingtypes.ErrNoValidatorFound.Is(err) {
		t.Fatalf("x/staking keeps it: %v", err)
	}
	e.attempt(t, "when it is answered for", other(1), ErrKey)
	e.era(5)
	e.attempt(t, "after that", other(1), nil)
}

// TestKeyKept: who loses all its stake for what it just signed keeps the key.
func TestKeyKept(t *testing.T) {
	p := quick()
	p.Seats = 3
	e := started(t, p, 3)
	e.Block(e.bond(1, 50), e.unbond(1, 50)) // nobody stands with it
	e.era(4)
	e.skip(3)
	e.report(e.Height(), 1) // one of three is a third: all is lost
	e.era(6)
	e.later += 2 * stakingUnbonding // x/staking forgets it
	e.skip(2)
	e.attempt(t, "withdraws", e.withdraw(1), nil)
	e.attempt(t, "another uses the key", msg(e.k.Validate, &types.MsgValidate{Staker: name(11), ConsensusKey: consKey(1), Bond: pha(500).String()}), ErrKey)
	e.attempt(t, "stands again with it", e.validate(1, 500, 0), nil)
}

// TestLeave: an operator that takes all its stake away frees its key.
func TestLeave(t *testing.T) {
	e := started(t, quick(), 3)
	e.attempt(t, "stands", e.validate(10, 100, 0), nil)
	e.attempt(t, "chills before an election", e.chill(10), nil)
	e.attempt(t, "unbonds", e.unbond(10, 100), nil)
	e.era(5)
	e.attempt(t, "withdraws", e.withdraw(10), nil)
	e.attempt(t, "another uses the key", msg(e.k.Validate, &types.MsgValidate{Staker: name(11), ConsensusKey: consKey(10), Bond: pha(100).String()}), nil)
}

// TestSlashedToNothing: an operator that lost all its stake, and withdraws what it had
// besides, gives its key up and its candidacy with it. Else its next bond would bring a
// candidate without a key into the election, which no node survives.
func TestSlashedToNothing(t *testing.T) {
	p := quick()
	p.Seats = 3
	e := started(t, p, 3)
	e.Block(e.bond(1, 50), e.unbond(1, 50)) // nobody stands with it
	e.report(e.Height(), 1)                 // one of three is a third: all is lost
	e.era(10)
	if l := e.ledger(1); !l.Active.IsZero() || l.total() != pha(50) || l.Role != roleCandidate {
		t.Fatalf("%+v", l)
	}
	e.later += 2 * stakingUnbonding // x/staking forgets it
	e.skip(2)
	e.attempt(t, "withdraws", e.withdraw(1), nil)
	e.attempt(t, "bonds again", e.bond(1, 500), nil)
	if l := e.ledger(1); l.Role != roleNone || l.Active != pha(500) {
		t.Fatalf("%+v", l)
	}
	e.era(12)
	e.attempt(t, "another uses the key", msg(e.k.Validate, &types.MsgValidate{Staker: name(11), ConsensusKey: consKey(1), Bond: pha(500).String()}), nil)
	e.attempt(t, "stands again", msg(e.k.Validate, &types.MsgValidate{Staker: name(1), ConsensusKey: consKey(30), Bond: pha(600).String()}), nil)
	e.era(14)
	if now := e.elected(); !slices.Contains(now, 1) {
		t.Fatalf("elected are %v", now)
	}
	e.check()
}

// TestQueries: what a client sees is what the chain does: from Voters and Validators
// it elects whom the chain elects.
func TestQueries(t *testing.T) {
	p := quick()
	p.Seats, p.SlashDeferEras = 3, 2
	e := started(t, p, 6)
	rng := rand.New(rand.NewPCG(1, 9))
	for n := 10; n < 40; n++ {
		e.Block(e.nominate(n, 10+rng.Uint64N(900), 1+rng.IntN(3), 4+rng.IntN(3)))
	}
	e.Block(e.unbond(10, 0+1), e.chill(6))
	q := queries{e.k}
	ctx := e.Context()
	vals, err := q.Validators(ctx, &types.QueryValidatorsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range vals.Validators {
		if v.Candidate {
			names = append(names, v.Operator)
		}
	}
	var ballots []npos.Ballot[string]
	var cursor []byte
	for pages := 1; ; pages++ {
		r, err := q.Voters(ctx, &types.QueryVotersRequest{Cursor: cursor, Limit: 7})
		if err != nil || len(r.Voters) > 7 {
			t.Fatal(len(r.Voters), err)
		}
		for _, v := range r.Voters {
			stake, err := npos.ParseU128(v.Amount)
			if err != nil {
				t.Fatal(err)
			}
			ballots = append(ballots, npos.Ballot[string]{Voter: v.Staker, Stake: stake, Approvals: v.Targets})
		}
		if cursor = r.Cursor; cursor == nil {
			if pages < 5 || len(ballots) != 35 {
				t.Fatalf("%d voters in %d pages", len(ballots), pages)
			}
			break
		}
	}
	in, err := npos.Setup(names, ballots)
	if err != nil {
		t.Fatal(err)
	}
	want, err := npos.SeqPhragmen(in, int(p.Seats), npos.Balancing{Iterations: int(p.BalancingIterations)})
	if err != nil {
		t.Fatal(err)
	}
	e.era(e.active() + 2)
	ctx = e.Context()
	for _, w := range want.Winners {
		r, err := q.Exposure(ctx, &types.QueryExposureRequest{Validator: names[w.Candidate]})
		if err != nil || r.Total != w.Backing.String() {
			t.Errorf("%s has %v, %v; elected with %v", names[w.Candidate], r, err, w.Backing)
		}
	}
	info, err := q.Era(ctx, &types.QueryEraRequest{})
	if err != nil || info.Era != e.active() || info.Seats != 3 || info.Candidates != 5 || info.Nominators != 30 || info.Phase != "idle" || info.TotalBonded == "0" {
		t.Fatalf("%+v, %v", info, err)
	}
	past, err := q.Era(ctx, &types.QueryEraRequest{Era: e.active() - 1})
	if err != nil || past.Issued == "0" || past.Points == 0 || past.Phase != "" {
		t.Fatalf("%+v, %v", past, err)
	}
	s, err := q.Staker(ctx, &types.QueryStakerRequest{Staker: name(10)})
	if err != nil || s.Role != "nominator" || len(s.Unbonding) != 1 || len(s.Targets) != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	var backed npos.U128
	for _, b := range s.Backing {
		a, err := npos.ParseU128(b.Amount)
		if err != nil {
			t.Fatal(err)
		}
		backed = backed.SaturatingAdd(a)
	}
	if !backed.IsZero() && backed.String() != s.Bonded {
		t.Fatalf("backs with %v of %s", backed, s.Bonded)
	}
	if none, err := q.Staker(ctx, &types.QueryStakerRequest{Staker: name(99)}); err != nil || none.Role != "none" || none.Bonded != "0" {
		t.Fatalf("%+v, %v", none, err)
	}
	e.report(e.Height(), e.elected()[0])
	if sl, err := q.Slashes(e.Context(), &types.QuerySlashesRequest{}); err != nil || len(sl.Slashes) != 1 || !sl.Slashes[0].Computed || sl.Slashes[0].Fraction != npos.Billion {
		t.Fatalf("%+v, %v", sl, err)
	}
	if r, err := q.Params(ctx, &types.QueryParamsRequest{}); err != nil {
		t.Fatal(err)
	} else if back, err := ParseParams([]byte(r.Params)); err != nil || back != p {
		t.Fatalf("%+v, %v", back, err)
	}
	for what, err := range map[string]error{
		"era to come":     second(q.Era(ctx, &types.QueryEraRequest{Era: 1000})),
		"seats to come":   second(q.Validators(ctx, &types.QueryValidatorsRequest{Era: 1000})),
		"not a validator": second(q.Exposure(ctx, &types.QueryExposureRequest{Validator: name(10)})),
		"no account":      second(q.Staker(ctx, &types.QueryStakerRequest{Staker: "x"})),
	} {
		if err == nil {
			t.Errorf("%s: answered", what)
		}
	}
}

// TestQueryWhileForgotten: an era that is being forgotten is answered or refused.
func TestQueryWhileForgotten(t *testing.T) {
	e := nominated(t, quick())
	answered, refused := 0, 0
	for range 120 {
		e.Block()
		for n := uint64(1); n <= e.active(); n++ {
			_, err := queries{e.k}.Validators(e.Context(), &types.QueryValidatorsRequest{Era: n})
			if err == nil {
				answered++
			} else if refused++; !errors.Is(err, ErrEra) {
				t.Fatal(err)
			}
		}
	}
	if answered == 0 || refused == 0 {
		t.Fatalf("%d answered, %d refused", answered, refused)
	}
}

func second[T any](_ T, err error) error { return err }
