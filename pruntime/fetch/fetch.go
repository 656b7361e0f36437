package fetch

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sort"
	"strings"
	"sync"
	"time"
)

// Limits of a request.
const (
	MaxResponse  = 256 << 10 // header and body
	maxRedirects = 5
	timeout      = 10 * time.Second // from the lookup to the last byte

	// Slow servers must neither take up all places for queries nor, when one contract asks
	// them, all of the others' requests: a contract makes at most maxEach at once, and the
	// last places of the worker are for contracts that make none.
	maxAtOnce = 32
	maxEach   = 8
	forFirst  = 8
)

// Errors that a contract is told.
var (
	ErrBusy  = errors.New("this contract, or the worker, makes too many HTTP requests at once: ask again")
	ErrLarge = fmt.Errorf("the answer is above %d bytes", MaxResponse)
)

// Options change a Client.
type Options struct {
	// Private allows addresses that are not public.
	Private bool
	// Roots replaces the compiled-in roots.
	Roots *x509.CertPool
	// Now is the time by which certificates are checked: the newest verified header's.
	Now func() time.Time

	allowed func(netip.AddrPort) bool // in tests
}

// A Client makes requests. It is safe for concurrent use.
type Client struct {
	http *http.Client

	mu    sync.Mutex
	total int
	each  map[[32]byte]int // requests under way, by contract
}

// New returns a client.
func New(o Options) (*Client, error) {
	if o.Roots == nil {
		var err error
		if o.Roots, err = Roots(); err != nil {
			return nil, err
		}
	}
	allowed := func(a netip.AddrPort) bool { return o.Private || public(a.Addr()) }
	if o.allowed != nil {
		allowed = o.allowed
	}
	d := &net.Dialer{Timeout: timeout, KeepAlive: -1, Control: control(allowed)}
	c := &Client{each: map[[32]byte]int{}}
	c.http = &http.Client{
		Timeout: timeout,
		// No proxy, whatever the host's environment says; no connection is kept, so that no
		// contract finds out by timing where another one went.
		Transport: &http.Transport{Proxy: nil, DialContext: d.DialContext, DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: false,
			MaxResponseHeaderBytes: 32 << 10, TLSClientConfig: &tls.Config{RootCAs: o.Roots, Time: o.Now, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) > maxRedirects:
				return fmt.Errorf("more than %d redirects", maxRedirects)
			case via[0].URL.Scheme == "https" && r.URL.Scheme != "https":
				return errors.New("a redirect from https to http")
			}
			return checkURL(r.URL.String())
		},
	}
	return c, nil
}

// enter takes a place for a contract's request.
func (c *Client) enter(contract [32]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.each[contract]
	if n >= maxEach || c.total >= maxAtOnce || n > 0 && c.total >= maxAtOnce-forFirst {
		return false
	}
	c.each[contract]++
	c.total++
	return true
}

func (c *Client) leave(contract [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.each[contract]--; c.each[contract] == 0 {
		delete(c.each, contract)
	}
}

// Fetch makes a contract's request in the form of the ABI and returns the answer in that
// form. Its errors are for the contract.
func (c *Client) Fetch(ctx context.Context, contract [32]byte, request []byte) ([]byte, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	if !c.enter(contract) {
		return nil, ErrBusy
	}
	defer c.leave(contract)
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	req.Header.Set("User-Agent", "phala")
	for i, f := range r.Header {
		if i == 0 || !strings.EqualFold(f.Name, r.Header[i-1].Name) {
			req.Header.Del(f.Name)
		}
		req.Header.Add(f.Name, f.Value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, explain(err)
	}
	defer res.Body.Close()
	out := &Response{Status: res.StatusCode}
	names := make([]string, 0, len(res.Header))
	for name := range res.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	size := 0
	for _, name := range names {
		for _, v := range res.Header[name] {
			if isToken(name) && isValue(v) {
				out.Header = append(out.Header, Field{name, v})
				size += len(name) + len(v) + 3
			}
		}
	}
	room := MaxResponse - size - 8
	if out.Body, err = io.ReadAll(io.LimitReader(res.Body, int64(max(room, 0))+1)); err != nil {
		return nil, explain(err)
	}
	if len(out.Body) > room {
		return nil, ErrLarge
	}
	return out.Marshal(), nil
}

// explain leaves out of an error what a contract has no use for.
func explain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return fmt.Errorf("no answer within %s", timeout)
		}
		err = u.Err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil && !errors.Is(err, ErrPrivate) {
		err = op.Err
	}
	return err
}
