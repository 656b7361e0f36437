package app

import (
	"bytes"
	"fmt"
	"math/rand"
	"strings"
	"testing"

	"cosmossdk.io/log/v2"
	"cosmossdk.io/math"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/baseapp"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"

	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/node/crypto/sr25519"
	"github.com/phala-go/phala/node/x/contracts"
	contractstypes "github.com/phala-go/phala/node/x/contracts/types"
	phala "github.com/phala-go/phala/proto"
)

// TestTransactions: what accounts of both kinds may send, and what a mempool refuses.
func TestTransactions(t *testing.T) {
	g, _ := network(t)
	n := genesisNode(t, g)
	n.block()
	who := sdk.AccAddress(wallet.PubKey().Address())
	send := func(from, to sdk.AccAddress) sdk.Msg {
		return &banktypes.MsgSend{FromAddress: from.String(), ToAddress: to.String(), Amount: coins(5)}
	}
	sr, err := sr25519.FromSeed(seed(2))
	if err != nil {
		t.Fatal(err)
	}
	if len(account(2)) != 32 || len(who) != 20 {
		t.Fatal("sizes of addresses")
	}
	before := n.balance(account(3))
	n.must(n.signed(1, 0, fee, tx.Send(account(1), account(3), "5")), n.built(sr, chainID, 1000, send(account(2), account(3))), n.built(wallet, chainID, 1000, send(who, account(3))))
	if got := n.balance(account(3)).Sub(before); !got.Equal(math.NewInt(15)) {
		t.Fatalf("received %s", got)
	}
	bad := n.built(wallet, chainID, 1000, send(who, account(3)))
	bad[len(bad)-1] ^= 1
	cut := n.signed(1, 0, fee, tx.Send(account(1), account(3), "5"))
	for _, c := range []struct {
		name string
		tx   []byte
		code uint32 // of the SDK
	}{
		{"secp256k1 for another chain", n.built(wallet, "other-1", 1000, send(who, account(3))), 4},
		{"sr25519 for another chain", n.built(sr, "other-1", 1000, send(account(2), account(3))), 4},
		{"signature edited", bad, 4},
		{"signed by another account", n.built(wallet, chainID, 1000, send(account(2), account(3))), 8},
		{"sequence used", n.signed(1, -1, fee, tx.Send(account(1), account(3), "5")), 32},
		{"no fee", n.signed(1, 0, 0, tx.Send(account(1), account(3), "5")), 13},
		{"fee too small", n.signed(1, 0, fee-1, tx.Send(account(1), account(3), "5")), 13},
		{"cut", cut[:len(cut)-1], 2},
		{"a byte behind it", append(bytes.Clone(cut), 0), 2},
		{"nothing", nil, 18},
	} {
		if res := n.check(c.tx); res.Code != c.code || res.Codespace != "sdk" {
			t.Errorf("%s: %s %d: %s", c.name, res.Codespace, res.Code, res.Log)
		}
	}
	// Money that is not there: the block takes the fee and nothing else.
	before = n.balance(account(1))
	if res := n.block(n.signed(1, 0, fee, tx.Send(account(1), account(3), "9000000000000000"))); res[0].Code != 5 || !before.Sub(n.balance(account(1))).Equal(math.NewInt(fee)) {
		t.Fatalf("%d %s, paid %s", res[0].Code, res[0].Log, before.Sub(n.balance(account(1))))
	}
}

