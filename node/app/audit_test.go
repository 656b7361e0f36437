package app

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/npos"
	npostypes "github.com/phala-go/phala/node/x/npos/types"
)

// TestAudit: all of the supply is found, and so is each unit that nobody's records
// explain.
func TestAudit(t *testing.T) {
	c := signed(genesisNode(t, validators(t, 4)))
	c.next(nil)
	c.next(nil)
	found, err := c.Audit()
	if err != nil {
		t.Fatal(err)
	}
	million := math.NewInt(PHA).MulRaw(1_000_000)
	if !found.Supply.Equal(million.MulRaw(9)) || !found.Users.Equal(million.MulRaw(5)) || !found.Modules[npos.ModuleName].Equal(million.MulRaw(4)) ||
		found.Stakes.Bonded.String() != million.MulRaw(4).String() || found.Height != c.height {
		t.Fatalf("%+v", found)
	}
	one := sdk.NewCoins(sdk.NewCoin(contracts.Denom, math.OneInt()))
	mint := func(ctx sdk.Context, module string) error {
		return errors.Join(c.Bank.MintCoins(ctx, npos.RewardsName, one), c.Bank.SendCoinsFromModuleToModule(ctx, npos.RewardsName, module, one))
	}
	// Each adds its own to what is wrong already.
	for _, x := range []struct {
		want   string
		tamper func(ctx sdk.Context) error
	}{
		{"contracts has 1 and owes 0", func(ctx sdk.Context) error { return mint(ctx, contracts.ModuleName) }},
		{"gov has 1 and owes 0", func(ctx sdk.Context) error { return mint(ctx, govtypes.ModuleName) }},
		{"bonded_tokens_pool has 1 and owes 0", func(ctx sdk.Context) error { return mint(ctx, stakingtypes.BondedPoolName) }},
		{"distribution has 1 and owes 0", func(ctx sdk.Context) error { return mint(ctx, distrtypes.ModuleName) }},
		{"a community pool of 0.5", func(ctx sdk.Context) error {
			half := sdk.NewDecCoins(sdk.NewDecCoinFromDec(contracts.Denom, math.LegacyNewDecWithPrec(5, 1)))
			return c.Distribution.FeePool.Set(ctx, distrtypes.FeePool{CommunityPool: half})
		}},
		{"npos: the accounts do not add up: stakes of", func(ctx sdk.Context) error { return mint(ctx, npos.ModuleName) }},
		{"app: the accounts do not add up: a supply of 1, accounts have", func(ctx sdk.Context) error {
			return c.Bank.Supply.Set(ctx, contracts.Denom, math.OneInt())
		}},
	} {
		if err := x.tamper(c.context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Audit(); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("got %v, want ... %s", err, x.want)
		}
	}
}

// TestNobodyPaysModules: a unit that a stranger sent to a module's account would make every
// later audit fail, and x/gov begin no chain from an export.
func TestNobodyPaysModules(t *testing.T) {
	g, _ := network(t)
	n := genesisNode(t, g)
	n.block()
	for _, name := range slices.Sorted(maps.Keys(moduleAccounts)) {
		if res := n.block(n.signed(1, 0, fee, tx.Send(account(1), authtypes.NewModuleAddress(name), "1"))); res[0].Codespace != "sdk" || res[0].Code != 4 {
			t.Errorf("%s: %s %d: %s", name, res[0].Codespace, res[0].Code, res[0].Log)
		}
	}
	n.block()
	if _, err := n.Audit(); err != nil {
		t.Error(err)
	}
}

// TestNobodyPaysValidators: x/distribution would owe a validator what somebody paid there
// for it, and nobody can withdraw it. Its own check lets one through that has lost its
// seat a short while ago and has no power any more.
func TestNobodyPaysValidators(t *testing.T) {
	c := signed(genesisNode(t, validators(t, 4)))
	c.next(nil)
	c.next(nil, c.by(100, &npostypes.MsgChill{Staker: account(100).String()}))
	c.era(3)
	if v, err := c.Staking.GetValidator(c.context(), sdk.ValAddress(account(100))); err != nil || !v.Tokens.IsZero() {
		t.Fatalf("%+v, %v", v, err)
	}
	for _, k := range []int{100, 101} {
		m := &distrtypes.MsgDepositValidatorRewardsPool{Depositor: account(1).String(), ValidatorAddress: sdk.ValAddress(account(k)).String(),
			Amount: sdk.NewCoins(sdk.NewCoin(contracts.Denom, math.NewInt(7)))}
		if _, _, err := c.Simulate(c.by(1, m)); !errors.Is(err, stakingtypes.ErrNoValidatorFound) {
			t.Errorf("validator %d: %v", k, err)
		}
	}
}
