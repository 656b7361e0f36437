package snp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/attest/snp"
)

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

type bench struct {
	network *simulator.Network
	machine *simulator.Machine
	root    *snp.Root
}

var newBench = sync.OnceValue(func() *bench {
	n, err := simulator.NewNetwork(testNow, true)
	if err != nil {
		panic(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		panic(err)
	}
	root, err := snp.NewRoot(n.ARK.Cert.Raw)
	if err != nil {
		panic(err)
	}
	return &bench{n, m, root}
})

// trial is one case before it is signed.
type trial struct {
	*bench
	report     *snp.Report
	pub        *simulator.Publication
	vcek       simulator.Authority
	roots      []*snp.Root
	now        time.Time
	editReport func([]byte) []byte
	editResult func(*snp.Collateral)
}

func newTrial() *trial {
	b := newBench()
	return &trial{
		bench: b, vcek: b.machine.VCEK, roots: []*snp.Root{b.root}, now: testNow,
		report: b.machine.Report([]byte("measured software"), [64]byte{1, 2, 3}),
		pub:    b.network.Publication(attest.SNP, testNow, simulator.State{}),
	}
}

func (tr *trial) bytes(t testing.TB) ([]byte, []byte, *snp.Collateral) {
	t.Helper()
	report, err := simulator.SignReport(tr.report, tr.vcek.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	if tr.editReport != nil {
		report = tr.editReport(report)
	}
	c, err := tr.network.Collateral(tr.pub)
	if err != nil {
		t.Fatal(err)
	}
	if tr.editResult != nil {
		tr.editResult(c.SNP)
	}
	return report, tr.vcek.Cert.Raw, c.SNP
}

func (tr *trial) verify(t testing.TB) (*snp.Result, error) {
	t.Helper()
	report, vcek, c := tr.bytes(t)
	return snp.Verify(report, vcek, c, tr.roots, tr.now)
}

// newVCEK certifies a chip with the given extensions and profile.
func (tr *trial) newVCEK(t testing.TB, product snp.Product, chip [64]byte, tcb snp.TCB, issuer *simulator.Authority, edit func(*simulator.Profile)) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := simulator.LeafProfile("SEV-VCEK")
	p.Key = key
	if p.Extensions, err = simulator.VCEKExtensions(product, chip, tcb); err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&p)
	}
	if tr.vcek, err = simulator.NewAuthority(testNow, p, issuer); err != nil {
		t.Fatal(err)
	}
}

var tcb = snp.TCB{Bootloader: 4, TEE: 1, SNP: 24, Microcode: 219}

