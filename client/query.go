package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

// QueryOptions bound a query. The zero value is a good default.
type QueryOptions struct {
	Anonymous bool   // do not sign; the contract sees no caller
	MinHeight uint64 // the answer must come from a state at least this new
	GasLimit  uint64 // 0: the worker's limit
	// Grant, if there is one, was given to this client's account: the contract sees its
	// grantor as the caller.
	Grant *proto.Grant
}

// A QueryError is an answer with another status than ok.
type QueryError struct{ Answer *proto.Answer }

// Error says how it ended.
func (e *QueryError) Error() string {
	return fmt.Sprintf("the query ended with %s: %s", e.Answer.Status, e.Answer.Error)
}

// A WorkerError is a worker that did not take a query. Code is one of the public API's.
type WorkerError struct{ Code, Message string }

// Error returns what the worker said, and its code.
func (e *WorkerError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

var queryClient = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32, IdleConnTimeout: time.Minute}}

// A Target is a worker that may be asked, with what was proven of it.
type Target struct {
	Worker     proto.WorkerID
	Session    [32]byte
	Endpoint   string // http://, https:// or ratls://
	Registered uint64 // height of its admission
	Height     uint64
}

// Targets returns the workers that serve a contract. What they are is proven at the
// returned height; a target may be used for many queries, until its session ends.
func (c *Client) Targets(ctx context.Context, to proto.ContractID) ([]Target, error) {
	ct, err := c.Contract(ctx, to)
	if err != nil {
		return nil, err
	}
	cl, err := c.Cluster(ctx, ct.Cluster)
	if err != nil {
		return nil, err
	}
	h, err := c.Sync(ctx)
	if err != nil {
		return nil, err
	}
	var out []Target
	for _, id := range cl.Seats {
		w, err := c.Worker(ctx, id)
		if err != nil {
			return nil, err
		}
		if uint64(h.Height) >= w.Expires {
			continue // its attestation has ended
		}
		for _, e := range w.Endpoints {
			out = append(out, Target{id, w.State.Session, e, w.Registered, uint64(h.Height)})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: cluster %s has %d seats, none with a valid attestation and an endpoint", ErrNoWorker, cl.ID, len(cl.Seats))
	}
	return out, nil
}

// Query asks a contract. Workers are tried in the order of their seats.
func (c *Client) Query(ctx context.Context, to proto.ContractID, method string, arg any, o QueryOptions) (*proto.Answer, error) {
	input, err := Input(method, arg)
	if err != nil {
		return nil, err
	}
	targets, err := c.Targets(ctx, to)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, t := range targets {
		a, err := c.Ask(ctx, t, to, input, o)
		var qe *QueryError
		if err == nil || (errors.As(err, &qe) && qe.Answer.Status != proto.StatusTooOld) {
			return a, err
		}
		failed = errors.Join(failed, fmt.Errorf("worker %s at %s: %w", t.Worker, t.Endpoint, err))
	}
	return nil, fmt.Errorf("%w: %w", ErrNoWorker, failed)
}

// Ask asks one worker.
func (c *Client) Ask(ctx context.Context, t Target, to proto.ContractID, input []byte, o QueryOptions) (*proto.Answer, error) {
	if err := checkInput(input); err != nil {
		return nil, err
	}
	q := &proto.Query{To: to, Input: input, MinHeight: o.MinHeight, GasLimit: o.GasLimit}
	if _, err := rand.Read(q.Nonce[:]); err != nil {
		return nil, err
	}
	if o.Grant != nil {
		if c.key == nil || o.Anonymous {
			return nil, fmt.Errorf("%w: a query under a grant is signed by its reader", ErrNoKey)
		}
		q.Grant = o.Grant.Marshal()
	}
	if c.key != nil && !o.Anonymous {
		q.From, q.Scheme, q.PublicKey = c.Account(), uint8(identity.SchemeSr25519), c.Account()
		sig, err := c.key.Sign(rand.Reader, q.SignedBytes(c.net.Chain, t.Session))
		if err != nil {
			return nil, err
		}
		q.Signature = sig[:]
	}
	fresh, err := commkey.Generate(rand.Reader)
	if err != nil {
		return nil, err
	}
	qctx := proto.QueryContext(c.net.Chain)
	env, err := envelope.Seal(rand.Reader, qctx, fresh, t.Session, q.Marshal())
	if err != nil {
		return nil, err
	}
	via, base, err := c.Reach(ctx, t)
	if err != nil {
		return nil, err
	}
	b, err := post(ctx, via, base+"/v1/query", env)
	if err != nil {
		return nil, err
	}
	plain, err := envelope.OpenReply(qctx, fresh, t.Session, b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	a, err := proto.ParseAnswer(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	switch {
	case a.Nonce != q.Nonce:
		return nil, fmt.Errorf("%w: another nonce", ErrAnswer)
	case a.Status == proto.StatusOK && a.Height < o.MinHeight:
		return nil, fmt.Errorf("%w: state of height %d, asked for %d or newer", ErrAnswer, a.Height, o.MinHeight)
	case a.Status != proto.StatusOK:
		return a, &QueryError{a}
	}
	return a, nil
}

func post(ctx context.Context, via *http.Client, url string, body []byte) ([]byte, error) {
	return request(ctx, via, http.MethodPost, url, body)
}

func request(ctx context.Context, via *http.Client, method, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := via.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		var e struct {
			Error struct{ Code, Message string }
		}
		if json.Unmarshal(b, &e) == nil && e.Error.Code != "" {
			return nil, &WorkerError{e.Error.Code, e.Error.Message}
		}
		return nil, fmt.Errorf("HTTP %d", res.StatusCode)
	}
	return b, nil
}
