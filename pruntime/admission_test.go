package pruntime_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/attest/snp"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// released reports whether a gatekeeper released a key to a worker.
func (w *world) released(id proto.WorkerID) bool {
	for _, x := range w.chain.Taken() {
		if r, ok := x.Entry.(proto.ReleaseKeys); ok && r.Worker == id {
			return true
		}
	}
	return false
}

// TestAdmittedWithBadEvidence: this chain admits everybody, as one of which two thirds of
// the validators are dishonest would. No key reaches a worker that the gatekeeper does not
// find good by itself, and it says why.
func TestAdmittedWithBadEvidence(t *testing.T) {
	other := func(w *world) *simulator.Store {
		st, err := simulator.Open(t.TempDir(), w.chain.Time(), false)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for _, c := range []struct {
		name, why string
		edit      func(w *world, n *node)
	}{
		{"other software", "of software", func(_ *world, n *node) { n.tee.measurement = []byte("something else") }},
		{"genuine evidence of the right software, for another registration", "binds another registration", func(_ *world, n *node) { n.tee.borrowed = true }},
		{"evidence under roots of the host's making", "another root", func(w *world, n *node) {
			st := other(w)
			m, err := st.Machine("fake", w.chain.Time())
			if err != nil {
				t.Fatal(err)
			}
			n.tee.store, n.tee.machine = st, m
		}},
		{"good evidence, but other roots to judge others by", "attestation roots", func(w *world, n *node) { n.cfg.Roots = other(w).Roots }},
		{"a machine that the vendor revoked", "revoked", func(w *world, n *node) {
			if err := w.store.Revoke(n.tee.machine, w.chain.Time()); err != nil {
				t.Fatal(err)
			}
		}},
		{"firmware that is out of date", "level 5", func(w *world, _ *node) {
			if err := w.store.SetState(w.chain.Time(), func(s *simulator.State) error { s.Status = "OutOfDate"; return nil }); err != nil {
				t.Fatal(err)
			}
		}},
		{"a longer lease", "settings", func(_ *world, n *node) { n.cfg.Lease++; n.cfg.Lease += time.Millisecond }},
		{"a longer trusting period", "settings", func(_ *world, n *node) { n.cfg.TrustingPeriod *= 2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			g := w.add("gatekeeper", proto.RoleGatekeeper).start()
			w.until("the gatekeeper is active", g.serving)
			fake := w.add("fake", proto.RoleWorker, func(n *node) { c.edit(w, n) }).start()
			w.cluster = w.chain.CreateCluster([]byte("owner"), 1)
			w.until("it is refused", func() bool { return len(g.rt.Status().Gatekeeper.Refused) > 0 })
			for range 10 {
				w.step()
			}
			if fake.rt.Status().Cluster != w.cluster || fake.rt.Status().StateRoot != nil || w.released(fake.rt.Self()) {
				t.Fatalf("keys reached it, or the chain did not admit it: %+v", fake.rt.Status())
			}
			if r := g.rt.Status().Gatekeeper.Refused; len(r) != 1 || r[0].Worker != fake.rt.Self() || !strings.Contains(r[0].Reason, c.why) {
				t.Fatalf("it says %+v", r)
			}
		})
	}
}

// TestOldCollateral: evidence with collateral from before a revocation that the gatekeeper
// knows of gets no keys.
func TestOldCollateral(t *testing.T) {
	w := newWorld(t)
	g := w.add("gatekeeper", proto.RoleGatekeeper).start()
	w.until("the gatekeeper is active", g.serving)
	fake := w.add("fake", proto.RoleWorker)
	before, err := w.store.Collateral(attest.TDX, w.chain.Time())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Revoke(fake.tee.machine, w.chain.Time()); err != nil {
		t.Fatal(err)
	}
	good := w.add("worker", proto.RoleWorker).start()
	w.cluster = w.chain.CreateCluster([]byte("owner"), 2)
	w.until("the good one has keys", func() bool { return good.rt.Status().StateRoot != nil })
	fake.tee.collateral = before
	fake.start()
	w.until("it is refused", func() bool { return len(g.rt.Status().Gatekeeper.Refused) > 0 })
	if r := g.rt.Status().Gatekeeper.Refused; r[0].Worker != fake.rt.Self() || !strings.Contains(r[0].Reason, "revoked") {
		t.Fatalf("it says %+v", r)
	}
}

// TestLaterTrustRoot: a worker that starts from a later block than the gatekeeper gets its
// keys once the gatekeeper saw the proof that the block is on its chain. One that starts
// from a header that is not does not get that far: no header follows it.
func TestLaterTrustRoot(t *testing.T) {
	w := newWorld(t)
	g := w.add("gatekeeper", proto.RoleGatekeeper).start()
	w.until("the gatekeeper is active", g.serving)
	w.chain.Next(200) // more than a light client remembers
	for range 140 {
		w.step()
	}
	late := w.add("worker", proto.RoleWorker, func(n *node) {
		h := w.chain.C.Header(100)
		n.cfg.Root = pruntime.TrustRoot{Height: 100, Hash: proto.Hash(h.Hash())}
	}).start()
	w.cluster = w.chain.CreateCluster([]byte("owner"), 1)
	w.until("it serves", late.serving)
}

// TestBoundForEver: an identity opens with what it was made with only. What a restart
// could stretch or exchange, a host would.
func TestBoundForEver(t *testing.T) {
	w := newWorld(t)
	n := w.add("gatekeeper", proto.RoleGatekeeper).start()
	w.until("the gatekeeper is active", n.serving)
	n.stop()
	stranger, err := simulator.Open(t.TempDir(), w.chain.Time(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(*pruntime.Config)
	}{
		{"lease", func(c *pruntime.Config) { c.Lease += time.Second }},
		{"trusting period", func(c *pruntime.Config) { c.TrustingPeriod += time.Second }},
		{"clock drift", func(c *pruntime.Config) { c.MaxClockDrift += time.Second }},
		{"session interval", func(c *pruntime.Config) { c.SessionInterval += time.Second }},
		{"worst level", func(c *pruntime.Config) { c.WorstLevel = 5 }},
		{"software that gets keys", func(c *pruntime.Config) { c.Releases = []proto.Hash{{1}} }},
		{"attestation roots", func(c *pruntime.Config) { c.Roots = stranger.Roots }},
		{"the vendors' roots", func(c *pruntime.Config) { c.Roots = attest.ProductionRoots() }},
		{"trust root", func(c *pruntime.Config) { c.Root.Height++ }},
	} {
		cfg := n.cfg
		c.edit(&cfg)
		if rt, err := pruntime.Open(context.Background(), cfg, n.tee); err == nil {
			rt.Close(context.Background())
			t.Errorf("%s: it opens", c.name)
		} else if strings.Contains(err.Error(), "own evidence") {
			t.Errorf("%s: it got as far as %v", c.name, err)
		}
	}
	// Stricter is allowed; it registers with what it was made with, and goes back to it.
	strict := n.cfg
	strict.Lease, strict.TrustingPeriod, strict.SessionInterval, strict.WorstLevel = time.Second, time.Minute, time.Minute, 1
	rt, err := pruntime.Open(context.Background(), strict, n.tee)
	if err != nil {
		t.Fatal(err)
	}
	b, _, _, err := rt.Register(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if reg, err := proto.ParseRegistration(b); err != nil || reg.Settings.Lease != uint64(n.cfg.Lease.Milliseconds()) || reg.Settings.WorstLevel != n.cfg.WorstLevel {
		t.Fatalf("it registers with %+v, %v", reg.Settings, err)
	}
	n.start()
	if !n.serving() {
		t.Fatal("with what it was made with it does not serve")
	}
}

// TestEndedAdmission: a worker whose admission is over answers nobody and says so; admitted
// anew, with new evidence and a new session, it goes on where it was.
func TestEndedAdmission(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	before := n.rt.Status()
	for _, end := range []struct {
		name string
		f    func()
	}{
		{"by the chain's word", func() {
			w.chain.Send(proto.TopicWorker(n.rt.Self()), proto.AdmissionEnded{Worker: n.rt.Self()})
			w.step()
			w.step()
		}},
		{"by its height", func() {
			st := n.rt.Status()
			w.chain.Next(int(st.Expires) - int(w.chain.Height()) + 2)
			w.step()
		}},
	} {
		end.f()
		if _, err := n.query(id, "gi"); !errors.Is(err, pruntime.ErrNotServing) || !strings.Contains(err.Error(), "registered again") {
			t.Fatalf("%s: %v", end.name, err)
		}
		if n.rt.Status().Admitted {
			t.Fatalf("%s: it says that it is admitted", end.name)
		}
		w.chain.Expires = 50
		n.register()
		w.until("it serves again", n.serving)
	}
	after := n.rt.Status()
	if after.Epoch != before.Epoch+2 || after.Session == before.Session {
		t.Fatalf("epoch %d to %d, session %s to %s", before.Epoch, after.Epoch, before.Session, after.Session)
	}
	if a, err := n.query(id, "gi"); err != nil || string(a.Return) != "1" {
		t.Fatalf("%v %v", a, err)
	}
}

// TestRegistrationAskedOften: a relayer that asks for registrations again and again does
// not push out the session that is in use.
func TestRegistrationAskedOften(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	session := [32]byte(n.rt.Status().Session)
	var last *proto.Registration
	for range 5 {
		b, _, _, err := n.rt.Register(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		reg, err := proto.ParseRegistration(b)
		if err != nil {
			t.Fatal(err)
		}
		if reg.Session == session || last != nil && reg.Session != last.Session {
			t.Fatal("not one new session")
		}
		last = reg
	}
	if _, err := n.ask(&proto.Query{To: id, Input: []byte("gi")}, session); err != nil {
		t.Fatal(err)
	}
}

// TestWithoutCollateral: TEEs that give evidence alone, as hardware does. The chain has the
// collateral, the gatekeeper learns its own measurement from what comes with its
// registration, and keeps it.
func TestWithoutCollateral(t *testing.T) {
	w := newWorld(t)
	bare := func(n *node) { n.tee.bare = true }
	g := w.add("gatekeeper", proto.RoleGatekeeper, bare).start()
	n := w.add("worker", proto.RoleWorker, bare).start()
	fake := w.add("fake", proto.RoleWorker, bare, func(n *node) { n.tee.measurement = []byte("something else") })
	w.until("the gatekeeper is admitted", func() bool { return g.rt.Status().Admitted })
	w.cluster = w.chain.CreateCluster([]byte("owner"), 2)
	w.until("the worker is refused", func() bool { return len(g.rt.Status().Gatekeeper.Refused) == 1 })
	if r := g.rt.Status().Gatekeeper.Refused[0]; !strings.Contains(r.Reason, "does not know its own measurement") {
		t.Fatalf("it says %v", r)
	}
	collateral, err := w.store.Collateral(attest.TDX, w.chain.Time())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.chain.UpdateCollateral(collateral.Marshal()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.register(), n.register()); err != nil {
		t.Fatal(err)
	}
	w.until("the worker has keys", func() bool { return n.rt.Status().StateRoot != nil })
	// What it learnt holds over a restart, also for those that it refuses.
	g.stop()
	g.start()
	fake.start()
	w.until("the fake is refused", func() bool { return len(g.rt.Status().Gatekeeper.Refused) == 1 })
	if r := g.rt.Status().Gatekeeper.Refused[0]; r.Worker != fake.rt.Self() || !strings.Contains(r.Reason, "of software") {
		t.Fatalf("it says %v", r)
	}
}

// TestWithoutSealing: a worker on a TEE without sealing keys serves. After a restart it is
// another one, of which nothing is left on disk that opens, and it gets its seat and the
// whole state from the network. A gatekeeper there does not start: its share would be lost.
func TestWithoutSealing(t *testing.T) {
	w, _, ws := network(t, 2)
	id := w.deploy()
	w.call(id, "pkv")
	n := w.add("unsealed", proto.RoleWorker, func(n *node) { n.tee.bare, n.tee.unsealed = true, true })
	collateral, err := w.store.Collateral(attest.TDX, w.chain.Time())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.chain.UpdateCollateral(collateral.Marshal()); err != nil {
		t.Fatal(err)
	}
	ws[1].off = true
	w.chain.Replace(ws[1].rt.Self())
	var before proto.WorkerID
	for range 2 {
		n.start()
		if before == n.rt.Self() || !n.rt.Status().Ephemeral {
			t.Fatal("it is the one that it was")
		}
		before = n.rt.Self()
		w.until("it serves", n.serving)
		w.until("it has the state", func() bool {
			a, err := n.query(id, "gk")
			return err == nil && string(a.Return) == "v"
		})
		n.stop()
		left := snapshot(t, n.cfg.DataDir)
		if len(left.files) == 0 {
			t.Fatal("it wrote nothing: the test shows nothing")
		}
		w.chain.Replace(before)
	}
	g := w.add("unsealed-gatekeeper", proto.RoleGatekeeper, func(n *node) { n.tee.unsealed = true })
	if rt, err := pruntime.Open(context.Background(), g.cfg, g.tee); !errors.Is(err, producer.ErrNoSealing) {
		if err == nil {
			rt.Close(context.Background())
		}
		t.Fatalf("a gatekeeper: %v", err)
	}
}

// TestOtherKindOfTEE: a gatekeeper that was made to releases keys to the same program in
// another kind of TEE, and to nothing else; its registration says so.
func TestOtherKindOfTEE(t *testing.T) {
	w := newWorld(t)
	sgx, err := simulator.Measurement(attest.SGX, []byte("pruntime"))
	if err != nil {
		t.Fatal(err)
	}
	g := w.add("gatekeeper", proto.RoleGatekeeper, func(n *node) { n.cfg.Releases = []proto.Hash{sgx} }).start()
	own := w.add("tdx", proto.RoleWorker).start()
	other := w.add("sgx", proto.RoleWorker, func(n *node) { n.tee.class = attest.SGX }).start()
	fake := w.add("fake", proto.RoleWorker, func(n *node) { n.tee.class, n.tee.measurement = attest.SGX, []byte("something else") }).start()
	w.cluster = w.chain.CreateCluster([]byte("owner"), 3)
	w.until("both kinds have keys", func() bool { return own.rt.Status().StateRoot != nil && other.rt.Status().StateRoot != nil })
	if r := g.rt.Status().Gatekeeper.Refused; len(r) != 1 || r[0].Worker != fake.rt.Self() || w.released(fake.rt.Self()) {
		t.Fatalf("it refuses %+v", r)
	}
	b, _, _, err := g.rt.Register(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if reg, err := proto.ParseRegistration(b); err != nil || len(reg.Releases) != 1 || reg.Releases[0] != sgx {
		t.Fatalf("it registers with %v, %v", reg.Releases, err)
	}
	n := w.add("worker", proto.RoleWorker, func(n *node) { n.cfg.Releases = []proto.Hash{sgx} })
	if _, err := pruntime.Open(context.Background(), n.cfg, n.tee); !errors.Is(err, pruntime.ErrRole) {
		t.Fatalf("a worker that releases keys: %v", err)
	}
}

// TestNoRevocationList: AMD's certificates are genuine without a revocation list too; a chain
// that leaves it out gets no keys for a processor that may be revoked.
func TestNoRevocationList(t *testing.T) {
	w := newWorld(t)
	var err error
	if w.store, err = simulator.Open(t.TempDir(), w.chain.Time(), true); err != nil {
		t.Fatal(err)
	}
	software, err := simulator.Measurement(attest.SNP, []byte("pruntime"))
	if err != nil {
		t.Fatal(err)
	}
	complete, err := w.store.Collateral(attest.SNP, w.chain.Time())
	if err != nil {
		t.Fatal(err)
	}
	g := w.add("gatekeeper", proto.RoleGatekeeper, func(n *node) { n.cfg.Releases = []proto.Hash{software} }).start()
	n := w.add("snp", proto.RoleWorker, func(n *node) {
		n.tee.class, n.tee.collateral = attest.SNP, &attest.Collateral{TEE: attest.SNP, SNP: &snp.Collateral{ASK: complete.SNP.ASK}}
	}).start()
	w.cluster = w.chain.CreateCluster([]byte("owner"), 1)
	w.until("it is refused", func() bool { return len(g.rt.Status().Gatekeeper.Refused) > 0 })
	if r := g.rt.Status().Gatekeeper.Refused; !strings.Contains(r[0].Reason, "revocation list") || w.released(n.rt.Self()) {
		t.Fatalf("it says %+v", r)
	}
	n.tee.collateral = complete
	if err := n.register(); err != nil {
		t.Fatal(err)
	}
	w.until("it has keys", func() bool { return n.rt.Status().StateRoot != nil })
}

// TestForgedSession: a chain that says that an honest worker has another session, whose
// key somebody else holds, gets no key for it.
func TestForgedSession(t *testing.T) {
	w, _, ws := network(t, 1)
	thief, err := commkey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := w.chain.C.Header(w.chain.Height())
	entry := proto.MarshalEntry(proto.StartSession{Key: thief.Public(), Height: uint64(h.Height), Hash: proto.Hash(h.Hash())})
	w.chain.Send(proto.TopicGatekeeper, proto.SessionStarted{Worker: ws[0].rt.Self(), Seq: 1 << 40, Entry: entry})
	w.chain.EndEpoch(w.cluster)
	w.until("keys are released again", func() bool { return w.chain.Cluster(w.cluster).Epoch == 2 })
	for _, x := range w.chain.Taken() {
		if r, ok := x.Entry.(proto.ReleaseKeys); ok && r.Session == [32]byte(thief.Public()) {
			t.Fatal("keys were released to the thief")
		}
	}
	if !ws[0].serving() {
		t.Error("the honest worker does not serve any more")
	}
}
