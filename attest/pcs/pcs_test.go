package pcs_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/attest/snp"
)

// recorded are answers by path and query. It keeps what was asked.
type recorded struct {
	mu    sync.Mutex
	asked []string
	by    map[string]func(http.ResponseWriter)
}

func (s *recorded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.RequestURI())
	answer := s.by[r.URL.RequestURI()]
	s.mu.Unlock()
	if answer == nil {
		http.NotFound(w, r)
		return
	}
	answer(w)
}

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T, o pcs.Options) *pcs.Client {
	t.Helper()
	c, err := pcs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func body(header, value string, b []byte) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		if header != "" {
			w.Header().Set(header, url.PathEscape(value))
		}
		w.Write(b)
	}
}

func at(now time.Time) func() time.Time { return func() time.Time { return now } }

const tdxKey = "tdx/b0c06f000000/platform"

// intel serves the recorded collateral of a real TDX platform as Intel's service gives it.
func intel(t *testing.T) *recorded {
	t.Helper()
	var m map[string]string
	if err := json.Unmarshal(fixture.Shared(t, "tdx_quote_collateral.json"), &m); err != nil {
		t.Fatal(err)
	}
	crl := func(name string) []byte {
		b, err := hex.DecodeString(m[name])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tcb := fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, m["tcb_info"], m["tcb_info_signature"])
	qe := fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, m["qe_identity"], m["qe_identity_signature"])
	return &recorded{by: map[string]func(http.ResponseWriter){
		"/tdx/certification/v4/tcb?fmspc=B0C06F000000":              body("TCB-Info-Issuer-Chain", m["tcb_info_issuer_chain"], tcb),
		"/tdx/certification/v4/tcb?fmspc=B0C06F000000&update=early": body("TCB-Info-Issuer-Chain", m["tcb_info_issuer_chain"], tcb),
		"/tdx/certification/v4/qe/identity":                         body("SGX-Enclave-Identity-Issuer-Chain", m["qe_identity_issuer_chain"], qe),
		"/tdx/certification/v4/qe/identity?update=early":            body("SGX-Enclave-Identity-Issuer-Chain", m["qe_identity_issuer_chain"], qe),
		"/sgx/certification/v4/pckcrl?ca=platform&encoding=der":     body("SGX-PCK-CRL-Issuer-Chain", m["pck_crl_issuer_chain"], crl("pck_crl")),
		"/sgx/certification/v4/rootcacrl":                           body("", "", []byte(m["root_ca_crl"])), // a PCCS gives hexadecimal
	}}
}

var june2025 = time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)

func TestRealIntelCollateral(t *testing.T) {
	server := intel(t)
	c := client(t, pcs.Options{Intel: serve(t, server) + "/", Roots: attest.ProductionRoots(), Now: at(june2025)})
	got, info, err := c.Collateral(t.Context(), tdxKey)
	if err != nil {
		t.Fatal(err)
	}
	want := &attest.Collateral{TEE: attest.TDX, DCAP: fixture.QVLCollateral(t, fixture.Shared(t, "tdx_quote_collateral.json"))}
	if !bytes.Equal(got.Marshal(), want.Marshal()) || info.Key != tdxKey || info.DCAP.Evaluation != 17 {
		t.Errorf("another collateral than was recorded: %+v", info)
	}
	if _, early, err := c.Early(t.Context(), tdxKey); err != nil || early.DCAP.Evaluation != 17 {
		t.Error(err)
	}
	quote, err := dcap.Canonical(fixture.Shared(t, "tdx_quote"))
	if err != nil {
		t.Fatal(err)
	}
	ev, v, err := c.Complete(t.Context(), attest.Evidence{TEE: attest.TDX, Report: quote})
	if err != nil || v.TCBStatus != dcap.UpToDate {
		t.Fatal(v, err)
	}
	if _, err := attest.Verify(ev, attest.ProductionRoots(), june2025); err != nil {
		t.Error(err)
	}
}

