package pruntime

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/fetch"
	"github.com/phala-go/phala/pruntime/gatekeeper"
	"github.com/phala-go/phala/pruntime/keyring"
)

// ErrBusy: too many queries at once.
var ErrBusy = errors.New("pruntime: too many queries at once: ask again, or another worker")

// openFetch makes what sends queries' HTTP requests. Certificates are checked by the
// chain's time, which the host cannot set back.
func (r *Runtime) openFetch() (*fetch.Client, error) {
	switch r.cfg.HTTP {
	case HTTPOff:
		return nil, nil
	case HTTPPublic, HTTPPrivate:
		return fetch.New(fetch.Options{Private: r.cfg.HTTP == HTTPPrivate, Now: func() time.Time {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.state.Client().Trusted().Time
		}})
	}
	return nil, fmt.Errorf("pruntime: queries may send HTTP requests to %q: neither off, public nor private", r.cfg.HTTP)
}

// Query opens a sealed query, runs it on the last committed state and seals the
// answer. Many run at once, and none of them holds up the inbox.
func (r *Runtime) Query(ctx context.Context, env []byte) ([]byte, error) {
	select {
	case r.admit <- struct{}{}:
		defer func() { <-r.admit }()
	default:
		return nil, ErrBusy
	}
	r.mu.Lock()
	if err := r.serving(); err != nil {
		r.mu.Unlock()
		return nil, err
	}
	replica, height := r.seat.replica, r.state.Height()
	if p := r.seat.pending; len(p) > 0 {
		height = p[0].Height - 1 // delivered, not processed: the state is of before
	}
	a := proto.Answer{Height: height, Hash: proto.Hash(r.state.Client().TrustedHash()), Cluster: r.seat.cluster}
	at := uint64(r.state.Client().Trusted().Time.UnixMilli())
	// Taken under the lock, the state is not newer than height and time: it has not yet
	// forgotten a revocation whose grant holds at that time.
	snap := replica.Snapshot()
	began := r.queries
	began.Add(1)
	defer began.Done()
	r.mu.Unlock()

	plain, reply, session, err := r.ring.OpenQuery(ctx, env)
	if errors.Is(err, keyring.ErrOpen) {
		return nil, fmt.Errorf("%w: sealed to a session that has ended? look up the worker's key again: %w", ErrNotServing, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotServing, err)
	}
	a.Seq, a.StateRoot = snap.Cursor().Seq, snap.Root()
	r.answer(ctx, plain, session, &a, func(q *proto.Query) (proto.Status, []byte, uint64, string, error) {
		return replica.Query(ctx, snap, q, height, at)
	})
	return reply.Seal(rand.Reader, a.Marshal())
}

// answer decodes, authorises and runs a query. Every failure is in the answer, sealed
// like a result.
func (r *Runtime) answer(ctx context.Context, plain []byte, session [32]byte, a *proto.Answer, run func(*proto.Query) (proto.Status, []byte, uint64, string, error)) {
	q, err := proto.ParseQuery(plain)
	if err != nil {
		a.Status, a.Error = proto.StatusMalformed, err.Error()
		return
	}
	a.Nonce = q.Nonce
	if len(q.From) > 0 {
		account, err := identity.VerifyScheme(identity.Scheme(q.Scheme), q.PublicKey, q.SignedBytes(r.cfg.Chain, session), q.Signature)
		if err != nil || !bytes.Equal(account, q.From) {
			a.Status, a.Error = proto.StatusBadSignature, "not signed by the account that it names, for this chain and worker"
			return
		}
	}
	if q.MinHeight > a.Height {
		a.Status, a.Error = proto.StatusTooOld, fmt.Sprintf("state of height %d, at least %d was asked for: ask again", a.Height, q.MinHeight)
		return
	}
	var detail string
	a.Status, a.Return, a.GasUsed, detail, err = run(q)
	if err != nil {
		a.Status, detail = proto.StatusNotServing, "the worker failed; ask another"
		r.cfg.Log.Error("query", "error", err)
	}
	a.Error = detail[:min(len(detail), proto.MaxError)]
}

// serving reports why the enclave may not answer now. The caller holds the lock.
func (r *Runtime) serving() error {
	if err := r.ready(); err != nil {
		return err
	}
	switch {
	case r.epoch == 0:
		return fmt.Errorf("%w: the chain has not admitted this worker", ErrNotServing)
	case !r.admitted(uint64(r.state.Client().Trusted().Height)):
		return fmt.Errorf("%w: the admission ended at height %d: it must be registered again", ErrNotServing, r.expires)
	case r.seat == nil:
		return fmt.Errorf("%w: no seat in a cluster", ErrNotServing)
	case r.seat.replica == nil:
		return fmt.Errorf("%w: waiting for the cluster's keys", ErrNotServing)
	case r.needsState(r.seat):
		return fmt.Errorf("%w: waiting for the cluster's state", ErrNotServing)
	case r.seat.blocked != nil:
		return fmt.Errorf("%w: %d messages wait: %w", ErrNotServing, len(r.seat.pending), r.seat.blocked)
	case !r.sessions.live():
		return fmt.Errorf("%w: waiting for the chain to take the session key", ErrNotServing)
	case !r.lease.valid(r.now(), r.cfg.Lease) && len(r.seat.pending) > 0:
		return fmt.Errorf("%w: catching up, %d messages wait: ask again", ErrNotServing, len(r.seat.pending))
	case !r.lease.valid(r.now(), r.cfg.Lease):
		return fmt.Errorf("%w: no challenge came back through the chain within %s: is the relayer running and the node in sync?", ErrNotServing, r.cfg.Lease)
	}
	return nil
}

