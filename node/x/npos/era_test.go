package npos

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/node/x/internal/kv"
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

// script is a run in which things happen while elections go on; f is called before
// each block.
func script(t *testing.T, f func(e *env)) *env {
	e := started(t, quick(), 6, func(e *env) []tx { return []tx{e.nominate(20, 800, 1, 2), e.nominate(21, 500, 3, 4, 5)} })
	rng := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		f(e)
		var txs []tx
		if n := 20 + rng.IntN(20); rng.IntN(2) == 0 {
			txs = append(txs, e.nominate(n, 10+rng.Uint64N(100), 1+rng.IntN(6)))
		}
		e.Block(txs...)
	}
	return e
}

// TestRestart: a node that restarts before any block, in the midst of an election too,
// and a node that executes each block twice, have the state of one that did not.
func TestRestart(t *testing.T) {
	want := script(t, func(*env) {})
	for _, c := range []struct {
		name   string
		before func(*env)
	}{
		{"restarts before each block", func(e *env) { e.k.runs.run = nil }},
		{"executes each block twice", func(e *env) {
			e.Start()
			if err := e.k.EndBlock(e.Context()); err != nil {
				t.Fatal(err)
			}
			e.Abandon()
		}},
	} {
		got := script(t, c.before)
		if !bytes.Equal(got.MS.LastCommitID().Hash, want.MS.LastCommitID().Hash) || got.active() < 6 {
			t.Errorf("a node that %s differs at height %d", c.name, got.Height())
		}
	}
}

// TestParamsChangeDuringElection: an election keeps the parameters that it began with,
// whenever governance changes them, and a node that restarted elects the same. Nothing
// else changes, so that each snapshot has the candidates and voters of the one before.
func TestParamsChangeDuringElection(t *testing.T) {
	for phase := range uint8(phaseReady + 1) {
		t.Run(phaseNames[phase], func(t *testing.T) {
			run := func(restarts bool) *env {
				e := started(t, quick(), 8, func(e *env) []tx { return []tx{e.nominate(20, 800, 1, 2), e.nominate(21, 500, 3, 4, 5)} })
				block := func(txs ...tx) {
					if restarts {
						e.k.runs.run = nil
					}
					e.Block(txs...)
				}
				for e.active() < 3 || e.phase() != phase {
					block()
				}
				now := e.active()
				block(func(ctx sdk.Context) error {
					p, err := e.k.Params(ctx)
					p.Seats, p.BalancingIterations, p.MaxElectingVoters = 7, 0, 1
					return errors.Join(err, e.k.SetParams(ctx, p))
				})
				for n := now + 1; n <= now+3; n++ {
					for e.active() < n {
						block()
						e.check()
					}
					want := 7
					if n == now+1 && phase != phaseIdle { // which had begun
						want = 4
					}
					if got := e.elected(); len(got) != want {
						t.Errorf("era %d elected %v, not %d", n, got, want)
					}
				}
				if e.k.runs.run != nil {
					t.Error("an election that is over stays in memory")
				}
				return e
			}
			if a, b := run(false), run(true); !bytes.Equal(a.MS.LastCommitID().Hash, b.MS.LastCommitID().Hash) {
				t.Errorf("a node that restarted differs at height %d", a.Height())
			}
		})
	}
}

// TestFailedStep: a step that fails does so again when a block is executed again.
func TestFailedStep(t *testing.T) {
	fresh := func() (*run, error) {
		in, err := npos.NewInstance(1, []npos.U128{pha(5)}, [][]uint32{{0}})
		if err != nil {
			return nil, err
		}
		e := npos.NewElection(in, 1, npos.Balancing{})
		e.Step(1 << 20)
		r, err := e.Result()
		if err != nil {
			return nil, err
		}
		r.Assignments = append(r.Assignments, r.Assignments...) // which no election gives
		return &run{election: e}, nil
	}
	var c runCache
	for range 3 {
		if done, err := c.reached([32]byte{}, 2, fresh); done || !errors.Is(err, npos.CodeDuplicateVoter) {
			t.Fatalf("done %v, %v", done, err)
		}
	}
}

