package app

import (
	"testing"
	"time"

	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/client"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	errs "github.com/cosmos/cosmos-sdk/types/errors"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/phala-go/phala/client/tx"
)

// TestCheckAfterStart: a node that has just started, and has executed no block since, takes
// the transactions that it would have taken before, and no others; and it keeps what it took.
func TestCheckAfterStart(t *testing.T) {
	g, _ := network(t)
	db := dbm.NewMemDB()
	open := func() *node {
		a, err := New(log.NewNopLogger(), db, "", simtestutil.EmptyAppOptions{}, baseapp.SetChainID(chainID), baseapp.SetMinGasPrices("0.001ppha"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		})
		return &node{App: a, t: t}
	}
	before := open()
	params := g.Consensus.Params.ToProto()
	if _, err := before.InitChain(&abci.RequestInitChain{ChainId: chainID, Time: genesisTime, InitialHeight: 1, ConsensusParams: &params, AppStateBytes: g.AppState}); err != nil {
		t.Fatal(err)
	}
	before.votes = genesisNode(t, g).votes
	for range 3 {
		before.block()
	}

	who := sdk.AccAddress(wallet.PubKey().Address())
	send := func(edit func(client.TxBuilder)) []byte {
		b := before.built(wallet, chainID, 1000, &banktypes.MsgSend{FromAddress: who.String(), ToAddress: account(3).String(), Amount: coins(5)})
		if edit == nil {
			return b
		}
		tx, err := before.TxConfig.TxDecoder()(b)
		if err != nil {
			t.Fatal(err)
		}
		builder, err := before.TxConfig.WrapTxBuilder(tx)
		if err != nil {
			t.Fatal(err)
		}
		edit(builder) // after it was signed: what is looked at before the signature
		if b, err = before.TxConfig.TxEncoder()(builder.GetTx()); err != nil {
			t.Fatal(err)
		}
		return b
	}
	until := func(at time.Time) []byte {
		return send(func(b client.TxBuilder) {
			b.SetTimeoutTimestamp(at)
			b.SetMemo("") // the timestamp alone does not make it encode anew
		})
	}
	sr := func(k int) []byte { return before.signed(k, 0, fee, tx.Send(account(k), account(3), "5")) }
	wrong := before.built(wallet, "other-1", 1000, &banktypes.MsgSend{FromAddress: who.String(), ToAddress: account(3).String(), Amount: coins(5)})
	cases := []struct {
		name string
		tx   []byte
		code uint32
		gas  int64
	}{
		{"account number 0", sr(1), 0, 20_000_000},
		{"another account", sr(2), 0, 20_000_000},
		{"another chain", wrong, errs.ErrUnauthorized.ABCICode(), 600_000},
		{"little gas", send(func(b client.TxBuilder) { b.SetGasLimit(100) }), errs.ErrOutOfGas.ABCICode(), 100},
		{"too late, by height", send(func(b client.TxBuilder) { b.SetTimeoutHeight(2) }), errs.ErrTxTimeoutHeight.ABCICode(), 600_000},
		{"too late, by time", until(blockTime(3).Add(-time.Millisecond)), errs.ErrTxTimeout.ABCICode(), 600_000},
		{"in time", until(blockTime(3).Add(time.Millisecond)), errs.ErrUnauthorized.ABCICode(), 600_000},
		{"a wallet", send(nil), 0, 600_000},
	}
	checks := func(name string, n *node, kind abci.CheckTxType) {
		t.Helper()
		for _, tc := range cases {
			if kind == abci.CheckTxType_Recheck && tc.code != 0 {
				continue // it is not in the mempool
			}
			res, err := n.CheckTx(&abci.RequestCheckTx{Tx: tc.tx, Type: kind})
			if err != nil || res.Code != tc.code || res.GasWanted != tc.gas {
				t.Errorf("%s, %s: code %d, gas wanted %d, %v; want %d, %d: %s", name, tc.name, res.Code, res.GasWanted, err, tc.code, tc.gas, res.Log)
			}
		}
	}
	after := open()
	after.votes, after.height = before.votes, before.height
	checks("running", before, abci.CheckTxType_New)
	checks("started", after, abci.CheckTxType_New)
	after.block()
	checks("after its first block", after, abci.CheckTxType_Recheck)
}
