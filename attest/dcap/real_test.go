package dcap

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/pki"
)

// These tests are inside the package because most of the real evidence comes
// without revocation lists, which Verify demands: they verify everything else
// with lists that are empty.

func intelRoot(t testing.TB) *Root {
	t.Helper()
	text, err := os.ReadFile("../roots/intel_sgx_root_ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	root, err := NewRoot(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withoutCRLs does what Verify does but for revocation.
func withoutCRLs(t *testing.T, quote, tcbResponse, qeResponse []byte, chain string, root *Root, now time.Time) (*Result, error) {
	t.Helper()
	q, err := ParseQuote(quote)
	if err != nil {
		return nil, err
	}
	v := &verified{pck: new(pki.CRL)}
	if v.ca, err = pki.ParseCertificate(q.PCKChain[1]); err != nil {
		return nil, err
	}
	if err := v.ca.IssuedBy(root.cert); err != nil {
		return nil, err
	}
	leaf, platform, err := verifyPCK(q, v, root, now)
	if err != nil {
		return nil, err
	}
	if err := q.verifySignatures(leaf); err != nil {
		return nil, err
	}
	responses := Responses{
		TCBInfo: tcbResponse, TCBInfoChain: chain, QEIdentity: qeResponse, QEIdentityChain: chain,
		PCKCRLChain: string(encodePEM(q.PCKChain[1:])),
	}
	c, err := responses.Collateral()
	if err != nil {
		return nil, err
	}
	signer, err := verifySigner(c.TCBInfoSigner, root.cert, new(pki.CRL), now, fault.TCBInfoChain, fault.TCBInfoRevoked)
	if err != nil {
		return nil, err
	}
	if !verifyRaw(signer.ECDSA, c.TCBInfo, c.TCBInfoSignature) || !verifyRaw(signer.ECDSA, c.QEIdentity, c.QEIdentitySignature) {
		return nil, errors.New("TCB info or QE identity: wrong signature")
	}
	if v.tcb, err = parseTCBInfo(c.TCBInfo); err != nil {
		return nil, err
	}
	if v.qe, err = parseQEIdentity(c.QEIdentity); err != nil {
		return nil, err
	}
	if err := checkDates(v.tcb.issueDate, v.tcb.nextUpdate, now, fault.TCBInfoFuture, fault.TCBInfoExpired); err != nil {
		return nil, err
	}
	if err := checkDates(v.qe.issueDate, v.qe.nextUpdate, now, fault.QEFuture, fault.QEExpired); err != nil {
		return nil, err
	}
	return q.judge(v, leaf, platform)
}

func TestRealQuotesWithoutRevocationLists(t *testing.T) {
	root := intelRoot(t)
	chain := string(testdata(t, "oasis/tcb_info_v3_fmspc_00606A000000_certs.pem"))
	canonical := func(name string) []byte {
		t.Helper()
		q, err := Canonical(testdata(t, name))
		if err != nil {
			t.Fatal(name, err)
		}
		return q
	}
	const dec2022, sep2024, jun2023 = 1671497404, 1725263032, 1687091776
	for _, c := range []struct {
		name, quote, tcb, qe string
		now                  int64
		status               Status
		fmspc                string
		refused              fault.Code
	}{
		{name: "SGX v3, December 2022", quote: "oasis/quote_v3_ecdsa_p256_pck_chain.bin", tcb: "oasis/tcb_info_v3_fmspc_00606A000000.json", qe: "oasis/qe_identity_v2.json",
			now: dec2022, status: SWHardeningNeeded, fmspc: "00606a000000"},
		{name: "SGX v3, before the PCK certificate was made", quote: "oasis/quote_v3_ecdsa_p256_pck_chain.bin", tcb: "oasis/tcb_info_v3_fmspc_00606A000000.json", qe: "oasis/qe_identity_v2.json",
			now: 1670238720, refused: fault.PCKExpired},
		{name: "SGX v3, collateral from the future", quote: "oasis/quote_v3_ecdsa_p256_pck_chain.bin", tcb: "oasis/tcb_info_v3_fmspc_00606A000000.json", qe: "oasis/qe_identity_v2.json",
			now: 1671194735, refused: fault.TCBInfoFuture},
		{name: "SGX v3, collateral expired", quote: "oasis/quote_v3_ecdsa_p256_pck_chain.bin", tcb: "oasis/tcb_info_v3_fmspc_00606A000000.json", qe: "oasis/qe_identity_v2.json",
			now: 1675000000, refused: fault.TCBInfoExpired},
		{name: "SGX v3, today: the TCB signer has expired", quote: "oasis/quote_v3_ecdsa_p256_pck_chain.bin", tcb: "oasis/tcb_info_v3_fmspc_00606A000000.json", qe: "oasis/qe_identity_v2.json",
			now: time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC).Unix(), refused: fault.TCBInfoChain},
		{name: "TDX v4, September 2024", quote: "oasis/quote_v4_tdx_ecdsa_p256.bin", tcb: "oasis/tcb_info_v3_tdx_fmspc_C0806F000000.json", qe: "oasis/qe_identity_v2_tdx2.json",
			now: sep2024, status: UpToDate, fmspc: "c0806f000000"},
		{name: "TDX v4 with the TCB info of another family", quote: "oasis/quote_v4_tdx_ecdsa_p256.bin", tcb: "oasis/tcb_info_v3_tdx_fmspc_50806F000000.json", qe: "oasis/qe_identity_v2_tdx.json",
			now: jun2023, refused: fault.PCKExpired},
		{name: "TDX v4, module below every level", quote: "oasis/quote_v4_tdx_ecdsa_p256_out_of_date.bin", tcb: "oasis/tcb_info_v3_tdx_fmspc_50806F000000.json", qe: "oasis/qe_identity_v2_tdx.json",
			now: jun2023, refused: fault.TCBUnsupported},
		{name: "TDX v4 of google, July 2023", quote: "google-tdx/tdx_prod_quote_SPR_E4.dat", tcb: "google-tdx/sample_tcbInfo_response", qe: "google-tdx/sample_qeIdentity_response",
			now: time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC).Unix(), refused: fault.TCBUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Unix(c.now, 0).UTC()
			r, err := withoutCRLs(t, canonical(c.quote), testdata(t, c.tcb), testdata(t, c.qe), chain, root, now)
			if c.refused != "" {
				if !errors.Is(err, c.refused) {
					t.Fatalf("got %v, want %s", err, c.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != c.status || hex.EncodeToString(r.Platform.FMSPC[:]) != c.fmspc {
				t.Fatalf("status %s of %x, want %s of %s", r.Status, r.Platform.FMSPC, c.status, c.fmspc)
			}
		})
	}
	t.Run("a chain that is not the TCB signer's", func(t *testing.T) {
		bad := string(testdata(t, "oasis/tcb_info_v3_fmspc_00606A000000_certs_bad.pem"))
		_, err := withoutCRLs(t, canonical("oasis/quote_v3_ecdsa_p256_pck_chain.bin"), testdata(t, "oasis/tcb_info_v3_fmspc_00606A000000.json"),
			testdata(t, "oasis/qe_identity_v2.json"), bad, root, time.Unix(dec2022, 0))
		if !errors.Is(err, fault.TCBInfoChain) {
			t.Fatal(err)
		}
	})
}

// TestRealSignatures verifies quotes of which nothing but the quote is at hand:
// chain, QE report and quote signature.
func TestRealSignatures(t *testing.T) {
	root := intelRoot(t)
	for _, c := range []struct {
		name    string
		version uint16
		now     time.Time
		fmspc   string
		td15    bool
	}{
		{"google-tdx/quote_v5_sample.dat", 5, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), "90c06f000000", true},
		{"google-tdx/tdx_prod_quote_SPR_E4.dat", 4, time.Date(2023, 7, 1, 0, 0, 0, 0, time.UTC), "50806f000000", false},
		{"google-tdx/cos-113-tdx-quote.dat", 4, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), "00806f050000", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, err := Canonical(testdata(t, c.name))
			if err != nil {
				t.Fatal(err)
			}
			q, err := ParseQuote(raw)
			if err != nil {
				t.Fatal(err)
			}
			v := &verified{pck: new(pki.CRL)}
			if v.ca, err = pki.ParseCertificate(q.PCKChain[1]); err != nil {
				t.Fatal(err)
			}
			leaf, platform, err := verifyPCK(q, v, root, c.now)
			if err != nil {
				t.Fatal(err)
			}
			if err := q.verifySignatures(leaf); err != nil {
				t.Fatal(err)
			}
			if q.Version != c.version || q.TD.HasTD15 != c.td15 || hex.EncodeToString(platform.FMSPC[:]) != c.fmspc {
				t.Fatalf("version %d, longer body %v, FMSPC %x", q.Version, q.TD.HasTD15, platform.FMSPC)
			}
			q.signed[100] ^= 1
			if err := q.verifySignatures(leaf); !errors.Is(err, fault.QuoteSignature) {
				t.Fatalf("changed body: %v", err)
			}
		})
	}
}

