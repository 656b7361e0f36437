package ratls_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/crypto/identity"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// A world is a simulated network with two machines.
type world struct {
	t        *testing.T
	network  *simulator.Network
	roots    attest.Roots
	machines [2]*simulator.Machine
	state    simulator.State
}

func newWorld(t *testing.T) *world {
	t.Helper()
	n, err := simulator.NewNetwork(start, false)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, network: n}
	encoded, err := n.Roots()
	if err != nil {
		t.Fatal(err)
	}
	if w.roots, err = attest.SimulatedRoots(encoded); err != nil {
		t.Fatal(err)
	}
	for i := range w.machines {
		if w.machines[i], err = n.NewMachine(start); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) identity(name string) *identity.KeyPair {
	w.t.Helper()
	k, err := identity.FromURI("//" + name)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) collateral() *attest.Collateral {
	w.t.Helper()
	c, err := w.network.Collateral(w.network.Publication(attest.TDX, start, w.state))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// evidence is what a machine that runs software gives.
func (w *world) evidence(machine int, software byte) func([64]byte) (attest.Evidence, error) {
	return func(d [64]byte) (attest.Evidence, error) {
		ev, err := w.machines[machine].Evidence(attest.TDX, []byte{software}, d)
		ev.Collateral = w.collateral()
		return ev, err
	}
}

func (w *world) issue(id *identity.KeyPair, now time.Time, ev func([64]byte) (attest.Evidence, error)) *tls.Certificate {
	w.t.Helper()
	c, err := ratls.Issue(rand.Reader, "chain-1", id.Public(), now, func(s *ratls.Statement) (sig [identity.SignatureSize]byte, e attest.Evidence, err error) {
		if e, err = ev(s.ReportData()); err == nil {
			sig, err = id.Sign(rand.Reader, s.SignedBytes())
		}
		return sig, e, err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

var errOther = errors.New("another software")

// verifier expects the worker "a" running software 1.
func (w *world) verifier(now time.Time) *ratls.Verifier {
	want, err := simulator.Measurement(attest.TDX, []byte{1})
	if err != nil {
		w.t.Fatal(err)
	}
	return &ratls.Verifier{Chain: "chain-1", Worker: w.identity("a").Public(), Roots: w.roots, Now: func() time.Time { return now },
		Admit: func(v *attest.Verdict) error {
			if v.Measurement != want {
				return errOther
			}
			return nil
		}}
}

// connect does a real handshake over a pipe and returns what the client thinks of it.
func connect(server tls.Certificate, client *tls.Config) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		s := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS13})
		s.Handshake()
		io.Copy(io.Discard, s)
	}()
	return tls.Client(a, client).Handshake()
}

func TestHandshake(t *testing.T) {
	w := newWorld(t)
	good := w.issue(w.identity("a"), start, w.evidence(0, 1))
	for _, after := range []time.Duration{0, -5 * time.Minute, 23 * time.Hour} {
		if err := connect(*good, w.verifier(start.Add(after)).Config()); err != nil {
			t.Errorf("%s later: %v", after, err)
		}
	}
	// Over HTTP, as the public API serves it.
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "inside") }))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*good}}
	s.StartTLS()
	defer s.Close()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: w.verifier(start).Config()}}
	defer c.CloseIdleConnections()
	res, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "inside" {
		t.Errorf("%q, %v", b, err)
	}
}

