package dcap_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/internal/fixture"
)

func seeds(f *testing.F, names ...string) {
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join("..", "testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

// FuzzCanonical: no panic; what has a canonical form has one only, and that
// parses.
func FuzzCanonical(f *testing.F) {
	seeds(f, "oasis/quote_v3_ecdsa_p256_pck_chain.bin", "oasis/quote_v4_tdx_ecdsa_p256.bin",
		"oasis/quote_v3_ecdsa_p256_eppid.bin", "google-tdx/quote_v5_sample.dat", "google-tdx/cos-113-tdx-quote.dat")
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := dcap.Canonical(b)
		if err != nil {
			return
		}
		if _, err := dcap.ParseQuote(c); err != nil {
			t.Fatal(err)
		}
		again, err := dcap.Canonical(c)
		if err != nil || !bytes.Equal(c, again) {
			t.Fatalf("not idempotent: %v", err)
		}
	})
}

// shown is a result with all that a quote says, and without how it was encoded.
func shown(r *dcap.Result) *dcap.Result {
	out, q := *r, reflect.New(reflect.TypeFor[dcap.Quote]()).Elem()
	for i := range q.NumField() {
		if q.Type().Field(i).IsExported() {
			q.Field(i).Set(reflect.ValueOf(r.Quote).Elem().Field(i))
		}
	}
	quote := q.Interface().(dcap.Quote)
	out.Quote = &quote
	return &out
}

// FuzzVerifyQuote: no panic, and no changed quote is accepted with another verdict, other
// measurements or report data, or other bytes in what is signed.
func FuzzVerifyQuote(f *testing.F) {
	type genuine struct {
		tr     *trial
		quote  []byte
		c      *dcap.Collateral
		signed int // header and body
		want   *dcap.Result
	}
	var classes []genuine
	for _, tee := range []attest.TEE{attest.SGX, attest.TDX} {
		g := genuine{tr: newTrial(tee), signed: 48 + 584}
		if tee == attest.SGX {
			g.signed = 48 + 384
		}
		g.quote, g.c = g.tr.bytes(f)
		r, err := dcap.Verify(g.quote, g.c, g.tr.root, g.tr.now)
		if err != nil {
			f.Fatal(err)
		}
		g.want = shown(r)
		classes = append(classes, g)
	}
	for i := range classes {
		f.Add(uint8(i), uint16(0), []byte{5})
		f.Add(uint8(i), uint16(700), []byte{0xff, 0xff})
		f.Add(uint8(i), uint16(0), []byte{}) // as it is: accepted
	}
	f.Fuzz(func(t *testing.T, class uint8, at uint16, patch []byte) {
		g := &classes[int(class)%len(classes)]
		if int(at) > len(g.quote) {
			return
		}
		changed := append(bytes.Clone(g.quote[:at]), patch...)
		if len(changed) < len(g.quote) {
			changed = append(changed, g.quote[len(changed):]...)
		}
		r, err := dcap.Verify(changed, g.c, g.tr.root, g.tr.now)
		if err != nil {
			if bytes.Equal(changed, g.quote) {
				t.Fatal("unchanged:", err)
			}
			return
		}
		if got := shown(r); !reflect.DeepEqual(got, g.want) {
			t.Fatalf("another verdict: %+v", got)
		}
		if !bytes.Equal(changed[:g.signed], g.quote[:g.signed]) {
			t.Fatal("other signed bytes are accepted")
		}
	})
}

// sameSigned reports whether two collaterals differ in nothing that a signature covers.
func sameSigned(a, b *dcap.Collateral) bool {
	if !bytes.Equal(a.TCBInfo, b.TCBInfo) || !bytes.Equal(a.QEIdentity, b.QEIdentity) {
		return false
	}
	certificates := func(c *dcap.Collateral) [][]byte {
		return [][]byte{c.TCBInfoSigner, c.QEIdentitySigner, c.PCKCA, c.PCKCRL, c.RootCRL}
	}
	for i, der := range certificates(a) {
		if !bytes.Equal(fixture.Signed(der), fixture.Signed(certificates(b)[i])) {
			return false
		}
	}
	return true
}

// FuzzCollateral: no panic, and no changed collateral is accepted with another
// verdict, or with other bytes in what is signed.
func FuzzCollateral(f *testing.F) {
	tr := newTrial(attest.TDX)
	quote, c := tr.bytes(f)
	want, err := dcap.Verify(quote, c, tr.root, tr.now)
	if err != nil {
		f.Fatal(err)
	}
	for i := range c.Fields() {
		f.Add(uint8(i), uint16(30), []byte{0})
	}
	f.Fuzz(func(t *testing.T, part uint8, at uint16, patch []byte) {
		changed := *c
		fields := changed.Fields()
		field := fields[int(part)%len(fields)]
		old := *field
		if int(at) > len(old) {
			return
		}
		b := append(bytes.Clone(old[:at]), patch...)
		if rest := int(at) + len(patch); rest < len(old) {
			b = append(b, old[rest:]...)
		}
		*field = b
		r, err := dcap.Verify(quote, &changed, tr.root, tr.now)
		if err != nil {
			return
		}
		if !reflect.DeepEqual(r, want) {
			t.Fatalf("another verdict: %+v", r)
		}
		if !sameSigned(&changed, c) {
			t.Fatal("other signed bytes are accepted")
		}
	})
}

// FuzzPlatform: no panic in the certificate extension's parser.
func FuzzPlatform(f *testing.F) {
	der, err := newBench().machine.PCKExtension().DER()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := dcap.ParsePlatform(b)
		if (p == nil) == (err == nil) {
			t.Fatal("result and error disagree")
		}
	})
}

// FuzzResponses: no panic on what a provisioning service or an impostor sends.
func FuzzResponses(f *testing.F) {
	seeds(f, "oasis/tcb_info_v3_fmspc_00606A000000.json", "google-tdx/sample_tcbinfo_response_v5", "oasis/qe_identity_v2.json")
	f.Fuzz(func(t *testing.T, b []byte) {
		r := dcap.Responses{TCBInfo: b, QEIdentity: b, TCBInfoChain: string(b)}
		if _, err := r.Collateral(); err == nil {
			t.Fatal("a response served as TCB info, QE identity and chain")
		}
	})
}
