package app

import (
	"sync"
	"time"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"cosmossdk.io/math"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/node/x/registry"
	phala "github.com/phala-go/phala/proto"
)

// PHA is 10^12 base units; one PHA is one unit of consensus power.
const PHA = 1_000_000_000_000

var configure sync.Once

// Configure sets what the SDK keeps in globals: address prefixes and the power of a
// token. It may be called more than once.
func Configure() {
	configure.Do(func() {
		c := sdk.GetConfig()
		c.SetBech32PrefixForAccount(address.HRP, address.HRP+"pub")
		c.SetBech32PrefixForValidator(address.HRP+"valoper", address.HRP+"valoperpub")
		c.SetBech32PrefixForConsensusNode(address.HRP+"valcons", address.HRP+"valconspub")
		c.Seal()
		sdk.DefaultPowerReduction = math.NewInt(PHA)
		sdk.DefaultBondDenom = "ppha"
	})
}

// newVerifier makes the registry's verifier of evidence for the roots in genesis:
// none means the vendors' own.
func newVerifier(rootBytes []byte) (registry.Verifier, error) {
	roots := attest.ProductionRoots()
	if len(rootBytes) > 0 {
		var err error
		if roots, err = attest.SimulatedRoots(rootBytes); err != nil {
			return nil, err
		}
	}
	return func(evidence []byte, now time.Time) (*registry.Verdict, error) {
		ev, err := attest.Parse(evidence)
		if err != nil {
			return nil, err
		}
		v, err := attest.Verify(ev, roots, now)
		if err != nil {
			return nil, err
		}
		return &registry.Verdict{ReportData: v.ReportData, Measurement: phala.Hash(v.Measurement), Simulated: v.Simulated,
			Level: v.ConfidenceLevel, Machine: v.MachineID, Expires: v.Expiry}, nil
	}, nil
}
