package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"
	"testing"

	dbm "github.com/cosmos/cosmos-db"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	mqtypes "github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

// The simulated vendor is made once: its keys take time.
var vendor struct {
	sync.Once
	dir   string
	store *simulator.Store
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if vendor.dir != "" {
		os.RemoveAll(vendor.dir)
	}
	os.Exit(code)
}

func simulated(t testing.TB) *simulator.Store {
	t.Helper()
	vendor.Do(func() {
		if vendor.dir, vendor.err = os.MkdirTemp("", "registry"); vendor.err == nil {
			vendor.store, vendor.err = simulator.Open(vendor.dir, testchain.Genesis, false)
		}
	})
	if vendor.err != nil {
		t.Fatal(vendor.err)
	}
	return vendor.store
}

var (
	goodSoftware  = []byte{1, 2, 3}
	otherSoftware = []byte{4, 5, 6}
	authority     = testchain.Account(99).String()
)

// env is a registry on a simulated network whose blocks 1 to 10 are past. Account 1
// may run gatekeepers.
type env struct {
	*testchain.Chain
	t  testing.TB
	k  *Keeper
	mq *mq.Keeper
}

func params(t testing.TB) Params {
	p := DefaultParams()
	p.GatekeeperOperators = []string{testchain.Account(1).String()}
	p.RecentBlocks, p.AttestationBlocks, p.RenewalBlocks, p.LeaseBlocks = 20, 100, 5, 10
	p.TCBEvaluations = EvaluationCeilings{SGX: 100, TDX: 100}
	return p
}

func newEnv(t testing.TB) *env {
	roots, err := simulated(t).Network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	return newEnvWith(t, params(t), roots)
}

func newEnvWith(t testing.TB, p Params, roots []byte) *env {
	c := testchain.New(t, []string{mq.ModuleName, ModuleName}, []string{mq.TransientKey, TransientKey})
	e := &env{Chain: c, t: t}
	e.mq = mq.NewKeeper(c.Store(mq.ModuleName), c.Transient(mq.TransientKey), mq.NewBodies(dbm.NewMemDB()))
	e.k = NewKeeper(c.Store(ModuleName), c.Transient(TransientKey), e.mq, authority)
	e.mq.SetRouter(e.k, e.k.HandleEntry)
	c.Begin = append(c.Begin, e.k.BeginBlock)
	c.End, c.Commit = append(c.End, e.mq.EndBlock), e.mq.Bodies().Commit
	ctx := c.Context()
	if err := errors.Join(e.mq.CreateTopic(ctx, proto.TopicSystem), e.mq.CreateTopic(ctx, proto.TopicGatekeeper), e.k.SetParams(ctx, p), e.allow(ctx, digest(t, attest.TDX, goodSoftware), 0, 0)); err != nil {
		t.Fatal(err)
	}
	if len(roots) > 0 {
		if err := e.k.store.OpenKVStore(ctx).Set(keyRoots, roots); err != nil {
			t.Fatal(err)
		}
	}
	ctx.MultiStore().(storetypes.CacheMultiStore).Write()
	e.skip(10)
	e.bring(attest.TDX, simulated(t))
	return e
}

