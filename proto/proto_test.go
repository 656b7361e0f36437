package proto_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
)

// TestFold: positions depend on the topic, the order and every field of the messages.
func TestFold(t *testing.T) {
	seen := map[proto.Cursor]string{}
	note := func(what string, c proto.Cursor) {
		t.Helper()
		if old, ok := seen[c]; ok {
			t.Errorf("%s folds to the same as %s", what, old)
		}
		seen[c] = what
	}
	m := filled[proto.Message]()
	start := proto.CreatedCursor("chain-1", m.Topic)
	note("nothing", start)
	note("nothing on another chain", proto.CreatedCursor("chain-2", m.Topic))
	note("nothing in another topic", proto.CreatedCursor("chain-1", m.Topic+"x"))
	note("the message", start.Fold(m))
	note("the message twice", start.Fold(m).Fold(m))
	for name, edit := range map[string]func(*proto.Message){
		"topic": func(m *proto.Message) { m.Topic += "x" }, "seq": func(m *proto.Message) { m.Seq++ }, "height": func(m *proto.Message) { m.Height++ },
		"time": func(m *proto.Message) { m.Time++ }, "sender": func(m *proto.Message) { m.Sender = nil }, "payload": func(m *proto.Message) { m.Payload = m.Payload[1:] },
	} {
		other := *m
		edit(&other)
		note("another "+name, start.Fold(&other))
		note("another "+name+" after it", start.Fold(m).Fold(&other))
		note("another "+name+" before it", start.Fold(&other).Fold(m))
	}
	if c := start.Fold(m); c.Seq != 1 || c.Fold(m).Seq != 2 {
		t.Errorf("sequence %d", c.Seq)
	}
}

func TestTopics(t *testing.T) {
	w := proto.WorkerID{0xab}
	order := []string{proto.TopicSystem, proto.TopicGatekeeper, proto.TopicCluster(12), proto.TopicWorker(w), "unknown"}
	if !slices.IsSortedFunc(order, func(a, b string) int { return proto.TopicRank(a) - proto.TopicRank(b) }) || proto.TopicRank(order[4]) == proto.TopicRank(order[3]) {
		t.Fatalf("order %v", order)
	}
	if order[2] != "cluster/12" || order[3] != "worker/ab"+strings.Repeat("00", 31) {
		t.Fatalf("names %v", order)
	}
	for _, topic := range order {
		if len(topic) > proto.MaxTopic {
			t.Errorf("%s is too long", topic)
		}
	}
}

