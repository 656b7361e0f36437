package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
)

const (
	chain = "test-1"
	home  = proto.ClusterID(1)
)

var start = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// A tee is a simulated one.
type tee struct {
	store    *simulator.Store
	machine  *simulator.Machine
	build    string
	unsealed bool // it has no sealing keys
}

func (e *tee) Name() string    { return "simulator" }
func (e *tee) TEE() attest.TEE { return attest.TDX }
func (e *tee) Simulated() bool { return true }
func (e *tee) Evidence(_ context.Context, d [64]byte) (attest.Evidence, error) {
	ev, err := e.machine.Evidence(attest.TDX, []byte(e.build), d)
	if err == nil {
		ev.Collateral, err = e.store.Collateral(attest.TDX, start)
	}
	return ev, err
}
func (e *tee) SealingKey(_ context.Context, label []byte) ([32]byte, error) {
	if e.unsealed {
		return [32]byte{}, producer.ErrNoSealing
	}
	return e.machine.SealingKey(attest.TDX, []byte(e.build), label)
}

// A world is a keeper on a machine, with a gatekeeper's master share.
type world struct {
	t     testing.TB
	cfg   Config
	tee   *tee
	share *dprf.Share
	k     *Keeper
	r     *Ring
}

func newWorld(t testing.TB, edit ...func(*world)) *world {
	t.Helper()
	w := &world{t: t}
	store, err := simulator.Open(t.TempDir(), start, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := store.Machine("a", start)
	if err != nil {
		t.Fatal(err)
	}
	if w.share, err = dprf.Generate(rand.Reader); err != nil {
		t.Fatal(err)
	}
	w.tee = &tee{store: store, machine: m, build: "pruntime"}
	w.cfg = Config{DataDir: t.TempDir(), Chain: chain, RootHeight: 1, RootHash: proto.Hash{1}, Role: proto.RoleWorker, Operator: []byte("operator"), Roots: store.Roots.Digest(),
		Settings: proto.Settings{Lease: 5, TrustingPeriod: 5, ClockDrift: 5, SessionInterval: 5, WorstLevel: 4}, Now: func() time.Time { return start }}
	for _, e := range edit {
		e(w)
	}
	w.open()
	return w
}

// open starts the keeper, again if it was there before.
func (w *world) open() {
	w.t.Helper()
	k, err := Open(context.Background(), w.cfg, w.tee)
	if err != nil {
		w.t.Fatal(err)
	}
	w.k, w.r = k, k.Ring()
}

func (w *world) session() [32]byte {
	w.t.Helper()
	s, err := w.r.NewSession()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func fresh(t testing.TB) *commkey.SecretKey {
	t.Helper()
	k, err := commkey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// released is what a gatekeeper sends for labels.
func (w *world) released(share *dprf.Share, epoch uint64, session [32]byte, labels ...string) []byte {
	w.t.Helper()
	var shares []proto.KeyShare
	for _, l := range labels {
		p, proof, err := share.Evaluate(rand.Reader, l)
		if err != nil {
			w.t.Fatal(err)
		}
		shares = append(shares, proto.KeyShare{Label: l, Partial: p, Proof: proof})
	}
	return w.sealed(epoch, session, proto.MarshalKeyShares(shares))
}

func (w *world) sealed(epoch uint64, session [32]byte, plain []byte) []byte {
	w.t.Helper()
	env, err := envelope.Seal(rand.Reader, proto.ReleaseContext(chain, w.k.info.Worker, home, epoch), fresh(w.t), session, plain)
	if err != nil {
		w.t.Fatal(err)
	}
	return env
}

func labels(epoch uint64) []string {
	return []string{cluster.LabelStable(home), cluster.LabelTraffic(home, epoch)}
}

// release gives the keyring an epoch's keys.
func (w *world) release(epoch uint64) *Released {
	w.t.Helper()
	s := w.session()
	got, err := w.r.OpenRelease(home, epoch, s, w.share.Public(), w.released(w.share, epoch, s, labels(epoch)...))
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// secrets are the epoch's keys as the gatekeeper's share gives them.
func (w *world) secrets(epoch uint64) (stable [32]byte, key *commkey.SecretKey, blind [32]byte) {
	w.t.Helper()
	var out [2][32]byte
	for i, l := range labels(epoch) {
		p, _, err := w.share.Evaluate(rand.Reader, l)
		if err == nil {
			out[i], err = dprf.Combine(l, []dprf.Partial{{Index: 1, Point: p}})
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	key, blind, err := cluster.EpochKey(out[1])
	if err != nil {
		w.t.Fatal(err)
	}
	return out[0], key, blind
}

// A caller's command, and what opens its answer.
type sentCommand struct {
	cluster.Sealed
	key *commkey.SecretKey
}

func seal(t testing.TB, c envelope.Context, to commkey.PublicKey, plain []byte) sentCommand {
	t.Helper()
	k := fresh(t)
	env, err := envelope.Seal(rand.Reader, c, k, to, plain)
	if err != nil {
		t.Fatal(err)
	}
	return sentCommand{cluster.Sealed{Context: c, Envelope: env}, k}
}

func command(epoch uint64, payer string) envelope.Context {
	return (&proto.PushedCommand{Payer: []byte(payer), Epoch: epoch, GasTier: 6}).Context(chain, home)
}

// answers checks that a replier's answer opens for who asked.
func answers(t testing.TB, what string, reply *envelope.Replier, c envelope.Context, asker *commkey.SecretKey, from commkey.PublicKey) {
	t.Helper()
	b, err := reply.Seal(rand.Reader, []byte("answer"))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if got, err := envelope.OpenReply(c, asker, from, b); err != nil || !bytes.Equal(got, []byte("answer")) {
		t.Errorf("%s: the answer does not open: %v", what, err)
	}
}

func wantError(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}
