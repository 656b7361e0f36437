package app

import (
	"context"
	"errors"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"

	sdk "github.com/cosmos/cosmos-sdk/types"
	errs "github.com/cosmos/cosmos-sdk/types/errors"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/phala-go/phala/client/tx"
)

// TestQueriesEnd: nobody keeps a node from its blocks by a question: stores are read by the
// key, and a simulation has the gas of a block.
func TestQueriesEnd(t *testing.T) {
	g, _ := network(t)
	g.Consensus.Params.Block.MaxGas = 1_000_000
	n := genesisNode(t, g)
	n.block()
	who := sdk.AccAddress(wallet.PubKey().Address())
	for _, c := range []struct {
		path string
		data []byte
		code uint32
	}{
		{"/store/acc/key", tx.KeyAccount(account(1)), 0},
		{"/store/acc/subspace", []byte{1}, errs.ErrUnknownRequest.ABCICode()},
		{"store/acc/subspace", nil, errs.ErrUnknownRequest.ABCICode()},
	} {
		res, err := n.Query(context.Background(), &abci.RequestQuery{Path: c.path, Data: c.data})
		if err != nil || res.Code != c.code || (len(res.Value) > 0) != (c.code == 0) {
			t.Errorf("%s: %d %s, %d bytes, %v", c.path, res.Code, res.Log, len(res.Value), err)
		}
	}
	sends := func(k int) []byte {
		msgs := make([]sdk.Msg, k)
		for i := range msgs {
			msgs[i] = &banktypes.MsgSend{FromAddress: who.String(), ToAddress: account(3).String(), Amount: coins(1)}
		}
		return n.built(wallet, chainID, 1000, msgs...)
	}
	used, _, err := n.Simulate(sends(3))
	if err != nil {
		t.Fatal(err)
	}
	res := n.block(sends(3))
	if res[0].Code != 0 || uint64(res[0].GasUsed) > used.GasUsed {
		t.Errorf("a simulation finds %d gas, the block takes %d: %s", used.GasUsed, res[0].GasUsed, res[0].Log)
	}
	if used, _, err = n.Simulate(sends(200)); !errors.Is(err, errs.ErrOutOfGas) {
		t.Errorf("a simulation of more than a block's gas: %d, %v", used.GasUsed, err)
	}
}
