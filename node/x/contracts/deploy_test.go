package contracts

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"cosmossdk.io/math"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// TestDeploy: waiting, then started or refused; the escrow follows.
func TestDeploy(t *testing.T) {
	escrow := math.NewInt(2_000_000) // base fee and tier 0
	for _, c := range []struct {
		name     string
		seats    int
		prepared []int
		refused  []int
		phase    uint8
	}{
		{"nobody spoke", 3, nil, nil, proto.ContractWaiting},
		{"no majority yet", 3, []int{1}, nil, proto.ContractWaiting},
		{"majority prepared", 3, []int{1, 3}, nil, proto.ContractStarted},
		{"a seat's word counts once", 3, []int{1, 1}, nil, proto.ContractWaiting},
		{"a seat does not change its word", 3, []int{1, 2}, []int{2}, proto.ContractStarted},
		{"one refusal of three", 3, []int{1}, []int{2}, proto.ContractWaiting},
		{"majority refused", 3, []int{1}, []int{2, 3}, proto.ContractRefused},
		{"half refused: no majority can prepare it any more", 2, []int{1}, []int{2}, proto.ContractRefused},
		{"half of four refused", 4, []int{1, 2}, []int{3, 4}, proto.ContractRefused},
		{"one seat prepared", 1, []int{1}, nil, proto.ContractStarted},
		{"one seat refused", 1, nil, []int{1}, proto.ContractRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.cluster(c.seats)
			hash := e.uploaded("hello")
			before := e.balance(2)
			m := deploy(2, hash, "salt")
			e.Block(e.deploy(m))
			if ct := e.contract(2, hash, "salt"); ct.Phase != proto.ContractWaiting || ct.Seq != 0 {
				t.Fatalf("at first: %+v", ct)
			}
			if !e.held().Equal(escrow) || !before.Sub(e.balance(2)).Equal(escrow) {
				t.Fatalf("held %s", e.held())
			}
			var txs []func(sdk.Context) error
			for _, n := range c.prepared {
				txs = append(txs, e.outbox(n, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
			}
			for _, n := range c.refused {
				txs = append(txs, e.outbox(n, proto.CodeRefused{Cluster: 1, Rules: 1, Code: hash, Reason: "float"}))
			}
			e.Block(txs...)
			ct := e.contract(2, hash, "salt")
			if ct.Phase != c.phase {
				t.Fatalf("phase %d, want %d", ct.Phase, c.phase)
			}
			command := proto.PushedCommand{Payer: testchain.Account(2), Epoch: 1, Envelope: sealed(256)}
			announced := proto.Event(proto.CodeAnnounced{Code: hash, Size: 100})
			rec, err := get(e.Context(), e.k, proto.KeyCommand(1, 2), proto.ParseCommandRecord)
			if err != nil {
				t.Fatal(err)
			}
			pending, err := get(e.Context(), e.k, pendingKey(ct.ID), proto.ParseCommandRecord)
			if err != nil {
				t.Fatal(err)
			}
			switch c.phase {
			case proto.ContractWaiting:
				if rec != nil || pending == nil || !e.held().Equal(escrow) || !reflect.DeepEqual(e.events("cluster/1"), []proto.Event{announced}) {
					t.Fatalf("record %v, pending %v, held %s", rec, pending, e.held())
				}
			case proto.ContractStarted:
				started := proto.Event(proto.Instantiated{Contract: ct.ID, Deployer: testchain.Account(2), Code: hash, Command: command})
				if ct.Seq != 2 || rec == nil || pending != nil || !e.held().Equal(escrow) || !reflect.DeepEqual(e.events("cluster/1"), []proto.Event{announced, started}) {
					t.Fatalf("sequence %d, record %v, pending %v, held %s", ct.Seq, rec, pending, e.held())
				}
			case proto.ContractRefused:
				if rec != nil || pending != nil || !e.held().IsZero() || !e.balance(2).Equal(before) {
					t.Fatalf("record %v, pending %v, held %s", rec, pending, e.held())
				}
			}
			// Whoever comes after the decision does not wait for another one.
			if c.phase == proto.ContractWaiting {
				return
			}
			e.Start()
			_, err = e.Tx(e.deploy(deploy(3, hash, "later")))
			e.Finish()
			if c.phase == proto.ContractRefused {
				if !errors.Is(err, ErrRefused) || !e.held().IsZero() {
					t.Fatalf("deploying a refused code: %v, held %s", err, e.held())
				}
			} else if err != nil || e.contract(3, hash, "later").Phase != proto.ContractStarted {
				t.Fatalf("deploying a prepared code: %v", err)
			}
		})
	}
}

func TestDeployRefused(t *testing.T) {
	hash, partial := proto.Hash{}, proto.Hash{}
	for _, c := range []struct {
		name string
		want error
		edit func(m *types.MsgDeploy)
	}{
		{"deployer is no address", ErrMalformed, func(m *types.MsgDeploy) { m.Deployer = "" }},
		{"hash of 31 bytes", ErrMalformed, func(m *types.MsgDeploy) { m.CodeHash = m.CodeHash[:31] }},
		{"salt too long", ErrMalformed, func(m *types.MsgDeploy) { m.Salt = make([]byte, 65) }},
		{"no such code", ErrNoCode, func(m *types.MsgDeploy) { m.CodeHash = make([]byte, 32) }},
		{"code not complete", ErrNoCode, func(m *types.MsgDeploy) { m.CodeHash = partial[:] }},
		{"no such cluster", ErrNoCluster, func(m *types.MsgDeploy) { m.Cluster = 9 }},
		{"cluster without a key", ErrNoEpochKey, func(m *types.MsgDeploy) { m.Cluster = 2 }},
		{"another epoch", ErrEpoch, func(m *types.MsgDeploy) { m.Epoch = 2 }},
		{"gas tier too high", ErrMalformed, func(m *types.MsgDeploy) { m.GasTier = proto.MaxTier + 1 }},
		{"gas tier that fits into a byte only when cut", ErrMalformed, func(m *types.MsgDeploy) { m.GasTier = 256 }},
		{"deposit limit too high", ErrDeposit, func(m *types.MsgDeploy) { m.DepositLimit = proto.MaxDeposit + 1 }},
		{"no money for the deposit", ErrFunds, func(m *types.MsgDeploy) { m.DepositLimit = proto.MaxDeposit }},
		{"envelope of no bucket", ErrMalformed, func(m *types.MsgDeploy) { m.Envelope = m.Envelope[1:] }},
		{"no money", ErrFunds, func(m *types.MsgDeploy) { m.Deployer = testchain.Account(20).String() }},
		{"not the owner", ErrPermission, func(m *types.MsgDeploy) { m.Deployer = testchain.Account(2).String() }},
		{"the same again", ErrExists, func(m *types.MsgDeploy) { m.Salt = []byte("taken") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			// Cluster 1 is not public; cluster 2 has no seat.
			e.Block(e.register(1), e.create(1, 1, false), e.create(1, 1, true))
			e.Block(e.outbox(1, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(1)}))
			hash = e.uploaded("hello")
			m, chunks := packed(noise(300<<10, "partial"))
			partial = m.Hash()
			e.Block(e.upload(1, m, 0, chunks[0]), e.deploy(deploy(1, hash, "taken")))
			msg := deploy(1, hash, "salt")
			c.edit(msg)
			before, money, cursor := e.Dump(ModuleName), e.Dump(fakeStore), e.cursor("cluster/1")
			e.Start()
			_, err := e.Tx(e.deploy(msg))
			e.Finish()
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !reflect.DeepEqual(e.Dump(ModuleName), before) || !reflect.DeepEqual(e.Dump(fakeStore), money) || e.cursor("cluster/1") != cursor {
				t.Fatal("state changed")
			}
		})
	}
}

