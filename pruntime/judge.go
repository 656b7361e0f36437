package pruntime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/gatekeeper"
	"github.com/phala-go/phala/pruntime/keys"
)

// judge verifies another enclave's evidence for the gatekeeper. Of the collateral that
// comes with it and the one that is held, the newer counts, so that nobody, the chain's
// validators included, can bring back what a vendor said before a revocation.
func (r *Runtime) judge(evidence []byte, reportData [64]byte, at time.Time, held func(string) []byte) (*gatekeeper.Verdict, error) {
	if r.measurement == [32]byte{} {
		return nil, errors.New("pruntime: this gatekeeper does not know its own measurement yet: it needs collateral of its own platform")
	}
	ev, err := attest.Parse(evidence)
	if err != nil {
		return nil, err
	}
	platform, err := ev.CollateralKey()
	if err != nil {
		return nil, err
	}
	if b := held(platform); b != nil {
		c, err := attest.ParseCollateral(b)
		if err != nil {
			return nil, err
		}
		if ev.Collateral == nil || c.Newer(ev.Collateral) != nil {
			ev.Collateral = c
		}
	}
	v, err := attest.Verify(ev, r.cfg.Roots, at)
	if err != nil {
		return nil, err
	}
	switch {
	case v.ReportData != reportData:
		return nil, errors.New("pruntime: evidence binds another registration")
	case !v.RevocationChecked:
		return nil, errors.New("pruntime: evidence comes with no revocation list, and none is held")
	case v.Measurement != r.measurement && !slices.Contains(r.cfg.Releases, v.Measurement):
		return nil, fmt.Errorf("pruntime: evidence is of software %x, this gatekeeper releases keys to its own, %x, and %d others", v.Measurement[:8], r.measurement[:8], len(r.cfg.Releases))
	}
	return &gatekeeper.Verdict{Machine: v.MachineID, Level: v.ConfidenceLevel, Until: v.Expiry, Platform: platform, Collateral: ev.Collateral.Marshal()}, nil
}

const fileMeasurement = "measurement"

// measure learns this enclave's own measurement. One binary serves both roles, so a
// gatekeeper knows the only software that it may give keys to, whatever the chain's
// allow-list says. Hardware gives evidence without collateral: then it waits for the
// chain's, which its own registration brings. What was learnt is sealed; sealed files
// open in this software only.
func (r *Runtime) measure(ctx context.Context) error {
	b, err := r.store.Get(fileMeasurement)
	if err == nil && len(b) == 32 {
		r.measurement = [32]byte(b)
		return nil
	}
	if err != nil && !errors.Is(err, keys.ErrNone) {
		return err
	}
	var fresh [64]byte
	if _, err := rand.Read(fresh[:]); err != nil {
		return err
	}
	if r.own, err = r.tee.Evidence(ctx, fresh); err != nil {
		return fmt.Errorf("pruntime: own evidence: %w", err)
	}
	if r.own.Collateral == nil {
		return nil
	}
	return r.measured(r.cfg.Now())
}

// learn takes collateral of this enclave's own platform from a registration.
func (r *Runtime) learn(evidence []byte, at time.Time) error {
	ev, err := attest.Parse(evidence)
	if err != nil || ev.Collateral == nil {
		return nil // not for this
	}
	want, err := r.own.CollateralKey()
	if err != nil {
		return fmt.Errorf("pruntime: own evidence: %w", err)
	}
	if have, err := ev.CollateralKey(); err != nil || have != want {
		return nil
	}
	r.own.Collateral = ev.Collateral
	if err := r.measured(at); err != nil {
		r.cfg.Log.Warn("own evidence does not verify", "error", err)
	}
	return nil
}

func (r *Runtime) measured(at time.Time) error {
	v, err := attest.Verify(r.own, r.cfg.Roots, at)
	if err != nil {
		return fmt.Errorf("pruntime: own evidence: %w", err)
	}
	r.measurement = v.Measurement
	return r.store.Put(fileMeasurement, r.measurement[:])
}

// verified returns the hash of a header that this enclave's light client verified.
func (r *Runtime) verified(height uint64) (proto.Hash, bool) {
	h, ok := r.state.Client().Verified(int64(height))
	return proto.Hash(h), ok
}

// A BlockProof shows that a block is on the chain: its hash, as the state under the
// trusted header has it.
type BlockProof struct {
	Height uint64
	Hash   proto.Hash
	Proof  comet.StoreProof
}

// ConfirmBlocks takes blocks that a gatekeeper asked for. All must be proven under the
// trusted header, or none counts.
func (r *Runtime) ConfirmBlocks(blocks []BlockProof) error {
	r.lock()
	defer r.unlock()
	if err := r.ready(); err != nil {
		return err
	}
	if r.gk == nil {
		return fmt.Errorf("%w: only gatekeepers ask for blocks", ErrRole)
	}
	h := r.state.Client().Trusted()
	for _, b := range blocks {
		if err := comet.VerifyExistence(h.AppHash, proto.StoreRegistry, proto.KeyBlock(b.Height), b.Hash[:], b.Proof); err != nil {
			return fmt.Errorf("%w: block %d at header %d: %w", ErrProof, b.Height, h.Height, err)
		}
	}
	for _, b := range blocks {
		r.gk.Confirm(gatekeeper.Block{Height: b.Height, Hash: b.Hash})
	}
	return r.gk.Flush(r.state.Height(), h.Time)
}
