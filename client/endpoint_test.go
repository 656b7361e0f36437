package client_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
)

// secure serves an enclave's public API by attested TLS as well, with the given
// configuration, and returns its address.
func secure(t *testing.T, e *stack.Enclave, cfg *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: api.Public(e.RT), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go srv.Serve(tls.NewListener(l, cfg))
	t.Cleanup(func() { srv.Close() })
	return "ratls://" + l.Addr().String()
}

// until waits for a chain that goes on by itself.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	for end := within(t, 2*time.Minute); !holds(); {
		if end.Err() != nil {
			t.Fatal("it does not come to hold")
		}
	}
}

// TestAttestedEndpoint: a query over TLS that only this worker's enclave can end, and
// every other end refused before a byte is sent.
func TestAttestedEndpoint(t *testing.T) {
	s, c, id := deployed(t, 2)
	roots, err := s.Vendor.Network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	a, b := s.List[1], s.List[2]
	targets, err := c.Targets(within(t, 2*time.Minute), id)
	if err != nil {
		t.Fatal(err)
	}
	target := targets[0]
	if target.Worker != a.RT.Self() {
		a, b = b, a
	}
	// Made now, before this chain's clock, which runs fast, is far ahead of the client's.
	certificate, err := a.RT.Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := b.RT.Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(endpoint string) error {
		target.Endpoint = endpoint
		_, err := c.Ask(within(t, 2*time.Minute), target, id, []byte("get k"), client.QueryOptions{})
		var qe *client.QueryError
		if errors.As(err, &qe) {
			return nil // the contract's business
		}
		return err
	}
	good := secure(t, a, a.RT.TLS())
	if err := ask(good); !errors.Is(err, ratls.ErrEvidence) {
		t.Errorf("while the chain counts as a real one: %v", err)
	}
	s.Chain.Set(proto.StoreRegistry, []byte("roots"), roots)
	c = client.Open(s.Network(), s.Key("user"))
	until(t, func() bool {
		r, err := c.Roots(t.Context())
		w, werr := c.Worker(t.Context(), a.RT.Self())
		return err == nil && werr == nil && r.Simulated() && w.Measurement == stack.Measurement(t)
	})
	for range 2 {
		if err := ask(good); err != nil {
			t.Fatal(err)
		}
	}

	stolen := *certificate
	stolen.PrivateKey = other.PrivateKey
	for _, x := range []struct {
		name string
		cfg  *tls.Config
		want error
	}{
		{"another worker", b.RT.TLS(), ratls.ErrWorker},
		{"the worker's certificate without its key", &tls.Config{Certificates: []tls.Certificate{stolen}}, nil},
		{"an old version of TLS", &tls.Config{Certificates: []tls.Certificate{*certificate}, MaxVersion: tls.VersionTLS12}, nil},
	} {
		if err := ask(secure(t, b, x.cfg)); err == nil || x.want != nil && !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	// No fallback to plain HTTP.
	if err := ask("ratls://" + strings.TrimPrefix(a.Public.URL, "http://")); err == nil {
		t.Error("plain HTTP was taken for an attested endpoint")
	}

	// The chain admitted something else since: each admission is judged anew.
	for _, x := range []struct {
		name        string
		attestation func(*proto.Attestation)
		worker      func(*proto.WorkerInfo)
		want        error
	}{
		{"another machine", func(a *proto.Attestation) { a.Machine[0] ^= 1 }, func(*proto.WorkerInfo) {}, ratls.ErrNotAdmitted},
		{"the machine again", func(a *proto.Attestation) { a.Machine[0] ^= 1 }, func(*proto.WorkerInfo) {}, nil},
		{"other software", func(*proto.Attestation) {}, func(w *proto.WorkerInfo) { w.Measurement = proto.Hash{1} }, ratls.ErrNotAdmitted},
	} {
		s.Chain.AmendAttestation(a.RT.Self(), x.attestation)
		s.Chain.Amend(a.RT.Self(), func(w *proto.WorkerInfo) { w.Registered++; x.worker(w) })
		target.Registered++
		until(t, func() bool {
			w, err := c.Worker(t.Context(), a.RT.Self())
			return err == nil && w.Registered == target.Registered
		})
		if err := ask(good); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}
