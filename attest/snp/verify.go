package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/pki"
)

// Product is a line of processors, each with a root of its own.
type Product string

// The products that can be verified.
const (
	Milan Product = "Milan"
	Genoa Product = "Genoa"
	Turin Product = "Turin"
)

var products = []Product{Milan, Genoa, Turin}

// Subject names of AMD's PKI.
const (
	prefixARK = "ARK-"
	prefixASK = "SEV-"
	nameVCEK  = "SEV-VCEK"
)

// Object identifiers of a VCEK's extensions (AMD, VCEK Certificate and KDS
// Interface Specification, §3.1).
var (
	oidProduct    = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 2)
	oidBootloader = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 3, 1)
	oidTEE        = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 3, 2)
	oidSNP        = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 3, 3)
	oidMicrocode  = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 3, 8)
	oidFMC        = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 3, 9)
	oidHardwareID = pki.EncodeOID(1, 3, 6, 1, 4, 1, 3704, 1, 4)
)

// Root is a pinned ARK, the root certificate of one product.
type Root struct {
	cert    *pki.Certificate
	product Product
}

// NewRoot reads a self-signed authority named as AMD names its roots.
func NewRoot(der []byte) (*Root, error) {
	c, err := pki.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	product := Product(strings.TrimPrefix(c.CommonName, prefixARK))
	if !slices.Contains(products, product) || c.CommonName != prefixARK+string(product) {
		return nil, errors.New("root certificate is not named ARK- and a known product")
	}
	if err := c.IssuedBy(c); err != nil {
		return nil, errors.New("root certificate does not certify itself: " + err.Error())
	}
	return &Root{c, product}, nil
}

// DER returns the root certificate's encoding.
func (r *Root) DER() []byte { return bytes.Clone(r.cert.Raw) }

// Product is the line of processors the root is for.
func (r *Root) Product() Product { return r.product }

// Organization is the O of the root's subject.
func (r *Root) Organization() string { return r.cert.Organization }

// Collateral is what is needed about a product besides report and VCEK: the
// ASK, and the ARK's revocation list if there is one at hand.
type Collateral struct {
	ASK []byte // DER certificate
	CRL []byte // DER, may be empty
}

// Fields returns pointers to the parts in the order of their encoding.
func (c *Collateral) Fields() []*[]byte { return []*[]byte{&c.ASK, &c.CRL} }

// CollateralInfo is what a verified collateral is about.
type CollateralInfo struct {
	Product Product
	Expiry  time.Time

	crl *pki.CRL // nil without one
}

// Newer checks that next may replace held: the same product, and a later CRL.
func (held *CollateralInfo) Newer(next *CollateralInfo) error {
	switch {
	case held.Product != next.Product:
		return fault.New(fault.CollateralIncompat, "")
	case next.crl == nil, held.crl != nil && held.crl.Compare(next.crl) <= 0:
		return fault.New(fault.CollateralNotNewer, "CRL")
	}
	return nil
}

// Revises reports whether next, which is newer than held, revokes what held does not.
func (held *CollateralInfo) Revises(next *CollateralInfo) bool {
	return next.crl != nil && held.crl.RevokesMore(next.crl)
}

// Describe says what a collateral is about without checking a signature or a
// date: for one that was verified when it was stored, and may have expired
// since. Its Expiry is zero.
func Describe(c *Collateral) (*CollateralInfo, error) {
	ask, err := pki.ParseCertificate(c.ASK)
	if err != nil {
		return nil, fault.Wrap(fault.VCEKChain, "ASK", err)
	}
	info := &CollateralInfo{Product: Product(strings.TrimPrefix(ask.CommonName, prefixASK))}
	if len(c.CRL) > 0 {
		crl, err := pki.ParseCRL(c.CRL)
		if err != nil {
			return nil, fault.Wrap(fault.CRLMalformed, "ARK's CRL", err)
		}
		info.crl = crl
	}
	return info, nil
}

// VerifyCollateral checks chain, dates and revocation of a collateral, and
// says what it is about.
func VerifyCollateral(c *Collateral, roots []*Root, now time.Time) (*CollateralInfo, error) {
	_, info, err := verifyCollateral(c, roots, now)
	return info, err
}

