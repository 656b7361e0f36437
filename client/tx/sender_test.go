package tx

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/crypto/identity"
)

// A fakeNode takes transactions by their sequence, loses them when it is told to, and puts
// what it has into a block when it is asked for one that is not in one.
type fakeNode struct {
	mu      sync.Mutex
	next    uint64            // sequence of the account in the newest block
	pool    []string          // hashes, in order
	blocks  map[string]bool   // hashes of what is in a block
	took    map[string]uint64 // sequences, by hash
	offered []string          // every hash that was offered, in order
	lose    int               // offers whose transaction is taken and lost
	refuse  map[string]bool   // sequences that are refused when they are offered again
	closed  bool              // makes no blocks
	checks  time.Time         // until when it checks its pool again, and counts without it
	dies    string            // method whose call it carries out and does not answer
}

func (n *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var req struct {
		Method string
		Params map[string]any
	}
	json.NewDecoder(r.Body).Decode(&req)
	result, err := n.answer(req.Method, req.Params)
	if req.Method == n.dies {
		panic(http.ErrAbortHandler)
	}
	out := map[string]any{"jsonrpc": "2.0", "id": 1, "result": result}
	if err != nil {
		out = map[string]any{"jsonrpc": "2.0", "id": 1, "error": map[string]any{"code": -32603, "message": "Internal error", "data": err.Error()}}
	}
	json.NewEncoder(w).Encode(out)
}

func (n *fakeNode) answer(method string, p map[string]any) (any, error) {
	switch method {
	case "abci_query":
		account := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte("address"))
		account = protowire.AppendVarint(protowire.AppendTag(account, 3, protowire.VarintType), 1)
		account = protowire.AppendVarint(protowire.AppendTag(account, 4, protowire.VarintType), n.next)
		wrapped := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "/cosmos.auth.v1beta1.BaseAccount")
		wrapped = protowire.AppendBytes(protowire.AppendTag(wrapped, 2, protowire.BytesType), account)
		return map[string]any{"response": map[string]any{"code": 0, "value": wrapped, "height": "1"}}, nil
	case "broadcast_tx_sync":
		raw, err := base64.StdEncoding.DecodeString(p["tx"].(string))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(raw)
		hash := fmt.Sprintf("%X", sum)
		if n.blocks[hash] || slices.Contains(n.pool, hash) {
			return nil, errors.New("tx already exists in cache")
		}
		again := slices.Contains(n.offered, hash)
		n.offered = append(n.offered, hash)
		sequence, want := sequenceOf(raw), n.next+uint64(len(n.pool))
		n.took[hash] = sequence
		if time.Now().Before(n.checks) {
			want = n.next
		}
		switch {
		case sequence != want:
			return map[string]any{"code": 32, "codespace": "sdk", "log": fmt.Sprintf("account sequence mismatch, expected %d, got %d: incorrect account sequence", want, sequence), "hash": hash}, nil
		case again && n.refuse[fmt.Sprint(sequence)]:
			return map[string]any{"code": 5, "codespace": "sdk", "log": "insufficient funds", "hash": hash}, nil
		case n.lose > 0:
			n.lose--
		default:
			n.pool = append(n.pool, hash)
		}
		return map[string]any{"code": 0, "hash": hash}, nil
	case "tx":
		raw, err := base64.StdEncoding.DecodeString(p["hash"].(string))
		if err != nil {
			return nil, err
		}
		hash := fmt.Sprintf("%X", raw)
		if !n.blocks[hash] {
			if !n.closed {
				for _, h := range n.pool {
					n.blocks[h], n.next = true, n.next+1
				}
				n.pool = nil
			}
			return nil, fmt.Errorf("tx (%s) not found", hash)
		}
		return map[string]any{"height": "5", "tx_result": map[string]any{"code": 0, "gas_used": "1"}}, nil
	}
	return nil, fmt.Errorf("no method %s", method)
}

// sequenceOf reads the sequence out of a signed transaction.
func sequenceOf(raw []byte) uint64 {
	field := func(b []byte, want protowire.Number) []byte {
		for len(b) > 0 {
			num, typ, n := protowire.ConsumeTag(b)
			b = b[n:]
			if num == want && typ == protowire.BytesType {
				v, _ := protowire.ConsumeBytes(b)
				return v
			}
			if num == want {
				v, _ := protowire.ConsumeVarint(b)
				return protowire.AppendVarint(nil, v)
			}
			b = b[protowire.ConsumeFieldValue(num, typ, b):]
		}
		return nil
	}
	v, _ := protowire.ConsumeVarint(field(field(field(raw, 2), 1), 3)) // auth info, signer info, sequence
	return v
}