// TestCodeVoteIsCheap: a worker's word costs the same however many contracts wait for
// the code. Otherwise whoever deploys them could make the worker's outbox too
// expensive for a block, for ever.
func TestCodeVoteIsCheap(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	hash := e.uploaded("hello")
	for i := range 20 {
		m := deploy(1, hash, fmt.Sprint(i))
		m.Envelope = sealed(512 << 10)
		e.Block(e.deploy(m))
	}
	vote := e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash})
	e.Block(func(ctx sdk.Context) error {
		defer func() {
			if r := recover(); r != nil {
				t.Fatalf("the vote is out of gas: %v", r)
			}
		}()
		return vote(ctx.WithGasMeter(storetypes.NewGasMeter(1_000_000)))
	})
	// They start in several blocks, 4 MiB in each.
	for range 3 {
		e.Block()
	}
	started := map[uint64]int{}
	for i := range 20 {
		ct := e.contract(1, hash, fmt.Sprint(i))
		if ct.Phase != proto.ContractStarted {
			t.Fatalf("contract %d is in phase %d", i, ct.Phase)
		}
		started[ct.Seq]++
	}
	if len(started) != 20 || e.cursor("cluster/1").Seq != 21 {
		t.Fatalf("%d sequences, topic at %d", len(started), e.cursor("cluster/1").Seq)
	}
	if len(e.Dump(ModuleName)) != 1+1+1+1+1+20+20 { // params, count, cluster, its seat, code, contracts, commands
		t.Fatalf("%d records are left", len(e.Dump(ModuleName)))
	}
}
