package mq

import (
	"bytes"
	"errors"
	"maps"
	"math/rand"
	"reflect"
	"strings"
	"testing"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
)

// TestFold: random blocks of messages to three topics, by transactions some of which
// fail, fold to what the naive twin says; sequences have no gap; a topic without a
// message keeps its record; bodies are served in order.
func TestFold(t *testing.T) {
	const seed = 20261120
	rng := rand.New(rand.NewSource(seed))
	e, want := newEnv(t), twin{}
	topics := []string{proto.TopicSystem, proto.TopicGatekeeper, proto.TopicCluster(1)}
	failed := errors.New("the transaction fails later")
	for block := range 30 {
		e.Start()
		for range rng.Intn(5) {
			fail, ctxFail := rng.Intn(3) == 0, error(nil)
			if fail {
				ctxFail = failed
			}
			var added []*proto.Message
			after := maps.Clone(want)
			_, err := e.Tx(func(ctx sdk.Context) error {
				for range 1 + rng.Intn(4) {
					topic, ev := topics[rng.Intn(len(topics))], proto.ChallengeEchoed{Nonce: [32]byte{byte(rng.Int())}}
					var seq uint64
					if err := e.append(topic, ev, &seq)(ctx); err != nil {
						return err
					}
					m := &proto.Message{Topic: topic, Seq: after[topic].Seq + 1, Height: e.Height(), Time: uint64(testchain.TimeAt(e.Height()).UnixMilli()),
						Sender: []byte("sender"), Payload: proto.MarshalEvent(ev)}
					after.add(m)
					added = append(added, m)
					if seq != m.Seq {
						t.Fatalf("seed %d block %d: Append says %d, want %d", seed, block, seq, m.Seq)
					}
				}
				return ctxFail
			})
			if !errors.Is(err, ctxFail) {
				t.Fatal(err)
			}
			if !fail {
				want = after
			}
		}
		before := map[string]proto.Cursor{}
		for _, topic := range topics {
			before[topic] = e.cursor(topic)
		}
		e.Finish()
		for _, topic := range topics {
			got := e.cursor(topic)
			if want[topic].Seq == 0 {
				if got != proto.CreatedCursor(testchain.ID, topic) {
					t.Fatalf("%s has no message and record %v", topic, got)
				}
			} else if got != want[topic] {
				t.Fatalf("seed %d block %d: %s is %d %s, the twin says %d %s", seed, block, topic, got.Seq, got.Head, want[topic].Seq, want[topic].Head)
			}
			if before[topic].Seq == want[topic].Seq && before[topic] != got {
				t.Fatalf("%s changed without a message", topic)
			}
		}
	}
	again := twin{}
	for _, topic := range topics {
		for i, m := range e.messages(topic) {
			if m.Seq != uint64(i)+1 {
				t.Fatalf("%s: body %d is served in place %d", topic, m.Seq, i)
			}
			again.add(m)
		}
	}
	if !reflect.DeepEqual(again, want) || want[topics[0]].Seq == 0 {
		t.Fatalf("the served bodies fold to %v, want %v", again, want)
	}
}

// TestFailingTransactionLeavesNothing: not in the topic's record, not in the bodies,
// not in the numbers of what comes after it.
func TestFailingTransactionLeavesNothing(t *testing.T) {
	e := newEnv(t)
	before := e.Dump(ModuleName)
	e.Start()
	if _, err := e.Tx(func(ctx sdk.Context) error {
		return errors.Join(e.append(proto.TopicSystem, proto.ChallengeEchoed{}, nil)(ctx), e.k.Stage(ctx, []byte("c/chunk"), []byte("body")), errRefused)
	}); !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	e.Finish()
	if !reflect.DeepEqual(e.Dump(ModuleName), before) || len(e.messages(proto.TopicSystem)) != 0 {
		t.Fatal("a failed transaction left something in the topic")
	}
	if b, err := e.k.Bodies().Get([]byte("c/chunk")); err != nil || b != nil {
		t.Fatalf("a failed transaction left body %q, %v", b, err)
	}
	var seq uint64
	e.Block(e.append(proto.TopicSystem, proto.ChallengeEchoed{}, &seq))
	if seq != 1 {
		t.Fatalf("the next message has sequence %d", seq)
	}
}

