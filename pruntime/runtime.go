package pruntime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/fetch"
	"github.com/phala-go/phala/pruntime/gatekeeper"
	"github.com/phala-go/phala/pruntime/inbox"
	"github.com/phala-go/phala/pruntime/keyring"
	"github.com/phala-go/phala/pruntime/keys"
)

// Config is fixed for a runtime's life; what an identity was made with may not change
// afterwards.
type Config struct {
	DataDir   string
	Chain     string
	Root      TrustRoot
	Role      proto.Role
	Operator  []byte   // account that registers this enclave
	Endpoints []string // where clients reach the public API
	// Roots of attestation: gatekeepers verify other enclaves with them.
	Roots attest.Roots
	// Releases are, for a gatekeeper, measurements besides its own whose enclaves get keys
	// from it: the same program in another kind of TEE.
	Releases []proto.Hash
	// TrustingPeriod and MaxClockDrift are the light client's.
	TrustingPeriod time.Duration
	MaxClockDrift  time.Duration
	// Lease is how long, from the sending of a challenge that came back through the
	// chain, the enclave may answer.
	Lease time.Duration
	// SessionInterval is how long a session EcdhKey is used.
	SessionInterval time.Duration
	// WorstLevel is, for a gatekeeper, the worst confidence level of evidence, 1 (best)
	// to 5, that gets keys from it, whatever the chain admits.
	WorstLevel uint8
	// CheckpointInterval is how often the state is sealed to disk.
	CheckpointInterval time.Duration
	// HTTP is where the queries of contracts may send requests: HTTPOff, HTTPPublic or
	// HTTPPrivate.
	HTTP string
	// Native is a folder of code that "pruntime compile" made of modules, or empty. It is
	// native code that nothing measured, so only a simulated TEE takes it.
	Native string
	// Rules are the versions of the rules that this enclave knows; empty: those of the
	// build. They are for tests: a release knows its own.
	Rules []engine.Rules
	Log   *slog.Logger
	// Now is the host's clock. It is trusted for nothing but being stricter.
	Now func() time.Time
}

// DefaultConfig has the periods of a public network with six-second blocks.
func DefaultConfig() Config {
	return Config{TrustingPeriod: 14 * 24 * time.Hour, MaxClockDrift: 10 * time.Second, Lease: 5 * time.Minute,
		SessionInterval: 24 * time.Hour, WorstLevel: 4, CheckpointInterval: 30 * time.Second, HTTP: HTTPPublic, Log: slog.Default(), Now: time.Now}
}

// What Config.HTTP allows: nothing, addresses of the Internet, or this machine's and its
// network's too.
const (
	HTTPOff     = "off"
	HTTPPublic  = "public"
	HTTPPrivate = "private"
)

// A TrustRoot names the header from which the light client starts.
type TrustRoot struct {
	Height int64
	Hash   proto.Hash
}

// Failure classes. Test with errors.Is; Code gives their stable codes.
var (
	ErrTrustRoot  = errors.New("pruntime: header is not the trust root")
	ErrNotReady   = errors.New("pruntime: not ready")
	ErrIdentity   = keyring.ErrIdentity
	ErrNotServing = errors.New("pruntime: not serving")
	ErrProof      = errors.New("pruntime: this is not proven under the trusted header")
	ErrCode       = errors.New("pruntime: code refused")
	ErrNative     = errors.New("pruntime: compiled code from outside the enclave")
	ErrRole       = errors.New("pruntime: not in this role")
	ErrFatal      = errors.New("pruntime: stopped for good")
)

