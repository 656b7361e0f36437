package gatekeeper

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
)

// MaxSessionAge is how many blocks a session may be behind the block that announces
// it: a frozen or forked enclave does not get keys.
const MaxSessionAge = 600

// worker is what a gatekeeper knows of one: its seats, whether it may have keys or not,
// and the session that they are released to.
type worker struct {
	session [32]byte // zero: none that may have keys
	said    uint64   // number of the outbox entry that started the newest session
	epoch   uint64   // of the last attestation that was judged
	expires uint64   // height at which the admission ends
	until   uint64   // Unix milliseconds at which the evidence ends
	machine [32]byte
	named   Block // what the session names, until it is confirmed; then zero
	root    Block // the worker's trust root, likewise
	seats   map[proto.ClusterID]bool
}

// epochs are those of a cluster whose keys are released.
type epochs struct{ first, last uint64 }

// maxEpochs bounds how many epochs' keys are released where no snapshot gets stored.
const maxEpochs = 64

func (e *epochs) raise(last uint64) {
	e.last = max(e.last, last)
	if e.last-e.first >= maxEpochs {
		e.first = e.last - maxEpochs + 1
	}
}

// waits reports whether a block is to be confirmed before the worker gets keys.
func (w *worker) waits() bool { return w.named.Height != 0 || w.root.Height != 0 }

// A seat whose keys are to be released.
type seat struct {
	worker  proto.WorkerID
	cluster proto.ClusterID
}

// A Gatekeeper reacts to messages. It is not safe for concurrent use.
type Gatekeeper struct {
	chain      string
	self       proto.WorkerID
	policy     Policy
	judge      Judge
	known      func(height uint64) (proto.Hash, bool)
	rng        io.Reader
	share      *dprf.Share
	master     [32]byte // decided by the chain; zero until then
	workers    map[proto.WorkerID]*worker
	machines   map[[32]byte]proto.WorkerID // who registered last on it
	clusters   map[proto.ClusterID]*epochs
	collateral map[string][]byte // newest seen, by platform
	refused    map[proto.WorkerID]error
	due        map[seat]uint64 // the first epoch to release
	send       func(proto.Entry)
}

// A Config is what a gatekeeper is made of.
type Config struct {
	Chain  string
	Self   proto.WorkerID
	Policy Policy
	Judge  Judge
	// Known returns the hashes of headers that this enclave's light client verified.
	Known func(height uint64) (proto.Hash, bool)
	RNG   io.Reader
	Send  func(proto.Entry)
}

// New returns a gatekeeper. share is nil on one that has none yet.
func New(c Config, share *dprf.Share) *Gatekeeper {
	return &Gatekeeper{chain: c.Chain, self: c.Self, policy: c.Policy, judge: c.Judge, known: c.Known, rng: c.RNG, share: share, send: c.Send,
		workers: map[proto.WorkerID]*worker{}, machines: map[[32]byte]proto.WorkerID{}, clusters: map[proto.ClusterID]*epochs{}, collateral: map[string][]byte{},
		refused: map[proto.WorkerID]error{}, due: map[seat]uint64{}}
}

// Master is the master public key that the chain decided on; zero before.
func (g *Gatekeeper) Master() [32]byte { return g.master }

// Active reports whether this gatekeeper's share belongs to the network's master key.
func (g *Gatekeeper) Active() bool {
	return g.share != nil && g.master != [32]byte{} && [32]byte(g.share.Public()) == g.master
}

// Share returns the share to seal, nil when there is none.
func (g *Gatekeeper) Share() *dprf.Share { return g.share }

// Refused says why a worker gets no keys although the chain admitted it.
func (g *Gatekeeper) Refused(w proto.WorkerID) error { return g.refused[w] }

// Refusals are all of them, in order of identity, at most limit.
func (g *Gatekeeper) Refusals(limit int) []Refusal {
	var out []Refusal
	for _, id := range sorted(g.refused) {
		if len(out) == limit {
			break
		}
		out = append(out, Refusal{id, g.refused[id].Error()})
	}
	return out
}

