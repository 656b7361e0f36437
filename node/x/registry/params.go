package registry

import (
	"fmt"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/node/x/internal/kv"
)

// Params are governed.
type Params struct {
	// GatekeeperOperators are the accounts (bech32) whose enclaves may be gatekeepers.
	GatekeeperOperators []string `json:"gatekeeper_operators"`
	// RecentBlocks is how old, in blocks, the block may be that a registration or a
	// session names.
	RecentBlocks uint64 `json:"recent_blocks"`
	// AttestationBlocks is how many blocks an admission lasts at most.
	AttestationBlocks uint64 `json:"attestation_blocks"`
	// RenewalBlocks is how many blocks a worker has to show new evidence when its vendor
	// published a new TCB evaluation or revoked another key.
	RenewalBlocks uint64 `json:"renewal_blocks"`
	// LeaseBlocks is how many blocks a worker counts as serving after its outbox
	// last spoke.
	LeaseBlocks uint64 `json:"lease_blocks"`
	// WorstLevel is the worst confidence level (1 to 5) that may register.
	WorstLevel uint8 `json:"worst_level"`
	// RegistrationsPerBlock bounds the verification work in a block: registrations and
	// updates of collateral, those that fail included. 48 of the dearest class, SEV-SNP, are
	// to stay under 150 ms on one core (BenchmarkRegistrations).
	RegistrationsPerBlock uint64 `json:"registrations_per_block"`
	// TCBEvaluations are the greatest TCB evaluation numbers that Intel's collateral may
	// have.
	TCBEvaluations EvaluationCeilings `json:"tcb_evaluations"`
	// Settings bound what enclaves are made with.
	Settings SettingsBounds `json:"settings"`
	// Frozen: no new worker is admitted; those that are may renew on their machine.
	Frozen bool `json:"frozen"`
}

// EvaluationCeilings are for each of Intel's classes. Intel signs the data of a TCB recovery
// months before they count, and whoever brought them early would exclude every machine
// that is to be patched until then. Nothing in them says whether they count yet, so
// governance does. 0 takes none: on a new chain, too, the first to come could bring early
// ones.
type EvaluationCeilings struct {
	SGX uint32 `json:"sgx"`
	TDX uint32 `json:"tdx"`
}

// check refuses collateral with a number above its class' ceiling.
func (e *EvaluationCeilings) check(c *attest.CollateralInfo) error {
	ceiling := e.TDX
	switch c.TEE {
	case attest.SNP:
		return nil
	case attest.SGX:
		ceiling = e.SGX
	}
	if n := c.Evaluation(); n > ceiling {
		return ErrEvaluation.Wrapf("%d of %s, at most %d: when the vendor's standard data have it, governance raises tcb_evaluations", n, c.TEE, ceiling)
	}
	return nil
}

// DefaultParams are the parameters of a new network. A light client's trusting period
// stays below the unbonding period of 21 days.
func DefaultParams() Params {
	const minute, day = 60_000, 24 * 60 * 60_000
	return Params{GatekeeperOperators: []string{}, RecentBlocks: 600, AttestationBlocks: 400_000, RenewalBlocks: 14_400, LeaseBlocks: 1200, WorstLevel: 4, RegistrationsPerBlock: 48,
		Settings: SettingsBounds{Lease: 10 * minute, TrustingPeriod: 20 * day, ClockDrift: minute, SessionInterval: 7 * day}}
}

// maxBlocks keeps every sum of a height and a number of blocks far below 2^64.
const maxBlocks = 1 << 40

// Validate checks parameters.
func (p *Params) Validate() error {
	if max(p.RecentBlocks, p.AttestationBlocks, p.RenewalBlocks, p.LeaseBlocks) > maxBlocks {
		return fmt.Errorf("registry params: recent_blocks, attestation_blocks, renewal_blocks and lease_blocks are at most %d", uint64(maxBlocks))
	}
	if min(p.RecentBlocks, p.AttestationBlocks, p.RenewalBlocks, p.LeaseBlocks, p.RegistrationsPerBlock) == 0 {
		return fmt.Errorf("registry params: recent_blocks, attestation_blocks, renewal_blocks, lease_blocks and registrations_per_block must be positive")
	}
	if s := &p.Settings; min(s.Lease, s.TrustingPeriod, s.ClockDrift, s.SessionInterval) == 0 {
		return fmt.Errorf("registry params: settings must be positive: no enclave would be within them")
	}
	if p.WorstLevel < 1 || p.WorstLevel > 5 {
		return fmt.Errorf("registry params: worst_level %d is not between 1 and 5", p.WorstLevel)
	}
	for _, o := range p.GatekeeperOperators {
		if _, err := address.ParseBech32(address.HRP, o); err != nil {
			return fmt.Errorf("registry params: gatekeeper_operators: %w", err)
		}
	}
	return nil
}

// ParseParams reads and checks the JSON form; unknown fields are refused.
func ParseParams(b []byte) (Params, error) {
	var p Params
	if err := kv.StrictJSON(b, &p); err != nil {
		return p, fmt.Errorf("registry params: %w", err)
	}
	return p, p.Validate()
}
