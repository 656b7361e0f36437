package substrate

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
)

// Hash is a block or state hash.
type Hash = grandpa.Hash

// hexBytes is a byte string that JSON carries in hexadecimal with 0x in front.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	digits, ok := trimHex(s)
	if !ok {
		return errors.New("hexadecimal string without 0x")
	}
	var err error
	*h, err = hex.DecodeString(digits)
	return err
}

func (h hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal("0x" + hex.EncodeToString(h)) }

func toHash(b hexBytes) (h Hash, err error) {
	if len(b) != 32 {
		return h, fail(ErrProtocol, nil, "hash of %d bytes", len(b))
	}
	return Hash(b), nil
}

// jsonHeader is a header as the RPC spells it.
type jsonHeader struct {
	ParentHash     hexBytes `json:"parentHash"`
	Number         string   `json:"number"`
	StateRoot      hexBytes `json:"stateRoot"`
	ExtrinsicsRoot hexBytes `json:"extrinsicsRoot"`
	Digest         struct {
		Logs []hexBytes `json:"logs"`
	} `json:"digest"`
}

func (j *jsonHeader) header() (*grandpa.Header, error) {
	digits, ok := trimHex(j.Number)
	number, err := strconv.ParseUint(digits, 16, 32)
	if !ok || err != nil {
		return nil, fail(ErrProtocol, err, "block number %q", j.Number)
	}
	h := &grandpa.Header{Number: uint32(number)}
	for _, f := range []struct {
		to   *Hash
		from hexBytes
	}{{&h.ParentHash, j.ParentHash}, {&h.StateRoot, j.StateRoot}, {&h.ExtrinsicsRoot, j.ExtrinsicsRoot}} {
		if *f.to, err = toHash(f.from); err != nil {
			return nil, err
		}
	}
	if len(j.Digest.Logs) > grandpa.MaxDigestItems {
		return nil, fail(ErrProtocol, nil, "%d logs", len(j.Digest.Logs))
	}
	for i, log := range j.Digest.Logs {
		item, err := grandpa.DecodeDigestItem(log)
		if err != nil {
			return nil, fail(ErrProtocol, err, "log %d", i)
		}
		h.Digest = append(h.Digest, item)
	}
	return h, nil
}

func (c *Client) hash(ctx context.Context, method string, params ...any) (Hash, error) {
	var b hexBytes
	if err := c.Call(ctx, &b, method, params...); err != nil {
		return Hash{}, err
	}
	return toHash(b)
}

// ChainName returns the node's name of its chain (system_chain).
func (c *Client) ChainName(ctx context.Context) (name string, err error) {
	err = c.Call(ctx, &name, "system_chain")
	return name, err
}

// BlockHash returns the hash of the block with the number on the node's best chain (chain_getBlockHash).
func (c *Client) BlockHash(ctx context.Context, number uint32) (Hash, error) {
	return c.hash(ctx, "chain_getBlockHash", number)
}

// FinalizedHead returns the hash of the newest block that the node holds final (chain_getFinalizedHead).
func (c *Client) FinalizedHead(ctx context.Context) (Hash, error) {
	return c.hash(ctx, "chain_getFinalizedHead")
}

// Header returns the header with the hash (chain_getHeader), and checks that it is that one.
func (c *Client) Header(ctx context.Context, hash Hash) (*grandpa.Header, error) {
	var j jsonHeader
	if err := c.Call(ctx, &j, "chain_getHeader", hash.String()); err != nil {
		return nil, err
	}
	h, err := j.header()
	if err != nil {
		return nil, err
	}
	if got := h.Hash(); got != hash {
		return nil, fail(ErrProtocol, nil, "asked for header %s, got %s", hash, got)
	}
	return h, nil
}

// HeaderAt returns the header of the block with the number on the node's best chain.
func (c *Client) HeaderAt(ctx context.Context, number uint32) (*grandpa.Header, error) {
	hash, err := c.BlockHash(ctx, number)
	if err != nil {
		return nil, err
	}
	return c.Header(ctx, hash)
}

