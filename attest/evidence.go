package attest

import (
	"bytes"
	"encoding/binary"
	"strconv"

	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/snp"
)

// TEE is a class of trusted execution environment. The zero value is none.
type TEE uint8

// The classes. Simulated evidence is of these same classes; what makes it
// simulated is the network's [Roots].
const (
	SGX TEE = 1
	TDX TEE = 2
	SNP TEE = 3
)

// String returns the class's name as flags and JSON use it.
func (t TEE) String() string {
	switch t {
	case SGX:
		return "sgx"
	case TDX:
		return "tdx"
	case SNP:
		return "snp"
	}
	return "tee(" + strconv.Itoa(int(t)) + ")"
}

// ParseTEE is the inverse of [TEE.String].
func ParseTEE(s string) (TEE, error) {
	for _, t := range []TEE{SGX, TDX, SNP} {
		if s == t.String() {
			return t, nil
		}
	}
	return 0, fault.New(fault.EvidenceTEE, strconv.Quote(s)+", known are sgx, tdx and snp")
}

// Bounds of the encodings, in bytes.
const (
	MaxReport      = dcap.MaxQuote
	MaxCertificate = 8 << 10
	MaxCollateral  = 96 << 10
	MaxEvidence    = 10 + MaxReport + MaxCertificate + MaxCollateral + 16
)

// Evidence is what a worker shows to prove what it is.
type Evidence struct {
	TEE TEE
	// Report is the quote (SGX, TDX) or the attestation report (SNP), in
	// canonical form: see [Canonical].
	Report []byte
	// Certificate is the VCEK in DER (SNP). An Intel quote carries its own
	// chain, so it is empty for SGX and TDX.
	Certificate []byte
	// Collateral may be nil in evidence that travels: a chain holds it in
	// state, and fills it in before [Verify].
	Collateral *Collateral
}

// Collateral is what the vendor publishes about a family of platforms.
// Exactly the member that belongs to TEE is set.
type Collateral struct {
	TEE  TEE
	DCAP *dcap.Collateral // SGX, TDX
	SNP  *snp.Collateral
}

func (c *Collateral) fields() ([]*[]byte, error) {
	switch {
	case (c.TEE == SGX || c.TEE == TDX) && c.DCAP != nil && c.SNP == nil:
		return c.DCAP.Fields(), nil
	case c.TEE == SNP && c.SNP != nil && c.DCAP == nil:
		return c.SNP.Fields(), nil
	}
	return nil, fault.New(fault.CollateralMalformed, "its content is not that of its TEE class, "+c.TEE.String())
}

// Encodings: four bytes of magic, of which the last is the version; one byte of
// TEE class; then parts, each after its length in four bytes, big-endian.
const (
	evidenceMagic   = "PEV\x01"
	collateralMagic = "PCO\x01"
)

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

// reader takes length-prefixed parts off a byte string.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

// part reads a part of at most limit bytes.
func (r *reader) part(limit int) []byte {
	head := r.take(4)
	if head == nil {
		return nil
	}
	n := binary.BigEndian.Uint32(head)
	if uint64(n) > uint64(limit) {
		r.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	return r.take(int(n))
}

// Marshal returns the binary encoding, which is unique: report, certificate and
// collateral, absent parts empty. Collateral of which the content does not
// belong to its class is encoded as absent.
func (e Evidence) Marshal() []byte {
	b := append([]byte(evidenceMagic), byte(e.TEE))
	b = appendPart(b, e.Report)
	b = appendPart(b, e.Certificate)
	var c []byte
	if e.Collateral != nil {
		c = e.Collateral.Marshal()
	}
	return appendPart(b, c)
}

// Parse decodes an evidence, which must be all of b. The result shares b's
// memory. The report inside is not interpreted yet.
func Parse(b []byte) (Evidence, error) {
	malformed := func(what string) (Evidence, error) {
		return Evidence{}, fault.New(fault.EvidenceMalformed, what)
	}
	if len(b) > MaxEvidence {
		return malformed(strconv.Itoa(len(b)) + " bytes, at most " + strconv.Itoa(MaxEvidence) + " are allowed")
	}
	r := &reader{b: b}
	if !bytes.Equal(r.take(len(evidenceMagic)), []byte(evidenceMagic)) {
		return malformed("no evidence of a known version")
	}
	e := Evidence{TEE: TEE(r.byte())}
	e.Report = r.part(MaxReport)
	e.Certificate = r.part(MaxCertificate)
	c := r.part(MaxCollateral)
	if r.bad || len(r.b) != 0 {
		return malformed("truncated, over long, or bytes follow it")
	}
	if e.TEE < SGX || e.TEE > SNP {
		return Evidence{}, fault.New(fault.EvidenceTEE, e.TEE.String())
	}
	if (e.TEE == SNP) != (len(e.Certificate) > 0) {
		return malformed("a certificate belongs to SNP evidence, and to no other")
	}
	if len(c) > 0 {
		collateral, err := ParseCollateral(c)
		if err != nil {
			return Evidence{}, err
		}
		if collateral.TEE != e.TEE {
			return Evidence{}, fault.New(fault.CollateralMismatch, collateral.TEE.String()+" collateral in "+e.TEE.String()+" evidence")
		}
		e.Collateral = collateral
	}
	return e, nil
}

// Marshal returns the collateral's unique binary encoding; nil when its
// content does not belong to its class.
func (c *Collateral) Marshal() []byte {
	fields, err := c.fields()
	if err != nil {
		return nil
	}
	b := append([]byte(collateralMagic), byte(c.TEE))
	for _, f := range fields {
		b = appendPart(b, *f)
	}
	return b
}

// ParseCollateral decodes a collateral, which must be all of b. The result
// shares b's memory.
func ParseCollateral(b []byte) (*Collateral, error) {
	if len(b) > MaxCollateral {
		return nil, fault.New(fault.CollateralMalformed, strconv.Itoa(len(b))+" bytes, at most "+strconv.Itoa(MaxCollateral)+" are allowed")
	}
	r := &reader{b: b}
	if !bytes.Equal(r.take(len(collateralMagic)), []byte(collateralMagic)) {
		return nil, fault.New(fault.CollateralMalformed, "no collateral of a known version")
	}
	c := &Collateral{TEE: TEE(r.byte())}
	switch c.TEE {
	case SGX, TDX:
		c.DCAP = new(dcap.Collateral)
	case SNP:
		c.SNP = new(snp.Collateral)
	}
	fields, err := c.fields()
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		*f = r.part(MaxCollateral)
	}
	if r.bad || len(r.b) != 0 {
		return nil, fault.New(fault.CollateralMalformed, "truncated, over long, or bytes follow it")
	}
	return c, nil
}

// Canonical returns a quote or report as hardware gave it in the one form that
// [Verify] accepts. Whoever produces evidence calls it; see [dcap.Canonical]
// and [snp.Canonical].
func Canonical(tee TEE, report []byte) ([]byte, error) {
	switch tee {
	case SGX, TDX:
		return dcap.Canonical(report)
	case SNP:
		return snp.Canonical(report)
	}
	return nil, fault.New(fault.EvidenceTEE, tee.String())
}
