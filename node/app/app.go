// Package app puts phala-node together: CometBFT's state machine out of Cosmos SDK
// modules and this project's own (x/mq, x/registry, x/contracts, x/npos).
package app

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"cosmossdk.io/log/v2"
	"cosmossdk.io/math"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/gogoproto/proto"
	"github.com/spf13/cast"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/codec/address"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/server"
	"github.com/cosmos/cosmos-sdk/server/api"
	"github.com/cosmos/cosmos-sdk/server/config"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	"github.com/cosmos/cosmos-sdk/std"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/version"
	"github.com/cosmos/cosmos-sdk/x/auth"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	authtx "github.com/cosmos/cosmos-sdk/x/auth/tx"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	"github.com/cosmos/cosmos-sdk/x/bank"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/consensus"
	consensuskeeper "github.com/cosmos/cosmos-sdk/x/consensus/keeper"
	consensustypes "github.com/cosmos/cosmos-sdk/x/consensus/types"
	distr "github.com/cosmos/cosmos-sdk/x/distribution"
	distrkeeper "github.com/cosmos/cosmos-sdk/x/distribution/keeper"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	"github.com/cosmos/cosmos-sdk/x/evidence"
	evidencekeeper "github.com/cosmos/cosmos-sdk/x/evidence/keeper"
	evidencetypes "github.com/cosmos/cosmos-sdk/x/evidence/types"
	"github.com/cosmos/cosmos-sdk/x/feegrant"
	feegrantkeeper "github.com/cosmos/cosmos-sdk/x/feegrant/keeper"
	feegrantmodule "github.com/cosmos/cosmos-sdk/x/feegrant/module"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	"github.com/cosmos/cosmos-sdk/x/gov"
	govkeeper "github.com/cosmos/cosmos-sdk/x/gov/keeper"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	"github.com/cosmos/cosmos-sdk/x/slashing"
	slashingkeeper "github.com/cosmos/cosmos-sdk/x/slashing/keeper"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"
	"github.com/cosmos/cosmos-sdk/x/staking"
	stakingkeeper "github.com/cosmos/cosmos-sdk/x/staking/keeper"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"
	txsigning "github.com/cosmos/cosmos-sdk/x/tx/signing"
	"github.com/cosmos/cosmos-sdk/x/upgrade"
	upgradekeeper "github.com/cosmos/cosmos-sdk/x/upgrade/keeper"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"

	"github.com/phala-go/phala/node/crypto/sr25519"
	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/node/x/npos"
	"github.com/phala-go/phala/node/x/registry"
	phala "github.com/phala-go/phala/proto"
)

// Name names the application.
const Name = "phala-node"

var moduleAccounts = map[string][]string{
	authtypes.FeeCollectorName:          nil,
	distrtypes.ModuleName:               nil,
	npos.ModuleName:                     {authtypes.Minter},
	npos.RewardsName:                    {authtypes.Minter},
	stakingtypes.BondedPoolName:         {authtypes.Burner, authtypes.Staking},
	stakingtypes.NotBondedPoolName:      {authtypes.Burner, authtypes.Staking},
	stakingtypes.KeyRotationFeePoolName: {authtypes.Burner},
	govtypes.ModuleName:                 {authtypes.Burner},
	contracts.ModuleName:                {authtypes.Burner},
}

// App is the chain's state machine.
type App struct {
	*baseapp.BaseApp
	Encoding

	keys    map[string]*storetypes.KVStoreKey
	modules *module.Manager
	bodies  dbm.DB
	closed  bool

	Account      authkeeper.AccountKeeper
	Bank         bankkeeper.BaseKeeper
	Staking      *stakingkeeper.Keeper
	Slashing     slashingkeeper.Keeper
	NPoS         *npos.Keeper
	Distribution distrkeeper.Keeper
	Gov          *govkeeper.Keeper
	Evidence     *evidencekeeper.Keeper
	FeeGrant     feegrantkeeper.Keeper
	Consensus    consensuskeeper.Keeper
	Upgrade      *upgradekeeper.Keeper
	MQ           *mq.Keeper
	Registry     *registry.Keeper
	Contracts    *contracts.Keeper
}

// Encoding holds the codecs of the application.
type Encoding struct {
	Interfaces codectypes.InterfaceRegistry
	Codec      codec.Codec
	Amino      *codec.LegacyAmino
	TxConfig   client.TxConfig
}

