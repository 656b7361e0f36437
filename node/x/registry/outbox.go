package registry

import (
	"bytes"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

// HandleEntry acts on the outbox entries that belong to the registry.
func (k *Keeper) HandleEntry(ctx sdk.Context, from mq.From, entry proto.Entry) error {
	w, err := k.Worker(ctx, from.Worker)
	if err != nil {
		return err
	}
	if w == nil {
		return ErrNotRegistered.Wrap(from.Worker.String())
	}
	switch e := entry.(type) {
	case proto.StartSession:
		p, err := k.Params(ctx)
		if err != nil {
			return err
		}
		if err := commkey.PublicKey(e.Key).Check(); err != nil {
			return ErrMalformed.Wrap(err.Error())
		}
		if err := k.recent(ctx, &p, e.Height, e.Hash); err != nil {
			return err
		}
		w.State.Session, w.State.SessionHeight = e.Key, uint64(ctx.BlockHeight())
		if err := k.set(ctx, w); err != nil {
			return err
		}
		started := proto.SessionStarted{Worker: from.Worker, Seq: from.Seq, Entry: from.Payload, Signature: from.Signature}
		_, err = k.mq.Append(ctx, proto.TopicWorker(from.Worker), from.Worker[:], started)
		if err == nil {
			_, err = k.mq.Append(ctx, proto.TopicGatekeeper, from.Worker[:], started)
		}
		return err
	case proto.Challenge:
		_, err := k.mq.Append(ctx, proto.TopicWorker(from.Worker), from.Worker[:], proto.ChallengeEchoed(e))
		return err
	case proto.SetEndpoints:
		w.Endpoints = e.Endpoints
		return k.set(ctx, w)
	case proto.PublishMasterKey:
		return k.setMasterKey(ctx, w, e)
	case proto.ReleaseKeys:
		if w.Role != proto.RoleGatekeeper {
			return ErrRole.Wrapf("%s releases keys as %s", from.Worker, w.Role)
		}
		if target, err := k.Worker(ctx, e.Worker); err != nil {
			return err
		} else if target == nil || uint64(ctx.BlockHeight()) >= target.Expires {
			return ErrNotRegistered.Wrapf("%s, or its admission ended", e.Worker)
		}
		master, err := k.store.OpenKVStore(ctx).Get(proto.KeyMasterKey())
		if err != nil {
			return err
		}
		if master == nil {
			return ErrRole.Wrap("there is no master key yet")
		}
		_, err = k.mq.Append(ctx, proto.TopicWorker(e.Worker), from.Worker[:], proto.KeysReleased{Gatekeeper: from.Worker, Master: [32]byte(master), Release: from.Payload})
		return err
	}
	return ErrMalformed.Wrapf("entry %T", entry)
}

func (k *Keeper) setMasterKey(ctx sdk.Context, w *proto.WorkerInfo, e proto.PublishMasterKey) error {
	if w.Role != proto.RoleGatekeeper {
		return ErrRole.Wrapf("%s publishes a master key as %s", w.Worker, w.Role)
	}
	if err := commkey.PublicKey(e.Public).Check(); err != nil {
		return ErrMalformed.Wrap(err.Error())
	}
	s := k.store.OpenKVStore(ctx)
	old, err := s.Get(proto.KeyMasterKey())
	if err != nil {
		return err
	}
	if old != nil {
		if bytes.Equal(old, e.Public[:]) {
			return nil
		}
		return ErrRole.Wrapf("the master key is %x; changing it is a rotation", old)
	}
	if err := s.Set(proto.KeyMasterKey(), e.Public[:]); err != nil {
		return err
	}
	_, err = k.mq.Append(ctx, proto.TopicGatekeeper, w.Worker[:], proto.MasterKeySet(e))
	return err
}