// Recorded answers about an SGX platform, which go-tdx-guest and oasis-core keep. Their days
// have no revocation lists, so they cannot be accepted: with lists of later days everything
// is found good up to the signer of the TCB info, whose certificate had ended by then.
func TestRealSGXAnswers(t *testing.T) {
	server := intel(t)
	chain := string(fixture.File(t, "oasis/tcb_info_v3_fmspc_00606A000000_certs.pem"))
	server.by["/sgx/certification/v4/tcb?fmspc=00606A000000"] = body("TCB-Info-Issuer-Chain", chain, fixture.File(t, "oasis/tcb_info_v3_fmspc_00606A000000.json"))
	server.by["/sgx/certification/v4/qe/identity"] = body("SGX-Enclave-Identity-Issuer-Chain", chain, fixture.File(t, "oasis/qe_identity_v2.json"))
	c := client(t, pcs.Options{Intel: serve(t, server), Roots: attest.ProductionRoots(), Now: at(june2025)})
	_, _, err := c.Collateral(t.Context(), "sgx/00606a000000/platform")
	var refused *fault.Error
	if !errors.Is(err, pcs.CodeRefused) || !errors.As(err, &refused) || refused.Code != fault.TCBInfoChain || !strings.Contains(refused.Error(), "not valid at this time") {
		t.Fatal(err, server.asked)
	}
	if len(server.asked) != 4 {
		t.Errorf("asked %v", server.asked)
	}
}

// Recorded AMD certificates, with the report that they belong to.
func TestRealAMDCertificates(t *testing.T) {
	pemOf := func(name string) []byte { return fixture.Certificates(t, fixture.Shared(t, name))[0] }
	report := fixture.Shared(t, "sev_snp_attestation.bin")[4:]
	report, err := snp.Canonical(report[:snp.ReportSize])
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(report)
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := r.Product(); p != snp.Milan || !ok {
		t.Errorf("a Milan report says %q", p)
	}
	tcb := r.ReportedVersion(snp.Milan)
	ask := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pemOf("sev_snp_ask.pem")})
	ark := fixture.Certificates(t, fixture.File(t, "../roots/amd_ark_milan.pem"))[0]
	server := &recorded{by: map[string]func(http.ResponseWriter){
		"/vcek/v1/Milan/cert_chain": body("", "", append(ask, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ark})...)),
		"/vcek/v1/Milan/crl":        body("", "", nil), // none was recorded
		fmt.Sprintf("/vcek/v1/Milan/%x?blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", r.ChipID, tcb.Bootloader, tcb.TEE, tcb.SNP, tcb.Microcode): body("", "", pemOf("sev_snp_vcek.pem")),
	}}
	c := client(t, pcs.Options{AMD: serve(t, server), Roots: attest.ProductionRoots(), Now: at(time.Date(2026, 6, 18, 0, 0, 0, 0, time.UTC))})
	ev, v, err := c.Complete(t.Context(), attest.Evidence{TEE: attest.SNP, Report: report})
	if err != nil {
		t.Fatal(err, server.asked)
	}
	if v.Product != snp.Milan || len(ev.Certificate) == 0 || ev.Collateral == nil {
		t.Errorf("%+v", v)
	}
}

