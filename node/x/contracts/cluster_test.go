package contracts

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

func TestCreateCluster(t *testing.T) {
	long := sdk.AccAddress(make([]byte, proto.MaxSender+1)).String()
	for _, c := range []struct {
		name  string
		owner string
		seats uint32
		want  error
	}{
		{"one seat", testchain.Account(1).String(), 1, nil},
		{"as many as there may be", testchain.Account(1).String(), proto.MaxSeats, nil},
		{"who has no money", testchain.Account(50).String(), 1, ErrFunds},
		{"no seat", testchain.Account(1).String(), 0, ErrMalformed},
		{"too many seats", testchain.Account(1).String(), proto.MaxSeats + 1, ErrMalformed},
		{"owner is no address", "phala1", 1, ErrMalformed},
		{"owner's address does not fit into the record", long, 1, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.Start()
			var id uint32
			_, err := e.Tx(func(ctx sdk.Context) error {
				r, err := e.k.CreateCluster(ctx, &types.MsgCreateCluster{Owner: c.owner, Seats: c.seats, Public: true})
				if err == nil {
					id = r.Cluster
				}
				return err
			})
			e.Finish() // also shows that the end of the block gets over it
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			price := math.NewIntFromUint64(DefaultParams().ClusterPrice)
			if c.want != nil {
				price = math.ZeroInt()
			}
			if !price.Equal(e.burnt()) || !e.held().IsZero() {
				t.Fatalf("burnt %s, want %s; held %s", e.burnt(), price, e.held())
			}
			if c.want != nil {
				return
			}
			want := &proto.Cluster{ID: 1, Owner: testchain.Account(1), Public: true, SeatsWanted: c.seats, Rules: 1, Epoch: 1,
				FinalHead: proto.CreatedCursor(testchain.ID, "cluster/1").Head}
			if got := e.get(1); id != 1 || !reflect.DeepEqual(got, want) {
				t.Fatalf("cluster %d\n%+v\nwant\n%+v", id, got, want)
			}
			if e.cursor("cluster/1") != proto.CreatedCursor(testchain.ID, "cluster/1") {
				t.Fatal("topic")
			}
		})
	}
	e := newEnv(t)
	if _, err := e.k.Cluster(e.Context(), 1); !errors.Is(err, ErrNoCluster) {
		t.Fatalf("got %v", err)
	}
}

// TestSeats: free seats go to serving workers without one, in order of cluster and
// identity; each is told, and so are the gatekeepers.
func TestSeats(t *testing.T) {
	e := newEnv(t)
	gatekeeper := func(ctx sdk.Context) error {
		return e.regs.set(ctx, &proto.WorkerInfo{Worker: wid(50), Role: proto.RoleGatekeeper, Expires: 1 << 40})
	}
	silent := func(ctx sdk.Context) error {
		return e.regs.set(ctx, &proto.WorkerInfo{Worker: wid(51), Role: proto.RoleWorker})
	}
	busy := func(ctx sdk.Context) error {
		return e.regs.set(ctx, &proto.WorkerInfo{Worker: wid(52), Role: proto.RoleWorker, Rules: 1, Expires: 1 << 40, State: proto.WorkerState{Cluster: 77}})
	}
	e.Block(gatekeeper, silent, busy, e.create(1, 2, true), e.create(1, 2, true))
	if n := len(e.get(1).Seats) + len(e.get(2).Seats); n != 0 {
		t.Fatalf("%d seats without a worker", n)
	}
	e.Block(e.register(1), e.register(2), e.register(3))
	order := []proto.WorkerID{wid(1), wid(2), wid(3)}
	slices.SortFunc(order, func(a, b proto.WorkerID) int { return bytes.Compare(a[:], b[:]) })
	if got := [][]proto.WorkerID{e.get(1).Seats, e.get(2).Seats}; !reflect.DeepEqual(got, [][]proto.WorkerID{order[:2], order[2:]}) {
		t.Fatalf("seats %v", got)
	}
	e.Block(e.register(4), e.register(5))
	seat := e.get(2).Seats[1]
	if len(e.get(2).Seats) != 2 || (seat != wid(4) && seat != wid(5)) {
		t.Fatalf("second seat %v", e.get(2).Seats)
	}
	for i, w := range append(order, seat) {
		c := proto.ClusterID(1 + i/2)
		info, err := e.regs.Worker(e.Context(), w)
		if err != nil || info.State.Cluster != c {
			t.Errorf("worker %d is in cluster %d, %v", i, info.State.Cluster, err)
		}
		want := proto.Seated{Cluster: c, Worker: w, Epoch: 1}
		if got := e.events(proto.TopicWorker(w)); !reflect.DeepEqual(got, []proto.Event{want}) {
			t.Errorf("worker %d is told %v", i, got)
		}
		if !slices.Contains(e.events(proto.TopicGatekeeper), proto.Event(want)) {
			t.Errorf("gatekeepers are not told of worker %d", i)
		}
	}
}

