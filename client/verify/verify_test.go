package verify_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/verify"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// keyAllowed is where the registry allows software for a role.
func keyAllowed(role proto.Role, m proto.Hash) []byte {
	return append([]byte{'m', '/', byte(role)}, m[:]...)
}

func heights(from, until uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, from), until)
}

// maxAge is above the age of the stack's newest header, which is half a day.
const maxAge = 24 * time.Hour

// network is a chain with a gatekeeper, two workers and a contract, that says about its
// enclaves what a real registry would.
func network(t *testing.T) (*stack.Stack, proto.ContractID) {
	t.Helper()
	s := stack.Ready(t, 2)
	roots, err := s.Vendor.Network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	s.Chain.Set(proto.StoreRegistry, []byte("roots"), roots)
	for _, e := range s.List {
		// Made now: this chain's clock runs faster than the verifier's.
		if _, err := e.RT.Certificate(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Chain.Set(proto.StoreRegistry, keyAllowed(e.Config.Role, stack.Measurement(t)), heights(1, 0))
	}
	stop := s.Go()
	c := client.Open(s.Network(), s.Key("user"))
	d, err := c.Deploy(within(t, 2*time.Minute), s.Cluster, enginetest.Script(""), []byte("salt"), "argument", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	for range 4 {
		s.Step()
	}
	return s, d.Contract
}

// last is the link at which a report ends.
func last(r *verify.Report) verify.Link { return r.Links[len(r.Links)-1] }

func built(h proto.Hash) func(context.Context, attest.TEE, attest.Roots) (proto.Hash, error) {
	return func(_ context.Context, tee attest.TEE, roots attest.Roots) (proto.Hash, error) {
		if tee != attest.TDX || !roots.Simulated() {
			return h, fmt.Errorf("a build for %s, simulated: %v, is asked for", tee, roots.Simulated())
		}
		return h, nil
	}
}

func TestHolds(t *testing.T) {
	s, id := network(t)
	open := func() *client.Client { return client.Open(s.Network(), nil) }
	build := stack.Measurement(t)
	for _, x := range []struct {
		name  string
		r     *verify.Report
		links []string
	}{
		{"chain", verify.Chain(within(t, 2*time.Minute), open(), verify.Options{MaxAge: maxAge}), []string{"chain", "roots", "newest trust root"}},
		{"gatekeeper", verify.Worker(within(t, 2*time.Minute), open(), s.List[0].RT.Self(), verify.Options{MaxAge: maxAge}),
			[]string{"chain", "registration", "roots", "allow-list", "certificate", "evidence", "software"}},
		{"worker", verify.Worker(within(t, 2*time.Minute), open(), s.List[1].RT.Self(), verify.Options{MaxAge: maxAge, Build: built(build)}),
			[]string{"chain", "registration", "roots", "allow-list", "certificate", "evidence", "software", "build", "session"}},
		{"contract", verify.Contract(within(t, 2*time.Minute), open(), id, verify.Options{MaxAge: maxAge}),
			[]string{"chain", "contract", "code", "cluster", "receipt", "seat 1 registration", "seat 1 roots", "seat 1 allow-list", "seat 1 certificate", "seat 1 evidence", "seat 1 software", "seat 1 session",
				"seat 2 registration", "seat 2 roots", "seat 2 allow-list", "seat 2 certificate", "seat 2 evidence", "seat 2 software", "seat 2 session"}},
	} {
		if !x.r.OK || x.r.Err() != nil || !x.r.Simulated {
			t.Errorf("%s: %+v", x.name, x.r)
		}
		var names []string
		for _, l := range x.r.Links {
			names = append(names, l.Name)
			if l.Detail == "" || !l.OK {
				t.Errorf("%s: link %+v", x.name, l)
			}
			if strings.HasSuffix(l.Name, "registration") && !strings.Contains(l.Detail, "SIMULATED") {
				t.Errorf("%s: link %+v shows a simulated worker and does not say so", x.name, l)
			}
		}
		if strings.Join(names, ",") != strings.Join(x.links, ",") {
			t.Errorf("%s: links %v, want %v", x.name, names, x.links)
		}
	}
}

// TestBroken breaks each link in turn, and repairs it; what is reported is that link.
func TestBroken(t *testing.T) {
	s, id := network(t)
	w := s.List[1]
	self := w.RT.Self()
	amend := func(f func(*proto.WorkerInfo)) { s.Chain.Amend(self, f); s.Chain.Next(2) }
	own := stack.Measurement(t)
	other := proto.Hash{1}
	contract := func(c *client.Client, o verify.Options) *verify.Report {
		o.MaxAge = cmp.Or(o.MaxAge, maxAge)
		return verify.Contract(within(t, 2*time.Minute), c, id, o)
	}
	worker := func(c *client.Client, o verify.Options) *verify.Report {
		o.MaxAge = cmp.Or(o.MaxAge, maxAge)
		return verify.Worker(within(t, 2*time.Minute), c, self, o)
	}
	handler := w.Public.Config.Handler
	certificateOf := func(e *stack.Enclave) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/certificate" {
				handler.ServeHTTP(rw, r)
				return
			}
			c, err := e.RT.Certificate(r.Context())
			if err != nil {
				t.Error(err)
			}
			rw.Write(c.Certificate[0])
		})
	}
	certificateAs := func(edit func([]byte) []byte) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/certificate" {
				handler.ServeHTTP(rw, r)
				return
			}
			c, _ := w.RT.Certificate(r.Context())
			rw.Write(edit(append([]byte{}, c.Certificate[0]...)))
		})
	}
	// The chain's blocks use up leases; relaying renews them.
	serving := func() {
		t.Helper()
		for range 3 {
			s.Step()
		}
		s.Until("all serve", func() bool {
			for _, e := range s.List {
				if !e.RT.Status().Serving {
					return false
				}
			}
			return true
		})
	}
	var info proto.WorkerInfo
	info, _ = s.Chain.Worker(self)
	stranger, err := commkey.FromSeed([32]byte{9})
	if err != nil {
		t.Fatal(err)
	}
	cl := s.Chain.Cluster(s.Cluster)
	var from uint64
	var receipt []byte
	for from = cl.FinalSeq; receipt == nil; from-- {
		receipt, _ = s.Chain.Get(proto.StoreContracts, proto.KeyReceipt(s.Cluster, from))
		if receipt != nil {
			break
		}
	}
	forge := func(f func(*proto.ReceiptRecord)) {
		rec, err := proto.ParseReceiptRecord(receipt)
		if err != nil {
			t.Fatal(err)
		}
		f(rec)
		s.Chain.Set(proto.StoreContracts, proto.KeyReceipt(s.Cluster, from), rec.Marshal())
		s.Chain.Next(2)
	}

	for _, x := range []struct {
		name    string
		check   func(*client.Client, verify.Options) *verify.Report
		network func(*client.Network)
		options verify.Options
		damage  func()
		repair  func()
		link    string
		want    error
	}{
		{name: "another trust root", check: worker, network: func(n *client.Network) { n.Root[0] ^= 1 }, link: "chain", want: client.ErrTrustRoot},
		{name: "another chain", check: worker, network: func(n *client.Network) { n.Chain = "other" }, link: "chain", want: client.ErrTrustRoot},
		{name: "a chain that stands still", check: func(c *client.Client, o verify.Options) *verify.Report {
			return verify.Worker(within(t, 2*time.Minute), c, self, o)
		}, link: "chain", want: verify.ErrStale},
		{name: "an expired admission", check: worker, damage: func() { amend(func(w *proto.WorkerInfo) { w.Expires = 5 }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.Expires = info.Expires }) }, link: "registration", want: verify.ErrNotAdmitted},
		{name: "software that is not allowed", check: worker, damage: func() { amend(func(w *proto.WorkerInfo) { w.Measurement = other }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.Measurement = own }) }, link: "allow-list", want: verify.ErrNotAdmitted},
		{name: "software that is not allowed any more", check: worker, damage: func() {
			s.Chain.Set(proto.StoreRegistry, keyAllowed(proto.RoleWorker, own), heights(1, 5))
			s.Chain.Next(2)
		},
			repair: func() {
				s.Chain.Set(proto.StoreRegistry, keyAllowed(proto.RoleWorker, own), heights(1, 0))
				s.Chain.Next(2)
			}, link: "allow-list", want: verify.ErrNotAdmitted},
		{name: "software that is not allowed yet", check: worker, damage: func() {
			s.Chain.Set(proto.StoreRegistry, keyAllowed(proto.RoleWorker, own), heights(1<<40, 0))
			s.Chain.Next(2)
		},
			repair: func() {
				s.Chain.Set(proto.StoreRegistry, keyAllowed(proto.RoleWorker, own), heights(1, 0))
				s.Chain.Next(2)
			}, link: "allow-list", want: verify.ErrNotAdmitted},
		{name: "no endpoint", check: worker, damage: func() { amend(func(w *proto.WorkerInfo) { w.Endpoints = nil }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.Endpoints = info.Endpoints }) }, link: "certificate", want: verify.ErrUnreachable},
		{name: "nobody there", check: worker, damage: func() { amend(func(w *proto.WorkerInfo) { w.Endpoints = []string{"http://127.0.0.1:1"} }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.Endpoints = info.Endpoints }) }, link: "certificate", want: verify.ErrUnreachable},
		{name: "another enclave's certificate", check: worker, damage: func() { w.Public.Config.Handler = certificateOf(s.List[2]) },
			repair: func() { w.Public.Config.Handler = handler }, link: "evidence", want: ratls.ErrWorker},
		{name: "no certificate", check: worker, damage: func() { w.Public.Config.Handler = certificateAs(func([]byte) []byte { return []byte("x") }) },
			repair: func() { w.Public.Config.Handler = handler }, link: "evidence", want: ratls.ErrCertificate},
		{name: "a certificate with a changed byte", check: worker, damage: func() {
			w.Public.Config.Handler = certificateAs(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, repair: func() { w.Public.Config.Handler = handler }, link: "evidence", want: ratls.ErrCertificate},
		{name: "other software than was admitted", check: worker, damage: func() {
			s.Chain.Set(proto.StoreRegistry, keyAllowed(proto.RoleWorker, other), heights(1, 0))
			amend(func(w *proto.WorkerInfo) { w.Measurement = other })
		}, repair: func() { amend(func(w *proto.WorkerInfo) { w.Measurement = own }) }, link: "software", want: ratls.ErrNotAdmitted},
		{name: "another machine than was admitted", check: worker, damage: func() {
			s.Chain.AmendAttestation(self, func(a *proto.Attestation) { a.Machine[0] ^= 1 })
			s.Chain.Next(2)
		}, repair: func() {
			s.Chain.AmendAttestation(self, func(a *proto.Attestation) { a.Machine[0] ^= 1 })
			s.Chain.Next(2)
		}, link: "software", want: ratls.ErrNotAdmitted},
		{name: "a real TEE, says the chain", check: worker, damage: func() { amend(func(w *proto.WorkerInfo) { w.Simulated = false }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.Simulated = true }) }, link: "software", want: ratls.ErrNotAdmitted},
		{name: "another build", check: worker, options: verify.Options{Build: built(other)}, link: "build", want: verify.ErrBuild},
		{name: "a session that the enclave does not hold", check: worker, damage: func() { amend(func(w *proto.WorkerInfo) { w.State.Session = stranger.Public() }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.State.Session = info.State.Session }) }, link: "session", want: verify.ErrSession},
		{name: "another contract's code", check: contract, options: verify.Options{Code: &other}, link: "code", want: verify.ErrContract},
		{name: "a node that changes the code", check: contract, damage: func() {
			s.Server.Intercept(func(method string, p map[string]any) (any, error) {
				if path, _ := p["path"].(string); strings.HasSuffix(path, "/Chunk") {
					return map[string]any{"response": map[string]any{"code": 0, "height": "1", "value": []byte{0x0a, 1, 'x'}}}, nil
				}
				return nil, nil
			})
		}, repair: func() { s.Server.Intercept(nil) }, link: "code", want: nil},
		{name: "a receipt that too few signed", check: contract, damage: func() { forge(func(r *proto.ReceiptRecord) { r.Votes = r.Votes[:1] }) }, link: "receipt", want: verify.ErrReceipt},
		{name: "a receipt with a forged signature", check: contract, damage: func() { forge(func(r *proto.ReceiptRecord) { r.Votes[0].Signature[5] ^= 1 }) }, link: "receipt", want: verify.ErrReceipt},
		{name: "one seat counted twice", check: contract, damage: func() { forge(func(r *proto.ReceiptRecord) { r.Votes[1] = r.Votes[0] }) }, link: "receipt", want: verify.ErrReceipt},
		{name: "a receipt that strangers signed", check: contract, damage: func() {
			forge(func(r *proto.ReceiptRecord) {
				payload := proto.MarshalEntry(r.Receipts[r.Agreed])
				for i := range r.Votes {
					seed := [32]byte{byte(i)}
					key, err := identity.FromSeed(seed[:])
					if err != nil {
						t.Fatal(err)
					}
					r.Votes[i].Worker = proto.WorkerID(key.Public())
					signature, err := key.Sign(rand.Reader, proto.EntrySignedBytes(s.Network().Chain, r.Votes[i].Worker, r.Votes[i].OutboxSeq, payload))
					if err != nil {
						t.Fatal(err)
					}
					r.Votes[i].Signature = signature
				}
			})
		}, link: "receipt", want: verify.ErrReceipt},
		{name: "a receipt of another state", check: contract, damage: func() { forge(func(r *proto.ReceiptRecord) { r.Receipts[r.Agreed].StateRoot[0] ^= 1 }) }, link: "receipt", want: verify.ErrReceipt},
		{name: "a receipt that is not final", check: contract, damage: func() { forge(func(r *proto.ReceiptRecord) { r.Final = false }) },
			repair: func() { forge(func(*proto.ReceiptRecord) {}) }, link: "receipt", want: verify.ErrReceipt},
		{name: "a bad seat", check: contract, damage: func() { amend(func(w *proto.WorkerInfo) { w.Expires = 5 }) },
			repair: func() { amend(func(w *proto.WorkerInfo) { w.Expires = info.Expires }) }, link: "registration", want: verify.ErrNotAdmitted},
	} {
		n := s.Network()
		if x.network != nil {
			x.network(&n)
		}
		if x.damage != nil {
			x.damage()
		}
		r := x.check(client.Open(n, nil), x.options)
		l := last(r)
		if r.OK || l.OK || !strings.HasSuffix(l.Name, x.link) || x.want != nil && !errors.Is(r.Err(), x.want) || l.Detail != r.Err().Error() {
			t.Errorf("%s: it ends with %+v, %v", x.name, l, r.Err())
		}
		for _, before := range r.Links[:len(r.Links)-1] {
			if !before.OK {
				t.Errorf("%s: it went on after %+v", x.name, before)
			}
		}
		if x.repair != nil {
			x.repair()
		}
		serving()
	}
	// So many blocks without a relayer may have been a lease.
	s.Until("the seats serve", func() bool {
		return !slices.ContainsFunc(s.List, func(e *stack.Enclave) bool { return !e.RT.Status().Serving })
	})
	if r := contract(client.Open(s.Network(), nil), verify.Options{}); !r.OK {
		t.Errorf("repaired: %+v", r)
	}

	// The vendor revokes the platform.
	if err := s.Vendor.SetState(s.Chain.Time(), func(st *simulator.State) error { st.Status = string(dcap.Revoked); return nil }); err != nil {
		t.Fatal(err)
	}
	w.Restart() // makes a certificate with what is published now
	if r := worker(client.Open(s.Network(), nil), verify.Options{}); r.OK || !strings.HasSuffix(last(r).Name, "evidence") || !errors.Is(r.Err(), fault.TCBRevoked) {
		t.Errorf("revoked: %+v", last(r))
	}
	// A chain that hides that it is simulated.
	s.Server.Intercept(func(method string, p map[string]any) (any, error) {
		if data, _ := p["data"].(string); method == "abci_query" && strings.EqualFold(data, "726f6f7473") {
			return map[string]any{"response": map[string]any{"code": 0, "height": "1"}}, nil
		}
		return nil, nil
	})
	if r := worker(client.Open(s.Network(), nil), verify.Options{}); r.OK || r.Simulated || !errors.Is(r.Err(), ratls.ErrEvidence) {
		t.Errorf("roots hidden: %+v", last(r))
	}
	// Of the chain alone there is no evidence by which that would be seen: nothing is said.
	if r := verify.Chain(within(t, 2*time.Minute), client.Open(s.Network(), nil), verify.Options{MaxAge: maxAge}); !r.OK || slices.ContainsFunc(r.Links, func(l verify.Link) bool {
		return strings.Contains(l.Name+l.Detail, "roots") || strings.Contains(l.Detail, "vendors")
	}) {
		t.Errorf("roots hidden: the chain's report says %+v", r.Links)
	}
}
