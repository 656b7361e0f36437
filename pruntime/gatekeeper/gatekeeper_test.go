package gatekeeper

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
)

const chain = "test-1"

var (
	errBad = errors.New("bad evidence")
	at     = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
)

// judge takes evidence that says "good" and the report data that it binds. The machine is
// in the evidence's end, "machine X", or else the report data's.
func (x *tester) judge(evidence []byte, reportData [64]byte, when time.Time, held func(string) []byte) (*Verdict, error) {
	evidence, machine, named := bytes.Cut(evidence, []byte("machine "))
	if !when.Equal(at) || !bytes.Equal(evidence, append([]byte("good"), reportData[:]...)) {
		return nil, errBad
	}
	v := &Verdict{Machine: sha256.Sum256(reportData[:]), Level: x.level, Until: at.Add(time.Hour), Platform: "tdx/1", Collateral: append(held("tdx/1"), 1)}
	if named {
		v.Machine = sha256.Sum256(machine)
	}
	return v, nil
}

// A tester is a gatekeeper with what it sent.
type tester struct {
	t       *testing.T
	g       *Gatekeeper
	level   uint8
	strange bool // its light client verified no header that workers name
	sent    []proto.Entry
}

var policy = Policy{Roots: proto.Hash{0x12}, Root: Block{1, proto.Hash{0x34}},
	Settings: proto.Settings{Lease: 300, TrustingPeriod: 1000, ClockDrift: 10, SessionInterval: 500, WorstLevel: 3}}

func newTester(t *testing.T, share *dprf.Share) *tester {
	x := &tester{t: t, level: 1}
	x.g = New(Config{Chain: chain, Self: proto.WorkerID{0x60}, Policy: policy, Judge: x.judge, RNG: rand.Reader, Send: func(e proto.Entry) { x.sent = append(x.sent, e) },
		Known: func(h uint64) (proto.Hash, bool) { return hashAt(h), !x.strange }}, share)
	return x
}

// hashAt is the hash of the block at a height.
func hashAt(h uint64) proto.Hash { return sha256.Sum256(fmt.Appendf(nil, "block %d", h)) }

// started announces a session.
func started(id byte, session *commkey.SecretKey, named uint64) proto.SessionStarted {
	return startedWith(id, session.Public(), named)
}

func startedWith(id byte, key [32]byte, named uint64) proto.SessionStarted {
	return startedOn(id, key, named, hashAt(named))
}

func startedOn(id byte, key [32]byte, named uint64, hash proto.Hash) proto.SessionStarted {
	said++
	e := proto.SessionStarted{Worker: wid(id), Seq: said, Entry: proto.MarshalEntry(proto.StartSession{Key: key, Height: named, Hash: hash})}
	sig, err := pair(id).Sign(rand.Reader, proto.EntrySignedBytes(chain, e.Worker, e.Seq, e.Entry))
	if err != nil {
		panic(err)
	}
	e.Signature = sig
	return e
}

// said numbers outbox entries.
var said uint64

// pair is the IdentityKey of worker id.
func pair(id byte) *identity.KeyPair {
	k, err := identity.FromSeed(bytes.Repeat([]byte{id}, 32))
	if err != nil {
		panic(err)
	}
	return k
}

func wid(id byte) proto.WorkerID { return proto.WorkerID(pair(id).Public()) }

// registrations counts registrations, so that each is newer than those before.
var registrations uint64

// active is a gatekeeper whose share is the network's.
func active(t *testing.T) *tester {
	share, err := dprf.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := newTester(t, share)
	x.handle(proto.MasterKeySet{Public: share.Public()}, 1)
	if !x.g.Active() || x.g.Master() != [32]byte(share.Public()) {
		t.Fatal("the gatekeeper is not active")
	}
	return x
}

func (x *tester) handle(e proto.Event, height uint64) { x.g.Handle(e, height, at) }