func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name    string
		checked bool
		edit    func(*trial)
	}{
		{"with a revocation list", true, func(*trial) {}},
		{"without one", false, func(tr *trial) { tr.editResult = func(c *snp.Collateral) { c.CRL = nil } }},
		{"version 2", true, func(tr *trial) { tr.report.Version, tr.report.CPUID = 2, [3]byte{} }},
		{"version 5", true, func(tr *trial) { tr.report.Version = 5 }},
		{"an older launch and committed TCB", true, func(tr *trial) {
			older := tcb
			older.SNP--
			tr.report.LaunchTCB, tr.report.CommittedTCB = simulator.RawTCB(older, snp.Milan), simulator.RawTCB(older, snp.Milan)
		}},
		{"privilege level 3", true, func(tr *trial) { tr.report.VMPL = 3 }},
		{"VCEK that calls its product wrongly, version 3", true, func(tr *trial) {
			tr.newVCEK(t, snp.Genoa, tr.machine.ChipID, tcb, &tr.network.ASK, nil)
		}},
		{"author key in use", true, func(tr *trial) { tr.report.SignerInfo = 1 }},
	} {
		tr := newTrial()
		c.edit(tr)
		r, err := tr.verify(t)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if r.RevocationChecked != c.checked || r.Report.ReportData != [64]byte{1, 2, 3} || r.Reported != tcb || r.Product != snp.Milan {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

func TestRefused(t *testing.T) {
	older := tcb
	older.Microcode--
	for _, c := range []struct {
		name string
		code fault.Code
		edit func(*testing.T, *trial)
	}{
		{"debug", fault.Debug, func(_ *testing.T, tr *trial) { tr.report.Policy |= 1 << 19 }},
		{"migration agent", fault.Migratable, func(_ *testing.T, tr *trial) { tr.report.Policy |= 1 << 18 }},
		{"reserved policy bit", fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.report.Policy |= 1 << 40 }},
		{"policy bit that must be one", fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.report.Policy &^= 1 << 17 }},
		{"reserved platform bit", fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.report.PlatformInfo |= 1 << 6 }},
		{"reserved signer bit", fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.report.SignerInfo = 1 << 5 }},
		{"signed by a VLEK", fault.ReportSigner, func(_ *testing.T, tr *trial) { tr.report.SignerInfo = 1 << 2 }},
		{"signed by none", fault.ReportSigner, func(_ *testing.T, tr *trial) { tr.report.SignerInfo = 7 << 2 }},
		{"chip masked", fault.ReportMasked, func(_ *testing.T, tr *trial) { tr.report.SignerInfo = 2 }},
		{"chip without identity", fault.ReportMasked, func(_ *testing.T, tr *trial) { tr.report.ChipID = [64]byte{} }},
		{"asked for by the host", fault.ReportVMPL, func(_ *testing.T, tr *trial) { tr.report.VMPL = 0xffffffff }},
		{"version 1", fault.ReportVersion, func(_ *testing.T, tr *trial) { tr.report.Version = 1 }},
		{"version 6", fault.ReportVersion, func(_ *testing.T, tr *trial) { tr.report.Version = 6 }},
		{"signature algorithm 2", fault.ReportVersion, func(_ *testing.T, tr *trial) {
			tr.editReport = func(b []byte) []byte { b[0x34] = 2; return b }
		}},
		{"CPUID in version 2", fault.ReportMalformed, func(_ *testing.T, tr *trial) { tr.report.Version = 2 }},
		{"truncated", fault.ReportMalformed, func(_ *testing.T, tr *trial) {
			tr.editReport = func(b []byte) []byte { return b[:len(b)-1] }
		}},
		{"trailing byte", fault.ReportMalformed, func(_ *testing.T, tr *trial) {
			tr.editReport = func(b []byte) []byte { return append(b, 0) }
		}},
		{"byte after the signature", fault.ReportMalformed, func(_ *testing.T, tr *trial) {
			tr.editReport = func(b []byte) []byte { b[len(b)-1] = 1; return b }
		}},
		{"high s", fault.ReportNotCanonical, func(_ *testing.T, tr *trial) { tr.editReport = flipS }},
		{"changed report data", fault.ReportSignature, func(_ *testing.T, tr *trial) {
			tr.editReport = func(b []byte) []byte { b[0x50] ^= 1; return b }
		}},
		{"reported TCB above the current one", fault.ReportTCB, func(_ *testing.T, tr *trial) {
			tr.report.CurrentTCB = simulator.RawTCB(older, snp.Milan)
			tr.report.LaunchTCB, tr.report.CommittedTCB = tr.report.CurrentTCB, tr.report.CurrentTCB
		}},
		{"committed TCB above the current one", fault.ReportTCB, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, older, &tr.network.ASK, nil)
			tr.report.CurrentTCB = simulator.RawTCB(older, snp.Milan)
			tr.report.ReportedTCB = tr.report.CurrentTCB
		}},
		{"VCEK of another TCB", fault.VCEKTCB, func(_ *testing.T, tr *trial) { tr.report.ReportedTCB = simulator.RawTCB(older, snp.Milan) }},
		{"VCEK of another chip", fault.VCEKChip, func(_ *testing.T, tr *trial) { tr.report.ChipID[63] ^= 1 }},
		{"VCEK of another product, version 2", fault.VCEKProduct, func(t *testing.T, tr *trial) {
			tr.report.Version, tr.report.CPUID = 2, [3]byte{}
			tr.newVCEK(t, snp.Genoa, tr.machine.ChipID, tcb, &tr.network.ASK, nil)
		}},
		{"VCEK without a product, version 2", fault.VCEKExtension, func(t *testing.T, tr *trial) {
			tr.report.Version, tr.report.CPUID = 2, [3]byte{}
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) { p.Extensions = p.Extensions[1:] })
		}},
		{"VCEK without versions", fault.VCEKExtension, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) {
				p.Extensions = slices.DeleteFunc(p.Extensions, func(e pkix.Extension) bool { return e.Id[8] == 3 })
			})
		}},
		{"VCEK with a short chip identity", fault.VCEKExtension, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) {
				last := &p.Extensions[len(p.Extensions)-1]
				last.Value = last.Value[:63]
			})
		}},
		{"VCEK issued by the ARK", fault.VCEKChain, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ARK, nil)
		}},
		{"VCEK that is an authority", fault.VCEKChain, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) {
				p.CA, p.Usage = true, x509.KeyUsageCertSign
			})
		}},
		{"VCEK by another name", fault.VCEKChain, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) { p.CommonName = "SEV-VLEK" })
		}},
		{"VCEK expired", fault.VCEKExpired, func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) { p.NotAfter = testNow.Add(-time.Second) })
		}},
		{"ASK revoked", fault.ASKRevoked, func(_ *testing.T, tr *trial) {
			tr.pub.RevokedByRoot = []*big.Int{tr.network.ASK.Cert.SerialNumber}
		}},
		{"CRL expired", fault.CRLExpired, func(_ *testing.T, tr *trial) { tr.pub.CRLNext = testNow.Add(-time.Second) }},
		{"CRL forged", fault.CRLSignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *snp.Collateral) { c.CRL[len(c.CRL)-1] ^= 1 }
		}},
		{"CRL truncated", fault.CRLMalformed, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *snp.Collateral) { c.CRL = c.CRL[:len(c.CRL)-1] }
		}},
		{"ASK forged", fault.VCEKChain, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *snp.Collateral) {
				c.ASK = bytes.Clone(c.ASK)
				c.ASK[len(c.ASK)-1] ^= 1
			}
		}},
		{"ARK in place of the ASK", fault.RootsUnknown, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *snp.Collateral) { c.ASK = tr.network.ARK.Cert.Raw }
		}},
		{"no root", fault.RootsUnknown, func(_ *testing.T, tr *trial) { tr.roots = nil }},
		{"AMD's own root", fault.VCEKChain, func(t *testing.T, tr *trial) { tr.roots = amdRoots(t) }},
		{"a hundred years later", fault.VCEKExpired, func(_ *testing.T, tr *trial) { tr.now = testNow.AddDate(100, 0, 0) }},
		{"ten years later", fault.CRLExpired, func(_ *testing.T, tr *trial) { tr.now = testNow.AddDate(10, 0, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial()
			c.edit(t, tr)
			r, err := tr.verify(t)
			if r != nil || !errors.Is(err, c.code) {
				t.Fatalf("got %v, %v; want %s", r, err, c.code)
			}
		})
	}
}

