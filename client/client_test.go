package client_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// deployed is a network with a contract.
func deployed(t *testing.T, workers int) (*stack.Stack, *client.Client, proto.ContractID) {
	t.Helper()
	s := stack.Ready(t, workers)
	c := client.Open(s.Network(), s.Key("user"))
	s.Go()
	d, err := c.Deploy(within(t, 2*time.Minute), s.Cluster, enginetest.Script(""), []byte("salt"), "argument", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d.Receipt.Status != "ok" || d.Cluster != s.Cluster || d.Receipt.Seats <= workers/2 {
		t.Errorf("deployment %+v, receipt %+v", d, d.Receipt)
	}
	return s, c, d.Contract
}

func call(t *testing.T, c *client.Client, id proto.ContractID, input string, o client.CallOptions) (*client.Receipt, error) {
	t.Helper()
	p, err := c.Push(within(t, 2*time.Minute), id, []byte(input), o)
	if err != nil {
		return nil, err
	}
	return c.Wait(within(t, 2*time.Minute), p)
}

// ask asks the first worker with a raw input.
func ask(t *testing.T, c *client.Client, id proto.ContractID, input string, o client.QueryOptions) (*proto.Answer, error) {
	t.Helper()
	targets, err := c.Targets(within(t, 2*time.Minute), id)
	if err != nil {
		return nil, err
	}
	return c.Ask(within(t, 2*time.Minute), targets[0], id, []byte(input), o)
}

func TestCallAndQuery(t *testing.T) {
	_, c, id := deployed(t, 2)
	r, err := call(t, c, id, "pkvalue", client.CallOptions{})
	if err != nil || r.Status != "ok" || r.Height == 0 || r.GasUsed == 0 || r.Seq == 0 || r.Tx == "" || r.Contract != id {
		t.Fatalf("%+v, %v", r, err)
	}
	a, err := ask(t, c, id, "gk", client.QueryOptions{MinHeight: r.Height})
	if err != nil || string(a.Return) != "value" {
		t.Errorf("%+v, %v", a, err)
	}
	pub := c.Account()
	for _, x := range []struct {
		o    client.QueryOptions
		want []byte
	}{{client.QueryOptions{}, pub}, {client.QueryOptions{Anonymous: true}, nil}} {
		if a, err := ask(t, c, id, "c", x.o); err != nil || !bytes.Equal(a.Return, x.want) {
			t.Errorf("the caller is %x, %v", a.Return, err)
		}
	}
	var ce *client.CallError
	if r, err := call(t, c, id, "f", client.CallOptions{}); !errors.As(err, &ce) || r.Status != "contract_error" || r.Error != "no! (code 7)" || ce.Receipt.Status != r.Status {
		t.Errorf("a refused command: %+v, %v", r, err)
	}
	if r, err := call(t, c, id, "l", client.CallOptions{GasLimit: 1 << 20}); !errors.As(err, &ce) || r.Status != "out_of_gas" || r.GasUsed != 1<<20 {
		t.Errorf("out of gas: %+v, %v", r, err)
	}
	var qe *client.QueryError
	if _, err := ask(t, c, id, "t", client.QueryOptions{}); !errors.As(err, &qe) || qe.Answer.Status != proto.StatusTrap {
		t.Errorf("a query that traps: %v", err)
	}
	if _, err := ask(t, c, id, "e", client.QueryOptions{MinHeight: 1 << 40}); !errors.As(err, &qe) || qe.Answer.Status != proto.StatusTooOld {
		t.Errorf("a state that does not exist yet: %v", err)
	}
	nonce := [16]byte{7}
	if _, err := call(t, c, id, "e", client.CallOptions{Nonce: nonce}); err != nil {
		t.Error(err)
	}
	if r, err := call(t, c, id, "e", client.CallOptions{Nonce: nonce}); !errors.As(err, &ce) || r.Status != "replayed" {
		t.Errorf("a nonce again: %+v, %v", r, err)
	}
	if _, err := call(t, c, id, "e", client.CallOptions{After: nonce}); err != nil {
		t.Errorf("after one that ran: %v", err)
	}
	if r, err := call(t, c, id, "e", client.CallOptions{After: [16]byte{9}}); !errors.As(err, &ce) || r.Status != "out_of_order" {
		t.Errorf("after one that did not: %+v, %v", r, err)
	}
	if r, err := call(t, c, id, "e", client.CallOptions{Expiry: 1 << 30}); !errors.As(err, &ce) || r.Status != "expired" {
		t.Errorf("an expiry too far: %+v, %v", r, err)
	}
	if _, err := call(t, c, id, "e", client.CallOptions{GasLimit: 1 << 60}); err == nil {
		t.Error("a gas limit above every tier is sent")
	}
	// The high-level query sends JSON, to which this contract answers nothing.
	if a, err := c.Query(within(t, 2*time.Minute), id, "Method", map[string]int{"a": 1}, client.QueryOptions{}); err != nil || a.Status != proto.StatusOK {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestRefused(t *testing.T) {
	s, c, id := deployed(t, 1)
	ctx := within(t, 2*time.Minute)
	if _, err := c.Push(ctx, proto.ContractID{1}, nil, client.CallOptions{}); !errors.Is(err, client.ErrNoContract) {
		t.Errorf("no contract: %v", err)
	}
	if _, err := c.Targets(ctx, proto.ContractID{1}); !errors.Is(err, client.ErrNoContract) {
		t.Errorf("no contract: %v", err)
	}
	nobody := client.Open(s.Network(), nil)
	if _, err := nobody.Push(ctx, id, nil, client.CallOptions{}); !errors.Is(err, client.ErrNoKey) {
		t.Errorf("a call without a key: %v", err)
	}
	if _, err := nobody.Upload(ctx, []byte("x"), nil); !errors.Is(err, client.ErrNoKey) {
		t.Errorf("an upload without a key: %v", err)
	}
	if a, err := ask(t, nobody, id, "c", client.QueryOptions{}); err != nil || len(a.Return) != 0 {
		t.Errorf("a query without a key: %v, %v", a, err)
	}
	unpaid := enginetest.Script("unpaid")
	if _, err := c.Deploy(ctx, 77, unpaid, nil, nil, nil); !errors.Is(err, client.ErrNoCluster) || !strings.Contains(err.Error(), "77") {
		t.Errorf("no cluster: %v", err)
	}
	if code, err := c.Code(ctx, proto.CodeHash(unpaid)); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("its code was uploaded: %+v, %v", code, err)
	}
	if _, err := c.Cluster(ctx, 77); !errors.Is(err, client.ErrNoCluster) {
		t.Errorf("no cluster: %v", err)
	}
	// More than an enclave opens would be paid for and come to nothing.
	large := make([]byte, proto.MaxInput+1)
	if _, err := c.Push(ctx, id, large, client.CallOptions{}); !errors.Is(err, client.ErrInput) {
		t.Errorf("a call with a large input: %v", err)
	}
	if _, err := ask(t, c, id, string(large), client.QueryOptions{}); !errors.Is(err, client.ErrInput) {
		t.Errorf("a query with a large input: %v", err)
	}
	if _, err := c.Deploy(ctx, s.Cluster, unpaid, nil, string(large), nil); !errors.Is(err, client.ErrInput) {
		t.Errorf("a deployment with a large argument: %v", err)
	}
	if code, err := c.Code(ctx, proto.CodeHash(unpaid)); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("its code was uploaded: %+v, %v", code, err)
	}
	if p, err := c.Push(ctx, id, large[1:], client.CallOptions{}); err != nil {
		t.Errorf("a call with the largest input: %v", err)
	} else if r, err := c.Wait(ctx, p); r == nil || r.Status == proto.StatusNotOpened.String() {
		t.Errorf("the largest input: %+v, %v", r, err)
	}
	empty, height := s.Chain.CreateCluster([]byte("owner"), 1), s.Chain.Height()
	for s.Chain.Height() < height+4 {
		time.Sleep(5 * time.Millisecond)
	}
	if _, err := c.Deploy(ctx, empty, enginetest.Script(""), nil, nil, nil); !errors.Is(err, client.ErrNotReady) {
		t.Errorf("a cluster without a key: %v", err)
	}
	var refused *tx.Refused
	if _, err := c.Deploy(ctx, s.Cluster, nil, nil, nil, nil); err == nil {
		t.Error("an empty module is uploaded")
	}
	// An account that nobody paid into.
	other := stack.New(t)
	stranger := client.Open(s.Network(), other.Key("stranger"))
	if _, err := stranger.Push(ctx, id, nil, client.CallOptions{}); !errors.Is(err, tx.ErrNoAccount) {
		t.Errorf("an unknown account: %v", err)
	}
	// What the chain refuses is typed.
	_, err := c.Sender().Send(ctx, 1, tx.PushCommand(c.Account(), 99, 1, 1, 0, make([]byte, 400)))
	if !errors.As(err, &refused) || refused.Space != "contracts" || refused.Code != 3 {
		t.Errorf("no such cluster: %v", err)
	}
}

// TestRefusedCode: a module that the workers refuse is an error that says so.
func TestRefusedCode(t *testing.T) {
	s, c, _ := deployed(t, 1)
	_, err := c.Deploy(within(t, 2*time.Minute), s.Cluster, []byte("not Wasm"), nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "refused the code") {
		t.Errorf("got %v", err)
	}
}

// TestLyingNode: a node that serves another chain, or another state, is found out.
func TestLyingNode(t *testing.T) {
	s, _, id := deployed(t, 1)
	ctx := within(t, 2*time.Minute)
	fresh := func() *client.Client { return client.Open(s.Network(), nil) }
	wrong := s.Network()
	wrong.Root[0] ^= 1
	if _, err := client.Open(wrong, nil).Sync(ctx); !errors.Is(err, client.ErrTrustRoot) {
		t.Errorf("another trust root: %v", err)
	}
	wrong = s.Network()
	wrong.Chain = "other-1"
	if _, err := client.Open(wrong, nil).Sync(ctx); !errors.Is(err, client.ErrTrustRoot) {
		t.Errorf("another chain: %v", err)
	}
	other := comettest.New(comettest.Config{Validators: comettest.NewSet("evil", 4), Start: time.Now().Add(-time.Hour)})
	other.Run(2000)
	for _, x := range []struct {
		name string
		f    func(method string, p map[string]any) (any, error)
		want error
	}{
		{"a header of other validators", func(m string, p map[string]any) (any, error) {
			if m == "commit" && p["height"] != "1" {
				return map[string]any{"signed_header": chaintest.Commit(other.Light(1999))}, nil
			}
			return nil, nil
		}, nil},
		{"an invented contract", func(m string, p map[string]any) (any, error) {
			if m == "abci_query" {
				return map[string]any{"response": map[string]any{"code": 0, "height": "1", "value": make([]byte, 40),
					"proofOps": map[string]any{"ops": []any{map[string]any{"data": []byte{1}}, map[string]any{"data": []byte{2}}}}}}, nil
			}
			return nil, nil
		}, comet.ErrProof},
		{"a value without a proof", func(m string, p map[string]any) (any, error) {
			if m == "abci_query" {
				return map[string]any{"response": map[string]any{"code": 0, "height": "1", "value": make([]byte, 40)}}, nil
			}
			return nil, nil
		}, rpc.ErrUnreachable},
		{"errors", func(string, map[string]any) (any, error) { return nil, errors.New("disk full") }, nil},
	} {
		s.Server.Intercept(x.f)
		_, err := fresh().Contract(ctx, id)
		if err == nil || (x.want != nil && !errors.Is(err, x.want)) {
			t.Errorf("%s: %v", x.name, err)
		}
		s.Server.Intercept(nil)
	}
	if _, err := fresh().Contract(ctx, id); err != nil {
		t.Error(err)
	}
	gone := s.Network()
	gone.Node = "http://127.0.0.1:1"
	if _, err := client.Open(gone, nil).Sync(ctx); !errors.Is(err, rpc.ErrUnreachable) {
		t.Errorf("no node: %v", err)
	}
}

// TestSilentNode: a node that does not say where it put a command is an error, not a wait
// without end.
func TestSilentNode(t *testing.T) {
	s, c, id := deployed(t, 1)
	for _, events := range [][]any{{}, {map[string]any{"type": "command", "attributes": []any{map[string]string{"key": "seq", "value": "soon"}}}}} {
		s.Server.Intercept(func(m string, _ map[string]any) (any, error) {
			if m == "tx" {
				return map[string]any{"height": "5", "tx_result": map[string]any{"code": 0, "gas_used": "1", "events": events}}, nil
			}
			return nil, nil
		})
		if p, err := c.Push(within(t, 2*time.Minute), id, []byte("e"), client.CallOptions{}); err == nil {
			t.Errorf("pushed as %d", p.Seq)
		}
	}
	s.Server.Intercept(nil)
}

// TestForgedOutputs: what a seat posts that is not in the final receipt is passed over.
func TestForgedOutputs(t *testing.T) {
	s, c, id := deployed(t, 1)
	p, err := c.Push(within(t, 2*time.Minute), id, []byte("etruth"), client.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// The worker knows the epoch key and could seal anything: here, an answer that its
	// receipt does not hold.
	forged := (&proto.Output{Seq: p.Seq, Height: 1, Return: []byte("a lie")}).Marshal()
	sealed, err := p.SealReply(forged)
	if err != nil {
		t.Fatal(err)
	}
	lie := (&proto.SealedOutput{Seq: p.Seq, Index: 0, Count: 1, Sealed: sealed}).Marshal()
	s.Server.Intercept(func(m string, q map[string]any) (any, error) {
		if m != "abci_query" || !strings.HasSuffix(q["path"].(string), "Query/Output") {
			return nil, nil
		}
		var b []byte
		for _, o := range append([][]byte{[]byte("nonsense"), lie, {}}, s.Chain.Outputs(s.Cluster, p.Seq)...) {
			b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), o)
		}
		return map[string]any{"response": map[string]any{"code": 0, "height": "1", "value": b}}, nil
	})
	r, err := c.Wait(within(t, 2*time.Minute), p)
	s.Server.Intercept(nil)
	if err != nil || string(r.Return) != "truth" || r.Seats != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestWorkers: of several workers, one that does not answer, or not this question, is
// passed over; where none is left the error says what each did.
func TestWorkers(t *testing.T) {
	s, c, id := deployed(t, 2)
	ctx := within(t, 2*time.Minute)
	targets, err := c.Targets(ctx, id)
	if err != nil || len(targets) != 2 {
		t.Fatal(targets, err)
	}
	good := targets[0]
	var replay []byte
	for _, x := range []struct {
		name string
		h    http.HandlerFunc
		want error
		says string
	}{
		{"fails", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", 500) }, nil, "HTTP 500"},
		{"says why", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": "not_serving", "message": "no challenge came back"}})
		}, nil, "no challenge came back (not_serving)"},
		{"answers nonsense", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", 1000)) }, client.ErrAnswer, ""},
		{"answers nothing", func(http.ResponseWriter, *http.Request) {}, client.ErrAnswer, ""},
		{"returns the question", func(w http.ResponseWriter, r *http.Request) {
			b := new(bytes.Buffer)
			b.ReadFrom(r.Body)
			w.Write(b.Bytes())
		}, client.ErrAnswer, ""},
		{"returns an old answer", func(w http.ResponseWriter, r *http.Request) {
			if replay == nil {
				res, err := http.Post(good.Endpoint+"/v1/query", "", r.Body)
				if err != nil {
					panic(err)
				}
				b := new(bytes.Buffer)
				b.ReadFrom(res.Body)
				replay = b.Bytes()
			}
			w.Write(replay)
		}, client.ErrAnswer, ""},
	} {
		srv := httptest.NewServer(x.h)
		bad := good
		bad.Endpoint = srv.URL
		if x.name == "returns an old answer" {
			if a, err := c.Ask(ctx, bad, id, []byte("eold"), client.QueryOptions{}); err != nil || string(a.Return) != "old" {
				t.Errorf("through a proxy: %v, %v", a, err)
			}
		}
		_, err := c.Ask(ctx, bad, id, []byte("enew"), client.QueryOptions{})
		if err == nil || (x.want != nil && !errors.Is(err, x.want)) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", x.name, err)
		}
		srv.Close()
	}
	// Sealed to one worker's session, another one's cannot answer.
	crossed := targets[0]
	crossed.Endpoint = targets[1].Endpoint
	if _, err := c.Ask(ctx, crossed, id, []byte("e"), client.QueryOptions{}); err == nil {
		t.Error("another worker answers")
	}
	s.List[1].Public.Close()
	if a, err := c.Query(ctx, id, "x", nil, client.QueryOptions{}); err != nil {
		t.Errorf("one of two is left: %v, %v", a, err)
	}
	s.List[2].Public.Close()
	if _, err := c.Query(ctx, id, "x", nil, client.QueryOptions{}); !errors.Is(err, client.ErrNoWorker) || strings.Count(err.Error(), "worker ") < 2 {
		t.Errorf("none is left: %v", err)
	}
}

// TestLyingWorker: a worker whose session key is real can answer what it likes, but not
// another question than was asked, and not from an older state.
func TestLyingWorker(t *testing.T) {
	session, err := commkey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	net := client.Network{Chain: "chain-1"}
	qctx := proto.QueryContext(net.Chain)
	var answer func(q *proto.Query) *proto.Answer
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		env, err := io.ReadAll(r.Body)
		if err != nil {
			panic(err)
		}
		plain, sender, err := envelope.Open(qctx, session, env)
		if err != nil {
			panic(err)
		}
		q, err := proto.ParseQuery(plain)
		if err != nil {
			panic(err)
		}
		sealed, err := envelope.SealReply(rand.Reader, qctx, session, sender, answer(q).Marshal())
		if err != nil {
			panic(err)
		}
		w.Write(sealed)
	}))
	defer srv.Close()
	c, target := client.Open(net, nil), client.Target{Worker: proto.WorkerID{1}, Session: session.Public(), Endpoint: srv.URL}
	for _, x := range []struct {
		name   string
		answer func(q *proto.Query) *proto.Answer
		want   error
	}{
		{"as asked", func(q *proto.Query) *proto.Answer {
			return &proto.Answer{Nonce: q.Nonce, Height: q.MinHeight, Return: []byte("yes")}
		}, nil},
		{"to another question", func(q *proto.Query) *proto.Answer {
			q.Nonce[0]++
			return &proto.Answer{Nonce: q.Nonce, Height: q.MinHeight, Return: []byte("yes")}
		}, client.ErrAnswer},
		{"from an older state", func(q *proto.Query) *proto.Answer {
			return &proto.Answer{Nonce: q.Nonce, Height: q.MinHeight - 1, Return: []byte("yes")}
		}, client.ErrAnswer},
		{"refused, to another question", func(q *proto.Query) *proto.Answer {
			return &proto.Answer{Status: proto.StatusContractError, Error: "no"}
		}, client.ErrAnswer},
	} {
		answer = x.answer
		a, err := c.Ask(within(t, 2*time.Minute), target, proto.ContractID{2}, []byte("question"), client.QueryOptions{MinHeight: 50})
		if !errors.Is(err, x.want) || (x.want == nil) != (a != nil && string(a.Return) == "yes") {
			t.Errorf("%s: %+v, %v", x.name, a, err)
		}
	}
}

