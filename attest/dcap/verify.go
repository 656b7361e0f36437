package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"time"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/pki"
)

// Result is what a verified quote proves.
type Result struct {
	Quote     *Quote
	Platform  *Platform
	CA        CA
	PCKSerial []byte // contents of the DER INTEGER
	// Status is the worst of the platform's, the TDX module's and the quoting
	// enclave's; the three follow it.
	Status         Status
	PlatformStatus Status
	ModuleStatus   Status // UpToDate where the platform's level covers the module, and for SGX
	QEStatus       Status
	Advisories     []string  // of all three, sorted
	TCBDate        time.Time // of the platform's level
	Evaluation     uint32    // tcbEvaluationDataNumber
	Expiry         time.Time // the last moment at which every part is valid
}

// Verify checks a quote in canonical form against its collateral and a pinned
// root, at a time given by the caller. It reads no clock, file or network.
//
// A revoked TCB is an error; any other status is a result, for the caller's
// policy to judge.
func Verify(quote []byte, c *Collateral, root *Root, now time.Time) (*Result, error) {
	q, err := ParseQuote(quote)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(q.PCKChain[2], root.cert.Raw) {
		return nil, fault.New(fault.PCKRoot, "the quote's chain ends in another root than the pinned one")
	}
	v, err := verifyCollateral(c, root, now)
	if err != nil {
		return nil, err
	}
	leaf, platform, err := verifyPCK(q, v, root, now)
	if err != nil {
		return nil, err
	}
	if err := q.verifySignatures(leaf); err != nil {
		return nil, err
	}
	return q.judge(v, leaf, platform)
}