func TestAppendRefused(t *testing.T) {
	e := newEnv(t)
	for _, c := range []struct {
		name, topic string
		sender      []byte
		event       proto.Event
		want        error
	}{
		{"no such topic", "cluster/9", nil, proto.ChallengeEchoed{}, ErrNoTopic},
		{"sender too long", proto.TopicSystem, make([]byte, proto.MaxSender+1), proto.ChallengeEchoed{}, ErrTooLarge},
		{"payload above the limit", proto.TopicSystem, nil, proto.PushedCommand{Envelope: make([]byte, proto.MaxPayload)}, ErrTooLarge},
		{"field above the limit of its decoder", proto.TopicSystem, nil, proto.KeysReleased{Release: make([]byte, proto.MaxRelease+1)}, ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := e.Dump(ModuleName)
			e.Start()
			_, err := e.Tx(func(ctx sdk.Context) error { _, err := e.k.Append(ctx, c.topic, c.sender, c.event); return err })
			e.Finish()
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !reflect.DeepEqual(e.Dump(ModuleName), before) {
				t.Fatal("state changed")
			}
		})
	}
	e.Start()
	if err := e.k.CreateTopic(e.Context(), proto.TopicSystem); !errors.Is(err, ErrTopicExists) {
		t.Fatalf("creating a topic twice: %v", err)
	}
}

