package contracts

import (
	"math/rand"
	"reflect"
	"testing"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// pool is what cluster 1's commands have put in for storage.
func (e *env) pool() math.Int {
	e.t.Helper()
	held, err := e.k.deposits(e.Context(), 1)
	if err != nil {
		e.t.Fatal(err)
	}
	return held
}

// TestDeposit: the limit is held, what the receipt keeps stays, the rest returns, and a
// later receipt pays it out.
func TestDeposit(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	const limit = 1 << 30
	before := e.balance(2)
	m := push(2, 0)
	m.DepositLimit = limit
	e.Block(e.push(m))
	p := DefaultParams()
	if got := before.Sub(e.balance(2)); !got.Equal(math.NewIntFromUint64(limit+p.escrowFor(0))) || !e.held().Equal(got) {
		t.Fatalf("%s left the account, %s is held", got, e.held())
	}
	r := receipt(1, 1, 1, 20)
	r.Items[0].Deposit = proto.KeepDeposit(1 << 26)
	e.Block(e.outbox(1, r))
	kept := math.NewInt(1 << 26)
	if spent := before.Sub(e.balance(2)); !e.pool().Equal(kept) || !e.held().Equal(kept) || !spent.Equal(kept.AddRaw(2_000_000)) {
		t.Fatalf("%s is kept, %s held, %s spent", e.pool(), e.held(), spent)
	}
	// Half of it comes back with a command that puts up nothing.
	e.Block(e.push(push(2, 0)))
	r = receipt(2, 2, 2, 20)
	r.Items[0].Deposit = proto.RefundDeposit(1 << 25)
	e.Block(e.outbox(1, r))
	if spent := before.Sub(e.balance(2)); !e.pool().Equal(math.NewInt(1<<25)) || !spent.Equal(math.NewInt(1<<25+4_000_000)) {
		t.Fatalf("%s is kept, %s spent", e.pool(), spent)
	}
	// A receipt that pays out more than there is empties the pool and touches nothing else.
	e.Block(e.push(push(3, proto.MaxTier)), e.push(push(2, 0)))
	r = receipt(3, 3, 3, 64)
	e.Block(e.outbox(1, r))
	others := e.held().Sub(e.pool())
	r = receipt(4, 4, 4, 20)
	r.Items[0].Deposit = proto.RefundDeposit(1 << 60)
	e.Block(e.outbox(1, r))
	if !e.pool().IsZero() || e.held().IsNegative() || e.get(1).FinalSeq != 4 {
		t.Fatalf("%s is kept, %s held of %s, final %d", e.pool(), e.held(), others, e.get(1).FinalSeq)
	}
}

// TestDepositReturnsWithRefusal: a contract that cannot start gets its deposit limit back.
func TestDepositReturnsWithRefusal(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	hash := e.uploaded("hello")
	before := e.balance(2)
	m := deploy(2, hash, "a")
	m.DepositLimit = 1 << 40
	e.Block(e.deploy(m))
	if e.held().LT(math.NewInt(1 << 40)) {
		t.Fatalf("%s is held", e.held())
	}
	e.Block(e.outbox(1, proto.CodeRefused{Cluster: 1, Rules: 1, Code: hash}))
	if !e.balance(2).Equal(before) || !e.held().IsZero() {
		t.Fatalf("%s came back, %s is held", e.balance(2).Sub(before), e.held())
	}
}

// TestDepositsAddUp is a property: whatever receipts say of deposits, honest or not, no
// money is made or lost, and none comes from anything but the cluster's deposits.
func TestDepositsAddUp(t *testing.T) {
	const seed = 99
	rng := rand.New(rand.NewSource(seed))
	for round := range 40 {
		e := newEnv(t)
		e.cluster(1)
		e.Block(func(ctx sdk.Context) error { return e.k.SetParams(ctx, Params{Rules: 1}) }) // nothing costs anything
		total := e.balance(2).Add(e.balance(3))
		pool, at := math.ZeroInt(), uint64(1)
		for range 1 + rng.Intn(6) {
			var txs []func(sdk.Context) error
			r := receipt(at, at, 1)
			r.Items = nil
			n := 1 + rng.Intn(8)
			for range n {
				m := push(2+rng.Intn(2), 0)
				m.DepositLimit = uint64(rng.Int63n(1 << 45))
				d := proto.DepositBucket(rng.Intn(proto.MaxDepositBucket + 1))
				txs = append(txs, e.push(m))
				r.Items = append(r.Items, proto.ReceiptItem{Deposit: d})
				pool = pool.Add(math.NewIntFromUint64(d.Kept(m.DepositLimit)))
				pool = pool.Sub(math.MinInt(pool, math.NewIntFromUint64(d.Refunded())))
			}
			r.ToSeq = at + uint64(n) - 1
			e.Block(txs...)
			e.Block(e.outbox(1, r))
			at += uint64(n)
			if e.get(1).FinalSeq != r.ToSeq {
				t.Fatalf("seed %d, round %d: final to %d, want %d", seed, round, e.get(1).FinalSeq, r.ToSeq)
			}
			if !e.pool().Equal(pool) || !e.held().Equal(pool) || !e.balance(2).Add(e.balance(3)).Add(pool).Equal(total) {
				t.Fatalf("seed %d, round %d: pool %s, held %s, want %s", seed, round, e.pool(), e.held(), pool)
			}
		}
	}
}

// TestImages: a code starts when a majority prepared it to one image, which the
// constructor carries; the seat that has another is named.
func TestImages(t *testing.T) {
	e := newEnv(t)
	e.cluster(3)
	hash := e.uploaded("hello")
	one, two := proto.Hash{1}, proto.Hash{2}
	prepared := func(n int, image proto.Hash) func(sdk.Context) error {
		return e.outbox(n, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash, Image: image})
	}
	e.Block(e.deploy(deploy(1, hash, "a")))
	e.Block(prepared(2, two), prepared(1, one))
	if e.contract(1, hash, "a").Phase != proto.ContractWaiting {
		t.Fatal("it started without a majority for one image")
	}
	e.Block(prepared(3, one))
	if e.contract(1, hash, "a").Phase != proto.ContractStarted {
		t.Fatal("it did not start")
	}
	e.Block(e.deploy(deploy(1, hash, "b")))
	n := 0
	for _, ev := range e.events("cluster/1") {
		if in, ok := ev.(proto.Instantiated); ok {
			if n++; in.Image != one {
				t.Errorf("constructor %d has the image %s", n, in.Image)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d constructors", n)
	}

	late := e.uploaded("late")
	say := func(n int, image proto.Hash) sdk.Events {
		return e.Block(e.outbox(n, proto.CodePrepared{Cluster: 1, Rules: 1, Code: late, Image: image}))
	}
	e.Block(e.deploy(deploy(1, late, "a")))
	say(1, one)
	say(2, one)
	if got := testchain.Values(say(3, two), "code_diverged", "worker"); !reflect.DeepEqual(got, []string{wid(3).String()}) {
		t.Errorf("named are %v", got)
	}
}