// ProveFinality returns the proof that the block with the number is final (grandpa_proveFinality). ErrNotFound means
// that there is none yet.
func (c *Client) ProveFinality(ctx context.Context, number uint32) (*grandpa.FinalityProof, error) {
	var b hexBytes
	if err := c.Call(ctx, &b, "grandpa_proveFinality", number); err != nil {
		return nil, err
	}
	p, err := grandpa.DecodeFinalityProof(b)
	if err != nil {
		return nil, fail(ErrProtocol, err, "finality proof of #%d", number)
	}
	return p, nil
}

// numbers is a byte string that JSON carries as an array of numbers, as nodes do in stored justifications, or in
// hexadecimal.
type numbers []byte

func (n *numbers) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return (*hexBytes)(n).UnmarshalJSON(b)
	}
	return json.Unmarshal(b, (*[]byte)(n)) // an array of numbers; base64 is for strings only
}

// Justification returns the GRANDPA justification that the node stores with a block (chain_getBlock). Nodes keep
// those of the last block of each set, and some others.
func (c *Client) Justification(ctx context.Context, hash Hash) (*grandpa.Justification, error) {
	var block struct {
		Justifications [][2]numbers `json:"justifications"`
	}
	if err := c.Call(ctx, &block, "chain_getBlock", hash.String()); err != nil {
		return nil, err
	}
	for _, j := range block.Justifications {
		if string(j[0]) == string(grandpa.EngineGRANDPA[:]) {
			out, err := grandpa.DecodeJustification(j[1])
			if err != nil {
				return nil, fail(ErrProtocol, err, "justification of %s", hash)
			}
			return out, nil
		}
	}
	return nil, fail(ErrNotFound, nil, "block %s has no GRANDPA justification", hash)
}

// ReadProof returns the nodes that prove the keys' values, or that they have none, in the state after the block
// (state_getReadProof).
func (c *Client) ReadProof(ctx context.Context, at Hash, keys ...[]byte) ([][]byte, error) {
	list := make([]hexBytes, len(keys))
	for i, k := range keys {
		list[i] = k
	}
	var answer struct {
		At    hexBytes   `json:"at"`
		Proof []hexBytes `json:"proof"`
	}
	if err := c.Call(ctx, &answer, "state_getReadProof", list, at.String()); err != nil {
		return nil, err
	}
	if string(answer.At) != string(at[:]) {
		return nil, fail(ErrProtocol, nil, "asked for a proof at %s, got one at 0x%x", at, []byte(answer.At))
	}
	nodes := make([][]byte, len(answer.Proof))
	for i, n := range answer.Proof {
		nodes[i] = n
	}
	return nodes, nil
}

// PrefixProof returns the nodes that prove all entries below a prefix, at most limit, in the state after the block:
// it lists the keys (state_getKeysPaged) and asks for the proof of all.
func (c *Client) PrefixProof(ctx context.Context, at Hash, prefix []byte, limit int) ([][]byte, error) {
	const page = 1000 // the most that nodes give
	keys := [][]byte{prefix}
	start := hexBytes(prefix)
	for {
		var got []hexBytes
		err := c.Call(ctx, &got, "state_getKeysPaged", hexBytes(prefix), page, start, at.String())
		if err != nil {
			return nil, err
		}
		for _, k := range got {
			keys = append(keys, k)
		}
		if len(keys)-1 > limit {
			return nil, fail(ErrTooLarge, nil, "more than %d keys below %x", limit, prefix)
		}
		if len(got) < page {
			return c.ReadProof(ctx, at, keys...)
		}
		start = got[len(got)-1]
	}
}

// A FinalizedHeader is a header that the node holds final, from a subscription.
type FinalizedHeader struct {
	Header *grandpa.Header
	Gap    bool // headers before it may not have been delivered; nodes skip some without that, too
}

