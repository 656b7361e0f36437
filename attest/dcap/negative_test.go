package dcap_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/simulator"
)

// The project's own test PKI is the simulator's: these cases go through the
// same code as real evidence, and each changes one thing.

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

type bench struct {
	network *simulator.Network
	machine *simulator.Machine
	root    *dcap.Root
}

var newBench = sync.OnceValue(func() *bench {
	n, err := simulator.NewNetwork(testNow, false)
	if err != nil {
		panic(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		panic(err)
	}
	root, err := dcap.NewRoot(n.Root.Cert.Raw)
	if err != nil {
		panic(err)
	}
	return &bench{n, m, root}
})

// trial is one case before it is signed: everything a case may change.
type trial struct {
	*bench
	tee        attest.TEE
	quote      *simulator.Quote
	pub        *simulator.Publication
	pck        simulator.Authority
	root       *dcap.Root
	now        time.Time
	sign       *ecdsa.PrivateKey // the attestation key
	editQuote  func([]byte) []byte
	editResult func(*dcap.Collateral)
}

func newTrial(tee attest.TEE) *trial {
	b := newBench()
	return &trial{
		bench: b, tee: tee, root: b.root, now: testNow, sign: b.machine.Attestation, pck: b.machine.PCK,
		quote: b.machine.Quote(tee, []byte("measured software"), [64]byte{1, 2, 3}),
		pub:   b.network.Publication(tee, testNow, simulator.State{}),
	}
}

func (tr *trial) bytes(t testing.TB) ([]byte, *dcap.Collateral) {
	t.Helper()
	tr.quote.Chain[0] = tr.pck.Cert.Raw
	quote, err := tr.quote.Sign(tr.sign, tr.pck.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	if tr.editQuote != nil {
		quote = tr.editQuote(quote)
	}
	c, err := tr.network.Collateral(tr.pub)
	if err != nil {
		t.Fatal(err)
	}
	if tr.editResult != nil {
		tr.editResult(c.DCAP)
	}
	return quote, c.DCAP
}

func (tr *trial) verify(t testing.TB) (*dcap.Result, error) {
	t.Helper()
	quote, c := tr.bytes(t)
	return dcap.Verify(quote, c, tr.root, tr.now)
}

// reissuePCK certifies the machine anew after a change.
func (tr *trial) reissuePCK(t testing.TB, edit func(*simulator.PCKExtension), profile func(*simulator.Profile)) {
	t.Helper()
	e := tr.machine.PCKExtension()
	if edit != nil {
		edit(e)
	}
	pck, err := tr.network.NewPCK(testNow, e, profile)
	if err != nil {
		t.Fatal(err)
	}
	tr.pck = pck
}

func (tr *trial) authority(t testing.TB, p simulator.Profile, issuer *simulator.Authority) simulator.Authority {
	t.Helper()
	a, err := simulator.NewAuthority(testNow, p, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name   string
		tee    attest.TEE
		edit   func(*testing.T, *trial)
		status dcap.Status
	}{
		{"SGX v3", attest.SGX, func(*testing.T, *trial) {}, dcap.UpToDate},
		{"TDX v4", attest.TDX, func(*testing.T, *trial) {}, dcap.UpToDate},
		{"TDX v5, body of TDX 1.0", attest.TDX, func(_ *testing.T, tr *trial) { tr.quote.Version = 5 }, dcap.UpToDate},
		{"TDX v5, body of TDX 1.5", attest.TDX, func(_ *testing.T, tr *trial) {
			tr.quote.Version, tr.quote.TD.HasTD15 = 5, true
			tr.quote.TD.MRServiceTD[0] = 7
		}, dcap.UpToDate},
		{"no data beside the attestation key", attest.TDX, func(_ *testing.T, tr *trial) { tr.quote.AuthData = nil }, dcap.UpToDate},
		{"TDX module of version 0", attest.TDX, func(_ *testing.T, tr *trial) { tr.quote.TD.TEETCBSVN[1] = 0 }, dcap.UpToDate},
		{"TDX module version 10 is TDX_0A", attest.TDX, func(_ *testing.T, tr *trial) {
			tr.quote.TD.TEETCBSVN[1] = 10
			tr.pub.TCBInfo.Modules[0].ID = "TDX_0A"
		}, dcap.UpToDate},
		{"TDX module version 10 is tdx_0a too", attest.TDX, func(_ *testing.T, tr *trial) {
			tr.quote.TD.TEETCBSVN[1] = 10
			tr.pub.TCBInfo.Modules[0].ID = "TDX_0a"
		}, dcap.UpToDate},
		{"performance monitoring", attest.TDX, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 << 63 }, dcap.UpToDate},
		{"another machine on the revocation list", attest.TDX, func(_ *testing.T, tr *trial) {
			tr.pub.RevokedPCK = []*big.Int{big.NewInt(77)}
		}, dcap.UpToDate},
		{"platform needs software hardening", attest.SGX, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Levels[0].Status = "SWHardeningNeeded" }, dcap.SWHardeningNeeded},
		{"platform out of date", attest.SGX, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, func(e *simulator.PCKExtension) { e.SVN[3] = 1 }, nil)
		}, dcap.OutOfDate},
		{"PCE out of date", attest.SGX, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, func(e *simulator.PCKExtension) { e.PCESVN = 5 }, nil)
		}, dcap.OutOfDate},
		{"module out of date", attest.TDX, func(_ *testing.T, tr *trial) { tr.quote.TD.TEETCBSVN[0] = 3 }, dcap.OutOfDate},
		{"module out of date on a platform that needs configuration", attest.TDX, func(_ *testing.T, tr *trial) {
			tr.quote.TD.TEETCBSVN[0] = 3
			tr.pub.TCBInfo.Levels[0].Status = "ConfigurationAndSWHardeningNeeded"
		}, dcap.OutOfDateConfigurationNeeded},
		{"platform out of date under a module that is up to date", attest.TDX, func(_ *testing.T, tr *trial) {
			tr.pub.TCBInfo.Levels[0].Status = "OutOfDate"
		}, dcap.OutOfDate},
		{"quoting enclave out of date", attest.TDX, func(_ *testing.T, tr *trial) { tr.quote.QE.ISVSVN = 5 }, dcap.OutOfDate},
		{"at the very end of the collateral's validity", attest.TDX, func(_ *testing.T, tr *trial) { tr.now = tr.pub.CRLNext }, dcap.UpToDate},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial(c.tee)
			c.edit(t, tr)
			r, err := tr.verify(t)
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != c.status {
				t.Fatalf("status %s, want %s", r.Status, c.status)
			}
			if r.Expiry != tr.pub.CRLNext {
				t.Fatalf("expiry %v, want the collateral's, %v", r.Expiry, tr.pub.CRLNext)
			}
			if r.Quote.ReportData() != [64]byte{1, 2, 3} || r.Platform.PPID != tr.machine.PPID {
				t.Fatal("report data or PPID differs")
			}
		})
	}
}

