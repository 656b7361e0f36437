package snp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"strconv"

	"github.com/phala-go/phala/attest/fault"
)

// ReportSize is the size of an attestation report, in bytes (AMD, SEV Secure
// Nested Paging Firmware ABI Specification, ATTESTATION_REPORT).
const ReportSize = 0x4a0

const (
	signatureOffset = 0x2a0
	sigECDSAP384    = 1
	scalarSize      = 72 // r and s, little-endian, P-384 in the low 48 bytes
)

// TCB is a TCB_VERSION: security version numbers of the platform's parts.
type TCB struct {
	FMC        uint8 // Turin and later
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// atMost reports whether every part of t is at most o's.
func (t TCB) atMost(o TCB) bool {
	return t.FMC <= o.FMC && t.Bootloader <= o.Bootloader && t.TEE <= o.TEE && t.SNP <= o.SNP && t.Microcode <= o.Microcode
}

// Bytes returns the parts in the order of the struct.
func (t TCB) Bytes() [5]byte { return [5]byte{t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode} }

// Report is a parsed attestation report. The TCB fields stay raw until the
// product, which decides their layout, is known from the VCEK.
type Report struct {
	Version         uint32
	GuestSVN        uint32
	Policy          uint64
	FamilyID        [16]byte
	ImageID         [16]byte
	VMPL            uint32
	CurrentTCB      [8]byte
	PlatformInfo    uint64
	SignerInfo      uint32
	ReportData      [64]byte
	Measurement     [48]byte
	HostData        [32]byte
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte
	ReportID        [32]byte
	ReportIDMA      [32]byte
	ReportedTCB     [8]byte
	CPUID           [3]byte // family, model, stepping; version 3 and later
	ChipID          [64]byte
	CommittedTCB    [8]byte
	LaunchTCB       [8]byte

	signed []byte
	r, s   *big.Int
}

var (
	p384N, _ = new(big.Int).SetString("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
	p384Half = new(big.Int).Rsh(p384N, 1)
)

// ParseReport parses a report of version 2 to 5 in its canonical form: reserved
// bytes zero, the signature with the low s (see [Canonical]).
func ParseReport(b []byte) (*Report, error) {
	r, err := parse(b)
	if err != nil {
		return nil, err
	}
	if r.s.Cmp(p384Half) > 0 {
		return nil, fault.New(fault.ReportNotCanonical, "the signature has the high s")
	}
	return r, nil
}

func parse(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		return nil, fault.New(fault.ReportMalformed, strconv.Itoa(len(b))+" bytes, expected "+strconv.Itoa(ReportSize))
	}
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	r := &Report{
		Version: u32(0x00), GuestSVN: u32(0x04), Policy: u64(0x08), VMPL: u32(0x30),
		PlatformInfo: u64(0x40), SignerInfo: u32(0x48), signed: b[:signatureOffset],
	}
	if r.Version < 2 || r.Version > 5 {
		return nil, fault.New(fault.ReportVersion, strconv.Itoa(int(r.Version))+", 2 to 5 are supported")
	}
	if u32(0x34) != sigECDSAP384 {
		return nil, fault.New(fault.ReportVersion, "signature algorithm "+strconv.Itoa(int(u32(0x34)))+", only ECDSA P-384 with SHA-384 (1) is supported")
	}
	for _, f := range []struct {
		at  int
		dst []byte
	}{
		{0x10, r.FamilyID[:]}, {0x20, r.ImageID[:]}, {0x38, r.CurrentTCB[:]},
		{0x50, r.ReportData[:]}, {0x90, r.Measurement[:]}, {0xc0, r.HostData[:]},
		{0xe0, r.IDKeyDigest[:]}, {0x110, r.AuthorKeyDigest[:]}, {0x140, r.ReportID[:]},
		{0x160, r.ReportIDMA[:]}, {0x180, r.ReportedTCB[:]}, {0x1a0, r.ChipID[:]},
		{0x1e0, r.CommittedTCB[:]}, {0x1f0, r.LaunchTCB[:]},
	} {
		copy(f.dst, b[f.at:])
	}
	// Reserved areas, which grew smaller with the versions: version 3 added the
	// CPUID, version 5 the two mitigation vectors.
	cpuid, vectors := 0x188, 0x1f8
	if r.Version >= 3 {
		copy(r.CPUID[:], b[0x188:])
		cpuid = 0x18b
	}
	if r.Version >= 5 {
		vectors = 0x208
	}
	sig := b[signatureOffset:]
	for _, reserved := range [][]byte{
		b[0x4c:0x50], b[cpuid:0x1a0], b[0x1eb:0x1ec], b[0x1ef:0x1f0], b[vectors:signatureOffset],
		sig[48:scalarSize], sig[scalarSize+48:],
	} {
		for _, c := range reserved {
			if c != 0 {
				return nil, fault.New(fault.ReportMalformed, "reserved bytes are not zero")
			}
		}
	}
	r.r, r.s = scalar(sig), scalar(sig[scalarSize:])
	return r, nil
}

// Product is the line of processors that the report's CPUID belongs to (AMD, SEV-SNP
// firmware ABI, CPUID_FAM_ID and CPUID_MOD_ID). It is false where the report has none,
// before version 3, or names another. Nothing here relies on it but who asks for a VCEK.
func (r *Report) Product() (Product, bool) {
	family, model := r.CPUID[0], r.CPUID[1]
	switch {
	case r.Version < 3:
	case family == 0x19 && model <= 0x0f:
		return Milan, true
	case family == 0x19 && (model >= 0x10 && model <= 0x1f || model >= 0xa0 && model <= 0xaf):
		return Genoa, true
	case family == 0x1a && model <= 0x11:
		return Turin, true
	}
	return "", false
}

// VCEKPath is where AMD's key distribution service has the certificate of the key that
// signed the report: the chip's, at the TCB that the report names (AMD, VCEK Certificate and
// KDS Interface Specification, chapter 4).
func (r *Report) VCEKPath(p Product) string {
	t := r.ReportedVersion(p)
	if p == Turin {
		return fmt.Sprintf("/vcek/v1/%s/%x?fmcSPL=%d&blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", p, r.ChipID[:8], t.FMC, t.Bootloader, t.TEE, t.SNP, t.Microcode)
	}
	return fmt.Sprintf("/vcek/v1/%s/%x?blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", p, r.ChipID[:], t.Bootloader, t.TEE, t.SNP, t.Microcode)
}

func scalar(b []byte) *big.Int {
	be := bytes.Clone(b[:48])
	slices.Reverse(be)
	return new(big.Int).SetBytes(be)
}

// Canonical returns the one accepted form of a report that hardware signed:
// the signature with the low s. n-s verifies as well, and what can be varied by
// whoever carries it escapes a check for repetition.
func Canonical(report []byte) ([]byte, error) {
	r, err := parse(report)
	if err != nil {
		return nil, err
	}
	out := bytes.Clone(report)
	if r.s.Cmp(p384Half) > 0 && r.s.Cmp(p384N) < 0 {
		s := new(big.Int).Sub(p384N, r.s).FillBytes(make([]byte, 48))
		slices.Reverse(s)
		copy(out[signatureOffset+scalarSize:], s)
	}
	if _, err := ParseReport(out); err != nil {
		return nil, err
	}
	return out, nil
}
