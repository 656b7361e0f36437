package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

// stolenIdentity is the identity of a worker whose TEE the test breaks.
func stolenIdentity(ctx context.Context, t *testing.T, n *devnet.Net, opt devnet.Options, worker int) *identity.KeyPair {
	t.Helper()
	key, err := identity.FromSecret(breakTEE(ctx, t, n, opt, worker).identity(t))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// differs has one of two seats say another result than the other: nothing is final, and
// the chain names who said what.
func differs(ctx context.Context, t *testing.T, n *devnet.Net, opt devnet.Options) {
	liar := stolenIdentity(ctx, t, n, opt, 2)
	if err := n.Kill("worker-2"); err != nil {
		t.Fatal(err)
	}
	node := n.Client.Node()
	p := push(ctx, t, n.Client, n.State().Contracts["hello"], 1)[0]
	var honest proto.Receipt
	until(ctx, t, "the honest seat's word", func() error {
		r, err := n.Client.Receipt(ctx, p.Cluster, p.Seq)
		if err == nil {
			honest = r.Receipts[0]
		}
		return err
	})
	forged := honest
	forged.StateRoot[0] ^= 1
	self := proto.WorkerID(liar.Public())
	payload := proto.MarshalEntry(forged)
	op, err := n.Operator()
	if err != nil {
		t.Fatal(err)
	}
	var res *rpc.TxResult
	until(ctx, t, "the false word is taken", func() error {
		// What the worker said before it died may still be on its way.
		b, err := node.Read(ctx, proto.StoreMQ, proto.KeyOutbox(self))
		if err != nil {
			return err
		}
		position, err := proto.ParseCursor(b)
		if err != nil {
			return err
		}
		sig, err := liar.Sign(rand.Reader, proto.EntrySignedBytes(n.State().Chain, self, position.Seq+1, payload))
		if err != nil {
			return err
		}
		res, err = op.Send(ctx, 2_000_000, tx.SubmitOutbox(account(op.Key), self, position.Seq+1, []tx.Entry{{Payload: payload, Signature: sig[:]}}))
		return err
	})
	var named []string
	for _, e := range res.Events {
		if e.Type == "receipt_disputed" && e.Attributes["from_seq"] == fmt.Sprint(p.Seq) {
			named = append(named, e.Attributes["worker"])
		}
	}
	slices.Sort(named)
	want := []string{status(ctx, t, n.Private("worker-1")).Worker.String(), self.String()}
	if slices.Sort(want); !slices.Equal(named, want) {
		t.Errorf("the chain names %v, want %v; events %v", named, want, res.Events)
	}
	grows(ctx, t, node, 5)
	if r, err := n.Client.Receipt(ctx, p.Cluster, p.Seq); err != nil || r.Final || len(r.Receipts) != 2 || len(r.Votes) != 2 {
		t.Errorf("the receipt: %+v, %v", r, err)
	}
	if c, err := n.Client.Cluster(ctx, p.Cluster); err != nil || c.FinalSeq >= p.Seq {
		t.Errorf("message %d is final: %v", p.Seq, err)
	}
	try, stop := context.WithTimeout(ctx, time.Second)
	defer stop()
	if r, err := n.Client.Wait(try, p); err == nil {
		t.Errorf("the caller gets an answer: %+v", r)
	}
	if st := status(ctx, t, n.Private("worker-1")); st.Fatal != "" || !st.Serving || st.Seq != p.Seq {
		t.Errorf("the honest worker: %+v", st)
	}
}
