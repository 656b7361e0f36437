package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// Heard notes that a worker's outbox spoke. It is false for one that is not admitted:
// the queue takes nothing of it. Its entries wait in the enclave until it is admitted
// anew, which needs none of them.
func (k *Keeper) Heard(ctx sdk.Context, id proto.WorkerID) (bool, error) {
	w, err := k.Worker(ctx, id)
	if err != nil || w == nil || uint64(ctx.BlockHeight()) >= w.Expires {
		return false, err
	}
	w.State.Heard = uint64(ctx.BlockHeight())
	return true, k.set(ctx, w)
}

// Serving says whether a worker may be used now, and if not, why: it is registered,
// its admission has not ended, and its outbox spoke within the lease. Everything that
// ends an admission early (policy, revocation, the vendor's collateral, another worker
// on its machine) does so by setting the height at which it ends, so that whoever reads
// the worker's record with a proof sees the same.
func (k *Keeper) Serving(ctx context.Context, id proto.WorkerID) (bool, string) {
	p, err := k.Params(ctx)
	if err != nil {
		return false, err.Error()
	}
	w, err := k.Worker(ctx, id)
	if err != nil {
		return false, err.Error()
	}
	return k.serving(sdk.UnwrapSDKContext(ctx), &p, w)
}

func (k *Keeper) serving(ctx sdk.Context, p *Params, w *proto.WorkerInfo) (bool, string) {
	now := uint64(ctx.BlockHeight())
	switch {
	case w == nil:
		return false, "not registered"
	case now >= w.Expires:
		return false, fmt.Sprintf("attestation ended at height %d", w.Expires)
	case now-w.State.Heard > p.LeaseBlocks:
		return false, fmt.Sprintf("silent since height %d", w.State.Heard)
	}
	return true, ""
}

// endAdmission ends a worker's admission now and says so to the worker and to
// gatekeepers.
func (k *Keeper) endAdmission(ctx sdk.Context, w *proto.WorkerInfo, why string) error {
	s := k.store.OpenKVStore(ctx)
	if has, err := s.Has(keyEnd(w.Expires, w.Worker)); err != nil || !has {
		return err // it has ended
	}
	a, err := k.Attestation(ctx, w.Worker)
	if err != nil {
		return err
	}
	if err := errors.Join(s.Delete(keyEnd(w.Expires, w.Worker)), s.Delete(keyUntil(a.Until, w.Worker))); err != nil {
		return err
	}
	w.Expires = min(w.Expires, uint64(ctx.BlockHeight()))
	if err := k.set(ctx, w); err != nil {
		return err
	}
	for _, topic := range []string{proto.TopicWorker(w.Worker), proto.TopicGatekeeper} {
		if _, err := k.mq.Append(ctx, topic, []byte(ModuleName), proto.AdmissionEnded{Worker: w.Worker}); err != nil {
			return err
		}
	}
	ctx.EventManager().EmitEvent(sdk.NewEvent("admission_ended", sdk.NewAttribute("worker", w.Worker.String()), sdk.NewAttribute("reason", why)))
	return nil
}

// What one block does at most of each: the rest waits for the next. Nobody relies on it
// but for messages and seats; Serving reads the heights.
const (
	maxEnds  = 256
	maxSweep = 256
)

// endAdmissions ends what is over by height or by time, and goes on with the sweep after
// a change of policy.
func (k *Keeper) endAdmissions(ctx sdk.Context, p *Params) error {
	type end struct {
		worker proto.WorkerID
		why    string
	}
	var ends []end
	collect := func(prefix string, limit uint64, why string) error {
		return kv.Each(k.store.OpenKVStore(ctx), []byte(prefix), func(key, _ []byte) (bool, error) {
			if binary.BigEndian.Uint64(key) > limit || len(ends) >= maxEnds {
				return false, nil
			}
			ends = append(ends, end{proto.WorkerID(key[8:]), why})
			return true, nil
		})
	}
	if err := errors.Join(collect("e/", uint64(ctx.BlockHeight()), "its height has come"),
		collect("u/", uint64(ctx.BlockTime().UnixMilli()), "its evidence or the vendor's collateral has expired")); err != nil {
		return err
	}
	for _, e := range ends {
		w, err := k.Worker(ctx, e.worker)
		if err != nil {
			return err
		}
		if err := k.endAdmission(ctx, w, e.why); err != nil {
			return err
		}
	}
	return k.sweep(ctx, p)
}

// changed starts a sweep: what was admitted is judged by the policy of now.
func (k *Keeper) changed(ctx context.Context) error {
	return k.store.OpenKVStore(ctx).Set(keySweep, []byte("w/"))
}

var keySweep = []byte("sweep")

// sweep shortens the admissions of a number of workers to what policy allows now. It
// never lengthens one: what was denied in error registers again.
func (k *Keeper) sweep(ctx sdk.Context, p *Params) error {
	s := k.store.OpenKVStore(ctx)
	from, err := s.Get(keySweep)
	if err != nil || from == nil {
		return err
	}
	var workers []*proto.WorkerInfo
	var next []byte
	it, err := s.Iterator(from, kv.PrefixEnd([]byte("w/")))
	if err != nil {
		return err
	}
	for ; it.Valid(); it.Next() {
		if len(workers) == maxSweep {
			next = bytes.Clone(it.Key())
			break
		}
		w, err := proto.ParseWorkerInfo(it.Value())
		if err != nil {
			return errors.Join(err, it.Close())
		}
		workers = append(workers, w)
	}
	if err := it.Close(); err != nil {
		return err
	}
	now := uint64(ctx.BlockHeight())
	for _, w := range workers {
		if now >= w.Expires {
			continue
		}
		a, err := k.Attestation(ctx, w.Worker)
		if err != nil {
			return err
		}
		end, why := k.allowedUntil(ctx, p, w, a)
		switch {
		case why != nil:
			err = k.endAdmission(ctx, w, why.Error())
		case end < w.Expires:
			err = s.Delete(keyEnd(w.Expires, w.Worker))
			w.Expires = end
			err = errors.Join(err, k.set(ctx, w), s.Set(keyEnd(end, w.Worker), mark))
		}
		if err != nil {
			return err
		}
	}
	if next == nil {
		return s.Delete(keySweep)
	}
	return s.Set(keySweep, next)
}
