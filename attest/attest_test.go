package attest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/attest/snp"
)

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

type network struct {
	*simulator.Network
	machine   *simulator.Machine
	rootBytes []byte
	roots     attest.Roots
}

func newNetwork(withSNP bool) *network {
	n, err := simulator.NewNetwork(testNow, withSNP)
	if err != nil {
		panic(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		panic(err)
	}
	b, err := n.Roots()
	if err != nil {
		panic(err)
	}
	roots, err := attest.SimulatedRoots(b)
	if err != nil {
		panic(err)
	}
	return &network{n, m, b, roots}
}

var shared = sync.OnceValue(func() *network { return newNetwork(true) })

var classes = []attest.TEE{attest.SGX, attest.TDX, attest.SNP}

func (n *network) collateral(t testing.TB, tee attest.TEE, now time.Time, s simulator.State) *attest.Collateral {
	t.Helper()
	c, err := n.Collateral(n.Publication(tee, now, s))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (n *network) evidence(t testing.TB, tee attest.TEE) attest.Evidence {
	t.Helper()
	e, err := n.machine.Evidence(tee, []byte("software"), [64]byte{9, 8, 7})
	if err != nil {
		t.Fatal(err)
	}
	e.Collateral = n.collateral(t, tee, testNow, simulator.State{})
	return e
}

func TestVerifySimulated(t *testing.T) {
	n := shared()
	var intel [][32]byte
	for _, tee := range classes {
		e := n.evidence(t, tee)
		parsed, err := attest.Parse(e.Marshal())
		if err != nil {
			t.Fatal(tee, err)
		}
		if !reflect.DeepEqual(e, parsed) {
			t.Fatalf("%s: evidence changed on its way", tee)
		}
		v, err := attest.Verify(parsed, n.roots, testNow)
		if err != nil {
			t.Fatal(tee, err)
		}
		if !v.Simulated || v.TEE != tee || v.ReportData != [64]byte{9, 8, 7} || v.ConfidenceLevel == 0 || !v.RevocationChecked {
			t.Fatalf("%s: %+v", tee, v)
		}
		if want, err := simulator.Measurement(tee, []byte("software")); err != nil || v.Measurement != want {
			t.Fatalf("%s: measurement %x, announced %x (%v)", tee, v.Measurement, want, err)
		}
		if tee != attest.SNP {
			intel = append(intel, v.MachineID)
			if v.FMSPC != simulator.FMSPC || v.PCKSerial == nil {
				t.Fatalf("%s: FMSPC %x, serial %x", tee, v.FMSPC, v.PCKSerial)
			}
		} else if v.MachineID == intel[0] || v.Product != snp.Milan {
			t.Fatalf("%s: %x", tee, v.MachineID)
		}
		again, err := attest.Verify(parsed, n.roots, testNow)
		if err != nil || !reflect.DeepEqual(v, again) {
			t.Fatalf("%s: two verdicts on the same bytes", tee)
		}
		key, err := parsed.CollateralKey()
		info, err2 := attest.VerifyCollateral(parsed.Collateral, n.roots, testNow)
		if err != nil || err2 != nil || key != info.Key || info.TEE != tee || info.Expiry.Before(testNow) {
			t.Fatalf("%s: key %q %v, collateral %+v %v", tee, key, err, info, err2)
		}
		if !v.Expiry.After(testNow) {
			t.Fatalf("%s: expiry %v", tee, v.Expiry)
		}
		if _, err := attest.Verify(parsed, n.roots, v.Expiry.Add(time.Second)); err == nil {
			t.Fatalf("%s: verifies after its expiry", tee)
		}
		if _, err := attest.Verify(parsed, n.roots, v.Expiry); err != nil {
			t.Fatalf("%s: does not verify at its expiry: %v", tee, err)
		}
	}
	if intel[0] != intel[1] {
		t.Fatal("one machine has different identities for SGX and TDX")
	}
}

// TestSimulatedIsNotReal: a real network refuses simulated evidence of every
// class, one simulated network that of another, and every network nothing.
func TestSimulatedIsNotReal(t *testing.T) {
	n, other := shared(), newNetwork(false)
	for _, tee := range classes {
		e := n.evidence(t, tee)
		code := fault.PCKRoot
		if tee == attest.SNP {
			code = fault.VCEKChain
		}
		if _, err := attest.Verify(e, attest.ProductionRoots(), testNow); !errors.Is(err, code) {
			t.Errorf("%s on a real network: %v", tee, err)
		}
		if tee == attest.SNP {
			code = fault.RootsUnknown
		}
		if _, err := attest.Verify(e, other.roots, testNow); !errors.Is(err, code) {
			t.Errorf("%s on another simulated network: %v", tee, err)
		}
		if _, err := attest.Verify(e, attest.Roots{}, testNow); !errors.Is(err, fault.RootsUnknown) {
			t.Errorf("%s without roots: %v", tee, err)
		}
		if _, err := attest.VerifyCollateral(e.Collateral, attest.Roots{}, testNow); !errors.Is(err, fault.RootsUnknown) {
			t.Errorf("%s collateral without roots: %v", tee, err)
		}
	}
}

func TestNetworkRoots(t *testing.T) {
	n := shared()
	if r, err := attest.NetworkRoots(attest.ClassSimulated, n.rootBytes); err != nil || !r.Simulated() || r.Digest() != n.roots.Digest() {
		t.Fatal("simulated:", err)
	}
	for _, class := range []string{"", "real", "production", "Simulated", "simulated ", "devnet"} {
		r, err := attest.NetworkRoots(class, nil)
		if err != nil || r.Simulated() || r.Digest() != attest.ProductionRoots().Digest() {
			t.Errorf("class %q: %v", class, err)
		}
		if _, err := attest.NetworkRoots(class, n.rootBytes); !errors.Is(err, fault.RootsVendor) {
			t.Errorf("class %q with roots: %v", class, err)
		}
	}
	if _, err := attest.NetworkRoots(attest.ClassSimulated, nil); !errors.Is(err, fault.RootsMalformed) {
		t.Error("simulated without roots:", err)
	}
	if attest.ProductionRoots().Simulated() {
		t.Error("production roots are simulated")
	}
	// The encoding that geneses hold is frozen.
	root, ark := n.Root.Cert.Raw, n.ARK.Cert.Raw
	want := append([]byte("PSR\x01"), 0, 0, byte(len(root)>>8), byte(len(root)))
	want = append(append(want, root...), 1, 0, 0, byte(len(ark)>>8), byte(len(ark)))
	if want = append(want, ark...); !bytes.Equal(want, n.rootBytes) || n.roots.Digest() != sha256.Sum256(want) {
		t.Errorf("encoding of roots changed: %x", n.rootBytes)
	}
}

// TestVendorRoots holds the compiled-in roots to their published digests.
func TestVendorRoots(t *testing.T) {
	digest := attest.ProductionRoots().Digest()
	if got, want := hex.EncodeToString(digest[:]), goldenProductionRoots; got != want {
		t.Errorf("production roots are %s, pinned %s", got, want)
	}
}

func realRoots(t *testing.T) (intel []byte, milan []byte) {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile("roots/" + name + ".pem")
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		return block.Bytes
	}
	return read("intel_sgx_root_ca"), read("amd_ark_milan")
}

func TestSimulatedRootsRefuse(t *testing.T) {
	n := shared()
	intel, milan := realRoots(t)
	authority := func(p simulator.Profile) []byte {
		a, err := simulator.NewAuthority(testNow, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.Cert.Raw
	}
	labelled := simulator.CAProfile(dcap.NameRootCA, 1)
	labelled.Organization = "Intel Corporation"
	root, ark := n.Root.Cert.Raw, n.ARK.Cert.Raw
	for _, c := range []struct {
		name  string
		intel []byte
		amd   [][]byte
		code  fault.Code
	}{
		{"Intel's root", intel, nil, fault.RootsVendor},
		{"AMD's root", root, [][]byte{milan}, fault.RootsVendor},
		{"root that calls itself Intel's", authority(labelled), nil, fault.RootsVendor},
		{"root of another name", authority(simulator.CAProfile("Root", 1)), nil, fault.RootsMalformed},
		{"root that is no authority", authority(simulator.LeafProfile(dcap.NameRootCA)), nil, fault.RootsMalformed},
		{"root certified by another", n.PCKCA.Cert.Raw, nil, fault.RootsMalformed},
		{"two roots of one product", root, [][]byte{ark, ark}, fault.RootsMalformed},
		{"ASK in place of the ARK", root, [][]byte{n.ASK.Cert.Raw}, fault.RootsMalformed},
		{"no certificate", []byte("x"), nil, fault.RootsMalformed},
		{"none", nil, nil, fault.RootsMalformed},
	} {
		if _, err := attest.EncodeSimulatedRoots(c.intel, c.amd); !errors.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
	}
	for i := range n.rootBytes {
		if _, err := attest.SimulatedRoots(n.rootBytes[:i]); err == nil {
			t.Fatalf("roots cut at %d accepted", i)
		}
	}
	if _, err := attest.SimulatedRoots(append(bytes.Clone(n.rootBytes), 0)); !errors.Is(err, fault.RootsMalformed) {
		t.Error("trailing byte:", err)
	}
}

func TestEvidenceEncoding(t *testing.T) {
	e := attest.Evidence{TEE: attest.SNP, Report: []byte{1, 2, 3}, Certificate: []byte{4},
		Collateral: &attest.Collateral{TEE: attest.SNP, SNP: &snp.Collateral{ASK: []byte{5, 6}, CRL: nil}}}
	const golden = "50455601" + "03" + "00000003010203" + "0000000104" + "0000000f" + "50434f01" + "03" + "000000020506" + "00000000"
	if got := hex.EncodeToString(e.Marshal()); got != golden {
		t.Fatalf("encoding changed:\n%s\n%s", got, golden)
	}
	back, err := attest.Parse(e.Marshal())
	if err != nil || back.TEE != attest.SNP || !bytes.Equal(back.Collateral.SNP.ASK, []byte{5, 6}) {
		t.Fatal(err)
	}
	intel := attest.Evidence{TEE: attest.TDX, Report: []byte{7},
		Collateral: &attest.Collateral{TEE: attest.TDX, DCAP: &dcap.Collateral{TCBInfo: []byte{1}, TCBInfoSignature: []byte{2}, TCBInfoSigner: []byte{3},
			QEIdentity: []byte{4}, QEIdentitySignature: []byte{5}, QEIdentitySigner: []byte{6}, PCKCA: []byte{7}, PCKCRL: []byte{8}, RootCRL: []byte{9}}}}
	goldenIntel := "50455601" + "02" + "0000000107" + "00000000" + "00000032" + "50434f01" + "02"
	for i := 1; i <= 9; i++ {
		goldenIntel += "00000001" + hex.EncodeToString([]byte{byte(i)})
	}
	if got := hex.EncodeToString(intel.Marshal()); got != goldenIntel {
		t.Fatalf("encoding changed:\n%s\n%s", got, goldenIntel)
	}

	// A twelfth of what can go wrong is listed, the rest is every truncation.
	valid := e.Marshal()
	for i := range valid {
		if _, err := attest.Parse(valid[:i]); err == nil {
			t.Fatalf("evidence cut at %d accepted", i)
		}
	}
	for _, c := range []struct {
		name string
		hex  string
		code fault.Code
	}{
		{"trailing byte", golden + "00", fault.EvidenceMalformed},
		{"another version", "50455602" + golden[8:], fault.EvidenceMalformed},
		{"class 0", "50455601" + "00" + golden[10:], fault.EvidenceTEE},
		{"class 4", "50455601" + "04" + golden[10:], fault.EvidenceTEE},
		{"certificate beside a quote", "50455601" + "02" + "0000000107" + "0000000104" + "00000000", fault.EvidenceMalformed},
		{"SNP without certificate", "50455601" + "03" + "0000000107" + "00000000" + "00000000", fault.EvidenceMalformed},
		{"report longer than allowed", "50455601" + "02" + "00004001" + strings.Repeat("00", 0x4001) + "00000000" + "00000000", fault.EvidenceMalformed},
		{"length far beyond the end", "50455601" + "02" + "ffffffff", fault.EvidenceMalformed},
		{"collateral of another class", "50455601" + "03" + "0000000107" + "0000000104" + "00000032" + goldenIntel[36:], fault.CollateralMismatch},
		{"collateral of no class", "50455601" + "03" + "0000000107" + "0000000104" + "00000005" + "50434f01" + "07", fault.CollateralMalformed},
		{"collateral of another version", "50455601" + "03" + "0000000107" + "0000000104" + "00000005" + "50434f02" + "03", fault.CollateralMalformed},
		{"collateral with a trailing byte", "50455601" + "03" + "0000000107" + "0000000104" + "00000010" + "50434f01" + "03" + "000000020506" + "00000000" + "00", fault.CollateralMalformed},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(c.name, err)
		}
		if _, err := attest.Parse(b); !errors.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
	}
	if _, err := attest.Parse(make([]byte, attest.MaxEvidence+1)); !errors.Is(err, fault.EvidenceMalformed) {
		t.Error("oversized evidence:", err)
	}
	if _, err := attest.ParseCollateral(make([]byte, attest.MaxCollateral+1)); !errors.Is(err, fault.CollateralMalformed) {
		t.Error("oversized collateral:", err)
	}
}

func TestVerifyRefusesMixtures(t *testing.T) {
	n := shared()
	tdx, sgx, amd := n.evidence(t, attest.TDX), n.evidence(t, attest.SGX), n.evidence(t, attest.SNP)
	for _, c := range []struct {
		name string
		code fault.Code
		edit func() attest.Evidence
	}{
		{"no collateral", fault.EvidenceIncomplete, func() attest.Evidence { e := tdx; e.Collateral = nil; return e }},
		{"collateral of another class", fault.CollateralMismatch, func() attest.Evidence { e := tdx; e.Collateral = sgx.Collateral; return e }},
		{"TDX quote called SGX", fault.TCBInfoTEE, func() attest.Evidence { e := sgx; e.Report = tdx.Report; return e }},
		{"both called SGX", fault.EvidenceTEE, func() attest.Evidence {
			e := tdx
			e.TEE, e.Collateral = attest.SGX, &attest.Collateral{TEE: attest.SGX, DCAP: tdx.Collateral.DCAP}
			return e
		}},
		{"SNP report called TDX", fault.QuoteVersion, func() attest.Evidence { e := tdx; e.Report = amd.Report; return e }},
		{"certificate beside a quote", fault.EvidenceMalformed, func() attest.Evidence { e := tdx; e.Certificate = amd.Certificate; return e }},
		{"no VCEK", fault.EvidenceIncomplete, func() attest.Evidence { e := amd; e.Certificate = nil; return e }},
		{"no class", fault.CollateralMalformed, func() attest.Evidence {
			return attest.Evidence{Collateral: &attest.Collateral{}}
		}},
		{"collateral without content", fault.CollateralMalformed, func() attest.Evidence {
			e := tdx
			e.Collateral = &attest.Collateral{TEE: attest.TDX}
			return e
		}},
	} {
		if v, err := attest.Verify(c.edit(), n.roots, testNow); v != nil || !errors.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
	}
	c := &attest.Collateral{TEE: attest.SGX, DCAP: tdx.Collateral.DCAP}
	if _, err := attest.VerifyCollateral(c, n.roots, testNow); !errors.Is(err, fault.TCBInfoTEE) {
		t.Error("TDX collateral called SGX:", err)
	}
}

func TestCheckUpdate(t *testing.T) {
	n := shared()
	for _, tee := range classes {
		held := n.collateral(t, tee, testNow.AddDate(0, -2, 0), simulator.State{}) // expired since
		next := n.collateral(t, tee, testNow, simulator.State{})
		if info, err := attest.CheckUpdate(nil, next, n.roots, testNow); err != nil || info.Expiry.Before(testNow) {
			t.Errorf("%s: first: %v", tee, err)
		}
		if _, err := attest.CheckUpdate(held, next, n.roots, testNow); err != nil {
			t.Errorf("%s: newer: %v", tee, err)
		}
		if _, err := attest.CheckUpdate(next, next, n.roots, testNow); !errors.Is(err, fault.CollateralNotNewer) {
			t.Errorf("%s: the same: %v", tee, err)
		}
		if _, err := attest.CheckUpdate(next, held, n.roots, testNow); !errors.Is(err, fault.CRLExpired) {
			t.Errorf("%s: older and expired: %v", tee, err)
		}
		older := n.collateral(t, tee, testNow.Add(-time.Hour), simulator.State{})
		if _, err := attest.CheckUpdate(next, older, n.roots, testNow); !errors.Is(err, fault.CollateralNotNewer) {
			t.Errorf("%s: older: %v", tee, err)
		}
		if tee != attest.SGX {
			other := n.collateral(t, attest.SGX, testNow, simulator.State{})
			if _, err := attest.CheckUpdate(other, next, n.roots, testNow); !errors.Is(err, fault.CollateralIncompat) {
				t.Errorf("%s in place of SGX's: %v", tee, err)
			}
		}
	}
}

// TestCheckRetraction: where a recovery is taken back an earlier one comes in, with lists
// that are not older, and nothing else does.
func TestCheckRetraction(t *testing.T) {
	n := shared()
	at := func(tee attest.TEE, number uint32, lists time.Duration) *attest.Collateral {
		p := n.Publication(tee, testNow, simulator.State{Evaluation: number})
		p.CRLIssued = p.CRLIssued.Add(lists)
		c, err := n.Collateral(p)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	held := at(attest.TDX, 18, 0)
	foreign := newNetwork(false)
	for _, c := range []struct {
		name string
		next *attest.Collateral
		code fault.Code
	}{
		{"lists of the same day", at(attest.TDX, 17, 0), ""},
		{"newer lists", at(attest.TDX, 17, time.Second), ""},
		{"older lists", at(attest.TDX, 17, -time.Second), fault.CollateralNotNewer},
		{"another class", at(attest.SGX, 17, 0), fault.CollateralIncompat},
		{"AMD's", at(attest.SNP, 17, 0), fault.CollateralIncompat},
		{"another vendor's", foreign.collateral(t, attest.TDX, testNow, simulator.State{}), fault.CRLSignature},
	} {
		info, err := attest.CheckRetraction(held, c.next, n.roots, testNow)
		if c.code == "" && (err != nil || info.Key != "tdx/deadbeef0001/platform") || c.code != "" && (info != nil || !errors.Is(err, c.code)) {
			t.Errorf("%s: %+v, %v; want %q", c.name, info, err, c.code)
		}
	}
	amd := at(attest.SNP, 1, 0)
	if _, err := attest.CheckRetraction(amd, at(attest.SNP, 1, time.Second), n.roots, testNow); !errors.Is(err, fault.CollateralIncompat) {
		t.Errorf("AMD's in place of AMD's: %v", err)
	}
	// One list alone is older.
	mixed := *at(attest.TDX, 17, 0)
	d := *mixed.DCAP
	d.RootCRL = at(attest.TDX, 17, -time.Second).DCAP.RootCRL
	mixed.DCAP = &d
	if _, err := attest.CheckRetraction(held, &mixed, n.roots, testNow); !errors.Is(err, fault.CollateralNotNewer) {
		t.Errorf("an older root CRL: %v", err)
	}
}

func described(t *testing.T, c *attest.Collateral) *attest.CollateralInfo {
	t.Helper()
	info, err := attest.Describe(c)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// TestRevises: a new evaluation or revocation list is a revision, a later date alone is none.
func TestRevises(t *testing.T) {
	n := shared()
	for _, tee := range classes {
		held := n.collateral(t, tee, testNow, simulator.State{})
		platform, err := held.Platform()
		if err != nil || !strings.HasPrefix(platform, tee.String()+"/") {
			t.Errorf("%s: platform %q, %v", tee, platform, err)
		}
		check := func(name string, want bool, edit func(p *simulator.Publication)) {
			t.Helper()
			p := n.Publication(tee, testNow.Add(time.Hour), simulator.State{})
			edit(p)
			next, err := n.Collateral(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := held.Newer(next); err != nil {
				t.Errorf("%s, %s: %v", tee, name, err)
			}
			if got := described(t, held).Revises(described(t, next)); got != want {
				t.Errorf("%s, %s: a revision: %v", tee, name, got)
			}
		}
		check("a later date", false, func(*simulator.Publication) {})
		check("a serial number revoked by the root", true, func(p *simulator.Publication) { p.RevokedByRoot = []*big.Int{big.NewInt(1)} })
		if tee == attest.SNP {
			continue
		}
		check("a serial number revoked", true, func(p *simulator.Publication) { p.RevokedPCK = []*big.Int{big.NewInt(1)} })
		check("a new evaluation", true, func(p *simulator.Publication) { p.TCBInfo.Evaluation++ })
		check("a new evaluation of quoting enclaves", true, func(p *simulator.Publication) { p.QEIdentity.Evaluation++ })
		if described(t, held).Revises(described(t, n.collateral(t, attest.SNP, testNow, simulator.State{}))) {
			t.Errorf("%s: AMD's is a revision", tee)
		}
	}
	if _, err := (&attest.Collateral{TEE: attest.TDX}).Platform(); !errors.Is(err, fault.CollateralMalformed) {
		t.Errorf("of nothing: %v", err)
	}
}

func TestConfidenceLevel(t *testing.T) {
	for _, c := range []struct {
		status     attest.TCBStatus
		advisories string
		want       uint8
	}{
		{dcap.UpToDate, "", 1},
		{dcap.UpToDate, "INTEL-SA-00837", 1},
		{dcap.SWHardeningNeeded, "INTEL-SA-00334", 2},
		{dcap.ConfigurationNeeded, "", 3},
		{dcap.ConfigurationNeeded, "INTEL-SA-00219", 3},
		{dcap.ConfigurationAndSWHardeningNeeded, "INTEL-SA-00219 INTEL-SA-00334 INTEL-SA-00381 INTEL-SA-00389", 3},
		{dcap.ConfigurationAndSWHardeningNeeded, "INTEL-SA-00219 INTEL-SA-00615", 4},
		{dcap.OutOfDate, "", 5},
		{dcap.OutOfDateConfigurationNeeded, "", 5},
		{dcap.Revoked, "", 0},
		{attest.Unrated, "", 0},
		{"Perfect", "", 0},
	} {
		if got := attest.ConfidenceLevel(c.status, strings.Fields(c.advisories)); got != c.want {
			t.Errorf("%s with %q: level %d, want %d", c.status, c.advisories, got, c.want)
		}
	}
}

func TestSNPConfidence(t *testing.T) {
	n := shared()
	e := n.evidence(t, attest.SNP)
	r := n.machine.Report([]byte("software"), [64]byte{})
	r.CommittedTCB[6]-- // the host may still roll its firmware back
	var err error
	if e.Report, err = simulator.SignReport(r, n.machine.VCEKKey()); err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(e, n.roots, testNow)
	if err != nil || v.ConfidenceLevel != 4 || v.TCBStatus != attest.Unrated {
		t.Fatalf("%+v %v", v, err)
	}
}

// TestMeasurementBindsEveryField: changing any measured field changes the
// digest, and moving bytes from one field to the next does too.
func TestMeasurementBindsEveryField(t *testing.T) {
	for _, tee := range classes {
		fields := func() []attest.Field {
			switch tee {
			case attest.SGX:
				return attest.SGXFields(new(dcap.EnclaveReport))
			case attest.TDX:
				return attest.TDXFields(new(dcap.TDReport))
			}
			return attest.SNPFields(new(snp.Report))
		}
		seen := map[[32]byte]string{attest.MeasurementDigest(tee, fields()): "zero"}
		for i, f := range fields() {
			changed := fields()
			changed[i].Value = bytes.Clone(f.Value)
			changed[i].Value[0] = 1
			d := attest.MeasurementDigest(tee, changed)
			if other, ok := seen[d]; ok {
				t.Errorf("%s: %s and %s give one digest", tee, f.Name, other)
			}
			seen[d] = f.Name
		}
		moved := fields()
		moved[0].Value = append(bytes.Clone(moved[0].Value), 0)
		moved[1].Value = moved[1].Value[1:]
		if attest.MeasurementDigest(tee, moved) == attest.MeasurementDigest(tee, fields()) {
			t.Errorf("%s: fields run into each other", tee)
		}
	}
}

// TestGoldenDigests freezes the digests that allow-lists and registries hold.
func TestGoldenDigests(t *testing.T) {
	q, err := dcap.Canonical(fixture.File(t, "oasis/quote_v3_ecdsa_p256_pck_chain.bin"))
	if err != nil {
		t.Fatal(err)
	}
	sgx, err := dcap.ParseQuote(q)
	if err != nil {
		t.Fatal(err)
	}
	if q, err = dcap.Canonical(fixture.File(t, "oasis/quote_v4_tdx_ecdsa_p256.bin")); err != nil {
		t.Fatal(err)
	}
	tdx, err := dcap.ParseQuote(q)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := snp.Canonical(fixture.File(t, "google-sev/attestation.bin"))
	if err != nil {
		t.Fatal(err)
	}
	amd, err := snp.ParseReport(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		got  [32]byte
		want string
	}{
		{"SGX", attest.MeasurementDigest(attest.SGX, attest.SGXFields(sgx.Enclave)), goldenSGX},
		{"TDX", attest.MeasurementDigest(attest.TDX, attest.TDXFields(tdx.TD)), goldenTDX},
		{"SNP", attest.MeasurementDigest(attest.SNP, attest.SNPFields(amd)), goldenSNP},
		{"Intel machine", attest.MachineID(attest.TDX, []byte("ppid")), goldenIntelMachine},
		{"AMD machine", attest.MachineID(attest.SNP, []byte("ppid")), goldenAMDMachine},
	} {
		if got := hex.EncodeToString(c.got[:]); got != c.want {
			t.Errorf("%s: %s, frozen %s", c.name, got, c.want)
		}
	}
}

// TestSharedVerdict is the whole way on real evidence, and on the real network.
func TestSharedVerdict(t *testing.T) {
	quote, err := attest.Canonical(attest.TDX, fixture.Shared(t, "tdx_quote"))
	if err != nil {
		t.Fatal(err)
	}
	e := attest.Evidence{TEE: attest.TDX, Report: quote, Collateral: &attest.Collateral{
		TEE: attest.TDX, DCAP: fixture.QVLCollateral(t, fixture.Shared(t, "tdx_quote_collateral.json"))}}
	now := time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)
	e, err = attest.Parse(e.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	v, err := attest.Verify(e, attest.ProductionRoots(), now)
	if err != nil {
		t.Fatal(err)
	}
	if v.Simulated || v.ConfidenceLevel != 1 || hex.EncodeToString(v.FMSPC[:]) != "b0c06f000000" || v.Evaluation != 17 {
		t.Fatalf("%+v", v)
	}
	if key, err := e.CollateralKey(); err != nil || key != "tdx/b0c06f000000/platform" {
		t.Fatal(key, err)
	}
	t.Logf("real TDX evidence with collateral: %d bytes; without: %d", len(e.Marshal()), len(attest.Evidence{TEE: e.TEE, Report: e.Report}.Marshal()))
}

func FuzzParse(f *testing.F) {
	n := newNetwork(false)
	f.Add(n.evidence(f, attest.TDX).Marshal())
	f.Add(attest.Evidence{TEE: attest.SNP, Report: []byte{1}, Certificate: []byte{2}, Collateral: &attest.Collateral{TEE: attest.SNP, SNP: &snp.Collateral{}}}.Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := attest.Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.Marshal(), b) {
			t.Fatal("two encodings of one evidence")
		}
		_, _ = e.CollateralKey()
		_, _ = attest.Verify(e, n.roots, testNow)
	})
}

func FuzzSimulatedRoots(f *testing.F) {
	n := newNetwork(false)
	f.Add(n.rootBytes)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := attest.SimulatedRoots(b)
		if err == nil && !r.Simulated() {
			t.Fatal("roots from a genesis that are not simulated")
		}
	})
}

func (n *network) evidenceWithoutCollateral() []byte {
	e, err := n.machine.Evidence(attest.TDX, []byte("software"), [64]byte{})
	if err != nil {
		panic(err)
	}
	return e.Marshal()
}

func (n *network) collateralInState() map[string]*attest.Collateral {
	c, err := n.Collateral(n.Publication(attest.TDX, testNow, simulator.State{}))
	if err != nil {
		panic(err)
	}
	info, err := attest.VerifyCollateral(c, n.roots, testNow)
	if err != nil {
		panic(err)
	}
	return map[string]*attest.Collateral{info.Key: c}
}
