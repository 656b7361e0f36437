package app

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/node/crypto/sr25519"
	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/registry"
	registrytypes "github.com/phala-go/phala/node/x/registry/types"
	phala "github.com/phala-go/phala/proto"
)

// TestFailedRegistrationsCount: a block verifies no more evidence than its bound, that of
// transactions that fail included, and a transaction that fails pays its fee.
func TestFailedRegistrationsCount(t *testing.T) {
	g, vendor := network(t)
	n := genesisNode(t, g)
	n.block()
	n.block()
	collateral, err := vendor.Collateral(attest.TDX, genesisTime)
	if err != nil {
		t.Fatal(err)
	}
	ctx := n.context()
	p, err := n.Registry.Params(ctx)
	if err != nil {
		t.Fatal(err)
	}
	bad := func(skip int) []byte {
		m := n.register(vendor, 20+skip)
		m.Value[len(m.Value)-100] ^= 1 // in the evidence
		return n.signed(1, skip, fee, m)
	}
	bound := int(p.RegistrationsPerBlock)
	txs := [][]byte{n.signed(1, 0, fee, tx.UpdateCollateral(account(1), collateral.Marshal()))}
	for len(txs) < bound {
		txs = append(txs, bad(len(txs)))
	}
	before := n.balance(account(1))
	for i, b := range txs {
		if res := n.check(b); res.Code != 0 {
			t.Fatalf("transaction %d does not enter the mempool: %s %d: %s", i, res.Codespace, res.Code, res.Log)
		}
	}
	late := n.signed(1, 0, fee, n.register(vendor, 11)) // the mempool has the others
	if res := n.check(late); res.Codespace != registry.ModuleName || res.Code != 12 {
		t.Fatalf("one too many enters the mempool: %s %d: %s", res.Codespace, res.Code, res.Log)
	}
	out := n.block(append(txs, late)...)
	for i, r := range out {
		want := uint32(7)
		switch i {
		case 0:
			want = 0
		case bound:
			want = 12
		}
		if r.Code != want || want != 0 && r.Codespace != registry.ModuleName {
			t.Fatalf("transaction %d: %s %d: %s", i, r.Codespace, r.Code, r.Log)
		}
	}
	if paid := before.Sub(n.balance(account(1))); !paid.Equal(coins(int64(bound) * fee)[0].Amount) {
		t.Fatalf("%s was paid for %d transactions", paid, bound)
	}
	n.must(n.signed(1, 0, fee, n.register(vendor, 11)))
}

// TestCheapTransactionTakesNoPlace: a transaction of 64 messages that nothing has to be
// verified of stops nobody's registration, though the proposer put it first in the block.
func TestCheapTransactionTakesNoPlace(t *testing.T) {
	g, vendor := network(t)
	n := genesisNode(t, g)
	n.block()
	n.block()
	var attack []tx.Msg
	for range registry.DefaultParams().RegistrationsPerBlock {
		attack = append(attack, tx.UpdateCollateral(account(2), []byte{1}))
	}
	collateral, err := vendor.Collateral(attest.TDX, genesisTime)
	if err != nil {
		t.Fatal(err)
	}
	out := n.block(n.signed(2, 0, fee, attack...), n.signed(1, 0, fee, tx.UpdateCollateral(account(1), collateral.Marshal()), n.register(vendor, 11)))
	if out[0].Codespace != registry.ModuleName || out[0].Code != 18 {
		t.Errorf("the attack: %s %d: %s", out[0].Codespace, out[0].Code, out[0].Log)
	}
	if out[1].Code != 0 {
		t.Fatalf("a registration after it: %s %d: %s", out[1].Codespace, out[1].Code, out[1].Log)
	}
}

