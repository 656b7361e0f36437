package npos

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"cosmossdk.io/core/comet"
	"cosmossdk.io/log/v2"
	"cosmossdk.io/math"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/codec/address"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/crypto/keys/ed25519"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/std"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	distrkeeper "github.com/cosmos/cosmos-sdk/x/distribution/keeper"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	evidencekeeper "github.com/cosmos/cosmos-sdk/x/evidence/keeper"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	"github.com/cosmos/cosmos-sdk/x/slashing"
	slashingkeeper "github.com/cosmos/cosmos-sdk/x/slashing/keeper"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	prefix "github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

func init() {
	c := sdk.GetConfig()
	c.SetBech32PrefixForValidator(prefix.HRP+"valoper", prefix.HRP+"valoperpub")
	c.SetBech32PrefixForConsensusNode(prefix.HRP+"valcons", prefix.HRP+"valconspub")
	sdk.DefaultPowerReduction = math.NewInt(powerUnit)
}

const denom = "ppha"

var authority = testchain.Account(99).String()

// env is the module with the real modules around it, and CometBFT's part: validators
// sign as the updates say, two blocks after them.
type env struct {
	*testchain.Chain
	t        testing.TB
	k        *Keeper
	accounts authkeeper.AccountKeeper
	bank     bankkeeper.BaseKeeper
	staking  *stakingkeeper.Keeper
	slashing slashingkeeper.Keeper
	evidence *evidencekeeper.Keeper
	distr    distrkeeper.Keeper

	sets    map[uint64]map[string]int64 // height: consensus address: power
	offline map[string]bool             // consensus addresses that do not sign
	accuse  []accusation                // reports for the next block
	later   time.Duration               // what blocks' ends are ahead of a second a block
	// losses is what slashes took of each staker, and in which era; tests only, not
	// benchmarks, which have too many stakers.
	losses map[string][]chunk
}

type accusation struct {
	cons   []byte
	height uint64
}

// quick are parameters with short eras: of 10 blocks, the election in the last five.
func quick() Params {
	p := DefaultParams()
	p.Seats, p.SessionBlocks, p.SessionsPerEra = 4, 5, 2
	p.UnbondingEras, p.SlashDeferEras, p.HistoryEras = 3, 1, 6
	p.MinNominatorBond, p.MinValidatorBond, p.MaxCandidates = pha(10), pha(100), 20
	return p
}

