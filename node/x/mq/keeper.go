package mq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"cosmossdk.io/core/store"
	sdkerrors "cosmossdk.io/errors"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
)

// ModuleName names the module and its stores.
const (
	ModuleName   = "mq"
	TransientKey = "transient_mq"
)

// The module's errors. Their codes are on the wire and never change.
var (
	ErrNoTopic      = sdkerrors.Register(ModuleName, 2, "no such topic")
	ErrTopicExists  = sdkerrors.Register(ModuleName, 3, "topic exists")
	ErrNoWorker     = sdkerrors.Register(ModuleName, 4, "worker is not registered, or its admission ended: register it")
	ErrSequence     = sdkerrors.Register(ModuleName, 5, "outbox run does not continue the chain's sequence")
	ErrSignature    = sdkerrors.Register(ModuleName, 6, "outbox entry is not signed by the worker")
	ErrMalformed    = sdkerrors.Register(ModuleName, 7, "malformed outbox run")
	ErrTooLarge     = sdkerrors.Register(ModuleName, 8, "message too large")
	ErrNoNewEntries = sdkerrors.Register(ModuleName, 9, "the chain has every entry of this run")
)

// From says which outbox entry a handler is given.
type From struct {
	Worker    proto.WorkerID
	Seq       uint64
	Payload   []byte
	Signature [64]byte
}

// Handler acts on an entry. An error discards what it did and is recorded; the
// sequence moves on, because an outbox must not block on one refused entry.
type Handler func(ctx sdk.Context, from From, entry proto.Entry) error

// Registry is what the queue asks of x/registry.
type Registry interface {
	// Heard notes that the worker's outbox spoke; false when it is not admitted.
	Heard(ctx sdk.Context, w proto.WorkerID) (bool, error)
}

// A Keeper appends messages to topics and takes outbox runs.
type Keeper struct {
	store     store.KVStoreService
	transient store.TransientStoreService
	bodies    *Bodies
	registry  Registry
	handle    Handler
}

// NewKeeper returns a keeper; SetRouter completes it.
func NewKeeper(s store.KVStoreService, t store.TransientStoreService, bodies *Bodies) *Keeper {
	return &Keeper{store: s, transient: t, bodies: bodies}
}

// SetRouter gives the keeper its registry and the handler of outbox entries, which
// need the keeper themselves.
func (k *Keeper) SetRouter(r Registry, h Handler) { k.registry, k.handle = r, h }

// Bodies returns the side database.
func (k *Keeper) Bodies() *Bodies { return k.bodies }

// CreateTopic makes an empty topic.
func (k *Keeper) CreateTopic(ctx sdk.Context, topic string) error {
	s := k.store.OpenKVStore(ctx)
	has, err := s.Has(proto.KeyTopic(topic))
	if err != nil {
		return err
	}
	if has {
		return ErrTopicExists.Wrap(topic)
	}
	return s.Set(proto.KeyTopic(topic), proto.CreatedCursor(ctx.ChainID(), topic).Marshal())
}

// HasTopic reports whether the topic exists.
func (k *Keeper) HasTopic(ctx context.Context, topic string) (bool, error) {
	return k.store.OpenKVStore(ctx).Has(proto.KeyTopic(topic))
}

// Cursor returns a topic's committed position.
func (k *Keeper) Cursor(ctx context.Context, topic string) (proto.Cursor, error) {
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyTopic(topic))
	if err != nil {
		return proto.Cursor{}, err
	}
	if b == nil {
		return proto.Cursor{}, ErrNoTopic.Wrap(topic)
	}
	return proto.ParseCursor(b)
}

// Transient keys: "n" counts the block's messages, "c/"+topic those of a topic,
// "m/"+number holds one, "s/"+key a body that is not a message.
var (
	tCount   = []byte("n")
	tMessage = []byte("m/")
	tBody    = []byte("s/")
)