func TestRealRefused(t *testing.T) {
	for _, c := range []struct {
		name, file string
		code       fault.Code
	}{
		{"PPID certification data", "oasis/quote_v3_ecdsa_p256_eppid.bin", fault.QuoteCertType},
		{"trailing bytes", "oasis/quote_v4_tdx_ecdsa_p256_trailing.bin", fault.QuoteMalformed},
		{"padded to 8000 bytes", "google-tdx/cos-113-tdx-quote.dat", fault.QuoteMalformed},
		{"high s, as hardware made it", "oasis/quote_v4_tdx_ecdsa_p256.bin", fault.QuoteNotCanonical},
		{"NUL after the PEM text", "oasis/quote_v3_ecdsa_p256_pck_chain.bin", fault.QuoteNotCanonical},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ParseQuote(testdata(t, c.file)); !errors.Is(err, c.code) {
				t.Fatalf("got %v, want %s", err, c.code)
			}
		})
	}
}

// TestCanonicalReal: every quote has one canonical form, whatever was done to
// its unsigned parts, and a canonical quote is its own.
func TestCanonicalReal(t *testing.T) {
	for _, name := range []string{
		"oasis/quote_v3_ecdsa_p256_pck_chain.bin", "oasis/quote_v4_tdx_ecdsa_p256.bin",
		"google-tdx/quote_v5_sample.dat", "google-tdx/cos-113-tdx-quote.dat",
	} {
		raw := testdata(t, name)
		once, err := Canonical(raw)
		if err != nil {
			t.Fatal(name, err)
		}
		twice, err := Canonical(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s: canonical form of the canonical form differs (%v)", name, err)
		}
		padded, err := Canonical(append(bytes.Clone(once), make([]byte, 100)...))
		if err != nil || !bytes.Equal(once, padded) {
			t.Fatalf("%s: padding changes the canonical form (%v)", name, err)
		}
		q, _ := ParseQuote(once)
		flipped := bytes.Clone(once)
		for _, at := range []int{q.sigOffset, q.qeSigOffset} {
			flipS(flipped[at:])
		}
		if _, err := ParseQuote(flipped); !errors.Is(err, fault.QuoteNotCanonical) {
			t.Fatalf("%s: high s: %v", name, err)
		}
		back, err := Canonical(flipped)
		if err != nil || !bytes.Equal(once, back) {
			t.Fatalf("%s: the high s changes the canonical form (%v)", name, err)
		}
		crlf := bytes.ReplaceAll(once[q.certOffset:], []byte("\n"), []byte("\r\n"))
		rewrapped := append(bytes.Clone(once[:q.certOffset]), crlf...)
		delta := len(crlf) - q.certLength
		adjust(rewrapped[q.certOffset-4:], delta)
		adjust(rewrapped[len(q.signed):], delta)
		if q.outerSizeAt != 0 {
			adjust(rewrapped[q.outerSizeAt:], delta)
		}
		if _, err := ParseQuote(rewrapped); !errors.Is(err, fault.QuoteNotCanonical) {
			t.Fatalf("%s: CRLF: %v", name, err)
		}
		if back, err = Canonical(rewrapped); err != nil || !bytes.Equal(once, back) {
			t.Fatalf("%s: line ends change the canonical form (%v)", name, err)
		}
	}
}

