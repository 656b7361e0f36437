package app

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cmtcfg "github.com/cometbft/cometbft/config"

	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	slashingtypes "github.com/cosmos/cosmos-sdk/x/slashing/types"

	npostypes "github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/node/x/registry"
	phala "github.com/phala-go/phala/proto"
)

// TestBonds: each validator bonds what its description says, by default a million; one
// that bonds nothing has an account and the genesis, and is none of the first validators.
func TestBonds(t *testing.T) {
	bond := func(pha int64) *int64 { return &pha }
	dir := t.TempDir()
	network := func(bonds ...*int64) (*NetworkSpec, error) {
		s := &NetworkSpec{ChainID: chainID, GenesisTime: genesisTime, BlockInterval: "100ms", MinGasPrice: "0.001ppha", Registry: registry.DefaultParams()}
		for i, b := range bonds {
			s.Validators = append(s.Validators, ValidatorSpec{Home: filepath.Join(dir, string(rune('a'+i))), Seed: hex.EncodeToString(seed(100 + i)),
				RPC: "tcp://127.0.0.1:1", P2P: "tcp://127.0.0.1:2", Bond: b})
		}
		return s, InitNetwork(s)
	}
	if _, err := network(bond(-1)); err == nil || !strings.Contains(err.Error(), "validator 0: bond of -1 PHA") {
		t.Errorf("a bond below zero: %v", err)
	}
	s, err := network(nil, bond(7_000_000), bond(0))
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for _, v := range s.Validators {
		g, err := genutiltypes.AppGenesisFromFile(filepath.Join(v.Home, "config", "genesis.json"))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = g.AppState
		} else if string(g.AppState) != string(first) {
			t.Error("two validators have two geneses")
		}
	}
	var state map[string]json.RawMessage
	if err := json.Unmarshal(first, &state); err != nil {
		t.Fatal(err)
	}
	enc := newNode(t).Encoding
	var gen genutiltypes.GenesisState
	var bank banktypes.GenesisState
	enc.Codec.MustUnmarshalJSON(state[genutiltypes.ModuleName], &gen)
	enc.Codec.MustUnmarshalJSON(state[banktypes.ModuleName], &bank)
	var bonded []string
	for _, raw := range gen.GenTxs {
		tx, err := enc.TxConfig.TxJSONDecoder()(raw)
		if err != nil {
			t.Fatal(err)
		}
		bonded = append(bonded, tx.GetMsgs()[0].(*npostypes.MsgValidate).Bond)
	}
	if got, want := strings.Join(bonded, " "), "1000000000000000000 7000000000000000000"; got != want {
		t.Errorf("bonded %s, want %s", got, want)
	}
	if got, want := bank.Supply.String(), "11000000000000000000ppha"; got != want || len(bank.Balances) != 3 {
		t.Errorf("%d accounts have %s, want 3 with %s", len(bank.Balances), got, want)
	}
}

