package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// MaxCertificate bounds the encoding of one certificate, in bytes.
const MaxCertificate = 8 << 10

// Algorithm is a signature algorithm.
type Algorithm uint8

// The algorithms that TEE vendors sign certificates and lists with.
const (
	ECDSAWithSHA256 Algorithm = iota + 1
	ECDSAWithSHA384
	RSAPSSWithSHA384
)

// KeyUsage bits, RFC 5280 §4.2.1.3.
const (
	UsageDigitalSignature = 1 << 0
	UsageCertSign         = 1 << 5
	UsageCRLSign          = 1 << 6
)

var (
	oidECPublicKey = EncodeOID(1, 2, 840, 10045, 2, 1)
	oidP256        = EncodeOID(1, 2, 840, 10045, 3, 1, 7)
	oidP384        = EncodeOID(1, 3, 132, 0, 34)
	oidRSA         = EncodeOID(1, 2, 840, 113549, 1, 1, 1)
	oidECDSASHA256 = EncodeOID(1, 2, 840, 10045, 4, 3, 2)
	oidECDSASHA384 = EncodeOID(1, 2, 840, 10045, 4, 3, 3)
	oidRSAPSS      = EncodeOID(1, 2, 840, 113549, 1, 1, 10)
	oidMGF1        = EncodeOID(1, 2, 840, 113549, 1, 1, 8)
	oidSHA384      = EncodeOID(2, 16, 840, 1, 101, 3, 4, 2, 2)

	oidCommonName   = EncodeOID(2, 5, 4, 3)
	oidOrganization = EncodeOID(2, 5, 4, 10)

	oidSubjectKeyID   = EncodeOID(2, 5, 29, 14)
	oidKeyUsage       = EncodeOID(2, 5, 29, 15)
	oidBasicConstr    = EncodeOID(2, 5, 29, 19)
	oidCRLNumber      = EncodeOID(2, 5, 29, 20)
	oidAuthorityKeyID = EncodeOID(2, 5, 29, 35)
)

// Certificate is a parsed X.509 v3 certificate. Its slices share the memory of
// the encoding it was parsed from.
type Certificate struct {
	Raw        []byte
	RawIssuer  []byte
	RawSubject []byte
	// Serial is the contents of the DER INTEGER.
	Serial []byte
	// CommonName and Organization are the subject's, "" when absent.
	CommonName       string
	Organization     string
	IssuerCommonName string
	NotBefore        time.Time
	NotAfter         time.Time
	// ECDSA or RSA is the public key; the other is nil.
	ECDSA *ecdsa.PublicKey
	RSA   *rsa.PublicKey

	IsCA     bool
	MaxPath  int // -1: no limit
	KeyUsage int

	// Extensions holds those that this package does not interpret, by OID in
	// the form of [EncodeOID].
	Extensions map[string][]byte

	subjectKeyID   []byte
	authorityKeyID []byte
	signed         signed
}

// signed is the common outer form of certificates and CRLs.
type signed struct {
	tbs       []byte
	algorithm Algorithm
	signature []byte
}

// parseSigned splits SEQUENCE{tbs, algorithm, signature} and returns a reader
// of the tbs and the raw algorithm, which the tbs must repeat.
func parseSigned(der []byte) (s signed, tbs *DER, algorithm []byte, err error) {
	outer := NewDER(der)
	seq := outer.Sequence()
	s.tbs = seq.Raw(tagSequence)
	algorithm = seq.Raw(tagSequence)
	s.signature = seq.BitString()
	if outer.Err() != nil || seq.Err() != nil {
		return s, nil, nil, errDER
	}
	if s.algorithm, err = parseAlgorithm(algorithm); err != nil {
		return s, nil, nil, err
	}
	return s, NewDER(s.tbs).Sequence(), algorithm, nil
}

func parseAlgorithm(raw []byte) (Algorithm, error) {
	seq := NewDER(raw).Sequence()
	switch seq.OID() {
	case oidECDSASHA256:
		if seq.Err() == nil {
			return ECDSAWithSHA256, nil
		}
	case oidECDSASHA384:
		if seq.Err() == nil {
			return ECDSAWithSHA384, nil
		}
	case oidRSAPSS:
		if pssSHA384(seq) {
			return RSAPSSWithSHA384, nil
		}
	}
	return 0, errors.New("signature algorithm not supported")
}

// pssSHA384 reads RSASSA-PSS-params (RFC 4055 §3.1) and accepts SHA-384 for
// both hashes, a salt of 48 bytes, and the default trailer.
func pssSHA384(d *DER) bool {
	params := d.Sequence()
	hash := params.Explicit(0xa0)
	ok := hash.OID() == oidSHA384 && onlyNull(hash)
	mgf := params.Explicit(0xa1)
	ok = ok && mgf.OID() == oidMGF1
	inner := mgf.Sequence()
	ok = ok && inner.OID() == oidSHA384 && onlyNull(inner) && mgf.Err() == nil
	salt := NewDER(params.Body(0xa2))
	ok = ok && salt.Integer(48) == 48 && salt.Err() == nil
	if params.Peek(0xa3) {
		trailer := NewDER(params.Body(0xa3))
		ok = ok && trailer.Integer(1) == 1 && trailer.Err() == nil
	}
	return ok && params.Err() == nil && d.Err() == nil
}

