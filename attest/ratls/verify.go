package ratls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/identity"
)

// A Verifier decides whether a certificate is that of one worker of one network.
type Verifier struct {
	Chain  string
	Worker identity.PublicKey
	// Roots are the network's.
	Roots attest.Roots
	Now   func() time.Time
	// Admit says why the network does not take what the evidence proves, nil if it does:
	// measurement and machine must be those that the chain has for the worker. It is needed.
	Admit func(*attest.Verdict) error
	// Collateral gives what the chain holds under a key (attest.Evidence.CollateralKey). Of
	// that and what the evidence brings the newer counts, so that a worker cannot show what
	// its vendor said before a revocation. Where it is nil, the evidence must bring its own,
	// and nothing says how new that is.
	Collateral func(key string) (*attest.Collateral, error)
}

// Verify checks a certificate, in DER, and returns what its evidence proves.
func (v *Verifier) Verify(der []byte) (*attest.Verdict, error) {
	s, e, err := parse(der)
	if err != nil {
		return nil, err
	}
	now := v.Now()
	switch {
	case now.Before(s.NotBefore) || now.After(s.NotAfter):
		return nil, fmt.Errorf("%w: it is from %s to %s", ErrExpired, s.NotBefore.Format(time.RFC3339), s.NotAfter.Format(time.RFC3339))
	case s.Chain != v.Chain:
		return nil, fmt.Errorf("%w: chain %q, expected %q", ErrWorker, s.Chain, v.Chain)
	case s.Worker != v.Worker:
		return nil, fmt.Errorf("%w: worker %s, expected %s", ErrWorker, s.Worker.Hex(), v.Worker.Hex())
	}
	if err := identity.Verify(s.Worker, s.SignedBytes(), e.signature[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	verdict, err := v.judge(e.evidence, now)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrEvidence, err)
	case verdict.ReportData != s.ReportData():
		return nil, ErrBinding
	}
	if err := v.Admit(verdict); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	return verdict, nil
}

func (v *Verifier) judge(evidence []byte, now time.Time) (*attest.Verdict, error) {
	ev, err := attest.Parse(evidence)
	if err != nil {
		return nil, err
	}
	if v.Collateral != nil {
		key, err := ev.CollateralKey()
		if err != nil {
			return nil, err
		}
		held, err := v.Collateral(key)
		if err != nil {
			return nil, err
		}
		if ev.Collateral == nil || held != nil && held.Newer(ev.Collateral) != nil {
			ev.Collateral = held
		}
	}
	return attest.Verify(ev, v.Roots, now)
}

// parse reads a certificate of the one form that Issue gives it.
func parse(der []byte) (*Statement, *extension, error) {
	malformed := func(format string, args ...any) (*Statement, *extension, error) {
		return nil, nil, fmt.Errorf("%w: %w", ErrCertificate, fmt.Errorf(format, args...))
	}
	if len(der) > maxCertificate {
		return malformed("%d bytes, at most %d", len(der), maxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return malformed("%w", err)
	}
	var value []byte
	for _, x := range c.Extensions {
		if x.Id.Equal(oid) {
			value = x.Value // the parser refuses two of one kind
		}
	}
	if value == nil {
		return malformed("it has no evidence")
	}
	e, err := parseExtension(value)
	if err != nil {
		return malformed("extension: %w", err)
	}
	key, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return malformed("its key is not on P-256")
	}
	// The key signs its own certificate, so that nobody else can change a field.
	if c.SignatureAlgorithm != x509.ECDSAWithSHA256 || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil {
		return malformed("it is not signed by its own key")
	}
	if c.NotAfter.Sub(c.NotBefore) > Validity || !c.NotAfter.After(c.NotBefore) {
		return malformed("valid for %s, at most %s", c.NotAfter.Sub(c.NotBefore), Validity)
	}
	return &Statement{Chain: e.chain, Worker: e.worker, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Key: c.RawSubjectPublicKeyInfo}, e, nil
}

// Config is for connections to the worker: the handshake fails unless the certificate
// verifies. Sessions are not resumed, so that each connection is judged.
func (v *Verifier) Config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Names and authorities say nothing here; VerifyPeerCertificate decides.
		InsecureSkipVerify: true,
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			if len(raw) != 1 {
				return fmt.Errorf("%w: a chain of %d", ErrCertificate, len(raw))
			}
			_, err := v.Verify(raw[0])
			return err
		},
	}
}
