package app

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cosmossdk.io/log/v2"
	"cosmossdk.io/math"
	cmtcfg "github.com/cometbft/cometbft/config"
	cmttypes "github.com/cometbft/cometbft/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/tx"
	"github.com/cosmos/cosmos-sdk/codec"
	"github.com/cosmos/cosmos-sdk/server/config"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/node/crypto/sr25519"
	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/npos"
	npostypes "github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/node/x/registry"
)

// A NetworkSpec describes a new network of validators on this machine: what
// "phala-node init-network" makes folders and one genesis for.
type NetworkSpec struct {
	ChainID       string          `json:"chain_id"`
	GenesisTime   time.Time       `json:"genesis_time"`
	BlockInterval string          `json:"block_interval"` // pause after a commit, such as "100ms"
	Validators    []ValidatorSpec `json:"validators"`
	Accounts      []AccountSpec   `json:"accounts"`
	Class         string          `json:"class"`    // "simulated" for simulated TEEs, else the network is real
	Roots         string          `json:"roots"`    // hex; a simulated network's attestation roots
	Registry      registry.Params `json:"registry"` // parameters
	// Measurements that may register from the beginning.
	Measurements []registry.AllowedMeasurement `json:"measurements"`
	Contracts    json.RawMessage               `json:"contracts"`     // those that differ from the default
	NPoS         *npos.Params                  `json:"npos"`          // parameters; none for the defaults
	Slashing     json.RawMessage               `json:"slashing"`      // x/slashing's parameters that differ from the default
	MinGasPrice  string                        `json:"min_gas_price"` // base units for one gas, such as "1000ppha"
}

// A ValidatorSpec is one validator: its folder, ports and operator. The operator's
// account has 1,000,000 PHA besides what is bonded.
type ValidatorSpec struct {
	Home string `json:"home"`
	Seed string `json:"seed"` // hex mini secret of the operator's sr25519 account
	RPC  string `json:"rpc"`  // tcp://127.0.0.1:26657
	P2P  string `json:"p2p"`
	// Bond is how many PHA are bonded in genesis, 1,000,000 when nothing is said. With 0
	// the node is none of the first validators and may become one by a transaction.
	Bond *int64 `json:"bond,omitempty"`
}

func (v *ValidatorSpec) bond() int64 {
	if v.Bond == nil {
		return 1_000_000
	}
	return *v.Bond
}

// An AccountSpec is a funded account.
type AccountSpec struct {
	Address string `json:"address"`
	PHA     int64  `json:"pha"`
}

// ParseNetworkSpec reads a description, in JSON. What it does not know is refused: a name
// that is spelt wrongly would be the default in the network's genesis, for ever.
func ParseNetworkSpec(b []byte) (*NetworkSpec, error) {
	s := new(NetworkSpec)
	if err := strictJSON(b, s); err != nil {
		return nil, err
	}
	if s.ChainID == "" {
		return nil, errors.New("chain_id is needed")
	}
	return s, nil
}

// strictJSON reads one JSON value, without names that v does not have.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the description")
	}
	return nil
}