// flush ends a batch and returns what was released.
func (x *tester) flush(height uint64) []proto.ReleaseKeys {
	x.t.Helper()
	x.sent = nil
	if err := x.g.Flush(height, at); err != nil {
		x.t.Fatal(err)
	}
	var out []proto.ReleaseKeys
	for _, e := range x.sent {
		out = append(out, e.(proto.ReleaseKeys))
	}
	return out
}

func newSession(t *testing.T) *commkey.SecretKey {
	t.Helper()
	k, err := commkey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// registration of worker id at height 100, which ends at 1000.
func registration(id byte, session *commkey.SecretKey, edit ...func(*proto.Registration)) proto.WorkerRegistered {
	registrations++
	r := proto.Registration{Chain: chain, Roots: policy.Roots, TrustHeight: policy.Root.Height, TrustRoot: policy.Root.Hash, Worker: wid(id), Session: session.Public(),
		Role: proto.RoleWorker, Epoch: registrations, Height: 100, Settings: policy.Settings}
	for _, f := range edit {
		f(&r)
	}
	if r.Hash == (proto.Hash{}) {
		r.Hash = hashAt(r.Height)
	}
	data := r.ReportData()
	return proto.WorkerRegistered{Registration: r.Marshal(), Evidence: append([]byte("good"), data[:]...), Expires: 1000}
}

func seated(id byte, epoch uint64) proto.Seated {
	return proto.Seated{Cluster: 1, Worker: wid(id), Epoch: epoch}
}

// open opens a release as its worker does.
func open(t *testing.T, x *tester, r proto.ReleaseKeys, session *commkey.SecretKey) map[string][32]byte {
	t.Helper()
	plain, _, err := envelope.Open(proto.ReleaseContext(chain, r.Worker, r.Cluster, r.Epoch), session, r.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	shares, err := proto.ParseKeyShares(plain)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][32]byte{}
	for _, s := range shares {
		if err := dprf.Verify(dprf.Point(x.g.Master()), s.Label, s.Partial, s.Proof); err != nil {
			t.Fatal(err)
		}
		if out[s.Label], err = dprf.Combine(s.Label, []dprf.Partial{{Index: 1, Point: s.Partial}}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// only fails the test unless there is one release, to the session.
func only(t *testing.T, what string, releases []proto.ReleaseKeys, session *commkey.SecretKey) {
	t.Helper()
	if len(releases) != 1 || releases[0].Session != [32]byte(session.Public()) {
		t.Fatalf("%s: %d releases, want one to the session", what, len(releases))
	}
}

func none(t *testing.T, what string, releases []proto.ReleaseKeys) {
	t.Helper()
	if len(releases) != 0 {
		t.Fatalf("%s: %d releases, want none", what, len(releases))
	}
}

func TestRelease(t *testing.T) {
	x, s := active(t), newSession(t)
	x.handle(registration(1, s), 110)
	none(t, "registered, without a seat", x.flush(110))
	x.handle(seated(1, 5), 111)
	releases := x.flush(111)
	only(t, "seated", releases, s)
	r := releases[0]
	if r.Worker != (wid(1)) || r.Cluster != 1 || r.Epoch != 5 {
		t.Errorf("release %+v", r)
	}
	keys := open(t, x, r, s)
	if len(keys) != 2 || keys[cluster.LabelStable(1)] == keys[cluster.LabelTraffic(1, 5)] {
		t.Errorf("keys for %d labels", len(keys))
	}
	for name, ctx := range map[string]envelope.Context{
		"another worker":  proto.ReleaseContext(chain, wid(2), 1, 5),
		"another cluster": proto.ReleaseContext(chain, wid(1), 2, 5),
		"another epoch":   proto.ReleaseContext(chain, wid(1), 1, 6),
		"another chain":   proto.ReleaseContext("test-2", wid(1), 1, 5),
	} {
		if _, _, err := envelope.Open(ctx, s, r.Sealed); err == nil {
			t.Errorf("it opens for %s", name)
		}
	}
	if _, _, err := envelope.Open(proto.ReleaseContext(chain, r.Worker, 1, 5), newSession(t), r.Sealed); err == nil {
		t.Error("it opens with another session")
	}
	none(t, "nothing new", x.flush(112))
	// The same keys for every worker of the cluster, other ones for another cluster.
	s2 := newSession(t)
	x.handle(registration(2, s2), 113)
	x.handle(seated(2, 5), 113)
	x.handle(proto.Seated{Cluster: 2, Worker: wid(1), Epoch: 5}, 113)
	releases = x.flush(113)
	if len(releases) != 2 || releases[0].Cluster != 2 || releases[1].Worker != (wid(2)) {
		t.Fatalf("%+v", releases)
	}
	if other := open(t, x, releases[1], s2); other[cluster.LabelStable(1)] != keys[cluster.LabelStable(1)] {
		t.Error("two workers of a cluster have different keys")
	}
	if other := open(t, x, releases[0], s); other[cluster.LabelStable(2)] == keys[cluster.LabelStable(1)] {
		t.Error("two clusters have one key")
	}
}

// TestOnlyWithTheNetworksShare: before the chain decided on the master key, and where it
// is not this gatekeeper's, nothing is released; what was due then is released after.
func TestOnlyWithTheNetworksShare(t *testing.T) {
	s := newSession(t)
	x := newTester(t, nil)
	x.handle(registration(1, s), 110)
	x.handle(seated(1, 1), 110)
	none(t, "no share", x.flush(110))
	if err := x.g.Launch(); !errors.Is(err, ErrNoShare) {
		t.Errorf("launch without a share: %v", err)
	}
	share, err := dprf.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x.g.Adopt(share)
	none(t, "no master key", x.flush(111))
	if err := x.g.Launch(); err != nil || len(x.sent) != 1 || x.sent[0] != (proto.PublishMasterKey{Public: share.Public()}) {
		t.Errorf("launch: %v, sent %v", err, x.sent)
	}
	x.handle(proto.MasterKeySet{Public: [32]byte{9}}, 112)
	none(t, "somebody else's master key", x.flush(112))
	if err := x.g.Launch(); !errors.Is(err, ErrLaunched) || x.g.Active() {
		t.Errorf("launch after the key was set: %v", err)
	}
	x.handle(proto.MasterKeySet{Public: share.Public()}, 113)
	only(t, "its own", x.flush(113), s)
}

// TestFakeWorkers: what the chain admits gets no keys unless the gatekeeper itself finds
// the evidence good.
func TestFakeWorkers(t *testing.T) {
	s := newSession(t)
	for _, c := range []struct {
		name string
		reg  func() proto.WorkerRegistered
	}{
		{"bad evidence", func() proto.WorkerRegistered { r := registration(1, s); r.Evidence = []byte("forged"); return r }},
		{"no evidence", func() proto.WorkerRegistered { r := registration(1, s); r.Evidence = nil; return r }},
		{"evidence of another worker", func() proto.WorkerRegistered {
			r := registration(1, s)
			r.Evidence = registration(2, s).Evidence
			return r
		}},
		{"evidence of another session", func() proto.WorkerRegistered {
			r := registration(1, s)
			r.Evidence = registration(1, newSession(t)).Evidence
			return r
		}},
		{"of another chain", func() proto.WorkerRegistered {
			return registration(1, s, func(r *proto.Registration) { r.Chain = "test-2" })
		}},
		{"a gatekeeper", func() proto.WorkerRegistered {
			return registration(1, s, func(r *proto.Registration) { r.Role = proto.RoleGatekeeper })
		}},
		{"made too long ago", func() proto.WorkerRegistered {
			return registration(1, s, func(r *proto.Registration) { r.Height = 99 })
		}},
		{"made in the future", func() proto.WorkerRegistered {
			return registration(1, s, func(r *proto.Registration) { r.Height = 101 + MaxSessionAge })
		}},
		{"not a registration", func() proto.WorkerRegistered { r := registration(1, s); r.Registration = []byte{1}; return r }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := active(t)
			const height = 100 + MaxSessionAge
			e := c.reg()
			x.handle(e, height)
			x.handle(seated(1, 1), height)
			none(t, "seated", x.flush(height))
			x.handle(started(1, newSession(t), height), height)
			if releases := x.flush(height); !strings.HasPrefix(c.name, "made ") { // good evidence, at the wrong time
				none(t, "another session", releases)
			}
			x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, height)
			x.flush(height)
			// The seat stays, so the worker gets its keys once it shows good evidence.
			x.handle(registration(1, s, func(r *proto.Registration) { r.Height = height }), height)
			releases := x.flush(height)
			each(t, "good evidence", releases, s, 1, 2)
			if x.g.Refused(wid(1)) != nil {
				t.Errorf("refused: %v", x.g.Refused(wid(1)))
			}
			// And loses them with bad evidence.
			bad := registration(1, newSession(t))
			bad.Evidence = []byte("forged")
			x.handle(bad, height)
			x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 3}, height)
			none(t, "bad evidence later", x.flush(height))
			if !errors.Is(x.g.Refused(wid(1)), errBad) {
				t.Errorf("refused: %v", x.g.Refused(wid(1)))
			}
		})
	}
}

