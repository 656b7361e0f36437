package pherry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/inbox"
)

// A Relayer serves one pruntime.
type Relayer struct {
	Node     *rpc.Client
	Runtime  *Runtime
	Operator *tx.Sender // registers, and pays where there is something to pay
	Interval time.Duration
	Log      *slog.Logger

	submitted uint64 // outbox entries up to here have been handed to the node
	at        int64  // height at which they were
	said      string // last error logged
	failures  map[proto.Hash]failure
	denied    failure // of the last registration
	wait      int64   // blocks after it

	mu    sync.Mutex
	state State
}

// A State is what a relayer says about its work.
type State struct {
	Runtime string    // private API of the pruntime
	Last    time.Time // end of the last round that succeeded
	Error   string    // of the last round; empty when it succeeded
	Rounds  uint64
	Failed  uint64
}

// State returns what the relayer says about its work.
func (r *Relayer) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Runtime = r.Runtime.url
	return s
}

func (r *Relayer) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Rounds++
	if err != nil {
		r.state.Failed++
		r.state.Error = err.Error()
		return
	}
	r.state.Last, r.state.Error = time.Now(), ""
}

const (
	maxRun   = 32 // entries in one transaction: half of what a block takes without a fee
	resubmit = 20 // blocks after which entries that the chain does not have are sent again
)