// onlyNull accepts algorithm parameters that are absent or NULL.
func onlyNull(d *DER) bool {
	if d.Peek(tagNull) {
		return len(d.Body(tagNull)) == 0 && d.Err() == nil
	}
	return d.Err() == nil
}

// ParseCertificate parses one certificate and nothing after it.
func ParseCertificate(der []byte) (*Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, fmt.Errorf("certificate of %d bytes, at most %d are allowed", len(der), MaxCertificate)
	}
	c := &Certificate{Raw: der, MaxPath: -1}
	s, tbs, algorithm, err := parseSigned(der)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.signed = s
	version := NewDER(tbs.Body(0xa0))
	if version.Integer(2) != 2 || version.Err() != nil {
		return nil, errors.New("certificate: not version 3")
	}
	c.Serial = tbs.IntegerBytes()
	if !bytes.Equal(tbs.Raw(tagSequence), algorithm) {
		return nil, errors.New("certificate: inner and outer signature algorithms differ")
	}
	c.RawIssuer = tbs.Raw(tagSequence)
	validity := tbs.Sequence()
	c.NotBefore, c.NotAfter = validity.Time(), validity.Time()
	c.RawSubject = tbs.Raw(tagSequence)
	key := tbs.Sequence()
	var extensions []byte
	if tbs.Peek(0xa3) {
		extensions = tbs.Body(0xa3)
	}
	if tbs.Err() != nil || validity.Err() != nil {
		return nil, fmt.Errorf("certificate: %w", errDER)
	}
	if err := c.parseKey(key); err != nil {
		return nil, err
	}
	if c.CommonName, c.Organization, err = parseName(c.RawSubject); err != nil {
		return nil, err
	}
	if c.IssuerCommonName, _, err = parseName(c.RawIssuer); err != nil {
		return nil, err
	}
	if extensions != nil {
		if err := c.parseExtensions(extensions); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Certificate) parseKey(d *DER) error {
	algorithm := d.Sequence()
	bits := d.BitString()
	if d.Err() != nil {
		return fmt.Errorf("certificate's key: %w", errDER)
	}
	switch algorithm.OID() {
	case oidECPublicKey:
		var curve elliptic.Curve
		switch algorithm.OID() {
		case oidP256:
			curve = elliptic.P256()
		case oidP384:
			curve = elliptic.P384()
		default:
			return errors.New("certificate's key: curve not supported")
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, bits)
		if err != nil || algorithm.Err() != nil {
			return errors.New("certificate's key: not a point of its curve")
		}
		c.ECDSA = key
		return nil
	case oidRSA:
		outer := NewDER(bits)
		seq := outer.Sequence()
		n := seq.IntegerBytes()
		e := seq.Integer(65537)
		// AMD's keys are RSA-4096 with exponent 65537.
		if !onlyNull(algorithm) || outer.Err() != nil || seq.Err() != nil || e != 65537 || len(n) != 513 || n[0] != 0 {
			return errors.New("certificate's key: not RSA-4096 with exponent 65537")
		}
		c.RSA = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(e)}
		return nil
	}
	return errors.New("certificate's key: algorithm not supported")
}

func parseName(raw []byte) (cn, org string, err error) {
	d := NewDER(raw)
	seq := d.Sequence()
	for seq.More() {
		set := NewDER(seq.Body(tagSet))
		for first := true; first || set.More(); first = false {
			attr := set.Sequence()
			oid := attr.OID()
			tag, value, _ := attr.Any()
			if attr.Err() != nil {
				return "", "", fmt.Errorf("certificate's name: %w", errDER)
			}
			if tag != tagUTF8String && tag != tagPrintableString && tag != tagIA5String {
				continue
			}
			switch oid {
			case oidCommonName:
				cn = string(value)
			case oidOrganization:
				org = string(value)
			}
		}
		if set.Err() != nil {
			return "", "", fmt.Errorf("certificate's name: %w", errDER)
		}
	}
	if seq.Err() != nil || d.Err() != nil {
		return "", "", fmt.Errorf("certificate's name: %w", errDER)
	}
	return cn, org, nil
}

// extension is one entry of an Extensions sequence.
type extension struct {
	oid      string
	critical bool
	value    []byte
}

