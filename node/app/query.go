package app

import (
	"context"

	sdkerrors "cosmossdk.io/errors"
	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/cosmos/cosmos-sdk/baseapp"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	errs "github.com/cosmos/cosmos-sdk/types/errors"
)

// Whoever reaches a node's RPC may ask it, and while it answers it executes no block. So
// every answer has a bound: services have the gas of query-gas-limit, a key is one value, and
// what the SDK leaves open is closed here.

// Query answers what the SDK does, but for a whole store at once, which nothing needs.
func (a *App) Query(ctx context.Context, req *abci.RequestQuery) (*abci.ResponseQuery, error) {
	if p := baseapp.SplitABCIQueryPath(req.Path); len(p) > 0 && p[0] == "store" && p[len(p)-1] == "subspace" {
		return errs.QueryResult(sdkerrors.Wrap(errs.ErrUnknownRequest, "a part of a store cannot be asked for: ask for keys"), false), nil
	}
	return a.BaseApp.Query(ctx, req)
}

// boundSimulation gives a simulation the gas that a block has: more than that no transaction
// could use.
func boundSimulation(ctx sdk.Context) sdk.Context {
	block := ctx.ConsensusParams().Block
	if block == nil || block.MaxGas <= 0 {
		return ctx
	}
	m := storetypes.NewGasMeter(uint64(block.MaxGas))
	m.ConsumeGas(ctx.GasMeter().GasConsumed(), "before messages")
	return ctx.WithGasMeter(m)
}
