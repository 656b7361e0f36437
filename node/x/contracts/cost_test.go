package contracts

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"cosmossdk.io/math"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// gasTx is what clients give for a transaction, and half of it at least is for what comes
// before its messages.
const gasTx = 200_000

// word gives one entry of worker n the gas that a relayer gives it.
func (e *env) word(n int, entry proto.Entry) {
	e.t.Helper()
	e.gas(proto.OutboxGas(1, len(proto.MarshalEntry(entry))), e.outbox(n, entry))
}

// gas runs f with a limit and returns what it used.
func (e *env) gas(limit uint64, f func(sdk.Context) error) (used uint64) {
	e.t.Helper()
	defer func() {
		if r := recover(); r != nil {
			e.t.Fatalf("out of gas at %d: %v", limit, r)
		}
	}()
	e.Must(func(ctx sdk.Context) error {
		ctx = ctx.WithGasMeter(storetypes.NewGasMeter(limit))
		err := f(ctx)
		used = ctx.GasMeter().GasConsumed()
		return err
	})
	return used
}

// TestReceiptIsCheap: the vote that makes the largest receipt final costs what its
// bytes cost, and so does one that makes several final.
func TestReceiptIsCheap(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	e.Start()
	for range proto.MaxReceiptItems {
		e.Must(e.push(push(1, 0)))
	}
	e.Finish()
	r := receipt(1, proto.MaxReceiptItems, 1)
	e.Start()
	e.word(1, r)
	e.word(2, r)
	e.Finish()
	if e.get(1).FinalSeq != proto.MaxReceiptItems || !e.held().IsZero() {
		t.Fatalf("final to %d, held %s", e.get(1).FinalSeq, e.held())
	}
}

// TestOthersWordsCostNothing: what a worker says costs no more for what others said before
// it, as many as there may be: a relayer could submit it never again, and nothing after it.
func TestOthersWordsCostNothing(t *testing.T) {
	const others = proto.MaxSeats - 1
	pieces := make([]proto.Hash, proto.MaxPieces)
	taken := func(n int) proto.SnapshotTaken {
		s := proto.Snapshot{Epoch: 1, Root: proto.Hash{byte(n)}, Size: (proto.MaxPieces-1)*proto.PieceSize + 16<<10, Pieces: pieces}
		return proto.SnapshotTaken{Cluster: 1, Snapshot: s}
	}
	long := func(n int) proto.Receipt {
		return receipt(1, proto.MaxReceiptItems, byte(n))
	}
	put := func(e *env, key []byte, v interface{ Marshal() []byte }) {
		e.Block(func(ctx sdk.Context) error { return set(ctx, e.k, key, v) })
	}
	t.Run("a code that many clusters run", func(t *testing.T) {
		e := newEnv(t)
		e.cluster(1)
		hash := e.uploaded("hello")
		code := e.code(hash)
		for i := range 3000 {
			code.Prepared = append(code.Prepared, proto.CodeVote{Cluster: proto.ClusterID(i + 2), Worker: wid(2), Rules: 1})
		}
		put(e, proto.KeyCode(hash), code)
		e.Start()
		// The transaction's own bytes cost 10 each before this.
		m := deploy(2, hash, "a")
		e.gas(proto.DeployGas(code, len(m.Envelope))-gasTx/2-10*uint64(len(m.Envelope)), e.deploy(m))
		e.Finish()
		e.Start()
		e.word(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash})
		e.Finish()
		if ct := e.contract(2, hash, "a"); ct.Phase != proto.ContractStarted {
			t.Fatalf("phase %d", ct.Phase)
		}
	})
	t.Run("seats that all say something else", func(t *testing.T) {
		e := newEnv(t)
		e.cluster(1)
		e.Block(func(ctx sdk.Context) (err error) {
			for range proto.MaxReceiptItems {
				_, aerr := e.mq.Append(ctx, proto.TopicCluster(1), nil, proto.ChallengeEchoed{})
				err = errors.Join(err, aerr)
			}
			return err
		})
		c, receipts, snapshots := e.get(1), &proto.ReceiptRecord{}, &proto.SnapshotRecord{}
		for n := 2; n <= others+1; n++ {
			c.Seats = append(c.Seats, wid(n))
			receipts.Receipts = append(receipts.Receipts, long(n))
			receipts.Votes = append(receipts.Votes, proto.ReceiptVote{Worker: wid(n), Digest: proto.Hash{byte(n)}})
			snapshots.Taken = append(snapshots.Taken, taken(n).Snapshot)
			snapshots.Votes = append(snapshots.Votes, proto.SnapshotVote{Worker: wid(n), Index: uint32(n - 2)})
			c.Sealed = append(c.Sealed, proto.SealedEpoch{Worker: wid(n), Public: epochKey(n)})
		}
		c.SeatsWanted, c.Sealed, c.EpochKey = proto.MaxSeats, c.Sealed[1:], [32]byte{}
		put(e, proto.KeyCluster(1), c)
		put(e, proto.KeyReceipt(1, 1), receipts)
		put(e, proto.KeySnapshot(1, 1), snapshots)
		for _, entry := range []proto.Entry{long(1), taken(1), proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(1)}} {
			e.Start()
			e.word(1, entry)
			e.Finish()
		}
		rec, err := get(e.Context(), e.k, proto.KeyReceipt(1, 1), proto.ParseReceiptRecord)
		if err != nil || len(rec.Votes) != proto.MaxSeats {
			t.Errorf("receipt: %v, %v", rec, err)
		}
		snap, err := get(e.Context(), e.k, proto.KeySnapshot(1, 1), proto.ParseSnapshotRecord)
		if err != nil || len(snap.Votes) != proto.MaxSeats {
			t.Errorf("snapshot: %v", err)
		}
	})
}

