package simulator

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/snp"
)

// Validity of what the simulator signs.
const (
	// Backdate is subtracted from the time of issue, so that a chain whose
	// clock is a little behind does not see documents from the future.
	Backdate = time.Hour
	// CollateralValidity is how long collateral is valid, as long as Intel's.
	CollateralValidity = 30 * 24 * time.Hour
	caValidity         = 30 * 365 * 24 * time.Hour
	leafValidity       = 20 * 365 * 24 * time.Hour
)

// Authority is a certificate with its private key.
type Authority struct {
	Key  crypto.Signer
	Cert *x509.Certificate
}

// Network is the PKI of one simulated network: an Intel-like root, its PCK
// authority and TCB signer, and, unless left out, AMD-like ARK and ASK.
type Network struct {
	Root, PCKCA, TCBSigner Authority
	ARK, ASK               Authority // zero without SNP
	Product                snp.Product
}

// NewNetwork makes a PKI with fresh keys. Two networks never share any. The
// RSA keys for SNP take some seconds to find, so withSNP says whether they are
// wanted.
func NewNetwork(now time.Time, withSNP bool) (*Network, error) {
	n := &Network{Product: snp.Milan}
	var ark, ask crypto.Signer
	var arkErr, askErr error
	var wait sync.WaitGroup
	if withSNP {
		wait.Go(func() { ark, arkErr = rsa.GenerateKey(rand.Reader, 4096) })
		wait.Go(func() { ask, askErr = rsa.GenerateKey(rand.Reader, 4096) })
	}
	var err error
	if n.Root, err = NewAuthority(now, CAProfile(dcap.NameRootCA, 1), nil); err == nil {
		n.PCKCA, err = NewAuthority(now, CAProfile(dcap.NamePlatformCA, 0), &n.Root)
	}
	if err == nil {
		n.TCBSigner, err = NewAuthority(now, LeafProfile(dcap.NameTCBSigning), &n.Root)
	}
	wait.Wait()
	if err = errors.Join(err, arkErr, askErr); err != nil || !withSNP {
		return n, err
	}
	profile := CAProfile("ARK-"+string(n.Product), 1)
	profile.Key = ark
	if n.ARK, err = NewAuthority(now, profile, nil); err != nil {
		return nil, err
	}
	profile = CAProfile("SEV-"+string(n.Product), 0)
	profile.Key = ask
	n.ASK, err = NewAuthority(now, profile, &n.ARK)
	return n, err
}

// Roots returns the bytes for the genesis, see [attest.SimulatedRoots].
func (n *Network) Roots() ([]byte, error) {
	var amd [][]byte
	if n.ARK.Cert != nil {
		amd = append(amd, n.ARK.Cert.Raw)
	}
	return attest.EncodeSimulatedRoots(n.Root.Cert.Raw, amd)
}

// Verifier returns the roots by which the network's evidence is judged.
func (n *Network) Verifier() (attest.Roots, error) {
	b, err := n.Roots()
	if err != nil {
		return attest.Roots{}, err
	}
	return attest.SimulatedRoots(b)
}

// Profile says what a certificate is to be like.
type Profile struct {
	CommonName   string
	Organization string        // [attest.SimulatedOrganization] by default
	Subject      *pkix.Name    // replaces both when set
	CRLURL       string        // where the issuer's revocation list would be
	Bare         bool          // no extensions but Extensions, as AMD's leaves are
	Key          crypto.Signer // a new P-256 key by default
	CA           bool
	MaxPath      int
	Usage        x509.KeyUsage
	Extensions   []pkix.Extension
	NotBefore    time.Time // a day before the time of issue by default
	NotAfter     time.Time
	Serial       *big.Int // random by default
}

// CAProfile is the profile of a certificate authority.
func CAProfile(name string, maxPath int) Profile {
	return Profile{CommonName: name, CA: true, MaxPath: maxPath, Usage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

// LeafProfile is the profile of an end entity that signs.
func LeafProfile(name string) Profile {
	return Profile{CommonName: name, Usage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment}
}

// NewAuthority issues a certificate; with a nil issuer it signs itself.
func NewAuthority(now time.Time, p Profile, issuer *Authority) (Authority, error) {
	if p.Key == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return Authority{}, err
		}
		p.Key = key
	}
	if p.Organization == "" {
		p.Organization = attest.SimulatedOrganization
	}
	if p.Serial == nil {
		p.Serial = randomSerial()
	}
	if p.CRLURL == "" {
		p.CRLURL = "https://simulated.invalid/crl"
	}
	if p.NotBefore.IsZero() {
		p.NotBefore = now.Add(-24 * time.Hour)
	}
	if p.NotAfter.IsZero() {
		p.NotAfter = now.Add(leafValidity)
		if p.CA {
			p.NotAfter = now.Add(caValidity)
		}
	}
	template := &x509.Certificate{
		SerialNumber: p.Serial,
		Subject:      pkix.Name{CommonName: p.CommonName, Organization: []string{p.Organization}},
		NotBefore:    p.NotBefore, NotAfter: p.NotAfter,
		KeyUsage: p.Usage, IsCA: p.CA, BasicConstraintsValid: true,
		MaxPathLen: p.MaxPath, MaxPathLenZero: p.CA && p.MaxPath == 0,
		ExtraExtensions:       p.Extensions,
		CRLDistributionPoints: []string{p.CRLURL},
	}
	if p.Subject != nil {
		template.Subject = *p.Subject
	}
	if !p.CA {
		template.MaxPathLen = -1
		// Go adds a subject key identifier to authorities only; Intel's leaves
		// have one too.
		template.SubjectKeyId = p.Serial.FillBytes(make([]byte, 20))
	}
	if p.Bare {
		template.KeyUsage, template.BasicConstraintsValid = 0, false
		template.SubjectKeyId, template.CRLDistributionPoints = nil, nil
	}
	parent, signer := template, p.Key
	if issuer != nil {
		parent, signer = issuer.Cert, issuer.Key
	}
	if _, ok := signer.(*rsa.PrivateKey); ok {
		template.SignatureAlgorithm = x509.SHA384WithRSAPSS
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, p.Key.Public(), signer)
	if err != nil {
		return Authority{}, fmt.Errorf("certificate %q: %w", p.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	return Authority{p.Key, cert}, err
}

func randomSerial() *big.Int {
	var b [20]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40 // positive, and of 20 bytes always
	return new(big.Int).SetBytes(b[:])
}

// CRL issues a revocation list. Its number is the time of issue in seconds.
func (a *Authority) CRL(issued, next time.Time, revoked []*big.Int) ([]byte, error) {
	list := &x509.RevocationList{
		// Intel's lists all have this number, whatever they revoke.
		Number: big.NewInt(1), ThisUpdate: issued, NextUpdate: next,
	}
	for _, serial := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: issued})
	}
	if _, ok := a.Key.(*rsa.PrivateKey); ok {
		list.SignatureAlgorithm = x509.SHA384WithRSAPSS
	}
	return x509.CreateRevocationList(rand.Reader, list, a.Cert, a.Key)
}

// signRaw signs with P-256 and SHA-256 and returns r ‖ s with the low s.
func signRaw(key crypto.Signer, digest []byte) ([]byte, error) {
	der, err := key.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, err
	}
	n := elliptic.P256().Params().N
	if sig.S.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		sig.S.Sub(n, sig.S)
	}
	out := make([]byte, 64)
	sig.R.FillBytes(out[:32])
	sig.S.FillBytes(out[32:])
	return out, nil
}
