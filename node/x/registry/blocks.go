package registry

import (
	"bytes"
	"context"
	"encoding/binary"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// BeginBlock remembers the hash of the block that begins and forgets old ones, and ends
// the admissions whose time is over.
func (k *Keeper) BeginBlock(ctx sdk.Context) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	s, h := k.store.OpenKVStore(ctx), uint64(ctx.BlockHeight())
	if hash := ctx.HeaderHash(); len(hash) == 32 {
		if err := s.Set(proto.KeyBlock(h), hash); err != nil {
			return err
		}
	}
	first, err := k.firstBlock(ctx)
	if err != nil {
		return err
	}
	// Trust roots stay: the chain's first block and every so many after it.
	if old := h - min(h, p.RecentBlocks+1); old > first && old%proto.TrustRootInterval != 0 {
		if err := s.Delete(proto.KeyBlock(old)); err != nil {
			return err
		}
	}
	return k.endAdmissions(ctx, &p)
}

// firstBlock is the height of the oldest block that is remembered: the chain's first.
func (k *Keeper) firstBlock(ctx context.Context) (first uint64, err error) {
	err = kv.Each(k.store.OpenKVStore(ctx), []byte("h/"), func(key, _ []byte) (bool, error) {
		first = binary.BigEndian.Uint64(key)
		return false, nil
	})
	return first, err
}

// trustRoot checks that (height, hash) is a block from which light clients may start.
func (k *Keeper) trustRoot(ctx context.Context, height uint64, hash proto.Hash) error {
	first, err := k.firstBlock(ctx)
	if err != nil {
		return err
	}
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyBlock(height))
	if err != nil {
		return err
	}
	if height != first && height%proto.TrustRootInterval != 0 || !bytes.Equal(b, hash[:]) {
		return ErrWrongChain.Wrapf("trust root %d %s: this chain's are its first block, %d, and every %dth", height, hash, first, proto.TrustRootInterval)
	}
	return nil
}

// recent checks that (height, hash) names a block of this chain that is at most
// RecentBlocks old.
func (k *Keeper) recent(ctx sdk.Context, p *Params, height uint64, hash proto.Hash) error {
	now := uint64(ctx.BlockHeight())
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyBlock(height))
	if err != nil {
		return err
	}
	if height > now || now-height > p.RecentBlocks || !bytes.Equal(b, hash[:]) {
		return ErrStale.Wrapf("block %d %s at height %d: let the enclave sync and ask it again", height, hash, now)
	}
	return nil
}
