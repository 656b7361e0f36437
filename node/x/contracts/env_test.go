package contracts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"

	"cosmossdk.io/math"
	dbm "github.com/cosmos/cosmos-db"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	mqtypes "github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
)

const fakeStore = "fake"

var (
	authority = testchain.Account(99).String()
	errPoor   = errors.New("not so much money")
	errUndo   = errors.New("undo")
)

// ledger is a bank in the chain's store, so that what a failed transaction moved
// comes back.
type ledger struct{ c *testchain.Chain }

func (l ledger) key(who []byte) []byte { return append([]byte("bank/"), who...) }

func (l ledger) balance(ctx context.Context, who []byte) math.Int {
	b, err := l.c.Store(fakeStore).OpenKVStore(ctx).Get(l.key(who))
	if err != nil {
		panic(err)
	}
	v, ok := math.NewIntFromString(string(b))
	if b != nil && !ok {
		panic(fmt.Sprintf("balance %q", b))
	}
	if b == nil {
		return math.ZeroInt()
	}
	return v
}

func (l ledger) add(ctx context.Context, who []byte, amount math.Int) error {
	v := l.balance(ctx, who).Add(amount)
	if v.IsNegative() {
		return errPoor
	}
	return l.c.Store(fakeStore).OpenKVStore(ctx).Set(l.key(who), []byte(v.String()))
}

func amountOf(amt sdk.Coins) math.Int {
	if len(amt) != 1 || amt[0].Denom != "ppha" || !amt[0].IsPositive() {
		panic(fmt.Sprintf("coins %s", amt))
	}
	return amt[0].Amount
}

func (l ledger) SendCoinsFromAccountToModule(ctx context.Context, from sdk.AccAddress, module string, amt sdk.Coins) error {
	return errors.Join(l.add(ctx, from, amountOf(amt).Neg()), l.add(ctx, []byte(module), amountOf(amt)))
}

func (l ledger) SendCoinsFromModuleToAccount(ctx context.Context, module string, to sdk.AccAddress, amt sdk.Coins) error {
	return errors.Join(l.add(ctx, []byte(module), amountOf(amt).Neg()), l.add(ctx, to, amountOf(amt)))
}

func (l ledger) BurnCoins(ctx context.Context, module string, amt sdk.Coins) error {
	return errors.Join(l.add(ctx, []byte(module), amountOf(amt).Neg()), l.add(ctx, []byte("burnt"), amountOf(amt)))
}

// workers is a registry in the chain's store.
type workers struct{ c *testchain.Chain }

func (r workers) key(w proto.WorkerID) []byte { return append([]byte("w/"), w[:]...) }

func (r workers) Worker(ctx context.Context, w proto.WorkerID) (*proto.WorkerInfo, error) {
	b, err := r.c.Store(fakeStore).OpenKVStore(ctx).Get(r.key(w))
	if err != nil || b == nil {
		return nil, err
	}
	return proto.ParseWorkerInfo(b)
}

func (r workers) set(ctx context.Context, w *proto.WorkerInfo) error {
	return r.c.Store(fakeStore).OpenKVStore(ctx).Set(r.key(w.Worker), w.Marshal())
}

// silent is the session height of a worker that does not serve.
const silent = 999

// Serving: a worker without an expiry does not.
func (r workers) Serving(ctx context.Context, w proto.WorkerID) (bool, string) {
	info, err := r.Worker(ctx, w)
	return err == nil && info != nil && uint64(sdk.UnwrapSDKContext(ctx).BlockHeight()) < info.Expires && info.State.SessionHeight != silent, "says the test"
}

func (r workers) SetCluster(ctx context.Context, w proto.WorkerID, c proto.ClusterID) error {
	info, err := r.Worker(ctx, w)
	if err != nil || info == nil {
		return errors.Join(err, fmt.Errorf("no worker %s", w))
	}
	info.State.Cluster = c
	return r.set(ctx, info)
}

func (r workers) Each(ctx context.Context, f func(*proto.WorkerInfo) (bool, error)) error {
	s := r.c.Store(fakeStore).OpenKVStore(ctx)
	it, err := s.Iterator([]byte("w/"), []byte("w0"))
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		w, err := proto.ParseWorkerInfo(it.Value())
		if err != nil {
			return err
		}
		if more, err := f(w); err != nil || !more {
			return err
		}
	}
	return nil
}

// Heard makes workers the queue's registry too.
func (r workers) Heard(ctx sdk.Context, w proto.WorkerID) (bool, error) {
	info, err := r.Worker(ctx, w)
	return info != nil, err
}