// FollowFinalized calls f with each newer header that the node holds final, until ctx ends or f fails, and returns
// why. Over HTTP it asks every poll; over WebSocket it subscribes (chain_subscribeFinalizedHeads).
func (c *Client) FollowFinalized(ctx context.Context, poll time.Duration, f func(FinalizedHeader) error) error {
	if !c.streams {
		return c.pollFinalized(ctx, poll, f)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sub, err := c.Subscribe(ctx, "chain_subscribeFinalizedHeads", "chain_unsubscribeFinalizedHeads")
	if err != nil {
		return err
	}
	for e := range sub.Events {
		var j jsonHeader
		if err := json.Unmarshal(e.Data, &j); err != nil {
			return fail(ErrProtocol, err, "finalized header")
		}
		h, err := j.header()
		if err != nil {
			return err
		}
		if err := f(FinalizedHeader{Header: h, Gap: e.Gap}); err != nil {
			return err
		}
	}
	return sub.Err()
}

func (c *Client) pollFinalized(ctx context.Context, every time.Duration, f func(FinalizedHeader) error) error {
	var last *grandpa.Header
	gap := false
	for {
		hash, err := c.FinalizedHead(ctx)
		var h *grandpa.Header
		if err == nil {
			h, err = c.Header(ctx, hash)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrConnect):
			gap = true
		case err != nil:
			return err
		case last == nil || h.Number > last.Number:
			if err := f(FinalizedHeader{Header: h, Gap: gap}); err != nil {
				return err
			}
			last, gap = h, false
		}
		if err := pause(ctx, every); err != nil {
			return err
		}
	}
}

// SubscribeJustifications delivers the justifications that the node sees or makes (grandpa_subscribeJustifications),
// as JSON strings for [DecodeJustificationEvent].
func (c *Client) SubscribeJustifications(ctx context.Context) (*Subscription, error) {
	return c.Subscribe(ctx, "grandpa_subscribeJustifications", "grandpa_unsubscribeJustifications")
}

// DecodeJustificationEvent decodes an event of SubscribeJustifications.
func DecodeJustificationEvent(e Event) (*grandpa.Justification, error) {
	var b hexBytes
	if err := json.Unmarshal(e.Data, &b); err != nil {
		return nil, fail(ErrProtocol, err, "justification event")
	}
	j, err := grandpa.DecodeJustification(b)
	if err != nil {
		return nil, fail(ErrProtocol, err, "justification event")
	}
	return j, nil
}

// NextUpdate makes an update that advances s: to the last block of its authority set, or, while that is still in
// office, to the newest block with a justification. ErrNotFound means that nothing newer is proven yet. The caller
// verifies it with State.Apply.
func (c *Client) NextUpdate(ctx context.Context, s *grandpa.State) (*grandpa.Update, error) {
	first := s.Block.Number + 1
	proof, err := c.ProveFinality(ctx, first)
	if err != nil {
		return nil, err
	}
	header, err := c.HeaderAt(ctx, first)
	if err != nil {
		return nil, err
	}
	u, err := proof.Update(header)
	if err != nil {
		return nil, fail(ErrProtocol, err, "finality proof of #%d", first)
	}
	u.Justification = u.Justification.Trim(s.Set)
	return u, nil
}

// CatchUp makes a warp-sync proof that advances s over at most limit authority sets, out of the justifications that
// the node stores for the sets' last blocks. Each fragment is verified on the way; now is the time for that. The
// proof is finished when it reaches the newest proven block. ErrNotFound means that nothing newer is proven yet.
func (c *Client) CatchUp(ctx context.Context, s *grandpa.State, limit int, now time.Time) (*grandpa.WarpProof, error) {
	w := &grandpa.WarpProof{}
	for len(w.Fragments) < limit && !w.Finished {
		proof, err := c.ProveFinality(ctx, s.Block.Number+1)
		if errors.Is(err, ErrNotFound) && len(w.Fragments) > 0 {
			w.Finished = true
			break
		}
		if err != nil {
			return nil, err
		}
		h, err := c.Header(ctx, proof.Block)
		if err != nil {
			return nil, err
		}
		fragment := grandpa.WarpFragment{Header: h, Justification: proof.Justification.Trim(s.Set)}
		change, err := h.ScheduledChange()
		if err != nil {
			return nil, fmt.Errorf("header #%d: %w", h.Number, err)
		}
		step := &grandpa.WarpProof{Fragments: []grandpa.WarpFragment{fragment}, Finished: change == nil}
		if s, err = s.ApplyWarp(step, now); err != nil {
			return nil, fmt.Errorf("fragment #%d: %w", h.Number, err)
		}
		w.Fragments = append(w.Fragments, fragment)
		w.Finished = change == nil
	}
	return w, nil
}
