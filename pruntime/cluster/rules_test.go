package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// A catalogue has programs under two versions of the rules.
type catalogue struct {
	rules    []engine.Rules
	programs map[proto.Hash][2]*engine.Program
	failed   map[proto.Hash]error // under version 2
	hide     map[proto.Hash]bool  // what is not prepared yet under version 2
}

func (c *catalogue) Program(h proto.Hash, rules uint32) (*engine.Program, error) {
	switch {
	case rules == 2 && c.hide[h]:
		return nil, nil
	case rules == 2 && c.failed[h] != nil:
		return nil, c.failed[h]
	}
	return c.programs[h][rules-1], nil
}

func (c *catalogue) Rules(version uint32) *engine.Rules {
	if version == 0 || int(version) > len(c.rules) {
		return nil
	}
	return &c.rules[version-1]
}

var shelf struct {
	sync.Once
	catalogue
	small, large proto.Hash // the second version refuses the large one
	err          error
}

// stocked is a catalogue of two codes that do the same.
func stocked(t testing.TB) (c *catalogue, small, large proto.Hash) {
	t.Helper()
	shelf.Do(func() {
		shelf.rules, shelf.programs, shelf.failed = enginetest.Rules(), map[proto.Hash][2]*engine.Program{}, map[proto.Hash]error{}
		e, err := engine.New("", shelf.rules...)
		if err != nil {
			shelf.err = err
			return
		}
		prepare := func(module []byte) proto.Hash {
			one, err := e.PrepareUnder(context.Background(), 1, module)
			if err != nil {
				shelf.err = err
				return proto.Hash{}
			}
			two, err := e.PrepareUnder(context.Background(), 2, module)
			if err != nil {
				shelf.failed[one.Hash()] = err
			}
			shelf.programs[one.Hash()] = [2]*engine.Program{one, two}
			return one.Hash()
		}
		shelf.small, shelf.large = prepare(enginetest.Script("")), prepare(enginetest.Script(strings.Repeat("x", enginetest.SmallModule)))
		if shelf.err == nil && (len(shelf.failed) != 1 || !errors.Is(shelf.failed[shelf.large], engine.ErrModule)) {
			shelf.err = errors.New("version 2 does not refuse the large code alone")
		}
	})
	if shelf.err != nil {
		t.Fatal(shelf.err)
	}
	return &catalogue{shelf.rules, shelf.programs, shelf.failed, map[proto.Hash]bool{}}, shelf.small, shelf.large
}

// images is what a list of codes is under version 2.
func (c *catalogue) images(codes ...proto.Hash) proto.Hash {
	var list []proto.CodeImage
	for _, h := range codes {
		i := proto.CodeImage{Code: h}
		if c.failed[h] == nil {
			i.Image = c.programs[h][1].ImageHash()
		}
		list = append(list, i)
	}
	return proto.ImagesDigest(2, list)
}

// twoRules is a cluster under version 1 with a contract of each code.
func twoRules(t testing.TB) (w *world, c *catalogue, small, large proto.ContractID) {
	w = newWorld(t, home)
	c, smallCode, largeCode := stocked(t)
	keys, _ := testKeys(t)
	w.c = New(chain, home, keys, c, rand.Reader)
	for _, code := range []proto.Hash{smallCode, largeCode} {
		w.code = code
		w.instantiate(func(cmd *command) { cmd.inst.Image = c.programs[code][0].ImageHash() })
		if out := w.run()[0]; out.Status != proto.StatusOK {
			t.Fatalf("constructor: %s: %s", out.Status, out.Error)
		}
		small, large = large, w.target
	}
	return w, c, small, large
}

func to(id proto.ContractID) func(*command) {
	return func(c *command) { c.inv.To = id }
}

// activated is the message that puts version 2 into force after this block.
func (w *world) activated(images proto.Hash) proto.RulesActivated {
	return proto.RulesActivated{Version: 2, EffectiveHeight: w.height + 1, Images: images}
}

