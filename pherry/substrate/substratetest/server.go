package substratetest

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

// A Server is a node of a synthetic network. Its fields may be set between calls only.
type Server struct {
	Network *grandpatest.Network

	Fragment bool // send WebSocket messages in several frames, with pings in between

	mu       sync.Mutex
	http     *httptest.Server
	sessions map[*session]bool
	calls    map[string]int
	answer   func(method string, result any, err *Error) (any, *Error)
	nextSub  int
}

// Error is a JSON-RPC error.
type Error struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// New starts a server for the network, which must keep its blocks' states (Options.RandomState).
func New(n *grandpatest.Network) *Server {
	s := &Server{Network: n, sessions: map[*session]bool{}, calls: map[string]int{}}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// HTTP returns the server's http address, WS the WebSocket one.
func (s *Server) HTTP() string { return s.http.URL }

// WS returns the server's ws address.
func (s *Server) WS() string { return "ws" + strings.TrimPrefix(s.http.URL, "http") }

// Close stops the server.
func (s *Server) Close() {
	s.Drop()
	s.http.Close()
}

// Drop breaks all WebSocket connections without a word.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.sessions {
		c.conn.Close()
	}
}

// Sessions returns the number of open WebSocket connections.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Calls returns how often a method was called.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Answers sets a function that sees every answer and may replace it.
func (s *Server) Answers(f func(method string, result any, err *Error) (any, *Error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// RunRound lets the network finalize more blocks and notifies the subscribers.
func (s *Server) RunRound() *grandpa.Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.Network.RunRound()
	for c := range s.sessions {
		for id, method := range c.subs {
			var result any
			switch method {
			case "chain_finalizedHead":
				result = header(s.Network.Finalized.Header)
			case "grandpa_justifications":
				result = "0x" + hex.EncodeToString(u.Justification.Append(nil))
			}
			c.send(map[string]any{"jsonrpc": "2.0", "method": method, "params": map[string]any{"subscription": id, "result": result}}, s.Fragment)
		}
	}
	return u
}

type request struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		s.upgrade(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<24))
	var req request
	if err != nil || r.Method != http.MethodPost || json.Unmarshal(body, &req) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(s.handle(req, nil))
}

func (s *Server) handle(req request, c *session) map[string]any {
	s.calls[req.Method]++
	result, rpcErr := s.call(req, c)
	if s.answer != nil {
		result, rpcErr = s.answer(req.Method, result, rpcErr)
	}
	out := map[string]any{"jsonrpc": "2.0", "id": req.ID}
	if rpcErr != nil {
		out["error"] = rpcErr
	} else {
		out["result"] = result
	}
	return out
}

func (s *Server) call(req request, c *session) (any, *Error) {
	n := s.Network
	invalid := func(what string) (any, *Error) {
		return nil, &Error{Code: -32602, Message: "Invalid params", Data: what}
	}
	number := func(i int) (v uint32, ok bool) {
		return v, i < len(req.Params) && json.Unmarshal(req.Params[i], &v) == nil
	}
	text := func(i int) (b []byte, ok bool) {
		var str string
		if i >= len(req.Params) || json.Unmarshal(req.Params[i], &str) != nil {
			return nil, false
		}
		b, err := hex.DecodeString(strings.TrimPrefix(str, "0x"))
		return b, err == nil
	}
	block := func(i int) *grandpatest.Block {
		hash, ok := text(i)
		for _, b := range n.All {
			if ok && bytes.Equal(b.ID.Hash[:], hash) {
				return b
			}
		}
		return nil
	}
	unknown := func(i int) (any, *Error) {
		hash, _ := text(i)
		return nil, &Error{Code: 4003, Message: fmt.Sprintf("Client error: UnknownBlock: Header was not found in the database: 0x%x", hash)}
	}
	switch req.Method {
	case "system_chain":
		return "Synthetic", nil
	case "chain_getBlockHash":
		v, ok := number(0)
		if !ok {
			return invalid("block number")
		}
		if v > n.Best.Number {
			return nil, nil
		}
		return n.Canonical(v).ID.Hash.String(), nil
	case "chain_getFinalizedHead":
		return n.Finalized.ID.Hash.String(), nil
	case "chain_getHeader":
		if b := block(0); b != nil {
			return header(b.Header), nil
		}
		return nil, nil
	case "chain_getBlock":
		b := block(0)
		if b == nil {
			return nil, nil
		}
		var justifications any
		if j := n.Stored[b.Number]; j != nil && j.Commit.Target == b.ID {
			engine, raw := []int{}, []int{}
			for _, c := range grandpa.EngineGRANDPA {
				engine = append(engine, int(c))
			}
			for _, c := range j.Append(nil) {
				raw = append(raw, int(c))
			}
			justifications = [][][]int{{engine, raw}}
		}
		return map[string]any{"block": map[string]any{"header": header(b.Header), "extrinsics": []string{}}, "justifications": justifications}, nil
	case "grandpa_proveFinality":
		v, ok := number(0)
		if !ok {
			return invalid("block number")
		}
		return s.proveFinality(v), nil
	case "state_getReadProof":
		var keys []string
		if len(req.Params) == 0 || json.Unmarshal(req.Params[0], &keys) != nil {
			return invalid("keys")
		}
		b := block(1)
		if b == nil {
			return unknown(1)
		}
		var raw [][]byte
		for _, k := range keys {
			key, err := hex.DecodeString(strings.TrimPrefix(k, "0x"))
			if err != nil {
				return invalid("key")
			}
			raw = append(raw, key)
		}
		proof := []string{}
		for _, node := range b.State.Prove(raw, nil) {
			proof = append(proof, "0x"+hex.EncodeToString(node))
		}
		return map[string]any{"at": b.ID.Hash.String(), "proof": proof}, nil
	case "state_getKeysPaged":
		prefix, ok := text(0)
		count, ok2 := number(1)
		start, ok3 := text(2)
		if !ok || !ok2 || !ok3 || count > 1000 {
			return invalid("page")
		}
		b := block(3)
		if b == nil {
			return unknown(3)
		}
		out := []string{}
		for _, e := range b.State.Entries {
			if bytes.HasPrefix(e.Key, prefix) && bytes.Compare(e.Key, start) > 0 && len(out) < int(count) {
				out = append(out, "0x"+hex.EncodeToString(e.Key))
			}
		}
		return out, nil
	case "chain_subscribeFinalizedHeads", "grandpa_subscribeJustifications":
		if c == nil {
			return nil, &Error{Code: -32601, Message: "Method not found"}
		}
		s.nextSub++
		id := fmt.Sprintf("sub%08d", s.nextSub)
		c.subs[id] = map[string]string{"chain_subscribeFinalizedHeads": "chain_finalizedHead",
			"grandpa_subscribeJustifications": "grandpa_justifications"}[req.Method]
		return id, nil
	case "chain_unsubscribeFinalizedHeads", "grandpa_unsubscribeJustifications":
		var id string
		if c == nil || len(req.Params) == 0 || json.Unmarshal(req.Params[0], &id) != nil {
			return invalid("subscription")
		}
		_, had := c.subs[id]
		delete(c.subs, id)
		return had, nil
	}
	return nil, &Error{Code: -32601, Message: "Method not found"}
}