// InitNetwork makes the folders and the genesis, once: not in a folder whose chain has begun.
func InitNetwork(s *NetworkSpec) error {
	for _, v := range s.Validators {
		for _, db := range []string{"blockstore.db", "application.db"} {
			if _, err := os.Stat(filepath.Join(v.Home, "data", db)); err == nil {
				return fmt.Errorf("%s has a chain already: make the new network in other folders", v.Home)
			}
		}
	}
	Configure()
	a, err := New(log.NewNopLogger(), dbm.NewMemDB(), "", simtestutil.EmptyAppOptions{})
	if err != nil {
		return err
	}
	defer a.Close()
	genesis := a.DefaultGenesis()

	var accounts []authtypes.GenesisAccount
	var balances []banktypes.Balance
	supply := math.ZeroInt()
	add := func(addr sdk.AccAddress, pha int64) {
		amount := math.NewInt(pha).MulRaw(PHA)
		accounts = append(accounts, authtypes.NewBaseAccountWithAddress(addr))
		balances = append(balances, banktypes.Balance{Address: addr.String(), Coins: sdk.NewCoins(sdk.NewCoin(contracts.Denom, amount))})
		supply = supply.Add(amount)
	}
	for _, acc := range s.Accounts {
		addr, err := address.Parse(acc.Address)
		if err != nil {
			return err
		}
		add(addr, acc.PHA)
	}
	var gentxs []json.RawMessage
	var peers []string
	for i, v := range s.Validators {
		gentx, peer, addr, err := a.makeValidator(s, &v, i)
		if err != nil {
			return fmt.Errorf("validator %d: %w", i, err)
		}
		add(addr, v.bond()+1_000_000)
		if peers = append(peers, peer); gentx != nil {
			gentxs = append(gentxs, gentx)
		}
	}

	set := func(module string, v any) error {
		b, err := json.Marshal(v)
		genesis[module] = b
		return err
	}
	auth := authtypes.NewGenesisState(authtypes.DefaultParams(), accounts)
	genesis[authtypes.ModuleName] = a.Codec.MustMarshalJSON(auth)
	bank := banktypes.DefaultGenesisState()
	bank.Balances, bank.Supply = banktypes.SanitizeGenesisBalances(balances), sdk.NewCoins(sdk.NewCoin(contracts.Denom, supply))
	bank.DenomMetadata = []banktypes.Metadata{{Base: contracts.Denom, Display: "pha", Name: "Phala", Symbol: "PHA", Description: "the token of the network",
		DenomUnits: []*banktypes.DenomUnit{{Denom: contracts.Denom, Exponent: 0}, {Denom: "pha", Exponent: 12}}}}
	genesis[banktypes.ModuleName] = a.Codec.MustMarshalJSON(bank)
	roots, err := hex.DecodeString(s.Roots)
	if err != nil {
		return fmt.Errorf("roots: %w", err)
	}
	if err := set(registry.ModuleName, registry.Genesis{Params: s.Registry, Measurements: s.Measurements, Class: s.Class, Roots: roots}); err != nil {
		return err
	}
	if len(s.Contracts) > 0 {
		p := contracts.DefaultParams()
		if err := strictJSON(s.Contracts, &p); err != nil {
			return fmt.Errorf("contracts: %w", err)
		}
		if err := set(contracts.ModuleName, contracts.Genesis{Params: p}); err != nil {
			return err
		}
	}
	stakes := npos.DefaultParams()
	if s.NPoS != nil {
		stakes = *s.NPoS
	}
	if err := set(npos.ModuleName, npos.Genesis{Params: stakes}); err != nil {
		return err
	}
	if len(s.Slashing) > 0 {
		p := slashingtypes.DefaultGenesisState()
		if err := a.Codec.UnmarshalJSON(s.Slashing, &p.Params); err != nil {
			return fmt.Errorf("slashing: %w", err)
		}
		genesis[slashingtypes.ModuleName] = a.Codec.MustMarshalJSON(p)
	}
	gen := genutiltypes.DefaultGenesisState()
	gen.GenTxs = gentxs
	genesis[genutiltypes.ModuleName] = a.Codec.MustMarshalJSON(gen)
	for name, basic := range a.BasicManager() {
		if b, ok := basic.(interface {
			ValidateGenesis(codec.JSONCodec, client.TxEncodingConfig, json.RawMessage) error
		}); ok {
			if err := b.ValidateGenesis(a.Codec, a.TxConfig, genesis[name]); err != nil {
				return err
			}
		}
	}
	state, err := json.Marshal(genesis)
	if err != nil {
		return err
	}
	params := cmttypes.DefaultConsensusParams()
	params.Block.MaxGas = 500_000_000
	params.Block.MaxBytes = maxBlockBytes
	// Evidence counts for as long as there is stake to slash.
	params.Evidence.MaxAgeNumBlocks = int64(stakes.EraBlocks() * stakes.UnbondingEras)
	params.Validator.PubKeyTypes = []string{cmttypes.ABCIPubKeyTypeEd25519}
	doc := &genutiltypes.AppGenesis{AppName: Name, ChainID: s.ChainID, GenesisTime: s.GenesisTime.UTC(), InitialHeight: 1, AppState: state,
		Consensus: &genutiltypes.ConsensusGenesis{Params: params}}
	for i, v := range s.Validators {
		if err := genutil.ExportGenesisFile(doc, filepath.Join(v.Home, "config", "genesis.json")); err != nil {
			return err
		}
		if err := writeConfig(s, &v, i, peers); err != nil {
			return err
		}
	}
	return nil
}

// maxBlockBytes bounds a block by what validators can pass on within a proposal's time,
// whatever anybody puts into their mempools: CometBFT sends a peer 5 MB a second. With its
// own bound, 53 MiB, no proposal arrives in time, and few transactions stop the chain for as
// long as they wait.
const maxBlockBytes = 4 << 20

// genesisCommission is what the validators of a new network begin with, in billionths.
const genesisCommission = 50_000_000