func verifyCollateral(c *Collateral, roots []*Root, now time.Time) (*pki.Certificate, *CollateralInfo, error) {
	ask, err := pki.ParseCertificate(c.ASK)
	if err != nil {
		return nil, nil, fault.Wrap(fault.VCEKChain, "ASK", err)
	}
	var root *Root
	for _, r := range roots {
		if ask.CommonName == prefixASK+string(r.product) {
			root = r
		}
	}
	if root == nil {
		return nil, nil, fault.New(fault.RootsUnknown, "no root for an ASK named "+strconv.Quote(ask.CommonName))
	}
	if err := ask.IssuedBy(root.cert); err != nil {
		return nil, nil, fault.Wrap(fault.VCEKChain, "ASK", err)
	}
	if !root.cert.ValidAt(now) || !ask.ValidAt(now) {
		return nil, nil, fault.New(fault.VCEKExpired, "ASK or ARK")
	}
	info := &CollateralInfo{Product: root.product, Expiry: earlier(root.cert.NotAfter, ask.NotAfter)}
	if len(c.CRL) > 0 {
		crl, err := pki.ParseCRL(c.CRL)
		if err != nil {
			return nil, nil, fault.Wrap(fault.CRLMalformed, "ARK's CRL", err)
		}
		if err := crl.IssuedBy(root.cert); err != nil {
			return nil, nil, fault.Wrap(fault.CRLSignature, "ARK's CRL", err)
		}
		if !crl.ValidAt(now) {
			return nil, nil, fault.New(fault.CRLExpired, "ARK's CRL")
		}
		if crl.Revokes(ask.Serial) {
			return nil, nil, fault.New(fault.ASKRevoked, "")
		}
		info.crl = crl
		info.Expiry = earlier(info.Expiry, crl.NextUpdate)
	}
	return ask, info, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Result is what a verified report proves.
type Result struct {
	Report  *Report
	Product Product
	// TCBs in the layout of the product.
	Reported, Committed, Current, Launch TCB
	RevocationChecked                    bool // the collateral had a CRL
	Expiry                               time.Time
}

// Verify checks a report in canonical form and its VCEK against collateral and
// pinned roots, at a time given by the caller. It reads no clock, file or
// network.
func Verify(report, vcek []byte, c *Collateral, roots []*Root, now time.Time) (*Result, error) {
	r, err := ParseReport(report)
	if err != nil {
		return nil, err
	}
	if err := checkSigner(r); err != nil {
		return nil, err
	}
	ask, info, err := verifyCollateral(c, roots, now)
	if err != nil {
		return nil, err
	}
	leaf, err := pki.ParseCertificate(vcek)
	if err != nil {
		return nil, fault.Wrap(fault.VCEKChain, "VCEK", err)
	}
	switch {
	case leaf.IsCA || leaf.CommonName != nameVCEK || leaf.ECDSA == nil || leaf.ECDSA.Curve.Params().BitSize != 384:
		return nil, fault.New(fault.VCEKChain, "certificate is not a VCEK")
	case !leaf.ValidAt(now):
		return nil, fault.New(fault.VCEKExpired, "VCEK")
	}
	if err := leaf.IssuedBy(ask); err != nil {
		return nil, fault.Wrap(fault.VCEKChain, "VCEK", err)
	}
	h := sha512.Sum384(r.signed)
	if !ecdsa.Verify(leaf.ECDSA, h[:], r.r, r.s) {
		return nil, fault.New(fault.ReportSignature, "")
	}
	result := &Result{
		Report: r, Product: info.Product,
		Reported: tcb(r.ReportedTCB, info.Product), Committed: tcb(r.CommittedTCB, info.Product),
		Current: tcb(r.CurrentTCB, info.Product), Launch: tcb(r.LaunchTCB, info.Product),
		RevocationChecked: info.crl != nil,
		Expiry:            earlier(info.Expiry, leaf.NotAfter),
	}
	if err := checkVCEK(leaf, result); err != nil {
		return nil, err
	}
	if !result.Reported.atMost(result.Current) || !result.Committed.atMost(result.Current) || !result.Launch.atMost(result.Current) {
		return nil, fault.New(fault.ReportTCB, "reported, committed or launch TCB is above the current one")
	}
	if err := checkGuest(r); err != nil {
		return nil, err
	}
	return result, nil
}

// ReportedVersion is the TCB that the report was signed with, in the layout of a product:
// with the chip it names the VCEK.
func (r *Report) ReportedVersion(p Product) TCB { return tcb(r.ReportedTCB, p) }

func tcb(raw [8]byte, p Product) TCB {
	if p == Turin {
		return TCB{FMC: raw[0], Bootloader: raw[1], TEE: raw[2], SNP: raw[3], Microcode: raw[7]}
	}
	return TCB{Bootloader: raw[0], TEE: raw[1], SNP: raw[6], Microcode: raw[7]}
}

// checkVCEK compares what the VCEK was derived for with what the report says.
func checkVCEK(leaf *pki.Certificate, r *Result) error {
	number := func(oid string) (uint8, error) {
		value, ok := leaf.Extensions[oid]
		d := pki.NewDER(value)
		n := d.Integer(255)
		if !ok || d.Err() != nil {
			return 0, fault.New(fault.VCEKExtension, "a version is missing or malformed")
		}
		return uint8(n), nil
	}
	var cert TCB
	parts := []struct {
		oid string
		dst *uint8
	}{
		{oidBootloader, &cert.Bootloader}, {oidTEE, &cert.TEE}, {oidSNP, &cert.SNP}, {oidMicrocode, &cert.Microcode},
	}
	if r.Product == Turin {
		parts = append(parts, struct {
			oid string
			dst *uint8
		}{oidFMC, &cert.FMC})
	}
	for _, p := range parts {
		n, err := number(p.oid)
		if err != nil {
			return err
		}
		*p.dst = n
	}
	if cert != r.Reported {
		return fault.New(fault.VCEKTCB, "")
	}
	// Which product it is follows from the ASK that signed it. The certificate's
	// own word for it is wrong on some machines; AMD's remedy is the processor's
	// identification in reports of version 3, so only version 2 is held to it.
	if r.Report.Version < 3 {
		d := pki.NewDER(leaf.Extensions[oidProduct])
		product, _, _ := strings.Cut(string(d.Body(0x16)), "-") // an IA5String such as "Milan-B1"
		if d.Err() != nil {
			return fault.New(fault.VCEKExtension, "product name is missing or malformed")
		}
		if Product(product) != r.Product {
			return fault.New(fault.VCEKProduct, strconv.Quote(product))
		}
	}
	// AMD puts the hardware id without a tag into the extension. Turin's has 8
	// bytes, which the report pads with zeros.
	id, want := leaf.Extensions[oidHardwareID], 64
	if r.Product == Turin {
		want = 8
	}
	if len(id) != want {
		return fault.New(fault.VCEKExtension, "hardware id is missing or has not "+strconv.Itoa(want)+" bytes")
	}
	var chip [64]byte
	copy(chip[:], id)
	if chip != r.Report.ChipID {
		return fault.New(fault.VCEKChip, "")
	}
	return nil
}

// Claims reads from a VCEK that nobody has verified by which product's ASK it
// claims to be issued.
func Claims(vcek []byte) (Product, error) {
	c, err := pki.ParseCertificate(vcek)
	if err != nil {
		return "", fault.Wrap(fault.VCEKChain, "VCEK", err)
	}
	product, ok := strings.CutPrefix(c.IssuerCommonName, prefixASK)
	if !ok || !slices.Contains(products, Product(product)) {
		return "", fault.New(fault.VCEKProduct, "issued by "+strconv.Quote(c.IssuerCommonName))
	}
	return Product(product), nil
}

// Bits of SIGNER_INFO.
const (
	signerAuthorKey  = 1 << 0
	signerMaskChip   = 1 << 1
	signerKeyMask    = 7 << 2
	signerKnown      = signerAuthorKey | signerMaskChip | signerKeyMask
	maxVMPL          = 3
	platformReserved = ^uint64(0xbf) // bit 6, and all above SEV-TIO
)

// checkSigner accepts reports by a VCEK only: a VLEK is the cloud's, shared by
// machines, and a masked chip has no identity, so that one machine could be
// many workers.
func checkSigner(r *Report) error {
	switch {
	case r.SignerInfo&^signerKnown != 0:
		return fault.New(fault.ReservedBits, "signer info 0x"+strconv.FormatUint(uint64(r.SignerInfo), 16))
	case r.SignerInfo&signerKeyMask != 0:
		return fault.New(fault.ReportSigner, "")
	case r.SignerInfo&signerMaskChip != 0 || r.ChipID == [64]byte{}:
		return fault.New(fault.ReportMasked, "")
	}
	return nil
}

// Bits of the guest policy.
const (
	policyOne       = 1 << 17 // reserved, must be one
	policyMigration = 1 << 18
	policyDebug     = 1 << 19
	policyKnown     = 1<<26 - 1
)

// checkGuest refuses a guest that its host could look into or move, or of
// which bits are set that this version does not understand.
func checkGuest(r *Report) error {
	switch p := r.Policy; {
	case p&policyDebug != 0:
		return fault.New(fault.Debug, "guest")
	case p&policyMigration != 0:
		return fault.New(fault.Migratable, "")
	case p&policyOne == 0 || p&^policyKnown != 0:
		return fault.New(fault.ReservedBits, "guest policy 0x"+strconv.FormatUint(p, 16))
	case r.PlatformInfo&platformReserved != 0:
		return fault.New(fault.ReservedBits, "platform info 0x"+strconv.FormatUint(r.PlatformInfo, 16))
	case r.VMPL > maxVMPL:
		return fault.New(fault.ReportVMPL, "")
	}
	return nil
}

// SameKey reports whether two roots have the same public key.
func (r *Root) SameKey(o *Root) bool { return r.cert.RSA.Equal(o.cert.RSA) }
