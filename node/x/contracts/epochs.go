package contracts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// An epoch is the life of a cluster's traffic key. The next one is announced to the
// gatekeepers, who release its key to the seats; the seats publish its public key, and
// when a majority published the same, it starts: the cluster never waits for a key. The
// state at the start of an epoch is kept as a snapshot, from which a new seat continues
// and after which the keys of older epochs are not needed any more.

// epochKey counts a seat's word for the public key of the epoch that is, or of the one
// that is announced. It counts once a majority published the same; a seat may not change
// its word.
func (k *Keeper) epochKey(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, e proto.PublishEpochKey) error {
	list := &c.Sealed
	switch {
	case e.Epoch < c.Epoch:
		return nil // said too late, or again after a restart
	case c.Next != 0 && e.Epoch == c.Next:
		list = &c.NextSealed
	case e.Epoch != c.Epoch:
		return ErrEpoch.Wrapf("epoch %d, cluster %s is in %d", e.Epoch, c.ID, c.Epoch)
	}
	if err := commkey.PublicKey(e.Public).Check(); err != nil {
		return ErrMalformed.Wrap(err.Error())
	}
	if slices.ContainsFunc(*list, func(s proto.SealedEpoch) bool { return s.Worker == w }) {
		return nil
	}
	// Whoever lost its seat has no word any more; kept, they would be more than there are seats.
	*list = slices.DeleteFunc(*list, func(s proto.SealedEpoch) bool { return !c.HasSeat(s.Worker) })
	*list = append(*list, proto.SealedEpoch{Worker: w, Public: e.Public})
	t, err := k.tenure(ctx, w)
	if err != nil {
		return err
	}
	if t.lost != 0 {
		if err := k.setTenure(ctx, w, tenure{since: t.since}); err != nil {
			return err
		}
	}
	if c.EpochKey == [32]byte{} {
		if key, ok := decided(c, c.Sealed); ok {
			c.EpochKey, c.EpochHeight = key, uint64(ctx.BlockHeight())
			ctx.EventManager().EmitEvent(epochEvent(c))
		}
	}
	return set(ctx, k, proto.KeyCluster(c.ID), c)
}

func epochEvent(c *proto.Cluster) sdk.Event {
	return sdk.NewEvent("epoch_key", sdk.NewAttribute("cluster", c.ID.String()), sdk.NewAttribute("epoch", fmt.Sprint(c.Epoch)))
}

// decided returns the key that a majority of the seats published.
func decided(c *proto.Cluster, words []proto.SealedEpoch) ([32]byte, bool) {
	for i := range words {
		n := 0
		for _, s := range words {
			if s.Public == words[i].Public && c.HasSeat(s.Worker) {
				n++
			}
		}
		if n >= c.Majority() {
			return words[i].Public, true
		}
	}
	return [32]byte{}, false
}

// announce begins the way to the next epoch. One that was announced before and did not
// start is left out: a worker that lost its seat may have its key.
func (k *Keeper) announce(ctx sdk.Context, c *proto.Cluster) error {
	for _, s := range c.NextSealed {
		if !c.HasSeat(s.Worker) {
			continue
		}
		// It had the key of the epoch that is left out, and is waited for anew.
		t, err := k.tenure(ctx, s.Worker)
		t.since = uint64(ctx.BlockHeight())
		if err := errors.Join(err, k.setTenure(ctx, s.Worker, t)); err != nil {
			return err
		}
	}
	c.Next, c.NextSealed = max(c.Next, c.Epoch)+1, nil
	_, err := k.mq.Append(ctx, proto.TopicGatekeeper, []byte(ModuleName), proto.EpochAnnounced{Cluster: c.ID, Epoch: c.Next})
	return errors.Join(err, set(ctx, k, proto.KeyCluster(c.ID), c))
}

// epochOver reports whether a cluster's key has been in use for long enough.
func epochOver(c *proto.Cluster, p *Params, now uint64) bool {
	return c.EpochKey != [32]byte{} && p.EpochBlocks != 0 && now >= c.EpochHeight+p.EpochBlocks && unstored(c) <= maxUnstored
}

