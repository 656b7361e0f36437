package dcap

import (
	"bytes"
	"errors"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/pki"
)

// Subject names of Intel's provisioning certification PKI. A certificate's
// role follows from its place under the root and its constraints; the name is
// checked besides, as Intel's own verification library does.
const (
	NamePCK         = "Intel SGX PCK Certificate"
	NamePlatformCA  = "Intel SGX PCK Platform CA"
	NameProcessorCA = "Intel SGX PCK Processor CA"
	NameTCBSigning  = "Intel SGX TCB Signing"
	NameRootCA      = "Intel SGX Root CA"
)

// CA tells which of the two PCK authorities certified a platform.
type CA string

// The PCK authorities, named as in the provisioning service's interface.
const (
	PlatformCA  CA = "platform"
	ProcessorCA CA = "processor"
)

func caOf(c *pki.Certificate) (CA, bool) {
	switch c.CommonName {
	case NamePlatformCA:
		return PlatformCA, true
	case NameProcessorCA:
		return ProcessorCA, true
	}
	return "", false
}

// Object identifiers of the SGX extension (Intel SGX PCK Certificate and
// Certificate Revocation List Profile Specification, §1.3.5).
var (
	oidSGX      = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1)
	oidPPID     = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 1)
	oidTCB      = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 2)
	oidPCESVN   = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 2, 17)
	oidCPUSVN   = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 2, 18)
	oidPCEID    = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 3)
	oidFMSPC    = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 4)
	oidSGXType  = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 5)
	oidInstance = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 6)
	oidConfig   = pki.EncodeOID(1, 2, 840, 113741, 1, 13, 1, 7)
)

// Platform is what a PCK certificate says of its machine.
type Platform struct {
	PPID     [16]byte // identifies the processor, whatever its TCB
	FMSPC    [6]byte  // family, model, stepping, platform type, custom SKU
	PCEID    [2]byte
	CPUSVN   [16]byte
	PCESVN   uint16
	SVN      [16]uint8 // the components of the CPUSVN
	SGXType  uint8
	Instance [16]byte // of a multi-package platform; zero when absent
}

// ParsePlatform reads the value of a PCK certificate's SGX extension. Every
// member is required but the platform instance and the configuration; none may
// be repeated, and none may be unknown.
func ParsePlatform(extension []byte) (*Platform, error) {
	p := new(Platform)
	outer := pki.NewDER(extension)
	list := outer.Sequence()
	seen := make(map[string]bool, 8)
	for list.More() {
		item := list.Sequence()
		id := item.OID()
		if seen[id] {
			return nil, fault.New(fault.PCKExtension, "a member is repeated")
		}
		seen[id] = true
		ok := true
		switch id {
		case oidPPID:
			ok = fixed(p.PPID[:], item.Octets())
		case oidTCB:
			ok = p.parseTCB(item.Sequence())
		case oidPCEID:
			ok = fixed(p.PCEID[:], item.Octets())
		case oidFMSPC:
			ok = fixed(p.FMSPC[:], item.Octets())
		case oidSGXType:
			p.SGXType = uint8(item.Enumerated(2))
		case oidInstance:
			ok = fixed(p.Instance[:], item.Octets())
		case oidConfig:
			// Dynamic platform, cached keys, SMT: booleans that no status
			// depends on; the TCB level's status speaks of configuration.
			flags := item.Sequence()
			for flags.More() {
				flag := flags.Sequence()
				flag.OID()
				flag.Bool()
				ok = ok && flag.Err() == nil
			}
			ok = ok && flags.Err() == nil
		default:
			return nil, fault.New(fault.PCKExtension, "a member is not known")
		}
		if !ok || item.Err() != nil {
			return nil, fault.New(fault.PCKExtension, "a member is malformed")
		}
	}
	if list.Err() != nil || outer.Err() != nil {
		return nil, fault.New(fault.PCKExtension, "not strict DER")
	}
	for _, id := range []string{oidPPID, oidTCB, oidPCEID, oidFMSPC, oidSGXType} {
		if !seen[id] {
			return nil, fault.New(fault.PCKExtension, "a member is missing")
		}
	}
	return p, nil
}

// parseTCB reads components 1 to 16, PCESVN and CPUSVN, each once.
func (p *Platform) parseTCB(list *pki.DER) bool {
	var seen [18]bool
	for list.More() {
		item := list.Sequence()
		id := item.OID()
		at := -1
		switch id {
		case oidPCESVN:
			p.PCESVN, at = uint16(item.Integer(0xffff)), 16
		case oidCPUSVN:
			if !fixed(p.CPUSVN[:], item.Octets()) {
				return false
			}
			at = 17
		default:
			if len(id) != len(oidTCB)+1 || id[:len(oidTCB)] != oidTCB {
				return false
			}
			at = int(id[len(oidTCB)]) - 1
			if at < 0 || at > 15 {
				return false
			}
			p.SVN[at] = uint8(item.Integer(0xff))
		}
		if seen[at] || item.Err() != nil {
			return false
		}
		seen[at] = true
	}
	for _, s := range seen {
		if !s {
			return false
		}
	}
	return list.Err() == nil
}

func fixed(dst, src []byte) bool {
	return copy(dst, src) == len(dst) && len(src) == len(dst)
}

// Root is a pinned root certificate of a provisioning certification PKI.
type Root struct{ cert *pki.Certificate }

// NewRoot reads a self-signed P-256 authority named as Intel's root is.
func NewRoot(der []byte) (*Root, error) {
	c, err := pki.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	switch {
	case c.CommonName != NameRootCA:
		return nil, errors.New("root certificate is not named " + NameRootCA)
	case c.KeyUsage&pki.UsageCRLSign == 0:
		return nil, errors.New("root certificate may not sign revocation lists")
	}
	if err := c.IssuedBy(c); err != nil {
		return nil, errors.New("root certificate does not certify itself: " + err.Error())
	}
	return &Root{c}, nil
}

// DER returns the root certificate's encoding.
func (r *Root) DER() []byte { return bytes.Clone(r.cert.Raw) }

// Organization is the O of the root's subject.
func (r *Root) Organization() string { return r.cert.Organization }

// PublicKey returns the root's SEC 1 uncompressed public key.
func (r *Root) PublicKey() []byte {
	b, _ := r.cert.ECDSA.Bytes() // the key was parsed from a valid point
	return b
}

// Claims reads from a quote that nobody has verified for which platform family
// and by which authority its PCK certificate claims to be.
func Claims(quote []byte) (fmspc [6]byte, ca CA, err error) {
	q, err := ParseQuote(quote)
	if err != nil {
		return fmspc, "", err
	}
	leaf, err := pki.ParseCertificate(q.PCKChain[0])
	if err != nil {
		return fmspc, "", fault.Wrap(fault.PCKChain, "PCK certificate", err)
	}
	issuer, err := pki.ParseCertificate(q.PCKChain[1])
	if err != nil {
		return fmspc, "", fault.Wrap(fault.PCKChain, "PCK CA", err)
	}
	ca, ok := caOf(issuer)
	if !ok {
		return fmspc, "", fault.New(fault.PCKChain, "PCK CA is not named as one")
	}
	platform, err := ParsePlatform(leaf.Extensions[oidSGX])
	if err != nil {
		return fmspc, "", err
	}
	return platform.FMSPC, ca, nil
}
