package pherry_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// answers fails the test unless a command goes through the whole stack.
func answers(t *testing.T, s *stack.Stack, c *client.Client, id proto.ContractID) {
	t.Helper()
	stop := s.Go()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p, err := c.Push(ctx, id, []byte("ehello"), client.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Wait(ctx, p)
	if err != nil || string(r.Return) != "hello" {
		t.Fatalf("receipt %+v, %v", r, err)
	}
}

func deploy(t *testing.T, s *stack.Stack) (*client.Client, proto.ContractID) {
	t.Helper()
	c := client.Open(s.Network(), s.Key("user"))
	stop := s.Go()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	d, err := c.Deploy(ctx, s.Cluster, enginetest.Script(""), []byte("salt"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, d.Contract
}

// TestRelays: two workers and a gatekeeper, from nothing to a command's receipt, through
// the real API.
func TestRelays(t *testing.T) {
	s := stack.Ready(t, 2)
	c, id := deploy(t, s)
	answers(t, s, c, id)
	for _, x := range s.Chain.Taken() {
		if x.Err != nil {
			t.Errorf("the chain refused %T: %v", x.Entry, x.Err)
		}
	}
}

// TestTwoRelayersRace: two relayers serve each enclave, of one operator or of two, at the
// same time; everything arrives, and nothing is carried out twice.
func TestTwoRelayersRace(t *testing.T) {
	for _, same := range []bool{true, false} {
		s := stack.Ready(t, 1)
		var second []*pherry.Relayer
		for _, e := range s.List {
			op := e.Relayer.Operator
			if !same {
				op = s.Sender("second operator of " + e.Name)
			}
			second = append(second, s.NewRelayer(e, op))
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, r := range second {
			wg.Go(func() { r.Run(ctx) })
		}
		c, id := deploy(t, s)
		for range 5 {
			answers(t, s, c, id)
		}
		cancel()
		wg.Wait()
		receipts := map[uint64]int{}
		for _, x := range s.Chain.Taken() {
			if r, ok := x.Entry.(proto.Receipt); ok && x.Err == nil {
				receipts[r.FromSeq]++
			}
		}
		for from, n := range receipts {
			if n != 1 {
				t.Errorf("%d receipts from %d", n, from)
			}
		}
	}
}

// TestOtherChain: a node of another chain moves nothing.
func TestOtherChain(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	s.Server.Intercept(func(method string, _ map[string]any) (any, error) {
		if method == "status" {
			return map[string]any{"node_info": map[string]any{"network": "other-1"}, "sync_info": map[string]any{"latest_block_height": "1000"}}, nil
		}
		return nil, nil
	})
	before := w.RT.Status()
	s.Step()
	if w.Err == nil || !strings.Contains(w.Err.Error(), "other-1") || w.RT.Status().Height != before.Height {
		t.Errorf("got %v", w.Err)
	}
	s.Server.Intercept(nil)
	s.Step()
	if w.Err != nil || w.RT.Status().Height == before.Height {
		t.Errorf("after that: %v", w.Err)
	}
}

// TestBisection: a relayer that was away while the validators were replaced, more than
// once, finds the blocks in between that it needs, and does not need all.
func TestBisection(t *testing.T) {
	s := stack.Ready(t, 1)
	c, id := deploy(t, s)
	w := s.List[1]
	for restart := range 2 {
		for _, e := range s.List {
			e.Off = true
		}
		for i := range 4 {
			s.Chain.Announce(comettest.NewSet(fmt.Sprint("set ", restart, i), 4))
			s.Chain.Next(40)
		}
		if restart == 1 {
			w.Restart() // and it does not know the validators any more
		}
		asked := map[string]bool{}
		s.Server.Intercept(func(method string, p map[string]any) (any, error) {
			if method == "commit" {
				asked[p["height"].(string)] = true
			}
			return nil, nil
		})
		for _, e := range s.List {
			e.Off = false
		}
		s.Step()
		s.Server.Intercept(nil)
		for _, e := range s.List {
			if e.Err != nil || e.RT.Status().TrustedHeight < s.Chain.Height()-1 {
				t.Fatalf("%s: %v, at %d of %d", e.Name, e.Err, e.RT.Status().TrustedHeight, s.Chain.Height())
			}
		}
		if len(asked) > 80 {
			t.Errorf("%d of 160 blocks were needed", len(asked))
		}
		answers(t, s, c, id)
	}
}

// TestManyMessages: more messages than one advance takes are brought in several.
func TestManyMessages(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	w.Off = true
	topic := proto.TopicWorker(w.RT.Self())
	for range 10 {
		for range 1500 {
			s.Chain.Send(topic, proto.ChallengeEchoed{})
		}
		s.Chain.Next(1)
	}
	w.Off = false
	s.Until("it caught up", func() bool { return w.RT.Status().Topics[topic] >= 15_000 && w.RT.Status().Serving })
}

// TestLargeMessages: the same for messages that are too long together.
func TestLargeMessages(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	w.Off = true
	for range 10 {
		for range 4 {
			if _, err := s.Chain.Push(s.Cluster, proto.PushedCommand{Epoch: 1, Envelope: make([]byte, proto.MaxEnvelope)}); err != nil {
				t.Fatal(err)
			}
		}
		s.Chain.Next(1)
	}
	w.Off = false
	s.Until("it caught up", func() bool { return s.Chain.Cluster(s.Cluster).FinalSeq >= 40 && w.RT.Status().Serving })
}

// TestRestartIsPrompt: what a restarted enclave has to say is brought in a few blocks.
func TestRestartIsPrompt(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	for range 30 {
		s.Step()
	}
	w.Restart()
	for i := range 12 {
		s.Step()
		if w.RT.Status().Serving {
			t.Logf("it serves after %d blocks", i+1)
			return
		}
	}
	t.Errorf("after 12 blocks it does not serve: %s, outbox %+v, relayer %v", w.RT.Status().Why, w.RT.Status().Outbox, w.Err)
}

// TestLongOutbox: a queue that is longer than what a block takes for free is brought.
func TestLongOutbox(t *testing.T) {
	s := stack.Ready(t, 1)
	c, id := deploy(t, s)
	w := s.List[1]
	w.Off = true
	for range 60 {
		if _, err := s.Chain.Push(s.Cluster, proto.PushedCommand{Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		s.Chain.Next(1)
	}
	w.Off = false
	s.Until("all receipts are there", func() bool { return w.RT.Status().Outbox.Count == 0 && s.Chain.Cluster(s.Cluster).FinalSeq > 60 })
	answers(t, s, c, id)
}

// TestRenewal: an admission is renewed before it ends.
func TestRenewal(t *testing.T) {
	s := stack.New(t)
	s.Chain.Expires = 60
	w := s.Add("worker", proto.RoleWorker)
	s.Until("it is registered", func() bool { _, ok := s.Chain.Worker(w.RT.Self()); return ok })
	first, _ := s.Chain.Worker(w.RT.Self())
	for range 200 {
		s.Step()
		info, _ := s.Chain.Worker(w.RT.Self())
		if uint64(s.Chain.Height()) >= info.Expires {
			t.Fatalf("at height %d the admission ended", info.Expires)
		}
	}
	last, _ := s.Chain.Worker(w.RT.Self())
	if renewals := (last.Registered - first.Registered) / 50; renewals < 3 || renewals > 6 {
		t.Errorf("%d renewals in 200 blocks", renewals)
	}
}

// TestRenewalBeforeEvidenceEnds: collateral that expires long before the admission's last
// height. Each renewal brings new evidence and a new session, and nobody notices.
func TestRenewalBeforeEvidenceEnds(t *testing.T) {
	s := stack.New(t)
	s.Chain.Valid = 6 * time.Second // 60 blocks
	w := s.Add("worker", proto.RoleWorker)
	s.Until("it is registered", func() bool { _, ok := s.Chain.Worker(w.RT.Self()); return ok })
	epoch, session := w.RT.Status().Epoch, w.RT.Status().Session
	for range 200 {
		s.Step()
		if w.Err != nil {
			t.Fatal(w.Err)
		}
	}
	st := w.RT.Status()
	if n := st.Epoch - epoch; n < 3 || n > 6 || st.Session == session || !st.Admitted {
		t.Fatalf("%d renewals, session changed: %v, admitted: %v", n, st.Session != session, st.Admitted)
	}
}

// TestRefusedRegistration: what the chain refuses is not sent again with every block, and
// what refused it is said all the time.
func TestRefusedRegistration(t *testing.T) {
	s := stack.New(t)
	s.Chain.Deny = &chaintest.Refusal{Space: "registry", Code: 9, Log: "measurement is not allowed"}
	w := s.Add("worker", proto.RoleWorker)
	asked := 0
	s.Server.Intercept(func(method string, _ map[string]any) (any, error) {
		if method == "broadcast_tx_sync" {
			asked++
		}
		return nil, nil
	})
	for range 100 {
		s.Step()
		if s.Chain.Height() > 5 && (w.Err == nil || !strings.Contains(w.Err.Error(), "not allowed")) {
			t.Fatalf("it says %v", w.Err)
		}
	}
	if asked < 2 || asked > 5 {
		t.Fatalf("sent %d times in 100 blocks", asked)
	}
	s.Chain.Deny = nil
	s.Until("it is registered", func() bool { _, ok := s.Chain.Worker(w.RT.Self()); return ok })
}

// TestBadNode: a node that fails, answers nonsense or lies is an error that says so; the
// enclave keeps its state, and goes on with the next good answer.
func TestBadNode(t *testing.T) {
	s := stack.Ready(t, 1)
	c, id := deploy(t, s)
	w := s.List[1]
	bad := errors.New("disk full")
	abci := func(edit func(r map[string]any)) func(string, map[string]any) (any, error) {
		return func(method string, p map[string]any) (any, error) {
			if method != "abci_query" || !strings.Contains(p["path"].(string), "mq") {
				return nil, nil
			}
			r := map[string]any{"code": 0, "height": "1", "value": []byte{}}
			edit(r)
			return map[string]any{"response": r}, nil
		}
	}
	for _, x := range []struct {
		name string
		f    func(method string, p map[string]any) (any, error)
	}{
		{"errors", func(string, map[string]any) (any, error) { return nil, bad }},
		{"no block", func(m string, _ map[string]any) (any, error) {
			if m == "commit" {
				return nil, bad
			}
			return nil, nil
		}},
		{"another type", func(m string, _ map[string]any) (any, error) {
			if m == "commit" {
				return []int{1}, nil
			}
			return nil, nil
		}},
		{"half a commit", func(m string, _ map[string]any) (any, error) {
			if m == "commit" {
				return map[string]any{"signed_header": map[string]any{}}, nil
			}
			return nil, nil
		}},
		{"no topic", abci(func(map[string]any) {})},
		{"a value without a proof", abci(func(r map[string]any) { r["value"] = make([]byte, 40) })},
		{"an invented value", abci(func(r map[string]any) {
			r["value"] = make([]byte, 40)
			r["proofOps"] = map[string]any{"ops": []any{map[string]any{"data": []byte{1}}, map[string]any{"data": []byte{2}}}}
		})},
		{"refuses queries", abci(func(r map[string]any) { r["code"], r["log"] = 5, "no" })},
	} {
		before := w.RT.Status().Height
		s.Server.Intercept(x.f)
		s.Step()
		if w.Err == nil || w.RT.Status().Height != before {
			t.Errorf("%s: %v, height %d after %d", x.name, w.Err, w.RT.Status().Height, before)
		}
		s.Server.Intercept(nil)
		s.Step()
		if w.Err != nil || w.RT.Status().Height <= before {
			t.Errorf("after %s: %v", x.name, w.Err)
		}
	}
	// Bodies that are not those of the chain.
	if _, err := s.Chain.Push(s.Cluster, proto.PushedCommand{Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	s.Chain.Next(1)
	for name, bodies := range map[string][]byte{"no bodies": nil, "nonsense": {0x0a, 2, 1, 2},
		"another message": append([]byte{0x0a, 49}, (&proto.Message{Topic: "cluster/1", Seq: 1}).Marshal()...)} {
		before := w.RT.Status().Height
		s.Server.Intercept(func(method string, p map[string]any) (any, error) {
			if method == "abci_query" && strings.HasSuffix(p["path"].(string), "Messages") {
				return map[string]any{"response": map[string]any{"code": 0, "height": "1", "value": bodies}}, nil
			}
			return nil, nil
		})
		s.Step()
		if w.Err == nil || w.RT.Status().Height != before {
			t.Errorf("%s: %v", name, w.Err)
		}
	}
	s.Server.Intercept(nil)
	answers(t, s, c, id)
	// A node, and a pruntime, that are not there.
	w.Relayer.Runtime = pherry.NewRuntime("http://127.0.0.1:1")
	if err := w.Relayer.Round(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("no pruntime: %v", err)
	}
	page := http.NewServeMux()
	s.Node.Config.Handler = page // answers 404 to everything
	w.Relayer = s.NewRelayer(w, w.Relayer.Operator)
	if err := w.Relayer.Round(t.Context()); err == nil {
		t.Error("a web server is taken for a node")
	}
}

// TestStoppedRuntime: an enclave that stopped for good is reported.
func TestStoppedRuntime(t *testing.T) {
	s := stack.Ready(t, 1)
	w := s.List[1]
	s.Chain.SendRaw(proto.TopicSystem, []byte{99})
	s.Step()
	s.Step()
	s.Step()
	if w.Err == nil || !strings.Contains(w.Err.Error(), "stopped for good") {
		t.Errorf("got %v", w.Err)
	}
}

// A bareTEE gives no sealing keys.
type bareTEE struct{ stack.TEE }

func (b bareTEE) Producer(machine string) producer.Producer { return bare{b.TEE.Producer(machine)} }

type bare struct{ producer.Producer }

func (bare) SealingKey(context.Context, []byte) ([32]byte, error) {
	return [32]byte{}, producer.ErrNoSealing
}

// TestNewWorkerAtEachStart: where a TEE has no sealing keys, a restarted pruntime is another
// worker. Its relayer registers it, and does not take what it knew of the one before.
func TestNewWorkerAtEachStart(t *testing.T) {
	s := stack.New(t)
	s.TEE = bareTEE{s.TEE}
	w := s.Add("worker", proto.RoleWorker)
	seen := map[proto.WorkerID]bool{}
	for range 3 {
		s.Until("it is admitted", func() bool { return w.RT.Status().Admitted })
		s.Until("the chain has heard of it", func() bool { st := w.RT.Status(); return st.SessionLive && st.Outbox.Base > 1 })
		if seen[w.RT.Self()] {
			t.Fatal("it is the worker that it was")
		}
		seen[w.RT.Self()] = true
		w.Restart()
	}
}
