package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"cosmossdk.io/math"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	govtypes "github.com/cosmos/cosmos-sdk/x/gov/types"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	stakingtypes "github.com/cosmos/cosmos-sdk/x/staking/types"

	"github.com/phala-go/phala/node/crypto/sr25519"
	"github.com/phala-go/phala/node/x/contracts"
	"github.com/phala-go/phala/node/x/npos"
	npostypes "github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/node/x/registry"
	npospure "github.com/phala-go/phala/npos"
)

// validators writes a network of n validators, whose operators are accounts 100 and
// on, with eras of ten blocks and votes of fifteen seconds.
func validators(t *testing.T, n int) *genutiltypes.AppGenesis {
	t.Helper()
	Configure()
	p := npos.DefaultParams()
	p.Seats, p.SessionBlocks, p.SessionsPerEra, p.UnbondingEras, p.SlashDeferEras, p.HistoryEras = uint32(n), 5, 2, 4, 2, 6
	spec := &NetworkSpec{ChainID: chainID, GenesisTime: genesisTime, BlockInterval: "100ms", MinGasPrice: "0.001ppha", Registry: registry.DefaultParams(), NPoS: &p, Accounts: []AccountSpec{{account(1).String(), 1_000_000}}}
	dir := t.TempDir()
	for i := range n {
		spec.Validators = append(spec.Validators, ValidatorSpec{Home: filepath.Join(dir, fmt.Sprint(i)), Seed: hex.EncodeToString(seed(100 + i)),
			RPC: fmt.Sprintf("tcp://127.0.0.1:%d", 10+2*i), P2P: fmt.Sprintf("tcp://127.0.0.1:%d", 11+2*i)})
	}
	if err := InitNetwork(spec); err != nil {
		t.Fatal(err)
	}
	g, err := genutiltypes.AppGenesisFromFile(filepath.Join(dir, "0", "config", "genesis.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state map[string]map[string]json.RawMessage
	if err := json.Unmarshal(g.AppState, &state); err != nil {
		t.Fatal(err)
	}
	var gov map[string]any
	if err := json.Unmarshal(state["gov"]["params"], &gov); err != nil {
		t.Fatal(err)
	}
	gov["voting_period"], gov["expedited_voting_period"] = "15s", "10s"
	if state["gov"]["params"], err = json.Marshal(gov); err != nil {
		t.Fatal(err)
	}
	if g.AppState, err = json.Marshal(state); err != nil {
		t.Fatal(err)
	}
	return g
}

// A network is a node with CometBFT's part around it: who is in the set signs.
type signedChain struct {
	*node
	sets map[int64]map[string]int64 // height: consensus address: power
}

func signed(n *node) *signedChain {
	c := &signedChain{node: n, sets: map[int64]map[string]int64{}}
	first := map[string]int64{}
	for _, v := range n.votes {
		first[string(v.Validator.Address)] = v.Validator.Power
	}
	c.sets[n.height+1], c.sets[n.height+2] = first, first
	return c
}

// next executes a block, in which CometBFT reports that some signed twice at a height.
func (c *signedChain) next(twice map[string]int64, txs ...[]byte) []*abci.ExecTxResult {
	c.t.Helper()
	h := c.height + 1
	c.votes = nil
	set := c.sets[h-1]
	if set == nil {
		set = c.sets[h]
	}
	for _, cons := range slices.Sorted(maps.Keys(set)) {
		c.votes = append(c.votes, abci.VoteInfo{Validator: abci.Validator{Address: []byte(cons), Power: set[cons]}, BlockIdFlag: cmtproto.BlockIDFlagCommit})
	}
	req := &abci.RequestFinalizeBlock{Height: h, Time: blockTime(h), Hash: blockHash(h), Txs: txs, ProposerAddress: c.votes[0].Validator.Address, DecidedLastCommit: abci.CommitInfo{Votes: c.votes}}
	for _, cons := range slices.Sorted(maps.Keys(twice)) {
		req.Misbehavior = append(req.Misbehavior, abci.Misbehavior{Type: abci.MisbehaviorType_DUPLICATE_VOTE, Validator: abci.Validator{Address: []byte(cons), Power: 1},
			Height: twice[cons], Time: blockTime(twice[cons]), TotalVotingPower: 1})
	}
	res, err := c.FinalizeBlock(req)
	if err != nil {
		c.t.Fatalf("block %d: %v", h, err)
	}
	c.commit()
	c.height = h
	after := maps.Clone(c.sets[h+1])
	for _, u := range res.ValidatorUpdates {
		sum := sha256.Sum256(u.PubKey.GetEd25519())
		if u.Power == 0 {
			delete(after, string(sum[:20]))
		} else {
			after[string(sum[:20])] = u.Power
		}
	}
	c.sets[h+2] = after
	for i, r := range res.TxResults {
		if r.Code != 0 {
			c.t.Fatalf("height %d, transaction %d: %s %d: %s", h, i, r.Codespace, r.Code, r.Log)
		}
	}
	if found, err := c.Audit(); err != nil {
		c.t.Fatalf("height %d: %v: %+v", h, err, found)
	}
	return res.TxResults
}

func ask[Q, R interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}](c *signedChain, method string, q Q, r R) R {
	c.t.Helper()
	b, err := q.Marshal()
	if err != nil {
		c.t.Fatal(err)
	}
	res, err := c.Query(context.Background(), &abci.RequestQuery{Path: "/phala.npos.v1.Query/" + method, Data: b})
	if err != nil || res.Code != 0 {
		c.t.Fatalf("%s: %v %s", method, err, res.Log)
	}
	if err := r.Unmarshal(res.Value); err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *signedChain) era(n uint64) {
	c.t.Helper()
	for i := 0; ask(c, "Era", &npostypes.QueryEraRequest{}, &npostypes.QueryEraResponse{}).Active < n; i++ {
		if i > 100 {
			c.t.Fatalf("era %d does not begin", n)
		}
		c.next(nil)
	}
}

func (c *signedChain) by(k int, msgs ...sdk.Msg) []byte {
	c.t.Helper()
	key, err := sr25519.FromSeed(seed(k))
	if err != nil {
		c.t.Fatal(err)
	}
	return c.built(key, chainID, 1000, msgs...)
}

func (c *signedChain) staker(k int) *npostypes.QueryStakerResponse {
	c.t.Helper()
	return ask(c, "Staker", &npostypes.QueryStakerRequest{Staker: account(k).String()}, &npostypes.QueryStakerResponse{})
}

func pha(n int64) string { return math.NewInt(n).MulRaw(PHA).String() }

// TestNPoS drives the whole application: a nominator's stake elects and votes, a double
// signature that CometBFT reports is slashed by x/npos alone and cancelled by governance,
// and the state survives an export in the middle of it.
func TestNPoS(t *testing.T) {
	g := validators(t, 4)
	c := signed(genesisNode(t, g))
	c.next(nil)
	c.next(nil, c.by(1, &npostypes.MsgNominate{Staker: account(1).String(), Targets: []string{account(100).String()}, Bond: pha(900_000)}))
	c.era(2)
	vals := ask(c, "Validators", &npostypes.QueryValidatorsRequest{}, &npostypes.QueryValidatorsResponse{}).Validators
	if len(vals) != 4 {
		t.Fatalf("%d validators", len(vals))
	}
	cons := map[string]string{}
	for _, v := range vals {
		sum := sha256.Sum256(v.ConsensusKey)
		cons[v.Operator] = string(sum[:20])
		if want := int64(1_000_000); v.Operator == account(100).String() {
			want += 900_000
		} else if got := c.sets[c.height+2][cons[v.Operator]]; got != want {
			t.Errorf("%s has power %d, want %d", v.Operator, got, want)
		}
	}
	if got := c.sets[c.height+2][cons[account(100).String()]]; got != 1_900_000 {
		t.Fatalf("the nominated one has power %d", got)
	}

	// Fees and issuance are paid by x/npos; x/distribution has divided nothing.
	if out := c.Distribution.GetTotalRewards(c.context()); !out.IsZero() {
		t.Fatalf("x/distribution owes %s", out)
	}
	before := c.balance(account(1))
	c.next(nil, c.by(101, &npostypes.MsgPayout{Sender: account(101).String(), Validator: account(100).String(), Era: 1}))
	if !c.balance(account(1)).Equal(before) {
		t.Fatal("the nominator was paid for an era in which it stood behind nobody")
	}
	c.era(3)
	c.next(nil, c.by(101, &npostypes.MsgPayout{Sender: account(101).String(), Validator: account(100).String(), Era: 2}))
	if !c.balance(account(1)).GT(before) {
		t.Fatal("the nominator was not paid")
	}

	// The most backed validator signs twice, in era 2, and so does nobody else.
	supply := c.Bank.GetSupply(c.context(), contracts.Denom)
	height := int64(ask(c, "Era", &npostypes.QueryEraRequest{Era: 2}, &npostypes.QueryEraResponse{}).StartHeight)
	c.next(map[string]int64{cons[account(100).String()]: height, "nobody's address ...": height})
	list := ask(c, "Slashes", &npostypes.QuerySlashesRequest{}, &npostypes.QuerySlashesResponse{}).Slashes
	if len(list) != 1 || list[0].Fraction != 562_500_000 || list[0].Stakers != 2 || list[0].Applies != 5 {
		t.Fatalf("%+v", list)
	}
	if c.sets[c.height+2][cons[account(100).String()]] != 0 || len(c.sets[c.height+2]) != 3 {
		t.Fatalf("it signs on: %v", c.sets[c.height+2])
	}
	if s := c.staker(1); s.Bonded != pha(900_000) || s.Slashes != 1 {
		t.Fatalf("%+v", s)
	}
	if now := c.Bank.GetSupply(c.context(), contracts.Denom); !now.Amount.Equal(supply.Amount) {
		t.Fatal("a slash burnt money")
	}

	// x/staking's own messages move nothing; x/slashing cannot let it out.
	for what, m := range map[string]sdk.Msg{
		"delegate":       stakingtypes.NewMsgDelegate(account(1).String(), sdk.ValAddress(account(101)).String(), sdk.NewInt64Coin(npos.PowerDenom, 1)),
		"delegate money": stakingtypes.NewMsgDelegate(account(1).String(), sdk.ValAddress(account(101)).String(), sdk.NewInt64Coin(contracts.Denom, 1)),
		"undelegate":     stakingtypes.NewMsgUndelegate(account(100).String(), sdk.ValAddress(account(100)).String(), sdk.NewInt64Coin(npos.PowerDenom, 1)),
	} {
		k := 1
		if what == "undelegate" {
			k = 100
		}
		if _, _, err := c.Simulate(c.by(k, m)); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}

	// Governance cancels: the validators' operators vote no with what stands behind them,
	// the nominator votes yes with its own part.
	authority := authtypes.NewModuleAddress(govtypes.ModuleName).String()
	proposal, err := govv1.NewMsgSubmitProposal([]sdk.Msg{&npostypes.MsgCancelSlash{Authority: authority, Ids: []uint64{1}}},
		sdk.NewCoins(sdk.NewCoin(contracts.Denom, math.NewInt(proposalDeposit*PHA))), account(101).String(), "", "cancel", "the report was wrong", false)
	if err != nil {
		t.Fatal(err)
	}
	c.next(nil, c.by(101, proposal))
	yes, no := govv1.OptionYes, govv1.OptionNo
	var votes [][]byte
	for k, o := range map[int]govv1.VoteOption{1: yes, 100: no, 101: yes, 102: yes} {
		votes = append(votes, c.by(k, govv1.NewMsgVote(account(k), 1, o, "")))
	}
	c.next(nil, votes...)

	// A new chain begins from here, half-way, and goes on alike.
	first, err := c.Export(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, first.AppState, &first.ConsensusParams, first.Height)
	m.NewContextLegacy(false, cmtproto.Header{}).MultiStore().(storetypes.CacheMultiStore).Write()
	m.commit()
	m.height++
	again, err := m.Export(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.AppState, again.AppState) {
		t.Fatal(difference(first.AppState, again.AppState))
	}
	other := signed(start(t, first.AppState, &first.ConsensusParams, first.Height))
	if len(other.sets[first.Height]) != 3 {
		t.Fatalf("the new chain begins with %d validators", len(other.sets[first.Height]))
	}
	for _, chain := range []*signedChain{c, other} {
		chain.next(nil) // a chain answers from its first block on
		chain.era(6)
		chain.next(nil)
		p, err := chain.Gov.Proposals.Get(chain.context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		r := p.FinalTallyResult
		if p.Status != govv1.StatusPassed || r.YesCount != pha(2_900_000) || r.NoCount != pha(1_000_000) {
			t.Fatalf("%s: yes %s, no %s: %s", p.Status, r.YesCount, r.NoCount, p.FailedReason)
		}
		if s := chain.staker(1); s.Bonded != pha(900_000) || s.Slashes != 0 {
			t.Fatalf("%+v", s)
		}
		if len(chain.sets[chain.height+2]) != 4 {
			t.Fatal("the cancelled one is not back")
		}
		// A second time nobody cancels.
		chain.next(map[string]int64{cons[account(102).String()]: chain.height})
		now := ask(chain, "Era", &npostypes.QueryEraRequest{}, &npostypes.QueryEraResponse{}).Active
		chain.era(now + 2)
		chain.next(nil)
		lost, _ := npospure.ParseU128(pha(562_500))
		left, err := npospure.ParseU128(chain.staker(102).Bonded)
		if err != nil || left.SaturatingAdd(lost).String() != pha(1_000_000) {
			t.Fatalf("left %v, %v", left, err)
		}
	}
}
