package pruntime_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

func keyOf(t *testing.T, name string) *identity.KeyPair {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// now is the time of the newest block, milliseconds.
func (w *world) now() uint64 { return uint64(w.chain.Time().UnixMilli()) }

// grant makes a grant of the user to reader, for an hour; edit changes it before it is
// signed by signer.
func (w *world) grant(signer, reader *identity.KeyPair, to proto.ContractID, edit func(*proto.Grant)) *proto.Grant {
	w.t.Helper()
	from, pub := w.user.Public(), reader.Public()
	w.nonce++
	g := &proto.Grant{Grantor: from[:], Reader: pub[:], Cluster: w.cluster, Contracts: []proto.ContractID{to}, ID: [16]byte{byte(w.nonce)},
		Issued: w.now(), NotAfter: w.now() + 3_600_000, Scheme: uint8(identity.SchemeSr25519), PublicKey: from[:]}
	if edit != nil {
		edit(g)
	}
	sig, err := signer.Sign(rand.Reader, g.SignedBytes("comettest-1"))
	if err != nil {
		w.t.Fatal(err)
	}
	g.Signature = sig[:]
	return g
}

// signed is a query of a key under a grant, for a session.
func signed(t *testing.T, key *identity.KeyPair, to proto.ContractID, input string, g *proto.Grant, session [32]byte) *proto.Query {
	t.Helper()
	pub := key.Public()
	q := &proto.Query{To: to, Input: []byte(input), From: pub[:], Scheme: uint8(identity.SchemeSr25519), PublicKey: pub[:]}
	if g != nil {
		q.Grant = g.Marshal()
	}
	rand.Read(q.Nonce[:])
	sig, err := key.Sign(rand.Reader, q.SignedBytes("comettest-1", session))
	if err != nil {
		t.Fatal(err)
	}
	q.Signature = sig[:]
	return q
}

// read asks a worker under a grant and returns the answer and, of a refusal by the
// grant, its reason.
func (n *node) read(key *identity.KeyPair, to proto.ContractID, input string, g *proto.Grant) (*proto.Answer, string) {
	n.w.t.Helper()
	session := [32]byte(n.rt.Status().Session)
	a, err := n.ask(signed(n.w.t, key, to, input, g, session), session)
	if err != nil {
		n.w.t.Fatal(err)
	}
	reason, _, _ := strings.Cut(a.Error, ":")
	if a.Status != proto.StatusNotAuthorised {
		reason = ""
	}
	return a, reason
}

// TestGrantedQuery has each reason for which a worker refuses a grant.
func TestGrantedQuery(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	user, reader, stranger := w.user.Public(), keyOf(t, "reader"), keyOf(t, "stranger")
	readerID := reader.Public()
	good := w.grant(w.user, reader, id, func(g *proto.Grant) { g.NotAfter = w.now() + 20_000 })
	a, _ := n.read(reader, id, "c", good)
	if a.Status != proto.StatusOK || string(a.Return) != string(user[:]) {
		t.Fatalf("%s %q, the caller is %x", a.Status, a.Error, a.Return)
	}
	if a, _ := n.read(reader, id, "R", good); string(a.Return) != string(readerID[:]) {
		t.Errorf("the reader is %x", a.Return)
	}
	for _, c := range []struct {
		name   string
		key    *identity.KeyPair
		to     proto.ContractID
		grant  *proto.Grant
		reason string
	}{
		{"expired", reader, id, w.grant(w.user, reader, id, func(g *proto.Grant) { g.Issued, g.NotAfter = w.now()-9000, w.now()-2000 }), "expired"},
		{"another reader", stranger, id, good, "reader"},
		{"the grantor as the reader", w.user, id, good, "reader"},
		{"another contract", reader, proto.ContractID{7}, good, "contract"},
		{"the cluster itself", reader, proto.ClusterAddress, good, "contract"},
		{"another cluster", reader, id, w.grant(w.user, reader, id, func(g *proto.Grant) { g.Cluster++ }), "cluster"},
		{"signed by another", reader, id, w.grant(stranger, reader, id, nil), "signature"},
		{"signed by the reader", reader, id, w.grant(reader, reader, id, nil), "signature"},
		{"malformed", reader, id, w.grant(w.user, reader, id, func(g *proto.Grant) { g.Contracts = nil }), "malformed"},
	} {
		if a, reason := n.read(c.key, c.to, "c", c.grant); reason != c.reason || len(a.Return) != 0 || a.GasUsed != 0 {
			t.Errorf("%s: %s %q, answer %x", c.name, a.Status, a.Error, a.Return)
		}
	}
	// What changes the query after the reader signed it is a bad signature, the grant too.
	session := [32]byte(n.rt.Status().Session)
	second := w.grant(w.user, reader, id, nil)
	for name, edit := range map[string]func(q *proto.Query){
		"another grant": func(q *proto.Query) { q.Grant = second.Marshal() },
		"no grant":      func(q *proto.Query) { q.Grant = nil },
		"another input": func(q *proto.Query) { q.Input = []byte("R") },
	} {
		q := signed(t, reader, id, "c", good, session)
		edit(q)
		if a, err := n.ask(q, session); err != nil || a.Status != proto.StatusBadSignature || len(a.Return) != 0 {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	// Without a signature there is nobody to whom a grant could have been given.
	if a, err := n.ask(&proto.Query{To: id, Input: []byte("c"), Grant: good.Marshal()}, session); err != nil || a.Status != proto.StatusNotAuthorised || !strings.HasPrefix(a.Error, "reader: ") {
		t.Errorf("anonymous: %+v, %v", a, err)
	}
	// A grant ends by the chain's time, however the host's clock goes.
	n.ahead = lease / 2
	if _, reason := n.read(reader, id, "c", good); reason != "" {
		t.Errorf("the host's clock is ahead: %s", reason)
	}
	n.ahead = 0
	for w.now() <= good.NotAfter+2000 {
		w.step()
	}
	if _, reason := n.read(reader, id, "c", good); reason != "expired" {
		t.Errorf("after its end: %q", reason)
	}
}

// TestRevokedGrant: after the revocation is final every worker refuses the grant, also
// after a restart.
func TestRevokedGrant(t *testing.T) {
	w, _, ws := network(t, 2)
	id, reader := w.deploy(), keyOf(t, "reader")
	g, second := w.grant(w.user, reader, id, nil), w.grant(w.user, reader, id, nil)
	check := func(what string, g *proto.Grant, want string) {
		t.Helper()
		for _, n := range ws {
			if a, reason := n.read(reader, id, "c", g); reason != want || (want == "") != (a.Status == proto.StatusOK) {
				t.Errorf("%s, %s: %s %q, want %q", what, n.name, a.Status, a.Error, want)
			}
		}
	}
	check("before", g, "")
	if out := w.call(proto.ClusterAddress, string((&proto.Revocation{ID: g.ID, NotAfter: g.NotAfter}).Marshal())); out.Status != proto.StatusOK {
		t.Fatalf("the revocation ends with %s %q", out.Status, out.Error)
	}
	w.until("both workers are there", func() bool { return ws[0].rt.Status().Seq == ws[1].rt.Status().Seq })
	check("revoked", g, "revoked")
	check("the other one", second, "")
	for _, n := range ws {
		n.stop()
		n.start()
	}
	w.until("both answer again", func() bool {
		for _, n := range ws {
			if a, err := n.query(id, "gi"); err != nil || a.Status != proto.StatusOK {
				return false
			}
		}
		return true
	})
	check("revoked, after a restart", g, "revoked")
	check("the other one, after a restart", second, "")
	if out := w.call(proto.ClusterAddress, string((&proto.Revocation{All: true}).Marshal())); out.Status != proto.StatusOK {
		t.Fatalf("the revocation of all ends with %s %q", out.Status, out.Error)
	}
	w.until("both workers are there", func() bool { return ws[0].rt.Status().Seq == ws[1].rt.Status().Seq })
	check("all are revoked", second, "revoked")
	check("a new one", w.grant(w.user, reader, id, nil), "")
}

// TestReplayedQuery: what the host of a worker can do with a query that it keeps. It can
// have it answered again while the session lives, by this worker alone, to the same
// caller; it cannot bring an answer to another query, nor have a grant outlive its end.
func TestReplayedQuery(t *testing.T) {
	w, _, ws := network(t, 2)
	id, n, reader := w.deploy(), ws[0], keyOf(t, "reader")
	g, session := w.grant(w.user, reader, id, nil), [32]byte(n.rt.Status().Session)
	ctx := proto.QueryContext("comettest-1")
	seal := func(q *proto.Query, session [32]byte) (*commkey.SecretKey, []byte) {
		t.Helper()
		fresh, err := commkey.Generate(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		env, err := envelope.Seal(rand.Reader, ctx, fresh, session, q.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		return fresh, env
	}
	q := signed(t, reader, id, "gn", g, session)
	fresh, env := seal(q, session)
	open := func(b []byte) *proto.Answer {
		t.Helper()
		p, err := envelope.OpenReply(ctx, fresh, session, b)
		if err != nil {
			t.Fatal(err)
		}
		a, err := proto.ParseAnswer(p)
		if err != nil || a.Nonce != q.Nonce {
			t.Fatalf("%+v, %v", a, err)
		}
		return a
	}
	first, err := n.rt.Query(context.Background(), env)
	if err != nil || open(first).Status != proto.StatusOK || len(open(first).Return) != 0 {
		t.Fatal(err)
	}
	w.call(id, "n")
	w.until("the worker has it", func() bool { a, err := n.query(id, "gn"); return err == nil && len(a.Return) == 1 })
	later, err := n.rt.Query(context.Background(), env)
	if err != nil || string(open(later).Return) != "\x01" {
		t.Fatalf("the same query later: %v", err)
	}
	// An answer to the one does not open as the answer to another.
	other, _ := seal(q, session)
	if _, err := envelope.OpenReply(ctx, other, session, later); err == nil {
		t.Error("an answer opens for another query")
	}
	// Another worker of the cluster does not open it, nor does it take the reader's
	// signature from who could open it.
	if _, err := ws[1].rt.Query(context.Background(), env); !errors.Is(err, pruntime.ErrNotServing) {
		t.Errorf("another worker: %v", err)
	}
	if a, err := ws[1].ask(q, [32]byte(ws[1].rt.Status().Session)); err != nil || a.Status != proto.StatusBadSignature {
		t.Errorf("sealed anew to another worker: %+v, %v", a, err)
	}
	if out := w.call(proto.ClusterAddress, string((&proto.Revocation{All: true}).Marshal())); out.Status != proto.StatusOK {
		t.Fatal(out.Error)
	}
	w.until("the worker has it", func() bool { _, reason := n.read(reader, id, "gn", g); return reason == "revoked" })
	if b, err := n.rt.Query(context.Background(), env); err != nil || open(b).Status != proto.StatusNotAuthorised {
		t.Errorf("after the revocation: %v", err)
	}
	n.stop()
	n.start()
	w.until("it serves again", n.serving)
	if _, err := n.rt.Query(context.Background(), env); !errors.Is(err, pruntime.ErrNotServing) {
		t.Errorf("in another session: %v", err)
	}
}

// TestRolledBackWorker: a host that restarts its worker from before a revocation, and
// brings it up to date in one step behind commands that take long, gets no answer under
// the revoked grant in the meantime.
func TestRolledBackWorker(t *testing.T) {
	meanwhile(t, "a query while it caught up", func() bool { return askedOfRolledBack(t) > 0 })
}

// askedOfRolledBack counts the queries that come while it is brought up to date.
func askedOfRolledBack(t *testing.T) (behind int) {
	t.Helper()
	w, _, ws := network(t, 1)
	id, n, reader := w.deploy(), ws[0], keyOf(t, "reader")
	g := w.grant(w.user, reader, id, nil)
	w.call(id, "n")
	n.off = true
	n.stop()
	// The chain goes on: some blocks, then commands that take long, then the revocation.
	w.chain.Next(8)
	for range 30 {
		w.push(id, "s\x00\x00\x40\x00")
		w.chain.Next(1)
	}
	w.push(proto.ClusterAddress, string((&proto.Revocation{ID: g.ID, NotAfter: g.NotAfter}).Marshal()))
	w.chain.Next(1)
	n.start()
	step := func(to int64) error { return n.rt.Advance(w.chain.AdvanceTo(n.rt.Status(), to).Marshal()) }
	// Its session and its challenge reach the chain, and the gatekeeper releases the keys to
	// the session; all of it comes back together with the commands.
	for range 6 {
		if err := errors.Join(step(n.rt.Status().TrustedHeight+1), n.carry()); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 {
		w.step()
	}
	done := make(chan error, 1)
	go func() {
		// The code comes after the messages: then they run.
		err := step(w.chain.Height())
		for _, h := range n.rt.Status().WantCodes {
			err = errors.Join(err, n.rt.PutCode(h, w.module))
		}
		done <- err
	}()
	brought := false
	for end := time.Now().Add(5 * time.Minute); !brought || n.rt.Status().Waiting > 0; {
		if time.Now().After(end) {
			t.Fatalf("it does not catch up: %+v", n.rt.Status())
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			brought = true
		default:
		}
		session := [32]byte(n.rt.Status().Session)
		a, err := n.ask(signed(t, reader, id, "gn", g, session), session)
		switch {
		case errors.Is(err, pruntime.ErrNotServing):
			if strings.Contains(err.Error(), "catching up") {
				behind++
			}
		case err != nil:
			t.Fatal(err)
		case a.Status != proto.StatusNotAuthorised:
			t.Fatalf("under a revoked grant: %s, at height %d of %d", a.Status, a.Height, w.chain.Height())
		}
	}
	if _, reason := n.read(reader, id, "gn", g); reason != "revoked" {
		t.Errorf("when it has caught up: %q", reason)
	}
	return behind
}
