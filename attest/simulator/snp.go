package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"time"

	"github.com/phala-go/phala/attest/snp"
)

var errNoSNP = errors.New("this simulated network was made without SNP roots")

// snpTCB is the simulated platform's version.
var snpTCB = snp.TCB{FMC: 1, Bootloader: 4, TEE: 1, SNP: 24, Microcode: 219}

// RawTCB encodes a TCB in the layout of a product.
func RawTCB(t snp.TCB, p snp.Product) [8]byte {
	if p == snp.Turin {
		return [8]byte{0: t.FMC, 1: t.Bootloader, 2: t.TEE, 3: t.SNP, 7: t.Microcode}
	}
	return [8]byte{0: t.Bootloader, 1: t.TEE, 6: t.SNP, 7: t.Microcode}
}

// Report returns what this machine's secure processor would sign for a guest
// of this measurement.
func (m *Machine) Report(measurement []byte, reportData [64]byte) *snp.Report {
	tcb := RawTCB(snpTCB, m.product)
	r := &snp.Report{
		Version: 3, Policy: 0x30000, PlatformInfo: 0x25, ReportData: reportData,
		CurrentTCB: tcb, ReportedTCB: tcb, CommittedTCB: tcb, LaunchTCB: tcb,
		CPUID: [3]byte{0x19, 0x01, 0x01}, ChipID: m.ChipID,
	}
	copy(r.Measurement[:], measurement)
	for i := range r.ReportIDMA {
		r.ReportIDMA[i] = 0xff // no migration agent
	}
	return r
}

// SignReport encodes and signs a report.
func SignReport(r *snp.Report, vcek *ecdsa.PrivateKey) ([]byte, error) {
	b := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x00:], r.Version)
	le.PutUint32(b[0x04:], r.GuestSVN)
	le.PutUint64(b[0x08:], r.Policy)
	le.PutUint32(b[0x30:], r.VMPL)
	le.PutUint32(b[0x34:], 1) // signature algorithm: ECDSA P-384 with SHA-384
	le.PutUint64(b[0x40:], r.PlatformInfo)
	le.PutUint32(b[0x48:], r.SignerInfo)
	for _, f := range []struct {
		at  int
		src []byte
	}{
		{0x10, r.FamilyID[:]}, {0x20, r.ImageID[:]}, {0x38, r.CurrentTCB[:]},
		{0x50, r.ReportData[:]}, {0x90, r.Measurement[:]}, {0xc0, r.HostData[:]},
		{0xe0, r.IDKeyDigest[:]}, {0x110, r.AuthorKeyDigest[:]}, {0x140, r.ReportID[:]},
		{0x160, r.ReportIDMA[:]}, {0x180, r.ReportedTCB[:]}, {0x188, r.CPUID[:]}, {0x1a0, r.ChipID[:]},
		{0x1e0, r.CommittedTCB[:]}, {0x1f0, r.LaunchTCB[:]},
	} {
		copy(b[f.at:], f.src)
	}
	h := sha512.Sum384(b[:0x2a0])
	x, s, err := ecdsa.Sign(rand.Reader, vcek, h[:])
	if err != nil {
		return nil, err
	}
	n := elliptic.P384().Params().N
	if s.Cmp(new(big.Int).Rsh(n, 1)) > 0 {
		s.Sub(n, s)
	}
	for i, v := range []*big.Int{x, s} {
		le := v.FillBytes(make([]byte, 48))
		slices.Reverse(le)
		copy(b[0x2a0+72*i:], le)
	}
	return b, nil
}

// VCEKExtensions are the AMD extensions of a VCEK.
func VCEKExtensions(p snp.Product, chipID [64]byte, t snp.TCB) ([]pkix.Extension, error) {
	oid := func(arcs ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs...)
	}
	name, err := asn1.MarshalWithParams(string(p)+"-B1", "ia5")
	if err != nil {
		return nil, err
	}
	out := []pkix.Extension{{Id: oid(2), Value: name}}
	versions := map[int]uint8{1: t.Bootloader, 2: t.TEE, 3: t.SNP, 4: 0, 5: 0, 6: 0, 7: 0, 8: t.Microcode}
	if p == snp.Turin {
		versions[9] = t.FMC
	}
	for i := 0; i <= 9; i++ {
		v, ok := versions[i]
		id := oid(3, i)
		if i == 0 {
			id, v, ok = oid(1), 1, true // structure version
		}
		if !ok {
			continue
		}
		der, err := asn1.Marshal(int(v))
		if err != nil {
			return nil, err
		}
		out = append(out, pkix.Extension{Id: id, Value: der})
	}
	id := chipID[:]
	if p == snp.Turin {
		id = chipID[:8]
	}
	return append(out, pkix.Extension{Id: oid(4), Value: id}), nil
}

// newVCEK makes a chip's endorsement key and its certificate.
func (n *Network) newVCEK(now time.Time, chipID [64]byte) (Authority, error) {
	if n.ASK.Cert == nil {
		return Authority{}, errNoSNP
	}
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return Authority{}, err
	}
	profile := LeafProfile("SEV-VCEK")
	profile.Key, profile.Bare = key, true
	if profile.Extensions, err = VCEKExtensions(n.Product, chipID, snpTCB); err != nil {
		return Authority{}, err
	}
	return NewAuthority(now, profile, &n.ASK)
}
