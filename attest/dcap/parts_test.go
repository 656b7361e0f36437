package dcap

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/pki"
)

// convergeByTable is Intel's rule for a TDX module or quoting enclave, written
// out as its verification library documents it.
func convergeByTable(platform, part Status) Status {
	switch part {
	case Revoked:
		return Revoked
	case OutOfDate:
		switch platform {
		case UpToDate, SWHardeningNeeded:
			return OutOfDate
		case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
			return OutOfDateConfigurationNeeded
		}
	}
	return platform
}

func TestConverge(t *testing.T) {
	all := []Status{UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked}
	for _, platform := range all {
		for _, part := range []Status{UpToDate, OutOfDate, Revoked} { // what modules and enclaves are given
			if got, want := Converge(platform, part), convergeByTable(platform, part); got != want {
				t.Errorf("platform %s, part %s: %s, want %s", platform, part, got, want)
			}
		}
		for _, b := range all {
			c := Converge(platform, b)
			if c != Converge(b, platform) || Converge(c, platform) != c || statusBits[c]&statusBits[platform]&^(needHardening|needConfiguration) != statusBits[platform]&^(needHardening|needConfiguration) && c != Revoked {
				t.Errorf("%s with %s gives %s: not symmetric, idempotent, or the worse is lost", platform, b, c)
			}
			if platform != UpToDate && c == UpToDate {
				t.Errorf("%s with %s gives %s", platform, b, c)
			}
		}
	}
}

