package registry

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

// network is an env with workers 2 and 3 and, as account 1 may, gatekeeper 1.
func network(t *testing.T) *env {
	e := newEnv(t)
	gk := e.apply(1)
	gk.reg.Role, gk.reg.Releases = proto.RoleGatekeeper, []proto.Hash{digest(t, attest.TDX, goodSoftware)}
	e.Block(e.register(gk), e.register(e.apply(2)), e.register(e.apply(3)))
	return e
}

func TestEntries(t *testing.T) {
	release := proto.ReleaseKeys{Worker: id(2), Cluster: 1, Epoch: 1, Session: session(2), Sealed: []byte("sealed")}
	early := release
	early.Epoch = 0 // marks the case without a master key
	big := release
	big.Sealed = make([]byte, proto.MaxRelease)
	huge := proto.SetEndpoints{Endpoints: []string{strings.Repeat("x", proto.MaxEndpoint)}}
	session40 := session(40)
	good := func(h uint64) proto.StartSession {
		return proto.StartSession{Key: session(20), Height: h, Hash: testchain.HashAt(h)}
	}
	// The event carries the entry as the enclave signed it; the signature is random.
	started := proto.SessionStarted{Worker: id(2), Seq: 1, Entry: proto.MarshalEntry(good(11))}
	// Entry 1 of the worker in block 12. topics says what the newest messages are then.
	for _, c := range []struct {
		name   string
		from   int
		entry  proto.Entry
		want   error
		topics map[string]proto.Event
		check  func(w *proto.WorkerInfo) bool
	}{
		{"session", 2, good(11), nil, map[string]proto.Event{proto.TopicWorker(id(2)): started, proto.TopicGatekeeper: started},
			func(w *proto.WorkerInfo) bool { return w.State.Session == session(20) && w.State.SessionHeight == 12 }},
		{"session on another fork", 2, proto.StartSession{Key: session(20), Height: 11, Hash: testchain.HashAt(10)}, ErrStale, nil,
			func(w *proto.WorkerInfo) bool { return w.State.Session == session(2) }},
		{"session on the block that executes", 2, good(12), nil, nil, nil},
		{"session on a future block", 2, good(13), ErrStale, nil, nil},
		{"session key that is none", 2, proto.StartSession{Key: [32]byte{0xff}, Height: 11, Hash: testchain.HashAt(11)}, ErrMalformed, nil, nil},
		{"challenge is echoed", 2, proto.Challenge{Nonce: [32]byte{7, 7}}, nil,
			map[string]proto.Event{proto.TopicWorker(id(2)): proto.ChallengeEchoed{Nonce: [32]byte{7, 7}}}, nil},
		{"endpoints", 2, huge, nil, nil, func(w *proto.WorkerInfo) bool { return reflect.DeepEqual(w.Endpoints, huge.Endpoints) }},
		{"no endpoints", 2, proto.SetEndpoints{}, nil, nil, func(w *proto.WorkerInfo) bool { return len(w.Endpoints) == 0 }},
		{"master key", 1, proto.PublishMasterKey{Public: session(40)}, nil,
			map[string]proto.Event{proto.TopicGatekeeper: proto.MasterKeySet{Public: session(40)}}, nil},
		{"master key of a worker", 2, proto.PublishMasterKey{Public: session(40)}, ErrRole, nil, nil},
		{"master key that is none", 1, proto.PublishMasterKey{}, ErrMalformed, nil, nil},
		{"keys for a worker", 1, release, nil,
			map[string]proto.Event{proto.TopicWorker(id(2)): proto.KeysReleased{Gatekeeper: id(1), Master: session(40), Release: proto.MarshalEntry(release)}}, nil},
		{"keys from a worker", 3, release, ErrRole, nil, nil},
		{"keys before the master key is known", 1, early, ErrRole, nil, nil},
		{"keys for an unknown worker", 1, proto.ReleaseKeys{Worker: id(9), Epoch: 1}, ErrNotRegistered, nil, nil},
		{"keys that the worker could not decode", 1, big, mq.ErrTooLarge, nil, nil},
		{"an entry of another module", 2, proto.CodePrepared{Cluster: 1, Rules: 1}, ErrMalformed, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := network(t)
			if r, ok := c.entry.(proto.ReleaseKeys); ok && r.Epoch > 0 {
				// As a block before would have left it.
				e.Start()
				if err := e.k.store.OpenKVStore(e.Context()).Set(proto.KeyMasterKey(), session40[:]); err != nil {
					t.Fatal(err)
				}
				e.Finish()
			}
			before := map[string]proto.Cursor{}
			for _, topic := range []string{proto.TopicGatekeeper, proto.TopicWorker(id(1)), proto.TopicWorker(id(2)), proto.TopicWorker(id(3))} {
				before[topic], _ = e.mq.Cursor(e.Context(), topic)
			}
			e.Start()
			// The handler itself, for its error; then the entry in a run, where an error moves
			// the sequence and leaves nothing.
			_, err := e.Tx(func(ctx sdk.Context) error {
				if err := e.k.HandleEntry(ctx, mq.From{Worker: id(c.from), Seq: 1, Payload: proto.MarshalEntry(c.entry)}, c.entry); err != nil {
					return err
				}
				return errUndo
			})
			want := c.want
			if want == nil {
				want = errUndo
			}
			if !errors.Is(err, want) {
				t.Fatalf("got %v, want %v", err, want)
			}
			record := e.worker(c.from)
			events := e.Must(e.outbox(c.from, 1, c.entry))
			e.Finish()
			if refused := len(testchain.Values(events, "outbox_refused", "seq")) == 1; refused != (c.want != nil) {
				t.Fatalf("refused in a run: %v", refused)
			}
			if next, _ := e.mq.NextOutbox(e.Context(), id(c.from)); next != 2 {
				t.Fatalf("the chain expects %d", next)
			}
			after := e.worker(c.from)
			if after.State.Heard != e.Height() {
				t.Fatalf("heard at %d", after.State.Heard)
			}
			if record.State.Heard = e.Height(); c.want != nil && !reflect.DeepEqual(record, after) {
				t.Fatal("a refused entry changed the record")
			}
			if c.check != nil && !c.check(after) {
				t.Fatalf("record %+v", after)
			}
			for topic, cursor := range before {
				now, err := e.mq.Cursor(e.Context(), topic)
				if err != nil {
					t.Fatal(err)
				}
				ev, told := c.topics[topic]
				m, got := e.last(topic)
				if s, ok := got.(proto.SessionStarted); ok {
					if err := identity.Verify(identity.PublicKey(s.Worker), proto.EntrySignedBytes(testchain.ID, s.Worker, s.Seq, s.Entry), s.Signature[:]); err != nil {
						t.Errorf("%s: %v", topic, err)
					}
					s.Signature = [64]byte{}
					got = s
				}
				switch {
				case !told && c.topics != nil || c.want != nil:
					if now != cursor {
						t.Errorf("%s got a message", topic)
					}
				case told && (now.Seq != cursor.Seq+1 || !reflect.DeepEqual(got, ev)):
					t.Errorf("%s holds %T at %d", topic, got, now.Seq)
				case told && !bytes.Equal(m.Sender, func() []byte { w := id(c.from); return w[:] }()):
					t.Errorf("%s: sender %x", topic, m.Sender)
				}
			}
		})
	}
	t.Run("of an unknown worker", func(t *testing.T) {
		e := newEnv(t)
		err := e.k.HandleEntry(e.Context(), mq.From{Worker: id(5)}, proto.Challenge{})
		if !errors.Is(err, ErrNotRegistered) {
			t.Fatalf("got %v", err)
		}
	})
}