// TestExpired: keys go to workers whose attestation has not ended.
func TestExpired(t *testing.T) {
	x, s := active(t), newSession(t)
	x.handle(registration(1, s, func(r *proto.Registration) { r.Height = 900 }), 950)
	x.handle(seated(1, 1), 999)
	only(t, "last height", x.flush(999), s)
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 1000)
	none(t, "after it", x.flush(1000))
	if x.g.Refused(wid(1)) == nil {
		t.Error("nobody is told")
	}
	e := registration(1, s, func(r *proto.Registration) { r.Height = 1001 })
	e.Expires = 2000
	x.handle(e, 1002)
	releases := x.flush(1002)
	each(t, "renewed", releases, s, 1, 2)
	if x.g.Refused(wid(1)) != nil {
		t.Errorf("refused %v", x.g.Refused(wid(1)))
	}
}

// TestSessions: keys go to the newest session only, and to none when the newest is stale.
func TestSessions(t *testing.T) {
	x, s := active(t), newSession(t)
	w := wid(1)
	x.handle(registration(1, s), 110)
	x.handle(seated(1, 1), 110)
	only(t, "first", x.flush(110), s)
	s2 := newSession(t)
	x.handle(started(1, s2, 111), 111+MaxSessionAge)
	only(t, "the oldest that counts", x.flush(111+MaxSessionAge), s2)
	for name, named := range map[string]uint64{"too old": 110, "from the future": 112 + MaxSessionAge} {
		x.handle(started(1, newSession(t), named), 111+MaxSessionAge)
		x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 111+MaxSessionAge)
		none(t, name, x.flush(111+MaxSessionAge))
		if x.g.Refused(w) == nil {
			t.Errorf("%s: nobody is told", name)
		}
	}
	s3 := newSession(t)
	x.handle(started(1, s3, 800), 800)
	releases := x.flush(800)
	each(t, "fresh again", releases, s3, 1, 2)
	if x.g.Refused(w) != nil {
		t.Errorf("refused %v", x.g.Refused(w))
	}
	x.handle(started(7, s, 800), 800)
	none(t, "a worker that nobody knows", x.flush(800))
	x.handle(startedWith(1, [32]byte{0xff}, 800), 800)
	none(t, "a session that is no key", x.flush(800))
}