// digest names a software.
func digest(t testing.TB, tee attest.TEE, software []byte) proto.Hash {
	d, err := simulator.Measurement(tee, software)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// allow allows a measurement in both roles.
func (e *env) allow(ctx sdk.Context, d proto.Hash, from, until uint64) error {
	return errors.Join(e.k.setMeasurement(ctx, &AllowedMeasurement{d, "worker", from, until}), e.k.setMeasurement(ctx, &AllowedMeasurement{d, "gatekeeper", from, until}))
}

// collateral is what a vendor publishes for a class.
func collateral(t testing.TB, tee attest.TEE, st *simulator.Store) []byte {
	c, err := st.Collateral(tee, testchain.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	return c.Marshal()
}

// bring puts what a vendor publishes into the state, without a block.
func (e *env) bring(tee attest.TEE, st *simulator.Store) {
	e.t.Helper()
	ctx := e.Context()
	c, err := st.Collateral(tee, testchain.Genesis)
	if err != nil {
		e.t.Fatal(err)
	}
	platform, err := c.Platform()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := e.k.store.OpenKVStore(ctx).Set(proto.KeyCollateral(platform), c.Marshal()); err != nil {
		e.t.Fatal(err)
	}
	ctx.MultiStore().(storetypes.CacheMultiStore).Write()
}

func session(n int) [32]byte {
	k, err := commkey.FromSeed(sha256.Sum256(fmt.Appendf(nil, "session %d", n)))
	if err != nil {
		panic(err)
	}
	return k.Public()
}

// An application is a registration before its parts are signed: tests change them.
type application struct {
	pair     *identity.KeyPair
	reg      proto.Registration
	machine  string
	software []byte
	sender   sdk.AccAddress
	tee      attest.TEE
	// after edits what was made.
	after func(m *types.MsgRegisterWorker)
	// bound, when set, is what the evidence binds instead.
	bound *proto.Registration
}

var settings = proto.Settings{Lease: 300_000, TrustingPeriod: 14 * 24 * 3600_000, ClockDrift: 10_000, SessionInterval: 24 * 3600_000, WorstLevel: 4}

// epoch is a worker's attestation epoch; 0 when it was never admitted.
func (e *env) epoch(n int) uint64 {
	a := e.attestation(n)
	if a == nil {
		return 0
	}
	return a.Epoch
}

func (e *env) attestation(n int) *proto.Attestation {
	e.t.Helper()
	a, err := e.k.Attestation(e.Context(), id(n))
	if err != nil {
		e.t.Fatal(err)
	}
	return a
}

// apply is the good application of worker n on machine n at the block now.
func (e *env) apply(n int) *application {
	pair, op := testchain.Pair(n), testchain.Account(n)
	return &application{pair: pair, machine: fmt.Sprint("machine-", n), software: goodSoftware, sender: op, tee: attest.TDX,
		reg: proto.Registration{Chain: testchain.ID, Roots: simulated(e.t).Roots.Digest(), TrustHeight: 1, TrustRoot: testchain.HashAt(1), Epoch: e.epoch(n) + 1, Settings: settings, Worker: proto.WorkerID(pair.Public()), Session: session(n), Operator: op,
			Role: proto.RoleWorker, Rules: 7, Height: e.Height(), Hash: testchain.HashAt(e.Height()), Endpoints: []string{"http://127.0.0.1:8000"}}}
}

func (a *application) message(t testing.TB) *types.MsgRegisterWorker {
	t.Helper()
	st := simulated(t)
	m, err := st.Machine(a.machine, testchain.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	bound := &a.reg
	if a.bound != nil {
		bound = a.bound
	}
	ev, err := m.Evidence(a.tee, a.software, bound.ReportData())
	if err != nil {
		t.Fatal(err)
	}
	msg := &types.MsgRegisterWorker{Operator: a.sender.String(), Registration: a.reg.Marshal(), Evidence: ev.Marshal(), Signature: testchain.Sign(a.pair, a.reg.SignedBytes())}
	if a.after != nil {
		a.after(msg)
	}
	return msg
}

func (e *env) register(a *application) func(sdk.Context) error {
	m := a.message(e.t)
	return func(ctx sdk.Context) error { _, err := e.k.RegisterWorker(ctx, m); return err }
}

// outbox submits one entry of worker n's outbox, which has seq.
func (e *env) outbox(n int, seq uint64, entry proto.Entry) func(sdk.Context) error {
	pair := testchain.Pair(n)
	w, payload := proto.WorkerID(pair.Public()), proto.MarshalEntry(entry)
	return func(ctx sdk.Context) error {
		_, err := e.mq.SubmitOutbox(ctx, &mqtypes.MsgSubmitOutbox{Worker: w[:], FirstSeq: seq, Entries: []mqtypes.OutboxEntry{
			{Payload: payload, Signature: testchain.Sign(pair, proto.EntrySignedBytes(testchain.ID, w, seq, payload))}}})
		return err
	}
}

// refused runs a transaction in a block of its own, which must refuse it.
func (e *env) refused(f func(sdk.Context) error, want error) {
	e.t.Helper()
	e.Start()
	before := e.Dump(ModuleName)
	if _, err := e.Tx(f); !errors.Is(err, want) {
		e.t.Fatalf("got %v, want %v", err, want)
	}
	if !reflect.DeepEqual(e.Dump(ModuleName), before) {
		e.t.Fatal("a refused transaction changed the state")
	}
	e.Finish()
}

func id(n int) proto.WorkerID { return proto.WorkerID(testchain.Pair(n).Public()) }

func (e *env) worker(n int) *proto.WorkerInfo {
	e.t.Helper()
	w, err := e.k.Worker(e.Context(), id(n))
	if err != nil {
		e.t.Fatal(err)
	}
	return w
}

func (e *env) serving(n int) (bool, string) { return e.k.Serving(e.Context(), id(n)) }

// last decodes the newest message of a topic, nil when it has none.
func (e *env) last(topic string) (m *proto.Message, ev proto.Event) {
	e.t.Helper()
	c, err := e.mq.Cursor(e.Context(), topic)
	if err != nil {
		e.t.Fatal(err)
	}
	if c.Seq == 0 {
		return nil, nil
	}
	r, err := e.mq.Messages(e.Context(), &mqtypes.QueryMessagesRequest{Topic: topic, FromSeq: c.Seq, Limit: 1})
	if err != nil || len(r.Messages) != 1 {
		e.t.Fatalf("%s: %d messages at %d, %v", topic, len(r.Messages), c.Seq, err)
	}
	if m, err = proto.ParseMessage(r.Messages[0]); err != nil {
		e.t.Fatal(err)
	}
	if ev, err = proto.ParseEvent(m.Payload); err != nil {
		e.t.Fatal(err)
	}
	return m, ev
}

// skip lets n blocks pass.
func (e *env) skip(n uint64) {
	for range n {
		e.Block()
	}
}
