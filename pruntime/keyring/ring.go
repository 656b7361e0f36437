package keyring

import (
	"context"
	"fmt"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster"
)

// A Ring asks a keeper, in this process or in another one. Its methods are safe for
// concurrent use. Any of them may fail with ErrGone.
type Ring struct {
	Info
	// Place says where the keys are, for whoever watches the worker.
	Place string

	chain string
	do    func(ctx context.Context, request []byte) ([]byte, error)
	gone  chan struct{}
	stop  func() error
	pid   int // of the keyring's process
}

// Ring returns what asks the keeper in this process.
func (k *Keeper) Ring() *Ring {
	return &Ring{Info: k.info, Place: SameProcess, chain: k.cfg.Chain, gone: make(chan struct{}), stop: func() error { return nil },
		do: func(ctx context.Context, request []byte) ([]byte, error) { return k.Handle(ctx, request), nil }}
}

// What Place begins with.
const (
	SameProcess = "same process"
	OwnProcess  = "own process"
)

// Gone is closed when the keyring's process has ended.
func (r *Ring) Gone() <-chan struct{} { return r.gone }

// Close ends the keyring's process and waits for it.
func (r *Ring) Close() error { return r.stop() }

// ask sends a request and returns the fields of its response.
func (r *Ring) ask(ctx context.Context, w *wire.Writer) (*wire.Reader, error) {
	b, err := r.do(ctx, w.Bytes())
	if err != nil {
		return nil, err
	}
	return result(b)
}

// closed makes of a response that is not what it should be an error.
func closed(r *wire.Reader) error {
	if err := r.Close(); err != nil {
		return fmt.Errorf("keyring: response: %w", err)
	}
	return nil
}

func request(op uint8) *wire.Writer { return new(wire.Writer).U8(op) }

// Register makes this enclave's registration with a session, the epoch of its attestation
// and a recent block, signs it and obtains its evidence.
func (r *Ring) Register(ctx context.Context, session [32]byte, epoch, height uint64, hash proto.Hash, rules uint32, endpoints []string) (registration []byte, signature [64]byte, evidence []byte, err error) {
	w := request(opRegister).Fixed(session[:]).U64(epoch).U64(height).Fixed(hash[:]).U32(rules).Count(len(endpoints))
	for _, e := range endpoints {
		w.String(e)
	}
	b, err := r.ask(ctx, w)
	if err != nil {
		return nil, signature, nil, err
	}
	registration = b.Blob(proto.MaxRegistration)
	b.Fixed(signature[:])
	evidence = b.Blob(attest.MaxEvidence)
	return registration, signature, evidence, closed(b)
}

// Certify signs the statement of a TLS certificate of this enclave and obtains its
// evidence. The keyring makes the statement again from its beginning and its key.
func (r *Ring) Certify(ctx context.Context, s *ratls.Statement) (signature [64]byte, ev attest.Evidence, err error) {
	b, err := r.ask(ctx, request(opCertify).U64(uint64(s.NotBefore.Unix())).Blob(s.Key))
	if err != nil {
		return signature, ev, err
	}
	b.Fixed(signature[:])
	evidence := b.Blob(attest.MaxEvidence)
	if err := closed(b); err != nil {
		return signature, ev, err
	}
	ev, err = attest.Parse(evidence)
	return signature, ev, err
}

// Sign signs entries of the outbox, the first of which has the number first.
func (r *Ring) Sign(first uint64, entries [][]byte) ([][64]byte, error) {
	out := make([][64]byte, 0, len(entries))
	for len(entries) > 0 {
		n := batch(len(entries), func(i int) int { return len(entries[i]) })
		w := request(opSign).U64(first + uint64(len(out))).Count(n)
		for _, e := range entries[:n] {
			w.Blob(e)
		}
		b, err := r.ask(context.Background(), w)
		if err != nil {
			return nil, err
		}
		if got := b.Count(n, 64); got != n && b.Err() == nil {
			return nil, fmt.Errorf("keyring: response: %d of %d signatures", got, n)
		}
		for range n {
			var sig [64]byte
			b.Fixed(sig[:])
			out = append(out, sig)
		}
		if err := closed(b); err != nil {
			return nil, err
		}
		entries = entries[n:]
	}
	return out, nil
}

// batch is how many of n things of a size fit one request: at least one.
func batch(n int, size func(int) int) int {
	total := 0
	for i := range min(n, proto.MaxEntries) {
		if total += size(i); i > 0 && total > maxBatch {
			return i
		}
	}
	return min(n, proto.MaxEntries)
}