// turnEpoch announces a cluster's epoch when it is due and starts the one whose key is
// there.
func (k *Keeper) turnEpoch(ctx sdk.Context, c *proto.Cluster, p *Params) error {
	now := uint64(ctx.BlockHeight())
	if c.Next == 0 {
		if !epochOver(c, p, now) {
			return nil
		}
		return k.announce(ctx, c)
	}
	key, ok := decided(c, c.NextSealed)
	if !ok {
		return nil
	}
	if room, err := k.room(ctx, c.ID); err != nil || room == 0 {
		return err // the next block has room
	}
	c.Epoch, c.EpochKey, c.EpochHeight, c.Sealed = c.Next, key, now, c.NextSealed
	c.Next, c.NextSealed = 0, nil
	if _, err := k.mq.Append(ctx, proto.TopicCluster(c.ID), []byte(ModuleName), proto.EpochStarted{Cluster: c.ID, Epoch: c.Epoch}); err != nil {
		return err
	}
	ctx.EventManager().EmitEvent(epochEvent(c))
	return errors.Join(set(ctx, k, proto.KeyCluster(c.ID), c), k.store.OpenKVStore(ctx).Set(expireKey(c.ID), []byte{1}))
}

// Gatekeepers release the keys of all epochs since the newest stored snapshot, and of so
// many at most: no epoch begins by time, and no seat changes, where it would be more.
const (
	maxUnstored = 16
	maxReplaced = 60
)

// unstored is how many epochs the next one is ahead of the newest stored snapshot.
func unstored(c *proto.Cluster) uint64 {
	return max(c.Next, c.Epoch) + 1 - min(max(c.State.Epoch, 1), c.Epoch)
}

// expirePrefix lists the clusters with contracts that may have waited for their code for
// longer than an epoch.
var expirePrefix = []byte("w/")

func expireKey(c proto.ClusterID) []byte { return append([]byte("w/"), c.Bytes()...) }

// expiresPerBlock bounds how many contracts of an older epoch a block gives up.
const expiresPerBlock = 64

// expireWaiting gives up the contracts that still wait although their epoch is over: the
// seats have erased the key that their constructors are sealed to.
func (k *Keeper) expireWaiting(ctx sdk.Context, c *proto.Cluster) error {
	s := k.store.OpenKVStore(ctx)
	if has, err := s.Has(expireKey(c.ID)); err != nil || !has {
		return err
	}
	type waiting struct {
		key []byte
		ct  *proto.Contract
	}
	var old []waiting
	prefix := append([]byte("z/"), c.ID.Bytes()...)
	err := kv.Each(s, prefix, func(key, _ []byte) (bool, error) {
		ct, err := get(ctx, k, proto.KeyContract(proto.ContractID(key[len(key)-32:])), proto.ParseContract)
		if err == nil && ct != nil && ct.Command.Epoch < c.Epoch {
			old = append(old, waiting{slices.Concat(prefix, key), ct})
		}
		return len(old) < expiresPerBlock, err
	})
	if err != nil {
		return err
	}
	for _, w := range old {
		if err := errors.Join(k.refuse(ctx, w.ct, proto.ContractExpired), s.Delete(w.key)); err != nil {
			return err
		}
	}
	if len(old) < expiresPerBlock {
		return s.Delete(expireKey(c.ID))
	}
	return nil
}

// replaceSilent takes the seats of workers whose admission ended, and, where others wait for
// one, of those that have not served for long, or that serve and have shown no key for as
// long; and changes the cluster's key at once: whoever lost a seat has the old one. One seat
// of a cluster at a time, and none of those that gave their word for the next key before it
// counts: a state moves to as few machines as possible.
func (k *Keeper) replaceSilent(ctx sdk.Context, c *proto.Cluster, p *Params) error {
	if unstored(c) >= maxReplaced {
		return nil
	}
	waiting := -1 // not counted: it takes a look at every worker
	for _, w := range c.Seats {
		if slices.ContainsFunc(c.NextSealed, func(s proto.SealedEpoch) bool { return s.Worker == w }) {
			continue
		}
		why, t, err := k.idle(ctx, c, w, p)
		if err != nil {
			return err
		}
		if why == "" {
			continue
		}
		if why != reasonEnded {
			// It may come back, or get its key: it goes only where another one comes.
			if waiting < 0 {
				free, err := k.free(ctx, c, p)
				if err != nil {
					return err
				}
				waiting = len(free)
			}
			if waiting == 0 {
				continue
			}
		}
		return errors.Join(k.unseat(ctx, c, w, why), k.setTenure(ctx, w, t))
	}
	return nil
}