// makeValidator makes a validator's keys and its genesis transaction, if it bonds there.
func (a *App) makeValidator(s *NetworkSpec, v *ValidatorSpec, i int) (gentx json.RawMessage, peer string, addr sdk.AccAddress, err error) {
	for _, dir := range []string{"config", "data"} {
		if err := os.MkdirAll(filepath.Join(v.Home, dir), 0o700); err != nil {
			return nil, "", nil, err
		}
	}
	cfg := cmtcfg.DefaultConfig()
	cfg.SetRoot(v.Home)
	nodeID, pub, err := genutil.InitializeNodeValidatorFiles(cfg)
	if err != nil {
		return nil, "", nil, err
	}
	seed, err := hex.DecodeString(v.Seed)
	if err != nil {
		return nil, "", nil, fmt.Errorf("seed is not hexadecimal")
	}
	if v.bond() < 0 {
		return nil, "", nil, fmt.Errorf("bond of %d PHA", v.bond())
	}
	key, err := sr25519.FromSeed(seed)
	if err != nil {
		return nil, "", nil, err
	}
	addr = sdk.AccAddress(key.PubKey().Address())
	peer = nodeID + "@" + trimScheme(v.P2P)
	if v.bond() == 0 {
		return nil, peer, addr, nil
	}
	msg := &npostypes.MsgValidate{Staker: addr.String(), ConsensusKey: pub.Bytes(), Commission: genesisCommission, Bond: math.NewInt(v.bond()).MulRaw(PHA).String()}
	b := a.TxConfig.NewTxBuilder()
	if err := b.SetMsgs(msg); err != nil {
		return nil, "", nil, err
	}
	b.SetGasLimit(1_000_000)
	b.SetMemo(peer)
	mode := signing.SignMode_SIGN_MODE_DIRECT
	empty := signing.SignatureV2{PubKey: key.PubKey(), Data: &signing.SingleSignatureData{SignMode: mode}}
	if err := b.SetSignatures(empty); err != nil {
		return nil, "", nil, err
	}
	sig, err := tx.SignWithPrivKey(sdk.Context{}, mode, authsigning.SignerData{Address: addr.String(), ChainID: s.ChainID, PubKey: key.PubKey()}, b, key, a.TxConfig, 0)
	if err != nil {
		return nil, "", nil, err
	}
	if err := b.SetSignatures(sig); err != nil {
		return nil, "", nil, err
	}
	gentx, err = a.TxConfig.TxJSONEncoder()(b.GetTx())
	return gentx, peer, addr, err
}

func trimScheme(addr string) string {
	for i := 0; i+3 <= len(addr); i++ {
		if addr[i:i+3] == "://" {
			return addr[i+3:]
		}
	}
	return addr
}

// writeConfig writes config.toml and app.toml: the SDK's defaults, with what a node
// of this network needs.
func writeConfig(s *NetworkSpec, v *ValidatorSpec, i int, peers []string) error {
	interval, err := time.ParseDuration(s.BlockInterval)
	if err != nil {
		return fmt.Errorf("block_interval: %w", err)
	}
	cfg := cmtcfg.DefaultConfig()
	cfg.SetRoot(v.Home)
	cfg.Moniker = fmt.Sprintf("validator-%d", i)
	cfg.RPC.ListenAddress, cfg.P2P.ListenAddress = v.RPC, v.P2P
	cfg.RPC.PprofListenAddress = ""
	cfg.Consensus.TimeoutCommit = interval
	cfg.Consensus.TimeoutPropose = max(interval*5, 500*time.Millisecond)
	cfg.P2P.AddrBookStrict, cfg.P2P.AllowDuplicateIP = false, true
	cfg.P2P.PexReactor = len(s.Validators) > 1
	cfg.LogLevel = "info"
	for j, p := range peers {
		if j != i {
			if cfg.P2P.PersistentPeers != "" {
				cfg.P2P.PersistentPeers += ","
			}
			cfg.P2P.PersistentPeers += p
		}
	}
	cmtcfg.WriteConfigFile(filepath.Join(v.Home, "config", "config.toml"), cfg)
	app := config.DefaultConfig()
	app.MinGasPrices = s.MinGasPrice
	app.API.Enable, app.GRPC.Enable = false, false
	app.IAVLCacheSize = 50_000
	app.Pruning = "default"
	app.QueryGasLimit = 50_000_000
	config.WriteConfigFile(filepath.Join(v.Home, "config", "app.toml"), app)
	return nil
}
