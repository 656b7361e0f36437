package substrate_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/lightclient/grandpa/reads"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
	"github.com/phala-go/phala/pherry/substrate"
	"github.com/phala-go/phala/pherry/substrate/substratetest"
)

var quick = substrate.Options{MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond, DialTimeout: time.Minute, PingInterval: time.Minute}

func start(t testing.TB, o grandpatest.Options) (*substratetest.Server, *grandpa.State) {
	t.Helper()
	o.RandomState = true
	n := grandpatest.NewNetwork(o)
	state, err := grandpa.NewState(n.Checkpoint(), grandpatest.Params())
	if err != nil {
		t.Fatal(err)
	}
	s := substratetest.New(n)
	t.Cleanup(s.Close)
	return s, state
}

func open(t testing.TB, address string, o substrate.Options) *substrate.Client {
	t.Helper()
	c, err := substrate.New(address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A relayer follows a chain with set changes over both transports; what it fetches verifies.
func TestRelay(t *testing.T) {
	for _, transport := range []string{"http", "ws"} {
		t.Run(transport, func(t *testing.T) {
			s, state := start(t, grandpatest.Options{Seed: 31, Voters: 5, ChangeEvery: 6})
			s.Fragment = true
			address := map[string]string{"http": s.HTTP(), "ws": s.WS()}[transport]
			c, ctx := open(t, address, quick), deadline(t)
			if name, err := c.ChainName(ctx); name != "Synthetic" || err != nil {
				t.Fatalf("chain %q, %v", name, err)
			}
			if _, err := c.NextUpdate(ctx, state); !errors.Is(err, substrate.ErrNotFound) {
				t.Errorf("update before anything is final: %v", err)
			}
			checkpoint := state
			for range 12 {
				s.RunRound()
				u, err := c.NextUpdate(ctx, state)
				if err != nil {
					t.Fatal(err)
				}
				if state, err = state.Apply(u, s.Network.Now()); err != nil {
					t.Fatal(err)
				}
			}
			for state.Block != s.Network.Finalized.ID {
				u, err := c.NextUpdate(ctx, state)
				if err != nil {
					t.Fatal(err)
				}
				if state, err = state.Apply(u, s.Network.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if state.Set.ID() < 2 {
				t.Errorf("only %d set changes", state.Set.ID())
			}
			w, err := c.CatchUp(ctx, checkpoint, 100, s.Network.Now())
			if err != nil || !w.Finished {
				t.Fatalf("catch up: %v", err)
			}
			warped, err := checkpoint.ApplyWarp(w, s.Network.Now())
			if err != nil || warped.Block != state.Block || warped.Set.ID() != state.Set.ID() {
				t.Errorf("warp ends at %v: %v", warped, err)
			}
			if w, err := c.CatchUp(ctx, checkpoint, 1, s.Network.Now()); err != nil || len(w.Fragments) != 1 || w.Finished {
				t.Errorf("limited catch up: %v, %v", w, err)
			}
			if _, err := c.CatchUp(ctx, state, 5, s.Network.Now()); !errors.Is(err, substrate.ErrNotFound) {
				t.Errorf("nothing to catch up: %v", err)
			}
			// State of the final block.
			number, now := storage.Value("System", "Number"), storage.Value("Timestamp", "Now")
			nodes, err := c.ReadProof(ctx, state.Block.Hash, number, now)
			if err != nil {
				t.Fatal(err)
			}
			view, err := reads.NewView(state.StateRoot, nodes)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := view.Number(); err != nil || v != state.Block.Number {
				t.Errorf("number %d, %v", v, err)
			}
			if v, err := view.Now(); err != nil || !v.Equal(state.Time()) {
				t.Errorf("now %s, want %s, %v", v, state.Time(), err)
			}
			accounts := storage.Value("System", "Account")
			if nodes, err = c.PrefixProof(ctx, state.Block.Hash, accounts, 100); err != nil {
				t.Fatal(err)
			}
			proof, err := trie.NewProof(nodes)
			if err != nil {
				t.Fatal(err)
			}
			if all, err := proof.Prefix([32]byte(state.StateRoot), accounts, 100); err != nil || len(all) != 41 {
				t.Errorf("%d accounts, %v", len(all), err)
			}
			if _, err := c.PrefixProof(ctx, state.Block.Hash, accounts, 40); !errors.Is(err, substrate.ErrTooLarge) {
				t.Errorf("prefix limit: %v", err)
			}
			j, err := c.Justification(ctx, state.Block.Hash)
			if err != nil || j.Commit.Target != state.Block {
				t.Errorf("stored justification %v, %v", j, err)
			}
			if _, err := c.Justification(ctx, s.Network.Genesis.ID.Hash); !errors.Is(err, substrate.ErrNotFound) {
				t.Errorf("justification of genesis: %v", err)
			}
		})
	}
}

// Errors keep the node's code and message; null is ErrNotFound.
func TestErrors(t *testing.T) {
	for _, transport := range []string{"http", "ws"} {
		s, _ := start(t, grandpatest.Options{Seed: 32, Voters: 4})
		address := map[string]string{"http": s.HTTP(), "ws": s.WS()}[transport]
		c, ctx := open(t, address, quick), deadline(t)
		var any json.RawMessage
		err := c.Call(ctx, &any, "no_suchMethod")
		var rpc *substrate.RPCError
		if !errors.Is(err, substrate.ErrRPC) || !errors.As(err, &rpc) || rpc.Code != -32601 {
			t.Errorf("%s: unknown method: %v", transport, err)
		}
		if _, err := c.ReadProof(ctx, substrate.Hash{9}, []byte{1}); !errors.As(err, &rpc) || rpc.Code != 4003 || !strings.Contains(rpc.Message, "UnknownBlock") {
			t.Errorf("%s: unknown block: %v", transport, err)
		}
		if _, err := c.Header(ctx, substrate.Hash{9}); !errors.Is(err, substrate.ErrNotFound) {
			t.Errorf("%s: unknown header: %v", transport, err)
		}
		if _, err := c.BlockHash(ctx, 1<<30); !errors.Is(err, substrate.ErrNotFound) {
			t.Errorf("%s: unknown number: %v", transport, err)
		}
		var number int
		if err := c.Call(ctx, &number, "system_chain"); !errors.Is(err, substrate.ErrProtocol) {
			t.Errorf("%s: string for a number: %v", transport, err)
		}
		small := quick
		small.MaxMessage = 20
		if _, err := open(t, address, small).ChainName(ctx); !errors.Is(err, substrate.ErrTooLarge) {
			t.Errorf("%s: answer beyond the limit: %v", transport, err)
		}
	}
	for _, bad := range []string{"", "localhost:9944", "ftp://x/", "ws://", "http://[::1"} {
		if _, err := substrate.New(bad, quick); !errors.Is(err, substrate.ErrAddress) {
			t.Errorf("address %q: %v", bad, err)
		}
	}
}

// A node that lies is caught where the client can tell; the rest is for the light client.
func TestLyingNode(t *testing.T) {
	s, state := start(t, grandpatest.Options{Seed: 33, Voters: 4})
	s.RunRound()
	c, ctx := open(t, s.WS(), quick), deadline(t)
	lie := func(method string, result any) {
		s.Answers(func(m string, r any, err *substratetest.Error) (any, *substratetest.Error) {
			if m == method {
				return result, nil
			}
			return r, err
		})
	}
	good := s.Network.Finalized
	lie("chain_getHeader", map[string]any{"parentHash": good.ParentHash.String(), "number": "0x7", "stateRoot": good.StateRoot.String(),
		"extrinsicsRoot": good.ExtrinsicsRoot.String(), "digest": map[string]any{"logs": []string{}}})
	if _, err := c.Header(ctx, good.ID.Hash); !errors.Is(err, substrate.ErrProtocol) {
		t.Errorf("another header: %v", err)
	}
	for name, result := range map[string]any{
		"not hex":      "zz",
		"no 0x":        strings.Repeat("00", 32),
		"short":        "0x00",
		"not a string": 7,
	} {
		lie("chain_getFinalizedHead", result)
		if _, err := c.FinalizedHead(ctx); !errors.Is(err, substrate.ErrProtocol) {
			t.Errorf("finalized head %s: %v", name, err)
		}
	}
	lie("grandpa_proveFinality", "0x00")
	if _, err := c.NextUpdate(ctx, state); !errors.Is(err, substrate.ErrProtocol) {
		t.Errorf("finality proof cut short: %v", err)
	}
	lie("state_getReadProof", map[string]any{"at": substrate.Hash{}.String(), "proof": []string{}})
	if _, err := c.ReadProof(ctx, good.ID.Hash, []byte{1}); !errors.Is(err, substrate.ErrProtocol) {
		t.Errorf("proof of another block: %v", err)
	}
	lie("chain_getBlock", map[string]any{"justifications": []any{[]any{[]int{70, 82, 78, 75}, "0x00"}}})
	if _, err := c.Justification(ctx, good.ID.Hash); !errors.Is(err, substrate.ErrProtocol) {
		t.Errorf("justification cut short: %v", err)
	}
	lie("chain_getHeader", map[string]any{"number": "12"})
	if _, err := c.Header(ctx, good.ID.Hash); !errors.Is(err, substrate.ErrProtocol) {
		t.Errorf("number without 0x: %v", err)
	}
}

// Subscriptions and calls survive broken connections; the reader is told of the gap.
func TestReconnect(t *testing.T) {
	s, _ := start(t, grandpatest.Options{Seed: 34, Voters: 4})
	c, ctx := open(t, s.WS(), quick), deadline(t)
	ctx, cancel := context.WithCancel(ctx)
	sub, err := c.SubscribeJustifications(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for breaks := range 3 {
		for i := range 3 {
			u := s.RunRound()
			e, open := <-sub.Events
			if !open {
				t.Fatal(sub.Err())
			}
			j, err := substrate.DecodeJustificationEvent(e)
			if err != nil || j.Commit.Target != u.Justification.Commit.Target {
				t.Fatalf("event %v, %v", j, err)
			}
			if e.Gap != (breaks > 0 && i == 0) {
				t.Errorf("break %d, event %d: gap %v", breaks, i, e.Gap)
			}
		}
		before := s.Calls("grandpa_subscribeJustifications")
		s.Drop()
		if _, err := c.FinalizedHead(ctx); err != nil {
			t.Errorf("call over a broken connection: %v", err)
		}
		waitFor(t, func() bool { return s.Calls("grandpa_subscribeJustifications") == before+1 })
	}
	waitFor(t, func() bool { return s.Sessions() == 1 })
	cancel()
	for range sub.Events {
	}
	if err := sub.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("subscription ended with %v", err)
	}
	waitFor(t, func() bool { return s.Calls("grandpa_unsubscribeJustifications") == 1 })
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited too long")
		}
	}
}

func TestFollowFinalized(t *testing.T) {
	for _, transport := range []string{"http", "ws"} {
		s, _ := start(t, grandpatest.Options{Seed: 35, Voters: 4})
		s.RunRound()
		address := map[string]string{"http": s.HTTP(), "ws": s.WS()}[transport]
		c, ctx := open(t, address, quick), deadline(t)
		ctx, cancel := context.WithCancel(ctx)
		stop := errors.New("enough")
		seen := 0
		ended := make(chan bool)
		go func() {
			defer close(ended)
			// As many rounds as it takes: who polls slowly sees a few of them.
			for ; ctx.Err() == nil; time.Sleep(time.Millisecond) {
				if s.Calls("chain_subscribeFinalizedHeads")+s.Calls("chain_getFinalizedHead") > 0 {
					s.RunRound()
					time.Sleep(15 * time.Millisecond)
				}
			}
		}()
		var last uint32
		err := c.FollowFinalized(ctx, time.Millisecond, func(f substrate.FinalizedHeader) error {
			if f.Header.Number <= last {
				t.Errorf("%s: #%d after #%d", transport, f.Header.Number, last)
			}
			last = f.Header.Number
			if seen++; seen == 4 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) {
			t.Errorf("%s: %v", transport, err)
		}
		cancel()
		<-ended
	}
	s, _ := start(t, grandpatest.Options{Seed: 35, Voters: 4})
	if _, err := open(t, s.HTTP(), quick).SubscribeJustifications(deadline(t)); !errors.Is(err, substrate.ErrNoStream) {
		t.Errorf("subscription over HTTP: %v", err)
	}
}

// A reader that does not keep up loses events and is told so; calls on the same connection go on.
func TestSlowReader(t *testing.T) {
	s, _ := start(t, grandpatest.Options{Seed: 36, Voters: 1})
	c, ctx := open(t, s.WS(), quick), deadline(t)
	sub, err := c.SubscribeJustifications(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		s.RunRound()
	}
	if _, err := c.ChainName(ctx); err != nil {
		t.Fatal(err)
	}
	for range 256 {
		if e := <-sub.Events; e.Gap {
			t.Fatal("gap among the first events")
		}
	}
	s.RunRound()
	if e := <-sub.Events; !e.Gap {
		t.Error("lost events go unnoticed")
	}
}

func TestClose(t *testing.T) {
	s, _ := start(t, grandpatest.Options{Seed: 37, Voters: 4})
	c, ctx := open(t, s.WS(), quick), deadline(t)
	sub, err := c.SubscribeJustifications(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for range sub.Events {
	}
	if err := sub.Err(); !errors.Is(err, substrate.ErrClosed) {
		t.Errorf("subscription ended with %v", err)
	}
	if _, err := c.ChainName(ctx); !errors.Is(err, substrate.ErrClosed) {
		t.Errorf("call after close: %v", err)
	}
	if _, err := c.SubscribeJustifications(ctx); !errors.Is(err, substrate.ErrClosed) {
		t.Errorf("subscription after close: %v", err)
	}
	waitFor(t, func() bool { return s.Sessions() == 0 })
}

// Many calls share one connection.
func TestConcurrentCalls(t *testing.T) {
	s, _ := start(t, grandpatest.Options{Seed: 38, Voters: 4})
	for range 5 {
		s.RunRound()
	}
	c, ctx := open(t, s.WS(), quick), deadline(t)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			want := s.Network.Canonical(uint32(i % 5))
			if h, err := c.HeaderAt(ctx, want.Number); err != nil || h.Hash() != want.ID.Hash {
				t.Errorf("header %d: %v", want.Number, err)
			}
		}()
	}
	wg.Wait()
	if n := s.Sessions(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// rawServer accepts WebSocket handshakes and then sends frames as they are.
func rawServer(t *testing.T, handshake func(key string) string, frames ...[]byte) string {
	t.Helper()
	l := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, handshake(r.Header.Get("Sec-WebSocket-Key")))
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		rw.Reader.Peek(1) // the first request
		for _, f := range frames {
			conn.Write(f)
		}
		drain(conn, rw.Reader)
	}))
	t.Cleanup(l.Close)
	return "ws" + strings.TrimPrefix(l.URL, "http")
}

