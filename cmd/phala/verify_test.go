package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/client/verify"
	"github.com/phala-go/phala/proto"
)

// TestExpectedBuild: a file is measured for the enclave's class, under the network's roots.
func TestExpectedBuild(t *testing.T) {
	now := time.Now()
	n, err := simulator.NewNetwork(now, false)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := n.Verifier()
	if err != nil {
		t.Fatal(err)
	}
	m, err := n.NewMachine(now)
	if err != nil {
		t.Fatal(err)
	}
	classes := []attest.TEE{attest.SGX, attest.TDX}
	for i, tee := range classes {
		ev, err := m.Evidence(tee, []byte{1, 2}, [64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		if ev.Collateral, err = n.Collateral(n.Publication(tee, now, simulator.State{})); err != nil {
			t.Fatal(err)
		}
		want, err := simulator.Measurement(tee, []byte{1, 2})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "evidence.bin")
		if err := os.WriteFile(file, ev.Marshal(), 0o600); err != nil {
			t.Fatal(err)
		}
		build, err := expectedBuild(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := build(t.Context(), tee, roots); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %x", tee, got, err, want)
		}
		if _, err := build(t.Context(), classes[1-i], roots); !errors.Is(err, verify.ErrBuild) {
			t.Errorf("%s for another class: %v", tee, err)
		}
		if _, err := build(t.Context(), tee, attest.ProductionRoots()); err == nil {
			t.Errorf("%s: simulated evidence under the vendors' roots", tee)
		}
	}
	digest := proto.Hash{1, 2, 3}
	build, err := expectedBuild(strings.ToUpper(digest.String()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := build(t.Context(), attest.SNP, roots); err != nil || got != digest {
		t.Errorf("a digest: %s, %v", got, err)
	}
	if _, err := expectedBuild("no-such-file"); err == nil {
		t.Error("a file that is not there is taken")
	}
	if build, err := expectedBuild(""); build != nil || err != nil {
		t.Errorf("nothing: %v", err)
	}
}
