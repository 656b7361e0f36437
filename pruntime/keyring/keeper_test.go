package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/keys"
)

// TestRegister: a registration is of this identity and network whoever asks, and never of
// a session that is not the keyring's.
func TestRegister(t *testing.T) {
	w := newWorld(t)
	s := w.session()
	b, sig, ev, err := w.r.Register(context.Background(), s, 3, 7, proto.Hash{9}, 4, []string{"http://a"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := proto.ParseRegistration(b)
	if err != nil {
		t.Fatal(err)
	}
	want := proto.Registration{Chain: chain, Roots: w.cfg.Roots, TrustHeight: 1, TrustRoot: proto.Hash{1}, Worker: w.r.Worker, Session: s, Operator: w.cfg.Operator,
		Role: proto.RoleWorker, Epoch: 3, Height: 7, Hash: proto.Hash{9}, Settings: w.cfg.Settings, Rules: 4, Endpoints: []string{"http://a"}}
	if !bytes.Equal(want.Marshal(), b) {
		t.Errorf("registered %+v", m)
	}
	if err := identity.Verify(identity.PublicKey(w.r.Worker), m.SignedBytes(), sig[:]); err != nil {
		t.Error(err)
	}
	e, err := attest.Parse(ev)
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(e, w.tee.store.Roots, start)
	if err != nil || v.ReportData != m.ReportData() {
		t.Errorf("evidence: %v", err)
	}
	_, _, _, err = w.r.Register(context.Background(), fresh(t).Public(), 3, 7, proto.Hash{9}, 0, nil)
	wantError(t, "a session of somebody else's", err, ErrRefused)
}

// TestCertify: the certificate is what package ratls verifies; none begins in the future.
func TestCertify(t *testing.T) {
	w := newWorld(t)
	v := &ratls.Verifier{Chain: chain, Worker: identity.PublicKey(w.r.Worker), Roots: w.tee.store.Roots, Now: w.cfg.Now, Admit: func(*attest.Verdict) error { return nil }}
	issue := func(now time.Time) ([]byte, error) {
		c, err := ratls.Issue(rand.Reader, chain, identity.PublicKey(w.r.Worker), now, func(s *ratls.Statement) ([64]byte, attest.Evidence, error) {
			return w.r.Certify(context.Background(), s)
		})
		if err != nil {
			return nil, err
		}
		return c.Certificate[0], nil
	}
	c, err := issue(start)
	if err == nil {
		_, err = v.Verify(c)
	}
	if err != nil {
		t.Error(err)
	}
	_, err = issue(start.Add(2 * time.Hour))
	wantError(t, "of tomorrow", err, ErrRefused)
}

// TestSignsItsRoleOnly: what a role has to say is signed, with its number; what is another
// role's, or names a key that is not the keyring's, is not.
func TestSignsItsRoleOnly(t *testing.T) {
	worker, gk := newWorld(t), newWorld(t, func(w *world) { w.cfg.Role = proto.RoleGatekeeper })
	ws, gs := worker.session(), gk.session()
	epoch := worker.release(4)
	for range 5 { // keys that were erased are still the keyring's
		worker.session()
	}
	if err := worker.r.Forget(home, 100); err != nil {
		t.Fatal(err)
	}
	foreign := fresh(t).Public()
	kinds := map[uint8]bool{}
	receipt := proto.Receipt{Cluster: home, FromSeq: 1, ToSeq: 1, Items: []proto.ReceiptItem{{}}}
	for _, c := range []struct {
		name string
		w    *world
		e    proto.Entry
		want error
	}{
		{"challenge", worker, proto.Challenge{Nonce: [32]byte{1}}, nil},
		{"own session", worker, proto.StartSession{Key: ws}, nil},
		{"somebody's session", worker, proto.StartSession{Key: foreign}, ErrRefused},
		{"the gatekeeper's session", worker, proto.StartSession{Key: gs}, ErrRefused},
		{"epoch's key", worker, proto.PublishEpochKey{Cluster: home, Epoch: 4, Public: epoch.Public}, nil},
		{"another key for the epoch", worker, proto.PublishEpochKey{Cluster: home, Epoch: 4, Public: foreign}, ErrRefused},
		{"the key for another epoch", worker, proto.PublishEpochKey{Cluster: home, Epoch: 5, Public: epoch.Public}, ErrRefused},
		{"the key for another cluster", worker, proto.PublishEpochKey{Cluster: 2, Epoch: 4, Public: epoch.Public}, ErrRefused},
		{"receipt", worker, receipt, nil},
		{"outputs", worker, proto.PostOutputs{Cluster: home}, nil},
		{"code prepared", worker, proto.CodePrepared{Cluster: home}, nil},
		{"ready for other rules", worker, proto.RulesReady{Cluster: home, Version: 2}, nil},
		{"code refused", worker, proto.CodeRefused{Cluster: home, Reason: "x"}, nil},
		{"snapshot", worker, proto.SnapshotTaken{Cluster: home, Snapshot: proto.Snapshot{Epoch: 1, Pieces: []proto.Hash{{1}}, Size: 16}}, nil},
		{"piece", worker, proto.SnapshotPiece{Cluster: home, Piece: make([]byte, proto.PieceSize)}, nil},
		{"endpoints", worker, proto.SetEndpoints{Endpoints: []string{"http://a"}}, nil},
		{"a gatekeeper's endpoints", gk, proto.SetEndpoints{Endpoints: []string{"http://a"}}, nil},
		{"a gatekeeper's release by a worker", worker, proto.ReleaseKeys{Session: ws}, ErrRefused},
		{"a master key by a worker", worker, proto.PublishMasterKey{}, ErrRefused},
		{"a gatekeeper's release", gk, proto.ReleaseKeys{Session: ws}, nil},
		{"its master key", gk, proto.PublishMasterKey{}, nil},
		{"its session", gk, proto.StartSession{Key: gs}, nil},
		{"a worker's receipt by a gatekeeper", gk, receipt, ErrRefused},
	} {
		payload := proto.MarshalEntry(c.e)
		kinds[payload[0]] = true
		t.Run(c.name, func(t *testing.T) {
			sigs, err := c.w.r.Sign(9, [][]byte{proto.MarshalEntry(proto.Challenge{}), payload})
			if c.want != nil {
				wantError(t, "signed", err, c.want)
				return
			}
			if err != nil || len(sigs) != 2 {
				t.Fatalf("%d signatures, %v", len(sigs), err)
			}
			if err := identity.Verify(identity.PublicKey(c.w.r.Worker), proto.EntrySignedBytes(chain, c.w.r.Worker, 10, payload), sigs[1][:]); err != nil {
				t.Error(err)
			}
		})
	}
	for kind := range 256 {
		if _, err := proto.ParseEntry([]byte{uint8(kind)}); !errors.Is(err, proto.ErrUnknownKind) && !kinds[uint8(kind)] {
			t.Errorf("whether entry %d is signed is not said here", kind)
		}
	}
	_, err := worker.r.Sign(1, [][]byte{{2, 0}})
	wantError(t, "what is no entry", err, ErrRequest)
}

// TestManyEntries: more than one request holds are signed in order.
func TestManyEntries(t *testing.T) {
	w := newWorld(t)
	var entries [][]byte
	for i := range 2*proto.MaxEntries + 3 {
		e := proto.SnapshotPiece{Cluster: home, Index: uint32(i), Piece: []byte{1}}
		if i%40 == 0 {
			e.Piece = make([]byte, proto.PieceSize)
		}
		entries = append(entries, proto.MarshalEntry(e))
	}
	sigs, err := w.r.Sign(5, entries)
	if err != nil || len(sigs) != len(entries) {
		t.Fatalf("%d of %d, %v", len(sigs), len(entries), err)
	}
	for _, i := range []int{0, 1, 40, proto.MaxEntries - 1, proto.MaxEntries, len(entries) - 1} {
		if err := identity.Verify(identity.PublicKey(w.r.Worker), proto.EntrySignedBytes(chain, w.r.Worker, 5+uint64(i), entries[i]), sigs[i][:]); err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
}

// TestQueries: the two newest sessions open queries, and one after the others were ended.
func TestQueries(t *testing.T) {
	w := newWorld(t)
	c := proto.QueryContext(chain)
	ask := func(what string, to [32]byte, want error) {
		t.Helper()
		q := seal(t, c, to, []byte("question"))
		plain, reply, session, err := w.r.OpenQuery(context.Background(), q.Envelope)
		if want != nil {
			wantError(t, what, err, want)
			return
		}
		if err != nil || string(plain) != "question" || session != to {
			t.Errorf("%s: %q, %v", what, plain, err)
			return
		}
		answers(t, what, reply, c, q.key, to)
	}
	_, _, _, err := w.r.OpenQuery(context.Background(), seal(t, c, fresh(t).Public(), nil).Envelope)
	wantError(t, "without a session", err, ErrOpen)
	first, second := w.session(), w.session()
	ask("newest", second, nil)
	ask("the one before", first, nil)
	third := w.session()
	ask("older", first, ErrOpen)
	if err := w.r.EndSessions(third); err != nil {
		t.Fatal(err)
	}
	ask("ended", second, ErrOpen)
	ask("the one that stays", third, nil)
	ask("somebody else's", fresh(t).Public(), ErrOpen)
	_, _, _, err = w.r.OpenQuery(context.Background(), []byte("no envelope"))
	wantError(t, "no envelope", err, ErrOpen)
	// A command is no query, whoever it is sealed to: the context is the keyring's.
	_, _, _, err = w.r.OpenQuery(context.Background(), seal(t, command(4, "alice"), third, nil).Envelope)
	wantError(t, "a command", err, ErrOpen)
}

// TestReleases: of a good release the cluster's part comes out; a bad one gives nothing,
// and changes nothing.
func TestReleases(t *testing.T) {
	w := newWorld(t)
	stable, key, blind := w.secrets(4)
	if got := w.release(4); got.Stable != stable || got.Blind != blind || got.Public != key.Public() {
		t.Fatal("the release opens to other keys")
	}
	s := w.session()
	other, err := dprf.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := w.released(w.share, 5, s, labels(5)...)
	master := [32]byte(w.share.Public())
	for _, c := range []struct {
		name    string
		epoch   uint64
		session [32]byte
		master  [32]byte
		sealed  []byte
		want    error
	}{
		{"another session", 5, fresh(t).Public(), master, good, ErrNoKey},
		{"another epoch than it was sealed for", 6, s, master, good, ErrRelease},
		{"another master key than the shares'", 5, s, other.Public(), good, ErrRelease},
		{"another network's master key", 5, s, other.Public(), w.released(other, 5, s, labels(5)...), ErrRelease},
		{"no stable key", 5, s, master, w.released(w.share, 5, s, cluster.LabelTraffic(home, 5)), ErrRelease},
		{"another epoch's key", 5, s, master, w.released(w.share, 5, s, labels(4)...), ErrRelease},
		{"no shares", 5, s, master, w.sealed(5, s, []byte("x")), ErrRelease},
		{"good", 5, s, master, good, nil},
		{"the same again", 5, s, master, good, nil},
	} {
		_, err := w.r.OpenRelease(home, c.epoch, c.session, c.master, c.sealed)
		if c.want != nil {
			wantError(t, c.name, err, c.want)
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// The master key is pinned over restarts, also against one whose shares are all good.
	w.open()
	s = w.session()
	_, err = w.r.OpenRelease(home, 5, s, other.Public(), w.released(other, 5, s, labels(5)...))
	wantError(t, "another master key after a restart", err, ErrRelease)
	if got := w.release(5); got.Stable != stable {
		t.Error("another stable key after a restart")
	}
}

// TestPinnedMasterStays: whoever took over the worker's process can remove files of its
// folder, and have code of his run in the worker's next life before a gatekeeper was heard.
// Neither makes the keyring take a master key of his own, whose
// epoch keys it would publish.
func TestPinnedMasterStays(t *testing.T) {
	w := newWorld(t)
	w.release(4)
	theirs, err := dprf.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(what string) {
		t.Helper()
		s := w.session()
		_, err := w.r.OpenRelease(home, 5, s, theirs.Public(), w.released(theirs, 5, s, labels(5)...))
		wantError(t, what, err, ErrRelease)
	}
	self := w.r.Worker
	files, err := filepath.Glob(filepath.Join(w.cfg.DataDir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if filepath.Base(f) == fileIdentity {
			continue // without it the worker is another one, which the chain has to admit
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	forge("files removed")
	w.open()
	forge("files removed, after a restart")
	if w.r.Worker != self {
		t.Error("another identity")
	}
	identity := filepath.Join(w.cfg.DataDir, fileIdentity)
	if err := os.Remove(identity); err != nil {
		t.Fatal(err)
	}
	forge("identity removed")
	if _, err := os.Stat(identity); err == nil {
		t.Error("a refused release writes the identity")
	}
	w.release(5)
}

// TestCommands: the keyring opens what a replica with the keys in its own process opens,
// with the same words about what does not open, and its answers open for their callers.
func TestCommands(t *testing.T) {
	w := newWorld(t)
	w.release(4)
	_, key, _ := w.secrets(4)
	var sent []sentCommand
	for i := range 3 * proto.MaxEntries / 2 {
		c := command(4, fmt.Sprint("payer ", i))
		if i%2 == 0 {
			c = (&proto.Instantiated{Command: proto.PushedCommand{Payer: []byte("alice"), Epoch: 4}, Contract: proto.ContractID{byte(i)}, Deployer: []byte("bob")}).Context(chain, home)
		}
		sent = append(sent, seal(t, c, key.Public(), []byte(fmt.Sprint("command ", i))))
	}
	sent[3].Context.Outer = []byte("another payer")
	sent[4].Envelope = []byte("no envelope")
	sent[5].Envelope = bytes.Clone(sent[5].Envelope)
	sent[5].Envelope[0] = 7
	sent[6] = seal(t, command(4, "x"), fresh(t).Public(), nil)
	copy(sent[7].Envelope[1:], bytes.Repeat([]byte{0xff}, 32))
	sent[8] = seal(t, command(4, "large"), key.Public(), make([]byte, envelope.MaxPlaintext))
	var sealed []cluster.Sealed
	for _, s := range sent {
		sealed = append(sealed, s.Sealed)
	}
	got, err := w.r.Opener(home).Open(4, sealed)
	if err != nil {
		t.Fatal(err)
	}
	want, err := cluster.Secrets{4: key}.Open(4, sealed)
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d of %d, %v", len(got), len(want), err)
	}
	refused := 0
	for i := range want {
		if !bytes.Equal(got[i].Plain, want[i].Plain) || got[i].Why != want[i].Why || (got[i].Reply == nil) != (want[i].Reply == nil) {
			t.Errorf("command %d: %q (%s), want %q (%s)", i, got[i].Plain, got[i].Why, want[i].Plain, want[i].Why)
		}
		if got[i].Reply == nil {
			refused++
			continue
		}
		c := sent[i].Context
		c.Purpose += "-output"
		answers(t, fmt.Sprint("command ", i), got[i].Reply, c, sent[i].key, key.Public())
	}
	if refused != 5 {
		t.Errorf("%d refused", refused)
	}
}

// TestForgottenEpochs: what was erased opens nothing, and other clusters' keys stay.
func TestForgottenEpochs(t *testing.T) {
	w := newWorld(t)
	w.release(4)
	w.release(5)
	_, key, _ := w.secrets(4)
	_, five, _ := w.secrets(5)
	four := []cluster.Sealed{seal(t, command(4, "a"), key.Public(), []byte("four")).Sealed}
	o := w.r.Opener(home)
	if got, err := o.Open(4, four); err != nil || string(got[0].Plain) != "four" {
		t.Fatal(err)
	}
	w.r.Opener(2).Forget(math.MaxUint64)
	o.Forget(5)
	_, err := o.Open(4, four)
	wantError(t, "an erased epoch", err, cluster.ErrNeedKey)
	got, err := o.Open(5, []cluster.Sealed{seal(t, command(5, "a"), five.Public(), []byte("five")).Sealed})
	if err != nil || string(got[0].Plain) != "five" {
		t.Errorf("the epoch that stays: %v", err)
	}
	o.Forget(math.MaxUint64)
	_, err = o.Open(5, four)
	wantError(t, "a lost seat", err, cluster.ErrNeedKey)
	_, err = w.r.Opener(2).Open(5, four)
	wantError(t, "another cluster", err, cluster.ErrNeedKey)
	_, err = o.Open(4, []cluster.Sealed{{Context: proto.QueryContext(chain), Envelope: four[0].Envelope}})
	wantError(t, "another purpose", err, ErrRequest)
}

// TestFiles: the identity stays, opens with the keyring's own key only, and in its own
// network, role and build only.
func TestFiles(t *testing.T) {
	w := newWorld(t)
	self := w.r.Worker
	seal, err := w.tee.SealingKey(context.Background(), []byte(SealingLabel))
	if err != nil {
		t.Fatal(err)
	}
	own, files, err := SealingKeys(seal)
	if err != nil || own == files || files != w.r.Files {
		t.Fatalf("own %x, files %x, %v", own[:2], files[:2], err)
	}
	for key, want := range map[[32]byte]error{own: nil, files: keys.ErrSealed, seal: keys.ErrSealed} {
		s, err := w.cfg.Files(key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(fileIdentity); !errors.Is(err, want) {
			t.Errorf("the identity opens with %v, want %v", err, want)
		}
	}
	w.open()
	if w.r.Worker != self {
		t.Error("another identity after a restart")
	}
	for _, c := range []struct {
		name string
		edit func(*world)
		want error
	}{
		{"another chain", func(w *world) { w.cfg.Chain = "test-2" }, keys.ErrSealed},
		{"another trust root", func(w *world) { w.cfg.RootHash[0]++ }, keys.ErrSealed},
		{"another role", func(w *world) { w.cfg.Role = proto.RoleGatekeeper }, keys.ErrSealed},
		{"other attestation roots", func(w *world) { w.cfg.Roots[0]++ }, keys.ErrSealed},
		{"another build", func(w *world) { w.tee = &tee{w.tee.store, w.tee.machine, "other", false} }, keys.ErrSealed},
		{"another operator", func(w *world) { w.cfg.Operator = []byte("else") }, ErrIdentity},
		{"a longer lease", func(w *world) { w.cfg.Settings.Lease++ }, ErrIdentity},
	} {
		other := *w
		c.edit(&other)
		_, err := Open(context.Background(), other.cfg, other.tee)
		wantError(t, c.name, err, c.want)
	}
	strict := *w
	strict.cfg.Settings.Lease--
	strict.open()
	if strict.r.Made != w.cfg.Settings {
		t.Error("a restart changed what the identity was made with")
	}
}

// TestNoSealing: without sealing keys a worker is a new one at each start and leaves
// nothing that opens; a gatekeeper does not start.
func TestNoSealing(t *testing.T) {
	w := newWorld(t, func(w *world) { w.tee.unsealed = true })
	first := w.r
	if !first.Ephemeral {
		t.Error("not ephemeral")
	}
	left := filepath.Join(w.cfg.DataDir, "checkpoint-1")
	if err := os.WriteFile(left, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	if w.r.Worker == first.Worker || w.r.Files == first.Files {
		t.Error("the same identity or key again")
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that nobody can open is left: %v", err)
	}
	cfg := w.cfg
	cfg.Role = proto.RoleGatekeeper
	if _, err := Open(context.Background(), cfg, w.tee); err == nil || !strings.Contains(err.Error(), "sealing") {
		t.Errorf("a gatekeeper: %v", err)
	}
}

// TestNothingSecretIsAnswered: no response holds a key that must stay, whatever is asked.
func TestNothingSecretIsAnswered(t *testing.T) {
	w := newWorld(t)
	var answered bytes.Buffer
	do := w.r.do
	w.r.do = func(ctx context.Context, request []byte) ([]byte, error) {
		b, err := do(ctx, request)
		answered.Write(b)
		return b, err
	}
	w.release(4)
	_, key, _ := w.secrets(4)
	s := w.session()
	if _, _, _, err := w.r.Register(context.Background(), s, 1, 1, proto.Hash{}, 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.r.Sign(1, [][]byte{proto.MarshalEntry(proto.Challenge{})}); err != nil {
		t.Fatal(err)
	}
	c := seal(t, command(4, "a"), key.Public(), []byte("needle"))
	if _, err := w.r.Opener(home).Open(4, []cluster.Sealed{c.Sealed}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := w.r.OpenQuery(context.Background(), seal(t, proto.QueryContext(chain), s, []byte("q")).Envelope); err != nil {
		t.Fatal(err)
	}
	answered.Write(w.k.info.marshal())
	seal, _ := w.tee.SealingKey(context.Background(), []byte(SealingLabel))
	own, _, _ := SealingKeys(seal)
	shared, err := key.Agree(commkey.PublicKey(c.Envelope[1:33]))
	if err != nil {
		t.Fatal(err)
	}
	id := w.k.id.Secret()
	for what, secret := range map[string][]byte{"identity": id[:32], "its nonce seed": id[32:], "sealing key": seal[:], "own files' key": own[:], "epoch's key": key.Bytes(),
		"session key": w.k.sessions[len(w.k.sessions)-1].Bytes(), "the session before": w.k.sessions[0].Bytes(), "what the epoch's key shares with a caller": shared[:]} {
		if bytes.Contains(answered.Bytes(), secret) {
			t.Errorf("%s was answered", what)
		}
	}
	if !bytes.Contains(answered.Bytes(), []byte("needle")) {
		t.Error("the responses were not looked at")
	}
}
