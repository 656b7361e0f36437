// Package oracle holds the attestation verifier against independent ones:
// google/go-tdx-guest and oasis-core's pcs for Intel, google/go-sev-guest for
// AMD. Where they disagree, the case says who is wrong and why, and asserts it:
// a disagreement that is not written down fails, and so does one that is gone.
package oracle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tdx-guest/pcs"
	tdxverify "github.com/google/go-tdx-guest/verify"
	"github.com/google/logger"
	oasis "github.com/oasisprotocol/oasis-core/go/common/sgx/pcs"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/simulator"
)

var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	logger.Init("", false, false, io.Discard)
	os.Exit(m.Run())
}

// evidence is what all judges are shown.
type evidence struct {
	quote []byte
	c     *dcap.Collateral
	root  *x509.Certificate
	now   time.Time
}

func text(chain ...[]byte) string {
	var b strings.Builder
	for _, der := range chain {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return b.String()
}

func signed(name string, document, signature []byte) []byte {
	return fmt.Appendf(nil, `{%q:%s,"signature":"%x"}`, name, document, signature)
}

// getter answers google's requests for collateral from memory.
type getter map[string]struct {
	header map[string][]string
	body   []byte
}

func (g getter) Get(u string) (map[string][]string, []byte, error) {
	a, ok := g[u]
	if !ok {
		return nil, nil, errors.New("nothing at " + u)
	}
	return a.header, a.body, nil
}

// errPanic is a judge that does not survive what it is shown.
var errPanic = errors.New("panic")

func (e *evidence) google() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	q, _, err := func() (fmspc [6]byte, ca dcap.CA, err error) {
		canonical, err := dcap.Canonical(e.quote)
		if err != nil {
			canonical = e.quote
		}
		return dcap.Claims(canonical)
	}()
	if err != nil {
		q = simulator.FMSPC
	}
	header := func(name string, der []byte) map[string][]string {
		return map[string][]string{name: {url.QueryEscape(text(der, e.root.Raw))}}
	}
	type answer = struct {
		header map[string][]string
		body   []byte
	}
	g := getter{
		pcs.TcbInfoURL(hex.EncodeToString(q[:])): answer{header(pcs.TcbInfoIssuerChainPhrase, e.c.TCBInfoSigner), signed("tcbInfo", e.c.TCBInfo, e.c.TCBInfoSignature)},
		pcs.QeIdentityURL():                      answer{header(pcs.SgxQeIdentityIssuerChainPhrase, e.c.QEIdentitySigner), signed("enclaveIdentity", e.c.QEIdentity, e.c.QEIdentitySignature)},
		pcs.PckCrlURL("platform"):                answer{header(pcs.SgxPckCrlIssuerChainPhrase, e.c.PCKCA), e.c.PCKCRL},
	}
	for _, u := range e.root.CRLDistributionPoints {
		g[u] = answer{nil, e.c.RootCRL}
	}
	pool := x509.NewCertPool()
	pool.AddCert(e.root)
	return tdxverify.RawTdxQuote(e.quote, &tdxverify.Options{
		CheckRevocations: true, GetCollateral: true, Getter: g, TrustedRoots: pool,
		Now: &tdxverify.TimeSet{PckCertChain: e.now, TcbInfo: e.now, QeIdentity: e.now, PckCrl: e.now, RootCaCrl: e.now},
	})
}

func (e *evidence) oasis() error {
	pool := x509.NewCertPool()
	pool.AddCert(e.root)
	saved := oasis.IntelTrustRoots
	oasis.IntelTrustRoots = pool // a package variable is how its root is chosen
	defer func() { oasis.IntelTrustRoots = saved }()
	var q oasis.Quote
	if err := q.UnmarshalBinary(e.quote); err != nil {
		return err
	}
	var bundle oasis.TCBBundle
	if err := json.Unmarshal(signed("tcbInfo", e.c.TCBInfo, e.c.TCBInfoSignature), &bundle.TCBInfo); err != nil {
		return err
	}
	if err := json.Unmarshal(signed("enclaveIdentity", e.c.QEIdentity, e.c.QEIdentitySignature), &bundle.QEIdentity); err != nil {
		return err
	}
	bundle.Certificates = []byte(text(e.c.TCBInfoSigner, e.root.Raw))
	_, err := q.Verify(&oasis.QuotePolicy{TCBValidityPeriod: 30, TDX: &oasis.TdxQuotePolicy{}}, e.now, &bundle)
	return err
}