// A Runtime is one enclave. Its methods are safe for concurrent use.
type Runtime struct {
	cfg         Config
	tee         producer.Producer // a gatekeeper's; a worker's keyring has it
	ring        *keyring.Ring
	store       *keys.Store
	eng         *engine.Engine
	codes       *codes
	fetch       *fetch.Client // of queries' HTTP requests; nil: none
	self        proto.WorkerID
	measurement [32]byte // a gatekeeper's own; zero until it is verified
	own         attest.Evidence

	// step is held by whoever moves the enclave on. mu guards the fields; it is let go
	// while contracts run, so that queries and the outbox do not wait for them.
	step     sync.Mutex
	mu       sync.Mutex
	state    *inbox.State // nil until the trust header came
	outbox   outbox
	sessions sessions
	lease    lease
	seat     *seat               // worker's place in a cluster
	voting   map[proto.Hash]bool // codes that were announced, until this worker says whether they run
	gk       *gatekeeper.Gatekeeper
	admission
	placed bool // the chain was told where this life of the enclave is reached
	again  bool // what was lost to entries of the life before was said again
	saved  time.Time
	clock  time.Time // the latest that the host's clock has shown
	closed bool
	fatal  error
	admit  chan struct{} // bounds concurrent queries
	// queries are those that began under the rules in force.
	queries *sync.WaitGroup

	endpoint endpoint
}

// Open starts a runtime whose keys are in this process: a gatekeeper's, which runs no
// contracts, or a worker's where the TEE is one process.
func Open(ctx context.Context, cfg Config, tee producer.Producer) (*Runtime, error) {
	if len(cfg.Releases) > proto.MaxReleases || cfg.Role != proto.RoleGatekeeper && len(cfg.Releases) > 0 {
		return nil, fmt.Errorf("%w: only a gatekeeper releases keys, to at most %d measurements", ErrRole, proto.MaxReleases)
	}
	k, err := keyring.Open(ctx, cfg.identity(), tee)
	if err != nil {
		return nil, err
	}
	return start(ctx, cfg, tee, k.Ring())
}

// Keyring starts a worker's keyring in a process of its own: this program again with args,
// which bring it to keyring.Main.
func (c *Config) Keyring(ctx context.Context, tee keyring.TEE, args ...string) (*keyring.Ring, error) {
	if c.Role != proto.RoleWorker {
		return nil, fmt.Errorf("%w: a gatekeeper runs no contracts", ErrRole)
	}
	return keyring.Start(ctx, c.identity(), tee, args...)
}

// OpenWorker starts a worker whose keys are in another process.
func OpenWorker(ctx context.Context, cfg Config, ring *keyring.Ring) (*Runtime, error) {
	if cfg.Role != proto.RoleWorker || len(cfg.Releases) > 0 {
		return nil, fmt.Errorf("%w: only a worker's keys are in another process", ErrRole)
	}
	return start(ctx, cfg, nil, ring)
}

// start continues from the newest checkpoint that is good.
func start(ctx context.Context, cfg Config, tee producer.Producer, ring *keyring.Ring) (*Runtime, error) {
	id := cfg.identity()
	store, err := id.Files(ring.Files)
	if err != nil {
		return nil, err
	}
	if ring.Ephemeral {
		cfg.Log.Warn("this TEE has no sealing keys: at each start this is a new worker, which registers, gets a seat and its state anew")
	}
	r := &Runtime{cfg: cfg, tee: tee, ring: ring, store: store, self: ring.Worker, admit: make(chan struct{}, 64), saved: cfg.Now(), voting: map[proto.Hash]bool{}, queries: new(sync.WaitGroup)}
	r.outbox = outbox{chain: cfg.Chain, self: r.self, sign: ring.Sign}
	r.sessions.ring = ring
	if err := r.sessions.start(cfg.Now()); err != nil {
		return nil, err
	}
	if cfg.Role == proto.RoleGatekeeper {
		if err := errors.Join(r.measure(ctx), r.openGatekeeper()); err != nil {
			return nil, err
		}
	} else {
		if r.fetch, err = r.openFetch(); err != nil {
			return nil, err
		}
		if r.codes, err = openCodes(ctx, r); err != nil {
			return nil, err
		}
	}
	return r, r.restore()
}

// now is the host's clock, which may only go forward: set back, it stands still. The
// caller holds mu.
func (r *Runtime) now() time.Time {
	if t := r.cfg.Now(); t.After(r.clock) {
		r.clock = t
	}
	return r.clock
}

// lock is for what moves the enclave on.
func (r *Runtime) lock() {
	r.step.Lock()
	r.mu.Lock()
}

