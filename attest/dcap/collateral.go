package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"math/big"
	"time"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/pki"
)

// Collateral is what Intel publishes about a platform family, and what a
// verdict needs besides the quote. The root is not part of it: it is pinned.
type Collateral struct {
	TCBInfo             []byte // the signed JSON text of "tcbInfo"
	TCBInfoSignature    []byte // r ‖ s, 64 bytes
	TCBInfoSigner       []byte // DER certificate, issued by the root
	QEIdentity          []byte // the signed JSON text of "enclaveIdentity"
	QEIdentitySignature []byte
	QEIdentitySigner    []byte
	PCKCA               []byte // DER certificate of the CA that signs PCKCRL
	PCKCRL              []byte // DER
	RootCRL             []byte // DER
}

// Fields returns pointers to the parts in the order of their encoding.
func (c *Collateral) Fields() []*[]byte {
	return []*[]byte{
		&c.TCBInfo, &c.TCBInfoSignature, &c.TCBInfoSigner,
		&c.QEIdentity, &c.QEIdentitySignature, &c.QEIdentitySigner,
		&c.PCKCA, &c.PCKCRL, &c.RootCRL,
	}
}

// CollateralInfo is what a verified collateral is about.
type CollateralInfo struct {
	TEE              TEE
	FMSPC            [6]byte
	CA               CA
	Evaluation       uint32 // tcbEvaluationDataNumber of the TCB info
	TCBInfoIssued    time.Time
	QEEvaluation     uint32
	QEIdentityIssued time.Time
	Expiry           time.Time // the last moment at which every part is valid

	pckCRL, rootCRL *pki.CRL
}

// verified is a collateral of which every signature and date was checked.
type verified struct {
	info CollateralInfo
	tcb  *tcbInfo
	qe   *qeIdentity
	ca   *pki.Certificate
	pck  *pki.CRL
}

// VerifyCollateral checks every signature, chain, revocation and date of a
// collateral, without a quote, and says what it is about.
func VerifyCollateral(c *Collateral, root *Root, now time.Time) (*CollateralInfo, error) {
	v, err := verifyCollateral(c, root, now)
	if err != nil {
		return nil, err
	}
	return &v.info, nil
}