func (e *evidence) ours() (*dcap.Result, error) {
	root, err := dcap.NewRoot(e.root.Raw)
	if err != nil {
		return nil, err
	}
	return dcap.Verify(e.quote, e.c, root, e.now)
}

// trial is a case before it is signed.
type trial struct {
	*evidence
	n     *simulator.Network
	m     *simulator.Machine
	pck   simulator.Authority
	quote *simulator.Quote
	pub   *simulator.Publication
	after func(*evidence)
}

func newTrial(t testing.TB, n *simulator.Network, m *simulator.Machine, tee attest.TEE) *trial {
	t.Helper()
	return &trial{
		evidence: &evidence{root: n.Root.Cert, now: testNow}, n: n, m: m, pck: m.PCK,
		quote: m.Quote(tee, []byte("software"), [64]byte{1}),
		pub:   n.Publication(tee, testNow, simulator.State{}),
	}
}

func (tr *trial) seal(t testing.TB) *evidence {
	t.Helper()
	tr.quote.Chain[0] = tr.pck.Cert.Raw
	var err error
	if tr.evidence.quote, err = tr.quote.Sign(tr.m.Attestation, tr.pck.Key.(*ecdsa.PrivateKey)); err != nil {
		t.Fatal(err)
	}
	c, err := tr.n.Collateral(tr.pub)
	if err != nil {
		t.Fatal(err)
	}
	tr.c = c.DCAP
	if tr.after != nil {
		tr.after(tr.evidence)
	}
	return tr.evidence
}

// sigOffset is where the quote's signature lies.
func sigOffset(q []byte) int {
	if q[0] == 3 {
		return 48 + 384 + 4
	}
	return 48 + 584 + 4
}

func highS(q []byte) {
	s := q[sigOffset(q)+32:][:32]
	n := elliptic.P256().Params().N
	new(big.Int).Sub(n, new(big.Int).SetBytes(s)).FillBytes(s)
}

const (
	accept = true
	refuse = false
)

