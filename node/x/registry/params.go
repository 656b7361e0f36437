package registry

import (
	"fmt"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// Params are governed.
type Params struct {
	// Measurements that may register, with the heights between which they may.
	Measurements []AllowedMeasurement `json:"measurements"`
	// GatekeeperOperators are the accounts (bech32) whose enclaves may be gatekeepers.
	GatekeeperOperators []string `json:"gatekeeper_operators"`
	// RecentBlocks is how old, in blocks, the block may be that a registration or a
	// session names.
	RecentBlocks uint64 `json:"recent_blocks"`
	// AttestationBlocks is how many blocks an admission lasts at most.
	AttestationBlocks uint64 `json:"attestation_blocks"`
	// LeaseBlocks is how many blocks a worker counts as serving after its outbox
	// last spoke.
	LeaseBlocks uint64 `json:"lease_blocks"`
	// WorstLevel is the worst confidence level (1 to 5) that may register.
	WorstLevel uint8 `json:"worst_level"`
	// RegistrationsPerBlock bounds the verification work in a block.
	RegistrationsPerBlock uint64 `json:"registrations_per_block"`
}

// AllowedMeasurement is one entry of the allow-list.
type AllowedMeasurement struct {
	Digest proto.Hash `json:"digest"`
	From   uint64     `json:"from"`
	Until  uint64     `json:"until"` // 0: no end
}

// DefaultParams are the parameters of a new network with no measurement allowed.
func DefaultParams() Params {
	return Params{Measurements: []AllowedMeasurement{}, GatekeeperOperators: []string{}, RecentBlocks: 600,
		AttestationBlocks: 400_000, LeaseBlocks: 1200, WorstLevel: 5, RegistrationsPerBlock: 8}
}

// maxBlocks keeps every sum of a height and a number of blocks far below 2^64.
const maxBlocks = 1 << 40

// Validate checks parameters.
func (p *Params) Validate() error {
	if max(p.RecentBlocks, p.AttestationBlocks, p.LeaseBlocks) > maxBlocks {
		return fmt.Errorf("registry params: recent_blocks, attestation_blocks and lease_blocks are at most %d", uint64(maxBlocks))
	}
	if p.RecentBlocks == 0 || p.AttestationBlocks == 0 || p.LeaseBlocks == 0 || p.RegistrationsPerBlock == 0 {
		return fmt.Errorf("registry params: recent_blocks, attestation_blocks, lease_blocks and registrations_per_block must be positive")
	}
	if p.WorstLevel < 1 || p.WorstLevel > 5 {
		return fmt.Errorf("registry params: worst_level %d is not between 1 and 5", p.WorstLevel)
	}
	for _, o := range p.GatekeeperOperators {
		if _, err := address.ParseBech32(address.HRP, o); err != nil {
			return fmt.Errorf("registry params: gatekeeper_operators: %w", err)
		}
	}
	for _, m := range p.Measurements {
		if m.Until != 0 && m.Until <= m.From {
			return fmt.Errorf("registry params: measurement %s ends before it starts", m.Digest)
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

func (p *Params) allows(digest proto.Hash, height uint64) bool {
	for _, m := range p.Measurements {
		if m.Digest == digest && height >= m.From && (m.Until == 0 || height < m.Until) {
			return true
		}
	}
	return false
}