// TestActivate: what precedes the message runs under the old rules, what follows it under
// the new ones; contracts whose code the new ones refuse fail, with all that they hold,
// and nothing else does; another replica, and one that continues from the state, agree.
func TestActivate(t *testing.T) {
	w, c, small, large := twoRules(t)
	gas := func(id proto.ContractID) uint64 {
		out := w.one(w.command("n", to(id)))
		wantStatus(t, "count", out, proto.StatusOK)
		return out.GasUsed
	}
	gas(small) // the item is there
	gas(large)
	before := gas(small)
	w.message(proto.RulesWanted{Version: 2})
	w.block()
	if old := gas(small); old != before {
		t.Fatalf("%d gas, and %d once other rules are wanted", before, old)
	}

	// One command before the message, and, which no chain does, one after it in its block.
	w.push(w.command("n", to(small)))
	w.message(w.activated(c.images(shelf.small, shelf.large)))
	w.push(w.command("n", to(small)))
	outs := w.run()
	if outs[0].GasUsed != before || w.c.Snapshot().Rules() != 2 {
		t.Fatalf("in the last block under version 1: %d gas, not %d; then version %d", outs[0].GasUsed, before, w.c.Snapshot().Rules())
	}
	if _, _, ok := w.c.Snapshot().Wanted(); ok {
		t.Error("version 2 is still wanted")
	}
	after := gas(small)
	if after <= before+50_000 {
		t.Fatalf("%d gas under version 1, %d under version 2", before, after)
	}
	if outs[1].GasUsed != after {
		t.Errorf("behind the message %d gas, then %d", outs[1].GasUsed, after)
	}
	if out := w.one(w.command("e", to(small), func(c *command) { c.inv.GasLimit = c2open - 1 })); out.Status != proto.StatusGasLimit {
		t.Errorf("less gas than opening takes: %s", out.Status)
	}

	root := w.c.Snapshot()
	out := w.one(w.command("n", to(large)))
	wantStatus(t, "a code that version 2 refuses", out, proto.StatusCodeFailed)
	if out.GasUsed != c2open || !strings.Contains(out.Error, "version 2 of the rules refuses") {
		t.Errorf("%d gas, %q", out.GasUsed, out.Error)
	}
	if status, _ := w.query(large, "gn"); status != proto.StatusCodeFailed {
		t.Errorf("a query of it: %s", status)
	}
	// One that calls it is told, and goes on.
	out = w.one(w.command("k"+string(large[:])+"n", to(small)))
	wantStatus(t, "a caller", out, proto.StatusOK)
	if len(out.Return) < 16 || out.Return[4] != 17 || !strings.Contains(string(out.Return), "refuses this contract's code") {
		t.Errorf("it is told %q", out.Return)
	}
	if status, got := w.query(small, "gn"); status != proto.StatusOK || got != "\x06" {
		t.Errorf("query: %s, %q", status, got)
	}
	// What it stored stays.
	if _, ok := w.c.Snapshot().m.Get(append(storagePrefix(large), 'n')); !ok || root.Rules() != 2 {
		t.Error("its storage is gone")
	}

	keys, _ := testKeys(t)
	twin := New(chain, home, keys, c, rand.Reader)
	for _, items := range w.history {
		if _, err := twin.Apply(context.Background(), items); err != nil {
			t.Fatal(err)
		}
	}
	resumed := New(chain, home, keys, c, rand.Reader)
	if err := resumed.Restore(w.c.Snapshot().Marshal()); err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Cluster{"that saw everything": twin, "that continues": resumed} {
		if r.Snapshot().Root() != w.c.Snapshot().Root() || r.Snapshot().Rules() != 2 {
			t.Errorf("a replica %s differs", name)
		}
	}
	if err := New(chain, home, keys, programs{}, rand.Reader).Restore(w.c.Snapshot().Marshal()); !errors.Is(err, ErrRules) {
		t.Errorf("a build that does not know the rules: %v", err)
	}
}

const c2open = 200_000 // gas of opening under version 2

// TestActivateRefused: an activation that a replica cannot follow changes nothing.
func TestActivateRefused(t *testing.T) {
	w, c, _, _ := twoRules(t)
	good := w.activated(c.images(shelf.small, shelf.large))
	missing := []proto.Hash{shelf.small, shelf.large}
	for _, x := range []struct {
		name string
		hide []proto.Hash
		e    proto.RulesActivated
		want error
	}{
		{"unknown version", nil, proto.RulesActivated{Version: 3, EffectiveHeight: good.EffectiveHeight, Images: good.Images}, ErrRules},
		{"no version", nil, proto.RulesActivated{EffectiveHeight: good.EffectiveHeight, Images: good.Images}, ErrRules},
		{"images of other codes", nil, w.activated(c.images(shelf.small)), ErrImage},
		{"other images", nil, w.activated(proto.Hash{1}), ErrImage},
		{"codes that are not prepared", missing, good, ErrNeedCode},
		{"the version in force", nil, proto.RulesActivated{Version: 1, EffectiveHeight: good.EffectiveHeight, Images: good.Images}, errOther},
		{"at once", nil, proto.RulesActivated{Version: 2, EffectiveHeight: w.height, Images: good.Images}, errOther},
		{"later", nil, proto.RulesActivated{Version: 2, EffectiveHeight: w.height + 2, Images: good.Images}, errOther},
	} {
		c.hide = map[proto.Hash]bool{}
		for _, h := range x.hide {
			c.hide[h] = true
		}
		before, cursor := w.c.Snapshot(), w.cursor
		w.message(x.e)
		_, err := w.c.Apply(context.Background(), w.items)
		if err == nil || x.want != errOther && !errors.Is(err, x.want) {
			t.Errorf("%s: %v", x.name, err)
		}
		if w.c.Snapshot() != before {
			t.Fatalf("%s: the state has changed", x.name)
		}
		var need *NeedCode
		if errors.As(err, &need) != (x.hide != nil) || need != nil && (need.Rules != 2 || len(need.Codes) != len(missing)) {
			t.Errorf("%s: needs %+v", x.name, need)
		}
		w.items, w.cursor = nil, cursor
	}
	c.hide = nil
	w.message(good)
	w.block()
}

