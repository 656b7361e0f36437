package pruntime

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"sync"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/identity"
)

// endpoint is the TLS certificate of the public API. Its key is never written to disk.
type endpoint struct {
	mu   sync.Mutex
	cert *tls.Certificate
}

// Certificate returns the certificate that says, with evidence, that its TLS key is of
// this enclave (package ratls). It is made anew when half its life is over; where that
// fails, the old one goes on to its end.
func (r *Runtime) Certificate(ctx context.Context) (*tls.Certificate, error) {
	r.endpoint.mu.Lock()
	defer r.endpoint.mu.Unlock()
	r.mu.Lock()
	now := r.now()
	r.mu.Unlock()
	old := r.endpoint.cert
	if old != nil && now.Before(old.Leaf.NotAfter.Add(-ratls.Validity/2)) {
		return old, nil
	}
	c, err := ratls.Issue(rand.Reader, r.cfg.Chain, identity.PublicKey(r.self), now, func(s *ratls.Statement) ([64]byte, attest.Evidence, error) { return r.ring.Certify(ctx, s) })
	if err != nil {
		if old != nil && now.Before(old.Leaf.NotAfter) {
			r.cfg.Log.Warn("no new TLS certificate, the old one goes on", "until", old.Leaf.NotAfter, "error", err)
			return old, nil
		}
		return nil, err
	}
	r.endpoint.cert = c
	return c, nil
}

// TLS is for the server of the public API.
func (r *Runtime) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true, // each connection is judged
		GetCertificate:         func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return r.Certificate(h.Context()) },
	}
}
