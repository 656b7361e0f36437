package contracts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"strings"
	"testing"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

func TestPushCommand(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	m := push(2, 3)
	m.Envelope = sealed(1024)
	events := e.Block(e.push(m))
	escrow := uint64(1_000_000 + 8*1_000_000)
	want := &proto.CommandRecord{Payer: testchain.Account(2), GasTier: 3, GasPrice: 1_000_000, Escrow: escrow, Height: e.Height()}
	if rec, err := get(e.Context(), e.k, proto.KeyCommand(1, 1), proto.ParseCommandRecord); err != nil || !reflect.DeepEqual(rec, want) {
		t.Fatalf("record %+v, %v", rec, err)
	}
	if got := e.events("cluster/1"); !reflect.DeepEqual(got, []proto.Event{proto.PushedCommand{Payer: testchain.Account(2), Epoch: 1, GasTier: 3, Envelope: m.Envelope}}) {
		t.Fatalf("topic %v", got)
	}
	if !e.held().Equal(math.NewIntFromUint64(escrow)) || !reflect.DeepEqual(testchain.Values(events, "command", "seq"), []string{"1"}) {
		t.Fatalf("held %s, events %v", e.held(), events)
	}
}

func TestPushCommandRefused(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	e.Block(e.create(1, 1, true))
	for _, c := range []struct {
		name string
		want error
		edit func(m *types.MsgPushCommand)
	}{
		{"payer is no address", ErrMalformed, func(m *types.MsgPushCommand) { m.Payer = "x" }},
		{"payer's address does not fit", ErrMalformed, func(m *types.MsgPushCommand) { m.Payer = sdk.AccAddress(make([]byte, 65)).String() }},
		{"no such cluster", ErrNoCluster, func(m *types.MsgPushCommand) { m.Cluster = 3 }},
		{"cluster zero", ErrNoCluster, func(m *types.MsgPushCommand) { m.Cluster = 0 }},
		{"cluster without a key", ErrNoEpochKey, func(m *types.MsgPushCommand) { m.Cluster = 2 }},
		{"epoch to come", ErrEpoch, func(m *types.MsgPushCommand) { m.Epoch = 2 }},
		{"epoch zero", ErrEpoch, func(m *types.MsgPushCommand) { m.Epoch = 0 }},
		{"gas tier too high", ErrMalformed, func(m *types.MsgPushCommand) { m.GasTier = proto.MaxTier + 1 }},
		{"deposit limit too high", ErrDeposit, func(m *types.MsgPushCommand) { m.DepositLimit = proto.MaxDeposit + 1 }},
		{"no money for the deposit", ErrFunds, func(m *types.MsgPushCommand) { m.DepositLimit = proto.MaxDeposit }},
		{"no envelope", ErrMalformed, func(m *types.MsgPushCommand) { m.Envelope = nil }},
		{"envelope below the smallest bucket", ErrMalformed, func(m *types.MsgPushCommand) { m.Envelope = sealed(128) }},
		{"envelope of no bucket", ErrMalformed, func(m *types.MsgPushCommand) { m.Envelope = sealed(257) }},
		{"envelope of the overhead alone", ErrMalformed, func(m *types.MsgPushCommand) { m.Envelope = sealed(0) }},
		{"envelope above the largest bucket", ErrMalformed, func(m *types.MsgPushCommand) { m.Envelope = sealed(2 << 20) }},
		{"no money", ErrFunds, func(m *types.MsgPushCommand) { m.Payer = testchain.Account(20).String() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := push(2, 0)
			c.edit(m)
			before, money := e.Dump(ModuleName), e.Dump(fakeStore)
			e.Start()
			_, err := e.Tx(e.push(m))
			e.Finish()
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !reflect.DeepEqual(e.Dump(ModuleName), before) || !reflect.DeepEqual(e.Dump(fakeStore), money) || e.cursor("cluster/1").Seq != 0 {
				t.Fatal("state changed")
			}
		})
	}
	for n := envelope.MinBucket; n <= 1<<20; n *= 2 {
		if err := checkEnvelope(sealed(n)); err != nil {
			t.Errorf("bucket %d: %v", n, err)
		}
	}
}