// TestMasterKey: the first word stays; saying the same again is no message.
func TestMasterKey(t *testing.T) {
	e := network(t)
	e.Block(e.outbox(1, 1, proto.PublishMasterKey{Public: session(40)}))
	cursor, _ := e.mq.Cursor(e.Context(), proto.TopicGatekeeper)
	e.Block(e.outbox(1, 2, proto.PublishMasterKey{Public: session(40)}))
	events := e.Block(e.outbox(1, 3, proto.PublishMasterKey{Public: session(41)}))
	if got := testchain.Values(events, "outbox_refused", "seq"); !reflect.DeepEqual(got, []string{"3"}) {
		t.Fatalf("refused %v", got)
	}
	if now, _ := e.mq.Cursor(e.Context(), proto.TopicGatekeeper); now != cursor {
		t.Fatal("another message about the master key")
	}
	key := session(40)
	if b, err := e.k.store.OpenKVStore(e.Context()).Get(proto.KeyMasterKey()); err != nil || !bytes.Equal(b, key[:]) {
		t.Fatalf("master key %x, %v", b, err)
	}
}

// TestNoReleaseToTheEnded: the chain takes no keys for a worker whose admission has ended.
func TestNoReleaseToTheEnded(t *testing.T) {
	e := network(t)
	session40 := session(40)
	e.Start()
	if err := e.k.store.OpenKVStore(e.Context()).Set(proto.KeyMasterKey(), session40[:]); err != nil {
		t.Fatal(err)
	}
	e.Finish()
	release := proto.ReleaseKeys{Worker: id(2), Cluster: 1, Epoch: 1, Session: session(2), Sealed: []byte("sealed")}
	take := func(ctx sdk.Context) error {
		return e.k.HandleEntry(ctx, mq.From{Worker: id(1), Seq: 1, Payload: proto.MarshalEntry(release)}, release)
	}
	end := e.worker(2).Expires
	for e.Height() < end-2 {
		e.Block()
	}
	e.Block(take) // in its last block
	if e.Height() != end-1 {
		t.Fatalf("height %d, its end is %d", e.Height(), end)
	}
	e.Start()
	if _, err := e.Tx(take); !errors.Is(err, ErrNotRegistered) {
		t.Errorf("after its end: %v", err)
	}
	e.Finish()
}
