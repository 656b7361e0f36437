package mq

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"

	dbm "github.com/cosmos/cosmos-db"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
)

// fakeRegistry knows some workers and remembers in the store when it heard them.
type fakeRegistry struct {
	k     *Keeper
	known map[proto.WorkerID]bool
}

func heardKey(w proto.WorkerID) []byte { return append([]byte("heard/"), w[:]...) }

func (r *fakeRegistry) Heard(ctx sdk.Context, w proto.WorkerID) (bool, error) {
	if !r.known[w] {
		return false, nil
	}
	return true, r.k.store.OpenKVStore(ctx).Set(heardKey(w), sdk.Uint64ToBigEndian(uint64(ctx.BlockHeight())))
}

var errRefused = errors.New("refused by the handler")

// env is a queue with the topics "system", "gatekeeper" and "cluster/1", and workers
// 1 and 2. Its handler writes what it is given, and refuses challenges whose nonce
// begins with 0xff after writing.
type env struct {
	*testchain.Chain
	t  *testing.T
	k  *Keeper
	db *dbm.MemDB
}

func newEnv(t *testing.T) *env {
	t.Helper()
	c := testchain.New(t, []string{ModuleName}, []string{TransientKey})
	e := &env{Chain: c, t: t, db: dbm.NewMemDB()}
	e.k = NewKeeper(c.Store(ModuleName), c.Transient(TransientKey), NewBodies(e.db))
	r := &fakeRegistry{e.k, map[proto.WorkerID]bool{worker(1): true, worker(2): true}}
	e.k.SetRouter(r, func(ctx sdk.Context, from From, entry proto.Entry) error {
		ch, ok := entry.(proto.Challenge)
		if !ok {
			return errRefused
		}
		s := e.k.store.OpenKVStore(ctx)
		if err := s.Set(fmt.Appendf(nil, "entry/%s/%d", from.Worker, from.Seq), ch.Nonce[:]); err != nil {
			return err
		}
		ctx.EventManager().EmitEvent(sdk.NewEvent("handled", sdk.NewAttribute("seq", fmt.Sprint(from.Seq))))
		if ch.Nonce[0] == 0xff {
			return errRefused
		}
		return nil
	})
	c.Begin = append(c.Begin, func(ctx sdk.Context) error { e.k.BeginBlock(ctx); return nil })
	c.End = append(c.End, e.k.EndBlock)
	c.Commit = e.k.Bodies().Commit
	c.Block(func(ctx sdk.Context) error {
		return errors.Join(e.k.CreateTopic(ctx, proto.TopicSystem), e.k.CreateTopic(ctx, proto.TopicGatekeeper), e.k.CreateTopic(ctx, proto.TopicCluster(1)))
	})
	return e
}

func worker(n int) proto.WorkerID { return proto.WorkerID(testchain.Pair(n).Public()) }

func challenge(n byte) proto.Challenge { return proto.Challenge{Nonce: [32]byte{n, 1, 2, 3}} }

func signed(k *identity.KeyPair, chain string, seq uint64, payload []byte) types.OutboxEntry {
	return types.OutboxEntry{Payload: payload, Signature: testchain.Sign(k, proto.EntrySignedBytes(chain, proto.WorkerID(k.Public()), seq, payload))}
}

// run is a run of worker n's outbox from first on, one entry for each nonce.
func run(n int, first uint64, nonces ...byte) *types.MsgSubmitOutbox {
	w := worker(n)
	m := &types.MsgSubmitOutbox{Relayer: testchain.Account(1).String(), Worker: w[:], FirstSeq: first}
	for i, b := range nonces {
		m.Entries = append(m.Entries, signed(testchain.Pair(n), testchain.ID, first+uint64(i), proto.MarshalEntry(challenge(b))))
	}
	return m
}

func (e *env) submit(m *types.MsgSubmitOutbox, next *uint64) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		r, err := e.k.SubmitOutbox(ctx, m)
		if err == nil && next != nil {
			*next = r.NextSeq
		}
		return err
	}
}

func (e *env) append(topic string, ev proto.Event, seq *uint64) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		n, err := e.k.Append(ctx, topic, []byte("sender"), ev)
		if seq != nil {
			*seq = n
		}
		return err
	}
}

func (e *env) cursor(topic string) proto.Cursor {
	e.t.Helper()
	c, err := e.k.Cursor(e.Context(), topic)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

func (e *env) next(n int) uint64 {
	e.t.Helper()
	seq, err := e.k.NextOutbox(e.Context(), worker(n))
	if err != nil {
		e.t.Fatal(err)
	}
	return seq
}

func (e *env) messages(topic string) []*proto.Message {
	e.t.Helper()
	r, err := e.k.Messages(e.Context(), &types.QueryMessagesRequest{Topic: topic, FromSeq: 1, Limit: 1000})
	if err != nil {
		e.t.Fatal(err)
	}
	var out []*proto.Message
	for _, b := range r.Messages {
		m, err := proto.ParseMessage(b)
		if err != nil {
			e.t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// twin is the naive twin of the queue: it folds with a formula of its own.
type twin map[string]proto.Cursor

func (w twin) add(m *proto.Message) {
	c, ok := w[m.Topic]
	if !ok {
		c.Head = sum("phala/inbox/created/v1", []byte(testchain.ID), []byte(m.Topic))
	}
	h := sha256.Sum256(m.Marshal())
	w[m.Topic] = proto.Cursor{Seq: c.Seq + 1, Head: sum("phala/inbox/v1", []byte(m.Topic), sdk.Uint64ToBigEndian(c.Seq+1), c.Head[:], h[:])}
}

func sum(domain string, fields ...[]byte) proto.Hash {
	h := sha256.New()
	for _, f := range append([][]byte{[]byte(domain)}, fields...) {
		h.Write([]byte{byte(len(f) >> 24), byte(len(f) >> 16), byte(len(f) >> 8), byte(len(f))})
		h.Write(f)
	}
	return proto.Hash(h.Sum(nil))
}