func TestModuleID(t *testing.T) {
	for version, want := range map[uint8]string{1: "TDX_01", 3: "TDX_03", 10: "TDX_0A", 255: "TDX_FF"} {
		if got := ModuleID(version); got != want {
			t.Errorf("version %d: %s, want %s", version, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	deep := strings.Repeat("[", maxJSONDepth+1) + strings.Repeat("]", maxJSONDepth+1)
	var many strings.Builder
	for i := range maxJSONMembers + 1 {
		fmt.Fprintf(&many, `,"m%d":0`, i)
	}
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"object", `{"a":1,"b":["x",{}],"c":{"d":""}}`, true},
		{"spaces", " {\n\t\"a\" : [ 1 , 2 ] } \r\n", true},
		{"empty array", `[]`, true},
		{"largest number", `4294967295`, true},
		{"empty", ``, false},
		{"only spaces", ` `, false},
		{"trailing text", `{} {}`, false},
		{"repeated member", `{"a":1,"a":2}`, false},
		{"repeated in depth", `[{"x":{"a":1,"b":1,"a":2}}]`, false},
		{"escape", `{"a":"\u0041"}`, false},
		{"escaped name", `{"\u0061":1}`, false},
		{"not ASCII", `{"a":"é"}`, false},
		{"control character", "{\"a\":\"\n\"}", false},
		{"negative", `-1`, false},
		{"fraction", `1.0`, false},
		{"exponent", `1e3`, false},
		{"leading zero", `01`, false},
		{"number too large", `4294967296`, false},
		{"true", `true`, false},
		{"null", `null`, false},
		{"comma at end", `[1,]`, false},
		{"comma at start", `[,1]`, false},
		{"no comma", `[1 2]`, false},
		{"name without value", `{"a"}`, false},
		{"number as name", `{1:1}`, false},
		{"unclosed object", `{"a":1`, false},
		{"unclosed string", `"a`, false},
		{"too deep", deep, false},
		{"too many members", "{" + many.String()[1:] + "}", false},
	} {
		_, err := parseJSON([]byte(c.text))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestResponses(t *testing.T) {
	root := intelRoot(t)
	chain := string(testdata(t, "oasis/tcb_info_v3_fmspc_00606A000000_certs.pem"))
	q, err := parse(testdata(t, "oasis/quote_v3_ecdsa_p256_pck_chain.bin"))
	if err != nil {
		t.Fatal(err)
	}
	good := Responses{
		TCBInfo: testdata(t, "oasis/tcb_info_v3_fmspc_00606A000000.json"), TCBInfoChain: chain,
		QEIdentity: testdata(t, "oasis/qe_identity_v2.json"), QEIdentityChain: url.PathEscape(chain),
		PCKCRLChain: url.QueryEscape(string(encodePEM(q.PCKChain[1:]))),
		PCKCRL:      []byte("crl"), RootCRL: []byte("root crl"),
	}
	// QueryEscape writes spaces as "+", which the service never does.
	good.PCKCRLChain = strings.ReplaceAll(good.PCKCRLChain, "+", "%20")
	c, err := good.Collateral()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.TCBInfoSigner, c.QEIdentitySigner) || !bytes.Equal(c.PCKCA, q.PCKChain[1]) {
		t.Fatal("certificates differ from the chains'")
	}
	if !bytes.Contains(good.TCBInfo, c.TCBInfo) || c.TCBInfo[0] != '{' || len(c.TCBInfoSignature) != 64 {
		t.Fatalf("TCB info %.20q, signature of %d bytes", c.TCBInfo, len(c.TCBInfoSignature))
	}
	// That far it is real; without true CRLs it does not verify.
	if _, err := VerifyCollateral(c, root, time.Unix(1671497404, 0)); !errors.Is(err, fault.CRLMalformed) {
		t.Fatal(err)
	}
	one := string(encodePEM([][]byte{c.TCBInfoSigner}))
	for _, bad := range []struct {
		name string
		code fault.Code
		edit func(*Responses)
	}{
		{"short_tcb_chain", fault.TCBInfoChain, func(r *Responses) { r.TCBInfoChain = one }},
		{"short_qe_identity_chain", fault.QEChain, func(r *Responses) { r.QEIdentityChain = one }},
		{"short_crl_chain", fault.PCKChain, func(r *Responses) { r.PCKCRLChain = one }},
		{"long_tcb_chain", fault.TCBInfoChain, func(r *Responses) { r.TCBInfoChain = chain + one }},
		{"no_tcb_chain", fault.TCBInfoChain, func(r *Responses) { r.TCBInfoChain = "" }},
		{"text_in_chain", fault.QEChain, func(r *Responses) { r.QEIdentityChain = "x" + chain }},
		{"tcb_response_of_qe", fault.TCBInfoMalformed, func(r *Responses) { r.TCBInfo = r.QEIdentity }},
		{"qe_response_is_html", fault.QEMalformed, func(r *Responses) { r.QEIdentity = []byte("<html>") }},
		{"short_signature", fault.TCBInfoMalformed, func(r *Responses) {
			r.TCBInfo = bytes.Replace(r.TCBInfo, []byte(`"signature":"`), []byte(`"signature":"00`), 1)
		}},
	} {
		r := good
		bad.edit(&r)
		if _, err := r.Collateral(); !errors.Is(err, bad.code) {
			t.Errorf("%s: got %v, want %s", bad.name, err, bad.code)
		}
	}
}

func TestNewer(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 11, day, 0, 0, 0, 0, time.UTC) }
	crl := func(number int64, day int) *pki.CRL {
		return &pki.CRL{Number: big.NewInt(number), ThisUpdate: at(day)}
	}
	held := func() *CollateralInfo {
		return &CollateralInfo{TEE: TDX, FMSPC: [6]byte{1}, CA: PlatformCA, Evaluation: 17, TCBInfoIssued: at(10),
			QEEvaluation: 17, QEIdentityIssued: at(10), pckCRL: crl(5, 10), rootCRL: crl(5, 10)}
	}
	for _, c := range []struct {
		name string
		edit func(*CollateralInfo)
		code fault.Code
	}{
		{"newer TCB info", func(i *CollateralInfo) { i.TCBInfoIssued = at(11) }, ""},
		{"newer PCK CRL only", func(i *CollateralInfo) { i.pckCRL = crl(6, 10) }, ""},
		{"PCK CRL of a later day, with the same number", func(i *CollateralInfo) { i.pckCRL = crl(5, 11) }, ""},
		{"root CRL of a later day, with the same number", func(i *CollateralInfo) { i.rootCRL = crl(5, 11) }, ""},
		{"everything newer", func(i *CollateralInfo) {
			i.Evaluation, i.QEEvaluation, i.TCBInfoIssued, i.QEIdentityIssued = 18, 18, at(12), at(12)
			i.rootCRL = crl(9, 12)
		}, ""},
		{"the same", func(*CollateralInfo) {}, fault.CollateralNotNewer},
		{"newer TCB info with an older CRL", func(i *CollateralInfo) {
			i.TCBInfoIssued, i.pckCRL = at(11), crl(4, 10)
		}, fault.CollateralNotNewer},
		{"newer TCB info with a CRL of an earlier day", func(i *CollateralInfo) {
			i.TCBInfoIssued, i.pckCRL = at(11), crl(5, 9)
		}, fault.CollateralNotNewer},
		{"greater number on an earlier day", func(i *CollateralInfo) { i.pckCRL = crl(6, 9) }, fault.CollateralNotNewer},
		{"lower number on a later day", func(i *CollateralInfo) { i.rootCRL = crl(4, 11) }, fault.CollateralNotNewer},
		{"older evaluation, issued later", func(i *CollateralInfo) { i.TCBInfoIssued, i.Evaluation = at(11), 16 }, fault.CollateralNotNewer},
		{"older QE identity", func(i *CollateralInfo) { i.TCBInfoIssued, i.QEIdentityIssued = at(11), at(9) }, fault.CollateralNotNewer},
		{"older root CRL", func(i *CollateralInfo) { i.TCBInfoIssued, i.rootCRL = at(11), crl(1, 9) }, fault.CollateralNotNewer},
		{"another family", func(i *CollateralInfo) { i.TCBInfoIssued, i.FMSPC = at(11), [6]byte{2} }, fault.CollateralIncompat},
		{"another TEE", func(i *CollateralInfo) { i.TCBInfoIssued, i.TEE = at(11), SGX }, fault.CollateralIncompat},
		{"another CA", func(i *CollateralInfo) { i.TCBInfoIssued, i.CA = at(11), ProcessorCA }, fault.CollateralIncompat},
	} {
		next := held()
		c.edit(next)
		if err := held().Newer(next); c.code == "" && err != nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.code)
		}
	}
}

