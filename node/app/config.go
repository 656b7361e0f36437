package app

import (
	"sync"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"cosmossdk.io/math"

	"github.com/phala-go/phala/crypto/address"
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