// TestExpiryIsTheFirst: whatever ends first ends the verdict, at its last moment.
func TestExpiryIsTheFirst(t *testing.T) {
	end := testNow.Add(time.Hour)
	authority := func(t *testing.T, name string, old, issuer *simulator.Authority) simulator.Authority {
		p := simulator.CAProfile(name, 1)
		p.Key, p.NotAfter = old.Key, end
		a, err := simulator.NewAuthority(testNow, p, issuer)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, c := range []struct {
		name string
		edit func(*testing.T, *trial)
	}{
		{"VCEK", func(t *testing.T, tr *trial) {
			tr.newVCEK(t, snp.Milan, tr.machine.ChipID, tcb, &tr.network.ASK, func(p *simulator.Profile) { p.NotAfter = end })
		}},
		{"ASK", func(t *testing.T, tr *trial) {
			ask := authority(t, "SEV-Milan", &tr.network.ASK, &tr.network.ARK)
			tr.editResult = func(c *snp.Collateral) { c.ASK = ask.Cert.Raw }
		}},
		{"ARK", func(t *testing.T, tr *trial) {
			root, err := snp.NewRoot(authority(t, "ARK-Milan", &tr.network.ARK, nil).Cert.Raw)
			if err != nil {
				t.Fatal(err)
			}
			tr.roots = []*snp.Root{root}
		}},
		{"CRL", func(_ *testing.T, tr *trial) { tr.pub.CRLNext = end }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial()
			c.edit(t, tr)
			if r, err := tr.verify(t); err != nil || !r.Expiry.Equal(end) {
				t.Fatalf("%+v, %v; want the end at %v", r, err, end)
			}
			tr.now = end
			if _, err := tr.verify(t); err != nil {
				t.Errorf("at its end: %v", err)
			}
			tr.now = end.Add(1)
			if _, err := tr.verify(t); err == nil {
				t.Error("accepted after its end")
			}
		})
	}
}