// TestEpochKey: it counts once a majority of the committee, as large as the cluster
// wants it, said the same; a seat does not change its word.
func TestEpochKey(t *testing.T) {
	type word struct{ worker, key int }
	for _, c := range []struct {
		name  string
		seats int
		words []word
		after int // number of words after which the key counts, 0 for never
		key   int
	}{
		{"one seat", 1, []word{{1, 1}}, 1, 1},
		{"two seats need both", 2, []word{{1, 1}, {2, 1}}, 2, 1},
		{"two seats that differ", 2, []word{{1, 1}, {2, 2}}, 0, 0},
		{"two of three", 3, []word{{1, 1}, {2, 1}, {3, 1}}, 2, 1},
		{"one of three lies first", 3, []word{{1, 2}, {2, 1}, {3, 1}}, 3, 1},
		{"one of three lies twice", 3, []word{{1, 2}, {1, 2}, {2, 1}}, 0, 0},
		{"a seat changes its word", 3, []word{{1, 2}, {1, 1}, {2, 1}}, 0, 0},
		{"three of four", 4, []word{{1, 1}, {2, 1}, {3, 2}, {4, 1}}, 4, 1},
		{"what counts stays", 3, []word{{1, 1}, {2, 1}, {3, 2}}, 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			var txs []func(sdk.Context) error
			for n := 1; n <= c.seats; n++ {
				txs = append(txs, e.register(n))
			}
			e.Block(append(txs, e.create(1, c.seats, true))...)
			for i, w := range c.words {
				events := e.Block(e.outbox(w.worker, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(w.key)}))
				want := [32]byte{}
				if c.after > 0 && i+1 >= c.after {
					want = epochKey(c.key)
				}
				if got := e.get(1).EpochKey; got != want {
					t.Fatalf("after word %d the key is %x, want %x", i+1, got[:4], want[:4])
				}
				if said := len(testchain.Values(events, "epoch_key", "epoch")) == 1; said != (i+1 == c.after) {
					t.Fatalf("event after word %d: %v", i+1, said)
				}
			}
		})
	}
	t.Run("the first seats do not decide for those to come", func(t *testing.T) {
		e := newEnv(t)
		e.Block(e.register(1), e.create(1, 3, true))
		say := func(n int) func(sdk.Context) error {
			return e.outbox(n, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(n)})
		}
		e.Block(say(1))
		if e.get(1).EpochKey != [32]byte{} {
			t.Fatal("one worker of a committee of three made its key the cluster's")
		}
		e.Block(e.register(2), e.register(3))
		e.Block(e.outbox(2, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(7)}), e.outbox(3, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(7)}))
		if e.get(1).EpochKey != epochKey(7) {
			t.Fatal("the majority's key does not count")
		}
	})
}

