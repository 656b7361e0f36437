package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand"
	"path/filepath"
	"testing"
	"time"

	"cosmossdk.io/log/v2"
	"cosmossdk.io/math"
	abci "github.com/cometbft/cometbft/abci/types"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	dbm "github.com/cosmos/cosmos-db"

	"github.com/cosmos/cosmos-sdk/baseapp"
	clienttx "github.com/cosmos/cosmos-sdk/client/tx"
	"github.com/cosmos/cosmos-sdk/crypto/keys/secp256k1"
	cryptotypes "github.com/cosmos/cosmos-sdk/crypto/types"
	"github.com/cosmos/cosmos-sdk/store/v2/snapshots"
	snapshottypes "github.com/cosmos/cosmos-sdk/store/v2/snapshots/types"
	simtestutil "github.com/cosmos/cosmos-sdk/testutil/sims"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/tx/signing"
	authsigning "github.com/cosmos/cosmos-sdk/x/auth/signing"
	banktypes "github.com/cosmos/cosmos-sdk/x/bank/types"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/contracts"
	contractstypes "github.com/phala-go/phala/node/x/contracts/types"
	mqtypes "github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/node/x/registry"
	phala "github.com/phala-go/phala/proto"
)

const chainID = "phala-test-1"

var (
	genesisTime = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	software    = []byte{1, 2, 3}
)

func seed(n int) []byte { s := sha256.Sum256(fmt.Appendf(nil, "seed %d", n)); return s[:] }

func pair(n int) *identity.KeyPair {
	k, err := identity.FromSeed(seed(n))
	if err != nil {
		panic(err)
	}
	return k
}

func account(n int) sdk.AccAddress { p := pair(n).Public(); return p[:] }

// Account 1 operates workers and relays, 2 pays for commands; the secp256k1 account is
// a wallet's.
var wallet = &secp256k1.PrivKey{Key: seed(50)}

// network writes a network of one validator, as "phala-node init-network" does, and
// returns its genesis and the simulated vendor.
func network(t *testing.T) (*genutiltypes.AppGenesis, *simulator.Store) {
	t.Helper()
	Configure()
	vendor, err := simulator.Open(t.TempDir(), genesisTime, false)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := vendor.Network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := simulator.Measurement(attest.TDX, software)
	if err != nil {
		t.Fatal(err)
	}
	params := registry.DefaultParams()
	params.TCBEvaluations = registry.EvaluationCeilings{TDX: 100}
	home := filepath.Join(t.TempDir(), "validator")
	spec := &NetworkSpec{ChainID: chainID, GenesisTime: genesisTime, BlockInterval: "100ms", MinGasPrice: "0.001ppha", Class: attest.ClassSimulated, Roots: hex.EncodeToString(roots), Registry: params, Measurements: []registry.AllowedMeasurement{{Digest: digest, Role: "worker"}},
		Validators: []ValidatorSpec{{Home: home, Seed: hex.EncodeToString(seed(100)), RPC: "tcp://127.0.0.1:1", P2P: "tcp://127.0.0.1:2"}},
		Accounts:   []AccountSpec{{account(1).String(), 1000}, {account(2).String(), 1000}, {sdk.AccAddress(wallet.PubKey().Address()).String(), 2000}}}
	if err := InitNetwork(spec); err != nil {
		t.Fatal(err)
	}
	genesis, err := genutiltypes.AppGenesisFromFile(filepath.Join(home, "config", "genesis.json"))
	if err != nil {
		t.Fatal(err)
	}
	return genesis, vendor
}

// A node is an application driven as CometBFT drives it.
type node struct {
	*App
	t      *testing.T
	height int64
	votes  []abci.VoteInfo
}

func blockHash(h int64) []byte    { s := sha256.Sum256(fmt.Appendf(nil, "block %d", h)); return s[:] }
func blockTime(h int64) time.Time { return genesisTime.Add(time.Duration(h) * time.Second) }

