package rpc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxResponse))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
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

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	*h = raw
	return err
}

type blockID struct {
	Hash  hexBytes
	Parts struct {
		Total uint32
		Hash  hexBytes
	}
}

func (b *blockID) convert() comet.BlockID {
	return comet.BlockID{Hash: b.Hash, PartsTotal: b.Parts.Total, PartsHash: b.Parts.Hash}
}

type header struct {
	Version struct {
		Block uint64 `json:",string"`
		App   uint64 `json:",string"`
	}
	ChainID            string `json:"chain_id"`
	Height             int64  `json:",string"`
	Time               time.Time
	LastBlockID        blockID  `json:"last_block_id"`
	LastCommitHash     hexBytes `json:"last_commit_hash"`
	DataHash           hexBytes `json:"data_hash"`
	ValidatorsHash     hexBytes `json:"validators_hash"`
	NextValidatorsHash hexBytes `json:"next_validators_hash"`
	ConsensusHash      hexBytes `json:"consensus_hash"`
	AppHash            hexBytes `json:"app_hash"`
	LastResultsHash    hexBytes `json:"last_results_hash"`
	EvidenceHash       hexBytes `json:"evidence_hash"`
	ProposerAddress    hexBytes `json:"proposer_address"`
}

func (h *header) convert() comet.Header {
	return comet.Header{VersionBlock: h.Version.Block, VersionApp: h.Version.App, ChainID: h.ChainID, Height: h.Height, Time: h.Time.UTC(),
		LastBlockID: h.LastBlockID.convert(), LastCommitHash: h.LastCommitHash, DataHash: h.DataHash, ValidatorsHash: h.ValidatorsHash,
		NextValidatorsHash: h.NextValidatorsHash, ConsensusHash: h.ConsensusHash, AppHash: h.AppHash, LastResultsHash: h.LastResultsHash,
		EvidenceHash: h.EvidenceHash, ProposerAddress: h.ProposerAddress}
}

type signedHeader struct {
	Header header
	Commit struct {
		Height     int64 `json:",string"`
		Round      int32
		BlockID    blockID `json:"block_id"`
		Signatures []struct {
			Flag      uint8     `json:"block_id_flag"`
			Address   hexBytes  `json:"validator_address"`
			Time      time.Time `json:"timestamp"`
			Signature []byte
		}
	}
}

// Header returns the header at a height.
func (c *Client) Header(ctx context.Context, height int64) (*comet.Header, error) {
	sh, err := c.commit(ctx, height)
	if err != nil {
		return nil, err
	}
	h := sh.Header.convert()
	return &h, nil
}

func (c *Client) commit(ctx context.Context, height int64) (*signedHeader, error) {
	var r struct {
		SignedHeader *signedHeader `json:"signed_header"`
	}
	if err := c.call(ctx, "commit", map[string]any{"height": strconv.FormatInt(height, 10)}, &r); err != nil {
		return nil, err
	}
	if r.SignedHeader == nil {
		return nil, fmt.Errorf("%w: commit %d", ErrNotFound, height)
	}
	return r.SignedHeader, nil
}

// LightBlock returns header, commit and validators at a height.
func (c *Client) LightBlock(ctx context.Context, height int64) (*comet.LightBlock, error) {
	sh, err := c.commit(ctx, height)
	if err != nil {
		return nil, err
	}
	b := &comet.LightBlock{Header: sh.Header.convert(), Commit: comet.Commit{Height: sh.Commit.Height, Round: sh.Commit.Round, BlockID: sh.Commit.BlockID.convert()}}
	for _, s := range sh.Commit.Signatures {
		cs := comet.CommitSig{Flag: s.Flag}
		if s.Flag != comet.FlagAbsent {
			if len(s.Address) != 20 || len(s.Signature) != 64 {
				return nil, fmt.Errorf("%w: commit %d has a signature of %d bytes by %x", ErrUnreachable, height, len(s.Signature), []byte(s.Address))
			}
			cs.Address, cs.Time, cs.Signature = comet.Address(s.Address), s.Time.UTC(), [64]byte(s.Signature)
		}
		b.Commit.Signatures = append(b.Commit.Signatures, cs)
	}
	b.Validators, err = c.validators(ctx, height)
	return b, err
}

