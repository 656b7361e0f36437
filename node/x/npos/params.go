package npos

import (
	"fmt"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/npos"
	"github.com/phala-go/phala/npos/era"
)

// Params are governed. A change of the lengths of sessions and eras holds from the
// next era on.
type Params struct {
	// Seats is the number of validators to elect.
	Seats uint32 `json:"seats"`
	// SessionBlocks is the length of a session, the time within which offences
	// count together; an era has SessionsPerEra of them, and the election of the next
	// one takes place in the last.
	SessionBlocks  uint64 `json:"session_blocks"`
	SessionsPerEra uint64 `json:"sessions_per_era"`
	// UnbondingEras is for how many eras stake can be slashed for what a validator
	// did that it stood behind.
	UnbondingEras uint64 `json:"unbonding_eras"`
	// SlashDeferEras is how many eras a slash waits, in which governance may cancel
	// it; 0 for none.
	SlashDeferEras uint64 `json:"slash_defer_eras"`
	// HistoryEras is for how many eras exposures are kept and rewards can be paid.
	HistoryEras uint64 `json:"history_eras"`
	// MinNominatorBond and MinValidatorBond are the least stakes, in base units.
	MinNominatorBond npos.U128 `json:"min_nominator_bond"`
	MinValidatorBond npos.U128 `json:"min_validator_bond"`
	// MinCommission is the least commission, in billionths.
	MinCommission uint32 `json:"min_commission"`
	// MaxCandidates and MaxElectingVoters bound an election: beyond, candidates are
	// refused and the nominators of the least stakes do not vote.
	MaxCandidates     uint32 `json:"max_candidates"`
	MaxElectingVoters uint32 `json:"max_electing_voters"`
	// BalancingIterations is how often an election goes through all voters to
	// balance their backing.
	BalancingIterations uint32 `json:"balancing_iterations"`
	// MaxEraSeconds is the longest time that an era is paid for, whatever it took.
	MaxEraSeconds uint64 `json:"max_era_seconds"`
	// Issuance is the curve of package npos/era.
	Issuance Issuance `json:"issuance"`
}

// Issuance are the parameters of era.Curve, in units of 10^-18.
type Issuance struct {
	Min     era.Rate `json:"min"`
	Max     era.Rate `json:"max"`
	Ideal   era.Rate `json:"ideal"`
	Falloff era.Rate `json:"falloff"`
}

// DefaultParams are Polkadot's, for blocks of six seconds and fewer seats.
func DefaultParams() Params {
	c := era.Polkadot()
	return Params{Seats: 100, SessionBlocks: 2400, SessionsPerEra: 6, UnbondingEras: 28, SlashDeferEras: 27, HistoryEras: 84,
		MinNominatorBond: pha(100), MinValidatorBond: pha(10_000), MaxCandidates: maxCandidates, MaxElectingVoters: maxVoters, BalancingIterations: 10,
		MaxEraSeconds: 2 * 24 * 3600, Issuance: Issuance{c.Min, c.Max, c.Ideal, c.Falloff}}
}

// powerUnit is what one unit of consensus power takes: one PHA.
const powerUnit = 1_000_000_000_000

func pha(n uint64) npos.U128 {
	v, _ := npos.MulDiv(npos.U64(n), npos.U64(powerUnit), npos.U64(1))
	return v
}

// Bounds of the parameters: sums of heights and eras stay far below 2^64, and an
// election and its boundary are no larger than what was measured:
//
//	go test ./x/npos -run '^$' -bench BenchmarkEra
const (
	maxSeats      = 300
	maxCandidates = 1000
	maxVoters     = 22_500
	maxBlocks     = 1 << 24
	maxEras       = 1 << 16
)

// Validate checks parameters.
func (p *Params) Validate() error {
	bad := func(format string, args ...any) error { return fmt.Errorf("npos params: "+format, args...) }
	switch {
	case p.Seats == 0 || p.Seats > maxSeats:
		return bad("seats %d is not between 1 and %d", p.Seats, maxSeats)
	case p.SessionBlocks < 5 || p.SessionBlocks > maxBlocks || p.SessionsPerEra == 0 || p.SessionsPerEra > maxEras:
		return bad("session_blocks %d is not between 5 and %d, or sessions_per_era %d not between 1 and %d", p.SessionBlocks, uint64(maxBlocks), p.SessionsPerEra, maxEras)
	case p.UnbondingEras == 0 || p.UnbondingEras > maxEras:
		return bad("unbonding_eras %d is not between 1 and %d", p.UnbondingEras, maxEras)
	case p.SlashDeferEras >= p.UnbondingEras:
		return bad("slash_defer_eras %d is not below unbonding_eras %d", p.SlashDeferEras, p.UnbondingEras)
	case p.HistoryEras <= p.UnbondingEras || p.HistoryEras > maxEras:
		return bad("history_eras %d is not above unbonding_eras %d and at most %d", p.HistoryEras, p.UnbondingEras, maxEras)
	case p.MinNominatorBond.IsZero() || p.MinValidatorBond.Less(npos.U64(powerUnit)):
		return bad("min_nominator_bond %v must be positive, min_validator_bond %v at least %d", p.MinNominatorBond, p.MinValidatorBond, uint64(powerUnit))
	case p.MinCommission > npos.Billion:
		return bad("min_commission %d is above %d", p.MinCommission, npos.Billion)
	case p.MaxCandidates < 1 || p.MaxCandidates > maxCandidates:
		return bad("max_candidates %d is not between 1 and %d", p.MaxCandidates, maxCandidates)
	case p.MaxElectingVoters > maxVoters:
		return bad("max_electing_voters %d is above %d", p.MaxElectingVoters, maxVoters)
	case p.BalancingIterations > 100:
		return bad("balancing_iterations %d is above 100", p.BalancingIterations)
	case p.MaxEraSeconds == 0 || p.MaxEraSeconds > era.Year/1000:
		return bad("max_era_seconds %d is not between 1 and %d", p.MaxEraSeconds, uint64(era.Year/1000))
	}
	if err := p.curve().Validate(); err != nil {
		return bad("issuance: %w", err)
	}
	return nil
}

// EraBlocks is the length of an era.
func (p *Params) EraBlocks() uint64 { return p.SessionBlocks * p.SessionsPerEra }

func (p *Params) curve() era.Curve { return era.Curve(p.Issuance) }

// ParseParams reads and checks the JSON form; unknown fields are refused.
func ParseParams(b []byte) (Params, error) {
	var p Params
	if err := kv.StrictJSON(b, &p); err != nil {
		return p, fmt.Errorf("npos params: %w", err)
	}
	return p, p.Validate()
}