func TestSubmitOutbox(t *testing.T) {
	foreign := func(m *types.MsgSubmitOutbox) *types.MsgSubmitOutbox {
		w := worker(2)
		m.Worker = w[:]
		return m
	}
	edit := func(m *types.MsgSubmitOutbox, f func(*types.MsgSubmitOutbox)) *types.MsgSubmitOutbox { f(m); return m }
	// The chain has entries 1 to 3 of worker 1 and none of worker 2.
	for _, c := range []struct {
		name    string
		m       *types.MsgSubmitOutbox
		want    error
		next    uint64
		handled string
	}{
		{"continues", run(1, 4, 4, 5), nil, 6, "4 5"},
		{"overlaps: old entries are no-ops", run(1, 2, 2, 3, 4), nil, 5, "4"},
		{"overlap whose old entries differ from the chain's", run(1, 3, 99, 4), nil, 5, "4"},
		{"repeats the end: no-op", run(1, 2, 2, 3), nil, 4, ""},
		{"repeats the beginning: no-op", run(1, 1, 1), nil, 4, ""},
		{"gap", run(1, 5, 5), ErrSequence, 4, ""},
		{"far ahead", run(1, 1<<62, 5), ErrSequence, 4, ""},
		{"sequence zero", run(1, 0, 5), ErrMalformed, 4, ""},
		{"sequence above every other", run(1, 1<<63, 5), ErrMalformed, 4, ""},
		{"no entries", run(1, 4), ErrMalformed, 4, ""},
		{"too many entries", edit(run(1, 4), func(m *types.MsgSubmitOutbox) { m.Entries = make([]types.OutboxEntry, proto.MaxEntries+1) }), ErrMalformed, 4, ""},
		{"identity of 31 bytes", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) { m.Worker = m.Worker[1:] }), ErrMalformed, 4, ""},
		{"unregistered worker", run(3, 1, 1), ErrNoWorker, 4, ""},
		{"another worker's entries", foreign(run(1, 1, 1)), ErrSignature, 4, ""},
		{"an old entry under a new number", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) { m.Entries[0] = run(1, 1, 1).Entries[0] }), ErrSignature, 4, ""},
		{"signed for another chain", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) {
			m.Entries[0] = signed(testchain.Pair(1), "other-1", 4, m.Entries[0].Payload)
		}), ErrSignature, 4, ""},
		{"payload edited", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) { m.Entries[0].Payload[5] ^= 1 }), ErrSignature, 4, ""},
		{"signature cut", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) { m.Entries[0].Signature = m.Entries[0].Signature[:63] }), ErrSignature, 4, ""},
		{"signature longer", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) { m.Entries[0].Signature = append(m.Entries[0].Signature, 0) }), ErrSignature, 4, ""},
		{"no signature", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) { m.Entries[0].Signature = nil }), ErrSignature, 4, ""},
		{"second entry is bad: the first is not taken either", edit(run(1, 4, 4, 5), func(m *types.MsgSubmitOutbox) { m.Entries[1].Signature[3] ^= 1 }), ErrSignature, 4, ""},
		{"entry above the size limit", edit(run(1, 4, 4), func(m *types.MsgSubmitOutbox) {
			m.Entries[0] = signed(testchain.Pair(1), testchain.ID, 4, make([]byte, proto.MaxEntry+1))
		}), ErrTooLarge, 4, ""},
		{"refused entry: the sequence moves on", run(1, 4, 0xff, 5), nil, 6, "5"},
		{"signed entry of an unknown kind: the sequence moves on", edit(run(1, 4, 4, 5), func(m *types.MsgSubmitOutbox) {
			m.Entries[0] = signed(testchain.Pair(1), testchain.ID, 4, []byte{200})
		}), nil, 6, "5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.Block(e.submit(run(1, 1, 1, 2, 3), nil))
			before := e.Dump(ModuleName)
			e.Start()
			var next uint64
			events, err := e.Tx(e.submit(c.m, &next))
			e.Finish()
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if got := e.next(1); got != c.next || (err == nil && next != c.next) {
				t.Fatalf("the chain expects %d and answered %d, want %d", got, next, c.next)
			}
			if got := strings.Join(testchain.Values(events, "handled", "seq"), " "); err == nil && got != c.handled {
				t.Fatalf("handled entries %q, want %q", got, c.handled)
			}
			if changed := !reflect.DeepEqual(e.Dump(ModuleName), before); changed != (c.handled != "") {
				t.Fatalf("state changed: %v", changed)
			}
		})
	}
}

// TestRefusedEntry: what the handler wrote before it refused is gone, the refusal is
// recorded, the entries around it count.
func TestRefusedEntry(t *testing.T) {
	e := newEnv(t)
	e.Start()
	events, err := e.Tx(e.submit(run(1, 1, 1, 0xff, 3), nil))
	e.Finish()
	if err != nil {
		t.Fatal(err)
	}
	s := e.k.store.OpenKVStore(e.Context())
	for seq, want := range map[string]bool{"1": true, "2": false, "3": true} {
		if has, err := s.Has([]byte("entry/" + worker(1).String() + "/" + seq)); err != nil || has != want {
			t.Errorf("entry %s wrote: %v, want %v (%v)", seq, has, want, err)
		}
	}
	if got := testchain.Values(events, "outbox_refused", "seq"); !reflect.DeepEqual(got, []string{"2"}) || testchain.Values(events, "outbox_refused", "reason")[0] != errRefused.Error() {
		t.Fatalf("refusals recorded: %v", got)
	}
	if e.next(1) != 4 {
		t.Fatalf("the chain expects %d", e.next(1))
	}
}

// TestTwoRelayers race: in one block and with overlapping runs, every entry is
// handled once.
func TestTwoRelayers(t *testing.T) {
	e := newEnv(t)
	events := e.Block(e.submit(run(1, 1, 1, 2), nil), e.submit(run(1, 1, 1, 2, 3), nil), e.submit(run(1, 2, 2), nil), e.submit(run(2, 1, 1), nil), e.submit(run(1, 3, 3, 4), nil))
	if got := strings.Join(testchain.Values(events, "handled", "seq"), " "); got != "1 2 3 1 4" {
		t.Fatalf("handled %s", got)
	}
	if e.next(1) != 5 || e.next(2) != 2 {
		t.Fatalf("the chain expects %d and %d", e.next(1), e.next(2))
	}
}