// each checks that the releases are of these epochs and sealed to the session.
func each(t *testing.T, name string, releases []proto.ReleaseKeys, session *commkey.SecretKey, epochs ...uint64) {
	t.Helper()
	var got []uint64
	for _, r := range releases {
		got = append(got, r.Epoch)
		only(t, name, []proto.ReleaseKeys{r}, session)
	}
	if !slices.Equal(got, epochs) {
		t.Fatalf("%s: epochs %d, want %d", name, got, epochs)
	}
}

// TestForgedSession: a session is the enclave's word. What the chain makes up, changes or
// brings again gets no keys and takes none away from the session that is.
func TestForgedSession(t *testing.T) {
	x, s, thief := active(t), newSession(t), newSession(t)
	x.handle(registration(1, s), 110)
	x.handle(seated(1, 1), 110)
	only(t, "the registration's", x.flush(110), s)
	first := started(1, newSession(t), 111)
	x.handle(first, 111)
	now := newSession(t)
	x.handle(started(1, now, 112), 112)
	only(t, "the newest", x.flush(112), now)
	for _, c := range []struct {
		name string
		make func() proto.SessionStarted
	}{
		{"made up", func() proto.SessionStarted {
			e := started(1, thief, 113)
			e.Signature = [64]byte{1}
			return e
		}},
		{"signed by another worker", func() proto.SessionStarted { e := started(2, thief, 113); e.Worker = wid(1); return e }},
		{"with another number", func() proto.SessionStarted { e := started(1, thief, 113); e.Seq++; return e }},
		{"with another key", func() proto.SessionStarted {
			e := started(1, s, 113)
			e.Entry = proto.MarshalEntry(proto.StartSession{Key: thief.Public(), Height: 113, Hash: hashAt(113)})
			return e
		}},
		{"of before, again", func() proto.SessionStarted { return first }},
		{"another entry of the enclave", func() proto.SessionStarted {
			e := started(1, s, 113)
			e.Entry = proto.MarshalEntry(proto.Challenge{Nonce: [32]byte{1}})
			sig, err := pair(1).Sign(rand.Reader, proto.EntrySignedBytes(chain, e.Worker, e.Seq, e.Entry))
			if err != nil {
				t.Fatal(err)
			}
			e.Signature = sig
			return e
		}},
		{"no entry", func() proto.SessionStarted { return proto.SessionStarted{Worker: wid(1), Seq: 1 << 40} }},
	} {
		x.handle(c.make(), 113)
		if x.g.Refused(wid(1)) == nil {
			t.Errorf("%s: nobody is told", c.name)
		}
		x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: uint64(len(c.name))}, 113)
		for _, r := range x.flush(113) {
			only(t, c.name, []proto.ReleaseKeys{r}, now)
		}
	}
	// The numbers are remembered over a restart.
	y := newTester(t, x.g.Share())
	if err := y.g.Restore(x.g.Marshal()); err != nil {
		t.Fatal(err)
	}
	y.handle(first, 114)
	none(t, "of before, after a restart", y.flush(114))
}