// env is a chain with accounts 1 to 9, each with 1000 PHA. Workers come with worker.
type env struct {
	*testchain.Chain
	t    testing.TB
	k    *Keeper
	mq   *mq.Keeper
	bank ledger
	regs workers
	next map[int]uint64 // outbox sequences
}

const pha = 1_000_000_000_000

func newEnv(t testing.TB) *env {
	t.Helper()
	c := testchain.New(t, []string{mq.ModuleName, ModuleName, fakeStore}, []string{mq.TransientKey})
	e := &env{Chain: c, t: t, bank: ledger{c}, regs: workers{c}, next: map[int]uint64{}}
	e.mq = mq.NewKeeper(c.Store(mq.ModuleName), c.Transient(mq.TransientKey), mq.NewBodies(dbm.NewMemDB()))
	e.k = NewKeeper(c.Store(ModuleName), e.mq, e.regs, e.bank, authority)
	e.mq.SetRouter(e.regs, e.k.HandleEntry)
	c.Begin = append(c.Begin, func(ctx sdk.Context) error { e.mq.BeginBlock(ctx); return nil })
	c.End = append(c.End, e.k.EndBlock, e.mq.EndBlock)
	c.Commit = e.mq.Bodies().Commit
	c.Block(func(ctx sdk.Context) error {
		for i := 1; i < 10; i++ {
			if err := e.bank.add(ctx, testchain.Account(i), math.NewInt(1000*pha)); err != nil {
				return err
			}
		}
		return errors.Join(e.k.SetParams(ctx, DefaultParams()), e.mq.CreateTopic(ctx, proto.TopicSystem), e.mq.CreateTopic(ctx, proto.TopicGatekeeper))
	})
	return e
}

func wid(n int) proto.WorkerID { return proto.WorkerID(testchain.Pair(n).Public()) }

// register adds serving worker n of operator 100+n.
func (e *env) register(n int) func(sdk.Context) error { return e.knows(n, 1) }

// knows is register for a worker that knows the rules up to a version.
func (e *env) knows(n int, rules uint32) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		return errors.Join(e.regs.set(ctx, &proto.WorkerInfo{Worker: wid(n), Operator: testchain.Account(100 + n), Role: proto.RoleWorker, Rules: rules, Expires: 1 << 40}),
			e.mq.CreateTopic(ctx, proto.TopicWorker(wid(n))))
	}
}

// outbox submits the next entries of worker n's outbox in one run.
func (e *env) outbox(n int, entries ...proto.Entry) func(sdk.Context) error {
	pair, first := testchain.Pair(n), e.next[n]+1
	e.next[n] += uint64(len(entries))
	w := wid(n)
	m := &mqtypes.MsgSubmitOutbox{Worker: w[:], FirstSeq: first}
	for i, entry := range entries {
		p := proto.MarshalEntry(entry)
		m.Entries = append(m.Entries, mqtypes.OutboxEntry{Payload: p, Signature: testchain.Sign(pair, proto.EntrySignedBytes(testchain.ID, w, first+uint64(i), p))})
	}
	return func(ctx sdk.Context) error { _, err := e.mq.SubmitOutbox(ctx, m); return err }
}

// say gives an entry to the handler itself, for its error, and undoes it.
func (e *env) say(n int, entry proto.Entry) error {
	_, err := e.Tx(func(ctx sdk.Context) error {
		if err := e.k.HandleEntry(ctx, mq.From{Worker: wid(n), Seq: 1, Payload: proto.MarshalEntry(entry)}, entry); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

func epochKey(n int) [32]byte {
	k, err := commkey.FromSeed(sha256.Sum256(fmt.Appendf(nil, "epoch %d", n)))
	if err != nil {
		panic(err)
	}
	return k.Public()
}

// cluster makes cluster 1 of account 1 with workers 1 to seats, and its epoch key.
func (e *env) cluster(seats int) {
	e.t.Helper()
	var txs []func(sdk.Context) error
	for n := 1; n <= seats; n++ {
		txs = append(txs, e.register(n))
	}
	e.Block(append(txs, e.create(1, seats, true))...)
	txs = nil
	for n := 1; n <= seats; n++ {
		txs = append(txs, e.outbox(n, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(1)}))
	}
	e.Block(txs...)
	if e.get(1).EpochKey != epochKey(1) {
		e.t.Fatal("no epoch key")
	}
}

func (e *env) create(owner, seats int, public bool) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		_, err := e.k.CreateCluster(ctx, &types.MsgCreateCluster{Owner: testchain.Account(owner).String(), Seats: uint32(seats), Public: public})
		return err
	}
}

