package ratls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Validity is how long a certificate lasts. It begins a little before it is made, for
// clocks that are behind.
const (
	Validity = 24 * time.Hour
	backdate = 10 * time.Minute
)

// maxCertificate bounds what is parsed.
const maxCertificate = attest.MaxEvidence + 8<<10

// Failure classes. Test with errors.Is.
var (
	// ErrCertificate: it is not such a certificate, or not in its one form.
	ErrCertificate = errors.New("ratls: no attested certificate")
	// ErrExpired: it is not valid now.
	ErrExpired = errors.New("ratls: certificate not valid at this time")
	// ErrWorker: it is of another worker or chain.
	ErrWorker = errors.New("ratls: certificate of another worker or network")
	// ErrIdentity: the worker's IdentityKey did not sign it.
	ErrIdentity = errors.New("ratls: certificate not signed by the worker's identity")
	// ErrEvidence: the evidence is refused; the refusal of package attest is inside.
	ErrEvidence = errors.New("ratls: evidence refused")
	// ErrBinding: the evidence is good and binds another key or statement.
	ErrBinding = errors.New("ratls: evidence does not bind this certificate")
	// ErrNotAdmitted: the evidence is good and not what the chain admitted.
	ErrNotAdmitted = errors.New("ratls: worker is not as the chain admitted it")
)

// oid names the extension. Arcs below 2.25 need no registration (ITU-T X.667); the number
// was drawn at random.
var oid = asn1.ObjectIdentifier{2, 25, 1632790421, 1}

// A Statement is what a certificate's evidence and identity signature bind.
type Statement struct {
	Chain     string
	Worker    identity.PublicKey
	NotBefore time.Time // whole seconds
	NotAfter  time.Time
	Key       []byte // SubjectPublicKeyInfo of the TLS key, DER
}

// SignedBytes is what the IdentityKey signs.
func (s *Statement) SignedBytes() []byte {
	return transcript.Bytes("phala/ra-tls/v1", []byte(s.Chain), s.Worker[:],
		transcript.U64(uint64(s.NotBefore.Unix())), transcript.U64(uint64(s.NotAfter.Unix())), s.Key)
}

// ReportData is what the evidence carries: the SHA-256 of SignedBytes, then zeros.
func (s *Statement) ReportData() (d [64]byte) {
	h := sha256.Sum256(s.SignedBytes())
	copy(d[:], h[:])
	return d
}

// extension is what the certificate holds beside X.509's own fields.
type extension struct {
	chain     string
	worker    identity.PublicKey
	evidence  []byte
	signature [identity.SignatureSize]byte
}

func (e *extension) marshal() []byte {
	return new(wire.Writer).String(e.chain).Fixed(e.worker[:]).Blob(e.evidence).Fixed(e.signature[:]).Bytes()
}

func parseExtension(b []byte) (*extension, error) {
	r := wire.NewReader(b)
	e := &extension{chain: r.String(64), worker: r.Array32(), evidence: r.Blob(attest.MaxEvidence)}
	r.Fixed(e.signature[:])
	return e, r.Close()
}

// An Endorser signs a statement with the worker's identity and obtains evidence with its
// report data.
type Endorser func(*Statement) (signature [identity.SignatureSize]byte, evidence attest.Evidence, err error)

// Issue makes a TLS key and its certificate for a worker, valid from now on.
func Issue(rng io.Reader, chain string, worker identity.PublicKey, now time.Time, endorse Endorser) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rng)
	if err != nil {
		return nil, fmt.Errorf("ratls: key: %w", err)
	}
	s := Statement{Chain: chain, Worker: worker, NotBefore: now.Add(-backdate).UTC().Truncate(time.Second)}
	s.NotAfter = s.NotBefore.Add(Validity)
	if s.Key, err = x509.MarshalPKIXPublicKey(&key.PublicKey); err != nil {
		return nil, fmt.Errorf("ratls: key: %w", err)
	}
	signature, ev, err := endorse(&s)
	if err != nil {
		return nil, fmt.Errorf("ratls: endorsement: %w", err)
	}
	e := extension{chain: chain, worker: s.Worker, evidence: ev.Marshal(), signature: signature}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(s.Worker[:8]), Subject: pkix.Name{CommonName: s.Worker.Hex()},
		NotBefore: s.NotBefore, NotAfter: s.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: oid, Value: e.marshal()}},
	}
	der, err := x509.CreateCertificate(rng, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("ratls: certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("ratls: certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