// TestFreeOutbox: a run of new entries pays no fee; everything that is not that is
// refused before a block, or pays.
func TestFreeOutbox(t *testing.T) {
	n := populated(t)
	challenge := phala.Challenge{Nonce: [32]byte{1}}
	before := n.balance(account(1))
	n.must(n.relayed(1, 0, 0, n.outbox(11, 6, challenge)))
	if !n.balance(account(1)).Equal(before) {
		t.Fatalf("relaying cost %s", before.Sub(n.balance(account(1))))
	}
	many := make([]phala.Entry, 65)
	for i := range many {
		many[i] = challenge
	}
	for _, c := range []struct {
		name  string
		tx    []byte
		space string
		code  uint32
	}{
		{"entries that the chain has", n.relayed(1, 0, 0, n.outbox(11, 6, challenge)), "mq", 9},
		{"entries that the chain has, with a fee", n.signed(1, 0, fee, n.outbox(11, 6, challenge)), "mq", 9},
		{"a gap", n.relayed(1, 0, 0, n.outbox(11, 8, challenge)), "mq", 5},
		{"of another worker", n.signed(1, 0, 0, func() tx.Msg {
			w := phala.WorkerID(pair(12).Public())
			p := phala.MarshalEntry(challenge)
			sig, _ := pair(11).Sign(rand.New(rand.NewSource(1)), phala.EntrySignedBytes(chainID, w, 4, p))
			return tx.SubmitOutbox(account(1), w, 4, []tx.Entry{{Payload: p, Signature: sig[:]}})
		}()), "mq", 6},
		{"worker that is not admitted", n.signed(1, 0, 0, n.outbox(40, 1, challenge)), "mq", 4},
		{"above the quota, no fee", n.signed(1, 0, 0, n.outbox(11, 7, many...)), "sdk", 13},
		{"with less gas than it may cost, so that it fails and comes again", n.relayed(1, 0, -1, n.outbox(11, 7, challenge)), "sdk", 13},
		{"with more gas, so that others have none in the block", n.relayed(1, 0, 1, n.outbox(11, 7, challenge)), "sdk", 13},
		{"with a payment in the same transaction", n.signed(1, 0, 0, n.outbox(11, 7, challenge), tx.Send(account(1), account(2), "1")), "sdk", 13},
	} {
		if res := n.check(c.tx); res.Code != c.code || res.Codespace != c.space {
			t.Errorf("%s: %s %d: %s", c.name, res.Codespace, res.Code, res.Log)
		}
	}
	// Two relayers race into one block: one of them carries it, for the other it was
	// nothing new, and neither pays.
	n.must(n.signed(2, 0, fee, tx.Send(account(2), account(3), "1000000000"))) // relayer 3 exists
	before = n.balance(account(3))
	first := n.relayed(1, 0, 0, n.outbox(11, 7, challenge))
	number, sequence := n.numbers(account(3))
	w, p := phala.WorkerID(pair(11).Public()), phala.MarshalEntry(challenge)
	sig, err := pair(11).Sign(rand.New(rand.NewSource(1)), phala.EntrySignedBytes(chainID, w, 7, p))
	if err != nil {
		t.Fatal(err)
	}
	second, err := tx.Sign(rand.New(rand.NewSource(1)), tx.Signer{Key: pair(3), Chain: chainID, Number: number, Sequence: sequence}, phala.OutboxGas(1, len(p)), 0,
		tx.SubmitOutbox(account(3), w, 7, []tx.Entry{{Payload: p, Signature: sig[:]}}))
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range [][]byte{first, second} {
		if res := n.check(b); res.Code != 0 {
			t.Fatalf("relayer %d: %s", i, res.Log)
		}
	}
	res := n.block(first, second)
	if res[0].Code != 0 || res[1].Codespace != "mq" || res[1].Code != 9 || !n.balance(account(3)).Equal(before) {
		t.Fatalf("%d %s; %s %d; relayer paid %s", res[0].Code, res[0].Log, res[1].Codespace, res[1].Code, before.Sub(n.balance(account(3))))
	}
	if next, err := n.MQ.NextOutbox(n.context(), w); err != nil || next != 8 {
		t.Fatalf("the chain expects %d, %v", next, err)
	}
	// The gas of a free run is enough, also where the worker's record is as long as it gets.
	long := phala.SetEndpoints{}
	for range phala.MaxEndpoints {
		long.Endpoints = append(long.Endpoints, strings.Repeat("e", phala.MaxEndpoint))
	}
	for i, e := range []phala.Entry{long, challenge, phala.StartSession{Key: session(50).Public(), Height: uint64(n.height), Hash: phala.Hash(blockHash(n.height))}, long} {
		n.must(n.relayed(1, 0, 0, n.outbox(11, uint64(8+i), e)))
	}
}