// TestStakeCountsOnce: who stands in a snapshot and then becomes a nominator has one
// vote, wherever the snapshot's reading has come to.
func TestStakeCountsOnce(t *testing.T) {
	p := quick()
	p.SessionBlocks = 20
	const crowd = votersPerBlock + 20 // so that the snapshot takes two blocks
	for blocks := range 2 {
		e := started(t, p, 6, func(e *env) (txs []tx) {
			for n := 100; n < 100+crowd; n++ {
				e.fund(account(n), pha(100))
				txs = append(txs, e.nominate(n, 20, 2))
			}
			return txs
		})
		e.Block(e.validate(7, 1000, 0), e.bond(1, 2000))
		for e.phase() != phaseSnapshot {
			e.Block()
		}
		e.skip(blocks)
		if e.phase() != phaseSnapshot {
			t.Fatal("the snapshot is complete")
		}
		e.Block(e.chill(1), e.nominate(1, 0, 7))
		e.era(2)
		var all npos.U128
		for _, v := range e.elected() {
			list, err := e.k.page(e.Context(), 2, account(v), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range append(list, share{account(v), e.exposure(2, v).Own}) {
				if h.Staker.Equals(account(1)) {
					all = all.SaturatingAdd(h.Amount)
				}
			}
		}
		if all != pha(3000) {
			t.Errorf("a stake of %v stands with %v", pha(3000), all)
		}
		e.check()
	}
}

// TestSnapshotWhileTheListChanges: nominators who change their stake while the list is
// read over several blocks are in the snapshot once each.
func TestSnapshotWhileTheListChanges(t *testing.T) {
	const crowd = 3*votersPerBlock - 50
	p := quick()
	p.SessionBlocks = 30
	e := started(t, p, 3, func(e *env) (txs []tx) {
		for n := 100; n < 100+crowd; n++ {
			e.fund(account(n), pha(1000))
			txs = append(txs, e.nominate(n, 20+uint64(n%7)*10, 1+n%3))
		}
		return txs
	})
	rng := rand.New(rand.NewPCG(3, 3))
	phase := func() uint8 {
		x, err := e.k.progress(e.Context())
		if err != nil {
			t.Fatal(err)
		}
		return x.Phase
	}
	for phase() != phaseSnapshot {
		e.Block()
	}
	moved := 0
	for phase() == phaseSnapshot {
		var txs []tx
		for range 100 {
			n := 100 + rng.IntN(crowd)
			switch rng.IntN(3) {
			case 0:
				txs = append(txs, e.bond(n, 1+rng.Uint64N(50)))
			case 1:
				if l := e.ledger(n); pha(30).Less(l.Active) {
					txs = append(txs, func(ctx sdk.Context) error {
						_, err := e.k.Unbond(ctx, &types.MsgUnbond{Staker: name(n), Amount: "1000000000000"})
						if ErrMinimum.Is(err) {
							return nil
						}
						return err
					})
				}
			case 2: // out of the list and into it again
				txs = append(txs, e.chill(n), e.nominate(n, 0, 2))
			}
		}
		moved += len(txs)
		e.Block(txs...)
		e.check()
	}
	seen := map[string]int{}
	for _, prefix := range []string{prefixVoters, prefixExtra} {
		err := kv.Each(e.k.kv(e.Context()), []byte(prefix), func(_, b []byte) (bool, error) {
			list, err := parseVoters(b)
			for _, v := range list {
				seen[string(v.Staker)]++
			}
			return true, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := 100; n < 100+crowd; n++ {
		if seen[string(account(n))] != 1 {
			t.Errorf("nominator %d is in the snapshot %d times", n, seen[string(account(n))])
		}
	}
	if len(seen) != crowd || moved < 200 {
		t.Fatalf("%d voters of %d, %d transactions", len(seen), crowd, moved)
	}
	e.era(2)
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

// TestGenesisRoundTrip: an export in any phase of an election begins a chain that has
// the same state, and still has it two eras later.
func TestGenesisRoundTrip(t *testing.T) {
	stores := []string{authtypes.StoreKey, banktypes.StoreKey, stakingtypes.StoreKey, slashingtypes.StoreKey, distrtypes.StoreKey, evidencetypes.StoreKey, ModuleName}
	next := func(e *env) { // a block in which what happens depends on the height alone
		h := int(e.Height())
		if h%9 == 3 {
			e.accuse = append(e.accuse, accusation{consOf(1 + h%4), uint64(h - 1)})
		}
		e.Start()
		for _, f := range []tx{e.nominate(22+h%10, 100, 1+h%4), e.payout(1+h%4, uint64(h/10)), e.unbond(20, 1), e.bond(1+h%4, 300)} {
			_, _ = e.Tx(f) // some are refused, on each chain alike
		}
		e.Finish()
	}
	e := nominated(t, quick())
	const phases, eras = 5, 20 // blocks of two
	exported, others := map[uint8]bool{}, []*env{}
	for blocks := 0; len(exported) < phases || blocks < eras; blocks++ {
		next(e)
		for _, other := range others {
			next(other)
			for _, name := range stores {
				if !reflect.DeepEqual(other.Dump(name), e.Dump(name)) {
					t.Fatalf("height %d: store %s of a chain that began from an export differs", e.Height(), name)
				}
			}
			other.check()
		}
		if exported[e.phase()] {
			continue
		}
		exported[e.phase()], blocks = true, 0
		first := Module{e.k}.ExportGenesis(e.Context(), nil)
		if err := (Module{}).ValidateGenesis(nil, nil, first); err != nil {
			t.Fatal(err)
		}
		others = append(others, e.imported(first, stores))
	}
}

// imported is a chain at the height of e, with the state of an export and of other
// modules as they are in e.
func (e *env) imported(export []byte, stores []string) *env {
	e.t.Helper()
	other := newEnv(e.t, quick())
	for other.Height() < e.Height() {
		other.Block()
	}
	ctx := other.Context()
	for _, name := range stores {
		to := ctx.KVStore(other.Key(name))
		for k := range other.Dump(name) {
			to.Delete(unhex(e.t, k))
		}
		if name == ModuleName {
			continue
		}
		for k, v := range e.Dump(name) {
			to.Set(unhex(e.t, k), unhex(e.t, v))
		}
	}
	Module{other.k}.InitGenesis(ctx, nil, export)
	if second := (Module{other.k}).ExportGenesis(ctx, nil); !bytes.Equal(export, second) {
		e.t.Fatalf("height %d: another export", e.Height())
	}
	ctx.MultiStore().(storetypes.CacheMultiStore).Write()
	other.sets = maps.Clone(e.sets)
	return other
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestGenesisRefused(t *testing.T) {
	good := string(Module{}.DefaultGenesis(nil))
	if err := (Module{}).ValidateGenesis(nil, nil, []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"{", good + good, `{"params":{}}`, `{"parms":{}}`} {
		if err := (Module{}).ValidateGenesis(nil, nil, []byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
	// A chain without a candidate does not begin.
	e := newEnv(t, quick())
	if _, err := (GenesisStaking{e.staking, e.k}).ApplyAndReturnValidatorSetUpdates(e.Context()); !errors.Is(err, ErrNoSeat) {
		t.Fatal(err)
	}
	for _, msgs := range [][]sdk.Msg{nil, {&types.MsgChill{}}, {&types.MsgValidate{}, &types.MsgValidate{}}} {
		if ValidateGenesisTx(msgs) == nil {
			t.Errorf("accepted %v", msgs)
		}
	}
	if err := ValidateGenesisTx([]sdk.Msg{&types.MsgValidate{}}); err != nil {
		t.Fatal(err)
	}
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
