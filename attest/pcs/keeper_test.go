package pcs_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/pherry/collateral"
)

// shelf is a chain that holds what it is sent.
type shelf map[string]*attest.Collateral

func (s shelf) Held(_ context.Context, key string) (*attest.Collateral, error) { return s[key], nil }

func (s shelf) Greatest(context.Context, attest.TEE) (uint32, error) { return 17, nil }

func (s shelf) Update(_ context.Context, c *attest.Collateral) error {
	key, err := c.Platform()
	s[key] = c
	return err
}

func (s shelf) Admits(_ context.Context, v *attest.Verdict) error {
	if v.ConfidenceLevel > 1 {
		return errors.New("below the best level")
	}
	return nil
}

// TestKeeperOnRecordedAnswers: the relayer's loop over Intel's recorded answers and a real
// TDX quote: the chain gets the collateral once, the worker is up to date; a month later,
// with nothing newer to be had, it is told that the worker is out.
func TestKeeperOnRecordedAnswers(t *testing.T) {
	now := june2025
	clock := func() time.Time { return now }
	client := client(t, pcs.Options{Intel: serve(t, intel(t)), Roots: attest.ProductionRoots(), Now: clock})
	quote, err := dcap.Canonical(fixture.Shared(t, "tdx_quote"))
	if err != nil {
		t.Fatal(err)
	}
	chain := shelf{}
	k := &collateral.Keeper{Chain: chain, Source: client, Roots: attest.ProductionRoots(), Now: clock, Log: slog.New(slog.DiscardHandler),
		Workers: func(context.Context) ([]collateral.Worker, error) {
			return []collateral.Worker{{Name: "real", Evidence: attest.Evidence{TEE: attest.TDX, Report: quote}}}, nil
		}}
	r := k.Round(t.Context())
	want := time.Date(2025, 7, 19, 10, 0, 35, 0, time.UTC)
	if len(r.Updated) != 1 || len(r.Warnings) != 0 || len(r.Problems) != 0 || chain[tdxKey] == nil || !r.Expiry[tdxKey].Equal(want) {
		t.Fatalf("%+v", r)
	}
	if r = k.Round(t.Context()); len(r.Updated) != 0 || len(r.Problems) != 0 {
		t.Errorf("sent again: %+v", r)
	}
	now = want.Add(-24 * time.Hour)
	if r = k.Round(t.Context()); len(r.Problems) != 1 || len(r.Warnings) != 0 {
		t.Errorf("a day before its end: %+v", r)
	}
	now = want.Add(time.Second)
	if r = k.Round(t.Context()); len(r.Warnings) != 1 || !r.Warnings[0].Now || !errors.Is(r.Warnings[0].Reason, fault.CRLExpired) || !r.Expiry[tdxKey].IsZero() {
		t.Errorf("after its end: %+v", r)
	}
}