func TestParsePlatformRefuses(t *testing.T) {
	q, err := parse(testdata(t, "oasis/quote_v3_ecdsa_p256_pck_chain.bin"))
	if err != nil {
		t.Fatal(err)
	}
	fmspc, ca, err := Claims(mustCanonical(t, "oasis/quote_v3_ecdsa_p256_pck_chain.bin"))
	if err != nil || hex.EncodeToString(fmspc[:]) != "00606a000000" || ca != PlatformCA {
		t.Fatalf("claims %x %s %v", fmspc, ca, err)
	}
	// The extension lies in the certificate; find it by its identifier.
	at := bytes.Index(q.PCKChain[0], []byte("\x06\x09"+oidSGX))
	rest := q.PCKChain[0][at+11:]
	// OCTET STRING with a two-byte length.
	if rest[0] != 4 || rest[1] != 0x82 {
		t.Fatalf("unexpected encoding %x", rest[:4])
	}
	extension := rest[4 : 4+int(rest[2])<<8+int(rest[3])]
	if _, err := ParsePlatform(extension); err != nil {
		t.Fatal(err)
	}
	for i := range extension {
		for _, cut := range [][]byte{extension[:i], append(bytes.Clone(extension[:i]), extension[i+1:]...)} {
			if _, err := ParsePlatform(cut); !errors.Is(err, fault.PCKExtension) {
				t.Fatalf("shortened at byte %d: %v", i, err)
			}
		}
	}
	if _, err := ParsePlatform(append(bytes.Clone(extension), 0)); !errors.Is(err, fault.PCKExtension) {
		t.Fatal("trailing byte accepted")
	}
	repeated := bytes.Replace(extension, []byte(oidFMSPC), []byte(oidPCEID), 1)
	if _, err := ParsePlatform(repeated); !errors.Is(err, fault.PCKExtension) {
		t.Fatal("repeated member accepted")
	}
}

func mustCanonical(t testing.TB, name string) []byte {
	t.Helper()
	b, err := Canonical(testdata(t, name))
	if err != nil {
		t.Fatal(name, err)
	}
	return b
}

// TestParseAllocates in proportion to its input: a length that a quote claims
// costs nothing.
func TestParseAllocates(t *testing.T) {
	q := mustCanonical(t, "oasis/quote_v4_tdx_ecdsa_p256.bin")
	claim := bytes.Clone(q[:48+td10Size+4])
	copy(claim[len(claim)-4:], []byte{0xff, 0xff, 0xff, 0x7f})
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseQuote(claim) }); n > 12 {
		t.Fatalf("%v allocations for a refused quote", n)
	}
	const runs = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		if _, err := ParseQuote(q); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / runs; per > 6*uint64(len(q)) {
		t.Fatalf("%d bytes allocated for a quote of %d", per, len(q))
	}
}