func (e *env) get(id proto.ClusterID) *proto.Cluster {
	e.t.Helper()
	c, err := e.k.Cluster(e.Context(), id)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

func (e *env) balance(n int) math.Int { return e.bank.balance(e.Context(), testchain.Account(n)) }
func (e *env) burnt() math.Int        { return e.bank.balance(e.Context(), []byte("burnt")) }

// held is what the module's account has, which is what its records say.
func (e *env) held() math.Int {
	e.t.Helper()
	has := e.bank.balance(e.Context(), []byte(ModuleName))
	if owes, err := e.k.Held(e.Context()); err != nil || !owes.Equal(has) {
		e.t.Errorf("height %d: the account has %s, its records say %s, %v", e.Height(), has, owes, err)
	}
	return has
}

// sealed is an envelope of a size bucket.
func sealed(bucket int) []byte { return make([]byte, envelope.Overhead+bucket) }

func push(payer int, tier uint32) *types.MsgPushCommand {
	return &types.MsgPushCommand{Payer: testchain.Account(payer).String(), Cluster: 1, Epoch: 1, GasTier: tier, Envelope: sealed(256)}
}

func (e *env) push(m *types.MsgPushCommand) func(sdk.Context) error {
	return func(ctx sdk.Context) error { _, err := e.k.PushCommand(ctx, m); return err }
}

// noise is a module of some bytes that do not compress.
func noise(size int, name string) []byte {
	module := make([]byte, size)
	for i := 0; i < size; i += 32 {
		h := sha256.Sum256(fmt.Appendf(nil, "%s %d", name, i))
		copy(module[i:], h[:])
	}
	return module
}

// packed is a module's manifest and its chunks as they are uploaded.
func packed(module []byte) (*proto.CodeManifest, [][]byte) {
	var chunks [][]byte
	for chunk := range slices.Chunk(module, proto.ChunkSize) {
		chunks = append(chunks, proto.PackChunk(chunk))
	}
	return proto.NewCodeManifest(module), chunks
}

func (e *env) upload(who int, m *proto.CodeManifest, i int, chunk []byte) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		_, err := e.k.UploadCode(ctx, &types.MsgUploadCode{Uploader: testchain.Account(who).String(), Manifest: m.Marshal(), Index: uint32(i), Chunk: chunk})
		return err
	}
}

// uploaded stores a small code and returns its hash.
func (e *env) uploaded(name string) proto.Hash {
	e.t.Helper()
	m, chunks := packed(noise(100, name))
	e.Block(e.upload(1, m, 0, chunks[0]))
	return m.Hash()
}

func deploy(who int, code proto.Hash, salt string) *types.MsgDeploy {
	return &types.MsgDeploy{Deployer: testchain.Account(who).String(), Cluster: 1, CodeHash: code[:], Salt: []byte(salt), Epoch: 1, GasTier: 0, Envelope: sealed(256)}
}

func (e *env) deploy(m *types.MsgDeploy) func(sdk.Context) error {
	return func(ctx sdk.Context) error { _, err := e.k.Deploy(ctx, m); return err }
}

func (e *env) contract(who int, code proto.Hash, salt string) *proto.Contract {
	e.t.Helper()
	id := proto.NewContractID(testchain.ID, 1, testchain.Account(who), code, []byte(salt))
	ct, err := get(e.Context(), e.k, proto.KeyContract(id), proto.ParseContract)
	if err != nil || ct == nil {
		e.t.Fatalf("contract %s: %v, %v", id, ct, err)
	}
	return ct
}

func (e *env) cursor(topic string) proto.Cursor {
	e.t.Helper()
	c, err := e.mq.Cursor(e.Context(), topic)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// events decodes all messages of a topic.
func (e *env) events(topic string) (out []proto.Event) {
	e.t.Helper()
	r, err := e.mq.Messages(e.Context(), &mqtypes.QueryMessagesRequest{Topic: topic, FromSeq: 1, Limit: 1000})
	if err != nil {
		e.t.Fatal(err)
	}
	for _, b := range r.Messages {
		m, err := proto.ParseMessage(b)
		if err != nil {
			e.t.Fatal(err)
		}
		ev, err := proto.ParseEvent(m.Payload)
		if err != nil {
			e.t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}
