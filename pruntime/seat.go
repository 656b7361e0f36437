package pruntime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/gatekeeper"
	"github.com/phala-go/phala/pruntime/inbox"
	"github.com/phala-go/phala/pruntime/keyring"
	"github.com/phala-go/phala/pruntime/keys"
)

// A seat is a worker's place in a cluster.
type seat struct {
	cluster   proto.ClusterID
	replica   *cluster.Cluster // nil until the keys came
	pending   []inbox.Item     // delivered, not yet processed
	processed uint64           // messages in the state of the replica; changes with pending
	sealed    []byte           // state from a checkpoint, until the keys came
	blocked   error            // why pending waits: a code that is not prepared here, or a key
	fresh     bool             // given in the batch that is being handled
	stored    proto.StateRef   // newest state that the chain keeps, zero: none
	joining   *joining         // pieces of it that came, while it is wanted
	posting   *posting         // of a snapshot that this seat was asked for
	unusable  proto.StateRef   // one that turned out to be none
	rules     uint32           // version of the rules of the replica's state; 0: not looked at yet
	ready     ready            // for the version that is wanted
}

// maxPending is how many messages may wait for a code before no more are taken.
const maxPending = 1 << 15

func newSeat(c proto.ClusterID) *seat { return &seat{cluster: c} }

// keysReleased takes a gatekeeper's release. A release that is not for the current
// session is an old one: the gatekeeper sends another when it sees the session.
func (r *Runtime) keysReleased(e *proto.KeysReleased) error {
	entry, err := proto.ParseEntry(e.Release)
	if err != nil {
		return err
	}
	rel, ok := entry.(proto.ReleaseKeys)
	if !ok || rel.Worker != r.self || r.seat == nil || rel.Cluster != r.seat.cluster {
		return nil
	}
	if !slices.Contains(r.sessions.keys, rel.Session) {
		return nil
	}
	got, err := r.ring.OpenRelease(rel.Cluster, rel.Epoch, rel.Session, e.Master, rel.Sealed)
	switch {
	case errors.Is(err, keyring.ErrRelease):
		r.cfg.Log.Warn("key release refused", "gatekeeper", e.Gatekeeper, "error", err)
		return nil
	case err != nil:
		return err
	}
	if r.seat.replica == nil {
		k := cluster.Keys{Stable: got.Stable, Blind: map[uint64][32]byte{}, Opener: r.ring.Opener(rel.Cluster)}
		replica := cluster.New(r.cfg.Chain, rel.Cluster, k, r.codes, rand.Reader)
		if r.fetch != nil {
			replica.AllowHTTP(r.fetch.Fetch)
		}
		if r.seat.sealed != nil {
			if err := replica.Restore(r.seat.sealed); err != nil {
				return err
			}
			r.seat.sealed = nil
			for _, h := range replica.Snapshot().Codes() {
				r.codes.want(h, replica.Snapshot().Rules())
			}
		}
		r.seat.replica, r.seat.processed = replica, replica.Snapshot().Cursor().Seq
	}
	if !r.seat.replica.AddEpoch(rel.Epoch, got.Blind) {
		r.cfg.Log.Warn("key release changes an epoch's key", "gatekeeper", e.Gatekeeper, "epoch", rel.Epoch)
		return nil
	}
	r.seat.blocked = nil // it may be what was waited for
	r.outbox.push(proto.PublishEpochKey{Cluster: rel.Cluster, Epoch: rel.Epoch, Public: got.Public})
	r.cfg.Log.Info("cluster keys received", "cluster", rel.Cluster, "epoch", rel.Epoch, "gatekeeper", e.Gatekeeper)
	return nil
}