func verifyCollateral(c *Collateral, root *Root, now time.Time) (*verified, error) {
	v := new(verified)
	if !root.cert.ValidAt(now) {
		return nil, fault.New(fault.PCKExpired, "root certificate")
	}
	expiry := root.cert.NotAfter

	rootCRL, err := parseCRL(c.RootCRL, root.cert, now, "root CRL")
	if err != nil {
		return nil, err
	}
	if v.ca, err = pki.ParseCertificate(c.PCKCA); err != nil {
		return nil, fault.Wrap(fault.PCKChain, "PCK CA", err)
	}
	name, ok := caOf(v.ca)
	if !ok {
		return nil, fault.New(fault.PCKChain, "PCK CA is not named as one")
	}
	if err := v.ca.IssuedBy(root.cert); err != nil {
		return nil, fault.Wrap(fault.PCKChain, "PCK CA", err)
	}
	if !v.ca.ValidAt(now) {
		return nil, fault.New(fault.PCKExpired, "PCK CA")
	}
	if rootCRL.Revokes(v.ca.Serial) {
		return nil, fault.New(fault.PCKCARevoked, "")
	}
	if v.pck, err = parseCRL(c.PCKCRL, v.ca, now, "PCK CRL"); err != nil {
		return nil, err
	}

	tcbSigner, err := verifySigner(c.TCBInfoSigner, root.cert, rootCRL, now, fault.TCBInfoChain, fault.TCBInfoRevoked)
	if err != nil {
		return nil, err
	}
	if !verifyRaw(tcbSigner.ECDSA, c.TCBInfo, c.TCBInfoSignature) {
		return nil, fault.New(fault.TCBInfoSignature, "")
	}
	// Signed first, parsed second: nothing unsigned is interpreted.
	if v.tcb, err = parseTCBInfo(c.TCBInfo); err != nil {
		return nil, err
	}
	if err := checkDates(v.tcb.issueDate, v.tcb.nextUpdate, now, fault.TCBInfoFuture, fault.TCBInfoExpired); err != nil {
		return nil, err
	}

	qeSigner := tcbSigner
	if !bytes.Equal(c.QEIdentitySigner, c.TCBInfoSigner) {
		qeSigner, err = verifySigner(c.QEIdentitySigner, root.cert, rootCRL, now, fault.QEChain, fault.QERevoked)
		if err != nil {
			return nil, err
		}
	}
	if !verifyRaw(qeSigner.ECDSA, c.QEIdentity, c.QEIdentitySignature) {
		return nil, fault.New(fault.QESignature, "")
	}
	if v.qe, err = parseQEIdentity(c.QEIdentity); err != nil {
		return nil, err
	}
	if err := checkDates(v.qe.issueDate, v.qe.nextUpdate, now, fault.QEFuture, fault.QEExpired); err != nil {
		return nil, err
	}
	if want := map[TEE]string{SGX: "QE", TDX: "TD_QE"}[v.tcb.tee]; v.qe.id != want {
		return nil, fault.New(fault.QEID, v.qe.id+", expected "+want)
	}

	for _, t := range []time.Time{
		v.ca.NotAfter, tcbSigner.NotAfter, qeSigner.NotAfter,
		rootCRL.NextUpdate, v.pck.NextUpdate, v.tcb.nextUpdate, v.qe.nextUpdate,
	} {
		expiry = earlier(expiry, t)
	}
	v.info = describe(v.tcb, v.qe, name, v.pck, rootCRL)
	v.info.Expiry = expiry
	return v, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func parseCRL(der []byte, ca *pki.Certificate, now time.Time, name string) (*pki.CRL, error) {
	crl, err := pki.ParseCRL(der)
	if err != nil {
		return nil, fault.Wrap(fault.CRLMalformed, name, err)
	}
	if err := crl.IssuedBy(ca); err != nil {
		return nil, fault.Wrap(fault.CRLSignature, name, err)
	}
	if !crl.ValidAt(now) {
		return nil, fault.New(fault.CRLExpired, name)
	}
	return crl, nil
}

// verifySigner checks a TCB signing certificate: an end entity, issued by the
// root itself, not revoked.
func verifySigner(der []byte, root *pki.Certificate, rootCRL *pki.CRL, now time.Time, chain, revoked fault.Code) (*pki.Certificate, error) {
	c, err := pki.ParseCertificate(der)
	if err != nil {
		return nil, fault.Wrap(chain, "signer", err)
	}
	switch {
	case c.IsCA:
		return nil, fault.New(chain, "signer is a certificate authority")
	case c.CommonName != NameTCBSigning:
		return nil, fault.New(chain, "signer is not named "+NameTCBSigning)
	case c.KeyUsage&pki.UsageDigitalSignature == 0:
		return nil, fault.New(chain, "signer may not sign")
	}
	if err := c.IssuedBy(root); err != nil {
		return nil, fault.Wrap(chain, "signer", err)
	}
	if !c.ValidAt(now) {
		return nil, fault.New(chain, "signer is not valid at this time")
	}
	if rootCRL.Revokes(c.Serial) {
		return nil, fault.New(revoked, "")
	}
	return c, nil
}

func checkDates(issued, next, now time.Time, future, expired fault.Code) error {
	if now.Before(issued) {
		return fault.New(future, "issued "+issued.Format(time.RFC3339)+", time is "+now.UTC().Format(time.RFC3339))
	}
	if now.After(next) {
		return fault.New(expired, "next update "+next.Format(time.RFC3339)+", time is "+now.UTC().Format(time.RFC3339))
	}
	return nil
}

// verifyRaw checks a raw P-256 signature r ‖ s over SHA-256 of message.
func verifyRaw(key *ecdsa.PublicKey, message, sig []byte) bool {
	if key == nil || len(sig) != signatureSize {
		return false
	}
	h := sha256.Sum256(message)
	return ecdsa.Verify(key, h[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:]))
}