// TestRefused has the cases by the names under which other verifiers' sample
// generators know them, then those of our own.
func TestRefused(t *testing.T) {
	tdx, sgx := attest.TDX, attest.SGX
	for _, c := range []struct {
		name string
		tee  attest.TEE
		code fault.Code
		edit func(*testing.T, *trial)
	}{
		// Software that must not be trusted.
		{"debug_sgx_v3", sgx, fault.Debug, func(_ *testing.T, tr *trial) { tr.quote.Enclave.Attributes[0] |= 2 }},
		{"sgx_reserved_bits_set", sgx, fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.quote.Enclave.Attributes[2] = 1 }},
		{"sgx_not_initialised", sgx, fault.NotInit, func(_ *testing.T, tr *trial) { tr.quote.Enclave.Attributes[0] &^= 1 }},
		{"tdx_debug_enabled", tdx, fault.Debug, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 }},
		{"tdx_sept_ve_disabled", tdx, fault.SeptVE, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes &^= 1 << 28 }},
		{"tdx_migratable", tdx, fault.Migratable, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 << 29 }},
		{"tdx_pks_enabled", tdx, fault.ProtectionKey, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 << 30 }},
		{"tdx_kl_enabled", tdx, fault.KeyLocker, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 << 31 }},
		{"tdx_reserved_bits_set", tdx, fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 << 40 }},
		{"tdx_tud_reserved_bits_set", tdx, fault.ReservedBits, func(_ *testing.T, tr *trial) { tr.quote.TD.TDAttributes |= 1 << 5 }},

		// The quoting enclave.
		{"qe_attributes_mismatch", tdx, fault.QEAttributes, func(_ *testing.T, tr *trial) { tr.quote.QE.Attributes[0] = 0x01 }},
		{"qe_isvprodid_mismatch", tdx, fault.QEProdID, func(_ *testing.T, tr *trial) { tr.quote.QE.ISVProdID = 3 }},
		{"qe_miscselect_mismatch", tdx, fault.QEMiscSelect, func(_ *testing.T, tr *trial) { tr.quote.QE.MiscSelect = 1 }},
		{"qe_mrsigner_mismatch", tdx, fault.QEMRSigner, func(_ *testing.T, tr *trial) { tr.quote.QE.MRSIGNER[0] ^= 1 }},
		{"qe_debug_enabled", tdx, fault.QEDebug, func(_ *testing.T, tr *trial) { tr.quote.QE.Attributes[0] |= 2 }},
		{"qe_report_hash_mismatch", tdx, fault.QEReportData, func(_ *testing.T, tr *trial) { tr.quote.KeepReportData = true }},
		{"qe_report_data_tail", tdx, fault.QEReportSig, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { b[len(b)-len(pemOf(b))-6-32-2-64-1] ^= 1; return b }
		}},
		{"qe_isvsvn_too_low", tdx, fault.QETCBUnsupported, func(_ *testing.T, tr *trial) { tr.quote.QE.ISVSVN = 1 }},
		{"revoked_qe_tcb", tdx, fault.QETCBRevoked, func(_ *testing.T, tr *trial) { tr.quote.QE.ISVSVN = 3 }},
		{"qe_identity_expired", tdx, fault.QEExpired, func(_ *testing.T, tr *trial) { tr.pub.QEIdentity.NextUpdate = "2026-11-20T11:59:59Z" }},
		{"qe_identity_issue_date_future", tdx, fault.QEFuture, func(_ *testing.T, tr *trial) { tr.pub.QEIdentity.IssueDate = "2026-11-20T12:00:01Z" }},
		{"invalid_qe_identity_signature", tdx, fault.QESignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.QEIdentitySignature[9] ^= 1 }
		}},
		{"changed_qe_identity", tdx, fault.QESignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) {
				c.QEIdentity = bytes.Replace(c.QEIdentity, []byte(`"isvsvn":8`), []byte(`"isvsvn":1`), 1)
			}
		}},
		{"qe_identity_of_other_enclave", tdx, fault.QEID, func(_ *testing.T, tr *trial) { tr.pub.QEIdentity.ID = "QE" }},
		{"ca_used_as_end_entity_qe", tdx, fault.QEChain, func(_ *testing.T, tr *trial) { tr.pub.QESigner = tr.network.PCKCA }},
		{"root_used_as_end_entity_qe", tdx, fault.QEChain, func(_ *testing.T, tr *trial) { tr.pub.QESigner = tr.network.Root }},
		{"pck_used_as_end_entity_qe", tdx, fault.QEChain, func(_ *testing.T, tr *trial) { tr.pub.QESigner = tr.machine.PCK }},
		{"foreign_qe_signer", tdx, fault.QEChain, func(t *testing.T, tr *trial) {
			foreign := tr.authority(t, simulator.CAProfile(dcap.NameRootCA, 1), nil)
			tr.pub.QESigner = tr.authority(t, simulator.LeafProfile(dcap.NameTCBSigning), &foreign)
		}},
		{"revoked_qe_signer", tdx, fault.QERevoked, func(t *testing.T, tr *trial) {
			tr.pub.QESigner = tr.authority(t, simulator.LeafProfile(dcap.NameTCBSigning), &tr.network.Root)
			tr.pub.RevokedByRoot = []*big.Int{tr.pub.QESigner.Cert.SerialNumber}
		}},

		// TCB info.
		{"fmspc_mismatch", tdx, fault.TCBInfoFMSPC, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.FMSPC = "DEADBEEF0002" }},
		{"pceid_mismatch", tdx, fault.TCBInfoFMSPC, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.PCEID = "0001" }},
		{"tcb_expired", tdx, fault.TCBInfoExpired, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.NextUpdate = "2026-11-20T11:59:59Z" }},
		{"tcb_issue_date_future", tdx, fault.TCBInfoFuture, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.IssueDate = "2026-11-20T12:00:01Z" }},
		{"invalid_tcb_signature", tdx, fault.TCBInfoSignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.TCBInfoSignature[40] ^= 1 }
		}},
		{"short_tcb_signature", tdx, fault.TCBInfoSignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.TCBInfoSignature = c.TCBInfoSignature[:63] }
		}},
		{"changed_tcb_info", tdx, fault.TCBInfoSignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.TCBInfo = append(c.TCBInfo, ' ') }
		}},
		{"sgx_tcb_id_mismatch", sgx, fault.TCBInfoTEE, func(t *testing.T, tr *trial) {
			tr.pub = tr.network.Publication(tdx, testNow, simulator.State{})
		}},
		{"tdx_tcb_id_mismatch", tdx, fault.TCBInfoTEE, func(t *testing.T, tr *trial) {
			tr.pub = tr.network.Publication(sgx, testNow, simulator.State{})
		}},
		{"unknown_tcb_status", tdx, fault.TCBInfoStatus, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Levels[1].Status = "UpToData" }},
		{"ca_used_as_end_entity_tcb", tdx, fault.TCBInfoChain, func(_ *testing.T, tr *trial) { tr.pub.TCBSigner = tr.network.PCKCA }},
		{"pck_used_as_end_entity_tcb", tdx, fault.TCBInfoChain, func(_ *testing.T, tr *trial) { tr.pub.TCBSigner = tr.machine.PCK }},
		{"misnamed_tcb_signer", tdx, fault.TCBInfoChain, func(t *testing.T, tr *trial) {
			tr.pub.TCBSigner = tr.authority(t, simulator.LeafProfile("Intel SGX TCB Signer"), &tr.network.Root)
		}},
		{"tcb_signer_may_not_sign", tdx, fault.TCBInfoChain, func(t *testing.T, tr *trial) {
			p := simulator.LeafProfile(dcap.NameTCBSigning)
			p.Usage = x509.KeyUsageKeyAgreement
			tr.pub.TCBSigner = tr.authority(t, p, &tr.network.Root)
		}},
		{"expired_tcb_signer", tdx, fault.TCBInfoChain, func(t *testing.T, tr *trial) {
			p := simulator.LeafProfile(dcap.NameTCBSigning)
			p.NotAfter = testNow.Add(-time.Second)
			tr.pub.TCBSigner = tr.authority(t, p, &tr.network.Root)
		}},
		{"revoked_tcb_signer", tdx, fault.TCBInfoRevoked, func(_ *testing.T, tr *trial) {
			tr.pub.RevokedByRoot = []*big.Int{tr.network.TCBSigner.Cert.SerialNumber}
		}},
		{"revoked_platform_tcb", tdx, fault.TCBRevoked, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Levels[0].Status = "Revoked" }},
		{"revoked_platform_tcb_sgx", sgx, fault.TCBRevoked, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Levels[0].Status = "Revoked" }},
		{"sgx_component_svn_mismatch", sgx, fault.TCBUnsupported, func(t *testing.T, tr *trial) {
			tr.pub.TCBInfo.Levels = tr.pub.TCBInfo.Levels[:1]
			tr.reissuePCK(t, func(e *simulator.PCKExtension) { e.SVN[15] = 1 }, nil)
		}},
		{"pcesvn_mismatch", sgx, fault.TCBUnsupported, func(t *testing.T, tr *trial) {
			tr.pub.TCBInfo.Levels = tr.pub.TCBInfo.Levels[:1]
			tr.reissuePCK(t, func(e *simulator.PCKExtension) { e.PCESVN = 10 }, nil)
		}},
		{"tdx_component_svn_mismatch", tdx, fault.TCBUnsupported, func(_ *testing.T, tr *trial) {
			tr.pub.TCBInfo.Levels = tr.pub.TCBInfo.Levels[:1]
			tr.quote.TD.TEETCBSVN[2] = 1
		}},
		{"tdx_missing_components", tdx, fault.TCBInfoMalformed, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Levels[0].TCB.TDX = nil }},
		{"tcb_info_without_levels", tdx, fault.TCBInfoMalformed, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Levels = []simulator.Level{} }},
		{"tcb_info_version_2", tdx, fault.TCBInfoMalformed, func(_ *testing.T, tr *trial) { tr.pub.TCBInfo.Version = 2 }},
		{"tcb_info_unknown_member", tdx, fault.TCBInfoMalformed, func(t *testing.T, tr *trial) {
			_, c := tr.bytes(t)
			tr.pub.TCBInfoText = strings.Replace(string(c.TCBInfo), `"version"`, `"extra":1,"version"`, 1)
		}},
		{"tcb_info_repeated_member", tdx, fault.TCBInfoMalformed, func(t *testing.T, tr *trial) {
			_, c := tr.bytes(t)
			tr.pub.TCBInfoText = strings.Replace(string(c.TCBInfo), `"version":3`, `"version":3,"version":3`, 1)
		}},
		{"qe_identity_repeated_member", tdx, fault.QEMalformed, func(t *testing.T, tr *trial) {
			_, c := tr.bytes(t)
			tr.pub.QEIdentityText = strings.Replace(string(c.QEIdentity), `"version":2`, `"version":2,"version":2`, 1)
		}},

		// TDX module.
		{"module_unknown", tdx, fault.ModuleUnknown, func(_ *testing.T, tr *trial) { tr.quote.TD.TEETCBSVN[1] = 2 }},
		{"module_decimal_name", tdx, fault.ModuleUnknown, func(_ *testing.T, tr *trial) {
			tr.quote.TD.TEETCBSVN[1] = 10
			tr.pub.TCBInfo.Modules[0].ID = "TDX_10"
		}},
		{"module_mrsigner_mismatch", tdx, fault.ModuleMRSigner, func(_ *testing.T, tr *trial) { tr.quote.TD.MRSIGNERSEAM[0] = 1 }},
		{"module_attributes_mismatch", tdx, fault.ModuleAttributes, func(_ *testing.T, tr *trial) { tr.quote.TD.SEAMAttributes = 1 << 63 }},
		{"module_0_mrsigner_mismatch", tdx, fault.ModuleMRSigner, func(_ *testing.T, tr *trial) {
			tr.quote.TD.TEETCBSVN[1] = 0
			tr.quote.TD.MRSIGNERSEAM[47] = 1
		}},
		{"module_too_old", tdx, fault.ModuleUnsupported, func(_ *testing.T, tr *trial) { tr.quote.TD.TEETCBSVN[0] = 0 }},
		{"module_revoked", tdx, fault.TCBRevoked, func(_ *testing.T, tr *trial) { tr.quote.TD.TEETCBSVN[0] = 1 }},

		// PCK chain and revocation lists.
		{"revoked_pck", tdx, fault.PCKRevoked, func(_ *testing.T, tr *trial) { tr.pub.RevokedPCK = []*big.Int{tr.pck.Cert.SerialNumber} }},
		{"revoked_pck_ca", tdx, fault.PCKCARevoked, func(_ *testing.T, tr *trial) {
			tr.pub.RevokedByRoot = []*big.Int{tr.network.PCKCA.Cert.SerialNumber}
		}},
		{"crl_expired", tdx, fault.CRLExpired, func(_ *testing.T, tr *trial) { tr.pub.CRLNext = testNow.Add(-time.Second) }},
		{"crl_from_the_future", tdx, fault.CRLExpired, func(_ *testing.T, tr *trial) { tr.pub.CRLIssued = testNow.Add(time.Second) }},
		{"root_crl_in_place_of_pck_crl", tdx, fault.CRLSignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.PCKCRL = c.RootCRL }
		}},
		{"crl_forged", tdx, fault.CRLSignature, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.PCKCRL[len(c.PCKCRL)-5] ^= 1 }
		}},
		{"crl_truncated", tdx, fault.CRLMalformed, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.PCKCRL = c.PCKCRL[:len(c.PCKCRL)-1] }
		}},
		{"crl_missing", tdx, fault.CRLMalformed, func(_ *testing.T, tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.RootCRL = nil }
		}},
		{"pck_expired", tdx, fault.PCKExpired, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.NotAfter = testNow.Add(-time.Second) })
		}},
		{"pck_not_yet_valid", tdx, fault.PCKExpired, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.NotBefore = testNow.Add(time.Second) })
		}},
		{"pck_without_extension", tdx, fault.PCKExtension, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.Extensions = nil })
		}},
		{"pck_extension_cut", tdx, fault.PCKExtension, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.Extensions[0].Value = p.Extensions[0].Value[:40] })
		}},
		{"pck_misnamed", tdx, fault.PCKChain, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.CommonName = "Intel SGX PCK" })
		}},
		{"pck_is_a_ca", tdx, fault.PCKChain, func(t *testing.T, tr *trial) {
			tr.reissuePCK(t, nil, func(p *simulator.Profile) { p.CA, p.Usage = true, x509.KeyUsageCertSign })
		}},
		{"pck_issued_by_root", tdx, fault.PCKChain, func(t *testing.T, tr *trial) {
			p := simulator.LeafProfile(dcap.NamePCK)
			tr.pck = tr.authority(t, p, &tr.network.Root)
		}},
		{"tcb_signer_as_pck", tdx, fault.PCKChain, func(_ *testing.T, tr *trial) { tr.pck = tr.network.TCBSigner }},
		{"pck_of_the_other_ca", tdx, fault.CollateralMismatch, func(t *testing.T, tr *trial) {
			other := tr.authority(t, simulator.CAProfile(dcap.NameProcessorCA, 0), &tr.network.Root)
			tr.quote.Chain[1] = other.Cert.Raw
		}},
		{"foreign_pck_ca", tdx, fault.PCKChain, func(t *testing.T, tr *trial) {
			foreign := tr.authority(t, simulator.CAProfile(dcap.NameRootCA, 1), nil)
			other := tr.authority(t, simulator.CAProfile(dcap.NamePlatformCA, 0), &foreign)
			tr.quote.Chain[1] = other.Cert.Raw
		}},
		{"foreign_root", tdx, fault.PCKRoot, func(t *testing.T, tr *trial) {
			foreign := tr.authority(t, simulator.CAProfile(dcap.NameRootCA, 1), nil)
			root, err := dcap.NewRoot(foreign.Cert.Raw)
			if err != nil {
				t.Fatal(err)
			}
			tr.root = root
		}},
		{"root_reissued_with_the_same_key", tdx, fault.PCKRoot, func(t *testing.T, tr *trial) {
			p := simulator.CAProfile(dcap.NameRootCA, 1)
			p.Key = tr.network.Root.Key
			tr.quote.Chain[2] = tr.authority(t, p, nil).Cert.Raw
		}},
		{"short_pck_chain", tdx, fault.PCKChain, func(_ *testing.T, tr *trial) { tr.quote.Chain = tr.quote.Chain[:2] }},
		{"long_pck_chain", tdx, fault.PCKChain, func(_ *testing.T, tr *trial) {
			tr.quote.Chain = append(tr.quote.Chain, tr.quote.Chain[2])
		}},
		{"after_every_validity", tdx, fault.PCKExpired, func(_ *testing.T, tr *trial) { tr.now = testNow.AddDate(100, 0, 0) }},
		{"ten_years_later", tdx, fault.CRLExpired, func(_ *testing.T, tr *trial) { tr.now = testNow.AddDate(10, 0, 0) }},

		// The quote itself.
		{"cert_type_3", tdx, fault.QuoteCertType, func(_ *testing.T, tr *trial) { tr.quote.CertType = 3 }},
		{"cert_type_3_sgx", sgx, fault.QuoteCertType, func(_ *testing.T, tr *trial) { tr.quote.CertType = 3 }},
		{"key_type_3", tdx, fault.QuoteVersion, func(_ *testing.T, tr *trial) { tr.quote.KeyType = 3 }},
		{"version_6", tdx, fault.QuoteVersion, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { b[0] = 6; return b }
		}},
		{"foreign_qe_vendor", tdx, fault.QuoteVendor, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { b[12] ^= 1; return b }
		}},
		{"truncated_quote", tdx, fault.QuoteMalformed, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { return b[:len(b)-1] }
		}},
		{"trailing_bytes", tdx, fault.QuoteMalformed, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { return append(b, 0) }
		}},
		{"oversized_quote", tdx, fault.QuoteMalformed, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { return append(b, make([]byte, dcap.MaxQuote)...) }
		}},
		{"flipped_report_data", tdx, fault.QuoteSignature, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { b[48+520] ^= 1; return b }
		}},
		{"signed_by_another_key", tdx, fault.QEReportData, func(_ *testing.T, tr *trial) {
			tr.quote.KeepReportData = true // certifies nothing
			tr.sign = tr.machine.PCK.Key.(*ecdsa.PrivateKey)
		}},
		{"quote_of_version_4_called_5", tdx, fault.QuoteVersion, func(_ *testing.T, tr *trial) {
			tr.editQuote = func(b []byte) []byte { b[0] = 5; return b }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTrial(c.tee)
			c.edit(t, tr)
			r, err := tr.verify(t)
			if r != nil || !errors.Is(err, c.code) {
				t.Fatalf("got %v, %v; want %s", r, err, c.code)
			}
			if fault.CodeOf(err) != c.code || c.code.Step() == "" {
				t.Fatalf("code of %v is %q", err, fault.CodeOf(err))
			}
		})
	}
}