func (r *Runtime) unlock() {
	r.mu.Unlock()
	r.step.Unlock()
}

// Close seals a checkpoint, waits for the queries that are running and frees
// everything. When the context ends first, they keep what they use.
func (r *Runtime) Close(ctx context.Context) error {
	r.lock()
	if r.closed {
		r.unlock()
		return nil
	}
	err := r.checkpoint()
	r.closed = true
	r.unlock()
	for range cap(r.admit) {
		select {
		case r.admit <- struct{}{}:
		case <-ctx.Done():
			return errors.Join(err, fmt.Errorf("pruntime: queries are still running: %w", ctx.Err()))
		}
	}
	if r.codes != nil {
		err = errors.Join(err, r.codes.close(ctx))
	}
	return errors.Join(err, r.ring.Close())
}

// Self returns the identity.
func (r *Runtime) Self() proto.WorkerID { return r.self }

func (r *Runtime) newClient(h comet.Header) *comet.Client {
	return comet.NewClient(comet.Params{ChainID: r.cfg.Chain, TrustingPeriod: r.cfg.TrustingPeriod, MaxClockDrift: r.cfg.MaxClockDrift}, h, rand.Reader)
}

// topics that this role follows from the beginning.
func (r *Runtime) follow(s *inbox.State) error {
	names := []string{proto.TopicSystem}
	if r.cfg.Role == proto.RoleGatekeeper {
		names = append(names, proto.TopicGatekeeper)
	}
	for _, n := range names {
		if err := s.Follow(n); err != nil {
			return err
		}
	}
	return nil
}

// TrustHeader gives the runtime the header that the trust root names.
func (r *Runtime) TrustHeader(b []byte) error {
	r.lock()
	defer r.unlock()
	if r.state != nil {
		return nil
	}
	h, err := comet.ParseHeader(b)
	if err != nil {
		return err
	}
	if h.Height != r.cfg.Root.Height || proto.Hash(h.Hash()) != r.cfg.Root.Hash || h.ChainID != r.cfg.Chain {
		return fmt.Errorf("%w: got %d %x of %q, want %d %s of %q", ErrTrustRoot, h.Height, h.Hash(), h.ChainID, r.cfg.Root.Height, r.cfg.Root.Hash, r.cfg.Chain)
	}
	s := inbox.New(r.cfg.Chain, r.newClient(*h))
	if err := r.follow(s); err != nil {
		return err
	}
	r.state = s
	return nil
}

// ready reports why the runtime cannot work now.
func (r *Runtime) ready() error {
	if r.fatal != nil {
		return r.fatal
	}
	if r.closed {
		return fmt.Errorf("%w: it was stopped", ErrNotReady)
	}
	if r.state == nil {
		return fmt.Errorf("%w: the header of the trust root is needed", ErrNotReady)
	}
	return nil
}

// halt stops the runtime for good: it met something that it must not skip.
func (r *Runtime) halt(err error) error {
	r.fatal = fmt.Errorf("%w: %w", ErrFatal, err)
	r.cfg.Log.Error("stopped for good", "error", err)
	return r.fatal
}

// Advance applies what a relayer brings.
func (r *Runtime) Advance(b []byte) error {
	a, err := inbox.ParseAdvance(b)
	if err != nil {
		return err
	}
	r.lock()
	defer r.unlock()
	if err := r.ready(); err != nil {
		return err
	}
	if s := r.seat; s != nil && len(s.pending) > maxPending {
		switch {
		case r.needsState(s) || errors.Is(s.blocked, cluster.ErrNeedKey):
			// The state from which this worker continues has them, or they are brought again.
			s.pending = nil
		case s.blocked != nil:
			return s.blocked
		}
	}
	// The worker's own topic exists from its registration on. A relayer says when; if
	// it says so too early, there is no proof to give and nothing happens.
	own, added := proto.TopicWorker(r.self), false
	if _, ok := r.state.Cursor(own); !ok && slices.ContainsFunc(a.Topics, func(t inbox.Proven) bool { return t.Topic == own }) {
		if err := r.state.Follow(own); err != nil {
			return err
		}
		added = true
	}
	batch, err := r.state.Apply(a, r.now())
	if err != nil {
		if added {
			r.state.Unfollow(own)
		}
		if errors.Is(err, comet.ErrConflict) || errors.Is(err, inbox.ErrUnknown) {
			return r.halt(err)
		}
		return err
	}
	for i := range batch.Items {
		if err := r.handle(&batch.Items[i]); err != nil {
			return r.halt(err)
		}
	}
	if r.seat != nil {
		r.seat.fresh = false
	}
	if r.gk != nil {
		if err := r.gk.Flush(batch.Height, r.state.Client().Trusted().Time); err != nil {
			return err
		}
	}
	r.vote()
	if err := r.runCluster(); err != nil {
		return err
	}
	r.tick()
	if r.now().Sub(r.saved) > r.cfg.CheckpointInterval {
		return r.checkpoint()
	}
	return nil
}

