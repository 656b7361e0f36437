package pruntime_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/merkle"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/chaintest"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
	"github.com/phala-go/phala/pruntime/inbox"
)

// A tee is a simulated one, in this process.
type tee struct {
	store       *simulator.Store
	machine     *simulator.Machine
	measurement []byte
	now         func() time.Time
	collateral  *attest.Collateral // when not nil, instead of what the vendor publishes now
	bare        bool               // it gives none, as hardware does
	unsealed    bool               // it has no sealing keys
	class       attest.TEE         // TDX, unless it is set
	borrowed    bool               // its evidence was made for something else
}

func (e *tee) Name() string    { return "simulator" }
func (e *tee) TEE() attest.TEE { return cmp.Or(e.class, attest.TDX) }
func (e *tee) Simulated() bool { return true }

func (e *tee) Evidence(_ context.Context, reportData [64]byte) (attest.Evidence, error) {
	if e.borrowed {
		reportData[0] ^= 1
	}
	ev, err := e.machine.Evidence(e.TEE(), e.measurement, reportData)
	if e.bare {
		return ev, err
	}
	if e.collateral != nil {
		ev.Collateral = e.collateral
	} else if err == nil {
		ev.Collateral, err = e.store.Collateral(e.TEE(), e.now())
	}
	return ev, err
}

func (e *tee) SealingKey(_ context.Context, label []byte) ([32]byte, error) {
	if e.unsealed {
		return [32]byte{}, producer.ErrNoSealing
	}
	return e.machine.SealingKey(e.TEE(), e.measurement, label)
}

// A world is a chain with enclaves and their honest relayers.
type world struct {
	t       *testing.T
	chain   *chaintest.Chain
	store   *simulator.Store
	nodes   []*node
	cluster proto.ClusterID
	user    *identity.KeyPair
	code    proto.Hash
	module  []byte
	more    map[proto.Hash][]byte // other modules that relayers bring
	nonce   uint64
}

// A node is an enclave with its folder and its relayer.
type node struct {
	w       *world
	name    string
	cfg     pruntime.Config
	tee     *tee
	rt      *pruntime.Runtime
	off     bool          // its relayer does nothing
	noCodes bool          // its relayer brings no codes
	noState bool          // nor pieces of a state
	lag     int           // rounds that a run of its outbox is on its way to the chain
	flight  []run         // those that are
	ahead   time.Duration // its clock, ahead of the chain's
	lastErr error
}

const lease = 30 * time.Second // that many blocks

func newWorld(t *testing.T) *world {
	return newWorldOf(t, comettest.Config{})
}