// TestFullBlock: a block has no more messages for a cluster than one receipt can
// answer; else no receipt of that height could be encoded and the cluster would stand
// still for ever.
func TestFullBlock(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	hash := e.uploaded("hello")
	e.Block(e.deploy(deploy(1, hash, "a")), e.deploy(deploy(1, hash, "b")))
	before := e.cursor("cluster/1").Seq
	e.Start()
	for range proto.MaxReceiptItems - 1 {
		e.Must(e.push(push(1, 0)))
	}
	// The contracts that start at the end of this block find room for one of them.
	e.Must(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
	e.Finish()
	if got := e.cursor("cluster/1").Seq - before; got != proto.MaxReceiptItems {
		t.Fatalf("%d messages in one block", got)
	}
	phases := []uint8{e.contract(1, hash, "a").Phase, e.contract(1, hash, "b").Phase}
	if phases[0]+phases[1] != proto.ContractWaiting+proto.ContractStarted {
		t.Fatalf("phases %v", phases)
	}
	e.Block()
	if e.contract(1, hash, "a").Phase != proto.ContractStarted || e.contract(1, hash, "b").Phase != proto.ContractStarted {
		t.Fatal("the other one does not follow in the next block")
	}
	e.Start()
	for range proto.MaxReceiptItems {
		e.Must(e.push(push(1, 0)))
	}
	if _, err := e.Tx(e.push(push(1, 0))); !errors.Is(err, ErrBusy) {
		t.Fatalf("a command too many: %v", err)
	}
	if _, err := e.Tx(e.deploy(deploy(1, hash, "c"))); !errors.Is(err, ErrBusy) {
		t.Fatalf("a contract too many: %v", err)
	}
	e.Finish()
	e.Block(e.push(push(1, 0)))
}

// TestBlockGas: the commands of one block buy no more gas in a cluster than its seats can
// work off; what does not fit waits or is pushed again.
func TestBlockGas(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	hash := e.uploaded("hello")
	large := func(salt string) *types.MsgDeploy {
		m := deploy(1, hash, salt)
		m.GasTier = proto.MaxTier
		return m
	}
	const most = proto.MaxBlockGas / (proto.MinTierGas << proto.MaxTier)
	e.Block(e.deploy(large("a")), e.deploy(large("b")))
	e.Start()
	for range most - 1 {
		e.Must(e.push(push(1, proto.MaxTier)))
	}
	e.Must(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
	e.Finish()
	phases := []uint8{e.contract(1, hash, "a").Phase, e.contract(1, hash, "b").Phase}
	if phases[0]+phases[1] != proto.ContractWaiting+proto.ContractStarted {
		t.Fatalf("phases %v: one of the constructors fits the block", phases)
	}
	e.Block()
	if e.contract(1, hash, "a").Phase != proto.ContractStarted || e.contract(1, hash, "b").Phase != proto.ContractStarted {
		t.Fatal("the other one does not follow in the next block")
	}
	e.Start()
	for range most {
		e.Must(e.push(push(1, proto.MaxTier)))
	}
	for name, tx := range map[string]func() error{
		"a small command":       func() error { _, err := e.Tx(e.push(push(1, 0))); return err },
		"a prepared contract":   func() error { _, err := e.Tx(e.deploy(large("c"))); return err },
		"another large command": func() error { _, err := e.Tx(e.push(push(1, proto.MaxTier))); return err },
	} {
		if err := tx(); !errors.Is(err, ErrBusy) {
			t.Errorf("%s in a full block: %v", name, err)
		}
	}
	e.Finish()
	e.Block(e.push(push(1, proto.MaxTier)))
}

// receipt is what a seat says about messages from to to; root makes it differ.
func receipt(from, to uint64, root byte, buckets ...uint8) proto.Receipt {
	r := proto.Receipt{Cluster: 1, FromSeq: from, ToSeq: to, Head: proto.Hash{byte(to)}, StateRoot: proto.Hash{root}}
	for i := range to - from + 1 {
		item := proto.ReceiptItem{}
		if int(i) < len(buckets) {
			item.GasBucket = buckets[i]
		}
		r.Items = append(r.Items, item)
	}
	return r
}

func (e *env) record(from uint64) *proto.ReceiptRecord {
	e.t.Helper()
	rec, err := get(e.Context(), e.k, proto.KeyReceipt(1, from), proto.ParseReceiptRecord)
	if err != nil {
		e.t.Fatal(err)
	}
	return rec
}

// TestReceipts: who says what, in which order, until which sequence it is final, and
// who is named.
func TestReceipts(t *testing.T) {
	type word struct {
		worker int
		r      proto.Receipt
		// after it:
		final    uint64
		disputed string // workers named
		diverged string
		refused  bool
	}
	a, b := receipt(1, 2, 1), receipt(1, 2, 9)
	second, third := receipt(3, 3, 2), receipt(4, 4, 3)
	for _, c := range []struct {
		name  string
		seats int
		words []word
	}{
		{"one seat", 1, []word{{worker: 1, r: a, final: 2}, {worker: 1, r: second, final: 3}}},
		{"majority of two is both", 2, []word{{worker: 1, r: a}, {worker: 2, r: a, final: 2}}},
		{"majority of three is two; the late one agrees", 3, []word{{worker: 3, r: a}, {worker: 1, r: a, final: 2}, {worker: 2, r: a, final: 2}}},
		{"the late one differs", 3, []word{{worker: 3, r: a}, {worker: 1, r: a, final: 2}, {worker: 2, r: b, final: 2, diverged: "2"}}},
		{"the first one differs", 3, []word{{worker: 3, r: b}, {worker: 1, r: a, disputed: "3 1"}, {worker: 2, r: a, final: 2, diverged: "3"}}},
		{"the second one differs", 3, []word{{worker: 3, r: a}, {worker: 1, r: b, disputed: "3 1"}, {worker: 2, r: a, final: 2, diverged: "1"}}},
		{"two of two differ: nothing is final", 2, []word{{worker: 1, r: a}, {worker: 2, r: b, disputed: "1 2"}}},
		{"three ways", 3, []word{{worker: 1, r: a}, {worker: 2, r: b, disputed: "1 2"}, {worker: 3, r: receipt(1, 2, 7), disputed: "1 2 3"}}},
		{"two against three", 5, []word{{worker: 1, r: b}, {worker: 2, r: b}, {worker: 3, r: a, disputed: "1 2 3"}, {worker: 4, r: a}, {worker: 5, r: a, final: 2, diverged: "1 2"}}},
		{"a seat's second word is refused", 2, []word{{worker: 1, r: a}, {worker: 1, r: a, refused: true}, {worker: 1, r: b, refused: true}, {worker: 2, r: a, final: 2}, {worker: 2, r: b, final: 2, refused: true}}},
		{"out of order: later ones wait", 2, []word{{worker: 1, r: second}, {worker: 2, r: second}, {worker: 2, r: third}, {worker: 1, r: a}, {worker: 2, r: a, final: 3}, {worker: 1, r: third, final: 4}}},
		{"another range for the same beginning", 3, []word{{worker: 1, r: receipt(1, 1, 1)}, {worker: 2, r: a, disputed: "1 2"}, {worker: 3, r: a, final: 2, diverged: "1"}}},
		{"inside a final receipt", 1, []word{{worker: 1, r: a, final: 2}, {worker: 1, r: receipt(2, 2, 1), final: 2, refused: true}, {worker: 1, r: receipt(2, 4, 1), final: 2, refused: true}}},
		{"another head", 2, []word{{worker: 1, r: a}, {worker: 2, r: func() proto.Receipt { x := a; x.Head[5] = 1; return x }(), disputed: "1 2"}}},
		{"other outputs", 2, []word{{worker: 1, r: a}, {worker: 2, r: func() proto.Receipt { x := a; x.Outputs[5] = 1; return x }(), disputed: "1 2"}}},
		{"another gas bucket", 2, []word{{worker: 1, r: a}, {worker: 2, r: receipt(1, 2, 1, 5), disputed: "1 2"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.cluster(c.seats)
			e.Block(e.push(push(1, 0)), e.push(push(1, 0)), e.push(push(1, 0)), e.push(push(1, 0)))
			number := map[string]string{}
			for n := 1; n <= c.seats; n++ {
				number[wid(n).String()] = fmt.Sprint(n)
			}
			named := func(events sdk.Events, kind string) string {
				var out []string
				for _, w := range testchain.Values(events, kind, "worker") {
					out = append(out, number[w])
				}
				return strings.Join(out, " ")
			}
			for i, w := range c.words {
				before := e.record(w.r.FromSeq)
				events := e.Block(e.outbox(w.worker, w.r))
				if refused := len(testchain.Values(events, "outbox_refused", "reason")) == 1; refused != w.refused {
					t.Fatalf("word %d refused: %v (%v)", i+1, refused, testchain.Values(events, "outbox_refused", "reason"))
				}
				if got := e.get(1); got.FinalSeq != w.final {
					t.Fatalf("after word %d final to %d, want %d", i+1, got.FinalSeq, w.final)
				}
				if got := named(events, "receipt_disputed"); got != w.disputed {
					t.Fatalf("word %d: disputed %q, want %q", i+1, got, w.disputed)
				}
				if got := named(events, "receipt_diverged"); got != w.diverged {
					t.Fatalf("word %d: diverged %q, want %q", i+1, got, w.diverged)
				}
				rec := e.record(w.r.FromSeq)
				if w.refused {
					if !reflect.DeepEqual(rec, before) {
						t.Fatalf("word %d was refused and changed the record", i+1)
					}
					continue
				}
				// The word and its signature stay on record.
				v := rec.Votes[len(rec.Votes)-1]
				payload := proto.MarshalEntry(w.r)
				want := proto.ReceiptVote{Worker: wid(w.worker), OutboxSeq: e.next[w.worker], Digest: sha256.Sum256(payload)}
				copy(want.Signature[:], testchain.Sign(testchain.Pair(w.worker), proto.EntrySignedBytes(testchain.ID, wid(w.worker), want.OutboxSeq, payload)))
				if v != want {
					t.Fatalf("vote %+v", v)
				}
			}
			// What is final is what the majority said.
			if cl := e.get(1); cl.FinalSeq > 0 {
				for from := uint64(1); from <= cl.FinalSeq; {
					rec := e.record(from)
					if !rec.Final {
						t.Fatalf("the record from %d is not final", from)
					}
					r := rec.Receipts[rec.Agreed]
					if r.ToSeq == cl.FinalSeq && (r.Head != cl.FinalHead || r.StateRoot != cl.FinalRoot) {
						t.Fatal("cluster's final head or root")
					}
					from = r.ToSeq + 1
				}
			}
		})
	}
}

// TestSettlement is a property: for random seats, tiers, buckets, prices (up to the
// highest) and dissenters, the money of a run adds up to the last unit, nobody is
// charged more than held nor less than the base fee, and the operators who agreed get
// what was charged in equal parts.
func TestSettlement(t *testing.T) {
	const seed = 4711
	rng := rand.New(rand.NewSource(seed))
	for round := range 60 {
		e := newEnv(t)
		seats := 1 + rng.Intn(7)
		e.cluster(seats)
		price := func() uint64 {
			switch rng.Intn(4) {
			case 0:
				return 0
			case 1:
				return uint64(rng.Intn(1000))
			case 2:
				return maxPrice
			}
			return uint64(rng.Int63n(maxPrice + 1))
		}
		p := Params{BaseFee: price(), GasPrice: price(), Rules: 1}
		e.Block(func(ctx sdk.Context) error {
			// Enough for the dearest commands.
			rich, _ := math.NewIntFromString("1000000000000000000000000")
			return errors.Join(e.k.SetParams(ctx, p), e.bank.add(ctx, testchain.Account(2), rich), e.bank.add(ctx, testchain.Account(3), rich))
		})
		n := 1 + rng.Intn(40)
		type command struct {
			payer  int
			tier   uint8
			bucket uint8
		}
		var commands []command
		var buckets []uint8
		var txs []func(sdk.Context) error
		for range n {
			c := command{2 + rng.Intn(2), uint8(rng.Intn(proto.MaxTier + 1)), uint8(rng.Intn(65))}
			if rng.Intn(8) == 0 {
				c.bucket = 64
			}
			commands, buckets = append(commands, c), append(buckets, c.bucket)
			txs = append(txs, e.push(push(c.payer, uint32(c.tier))))
		}
		total := e.balance(2).Add(e.balance(3))
		e.Block(txs...)
		// Prices change before the receipt: what was agreed when the command was pushed
		// holds.
		e.Block(func(ctx sdk.Context) error {
			return e.k.SetParams(ctx, Params{BaseFee: price(), GasPrice: price(), Rules: 1})
		})
		r := receipt(1, uint64(n), 1, buckets...)
		agree := map[int]bool{}
		order := rng.Perm(seats)
		for i, s := range order {
			says := r
			if i >= seats/2+1 {
				break
			}
			agree[s+1] = true
			e.Block(e.outbox(s+1, says))
		}
		if e.get(1).FinalSeq != uint64(n) {
			t.Fatalf("seed %d round %d: not final", seed, round)
		}
		// A late word earns nothing.
		for s := 1; s <= seats; s++ {
			if !agree[s] {
				e.Block(e.outbox(s, r))
			}
		}
		charged := math.ZeroInt()
		for i, c := range commands {
			rec, err := get(e.Context(), e.k, proto.KeyCommand(1, uint64(i+1)), proto.ParseCommandRecord)
			if err != nil || !rec.Done {
				t.Fatalf("seed %d round %d command %d: %+v, %v", seed, round, i, rec, err)
			}
			// The naive twin: whole units of gas, one by one in big numbers.
			gas := math.NewIntFromUint64(1).MulRaw(1)
			for range min(c.bucket, 62) {
				gas = gas.MulRaw(2)
			}
			gas = math.MinInt(gas.SubRaw(1), math.NewIntFromUint64(proto.TierGas(c.tier)))
			units := gas.AddRaw(1<<20 - 1).QuoRaw(1 << 20)
			want := math.NewIntFromUint64(p.BaseFee).Add(units.Mul(math.NewIntFromUint64(p.GasPrice)))
			if !math.NewIntFromUint64(rec.Charged).Equal(want) || rec.Charged > rec.Escrow || rec.Charged < p.BaseFee {
				t.Fatalf("seed %d round %d command %d (%+v, %+v): charged %d, want %s of %d", seed, round, i, c, p, rec.Charged, want, rec.Escrow)
			}
			charged = charged.Add(want)
		}
		if !e.held().IsZero() {
			t.Fatalf("seed %d round %d: %s is left in escrow", seed, round, e.held())
		}
		earned, first := math.ZeroInt(), order[0]+1
		share := charged.QuoRaw(int64(len(agree)))
		for s := 1; s <= seats; s++ {
			got, want := e.balance(100+s), math.ZeroInt()
			if agree[s] {
				want = share
			}
			if s == first {
				want = charged.Sub(share.MulRaw(int64(len(agree) - 1)))
			}
			if !got.Equal(want) {
				t.Fatalf("seed %d round %d: operator %d of %d got %s, want %s", seed, round, s, seats, got, want)
			}
			earned = earned.Add(got)
		}
		if !earned.Equal(charged) || !e.balance(2).Add(e.balance(3)).Equal(total.Sub(charged)) {
			t.Fatalf("seed %d round %d: charged %s, earned %s, payers lost %s", seed, round, charged, earned, total.Sub(e.balance(2)).Sub(e.balance(3)))
		}
	}
}

// TestSettlementOfConstructor: a contract's constructor is settled like a command, and
// messages that are none cost nobody anything.
func TestSettlementOfConstructor(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	hash := e.uploaded("hello")
	before := e.balance(2)
	e.Block(e.deploy(deploy(2, hash, "a")))
	e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
	// Message 1 announces the code, 2 is the constructor. A bucket for what is no command
	// is not charged.
	e.Block(e.outbox(1, receipt(1, 1, 1, 30), receipt(2, 2, 2, 1)))
	if !e.held().IsZero() || !before.Sub(e.balance(2)).Equal(math.NewInt(2_000_000)) || !e.balance(101).Equal(math.NewInt(2_000_000)) {
		t.Fatalf("held %s, deployer paid %s, operator got %s", e.held(), before.Sub(e.balance(2)), e.balance(101))
	}
}

func TestOutputs(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	e.Block(e.push(push(1, 0)))
	out := func(b byte) proto.SealedOutput {
		return proto.SealedOutput{Seq: 1, Count: 1, Sealed: []byte{b}}
	}
	e.Block(e.outbox(1, proto.PostOutputs{Cluster: 1, Outputs: []proto.SealedOutput{out(1)}}), e.outbox(2, proto.PostOutputs{Cluster: 1, Outputs: []proto.SealedOutput{out(2), {Seq: 2, Count: 1}}}))
	r, err := e.k.Output(e.Context(), &types.QueryOutputRequest{Cluster: 1, Seq: 1})
	if err != nil || len(r.Outputs) != 2 {
		t.Fatalf("%d outputs, %v", len(r.Outputs), err)
	}
	seen := map[byte]bool{}
	for _, b := range r.Outputs {
		o, err := proto.ParseSealedOutput(b)
		if err != nil || o.Seq != 1 {
			t.Fatalf("%+v, %v", o, err)
		}
		seen[o.Sealed[0]] = true
	}
	if !seen[1] || !seen[2] {
		t.Fatalf("outputs of %v", seen)
	}
	if r, err := e.k.Output(e.Context(), &types.QueryOutputRequest{Cluster: 1, Seq: 3}); err != nil || len(r.Outputs) != 0 {
		t.Fatalf("outputs of nothing: %v, %v", r, err)
	}
	// A run that is refused later leaves none.
	e.Start()
	if _, err := e.Tx(func(ctx sdk.Context) error {
		return errors.Join(e.outbox(1, proto.PostOutputs{Cluster: 1, Outputs: []proto.SealedOutput{{Seq: 3, Count: 1}}})(ctx), errUndo)
	}); !errors.Is(err, errUndo) {
		t.Fatal(err)
	}
	e.Finish()
	if r, err := e.k.Output(e.Context(), &types.QueryOutputRequest{Cluster: 1, Seq: 3}); err != nil || len(r.Outputs) != 0 {
		t.Fatalf("a failed transaction left outputs: %v, %v", r, err)
	}
}