// Hold takes messages of a topic that joins, before the advance that delivers them: see
// inbox.State.Hold.
func (r *Runtime) Hold(b []byte) error {
	a, err := inbox.ParseAdvance(b)
	if err != nil {
		return err
	}
	r.lock()
	defer r.unlock()
	if err := r.ready(); err != nil {
		return err
	}
	return r.state.Hold(a.Messages)
}

// handle takes one item of a batch.
func (r *Runtime) handle(it *inbox.Item) error {
	switch it.Message.Topic {
	case proto.TopicSystem:
		return nil
	case proto.TopicGatekeeper:
		at := time.UnixMilli(int64(it.Time))
		e, ok := it.Event.(proto.WorkerRegistered)
		if ok && r.measurement == [32]byte{} {
			if err := r.learn(e.Evidence, at); err != nil {
				return err
			}
		}
		r.gk.Handle(it.Event, it.Height, at)
		if ok {
			if reg, err := proto.ParseRegistration(e.Registration); err == nil && r.gk.Refused(reg.Worker) != nil {
				r.cfg.Log.Warn("the chain admitted a worker that gets no keys", "worker", reg.Worker, "error", r.gk.Refused(reg.Worker))
			}
		}
		return nil
	case proto.TopicWorker(r.self):
		return r.handleOwn(it)
	}
	// Of a cluster's messages in this batch, those that follow the loss of the seat are
	// none of ours; a new seat's topic is delivered from its beginning by the next batch.
	if r.seat == nil || r.seat.fresh || it.Message.Topic != proto.TopicCluster(r.seat.cluster) {
		return nil
	}
	switch e := it.Event.(type) {
	case proto.SnapshotStored:
		r.seat.noteStored(e)
	case proto.CodeAnnounced:
		r.voting[e.Code] = true
		r.codes.want(e.Code, r.rulesLikely())
	case proto.Instantiated:
		r.codes.want(e.Code, r.rulesLikely())
	}
	r.seat.pending = append(r.seat.pending, *it)
	return nil
}

// handleOwn takes a message of this enclave's own topic.
func (r *Runtime) handleOwn(it *inbox.Item) error {
	switch e := it.Event.(type) {
	case proto.WorkerRegistered:
		reg, err := proto.ParseRegistration(e.Registration)
		if err != nil {
			return err
		}
		r.admission = admission{reg.Epoch, e.Expires}
		// A session of this life: so are the endpoints beside it.
		r.placed = r.placed || slices.Contains(r.sessions.keys, reg.Session)
		if err := r.sessions.seen(reg.Session); err != nil {
			return err
		}
		if r.gk != nil && !r.gk.Active() && r.gk.Master() == [32]byte{} {
			return r.launch()
		}
	case proto.AdmissionEnded:
		r.admission.expires = min(r.admission.expires, it.Height)
	case proto.SessionStarted:
		s, err := e.Session()
		if err != nil {
			return err
		}
		return r.sessions.seen(s.Key)
	case proto.ChallengeEchoed:
		r.lease.echoed(e.Nonce, it.Height)
	case proto.Seated:
		if r.seat == nil {
			r.seat = newSeat(e.Cluster)
			r.seat.fresh, r.seat.stored = true, e.State
			// The cluster's messages come with the next batch: a challenge that was sent
			// before says nothing about them.
			r.lease = lease{}
			if !e.State.IsZero() {
				return r.state.FollowFrom(proto.TopicCluster(e.Cluster), e.State.Cursor)
			}
			return r.state.Follow(proto.TopicCluster(e.Cluster))
		}
	case proto.Unseated:
		if r.seat != nil && r.seat.cluster == e.Cluster {
			r.state.Unfollow(proto.TopicCluster(e.Cluster))
			r.seat, r.voting = nil, map[proto.Hash]bool{}
			return errors.Join(r.ring.Forget(e.Cluster, math.MaxUint64), r.dropSnapshots(e.Cluster, 1<<63))
		}
	case proto.KeysReleased:
		return r.keysReleased(&e)
	}
	return nil
}

