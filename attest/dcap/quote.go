package dcap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strconv"

	"github.com/phala-go/phala/attest/fault"
)

// MaxQuote bounds a quote, in bytes. Real ones have about 5,000.
const MaxQuote = 16 << 10

// TEE is the kind of enclave a quote or a TCB info is about.
type TEE uint32

// The TEE types of Intel's quote header.
const (
	SGX TEE = 0x00000000
	TDX TEE = 0x00000081
)

// String returns the name that TCB info uses.
func (t TEE) String() string {
	switch t {
	case SGX:
		return "SGX"
	case TDX:
		return "TDX"
	}
	return "0x" + strconv.FormatUint(uint64(t), 16)
}

// Sizes of the fixed parts, in bytes (Intel SGX ECDSA Quote Library Reference,
// appendix A; Intel TDX DCAP Quote Generation Library, appendix A).
const (
	headerSize    = 48
	enclaveSize   = 384
	td10Size      = 584
	td15Size      = 648
	bodyDescSize  = 6
	signatureSize = 64
)

// Values of the quote format.
const (
	keyECDSAP256     = 2 // attestation key type
	bodyTD10         = 2 // body type of quote version 5
	bodyTD15         = 3
	certPCKChain     = 5 // certification data: PEM chain of the PCK certificate
	certQEReport     = 6 // certification data: QE report and what certifies it
	pckChainLength   = 3
	reportDataOffset = 320
)

// intelQEVendor is the vendor id of Intel's quoting enclaves.
var intelQEVendor = [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07}

// EnclaveReport is an SGX report body.
type EnclaveReport struct {
	CPUSVN       [16]byte
	MiscSelect   uint32
	ISVExtProdID [16]byte
	Attributes   [16]byte // flags (8 bytes) and XFRM (8 bytes), little-endian
	MRENCLAVE    [32]byte
	MRSIGNER     [32]byte
	ConfigID     [64]byte
	ISVProdID    uint16
	ISVSVN       uint16
	ConfigSVN    uint16
	ISVFamilyID  [16]byte
	ReportData   [64]byte
}

// TDReport is the measured part of a TDX quote.
type TDReport struct {
	TEETCBSVN      [16]byte
	MRSEAM         [48]byte
	MRSIGNERSEAM   [48]byte
	SEAMAttributes uint64
	TDAttributes   uint64
	XFAM           uint64
	MRTD           [48]byte
	MRConfigID     [48]byte
	MROwner        [48]byte
	MROwnerConfig  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte

	// TDX 1.5 bodies (quote version 5) add these; HasTD15 tells.
	HasTD15     bool
	TEETCBSVN2  [16]byte // the module that runs now, if it was updated under the guest
	MRServiceTD [48]byte
}

// Quote is a parsed quote. Its slices share the memory of the input.
type Quote struct {
	Version    uint16
	TEE        TEE
	QESVN      uint16
	PCESVN     uint16
	UserData   [20]byte
	Enclave    *EnclaveReport // SGX
	TD         *TDReport      // TDX
	QEReport   EnclaveReport
	QEAuthData []byte
	// PCKChain is DER: PCK certificate, PCK CA, root.
	PCKChain [pckChainLength][]byte

	signed      []byte // header and body
	signature   []byte
	key         []byte // X ‖ Y
	qeReport    []byte
	qeSignature []byte
	sigOffset   int // where the two signatures lie in the input
	qeSigOffset int
	certOffset  int // where the PEM chain lies, and its length
	certLength  int
	outerSizeAt int // where the length of the type 6 data lies, 0 when there is none
	length      int // bytes of the input that the quote uses
}

// ReportData returns the 64 bytes that the enclave or guest chose.
func (q *Quote) ReportData() [64]byte {
	if q.TD != nil {
		return q.TD.ReportData
	}
	return q.Enclave.ReportData
}