// TestSyncOverChanges: the client walks over replaced validator sets, and asks for few
// blocks.
func TestSyncOverChanges(t *testing.T) {
	s := stack.New(t)
	c := client.Open(s.Network(), nil)
	ctx := within(t, 2*time.Minute)
	if _, err := c.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		s.Chain.Announce(comettest.NewSet(fmt.Sprint("set ", i), 5))
		s.Chain.Next(60)
	}
	asked := 0
	s.Server.Intercept(func(m string, _ map[string]any) (any, error) {
		if m == "commit" {
			asked++
		}
		return nil, nil
	})
	h, err := c.Sync(ctx)
	if err != nil || h.Height != s.Chain.Height() || asked > 120 {
		t.Errorf("at %v of %d after %d blocks, %v", h, s.Chain.Height(), asked, err)
	}
}

// TestManyBlocks: the tests' chain, whose blocks come faster than their times are apart,
// does not overtake the clock by which clients judge them.
func TestManyBlocks(t *testing.T) {
	s := stack.New(t)
	s.Chain.Next(800)
	if _, err := client.Open(s.Network(), nil).Sync(within(t, 2*time.Minute)); err != nil {
		t.Error(err)
	}
}

// TestSender: many transactions at once and from two processes arrive in order.
func TestSender(t *testing.T) {
	s := stack.New(t)
	a := s.Sender("account")
	b := &tx.Sender{Node: rpc.New(s.Node.URL), Chain: a.Chain, Key: a.Key}
	ctx := within(t, 2*time.Minute)
	pub := a.Key.Public()
	module := bytes.Repeat([]byte("module "), 1000)
	msg := tx.UploadCode(pub[:], proto.NewCodeManifest(module).Marshal(), 0, proto.PackChunk(module))
	for i := range 6 {
		sender := a
		if i%3 == 2 {
			sender = b
		}
		s.Chain.Next(1)
		if _, err := sender.Send(ctx, 1000, msg); err != nil {
			t.Fatalf("transaction %d: %v", i, err)
		}
	}
	done := make(chan error)
	for range 8 {
		go func() { _, err := a.Broadcast(ctx, 1000, false, msg); done <- err }()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if _, err := b.Node.Tx(ctx, strings.Repeat("00", 32)); !errors.Is(err, rpc.ErrNotFound) {
		t.Errorf("an unknown transaction: %v", err)
	}
	if _, err := b.Node.Tx(ctx, "xyz"); err == nil {
		t.Error("a hash that is none")
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	s.Server.Eager = false
	if _, err := a.Send(short, 1000, msg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a block that does not come: %v", err)
	}
}

// TestUnopened: a command that the workers cannot open has no answer, and its caller does
// not wait for one.
func TestUnopened(t *testing.T) {
	s, c, id := deployed(t, 2)
	p, err := c.Push(within(t, 2*time.Minute), id, []byte("pkvalue"), client.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wait(within(t, 2*time.Minute), p); err != nil {
		t.Fatal(err)
	}
	// Somebody else pays for the same bytes.
	mallory := s.Key("mallory")
	who := mallory.Public()
	send := &tx.Sender{Node: c.Node(), Chain: s.Network().Chain, Key: mallory}
	res, err := send.Send(within(t, 2*time.Minute), 10_000_000, tx.PushCommand(who[:], uint32(s.Cluster), 1, p.GasTier, 0, p.Envelope))
	if err != nil {
		t.Fatal(err)
	}
	seq, _ := res.Find("command", "seq")
	copied := *p
	if _, err := fmt.Sscan(seq, &copied.Seq); err != nil || copied.Seq <= p.Seq {
		t.Fatalf("the copy is message %q after %d: %v", seq, p.Seq, err)
	}
	// A node that named the copy as the command would have its caller send it again.
	if r, err := c.Wait(within(t, 2*time.Minute), &copied); !errors.Is(err, client.ErrOtherMessage) {
		t.Errorf("another's command taken for one's own: %+v, %v", r, err)
	}
	r, err := client.Open(s.Network(), mallory).Wait(within(t, 2*time.Minute), &copied)
	var refused *client.CallError
	if !errors.As(err, &refused) || r.Status != proto.StatusNotOpened.String() || r.Seats != 2 || r.GasUsed == 0 || !strings.Contains(r.Error, "could not open") {
		t.Errorf("%+v, %v", r, err)
	}
	// Nor does an older one of the same payer pass for a new one.
	mine, err := client.Open(s.Network(), mallory).Push(within(t, 2*time.Minute), id, []byte("pkvalue"), client.CallOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mine.Seq = copied.Seq
	if r, err := client.Open(s.Network(), mallory).Wait(within(t, 2*time.Minute), mine); !errors.Is(err, client.ErrOtherMessage) {
		t.Errorf("an older command taken for this one: %+v, %v", r, err)
	}
}

// TestDeploymentInDoubt: who does not hear how a deployment ended knows which contract it
// would be, and who does is told of none.
func TestDeploymentInDoubt(t *testing.T) {
	s := stack.Ready(t, 1)
	c := client.Open(s.Network(), s.Key("user"))
	stop := s.Go()
	module := enginetest.Script("")
	if _, err := c.Deploy(within(t, 2*time.Minute), s.Cluster, module, []byte("first"), "argument", nil); err != nil {
		t.Fatal(err)
	}
	stop()
	want := proto.NewContractID(s.Network().Chain, s.Cluster, c.Account(), proto.CodeHash(module), []byte("second"))
	for _, x := range []struct {
		name, method string
		answer       any
	}{
		{"interrupted while it is sent", "broadcast_tx_sync", nil},
		{"interrupted while it waits for its block", "tx", nil},
		{"refused", "broadcast_tx_sync", map[string]any{"code": 5, "codespace": "sdk", "log": "insufficient funds", "hash": "00"}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		s.Server.Intercept(func(method string, _ map[string]any) (any, error) {
			if method != x.method {
				return nil, nil
			}
			if x.answer == nil {
				cancel()
			}
			return x.answer, nil
		})
		d, err := c.Deploy(ctx, s.Cluster, module, []byte("second"), "argument", nil)
		switch {
		case x.answer != nil && (d != nil || !errors.As(err, new(*tx.Refused))):
			t.Errorf("%s: %+v, %v", x.name, d, err)
		case x.answer == nil && (d == nil || d.Contract != want || !errors.Is(err, tx.ErrUnsure)):
			t.Errorf("%s: %+v, %v", x.name, d, err)
		}
		cancel()
	}
}

// TestEpochEnds: a command that is sealed while the epoch ends is sealed again, and the
// caller does not see it.
func TestEpochEnds(t *testing.T) {
	s, c, id := deployed(t, 1)
	before, err := c.Cluster(within(t, 2*time.Minute), s.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	s.Chain.EndEpoch(s.Cluster)
	for i := range 30 {
		if r, err := call(t, c, id, "n", client.CallOptions{}); err != nil || r.Status != "ok" {
			t.Fatalf("command %d: %+v, %v", i, r, err)
		}
	}
	after, err := c.Cluster(within(t, 2*time.Minute), s.Cluster)
	if err != nil || after.Epoch != before.Epoch+1 || after.EpochKey == before.EpochKey {
		t.Errorf("epoch %d after %d, %v", after.Epoch, before.Epoch, err)
	}
	a, err := ask(t, c, id, "gn", client.QueryOptions{})
	if err != nil || len(a.Return) == 0 || a.Return[0] != 30 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestEndedAdmission: a client asks no worker whose admission ended, whatever the worker
// would answer. Its relayer brings new evidence, by itself, and the client asks again.
func TestEndedAdmission(t *testing.T) {
	s := stack.Ready(t, 1)
	c := client.Open(s.Network(), s.Key("user"))
	stop := s.Go()
	d, err := c.Deploy(within(t, 2*time.Minute), s.Cluster, enginetest.Script(""), []byte("salt"), "argument", nil)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	before, err := c.Targets(within(t, 2*time.Minute), d.Contract)
	if err != nil || len(before) != 1 {
		t.Fatalf("%d targets, %v", len(before), err)
	}
	s.Chain.EndAdmission(before[0].Worker)
	s.Chain.Next(3)
	if _, err := c.Targets(within(t, 2*time.Minute), d.Contract); !errors.Is(err, client.ErrNoWorker) || !strings.Contains(err.Error(), "none with a valid attestation") {
		t.Fatalf("it would ask: %v", err)
	}
	worker := s.List[1]
	s.Until("it is admitted anew and has its keys", func() bool { st := worker.RT.Status(); return st.Epoch == 2 && st.Serving })
	s.Step()
	after, err := c.Targets(within(t, 2*time.Minute), d.Contract)
	if err != nil || len(after) != 1 || after[0].Session == before[0].Session {
		t.Fatalf("targets %v, %v: not a new session", after, err)
	}
	if _, err := ask(t, c, d.Contract, "gi", client.QueryOptions{}); err != nil {
		t.Fatal(err)
	}
}
