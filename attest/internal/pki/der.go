// Package pki reads the X.509 certificates and revocation lists of TEE
// vendors, and checks their signatures.
//
// It exists because a verdict must be the same on every validator, for ever:
// crypto/x509 changes what it accepts between Go releases, and it imports the
// network. The subset here is what Intel and AMD issue: DER only, ECDSA with
// P-256 or P-384, RSA-PSS with SHA-384. Everything else is refused.
package pki

import (
	"errors"
	"time"
)

// DER tags.
const (
	tagBoolean         = 0x01
	tagInteger         = 0x02
	tagBitString       = 0x03
	tagOctetString     = 0x04
	tagNull            = 0x05
	tagOID             = 0x06
	tagEnumerated      = 0x0a
	tagUTF8String      = 0x0c
	tagPrintableString = 0x13
	tagIA5String       = 0x16
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
)

var errDER = errors.New("not strict DER")

// DER reads a series of DER elements. The first error sticks.
type DER struct {
	rest []byte
	bad  bool
}

// NewDER reads the elements in b.
func NewDER(b []byte) *DER { return &DER{rest: b} }

// Err is nil when everything was read without fault and nothing is left.
func (d *DER) Err() error {
	if d.bad || len(d.rest) != 0 {
		return errDER
	}
	return nil
}

// More reports whether elements are left.
func (d *DER) More() bool { return !d.bad && len(d.rest) > 0 }

// Peek reports whether the next element has this tag.
func (d *DER) Peek(tag byte) bool { return d.More() && d.rest[0] == tag }

// Any reads one element: its tag, contents, and whole encoding.
func (d *DER) Any() (tag byte, body, raw []byte) {
	b := d.rest
	if d.bad || len(b) < 2 || b[0]&0x1f == 0x1f {
		d.bad = true
		return 0, nil, nil
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		// Long form: one to three length bytes, minimal.
		k := n & 0x7f
		if k < 1 || k > 3 || len(b) < 2+k || b[2] == 0 {
			d.bad = true
			return 0, nil, nil
		}
		n = 0
		for _, c := range b[2 : 2+k] {
			n = n<<8 | int(c)
		}
		if n < 0x80 {
			d.bad = true
			return 0, nil, nil
		}
		head += k
	}
	if n > len(b)-head {
		d.bad = true
		return 0, nil, nil
	}
	d.rest = b[head+n:]
	return b[0], b[head : head+n : head+n], b[: head+n : head+n]
}

// Body reads one element of the given tag and returns its contents.
func (d *DER) Body(tag byte) []byte {
	t, body, _ := d.Any()
	if t != tag {
		d.bad = true
		return nil
	}
	return body
}

// Raw reads one element of the given tag and returns its whole encoding.
func (d *DER) Raw(tag byte) []byte {
	t, _, raw := d.Any()
	if t != tag {
		d.bad = true
		return nil
	}
	return raw
}

// Sequence reads a SEQUENCE and returns a reader of its contents.
func (d *DER) Sequence() *DER {
	body := d.Body(tagSequence)
	return &DER{rest: body, bad: d.bad}
}

// Explicit reads an element of the given tag that holds one SEQUENCE, and
// returns a reader of that one's contents.
func (d *DER) Explicit(tag byte) *DER {
	outer := &DER{rest: d.Body(tag), bad: d.bad}
	inner := outer.Sequence()
	inner.bad = inner.bad || outer.Err() != nil
	return inner
}

// OID reads an object identifier and returns its encoded contents as a
// string, fit for comparison.
func (d *DER) OID() string {
	b := d.Body(tagOID)
	if len(b) == 0 || b[len(b)-1]&0x80 != 0 {
		d.bad = true
	}
	return string(b)
}

// Octets reads an OCTET STRING.
func (d *DER) Octets() []byte { return d.Body(tagOctetString) }

// IntegerBytes reads an INTEGER and returns its minimal contents.
func (d *DER) IntegerBytes() []byte {
	b := d.Body(tagInteger)
	if !minimalInteger(b) {
		d.bad = true
		return nil
	}
	return b
}

// Uint reads a non-negative INTEGER or ENUMERATED of at most max.
func (d *DER) Uint(tag byte, max uint32) uint32 {
	b := d.Body(tag)
	if !minimalInteger(b) || b[0]&0x80 != 0 || len(b) > 5 {
		d.bad = true
		return 0
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	if n > uint64(max) {
		d.bad = true
		return 0
	}
	return uint32(n)
}

// Integer reads a non-negative INTEGER of at most max.
func (d *DER) Integer(max uint32) uint32 { return d.Uint(tagInteger, max) }

// Enumerated reads a non-negative ENUMERATED of at most max.
func (d *DER) Enumerated(max uint32) uint32 { return d.Uint(tagEnumerated, max) }

// Bool reads a BOOLEAN.
func (d *DER) Bool() bool {
	b := d.Body(tagBoolean)
	if len(b) != 1 || (b[0] != 0 && b[0] != 0xff) {
		d.bad = true
		return false
	}
	return b[0] == 0xff
}

// BitString reads a BIT STRING with a whole number of octets.
func (d *DER) BitString() []byte {
	b := d.Body(tagBitString)
	if len(b) < 1 || b[0] != 0 {
		d.bad = true
		return nil
	}
	return b[1:]
}

// Time reads a UTCTime or GeneralizedTime in the only form that RFC 5280
// allows: seconds, and Z.
func (d *DER) Time() time.Time {
	tag, b, _ := d.Any()
	s := string(b)
	layout := "20060102150405Z"
	switch {
	case d.bad:
	case tag == tagUTCTime && len(s) == 13:
		// RFC 5280 §4.1.2.5.1: two digits of year stand for 1950-2049.
		if s[0] >= '5' {
			s = "19" + s
		} else {
			s = "20" + s
		}
	case tag == tagGeneralizedTime && len(s) == 15:
	default:
		d.bad = true
	}
	if d.bad {
		return time.Time{}
	}
	t, err := time.Parse(layout, s)
	if err != nil || t.Format(layout) != s {
		d.bad = true
		return time.Time{}
	}
	return t
}

func minimalInteger(b []byte) bool {
	switch {
	case len(b) == 0:
		return false
	case len(b) == 1:
		return true
	}
	return !(b[0] == 0 && b[1]&0x80 == 0) && !(b[0] == 0xff && b[1]&0x80 != 0)
}

// EncodeOID returns the encoded contents of an object identifier, the form
// that [DER.OID] returns.
func EncodeOID(arcs ...uint32) string {
	out := []byte{byte(40*arcs[0] + arcs[1])}
	for _, a := range arcs[2:] {
		var tmp [5]byte
		i := len(tmp) - 1
		tmp[i] = byte(a & 0x7f)
		for a >>= 7; a > 0; a >>= 7 {
			i--
			tmp[i] = byte(a&0x7f) | 0x80
		}
		out = append(out, tmp[i:]...)
	}
	return string(out)
}
