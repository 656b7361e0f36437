package dcap_test

import (
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/simulator"
)

// Here each check stands alone: nothing else refuses the case, so that a test fails
// whichever of them is missing.

// of gives the trial a network of its own, with the machine certified anew.
func (tr *trial) of(t testing.TB, edit func(*simulator.Network)) {
	t.Helper()
	n := *tr.network
	edit(&n)
	tr.bench = &bench{&n, tr.machine, tr.bench.root}
	tr.reissuePCK(t, nil, nil)
	tr.quote.Chain[1], tr.quote.Chain[2] = n.PCKCA.Cert.Raw, n.Root.Cert.Raw
	tr.pub.TCBSigner, tr.pub.QESigner = n.TCBSigner, n.TCBSigner
}

// Where the parts of a quote lie.
const (
	sgxAuth = 48 + 384 // length of the signature data
	tdxAuth = 48 + 584
	sgxQE   = sgxAuth + 4 + 64 + 64
	tdxQE   = tdxAuth + 4 + 64 + 64 + 6
)

func otherS(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		s := b[at+32 : at+64]
		new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(s)).FillBytes(s)
		return b
	}
}

// longer appends a byte and makes the lengths around it fit.
func longer(lengths ...int) func([]byte) []byte {
	return func(b []byte) []byte {
		for _, at := range lengths {
			binary.LittleEndian.PutUint32(b[at:], binary.LittleEndian.Uint32(b[at:])+1)
		}
		return append(b, 0)
	}
}

func set(at int, value ...byte) func([]byte) []byte {
	return func(b []byte) []byte { copy(b[at:], value); return b }
}

func TestRefusedByOneCheck(t *testing.T) {
	sgx, tdx := attest.SGX, attest.TDX
	quote := func(f func([]byte) []byte) func(*testing.T, *trial) {
		return func(_ *testing.T, tr *trial) { tr.editQuote = f }
	}
	pck := func(usage x509.KeyUsage, ca bool) func(*testing.T, *trial) {
		return func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.CA, p.Usage = ca, usage })
		}
	}
	version5 := func(kind uint16, size uint32) func(*testing.T, *trial) {
		return func(_ *testing.T, tr *trial) {
			tr.quote.Version, tr.quote.TD.HasTD15 = 5, kind == 3
			tr.editQuote = set(48, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(nil, kind), size)...)
		}
	}
	for _, c := range []struct {
		name string
		tee  attest.TEE
		code fault.Code
		edit func(*testing.T, *trial)
	}{
		{"high s of the quote", tdx, fault.QuoteNotCanonical, quote(otherS(tdxAuth + 4))},
		{"high s of the QE report", tdx, fault.QuoteNotCanonical, quote(otherS(tdxQE + 384))},
		{"high s of an SGX quote", sgx, fault.QuoteNotCanonical, quote(otherS(sgxAuth + 4))},
		{"byte after the chain", sgx, fault.QuoteMalformed, quote(longer(sgxAuth))},
		{"byte after the chain, TDX", tdx, fault.QuoteMalformed, quote(longer(tdxAuth, tdxQE-4))},
		{"reserved byte of the enclave's report", sgx, fault.QuoteMalformed, quote(set(48+20, 1))},
		{"reserved byte of the QE report", tdx, fault.QuoteMalformed, quote(set(tdxQE+20, 1))},
		{"body of TDX 1.5 with the other length", tdx, fault.QuoteVersion, version5(3, 584)},
		{"body of TDX 1.0 with the other length", tdx, fault.QuoteVersion, version5(2, 648)},
		{"QE report data with a tail", tdx, fault.QEReportData, func(t *testing.T, tr *trial) {
			tr.quote.QE.ReportData = tr.bound(t)
			tr.quote.QE.ReportData[63], tr.quote.KeepReportData = 1, true
		}},

		{"PCK certificate that is an authority", tdx, fault.PCKChain, pck(x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign, true)},
		{"PCK certificate that may not sign", tdx, fault.PCKChain, pck(x509.KeyUsageKeyAgreement, false)},
		{"signer that is an authority", tdx, fault.TCBInfoChain, func(t *testing.T, tr *trial) {
			p := simulator.CAProfile(dcap.NameTCBSigning, 0)
			p.Usage |= x509.KeyUsageDigitalSignature
			tr.pub.TCBSigner = tr.authority(t, p, &tr.network.Root)
		}},
		{"signer of the PCK authority", tdx, fault.TCBInfoChain, func(t *testing.T, tr *trial) {
			tr.pub.TCBSigner = tr.authority(t, simulator.LeafProfile(dcap.NameTCBSigning), &tr.network.PCKCA)
		}},
		{"signer to come", tdx, fault.QEChain, func(t *testing.T, tr *trial) {
			p := simulator.LeafProfile(dcap.NameTCBSigning)
			p.NotBefore = testNow.Add(time.Second)
			tr.pub.QESigner = tr.authority(t, p, &tr.network.Root)
		}},
		// Everything below it is made by who made it.
		{"PCK authority of somebody's making", tdx, fault.PCKChain, func(t *testing.T, tr *trial) {
			foreign := tr.authority(t, simulator.CAProfile(dcap.NameRootCA, 1), nil)
			tr.of(t, func(n *simulator.Network) {
				n.PCKCA = tr.authority(t, simulator.CAProfile(dcap.NamePlatformCA, 0), &foreign)
			})
		}},
		{"PCK authority by another name", tdx, fault.PCKChain, func(t *testing.T, tr *trial) {
			tr.of(t, func(n *simulator.Network) {
				n.PCKCA = tr.authority(t, simulator.CAProfile("Intel SGX PCK CA", 0), &n.Root)
			})
		}},
		{"PCK authority expired", tdx, fault.PCKExpired, func(t *testing.T, tr *trial) {
			p := simulator.CAProfile(dcap.NamePlatformCA, 0)
			p.NotAfter = testNow.Add(-time.Second)
			tr.of(t, func(n *simulator.Network) { n.PCKCA = tr.authority(t, p, &n.Root) })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial(c.tee)
			c.edit(t, tr)
			if r, err := tr.verify(t); r != nil || !errors.Is(err, c.code) {
				t.Fatalf("got %v, %v; want %s", r, err, c.code)
			}
		})
	}
}

