package pherry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/inbox"
)

// A Runtime is the private API of a pruntime.
type Runtime struct {
	url  string
	http *http.Client
}

// NewRuntime returns the pruntime whose private API is at url.
func NewRuntime(url string) *Runtime {
	return &Runtime{strings.TrimSuffix(url, "/"), &http.Client{Timeout: 60 * time.Second}}
}

// Code returns the stable code of an error that a pruntime answered, "" for others.
func Code(err error) string {
	var e *apiError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// apiError is an error that a pruntime answered.
type apiError api.Error

func (e *apiError) Error() string { return fmt.Sprintf("pruntime: %s (%s)", e.Message, e.Code) }

func (r *Runtime) do(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := r.http.Do(req)
	if err != nil {
		return fmt.Errorf("pherry: pruntime does not answer: %w", err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("pherry: pruntime: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var e struct{ Error apiError }
		if err := json.Unmarshal(b, &e); err != nil || e.Error.Code == "" {
			return fmt.Errorf("pherry: pruntime answered HTTP %d", res.StatusCode)
		}
		return &e.Error
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("pherry: pruntime answered %s: %w", path, err)
	}
	return nil
}

func (r *Runtime) status(ctx context.Context, method, path string, body []byte) (*pruntime.Status, error) {
	st := new(pruntime.Status)
	return st, r.do(ctx, method, path, body, st)
}

// Status asks where the enclave stands.
func (r *Runtime) Status(ctx context.Context) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodGet, "/v1/status", nil)
}

// TrustHeader brings the trust root's header.
func (r *Runtime) TrustHeader(ctx context.Context, h *comet.Header) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPost, "/v1/trust-header", h.Marshal())
}

// Advance brings an advance.
func (r *Runtime) Advance(ctx context.Context, a *inbox.Advance) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPost, "/v1/advance", a.Marshal())
}

// Hold brings messages of topics that join.
func (r *Runtime) Hold(ctx context.Context, msgs []*proto.Message) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPost, "/v1/messages", (&inbox.Advance{Messages: msgs}).Marshal())
}

// Headers brings light blocks on the way to one.
func (r *Runtime) Headers(ctx context.Context, blocks ...*comet.LightBlock) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPost, "/v1/headers", (&inbox.Advance{Blocks: blocks}).Marshal())
}

// Acknowledge brings the chain's outbox position.
func (r *Runtime) Acknowledge(ctx context.Context, position proto.Cursor, p comet.StoreProof) (*pruntime.Status, error) {
	b, err := json.Marshal(api.Acknowledge{Position: position.Marshal(), IAVL: p.IAVL, Store: p.Store})
	if err != nil {
		return nil, err
	}
	return r.status(ctx, http.MethodPost, "/v1/acknowledge", b)
}

// ConfirmBlocks brings what the chain's state says about blocks.
func (r *Runtime) ConfirmBlocks(ctx context.Context, blocks []api.Block) (*pruntime.Status, error) {
	b, err := json.Marshal(blocks)
	if err != nil {
		return nil, err
	}
	return r.status(ctx, http.MethodPost, "/v1/blocks", b)
}

// PutCode brings a code.
func (r *Runtime) PutCode(ctx context.Context, h proto.Hash, module []byte) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPut, "/v1/code/"+h.String(), module)
}

// PutSnapshot brings the description of a cluster's state.
func (r *Runtime) PutSnapshot(ctx context.Context, s *proto.Snapshot) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPut, "/v1/state", s.Marshal())
}

// PutPiece brings a piece of a cluster's state.
func (r *Runtime) PutPiece(ctx context.Context, i int, b []byte) (*pruntime.Status, error) {
	return r.status(ctx, http.MethodPut, fmt.Sprintf("/v1/state/%d", i), b)
}

// Registration asks for what the operator submits.
func (r *Runtime) Registration(ctx context.Context) (*api.Registration, error) {
	out := new(api.Registration)
	return out, r.do(ctx, http.MethodGet, "/v1/registration", nil, out)
}

// Outbox asks for the entries that the chain does not have.
func (r *Runtime) Outbox(ctx context.Context) (*api.Outbox, error) {
	out := new(api.Outbox)
	return out, r.do(ctx, http.MethodGet, "/v1/outbox", nil, out)
}