// parseExtensionList reads Extensions, refusing repeated ones.
func parseExtensionList(der []byte) ([]extension, error) {
	outer := NewDER(der)
	seq := outer.Sequence()
	var out []extension
	for seq.More() {
		item := seq.Sequence()
		e := extension{oid: item.OID()}
		if item.Peek(tagBoolean) {
			e.critical = item.Bool()
		}
		e.value = item.Octets()
		if item.Err() != nil {
			return nil, fmt.Errorf("extensions: %w", errDER)
		}
		for _, o := range out {
			if o.oid == e.oid {
				return nil, errors.New("extensions: one is repeated")
			}
		}
		if len(out) == 32 {
			return nil, errors.New("extensions: more than 32")
		}
		out = append(out, e)
	}
	if seq.Err() != nil || outer.Err() != nil {
		return nil, fmt.Errorf("extensions: %w", errDER)
	}
	return out, nil
}

func (c *Certificate) parseExtensions(der []byte) error {
	list, err := parseExtensionList(der)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	c.Extensions = make(map[string][]byte, len(list))
	for _, e := range list {
		d := NewDER(e.value)
		switch e.oid {
		case oidBasicConstr:
			seq := d.Sequence()
			if seq.Peek(tagBoolean) {
				c.IsCA = seq.Bool()
			}
			if seq.Peek(tagInteger) {
				c.MaxPath = int(seq.Integer(255))
			}
			err = errors.Join(seq.Err(), d.Err())
		case oidKeyUsage:
			c.KeyUsage, err = parseKeyUsage(d)
		case oidSubjectKeyID:
			c.subjectKeyID = d.Octets()
			err = d.Err()
		case oidAuthorityKeyID:
			c.authorityKeyID, err = parseAuthorityKeyID(d)
		default:
			if e.critical {
				err = errors.New("unknown critical extension")
			}
			c.Extensions[e.oid] = e.value
		}
		if err != nil {
			return fmt.Errorf("certificate's extensions: %w", err)
		}
	}
	return nil
}

func parseKeyUsage(d *DER) (int, error) {
	b := d.Body(tagBitString)
	if d.Err() != nil || len(b) < 2 || len(b) > 3 || b[0] > 7 {
		return 0, errDER
	}
	usage := 0
	for i := range 8 * (len(b) - 1) {
		if b[1+i/8]&(0x80>>(i%8)) != 0 {
			usage |= 1 << i
		}
	}
	return usage, nil
}

func parseAuthorityKeyID(d *DER) ([]byte, error) {
	seq := d.Sequence()
	var id []byte
	if seq.Peek(0x80) {
		id = seq.Body(0x80)
	}
	for seq.More() { // issuer and serial, which name nothing that the key id does not
		seq.Any()
	}
	if seq.Err() != nil || d.Err() != nil {
		return nil, errDER
	}
	return id, nil
}

// ValidAt reports whether now lies within the certificate's validity, ends
// included.
func (c *Certificate) ValidAt(now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// SameContent reports whether two certificates say the same, whatever their signatures.
func (c *Certificate) SameContent(o *Certificate) bool {
	return bytes.Equal(c.signed.tbs, o.signed.tbs)
}

// IssuedBy checks that ca is a certificate authority, is named as c's issuer,
// and signed c.
func (c *Certificate) IssuedBy(ca *Certificate) error {
	switch {
	case !ca.IsCA:
		return errors.New("issuer is not a certificate authority")
	case ca.KeyUsage&UsageCertSign == 0:
		return errors.New("issuer may not sign certificates")
	case !bytes.Equal(c.RawIssuer, ca.RawSubject):
		return errors.New("issuer's name differs")
	case c.authorityKeyID != nil && ca.subjectKeyID != nil && !bytes.Equal(c.authorityKeyID, ca.subjectKeyID):
		return errors.New("issuer's key identifier differs")
	}
	return c.signed.verify(ca)
}

// verify checks the signature with ca's key.
func (s *signed) verify(ca *Certificate) error {
	switch s.algorithm {
	case ECDSAWithSHA256:
		if ca.ECDSA == nil || ca.ECDSA.Curve != elliptic.P256() {
			return errors.New("signature algorithm does not suit the issuer's key")
		}
		h := sha256.Sum256(s.tbs)
		if !ecdsa.VerifyASN1(ca.ECDSA, h[:], s.signature) {
			return errors.New("signature is wrong")
		}
	case ECDSAWithSHA384:
		if ca.ECDSA == nil || ca.ECDSA.Curve != elliptic.P384() {
			return errors.New("signature algorithm does not suit the issuer's key")
		}
		h := sha512.Sum384(s.tbs)
		if !ecdsa.VerifyASN1(ca.ECDSA, h[:], s.signature) {
			return errors.New("signature is wrong")
		}
	case RSAPSSWithSHA384:
		if ca.RSA == nil {
			return errors.New("signature algorithm does not suit the issuer's key")
		}
		h := sha512.Sum384(s.tbs)
		if rsa.VerifyPSS(ca.RSA, crypto.SHA384, h[:], s.signature, &rsa.PSSOptions{SaltLength: 48}) != nil {
			return errors.New("signature is wrong")
		}
	default:
		return errors.New("signature algorithm not supported")
	}
	return nil
}
