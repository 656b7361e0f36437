package substrate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Options tune a client. The zero value is good.
type Options struct {
	MaxMessage   int           // largest answer in bytes; 0 for 48 MiB
	DialTimeout  time.Duration // 0 for 10 s
	PingInterval time.Duration // how often an idle connection is tested; 0 for 20 s. Dead after three in silence.
	MinBackoff   time.Duration // first pause before connecting again; 0 for 250 ms, doubled up to MaxBackoff
	MaxBackoff   time.Duration // 0 for 15 s
	Attempts     int           // how often a call is sent; 0 for 4
	TLS          *tls.Config   // for https and wss
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&o.DialTimeout, 10*time.Second)
	set(&o.PingInterval, 20*time.Second)
	set(&o.MinBackoff, 250*time.Millisecond)
	set(&o.MaxBackoff, 15*time.Second)
	if o.MaxMessage <= 0 {
		o.MaxMessage = 48 << 20
	}
	if o.Attempts <= 0 {
		o.Attempts = 4
	}
	return o
}

// A Client speaks to one node. It is safe for concurrent use.
type Client struct {
	address   string
	options   Options
	transport *http.Transport
	streams   bool // ws or wss

	ctx    context.Context // ends when the client is closed
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	conn   *connection
	nextID uint64
	dial   chan struct{} // holds a token while nobody dials
}

// New makes a client for an http, https, ws or wss address. It does not connect yet.
func New(address string, o Options) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fail(ErrAddress, err, "%q", address)
	}
	c := &Client{address: address, options: o.withDefaults(), transport: newTransport(o.TLS), dial: make(chan struct{}, 1)}
	switch u.Scheme {
	case "ws", "wss":
		c.streams = true
	case "http", "https":
	default:
		return nil, fail(ErrAddress, nil, "%q: the scheme must be http, https, ws or wss", address)
	}
	c.dial <- struct{}{}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close ends the connection, all calls and all subscriptions, and waits for the client's goroutines.
func (c *Client) Close() {
	c.cancel()
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.end(fail(ErrClosed, nil, "%s", c.address))
	}
	c.wg.Wait()
	c.transport.CloseIdleConnections()
}

type request struct {
	Version string `json:"jsonrpc"`
	ID      uint64 `json:"id"`
	Method  string `json:"method"`
	Params  []any  `json:"params"`
}

