package rpc

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

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
