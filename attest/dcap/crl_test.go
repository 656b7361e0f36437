package dcap_test

import (
	"errors"
	"testing"
	"time"

	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/internal/pki"
)

// TestRecordedLists: Intel's own lists of 2023 and 2025 have the same number, and happen to
// revoke the same. Bundles are ordered by their dates, and signing anew is no revision.
func TestRecordedLists(t *testing.T) {
	c2025 := fixture.QVLCollateral(t, fixture.Shared(t, "tdx_quote_collateral.json"))
	c2023 := *c2025
	c2023.PCKCRL, c2023.RootCRL = fixture.File(t, "google-tdx/pckcrl"), fixture.File(t, "google-tdx/rootcrl.der")
	info := func(c *dcap.Collateral) *dcap.CollateralInfo {
		t.Helper()
		i, err := dcap.Describe(c)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	list := func(b []byte) *pki.CRL {
		t.Helper()
		l, err := pki.ParseCRL(b)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for _, l := range [][2]*pki.CRL{{list(c2023.PCKCRL), list(c2025.PCKCRL)}, {list(c2023.RootCRL), list(c2025.RootCRL)}} {
		if l[0].Number.Cmp(l[1].Number) != 0 || !l[0].ThisUpdate.Before(l[1].ThisUpdate) {
			t.Fatalf("numbers %s and %s, of %s and %s", l[0].Number, l[1].Number, l[0].ThisUpdate, l[1].ThisUpdate)
		}
	}
	old, now := info(&c2023), info(c2025)
	if err := old.Newer(now); err != nil {
		t.Errorf("only the lists are newer: %v", err)
	}
	if n := list(c2025.PCKCRL).Len(); n == 0 || old.Revises(now) {
		t.Errorf("the same %d serial numbers, signed two years later, are a revision", n)
	}
	now.Evaluation++
	if !old.Revises(now) {
		t.Error("a new evaluation is no revision")
	}
	now.Evaluation--
	// Newer TCB info does not carry the old lists in, not one of them either.
	for name, edit := range map[string]func(*dcap.Collateral){
		"both":     func(*dcap.Collateral) {},
		"PCK CRL":  func(c *dcap.Collateral) { c.RootCRL = c2025.RootCRL },
		"root CRL": func(c *dcap.Collateral) { c.PCKCRL = c2025.PCKCRL },
	} {
		c := c2023
		edit(&c)
		next := info(&c)
		next.TCBInfoIssued = next.TCBInfoIssued.Add(24 * time.Hour)
		next.Evaluation++
		if err := now.Newer(next); !errors.Is(err, fault.CollateralNotNewer) {
			t.Errorf("%s of 2023: %v", name, err)
		}
	}
}