var errOther = errors.New("any error")

// TestWanted: the state says which version is wanted, and of which codes the seats' words
// must be: those after the question, or after the newest constructor since.
func TestWanted(t *testing.T) {
	w, c, _, _ := twoRules(t)
	without := w.c.Snapshot().Root()
	expect := func(what string, version uint32, seq uint64) {
		t.Helper()
		v, s, ok := w.c.Snapshot().Wanted()
		if v != version || s != seq || ok != (version != 0) {
			t.Fatalf("%s: version %d of message %d, %t", what, v, s, ok)
		}
		again := New(chain, home, w.c.keys, c, rand.Reader)
		if err := again.Restore(w.c.Snapshot().Marshal()); err != nil {
			t.Fatal(err)
		}
		if v, s, _ := again.Snapshot().Wanted(); v != version || s != seq {
			t.Fatalf("%s: version %d of message %d from a snapshot", what, v, s)
		}
	}
	expect("at first", 0, 0)
	w.message(proto.RulesWanted{Version: 9}) // known or not
	w.block()
	asked := w.cursor.Seq
	expect("asked", 9, asked)
	if w.c.Snapshot().Root() == without {
		t.Error("the root does not bind it")
	}
	wantStatus(t, "a command", w.one(w.command("e")), proto.StatusOK)
	expect("after a command", 9, asked)
	w.instantiate(func(cmd *command) { cmd.inst.Image = c.programs[w.code][0].ImageHash() })
	w.run()
	expect("after a constructor", 9, w.cursor.Seq)
	w.instantiate(func(cmd *command) {
		cmd.inst.Image, cmd.inv.Input = c.programs[w.code][0].ImageHash(), []byte("t")
	})
	if out := w.run()[0]; out.Status != proto.StatusTrap {
		t.Fatal(out.Status)
	}
	expect("after one that failed", 9, w.cursor.Seq)
	w.message(proto.RulesWanted{Version: 1})
	w.block()
	expect("taken back", 0, 0)
	w.message(proto.RulesWanted{Version: 2})
	w.block()
	if _, err := w.c.ReadyFor(9, nil); !errors.Is(err, ErrRules) {
		t.Errorf("ready for version 9: %v", err)
	}
	if got, err := w.c.ReadyFor(2, w.c.Snapshot().Codes()); err != nil || got != c.images(shelf.large, shelf.small) {
		t.Errorf("ready with %s, %v", got, err)
	}
}

// TestItem: an item under version 1 is what it was before there was another.
func TestItem(t *testing.T) {
	for _, x := range []struct {
		rules uint32
		want  string
	}{{1, "\x05payervalue"}, {2, "\x85\x00\x00\x00\x02payervalue"}, {1 << 31, "\x85\x80\x00\x00\x00payervalue"}} {
		b := makeItem(x.rules, []byte("payer"), []byte("value"))
		if string(b) != x.want {
			t.Errorf("version %d: %q", x.rules, b)
		}
		if rules, payer, value := splitItem(b); rules != x.rules || string(payer) != "payer" || string(value) != "value" {
			t.Errorf("version %d: %d, %q, %q", x.rules, rules, payer, value)
		}
	}
	long := bytes.Repeat([]byte{7}, proto.MaxSender)
	if _, payer, value := splitItem(makeItem(2, long, nil)); !bytes.Equal(payer, long) || len(value) != 0 {
		t.Errorf("payer %x, value %x", payer, value)
	}
}