// TestEntriesRefused: what a seat may not say, by its error.
func TestEntriesRefused(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	hash := e.uploaded("hello")
	e.Block(e.register(3), e.create(1, 1, true)) // worker 3 has its seat in cluster 2
	e.Block(e.push(push(1, 0)), e.push(push(1, 0)))
	receipt := func(cluster proto.ClusterID, from, to uint64) proto.Receipt {
		return proto.Receipt{Cluster: cluster, FromSeq: from, ToSeq: to, Items: make([]proto.ReceiptItem, to-from+1)}
	}
	for _, c := range []struct {
		name   string
		worker int
		entry  proto.Entry
		want   error
	}{
		{"good receipt", 1, receipt(1, 1, 2), nil},
		{"good word for a code", 1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}, nil},
		{"good outputs", 1, proto.PostOutputs{Cluster: 1, Outputs: []proto.SealedOutput{{Seq: 1}}}, nil},
		{"receipt from a foreign seat", 3, receipt(1, 1, 2), ErrSeat},
		{"receipt from no seat at all", 9, receipt(1, 1, 2), ErrSeat},
		{"word for a code from a foreign seat", 3, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}, ErrSeat},
		{"refusal of a code from a foreign seat", 3, proto.CodeRefused{Cluster: 1, Rules: 1, Code: hash}, ErrSeat},
		{"epoch key from a foreign seat", 3, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(1)}, ErrSeat},
		{"outputs from a foreign seat", 3, proto.PostOutputs{Cluster: 1}, ErrSeat},
		{"unknown cluster", 1, receipt(9, 1, 2), ErrNoCluster},
		{"epoch key of another epoch", 1, proto.PublishEpochKey{Cluster: 1, Epoch: 2, Public: epochKey(1)}, ErrEpoch},
		{"epoch key that is none", 1, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: [32]byte{0xff}}, ErrMalformed},
		{"epoch key zero", 1, proto.PublishEpochKey{Cluster: 1, Epoch: 1}, ErrMalformed},
		{"word for a code that is not uploaded", 1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: proto.Hash{1}}, ErrNoCode},
		{"receipt for messages to come", 1, receipt(1, 1, 3), ErrReceipt},
		{"an entry of another module", 1, proto.Challenge{}, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.Start()
			if err := e.say(c.worker, c.entry); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			e.Finish()
		})
	}
}

func TestUpdateParams(t *testing.T) {
	e := newEnv(t)
	good := `{"base_fee":"5","gas_price":"6","code_price":"7","rules":1}`
	for _, c := range []struct {
		name, sender, params string
		want                 error
	}{
		{"governance", authority, good, nil},
		{"anybody else", testchain.Account(1).String(), good, ErrAuthority},
		{"no JSON", authority, "[", ErrParams},
		{"unknown field", authority, strings.Replace(good, "rules", "rule", 1), ErrParams},
		{"no rules version", authority, strings.Replace(good, `"rules":1`, `"rules":0`, 1), ErrParams},
		{"a rules version that no worker knows", authority, strings.Replace(good, `"rules":1`, `"rules":2`, 1), ErrParams},
		{"base fee too high", authority, strings.Replace(good, `"5"`, `"1099511627777"`, 1), ErrParams},
		{"gas price too high", authority, strings.Replace(good, `"6"`, `"1099511627777"`, 1), ErrParams},
		{"code price too high", authority, strings.Replace(good, `"7"`, `"131073"`, 1), ErrParams},
		{"cluster price too high", authority, strings.Replace(good, `"rules"`, `"cluster_price":"1152921504606846977","rules"`, 1), ErrParams},
		{"negative", authority, strings.Replace(good, `"7"`, `"-7"`, 1), ErrParams},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.Start()
			_, err := e.Tx(func(ctx sdk.Context) error {
				_, err := e.k.UpdateParams(ctx, &types.MsgUpdateParams{Authority: c.sender, Params: c.params})
				return err
			})
			e.Finish()
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			want := Params{BaseFee: 5, GasPrice: 6, CodePrice: 7, Rules: 1}
			if p, err := e.k.Params(e.Context()); err != nil || p != want {
				t.Fatalf("parameters %+v, %v", p, err)
			}
		})
	}
}