// TestMoney: escrow leaves the module's account to the last unit.
func TestMoney(t *testing.T) {
	n := populated(t)
	module := n.Account.GetModuleAddress(contracts.ModuleName)
	p, err := n.Contracts.Params(n.context())
	if err != nil {
		t.Fatal(err)
	}
	// The constructor (tier 2) and the last command (tier 1) are not settled.
	want := math.NewIntFromUint64(2*p.BaseFee + (4+2)*p.GasPrice)
	if got := n.balance(module); !got.Equal(want) {
		t.Fatalf("escrow %s, want %s", got, want)
	}
	second := phala.Receipt{Cluster: 1, FromSeq: 3, ToSeq: 3, StateRoot: phala.Hash{2}, Items: []phala.ReceiptItem{{GasBucket: 21}}}
	third := phala.Receipt{Cluster: 1, FromSeq: 4, ToSeq: 4, StateRoot: phala.Hash{3}, Items: []phala.ReceiptItem{{GasBucket: 60}}}
	payer, operator := n.balance(account(2)), n.balance(account(1))
	n.must(n.relayed(1, 0, 0, n.outbox(11, 6, third)), n.relayed(1, 1, 0, n.outbox(12, 4, second, third)))
	// 2^21-1 gas are two units of price; the command used all of its tier.
	charged := math.NewIntFromUint64(2*p.BaseFee + (2+2)*p.GasPrice)
	if !n.balance(module).IsZero() || !n.balance(account(1)).Sub(operator).Equal(charged) || !n.balance(account(2)).Sub(payer).Equal(want.Sub(charged)) {
		t.Fatalf("escrow %s, operator got %s, payer got %s back", n.balance(module), n.balance(account(1)).Sub(operator), n.balance(account(2)).Sub(payer))
	}
	if c := n.cluster(); c.FinalSeq != 4 {
		t.Fatalf("final to %d", c.FinalSeq)
	}
}

// TestSimulationLeavesNothing: neither a simulation nor a transaction that fails puts a
// body into the side database.
func TestSimulationLeavesNothing(t *testing.T) {
	g, _ := network(t)
	n := genesisNode(t, g)
	n.block()
	if _, _, err := n.Simulate(n.signed(1, 0, fee, upload(1))); err != nil {
		t.Fatal(err)
	}
	n.block()
	if n.chunk(code, 0) != nil {
		t.Fatal("a simulation wrote a chunk")
	}
	// Between the execution of a block and its commit too.
	h := n.height + 1
	n.execute(h)
	if _, _, err := n.Simulate(n.signed(1, 0, fee, upload(1))); err != nil {
		t.Fatal(err)
	}
	n.commit()
	n.height = h
	if n.chunk(code, 0) != nil {
		t.Fatal("a simulation during a block wrote a chunk")
	}
	if res := n.block(n.signed(1, 0, fee, upload(1), tx.Send(account(1), account(2), "9000000000000000"))); res[0].Code != 5 {
		t.Fatalf("%d %s", res[0].Code, res[0].Log)
	}
	if n.chunk(code, 0) != nil {
		t.Fatal("a transaction that failed wrote a chunk")
	}
	n.must(n.signed(1, 0, fee, upload(1)))
	if !bytes.Equal(n.chunk(code, 0), packed) {
		t.Fatal("the chunk is not served")
	}
}

