package app

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"cosmossdk.io/collections"
	"cosmossdk.io/math"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"

	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/npos"
)

// ErrAudit: some account has what nobody's records say, or less than they say.
var ErrAudit = errors.New("app: the accounts do not add up")

// An Audit is where all money is at a height, in base units: the supply is the sum of
// the users' accounts and the modules'.
type Audit struct {
	Height  int64               `json:"height"`
	Supply  math.Int            `json:"supply"`
	Users   math.Int            `json:"users"`
	Modules map[string]math.Int `json:"modules"` // with an account, each
	Stakes  npos.Totals         `json:"stakes"`  // what npos and npos_rewards have, by its records
}

// Audit adds up every account of the newest state, and compares each module's with what
// its records say that it owes. It returns what it counted with an error, too.
func (a *App) Audit() (*Audit, error) {
	ctx := a.NewContextLegacy(true, cmtproto.Header{Height: a.LastBlockHeight(), ChainID: a.ChainID()})
	out := &Audit{Height: a.LastBlockHeight(), Supply: a.Bank.GetSupply(ctx, contracts.Denom).Amount, Users: math.ZeroInt(), Modules: map[string]math.Int{}}
	names := map[string]string{}
	for name := range moduleAccounts {
		out.Modules[name] = math.ZeroInt()
		names[string(authtypes.NewModuleAddress(name))] = name
	}
	sum := math.ZeroInt()
	a.Bank.IterateAllBalances(ctx, func(who sdk.AccAddress, c sdk.Coin) bool {
		if c.Denom != contracts.Denom {
			return false
		}
		sum = sum.Add(c.Amount)
		if name, ok := names[string(who)]; ok {
			out.Modules[name] = c.Amount
		} else {
			out.Users = out.Users.Add(c.Amount)
		}
		return false
	})
	var bad []error
	if !sum.Equal(out.Supply) {
		bad = append(bad, fmt.Errorf("%w: a supply of %s, accounts have %s", ErrAudit, out.Supply, sum))
	}
	stakes, err := a.NPoS.Audit(ctx)
	out.Stakes = stakes
	bad = append(bad, err)
	owed := map[string]func() (math.Int, error){
		contracts.ModuleName:  func() (math.Int, error) { return a.Contracts.Held(ctx) },
		govtypes.ModuleName:   func() (math.Int, error) { return a.govDeposits(ctx) },
		distrtypes.ModuleName: func() (math.Int, error) { return a.treasury(ctx) },
	}
	for _, name := range slices.Sorted(maps.Keys(out.Modules)) {
		f, held := owed[name], out.Modules[name]
		switch name {
		case npos.ModuleName, npos.RewardsName: // in stakes
			continue
		case authtypes.FeeCollectorName: // the block's fees, which the next block divides
			continue
		}
		want := math.ZeroInt()
		if f != nil {
			if want, err = f(); err != nil {
				bad = append(bad, fmt.Errorf("%s: %w", name, err))
				continue
			}
		}
		if !held.Equal(want) {
			bad = append(bad, fmt.Errorf("%w: %s has %s and owes %s", ErrAudit, name, held, want))
		}
	}
	return out, errors.Join(bad...)
}

func (a *App) govDeposits(ctx sdk.Context) (math.Int, error) {
	sum := math.ZeroInt()
	err := a.Gov.Deposits.Walk(ctx, nil, func(_ collections.Pair[uint64, sdk.AccAddress], d govv1.Deposit) (bool, error) {
		sum = sum.Add(sdk.NewCoins(d.Amount...).AmountOf(contracts.Denom))
		return false, nil
	})
	return sum, err
}

// treasury is the community pool. Nothing else is in x/distribution's account.
func (a *App) treasury(ctx sdk.Context) (math.Int, error) {
	pool, err := a.Distribution.FeePool.Get(ctx)
	if err != nil {
		return math.ZeroInt(), err
	}
	amount := pool.CommunityPool.AmountOf(contracts.Denom)
	if !amount.IsInteger() {
		return math.ZeroInt(), fmt.Errorf("%w: a community pool of %s", ErrAudit, amount)
	}
	return amount.TruncateInt(), nil
}