func newEnv(t testing.TB, p Params) *env {
	t.Helper()
	stores := []string{authtypes.StoreKey, banktypes.StoreKey, stakingtypes.StoreKey, slashingtypes.StoreKey, distrtypes.StoreKey, evidencetypes.StoreKey, ModuleName}
	c := testchain.New(t, stores, nil)
	e := &env{Chain: c, t: t, sets: map[uint64]map[string]int64{}, offline: map[string]bool{}}
	if _, test := t.(*testing.T); test {
		e.losses = map[string][]chunk{}
	}
	registry := codectypes.NewInterfaceRegistry()
	std.RegisterInterfaces(registry)
	authtypes.RegisterInterfaces(registry)
	evidencetypes.RegisterInterfaces(registry)
	cdc, amino := codec.NewProtoCodec(registry), codec.NewLegacyAmino()
	acc, val, cons := address.NewBech32Codec(prefix.HRP), address.NewBech32Codec(prefix.HRP+"valoper"), address.NewBech32Codec(prefix.HRP+"valcons")
	perms := map[string][]string{authtypes.FeeCollectorName: nil, distrtypes.ModuleName: nil, ModuleName: {authtypes.Minter}, RewardsName: {authtypes.Minter}, "faucet": {authtypes.Minter},
		stakingtypes.BondedPoolName: {authtypes.Burner, authtypes.Staking}, stakingtypes.NotBondedPoolName: {authtypes.Burner, authtypes.Staking},
		stakingtypes.KeyRotationFeePoolName: {authtypes.Burner}}
	self := authtypes.NewModuleAddress(ModuleName).String()
	e.accounts = authkeeper.NewAccountKeeper(cdc, c.Store(authtypes.StoreKey), authtypes.ProtoBaseAccount, perms, acc, prefix.HRP, authority)
	e.bank = bankkeeper.NewBaseKeeper(cdc, c.Store(banktypes.StoreKey), e.accounts, nil, authority, log.NewNopLogger())
	e.staking = stakingkeeper.NewKeeper(cdc, c.Store(stakingtypes.StoreKey), e.accounts, e.bank, self, val, cons)
	e.distr = distrkeeper.NewKeeper(cdc, c.Store(distrtypes.StoreKey), e.accounts, e.bank, e.staking, authtypes.FeeCollectorName, authority)
	e.k = NewKeeper(c.Store(ModuleName), e.accounts, e.bank, e.distr, e.staking, authtypes.FeeCollectorName, denom, authority)
	e.slashing = slashingkeeper.NewKeeper(cdc, amino, c.Store(slashingtypes.StoreKey), SlashingView{e.staking, e.k}, authority)
	e.staking.SetHooks(stakingtypes.NewMultiStakingHooks(e.slashing.Hooks()))
	e.evidence = evidencekeeper.NewKeeper(cdc, c.Store(evidencetypes.StoreKey), EvidenceStaking{e.staking, e.k}, EvidenceSlashing{e.k}, acc, runtime.ProvideCometInfoService())

	ctx := c.Context()
	slash := slashingtypes.DefaultParams()
	slash.SignedBlocksWindow = 6
	if err := errors.Join(e.staking.SetParams(ctx, StakingParams()), e.slashing.SetParams(ctx, slash), e.k.SetParams(ctx, p),
		e.accounts.Params.Set(ctx, authtypes.DefaultParams()), e.bank.SetParams(ctx, banktypes.DefaultParams()),
		e.distr.FeePool.Set(ctx, distrtypes.InitialFeePool()), e.distr.Params.Set(ctx, distrtypes.DefaultParams())); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(perms)) { // account numbers are state
		e.accounts.GetModuleAccount(ctx, name)
	}
	ctx.MultiStore().(storetypes.CacheMultiStore).Write()
	c.Begin = append(c.Begin, e.begin)
	c.End = append(c.End, e.end)
	return e
}

// begin is what happens before a block's transactions, in the application's order.
func (e *env) begin(ctx sdk.Context) error {
	var votes []abci.VoteInfo
	set := e.set(e.Height() - 1)
	for _, cons := range slices.Sorted(maps.Keys(set)) {
		flag := cmtproto.BlockIDFlagCommit
		if e.offline[cons] {
			flag = cmtproto.BlockIDFlagAbsent
		}
		votes = append(votes, abci.VoteInfo{Validator: abci.Validator{Address: []byte(cons), Power: set[cons]}, BlockIdFlag: flag})
	}
	info := blockInfo{}
	for _, a := range e.accuse {
		info.evidence = append(info.evidence, a)
	}
	e.accuse = nil
	ctx = ctx.WithVoteInfos(votes).WithCometInfo(info)
	return errors.Join(e.k.BeginBlock(ctx), slashing.BeginBlocker(ctx, e.slashing), e.evidence.BeginBlocker(ctx))
}

func (e *env) end(ctx sdk.Context) error {
	ctx = ctx.WithBlockTime(ctx.BlockTime().Add(e.later))
	if e.losses == nil {
		if err := e.k.EndBlock(ctx); err != nil {
			return err
		}
	} else if err := e.watched(ctx); err != nil {
		return err
	}
	updates, err := e.staking.EndBlocker(ctx)
	e.apply(updates)
	return err
}

// watched is EndBlock, which takes of a stake what a slash says and nothing else.
func (e *env) watched(ctx sdk.Context) error {
	before, err := e.totals(ctx)
	if err != nil {
		return err
	}
	active, err := e.k.Active(ctx)
	if err != nil {
		return err
	}
	if err := e.k.EndBlock(ctx); err != nil {
		return err
	}
	after, err := e.totals(ctx)
	for who, had := range before {
		if lost := had.SaturatingSub(after[who]); !lost.IsZero() {
			e.losses[who] = append(e.losses[who], chunk{lost, active})
		}
	}
	return err
}