func getU64(s store.KVStore, key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || b == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// Append adds a message to a topic in the block that executes and returns the
// sequence that it will have. Only the topic's head changes in the committed
// state, once, at the end of the block.
func (k *Keeper) Append(ctx sdk.Context, topic string, sender []byte, e proto.Event) (uint64, error) {
	cursor, err := k.Cursor(ctx, topic)
	if err != nil {
		return 0, err
	}
	payload := proto.MarshalEvent(e)
	if len(payload) > proto.MaxPayload || len(sender) > proto.MaxSender {
		return 0, ErrTooLarge.Wrapf("%d bytes to %s", len(payload), topic)
	}
	// An enclave stops at a message that it cannot decode: none may enter a topic.
	if _, err := proto.ParseEvent(payload); err != nil {
		return 0, ErrTooLarge.Wrapf("to %s: %v", topic, err)
	}
	t := k.transient.OpenTransientStore(ctx)
	n, err := getU64(t, tCount)
	if err != nil {
		return 0, err
	}
	counter := append([]byte("c/"), topic...)
	in, err := getU64(t, counter)
	if err != nil {
		return 0, err
	}
	m := proto.Message{Topic: topic, Seq: cursor.Seq + in + 1, Height: uint64(ctx.BlockHeight()), Time: uint64(ctx.BlockTime().UnixMilli()), Sender: sender, Payload: payload}
	return m.Seq, errors.Join(
		t.Set(binary.BigEndian.AppendUint64(append([]byte(nil), tMessage...), n), m.Marshal()),
		t.Set(tCount, binary.BigEndian.AppendUint64(nil, n+1)),
		t.Set(counter, binary.BigEndian.AppendUint64(nil, in+1)))
}

// InBlock is how many messages the block that executes has for a topic so far.
func (k *Keeper) InBlock(ctx sdk.Context, topic string) (uint64, error) {
	return getU64(k.transient.OpenTransientStore(ctx), append([]byte("c/"), topic...))
}

// Stage adds a body that is not a message (a chunk of code, a sealed output) to the
// block that executes. It waits in the transient store, so that a transaction that
// fails, or is only simulated, leaves nothing on the disk. It costs no gas: its bytes
// were paid for as bytes of the transaction.
func (k *Keeper) Stage(ctx sdk.Context, key, value []byte) error {
	t := k.transient.OpenTransientStore(ctx.WithGasMeter(storetypes.NewInfiniteGasMeter()))
	return t.Set(append(append([]byte(nil), tBody...), key...), value)
}

// BeginBlock forgets what an earlier execution of this height staged.
func (k *Keeper) BeginBlock(sdk.Context) { k.bodies.Begin() }

// EndBlock folds the block's messages into the heads of their topics, in the order
// in which they were appended. It runs after every module that appends.
func (k *Keeper) EndBlock(ctx sdk.Context) error {
	s, t := k.store.OpenKVStore(ctx), k.transient.OpenTransientStore(ctx)
	err := kv.Each(t, tMessage, func(_, body []byte) (bool, error) {
		m, err := proto.ParseMessage(body)
		if err != nil {
			return false, err
		}
		c, err := k.Cursor(ctx, m.Topic)
		if err != nil {
			return false, err
		}
		if c = c.Fold(m); c.Seq != m.Seq {
			return false, fmt.Errorf("mq: broken invariant: message %d of %s folds to %d", m.Seq, m.Topic, c.Seq)
		}
		k.bodies.Stage(bodyKey(m.Topic, m.Seq), body)
		return true, s.Set(proto.KeyTopic(m.Topic), c.Marshal())
	})
	if err != nil {
		return err
	}
	return kv.Each(t, tBody, func(key, body []byte) (bool, error) {
		k.bodies.Stage(key, body)
		return true, nil
	})
}

// Outbox returns the position of a worker's outbox.
func (k *Keeper) Outbox(ctx context.Context, w proto.WorkerID) (proto.Cursor, error) {
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyOutbox(w))
	if err != nil {
		return proto.Cursor{}, err
	}
	if b == nil {
		return proto.OutboxCursor(sdk.UnwrapSDKContext(ctx).ChainID(), w), nil
	}
	return proto.ParseCursor(b)
}

// NextOutbox returns the sequence that the chain expects next from a worker.
func (k *Keeper) NextOutbox(ctx context.Context, w proto.WorkerID) (uint64, error) {
	c, err := k.Outbox(ctx, w)
	return c.Seq + 1, err
}

