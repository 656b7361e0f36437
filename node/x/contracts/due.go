package contracts

import (
	"encoding/binary"
	"errors"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// Anybody may make a cluster (Params.ClusterPrice), so there may be very many that nobody
// serves. The end of a block reads each, and works on those that have something due: a store of its
// own for each, so that one that fails leaves nothing, costs far more than the look.

// turnClusters does at the end of a block what is due for each cluster.
func (k *Keeper) turnClusters(ctx sdk.Context) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	s := k.store.OpenKVStore(ctx)
	d := &look{k: k, p: &p, filed: map[proto.ClusterID]bool{}}
	for _, prefix := range [][]byte{expirePrefix, againPrefix} {
		err = errors.Join(err, kv.Each(s, prefix, func(key, _ []byte) (bool, error) {
			d.filed[proto.ClusterID(binary.BigEndian.Uint32(key))] = true
			return true, nil
		}))
	}
	clusters, listed := k.clusters(ctx)
	if err := errors.Join(err, listed); err != nil {
		return err
	}
	for _, c := range clusters {
		due, err := d.due(ctx, c)
		if err != nil {
			failed(ctx, c.ID, err)
			continue
		}
		if !due {
			continue
		}
		d.known = false // this one may take or free a worker
		cached, write := ctx.CacheContext()
		if err := k.turn(cached, c, &p); err != nil {
			failed(ctx, c.ID, err)
			continue
		}
		write()
	}
	return nil
}

// clusters lists all, in the order of their numbers.
func (k *Keeper) clusters(ctx sdk.Context) (list []*proto.Cluster, err error) {
	err = kv.Each(k.store.OpenKVStore(ctx), []byte("c/"), func(_, v []byte) (bool, error) {
		c, err := proto.ParseCluster(v)
		list = append(list, c)
		return true, err
	})
	return list, err
}

// turn does what is due for a cluster.
func (k *Keeper) turn(ctx sdk.Context, c *proto.Cluster, p *Params) error {
	return errors.Join(k.expireWaiting(ctx, c), k.turnEpoch(ctx, c, p), k.replaceSilent(ctx, c, p), k.fillSeats(ctx, c, p),
		k.announceAgain(ctx, c), k.followRules(ctx, c, p))
}

// A look at the clusters at the end of a block.
type look struct {
	k     *Keeper
	p     *Params
	filed map[proto.ClusterID]bool // whose contracts are to expire, or codes to be announced again
	known bool                     // newest is what is so now
	// newest is the newest version of the rules that a worker knows who could take a seat,
	// 0 where there is none.
	newest uint32
}

// due reports whether turn may do anything for a cluster: if in doubt, it says so.
func (d *look) due(ctx sdk.Context, c *proto.Cluster) (bool, error) {
	now, wanted := uint64(ctx.BlockHeight()), uint32(0)
	if d.p.Rules > c.Rules {
		wanted = d.p.Rules
	}
	_, next := decided(c, c.NextSealed)
	switch {
	case d.filed[c.ID]: // expireWaiting, announceAgain
		return true, nil
	case c.Next == 0 && epochOver(c, d.p, now), c.Next != 0 && next: // turnEpoch
		return true, nil
	case wanted != c.Wanted, wanted != 0 && len(c.Seats) >= c.Majority(): // followRules
		return true, nil
	}
	for _, w := range c.Seats { // replaceSilent
		if why, _, err := d.k.idle(ctx, c, w, d.p); err != nil || why != "" {
			return true, err
		}
	}
	if len(c.Seats) >= int(c.SeatsWanted) {
		return false, nil
	}
	err := d.count(ctx) // fillSeats
	return d.newest != 0 && d.newest >= c.Rules, err
}

// count finds the newest version of the rules that a worker knows who could take a seat.
func (d *look) count(ctx sdk.Context) error {
	if d.known {
		return nil
	}
	d.newest = 0
	err := d.k.registry.Each(ctx, func(w *proto.WorkerInfo) (bool, error) {
		if w.Role == proto.RoleWorker && w.State.Cluster == 0 && w.Rules > d.newest {
			if ok, _ := d.k.registry.Serving(ctx, w.Worker); ok {
				d.newest = w.Rules
			}
		}
		return true, nil
	})
	d.known = err == nil
	return err
}
