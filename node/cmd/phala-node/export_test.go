package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/baseapp"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"

	"github.com/phala-go/phala/node/app"
)

// TestExportIsAllThatItSays: "phala-node export > genesis.json" is a genesis, with no line of
// a log in it.
func TestExportIsAllThatItSays(t *testing.T) {
	g, err := genutiltypes.AppGenesisFromFile(filepath.Join(newHome(t), "config", "genesis.json"))
	if err != nil {
		t.Fatal(err)
	}
	db := dbm.NewMemDB()
	a, err := app.New(log.NewNopLogger(), db, "", simtestutil.EmptyAppOptions{}, baseapp.SetChainID(chain))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	params := g.Consensus.Params.ToProto()
	if _, err := a.InitChain(&abci.RequestInitChain{ChainId: chain, Time: g.GenesisTime, InitialHeight: 1, ConsensusParams: &params, AppStateBytes: g.AppState}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.FinalizeBlock(&abci.RequestFinalizeBlock{Height: 1, Time: g.GenesisTime, Hash: bytes.Repeat([]byte{1}, 32), ProposerAddress: bytes.Repeat([]byte{2}, 20)}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	out, err := export(log.NewLogger(&said), db, app.Latest, false, nil, simtestutil.EmptyAppOptions{}, nil)
	if err != nil || out.Height != 2 || !json.Valid(out.AppState) {
		t.Fatalf("height %d, %v", out.Height, err)
	}
	if said.Len() > 0 {
		t.Errorf("it says %q", said.String())
	}
}
