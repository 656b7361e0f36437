package contracts

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

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
	case proto.SnapshotTaken:
		id = e.Cluster
	case proto.SnapshotPiece:
		id = e.Cluster
	case proto.RulesReady:
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
		return k.codeVote(ctx, c, proto.CodeVote{Cluster: c.ID, Worker: from.Worker, Rules: e.Rules, Image: e.Image}, e.Code, true)
	case proto.CodeRefused:
		return k.codeVote(ctx, c, proto.CodeVote{Cluster: c.ID, Worker: from.Worker, Rules: e.Rules}, e.Code, false)
	case proto.RulesReady:
		return k.rulesReady(ctx, c, from.Worker, e)
	case proto.Receipt:
		return k.receipt(ctx, c, from, e)
	case proto.SnapshotTaken:
		return k.snapshotTaken(ctx, c, from.Worker, &e)
	case proto.SnapshotPiece:
		return k.snapshotPiece(ctx, c, &e)
	case proto.PostOutputs:
		for i := range e.Outputs {
			if err := k.mq.Stage(ctx, outputKey(c.ID, e.Outputs[i].Seq, from.Worker), e.Outputs[i].Marshal()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (k *Keeper) pay(ctx sdk.Context, to []byte, amount math.Int) error {
	if amount.IsZero() {
		return nil
	}
	return k.bank.SendCoinsFromModuleToAccount(ctx, ModuleName, to, sdk.NewCoins(sdk.NewCoin(Denom, amount)))
}

// receipt counts a seat's receipt; EndBlock makes final what a majority agrees on, in
// order.
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
	if !rec.Final {
		// Whoever lost its seat has no word any more.
		rec.Votes = slices.DeleteFunc(rec.Votes, func(v proto.ReceiptVote) bool { return !c.HasSeat(v.Worker) })
	}
	if len(rec.Votes) >= proto.MaxSeats || (!known && len(rec.Receipts) >= proto.MaxSeats) {
		return ErrReceipt.Wrapf("there are %d words on messages from %d", len(rec.Votes), r.FromSeq)
	}
	if !known {
		rec.Receipts = append(rec.Receipts, r)
	}
	rec.Votes = append(rec.Votes, proto.ReceiptVote{Worker: from.Worker, OutboxSeq: from.Seq, Digest: digest, Signature: from.Signature})
	if err := set(ctx, k, key, rec); err != nil {
		return err
	}
	if rec.Final {
		diverged(ctx, c.ID, rec, rec.Votes[len(rec.Votes)-1:])
		return nil
	}
	if len(rec.Receipts) > 1 && !known {
		// Nobody can say yet who is wrong: both sides are named with what they said.
		for _, v := range rec.Votes {
			ctx.EventManager().EmitEvent(receiptEvent("receipt_disputed", c.ID, r.FromSeq, sdk.NewAttribute("worker", v.Worker.String()), sdk.NewAttribute("digest", v.Digest.String())))
		}
	}
	return k.store.OpenKVStore(ctx).Set(votedKey(c.ID), []byte{1})
}

func receiptEvent(kind string, c proto.ClusterID, from uint64, more ...sdk.Attribute) sdk.Event {
	return sdk.NewEvent(kind, append([]sdk.Attribute{sdk.NewAttribute("cluster", c.String()), sdk.NewAttribute("from_seq", fmt.Sprint(from))}, more...)...)
}

// diverged names the seats among votes that said otherwise than the final receipt.
func diverged(ctx sdk.Context, c proto.ClusterID, rec *proto.ReceiptRecord, votes []proto.ReceiptVote) {
	final := proto.Hash(sha256.Sum256(proto.MarshalEntry(rec.Receipts[rec.Agreed])))
	for _, v := range votes {
		if v.Digest != final {
			ctx.EventManager().EmitEvent(receiptEvent("receipt_diverged", c, rec.Receipts[rec.Agreed].FromSeq, sdk.NewAttribute("worker", v.Worker.String())))
		}
	}
}

// settlesPerBlock is how many messages a block settles, or one receipt's if it has
// more.
const settlesPerBlock = 8192

// finaliseVoted makes receipts final in the clusters whose seats spoke. It is work of
// the end of the block and not of the vote that completes a majority: it is as large
// as the number of commands, which paid for it when they were pushed, and a worker's
// word must not become too expensive to submit.
func (k *Keeper) finaliseVoted(ctx sdk.Context) error {
	s := k.store.OpenKVStore(ctx)
	var voted []proto.ClusterID
	err := kv.Each(s, votedPrefix, func(key, _ []byte) (bool, error) {
		voted = append(voted, proto.ClusterID(binary.BigEndian.Uint32(key)))
		return true, nil
	})
	if err != nil {
		return err
	}
	budget := settlesPerBlock
	for _, id := range voted {
		for more := true; more && budget > 0; {
			c, err := k.Cluster(ctx, id)
			if err != nil {
				return err
			}
			cached, write := ctx.CacheContext()
			settled, err := k.finalise(cached, c)
			if err != nil {
				// One cluster that cannot settle must not stop the chain; its next vote tries again.
				ctx.EventManager().EmitEvent(receiptEvent("settlement_failed", id, c.FinalSeq+1, sdk.NewAttribute("reason", err.Error())))
			} else {
				write()
			}
			budget -= settled
			more = settled > 0 && err == nil
			if !more {
				if err := s.Delete(votedKey(id)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// finalise makes the first receipt that is not final so if a majority agrees on it,
// and returns the number of messages that it settled.
func (k *Keeper) finalise(ctx sdk.Context, c *proto.Cluster) (int, error) {
	key := proto.KeyReceipt(c.ID, c.FinalSeq+1)
	rec, err := get(ctx, k, key, proto.ParseReceiptRecord)
	if err != nil || rec == nil {
		return 0, err
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
		return 0, nil
	}
	rec.Final, rec.Agreed = true, uint32(agreed)
	r := &rec.Receipts[agreed]
	if err := k.settle(ctx, c, r, rec, digest); err != nil {
		return 0, err
	}
	c.FinalSeq, c.FinalHead, c.FinalRoot = r.ToSeq, r.Head, r.StateRoot
	ctx.EventManager().EmitEvent(receiptEvent("receipt_final", c.ID, r.FromSeq, sdk.NewAttribute("to_seq", fmt.Sprint(r.ToSeq))))
	diverged(ctx, c.ID, rec, rec.Votes)
	return len(r.Items), errors.Join(set(ctx, k, key, rec), set(ctx, k, proto.KeyCluster(c.ID), c))
}

// settle pays the operators of the seats that agreed and returns the rest of each
// command's escrow, and of its deposit limit what the receipt does not keep. What does
// not divide evenly goes to the first of them.
func (k *Keeper) settle(ctx sdk.Context, c *proto.Cluster, r *proto.Receipt, rec *proto.ReceiptRecord, digest proto.Hash) error {
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
	earned := math.ZeroInt() // of up to 4096 commands: may not fit into 64 bits
	held, err := k.deposits(ctx, c.ID)
	if err != nil {
		return err
	}
	for i, item := range r.Items {
		seq := r.FromSeq + uint64(i)
		cmd, err := get(ctx, k, proto.KeyCommand(c.ID, seq), proto.ParseCommandRecord)
		if err != nil {
			return err
		}
		if cmd == nil || cmd.Done {
			continue // a message that is not a command
		}
		cmd.Done, cmd.Charged, cmd.Receipt = true, chargeFor(cmd, item.GasBucket), r.FromSeq
		earned = earned.Add(math.NewIntFromUint64(cmd.Charged))
		// A receipt cannot pay out more than the cluster's commands put in.
		kept := item.Deposit.Kept(cmd.DepositLimit)
		held = held.Add(math.NewIntFromUint64(kept))
		refund := math.MinInt(held, math.NewIntFromUint64(item.Deposit.Refunded()))
		held = held.Sub(refund)
		back := refund.Add(math.NewIntFromUint64(cmd.Escrow - cmd.Charged + cmd.DepositLimit - kept))
		if err := errors.Join(k.pay(ctx, cmd.Payer, back), set(ctx, k, proto.KeyCommand(c.ID, seq), cmd)); err != nil {
			return err
		}
	}
	if err := k.setDeposits(ctx, c.ID, held); err != nil {
		return err
	}
	share := earned.QuoRaw(int64(len(operators)))
	for i, o := range operators {
		amount := share
		if i == 0 {
			amount = earned.Sub(share.MulRaw(int64(len(operators) - 1)))
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

// Output serves the sealed answers to a command.
func (k *Keeper) Output(_ context.Context, q *types.QueryOutputRequest) (*types.QueryOutputResponse, error) {
	out := &types.QueryOutputResponse{}
	err := k.mq.Bodies().Scan(outputPrefix(proto.ClusterID(q.Cluster), q.Seq), nil, func(_, v []byte) bool {
		out.Outputs = append(out.Outputs, append([]byte(nil), v...))
		return len(out.Outputs) < proto.MaxSeats
	})
	return out, err
}
