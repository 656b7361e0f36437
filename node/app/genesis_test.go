package app

import (
	"encoding/hex"
	"encoding/json"
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