// TestSettlesPerBlock: a backlog is settled over several blocks, in order, whole
// receipts at a time.
func TestSettlesPerBlock(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	e.Start()
	for range proto.MaxReceiptItems {
		e.Must(e.push(push(1, 0)))
	}
	e.Finish()
	const parts = 4
	n := uint64(proto.MaxReceiptItems)
	for range parts - 1 {
		e.Start()
		for range n {
			e.Must(e.push(push(1, 0)))
		}
		e.Finish()
	}
	var words []proto.Entry
	for i := range uint64(parts) {
		words = append(words, receipt(i*n+1, (i+1)*n, 1))
	}
	// The first one last, so that one vote brings them all; the handler is asked, as the
	// outbox of one worker is in order.
	e.Block(e.outbox(1, words[3], words[2], words[1]))
	if e.get(1).FinalSeq != 0 {
		t.Fatal("final before the first receipt")
	}
	e.Block(e.outbox(1, words[0]))
	if got := e.get(1).FinalSeq; got != settlesPerBlock {
		t.Fatalf("settled to %d in one block", got)
	}
	e.Block()
	if got := e.get(1).FinalSeq; got != parts*n || !e.held().IsZero() {
		t.Fatalf("settled to %d, held %s", got, e.held())
	}
	e.Block() // sees that there is no more
	before := e.Dump(ModuleName)
	e.Block()
	if !reflect.DeepEqual(e.Dump(ModuleName), before) {
		t.Fatal("something is left to do")
	}
}

// TestUnpayable: a payer that the bank does not pay stops neither the chain nor other
// clusters; the next word tries again.
func TestUnpayable(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	hash := e.uploaded("hello")
	e.Block(e.push(push(1, 0)), e.deploy(deploy(2, hash, "a")))
	// Somebody else took the escrow.
	e.Block(func(ctx sdk.Context) error { return e.bank.add(ctx, []byte(ModuleName), e.held().Neg()) })
	r := receipt(1, 1, 1)
	events := e.Block(e.outbox(1, r), e.outbox(2, r))
	if got := testchain.Values(events, "settlement_failed", "from_seq"); !reflect.DeepEqual(got, []string{"1"}) || e.get(1).FinalSeq != 0 {
		t.Fatalf("failed %v, final to %d", got, e.get(1).FinalSeq)
	}
	events = e.Block(e.outbox(1, proto.CodeRefused{Cluster: 1, Rules: 1, Code: hash}))
	if got := testchain.Values(events, "contract_failed", "contract"); len(got) != 1 || e.contract(2, hash, "a").Phase != proto.ContractWaiting {
		t.Fatalf("failed %v, phase %d", got, e.contract(2, hash, "a").Phase)
	}
	e.Block(func(ctx sdk.Context) error { return e.bank.add(ctx, []byte(ModuleName), math.NewInt(pha)) })
	e.Block(e.outbox(2, receipt(2, 2, 1)))
	if e.get(1).FinalSeq != 1 {
		t.Fatalf("final to %d after the money came back", e.get(1).FinalSeq)
	}
}

// TestDeployCost: a deployment costs what clients give, whether it waits or starts at
// once, and the state does not keep the envelope of a contract that has started.
func TestDeployCost(t *testing.T) {
	for _, prepared := range []bool{false, true} {
		t.Run(fmt.Sprint("prepared ", prepared), func(t *testing.T) {
			e := newEnv(t)
			e.cluster(1)
			hash := e.uploaded("hello")
			if prepared {
				e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
			}
			m := deploy(2, hash, "a")
			m.Envelope = sealed(512 << 10)
			e.Start()
			// The transaction's own bytes cost 10 each before this.
			e.gas(proto.DeployGas(e.code(hash), len(m.Envelope))-gasTx/2-10*uint64(len(m.Envelope)), e.deploy(m))
			e.Finish()
			if !prepared {
				if ct := e.contract(2, hash, "a"); len(ct.Command.Envelope) != len(m.Envelope) {
					t.Fatalf("%d bytes wait", len(ct.Command.Envelope))
				}
				e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
			}
			ct := e.contract(2, hash, "a")
			if ct.Phase != proto.ContractStarted || len(ct.Command.Envelope) != 0 {
				t.Fatalf("phase %d, %d bytes of envelope in the state", ct.Phase, len(ct.Command.Envelope))
			}
			events := e.events("cluster/1")
			if in, ok := events[len(events)-1].(proto.Instantiated); !ok || len(in.Command.Envelope) != len(m.Envelope) {
				t.Fatalf("the topic holds %T", events[len(events)-1])
			}
		})
	}
}