// NewEncoding makes the codecs without the modules' interfaces.
func NewEncoding() Encoding {
	registry, err := codectypes.NewInterfaceRegistryWithOptions(codectypes.InterfaceRegistryOptions{
		ProtoFiles: proto.HybridResolver,
		SigningOptions: txsigning.Options{
			AddressCodec:          address.NewBech32Codec(sdk.GetConfig().GetBech32AccountAddrPrefix()),
			ValidatorAddressCodec: address.NewBech32Codec(sdk.GetConfig().GetBech32ValidatorAddrPrefix()),
		},
	})
	if err != nil {
		panic(err)
	}
	cdc, amino := codec.NewProtoCodec(registry), codec.NewLegacyAmino()
	std.RegisterInterfaces(registry)
	std.RegisterLegacyAminoCodec(amino)
	sr25519.RegisterInterfaces(registry)
	sr25519.RegisterLegacyAminoCodec(amino)
	return Encoding{registry, cdc, amino, authtx.NewTxConfig(cdc, authtx.DefaultSignModes)}
}

// FlagKeepBodies names the setting of how many blocks' messages a node keeps: 0 for all.
const FlagKeepBodies = "keep-bodies"

// Latest is the newest height that the database has.
const Latest = -1

// New returns the application on db in its newest state. home holds the side database
// of bodies.
func New(logger log.Logger, db dbm.DB, home string, opts servertypes.AppOptions, options ...func(*baseapp.BaseApp)) (*App, error) {
	return NewAt(Latest, logger, db, home, opts, options...)
}