// proveFinality answers as a node: with the justification of the last block of the set that holds the block, or, while
// that set is in office, with the newest justification; null if there is none yet.
func (s *Server) proveFinality(number uint32) any {
	n := s.Network
	if number > n.Finalized.Number {
		return nil
	}
	last := n.Finalized.Number
	for _, change := range n.History {
		if change.LastBlock >= number {
			last = change.LastBlock
			break
		}
	}
	j := n.Stored[last]
	if j == nil {
		return nil
	}
	block := n.Canonical(last)
	p := &grandpa.FinalityProof{Block: block.ID.Hash, Justification: j, UnknownHeaders: grandpatest.Headers(n.Canonical(number), block)}
	return "0x" + hex.EncodeToString(p.Append(nil))
}

func header(h *grandpa.Header) any {
	logs := []string{}
	for i := range h.Digest {
		logs = append(logs, "0x"+hex.EncodeToString(h.Digest[i].Append(nil)))
	}
	return map[string]any{"parentHash": h.ParentHash.String(), "number": fmt.Sprintf("0x%x", h.Number),
		"stateRoot": h.StateRoot.String(), "extrinsicsRoot": h.ExtrinsicsRoot.String(), "digest": map[string]any{"logs": logs}}
}

// session is the server side of a WebSocket connection.
type session struct {
	conn net.Conn
	in   *bufio.Reader
	subs map[string]string // method of the notifications by subscription
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	c := &session{conn: conn, in: rw.Reader, subs: map[string]string{}}
	s.mu.Lock()
	s.sessions[c] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.sessions, c)
		s.mu.Unlock()
		conn.Close()
	}()
	for {
		opcode, payload, err := c.read()
		if err != nil {
			return
		}
		switch opcode {
		case 9:
			s.mu.Lock()
			c.frame(10, true, payload)
			s.mu.Unlock()
		case 8:
			return
		case 1:
			var req request
			if json.Unmarshal(payload, &req) != nil {
				return
			}
			s.mu.Lock()
			c.send(s.handle(req, c), s.Fragment)
			s.mu.Unlock()
		}
	}
}

// read reads a client's frame, which must be whole and masked.
func (c *session) read() (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != 0x80 || head[1]&0x80 == 0 {
		return 0, nil, fmt.Errorf("client frame %x not whole and masked", head)
	}
	size := uint64(head[1] & 0x7f)
	ext := make([]byte, map[uint64]int{126: 2, 127: 8}[size])
	if _, err := io.ReadFull(c.in, ext); err != nil {
		return 0, nil, err
	}
	if len(ext) > 0 {
		size = binary.BigEndian.Uint64(append(make([]byte, 8-len(ext)), ext...))
	}
	body := make([]byte, 4+min(size, 1<<24))
	if _, err := io.ReadFull(c.in, body); err != nil {
		return 0, nil, err
	}
	payload = body[4:]
	for i := range payload {
		payload[i] ^= body[i%4]
	}
	return head[0] & 15, payload, nil
}

func (c *session) send(m any, fragment bool) {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	if !fragment {
		c.frame(1, true, b)
		return
	}
	third := len(b) / 3
	c.frame(1, false, b[:third])
	c.frame(9, true, []byte("ping"))
	c.frame(0, false, b[third:2*third])
	c.frame(0, true, b[2*third:])
}

func (c *session) frame(opcode byte, final bool, payload []byte) {
	head := []byte{opcode, 0}
	if final {
		head[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		head[1] = byte(n)
	case n < 1<<16:
		head[1] = 126
		head = binary.BigEndian.AppendUint16(head, uint16(n))
	default:
		head[1] = 127
		head = binary.BigEndian.AppendUint64(head, uint64(n))
	}
	c.conn.Write(slices.Concat(head, payload))
}