// Why a seat is taken, in the event unseated.
const (
	reasonEnded   = "admission ended"
	reasonSilent  = "silent"
	reasonKeyless = "no key shown"
)

// idle says why a worker is to lose its seat, "" when it is not, and what is kept of it then.
func (k *Keeper) idle(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, p *Params) (why string, t tenure, err error) {
	now := uint64(ctx.BlockHeight())
	info, err := k.registry.Worker(ctx, w)
	switch {
	case err != nil:
		return "", t, err
	case info == nil || now >= info.Expires:
		return reasonEnded, t, nil
	case p.SilentBlocks == 0:
		return "", t, nil
	}
	if ok, _ := k.registry.Serving(ctx, w); !ok {
		if now >= info.State.Heard+p.SilentBlocks {
			why = reasonSilent
		}
		return why, t, nil
	}
	if keyless, err := k.keyless(ctx, c, w, p); err != nil || !keyless {
		return "", t, err
	}
	return reasonKeyless, tenure{lost: now}, nil
}

// unseat takes a worker's seat.
func (k *Keeper) unseat(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, why string) error {
	c.Seats = slices.DeleteFunc(slices.Clone(c.Seats), func(s proto.WorkerID) bool { return s == w })
	c.Ready = slices.DeleteFunc(slices.Clone(c.Ready), func(r proto.RulesWord) bool { return r.Worker == w }) // should it come back, it says so anew
	e := proto.Unseated{Cluster: c.ID, Worker: w}
	for _, topic := range []string{proto.TopicWorker(w), proto.TopicGatekeeper} {
		if _, err := k.mq.Append(ctx, topic, []byte(ModuleName), e); err != nil {
			return err
		}
	}
	ctx.EventManager().EmitEvent(sdk.NewEvent("unseated", sdk.NewAttribute("cluster", c.ID.String()), sdk.NewAttribute("worker", w.String()), sdk.NewAttribute("reason", why)))
	return errors.Join(k.registry.SetCluster(ctx, w, 0), k.announce(ctx, c))
}

// takenPrefix lists the clusters with a snapshot that was taken and is not stored yet.
var takenPrefix = []byte("y/")

func takenKey(c proto.ClusterID) []byte { return append([]byte("y/"), c.Bytes()...) }

// snapshotTaken counts a seat's word for the snapshot at the start of the epoch.
func (k *Keeper) snapshotTaken(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, e *proto.SnapshotTaken) error {
	s := &e.Snapshot
	switch {
	case s.Epoch < c.Epoch || s.Epoch == c.State.Epoch:
		return nil // a newer one is on its way, or it is stored
	case s.Epoch > c.Epoch:
		return ErrEpoch.Wrapf("snapshot of epoch %d, cluster %s is in %d", s.Epoch, c.ID, c.Epoch)
	}
	cursor, err := k.mq.Cursor(ctx, proto.TopicCluster(c.ID))
	if err != nil {
		return err
	}
	if s.Cursor.Seq > cursor.Seq {
		return ErrSnapshot.Wrapf("messages up to %d, the topic has %d", s.Cursor.Seq, cursor.Seq)
	}
	key := proto.KeySnapshot(c.ID, s.Epoch)
	rec, err := get(ctx, k, key, proto.ParseSnapshotRecord)
	if err != nil {
		return err
	}
	if rec == nil {
		rec = &proto.SnapshotRecord{}
	}
	if rec.Agreed || slices.ContainsFunc(rec.Votes, func(v proto.SnapshotVote) bool { return v.Worker == w }) {
		return nil
	}
	rec.Votes = slices.DeleteFunc(rec.Votes, func(v proto.SnapshotVote) bool { return !c.HasSeat(v.Worker) })
	if len(rec.Votes) == 0 {
		rec.Taken = nil
	}
	ref := s.Ref()
	i := slices.IndexFunc(rec.Taken, func(o proto.Snapshot) bool { return o.Ref() == ref })
	if i < 0 {
		if i = len(rec.Taken); i == proto.MaxSeats {
			return ErrSnapshot.Wrapf("cluster %s has %d different ones", c.ID, i)
		}
		rec.Taken = append(rec.Taken, *s)
	}
	rec.Votes = append(rec.Votes, proto.SnapshotVote{Worker: w, Index: uint32(i)})
	n := 0
	for _, v := range rec.Votes {
		if v.Index == uint32(i) && c.HasSeat(v.Worker) {
			n++
		}
	}
	if n >= c.Majority() {
		rec.Agreed, rec.Index, rec.Have = true, uint32(i), make([]bool, len(s.Pieces))
		if err := k.store.OpenKVStore(ctx).Set(takenKey(c.ID), []byte{1}); err != nil {
			return err
		}
	}
	return set(ctx, k, key, rec)
}