func (c *Client) validators(ctx context.Context, height int64) (*comet.ValidatorSet, error) {
	set := &comet.ValidatorSet{}
	for page := 1; ; page++ {
		var r struct {
			Validators []struct {
				PubKey struct {
					Type  string
					Value []byte
				} `json:"pub_key"`
				Power int64 `json:"voting_power,string"`
			}
			Total int `json:",string"`
		}
		err := c.call(ctx, "validators", map[string]any{"height": strconv.FormatInt(height, 10), "page": strconv.Itoa(page), "per_page": "100"}, &r)
		if err != nil {
			return nil, err
		}
		for _, v := range r.Validators {
			if v.PubKey.Type != "tendermint/PubKeyEd25519" || len(v.PubKey.Value) != 32 {
				return nil, fmt.Errorf("%w: validator key of type %s", ErrUnreachable, v.PubKey.Type)
			}
			set.Validators = append(set.Validators, comet.Validator{PublicKey: [32]byte(v.PubKey.Value), Power: v.Power})
		}
		if len(set.Validators) >= r.Total || len(r.Validators) == 0 || len(set.Validators) > comet.MaxValidators {
			return set, nil
		}
	}
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

// A TxResult is how a transaction ended.
type TxResult struct {
	Hash   string
	Height int64
	Code   uint32
	Space  string // codespace of a code that is not 0
	Log    string
	Gas    int64
	Events []Event
}

// An Event is what the chain said while it executed a transaction.
type Event struct {
	Type       string
	Attributes map[string]string
}

// Find returns an attribute of the first event of a type.
func (r *TxResult) Find(event, attribute string) (string, bool) {
	for _, e := range r.Events {
		if e.Type == event {
			v, ok := e.Attributes[attribute]
			return v, ok
		}
	}
	return "", false
}

// Broadcast checks a transaction on the node and puts it into the mempool. A code
// that is not 0 is a refusal.
func (c *Client) Broadcast(ctx context.Context, tx []byte) (*TxResult, error) {
	var r struct {
		Code      uint32
		Codespace string
		Log       string
		Hash      string
	}
	err := c.call(ctx, "broadcast_tx_sync", map[string]any{"tx": base64.StdEncoding.EncodeToString(tx)}, &r)
	var ne *NodeError
	if errors.As(err, &ne) && strings.Contains(ne.Message, "tx already exists in cache") {
		return nil, fmt.Errorf("%w: %w", ErrKnown, err)
	}
	return &TxResult{Hash: r.Hash, Code: r.Code, Space: r.Codespace, Log: r.Log}, err
}

// Tx returns a transaction that is in a block; ErrNotFound before.
func (c *Client) Tx(ctx context.Context, hash string) (*TxResult, error) {
	raw, err := hex.DecodeString(hash)
	if err != nil {
		return nil, fmt.Errorf("rpc: transaction hash %q: %w", hash, err)
	}
	var r struct {
		Height   int64 `json:",string"`
		TxResult struct {
			Code      uint32
			Codespace string
			Log       string
			GasUsed   int64 `json:"gas_used,string"`
			Events    []struct {
				Type       string
				Attributes []struct{ Key, Value string }
			}
		} `json:"tx_result"`
	}
	err = c.call(ctx, "tx", map[string]any{"hash": base64.StdEncoding.EncodeToString(raw)}, &r)
	var ne *NodeError
	if errors.As(err, &ne) && strings.Contains(ne.Message, "not found") {
		return nil, fmt.Errorf("%w: transaction %s", ErrNotFound, hash)
	}
	if err != nil {
		return nil, err
	}
	out := &TxResult{Hash: hash, Height: r.Height, Code: r.TxResult.Code, Space: r.TxResult.Codespace, Log: r.TxResult.Log, Gas: r.TxResult.GasUsed}
	for _, e := range r.TxResult.Events {
		ev := Event{e.Type, map[string]string{}}
		for _, a := range e.Attributes {
			ev.Attributes[a.Key] = a.Value
		}
		out.Events = append(out.Events, ev)
	}
	return out, nil
}
