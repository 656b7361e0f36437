package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/snp"
)

// Machine is one simulated processor: an identity, the keys that certify what
// runs on it, and the secret under its sealing keys.
type Machine struct {
	Secret      [32]byte
	PPID        [16]byte // Intel's identity, derived from the secret
	ChipID      [64]byte // AMD's
	PCK         Authority
	Attestation *ecdsa.PrivateKey // of its quoting enclaves
	VCEK        Authority         // zero on a network without SNP

	root, pckCA []byte
	product     snp.Product
}

// NewMachine makes a processor of the network.
func (n *Network) NewMachine(now time.Time) (*Machine, error) {
	m := &Machine{}
	rand.Read(m.Secret[:])
	m.identify(n)
	var err error
	if m.Attestation, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	if m.PCK, err = n.NewPCK(now, m.PCKExtension(), nil); err != nil {
		return nil, err
	}
	if n.ASK.Cert != nil {
		m.VCEK, err = n.newVCEK(now, m.ChipID)
	}
	return m, err
}

// identify derives the machine's identities and takes what it needs of the
// network.
func (m *Machine) identify(n *Network) {
	id := sha512.Sum512(append([]byte("simulated machine identity"), m.Secret[:]...))
	copy(m.PPID[:], id[:16])
	m.ChipID = sha512.Sum512(append([]byte("simulated chip identity"), m.Secret[:]...))
	if n.Product == snp.Turin {
		clear(m.ChipID[8:])
	}
	m.root, m.pckCA, m.product = n.Root.Cert.Raw, n.PCKCA.Cert.Raw, n.Product
}

// PCKExtension is what the machine's PCK certificate says of it.
func (m *Machine) PCKExtension() *PCKExtension {
	e := &PCKExtension{PPID: m.PPID, FMSPC: FMSPC, PCESVN: pceSVN}
	for i := range e.SVN {
		e.SVN[i] = componentSVN
	}
	return e
}

// NewPCK issues a PCK certificate with the given extension; edit may change
// its profile before it is signed.
func (n *Network) NewPCK(now time.Time, e *PCKExtension, edit func(*Profile)) (Authority, error) {
	der, err := e.DER()
	if err != nil {
		return Authority{}, err
	}
	profile := LeafProfile("Intel SGX PCK Certificate")
	profile.Extensions = []pkix.Extension{{Id: oidSGX, Value: der}}
	if edit != nil {
		edit(&profile)
	}
	return NewAuthority(now, profile, &n.PCKCA)
}

// Evidence issues evidence, without collateral, for software of this
// measurement: up to 32 bytes for SGX, up to 48 for TDX and SNP. It fills
// MRENCLAVE, MRTD or MEASUREMENT from the left.
func (m *Machine) Evidence(tee attest.TEE, measurement []byte, reportData [64]byte) (attest.Evidence, error) {
	if err := CheckMeasurement(tee, measurement); err != nil {
		return attest.Evidence{}, err
	}
	e := attest.Evidence{TEE: tee}
	var err error
	switch tee {
	case attest.SGX, attest.TDX:
		e.Report, err = m.Quote(tee, measurement, reportData).Sign(m.Attestation, m.PCK.Key.(*ecdsa.PrivateKey))
	case attest.SNP:
		if m.VCEK.Cert == nil {
			return e, errNoSNP
		}
		e.Certificate = m.VCEK.Cert.Raw
		e.Report, err = SignReport(m.Report(measurement, reportData), m.VCEKKey())
	}
	return e, err
}

// CheckMeasurement refuses a measurement that does not fit a class.
func CheckMeasurement(tee attest.TEE, measurement []byte) error {
	limit := 48
	if tee == attest.SGX {
		limit = 32
	}
	if len(measurement) == 0 || len(measurement) > limit {
		return fmt.Errorf("measurement of %d bytes: %s takes 1 to %d", len(measurement), tee, limit)
	}
	return nil
}

// Measurement is the digest by which an allow-list names software of this
// measurement, run by a simulator.
func Measurement(tee attest.TEE, measurement []byte) ([32]byte, error) {
	if err := CheckMeasurement(tee, measurement); err != nil {
		return [32]byte{}, err
	}
	m := &Machine{product: snp.Milan, PCK: Authority{Cert: new(x509.Certificate)}}
	switch tee {
	case attest.SGX:
		return attest.MeasurementDigest(tee, attest.SGXFields(&m.Quote(tee, measurement, [64]byte{}).Enclave)), nil
	case attest.TDX:
		return attest.MeasurementDigest(tee, attest.TDXFields(&m.Quote(tee, measurement, [64]byte{}).TD)), nil
	default:
		return attest.MeasurementDigest(tee, attest.SNPFields(m.Report(measurement, [64]byte{}))), nil
	}
}

// SealingKey derives a key as SGX's EGETKEY does: it depends on the machine,
// on the measurement, and on a label; no other machine and no other software
// gets it.
func (m *Machine) SealingKey(tee attest.TEE, measurement, label []byte) ([32]byte, error) {
	var key [32]byte
	salt := sha256.Sum256(append([]byte{byte(tee)}, measurement...))
	b, err := hkdf.Key(sha256.New, m.Secret[:], salt[:], "phala/tee-simulator/sealing/v1/"+string(label), len(key))
	copy(key[:], b)
	return key, err
}

// VCEKKey is the chip's endorsement key, nil on a network without SNP.
func (m *Machine) VCEKKey() *ecdsa.PrivateKey {
	key, _ := m.VCEK.Key.(*ecdsa.PrivateKey)
	return key
}
