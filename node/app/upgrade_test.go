package app

import (
	"bytes"
	"strings"
	"testing"

	"cosmossdk.io/log/v2"
	abci "github.com/cometbft/cometbft/abci/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/baseapp"
	"github.com/cosmos/cosmos-sdk/server"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	govv1 "github.com/cosmos/cosmos-sdk/x/gov/types/v1"
	upgradetypes "github.com/cosmos/cosmos-sdk/x/upgrade/types"
)

// TestUpgradeThatNobodyHas: at the height of a planned upgrade nodes stop that have no such
// software, again after a restart, and have lost nothing. Where nobody has it, all go on
// when their operators name the height (--unsafe-skip-upgrades), and stay one chain.
func TestUpgradeThatNobodyHas(t *testing.T) {
	g := validators(t, 6)
	params := g.Consensus.Params.ToProto()
	db, home := dbm.NewMemDB(), t.TempDir()
	open := func(opts simtestutil.AppOptionsMap) *node {
		t.Helper()
		a, err := New(log.NewNopLogger(), db, home, opts, baseapp.SetChainID(chainID))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		return &node{App: a, t: t, height: a.LastBlockHeight()}
	}
	n := open(nil)
	res, err := n.InitChain(&abci.RequestInitChain{ChainId: chainID, Time: genesisTime, InitialHeight: 1, ConsensusParams: &params, AppStateBytes: g.AppState})
	if err != nil {
		t.Fatal(err)
	}
	n.votes = votesOf(res.Validators)
	c := signed(n)
	c.next(nil)
	planned := c.height + votingBlocks + 5
	if s, why := c.decide(1, &upgradetypes.MsgSoftwareUpgrade{Authority: authority.String(), Plan: upgradetypes.Plan{Name: "nobody-has-it", Height: planned}}); s != govv1.StatusPassed {
		t.Fatalf("%s: %s", s, why)
	}
	for c.height < planned-1 {
		c.next(nil)
	}
	hash := c.hash()
	stops := func() {
		t.Helper()
		req := &abci.RequestFinalizeBlock{Height: planned, Time: blockTime(planned), Hash: blockHash(planned), ProposerAddress: c.votes[0].Validator.Address, DecidedLastCommit: abci.CommitInfo{Votes: c.votes}}
		if _, err := c.FinalizeBlock(req); err == nil || !strings.Contains(err.Error(), "nobody-has-it") {
			t.Fatalf("a block of the planned height: %v", err)
		}
		if c.LastBlockHeight() != planned-1 || !bytes.Equal(c.hash(), hash) {
			t.Fatalf("it is at %d", c.LastBlockHeight())
		}
	}
	again := func(opts simtestutil.AppOptionsMap) {
		t.Helper()
		if err := c.bodies.Close(); err != nil { // the state's database is in memory
			t.Fatal(err)
		}
		c.closed = true
		votes := c.votes
		c.node = open(opts)
		c.votes = votes
	}
	stops()
	again(nil)
	stops()
	again(simtestutil.AppOptionsMap{server.FlagUnsafeSkipUpgrades: []int{int(planned) - 1, int(planned) + 1}})
	stops()
	again(simtestutil.AppOptionsMap{server.FlagUnsafeSkipUpgrades: []int{int(planned)}})
	for range 15 { // an era's end is among them
		c.next(nil)
	}
	if _, err := c.Upgrade.GetUpgradePlan(c.context()); err == nil {
		t.Error("the plan is still there")
	}
}