// TestDepositsOverChange is a property: over a change of prices, what the receipts say was
// kept and not paid out is what the items bind, each at the prices of when it was made as
// large as it is, and what is free. The twin remembers for each item what it bound.
func TestDepositsOverChange(t *testing.T) {
	const seed = 77
	rng := seeded(seed)
	w, c, small, _ := twoRules(t)
	w.target = small
	people := []account{w.alice, w.bob, newAccount("carol")}
	type held struct {
		amount uint64
		size   int
	}
	twin := map[string]held{}
	prices := func(key string, size int) uint64 {
		return c.Rules(w.c.Snapshot().Rules()).StorageDeposit(len(key), size)
	}
	var pool uint64
	w.c.Snapshot().m.Each(func(k, v []byte) bool { // of the constructors
		switch {
		case bytes.HasPrefix(k, storagePrefix(small)):
			_, _, value := splitItem(v)
			key := string(k[len(storagePrefix(small)):])
			twin[key] = held{prices(key, len(value)), len(value)}
			fallthrough
		case bytes.HasPrefix(k, []byte("s/")):
			_, _, value := splitItem(v)
			pool += prices("i", len(value))
		case bytes.HasPrefix(k, []byte("b/")):
			pool += (&overlay{m: w.c.Snapshot().m}).credit(k[2:])
		}
		return true
	})
	for i := range 400 {
		if i == 200 {
			w.message(w.activated(c.images(shelf.small, shelf.large)))
			w.block()
		}
		who := people[rng.IntN(len(people))]
		key := string('A' + rune(rng.IntN(8)))
		size := rng.IntN(3000) >> rng.IntN(8)
		input, next := "p"+key+strings.Repeat("x", size), held{prices(key, size), size}
		if old, ok := twin[key]; ok && next.amount <= old.amount {
			// It stays its payer's, who gets back what it no longer binds.
			next = held{next.amount, size}
		}
		if rng.IntN(4) == 0 {
			input, next = "x"+key, held{}
		}
		limit := uint64(1 << 30)
		cmd := w.push(w.command(input, pays(who, limit)))
		w.pending = nil
		res := w.block()
		wantStatus(t, input[:2], w.open(cmd, &res.Outputs[0], &res.Receipt), proto.StatusOK)
		if next == (held{}) {
			delete(twin, key)
		} else {
			twin[key] = next
		}
		d := res.Receipt.Items[0].Deposit
		pool += d.Kept(limit) - d.Refunded()
		var items, free, others uint64
		for _, h := range twin {
			items += h.amount
		}
		w.c.Snapshot().m.Each(func(k, v []byte) bool {
			switch {
			case bytes.HasPrefix(k, storagePrefix(small)):
			case bytes.HasPrefix(k, []byte("s/")):
				_, _, value := splitItem(v)
				others += c.Rules(1).StorageDeposit(1, len(value))
			case bytes.HasPrefix(k, []byte("b/")):
				free += (&overlay{m: w.c.Snapshot().m}).credit(k[2:])
			}
			return true
		})
		if items+others+free != pool {
			t.Fatalf("seed %d, command %d (%.2q, %d bytes, version %d): %d bound, %d free, the chain holds %d", seed, i, input, size, w.c.Snapshot().Rules(), items+others, free, pool)
		}
	}
	if len(twin) == 0 || !slices.ContainsFunc([]string{"A", "B", "C", "D", "E", "F", "G", "H"}, func(k string) bool { return twin[k].amount > 0 }) {
		t.Error("nothing was stored")
	}
	// All of it comes back, whatever the rules were.
	for key := range twin {
		cmd := w.push(w.command("x"+key, pays(w.alice, 0)))
		w.pending = nil
		res := w.block()
		wantStatus(t, "remove", w.open(cmd, &res.Outputs[0], &res.Receipt), proto.StatusOK)
		pool -= res.Receipt.Items[0].Deposit.Refunded()
	}
	var free uint64
	w.c.Snapshot().m.Each(func(k, v []byte) bool {
		if bytes.HasPrefix(k, []byte("b/")) {
			free += (&overlay{m: w.c.Snapshot().m}).credit(k[2:])
		} else if bytes.HasPrefix(k, []byte("s/")) {
			_, _, value := splitItem(v)
			free += c.Rules(1).StorageDeposit(1, len(value))
		}
		return true
	})
	if free != pool {
		t.Errorf("%d came back, the chain holds %d", free, pool)
	}
}

// BenchmarkActivate is the processor time that a change of rules costs a cluster of 100,000
// contracts, once.
func BenchmarkActivate(b *testing.B) {
	w, c, _, _ := twoRules(b)
	m, rec := w.c.Snapshot().m, &contractRecord{shelf.small, proto.Hash{1}, w.alice.id}
	for i := range 100_000 {
		m = m.Set(keyContract(proto.ContractID(transcript.Hash("contract", transcript.U64(uint64(i))))), rec.Marshal())
	}
	m.Root()
	e, began := w.activated(c.images(shelf.small, shelf.large)), processor(b)
	for b.Loop() {
		next, err := w.c.activate(m, &e, w.height)
		if err != nil {
			b.Fatal(err)
		}
		next.Root()
	}
	b.ReportMetric((processor(b)-began).Seconds()/float64(b.N), "cpu-s/op")
}