// judge compares a quote of which the signatures hold with the collateral.
func (q *Quote) judge(v *verified, leaf *pki.Certificate, platform *Platform) (*Result, error) {
	switch {
	case v.tcb.tee != q.TEE:
		return nil, fault.New(fault.TCBInfoTEE, "TCB info for "+v.tcb.tee.String()+", quote of "+q.TEE.String())
	case v.tcb.fmspc != platform.FMSPC:
		return nil, fault.New(fault.TCBInfoFMSPC, "FMSPC")
	case v.tcb.pceID != platform.PCEID:
		return nil, fault.New(fault.TCBInfoFMSPC, "PCE id")
	}
	qe, err := v.qe.check(&q.QEReport)
	if err != nil {
		return nil, err
	}
	module := standing{status: UpToDate}
	if q.TD != nil {
		if module, err = v.tcb.matchModule(q.TD); err != nil {
			return nil, err
		}
	}
	level, err := v.tcb.match(platform, q.TD)
	if err != nil {
		return nil, err
	}
	r := &Result{
		Quote: q, Platform: platform, CA: v.info.CA, PCKSerial: leaf.Serial,
		PlatformStatus: level.status, ModuleStatus: module.status, QEStatus: qe.status,
		Status:     Converge(Converge(level.status, module.status), qe.status),
		Advisories: mergeAdvisories(level.advisories, module.advisories, qe.advisories),
		TCBDate:    level.date,
		Evaluation: v.tcb.evaluation,
		Expiry:     earlier(v.info.Expiry, leaf.NotAfter),
	}
	if r.Status == Revoked {
		return nil, fault.New(fault.TCBRevoked, "platform "+string(level.status)+", module "+string(module.status))
	}
	if q.TD != nil {
		err = checkTD(q.TD)
	} else {
		err = checkEnclave(q.Enclave)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// verifyPCK checks the quote's chain. Its CA must be the one whose CRL the collateral
// holds. Both are compared without their signatures, which anyone can rewrite to the other
// s: whoever brings collateral could shut out every platform of the CA by it.
func verifyPCK(q *Quote, v *verified, root *Root, now time.Time) (*pki.Certificate, *Platform, error) {
	leaf, err := pki.ParseCertificate(q.PCKChain[0])
	if err != nil {
		return nil, nil, fault.Wrap(fault.PCKChain, "PCK certificate", err)
	}
	ca := v.ca
	if !bytes.Equal(q.PCKChain[1], ca.Raw) {
		other, err := pki.ParseCertificate(q.PCKChain[1])
		if err == nil {
			err = other.IssuedBy(root.cert)
		}
		if err != nil {
			return nil, nil, fault.Wrap(fault.PCKChain, "PCK CA", err)
		}
		if !other.SameContent(ca) {
			return nil, nil, fault.New(fault.CollateralMismatch, "the collateral's CRL is of another CA than the quote's")
		}
	}
	switch {
	case leaf.IsCA:
		return nil, nil, fault.New(fault.PCKChain, "PCK certificate is a certificate authority")
	case leaf.CommonName != NamePCK:
		return nil, nil, fault.New(fault.PCKChain, "PCK certificate is not named "+NamePCK)
	case leaf.KeyUsage&pki.UsageDigitalSignature == 0:
		return nil, nil, fault.New(fault.PCKChain, "PCK certificate may not sign")
	}
	if err := leaf.IssuedBy(ca); err != nil {
		return nil, nil, fault.Wrap(fault.PCKChain, "PCK certificate", err)
	}
	if !leaf.ValidAt(now) {
		return nil, nil, fault.New(fault.PCKExpired, "PCK certificate")
	}
	if v.pck.Revokes(leaf.Serial) {
		return nil, nil, fault.New(fault.PCKRevoked, "")
	}
	extension, ok := leaf.Extensions[oidSGX]
	if !ok {
		return nil, nil, fault.New(fault.PCKExtension, "the certificate has none")
	}
	platform, err := ParsePlatform(extension)
	if err != nil {
		return nil, nil, err
	}
	return leaf, platform, nil
}

// verifySignatures checks PCK → QE report → attestation key → body.
func (q *Quote) verifySignatures(leaf *pki.Certificate) error {
	if !verifyRaw(leaf.ECDSA, q.qeReport, q.qeSignature) {
		return fault.New(fault.QEReportSig, "")
	}
	h := sha256.New()
	h.Write(q.key)
	h.Write(q.QEAuthData)
	var bound [64]byte
	h.Sum(bound[:0])
	if q.QEReport.ReportData != bound {
		return fault.New(fault.QEReportData, "")
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, q.key...))
	if err != nil {
		return fault.New(fault.QuoteKey, "")
	}
	if !verifyRaw(key, q.signed, q.signature) {
		return fault.New(fault.QuoteSignature, "")
	}
	return nil
}

// Bits of a trust domain's attributes (Intel TDX Module 1.5 ABI, ATTRIBUTES).
const (
	tdDebug         = 1 << 0
	tdSeptVEDisable = 1 << 28
	tdMigratable    = 1 << 29
	tdPKS           = 1 << 30
	tdKL            = 1 << 31
	tdPerfMon       = 1 << 63
)

// checkTD refuses a trust domain that its host could look into, or of which
// bits are set that this version does not understand.
func checkTD(td *TDReport) error {
	a := td.TDAttributes
	switch {
	case a&tdDebug != 0:
		return fault.New(fault.Debug, "trust domain")
	case a&tdSeptVEDisable == 0:
		// A host that unmaps pages could steer the guest's exception handler.
		return fault.New(fault.SeptVE, "")
	case a&tdMigratable != 0:
		return fault.New(fault.Migratable, "")
	case a&tdPKS != 0:
		return fault.New(fault.ProtectionKey, "")
	case a&tdKL != 0:
		return fault.New(fault.KeyLocker, "")
	case a&^(tdSeptVEDisable|tdPerfMon) != 0:
		return fault.New(fault.ReservedBits, "TD attributes 0x"+strconv.FormatUint(a, 16))
	}
	return nil
}

// Bits of an enclave's attribute flags (Intel SDM vol. 3D, ATTRIBUTES).
const (
	sgxInit = 1 << 0
	// INIT, MODE64BIT, PROVISIONKEY, EINITTOKENKEY, CET, KSS, AEXNOTIFY; all
	// of them are part of the measurement digest.
	sgxKnown = 1<<0 | 1<<2 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<10
)

func checkEnclave(r *EnclaveReport) error {
	flags := binary.LittleEndian.Uint64(r.Attributes[:8])
	switch {
	case flags&sgxDebug != 0:
		return fault.New(fault.Debug, "enclave")
	case flags&sgxInit == 0:
		return fault.New(fault.NotInit, "")
	case flags&^sgxKnown != 0:
		return fault.New(fault.ReservedBits, "enclave attributes 0x"+strconv.FormatUint(flags, 16))
	}
	return nil
}