func TestUnseated(t *testing.T) {
	x, s := active(t), newSession(t)
	x.handle(registration(1, s), 110)
	x.handle(seated(1, 1), 110)
	x.handle(proto.Unseated{Cluster: 1, Worker: wid(1)}, 110)
	none(t, "seated and unseated", x.flush(110))
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 111)
	x.handle(started(1, s, 111), 111)
	none(t, "without a seat", x.flush(111))
	x.handle(proto.Unseated{Cluster: 1, Worker: wid(9)}, 112)
	none(t, "nobody", x.flush(112))
}

// TestReplayOfThePast: a batch with many sessions and epochs releases once, to the last.
func TestReplayOfThePast(t *testing.T) {
	x := newTester(t, nil)
	share, err := dprf.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x.g.Adopt(share)
	x.handle(registration(1, newSession(t)), 110)
	x.handle(proto.MasterKeySet{Public: share.Public()}, 111)
	x.handle(seated(1, 1), 112)
	var last *commkey.SecretKey
	for h := uint64(113); h < 120; h++ {
		last = newSession(t)
		x.handle(started(1, last, h), h)
		x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: h - 111}, h)
		x.handle(proto.SnapshotStored{Cluster: 1, State: proto.StateRef{Epoch: h - 112}}, h)
	}
	each(t, "the past", x.flush(120), last, 7, 8)
}