// TestHeardNeedsProof: a run without a new signed entry does not show that the worker
// is alive: whoever has seen an old run could repeat it for a worker that is gone.
func TestHeardNeedsProof(t *testing.T) {
	e := newEnv(t)
	e.Block(e.submit(run(1, 1, 1), nil))
	heard := func() []byte { b, _ := e.k.store.OpenKVStore(e.Context()).Get(heardKey(worker(1))); return b }
	first := heard()
	if sdk.BigEndianToUint64(first) != e.Height() {
		t.Fatalf("heard %x at height %d", first, e.Height())
	}
	e.Block(e.submit(run(1, 1, 1), nil))
	forged := run(1, 1, 1)
	forged.Entries[0] = types.OutboxEntry{Payload: []byte("anything"), Signature: make([]byte, 64)}
	e.Block(e.submit(forged, nil))
	if !bytes.Equal(heard(), first) {
		t.Fatalf("repeated entries count as heard at %x", heard())
	}
	e.Block(e.submit(run(1, 1, 1, 2), nil))
	if sdk.BigEndianToUint64(heard()) != e.Height() {
		t.Fatal("a new entry does not count")
	}
}

func TestFree(t *testing.T) {
	free := func(ctx sdk.Context, e *env, m *types.MsgSubmitOutbox) (bool, error) { return e.k.Free(ctx, m) }
	many := func(first uint64, n int) *types.MsgSubmitOutbox { return run(1, first, make([]byte, n)...) }
	bad := run(1, 2, 2, 3)
	bad.Entries[0].Signature[1] ^= 1
	laterBad := run(1, 2, 2, 3)
	laterBad.Entries[1].Signature[1] ^= 1
	// The chain has entry 1 of worker 1.
	for _, c := range []struct {
		name string
		m    *types.MsgSubmitOutbox
		free bool
		want error
	}{
		{"new entry", run(1, 2, 2), true, nil},
		{"new after old", run(1, 1, 1, 2), true, nil},
		{"nothing new", run(1, 1, 1), false, ErrNoNewEntries},
		{"gap", run(1, 3, 3), false, ErrSequence},
		{"malformed", run(1, 2), false, ErrMalformed},
		{"first new entry not signed", bad, false, ErrSignature},
		{"a later entry not signed", laterBad, false, ErrSignature},
		{"not admitted", run(3, 1, 1), false, ErrNoWorker},
		{"the whole quota", many(2, FreeEntries), true, nil},
		{"above the quota", many(2, FreeEntries+1), false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.Block(e.submit(run(1, 1, 1), nil))
			e.Start()
			if ok, err := free(e.Context(), e, c.m); ok != c.free || !errors.Is(err, c.want) {
				t.Fatalf("free %v, %v; want %v, %v", ok, err, c.free, c.want)
			}
		})
	}
	t.Run("the quota is per worker and per block", func(t *testing.T) {
		e := newEnv(t)
		e.Start()
		for i, step := range []struct {
			m    *types.MsgSubmitOutbox
			free bool
		}{{many(1, FreeEntries-1), true}, {many(1, 2), false}, {many(1, 1), true}, {many(1, 1), false}, {run(2, 1, 1), true}} {
			if ok, err := free(e.Context(), e, step.m); ok != step.free || err != nil {
				t.Fatalf("step %d: free %v, %v", i, ok, err)
			}
		}
		e.Finish()
		e.Start()
		if ok, err := free(e.Context(), e, many(1, 1)); !ok || err != nil {
			t.Fatalf("in the next block: %v, %v", ok, err)
		}
	})
}