func imported(t *testing.T, genesis []byte) *env {
	c := testchain.New(t, []string{mq.ModuleName, ModuleName, fakeStore}, []string{mq.TransientKey})
	e := &env{Chain: c, t: t, bank: ledger{c}, regs: workers{c}, next: map[int]uint64{}}
	e.k = NewKeeper(c.Store(ModuleName), nil, e.regs, e.bank, authority)
	c.Block(func(ctx sdk.Context) error { Module{e.k}.InitGenesis(ctx, nil, genesis); return nil })
	return e
}

// TestGenesisRoundTrip with every kind of record in the state.
func TestGenesisRoundTrip(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	hash, other := e.uploaded("hello"), e.uploaded("other")
	e.Block(e.deploy(deploy(1, hash, "a")), e.deploy(deploy(1, other, "a")), e.push(push(2, 3)))
	e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}, proto.CodeRefused{Cluster: 1, Rules: 1, Code: other}), e.outbox(2, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
	e.Block(e.outbox(1, proto.Receipt{Cluster: 1, FromSeq: 1, ToSeq: 1, Items: make([]proto.ReceiptItem, 1)}))
	// Contracts whose code is decided, stopped before the end of the block starts them.
	third := e.uploaded("third")
	e.Block(e.deploy(deploy(1, third, "a")))
	e.k.mq = e.mq
	e.End = e.End[1:]
	e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: third}), e.outbox(2, proto.CodePrepared{Cluster: 1, Rules: 1, Code: third}))

	// And ones that are to be announced again, because the rules have changed.
	e.Block(func(ctx sdk.Context) error { return e.k.store.OpenKVStore(ctx).Set(againKey(1), []byte{1}) })

	first := Module{e.k}.ExportGenesis(e.Context(), nil)
	if err := (Module{}).ValidateGenesis(nil, nil, first); err != nil {
		t.Fatal(err)
	}
	a, b := imported(t, first), imported(t, first)
	if second := (Module{a.k}).ExportGenesis(a.Context(), nil); string(second) != string(first) {
		t.Fatalf("exported again:\n%s\nwant\n%s", second, first)
	}
	if string(a.MS.LastCommitID().Hash) != string(b.MS.LastCommitID().Hash) {
		t.Fatal("two imports have different app hashes")
	}
	if got, want := a.Dump(ModuleName), e.Dump(ModuleName); !reflect.DeepEqual(got, want) {
		t.Fatalf("%d records of %d", len(got), len(want))
	}
	kinds := map[string]bool{}
	for k := range e.Dump(ModuleName) {
		kinds[k[:2]] = true
	}
	if len(kinds) != 11 {
		t.Fatalf("the keys begin with %d letters: %v", len(kinds), kinds)
	}
}

func TestGenesisRefused(t *testing.T) {
	good := string(Module{}.DefaultGenesis(nil))
	for _, c := range []struct{ name, genesis string }{
		{"no JSON", "{"},
		{"unknown field", strings.Replace(good, `"state"`, `"states"`, 1)},
		{"bad parameters", strings.Replace(good, `"rules":1`, `"rules":0`, 1)},
		{"trailing brace", good + "}"},
	} {
		if c.genesis == good {
			t.Fatalf("%s: nothing changed", c.name)
		}
		if err := (Module{}).ValidateGenesis(nil, nil, []byte(c.genesis)); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the chain begins from it", c.name)
				}
			}()
			imported(t, []byte(c.genesis))
		}()
	}
	if err := (Module{}).ValidateGenesis(nil, nil, []byte(good)); err != nil {
		t.Fatal(err)
	}
}
