package cluster

import (
	"github.com/phala-go/phala/crypto/merkle"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// receipt commits to the outputs and seals them.
func (c *Cluster) receipt(items []inbox.Item, answers []answer, next *Snapshot) (*Result, error) {
	first, last := &items[0], &items[len(items)-1]
	res := &Result{Receipt: proto.Receipt{Cluster: c.id, FromSeq: first.Message.Seq, ToSeq: last.Message.Seq, Head: last.Cursor.Head, StateRoot: next.root}}
	leaves, commitments := make([][]byte, len(answers)), make([]proto.Hash, len(answers))
	for i := range answers {
		a := &answers[i]
		// Every replica derives the same blinding; nobody else can. A message that could
		// not be opened in any epoch blinds with the stable key.
		secret, ok := c.keys.Blind[a.epoch]
		if !ok {
			secret = c.keys.Stable
		}
		a.out.Blinding = subkey(secret, "blinding/v1", transcript.U64(a.out.Seq))
		commitments[i] = a.out.Commitment()
		h := proto.ReceiptLeaf(commitments[i], a.events)
		leaves[i] = h[:]
		res.Receipt.Items = append(res.Receipt.Items, proto.ReceiptItem{GasBucket: a.out.GasBucket, Answered: a.reply != nil, Deposit: a.deposit})
	}
	root, proofs := merkle.Proofs(leaves)
	res.Receipt.Outputs = root
	for i := range answers {
		a := &answers[i]
		if a.reply == nil {
			continue
		}
		sealed, err := a.reply.Seal(c.rng, a.out.Marshal())
		if err != nil {
			return nil, err
		}
		o := proto.SealedOutput{Seq: a.out.Seq, Index: uint32(i), Count: uint32(len(answers)), Sealed: sealed, Commitment: commitments[i], Events: a.events}
		for _, p := range proofs[i] {
			o.Proof = append(o.Proof, p)
		}
		res.Outputs = append(res.Outputs, o)
	}
	return res, nil
}
