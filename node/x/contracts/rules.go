package contracts

import (
	"errors"
	"fmt"
	"slices"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// Governance says which version of the rules clusters are to run under (Params.Rules); a
// cluster comes to it when all of its seats can. The chain asks them (RulesWanted). A seat
// whose build knows the version prepares the cluster's codes under it and says so, with a
// digest of what they became. When all seats said the same of the same codes, the version
// is in force with the next block.
//
// Codes may come meanwhile, and a seat's word is of those up to some message. So when all
// seats have said that they can, and have not caught up with each other, contracts wait to
// start for a while: otherwise whoever deploys again and again could keep a cluster under
// old rules.

// holdBlocks is how long contracts wait, and at least as long they start again before they
// are held once more: a seat that does not catch up must not stop deployments.
const holdBlocks = 100

// held reports whether contracts of a cluster wait to start, so that its seats agree.
func held(c *proto.Cluster, now uint64) bool { return c.Held != 0 && now < c.Held+holdBlocks }

// checkRules refuses a version that no admitted worker knows: new clusters would get no seat.
func (k *Keeper) checkRules(ctx sdk.Context, version uint32) error {
	known := uint32(0)
	err := k.registry.Each(ctx, func(w *proto.WorkerInfo) (bool, error) {
		if w.Role == proto.RoleWorker && uint64(ctx.BlockHeight()) < w.Expires {
			known = max(known, w.Rules)
		}
		return true, nil
	})
	if err == nil && version > known {
		err = ErrParams.Wrapf("rules version %d: admitted workers know up to %d; first have a release that knows it installed", version, known)
	}
	return err
}

// followRules brings a cluster to the version that governance wants. It is the last to add
// to the cluster's topic in a block.
func (k *Keeper) followRules(ctx sdk.Context, c *proto.Cluster, p *Params) error {
	now, wanted := uint64(ctx.BlockHeight()), uint32(0)
	if p.Rules > c.Rules {
		wanted = p.Rules
	}
	if room, err := k.room(ctx, c.ID); err != nil || room == 0 {
		return err // the next block has room
	}
	if wanted != c.Wanted {
		seq, err := k.mq.Append(ctx, proto.TopicCluster(c.ID), []byte(ModuleName), proto.RulesWanted{Version: max(wanted, c.Rules)})
		if wanted == 0 {
			seq = 0
		}
		c.Wanted, c.CodesSeq, c.Ready, c.Held = wanted, seq, nil, 0
		ctx.EventManager().EmitEvent(rulesEvent("rules_wanted", c.ID, max(wanted, c.Rules)))
		return errors.Join(err, set(ctx, k, proto.KeyCluster(c.ID), c))
	}
	if wanted == 0 || len(c.Seats) < c.Majority() || len(c.RulesMissing()) > 0 {
		return nil
	}
	if images, ok := c.RulesAgreed(); ok {
		return k.activateRules(ctx, c, images)
	}
	late := slices.ContainsFunc(c.Ready, func(w proto.RulesWord) bool { return c.HasSeat(w.Worker) && w.Seq != c.CodesSeq })
	if late && (c.Held == 0 || now >= c.Held+2*holdBlocks) {
		c.Held = now
		return set(ctx, k, proto.KeyCluster(c.ID), c)
	}
	return nil
}

func rulesEvent(kind string, c proto.ClusterID, version uint32, more ...sdk.Attribute) sdk.Event {
	return sdk.NewEvent(kind, append([]sdk.Attribute{sdk.NewAttribute("cluster", c.String()), sdk.NewAttribute("version", fmt.Sprint(version))}, more...)...)
}

// activateRules puts the wanted version into force with the next block.
func (k *Keeper) activateRules(ctx sdk.Context, c *proto.Cluster, images proto.Hash) error {
	c.Rules, c.Wanted, c.CodesSeq, c.Ready, c.Held = c.Wanted, 0, 0, nil, 0
	if err := k.sendRules(ctx, c, images); err != nil {
		return err
	}
	// What was said of codes was said under the old rules: those for which contracts wait
	// are announced again.
	return errors.Join(set(ctx, k, proto.KeyCluster(c.ID), c), k.store.OpenKVStore(ctx).Set(againKey(c.ID), []byte{1}))
}

// sendRules tells a cluster under which rules it runs from the next block on.
func (k *Keeper) sendRules(ctx sdk.Context, c *proto.Cluster, images proto.Hash) error {
	_, err := k.mq.Append(ctx, proto.TopicCluster(c.ID), []byte(ModuleName), proto.RulesActivated{Version: c.Rules, EffectiveHeight: uint64(ctx.BlockHeight()) + 1, Images: images})
	ctx.EventManager().EmitEvent(rulesEvent("rules_activated", c.ID, c.Rules))
	return err
}

// rulesReady counts a seat's word for the version that is wanted. Its last one counts: it
// speaks anew when the cluster's codes have changed, and after a restart.
func (k *Keeper) rulesReady(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, e proto.RulesReady) error {
	if e.Version != c.Wanted {
		return nil // said too late, or again after a restart
	}
	if e.Seq > c.CodesSeq {
		return ErrMalformed.Wrapf("codes up to message %d, the newest that may have changed them is %d", e.Seq, c.CodesSeq)
	}
	// Whoever lost its seat has no word any more; kept, they would be more than there are seats.
	c.Ready = slices.DeleteFunc(c.Ready, func(o proto.RulesWord) bool { return o.Worker == w || !c.HasSeat(o.Worker) })
	if slices.ContainsFunc(c.Ready, func(o proto.RulesWord) bool { return o.Seq == e.Seq && o.Images != e.Images }) {
		// Nobody can say who is wrong; as long as they differ, the version does not come.
		ctx.EventManager().EmitEvent(rulesEvent("rules_disputed", c.ID, e.Version, sdk.NewAttribute("worker", w.String()), sdk.NewAttribute("images", e.Images.String())))
	}
	c.Ready = append(c.Ready, proto.RulesWord{Worker: w, Seq: e.Seq, Images: e.Images})
	ctx.EventManager().EmitEvent(rulesEvent("rules_ready", c.ID, e.Version, sdk.NewAttribute("worker", w.String())))
	return set(ctx, k, proto.KeyCluster(c.ID), c)
}

// againKey is where a cluster stands whose waiting codes are to be announced again: a byte,
// and the last code that was.
func againKey(c proto.ClusterID) []byte { return append([]byte("a/"), c.Bytes()...) }

var againPrefix = []byte("a/")

// againPerBlock bounds how many codes a block announces again.
const againPerBlock = 64

// announceAgain announces the codes for which contracts of a cluster wait.
func (k *Keeper) announceAgain(ctx sdk.Context, c *proto.Cluster) error {
	s := k.store.OpenKVStore(ctx)
	last, err := s.Get(againKey(c.ID))
	if err != nil || last == nil {
		return err
	}
	room, err := k.room(ctx, c.ID)
	if err != nil {
		return err
	}
	all := append([]byte("z/"), c.ID.Bytes()...)
	for range min(room, againPerBlock) {
		from := append(slices.Clone(all), last[1:]...)
		if len(last) > 1 {
			from = kv.PrefixEnd(from) // after every contract that waits for it
		}
		it, err := s.Iterator(from, kv.PrefixEnd(all))
		if err != nil {
			return err
		}
		if !it.Valid() {
			return errors.Join(it.Close(), s.Delete(againKey(c.ID)))
		}
		code := proto.Hash(it.Key()[len(all):][:32])
		if err := it.Close(); err != nil {
			return err
		}
		rec, err := get(ctx, k, proto.KeyCode(code), proto.ParseCode)
		if err != nil || rec == nil {
			return errors.Join(err, ErrNoCode.Wrap(code.String()))
		}
		if _, err := k.mq.Append(ctx, proto.TopicCluster(c.ID), []byte(ModuleName), proto.CodeAnnounced{Code: code, Size: rec.Manifest.Size}); err != nil {
			return err
		}
		last = append([]byte{1}, code[:]...)
	}
	return s.Set(againKey(c.ID), last)
}