// TestTurin: its reports lay the TCB out differently and its chips have a short
// identity. There is no real evidence of one at hand.
func TestTurin(t *testing.T) {
	n := *newBench().network
	n.Product = snp.Turin
	var err error
	for _, a := range []struct {
		name   string
		ca     *simulator.Authority
		issuer *simulator.Authority
	}{{"ARK-Turin", &n.ARK, nil}, {"SEV-Turin", &n.ASK, &n.ARK}} {
		p := simulator.CAProfile(a.name, 1)
		p.Key = a.ca.Key
		if *a.ca, err = simulator.NewAuthority(testNow, p, a.issuer); err != nil {
			t.Fatal(err)
		}
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		t.Fatal(err)
	}
	root, err := snp.NewRoot(n.ARK.Cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrial()
	tr.bench, tr.roots, tr.vcek, tr.report = &bench{&n, m, root}, []*snp.Root{root}, m.VCEK, m.Report([]byte{1}, [64]byte{})
	r, err := tr.verify(t)
	if err != nil {
		t.Fatal(err)
	}
	want := tcb
	want.FMC = 1
	if r.Reported != want || r.Product != snp.Turin {
		t.Fatalf("%+v", r)
	}
	tr.report.ChipID[20] = 1
	if _, err := tr.verify(t); !errors.Is(err, fault.VCEKChip) {
		t.Fatal(err)
	}
}

// flipS replaces s by n-s in a report's signature.
func flipS(b []byte) []byte {
	le := b[0x2a0+72 : 0x2a0+72+48]
	s := bytes.Clone(le)
	slices.Reverse(s)
	s = new(big.Int).Sub(elliptic.P384().Params().N, new(big.Int).SetBytes(s)).FillBytes(make([]byte, 48))
	slices.Reverse(s)
	copy(le, s)
	return b
}

func TestCanonical(t *testing.T) {
	report, _, _ := newTrial().bytes(t)
	high := flipS(bytes.Clone(report))
	low, err := snp.Canonical(high)
	if err != nil || !bytes.Equal(low, report) {
		t.Fatalf("canonical form of the high s: %v", err)
	}
	if same, err := snp.Canonical(report); err != nil || !bytes.Equal(same, report) {
		t.Fatalf("canonical form of itself: %v", err)
	}
}

func TestEveryByteCounts(t *testing.T) {
	tr := newTrial()
	report, vcek, c := tr.bytes(t)
	if _, err := snp.Verify(report, vcek, c, tr.roots, tr.now); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(report); i += 5 {
		changed := bytes.Clone(report)
		changed[i] ^= 1 << (i % 8)
		if _, err := snp.Verify(changed, vcek, c, tr.roots, tr.now); err == nil {
			t.Fatalf("accepted with byte %#x changed", i)
		}
	}
	for part, genuine := range [][]byte{vcek, c.ASK, c.CRL} {
		for i := 0; i < len(genuine); i += 5 {
			vcek, other := vcek, *c
			changed := bytes.Clone(genuine)
			changed[i] ^= 1 << (i % 8)
			*[]*[]byte{&vcek, &other.ASK, &other.CRL}[part] = changed
			if _, err := snp.Verify(report, vcek, &other, tr.roots, tr.now); err == nil {
				t.Fatalf("accepted with byte %#x of certificate or list %d changed", i, part)
			}
		}
	}
}

func amdRoots(t testing.TB) []*snp.Root {
	t.Helper()
	var out []*snp.Root
	for _, name := range []string{"milan", "genoa", "turin"} {
		root, err := snp.NewRoot(fixture.Certificates(t, fixture.File(t, "../roots/amd_ark_"+name+".pem"))[0])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, root)
	}
	return out
}