// A Status is what a runtime says about itself. It holds no secret.
type Status struct {
	Worker        proto.WorkerID    `json:"worker"`
	Role          string            `json:"role"`
	Chain         string            `json:"chain"`
	TEE           string            `json:"tee"`
	Simulated     bool              `json:"simulated"`
	Keyring       string            `json:"keyring"` // where the secret keys are: keyring.Ring.Place
	TrustRoot     TrustRootStatus   `json:"trust_root"`
	TrustedHeight int64             `json:"trusted_height"`    // newest verified header; 0 before the trust root's
	TrustedTime   time.Time         `json:"trusted_time"`      // its time
	Height        uint64            `json:"height"`            // messages are delivered up to here
	Topics        map[string]uint64 `json:"topics"`            // sequence of the last message that is here
	Joining       []string          `json:"joining,omitempty"` // topics of which no advance has delivered anything yet
	Roots         proto.Hash        `json:"roots"`             // digest of the attestation roots
	Settings      proto.Settings    `json:"settings"`
	Ephemeral     bool              `json:"ephemeral,omitempty"` // a new worker at each start
	Epoch         uint64            `json:"epoch"`               // of the attestation; 0: never admitted
	Expires       uint64            `json:"expires"`             // height at which the admission ends
	Admitted      bool              `json:"admitted"`
	Session       proto.Hash        `json:"session"`
	SessionLive   bool              `json:"session_live"`
	Serving       bool              `json:"serving"`
	Why           string            `json:"why,omitempty"` // why it is not serving
	Cluster       proto.ClusterID   `json:"cluster,omitempty"`
	Rules         uint32            `json:"rules,omitempty"`       // version of the rules that its state is under
	KnownRules    uint32            `json:"known_rules,omitempty"` // the newest that this build knows
	StateRoot     *proto.Hash       `json:"state_root,omitempty"`
	Seq           uint64            `json:"seq,omitempty"` // last processed message of the cluster
	Waiting       int               `json:"waiting"`       // delivered, not processed
	WantCodes     []proto.Hash      `json:"want_codes,omitempty"`
	WantState     *WantedState      `json:"want_state,omitempty"`
	Outbox        OutboxStatus      `json:"outbox"`
	Gatekeeper    *GatekeeperStatus `json:"gatekeeper,omitempty"`
	Fatal         string            `json:"fatal,omitempty"`
}

// TrustRootStatus is the trust root.
type TrustRootStatus struct {
	Height int64      `json:"height"`
	Hash   proto.Hash `json:"hash"`
}

// OutboxStatus is the outbox's position.
type OutboxStatus struct {
	Base  uint64 `json:"base"` // 0: the chain's position has not been proven yet
	Count int    `json:"count"`
}

// GatekeeperStatus is what a gatekeeper says.
type GatekeeperStatus struct {
	Active bool       `json:"active"`
	Master proto.Hash `json:"master"`
	// WantBlocks are blocks to confirm before workers get keys.
	WantBlocks []uint64 `json:"want_blocks,omitempty"`
	// Refused are workers that the chain admitted and that get no keys.
	Refused []gatekeeper.Refusal `json:"refused,omitempty"`
}

// Status reports.
func (r *Runtime) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Worker: r.self, Role: r.cfg.Role.String(), Chain: r.cfg.Chain, TEE: r.ring.TEE.String(), Simulated: r.ring.Simulated, Keyring: r.ring.Place,
		TrustRoot: TrustRootStatus{r.cfg.Root.Height, r.cfg.Root.Hash}, Topics: map[string]uint64{}, Settings: r.ring.Made, Ephemeral: r.ring.Ephemeral, Roots: r.cfg.Roots.Digest(), Epoch: r.epoch, Expires: r.expires,
		Session: proto.Hash(r.sessions.current()), SessionLive: r.sessions.live(), Outbox: OutboxStatus{r.outbox.base, len(r.outbox.queue)}}
	if r.state != nil {
		s.TrustedTime = r.state.Client().Trusted().Time
		s.TrustedHeight, s.Height = r.state.Client().Trusted().Height, r.state.Height()
		s.Admitted = r.admitted(uint64(s.TrustedHeight))
		for _, t := range r.state.Topics() {
			c, _ := r.state.Cursor(t)
			s.Topics[t] = max(c.Seq, r.state.Next(t)-1)
			if r.state.Joining(t) {
				s.Joining = append(s.Joining, t)
			}
		}
	}
	if r.codes != nil {
		s.WantCodes, s.KnownRules = r.codes.wants(), r.codes.eng.Newest()
	}
	if r.seat != nil {
		s.Cluster, s.Waiting = r.seat.cluster, len(r.seat.pending)
		if r.seat.replica != nil {
			snap := r.seat.replica.Snapshot()
			root := snap.Root()
			s.StateRoot, s.Seq, s.Rules = &root, snap.Cursor().Seq, snap.Rules()
		}
	}
	s.WantState = r.wanted()
	if r.gk != nil {
		s.Gatekeeper = &GatekeeperStatus{r.gk.Active(), r.gk.Master(), r.gk.Wants(32), r.gk.Refusals(32)}
		s.Serving = r.gk.Active() && r.fatal == nil
		if !s.Serving {
			s.Why = "the master key is not decided yet, or is another one"
		}
	} else if err := r.serving(); err != nil {
		s.Why = err.Error()
	} else {
		s.Serving = true
	}
	if r.fatal != nil {
		s.Fatal = r.fatal.Error()
	}
	return s
}