// Evidence without collateral is verified with what the chain holds.
func TestCollateralOfTheChain(t *testing.T) {
	w := newWorld(t)
	bare := w.issue(w.identity("a"), start, func(d [64]byte) (attest.Evidence, error) { return w.machines[0].Evidence(attest.TDX, []byte{1}, d) })
	v := w.verifier(start)
	if err := connect(*bare, v.Config()); !errors.Is(err, fault.EvidenceIncomplete) {
		t.Errorf("without collateral: %v", err)
	}
	v.Collateral = func(key string) (*attest.Collateral, error) {
		if key != "tdx/deadbeef0001/platform" {
			t.Errorf("asked for %s", key)
		}
		return w.collateral(), nil
	}
	if err := connect(*bare, v.Config()); err != nil {
		t.Error(err)
	}
	v.Collateral = func(string) (*attest.Collateral, error) { return nil, io.ErrUnexpectedEOF }
	if err := connect(*bare, v.Config()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

// Every way to come by a certificate that is not the worker's own, of now.
func TestAttacks(t *testing.T) {
	w := newWorld(t)
	a, b := w.identity("a"), w.identity("b")
	good := w.issue(a, start, w.evidence(0, 1))
	other := w.issue(b, start, w.evidence(1, 1))
	ownKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// forged is a certificate of the attacker's key that carries another's extension.
	forged := func(from *tls.Certificate, edit func(*x509.Certificate)) tls.Certificate {
		template := *from.Leaf
		template.PublicKey = nil
		for _, x := range from.Leaf.Extensions {
			if len(x.Id) == 4 && x.Id[1] == 25 {
				template.ExtraExtensions = append(template.ExtraExtensions, x)
			}
		}
		if edit != nil {
			edit(&template)
		}
		der, err := x509.CreateCertificate(rand.Reader, &template, &template, ownKey.Public(), ownKey)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: ownKey}
	}
	// Evidence that the same machine gave for another certificate.
	var earlier [64]byte
	w.issue(a, start, func(d [64]byte) (attest.Evidence, error) { earlier = d; return w.evidence(0, 1)(d) })
	replayed := func([64]byte) (attest.Evidence, error) { return w.evidence(0, 1)(earlier) }

	for _, c := range []struct {
		name        string
		certificate tls.Certificate
		edit        func(*ratls.Verifier)
		want        error
	}{
		{"another worker", *other, nil, ratls.ErrWorker},
		{"the worker's extension under the attacker's key", forged(good, nil), nil, ratls.ErrIdentity},
		{"evidence of another statement", *w.issue(a, start, replayed), nil, ratls.ErrBinding},
		{"evidence of nothing", *w.issue(a, start, func([64]byte) (attest.Evidence, error) { return w.evidence(0, 1)([64]byte{}) }), nil, ratls.ErrBinding},
		{"other software", *w.issue(a, start, w.evidence(0, 2)), nil, errOther},
		{"expired", *good, func(v *ratls.Verifier) { v.Now = func() time.Time { return start.Add(24 * time.Hour) } }, ratls.ErrExpired},
		{"of tomorrow", *w.issue(a, start.Add(24*time.Hour), w.evidence(0, 1)), nil, ratls.ErrExpired},
		{"another chain", *good, func(v *ratls.Verifier) { v.Chain = "chain-2" }, ratls.ErrWorker},
		{"simulated on a real network", *good, func(v *ratls.Verifier) { v.Roots = attest.ProductionRoots() }, ratls.ErrEvidence},
		{"collateral ended", *w.issue(a, start.AddDate(0, 2, 0), w.evidence(0, 1)), func(v *ratls.Verifier) { v.Now = func() time.Time { return start.AddDate(0, 2, 0) } }, fault.CRLExpired},
		{"no evidence", tls.Certificate{Certificate: [][]byte{plain(t, ownKey)}, PrivateKey: ownKey}, nil, ratls.ErrCertificate},
		{"a longer life", forged(good, func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Hour) }), nil, ratls.ErrCertificate},
		{"a chain", tls.Certificate{Certificate: [][]byte{good.Certificate[0], good.Certificate[0]}, PrivateKey: good.PrivateKey}, nil, ratls.ErrCertificate},
	} {
		v := w.verifier(start)
		if c.edit != nil {
			c.edit(v)
		}
		if err := connect(c.certificate, v.Config()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	// The certificate copied, without its key: TLS itself refuses, whatever it says.
	copied := tls.Certificate{Certificate: good.Certificate, PrivateKey: ownKey}
	if err := connect(copied, w.verifier(start).Config()); err == nil {
		t.Error("a copied certificate without its key was accepted")
	}
}

// TestOldCollateral: a worker whose platform its vendor revoked shows collateral from before,
// which is valid for weeks. What the chain holds counts where it is newer, and the
// worker's own where that is.
func TestOldCollateral(t *testing.T) {
	w := newWorld(t)
	a := w.identity("a")
	old, before := w.issue(a, start, w.evidence(0, 1)), w.collateral()
	holding := func(c *attest.Collateral) *tls.Config {
		v := w.verifier(start)
		v.Collateral = func(string) (*attest.Collateral, error) { return c, nil }
		return v.Config()
	}
	if err := connect(*old, holding(before)); err != nil {
		t.Fatal("before the revocation:", err)
	}
	w.state = simulator.State{Evaluation: 2, Status: string(dcap.Revoked)}
	after := w.collateral()
	if err := connect(*old, holding(after)); !errors.Is(err, fault.TCBRevoked) {
		t.Errorf("the certificate's collateral is from before the revocation: %v", err)
	}
	revoked := w.issue(a, start, w.evidence(0, 1))
	if err := connect(*revoked, holding(before)); !errors.Is(err, fault.TCBRevoked) {
		t.Errorf("the chain's collateral is from before the revocation: %v", err)
	}
	if err := connect(*old, func() *tls.Config {
		v := w.verifier(start)
		v.Collateral = func(string) (*attest.Collateral, error) { return nil, io.ErrNoProgress }
		return v.Config()
	}()); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("what the chain holds cannot be read: %v", err)
	}
}

func plain(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: start, NotAfter: start.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Any changed byte is refused.
func TestMutations(t *testing.T) {
	w := newWorld(t)
	der := w.issue(w.identity("a"), start, w.evidence(0, 1)).Certificate[0]
	v := w.verifier(start)
	if _, err := v.Verify(der); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(der); at += 1 + len(der)/600 {
		bad := bytes.Clone(der)
		bad[at] ^= 1 << (at % 8)
		if _, err := v.Verify(bad); err == nil {
			t.Errorf("byte %d of %d changed: accepted", at, len(der))
		}
	}
	for _, bad := range [][]byte{nil, der[:len(der)-1], append(bytes.Clone(der), 0), make([]byte, 1<<20)} {
		if _, err := v.Verify(bad); !errors.Is(err, ratls.ErrCertificate) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestIssueFails(t *testing.T) {
	w := newWorld(t)
	if _, err := ratls.Issue(rand.Reader, "chain-1", w.identity("a").Public(), start, func(*ratls.Statement) (sig [identity.SignatureSize]byte, ev attest.Evidence, err error) {
		return sig, ev, io.ErrNoProgress
	}); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("certificate"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v := &ratls.Verifier{Chain: "x", Roots: attest.ProductionRoots(), Now: func() time.Time { return start }, Admit: func(*attest.Verdict) error { return nil }}
		if _, err := v.Verify(b); err == nil {
			t.Fatal("accepted")
		}
	})
}