// snapshotPiece keeps a piece of an agreed snapshot beside the bodies.
func (k *Keeper) snapshotPiece(ctx sdk.Context, c *proto.Cluster, e *proto.SnapshotPiece) error {
	key := proto.KeySnapshot(c.ID, e.Epoch)
	rec, err := get(ctx, k, key, proto.ParseSnapshotRecord)
	if err != nil {
		return err
	}
	if rec == nil || !rec.Agreed {
		return ErrSnapshot.Wrapf("cluster %s has no agreed snapshot of epoch %d", c.ID, e.Epoch)
	}
	s := rec.Snapshot()
	if int(e.Index) >= len(s.Pieces) || len(e.Piece) != s.PieceLen(int(e.Index)) || sha256.Sum256(e.Piece) != s.Pieces[e.Index] {
		return ErrSnapshot.Wrapf("piece %d is not of the snapshot of epoch %d", e.Index, e.Epoch)
	}
	if rec.Have[e.Index] {
		return nil
	}
	rec.Have[e.Index], rec.Asked = true, uint64(ctx.BlockHeight()) // it comes on
	return errors.Join(set(ctx, k, key, rec), k.mq.Stage(ctx, pieceKey(c.ID, e.Epoch, e.Index), e.Piece))
}

// piecePrefix is where the side database has a snapshot's pieces.
func piecePrefix(c proto.ClusterID, epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte("s/"), c.Bytes()...), epoch)
}

func pieceKey(c proto.ClusterID, epoch uint64, i uint32) []byte {
	return binary.BigEndian.AppendUint32(piecePrefix(c, epoch), i)
}

// holderBlocks is how long a seat has to post a snapshot before the next one is asked.
const holderBlocks = 100