// OpenOutbox makes a worker's outbox, so that its sequence is provable from the
// start: an enclave resumes from what the chain proves, never from what a relayer
// says.
func (k *Keeper) OpenOutbox(ctx context.Context, w proto.WorkerID) error {
	return k.store.OpenKVStore(ctx).Set(proto.KeyOutbox(w), proto.OutboxCursor(sdk.UnwrapSDKContext(ctx).ChainID(), w).Marshal())
}

// checkRun checks a run against the chain's sequence and returns the number of
// entries that the chain already has.
func (k *Keeper) checkRun(ctx context.Context, m *types.MsgSubmitOutbox) (old int, w proto.WorkerID, err error) {
	if len(m.Worker) != 32 || len(m.Entries) == 0 || len(m.Entries) > proto.MaxEntries || m.FirstSeq == 0 || m.FirstSeq > 1<<62 {
		return 0, w, ErrMalformed.Wrapf("worker of %d bytes, %d entries from %d", len(m.Worker), len(m.Entries), m.FirstSeq)
	}
	w = proto.WorkerID(m.Worker)
	next, err := k.NextOutbox(ctx, w)
	if err != nil {
		return 0, w, err
	}
	if m.FirstSeq > next {
		return 0, w, ErrSequence.Wrapf("run starts at %d, the chain expects %d: submit from there", m.FirstSeq, next)
	}
	return int(min(next-m.FirstSeq, uint64(len(m.Entries)))), w, nil
}

func verifyEntry(chain string, w proto.WorkerID, seq uint64, e *types.OutboxEntry) error {
	if len(e.Payload) > proto.MaxEntry {
		return ErrTooLarge.Wrapf("outbox entry %d of %d bytes", seq, len(e.Payload))
	}
	if err := identity.Verify(identity.PublicKey(w), proto.EntrySignedBytes(chain, w, seq, e.Payload), e.Signature); err != nil {
		return ErrSignature.Wrapf("entry %d of %s: %v", seq, w, err)
	}
	return nil
}

// Gas of an outbox run, in the chain's gas: a signature check is priced like one of
// a transaction's.
const (
	gasPerEntry = 1000
	gasPerByte  = 1
)

// SubmitOutbox takes the new entries of a run.
func (k *Keeper) SubmitOutbox(c context.Context, m *types.MsgSubmitOutbox) (*types.MsgSubmitOutboxResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	old, w, err := k.checkRun(ctx, m)
	if err != nil {
		return nil, err
	}
	if old == len(m.Entries) {
		// Nothing shows that whoever submits this has heard from the worker.
		next, err := k.NextOutbox(ctx, w)
		return &types.MsgSubmitOutboxResponse{NextSeq: next}, err
	}
	known, err := k.registry.Heard(ctx, w)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, ErrNoWorker.Wrap(w.String())
	}
	position, err := k.Outbox(ctx, w)
	if err != nil {
		return nil, err
	}
	for i := old; i < len(m.Entries); i++ {
		e, seq := &m.Entries[i], m.FirstSeq+uint64(i)
		position = position.FoldEntry(w, e.Payload)
		ctx.GasMeter().ConsumeGas(gasPerEntry+gasPerByte*uint64(len(e.Payload)), "outbox entry")
		if err := verifyEntry(ctx.ChainID(), w, seq, e); err != nil {
			return nil, err
		}
		meter := storetypes.NewInfiniteGasMeter()
		cached, write := ctx.WithGasMeter(meter).CacheContext()
		err := k.give(cached, From{w, seq, e.Payload, [64]byte(e.Signature)})
		// Records grow with what others said. The worker's word must not cost more for it.
		ctx.GasMeter().ConsumeGas(min(meter.GasConsumed(), proto.EntryGas(len(e.Payload))), "outbox entry's effect")
		if err != nil {
			ctx.EventManager().EmitEvent(sdk.NewEvent("outbox_refused", sdk.NewAttribute("worker", w.String()),
				sdk.NewAttribute("seq", fmt.Sprint(seq)), sdk.NewAttribute("reason", err.Error())))
			continue
		}
		write()
	}
	return &types.MsgSubmitOutboxResponse{NextSeq: position.Seq + 1}, k.store.OpenKVStore(ctx).Set(proto.KeyOutbox(w), position.Marshal())
}

