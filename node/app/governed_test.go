package app

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"cosmossdk.io/math"

	sdk "github.com/cosmos/cosmos-sdk/types"
	sdkerrors "github.com/cosmos/cosmos-sdk/types/errors"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	distrtypes "github.com/cosmos/cosmos-sdk/x/distribution/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"

	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/npos"
	npostypes "github.com/phala-go/phala/node/x/npos/types"
	npospure "github.com/phala-go/phala/npos"
)

// votingBlocks is how long a proposal is voted on, at a second a block.
const votingBlocks = 15

// authority is governance's account.
var authority = authtypes.NewModuleAddress(govtypes.ModuleName)

// decide submits a proposal in the next block, with a vote of each of six validators'
// operators in the one after, and returns what became of it when the vote has ended.
func (c *signedChain) decide(id uint64, m sdk.Msg) (status govv1.ProposalStatus, why string) {
	c.t.Helper()
	p, err := govv1.NewMsgSubmitProposal([]sdk.Msg{m},
		sdk.NewCoins(sdk.NewCoin(contracts.Denom, math.NewInt(proposalDeposit*PHA))), account(100).String(), "", "proposal", "six decide", false)
	if err != nil {
		c.t.Fatal(err)
	}
	c.next(nil, c.by(100, p))
	var votes [][]byte
	for k := range 6 {
		votes = append(votes, c.by(100+k, govv1.NewMsgVote(account(100+k), id, govv1.OptionYes, "")))
	}
	c.next(nil, votes...)
	for {
		p, err := c.Gov.Proposals.Get(c.context(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		if p.Status != govv1.StatusVotingPeriod {
			return p.Status, p.FailedReason
		}
		c.next(nil)
	}
}

func (c *signedChain) now() *npostypes.QueryEraResponse {
	c.t.Helper()
	return ask(c, "Era", &npostypes.QueryEraRequest{}, &npostypes.QueryEraResponse{})
}

// seats are the operators with a seat in the active era, by their numbers.
func (c *signedChain) seats(most int) (out []int) {
	c.t.Helper()
	list := ask(c, "Validators", &npostypes.QueryValidatorsRequest{}, &npostypes.QueryValidatorsResponse{}).Validators
	for k := range most {
		if slices.ContainsFunc(list, func(v npostypes.Validator) bool { return v.Elected && v.Operator == account(100+k).String() }) {
			out = append(out, k)
		}
	}
	return out
}

// TestGovernedElections: governance changes seats, the length of eras and the least
// bonds. What begins after the change follows it; an election that has begun keeps the
// seats that it began with, also on a chain that begins from an export in between.
func TestGovernedElections(t *testing.T) {
	const n = 6
	c := signed(genesisNode(t, validators(t, n)))
	c.next(nil)
	var p npos.Params
	if err := json.Unmarshal([]byte(ask(c, "Params", &npostypes.QueryParamsRequest{}, &npostypes.QueryParamsResponse{}).Params), &p); err != nil {
		t.Fatal(err)
	}
	changed := func(f func(p *npos.Params)) string {
		t.Helper()
		q := p
		f(&q)
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	amount := func(pha int64) npospure.U128 {
		t.Helper()
		v, err := npospure.ParseU128(math.NewInt(pha).MulRaw(PHA).String())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	update := func(params string) sdk.Msg {
		return &npostypes.MsgUpdateParams{Authority: authority.String(), Params: params}
	}
	passes := func(id uint64, f func(p *npos.Params)) {
		t.Helper()
		if s, why := c.decide(id, update(changed(f))); s != govv1.StatusPassed {
			t.Fatalf("%s: %s", s, why)
		}
	}
	// Two more than the rest, so that nobody's seat hangs on the order of equals.
	c.next(nil, c.by(104, &npostypes.MsgBond{Staker: account(104).String(), Amount: pha(500_000)}), c.by(105, &npostypes.MsgBond{Staker: account(105).String(), Amount: pha(700_000)}))

	// Seats: from the election after the one that runs when the vote ends.
	c.era(2)
	e := c.now()
	// The election of era 3 begins with the era's last session, five blocks before its end.
	// The vote is to end two blocks later.
	for end := int64(e.EndHeight) + 10 - 3; c.height+1+votingBlocks < end; {
		c.next(nil)
	}
	passes(1, func(p *npos.Params) { p.Seats = 2 })
	during := c.now()
	if during.Phase == "idle" || during.Phase == "ready" {
		t.Fatalf("the vote ended at height %d, not in an election: %+v", c.height, during)
	}
	export, err := c.Export(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := signed(start(t, export.AppState, &export.ConsensusParams, export.Height))
	for _, chain := range []*signedChain{c, other} {
		chain.next(nil)
		chain.era(during.Active + 1)
		if got := chain.seats(n); len(got) != n {
			t.Fatalf("the election that had begun seats %v", got)
		}
		chain.era(during.Active + 2)
		if got := chain.seats(n); !slices.Equal(got, []int{4, 5}) {
			t.Fatalf("the next election seats %v", got)
		}
		if set := chain.sets[chain.height+2]; len(set) != 2 {
			t.Fatalf("CometBFT has %v", set)
		}
	}
	if !bytes.Equal(c.exportedState(), other.exportedState()) {
		t.Error("the chain that began from the export is another one")
	}

	// Lengths: the era that runs ends when it said, the next one follows the change. Of the
	// six votes two count: nothing stands behind the others.
	passes(2, func(p *npos.Params) { p.Seats, p.SessionBlocks, p.SessionsPerEra = 4, 7, 3 })
	e = c.now()
	c.era(e.Active + 1)
	if uint64(c.height) != e.EndHeight {
		t.Errorf("era %d ended at %d, was to end at %d", e.Active, c.height, e.EndHeight)
	}
	if next := c.now(); next.EndHeight != e.EndHeight+21 {
		t.Errorf("era %d is to end at %d, %d after the one before", next.Active, next.EndHeight, next.EndHeight-e.EndHeight)
	}

	// Least bonds: who has less is not elected, and does not begin.
	passes(3, func(p *npos.Params) {
		p.Seats, p.MinValidatorBond, p.MinNominatorBond = 4, amount(1_500_000), amount(1000)
	})
	c.era(c.now().Active + 2)
	if got := c.seats(n); !slices.Equal(got, []int{4, 5}) {
		t.Errorf("with a least bond of 1,500,000 PHA %v are elected", got)
	}
	for what, m := range map[string]sdk.Msg{
		"nominate": &npostypes.MsgNominate{Staker: account(1).String(), Targets: []string{account(104).String()}, Bond: pha(999)},
		"validate": &npostypes.MsgValidate{Staker: account(1).String(), ConsensusKey: bytes.Repeat([]byte{7}, 32), Bond: pha(100_000)},
	} {
		if _, _, err := c.Simulate(c.by(1, m)); !errors.Is(err, npos.ErrMinimum) {
			t.Errorf("%s: %v", what, err)
		}
	}
	c.next(nil, c.by(1, &npostypes.MsgNominate{Staker: account(1).String(), Targets: []string{account(104).String()}, Bond: pha(1000)}))

	// What cannot be is refused when it is carried out, and changes nothing.
	before := ask(c, "Params", &npostypes.QueryParamsRequest{}, &npostypes.QueryParamsResponse{}).Params
	for i, bad := range []string{changed(func(p *npos.Params) { p.Seats = 301 }), changed(func(p *npos.Params) { p.SessionBlocks = 4 }), changed(func(p *npos.Params) { p.SlashDeferEras = p.UnbondingEras }),
		strings.Replace(changed(func(*npos.Params) {}), `"seats"`, `"chairs"`, 1), "{}", ""} {
		if s, why := c.decide(uint64(4+i), update(bad)); s != govv1.StatusFailed || !strings.Contains(why, npos.ErrParams.Error()) {
			t.Errorf("%s: %s: %s", bad, s, why)
		}
	}
	if after := ask(c, "Params", &npostypes.QueryParamsRequest{}, &npostypes.QueryParamsResponse{}).Params; after != before {
		t.Errorf("the parameters are %s, were %s", after, before)
	}
	if _, _, err := c.Simulate(c.by(1, &npostypes.MsgUpdateParams{Authority: account(1).String(), Params: before})); !errors.Is(err, npos.ErrAuthority) {
		t.Errorf("anybody changes the parameters: %v", err)
	}
}

// exportedState is the state as a genesis.
func (c *signedChain) exportedState() []byte {
	c.t.Helper()
	e, err := c.Export(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return e.AppState
}

// TestTreasury: what eras issue beside the stakers' part is x/distribution's community
// pool, from which governance pays, and nobody else; x/distribution divides nothing.
func TestTreasury(t *testing.T) {
	c := signed(genesisNode(t, validators(t, 6)))
	c.next(nil)
	c.era(3)
	pool := func() math.Int {
		t.Helper()
		a, err := c.treasury(c.context())
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if !pool().IsPositive() {
		t.Fatal("two eras gave the treasury nothing")
	}
	coins := func(amount math.Int) sdk.Coins { return sdk.NewCoins(sdk.NewCoin(contracts.Denom, amount)) }
	before := pool()
	c.next(nil, c.by(1, &distrtypes.MsgFundCommunityPool{Depositor: account(1).String(), Amount: coins(math.NewInt(7))}))
	if got := pool().Sub(before); !got.Equal(math.NewInt(7)) {
		t.Errorf("7 units given are %s", got)
	}
	spend := func(by sdk.AccAddress, amount math.Int) sdk.Msg {
		return &distrtypes.MsgCommunityPoolSpend{Authority: by.String(), Recipient: account(50).String(), Amount: coins(amount)}
	}
	if _, _, err := c.Simulate(c.by(1, spend(account(1), math.OneInt()))); !errors.Is(err, sdkerrors.ErrUnauthorized) {
		t.Errorf("anybody spends it: %v", err)
	}
	if _, _, err := c.Simulate(c.by(100, &distrtypes.MsgWithdrawValidatorCommission{ValidatorAddress: sdk.ValAddress(account(100)).String()})); !errors.Is(err, distrtypes.ErrNoValidatorCommission) {
		t.Errorf("x/distribution has a commission for a validator: %v", err)
	}
	amount := pool()
	if s, why := c.decide(1, spend(authority, amount)); s != govv1.StatusPassed {
		t.Fatalf("%s: %s", s, why)
	}
	if got := c.balance(account(50)); !got.Equal(amount) {
		t.Errorf("governance pays %s of %s", got, amount)
	}
	if s, why := c.decide(2, spend(authority, pool().MulRaw(2).AddRaw(1_000_000_000_000))); s != govv1.StatusFailed {
		t.Errorf("governance pays what is not there: %s %s", s, why)
	}
}
