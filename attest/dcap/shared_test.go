package dcap_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/fixture"
)

func realRoot(t testing.TB) *dcap.Root {
	t.Helper()
	chain := fixture.Certificates(t, fixture.File(t, "oasis/tcb_info_v3_fmspc_00606A000000_certs.pem"))
	root, err := dcap.NewRoot(chain[1])
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestSharedTDX verifies a real TDX quote completely: collateral and
// revocation lists are of the same days.
func TestSharedTDX(t *testing.T) {
	root := realRoot(t)
	c := fixture.QVLCollateral(t, fixture.Shared(t, "tdx_quote_collateral.json"))
	quote, err := dcap.Canonical(fixture.Shared(t, "tdx_quote"))
	if err != nil {
		t.Fatal(err)
	}
	day := func(d int) time.Time { return time.Date(2025, 6, d, 0, 0, 0, 0, time.UTC) }
	r, err := dcap.Verify(quote, c, root, day(20))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{
		string(r.Status), hex.EncodeToString(r.Platform.FMSPC[:]), string(r.CA),
		hex.EncodeToString(r.Quote.TD.TEETCBSVN[:4]), r.Expiry.Format(time.RFC3339), strings.Join(r.Advisories, ","),
		hex.EncodeToString(r.Quote.TD.MRTD[:8]),
	}
	want := []string{"UpToDate", "b0c06f000000", "platform", "06010300", "2025-07-19T10:00:35Z", "", "91eb2b44d141d4ec"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
	for _, late := range []struct {
		name string
		now  time.Time
		code fault.Code
	}{
		{"before the collateral", day(1), fault.CRLExpired},
		{"after it", day(20).AddDate(0, 1, 0), fault.CRLExpired},
		{"today", time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), fault.CRLExpired},
	} {
		if _, err := dcap.Verify(quote, c, root, late.now); !errors.Is(err, late.code) {
			t.Errorf("%s: got %v, want %s", late.name, err, late.code)
		}
	}
	// No byte of the quote can be changed.
	for i := 0; i < len(quote); i += 11 {
		quote[i] ^= 0x10
		if _, err := dcap.Verify(quote, c, root, day(20)); err == nil {
			t.Fatalf("accepted with byte %d changed", i)
		}
		quote[i] ^= 0x10
	}
}

// TestSharedDstack has no collateral of its day. With that of the other quote,
// whose platform family it is, everything holds but the TCB level.
func TestSharedDstack(t *testing.T) {
	root := realRoot(t)
	raw, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(fixture.Shared(t, "dstack_tdx_quote.hex"))), "0x"))
	if err != nil {
		t.Fatal(err)
	}
	quote, err := dcap.Canonical(raw)
	if err != nil {
		t.Fatal(err)
	}
	fmspc, ca, err := dcap.Claims(quote)
	if err != nil || ca != dcap.PlatformCA {
		t.Fatal(fmspc, ca, err)
	}
	c := fixture.QVLCollateral(t, fixture.Shared(t, "tdx_quote_collateral.json"))
	_, err = dcap.Verify(quote, c, root, time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC))
	if hex.EncodeToString(fmspc[:]) != "b0c06f000000" || !errors.Is(err, fault.TCBUnsupported) {
		t.Fatalf("FMSPC %x: %v", fmspc, err)
	}
}

func BenchmarkVerifyTDX(b *testing.B) {
	root := realRoot(b)
	c := fixture.QVLCollateral(b, fixture.Shared(b, "tdx_quote_collateral.json"))
	quote, err := dcap.Canonical(fixture.Shared(b, "tdx_quote"))
	if err != nil {
		b.Fatal(err)
	}
	now := time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, err := dcap.Verify(quote, c, root, now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "tdx_verify_us")
}

func BenchmarkVerifySGX(b *testing.B) {
	tr := newTrial(attest.SGX)
	quote, c := tr.bytes(b)
	for b.Loop() {
		if _, err := dcap.Verify(quote, c, tr.root, tr.now); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N), "sgx_verify_us")
}