// TestSlashingSettings: a new network has x/slashing's parameters that it says, the
// others by default, and none that do not exist.
func TestSlashingSettings(t *testing.T) {
	home := t.TempDir()
	network := func(slashing string) error {
		return InitNetwork(&NetworkSpec{ChainID: chainID, GenesisTime: genesisTime, BlockInterval: "100ms", MinGasPrice: "0.001ppha", Registry: registry.DefaultParams(), Slashing: json.RawMessage(slashing),
			Validators: []ValidatorSpec{{Home: home, Seed: hex.EncodeToString(seed(100)), RPC: "tcp://127.0.0.1:1", P2P: "tcp://127.0.0.1:2"}}})
	}
	for _, bad := range []string{`{"signed_blocks": "40"}`, `{"signed_blocks_window": "-1"}`, `[]`} {
		if err := network(bad); err == nil || !strings.Contains(err.Error(), "sign") && !strings.Contains(err.Error(), "slashing") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := network(`{"signed_blocks_window": "40"}`); err != nil {
		t.Fatal(err)
	}
	g, err := genutiltypes.AppGenesisFromFile(filepath.Join(home, "config", "genesis.json"))
	if err != nil {
		t.Fatal(err)
	}
	n := genesisNode(t, g)
	n.block()
	p, err := n.Slashing.GetParams(n.context())
	if want := slashingtypes.DefaultParams(); err != nil || p.SignedBlocksWindow != 40 || !p.MinSignedPerWindow.Equal(want.MinSignedPerWindow) {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestBlocksTravel: a full block holds some of the largest messages, and a validator sends
// it to a peer within a second. One of CometBFT's own bound takes ten, and 44 MB of
// transactions, for which nobody pays more than for others, stopped four validators whose
// proposals have half a second.
func TestBlocksTravel(t *testing.T) {
	g, _ := network(t)
	c := cmtcfg.DefaultConfig() // writeConfig changes none of these
	most := g.Consensus.Params.Block.MaxBytes
	if most > c.P2P.SendRate || most > c.P2P.RecvRate {
		t.Errorf("blocks of %d bytes; a peer gets %d a second, or takes %d", most, c.P2P.SendRate, c.P2P.RecvRate)
	}
	if largest := int64(max(phala.MaxEntry, phala.MaxEnvelope)); most < 3*largest {
		t.Errorf("blocks of %d bytes, messages of %d", most, largest)
	}
}

// TestDescriptions: what a network's description says and nobody knows is refused, wherever
// it stands; a misspelt setting would be the default for ever.
func TestDescriptions(t *testing.T) {
	home := t.TempDir()
	good := `{"chain_id": "c-1", "block_interval": "100ms", "min_gas_price": "0.001ppha", "validators": [{"home": "` + home + `", "seed": "` + strings.Repeat("11", 32) + `", "rpc": "tcp://127.0.0.1:1", "p2p": "tcp://127.0.0.1:2"}],
		"registry": {"gatekeeper_operators": [], "recent_blocks": 600, "attestation_blocks": 1000, "renewal_blocks": 100, "lease_blocks": 100, "worst_level": 4, "registrations_per_block": 48, "settings": {"lease_ms": 1, "trusting_period_ms": 1, "clock_drift_ms": 1, "session_interval_ms": 1}},
		"contracts": {"epoch_blocks": "2000"}}`
	for _, c := range []struct{ name, old, new, want string }{
		{"as it is", "", "", ""},
		{"top level", `"min_gas_price"`, `"min_gas_prices"`, `unknown field "min_gas_prices"`},
		{"validator", `"seed"`, `"sed"`, `unknown field "sed"`},
		{"registry", `"worst_level"`, `"worst"`, `unknown field "worst"`},
		{"settings", `"lease_ms"`, `"lease"`, `unknown field "lease"`},
		{"contracts", `"epoch_blocks"`, `"epoch"`, `contracts: json: unknown field "epoch"`},
		{"no chain id", `"c-1"`, `""`, "chain_id is needed"},
		{"two", `{"chain_id"`, `{"chain_id": "c-0"} {"chain_id"`, "something follows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseNetworkSpec([]byte(strings.Replace(good, c.old, c.new, 1)))
			if err == nil {
				err = InitNetwork(s)
			}
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestInitNetworkOnce: the genesis of a chain that has begun is not written over.
func TestInitNetworkOnce(t *testing.T) {
	home := t.TempDir()
	spec := &NetworkSpec{ChainID: chainID, GenesisTime: genesisTime, BlockInterval: "100ms", MinGasPrice: "0.001ppha", Registry: registry.DefaultParams(),
		Validators: []ValidatorSpec{{Home: home, Seed: hex.EncodeToString(seed(100)), RPC: "tcp://127.0.0.1:1", P2P: "tcp://127.0.0.1:2"}}}
	for range 2 { // one that was cut off before the chain began may be made again
		if err := InitNetwork(spec); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(home, "config", "genesis.json")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(home, "data", "blockstore.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := InitNetwork(spec); err == nil || !strings.Contains(err.Error(), "has a chain already") {
		t.Errorf("made again in a folder with a chain: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("its genesis is another one: %v", err)
	}
}