// TestGovernance: a proposal that passes does what its messages say, and nobody else may
// say it.
func TestGovernance(t *testing.T) {
	g, vendor := network(t)
	var state map[string]json.RawMessage
	if err := json.Unmarshal(g.AppState, &state); err != nil {
		t.Fatal(err)
	}
	var gov map[string]any
	if err := json.Unmarshal(state["gov"], &gov); err != nil {
		t.Fatal(err)
	}
	params := gov["params"].(map[string]any)
	params["voting_period"], params["expedited_voting_period"] = "5s", "3s"
	var err error
	if state["gov"], err = json.Marshal(gov); err != nil {
		t.Fatal(err)
	}
	if g.AppState, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	n := genesisNode(t, g)
	n.block()
	n.block()
	collateral, err := vendor.Collateral(attest.TDX, genesisTime)
	if err != nil {
		t.Fatal(err)
	}
	n.must(n.signed(1, 0, fee, tx.UpdateCollateral(account(1), collateral.Marshal()), n.register(vendor, 11)))
	worker := phala.WorkerID(pair(11).Public())
	messages := func(authority sdk.AccAddress) []sdk.Msg {
		p, err := n.Registry.Params(n.context())
		if err != nil {
			t.Fatal(err)
		}
		p.LeaseBlocks = 1 << 20
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		a := authority.String()
		return []sdk.Msg{
			&registrytypes.MsgUpdateParams{Authority: a, Params: string(b)},
			&registrytypes.MsgSetMeasurement{Authority: a, Digest: make([]byte, 32), Role: "worker", From: 1},
			&registrytypes.MsgSetFloor{Authority: a, Platform: "sgx", Evaluation: 3},
			&registrytypes.MsgSetDenial{Authority: a, Kind: "fmspc", Subject: hex.EncodeToString(simulator.FMSPC[:])},
		}
	}
	user := sdk.AccAddress(wallet.PubKey().Address())
	for _, m := range messages(user) {
		if res := n.block(n.built(wallet, chainID, 1000, m)); res[0].Codespace != registry.ModuleName || res[0].Code != 13 {
			t.Fatalf("%T by a user: %s %d: %s", m, res[0].Codespace, res[0].Code, res[0].Log)
		}
	}
	governance := authtypes.NewModuleAddress(govtypes.ModuleName)
	deposit, err := sdk.ParseCoinsNormalized(params["min_deposit"].([]any)[0].(map[string]any)["amount"].(string) + contracts.Denom)
	if err != nil {
		t.Fatal(err)
	}
	if want := math.NewInt(proposalDeposit).MulRaw(PHA); !deposit.AmountOf(contracts.Denom).Equal(want) {
		t.Errorf("a proposal deposits %s, want %s", deposit, want)
	}
	short, err := govv1.NewMsgSubmitProposal(messages(governance), deposit.Sub(sdk.NewInt64Coin(contracts.Denom, 1)), user.String(), "", "Deny a family", "For less.", false)
	if err != nil {
		t.Fatal(err)
	}
	if res := n.block(n.built(wallet, chainID, 1000, short)); res[0].Codespace != "gov" || !strings.Contains(res[0].Log, "deposit") {
		t.Errorf("filed with a unit less: %s %d: %s", res[0].Codespace, res[0].Code, res[0].Log)
	}
	submit, err := govv1.NewMsgSubmitProposal(messages(governance), deposit, user.String(), "", "Deny a family", "Its keys leaked.", false)
	if err != nil {
		t.Fatal(err)
	}
	n.must(n.built(wallet, chainID, 1000, submit))
	validator, err := sr25519.FromSeed(seed(100))
	if err != nil {
		t.Fatal(err)
	}
	n.must(n.built(validator, chainID, 1000, govv1.NewMsgVote(sdk.AccAddress(validator.PubKey().Address()), 1, govv1.OptionYes, "")))
	if ok, why := n.Registry.Serving(n.context(), worker); !ok {
		t.Fatalf("before the vote ends: %s", why)
	}
	for range 8 {
		n.block()
	}
	p, err := n.Registry.Params(n.context())
	if err != nil || p.LeaseBlocks != 1<<20 {
		t.Fatalf("lease of %d blocks, %v", p.LeaseBlocks, err)
	}
	if ok, why := n.Registry.Serving(n.context(), worker); ok || !strings.Contains(why, "attestation ended") {
		t.Fatalf("after it: %v %s", ok, why)
	}
	if res := n.block(n.signed(1, 0, fee, n.register(vendor, 12))); res[0].Codespace != registry.ModuleName || res[0].Code != 19 {
		t.Fatalf("a worker of the denied family: %s %d: %s", res[0].Codespace, res[0].Code, res[0].Log)
	}
}