func flipS(sig []byte) { // s → n-s
	s := append([]byte{}, sig[32:64]...)
	borrow := 0
	n := p256N.Bytes()
	for i := 31; i >= 0; i-- {
		d := int(n[i]) - int(s[i]) - borrow
		borrow = 0
		if d < 0 {
			d, borrow = d+256, 1
		}
		sig[32+i] = byte(d)
	}
}

// TestRealTCBInfoV5 parses a TCB info of 2026 with hexadecimal in lower case.
func TestRealTCBInfoV5(t *testing.T) {
	doc, sig, err := splitSigned(testdata(t, "google-tdx/sample_tcbinfo_response_v5"), "tcbInfo")
	if err != nil || len(sig) != 64 {
		t.Fatal(err)
	}
	info, err := parseTCBInfo(doc)
	if err != nil {
		t.Fatal(err)
	}
	if info.tee != TDX || info.evaluation != 18 || len(info.modules) != 2 || len(info.levels) == 0 {
		t.Fatalf("%+v", info)
	}
	var td TDReport
	td.TEETCBSVN = [16]byte{4, 1}
	s, err := info.matchModule(&td)
	if err != nil || s.status != OutOfDate || strings.Join(s.advisories, " ") != "INTEL-SA-01036 INTEL-SA-01099" {
		t.Fatalf("module 1.4: %+v %v", s, err)
	}
}

func TestRealCRLs(t *testing.T) {
	root := intelRoot(t)
	list, err := pki.ParseCRL(testdata(t, "google-tdx/rootcrl.der"))
	if err != nil {
		t.Fatal(err)
	}
	if err := list.IssuedBy(root.cert); err != nil {
		t.Fatal(err)
	}
	q, err := parse(testdata(t, "google-tdx/tdx_prod_quote_SPR_E4.dat"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.ParseCertificate(q.PCKChain[1])
	if err != nil {
		t.Fatal(err)
	}
	pck, err := pki.ParseCRL(testdata(t, "google-tdx/pckcrl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pck.IssuedBy(ca); err != nil {
		t.Fatal(err)
	}
	if err := pck.IssuedBy(root.cert); err == nil {
		t.Fatal("a PCK CRL passed as the root's")
	}
	if pck.Len() == 0 || pck.Number == nil {
		t.Fatalf("%d entries, number %v", pck.Len(), pck.Number)
	}
}