// pemOf returns the quote's PEM text.
func pemOf(quote []byte) []byte { return quote[bytes.Index(quote, []byte("-----BEGIN")):] }

// TestEveryByteCounts changes every byte of a quote, one at a time, and those
// of its collateral: what is still accepted must give the same verdict, and
// then only bytes that no signature covers may differ.
func TestEveryByteCounts(t *testing.T) {
	for _, tee := range []attest.TEE{attest.SGX, attest.TDX} {
		tr := newTrial(tee)
		quote, c := tr.bytes(t)
		want, err := dcap.Verify(quote, c, tr.root, tr.now)
		if err != nil {
			t.Fatal(err)
		}
		// Every third byte and every bit pattern in turn keep the test short.
		for i := 0; i < len(quote); i += 3 {
			changed := bytes.Clone(quote)
			changed[i] ^= 1 << (i % 8)
			if r, err := dcap.Verify(changed, c, tr.root, tr.now); err == nil {
				// The quote's chain has no unsigned byte but in certificates'
				// signatures, and ECDSA accepts one s more of each at most.
				t.Fatalf("%s: accepted with byte %d changed: %v", tee, i, reflect.DeepEqual(r, want))
			}
		}
		for part := range c.Fields() {
			for i := 0; i < len(*c.Fields()[part]); i += 3 {
				other := *c
				field := other.Fields()[part]
				*field = bytes.Clone(*field)
				(*field)[i] ^= 1 << (i % 8)
				if r, err := dcap.Verify(quote, &other, tr.root, tr.now); err == nil && (!reflect.DeepEqual(r, want) || !sameSigned(&other, c)) {
					t.Fatalf("%s: accepted with byte %d of part %d of the collateral changed", tee, i, part)
				}
			}
		}
	}
}

