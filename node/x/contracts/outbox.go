package contracts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

// HandleEntry acts on the outbox entries that belong to clusters. The sender must
// have a seat in the cluster that the entry names.
func (k *Keeper) HandleEntry(ctx sdk.Context, from mq.From, entry proto.Entry) error {
	var id proto.ClusterID
	switch e := entry.(type) {
	case proto.PublishEpochKey:
		id = e.Cluster
	case proto.CodePrepared:
		id = e.Cluster
	case proto.CodeRefused:
		id = e.Cluster
	case proto.Receipt:
		id = e.Cluster
	case proto.PostOutputs:
		id = e.Cluster
	default:
		return ErrMalformed.Wrapf("entry %T", entry)
	}
	c, err := k.Cluster(ctx, id)
	if err != nil {
		return err
	}
	if !c.HasSeat(from.Worker) {
		return ErrSeat.Wrapf("%s in %s", from.Worker, id)
	}
	switch e := entry.(type) {
	case proto.PublishEpochKey:
		return k.epochKey(ctx, c, from.Worker, e)
	case proto.CodePrepared:
		return k.codeVote(ctx, c, from.Worker, e.Code, true)
	case proto.CodeRefused:
		return k.codeVote(ctx, c, from.Worker, e.Code, false)
	case proto.Receipt:
		return k.receipt(ctx, c, from, e)
	case proto.PostOutputs:
		for i := range e.Outputs {
			k.mq.Bodies().Stage(outputKey(c.ID, e.Outputs[i].Seq, from.Worker), e.Outputs[i].Marshal())
		}
	}
	return nil
}

// epochKey counts a seat's word for the epoch's public key. It counts once a
// majority published the same; a seat may not change its word.
func (k *Keeper) epochKey(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, e proto.PublishEpochKey) error {
	if e.Epoch != c.Epoch {
		return ErrEpoch.Wrapf("epoch %d, cluster %s is in %d", e.Epoch, c.ID, c.Epoch)
	}
	if err := commkey.PublicKey(e.Public).Check(); err != nil {
		return ErrMalformed.Wrap(err.Error())
	}
	same := 1
	for _, s := range c.Sealed {
		if s.Worker == w {
			return nil
		}
		if s.Public == e.Public {
			same++
		}
	}
	c.Sealed = append(c.Sealed, proto.SealedEpoch{Worker: w, Public: e.Public})
	if c.EpochKey == [32]byte{} && same >= c.Majority() {
		c.EpochKey = e.Public
		ctx.EventManager().EmitEvent(sdk.NewEvent("epoch_key", sdk.NewAttribute("cluster", c.ID.String()), sdk.NewAttribute("epoch", fmt.Sprint(c.Epoch))))
	}
	return set(ctx, k, proto.KeyCluster(c.ID), c)
}

