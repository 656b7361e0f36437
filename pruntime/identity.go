package pruntime

import (
	"context"
	"time"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/keyring"
)

// settings are what the host must not stretch.
func (c *Config) settings() proto.Settings {
	ms := func(d time.Duration) uint64 { return uint64(d.Milliseconds()) }
	return proto.Settings{Lease: ms(c.Lease), TrustingPeriod: ms(c.TrustingPeriod), ClockDrift: ms(c.MaxClockDrift), SessionInterval: ms(c.SessionInterval), WorstLevel: c.WorstLevel}
}

// identity is what the keyring's identity belongs to.
func (c *Config) identity() keyring.Config {
	return keyring.Config{DataDir: c.DataDir, Chain: c.Chain, RootHeight: uint64(c.Root.Height), RootHash: c.Root.Hash, Role: c.Role,
		Operator: c.Operator, Roots: c.Roots.Digest(), Settings: c.settings(), Releases: c.Releases, Now: c.Now}
}

// An admission is what the chain said about this identity last, seen in the inbox.
type admission struct {
	epoch   uint64 // of the attestation; 0 before the first
	expires uint64 // height at which it ends
}

func (a admission) admitted(height uint64) bool { return a.epoch > 0 && height < a.expires }

// Register returns what the operator submits to register this enclave: registration,
// its signature and the evidence that binds it.
func (r *Runtime) Register(ctx context.Context) (reg, signature, evidence []byte, err error) {
	r.mu.Lock()
	if err := r.ready(); err != nil {
		r.mu.Unlock()
		return nil, nil, nil, err
	}
	c := r.state.Client()
	session, epoch := r.sessions.renewed(r.now(), r.cfg.Lease/3), r.admission.epoch+1
	height, hash := uint64(c.Trusted().Height), proto.Hash(c.TrustedHash())
	r.mu.Unlock()
	rules := uint32(0) // a gatekeeper runs no contracts
	if r.codes != nil {
		rules = r.codes.eng.Newest()
	}
	m, sig, ev, err := r.ring.Register(ctx, session, epoch, height, hash, rules, r.cfg.Endpoints)
	return m, sig[:], ev, err
}
