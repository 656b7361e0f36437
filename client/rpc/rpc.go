package rpc

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/lightclient/comet"
)

// Failure classes. Test with errors.Is.
var (
	// ErrUnreachable: no answer, or not one of a node.
	ErrUnreachable = errors.New("rpc: node does not answer")
	// ErrNotSent: there was no connection to ask through. It is ErrUnreachable too.
	ErrNotSent = errors.New("nothing was sent")
	// ErrNotFound: the node has no such block, transaction or value.
	ErrNotFound = errors.New("rpc: not found")
	// ErrKnown: the node has this transaction already.
	ErrKnown = errors.New("rpc: the node has this transaction already")
)

// A NodeError is an error that the node answered.
type NodeError struct {
	Method  string
	Code    int
	Message string
}

// Error returns what the node said.
func (e *NodeError) Error() string {
	return fmt.Sprintf("rpc: %s: node answered %d: %s", e.Method, e.Code, e.Message)
}

// A Client asks one node. It is safe for concurrent use.
type Client struct {
	url  string
	http *http.Client
}

// New returns a client of the node whose RPC is at url, http://HOST:PORT.
func New(url string) *Client {
	return &Client{strings.TrimSuffix(url, "/"), &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}}}
}

// URL returns the node's address.
func (c *Client) URL() string { return c.url }

const maxResponse = 64 << 20

func (c *Client) call(ctx context.Context, method string, params map[string]any, out any) error {
	req, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(req))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(r)
	if err != nil {
		return unanswered(ctx, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return unanswered(ctx, err)
	}
	var env struct {
		Result json.RawMessage
		Error  *struct {
			Code          int
			Message, Data string
		}
	}
	if err := json.Unmarshal(b, &env); err != nil {
		return fmt.Errorf("%w: %s answered HTTP %d, not JSON", ErrUnreachable, c.url, res.StatusCode)
	}
	if env.Error != nil {
		return &NodeError{method, env.Error.Code, strings.TrimSpace(env.Error.Message + " " + env.Error.Data)}
	}
	if err := json.Unmarshal(env.Result, out); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnreachable, method, err)
	}
	return nil
}

// unanswered says why there is no answer. Who cancelled his question has nothing to hear
// against the node.
func unanswered(ctx context.Context, err error) error {
	var dial *net.OpError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Errorf("%w, %w: %w", ErrUnreachable, ErrNotSent, err)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// Status is where a node stands.
type Status struct {
	Chain      string
	Height     int64 // newest block
	CatchingUp bool
}

// Status asks where the node stands.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var r struct {
		NodeInfo struct{ Network string } `json:"node_info"`
		SyncInfo struct {
			Height     int64 `json:"latest_block_height,string"`
			CatchingUp bool  `json:"catching_up"`
		} `json:"sync_info"`
	}
	err := c.call(ctx, "status", nil, &r)
	return Status{r.NodeInfo.Network, r.SyncInfo.Height, r.SyncInfo.CatchingUp}, err
}

type abciResponse struct {
	Response struct {
		Code     uint32
		Log      string
		Value    []byte
		Height   int64 `json:",string"`
		ProofOps *struct {
			Ops []struct{ Data []byte }
		} `json:"proofOps"`
	}
}

func (c *Client) abciQuery(ctx context.Context, path string, data []byte, height int64, prove bool) (*abciResponse, error) {
	var r abciResponse
	err := c.call(ctx, "abci_query", map[string]any{"path": path, "data": hex.EncodeToString(data), "height": strconv.FormatInt(height, 10), "prove": prove}, &r)
	if err != nil {
		return nil, err
	}
	if r.Response.Code != 0 {
		return nil, &NodeError{path, int(r.Response.Code), r.Response.Log}
	}
	return &r, nil
}

// Prove reads a key of a store in the state after block height, with its proof under
// the header of height+1. A key that is not there is ErrNotFound, unproven.
func (c *Client) Prove(ctx context.Context, store string, key []byte, height int64) ([]byte, comet.StoreProof, error) {
	r, err := c.abciQuery(ctx, "/store/"+store+"/key", key, height, true)
	if err != nil {
		return nil, comet.StoreProof{}, err
	}
	ops := r.Response.ProofOps
	if len(r.Response.Value) == 0 {
		return nil, comet.StoreProof{}, fmt.Errorf("%w: key %q of store %s at height %d", ErrNotFound, key, store, height)
	}
	if ops == nil || len(ops.Ops) != 2 {
		return nil, comet.StoreProof{}, fmt.Errorf("%w: no proof for key %q of store %s", ErrUnreachable, key, store)
	}
	return r.Response.Value, comet.StoreProof{IAVL: ops.Ops[0].Data, Store: ops.Ops[1].Data}, nil
}

