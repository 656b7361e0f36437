package inbox_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

const (
	period = time.Hour
	drift  = 10 * time.Second
	system = proto.TopicSystem
	gate   = proto.TopicGatekeeper
)

var (
	cluster1 = proto.TopicCluster(1)
	cluster2 = proto.TopicCluster(2)
	worker1  = proto.TopicWorker(proto.WorkerID{1})
	all      = []string{system, gate, cluster1, cluster2, worker1}
)

func newClient(h comet.Header) *comet.Client {
	return comet.NewClient(comet.Params{ChainID: h.ChainID, TrustingPeriod: period, MaxClockDrift: drift}, h, rand.NewChaCha8([32]byte{3}))
}

// stateAt starts at a header of the chain and follows topics.
func stateAt(t testing.TB, c *comettest.Chain, height int64, topics ...string) *inbox.State {
	t.Helper()
	s := inbox.New(c.ChainID(), newClient(c.Header(height)))
	for _, n := range topics {
		if err := s.Follow(n); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// honest is the advance to height that a relayer should bring: all headers, all
// topics, all messages.
func honest(c *comettest.Chain, s *inbox.State, height int64) *inbox.Advance {
	a := &inbox.Advance{Blocks: c.LightRange(s.Client().Trusted().Height+1, height+1)}
	for _, name := range s.Topics() {
		cur, proof := c.Cursor(height, name)
		a.Topics = append(a.Topics, inbox.Proven{Topic: name, Cursor: cur, Proof: proof})
		at, _ := s.Cursor(name)
		a.Messages = append(a.Messages, c.Messages(name, at.Seq, height)...)
	}
	return a
}

func apply(t testing.TB, s *inbox.State, a *inbox.Advance, now time.Time) *inbox.Batch {
	t.Helper()
	b, err := s.Apply(a, now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// note is a small event that differs for every number.
func note(n uint64) proto.Event {
	return proto.ChallengeEchoed{Nonce: [32]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}}
}

// busy is a chain with all topics, two messages to each in every block from 2 on, and a
// change of half of its validators at every tenth block.
func busy(to int64) *comettest.Chain {
	set := comettest.NewSet("busy", 4)
	c := comettest.New(comettest.Config{Validators: set})
	for _, n := range all {
		c.CreateTopic(n)
	}
	c.Next()
	n := uint64(0)
	for c.Height() < to {
		for range 2 {
			for i := range all { // not in the order of ranks
				c.Send(all[len(all)-1-i], "sender", note(n))
				n++
			}
		}
		if c.Height()%10 == 9 {
			set = comettest.SetOf(append(set.Signers()[:2:2], comettest.NewSigner("b", int(n), 10), comettest.NewSigner("c", int(n), 10)))
			c.Announce(set)
		}
		c.Next()
	}
	return c
}
