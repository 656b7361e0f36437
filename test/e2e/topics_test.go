package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/inbox"
)

// TestHostileRelayerInEveryTopic: enclaves that lost their checkpoints, and read everything
// again from a relayer that tries each topic in turn.
func TestHostileRelayerInEveryTopic(t *testing.T) {
	n, opt := start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	if _, err := n.Client.Call(ctx, n.State().Contracts["hello"], "SetGreeting", "before", client.CallOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill("pherry"); err != nil {
		t.Fatal(err)
	}
	node := n.Client.Node()
	root, err := node.Header(ctx, n.State().RootHeight)
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]int{}
	for _, name := range []string{"gatekeeper", "worker-1"} {
		if err := n.End(name); err != nil {
			t.Fatal(err)
		}
		for file := range snapshotFiles(t, filepath.Join(opt.Dir, name)) {
			if err := os.Remove(filepath.Join(opt.Dir, name, file)); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.Run(name); err != nil {
			t.Fatal(err)
		}
		rt := n.Private(name)
		until(ctx, t, name+" has an API", func() error { _, err := rt.Status(ctx); return err })
		before, err := rt.TrustHeader(ctx, root)
		if err != nil || before.TrustedHeight != root.Height {
			t.Fatalf("%s starts at %d: %v", name, before.TrustedHeight, err)
		}
		// A seat, which the worker's own topic gives, is one more topic.
		for followed := 0; followed != len(before.Topics); {
			followed = len(before.Topics)
			reaches(ctx, t, node, before.TrustedHeight+2)
			for topic, attacks := range hostileAdvances(ctx, t, node, rt, before) {
				tried[strings.SplitN(topic, "/", 2)[0]] += attacks
			}
			honest, err := pherry.Build(ctx, node, before, height(ctx, t, node))
			if err != nil {
				t.Fatal(err)
			}
			if before, err = rt.Advance(ctx, honest); err != nil {
				t.Fatalf("%s, the honest advance: %v", name, err)
			}
		}
	}
	for topic, least := range map[string]int{"system": 2, "gatekeeper": 9, "cluster": 9, "worker": 18} {
		if tried[topic] < least {
			t.Errorf("%d attacks on %s, wanted %d at least", tried[topic], topic, least)
		}
	}
	if err := n.Run("pherry"); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "what was not lost", func() error {
		a, err := n.Client.Query(ctx, n.State().Contracts["hello"], "Count", nil, client.QueryOptions{})
		if err == nil && string(a.Return) != "1" {
			t.Fatalf("one command counts as %s", a.Return)
		}
		return err
	})
}

// hostileAdvances brings an enclave advances that are wrong in one topic, each topic in
// turn, and returns how many for each.
func hostileAdvances(ctx context.Context, t *testing.T, node *rpc.Client, rt *pherry.Runtime, before *pruntime.Status) map[string]int {
	t.Helper()
	honest, err := pherry.Build(ctx, node, before, height(ctx, t, node))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]int{}
	for at, p := range honest.Topics {
		var of []int // its messages
		for i, m := range honest.Messages {
			if m.Topic == p.Topic {
				of = append(of, i)
			}
		}
		last := func(a *inbox.Advance) *proto.Message { return a.Messages[of[len(of)-1]] }
		without := func(a *inbox.Advance) {
			a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == p.Topic })
		}
		for _, c := range []struct {
			name  string
			needs int // messages in the topic
			code  string
			bend  func(a *inbox.Advance)
		}{
			{"drops the last message", 1, "fold", func(a *inbox.Advance) { i := of[len(of)-1]; a.Messages = slices.Delete(a.Messages, i, i+1) }},
			{"drops all messages", 1, "fold", without},
			{"drops the first message", 2, "order", func(a *inbox.Advance) { a.Messages = slices.Delete(a.Messages, of[0], of[0]+1) }},
			{"reorders", 2, "order", func(a *inbox.Advance) {
				a.Messages[of[0]], a.Messages[of[1]] = a.Messages[of[1]], a.Messages[of[0]]
			}},
			{"repeats", 1, "order", func(a *inbox.Advance) { a.Messages = append(a.Messages, last(a)) }},
			{"edits a payload", 1, "fold", func(a *inbox.Advance) { m := last(a); m.Payload[len(m.Payload)-1] ^= 1 }},
			{"edits a sender", 1, "fold", func(a *inbox.Advance) { last(a).Sender = []byte("another") }},
			{"edits a time", 1, "fold", func(a *inbox.Advance) { last(a).Time++ }},
			{"invents", 0, "fold", func(a *inbox.Advance) {
				a.Messages = append(a.Messages, &proto.Message{Topic: p.Topic, Seq: p.Cursor.Seq + 1, Height: uint64(a.Blocks[0].Header.Height - 1), Sender: []byte("x"), Payload: proto.MarshalEvent(proto.MasterKeySet{Public: [32]byte{1}})})
			}},
			{"holds the topic back", 0, "topics", func(a *inbox.Advance) { without(a); a.Topics = slices.Delete(a.Topics, at, at+1) }},
			{"holds the topic back where it began", 1, "proof", func(a *inbox.Advance) {
				if before.Topics[p.Topic] == 0 {
					without(a)
					a.Topics[at].Cursor = proto.CreatedCursor(before.Chain, p.Topic)
				} else {
					a.Topics[at].Proof.IAVL[len(a.Topics[at].Proof.IAVL)-1] ^= 1
				}
			}},
		} {
			// Its own topic an enclave follows from when a relayer first brings it: until then
			// it is not admitted and says nothing.
			if _, followed := before.Topics[p.Topic]; len(of) < c.needs || (c.code == "topics" && !followed) {
				continue
			}
			a, err := inbox.ParseAdvance(honest.Marshal())
			if err != nil {
				t.Fatal(err)
			}
			c.bend(a)
			if _, err := rt.Advance(ctx, a); pherry.Code(err) != c.code {
				t.Errorf("a relayer %s in %s: got %v, want %s", c.name, p.Topic, err, c.code)
			}
			after, err := rt.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if position(after) != position(before) {
				t.Fatalf("a relayer %s in %s: the position changed:\n%s\n%s", c.name, p.Topic, position(before), position(after))
			}
			tried[p.Topic]++
		}
	}
	return tried
}