// TestExpiryIsTheFirst: whatever ends first ends the verdict, at its last moment and not
// before.
func TestExpiryIsTheFirst(t *testing.T) {
	end := testNow.Add(time.Hour)
	stamp := end.Format("2006-01-02T15:04:05Z")
	ending := func(p simulator.Profile) simulator.Profile { p.NotAfter = end; return p }
	list := func(t *testing.T, a simulator.Authority) []byte {
		b, err := a.CRL(testNow.Add(-time.Hour), end, nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []struct {
		name string
		edit func(*testing.T, *trial)
	}{
		{"PCK certificate", func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.NotAfter = end })
		}},
		{"PCK CA", func(t *testing.T, tr *trial) {
			tr.of(t, func(n *simulator.Network) {
				n.PCKCA = tr.authority(t, ending(simulator.CAProfile(dcap.NamePlatformCA, 0)), &n.Root)
			})
		}},
		{"root", func(t *testing.T, tr *trial) {
			tr.of(t, func(n *simulator.Network) {
				p := ending(simulator.CAProfile(dcap.NameRootCA, 1))
				p.Key = n.Root.Key
				n.Root = tr.authority(t, p, nil)
				var err error
				if tr.root, err = dcap.NewRoot(n.Root.Cert.Raw); err != nil {
					t.Fatal(err)
				}
			})
		}},
		{"signer of TCB info", func(t *testing.T, tr *trial) {
			tr.pub.TCBSigner = tr.authority(t, ending(simulator.LeafProfile(dcap.NameTCBSigning)), &tr.network.Root)
		}},
		{"signer of the QE identity", func(t *testing.T, tr *trial) {
			tr.pub.QESigner = tr.authority(t, ending(simulator.LeafProfile(dcap.NameTCBSigning)), &tr.network.Root)
		}},
		{"TCB info", func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.NextUpdate = stamp }},
		{"QE identity", func(_ *testing.T, tr *trial) { tr.pub.QEIdentity.NextUpdate = stamp }},
		{"PCK CRL", func(t *testing.T, tr *trial) {
			b := list(t, tr.network.PCKCA)
			tr.editResult = func(c *dcap.Collateral) { c.PCKCRL = b }
		}},
		{"root CRL", func(t *testing.T, tr *trial) {
			b := list(t, tr.network.Root)
			tr.editResult = func(c *dcap.Collateral) { c.RootCRL = b }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial(attest.TDX)
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

// TestModuleComponents: the first two components of the TDX module's version are the
// platform's level's for a module of version 0, and the module's own level's for a later one.
func TestModuleComponents(t *testing.T) {
	for _, c := range []struct {
		name           string
		version, svn   uint8
		atLeast        [2]uint8 // of the platform's first level
		platform, both dcap.Status
	}{
		{"version 0, reached", 0, 3, [2]uint8{3, 0}, dcap.UpToDate, dcap.UpToDate},
		{"version 0, not reached", 0, 3, [2]uint8{4, 0}, dcap.OutOfDate, dcap.OutOfDate},
		{"version 0, second not reached", 0, 3, [2]uint8{3, 1}, dcap.OutOfDate, dcap.OutOfDate},
		{"version 1, not asked", 1, 4, [2]uint8{200, 200}, dcap.UpToDate, dcap.UpToDate},
		{"version 1, its own is old", 1, 2, [2]uint8{0, 0}, dcap.UpToDate, dcap.OutOfDate},
	} {
		tr := newTrial(attest.TDX)
		tr.quote.TD.TEETCBSVN[0], tr.quote.TD.TEETCBSVN[1] = c.svn, c.version
		tdx := *tr.pub.TCBInfo.Levels[0].TCB.TDX
		tdx[0].SVN, tdx[1].SVN = c.atLeast[0], c.atLeast[1]
		tr.pub.TCBInfo.Levels[0].TCB.TDX = &tdx
		r, err := tr.verify(t)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if r.PlatformStatus != c.platform || r.Status != c.both {
			t.Errorf("%s: platform %s, together %s", c.name, r.PlatformStatus, r.Status)
		}
	}
}

// TestAdvisories are those of platform, module and quoting enclave, each once.
func TestAdvisories(t *testing.T) {
	tr := newTrial(attest.TDX)
	tr.pub.TCBInfo.Levels[0].Advisories = []string{"SA-4", "SA-1"}
	tr.pub.TCBInfo.Modules[0].Levels[0].Advisories = []string{"SA-2", "SA-4"}
	tr.pub.QEIdentity.Levels[0].Advisories = []string{"SA-3"}
	r, err := tr.verify(t)
	if want := []string{"SA-1", "SA-2", "SA-3", "SA-4"}; err != nil || !slices.Equal(r.Advisories, want) {
		t.Fatalf("%v, %v", r, err)
	}
}

// bound is the report data of a quoting enclave that vouches for the attestation key.
func (tr *trial) bound(t testing.TB) (d [64]byte) {
	t.Helper()
	point, err := tr.sign.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.Sum256(append(point[1:], tr.quote.AuthData...))
	copy(d[:], h[:])
	return d
}