// NewAt is New in the state of a height.
func NewAt(height int64, logger log.Logger, db dbm.DB, home string, opts servertypes.AppOptions, options ...func(*baseapp.BaseApp)) (*App, error) {
	Configure()
	bodies, err := openBodies(home, opts)
	if err != nil {
		return nil, err
	}
	enc := NewEncoding()
	bapp := baseapp.NewBaseApp(Name, logger, db, enc.TxConfig.TxDecoder(), options...)
	bapp.SetVersion(version.Version)
	bapp.SetInterfaceRegistry(enc.Interfaces)
	bapp.SetTxEncoder(enc.TxConfig.TxEncoder())

	keys := storetypes.NewKVStoreKeys(authtypes.StoreKey, banktypes.StoreKey, stakingtypes.StoreKey, npos.ModuleName, distrtypes.StoreKey,
		slashingtypes.StoreKey, govtypes.StoreKey, consensustypes.StoreKey, upgradetypes.StoreKey, feegrant.StoreKey, evidencetypes.StoreKey,
		phala.StoreMQ, phala.StoreRegistry, phala.StoreContracts)
	transient := storetypes.NewTransientStoreKeys(mq.TransientKey, registry.TransientKey)
	store := func(name string) *storetypes.KVStoreKey { return keys[name] }
	authority := authtypes.NewModuleAddress(govtypes.ModuleName).String()
	accAddrs := enc.Interfaces.SigningContext().AddressCodec()
	valAddrs := address.NewBech32Codec(sdk.GetConfig().GetBech32ValidatorAddrPrefix())
	consAddrs := address.NewBech32Codec(sdk.GetConfig().GetBech32ConsensusAddrPrefix())

	a := &App{BaseApp: bapp, Encoding: enc, keys: keys, bodies: bodies}
	a.Consensus = consensuskeeper.NewKeeper(enc.Codec, runtime.NewKVStoreService(store(consensustypes.StoreKey)), authority, runtime.EventService{})
	bapp.SetParamStore(a.Consensus.ParamsStore)
	a.Account = authkeeper.NewAccountKeeper(enc.Codec, runtime.NewKVStoreService(store(authtypes.StoreKey)), authtypes.ProtoBaseAccount, moduleAccounts,
		accAddrs, sdk.GetConfig().GetBech32AccountAddrPrefix(), authority)
	a.Bank = bankkeeper.NewBaseKeeper(enc.Codec, runtime.NewKVStoreService(store(banktypes.StoreKey)), a.Account, blocked(), authority, logger)
	// Only x/npos may change x/staking, so its authority is an account that cannot sign.
	a.Staking = stakingkeeper.NewKeeper(enc.Codec, runtime.NewKVStoreService(store(stakingtypes.StoreKey)), a.Account, a.Bank,
		authtypes.NewModuleAddress(npos.ModuleName).String(), valAddrs, consAddrs)
	a.Distribution = distrkeeper.NewKeeper(enc.Codec, runtime.NewKVStoreService(store(distrtypes.StoreKey)), a.Account, a.Bank,
		npos.TreasuryStaking{Keeper: a.Staking}, authtypes.FeeCollectorName, authority)
	a.NPoS = npos.NewKeeper(runtime.NewKVStoreService(store(npos.ModuleName)), a.Account, a.Bank, a.Distribution, a.Staking, authtypes.FeeCollectorName, contracts.Denom, authority)
	seen := npos.SlashingView{Keeper: a.Staking, NPoS: a.NPoS}
	a.Slashing = slashingkeeper.NewKeeper(enc.Codec, enc.Amino, runtime.NewKVStoreService(store(slashingtypes.StoreKey)), seen, authority)
	a.FeeGrant = feegrantkeeper.NewKeeper(enc.Codec, runtime.NewKVStoreService(store(feegrant.StoreKey)), a.Account)
	a.Upgrade = upgradekeeper.NewKeeper(skippedUpgrades(opts), runtime.NewKVStoreService(store(upgradetypes.StoreKey)), enc.Codec, home, bapp, authority)
	a.Staking.SetHooks(stakingtypes.NewMultiStakingHooks(a.Slashing.Hooks()))
	a.Gov = govkeeper.NewKeeper(enc.Codec, runtime.NewKVStoreService(store(govtypes.StoreKey)), a.Account, a.Bank, a.Distribution, bapp.MsgServiceRouter(),
		govtypes.DefaultConfig(), authority, a.NPoS.Tally)
	a.Evidence = evidencekeeper.NewKeeper(enc.Codec, runtime.NewKVStoreService(store(evidencetypes.StoreKey)),
		npos.EvidenceStaking{Keeper: a.Staking, NPoS: a.NPoS}, npos.EvidenceSlashing{NPoS: a.NPoS}, accAddrs, runtime.ProvideCometInfoService())
	a.Evidence.SetRouter(evidencetypes.NewRouter())
	a.MQ = mq.NewKeeper(runtime.NewKVStoreService(store(phala.StoreMQ)), runtime.NewTransientStoreService(transient[mq.TransientKey]), mq.NewBodies(bodies))
	a.Registry = registry.NewKeeper(runtime.NewKVStoreService(store(phala.StoreRegistry)), runtime.NewTransientStoreService(transient[registry.TransientKey]), a.MQ, authority)
	a.Contracts = contracts.NewKeeper(runtime.NewKVStoreService(store(phala.StoreContracts)), a.MQ, a.Registry, a.Bank, authority)
	a.MQ.SetRouter(a.Registry, a.handleEntry)

	a.modules = module.NewManager(
		genutil.NewAppModule(a.Account, npos.GenesisStaking{Keeper: a.Staking, NPoS: a.NPoS}, bapp, enc.TxConfig),
		auth.NewAppModule(enc.Codec, a.Account, nil),
		bank.NewAppModule(enc.Codec, a.Bank, a.Account),
		gov.NewAppModule(enc.Codec, a.Gov, a.Account, a.Bank),
		slashing.NewAppModule(enc.Codec, a.Slashing, a.Account, a.Bank, seen, enc.Interfaces),
		treasury{distr.NewAppModule(enc.Codec, a.Distribution, a.Account, a.Bank, a.Staking)},
		staking.NewAppModule(enc.Codec, a.Staking, a.Account, a.Bank),
		upgrade.NewAppModule(a.Upgrade, accAddrs),
		evidence.NewAppModule(*a.Evidence),
		feegrantmodule.NewAppModule(enc.Codec, a.Account, a.Bank, a.FeeGrant, enc.Interfaces),
		consensus.NewAppModule(enc.Codec, a.Consensus),
		npos.Module{K: a.NPoS}, mq.Module{K: a.MQ}, registry.Module{K: a.Registry}, contracts.Module{K: a.Contracts},
	)
	for _, m := range a.modules.Modules {
		if b, ok := m.(module.AppModuleBasic); ok {
			b.RegisterInterfaces(enc.Interfaces)
			b.RegisterLegacyAminoCodec(enc.Amino)
		}
	}
	genesis := []string{authtypes.ModuleName, banktypes.ModuleName, distrtypes.ModuleName, stakingtypes.ModuleName, slashingtypes.ModuleName,
		govtypes.ModuleName, npos.ModuleName, mq.ModuleName, registry.ModuleName, contracts.ModuleName, genutiltypes.ModuleName,
		evidencetypes.ModuleName, feegrant.ModuleName, upgradetypes.ModuleName, consensustypes.ModuleName}
	a.modules.SetOrderInitGenesis(genesis...)
	a.modules.SetOrderExportGenesis(genesis...)
	a.modules.SetOrderPreBlockers(upgradetypes.ModuleName, authtypes.ModuleName)
	a.modules.SetOrderBeginBlockers(mq.ModuleName, registry.ModuleName, npos.ModuleName, distrtypes.ModuleName, slashingtypes.ModuleName,
		evidencetypes.ModuleName, stakingtypes.ModuleName, genutiltypes.ModuleName)
	// npos is before staking, which tells CometBFT; mq is last: whatever appends does
	// so before.
	a.modules.SetOrderEndBlockers(banktypes.ModuleName, govtypes.ModuleName, npos.ModuleName, stakingtypes.ModuleName, feegrant.ModuleName, contracts.ModuleName, mq.ModuleName)

	configurator := module.NewConfigurator(enc.Codec, bapp.MsgServiceRouter(), bapp.GRPCQueryRouter())
	if err := a.modules.RegisterServices(configurator); err != nil {
		return nil, err
	}
	bapp.MountKVStores(keys)
	bapp.MountTransientStores(transient)
	bapp.SetInitChainer(a.initChain)
	bapp.SetPreBlocker(func(ctx sdk.Context, _ *abci.RequestFinalizeBlock) (*sdk.ResponsePreBlock, error) {
		return a.modules.PreBlock(ctx)
	})
	bapp.SetBeginBlocker(a.modules.BeginBlock)
	bapp.SetEndBlocker(a.modules.EndBlock)
	// Bodies reach the disk before the state that commits to them: after a crash in
	// between, the block executes again and writes the same bodies.
	keep := cast.ToUint64(opts.Get(FlagKeepBodies))
	bapp.SetPrecommiter(func(ctx sdk.Context) {
		if err := a.MQ.Bodies().Commit(); err != nil {
			panic(err)
		}
		if ctx.BlockHeight()%20 == 0 {
			if err := a.MQ.Prune(ctx, keep, a.Contracts.Needed); err != nil {
				logger.Error("bodies were not pruned", "error", err)
			}
		}
	})
	ante, err := a.newAnteHandler()
	if err != nil {
		return nil, err
	}
	bapp.SetAnteHandler(ante)
	if m := bapp.SnapshotManager(); m != nil {
		if err := m.RegisterExtensions(mq.NewSnapshotter(a.MQ, bapp.CommitMultiStore(), store(phala.StoreMQ), a.ChainID)); err != nil {
			return nil, err
		}
	}
	if height == Latest {
		err = bapp.LoadLatestVersion()
	} else {
		err = bapp.LoadVersion(height)
	}
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	return a, nil
}

