package pki

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// MaxCRL bounds the encoding of one revocation list, in bytes.
const MaxCRL = 256 << 10

// CRL is a parsed revocation list, version 2.
type CRL struct {
	RawIssuer  []byte
	ThisUpdate time.Time
	NextUpdate time.Time
	// Number should grow with every list that the issuer makes (RFC 5280 §5.2.3); see Compare.
	Number *big.Int

	revoked [][]byte
	keyID   []byte
	signed  signed
}

// ParseCRL parses one revocation list and nothing after it.
func ParseCRL(der []byte) (*CRL, error) {
	if len(der) > MaxCRL {
		return nil, fmt.Errorf("CRL of %d bytes, at most %d are allowed", len(der), MaxCRL)
	}
	s, tbs, algorithm, err := parseSigned(der)
	if err != nil {
		return nil, fmt.Errorf("CRL: %w", err)
	}
	c := &CRL{signed: s}
	if tbs.Integer(1) != 1 {
		return nil, errors.New("CRL: not version 2")
	}
	if !bytes.Equal(tbs.Raw(tagSequence), algorithm) {
		return nil, errors.New("CRL: inner and outer signature algorithms differ")
	}
	c.RawIssuer = tbs.Raw(tagSequence)
	// A list without a next update would be valid for ever.
	c.ThisUpdate, c.NextUpdate = tbs.Time(), tbs.Time()
	if tbs.Peek(tagSequence) {
		list := tbs.Sequence()
		for list.More() {
			entry := list.Sequence()
			serial := entry.IntegerBytes()
			entry.Time()
			if entry.More() {
				if err := noCritical(entry.Raw(tagSequence)); err != nil {
					return nil, fmt.Errorf("CRL entry: %w", err)
				}
			}
			if entry.Err() != nil {
				return nil, fmt.Errorf("CRL entry: %w", errDER)
			}
			c.revoked = append(c.revoked, serial)
		}
		if list.Err() != nil {
			return nil, fmt.Errorf("CRL: %w", errDER)
		}
	}
	extensions := tbs.Body(0xa0)
	if tbs.Err() != nil {
		return nil, fmt.Errorf("CRL: %w", errDER)
	}
	if err := c.parseExtensions(extensions); err != nil {
		return nil, err
	}
	return c, nil
}

func noCritical(der []byte) error {
	list, err := parseExtensionList(der)
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.critical {
			return errors.New("unknown critical extension")
		}
	}
	return nil
}

func (c *CRL) parseExtensions(der []byte) error {
	list, err := parseExtensionList(der)
	if err != nil {
		return fmt.Errorf("CRL: %w", err)
	}
	for _, e := range list {
		d := NewDER(e.value)
		switch e.oid {
		case oidCRLNumber:
			n := d.IntegerBytes()
			if d.Err() != nil || len(n) > 21 || n[0]&0x80 != 0 {
				return errors.New("CRL: malformed number")
			}
			c.Number = new(big.Int).SetBytes(n)
		case oidAuthorityKeyID:
			if c.keyID, err = parseAuthorityKeyID(d); err != nil {
				return fmt.Errorf("CRL: %w", err)
			}
		default:
			// Among others a delta or an indirect list, or one that covers
			// only some certificates: all of them mark themselves critical.
			if e.critical {
				return errors.New("CRL: unknown critical extension")
			}
		}
	}
	if c.Number == nil {
		return errors.New("CRL: no number")
	}
	return nil
}

// Revokes reports whether the list holds this serial number.
func (c *CRL) Revokes(serial []byte) bool {
	for _, r := range c.revoked {
		if bytes.Equal(r, serial) {
			return true
		}
	}
	return false
}

// Compare orders two lists of one issuer: 1 where next is newer in its number or its date
// and older in neither, 0 where both are the same, -1 otherwise. The number alone does not
// order them: Intel's lists have had the number 1 for years.
func (c *CRL) Compare(next *CRL) int {
	number, date := next.Number.Cmp(c.Number), next.ThisUpdate.Compare(c.ThisUpdate)
	if number < 0 || date < 0 {
		return -1
	}
	return max(number, date)
}

// RevokesMore reports whether next revokes a serial number that this list, which may be
// nil, does not.
func (c *CRL) RevokesMore(next *CRL) bool {
	known := map[string]bool{}
	if c != nil {
		for _, r := range c.revoked {
			known[string(r)] = true
		}
	}
	for _, r := range next.revoked {
		if !known[string(r)] {
			return true
		}
	}
	return false
}

// Len is the number of revoked certificates.
func (c *CRL) Len() int { return len(c.revoked) }

// ValidAt reports whether now lies within the list's validity, ends included.
func (c *CRL) ValidAt(now time.Time) bool {
	return !now.Before(c.ThisUpdate) && !now.After(c.NextUpdate)
}

// IssuedBy checks that ca may sign revocation lists, is named as the list's
// issuer, and signed it.
func (c *CRL) IssuedBy(ca *Certificate) error {
	switch {
	case !ca.IsCA || ca.KeyUsage&UsageCRLSign == 0:
		return errors.New("issuer may not sign revocation lists")
	case !bytes.Equal(c.RawIssuer, ca.RawSubject):
		return errors.New("issuer's name differs")
	case c.keyID != nil && ca.subjectKeyID != nil && !bytes.Equal(c.keyID, ca.subjectKeyID):
		return errors.New("issuer's key identifier differs")
	}
	return c.signed.verify(ca)
}