func newNode(t *testing.T) *node {
	t.Helper()
	store, err := snapshots.NewStore(dbm.NewMemDB(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(log.NewNopLogger(), dbm.NewMemDB(), "", simtestutil.EmptyAppOptions{}, baseapp.SetChainID(chainID), baseapp.SetMinGasPrices("0.001ppha"),
		baseapp.SetSnapshot(store, snapshottypes.SnapshotOptions{Interval: 0, KeepRecent: 2}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return &node{App: a, t: t}
}

// start begins a chain from a state.
func start(t *testing.T, state json.RawMessage, consensus *cmtproto.ConsensusParams, initial int64) *node {
	t.Helper()
	n := newNode(t)
	res, err := n.InitChain(&abci.RequestInitChain{ChainId: chainID, Time: genesisTime, InitialHeight: initial, ConsensusParams: consensus, AppStateBytes: state})
	if err != nil {
		t.Fatal(err)
	}
	n.height = initial - 1
	n.votes = votesOf(res.Validators)
	return n
}

// votesOf are the signatures of all validators.
func votesOf(set []abci.ValidatorUpdate) (votes []abci.VoteInfo) {
	for _, v := range set {
		h := sha256.Sum256(v.PubKey.GetEd25519())
		votes = append(votes, abci.VoteInfo{Validator: abci.Validator{Address: h[:20], Power: v.Power}, BlockIdFlag: cmtproto.BlockIDFlagCommit})
	}
	return votes
}

func genesisNode(t *testing.T, g *genutiltypes.AppGenesis) *node {
	t.Helper()
	params := g.Consensus.Params.ToProto()
	return start(t, g.AppState, &params, g.InitialHeight)
}

// block executes and commits a block.
func (n *node) block(txs ...[]byte) []*abci.ExecTxResult {
	n.t.Helper()
	res := n.execute(n.height+1, txs...)
	n.commit()
	n.height++
	return res.TxResults
}

func (n *node) execute(h int64, txs ...[]byte) *abci.ResponseFinalizeBlock {
	n.t.Helper()
	last := abci.CommitInfo{Votes: n.votes}
	if h == 1 {
		last = abci.CommitInfo{}
	}
	res, err := n.FinalizeBlock(&abci.RequestFinalizeBlock{Height: h, Time: blockTime(h), Hash: blockHash(h), Txs: txs, ProposerAddress: n.votes[0].Validator.Address, DecidedLastCommit: last})
	if err != nil {
		n.t.Fatalf("block %d: %v", h, err)
	}
	return res
}

func (n *node) commit() {
	n.t.Helper()
	if _, err := n.Commit(); err != nil {
		n.t.Fatal(err)
	}
}

// must is block for transactions that are accepted; each is checked first as the
// mempool does.
func (n *node) must(txs ...[]byte) []*abci.ExecTxResult {
	n.t.Helper()
	for i, b := range txs {
		if res := n.check(b); res.Code != 0 {
			n.t.Fatalf("transaction %d does not enter the mempool: %s %d: %s", i, res.Codespace, res.Code, res.Log)
		}
	}
	out := n.block(txs...)
	for i, r := range out {
		if r.Code != 0 {
			n.t.Fatalf("height %d, transaction %d: %s %d: %s", n.height, i, r.Codespace, r.Code, r.Log)
		}
	}
	return out
}

func (n *node) check(b []byte) *abci.ResponseCheckTx {
	n.t.Helper()
	res, err := n.CheckTx(&abci.RequestCheckTx{Tx: b, Type: abci.CheckTxType_New})
	if err != nil {
		n.t.Fatal(err)
	}
	return res
}

func (n *node) hash() []byte { return n.CommitMultiStore().LastCommitID().Hash }

func (n *node) context() sdk.Context {
	return n.NewContextLegacy(true, cmtproto.Header{Height: n.height, ChainID: chainID, Time: blockTime(n.height)})
}

func (n *node) numbers(who sdk.AccAddress) (number, sequence uint64) {
	n.t.Helper()
	acc := n.Account.GetAccount(n.context(), who)
	if acc == nil {
		n.t.Fatalf("no account %s", who)
	}
	return acc.GetAccountNumber(), acc.GetSequence()
}

// signed is a transaction of sr25519 account k, made by the client's own encoder.
// skip leaves room for transactions of the same account before it.
func (n *node) signed(k, skip int, fee uint64, msgs ...tx.Msg) []byte {
	n.t.Helper()
	return n.withGas(k, skip, 20_000_000, fee, msgs...)
}

// relayed is a transaction with one run of an outbox, without a fee and with the gas that it
// has to have, and more.
func (n *node) relayed(k, skip, more int, run tx.Msg) []byte {
	n.t.Helper()
	var m mqtypes.MsgSubmitOutbox
	if err := m.Unmarshal(run.Value); err != nil {
		n.t.Fatal(err)
	}
	size := 0
	for _, e := range m.Entries {
		size += len(e.Payload)
	}
	return n.withGas(k, skip, uint64(int(phala.OutboxGas(len(m.Entries), size))+more), 0, run)
}

func (n *node) withGas(k, skip int, gas, fee uint64, msgs ...tx.Msg) []byte {
	n.t.Helper()
	number, sequence := n.numbers(account(k))
	b, err := tx.Sign(rand.New(rand.NewSource(1)), tx.Signer{Key: pair(k), Chain: chainID, Number: number, Sequence: sequence + uint64(skip)}, gas, fee, msgs...)
	if err != nil {
		n.t.Fatal(err)
	}
	return b
}

// built is a transaction made by the SDK, as wallets make it.
func (n *node) built(key cryptotypes.PrivKey, chain string, fee int64, msgs ...sdk.Msg) []byte {
	n.t.Helper()
	who := sdk.AccAddress(key.PubKey().Address())
	number, sequence := n.numbers(who)
	b := n.TxConfig.NewTxBuilder()
	if err := b.SetMsgs(msgs...); err != nil {
		n.t.Fatal(err)
	}
	b.SetGasLimit(600_000)
	b.SetFeeAmount(sdk.NewCoins(sdk.NewInt64Coin(contracts.Denom, fee)))
	mode := signing.SignMode_SIGN_MODE_DIRECT
	if err := b.SetSignatures(signing.SignatureV2{PubKey: key.PubKey(), Data: &signing.SingleSignatureData{SignMode: mode}, Sequence: sequence}); err != nil {
		n.t.Fatal(err)
	}
	sig, err := clienttx.SignWithPrivKey(context.Background(), mode, authsigning.SignerData{Address: who.String(), ChainID: chain, AccountNumber: number, Sequence: sequence, PubKey: key.PubKey()}, b, key, n.TxConfig, sequence)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := b.SetSignatures(sig); err != nil {
		n.t.Fatal(err)
	}
	out, err := n.TxConfig.TxEncoder()(b.GetTx())
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

func (n *node) balance(who sdk.AccAddress) math.Int {
	return n.Bank.GetBalance(n.context(), who, contracts.Denom).Amount
}

func coins(amount int64) sdk.Coins { return sdk.NewCoins(sdk.NewInt64Coin(contracts.Denom, amount)) }

func session(n int) *commkey.SecretKey {
	k, err := commkey.FromSeed(sha256.Sum256(fmt.Appendf(nil, "session %d", n)))
	if err != nil {
		panic(err)
	}
	return k
}

// register is the registration of worker k, which operator 1 sends.
func (n *node) register(vendor *simulator.Store, k int) tx.Msg {
	n.t.Helper()
	m, err := vendor.Machine(fmt.Sprint("machine-", k), genesisTime)
	if err != nil {
		n.t.Fatal(err)
	}
	reg := phala.Registration{Chain: chainID, Roots: vendor.Roots.Digest(), TrustHeight: 1, TrustRoot: phala.Hash(blockHash(1)), Epoch: 1, Worker: phala.WorkerID(pair(k).Public()), Session: session(k).Public(), Operator: account(1),
		Role: phala.RoleWorker, Rules: 1, Height: uint64(n.height), Hash: phala.Hash(blockHash(n.height)), Endpoints: []string{"http://127.0.0.1:8000"}}
	ev, err := m.Evidence(attest.TDX, software, reg.ReportData())
	if err != nil {
		n.t.Fatal(err)
	}
	sig, err := pair(k).Sign(rand.New(rand.NewSource(1)), reg.SignedBytes())
	if err != nil {
		n.t.Fatal(err)
	}
	return tx.RegisterWorker(account(1), reg.Marshal(), sig[:], ev.Marshal())
}

// outbox is a run of worker k's outbox from first on, which account 1 relays.
func (n *node) outbox(k int, first uint64, entries ...phala.Entry) tx.Msg {
	n.t.Helper()
	w := phala.WorkerID(pair(k).Public())
	var run []tx.Entry
	for i, e := range entries {
		p := phala.MarshalEntry(e)
		sig, err := pair(k).Sign(rand.New(rand.NewSource(1)), phala.EntrySignedBytes(chainID, w, first+uint64(i), p))
		if err != nil {
			n.t.Fatal(err)
		}
		run = append(run, tx.Entry{Payload: p, Signature: sig[:]})
	}
	return tx.SubmitOutbox(account(1), w, first, run)
}

func (n *node) messages(topic string) [][]byte {
	n.t.Helper()
	q := &mqtypes.QueryMessagesRequest{Topic: topic, FromSeq: 1, Limit: 1000}
	b, err := q.Marshal()
	if err != nil {
		n.t.Fatal(err)
	}
	res, err := n.Query(context.Background(), &abci.RequestQuery{Path: "/phala.mq.v1.Query/Messages", Data: b})
	if err != nil || res.Code != 0 {
		n.t.Fatalf("query: %v %s", err, res.Log)
	}
	var out mqtypes.QueryMessagesResponse
	if err := out.Unmarshal(res.Value); err != nil {
		n.t.Fatal(err)
	}
	return out.Messages
}

func (n *node) chunk(code phala.Hash, i uint32) []byte {
	r, err := n.Contracts.Chunk(n.context(), &contractstypes.QueryChunkRequest{CodeHash: code[:], Index: i})
	if err != nil {
		return nil
	}
	return r.Chunk
}

func (n *node) cluster() *phala.Cluster {
	n.t.Helper()
	c, err := n.Contracts.Cluster(n.context(), 1)
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

const fee = 20_000 // for 20,000,000 gas

var (
	wasm   = []byte("a module; the chain does not look into it")
	code   = phala.CodeHash(wasm)
	packed = phala.PackChunk(wasm)
)

// upload is a message that uploads wasm.
func upload(who int) tx.Msg {
	return tx.UploadCode(account(who), phala.NewCodeManifest(wasm).Marshal(), 0, packed)
}

// populated is a chain on which everything happened once: payments with both kinds of
// keys, two workers in a cluster, a code, a contract, a final receipt, one command that
// waits and one that one seat answered.
func populated(t *testing.T) *node {
	t.Helper()
	g, vendor := network(t)
	n := genesisNode(t, g)
	n.block()
	n.block()
	n.must(n.withGas(1, 0, 400_000, 400, tx.CreateCluster(account(1), 2, true)), n.signed(2, 0, fee, upload(2))) // the gas of devnets
	collateral, err := vendor.Collateral(attest.TDX, genesisTime)
	if err != nil {
		t.Fatal(err)
	}
	n.must(n.signed(1, 0, fee, tx.UpdateCollateral(account(1), collateral.Marshal()), n.register(vendor, 11)), n.signed(1, 1, fee, n.register(vendor, 12)))
	key := phala.PublishEpochKey{Cluster: 1, Epoch: 1, Public: session(99).Public()}
	n.must(n.relayed(1, 0, 0, n.outbox(11, 1, key)), n.relayed(1, 1, 0, n.outbox(12, 1, key)))
	if n.cluster().EpochKey != key.Public {
		t.Fatal("no epoch key")
	}
	env := make([]byte, envelope.Overhead+256)
	n.must(n.signed(2, 0, fee, tx.Deploy(account(2), 1, code, []byte("salt"), 1, 2, 0, env)), n.signed(2, 1, fee, tx.PushCommand(account(2), 1, 1, 0, 0, env)))
	prepared := phala.CodePrepared{Cluster: 1, Rules: 1, Code: code}
	n.must(n.relayed(1, 0, 0, n.outbox(11, 2, prepared)), n.relayed(1, 1, 0, n.outbox(12, 2, prepared)))
	// Messages 1 and 2 are of one height: the code's announcement and a command. 3 is the
	// constructor.
	first := phala.Receipt{Cluster: 1, FromSeq: 1, ToSeq: 2, StateRoot: phala.Hash{1}, Items: []phala.ReceiptItem{{}, {GasBucket: 20}}}
	second := phala.Receipt{Cluster: 1, FromSeq: 3, ToSeq: 3, StateRoot: phala.Hash{2}, Items: []phala.ReceiptItem{{GasBucket: 21}}}
	outputs := phala.PostOutputs{Cluster: 1, Outputs: []phala.SealedOutput{{Seq: 2, Index: 1, Count: 2, Sealed: []byte("sealed")}}}
	n.must(n.relayed(1, 0, 0, n.outbox(11, 3, first, second, outputs)))
	n.must(n.relayed(1, 0, 0, n.outbox(12, 3, first)), n.signed(2, 0, fee, tx.PushCommand(account(2), 1, 1, 1, 0, env)))
	if c := n.cluster(); c.FinalSeq != 2 || c.FinalRoot != first.StateRoot {
		t.Fatalf("final to %d", c.FinalSeq)
	}
	n.must(n.built(wallet, chainID, 1000, &banktypes.MsgSend{FromAddress: sdk.AccAddress(wallet.PubKey().Address()).String(), ToAddress: account(2).String(), Amount: coins(7)}))
	return n
}
