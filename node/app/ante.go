package app

import (
	gomath "math"

	"cosmossdk.io/core/header"
	sdkerrors "cosmossdk.io/errors"
	"cosmossdk.io/math"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	errs "github.com/cosmos/cosmos-sdk/types/errors"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	"github.com/cosmos/cosmos-sdk/x/auth/ante"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"

	"github.com/phala-go/phala/node/crypto/sr25519"
	mqtypes "github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
)

// newAnteHandler is the SDK's with three changes: sr25519 signatures are priced as
// ed25519 ones, a transaction that only carries a worker's new outbox entries pays no
// fee within the worker's quota, and verifications of evidence are counted.
func (a *App) newAnteHandler() (sdk.AnteHandler, error) {
	h, err := ante.NewAnteHandler(ante.HandlerOptions{
		AccountKeeper:   a.Account,
		BankKeeper:      a.Bank,
		FeegrantKeeper:  a.FeeGrant,
		SignModeHandler: a.TxConfig.SignModeHandler(),
		SigGasConsumer: func(meter storetypes.GasMeter, sig signing.SignatureV2, params authtypes.Params) error {
			if _, ok := sig.PubKey.(*sr25519.PubKey); ok {
				meter.ConsumeGas(params.SigVerifyCostED25519, "ante verify: sr25519")
				return nil
			}
			return ante.DefaultSigVerificationGasConsumer(meter, sig, params)
		},
		TxFeeChecker: a.checkFee,
	})
	if err != nil {
		return nil, err
	}
	return func(ctx sdk.Context, tx sdk.Tx, simulate bool) (sdk.Context, error) {
		ctx, err := h(a.sinceStart(ctx), tx, simulate)
		if err != nil {
			return ctx, err
		}
		if simulate {
			ctx = boundSimulation(ctx)
		}
		// Here and not where they run: what fails there leaves no trace.
		gas := uint64(gomath.MaxUint64) // a simulation is to find it
		if feeTx, ok := tx.(sdk.FeeTx); ok && !simulate {
			gas = feeTx.GetGas()
		}
		return ctx, a.Registry.Reserve(ctx, tx.GetMsgs(), gas)
	}, nil
}

// sinceStart gives a check the newest block's height and time. Until the first block after
// a start, the SDK checks with those of no block (baseapp.Init), which it takes for genesis:
// it verifies signatures for account number 0 and bounds no gas. What it then calls good
// wants a negative amount of gas, and CometBFT drops it without a word (PostCheckMaxGas).
func (a *App) sinceStart(ctx sdk.Context) sdk.Context {
	last := a.LastBlockHeight()
	if ctx.BlockHeight() != 0 || last == 0 {
		return ctx // in a block, or genesis itself
	}
	h := ctx.BlockHeader()
	h.Height = last
	if s, ok := a.CommitMultiStore().(interface {
		GetCommitInfo(int64) (*storetypes.CommitInfo, error)
	}); ok {
		if info, err := s.GetCommitInfo(last); err == nil {
			h.Time = info.Timestamp
		}
	}
	return ctx.WithBlockHeader(h).WithHeaderInfo(header.Info{Height: h.Height, Time: h.Time, ChainID: h.ChainID})
}

// checkFee returns the fee to deduct and the transaction's priority.
func (a *App) checkFee(ctx sdk.Context, tx sdk.Tx) (sdk.Coins, int64, error) {
	feeTx, ok := tx.(sdk.FeeTx)
	if !ok {
		return nil, 0, sdkerrors.Wrap(errs.ErrTxDecode, "not a fee transaction")
	}
	fee, gas := feeTx.GetFee(), feeTx.GetGas()
	free, err := a.freeOutbox(ctx, tx.GetMsgs(), gas)
	if err != nil {
		return nil, 0, err
	}
	if free {
		// Outbox runs go first: receipts free the escrow of commands.
		return nil, 1 << 40, nil
	}
	if ctx.IsCheckTx() {
		need := sdk.Coins{}
		for _, p := range ctx.MinGasPrices() {
			need = need.Add(sdk.NewCoin(p.Denom, p.Amount.Mul(math.LegacyNewDec(int64(gas))).Ceil().RoundInt()))
		}
		if !need.IsZero() && !fee.IsAnyGTE(need) {
			return nil, 0, sdkerrors.Wrapf(errs.ErrInsufficientFee, "fee %s, need %s", fee, need)
		}
	}
	return fee, priority(fee, gas), nil
}

func priority(fee sdk.Coins, gas uint64) int64 {
	if len(fee) == 0 || gas == 0 {
		return 0
	}
	p := fee[0].Amount.QuoRaw(int64(gas))
	if !p.IsInt64() {
		return 1 << 39
	}
	return min(p.Int64(), 1<<39)
}

// freeOutbox reports whether a transaction carries outbox runs only and each of them is
// free. A run with nothing new is an error: it does not enter a block. The gas has to be
// what the runs may cost: with less they would fail and could come again in each block,
// with more they would keep a block's gas from others, and nobody would pay for either.
func (a *App) freeOutbox(ctx sdk.Context, msgs []sdk.Msg, gas uint64) (bool, error) {
	entries, size := 0, 0
	for _, m := range msgs {
		run, ok := m.(*mqtypes.MsgSubmitOutbox)
		if !ok {
			return false, nil
		}
		entries += len(run.Entries)
		for i := range run.Entries {
			size += len(run.Entries[i].Payload)
		}
	}
	for _, m := range msgs {
		if ok, err := a.MQ.Free(ctx, m.(*mqtypes.MsgSubmitOutbox)); err != nil || !ok {
			return false, err
		}
	}
	return len(msgs) > 0 && gas == proto.OutboxGas(entries, size), nil
}
