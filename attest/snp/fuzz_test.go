package snp_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/phala-go/phala/attest/internal/fixture"
	"github.com/phala-go/phala/attest/snp"
)

func FuzzReport(f *testing.F) {
	tr := newTrial()
	report, vcek, c := tr.bytes(f)
	want, err := snp.Verify(report, vcek, c, tr.roots, tr.now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(report)
	f.Add(flipS(bytes.Clone(report)))
	f.Fuzz(func(t *testing.T, b []byte) {
		canonical, err := snp.Canonical(b)
		if err != nil {
			return
		}
		again, err := snp.Canonical(canonical)
		if err != nil || !bytes.Equal(canonical, again) {
			t.Fatalf("not idempotent: %v", err)
		}
		r, err := snp.Verify(canonical, vcek, c, tr.roots, tr.now)
		if err == nil && !reflect.DeepEqual(r, want) {
			t.Fatalf("another verdict: %+v", r)
		}
		if err == nil && !bytes.Equal(canonical[:signedSize], report[:signedSize]) {
			t.Fatal("other signed bytes are accepted")
		}
	})
}

// signedSize is how much of a report its signature covers.
const signedSize = 0x2a0

// FuzzCertificates: no panic, and no changed VCEK, ASK or revocation list is accepted with
// another verdict, or with other bytes in what is signed.
func FuzzCertificates(f *testing.F) {
	tr := newTrial()
	report, vcek, c := tr.bytes(f)
	want, err := snp.Verify(report, vcek, c, tr.roots, tr.now)
	if err != nil {
		f.Fatal(err)
	}
	for part := range uint8(3) {
		f.Add(part, uint16(0), []byte{}) // as it is: accepted
		f.Add(part, uint16(30), []byte{0})
		f.Add(part, uint16(200), []byte{0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, part uint8, at uint16, patch []byte) {
		vcek, changed := vcek, *c
		field := []*[]byte{&vcek, &changed.ASK, &changed.CRL}[part%3]
		old := *field
		if int(at) > len(old) {
			return
		}
		b := append(bytes.Clone(old[:at]), patch...)
		if len(b) < len(old) {
			b = append(b, old[len(b):]...)
		}
		*field = b
		r, err := snp.Verify(report, vcek, &changed, tr.roots, tr.now)
		switch {
		case err != nil && bytes.Equal(b, old):
			t.Fatal("unchanged:", err)
		case err == nil && !reflect.DeepEqual(r, want):
			t.Fatalf("another verdict: %+v", r)
		case err == nil && !bytes.Equal(fixture.Signed(b), fixture.Signed(old)):
			t.Fatal("other signed bytes are accepted")
		}
	})
}