// TestHighSInCertificates: the signature inside a certificate is malleable and covered by
// nothing. Such a chain is accepted, with the same verdict, wherever the other s is. Above
// all in the PCK CA of the collateral: anybody may bring that to a chain, and Intel's with
// the other s would shut out every platform of its families.
func TestHighSInCertificates(t *testing.T) {
	ca := flipCertificate(t, newBench().network.PCKCA.Cert)
	for _, c := range []struct {
		name string
		edit func(*trial)
	}{
		{"PCK certificate", func(tr *trial) { tr.pck.Cert = &x509.Certificate{Raw: flipCertificate(t, tr.pck.Cert)} }},
		{"PCK CA of the quote", func(tr *trial) { tr.quote.Chain[1] = ca }},
		{"PCK CA of the collateral", func(tr *trial) { tr.editResult = func(c *dcap.Collateral) { c.PCKCA = ca } }},
		{"signer of TCB info", func(tr *trial) {
			tr.editResult = func(c *dcap.Collateral) { c.TCBInfoSigner = flipCertificate(t, tr.network.TCBSigner.Cert) }
		}},
	} {
		tr := newTrial(attest.TDX)
		want, err := tr.verify(t)
		if err != nil {
			t.Fatal(err)
		}
		c.edit(tr)
		got, err := tr.verify(t)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got.Quote, want.Quote = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: verdicts differ: %+v, %+v", c.name, got, want)
		}
	}
}

// flipCertificate replaces s by n-s in a certificate's signature.
func flipCertificate(t *testing.T, cert *x509.Certificate) []byte {
	t.Helper()
	var outer struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(cert.Raw, &outer); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(outer.Signature.Bytes, &sig); err != nil {
		t.Fatal(err)
	}
	sig.S.Sub(elliptic.P256().Params().N, sig.S)
	der, err := asn1.Marshal(sig)
	if err != nil {
		t.Fatal(err)
	}
	outer.Signature = asn1.BitString{Bytes: der, BitLength: 8 * len(der)}
	out, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