// TestReplay: a node that stops while it commits a block, before or after the bodies
// reach the disk, and executes the block again has the same app hash and the same
// bodies as one that did not stop.
func TestReplay(t *testing.T) {
	g, _ := network(t)
	want := genesisNode(t, g)
	want.block()
	upload := want.signed(1, 0, fee, upload(1))
	want.block(upload)
	params := g.Consensus.Params.ToProto()
	for _, c := range []struct {
		name  string
		crash func(a *App) error
	}{
		{"before the bodies are written", func(*App) error { return nil }},
		{"after the bodies are written", func(a *App) error { return a.MQ.Bodies().Commit() }},
	} {
		db, home := dbm.NewMemDB(), t.TempDir()
		open := func() *node {
			a, err := New(log.NewNopLogger(), db, home, simtestutil.EmptyAppOptions{}, baseapp.SetChainID(chainID))
			if err != nil {
				t.Fatal(err)
			}
			return &node{App: a, t: t, height: a.LastBlockHeight(), votes: want.votes}
		}
		n := open()
		if _, err := n.InitChain(&abci.RequestInitChain{ChainId: chainID, Time: genesisTime, InitialHeight: 1, ConsensusParams: &params, AppStateBytes: g.AppState}); err != nil {
			t.Fatal(err)
		}
		n.block()
		n.execute(2, upload)
		if err := c.crash(n.App); err != nil {
			t.Fatal(err)
		}
		if err := n.bodies.Close(); err != nil {
			t.Fatal(err)
		}
		n = open()
		if n.height != 1 {
			t.Fatalf("%s: the node is at %d", c.name, n.height)
		}
		n.block(upload)
		if !bytes.Equal(n.hash(), want.hash()) || !bytes.Equal(n.chunk(code, 0), packed) {
			t.Errorf("%s: the node differs", c.name)
		}
		for range 2 {
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestExportImport: export, import, export is the same text; two imports have the same
// app hash, then and after the next blocks; the imported chain works on.
func TestExportImport(t *testing.T) {
	n := populated(t)
	first, err := n.Export(nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.Height != n.height+1 || len(first.Validators) != 1 {
		t.Fatalf("height %d, %d validators", first.Height, len(first.Validators))
	}
	again, err := n.Export(nil)
	if err != nil || !bytes.Equal(first.AppState, again.AppState) {
		t.Fatalf("two exports of one state differ: %v", err)
	}
	imported := func() *node {
		m := start(t, first.AppState, &first.ConsensusParams, first.Height)
		if len(m.votes) == 0 {
			m.votes = n.votes
		}
		return m
	}
	a, b := imported(), imported()
	for _, m := range []*node{a, b} {
		// The state as imported, before a block of its own.
		m.NewContextLegacy(false, cmtproto.Header{}).MultiStore().(storetypes.CacheMultiStore).Write()
		m.commit()
		m.height++
	}
	if !bytes.Equal(a.hash(), b.hash()) {
		t.Fatal("two imports have different app hashes")
	}
	second, err := a.Export(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.AppState, second.AppState) {
		t.Fatal(difference(first.AppState, second.AppState))
	}
	c, d := imported(), imported()
	for i := range 3 {
		for _, m := range []*node{c, d} {
			m.block()
		}
		if !bytes.Equal(c.hash(), d.hash()) {
			t.Fatalf("block %d: two imports have different app hashes", i)
		}
	}
	// What was in flight goes on: the constructor's receipt becomes final.
	module := c.Account.GetModuleAddress(contracts.ModuleName)
	held := c.balance(module)
	receipt := phala.Receipt{Cluster: 1, FromSeq: 3, ToSeq: 3, StateRoot: phala.Hash{2}, Items: []phala.ReceiptItem{{GasBucket: 21}}}
	c.must(c.relayed(1, 0, 0, c.outbox(12, 4, receipt)))
	if c.cluster().FinalSeq != 3 || !c.balance(module).LT(held) {
		t.Fatalf("final to %d, held %s of %s", c.cluster().FinalSeq, c.balance(module), held)
	}
	env := make([]byte, envelope.Overhead+256)
	c.must(c.signed(2, 0, fee, tx.PushCommand(account(2), 1, 1, 0, 0, env)))
	if got := c.messages("cluster/1"); len(got) != 1 {
		t.Fatalf("%d messages are served", len(got))
	} else if m, err := phala.ParseMessage(got[0]); err != nil || m.Seq != 5 {
		t.Fatalf("message %d, %v", m.Seq, err)
	}
}

// difference names the first place where two texts differ.
func difference(a, b []byte) string {
	x, y := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range x {
		if i >= len(y) || x[i] != y[i] {
			return fmt.Sprintf("exports differ in line %d:\n%s\nand\n%s", i+1, strings.Join(x[max(0, i-8):min(len(x), i+3)], "\n"), strings.Join(y[max(0, i-8):min(len(y), i+3)], "\n"))
		}
	}
	return "one export is longer"
}

// TestStateSync: a new node restores a snapshot through the protocol, has state and
// bodies, and goes on with the same app hash. A snapshot with a chunk edited is
// refused.
func TestStateSync(t *testing.T) {
	n := populated(t)
	snapshot, err := n.SnapshotManager().Create(uint64(n.height))
	if err != nil {
		t.Fatal(err)
	}
	list, err := n.ListSnapshots(&abci.RequestListSnapshots{})
	if err != nil || len(list.Snapshots) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	restore := func(edit func(i uint32, chunk []byte)) (*node, abci.ResponseApplySnapshotChunk_Result) {
		m := newNode(t)
		m.votes = n.votes
		offer, err := m.OfferSnapshot(&abci.RequestOfferSnapshot{Snapshot: list.Snapshots[0], AppHash: n.hash()})
		if err != nil || offer.Result != abci.ResponseOfferSnapshot_ACCEPT {
			t.Fatalf("%v, %v", offer, err)
		}
		for i := range snapshot.Chunks {
			c, err := n.LoadSnapshotChunk(&abci.RequestLoadSnapshotChunk{Height: snapshot.Height, Format: snapshot.Format, Chunk: i})
			if err != nil || len(c.Chunk) == 0 {
				t.Fatal(err)
			}
			edit(i, c.Chunk)
			res, err := m.ApplySnapshotChunk(&abci.RequestApplySnapshotChunk{Index: i, Chunk: c.Chunk})
			if err != nil {
				t.Fatal(err)
			}
			if res.Result != abci.ResponseApplySnapshotChunk_ACCEPT {
				return m, res.Result
			}
		}
		m.height = n.height
		return m, abci.ResponseApplySnapshotChunk_ACCEPT
	}
	if _, res := restore(func(_ uint32, c []byte) { c[len(c)/2] ^= 1 }); res != abci.ResponseApplySnapshotChunk_RETRY {
		t.Fatalf("an edited chunk: %s", res)
	}
	m, res := restore(func(uint32, []byte) {})
	if res != abci.ResponseApplySnapshotChunk_ACCEPT {
		t.Fatal(res)
	}
	info, err := m.Info(&abci.RequestInfo{})
	if err != nil || info.LastBlockHeight != n.height || !bytes.Equal(info.LastBlockAppHash, n.hash()) {
		t.Fatalf("restored to %d, %v", info.LastBlockHeight, err)
	}
	for _, topic := range []string{"gatekeeper", "cluster/1", phala.TopicWorker(phala.WorkerID(pair(11).Public()))} {
		want, got := n.messages(topic), m.messages(topic)
		if len(want) == 0 || len(got) != len(want) || !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) {
			t.Errorf("%s: %d messages of %d", topic, len(got), len(want))
		}
	}
	if !bytes.Equal(m.chunk(code, 0), packed) {
		t.Error("the code is not there")
	}
	if out, err := m.Contracts.Output(m.context(), &contractstypes.QueryOutputRequest{Cluster: 1, Seq: 2}); err != nil || len(out.Outputs) != 1 {
		t.Errorf("outputs: %v, %v", out, err)
	}
	env := make([]byte, envelope.Overhead+256)
	push := n.signed(2, 0, fee, tx.PushCommand(account(2), 1, 1, 0, 0, env))
	n.must(push)
	// The restored node checks transactions for its mempool after its first block.
	if res := m.block(push); res[0].Code != 0 {
		t.Fatal(res[0].Log)
	}
	if !bytes.Equal(n.hash(), m.hash()) || len(m.messages("cluster/1")) != 5 {
		t.Fatal("the restored node goes its own way")
	}
}