// Describe says what a collateral is about without checking a signature or a
// date: for one that was verified when it was stored, and may have expired
// since. Its Expiry is zero.
func Describe(c *Collateral) (*CollateralInfo, error) {
	tcb, err := parseTCBInfo(c.TCBInfo)
	if err != nil {
		return nil, err
	}
	qe, err := parseQEIdentity(c.QEIdentity)
	if err != nil {
		return nil, err
	}
	ca, err := pki.ParseCertificate(c.PCKCA)
	if err != nil {
		return nil, fault.Wrap(fault.PCKChain, "PCK CA", err)
	}
	name, ok := caOf(ca)
	if !ok {
		return nil, fault.New(fault.PCKChain, "PCK CA is not named as one")
	}
	pck, err := pki.ParseCRL(c.PCKCRL)
	if err != nil {
		return nil, fault.Wrap(fault.CRLMalformed, "PCK CRL", err)
	}
	root, err := pki.ParseCRL(c.RootCRL)
	if err != nil {
		return nil, fault.Wrap(fault.CRLMalformed, "root CRL", err)
	}
	info := describe(tcb, qe, name, pck, root)
	return &info, nil
}

func describe(tcb *tcbInfo, qe *qeIdentity, ca CA, pck, root *pki.CRL) CollateralInfo {
	return CollateralInfo{
		TEE: tcb.tee, FMSPC: tcb.fmspc, CA: ca,
		Evaluation: tcb.evaluation, TCBInfoIssued: tcb.issueDate,
		QEEvaluation: qe.evaluation, QEIdentityIssued: qe.issueDate,
		pckCRL: pck, rootCRL: root,
	}
}

// Newer checks that next may replace held: it is about the same platforms, no
// part of it is older, and at least one is newer. Both were verified, so
// nobody's word is needed, and nobody can turn the clock back.
func (held *CollateralInfo) Newer(next *CollateralInfo) error {
	if held.TEE != next.TEE || held.FMSPC != next.FMSPC || held.CA != next.CA {
		return fault.New(fault.CollateralIncompat, "")
	}
	order := []int{
		compare(next.Evaluation, held.Evaluation),
		next.TCBInfoIssued.Compare(held.TCBInfoIssued),
		compare(next.QEEvaluation, held.QEEvaluation),
		next.QEIdentityIssued.Compare(held.QEIdentityIssued),
		held.pckCRL.Compare(next.pckCRL),
		held.rootCRL.Compare(next.rootCRL),
	}
	newer := false
	for i, c := range order {
		if c < 0 {
			part := []string{"TCB evaluation number", "TCB info", "QE evaluation number", "QE identity", "PCK CRL", "root CRL"}[i]
			return fault.New(fault.CollateralNotNewer, part+" is older than what is held")
		}
		newer = newer || c > 0
	}
	if !newer {
		return fault.New(fault.CollateralNotNewer, "it is what is held")
	}
	return nil
}

// CheckLists checks that next's revocation lists are not older than held's.
func (held *CollateralInfo) CheckLists(next *CollateralInfo) error {
	if held.pckCRL.Compare(next.pckCRL) < 0 || held.rootCRL.Compare(next.rootCRL) < 0 {
		return fault.New(fault.CollateralNotNewer, "a revocation list is older than what is held")
	}
	return nil
}

// Revises reports whether next, which is newer than held, may judge a platform worse: it
// has another evaluation of TCB levels, or revokes what held does not. Intel signs the
// same content anew about daily.
func (held *CollateralInfo) Revises(next *CollateralInfo) bool {
	return next.Evaluation != held.Evaluation || next.QEEvaluation != held.QEEvaluation ||
		held.pckCRL.RevokesMore(next.pckCRL) || held.rootCRL.RevokesMore(next.rootCRL)
}

func compare(a, b uint32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