// tick starts what is due: sessions, endpoints and challenges. Before the chain admitted this
// enclave, its session is part of its registration, and the chain takes nothing else.
func (r *Runtime) tick() {
	now := r.now()
	h := r.state.Client().Trusted()
	if !r.admitted(uint64(h.Height)) {
		return
	}
	if r.seat != nil && r.seat.replica == nil {
		r.sessions.starved(now, r.cfg.Lease)
	}
	if key, due := r.sessions.announce(now, r.cfg.SessionInterval, r.cfg.Lease/3); due {
		r.outbox.push(proto.StartSession{Key: key, Height: uint64(h.Height), Hash: proto.Hash(r.state.Client().TrustedHash())})
	}
	if !r.placed {
		// The machine may have moved since the enclave was registered.
		r.outbox.push(proto.SetEndpoints{Endpoints: r.cfg.Endpoints})
		r.placed = true
	}
	if nonce, due := r.lease.challenge(now, r.cfg.Lease); due {
		r.outbox.push(proto.Challenge{Nonce: nonce})
	}
	r.postPieces()
}

// Outbox returns at most limit signed entries from the first one that the chain does
// not have, and that entry's sequence. It is empty until the chain's position was
// proven.
func (r *Runtime) Outbox(limit int) (first uint64, entries []SignedEntry, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ready(); err != nil {
		return 0, nil, err
	}
	return r.outbox.entries(limit, r.state.Client().Trusted().Height)
}

// SyncHeaders verifies light blocks without delivering anything: steps on the way to a
// header that cannot be reached at once. What is verified stays.
func (r *Runtime) SyncHeaders(b []byte) error {
	a, err := inbox.ParseAdvance(b)
	if err != nil {
		return err
	}
	r.lock()
	defer r.unlock()
	if err := r.ready(); err != nil {
		return err
	}
	err = r.state.SyncHeaders(a.Blocks, r.now())
	if errors.Is(err, comet.ErrConflict) {
		return r.halt(err)
	}
	return err
}

// Conflict returns the evidence that stopped this runtime, two valid headers for one
// height: the verified one and the light block that contradicts it. ok is false when
// there is none.
func (r *Runtime) Conflict() (trusted, other []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == nil || r.state.Client().Conflict() == nil {
		return nil, nil, false
	}
	c := r.state.Client().Conflict()
	return c.Trusted.Marshal(), c.Other.Marshal(), true
}

// Acknowledge tells the runtime the position of its outbox on the chain, with the proof
// under the trusted header. Entries that the chain took are dropped.
func (r *Runtime) Acknowledge(position proto.Cursor, proof comet.StoreProof) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ready(); err != nil {
		return err
	}
	h := r.state.Client().Trusted()
	if err := comet.VerifyExistence(h.AppHash, proto.StoreMQ, proto.KeyOutbox(r.self), position.Marshal(), proof); err != nil {
		return fmt.Errorf("%w: %d entries at header %d: %w", ErrProof, position.Seq, h.Height, err)
	}
	if r.outbox.acknowledge(position, h.Height) && !r.again {
		// Entries of the life before took the numbers. Once in a life that is no reason to
		// wait; if it happens more often, another instance of this identity is alive.
		r.again, r.sessions.announced, r.lease.pending = true, r.sessions.onChain == r.sessions.current(), false
	}
	return nil
}