// TestReal verifies reports of real Milan machines.
func TestReal(t *testing.T) {
	roots := amdRoots(t)
	t.Run("version 3, dstack, June 2026", func(t *testing.T) {
		report, vcek, c := sharedReport(t)
		day := time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
		r, err := snp.Verify(report, vcek, c, roots, day)
		if err != nil {
			t.Fatal(err)
		}
		if r.Product != snp.Milan || r.Report.Version != 3 || r.RevocationChecked {
			t.Fatalf("%+v", r)
		}
		t.Logf("reported %+v, measurement %s, expiry %v", r.Reported, hex.EncodeToString(r.Report.Measurement[:]), r.Expiry)
		if _, err := snp.Verify(report, vcek, c, roots, day.AddDate(10, 0, 0)); !errors.Is(err, fault.VCEKExpired) {
			t.Fatalf("in 2036: %v", err)
		}
		for i := 0; i < len(report); i += 41 {
			changed := bytes.Clone(report)
			changed[i] ^= 4
			if _, err := snp.Verify(changed, vcek, c, roots, day); err == nil {
				t.Fatalf("accepted with byte %#x changed", i)
			}
		}
	})
	t.Run("version 2, google, 2023: debuggable", func(t *testing.T) {
		report, err := snp.Canonical(fixture.File(t, "google-sev/attestation.bin"))
		if err != nil {
			t.Fatal(err)
		}
		vcek := fixture.File(t, "google-sev/vcek.testcer")
		chain := fixture.Certificates(t, fixture.File(t, "google-sev/milan.testcer"))
		c := &snp.Collateral{ASK: chain[0]}
		day := time.Date(2023, 7, 1, 0, 0, 0, 0, time.UTC)
		// Chain and signature hold: the refusal is the policy's, the last one.
		if _, err := snp.Verify(report, vcek, c, roots, day); !errors.Is(err, fault.Debug) {
			t.Fatal(err)
		}
		if _, err := snp.Verify(report, vcek, c, roots, time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, fault.VCEKExpired) {
			t.Fatal(err)
		}
		report[0x91] ^= 1
		if _, err := snp.Verify(report, vcek, c, roots, day); !errors.Is(err, fault.ReportSignature) {
			t.Fatal(err)
		}
		if p, err := snp.Claims(vcek); err != nil || p != snp.Milan {
			t.Fatal(p, err)
		}
	})
}

// sharedReport reads the report that lies at offset 4 of the shared file.
func sharedReport(t testing.TB) (report, vcek []byte, c *snp.Collateral) {
	t.Helper()
	file := fixture.Shared(t, "sev_snp_attestation.bin")
	report, err := snp.Canonical(file[4 : 4+snp.ReportSize])
	if err != nil {
		t.Fatal(err)
	}
	vcek = fixture.Certificates(t, fixture.Shared(t, "sev_snp_vcek.pem"))[0]
	return report, vcek, &snp.Collateral{ASK: fixture.Certificates(t, fixture.Shared(t, "sev_snp_ask.pem"))[0]}
}

func TestNewer(t *testing.T) {
	n := newBench().network
	held := func(issued time.Time, serials ...int64) *snp.CollateralInfo {
		t.Helper()
		c := &snp.Collateral{ASK: n.ASK.Cert.Raw}
		if !issued.IsZero() {
			var revoked []*big.Int
			for _, s := range serials {
				revoked = append(revoked, big.NewInt(s))
			}
			var err error
			if c.CRL, err = n.ARK.CRL(issued, issued.Add(time.Hour), revoked); err != nil {
				t.Fatal(err)
			}
		}
		info, err := snp.Describe(c)
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	genoa := held(day(2))
	genoa.Product = snp.Genoa
	// All lists have the same number.
	for _, c := range []struct {
		name       string
		held, next *snp.CollateralInfo
		code       fault.Code
		revises    bool
	}{
		{"later list", held(day(1)), held(day(2)), "", false},
		{"later list that revokes more", held(day(1), 5), held(day(2), 5, 6), "", true},
		{"later list that revokes less", held(day(1), 5), held(day(2)), "", false},
		{"first list", held(time.Time{}), held(day(1)), "", false},
		{"first list, which revokes", held(time.Time{}), held(day(1), 5), "", true},
		{"the same list", held(day(2)), held(day(2)), fault.CollateralNotNewer, false},
		{"earlier list", held(day(2)), held(day(1)), fault.CollateralNotNewer, false},
		{"list dropped", held(day(2)), held(time.Time{}), fault.CollateralNotNewer, false},
		{"another product", held(day(1)), genoa, fault.CollateralIncompat, false},
	} {
		if err := c.held.Newer(c.next); c.code == "" && err != nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := c.held.Revises(c.next); got != c.revises {
			t.Errorf("%s: revises: %v", c.name, got)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	roots := amdRoots(b)
	report, vcek, c := sharedReport(b)
	day := time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, err := snp.Verify(report, vcek, c, roots, day); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "snp_verify_us")
}