// give decodes a signed entry and hands it over. One that this chain cannot decode,
// from a newer enclave for example, is refused like any other.
func (k *Keeper) give(ctx sdk.Context, from From) error {
	entry, err := proto.ParseEntry(from.Payload)
	if err != nil {
		return ErrMalformed.Wrap(err.Error())
	}
	return k.handle(ctx, from, entry)
}

// FreeEntries is how many outbox entries of one worker a block takes without a fee.
const FreeEntries = 64

// Free reports whether a run is carried without a fee: it brings at least one new
// entry, the worker is registered and its quota of this block has room, and the
// worker signed every new entry: what is not signed would use up the quota and then
// fail. It is asked before the transaction runs.
func (k *Keeper) Free(ctx sdk.Context, m *types.MsgSubmitOutbox) (bool, error) {
	old, w, err := k.checkRun(ctx, m)
	if err != nil {
		return false, err
	}
	if old == len(m.Entries) {
		return false, ErrNoNewEntries.Wrapf("of %s up to %d", w, m.FirstSeq+uint64(old)-1)
	}
	t := k.transient.OpenTransientStore(ctx)
	key := append([]byte("f/"), w[:]...)
	used, err := getU64(t, key)
	if err != nil {
		return false, err
	}
	if used += uint64(len(m.Entries) - old); used > FreeEntries {
		return false, nil
	}
	// An unknown worker's signatures are not worth checking. What Heard writes goes with
	// the transaction when one of them is wrong.
	known, err := k.registry.Heard(ctx, w)
	if err != nil {
		return false, err
	}
	if !known {
		return false, ErrNoWorker.Wrap(w.String())
	}
	for i := old; i < len(m.Entries); i++ {
		if err := verifyEntry(ctx.ChainID(), w, m.FirstSeq+uint64(i), &m.Entries[i]); err != nil {
			return false, err
		}
	}
	return true, t.Set(key, binary.BigEndian.AppendUint64(nil, used))
}

// Prune removes bodies of blocks that are more than keep blocks old, a bounded number in
// a block. Which node keeps how much is its operator's policy: enclaves that need older
// messages need a node that has them. No policy removes what a topic's readers cannot do
// without: needed says from which message on that is.
func (k *Keeper) Prune(ctx sdk.Context, keep uint64, needed func(ctx context.Context, topic string) (seq uint64, err error)) error {
	now := uint64(ctx.BlockHeight())
	if keep == 0 || now <= keep {
		return nil
	}
	const perTopic = 200
	s := k.store.OpenKVStore(ctx)
	return kv.Each(s, []byte("t/"), func(key, _ []byte) (bool, error) {
		topic := string(key)
		start := proto.CreatedCursor(ctx.ChainID(), topic)
		b, err := s.Get(keyStart(topic))
		if err == nil && b != nil {
			start, err = proto.ParseCursor(b)
		}
		if err != nil {
			return false, err
		}
		from, err := needed(ctx, topic)
		if err != nil {
			return false, err
		}
		_, err = k.bodies.Prune(topic, start, now-keep, from, perTopic)
		return true, err
	})
}

// Messages serves bodies.
func (k *Keeper) Messages(_ context.Context, q *types.QueryMessagesRequest) (*types.QueryMessagesResponse, error) {
	if len(q.Topic) > proto.MaxTopic {
		return nil, ErrNoTopic.Wrap("name too long")
	}
	limit, size := int(min(q.Limit, 1000)), 0
	out := &types.QueryMessagesResponse{}
	err := k.bodies.Scan(bodyPrefix(q.Topic), binary.BigEndian.AppendUint64(nil, q.FromSeq), func(key, value []byte) bool {
		seq := binary.BigEndian.Uint64(key[len(key)-8:])
		size += len(value)
		if len(out.Messages) >= limit || (q.UpToSeq > 0 && seq > q.UpToSeq) || (size > 8<<20 && len(out.Messages) > 0) {
			return false
		}
		out.Messages = append(out.Messages, append([]byte(nil), value...))
		return true
	})
	return out, err
}