// Read reads a key in the newest state, without a proof.
func (c *Client) Read(ctx context.Context, store string, key []byte) ([]byte, error) {
	r, err := c.abciQuery(ctx, "/store/"+store+"/key", key, 0, false)
	if err != nil {
		return nil, err
	}
	if len(r.Response.Value) == 0 {
		return nil, fmt.Errorf("%w: key %q of store %s", ErrNotFound, key, store)
	}
	return r.Response.Value, nil
}

// Query calls a gRPC query of the node with a protobuf request.
func (c *Client) Query(ctx context.Context, method string, request []byte) ([]byte, error) {
	r, err := c.abciQuery(ctx, method, request, 0, false)
	if err != nil {
		return nil, err
	}
	return r.Response.Value, nil
}

// repeatedBytes reads field 1 of a protobuf message, repeated bytes.
func repeatedBytes(b []byte) (out [][]byte, err error) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		if num == 1 && typ == protowire.BytesType {
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return nil, protowire.ParseError(n)
			}
			out, b = append(out, v), b[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return out, nil
}

// Messages returns encoded bodies of a topic from one sequence to another.
func (c *Client) Messages(ctx context.Context, topic string, from, to uint64) ([][]byte, error) {
	req := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), topic)
	req = protowire.AppendVarint(protowire.AppendTag(req, 2, protowire.VarintType), from)
	req = protowire.AppendVarint(protowire.AppendTag(req, 3, protowire.VarintType), 1000)
	req = protowire.AppendVarint(protowire.AppendTag(req, 4, protowire.VarintType), to)
	b, err := c.Query(ctx, "/phala.mq.v1.Query/Messages", req)
	if err != nil {
		return nil, err
	}
	return repeatedBytes(b)
}

// Chunk returns one chunk of a code in its packed form, as the chain checked it.
func (c *Client) Chunk(ctx context.Context, code [32]byte, index uint32) ([]byte, error) {
	req := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), code[:])
	if index > 0 {
		req = protowire.AppendVarint(protowire.AppendTag(req, 2, protowire.VarintType), uint64(index))
	}
	b, err := c.Query(ctx, "/phala.contracts.v1.Query/Chunk", req)
	if err != nil {
		return nil, err
	}
	chunks, err := repeatedBytes(b)
	if err != nil || len(chunks) != 1 {
		return nil, fmt.Errorf("%w: chunk %d of code %x", ErrNotFound, index, code)
	}
	return chunks[0], nil
}

// Piece returns one piece of a cluster's snapshot.
func (c *Client) Piece(ctx context.Context, cluster uint32, epoch uint64, index uint32) ([]byte, error) {
	req := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(cluster))
	req = protowire.AppendVarint(protowire.AppendTag(req, 2, protowire.VarintType), epoch)
	if index > 0 {
		req = protowire.AppendVarint(protowire.AppendTag(req, 3, protowire.VarintType), uint64(index))
	}
	b, err := c.Query(ctx, "/phala.contracts.v1.Query/Piece", req)
	if err != nil {
		return nil, err
	}
	pieces, err := repeatedBytes(b)
	if err != nil || len(pieces) != 1 {
		return nil, fmt.Errorf("%w: piece %d of the snapshot of cluster %d, epoch %d", ErrNotFound, index, cluster, epoch)
	}
	return pieces[0], nil
}

// Outputs returns the sealed answers to a command, one from each seat that posted one.
func (c *Client) Outputs(ctx context.Context, cluster uint32, seq uint64) ([][]byte, error) {
	req := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(cluster))
	req = protowire.AppendVarint(protowire.AppendTag(req, 2, protowire.VarintType), seq)
	b, err := c.Query(ctx, "/phala.contracts.v1.Query/Output", req)
	if err != nil {
		return nil, err
	}
	return repeatedBytes(b)
}