func newWorldOf(t *testing.T, cfg comettest.Config) *world {
	t.Helper()
	w := &world{t: t, chain: chaintest.New(cfg), module: enginetest.Script("")}
	var err error
	if w.store, err = simulator.Open(t.TempDir(), w.chain.Time(), false); err != nil {
		t.Fatal(err)
	}
	if w.user, err = identity.FromSeed(make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	w.code = proto.CodeHash(w.module)
	return w
}

// add makes an enclave, which is not running yet.
func (w *world) add(name string, role proto.Role, edit ...func(*node)) *node {
	w.t.Helper()
	n := &node{w: w, name: name, cfg: pruntime.DefaultConfig()}
	m, err := w.store.Machine(name, w.chain.Time())
	if err != nil {
		w.t.Fatal(err)
	}
	n.tee = &tee{store: w.store, machine: m, measurement: []byte("pruntime"), now: w.chain.Time}
	n.cfg.DataDir, n.cfg.Chain, n.cfg.Root, n.cfg.Role, n.cfg.Roots = w.t.TempDir(), "comettest-1", w.chain.Root(), role, w.store.Roots
	n.cfg.Operator = []byte("operator")
	n.cfg.TrustingPeriod, n.cfg.Lease, n.cfg.SessionInterval, n.cfg.CheckpointInterval = 24*time.Hour, lease, time.Hour, 5*time.Second
	n.cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	n.cfg.Now = func() time.Time { return w.chain.Time().Add(n.ahead) }
	for _, f := range edit {
		f(n)
	}
	w.nodes = append(w.nodes, n)
	return n
}

// start opens the runtime.
func (n *node) start() *node {
	n.w.t.Helper()
	rt, err := pruntime.Open(context.Background(), n.cfg, n.tee)
	if err != nil {
		n.w.t.Fatalf("%s: %v", n.name, err)
	}
	n.rt = rt
	n.w.t.Cleanup(func() { n.stop() })
	return n
}

// stop is a clean stop; kill leaves everything as it is on disk.
func (n *node) stop() {
	n.w.t.Helper()
	if n.rt != nil {
		rt := n.rt
		n.rt = nil
		if err := rt.Close(context.Background()); err != nil {
			n.w.t.Errorf("%s: close: %v", n.name, err)
		}
	}
}

func (n *node) kill() {
	n.w.t.Helper()
	saved := snapshot(n.w.t, n.cfg.DataDir)
	n.stop()
	saved.restore(n.w.t)
}

// A folder's contents.
type folder struct {
	dir   string
	files map[string][]byte
}

// snapshot copies a folder that its worker may be writing to: when a file that was listed has got
// its final name meanwhile, it looks again.
func snapshot(t *testing.T, dir string) *folder {
	t.Helper()
again:
	f := &folder{dir, map[string][]byte{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		f.files[e.Name()], err = os.ReadFile(dir + "/" + e.Name())
		if errors.Is(err, os.ErrNotExist) {
			goto again
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *folder) restore(t *testing.T) { f.into(t, f.dir) }

// into makes the files of dir those of the snapshot.
func (f *folder) into(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			if err := os.Remove(dir + "/" + e.Name()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, b := range f.files {
		if err := os.WriteFile(dir+"/"+name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// relay does what an honest relayer does in one round.
func (n *node) relay() error {
	st := n.rt.Status()
	if st.Fatal != "" {
		return fmt.Errorf("stopped: %s", st.Fatal)
	}
	if st.TrustedHeight == 0 {
		h := n.w.chain.C.Header(n.cfg.Root.Height)
		if err := n.rt.TrustHeader(h.Marshal()); err != nil {
			return err
		}
		st = n.rt.Status()
	}
	a := n.w.chain.Advance(st)
	for height := n.w.chain.Height(); len(a.Messages) > inbox.MaxMessages; {
		if len(st.Joining) == 0 {
			height = (st.TrustedHeight + height) / 2
			a = n.w.chain.AdvanceTo(st, height)
			continue
		}
		var past []*proto.Message
		for _, m := range a.Messages {
			if slices.Contains(st.Joining, m.Topic) && len(past) < 1000 {
				past = append(past, m)
			}
		}
		if err := n.rt.Hold((&inbox.Advance{Messages: past}).Marshal()); err != nil {
			return err
		}
		st = n.rt.Status()
		a = n.w.chain.AdvanceTo(st, height)
	}
	if err := n.rt.Advance(a.Marshal()); err != nil && st.TrustedHeight < n.w.chain.Height() {
		if len(n.rt.Status().WantCodes) == 0 {
			return err
		}
	}
	for _, h := range n.rt.Status().WantCodes {
		module := n.w.more[h]
		if h == n.w.code {
			module = n.w.module
		}
		if module != nil && !n.noCodes {
			if err := n.rt.PutCode(h, module); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(n.bringState(), n.blocks()); err != nil {
		return err
	}
	if _, ok := n.w.chain.Worker(st.Worker); !ok {
		return n.register()
	}
	return n.carry()
}

// bringState brings what the enclave wants of its cluster's state.
func (n *node) bringState() error {
	for {
		want := n.rt.Status().WantState
		if want == nil || n.noState {
			return nil
		}
		s, piece, ok := n.w.chain.Snapshot(want.Cluster, want.Epoch)
		if !ok {
			return fmt.Errorf("the chain has no snapshot of epoch %d", want.Epoch)
		}
		if !want.Described {
			if err := n.rt.PutSnapshot(s.Marshal()); err != nil {
				return err
			}
			continue
		}
		if err := n.rt.PutPiece(want.Pieces[0], piece(want.Pieces[0])); err != nil {
			return err
		}
	}
}

func (n *node) register() error {
	reg, sig, ev, err := n.rt.Register(context.Background())
	if err != nil {
		return err
	}
	return n.w.chain.Register(reg, sig, ev)
}

// blocks brings a gatekeeper the proofs of blocks that it asks for.
func (n *node) blocks() error {
	st := n.rt.Status()
	if st.Gatekeeper == nil {
		return nil
	}
	var out []pruntime.BlockProof
	for _, h := range st.Gatekeeper.WantBlocks {
		if value, ok := n.w.chain.C.Get(st.TrustedHeight-1, proto.StoreRegistry, proto.KeyBlock(h)); ok {
			_, p := n.w.chain.C.Prove(st.TrustedHeight-1, proto.StoreRegistry, proto.KeyBlock(h))
			out = append(out, pruntime.BlockProof{Height: h, Hash: proto.Hash(value), Proof: p.Marshal()})
		}
	}
	return n.rt.ConfirmBlocks(out)
}

// carry brings the outbox to the chain.
func (n *node) carry() error {
	if err := n.acknowledge(); err != nil {
		return err
	}
	first, entries, err := n.rt.Outbox(32)
	if err != nil {
		return err
	}
	n.flight = append(n.flight, run{first, plain(entries)})
	for len(n.flight) > n.lag {
		if err := n.land(); err != nil {
			return err
		}
	}
	return nil
}

// A run is a part of an outbox, from first on.
type run struct {
	first   uint64
	entries []chaintest.Entry
}

// land brings the oldest run that is on its way to the chain.
func (n *node) land() error {
	x := n.flight[0]
	n.flight = n.flight[1:]
	if len(x.entries) == 0 {
		return nil
	}
	err := n.w.chain.Submit(n.rt.Self(), x.first, x.entries)
	var r *chaintest.Refusal
	if errors.As(err, &r) && r.Space == "mq" {
		return nil // the chain is ahead of what was proven; the next round sees where it is
	}
	return err
}

func plain(entries []pruntime.SignedEntry) (out []chaintest.Entry) {
	for _, e := range entries {
		out = append(out, chaintest.Entry{Payload: e.Payload, Signature: e.Signature[:]})
	}
	return out
}

// acknowledge brings the chain's position under the trusted header.
func (n *node) acknowledge() error {
	st := n.rt.Status()
	value, ok := n.w.chain.C.Get(st.TrustedHeight-1, proto.StoreMQ, proto.KeyOutbox(st.Worker))
	if !ok {
		return nil
	}
	_, p := n.w.chain.C.Prove(st.TrustedHeight-1, proto.StoreMQ, proto.KeyOutbox(st.Worker))
	position, err := proto.ParseCursor(value)
	if err != nil {
		return err
	}
	return n.rt.Acknowledge(position, p.Marshal())
}

// step is one block and one round of every relayer.
func (w *world) step() {
	w.t.Helper()
	w.chain.Next(1)
	for _, n := range w.nodes {
		if n.rt != nil && !n.off {
			n.lastErr = n.relay()
		}
	}
}

// until steps until the condition holds.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	for i := range 150 {
		if holds() {
			return
		}
		w.step()
		// Codes are prepared in the background, which a busy machine takes long for.
		if i < 50 {
			time.Sleep(time.Millisecond)
		} else {
			time.Sleep(time.Second)
		}
	}
	for _, n := range w.nodes {
		if n.rt != nil {
			st := n.rt.Status()
			w.t.Logf("%s: height %d of %d, why %q, fatal %q, waiting %d, outbox %+v, relayer: %v", n.name, st.Height, w.chain.Height(), st.Why, st.Fatal, st.Waiting, st.Outbox, n.lastErr)
		}
	}
	w.t.Fatalf("it does not come to this: %s", what)
}

// prepared lets an enclave prepare the code of a contract while the chain stands still: what
// is counted in blocks must not depend on how long that takes.
func (n *node) prepared(id proto.ContractID) {
	n.w.t.Helper()
	for end := time.Now().Add(5 * time.Minute); len(n.rt.Status().WantCodes) == 0; time.Sleep(time.Millisecond) {
		if _, err := n.query(id, "gi"); !errors.Is(err, cluster.ErrNeedCode) {
			return
		}
		if time.Now().After(end) {
			n.w.t.Fatalf("%s: the code is not prepared", n.name)
		}
	}
}

// meanwhile tries what has to be seen while an enclave is busy, each time in another world:
// a machine that stands still at the wrong moment hides it, but not ten times.
func meanwhile(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for range 10 {
		if seen() {
			return
		}
	}
	t.Errorf("this tested nothing in ten tries: %s", what)
}

func (n *node) serving() bool { return n.rt.Status().Serving }

// network is a gatekeeper and workers with seats in one cluster, serving.
func network(t *testing.T, workers int, edit ...func(*node)) (*world, *node, []*node) {
	t.Helper()
	w := newWorld(t)
	g := w.add("gatekeeper", proto.RoleGatekeeper).start()
	var ws []*node
	for i := range workers {
		ws = append(ws, w.add(fmt.Sprint("worker-", i), proto.RoleWorker, edit...).start())
	}
	w.until("the gatekeeper is active", g.serving)
	w.cluster = w.chain.CreateCluster([]byte("owner"), uint32(workers))
	w.until("every worker serves", func() bool { return !slices.ContainsFunc(ws, func(n *node) bool { return !n.serving() }) })
	w.until("the cluster has a key", func() bool { return w.chain.Cluster(w.cluster).EpochKey != [32]byte{} })
	return w, g, ws
}

// A sent command.
type sent struct {
	seq   uint64
	fresh *commkey.SecretKey
	ctx   envelope.Context
	key   [32]byte
	nonce [16]byte
}

const (
	tier    = 5
	deposit = 1 << 30
)

// seal makes a command of the user.
func (w *world) seal(ctx envelope.Context, to proto.ContractID, input string) (*sent, []byte) {
	w.t.Helper()
	w.nonce++
	cl, pub := w.chain.Cluster(w.cluster), w.user.Public()
	inv := &proto.Invocation{From: pub[:], To: to, Input: []byte(input), GasLimit: proto.TierGas(tier), DepositLimit: deposit, Expiry: uint64(w.chain.Height()) + 1000,
		Scheme: uint8(identity.SchemeSr25519), PublicKey: pub[:]}
	binary.BigEndian.PutUint64(inv.Nonce[:], w.nonce)
	sig, err := w.user.Sign(rand.Reader, inv.SignedBytes("comettest-1", w.cluster))
	if err != nil {
		w.t.Fatal(err)
	}
	inv.Signature = sig[:]
	s := &sent{ctx: ctx, key: cl.EpochKey, nonce: inv.Nonce}
	if s.fresh, err = commkey.Generate(rand.Reader); err != nil {
		w.t.Fatal(err)
	}
	env, err := envelope.Seal(rand.Reader, ctx, s.fresh, cl.EpochKey, inv.Marshal())
	if err != nil {
		w.t.Fatal(err)
	}
	return s, env
}

// push pushes a command.
func (w *world) push(to proto.ContractID, input string) *sent {
	w.t.Helper()
	pub := w.user.Public()
	cmd := proto.PushedCommand{Payer: pub[:], Epoch: w.chain.Cluster(w.cluster).Epoch, GasTier: tier, DepositLimit: deposit}
	s, env := w.seal(cmd.Context("comettest-1", w.cluster), to, input)
	cmd.Envelope = env
	var err error
	if s.seq, err = w.chain.Push(w.cluster, cmd); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// announce uploads a module and deploys it; the constructor runs when it is prepared.
func (w *world) announce(module []byte) proto.ContractID {
	w.t.Helper()
	code := w.chain.Upload(module)
	pub := w.user.Public()
	salt := fmt.Append(nil, w.nonce)
	id := proto.NewContractID("comettest-1", w.cluster, pub[:], code, salt)
	inst := proto.Instantiated{Contract: id, Deployer: pub[:], Code: code, Command: proto.PushedCommand{Payer: pub[:], Epoch: w.chain.Cluster(w.cluster).Epoch, GasTier: tier, DepositLimit: deposit}}
	_, inst.Command.Envelope = w.seal(inst.Context("comettest-1", w.cluster), id, "pi1")
	if _, err := w.chain.Deploy(w.cluster, code, salt, inst.Command); err != nil {
		w.t.Fatal(err)
	}
	return id
}

// deploy makes a contract that is ready for commands.
func (w *world) deploy() proto.ContractID {
	w.t.Helper()
	id := w.announce(w.module)
	w.until("the contract answers", func() bool {
		for _, n := range w.nodes {
			if n.cfg.Role == proto.RoleWorker && n.rt != nil && !n.off {
				if a, err := n.query(id, "gi"); err != nil || string(a.Return) != "1" {
					return false
				}
			}
		}
		return true
	})
	return id
}

// answer waits for the final receipt of a command and opens its answer.
func (w *world) answer(s *sent) *proto.Output {
	w.t.Helper()
	w.until(fmt.Sprint("message ", s.seq, " is final"), func() bool {
		return w.chain.Cluster(w.cluster).FinalSeq >= s.seq && len(w.chain.Outputs(w.cluster, s.seq)) > 0
	})
	o, err := proto.ParseSealedOutput(w.chain.Outputs(w.cluster, s.seq)[0])
	if err != nil {
		w.t.Fatal(err)
	}
	ctx := s.ctx
	ctx.Purpose += "-output"
	b, err := envelope.OpenReply(ctx, s.fresh, s.key, o.Sealed)
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := proto.ParseOutput(b)
	if err != nil {
		w.t.Fatal(err)
	}
	rec, ok := w.chain.Receipt(w.cluster, s.seq-uint64(o.Index))
	if !ok || !rec.Final {
		w.t.Fatalf("no final receipt from %d", s.seq-uint64(o.Index))
	}
	leaf := proto.ReceiptLeaf(out.Commitment(), o.Events)
	var siblings [][32]byte
	for _, h := range o.Proof {
		siblings = append(siblings, h)
	}
	if !merkle.Verify(rec.Receipts[rec.Agreed].Outputs, leaf[:], int(o.Index), int(o.Count), siblings) {
		w.t.Fatal("the answer is not in the receipt")
	}
	return out
}

// call pushes a command and returns its answer.
func (w *world) call(to proto.ContractID, input string) *proto.Output {
	w.t.Helper()
	return w.answer(w.push(to, input))
}

// query asks a worker anonymously.
func (n *node) query(to proto.ContractID, input string) (*proto.Answer, error) {
	return n.ask(&proto.Query{To: to, Input: []byte(input)}, [32]byte(n.rt.Status().Session))
}

// ask asks a worker, sealed to a session.
func (n *node) ask(q *proto.Query, session [32]byte) (*proto.Answer, error) {
	fresh, err := commkey.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	ctx := proto.QueryContext("comettest-1")
	env, err := envelope.Seal(rand.Reader, ctx, fresh, session, q.Marshal())
	if err != nil {
		return nil, err
	}
	b, err := n.rt.Query(context.Background(), env)
	if err != nil {
		return nil, err
	}
	p, err := envelope.OpenReply(ctx, fresh, session, b)
	if err != nil {
		return nil, err
	}
	return proto.ParseAnswer(p)
}