// Run relays until the context ends.
func (r *Relayer) Run(ctx context.Context) error {
	t := time.NewTicker(r.Interval)
	defer t.Stop()
	for {
		err := r.Round(ctx)
		r.note(err)
		if err != nil && ctx.Err() == nil {
			if s := err.Error(); s != r.said {
				r.Log.Warn("round failed, trying again", "error", err)
				r.said = s
			}
		} else {
			r.said = ""
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Round does one round.
func (r *Relayer) Round(ctx context.Context) error {
	st, err := r.Runtime.Status(ctx)
	if err != nil {
		return err
	}
	if st.Fatal != "" {
		return fmt.Errorf("pherry: pruntime %s: %s", st.Worker, st.Fatal)
	}
	node, err := r.Node.Status(ctx)
	if err != nil {
		return err
	}
	if node.Chain != st.Chain {
		return fmt.Errorf("pherry: the node is of chain %q, the pruntime of %q", node.Chain, st.Chain)
	}
	if st.TrustedHeight == 0 {
		if node.Height < st.TrustRoot.Height {
			return nil
		}
		h, err := r.Node.Header(ctx, st.TrustRoot.Height)
		if err != nil {
			return err
		}
		if st, err = r.Runtime.TrustHeader(ctx, h); err != nil {
			return err
		}
	}
	// The node proves states from height 2 on, so headers from 3.
	for node.Height > st.TrustedHeight && node.Height >= 3 {
		st, err = r.advance(ctx, st, node.Height)
		if c := Code(err); c == "need_code" || c == "need_key" {
			st, err = r.Runtime.Status(ctx)
			if err != nil {
				return err
			}
			break
		}
		if err != nil {
			return err
		}
	}
	// One of them that fails does not keep the others from being done.
	return errors.Join(r.codes(ctx, st), r.clusterState(ctx, st), r.blocks(ctx, st), r.register(ctx, st), r.outbox(ctx, st))
}

// Build collects what an enclave that stands at st needs to get to the state that the
// header of the given height proves.
func Build(ctx context.Context, node *rpc.Client, st *pruntime.Status, height int64) (*inbox.Advance, error) {
	b, err := node.LightBlock(ctx, height)
	if err != nil {
		return nil, err
	}
	topics := make([]string, 0, len(st.Topics)+1)
	for t := range st.Topics {
		topics = append(topics, t)
	}
	own := proto.TopicWorker(st.Worker)
	if _, ok := st.Topics[own]; !ok {
		topics = append(topics, own)
	}
	a := &inbox.Advance{Blocks: []*comet.LightBlock{b}}
	cut := uint64(height - 1)
	for _, t := range topics {
		value, proof, err := node.Prove(ctx, proto.StoreMQ, proto.KeyTopic(t), height-1)
		if t == own && errors.Is(err, rpc.ErrNotFound) {
			continue // not registered yet
		}
		if err != nil {
			return nil, err
		}
		c, err := proto.ParseCursor(value)
		if err != nil {
			return nil, err
		}
		a.Topics = append(a.Topics, inbox.Proven{Topic: t, Cursor: c, Proof: proof})
		messages, err := bodies(ctx, node, t, st.Topics[t]+1, c.Seq)
		if err != nil {
			return nil, err
		}
		if n := len(messages); n > 0 && messages[n-1].Seq < c.Seq {
			cut = min(cut, messages[n-1].Height-1) // of its height there may be more
		}
		a.Messages = append(a.Messages, messages...)
	}
	if cut = fitting(a.Messages, cut); cut == uint64(height-1) {
		return a, nil
	}
	// More than one advance takes: a part of the way first.
	if int64(cut) < st.TrustedHeight {
		return nil, fmt.Errorf("%w: up to height %d", errTooMany, st.TrustedHeight)
	}
	return Build(ctx, node, st, int64(cut)+1)
}

// How much one advance brings: less than the enclave takes, which is in bytes of the
// whole.
const (
	maxMessages = inbox.MaxMessages
	maxBytes    = inbox.MaxAdvance / 4
)

// bodies fetches messages of a topic, from one sequence to another or as many as an
// advance may have.
func bodies(ctx context.Context, node *rpc.Client, topic string, from, to uint64) (out []*proto.Message, err error) {
	for size := 0; from <= to && len(out) <= maxMessages && size <= maxBytes; {
		list, err := node.Messages(ctx, topic, from, to)
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, fmt.Errorf("pherry: the node has no bodies of %s from %d: use one that kept them", topic, from)
		}
		for _, b := range list {
			m, err := proto.ParseMessage(b)
			if err != nil {
				return nil, err
			}
			if m.Seq != from {
				return nil, fmt.Errorf("pherry: the node answered message %d of %s for %d", m.Seq, topic, from)
			}
			out, size, from = append(out, m), size+len(b), from+1
		}
	}
	return out, nil
}

// fitting returns the largest height, up to the given one, whose messages fit into one
// advance.
func fitting(messages []*proto.Message, height uint64) uint64 {
	byHeight := slices.Clone(messages)
	slices.SortStableFunc(byHeight, func(x, y *proto.Message) int { return cmp.Compare(x.Height, y.Height) })
	size := 0
	for i, m := range byHeight {
		if m.Height > height {
			break
		}
		if size += len(m.Payload) + 256; i >= maxMessages || size > maxBytes {
			return m.Height - 1
		}
	}
	return height
}

// errTooMany: the past of a topic that joins is more than one advance brings.
var errTooMany = errors.New("pherry: more messages than one advance takes")

// hold brings the past of topics that join, part by part, ahead of the advance that proves
// it.
func (r *Relayer) hold(ctx context.Context, st *pruntime.Status, height int64) (*pruntime.Status, error) {
	for _, t := range st.Joining {
		value, _, err := r.Node.Prove(ctx, proto.StoreMQ, proto.KeyTopic(t), height-1)
		if err != nil {
			return nil, err
		}
		c, err := proto.ParseCursor(value)
		if err != nil {
			return nil, err
		}
		for st.Topics[t] < c.Seq {
			msgs, err := bodies(ctx, r.Node, t, st.Topics[t]+1, c.Seq)
			if err != nil {
				return nil, err
			}
			if st, err = r.Runtime.Hold(ctx, msgs[:min(len(msgs), maxMessages)]); err != nil {
				return nil, err
			}
		}
	}
	return st, nil
}

// advance brings the enclave to the state that the header of the given height proves.
func (r *Relayer) advance(ctx context.Context, st *pruntime.Status, height int64) (*pruntime.Status, error) {
	a, err := Build(ctx, r.Node, st, height)
	if errors.Is(err, errTooMany) {
		if st, err = r.hold(ctx, st, height); err != nil {
			return nil, err
		}
		a, err = Build(ctx, r.Node, st, height)
	}
	if err != nil {
		return nil, err
	}
	out, err := r.Runtime.Advance(ctx, a)
	if !stepNeeded(err) {
		return out, err
	}
	if err := r.walk(ctx, a.Blocks[0], 0); err != nil {
		return nil, err
	}
	return r.Runtime.Advance(ctx, a)
}

// stepNeeded reports whether a header could not be reached at once.
func stepNeeded(err error) bool {
	var ae *apiError
	return errors.As(err, &ae) && (ae.Code == "block_not_trusted" || ae.Code == "block_need_next_set")
}

// walk brings the enclave to a header by bisection, and returns when it is verified.
func (r *Relayer) walk(ctx context.Context, b *comet.LightBlock, depth int) error {
	for {
		_, err := r.Runtime.Headers(ctx, b)
		if !stepNeeded(err) {
			return err
		}
		st, serr := r.Runtime.Status(ctx)
		if serr != nil {
			return serr
		}
		trusted := st.TrustedHeight
		height := b.Header.Height
		mid := (trusted + height) / 2
		var ae *apiError
		if errors.As(err, &ae) && ae.Code == "block_need_next_set" {
			// The trusted header's successor brings the set that every skip needs.
			mid = trusted + 1
		}
		if mid <= trusted || mid >= height || depth > 60 {
			return err
		}
		m, merr := r.Node.LightBlock(ctx, mid)
		if merr != nil {
			return merr
		}
		if err := r.walk(ctx, m, depth+1); err != nil {
			return err
		}
	}
}

// outbox acknowledges and submits.
func (r *Relayer) outbox(ctx context.Context, st *pruntime.Status) error {
	if st.Outbox.Base == 0 {
		r.submitted = 0 // it started anew: what was submitted is another life's
	} else if st.Outbox.Count == 0 {
		return nil
	}
	if st.TrustedHeight < 3 {
		return nil // nothing can be proven yet
	}
	value, proof, err := r.Node.Prove(ctx, proto.StoreMQ, proto.KeyOutbox(st.Worker), st.TrustedHeight-1)
	if errors.Is(err, rpc.ErrNotFound) {
		return nil // not registered yet
	}
	if err != nil {
		return err
	}
	position, err := proto.ParseCursor(value)
	if err != nil {
		return err
	}
	if position.Seq+1 != st.Outbox.Base {
		if st, err = r.Runtime.Acknowledge(ctx, position, proof); err != nil {
			return err
		}
	}
	if st.Outbox.Count == 0 {
		return nil
	}
	if r.submitted >= st.Outbox.Base+uint64(st.Outbox.Count) && st.TrustedHeight < r.at+resubmit {
		return nil // on their way
	}
	out, err := r.Runtime.Outbox(ctx)
	if err != nil || len(out.Entries) == 0 {
		return err
	}
	// What is on its way is not sent again: only the rest of the run.
	skip := uint64(0)
	if r.submitted >= out.First && st.TrustedHeight < r.at+resubmit {
		skip = r.submitted - out.First
	}
	if skip >= uint64(len(out.Entries)) {
		return nil
	}
	var entries []tx.Entry
	size := 0
	for _, e := range out.Entries[skip:min(uint64(len(out.Entries)), skip+maxRun)] {
		entries = append(entries, tx.Entry(e))
		size += len(e.Payload)
	}
	pub := r.Operator.Key.Public()
	first := out.First + skip
	_, err = r.Operator.Broadcast(ctx, proto.OutboxGas(len(entries), size), true, tx.SubmitOutbox(pub[:], st.Worker, first, entries))
	var refused *tx.Refused
	if errors.As(err, &refused) && refused.Space == "mq" {
		// The chain moved on: another relayer was faster. The next round sees where it is.
		r.submitted = 0
		return nil
	}
	if err != nil {
		r.submitted = 0
		return fmt.Errorf("pherry: outbox of %s: %w", st.Worker, err)
	}
	r.submitted, r.at = first+uint64(len(entries)), st.TrustedHeight
	return nil
}