// A Refusal says why a worker gets no keys.
type Refusal struct {
	Worker proto.WorkerID `json:"worker"`
	Reason string         `json:"reason"`
}

func sorted[V any](m map[proto.WorkerID]V) []proto.WorkerID {
	return slices.SortedFunc(maps.Keys(m), func(a, b proto.WorkerID) int { return bytes.Compare(a[:], b[:]) })
}

// Failure classes. Test with errors.Is.
var (
	ErrLaunched = errors.New("gatekeeper: the network has a master key already")
	ErrNoShare  = errors.New("gatekeeper: no share of a master key")
)

// Adopt gives the gatekeeper the share of a master key that it made. The caller has
// sealed it: a share that is lost after it was published is a lost network.
func (g *Gatekeeper) Adopt(share *dprf.Share) { g.share = share }

// Launch publishes the master key of a network that has none.
func (g *Gatekeeper) Launch() error {
	if g.master != [32]byte{} {
		return ErrLaunched
	}
	if g.share == nil {
		return ErrNoShare
	}
	g.send(proto.PublishMasterKey{Public: g.share.Public()})
	return nil
}

// Handle processes a message of the topic gatekeeper, sent at the given height and
// time. It never fails: a message that cannot be used costs its worker the keys.
func (g *Gatekeeper) Handle(e proto.Event, height uint64, at time.Time) {
	switch e := e.(type) {
	case proto.WorkerRegistered:
		g.registered(&e, height, at)
	case proto.SessionStarted:
		g.started(&e, height)
	case proto.AdmissionEnded:
		if w := g.workers[e.Worker]; w != nil {
			g.refuse(e.Worker, w, fmt.Errorf("gatekeeper: the chain ended the admission at height %d", height))
		}
	case proto.Seated:
		// The seat counts from here on, also where the worker is refused until later.
		g.worker(e.Worker).seats[e.Cluster] = true
		g.epochs(e.Cluster, e.Epoch).raise(e.Epoch)
		g.due[seat{e.Worker, e.Cluster}] = 0
	case proto.Unseated:
		delete(g.worker(e.Worker).seats, e.Cluster)
		delete(g.due, seat{e.Worker, e.Cluster})
	case proto.EpochAnnounced:
		g.epochs(e.Cluster, e.Epoch).raise(e.Epoch)
		for id, w := range g.workers {
			s := seat{id, e.Cluster}
			if _, ok := g.due[s]; !ok && w.seats[e.Cluster] {
				g.due[s] = e.Epoch // it has those before
			}
		}
	case proto.SnapshotStored:
		k := g.epochs(e.Cluster, e.State.Epoch)
		k.first = max(k.first, min(e.State.Epoch, k.last))
	case proto.MasterKeySet:
		g.master = e.Public
		for id, w := range g.workers {
			g.markAll(id, w)
		}
	}
}

func (g *Gatekeeper) worker(id proto.WorkerID) *worker {
	w := g.workers[id]
	if w == nil {
		w = &worker{seats: map[proto.ClusterID]bool{}}
		g.workers[id] = w
	}
	return w
}

// epochs returns a cluster's epochs; the first that is heard of is the first there is.
func (g *Gatekeeper) epochs(c proto.ClusterID, heard uint64) *epochs {
	e := g.clusters[c]
	if e == nil {
		e = &epochs{heard, heard}
		g.clusters[c] = e
	}
	return e
}

// started takes a session that an enclave announced. It is the enclave's word or nothing:
// its signature shows that, and its number that it is not one of before.
func (g *Gatekeeper) started(e *proto.SessionStarted, height uint64) {
	w := g.workers[e.Worker]
	if w == nil || w.expires == 0 {
		return // its evidence was not good
	}
	s, err := e.Session()
	if err == nil {
		err = identity.Verify(identity.PublicKey(e.Worker), proto.EntrySignedBytes(g.chain, e.Worker, e.Seq, e.Entry), e.Signature[:])
	}
	if err == nil && e.Seq <= w.said {
		err = fmt.Errorf("it is entry %d, entry %d started one", e.Seq, w.said)
	}
	if err != nil {
		// Whoever sent this, the enclave's own session stays as good as it was.
		g.refused[e.Worker] = fmt.Errorf("gatekeeper: session: %w", err)
		return
	}
	w.said = e.Seq
	g.session(e.Worker, s.Key, Block{s.Height, s.Hash}, height)
}