func newFakeNode(t *testing.T) (*fakeNode, *Sender) {
	t.Helper()
	n := &fakeNode{next: 7, blocks: map[string]bool{}, took: map[string]uint64{}, refuse: map[string]bool{}}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	key, err := identity.FromSeed(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return n, &Sender{Node: rpc.New(server.URL), Chain: "chain-1", Key: key}
}

// TestNodeChecksAgain: a node that counts without what waits in its mempool, because it has
// just made a block, is waited for.
func TestNodeChecksAgain(t *testing.T) {
	n, s := newFakeNode(t)
	pub := s.Key.Public()
	for i := range 2 {
		if _, err := s.Broadcast(t.Context(), 1000, false, Send(pub[:], pub[:], "5")); err != nil {
			t.Fatalf("transaction %d: %v", i+1, err)
		}
		n.mu.Lock()
		n.closed, n.checks = true, time.Now().Add(300*time.Millisecond)
		n.mu.Unlock()
	}
	if len(n.pool) != 2 {
		t.Errorf("it has %d transactions of two", len(n.pool))
	}
}

// TestLostByTheNode: what a node took and then lost comes into a block all the same, once.
func TestLostByTheNode(t *testing.T) {
	pub := func(s *Sender) []byte { p := s.Key.Public(); return p[:] }
	t.Run("one", func(t *testing.T) {
		n, s := newFakeNode(t)
		n.lose = 1
		if _, err := s.Send(t.Context(), 1000, Send(pub(s), pub(s), "1")); err != nil {
			t.Fatal(err)
		}
		if len(n.offered) != 2 || n.offered[0] != n.offered[1] || n.next != 8 {
			t.Errorf("offered %v, the account is at %d", n.offered, n.next)
		}
		if len(s.sent) != 0 {
			t.Errorf("%d are kept", len(s.sent))
		}
	})
	t.Run("before others", func(t *testing.T) {
		n, s := newFakeNode(t)
		n.lose, n.closed = 2, true
		var hashes []string
		for i := range 4 {
			h, err := s.Broadcast(t.Context(), 1000, false, Send(pub(s), pub(s), fmt.Sprint(i+1)))
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, h)
		}
		n.mu.Lock()
		n.closed = false
		n.mu.Unlock()
		for i, h := range hashes {
			if _, err := s.Wait(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			if n.took[h] != 7+uint64(i) {
				t.Errorf("transaction %d has sequence %d", i, n.took[h])
			}
		}
		if n.next != 11 || len(s.sent) != 0 {
			t.Errorf("the account is at %d, %d are kept", n.next, len(s.sent))
		}
	})
	t.Run("and refused when it is sent again", func(t *testing.T) {
		n, s := newFakeNode(t)
		n.lose, n.refuse["7"] = 1, true
		_, err := s.Send(t.Context(), 1000, Send(pub(s), pub(s), "1"))
		var refused *Refused
		if !errors.As(err, &refused) || refused.Code != 5 {
			t.Fatalf("got %v, want what the chain says", err)
		}
		if _, err := s.Send(t.Context(), 1000, Send(pub(s), pub(s), "2")); err != nil || n.next != 8 {
			t.Errorf("the next one: %v, the account is at %d", err, n.next)
		}
	})
	t.Run("and another one that is refused", func(t *testing.T) {
		// The first one is in the node again. To say that it was refused would have its
		// sender send it a second time.
		n, s := newFakeNode(t)
		n.closed, n.refuse["8"] = true, true
		var hashes []string
		for i := range 2 {
			h, err := s.Broadcast(t.Context(), 1000, false, Send(pub(s), pub(s), fmt.Sprint(i+1)))
			if err != nil {
				t.Fatal(err)
			}
			hashes = append(hashes, h)
		}
		n.mu.Lock()
		n.pool = nil // it restarts
		n.mu.Unlock()
		if lost, err := s.missing(t.Context(), hashes[0]); lost || err != nil {
			t.Fatalf("the first: lost %v, %v", lost, err)
		}
		n.mu.Lock()
		n.closed = false
		n.mu.Unlock()
		if _, err := s.Wait(t.Context(), hashes[0]); err != nil || !n.blocks[hashes[0]] {
			t.Errorf("the first: %v", err)
		}
		if _, err := s.Wait(t.Context(), hashes[1]); err == nil || n.blocks[hashes[1]] {
			t.Errorf("the second: %v", err)
		}
	})
	t.Run("and overtaken", func(t *testing.T) {
		n, s := newFakeNode(t)
		n.lose = 1
		h, err := s.Broadcast(t.Context(), 1000, false, Send(pub(s), pub(s), "1"))
		if err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		n.next++ // another program of this account was faster
		n.mu.Unlock()
		if _, err := s.Wait(t.Context(), h); !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), h) {
			t.Errorf("got %v, want ErrLost", err)
		}
	})
	t.Run("waits behind somebody else's", func(t *testing.T) {
		n, s := newFakeNode(t)
		n.pool, n.closed = []string{"other"}, true
		h, err := s.Broadcast(t.Context(), 1000, false, Send(pub(s), pub(s), "1"))
		if err != nil || n.took[h] != 8 {
			t.Fatal(err, n.took[h])
		}
		ctx, cancel := context.WithCancel(t.Context())
		lost, err := s.missing(ctx, h)
		if lost || err != nil {
			t.Errorf("given up: %v %v", lost, err)
		}
		cancel()
		n.mu.Lock()
		n.closed = false
		n.mu.Unlock()
		if _, err := s.Wait(t.Context(), h); err != nil {
			t.Error(err)
		}
	})
}

