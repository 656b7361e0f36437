package contracts

import (
	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/proto"
)

// deposits is what a cluster's commands have put in for storage.
func (k *Keeper) deposits(ctx sdk.Context, c proto.ClusterID) (math.Int, error) {
	held := math.ZeroInt()
	b, err := k.store.OpenKVStore(ctx).Get(depositsKey(c))
	if err == nil && b != nil {
		err = held.Unmarshal(b)
	}
	return held, err
}

func (k *Keeper) setDeposits(ctx sdk.Context, c proto.ClusterID, held math.Int) error {
	b, err := held.Marshal()
	if err != nil {
		return err
	}
	return k.store.OpenKVStore(ctx).Set(depositsKey(c), b)
}

func depositsKey(c proto.ClusterID) []byte { return append([]byte("b/"), c.Bytes()...) }
