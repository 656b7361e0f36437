package simulator

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
)

// Quote is an Intel quote before it is signed.
type Quote struct {
	Version  uint16 // 3 SGX; 4 or 5 TDX
	TEE      dcap.TEE
	KeyType  uint16
	UserData [20]byte
	Enclave  dcap.EnclaveReport // SGX
	TD       dcap.TDReport      // TDX; with HasTD15 and version 5, the longer body
	// QE is the quoting enclave's report; its ReportData is filled in when the
	// quote is signed, unless KeepReportData is set.
	QE             dcap.EnclaveReport
	KeepReportData bool
	AuthData       []byte
	CertType       uint16
	Chain          [][]byte // DER: PCK certificate, PCK CA, root
}

// Quote returns what this machine's quoting enclave would sign for software of
// this measurement: an SGX quote of version 3, a TDX quote of version 4.
func (m *Machine) Quote(tee attest.TEE, measurement []byte, reportData [64]byte) *Quote {
	q := &Quote{
		Version: 4, TEE: dcap.TDX, KeyType: 2, CertType: 5, AuthData: make([]byte, 32),
		Chain: [][]byte{m.PCK.Cert.Raw, m.pckCA, m.root},
	}
	for i := range q.AuthData {
		q.AuthData[i] = byte(i)
	}
	copy(q.UserData[:], m.PPID[:])
	q.QE = dcap.EnclaveReport{MRSIGNER: qeMRSigner, ISVProdID: 2, ISVSVN: qeISVSVN}
	q.QE.Attributes[0] = 0x11 // INIT, PROVISIONKEY
	for i := range q.QE.CPUSVN {
		q.QE.CPUSVN[i] = componentSVN
	}
	if tee == attest.SGX {
		q.Version, q.TEE, q.QE.ISVProdID = 3, dcap.SGX, 1
		q.Enclave = dcap.EnclaveReport{CPUSVN: q.QE.CPUSVN, MRSIGNER: sha256.Sum256([]byte("simulated signer")), ISVSVN: 1, ReportData: reportData}
		q.Enclave.Attributes = [16]byte{0: 0x05, 8: 0xe7} // INIT, MODE64BIT; XFRM
		copy(q.Enclave.MRENCLAVE[:], measurement)
		return q
	}
	q.TD = dcap.TDReport{TDAttributes: 1 << 28, XFAM: 0x61ae7, ReportData: reportData}
	q.TD.TEETCBSVN = [16]byte{0: moduleSVN, 1: moduleMajor}
	for i := 2; i < 16; i++ {
		q.TD.TEETCBSVN[i] = componentSVN
	}
	q.TD.MRSEAM = [48]byte{0: 0x51}
	copy(q.TD.MRTD[:], measurement)
	return q
}

// Sign returns the quote's bytes, signed by the attestation key, which the PCK
// certifies.
func (q *Quote) Sign(attestationKey *ecdsa.PrivateKey, pck *ecdsa.PrivateKey) ([]byte, error) {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, q.Version)
	b = le.AppendUint16(b, q.KeyType)
	b = le.AppendUint32(b, uint32(q.TEE))
	b = append(b, 0, 0, 0, 0) // QE SVN and PCE SVN, reserved in later versions
	b = append(b, 0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07)
	b = append(b, q.UserData[:]...)
	switch {
	case q.TEE == dcap.SGX:
		b = appendEnclave(b, &q.Enclave)
	case q.Version == 5 && q.TD.HasTD15:
		b = le.AppendUint32(le.AppendUint16(b, 3), 648)
		b = appendTD(b, &q.TD)
		b = append(append(b, q.TD.TEETCBSVN2[:]...), q.TD.MRServiceTD[:]...)
	case q.Version == 5:
		b = le.AppendUint32(le.AppendUint16(b, 2), 584)
		b = appendTD(b, &q.TD)
	default:
		b = appendTD(b, &q.TD)
	}
	digest := sha256.Sum256(b)
	signature, err := signRaw(attestationKey, digest[:])
	if err != nil {
		return nil, err
	}
	point, err := attestationKey.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	qe := q.QE
	if !q.KeepReportData {
		bound := sha256.Sum256(append(point[1:len(point):len(point)], q.AuthData...))
		qe.ReportData = [64]byte{}
		copy(qe.ReportData[:], bound[:])
	}
	report := appendEnclave(nil, &qe)
	digest = sha256.Sum256(report)
	qeSignature, err := signRaw(pck, digest[:])
	if err != nil {
		return nil, err
	}
	inner := append(report, qeSignature...)
	inner = le.AppendUint16(inner, uint16(len(q.AuthData)))
	inner = append(inner, q.AuthData...)
	var chain []byte
	for _, der := range q.Chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	inner = le.AppendUint16(inner, q.CertType)
	inner = le.AppendUint32(inner, uint32(len(chain)))
	inner = append(inner, chain...)

	auth := append(signature, point[1:]...)
	if q.Version >= 4 {
		auth = le.AppendUint16(auth, 6)
		auth = le.AppendUint32(auth, uint32(len(inner)))
	}
	auth = append(auth, inner...)
	b = le.AppendUint32(b, uint32(len(auth)))
	return append(b, auth...), nil
}