// codeVote counts a seat's word for a code. When a majority prepared it, the
// contracts that wait for it start; when a majority refused it, they are refused
// and their escrow returns.
func (k *Keeper) codeVote(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID, hash proto.Hash, ok bool) error {
	code, err := get(ctx, k, proto.KeyCode(hash), proto.ParseCode)
	if err != nil {
		return err
	}
	if code == nil {
		return ErrNoCode.Wrap(hash.String())
	}
	vote := proto.CodeVote{Cluster: c.ID, Worker: w}
	for _, list := range [][]proto.CodeVote{code.Prepared, code.Refused} {
		for _, v := range list {
			if v == vote {
				return nil
			}
		}
	}
	list := &code.Refused
	if ok {
		list = &code.Prepared
	}
	*list = append(*list, vote)
	if err := set(ctx, k, proto.KeyCode(hash), code); err != nil {
		return err
	}
	if votes(*list, c) != c.Majority() {
		return nil
	}
	s, prefix := k.store.OpenKVStore(ctx), waitPrefix(c.ID, hash)
	var waiting []proto.ContractID
	err = kv.Each(s, prefix, func(key, _ []byte) (bool, error) {
		waiting = append(waiting, proto.ContractID(key))
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, id := range waiting {
		ct, err := get(ctx, k, proto.KeyContract(id), proto.ParseContract)
		if err != nil {
			return err
		}
		if err := s.Delete(append(prefix[:len(prefix):len(prefix)], id[:]...)); err != nil {
			return err
		}
		if ok {
			err = k.start(ctx, ct)
		} else {
			err = k.refuse(ctx, ct)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *Keeper) refuse(ctx sdk.Context, ct *proto.Contract) error {
	rec, err := get(ctx, k, pendingKey(ct.ID), proto.ParseCommandRecord)
	if err != nil {
		return err
	}
	ct.Phase = proto.ContractRefused
	if err := k.pay(ctx, rec.Payer, rec.Escrow); err != nil {
		return err
	}
	return errors.Join(set(ctx, k, proto.KeyContract(ct.ID), ct), k.store.OpenKVStore(ctx).Delete(pendingKey(ct.ID)))
}

func (k *Keeper) pay(ctx sdk.Context, to []byte, amount uint64) error {
	if amount == 0 {
		return nil
	}
	return k.bank.SendCoinsFromModuleToAccount(ctx, ModuleName, to, coins(amount))
}

// receipt counts a seat's receipt and finalises what a majority agrees on, in order.
func (k *Keeper) receipt(ctx sdk.Context, c *proto.Cluster, from mq.From, r proto.Receipt) error {
	// A late word about a final receipt still counts as evidence for or against the
	// seat; one for messages that do not exist yet is refused.
	cursor, err := k.mq.Cursor(ctx, proto.TopicCluster(c.ID))
	if err != nil {
		return err
	}
	if r.ToSeq > cursor.Seq {
		return ErrReceipt.Wrapf("messages up to %d, the topic has %d", r.ToSeq, cursor.Seq)
	}
	key := proto.KeyReceipt(c.ID, r.FromSeq)
	rec, err := get(ctx, k, key, proto.ParseReceiptRecord)
	if err != nil {
		return err
	}
	if rec == nil {
		if r.FromSeq <= c.FinalSeq {
			return ErrReceipt.Wrapf("messages from %d are inside a final receipt", r.FromSeq)
		}
		rec = &proto.ReceiptRecord{}
	}
	digest := proto.Hash(sha256.Sum256(proto.MarshalEntry(r)))
	known := false
	for _, v := range rec.Votes {
		if v.Worker == from.Worker {
			return ErrReceipt.Wrapf("%s already gave its word for messages from %d", from.Worker, r.FromSeq)
		}
		known = known || v.Digest == digest
	}
	if !known {
		rec.Receipts = append(rec.Receipts, r)
	}
	rec.Votes = append(rec.Votes, proto.ReceiptVote{Worker: from.Worker, OutboxSeq: from.Seq, Digest: digest, Signature: from.Signature})
	if len(rec.Receipts) > 1 && !known {
		ctx.EventManager().EmitEvent(sdk.NewEvent("receipt_diverged", sdk.NewAttribute("cluster", c.ID.String()),
			sdk.NewAttribute("from_seq", fmt.Sprint(r.FromSeq)), sdk.NewAttribute("worker", from.Worker.String())))
	}
	if err := set(ctx, k, key, rec); err != nil {
		return err
	}
	return k.finalise(ctx, c)
}

// finalise makes receipts final from the first one that is not, as far as a
// majority agrees.
func (k *Keeper) finalise(ctx sdk.Context, c *proto.Cluster) error {
	for {
		key := proto.KeyReceipt(c.ID, c.FinalSeq+1)
		rec, err := get(ctx, k, key, proto.ParseReceiptRecord)
		if err != nil || rec == nil {
			return err
		}
		agreed := -1
		var digest proto.Hash
		for i := range rec.Receipts {
			d, n := proto.Hash(sha256.Sum256(proto.MarshalEntry(rec.Receipts[i]))), 0
			for _, v := range rec.Votes {
				if v.Digest == d && c.HasSeat(v.Worker) {
					n++
				}
			}
			if n >= c.Majority() {
				agreed, digest = i, d
			}
		}
		if agreed < 0 {
			return nil
		}
		rec.Final, rec.Agreed = true, uint32(agreed)
		r := &rec.Receipts[agreed]
		if err := k.settle(ctx, c, r, rec, digest); err != nil {
			return err
		}
		c.FinalSeq, c.FinalHead, c.FinalRoot = r.ToSeq, r.Head, r.StateRoot
		if err := errors.Join(set(ctx, k, key, rec), set(ctx, k, proto.KeyCluster(c.ID), c)); err != nil {
			return err
		}
		ctx.EventManager().EmitEvent(sdk.NewEvent("receipt_final", sdk.NewAttribute("cluster", c.ID.String()),
			sdk.NewAttribute("from_seq", fmt.Sprint(r.FromSeq)), sdk.NewAttribute("to_seq", fmt.Sprint(r.ToSeq))))
	}
}

// settle pays the operators of the seats that agreed and returns the rest of each
// command's escrow. What does not divide evenly goes to the first of them.
func (k *Keeper) settle(ctx sdk.Context, c *proto.Cluster, r *proto.Receipt, rec *proto.ReceiptRecord, digest proto.Hash) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	var operators [][]byte
	for _, v := range rec.Votes {
		if v.Digest != digest || !c.HasSeat(v.Worker) {
			continue
		}
		w, err := k.registry.Worker(ctx, v.Worker)
		if err != nil {
			return err
		}
		operators = append(operators, w.Operator)
	}
	var earned uint64
	for i, item := range r.Items {
		seq := r.FromSeq + uint64(i)
		cmd, err := get(ctx, k, proto.KeyCommand(c.ID, seq), proto.ParseCommandRecord)
		if err != nil {
			return err
		}
		if cmd == nil || cmd.Done {
			continue // a message that is not a command
		}
		cmd.Done, cmd.Charged = true, chargeFor(cmd, min(p.BaseFee, cmd.Escrow), item.GasBucket)
		earned += cmd.Charged
		if err := errors.Join(k.pay(ctx, cmd.Payer, cmd.Escrow-cmd.Charged), set(ctx, k, proto.KeyCommand(c.ID, seq), cmd)); err != nil {
			return err
		}
	}
	share := earned / uint64(len(operators))
	for i, o := range operators {
		amount := share
		if i == 0 {
			amount += earned - share*uint64(len(operators))
		}
		if err := k.pay(ctx, o, amount); err != nil {
			return err
		}
	}
	return nil
}

func outputPrefix(c proto.ClusterID, seq uint64) []byte {
	return append(append([]byte("o/"), c.Bytes()...), sdk.Uint64ToBigEndian(seq)...)
}

func outputKey(c proto.ClusterID, seq uint64, w proto.WorkerID) []byte {
	return append(outputPrefix(c, seq), w[:]...)
}

// Chunk serves one chunk of a code.
func (k *Keeper) Chunk(_ context.Context, q *types.QueryChunkRequest) (*types.QueryChunkResponse, error) {
	if len(q.CodeHash) != 32 {
		return nil, ErrMalformed.Wrapf("code hash of %d bytes", len(q.CodeHash))
	}
	b, err := k.mq.Bodies().Get(chunkKey(proto.Hash(q.CodeHash), q.Index))
	if err == nil && b == nil {
		err = ErrNoCode.Wrapf("chunk %d of %x", q.Index, q.CodeHash)
	}
	return &types.QueryChunkResponse{Chunk: b}, err
}

// Output serves the sealed answers to a command.
func (k *Keeper) Output(_ context.Context, q *types.QueryOutputRequest) (*types.QueryOutputResponse, error) {
	out := &types.QueryOutputResponse{}
	err := k.mq.Bodies().Scan(outputPrefix(proto.ClusterID(q.Cluster), q.Seq), nil, func(_, v []byte) bool {
		out.Outputs = append(out.Outputs, append([]byte(nil), v...))
		return len(out.Outputs) < proto.MaxSeats
	})
	return out, err
}