// session takes the session that is now a worker's only one. One that is refused gets
// no keys, and neither does the one before it.
func (g *Gatekeeper) session(id proto.WorkerID, key [32]byte, named Block, height uint64) {
	w := g.workers[id]
	if w == nil || w.expires == 0 {
		return // its evidence was not good
	}
	w.session, w.named = [32]byte{}, Block{}
	if named.Height == 0 || named.Height > height || height-named.Height > MaxSessionAge {
		g.refused[id] = fmt.Errorf("gatekeeper: session names block %d at height %d", named.Height, height)
		return
	}
	delete(g.refused, id)
	w.session, w.named = key, named
	if hash, ok := g.known(named.Height); ok {
		g.confirm(id, w, Block{named.Height, hash})
	}
	g.markAll(id, w)
}

func (g *Gatekeeper) markAll(id proto.WorkerID, w *worker) {
	for c := range w.seats {
		g.due[seat{id, c}] = 0
	}
}

// Flush releases what became due since the last call. It is called after a whole
// batch, so that one that replays the past releases keys to the sessions of today
// only. at is the time of the newest verified header.
func (g *Gatekeeper) Flush(height uint64, at time.Time) error {
	if !g.Active() {
		return nil
	}
	due := slices.SortedFunc(maps.Keys(g.due), func(a, b seat) int {
		return cmp.Or(bytes.Compare(a.worker[:], b.worker[:]), cmp.Compare(a.cluster, b.cluster))
	})
	for _, s := range due {
		from, w := g.due[s], g.workers[s.worker]
		if w != nil && w.session != [32]byte{} && w.waits() {
			continue
		}
		delete(g.due, s)
		if w != nil {
			if err := g.release(s.worker, w, s.cluster, from, height, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// release seals this gatekeeper's partial evaluations for a cluster to a worker's
// session.
func (g *Gatekeeper) release(id proto.WorkerID, w *worker, c proto.ClusterID, from, height uint64, at time.Time) error {
	if w.session == [32]byte{} {
		return nil // refused: see there
	}
	if height >= w.expires {
		g.refused[id] = fmt.Errorf("gatekeeper: attestation ended at height %d", w.expires)
		return nil
	}
	if uint64(at.UnixMilli()) >= w.until {
		g.refused[id] = fmt.Errorf("gatekeeper: evidence or collateral ended at %s", time.UnixMilli(int64(w.until)).UTC())
		return nil
	}
	e := g.clusters[c]
	for epoch := max(from, e.first); epoch <= e.last; epoch++ {
		if err := g.releaseEpoch(id, w, c, epoch); err != nil {
			return err
		}
	}
	return nil
}

func (g *Gatekeeper) releaseEpoch(id proto.WorkerID, w *worker, c proto.ClusterID, epoch uint64) error {
	var shares []proto.KeyShare
	for _, label := range []string{cluster.LabelStable(c), cluster.LabelTraffic(c, epoch)} {
		p, proof, err := g.share.Evaluate(g.rng, label)
		if err != nil {
			return err
		}
		shares = append(shares, proto.KeyShare{Label: label, Partial: p, Proof: proof})
	}
	fresh, err := commkey.Generate(g.rng)
	if err != nil {
		return err
	}
	sealed, err := envelope.Seal(g.rng, proto.ReleaseContext(g.chain, id, c, epoch), fresh, w.session, proto.MarshalKeyShares(shares))
	if errors.Is(err, commkey.ErrPublicKey) {
		g.refused[id] = fmt.Errorf("gatekeeper: session: %w", err)
		return nil
	}
	if err != nil {
		return err
	}
	g.send(proto.ReleaseKeys{Worker: id, Cluster: c, Epoch: epoch, Session: w.session, Sealed: sealed})
	return nil
}