func appendEnclave(b []byte, r *dcap.EnclaveReport) []byte {
	le := binary.LittleEndian
	b = append(b, r.CPUSVN[:]...)
	b = le.AppendUint32(b, r.MiscSelect)
	b = append(b, make([]byte, 12)...)
	b = append(b, r.ISVExtProdID[:]...)
	b = append(b, r.Attributes[:]...)
	b = append(b, r.MRENCLAVE[:]...)
	b = append(b, make([]byte, 32)...)
	b = append(b, r.MRSIGNER[:]...)
	b = append(b, make([]byte, 32)...)
	b = append(b, r.ConfigID[:]...)
	b = le.AppendUint16(b, r.ISVProdID)
	b = le.AppendUint16(b, r.ISVSVN)
	b = le.AppendUint16(b, r.ConfigSVN)
	b = append(b, make([]byte, 42)...)
	b = append(b, r.ISVFamilyID[:]...)
	return append(b, r.ReportData[:]...)
}

func appendTD(b []byte, r *dcap.TDReport) []byte {
	le := binary.LittleEndian
	b = append(b, r.TEETCBSVN[:]...)
	b = append(b, r.MRSEAM[:]...)
	b = append(b, r.MRSIGNERSEAM[:]...)
	b = le.AppendUint64(b, r.SEAMAttributes)
	b = le.AppendUint64(b, r.TDAttributes)
	b = le.AppendUint64(b, r.XFAM)
	b = append(b, r.MRTD[:]...)
	b = append(b, r.MRConfigID[:]...)
	b = append(b, r.MROwner[:]...)
	b = append(b, r.MROwnerConfig[:]...)
	for i := range r.RTMR {
		b = append(b, r.RTMR[i][:]...)
	}
	return append(b, r.ReportData[:]...)
}

// PCKExtension is the SGX extension of a PCK certificate.
type PCKExtension struct {
	PPID     [16]byte
	FMSPC    [6]byte
	SVN      [16]uint8
	PCESVN   uint16
	Instance [16]byte
}

type asn1Item struct {
	ID    asn1.ObjectIdentifier
	Value any
}

// oidSGX is the object identifier of the SGX extension.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

func sgxOID(arcs ...int) asn1.ObjectIdentifier {
	return append(append(asn1.ObjectIdentifier{}, oidSGX...), arcs...)
}

// DER encodes the extension's value.
func (e *PCKExtension) DER() ([]byte, error) {
	var tcb []asn1Item
	for i, svn := range e.SVN {
		tcb = append(tcb, asn1Item{sgxOID(2, i+1), int(svn)})
	}
	tcb = append(tcb, asn1Item{sgxOID(2, 17), int(e.PCESVN)}, asn1Item{sgxOID(2, 18), e.SVN[:]})
	return asn1.Marshal([]asn1Item{
		{sgxOID(1), e.PPID[:]},
		{sgxOID(2), tcb},
		{sgxOID(3), []byte{0, 0}},
		{sgxOID(4), e.FMSPC[:]},
		{sgxOID(5), asn1.Enumerated(1)},
		{sgxOID(6), e.Instance[:]},
		{sgxOID(7), []asn1Item{{sgxOID(7, 1), true}, {sgxOID(7, 2), false}, {sgxOID(7, 3), true}}},
	})
}
