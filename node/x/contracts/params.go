package contracts

import (
	"fmt"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// Params are governed.
type Params struct {
	// BaseFee is charged for every command, base units.
	BaseFee uint64 `json:"base_fee,string"`
	// GasPrice is the price of 2^20 gas, base units.
	GasPrice uint64 `json:"gas_price,string"`
	// CodePrice is the price of a byte of uploaded code, base units; burnt with the
	// transaction's fee.
	CodePrice uint64 `json:"code_price,string"`
	// ClusterPrice is the price of a cluster, base units; burnt. It is there for ever, and the
	// end of every block looks at it.
	ClusterPrice uint64 `json:"cluster_price,string"`
	// Rules is the version of the rules that clusters are to run under: new ones from the
	// beginning, others once all of their seats can. None goes back to an older one.
	Rules uint32 `json:"rules"`
	// EpochBlocks is how long an epoch lasts, in blocks; 0: for ever.
	EpochBlocks uint64 `json:"epoch_blocks,string"`
	// SilentBlocks is how long a seat may be silent, or show no key, before another worker gets it, in
	// blocks; 0: for ever.
	SilentBlocks uint64 `json:"silent_blocks,string"`
}

// DefaultParams returns the parameters of a new network.
func DefaultParams() Params {
	return Params{BaseFee: 1_000_000, GasPrice: 1_000_000, CodePrice: 1_000, ClusterPrice: 50_000_000_000, Rules: 1, EpochBlocks: 14_400, SilentBlocks: 600}
}

// maxPrice keeps every product of price and tier below 2^63.
const maxPrice = 1 << 40

// maxBlocks keeps sums with heights from wrapping around.
const maxBlocks = 1 << 40

// Validate checks parameters.
func (p *Params) Validate() error {
	if p.BaseFee > maxPrice || p.GasPrice > maxPrice || p.CodePrice > maxPrice/proto.MaxCode {
		return fmt.Errorf("contracts params: a price is above %d base units", uint64(maxPrice))
	}
	if p.ClusterPrice > proto.MaxDeposit {
		return fmt.Errorf("contracts params: cluster_price is above %d base units", uint64(proto.MaxDeposit))
	}
	if p.Rules == 0 {
		return fmt.Errorf("contracts params: rules version 0: they count from 1")
	}
	if p.EpochBlocks > maxBlocks || p.SilentBlocks > maxBlocks {
		return fmt.Errorf("contracts params: a time is above %d blocks", uint64(maxBlocks))
	}
	return nil
}

// ParseParams reads and checks the JSON form; unknown fields are refused.
func ParseParams(b []byte) (Params, error) {
	var p Params
	if err := kv.StrictJSON(b, &p); err != nil {
		return p, fmt.Errorf("contracts params: %w", err)
	}
	return p, p.Validate()
}

// escrowFor is what a command of a tier may cost at most.
func (p *Params) escrowFor(tier uint8) uint64 {
	return p.BaseFee + proto.TierGas(tier)>>20*p.GasPrice
}

// chargeFor is what a command cost: the base fee, and the upper end of its gas
// bucket, at the prices of when it was pushed; never more than was held. The base fee
// is what the escrow holds beside the tier's gas.
func chargeFor(c *proto.CommandRecord, bucket uint8) uint64 {
	tier := proto.TierGas(c.GasTier)
	gas := min(proto.GasOfBucket(bucket), tier)
	units := gas >> 20
	if gas&(1<<20-1) != 0 {
		units++ // every begun 2^20
	}
	return c.Escrow - (tier>>20-units)*c.GasPrice
}