// cursor reads fixed-size parts; it never reads past its end.
type cursor struct {
	b   []byte
	off int
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.b)-c.off {
		c.bad = true
		return nil
	}
	p := c.b[c.off : c.off+n : c.off+n]
	c.off += n
	return p
}

func (c *cursor) u16() uint16 {
	if p := c.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if p := c.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if p := c.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

// zero reads n reserved bytes.
func (c *cursor) zero(n int) {
	for _, b := range c.take(n) {
		if b != 0 {
			c.bad = true
		}
	}
}

// ParseQuote parses a quote in its canonical form: SGX of version 3, TDX of
// version 4 or 5; no byte left over; both ECDSA signatures with the low s; the
// chain in canonical PEM (see [Canonical]).
func ParseQuote(b []byte) (*Quote, error) {
	q, err := parse(b)
	if err != nil {
		return nil, err
	}
	if q.length != len(b) {
		return nil, fault.New(fault.QuoteMalformed, strconv.Itoa(len(b)-q.length)+" bytes after the quote's end")
	}
	if !lowS(q.signature) {
		return nil, fault.New(fault.QuoteNotCanonical, "the quote's signature has the high s")
	}
	if !lowS(q.qeSignature) {
		return nil, fault.New(fault.QuoteNotCanonical, "the QE report's signature has the high s")
	}
	pem := b[q.certOffset : q.certOffset+q.certLength]
	if !bytes.Equal(pem, encodePEM(q.PCKChain[:])) {
		return nil, fault.New(fault.QuoteNotCanonical, "the PCK chain's PEM is not in canonical form")
	}
	return q, nil
}

// parse reads a quote as hardware gives it; bytes may follow it.
func parse(b []byte) (*Quote, error) {
	if len(b) > MaxQuote {
		return nil, fault.New(fault.QuoteMalformed, strconv.Itoa(len(b))+" bytes, at most "+strconv.Itoa(MaxQuote)+" are allowed")
	}
	truncated := fault.New(fault.QuoteMalformed, "truncated, or a length in it does not fit")
	c := &cursor{b: b}
	q := &Quote{Version: c.u16()}
	keyType := c.u16()
	q.TEE = TEE(c.u32())
	q.QESVN, q.PCESVN = c.u16(), c.u16()
	vendor := c.take(16)
	copy(q.UserData[:], c.take(20))
	if c.bad {
		return nil, truncated
	}
	if keyType != keyECDSAP256 {
		return nil, fault.New(fault.QuoteVersion, "attestation key type "+strconv.Itoa(int(keyType))+", only ECDSA P-256 (2) is supported")
	}
	if !bytes.Equal(vendor, intelQEVendor[:]) {
		return nil, fault.New(fault.QuoteVendor, hex.EncodeToString(vendor))
	}
	switch {
	case q.Version == 3 && q.TEE == SGX:
		q.Enclave = new(EnclaveReport)
		parseEnclave(c, q.Enclave)
	case q.Version == 4 && q.TEE == TDX:
		q.TD = new(TDReport)
		parseTD(c, q.TD)
	case q.Version == 5 && q.TEE == TDX:
		q.TD = new(TDReport)
		kind, size := c.u16(), c.u32()
		switch {
		case kind == bodyTD10 && size == td10Size:
			parseTD(c, q.TD)
		case kind == bodyTD15 && size == td15Size:
			parseTD(c, q.TD)
			q.TD.HasTD15 = true
			copy(q.TD.TEETCBSVN2[:], c.take(16))
			copy(q.TD.MRServiceTD[:], c.take(48))
		default:
			return nil, fault.New(fault.QuoteVersion, "body of type "+strconv.Itoa(int(kind))+" and "+strconv.Itoa(int(size))+" bytes is not supported")
		}
	default:
		return nil, fault.New(fault.QuoteVersion, "version "+strconv.Itoa(int(q.Version))+" for TEE type "+q.TEE.String()+" is not supported")
	}
	q.signed = b[:c.off]
	size := int(c.u32())
	start := c.off
	auth := &cursor{b: c.take(size)}
	if c.bad {
		return nil, truncated
	}
	q.length = c.off
	if err := q.parseAuth(auth, start); err != nil {
		return nil, err
	}
	return q, nil
}

// parseAuth reads the signature data; start is where it lies in the quote.
func (q *Quote) parseAuth(c *cursor, start int) error {
	truncated := fault.New(fault.QuoteMalformed, "signature data: truncated, over long, or a length in it does not fit")
	q.sigOffset = start
	q.signature = c.take(signatureSize)
	q.key = c.take(64)
	if q.Version >= 4 {
		kind := c.u16()
		q.outerSizeAt = start + c.off
		size := c.u32()
		if c.bad {
			return truncated
		}
		if kind != certQEReport {
			return fault.New(fault.QuoteCertType, "outer type "+strconv.Itoa(int(kind))+", only QE report data (6) is supported")
		}
		if int(size) != len(c.b)-c.off {
			return truncated
		}
	}
	q.qeReport = c.take(enclaveSize)
	if q.qeReport != nil {
		inner := &cursor{b: q.qeReport}
		parseEnclave(inner, &q.QEReport)
		if inner.bad {
			return fault.New(fault.QuoteMalformed, "QE report: reserved bytes are not zero")
		}
	}
	q.qeSigOffset = start + c.off
	q.qeSignature = c.take(signatureSize)
	q.QEAuthData = c.take(int(c.u16()))
	kind := c.u16()
	size := int(c.u32())
	if c.bad {
		return truncated
	}
	if kind != certPCKChain {
		return fault.New(fault.QuoteCertType, "type "+strconv.Itoa(int(kind))+", only a PCK chain (5) can be verified")
	}
	q.certOffset, q.certLength = start+c.off, size
	pem := c.take(size)
	if c.bad || c.off != len(c.b) {
		return truncated
	}
	chain, err := decodePEM(pem, pckChainLength)
	if err != nil {
		return fault.Wrap(fault.PCKChain, "PEM", err)
	}
	if len(chain) != pckChainLength {
		return fault.New(fault.PCKChain, strconv.Itoa(len(chain))+" certificates, expected PCK certificate, PCK CA and root")
	}
	copy(q.PCKChain[:], chain)
	return nil
}

// parseEnclave reads an SGX report body, whose reserved bytes must be zero.
func parseEnclave(c *cursor, r *EnclaveReport) {
	copy(r.CPUSVN[:], c.take(16))
	r.MiscSelect = c.u32()
	c.zero(12)
	copy(r.ISVExtProdID[:], c.take(16))
	copy(r.Attributes[:], c.take(16))
	copy(r.MRENCLAVE[:], c.take(32))
	c.zero(32)
	copy(r.MRSIGNER[:], c.take(32))
	c.zero(32)
	copy(r.ConfigID[:], c.take(64))
	r.ISVProdID, r.ISVSVN, r.ConfigSVN = c.u16(), c.u16(), c.u16()
	c.zero(42)
	copy(r.ISVFamilyID[:], c.take(16))
	copy(r.ReportData[:], c.take(64))
}

func parseTD(c *cursor, r *TDReport) {
	copy(r.TEETCBSVN[:], c.take(16))
	copy(r.MRSEAM[:], c.take(48))
	copy(r.MRSIGNERSEAM[:], c.take(48))
	r.SEAMAttributes, r.TDAttributes, r.XFAM = c.u64(), c.u64(), c.u64()
	copy(r.MRTD[:], c.take(48))
	copy(r.MRConfigID[:], c.take(48))
	copy(r.MROwner[:], c.take(48))
	copy(r.MROwnerConfig[:], c.take(48))
	for i := range r.RTMR {
		copy(r.RTMR[i][:], c.take(48))
	}
	copy(r.ReportData[:], c.take(64))
}
