package pruntime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/keys"
)

const fileIdentity = "identity"

// settings are what the host must not stretch.
func (c *Config) settings() proto.Settings {
	ms := func(d time.Duration) uint64 { return uint64(d.Milliseconds()) }
	return proto.Settings{Lease: ms(c.Lease), TrustingPeriod: ms(c.TrustingPeriod), ClockDrift: ms(c.MaxClockDrift), SessionInterval: ms(c.SessionInterval), WorstLevel: c.WorstLevel}
}

// openIdentity reads the sealed identity or makes one. It belongs to one chain, trust
// root, role and operator for ever. What it registered with holds until it registers
// again, so a restart may not go further than the settings that it was made with; it may
// be stricter.
func (r *Runtime) openIdentity() error {
	if len(r.cfg.Releases) > proto.MaxReleases || r.cfg.Role != proto.RoleGatekeeper && len(r.cfg.Releases) > 0 {
		return fmt.Errorf("%w: only a gatekeeper releases keys, to at most %d measurements", ErrRole, proto.MaxReleases)
	}
	bound := new(wire.Writer).String(r.cfg.Chain).U64(uint64(r.cfg.Root.Height)).Fixed(r.cfg.Root.Hash[:]).U8(uint8(r.cfg.Role)).Blob(r.cfg.Operator).Bytes()
	s := r.cfg.settings()
	b, err := r.store.Get(fileIdentity)
	switch {
	case errors.Is(err, keys.ErrNone):
		k, _, err := identity.Generate(rand.Reader)
		if err != nil {
			return err
		}
		w := new(wire.Writer).Blob(k.Secret()).Blob(bound).U64(s.Lease).U64(s.TrustingPeriod).U64(s.ClockDrift).U64(s.SessionInterval).U8(s.WorstLevel).Count(len(r.cfg.Releases))
		for _, h := range r.cfg.Releases {
			w.Fixed(h[:])
		}
		if err := r.store.Put(fileIdentity, w.Bytes()); err != nil {
			return err
		}
		r.id, r.made, r.releases = k, s, r.cfg.Releases
	case err != nil:
		return fmt.Errorf("%w (was this folder made on another machine, by another build, or for another network? %s)", err, r.cfg.DataDir)
	default:
		rd := wire.NewReader(b)
		secret, was := rd.Blob(64), rd.Blob(1024)
		made := proto.Settings{Lease: rd.U64(), TrustingPeriod: rd.U64(), ClockDrift: rd.U64(), SessionInterval: rd.U64(), WorstLevel: rd.U8()}
		var releases []proto.Hash
		for range rd.Count(proto.MaxReleases, 32) {
			releases = append(releases, rd.Array32())
		}
		if err := rd.Close(); err != nil {
			return fmt.Errorf("pruntime: identity: %w", err)
		}
		if string(was) != string(bound) {
			return fmt.Errorf("%w: use another data folder, or the flags that it was made with", ErrIdentity)
		}
		if what := s.Beyond(&made); what != "" {
			return fmt.Errorf("%w: %s goes further than what it was made with: use another data folder for a new identity, or a stricter flag", ErrIdentity, what)
		}
		if r.id, err = identity.FromSecret(secret); err != nil {
			return err
		}
		for _, h := range r.cfg.Releases {
			if !slices.Contains(releases, h) {
				return fmt.Errorf("%w: it was made to release no keys to %s", ErrIdentity, h)
			}
		}
		r.made, r.releases = made, releases
	}
	r.self = proto.WorkerID(r.id.Public())
	return nil
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
	m := proto.Registration{Chain: r.cfg.Chain, Roots: r.cfg.Roots.Digest(), TrustHeight: uint64(r.cfg.Root.Height), TrustRoot: r.cfg.Root.Hash,
		Worker: r.self, Session: r.sessions.renewed(r.now(), r.cfg.Lease/3).Public(), Operator: r.cfg.Operator, Role: r.cfg.Role, Epoch: r.admission.epoch + 1,
		Height: uint64(c.Trusted().Height), Hash: proto.Hash(c.TrustedHash()), Settings: r.made, Releases: r.releases, Endpoints: r.cfg.Endpoints}
	r.mu.Unlock()
	ev, err := r.tee.Evidence(ctx, m.ReportData())
	if err != nil {
		return nil, nil, nil, fmt.Errorf("pruntime: evidence: %w", err)
	}
	sig, err := r.id.Sign(rand.Reader, m.SignedBytes())
	if err != nil {
		return nil, nil, nil, err
	}
	return m.Marshal(), sig[:], ev.Marshal(), nil
}
