package pruntime_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
)

// silent is a TEE that stops giving evidence.
type silent struct {
	producer.Producer
	err error
}

func (s *silent) Evidence(ctx context.Context, d [64]byte) (attest.Evidence, error) {
	if s.err != nil {
		return attest.Evidence{}, s.err
	}
	return s.Producer.Evidence(ctx, d)
}

// TestCertificate: the certificate verifies, is the same for half its life, then another
// of another key; and it goes on to its end, and no longer, while there is no evidence.
func TestCertificate(t *testing.T) {
	w := newWorld(t)
	n := w.add("worker", proto.RoleWorker)
	tee := &silent{Producer: n.tee}
	rt, err := pruntime.Open(t.Context(), n.cfg, tee)
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close(t.Context())
	v := &ratls.Verifier{Chain: n.cfg.Chain, Worker: identity.PublicKey(rt.Self()), Roots: n.cfg.Roots, Now: n.cfg.Now, Admit: func(*attest.Verdict) error { return nil }}
	get := func() []byte {
		t.Helper()
		c, err := rt.Certificate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Verify(c.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		return c.Certificate[0]
	}
	first := get()
	n.ahead = ratls.Validity/2 - time.Hour
	if string(get()) != string(first) {
		t.Error("made anew before half its life is over")
	}
	n.ahead = ratls.Validity / 2
	second := get()
	if string(second) == string(first) {
		t.Error("not made anew")
	}
	tee.err = errors.New("no TEE")
	n.ahead += ratls.Validity - time.Hour
	if string(get()) != string(second) {
		t.Error("another one without evidence")
	}
	n.ahead += time.Hour
	if _, err := rt.Certificate(t.Context()); err == nil || !strings.Contains(err.Error(), tee.err.Error()) {
		t.Errorf("after its end: %v", err)
	}
}