// skippedUpgrades are the heights of plans that this node is to pass by: the way on for a
// network whose governance planned what nobody can run.
func skippedUpgrades(opts servertypes.AppOptions) map[int64]bool {
	skip := map[int64]bool{}
	for _, h := range cast.ToIntSlice(opts.Get(server.FlagUnsafeSkipUpgrades)) {
		skip[int64(h)] = true
	}
	return skip
}

func openBodies(home string, opts servertypes.AppOptions) (dbm.DB, error) {
	if home == "" {
		return dbm.NewMemDB(), nil
	}
	return dbm.NewGoLevelDB("bodies", filepath.Join(home, "data"), nil)
}

// treasury is x/distribution without its division of fees, which is x/npos's: its
// community pool is the treasury.
type treasury struct{ distr.AppModule }

// BeginBlock does nothing.
func (treasury) BeginBlock(context.Context) error { return nil }

// handleEntry gives an outbox entry to its module.
func (a *App) handleEntry(ctx sdk.Context, from mq.From, e phala.Entry) error {
	switch e.(type) {
	case phala.StartSession, phala.Challenge, phala.SetEndpoints, phala.PublishMasterKey, phala.ReleaseKeys:
		return a.Registry.HandleEntry(ctx, from, e)
	}
	return a.Contracts.HandleEntry(ctx, from, e)
}

