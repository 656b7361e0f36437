package contracts

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/proto"
)

// A tenure says since which height a worker has its seat, or is waited for anew, and at which it lost one because
// it showed no key; each 0 for never.
type tenure struct{ since, lost uint64 }

func tenureKey(w proto.WorkerID) []byte { return append([]byte("l/"), w[:]...) }

func (k *Keeper) tenure(ctx sdk.Context, w proto.WorkerID) (t tenure, err error) {
	b, err := k.store.OpenKVStore(ctx).Get(tenureKey(w))
	if err != nil || b == nil {
		return t, err
	}
	return tenure{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

func (k *Keeper) setTenure(ctx sdk.Context, w proto.WorkerID, t tenure) error {
	s := k.store.OpenKVStore(ctx)
	if t == (tenure{}) {
		return s.Delete(tenureKey(w))
	}
	return s.Set(tenureKey(w), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, t.since), t.lost))
}

// keyless reports whether a seat has shown no key of the running epoch for as long as it
// may be silent: gatekeepers refuse the worker, or it does not follow. What it was waited
// for counts from when it got the seat and the epoch began, whichever was later.
func (k *Keeper) keyless(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, p *Params) (bool, error) {
	// Each change begins an epoch, and there is an end to those that begin without a snapshot:
	// room is left for workers that go.
	if unstored(c) >= maxUnstored || slices.ContainsFunc(c.Sealed, func(s proto.SealedEpoch) bool { return s.Worker == w }) {
		return false, nil
	}
	t, err := k.tenure(ctx, w)
	return uint64(ctx.BlockHeight()) >= max(t.since, c.EpochHeight)+p.SilentBlocks, err
}

// free lists the serving workers without a seat that know the cluster's rules, in order of
// identity, first those that know the rules that are wanted too; those that lost a seat
// because they showed no key come last, who lost it longest ago first, so that all are tried
// in turn.
func (k *Keeper) free(ctx sdk.Context, c *proto.Cluster, p *Params) ([]proto.WorkerID, error) {
	type candidate struct {
		worker proto.WorkerID
		lost   uint64
		old    int // 1: it does not know the rules that are wanted
	}
	var all []candidate
	err := k.registry.Each(ctx, func(w *proto.WorkerInfo) (bool, error) {
		if w.Role == proto.RoleWorker && w.State.Cluster == 0 && w.Rules >= c.Rules {
			if ok, _ := k.registry.Serving(ctx, w.Worker); ok {
				t, err := k.tenure(ctx, w.Worker)
				if err != nil {
					return false, err
				}
				f := candidate{worker: w.Worker, lost: t.lost}
				if w.Rules < p.Rules {
					f.old = 1
				}
				all = append(all, f)
			}
		}
		return true, nil
	})
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.lost, b.lost), cmp.Compare(a.old, b.old), bytes.Compare(a.worker[:], b.worker[:]))
	})
	var free []proto.WorkerID
	for _, f := range all {
		free = append(free, f.worker)
	}
	return free, err
}