// set is who signs a height: the last one known at or before it.
func (e *env) set(h uint64) map[string]int64 {
	for ; h > 0; h-- {
		if s, ok := e.sets[h]; ok {
			return s
		}
	}
	return nil
}

// apply makes updates of the block that ends good for the next but one.
func (e *env) apply(updates []abci.ValidatorUpdate) {
	h := e.Height() + 2
	next := map[string]int64{}
	for cons, power := range e.set(h) {
		next[cons] = power
	}
	for _, u := range updates {
		cons := string(consAddress(u.PubKey.GetEd25519()))
		if u.Power == 0 {
			if _, ok := next[cons]; !ok {
				e.t.Fatalf("height %d: CometBFT does not know a validator that is removed", e.Height())
			}
			delete(next, cons)
			continue
		}
		next[cons] = u.Power
	}
	if len(next) == 0 && len(updates) > 0 {
		e.t.Fatalf("height %d: no validator is left", e.Height())
	}
	e.sets[h] = next
	delete(e.sets, h-20)
}

// blockInfo gives x/evidence the reports of a block.
type blockInfo struct{ evidence []accusation }

func (b blockInfo) GetEvidence() comet.EvidenceList { return b }
func (b blockInfo) GetValidatorsHash() []byte       { return nil }
func (b blockInfo) GetProposerAddress() []byte      { return nil }
func (b blockInfo) GetLastCommit() comet.CommitInfo { return nil }
func (b blockInfo) Len() int                        { return len(b.evidence) }
func (b blockInfo) Get(i int) comet.Evidence        { return misbehaviour{b.evidence[i]} }

type misbehaviour struct{ accusation }

func (m misbehaviour) Type() comet.MisbehaviorType { return comet.DuplicateVote }
func (m misbehaviour) Validator() comet.Validator  { return m }
func (m misbehaviour) Address() []byte             { return m.cons }
func (m misbehaviour) Power() int64                { return 1 }
func (m misbehaviour) Height() int64               { return int64(m.height) }
func (m misbehaviour) Time() time.Time             { return testchain.TimeAt(m.height) }
func (m misbehaviour) TotalVotingPower() int64     { return 1 }

// fund gives an account money.
func (e *env) fund(who sdk.AccAddress, amount npos.U128) {
	e.t.Helper()
	c := coinsOf(denom, amount)
	if err := errors.Join(e.bank.MintCoins(e.Context(), "faucet", c), e.bank.SendCoinsFromModuleToAccount(e.Context(), "faucet", who, c)); err != nil {
		e.t.Fatal(err)
	}
}

// account is that of testchain, made once: deriving keys takes time. Tests of the
// package do not run in parallel.
func account(n int) sdk.AccAddress {
	a, ok := known[n]
	if !ok {
		a = testchain.Account(n)
		known[n] = a
	}
	return a
}

var known = map[int]sdk.AccAddress{}

func name(n int) string { return account(n).String() }

// consKey is the consensus key of validator n.
func consKey(n int) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "consensus %d", n))
	return ed25519.GenPrivKeyFromSecret(h[:]).PubKey().Bytes()
}

func consOf(n int) []byte { return consAddress(consKey(n)) }

// The messages, as functions of a transaction.
type tx = func(sdk.Context) error

func msg[M, R any](f func(context.Context, M) (R, error), m M) tx {
	return func(ctx sdk.Context) error { _, err := f(ctx, m); return err }
}

func (e *env) bond(n int, a uint64) tx {
	return msg(e.k.Bond, &types.MsgBond{Staker: name(n), Amount: pha(a).String()})
}

func (e *env) unbond(n int, a uint64) tx {
	return msg(e.k.Unbond, &types.MsgUnbond{Staker: name(n), Amount: pha(a).String()})
}