// What the endpoint or somebody on the way makes of an answer is never handed on.
func TestRefused(t *testing.T) {
	const (
		tcb  = "/tdx/certification/v4/tcb?fmspc=B0C06F000000"
		qe   = "/tdx/certification/v4/qe/identity"
		crl  = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
		root = "/sgx/certification/v4/rootcacrl"
	)
	for _, c := range []struct {
		name string
		want error
		edit func(s *recorded)
	}{
		{"missing", pcs.CodeStatus, func(s *recorded) { delete(s.by, qe) }},
		{"error with a body", pcs.CodeStatus, func(s *recorded) {
			was := s.by[tcb]
			s.by[tcb] = func(w http.ResponseWriter) { w.WriteHeader(http.StatusAccepted); was(w) }
		}},
		{"redirect", pcs.CodeStatus, func(s *recorded) {
			s.by["/elsewhere"] = s.by[tcb]
			s.by[tcb] = func(w http.ResponseWriter) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(http.StatusFound)
			}
		}},
		{"endless", pcs.CodeTooLarge, func(s *recorded) {
			s.by[root] = func(w http.ResponseWriter) {
				for range 200 {
					if _, err := w.Write(make([]byte, 1024)); err != nil {
						return
					}
				}
			}
		}},
		{"cut off", pcs.CodeUnreachable, func(s *recorded) {
			s.by[crl] = func(w http.ResponseWriter) { w.Header().Set("Content-Length", "9999"); w.Write([]byte("short")) }
		}},
		{"a page", pcs.CodeMalformed, func(s *recorded) { s.by[tcb] = body("", "", []byte("<html>")) }},
		{"no chain", pcs.CodeMalformed, func(s *recorded) {
			was := httptest.NewRecorder()
			s.by[crl](was)
			s.by[crl] = body("", "", was.Body.Bytes())
		}},
		{"documents exchanged", pcs.CodeMalformed, func(s *recorded) { s.by[tcb] = s.by[qe] }},
		{"root list of the PCK authority", fault.CRLSignature, func(s *recorded) { s.by[root] = s.by[crl] }},
		{"a byte of TCB info", fault.TCBInfoSignature, func(s *recorded) {
			was := httptest.NewRecorder()
			s.by[tcb](was)
			chain, _ := url.PathUnescape(was.Header().Get("TCB-Info-Issuer-Chain"))
			s.by[tcb] = body("TCB-Info-Issuer-Chain", chain, bytes.Replace(was.Body.Bytes(), []byte("UpToDate"), []byte("upToDate"), 1))
		}},
	} {
		server := intel(t)
		c.edit(server)
		cl := client(t, pcs.Options{Intel: serve(t, server), Roots: attest.ProductionRoots(), Now: at(june2025)})
		got, _, err := cl.Collateral(t.Context(), tdxKey)
		if !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	server := intel(t)
	address := serve(t, server)
	for _, c := range []struct {
		name string
		key  string
		now  time.Time
		want error
	}{
		{"expired", tdxKey, june2025.AddDate(1, 0, 0), fault.CRLExpired},
		{"not yet valid", tdxKey, june2025.AddDate(0, -1, 0), fault.CRLExpired},
		{"unknown class", "tpm/b0c06f000000/platform", june2025, pcs.CodeKey},
		{"unknown authority", "tdx/b0c06f000000/root", june2025, pcs.CodeKey},
		{"short FMSPC", "tdx/b0c06f/platform", june2025, pcs.CodeKey},
		{"path in it", "tdx/../platform", june2025, pcs.CodeKey},
		{"nothing", "", june2025, pcs.CodeKey},
		{"another platform", "tdx/b0c06f000001/platform", june2025, pcs.CodeStatus},
	} {
		cl := client(t, pcs.Options{Intel: address, Roots: attest.ProductionRoots(), Now: at(c.now)})
		if _, _, err := cl.Collateral(t.Context(), c.key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// One platform's answer is not another's, however validly signed.
	server.by["/tdx/certification/v4/tcb?fmspc=B0C06F000001"] = server.by[tcb]
	cl := client(t, pcs.Options{Intel: address, Roots: attest.ProductionRoots(), Now: at(june2025)})
	if _, _, err := cl.Collateral(t.Context(), "tdx/b0c06f000001/platform"); !errors.Is(err, pcs.CodeRefused) || !strings.Contains(err.Error(), "about "+tdxKey) {
		t.Error(err)
	}
	cl = client(t, pcs.Options{Intel: address, Now: at(june2025)})
	if _, _, err := cl.Collateral(t.Context(), tdxKey); !errors.Is(err, fault.RootsUnknown) {
		t.Errorf("without roots: %v", err)
	}
}

func TestEndpoints(t *testing.T) {
	for _, bad := range []string{"pccs.example", "ftp://pccs.example", "https://", "https://user@pccs.example", "https://pccs.example/?x=1", "https://pccs.example/#x", "://"} {
		for _, o := range []pcs.Options{{Intel: bad}, {AMD: bad}} {
			if _, err := pcs.New(o); !errors.Is(err, pcs.CodeEndpoint) {
				t.Errorf("%s: %v", bad, err)
			}
		}
	}
	c := client(t, pcs.Options{Intel: "http://127.0.0.1:1", Roots: attest.ProductionRoots()})
	if _, _, err := c.Collateral(t.Context(), tdxKey); !errors.Is(err, pcs.CodeUnreachable) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Collateral(ctx, tdxKey); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Everything once more over simulated services, which also have what was not recorded.
func TestSimulatedServices(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	n, err := simulator.NewNetwork(now, true)
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(now)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := n.Verifier()
	if err != nil {
		t.Fatal(err)
	}
	service := &simulator.Service{Network: n, Machines: []*simulator.Machine{m}, Publish: func(tee attest.TEE, of simulator.Edition) (*attest.Collateral, error) {
		s := simulator.State{Evaluation: 5}
		if of.Early {
			s = simulator.State{Evaluation: 6, Status: string(dcap.OutOfDate)}
		}
		return n.Collateral(n.Publication(tee, now, s))
	}}
	address := serve(t, service.Handler())
	c := client(t, pcs.Options{Intel: address, AMD: address, Roots: roots, Now: at(now)})
	for _, tee := range []attest.TEE{attest.SGX, attest.TDX, attest.SNP} {
		ev, err := m.Evidence(tee, []byte{1}, [64]byte{2})
		if err != nil {
			t.Fatal(err)
		}
		ev.Certificate = nil // as configfs gives it where the host has no table
		full, v, err := c.Complete(t.Context(), ev)
		if err != nil {
			t.Errorf("%s: %v", tee, err)
			continue
		}
		if v.ReportData != [64]byte{2} || !v.Simulated || !v.RevocationChecked {
			t.Errorf("%s: %+v", tee, v)
		}
		key, err := full.CollateralKey()
		if err != nil {
			t.Fatal(err)
		}
		early, info, err := c.Early(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		full.Collateral = early
		if v, err = attest.Verify(full, roots, now); err != nil || tee != attest.SNP && (v.TCBStatus != dcap.OutOfDate || info.DCAP.Evaluation != 6) {
			t.Errorf("%s: %+v, %v", tee, v, err)
		}
	}
	// A report of version 2 names no product: those that have such are tried.
	r := m.Report([]byte{1}, [64]byte{})
	r.Version, r.CPUID = 2, [3]byte{}
	b, err := simulator.SignReport(r, m.VCEKKey())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Complete(t.Context(), attest.Evidence{TEE: attest.SNP, Report: b}); err != nil {
		t.Errorf("version 2: %v", err)
	}
	// Real roots accept nothing of it.
	c = client(t, pcs.Options{Intel: address, AMD: address, Roots: attest.ProductionRoots(), Now: at(now)})
	for _, key := range []string{"tdx/deadbeef0001/platform", "sgx/deadbeef0001/platform", "snp/Milan"} {
		if _, _, err := c.Collateral(t.Context(), key); !errors.Is(err, pcs.CodeRefused) {
			t.Errorf("%s under the vendors' roots: %v", key, err)
		}
	}
}

// The simulator's own program answers in the same way, below /vendor.
func TestSimulatorProgram(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	store, err := simulator.Open(t.TempDir(), now, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := store.Machine("a", now)
	if err != nil {
		t.Fatal(err)
	}
	s := &simulator.Server{Store: store, Machine: m, MachineName: "a", TEE: attest.TDX, Measurement: []byte{1}, Now: at(now)}
	c := client(t, pcs.Options{Intel: serve(t, s.Handler()) + "/vendor", Roots: store.Roots, Now: at(now)})
	ev, err := m.Evidence(attest.TDX, []byte{1}, [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Complete(t.Context(), ev); err != nil {
		t.Error(err)
	}
}