// runCluster processes what has been delivered, height by height, and puts receipts
// and outputs into the outbox. The caller holds both locks.
func (r *Runtime) runCluster() error {
	s := r.seat
	if s == nil || s.replica == nil {
		return nil
	}
	if err := r.bringAgain(s); err != nil {
		return err
	}
	for len(s.pending) > 0 && !r.needsState(s) {
		r.lease.reached(s.pending[0].Height)
		n := 1
		for n < len(s.pending) && s.pending[n].Height == s.pending[0].Height {
			n++
		}
		r.mu.Unlock() // commands may take long
		res, err := s.replica.Apply(context.Background(), s.pending[:n])
		r.mu.Lock()
		if errors.Is(err, cluster.ErrNeedCode) || errors.Is(err, cluster.ErrNeedKey) {
			s.blocked = err
			r.needCode(err)
			return nil // goes on when it is there
		}
		s.blocked = nil
		if err != nil {
			return r.halt(err)
		}
		done := s.pending[:n]
		s.pending, s.processed = s.pending[n:], s.replica.Snapshot().Cursor().Seq
		r.outbox.push(res.Receipt)
		for _, outputs := range groups(res.Outputs) {
			r.outbox.push(proto.PostOutputs{Cluster: s.cluster, Outputs: outputs})
		}
		if err := r.keepState(s, res.Started, done); err != nil {
			return err
		}
	}
	if !r.needsState(s) {
		r.lease.reached(math.MaxUint64)
		r.followRules(s)
	}
	return nil
}

// maxPost is how many bytes of outputs go into one outbox entry. One output is always
// smaller than an entry may be, because a contract's answer and events are bounded.
const maxPost = 256 << 10

// groups cuts outputs into lists that fit an outbox entry.
func groups(outputs []proto.SealedOutput) (out [][]proto.SealedOutput) {
	size := 0
	for _, o := range outputs {
		n := len(o.Sealed) + 32*len(o.Proof) + 128
		for i := range o.Events {
			n += len(o.Events[i].Body) + 8
		}
		if len(out) == 0 || size+n > maxPost {
			out, size = append(out, nil), 0
		}
		out[len(out)-1] = append(out[len(out)-1], o)
		size += n
	}
	return out
}

// PutCode takes a code's module from the relayer.
func (r *Runtime) PutCode(hash proto.Hash, module []byte) error {
	if r.codes == nil {
		return fmt.Errorf("%w: a gatekeeper runs no contracts", ErrRole)
	}
	return r.codes.put(hash, module)
}

// Prepare compiles a module ahead of its announcement: an operator who knows what will
// be deployed saves the cluster the wait.
func (r *Runtime) Prepare(module []byte) error {
	if r.codes == nil {
		return fmt.Errorf("%w: a gatekeeper runs no contracts", ErrRole)
	}
	r.mu.Lock()
	rules := r.rulesLikely()
	r.mu.Unlock()
	return r.codes.ahead(module, rules)
}

const fileShare = "master-share"

// openGatekeeper opens the sealed share, if there is one.
func (r *Runtime) openGatekeeper() error {
	var share *dprf.Share
	b, err := r.store.Get(fileShare)
	switch {
	case errors.Is(err, keys.ErrNone):
	case err != nil:
		return err
	default:
		if share, err = dprf.NewShare(b); err != nil {
			return err
		}
	}
	policy := r.ring.Made
	policy.WorstLevel = r.cfg.WorstLevel
	r.gk = gatekeeper.New(gatekeeper.Config{Chain: r.cfg.Chain, Self: r.self,
		Policy: gatekeeper.Policy{Roots: r.cfg.Roots.Digest(), Root: gatekeeper.Block{Height: uint64(r.cfg.Root.Height), Hash: r.cfg.Root.Hash}, Settings: policy},
		Judge:  r.judge, Known: r.verified, RNG: rand.Reader, Send: func(e proto.Entry) { r.outbox.push(e) }}, share)
	return nil
}

// launch makes the network's master key and seals the share before it is published.
func (r *Runtime) launch() error {
	if r.gk.Share() == nil {
		share, err := dprf.Generate(rand.Reader)
		if err != nil {
			return err
		}
		if err := r.store.Put(fileShare, share.Bytes()); err != nil {
			return err
		}
		r.gk.Adopt(share)
	}
	return r.gk.Launch()
}