func (e *env) rebond(n int, a uint64) tx {
	return msg(e.k.Rebond, &types.MsgRebond{Staker: name(n), Amount: pha(a).String()})
}

func (e *env) withdraw(n int) tx { return msg(e.k.Withdraw, &types.MsgWithdraw{Staker: name(n)}) }
func (e *env) chill(n int) tx    { return msg(e.k.Chill, &types.MsgChill{Staker: name(n)}) }

func (e *env) validate(n int, bond uint64, commission uint32) tx {
	m := &types.MsgValidate{Staker: name(n), ConsensusKey: consKey(n), Commission: commission}
	if bond > 0 {
		m.Bond = pha(bond).String()
	}
	return msg(e.k.Validate, m)
}

func (e *env) nominate(n int, bond uint64, targets ...int) tx {
	m := &types.MsgNominate{Staker: name(n)}
	if bond > 0 {
		m.Bond = pha(bond).String()
	}
	for _, t := range targets {
		m.Targets = append(m.Targets, name(t))
	}
	return msg(e.k.Nominate, m)
}

func (e *env) payout(v int, era uint64) tx {
	return msg(e.k.Payout, &types.MsgPayout{Sender: name(98), Validator: name(v), Era: era})
}

// started is an env whose first era was elected at genesis from validators 1 to n with
// a thousand PHA each and their nominators; all have ten thousand.
func started(t testing.TB, p Params, n int, more ...func(e *env) []tx) *env {
	t.Helper()
	e := newEnv(t, p)
	e.t.Helper()
	for i := 1; i <= 40; i++ {
		e.fund(account(i), pha(10_000))
	}
	var txs []tx
	for i := 1; i <= n; i++ {
		txs = append(txs, e.validate(i, 1000, 0))
	}
	for _, f := range more {
		txs = append(txs, f(e)...)
	}
	for _, f := range txs {
		e.Must(f)
	}
	updates, err := GenesisStaking{e.staking, e.k}.ApplyAndReturnValidatorSetUpdates(e.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]int64{}
	for _, u := range updates {
		first[string(consAddress(u.PubKey.GetEd25519()))] = u.Power
	}
	e.sets[1] = first
	e.Context().MultiStore().(storetypes.CacheMultiStore).Write()
	return e
}

// active is the era that runs.
func (e *env) active() uint64 {
	e.t.Helper()
	n, err := e.k.Active(e.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return n
}

// phase is that of the election of the next era.
func (e *env) phase() uint8 {
	e.t.Helper()
	x, err := e.k.progress(e.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	return x.Phase
}

// era lets blocks pass until an era has begun.
func (e *env) era(n uint64) {
	e.t.Helper()
	for i := 0; e.active() < n; i++ {
		if i > 10_000 {
			e.t.Fatalf("era %d does not begin", n)
		}
		e.Block()
	}
}

func (e *env) skip(n int) {
	e.t.Helper()
	for range n {
		e.Block()
	}
}

func (e *env) ledger(n int) *ledger {
	e.t.Helper()
	l, err := e.k.ledger(e.Context(), account(n))
	if err != nil {
		e.t.Fatal(err)
	}
	if l == nil {
		l = &ledger{}
	}
	return l
}

func (e *env) exposure(era uint64, n int) *exposure {
	e.t.Helper()
	x, err := e.k.exposure(e.Context(), era, account(n))
	if err != nil {
		e.t.Fatal(err)
	}
	return x
}

func (e *env) balance(who sdk.AccAddress) npos.U128 {
	e.t.Helper()
	a, err := natural(e.bank.GetBalance(e.Context(), who, denom).Amount)
	if err != nil {
		e.t.Fatal(err)
	}
	return a
}

// elected are the validators with a seat in the active era.
func (e *env) elected() []int {
	e.t.Helper()
	seats, err := e.k.seats(e.Context(), e.active())
	if err != nil {
		e.t.Fatal(err)
	}
	out := []int{}
	for n := 1; n <= 40; n++ {
		for _, s := range seats {
			if s.Operator.Equals(account(n)) {
				out = append(out, n)
			}
		}
	}
	return out
}