// followSnapshots asks for the pieces of snapshots that a majority took, and makes those
// that are complete the states from which seats continue.
func (k *Keeper) followSnapshots(ctx sdk.Context) error {
	s, now := k.store.OpenKVStore(ctx), uint64(ctx.BlockHeight())
	var taken []proto.ClusterID
	err := kv.Each(s, takenPrefix, func(key, _ []byte) (bool, error) {
		taken = append(taken, proto.ClusterID(binary.BigEndian.Uint32(key)))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, id := range taken {
		cached, write := ctx.CacheContext()
		if err := k.followSnapshot(cached, id, now); err != nil {
			failed(ctx, id, err)
			continue
		}
		write()
	}
	return nil
}

// followSnapshot is followSnapshots for one cluster.
func (k *Keeper) followSnapshot(ctx sdk.Context, id proto.ClusterID, now uint64) error {
	s := k.store.OpenKVStore(ctx)
	c, err := k.Cluster(ctx, id)
	if err != nil {
		return err
	}
	rec, err := get(ctx, k, proto.KeySnapshot(id, c.Epoch), proto.ParseSnapshotRecord)
	if err != nil {
		return err
	}
	if rec == nil || !rec.Agreed {
		return s.Delete(takenKey(id)) // an epoch later; its own snapshot comes
	}
	if room, err := k.room(ctx, id); err != nil || room == 0 {
		return err
	}
	var event proto.Event
	switch {
	case rec.Missing() == 0 && rec.Snapshot().Cursor.Seq > c.FinalSeq:
		return nil // a new seat would begin behind messages that still need its word
	case rec.Missing() == 0:
		old := c.State
		c.State = rec.Snapshot().Ref()
		if err := errors.Join(s.Delete(takenKey(id)), set(ctx, k, proto.KeyCluster(id), c), k.forget(ctx, id, old.Epoch)); err != nil {
			return err
		}
		stored := proto.SnapshotStored{Cluster: id, State: c.State}
		if _, err := k.mq.Append(ctx, proto.TopicGatekeeper, []byte(ModuleName), stored); err != nil {
			return err
		}
		event = stored
	case rec.Asked == 0 || now >= rec.Asked+holderBlocks:
		holder, ok := nextHolder(c, rec)
		if !ok {
			return nil
		}
		rec.Holder, rec.Asked = holder, now
		if err := set(ctx, k, proto.KeySnapshot(id, c.Epoch), rec); err != nil {
			return err
		}
		event = proto.SnapshotWanted{Cluster: id, State: rec.Snapshot().Ref(), Holder: holder}
	default:
		return nil
	}
	_, err = k.mq.Append(ctx, proto.TopicCluster(id), []byte(ModuleName), event)
	return err
}

// failed says that a cluster could not go on in this block; it must not stop the chain.
func failed(ctx sdk.Context, id proto.ClusterID, err error) {
	ctx.EventManager().EmitEvent(sdk.NewEvent("cluster_failed", sdk.NewAttribute("cluster", id.String()), sdk.NewAttribute("reason", err.Error())))
}

// nextHolder is the seat, of those that took the agreed snapshot, after the one that was
// asked last; the first one asked changes from epoch to epoch.
func nextHolder(c *proto.Cluster, rec *proto.SnapshotRecord) (proto.WorkerID, bool) {
	var able []proto.WorkerID
	for _, v := range rec.Votes {
		if v.Index == rec.Index && c.HasSeat(v.Worker) {
			able = append(able, v.Worker)
		}
	}
	if len(able) == 0 {
		return proto.WorkerID{}, false
	}
	i := int(c.Epoch % uint64(len(able)))
	if rec.Asked != 0 {
		i = (slices.Index(able, rec.Holder) + 1) % len(able)
	}
	return able[i], true
}

// forget removes the records and pieces of a cluster's snapshots of epochs before one. The
// newest snapshot but one is kept: workers may be on the way from it.
func (k *Keeper) forget(ctx sdk.Context, c proto.ClusterID, before uint64) error {
	s := k.store.OpenKVStore(ctx)
	start, end := proto.KeySnapshot(c, 0), proto.KeySnapshot(c, before)
	it, err := s.Iterator(start, end)
	if err != nil {
		return err
	}
	var old [][]byte
	for ; it.Valid(); it.Next() {
		old = append(old, slices.Clone(it.Key()))
	}
	if err := it.Close(); err != nil {
		return err
	}
	for _, key := range old {
		if err := s.Delete(key); err != nil {
			return err
		}
		k.mq.Bodies().Drop(piecePrefix(c, binary.BigEndian.Uint64(key[len(key)-8:])))
	}
	return nil
}

// Needed is the first message of a topic that a node must keep, whatever its policy: of
// a cluster's, the one after the oldest snapshot that is kept, if there is a newer one:
// workers may be on the way from it. A cluster without two snapshots needs all.
func (k *Keeper) Needed(ctx context.Context, topic string) (uint64, error) {
	number, ok := strings.CutPrefix(topic, "cluster/")
	if !ok {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("contracts: broken invariant: topic %q", topic)
	}
	id := proto.ClusterID(n)
	c, err := k.Cluster(ctx, id)
	if err != nil {
		return 0, err
	}
	needed := uint64(1)
	it, err := k.store.OpenKVStore(ctx).Iterator(proto.KeySnapshot(id, 0), proto.KeySnapshot(id, c.State.Epoch))
	if err != nil {
		return 0, err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		rec, err := proto.ParseSnapshotRecord(it.Value())
		if err != nil {
			return 0, err
		}
		if rec.Agreed && rec.Missing() == 0 {
			needed = rec.Snapshot().Cursor.Seq + 1
			break
		}
	}
	return needed, nil
}

// Piece serves one piece of a snapshot.
func (k *Keeper) Piece(_ context.Context, q *types.QueryPieceRequest) (*types.QueryPieceResponse, error) {
	b, err := k.mq.Bodies().Get(pieceKey(proto.ClusterID(q.Cluster), q.Epoch, q.Index))
	if err == nil && b == nil {
		err = ErrSnapshot.Wrapf("no piece %d of cluster %d's snapshot of epoch %d here", q.Index, q.Cluster, q.Epoch)
	}
	return &types.QueryPieceResponse{Piece: b}, err
}
