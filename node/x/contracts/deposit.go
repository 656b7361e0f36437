package contracts

import (
	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
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

// Held is what the module's account has to have: the escrow of commands without a
// receipt and of contracts that wait, and the deposits of clusters.
func (k *Keeper) Held(ctx sdk.Context) (math.Int, error) {
	s, sum := k.store.OpenKVStore(ctx), math.ZeroInt()
	for _, prefix := range []string{"q/", "e/"} {
		err := kv.Each(s, []byte(prefix), func(_, v []byte) (bool, error) {
			rec, err := proto.ParseCommandRecord(v)
			if err == nil && !rec.Done {
				sum = sum.Add(math.NewIntFromUint64(rec.Escrow)).Add(math.NewIntFromUint64(rec.DepositLimit))
			}
			return true, err
		})
		if err != nil {
			return sum, err
		}
	}
	err := kv.Each(s, []byte("b/"), func(_, v []byte) (bool, error) {
		held := math.ZeroInt()
		if err := held.Unmarshal(v); err != nil {
			return false, err
		}
		sum = sum.Add(held)
		return true, nil
	})
	return sum, err
}