// blocked are the accounts to which nobody sends: what modules have must be what their
// records say, and x/gov imports no state in which it has more.
func blocked() map[string]bool {
	out := map[string]bool{}
	for name := range moduleAccounts {
		out[authtypes.NewModuleAddress(name).String()] = true
	}
	return out
}

func (a *App) initChain(ctx sdk.Context, req *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	var genesis map[string]json.RawMessage
	if err := json.Unmarshal(req.AppStateBytes, &genesis); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if err := a.Upgrade.SetModuleVersionMap(ctx, a.modules.GetVersionMap()); err != nil {
		return nil, err
	}
	return a.modules.InitGenesis(ctx, a.Codec, genesis)
}

// BasicManager returns the modules without their keepers.
func (a *App) BasicManager() module.BasicManager {
	return module.NewBasicManagerFromManager(a.modules, map[string]module.AppModuleBasic{
		genutiltypes.ModuleName: genutil.NewAppModuleBasic(npos.ValidateGenesisTx)})
}

// What a proposal, and one that is decided within a day, has to deposit, in PHA. A veto
// of a third of the votes burns it.
const (
	proposalDeposit  = 1_000
	expeditedDeposit = 5_000
)

// DefaultGenesis returns every module's default genesis, with PHA as the denomination,
// x/staking as x/npos needs it, and proposals that cost something: by the SDK's defaults
// anybody could file them by the thousand, without a deposit even.
func (a *App) DefaultGenesis() map[string]json.RawMessage {
	g := a.BasicManager().DefaultGenesis(a.Codec)
	gov := govv1.DefaultGenesisState()
	deposit := func(pha int64) []sdk.Coin {
		return sdk.NewCoins(sdk.NewCoin(contracts.Denom, math.NewInt(pha).MulRaw(PHA)))
	}
	gov.Params.MinDeposit, gov.Params.ExpeditedMinDeposit = deposit(proposalDeposit), deposit(expeditedDeposit)
	gov.Params.MinInitialDepositRatio = math.LegacyOneDec().String() // all of it, at once
	g[govtypes.ModuleName] = a.Codec.MustMarshalJSON(gov)
	g[stakingtypes.ModuleName] = a.Codec.MustMarshalJSON(stakingtypes.NewGenesisState(npos.StakingParams(), nil, nil))
	return g
}

// Export returns the state as a genesis.
func (a *App) Export(modules []string) (servertypes.ExportedApp, error) {
	ctx := a.NewContextLegacy(true, cmtproto.Header{Height: a.LastBlockHeight(), ChainID: a.ChainID()})
	state, err := a.modules.ExportGenesisForModules(ctx, a.Codec, modules)
	if err != nil {
		return servertypes.ExportedApp{}, err
	}
	b, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return servertypes.ExportedApp{}, err
	}
	validators, err := staking.WriteValidators(ctx, a.Staking)
	return servertypes.ExportedApp{AppState: b, Validators: validators, Height: a.LastBlockHeight() + 1, ConsensusParams: a.GetConsensusParams(ctx)}, err
}

// RegisterAPIRoutes registers none: the CometBFT RPC serves every query.
func (a *App) RegisterAPIRoutes(*api.Server, config.APIConfig) {}

// RegisterTxService registers transaction queries.
func (a *App) RegisterTxService(c client.Context) {
	authtx.RegisterTxService(a.GRPCQueryRouter(), c, a.Simulate, a.Interfaces)
}

// RegisterTendermintService registers none.
func (a *App) RegisterTendermintService(client.Context) {}

// RegisterNodeService registers none.
func (a *App) RegisterNodeService(client.Context, config.Config) {}

// Close closes the databases. It may be called more than once.
func (a *App) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	err := a.BaseApp.Close()
	if berr := a.bodies.Close(); err == nil {
		err = berr
	}
	return err
}

var _ servertypes.Application = (*App)(nil)