func drain(conn net.Conn, r *bufio.Reader) {
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	for {
		if _, err := r.ReadByte(); err != nil {
			return
		}
	}
}

func accept(key string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + substrate.AcceptKey(key) + "\r\n\r\n"
}

func TestHostileServer(t *testing.T) {
	// The example of RFC 6455, section 1.3.
	if got := substrate.AcceptKey("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("accept key %s", got)
	}
	once := quick
	once.Attempts = 1
	text := func(s string) []byte { return append([]byte{0x81, byte(len(s))}, s...) }
	for _, c := range []struct {
		name      string
		handshake func(string) string
		frames    [][]byte
		kind      error
	}{
		{"not found", func(string) string { return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n" }, nil, substrate.ErrConnect},
		{"wrong accept key", func(string) string { return accept("x") }, nil, substrate.ErrProtocol},
		{"extension not asked for", func(k string) string {
			return strings.Replace(accept(k), "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)
		}, nil, substrate.ErrProtocol},
		{"not JSON", accept, [][]byte{text("hello")}, substrate.ErrProtocol},
		{"masked frame", accept, [][]byte{{0x81, 0x81, 0, 0, 0, 0, '1'}}, substrate.ErrProtocol},
		{"reserved bit", accept, [][]byte{{0xc1, 0x01, '1'}}, substrate.ErrProtocol},
		{"unknown opcode", accept, [][]byte{{0x83, 0x00}}, substrate.ErrProtocol},
		{"binary frame", accept, [][]byte{{0x82, 0x01, '1'}}, substrate.ErrProtocol},
		{"continuation of nothing", accept, [][]byte{{0x80, 0x01, '1'}}, substrate.ErrProtocol},
		{"two beginnings", accept, [][]byte{{0x01, 0x01, '1'}, {0x01, 0x01, '1'}}, substrate.ErrProtocol},
		{"long ping", accept, [][]byte{append([]byte{0x89, 126, 0, 200}, make([]byte, 200)...)}, substrate.ErrProtocol},
		{"fragmented ping", accept, [][]byte{{0x09, 0x00}}, substrate.ErrProtocol},
		{"2^63 bytes announced", accept, [][]byte{{0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}}, substrate.ErrTooLarge},
		{"close", accept, [][]byte{{0x88, 0x02, 3, 0xe8}}, substrate.ErrConnect},
		{"error of another kind", accept, [][]byte{text(`{"id":1,"error":"x"}`)}, substrate.ErrProtocol},
		{"stray answers, then the right one", accept, [][]byte{text(`{"id":99,"result":"a"}`), text(`{"id":null,"result":"a"}`),
			text(`{"method":"m","params":{"subscription":"q","result":1}}`), text(`{"id":1,"result":"b"}`)}, nil},
	} {
		client := open(t, rawServer(t, c.handshake, c.frames...), once)
		name, err := client.ChainName(deadline(t))
		if c.kind == nil {
			if err != nil || name != "b" {
				t.Errorf("%s: %q, %v", c.name, name, err)
			}
		} else if !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.kind)
		}
	}
	// A node that goes silent is given up.
	silent := quick
	silent.Attempts, silent.PingInterval = 1, 20*time.Millisecond
	if _, err := open(t, rawServer(t, accept), silent).ChainName(deadline(t)); !errors.Is(err, substrate.ErrConnect) {
		t.Errorf("silent node: %v", err)
	}
	// A call ends with its context.
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := open(t, rawServer(t, accept), quick).ChainName(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("expired context: %v", err)
	}
	// Nobody there.
	if _, err := open(t, "ws://127.0.0.1:1", quick).ChainName(deadline(t)); !errors.Is(err, substrate.ErrConnect) {
		t.Errorf("nobody there: %v", err)
	}
	// HTTP: overload is worth another attempt, other refusals are not.
	for status, calls := range map[int]int{http.StatusServiceUnavailable: 4, http.StatusTooManyRequests: 4, http.StatusForbidden: 1} {
		count := 0
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { count++; w.WriteHeader(status) }))
		if _, err := open(t, busy.URL, quick).ChainName(deadline(t)); err == nil || count != calls {
			t.Errorf("status %d: %d calls, %v", status, count, err)
		}
		busy.Close()
	}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"id":77,"result":"x"}`) }))
	defer other.Close()
	if _, err := open(t, other.URL, quick).ChainName(deadline(t)); !errors.Is(err, substrate.ErrProtocol) {
		t.Errorf("answer to another request: %v", err)
	}
}
