package keyring

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster"
)

// Handle answers a request. Nothing that it answers is a secret key of the keyring, but
// for keys of one answer each and, of a release, what the cluster's state needs.
func (k *Keeper) Handle(ctx context.Context, request []byte) []byte {
	w, err := k.handle(ctx, wire.NewReader(request))
	if err != nil {
		return failure(err)
	}
	return w.Bytes()
}

func (k *Keeper) handle(ctx context.Context, r *wire.Reader) (*wire.Writer, error) {
	// Each case reads its fields and closes the reader before it does anything.
	end := func() error {
		if err := r.Close(); err != nil {
			return fmt.Errorf("%w: %w", ErrRequest, err)
		}
		return nil
	}
	switch op := r.U8(); op {
	case opRegister:
		m := proto.Registration{Session: r.Array32(), Epoch: r.U64(), Height: r.U64(), Hash: r.Array32(), Rules: r.U32()}
		for range r.Count(proto.MaxEndpoints, 4) {
			m.Endpoints = append(m.Endpoints, r.String(proto.MaxEndpoint))
		}
		if err := end(); err != nil {
			return nil, err
		}
		return k.register(ctx, &m)
	case opCertify:
		begin, key := time.Unix(int64(r.U64()), 0).UTC(), r.Blob(maxOuter)
		if err := end(); err != nil {
			return nil, err
		}
		return k.certify(ctx, begin, key)
	case opSign:
		first := r.U64()
		var entries [][]byte
		for range r.Count(proto.MaxEntries, 5) {
			entries = append(entries, r.Blob(proto.MaxEntry))
		}
		if err := end(); err != nil {
			return nil, err
		}
		return k.sign(first, entries)
	case opNewSession:
		if err := end(); err != nil {
			return nil, err
		}
		pub, err := k.newSession()
		return ok().Fixed(pub[:]), err
	case opEndSessions:
		keep := r.Array32()
		if err := end(); err != nil {
			return nil, err
		}
		k.endSessions(keep)
		return ok(), nil
	case opQuery:
		env := r.Blob(proto.MaxEnvelope)
		if err := end(); err != nil {
			return nil, err
		}
		return k.query(env)
	case opRelease:
		id, epoch, session, master, sealed := proto.ClusterID(r.U32()), r.U64(), r.Array32(), r.Array32(), r.Blob(proto.MaxRelease)
		if err := end(); err != nil {
			return nil, err
		}
		return k.release(id, epoch, session, master, sealed)
	case opCommands:
		id, epoch := proto.ClusterID(r.U32()), r.U64()
		var sealed []cluster.Sealed
		for range r.Count(maxCommands, 9) {
			purpose := r.U8()
			if int(purpose) >= len(purposes) {
				r.Fail(fmt.Errorf("purpose %d", purpose))
				break
			}
			c := envelope.Context{Purpose: purposes[purpose], Chain: k.cfg.Chain, Cluster: id.Bytes(), Epoch: epoch, Outer: r.Blob(maxOuter)}
			sealed = append(sealed, cluster.Sealed{Context: c, Envelope: r.Blob(proto.MaxEnvelope)})
		}
		if err := end(); err != nil {
			return nil, err
		}
		return k.commands(id, epoch, sealed)
	case opForget:
		id, before := proto.ClusterID(r.U32()), r.U64()
		if err := end(); err != nil {
			return nil, err
		}
		k.forget(id, before)
		return ok(), nil
	default:
		return nil, fmt.Errorf("%w: unknown kind %d", ErrRequest, op)
	}
}

// register signs what the operator submits, for a session of this keyring only: who could
// register another key would have the gatekeepers' releases sealed to it.
func (k *Keeper) register(ctx context.Context, m *proto.Registration) (*wire.Writer, error) {
	if !k.wasSession(m.Session) {
		return nil, fmt.Errorf("%w: to register session %x, which it did not make", ErrRefused, m.Session)
	}
	c := &k.cfg
	m.Chain, m.Roots, m.TrustHeight, m.TrustRoot, m.Worker = c.Chain, c.Roots, c.RootHeight, c.RootHash, k.info.Worker
	m.Operator, m.Role, m.Settings, m.Releases = c.Operator, c.Role, k.info.Made, k.info.Releases
	ev, err := k.evidence(ctx, m.ReportData())
	if err != nil {
		return nil, err
	}
	sig, err := k.id.Sign(rand.Reader, m.SignedBytes())
	return ok().Blob(m.Marshal()).Fixed(sig[:]).Blob(ev), err
}

// ahead is how far a certificate may begin after this process's clock: the clock of who
// asks only ever goes forward.
const ahead = time.Hour

// certify signs the statement of a TLS certificate. The TLS key is not the keyring's.
func (k *Keeper) certify(ctx context.Context, begin time.Time, key []byte) (*wire.Writer, error) {
	if begin.After(k.cfg.Now().Add(ahead)) {
		return nil, fmt.Errorf("%w: to certify a TLS key from %s on", ErrRefused, begin.Format(time.RFC3339))
	}
	s := ratls.Statement{Chain: k.cfg.Chain, Worker: k.id.Public(), NotBefore: begin, NotAfter: begin.Add(ratls.Validity), Key: key}
	ev, err := k.evidence(ctx, s.ReportData())
	if err != nil {
		return nil, err
	}
	sig, err := k.id.Sign(rand.Reader, s.SignedBytes())
	return ok().Fixed(sig[:]).Blob(ev), err
}