// TestGas: tiers and buckets against the definitions, in big numbers.
func TestGas(t *testing.T) {
	for tier := range 40 {
		want := new(big.Int).Lsh(big.NewInt(proto.MinTierGas), uint(min(tier, proto.MaxTier)))
		if got := proto.TierGas(uint8(tier)); !want.IsUint64() || got != want.Uint64() {
			t.Errorf("tier %d has %d gas", tier, got)
		}
	}
	rng := rand.New(rand.NewSource(1))
	numbers := []uint64{0, 1, 2, 3, 1<<20 - 1, 1 << 20, 1<<20 + 1, 1 << 40, 1<<40 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for range 2000 {
		numbers = append(numbers, rng.Uint64()>>rng.Intn(64))
	}
	for _, gas := range numbers {
		tier, ok := proto.TierFor(gas)
		switch {
		case ok != (gas <= proto.TierGas(proto.MaxTier)):
			t.Errorf("%d gas: a tier holds it: %v", gas, ok)
		case ok && (proto.TierGas(tier) < gas || tier > 0 && proto.TierGas(tier-1) >= gas):
			t.Errorf("%d gas: tier %d", gas, tier)
		}
		b := proto.BucketOf(gas)
		if high := proto.GasOfBucket(b); high < gas || gas > 0 && proto.GasOfBucket(b-1) >= gas {
			t.Errorf("%d gas: bucket %d up to %d", gas, b, high)
		}
	}
	if proto.GasOfBucket(255) != 1<<64-1 || proto.GasOfBucket(0) != 0 {
		t.Error("ends of the buckets")
	}
}

func TestMajority(t *testing.T) {
	for _, c := range []struct{ seats, wanted, want int }{{0, 1, 1}, {1, 1, 1}, {1, 2, 2}, {2, 2, 2}, {1, 3, 2}, {3, 3, 2}, {4, 4, 3}, {32, 32, 17}, {5, 3, 3}} {
		cl := proto.Cluster{Seats: make([]proto.WorkerID, c.seats), SeatsWanted: uint32(c.wanted)}
		if got := cl.Majority(); got != c.want {
			t.Errorf("%d seats of %d wanted: %d decide, want %d", c.seats, c.wanted, got, c.want)
		}
	}
	cl := proto.Cluster{Seats: []proto.WorkerID{{1}, {2}}}
	if !cl.HasSeat(proto.WorkerID{2}) || cl.HasSeat(proto.WorkerID{3}) {
		t.Error("seats")
	}
	if n := (&proto.Code{Have: []bool{true, false, false}}).Missing(); n != 2 {
		t.Errorf("%d chunks are missing", n)
	}
}

func TestIdentifiers(t *testing.T) {
	type ids struct {
		W proto.WorkerID
		C proto.ContractID
		H proto.Hash
	}
	v := *filled[ids]()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back ids
	if err := json.Unmarshal(b, &back); err != nil || back != v || !strings.Contains(string(b), v.W.String()) {
		t.Fatalf("%s: %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"W":"0x`+v.W.String()+`"}`), &back); err != nil {
		t.Errorf("with 0x: %v", err)
	}
	for _, bad := range []string{"", "00", "0x", strings.Repeat("00", 33), strings.Repeat("zz", 32), strings.Repeat("0", 63)} {
		for _, field := range []string{"W", "C", "H"} {
			if err := json.Unmarshal([]byte(`{"`+field+`":"`+bad+`"}`), &back); err == nil {
				t.Errorf("%s reads %q", field, bad)
			}
		}
	}
	seen := map[proto.ContractID]bool{}
	for _, id := range []proto.ContractID{
		proto.NewContractID("a", 1, []byte("d"), proto.Hash{1}, []byte("s")), proto.NewContractID("b", 1, []byte("d"), proto.Hash{1}, []byte("s")),
		proto.NewContractID("a", 2, []byte("d"), proto.Hash{1}, []byte("s")), proto.NewContractID("a", 1, []byte("ds"), proto.Hash{1}, nil),
		proto.NewContractID("a", 1, []byte("d"), proto.Hash{2}, []byte("s")), proto.NewContractID("a", 1, []byte("d"), proto.Hash{1}, []byte("t")),
	} {
		if seen[id] {
			t.Error("two deployments have one contract id")
		}
		seen[id] = true
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for s := proto.StatusOK; s <= proto.StatusOutputTooLarge; s++ {
		if n := s.String(); n == "" || seen[n] || strings.HasPrefix(n, "status_") {
			t.Errorf("status %d is called %q", s, n)
		}
		seen[s.String()] = true
	}
	if proto.Status(200).String() != "status_200" || proto.RoleWorker.String() != "worker" || proto.RoleGatekeeper.String() != "gatekeeper" || proto.Role(9).String() != "role 9" {
		t.Error("names")
	}
}

// TestContexts: nothing that is bound to one place opens in another.
func TestContexts(t *testing.T) {
	key := func(c envelope.Context) string {
		return fmt.Sprintf("%q %q %x %d %x", c.Purpose, c.Chain, c.Cluster, c.Epoch, c.Outer)
	}
	id, code, dep := proto.ContractID{1}, proto.Hash{2}, []byte("deployer")
	command := func(payer string, epoch uint64, tier uint8, deposit uint64) *proto.PushedCommand {
		return &proto.PushedCommand{Payer: []byte(payer), Epoch: epoch, GasTier: tier, DepositLimit: deposit}
	}
	constructor := func(tier uint8, id proto.ContractID, deployer []byte, code proto.Hash) envelope.Context {
		return (&proto.Instantiated{Contract: id, Deployer: deployer, Code: code, Command: *command("p", 1, tier, 1)}).Context("a", 1)
	}
	seen := map[string]int{}
	for i, c := range []envelope.Context{
		command("p", 1, 1, 1).Context("a", 1), command("p", 1, 1, 1).Context("b", 1), command("p", 1, 1, 1).Context("a", 2), command("q", 1, 1, 1).Context("a", 1),
		command("p", 2, 1, 1).Context("a", 1), command("p", 1, 2, 1).Context("a", 1), command("p", 1, 1, 2).Context("a", 1),
		constructor(1, id, dep, code), constructor(2, id, dep, code), constructor(1, proto.ContractID{9}, dep, code),
		constructor(1, id, nil, code), constructor(1, id, dep, proto.Hash{9}),
		proto.QueryContext("a"), proto.QueryContext("b"),
		proto.ReleaseContext("a", proto.WorkerID{1}, 1, 1), proto.ReleaseContext("a", proto.WorkerID{2}, 1, 1), proto.ReleaseContext("a", proto.WorkerID{1}, 2, 1), proto.ReleaseContext("a", proto.WorkerID{1}, 1, 2),
	} {
		if j, ok := seen[key(c)]; ok {
			t.Errorf("contexts %d and %d are one", i, j)
		}
		seen[key(c)] = i
	}
}

// TestSignedBytes: what is signed changes with every field, and with the place.
func TestSignedBytes(t *testing.T) {
	seen := map[string]string{}
	note := func(what string, b []byte) {
		t.Helper()
		if old, ok := seen[string(b)]; ok {
			t.Errorf("%s is signed like %s", what, old)
		}
		seen[string(b)] = what
	}
	v := filled[proto.Invocation]()
	note("invocation", v.SignedBytes("a", 1))
	note("on another chain", v.SignedBytes("b", 1))
	note("in another cluster", v.SignedBytes("a", 2))
	for name, edit := range map[string]func(*proto.Invocation){
		"from": func(v *proto.Invocation) { v.From = nil }, "to": func(v *proto.Invocation) { v.To[0]++ }, "input": func(v *proto.Invocation) { v.Input = nil },
		"nonce": func(v *proto.Invocation) { v.Nonce[0]++ }, "gas limit": func(v *proto.Invocation) { v.GasLimit++ }, "deposit limit": func(v *proto.Invocation) { v.DepositLimit++ },
		"expiry": func(v *proto.Invocation) { v.Expiry++ }, "after": func(v *proto.Invocation) { v.After[0]++ },
	} {
		other := *v
		edit(&other)
		note("invocation with another "+name, other.SignedBytes("a", 1))
	}
	q := filled[proto.Query]()
	note("query", q.SignedBytes("a", [32]byte{1}))
	note("query on another chain", q.SignedBytes("b", [32]byte{1}))
	note("query to another session", q.SignedBytes("a", [32]byte{2}))
	for name, edit := range map[string]func(*proto.Query){
		"from": func(v *proto.Query) { v.From = nil }, "to": func(v *proto.Query) { v.To[0]++ }, "input": func(v *proto.Query) { v.Input = nil },
		"nonce": func(v *proto.Query) { v.Nonce[0]++ }, "height": func(v *proto.Query) { v.MinHeight++ }, "gas limit": func(v *proto.Query) { v.GasLimit++ },
	} {
		other := *q
		edit(&other)
		note("query with another "+name, other.SignedBytes("a", [32]byte{1}))
	}
	o := filled[proto.Output]()
	commit := func(o *proto.Output) []byte { h := o.Commitment(); return h[:] }
	note("output", commit(o))
	for name, edit := range map[string]func(*proto.Output){
		"seq": func(v *proto.Output) { v.Seq++ }, "height": func(v *proto.Output) { v.Height++ }, "status": func(v *proto.Output) { v.Status++ }, "gas": func(v *proto.Output) { v.GasUsed++ },
		"deposit": func(v *proto.Output) { v.Deposit++ }, "return": func(v *proto.Output) { v.Return = nil }, "error": func(v *proto.Output) { v.Error = "" },
		"blinding": func(v *proto.Output) { v.Blinding[0]++ }, "bucket": func(v *proto.Output) { v.GasBucket++ },
	} {
		other := *o
		edit(&other)
		note("output with another "+name, commit(&other))
	}
	w := proto.WorkerID{1}
	note("outbox entry", proto.EntrySignedBytes("a", w, 1, []byte("p")))
	note("outbox entry of another number", proto.EntrySignedBytes("a", w, 2, []byte("p")))
	note("outbox entry of another worker", proto.EntrySignedBytes("a", proto.WorkerID{2}, 1, []byte("p")))
	note("outbox entry on another chain", proto.EntrySignedBytes("b", w, 1, []byte("p")))
	reg := filled[proto.Registration]()
	if d := reg.ReportData(); string(d[32:]) != strings.Repeat("\x00", 32) {
		t.Error("second half of the report data")
	}
}