// TestEpochs: a new epoch's key goes to every seat when it is announced; a new session
// gets the keys from the newest stored snapshot on, and never of more epochs than a bound.
func TestEpochs(t *testing.T) {
	x, s, s2 := active(t), newSession(t), newSession(t)
	x.handle(registration(1, s), 110)
	x.handle(registration(2, s2), 110)
	x.handle(seated(1, 1), 110)
	x.handle(seated(2, 1), 110)
	x.flush(110)
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 111)
	releases := x.flush(111)
	if len(releases) != 2 || releases[0].Epoch != 2 || releases[1].Epoch != 2 || releases[0].Worker == releases[1].Worker {
		t.Fatalf("%+v", releases)
	}
	stable := open(t, x, releases[0], s)[cluster.LabelStable(1)]
	x.handle(proto.EpochAnnounced{Cluster: 2, Epoch: 2}, 111)
	x.handle(proto.SnapshotStored{Cluster: 1, State: proto.StateRef{Epoch: 2}}, 112)
	none(t, "nothing new", x.flush(112))
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 3}, 113)
	x.flush(113)
	s3 := newSession(t)
	x.handle(started(1, s3, 114), 114)
	releases = x.flush(114)
	each(t, "from the snapshot on", releases, s3, 2, 3)
	if open(t, x, releases[1], s3)[cluster.LabelStable(1)] != stable {
		t.Error("the stable key changed with the epoch")
	}
	// A snapshot of an epoch that this gatekeeper has not heard of leaves it the last.
	x.handle(proto.SnapshotStored{Cluster: 1, State: proto.StateRef{Epoch: 99}}, 115)
	for e := uint64(4); e < 160; e++ {
		x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: e}, 115)
	}
	x.flush(115)
	x.handle(started(1, s, 116), 116)
	var want []uint64
	for e := uint64(160 - maxEpochs); e < 160; e++ {
		want = append(want, e)
	}
	each(t, "without snapshots", x.flush(116), s, want...)
}

// TestRestart: what was sealed comes back as it was, with nothing due, and what happens
// next is released as without the restart.
func TestRestart(t *testing.T) {
	x, s := active(t), newSession(t)
	x.handle(registration(1, s), 110)
	x.handle(seated(1, 1), 110)
	bad := registration(2, s)
	bad.Evidence = nil
	x.handle(bad, 110)
	x.handle(seated(2, 1), 110)
	x.handle(seated(3, 4), 110)
	before := open(t, x, x.flush(110)[0], s)
	state := x.g.Marshal()
	y := newTester(t, x.g.Share())
	if err := y.g.Restore(state); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(y.g.Marshal(), state) || !y.g.Active() {
		t.Error("it is not what was encoded")
	}
	none(t, "restarted", y.flush(111))
	s2 := newSession(t)
	y.handle(started(1, s2, 112), 112)
	y.handle(started(2, s2, 112), 112)
	releases := y.flush(112)
	each(t, "a new session", releases, s2, 1, 2, 3, 4)
	if after := open(t, y, releases[0], s2); after[cluster.LabelStable(1)] != before[cluster.LabelStable(1)] {
		t.Error("the keys changed")
	}
	y.handle(registration(3, s2), 113)
	each(t, "the seat of a worker that registers later", y.flush(113), s2, 1, 2, 3, 4)
	for i := range state {
		if err := newTester(t, nil).g.Restore(state[:i]); err == nil {
			t.Errorf("cut to %d bytes, and it is taken", i)
		}
	}
	saved := y.g.Marshal()
	if err := y.g.Restore(append(slices.Clone(state), 0)); err == nil || !bytes.Equal(y.g.Marshal(), saved) {
		t.Errorf("a tail: %v", err)
	}
}

// FuzzRestore: no bytes make it panic, and what it takes has one encoding.
func FuzzRestore(f *testing.F) {
	x := newTester(nil, nil)
	f.Add(x.g.Marshal())
	x.g.worker(wid(1)).seats[1] = true
	x.g.epochs(1, 2).raise(5)
	x.g.worker(wid(1)).named = Block{1, hashAt(1)}
	x.g.collateral["tdx/1"] = []byte{1}
	f.Add(x.g.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		g := newTester(t, nil).g
		if g.Restore(b) == nil && len(g.Marshal()) > len(b) {
			t.Error("more comes out than went in")
		}
	})
}