// TestUnsure: who is not told what became of a transaction hears that it may have been sent,
// and which it is; otherwise he would send a command a second time.
func TestUnsure(t *testing.T) {
	pub := func(s *Sender) []byte { p := s.Key.Public(); return p[:] }
	for _, method := range []string{"broadcast_tx_sync", "tx"} {
		t.Run("the node dies in "+method, func(t *testing.T) {
			n, s := newFakeNode(t)
			n.dies = method
			_, err := s.Send(t.Context(), 1000, Send(pub(s), pub(s), "1"))
			if !errors.Is(err, ErrUnsure) || !errors.Is(err, rpc.ErrUnreachable) {
				t.Fatalf("got %v, want ErrUnsure", err)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.offered) != 1 || !strings.Contains(err.Error(), n.offered[0]) {
				t.Errorf("%v does not name one of %v", err, n.offered)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		n, s := newFakeNode(t)
		n.closed = true
		h, err := s.Broadcast(t.Context(), 1000, false, Send(pub(s), pub(s), "1"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Wait(ctx, h); !errors.Is(err, ErrUnsure) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), h) || errors.Is(err, rpc.ErrUnreachable) {
			t.Errorf("got %v, want ErrUnsure, and nothing against the node", err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		// The account is read at the first use; then the node is gone.
		n, s := newFakeNode(t)
		if _, err := s.Send(t.Context(), 1000, Send(pub(s), pub(s), "1")); err != nil {
			t.Fatal(err)
		}
		gone := httptest.NewServer(n)
		gone.Close()
		s.Node = rpc.New(gone.URL)
		if _, err := s.Send(t.Context(), 1000, Send(pub(s), pub(s), "2")); !errors.Is(err, rpc.ErrUnreachable) || errors.Is(err, ErrUnsure) {
			t.Errorf("got %v: nothing can have been sent", err)
		}
	})
}

// TestRemembersOnlySoMuch: who never waits for what it sends, as a relayer, does not keep
// all of it.
func TestRemembersOnlySoMuch(t *testing.T) {
	for _, c := range []struct {
		name             string
		size, sent, kept int
	}{
		{"small ones", 1, maxSent + 10, maxSent},
		{"large ones", 1 << 20, 40, 16},
		{"one beyond the bound", maxBytes + 1, 2, 1},
	} {
		s := new(Sender)
		for i := range c.sent {
			s.remember(sentTx{sequence: uint64(i), raw: make([]byte, c.size)})
		}
		if first := uint64(c.sent - c.kept); len(s.sent) != c.kept || s.sent[0].sequence != first {
			t.Errorf("%s: %d kept, from %d; want %d, from %d", c.name, len(s.sent), s.sent[0].sequence, c.kept, first)
		}
	}
}
