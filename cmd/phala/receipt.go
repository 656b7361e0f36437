package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"github.com/phala-go/phala/proto"
)

// A wordOnMessages is what seats signed about the messages of one height.
type wordOnMessages struct {
	From      uint64       `json:"from"`
	To        uint64       `json:"to"`
	Head      proto.Hash   `json:"head"` // of the cluster's topic, at the last of them
	StateRoot proto.Hash   `json:"state_root"`
	Outputs   proto.Hash   `json:"outputs"` // Merkle root over commitments to the answers
	Final     bool         `json:"final"`
	Messages  []signedItem `json:"messages"`
}

// A signedItem is what everybody sees of one message's end.
type signedItem struct {
	GasBucket     uint8 `json:"gas_bucket"`
	Answered      bool  `json:"answered"`
	DepositBucket uint8 `json:"deposit_bucket"`
}

// A signedWord is one seat's signature.
type signedWord struct {
	Worker    proto.WorkerID `json:"worker"`
	OutboxSeq uint64         `json:"outbox_seq"`
	Digest    proto.Hash     `json:"digest"` // SHA-256 of the receipt's encoding
	Signature string         `json:"signature"`
}

func runReceipt(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala receipt CLUSTER SEQ", "Shows what a cluster's seats signed about a message, and about the others of its height.")
	pos, err := need(f, args, 2, 2)
	if err != nil {
		return ignoreHelp(err)
	}
	cluster, err := strconv.ParseUint(pos[0], 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no cluster: give its number", pos[0])
	}
	seq, err := strconv.ParseUint(pos[1], 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no message: give its number, as phala call prints it", pos[1])
	}
	c, _, err := a.open()
	if err != nil {
		return err
	}
	rec, err := c.ReceiptOf(ctx, proto.ClusterID(cluster), seq)
	if err != nil {
		return err
	}
	v := struct {
		Cluster  proto.ClusterID  `json:"cluster"`
		Receipts []wordOnMessages `json:"receipts"`
		Signed   []signedWord     `json:"signed"`
	}{Cluster: proto.ClusterID(cluster)}
	for i, r := range rec.Receipts {
		word := wordOnMessages{From: r.FromSeq, To: r.ToSeq, Head: r.Head, StateRoot: r.StateRoot, Outputs: r.Outputs, Final: rec.Final && int(rec.Agreed) == i}
		for _, item := range r.Items {
			word.Messages = append(word.Messages, signedItem{item.GasBucket, item.Answered, uint8(item.Deposit)})
		}
		v.Receipts = append(v.Receipts, word)
	}
	for _, w := range rec.Votes {
		v.Signed = append(v.Signed, signedWord{w.Worker, w.OutboxSeq, w.Digest, hex.EncodeToString(w.Signature[:])})
	}
	return a.print(v, func(w io.Writer) {
		for _, r := range v.Receipts {
			mark := ""
			if r.Final {
				mark = " (final)"
			}
			fmt.Fprintf(w, "messages %d to %d: state root %s%s\n", r.From, r.To, r.StateRoot, mark)
		}
		for _, s := range v.Signed {
			fmt.Fprintf(w, "  %s signed %s\n", s.Worker, s.Digest)
		}
	})
}