// sign signs entries of the outbox.
func (k *Keeper) sign(first uint64, entries [][]byte) (*wire.Writer, error) {
	w := ok().Count(len(entries))
	for i, payload := range entries {
		if err := k.maySign(payload); err != nil {
			return nil, err
		}
		sig, err := k.id.Sign(rand.Reader, proto.EntrySignedBytes(k.cfg.Chain, k.info.Worker, first+uint64(i), payload))
		if err != nil {
			return nil, err
		}
		w.Fixed(sig[:])
	}
	return w, nil
}

// maySign reports why an entry is not one of this role, or names a key that is not of this
// keyring: clients and gatekeepers would seal to it.
func (k *Keeper) maySign(payload []byte) error {
	e, err := proto.ParseEntry(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	role := proto.RoleWorker
	switch e := e.(type) {
	case proto.Challenge, proto.SetEndpoints:
		role = k.cfg.Role
	case proto.StartSession:
		if role = k.cfg.Role; !k.wasSession(e.Key) {
			return fmt.Errorf("%w: to announce session %x, which it did not make", ErrRefused, e.Key)
		}
	case proto.PublishEpochKey:
		if !k.wasEpoch(e.Cluster, e.Epoch, e.Public) {
			return fmt.Errorf("%w: to publish %x as the key of cluster %s in epoch %d: no such key was released to it", ErrRefused, e.Public, e.Cluster, e.Epoch)
		}
	case proto.Receipt, proto.PostOutputs, proto.CodePrepared, proto.CodeRefused, proto.SnapshotTaken, proto.SnapshotPiece, proto.RulesReady:
	case proto.PublishMasterKey, proto.ReleaseKeys:
		role = proto.RoleGatekeeper
	default:
		return fmt.Errorf("%w: to sign an entry of type %T", ErrRefused, e)
	}
	if role != k.cfg.Role {
		return fmt.Errorf("%w: an entry of type %T is not a %s's", ErrRefused, e, k.cfg.Role)
	}
	return nil
}

// query opens a query with one of the sessions.
func (k *Keeper) query(env []byte) (*wire.Writer, error) {
	c := proto.QueryContext(k.cfg.Chain)
	err := envelope.ErrOpen
	for _, key := range k.held() {
		plain, reply, oerr := envelope.OpenToReply(c, c.Purpose, key, env)
		if oerr != nil {
			err = oerr
			continue
		}
		pub, answer := key.Public(), reply.Key()
		return ok().Fixed(pub[:]).Fixed(answer[:]).Blob(plain), nil
	}
	return nil, fmt.Errorf("%w: %w", ErrOpen, err)
}

// release opens a gatekeeper's release of a cluster's keys. The epoch's key stays here.
func (k *Keeper) release(id proto.ClusterID, epoch uint64, session, master [32]byte, sealed []byte) (*wire.Writer, error) {
	held := k.held()
	i := slices.IndexFunc(held, func(s *commkey.SecretKey) bool { return [32]byte(s.Public()) == session })
	if i < 0 {
		return nil, fmt.Errorf("%w: session %x", ErrNoKey, session)
	}
	plain, _, err := envelope.Open(proto.ReleaseContext(k.cfg.Chain, k.info.Worker, id, epoch), held[i], sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRelease, err)
	}
	shares, err := proto.ParseKeyShares(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRelease, err)
	}
	secrets := map[string][32]byte{}
	for _, s := range shares {
		err := dprf.Verify(dprf.Point(master), s.Label, s.Partial, s.Proof)
		if err == nil {
			secrets[s.Label], err = dprf.Combine(s.Label, []dprf.Partial{{Index: 1, Point: s.Partial}})
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRelease, err)
		}
	}
	if err := k.pinMaster(master); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRelease, err)
	}
	stable, ok1 := secrets[cluster.LabelStable(id)]
	traffic, ok2 := secrets[cluster.LabelTraffic(id, epoch)]
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("%w: it lacks a label", ErrRelease)
	}
	key, blind, err := cluster.EpochKey(traffic)
	if err != nil {
		return nil, err
	}
	if !k.addEpoch(id, epoch, key) {
		return nil, fmt.Errorf("%w: it changes the key of epoch %d", ErrRelease, epoch)
	}
	pub := key.Public()
	return ok().Fixed(stable[:]).Fixed(blind[:]).Fixed(pub[:]), nil
}

// commands opens commands with their epoch's key.
func (k *Keeper) commands(id proto.ClusterID, epoch uint64, sealed []cluster.Sealed) (*wire.Writer, error) {
	key := k.epoch(id, epoch)
	if key == nil {
		return nil, fmt.Errorf("%w: cluster %s, epoch %d", cluster.ErrNeedKey, id, epoch)
	}
	pub := key.Public()
	w := ok().Fixed(pub[:]).Count(len(sealed))
	for i := range sealed {
		o := sealed[i].Open(key)
		if w.Bool(o.Reply != nil); o.Reply == nil {
			w.String(o.Why)
			continue
		}
		answer := o.Reply.Key()
		w.Fixed(answer[:]).Blob(o.Plain)
	}
	return w, nil
}