// TestGas: an outbox run pays for what it makes the chain check.
func TestGas(t *testing.T) {
	e := newEnv(t)
	e.Start()
	used := func(m *types.MsgSubmitOutbox) (gas uint64) {
		if _, err := e.Tx(func(ctx sdk.Context) error {
			defer func() { gas = ctx.GasMeter().GasConsumed() }()
			_, err := e.k.SubmitOutbox(ctx, m)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return gas
	}
	one, three := used(run(1, 1, 1)), used(run(1, 2, 2, 3, 4))
	if three < one+2*gasPerEntry {
		t.Fatalf("gas of one entry %d, of three %d", one, three)
	}
	defer func() {
		if _, ok := recover().(storetypes.ErrorOutOfGas); !ok {
			t.Fatal("a run goes on without gas")
		}
	}()
	_, _ = e.k.SubmitOutbox(e.Context().WithGasMeter(storetypes.NewGasMeter(one/2)), run(1, 5, 5))
}

func TestMessagesQuery(t *testing.T) {
	e := newEnv(t)
	e.Start()
	for i := range 20 {
		e.Must(e.append(proto.TopicCluster(1), proto.ChallengeEchoed{Nonce: [32]byte{byte(i)}}, nil))
		e.Must(e.append(proto.TopicSystem, proto.ChallengeEchoed{}, nil))
	}
	if got := e.messages(proto.TopicCluster(1)); len(got) != 0 {
		t.Fatalf("%d messages of a block that is not committed", len(got))
	}
	e.Finish()
	for _, c := range []struct {
		name       string
		q          types.QueryMessagesRequest
		first, num int
	}{
		{"all", types.QueryMessagesRequest{Topic: "cluster/1", FromSeq: 1, Limit: 100}, 1, 20},
		{"from zero is from the first", types.QueryMessagesRequest{Topic: "cluster/1", Limit: 100}, 1, 20},
		{"limited", types.QueryMessagesRequest{Topic: "cluster/1", FromSeq: 5, Limit: 3}, 5, 3},
		{"up to", types.QueryMessagesRequest{Topic: "cluster/1", FromSeq: 18, UpToSeq: 19, Limit: 9}, 18, 2},
		{"beyond the end", types.QueryMessagesRequest{Topic: "cluster/1", FromSeq: 21, Limit: 9}, 0, 0},
		{"none wanted", types.QueryMessagesRequest{Topic: "cluster/1", FromSeq: 1}, 0, 0},
		{"the name of a topic is not a prefix", types.QueryMessagesRequest{Topic: "cluster/", FromSeq: 0, Limit: 9}, 0, 0},
		{"unknown topic", types.QueryMessagesRequest{Topic: "cluster/11", FromSeq: 0, Limit: 9}, 0, 0},
	} {
		r, err := e.k.Messages(e.Context(), &c.q)
		if err != nil || len(r.Messages) != c.num {
			t.Errorf("%s: %d messages, %v", c.name, len(r.Messages), err)
			continue
		}
		for i, b := range r.Messages {
			if m, err := proto.ParseMessage(b); err != nil || m.Seq != uint64(c.first+i) || m.Topic != c.q.Topic {
				t.Errorf("%s: place %d holds %v, %v", c.name, i, m, err)
			}
		}
	}
	if _, err := e.k.Messages(e.Context(), &types.QueryMessagesRequest{Topic: strings.Repeat("x", proto.MaxTopic+1)}); !errors.Is(err, ErrNoTopic) {
		t.Errorf("name too long: %v", err)
	}
	if _, err := e.k.Cursor(e.Context(), "cluster/2"); !errors.Is(err, ErrNoTopic) {
		t.Errorf("cursor of an unknown topic: %v", err)
	}
	if ok, err := e.k.HasTopic(e.Context(), "cluster/2"); ok || err != nil {
		t.Errorf("has unknown topic: %v %v", ok, err)
	}
}