type message struct {
	Version string          `json:"jsonrpc"`
	ID      *uint64         `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *RPCError       `json:"error"`
	Method  string          `json:"method"`
	Params  *struct {
		Subscription json.RawMessage `json:"subscription"`
		Result       json.RawMessage `json:"result"`
	} `json:"params"`
}

// Call calls a method and decodes its result. A result of null is ErrNotFound. Calls whose connection fails are
// repeated as the options say.
func (c *Client) Call(ctx context.Context, result any, method string, params ...any) error {
	if params == nil {
		params = []any{}
	}
	raw, err := c.retry(ctx, func(ctx context.Context) (json.RawMessage, error) {
		if !c.streams {
			return c.post(ctx, method, params)
		}
		conn, err := c.connect(ctx)
		if err != nil {
			return nil, err
		}
		return conn.call(ctx, method, params, nil)
	})
	if err != nil {
		return within(method, err)
	}
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return fail(ErrNotFound, nil, "%s answers null", method)
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fail(ErrProtocol, err, "%s", method)
	}
	return nil
}

func within(method string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{Kind: e.Kind, Detail: method + ": " + e.Detail, Cause: e.Cause}
	}
	return err
}

// retry runs f until it succeeds, fails for another reason than the connection, or the attempts are used up.
func (c *Client) retry(ctx context.Context, f func(context.Context) (json.RawMessage, error)) (json.RawMessage, error) {
	ctx, stop := c.bound(ctx)
	defer stop()
	for attempt := 1; ; attempt++ {
		raw, err := f(ctx)
		if c.ctx.Err() != nil {
			return nil, fail(ErrClosed, nil, "%s", c.address)
		}
		if err == nil || !errors.Is(err, ErrConnect) || attempt == c.options.Attempts || ctx.Err() != nil {
			return raw, err
		}
		if pause(ctx, c.backoff(attempt)) != nil {
			return nil, err
		}
	}
}

// bound returns a context that ends with ctx and with the client.
func (c *Client) bound(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

func (c *Client) backoff(failures int) time.Duration {
	d := c.options.MinBackoff
	for ; failures > 1 && d < c.options.MaxBackoff; failures-- {
		d *= 2
	}
	return min(d, c.options.MaxBackoff)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// post makes one call over HTTP.
func (c *Client) post(ctx context.Context, method string, params []any) (json.RawMessage, error) {
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.mu.Unlock()
	body, err := json.Marshal(request{"2.0", id, method, params})
	if err != nil {
		return nil, fail(ErrProtocol, err, "parameters")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address, bytes.NewReader(body))
	if err != nil {
		return nil, fail(ErrAddress, err, "%s", c.address)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, fail(ErrConnect, err, "%s", c.address)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, int64(c.options.MaxMessage)+1))
	switch {
	case err != nil:
		return nil, fail(ErrConnect, err, "%s", c.address)
	case len(answer) > c.options.MaxMessage:
		return nil, fail(ErrTooLarge, nil, "answer of more than %d bytes", c.options.MaxMessage)
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests:
		return nil, fail(ErrConnect, nil, "%s answers %s", c.address, res.Status)
	case res.StatusCode != http.StatusOK:
		return nil, fail(ErrProtocol, nil, "%s answers %s", c.address, res.Status)
	}
	var m message
	if err := json.Unmarshal(answer, &m); err != nil {
		return nil, fail(ErrProtocol, err, "answer is not JSON-RPC")
	}
	if m.ID == nil || *m.ID != id {
		return nil, fail(ErrProtocol, nil, "answer to another request")
	}
	return m.outcome()
}

func (m *message) outcome() (json.RawMessage, error) {
	if m.Error != nil {
		return nil, fail(ErrRPC, m.Error, "error answer")
	}
	return m.Result, nil
}

// connection is one WebSocket connection with what waits for its messages.
type connection struct {
	ws   *webSocket
	done chan struct{} // closed when the connection has ended

	mu     sync.Mutex
	err    error
	nextID uint64
	calls  map[uint64]*call
	subs   map[string]*Subscription
	seen   time.Time
}

type call struct {
	sub   *Subscription // to be registered under the answer
	reply chan message
}

// connect returns the present connection or makes one. Callers wait for each other, so that there is at most one.
func (c *Client) connect(ctx context.Context) (*connection, error) {
	select {
	case <-c.dial:
		defer func() { c.dial <- struct{}{} }()
	case <-ctx.Done():
		return nil, fail(ErrConnect, ctx.Err(), "%s", c.address)
	}
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil && !conn.ended() {
		return conn, nil
	}
	dialing, cancel := context.WithTimeout(ctx, c.options.DialTimeout)
	defer cancel()
	ws, err := dialWebSocket(dialing, c.transport, c.address, c.options.MaxMessage)
	if err != nil {
		return nil, err
	}
	conn = &connection{ws: ws, done: make(chan struct{}), calls: map[uint64]*call{}, subs: map[string]*Subscription{}, seen: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		ws.close()
		return nil, fail(ErrClosed, nil, "%s", c.address)
	}
	c.conn = conn
	c.wg.Add(2)
	go func() { defer c.wg.Done(); conn.receive() }()
	go func() { defer c.wg.Done(); conn.keepAlive(c.options.PingInterval) }()
	return conn, nil
}

func (n *connection) ended() bool {
	select {
	case <-n.done:
		return true
	default:
		return false
	}
}

// end closes the connection; the first reason stays.
func (n *connection) end(reason error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return
	}
	n.err = reason
	n.ws.close()
	close(n.done)
}

// receive hands incoming messages to those who wait for them, until the connection ends.
func (n *connection) receive() {
	for {
		raw, err := n.ws.read(func() {
			n.mu.Lock()
			n.seen = time.Now()
			n.mu.Unlock()
		})
		if err != nil {
			n.end(err)
			return
		}
		var m message
		if err := json.Unmarshal(raw, &m); err != nil {
			n.end(fail(ErrProtocol, err, "message is not JSON-RPC"))
			return
		}
		n.dispatch(m)
	}
}

func (n *connection) dispatch(m message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.Params != nil && m.ID == nil {
		if sub := n.subs[string(m.Params.Subscription)]; sub != nil {
			sub.deliver(m.Params.Result)
		}
		return
	}
	if m.ID == nil {
		return
	}
	waiting := n.calls[*m.ID]
	if waiting == nil {
		return // its caller has given up
	}
	delete(n.calls, *m.ID)
	if waiting.sub != nil && m.Error == nil {
		n.subs[string(m.Result)] = waiting.sub // before the next message, which may be for it
	}
	waiting.reply <- m
}

// keepAlive pings, and ends a connection on which nothing came in for three intervals.
func (n *connection) keepAlive(every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-n.done:
			return
		case <-t.C:
		}
		n.mu.Lock()
		silent := time.Since(n.seen)
		n.mu.Unlock()
		if silent > 3*every {
			n.end(fail(ErrConnect, nil, "silent for %s", silent.Round(time.Millisecond)))
			return
		}
		if err := n.ws.write(opPing, nil); err != nil {
			n.end(fail(ErrConnect, err, "writing"))
			return
		}
	}
}

// call sends a request over this connection and waits for its answer.
func (n *connection) call(ctx context.Context, method string, params []any, sub *Subscription) (json.RawMessage, error) {
	waiting := &call{sub: sub, reply: make(chan message, 1)}
	n.mu.Lock()
	n.nextID++
	id := n.nextID
	n.calls[id] = waiting
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.calls, id)
		n.mu.Unlock()
	}()
	body, err := json.Marshal(request{"2.0", id, method, params})
	if err != nil {
		return nil, fail(ErrProtocol, err, "parameters")
	}
	if err := n.ws.write(opText, body); err != nil {
		n.end(fail(ErrConnect, err, "writing"))
	}
	select {
	case m := <-waiting.reply:
		return m.outcome()
	case <-n.done:
		return nil, n.err
	case <-ctx.Done():
		return nil, fail(ErrConnect, ctx.Err(), "waiting for the answer")
	}
}

// An Event is a notification of a subscription. Gap says that earlier ones may be missing, because the connection
// broke or the reader was too slow.
type Event struct {
	Data json.RawMessage
	Gap  bool
}

// A Subscription delivers a node's notifications until its context ends.
type Subscription struct {
	Events <-chan Event // closed at the end

	events chan Event
	mu     sync.Mutex
	gap    bool
	err    error
}

// Err returns why Events was closed.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// deliver never blocks: the connection's other users must not wait for a slow reader.
func (s *Subscription) deliver(data json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.events <- Event{Data: data, Gap: s.gap}:
		s.gap = false
	default:
		s.gap = true
	}
}

// Subscribe subscribes to a node's notifications. The first subscription must succeed; after that it is renewed on
// every new connection, until ctx ends, the client is closed or the node refuses.
func (c *Client) Subscribe(ctx context.Context, subscribe, unsubscribe string, params ...any) (*Subscription, error) {
	if !c.streams {
		return nil, fail(ErrNoStream, nil, "%s: %s", subscribe, c.address)
	}
	if params == nil {
		params = []any{}
	}
	s := &Subscription{events: make(chan Event, 256)}
	s.Events = s.events
	ctx, stop := c.bound(ctx)
	conn, id, err := c.open(ctx, s, subscribe, params)
	if err != nil {
		stop()
		return nil, within(subscribe, err)
	}
	c.mu.Lock()
	if c.ctx.Err() != nil {
		c.mu.Unlock()
		stop()
		return nil, fail(ErrClosed, nil, "%s", c.address)
	}
	c.wg.Add(1)
	c.mu.Unlock()
	go func() {
		defer c.wg.Done()
		defer stop()
		err := c.renew(ctx, s, conn, id, subscribe, unsubscribe, params)
		s.mu.Lock()
		s.err = err
		s.mu.Unlock()
		close(s.events)
	}()
	return s, nil
}

func (c *Client) open(ctx context.Context, s *Subscription, subscribe string, params []any) (*connection, string, error) {
	var conn *connection
	id, err := c.retry(ctx, func(ctx context.Context) (raw json.RawMessage, err error) {
		if conn, err = c.connect(ctx); err != nil {
			return nil, err
		}
		return conn.call(ctx, subscribe, params, s)
	})
	return conn, string(id), err
}

// renew keeps s subscribed and returns why it ended. When it returns, nothing delivers to s any more.
func (c *Client) renew(ctx context.Context, s *Subscription, conn *connection, id, subscribe, unsubscribe string, params []any) error {
	for {
		select {
		case <-ctx.Done():
			conn.forget(s)
			if !conn.ended() && c.ctx.Err() == nil {
				leave, cancel := context.WithTimeout(c.ctx, time.Second)
				conn.call(leave, unsubscribe, []any{json.RawMessage(id)}, nil) // a courtesy
				cancel()
			}
			if c.ctx.Err() != nil {
				return fail(ErrClosed, nil, "%s", c.address)
			}
			return ctx.Err()
		case <-conn.done:
		}
		conn.forget(s)
		s.mu.Lock()
		s.gap = true
		s.mu.Unlock()
		for failures := 1; ; failures++ {
			next, newID, err := c.open(ctx, s, subscribe, params)
			if err == nil {
				conn, id = next, newID
				break
			}
			if next != nil {
				next.forget(s)
			}
			if !errors.Is(err, ErrConnect) {
				return err
			}
			if pause(ctx, c.backoff(failures)) != nil {
				break // the outer loop sees that ctx has ended
			}
		}
	}
}

// forget stops deliveries to s.
func (n *connection) forget(s *Subscription) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, sub := range n.subs {
		if sub == s {
			delete(n.subs, id)
		}
	}
	for _, waiting := range n.calls {
		if waiting.sub == s {
			waiting.sub = nil
		}
	}
}

// trimHex cuts the 0x off a hexadecimal string.
func trimHex(s string) (string, bool) { return strings.CutPrefix(s, "0x") }