// NewSession makes a session key, and erases all but the one before it.
func (r *Ring) NewSession() (pub [32]byte, err error) {
	b, err := r.ask(context.Background(), request(opNewSession))
	if err != nil {
		return pub, err
	}
	pub = b.Array32()
	return pub, closed(b)
}

// EndSessions erases all session keys but one.
func (r *Ring) EndSessions(keep [32]byte) error {
	b, err := r.ask(context.Background(), request(opEndSessions).Fixed(keep[:]))
	if err != nil {
		return err
	}
	return closed(b)
}

// OpenQuery opens a query with whichever session it is sealed to.
func (r *Ring) OpenQuery(ctx context.Context, env []byte) (plain []byte, reply *envelope.Replier, session [32]byte, err error) {
	sender, err := envelope.Sender(env)
	if err != nil {
		return nil, nil, session, fmt.Errorf("%w: %w", ErrOpen, err)
	}
	b, err := r.ask(ctx, request(opQuery).Blob(env))
	if err != nil {
		return nil, nil, session, err
	}
	session = b.Array32()
	key := commkey.Key(b.Array32())
	plain = b.Blob(envelope.MaxPlaintext)
	return plain, envelope.NewReplier(proto.QueryContext(r.chain), sender, session, key), session, closed(b)
}

// A Released is what leaves the keyring of a release of keys.
type Released struct {
	Stable [32]byte // the cluster's, for ever
	Blind  [32]byte // the epoch's
	Public commkey.PublicKey
}

// OpenRelease opens a gatekeeper's release of a cluster's keys for an epoch, sealed to a
// session, and keeps the epoch's key.
func (r *Ring) OpenRelease(id proto.ClusterID, epoch uint64, session, master [32]byte, sealed []byte) (*Released, error) {
	w := request(opRelease).U32(uint32(id)).U64(epoch).Fixed(session[:]).Fixed(master[:]).Blob(sealed)
	b, err := r.ask(context.Background(), w)
	if err != nil {
		return nil, err
	}
	return &Released{b.Array32(), b.Array32(), b.Array32()}, closed(b)
}

// Forget erases a cluster's keys of the epochs before one.
func (r *Ring) Forget(id proto.ClusterID, before uint64) error {
	b, err := r.ask(context.Background(), request(opForget).U32(uint32(id)).U64(before))
	if err != nil {
		return err
	}
	return closed(b)
}

// Opener returns what opens a cluster's commands.
func (r *Ring) Opener(id proto.ClusterID) cluster.Opener { return &opener{r, id} }

type opener struct {
	ring *Ring
	id   proto.ClusterID
}

// Forget is cluster.Opener's. It fails only when the keyring is gone.
func (o *opener) Forget(before uint64) { _ = o.ring.Forget(o.id, before) }

// Open is cluster.Opener's.
func (o *opener) Open(epoch uint64, sealed []cluster.Sealed) ([]cluster.Opened, error) {
	out := make([]cluster.Opened, 0, len(sealed))
	for len(sealed) > 0 {
		n := batch(len(sealed), func(i int) int { return len(sealed[i].Envelope) })
		w := request(opCommands).U32(uint32(o.id)).U64(epoch).Count(n)
		for i := range sealed[:n] {
			s := &sealed[i]
			purpose := uint8(len(purposes))
			for p := range purposes {
				if purposes[p] == s.Context.Purpose {
					purpose = uint8(p)
				}
			}
			w.U8(purpose).Blob(s.Context.Outer).Blob(s.Envelope)
		}
		b, err := o.ring.ask(context.Background(), w)
		if err != nil {
			return nil, err
		}
		public := commkey.PublicKey(b.Array32())
		if got := b.Count(n, 5); got != n && b.Err() == nil {
			return nil, fmt.Errorf("keyring: response: %d of %d commands", got, n)
		}
		for i := range sealed[:n] {
			if !b.Bool() {
				out = append(out, cluster.Opened{Why: b.String(maxText)})
				continue
			}
			key, plain := commkey.Key(b.Array32()), b.Blob(envelope.MaxPlaintext)
			sender, err := envelope.Sender(sealed[i].Envelope)
			if err != nil {
				return nil, fmt.Errorf("keyring: response: opened what is no envelope: %w", err)
			}
			c := sealed[i].Context
			c.Purpose = cluster.AnswerPurpose(c.Purpose)
			out = append(out, cluster.Opened{Plain: plain, Reply: envelope.NewReplier(c, sender, public, key)})
		}
		if err := closed(b); err != nil {
			return nil, err
		}
		sealed = sealed[n:]
	}
	return out, nil
}