func TestIntelVerifiersAgree(t *testing.T) {
	n, err := simulator.NewNetwork(testNow, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		t.Fatal(err)
	}
	authority := func(p simulator.Profile, issuer *simulator.Authority) simulator.Authority {
		a, err := simulator.NewAuthority(testNow, p, issuer)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	pck := func(edit func(*simulator.PCKExtension)) simulator.Authority {
		e := m.PCKExtension()
		edit(e)
		a, err := n.NewPCK(testNow, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	level := func(status string) func(*trial) {
		return func(tr *trial) { tr.pub.TCBInfo.Levels[0].Status = status }
	}
	version0 := func(f func(*trial)) func(*trial) {
		return func(tr *trial) { tr.quote.TD.TEETCBSVN[1] = 0; f(tr) }
	}
	const (
		masks   = "google drops the platform's status when the module has one of its own (module version 1 and later)"
		noCRL   = "oasis never reads revocation lists"
		onlyUp  = "google and oasis accept only some statuses; ours reports it and leaves it to policy"
		policy  = "google's verify leaves the software's attributes to its validate package; oasis looks at the debug bit only"
		malleab = "both accept what anyone can vary without breaking a signature"
		names   = "Intel's library reads the digits as hexadecimal in any case, google in small letters, oasis as decimal"
		strict  = "encoding/json keeps the last of repeated members and ignores unknown ones"
	)
	for _, c := range []struct {
		name          string
		sgx           bool
		edit          func(*trial)
		status        dcap.Status // ours, when accepted
		code          fault.Code  // ours, when refused
		google, oasis bool        // google is not asked about SGX
		why           string      // required where they differ
	}{
		{name: "valid TDX", edit: func(*trial) {}, status: dcap.UpToDate, google: accept, oasis: accept},
		{name: "valid SGX", sgx: true, edit: func(*trial) {}, status: dcap.UpToDate, oasis: accept},
		{name: "TDX, module version 0", edit: version0(func(*trial) {}), status: dcap.UpToDate, google: accept, oasis: accept},
		{name: "TDX v5, body of 1.5", edit: func(tr *trial) { tr.quote.Version, tr.quote.TD.HasTD15 = 5, true }, status: dcap.UpToDate,
			google: accept, oasis: refuse, why: "oasis knows versions 3 and 4 only"},

		{name: "another root", edit: func(tr *trial) {
			tr.root = authority(simulator.CAProfile(dcap.NameRootCA, 1), nil).Cert
		}, code: fault.PCKRoot},
		{name: "ten years later", edit: func(tr *trial) { tr.now = testNow.AddDate(10, 0, 0) }, code: fault.CRLExpired},
		{name: "report data changed", edit: func(tr *trial) { tr.after = func(e *evidence) { e.quote[48+530] ^= 1 } }, code: fault.QuoteSignature},
		{name: "report data changed, SGX", sgx: true, edit: func(tr *trial) { tr.after = func(e *evidence) { e.quote[48+330] ^= 1 } }, code: fault.QuoteSignature},
		{name: "attestation key not certified", edit: func(tr *trial) { tr.quote.KeepReportData = true }, code: fault.QEReportData},
		{name: "QE signer differs", edit: func(tr *trial) { tr.quote.QE.MRSIGNER[0] ^= 1 }, code: fault.QEMRSigner},
		{name: "QE product differs", edit: func(tr *trial) { tr.quote.QE.ISVProdID = 9 }, code: fault.QEProdID},
		{name: "QE attributes differ", edit: func(tr *trial) { tr.quote.QE.Attributes[0] = 1 }, code: fault.QEAttributes},
		{name: "QE miscselect differs", edit: func(tr *trial) { tr.quote.QE.MiscSelect = 1 }, code: fault.QEMiscSelect},
		{name: "QE too old", edit: func(tr *trial) { tr.quote.QE.ISVSVN = 1 }, code: fault.QETCBUnsupported},
		{name: "QE revoked", edit: func(tr *trial) { tr.quote.QE.ISVSVN = 3 }, code: fault.QETCBRevoked},
		{name: "QE identity forged", edit: func(tr *trial) {
			tr.after = func(e *evidence) { e.c.QEIdentitySignature[3] ^= 1 }
		}, code: fault.QESignature},
		{name: "TCB info forged", edit: func(tr *trial) {
			tr.after = func(e *evidence) { e.c.TCBInfoSignature[3] ^= 1 }
		}, code: fault.TCBInfoSignature},
		{name: "TCB info of another family", edit: func(tr *trial) { tr.pub.TCBInfo.FMSPC = "DEADBEEF0002" }, code: fault.TCBInfoFMSPC},
		{name: "TCB info expired", edit: func(tr *trial) { tr.pub.TCBInfo.NextUpdate = "2026-11-20T11:59:59Z" }, code: fault.TCBInfoExpired,
			oasis: accept, why: "oasis judges age by its policy's period, not by the next update"},
		{name: "QE identity expired", edit: func(tr *trial) { tr.pub.QEIdentity.NextUpdate = "2026-11-20T11:59:59Z" }, code: fault.QEExpired,
			oasis: accept, why: "oasis judges age by its policy's period, not by the next update"},
		{name: "TCB info for SGX", edit: func(tr *trial) { tr.pub = n.Publication(attest.SGX, testNow, simulator.State{}) }, code: fault.TCBInfoTEE},
		{name: "TCB signer issued by another root", edit: func(tr *trial) {
			foreign := authority(simulator.CAProfile(dcap.NameRootCA, 1), nil)
			tr.pub.TCBSigner = authority(simulator.LeafProfile(dcap.NameTCBSigning), &foreign)
		}, code: fault.TCBInfoChain},
		{name: "platform below every level", edit: func(tr *trial) {
			tr.pck = pck(func(e *simulator.PCKExtension) { e.SVN[0] = 1 })
			tr.pub.TCBInfo.Levels = tr.pub.TCBInfo.Levels[:1]
		}, code: fault.TCBUnsupported},
		{name: "module unknown", edit: func(tr *trial) { tr.quote.TD.TEETCBSVN[1] = 2 }, code: fault.ModuleUnknown},
		{name: "module revoked", edit: func(tr *trial) { tr.quote.TD.TEETCBSVN[0] = 1 }, code: fault.TCBRevoked},
		{name: "module signed by another", edit: func(tr *trial) { tr.quote.TD.MRSIGNERSEAM[0] = 1 }, code: fault.ModuleMRSigner},
		{name: "truncated", edit: func(tr *trial) { tr.after = func(e *evidence) { e.quote = e.quote[:len(e.quote)-1] } }, code: fault.QuoteMalformed},

		{name: "platform out of date, module version 0", edit: version0(level("OutOfDate")), status: dcap.OutOfDate, why: onlyUp},
		{name: "platform needs hardening, module version 0", edit: version0(level("SWHardeningNeeded")), status: dcap.SWHardeningNeeded, oasis: accept, why: onlyUp},
		{name: "platform needs configuration, module version 0", edit: version0(level("ConfigurationNeeded")), status: dcap.ConfigurationNeeded, why: onlyUp},
		{name: "platform revoked, module version 0", edit: version0(level("Revoked")), code: fault.TCBRevoked},
		{name: "platform out of date, module up to date", edit: level("OutOfDate"), status: dcap.OutOfDate, google: accept, why: masks},
		{name: "platform needs configuration, module up to date", edit: level("ConfigurationNeeded"), status: dcap.ConfigurationNeeded, google: accept, why: masks},
		{name: "platform revoked, module up to date", edit: level("Revoked"), code: fault.TCBRevoked, google: accept, why: masks},
		{name: "module out of date", edit: func(tr *trial) { tr.quote.TD.TEETCBSVN[0] = 3 }, status: dcap.OutOfDate, why: onlyUp},
		{name: "QE out of date", edit: func(tr *trial) { tr.quote.QE.ISVSVN = 5 }, status: dcap.OutOfDate, why: onlyUp},
		{name: "SGX needs hardening", sgx: true, edit: level("SWHardeningNeeded"), status: dcap.SWHardeningNeeded, oasis: accept},
		{name: "SGX out of date", sgx: true, edit: level("OutOfDate"), status: dcap.OutOfDate, why: onlyUp},

		{name: "PCK revoked", edit: func(tr *trial) { tr.pub.RevokedPCK = []*big.Int{tr.pck.Cert.SerialNumber} }, code: fault.PCKRevoked, oasis: accept, why: noCRL},
		{name: "PCK CA revoked", edit: func(tr *trial) { tr.pub.RevokedByRoot = []*big.Int{n.PCKCA.Cert.SerialNumber} }, code: fault.PCKCARevoked, oasis: accept, why: noCRL},
		{name: "TCB signer revoked", edit: func(tr *trial) { tr.pub.RevokedByRoot = []*big.Int{n.TCBSigner.Cert.SerialNumber} }, code: fault.TCBInfoRevoked, oasis: accept, why: noCRL},
		{name: "CRL expired", edit: func(tr *trial) { tr.pub.CRLNext = testNow.Add(-time.Second) }, code: fault.CRLExpired, oasis: accept, why: noCRL},

		{name: "high s", edit: func(tr *trial) { tr.after = func(e *evidence) { highS(e.quote) } }, code: fault.QuoteNotCanonical, google: accept, oasis: accept, why: malleab},
		{name: "high s, SGX", sgx: true, edit: func(tr *trial) { tr.after = func(e *evidence) { highS(e.quote) } }, code: fault.QuoteNotCanonical, oasis: accept, why: malleab},
		{name: "trailing bytes", edit: func(tr *trial) { tr.after = func(e *evidence) { e.quote = append(e.quote, 0, 0) } }, code: fault.QuoteMalformed, google: accept, why: malleab},

		{name: "debuggable TD", edit: func(tr *trial) { tr.quote.TD.TDAttributes |= 1 }, code: fault.Debug, google: accept, why: policy},
		{name: "debuggable enclave", sgx: true, edit: func(tr *trial) { tr.quote.Enclave.Attributes[0] |= 2 }, code: fault.Debug},
		{name: "SEPT_VE not disabled", edit: func(tr *trial) { tr.quote.TD.TDAttributes &^= 1 << 28 }, code: fault.SeptVE, google: accept, oasis: accept, why: policy},

		{name: "TCB info with an unknown member", edit: func(tr *trial) {
			tr.pub.TCBInfoText = strings.Replace(document(t, n, tr.pub), `"version"`, `"extra":1,"version"`, 1)
		}, code: fault.TCBInfoMalformed, google: accept, oasis: accept, why: strict},
		{name: "TCB info with a repeated member", edit: func(tr *trial) {
			tr.pub.TCBInfoText = strings.Replace(document(t, n, tr.pub), `"version":3`, `"version":2,"version":3`, 1)
		}, code: fault.TCBInfoMalformed, google: accept, oasis: accept, why: strict},
		{name: "module version 10, named in hexadecimal", edit: func(tr *trial) {
			tr.quote.TD.TEETCBSVN[1], tr.pub.TCBInfo.Modules[0].ID = 10, "TDX_0A"
		}, status: dcap.UpToDate, google: refuse, oasis: refuse, why: names},
		{name: "module version 10, in small letters", edit: func(tr *trial) {
			tr.quote.TD.TEETCBSVN[1], tr.pub.TCBInfo.Modules[0].ID = 10, "TDX_0a"
		}, status: dcap.UpToDate, google: accept, oasis: refuse, why: names},
		{name: "module version 10, in decimal", edit: func(tr *trial) {
			tr.quote.TD.TEETCBSVN[1], tr.pub.TCBInfo.Modules[0].ID = 10, "TDX_10"
		}, code: fault.ModuleUnknown, google: refuse, oasis: accept, why: names},
	} {
		t.Run(c.name, func(t *testing.T) {
			tee := attest.TDX
			if c.sgx {
				tee = attest.SGX
			}
			tr := newTrial(t, n, m, tee)
			c.edit(tr)
			e := tr.seal(t)
			r, err := e.ours()
			if c.code != "" && !errors.Is(err, c.code) || c.code == "" && (err != nil || r.Status != c.status) {
				t.Errorf("ours: %+v %v; expected %s%s", r, err, c.status, c.code)
			}
			ours := err == nil
			if !c.sgx {
				if err := e.google(); (err == nil) != c.google {
					t.Errorf("google accepts: %v (%v), written down: %v", err == nil, err, c.google)
				}
				if c.google != ours && c.why == "" {
					t.Error("a difference from google without a reason")
				}
			}
			if err := e.oasis(); (err == nil) != c.oasis {
				t.Errorf("oasis accepts: %v (%v), written down: %v", err == nil, err, c.oasis)
			}
			if c.oasis != ours && c.why == "" {
				t.Error("a difference from oasis without a reason")
			}
		})
	}
}

// document is the TCB info that a publication would be signed with.
func document(t testing.TB, n *simulator.Network, p *simulator.Publication) string {
	t.Helper()
	c, err := n.Collateral(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(c.DCAP.TCBInfo)
}

// TestMutations changes random bytes: whatever ours accepts the others accept,
// and what only they accept is malleable and has our verdict once canonical.
func TestMutations(t *testing.T) {
	n, err := simulator.NewNetwork(testNow, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		t.Fatal(err)
	}
	const seed = 20261120
	rounds := 300
	if os.Getenv("PHALA_LONG") != "" {
		rounds = 20000
	}
	t.Logf("seed %d, %d rounds", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 1))
	good := newTrial(t, n, m, attest.TDX).seal(t)
	malleable, panics := 0, 0
	for i := range rounds {
		e := *good
		c := *good.c
		e.c = &c
		e.quote = bytes.Clone(good.quote)
		if i%2 == 0 {
			e.quote[random.IntN(len(e.quote))] ^= 1 << random.IntN(8)
		} else {
			f := c.Fields()[random.IntN(9)]
			*f = bytes.Clone(*f)
			(*f)[random.IntN(len(*f))] ^= 1 << random.IntN(8)
		}
		_, err := e.ours()
		google, other := e.google(), e.oasis()
		if errors.Is(google, errPanic) {
			panics++
		}
		switch {
		case err == nil && (google != nil || other != nil):
			t.Fatalf("round %d: ours accepts; google: %v, oasis: %v", i, google, other)
		case err != nil && google == nil && i%2 == 0:
			// Another s has the same canonical form; in the PEM text, which no
			// signature covers, encoding/pem skips over strange bytes.
			canonical, err2 := dcap.Canonical(e.quote)
			pem := bytes.Index(good.quote, []byte("-----BEGIN"))
			if (err2 != nil || !bytes.Equal(canonical, good.quote)) && !bytes.Equal(e.quote[:pem], good.quote[:pem]) {
				t.Fatalf("round %d: only google accepts a quote that is no variant of the valid one: %v, %v", i, err, err2)
			}
			malleable++
		}
	}
	t.Logf("google: %d variants of the valid quote accepted, %d panics", malleable, panics)
}

// TestGooglePanics: a length inside the quote that points past its end stops
// the process that asks go-tdx-guest about it.
func TestGooglePanics(t *testing.T) {
	n, err := simulator.NewNetwork(testNow, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(testNow)
	if err != nil {
		t.Fatal(err)
	}
	e := newTrial(t, n, m, attest.TDX).seal(t)
	// The length of the QE's data: after both signatures, the key, the outer
	// type and size, and the QE's report.
	e.quote[sigOffset(e.quote)+64+64+6+384+64+1] = 0x20
	if _, err := e.ours(); !errors.Is(err, fault.QuoteMalformed) {
		t.Error("ours:", err)
	}
	if err := e.google(); !errors.Is(err, errPanic) {
		t.Error("google:", err)
	}
	if err := e.oasis(); err == nil || errors.Is(err, errPanic) {
		t.Error("oasis:", err)
	}
}

// shared reads the evidence kept beside the repository.
func shared(t testing.TB, name string) []byte {
	t.Helper()
	roots := []string{os.Getenv("PHALA_SHARED"), "../../../shared"}
	for _, r := range roots {
		if b, err := os.ReadFile(filepath.Join(r, "data", "attestation", name)); r != "" && err == nil {
			return b
		}
	}
	t.Skipf("no %s below data/attestation of $PHALA_SHARED or ../shared", name)
	return nil
}

// TestRealTDX: all three accept the real quote of June 2025.
func TestRealTDX(t *testing.T) {
	quote, err := dcap.Canonical(shared(t, "tdx_quote"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(shared(t, "tdx_quote_collateral.json"), &m); err != nil {
		t.Fatal(err)
	}
	raw := func(k string) []byte {
		b, err := hex.DecodeString(m[k])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	chain := func(k string) (out [][]byte) {
		for rest := []byte(m[k]); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				return out
			}
			out = append(out, block.Bytes)
		}
	}
	root, err := x509.ParseCertificate(chain("pck_crl_issuer_chain")[1])
	if err != nil {
		t.Fatal(err)
	}
	e := &evidence{quote: quote, root: root, now: time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC), c: &dcap.Collateral{
		TCBInfo: []byte(m["tcb_info"]), TCBInfoSignature: raw("tcb_info_signature"), TCBInfoSigner: chain("tcb_info_issuer_chain")[0],
		QEIdentity: []byte(m["qe_identity"]), QEIdentitySignature: raw("qe_identity_signature"), QEIdentitySigner: chain("qe_identity_issuer_chain")[0],
		PCKCA: chain("pck_crl_issuer_chain")[0], PCKCRL: raw("pck_crl"), RootCRL: raw("root_ca_crl"),
	}}
	if _, err := e.ours(); err != nil {
		t.Error("ours:", err)
	}
	if err := e.google(); err != nil {
		t.Error("google:", err)
	}
	if err := e.oasis(); err != nil {
		t.Error("oasis:", err)
	}
	e.quote = shared(t, "tdx_quote")
	if _, err := e.ours(); !errors.Is(err, fault.QuoteMalformed) {
		t.Error("ours, as hardware gave it, with padding:", err)
	}
	if err := e.google(); err != nil {
		t.Error("google, as hardware gave it:", err)
	}
}
