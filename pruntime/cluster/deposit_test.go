package cluster

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
)

// pays makes a command that an account pays for, signs and limits.
func pays(who account, limit uint64) func(*command) {
	return func(c *command) {
		c.signer, c.inv.From, c.inv.PublicKey = who, who.id, who.id
		c.inv.DepositLimit, c.pushed.DepositLimit, c.pushed.Payer = limit, limit, who.id
		c.ctx = c.pushed.Context(chain, home)
	}
}

// TestDepositLimit: what is stored binds its payer's money up to the limit and no further.
func TestDepositLimit(t *testing.T) {
	for _, c := range []struct {
		name   string
		input  string
		limit  uint64
		status proto.Status
		bound  uint64
	}{
		{"nothing stored", "e", 0, proto.StatusOK, 0},
		{"exactly enough", "pzvalue", 164_000, proto.StatusOK, 164_000},
		{"one too little", "pzvalue", 163_999, proto.StatusDepositLimit, 0},
		{"none", "pzvalue", 0, proto.StatusDepositLimit, 0},
		{"a failed command binds nothing", "t", 1 << 30, proto.StatusTrap, 0},
		{"large", "pz" + strings.Repeat("x", 1000), 1 << 30, proto.StatusOK, 100_000 + 1000*1024},
		{"the largest limit", "pzvalue", proto.MaxDeposit, proto.StatusOK, 164_000},
		{"above the largest limit", "pzvalue", proto.MaxDeposit + 1, proto.StatusDepositLimit, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ready(t)
			w.push(w.command(c.input, pays(w.bob, c.limit)))
			cmd := w.pending[0]
			res := w.block()
			out := w.open(cmd, &res.Outputs[0], &res.Receipt)
			wantStatus(t, c.name, out, c.status)
			item := res.Receipt.Items[0]
			if out.Deposit != c.bound || item.Deposit.Kept(c.limit) < c.bound || (c.bound == 0) != (item.Deposit == 0) {
				t.Errorf("%d is bound, bucket %d", out.Deposit, item.Deposit)
			}
			w.pending = nil
		})
	}
}

// TestDepositReturns: growing an item makes it its payer's, shrinking and removing it
// frees that payer's money, who gets it with a command of its own, in a bucket.
func TestDepositReturns(t *testing.T) {
	w := ready(t)
	big := func(n int) string { return "pz" + strings.Repeat("x", n) }
	step := func(what, input string, who account, limit uint64) (*proto.Output, proto.DepositBucket) {
		t.Helper()
		c := w.push(w.command(input, pays(who, limit)))
		w.pending = nil
		res := w.block()
		out := w.open(c, &res.Outputs[0], &res.Receipt)
		wantStatus(t, what, out, proto.StatusOK)
		return out, res.Receipt.Items[0].Deposit
	}
	credit := func(who account) uint64 { return (&overlay{m: w.c.Snapshot().m, rules: &known[0]}).credit(who.id) }
	const limit = 1 << 30
	bound := known[0].StorageDeposit(1, 50_000)
	_, b := step("bob stores", big(50_000), w.bob, limit)
	kept := b.Kept(limit)
	if credit(w.bob) != kept-bound || kept != 1<<26 {
		t.Fatalf("%d kept, %d of it free, for %d", kept, credit(w.bob), bound)
	}
	// The same size again, by another payer, costs nobody anything.
	if out, b := step("alice overwrites", big(50_000), w.alice, 0); out.Deposit != 0 || b != 0 {
		t.Fatalf("overwriting binds %d", out.Deposit)
	}
	// Smaller: bob's.
	step("alice shrinks it", big(10_000), w.alice, 0)
	free := kept - known[0].StorageDeposit(1, 10_000)
	if credit(w.bob) != free {
		t.Fatalf("%d is free, want %d", credit(w.bob), free)
	}
	// Larger: alice's, all of it, and bob is out.
	step("alice makes it larger", big(20_000), w.alice, limit)
	if credit(w.bob) != kept {
		t.Fatalf("%d is bob's, want %d", credit(w.bob), kept)
	}
	// A failed command pays out nothing; bob's next good one all of it.
	c := w.push(w.command("t", pays(w.bob, 0)))
	w.pending = nil
	res := w.block()
	wantStatus(t, "bob fails", w.open(c, &res.Outputs[0], &res.Receipt), proto.StatusTrap)
	if res.Receipt.Items[0].Deposit != 0 || credit(w.bob) != kept {
		t.Fatal("a failed command moves money")
	}
	if _, b := step("bob asks", "e", w.bob, 0); b.Refunded() != kept || credit(w.bob) != 0 {
		t.Fatalf("%d of %d is paid out, %d left", b.Refunded(), kept, credit(w.bob))
	}
	// What was freed can be used without a limit.
	step("alice stores", big(50_000), w.alice, limit)
	if out, _ := step("alice removes", "xz", w.alice, 0); out.Deposit != 0 {
		t.Fatal("removing binds")
	}
	if twin := w.replica(rand.Reader); twin.Snapshot().Root() != w.c.Snapshot().Root() {
		t.Error("another replica has another root")
	}
}

// TestDepositsAddUp is a property: whatever is stored, changed, removed, called and
// refused, by whomever, what the receipts say was kept and not paid out is what the items
// bind and what is free.
func TestDepositsAddUp(t *testing.T) {
	const seed = 31
	rng := seeded(seed)
	w, ids := several(t, 2)
	people := []account{w.alice, w.bob, newAccount("carol")}
	audit := func() (bound uint64) {
		w.c.Snapshot().m.Each(func(k, v []byte) bool {
			switch {
			case bytes.HasPrefix(k, []byte("s/")):
				_, payer, value := splitItem(v)
				if len(payer) != 32 {
					t.Fatalf("item %q of nobody", k)
				}
				bound += known[0].StorageDeposit(len(k)-len(storagePrefix(ids[0])), len(value))
			case bytes.HasPrefix(k, []byte("b/")):
				bound += (&overlay{m: w.c.Snapshot().m, rules: &known[0]}).credit(k[2:])
			}
			return true
		})
		return bound
	}
	pool := audit() // of the constructors
	for i := range 400 {
		who := people[rng.IntN(len(people))]
		key := string('A' + rune(rng.IntN(6)))
		input := "p" + key + strings.Repeat("x", rng.IntN(60_000)>>rng.IntN(16))
		switch rng.IntN(6) {
		case 0:
			input = "x" + key
		case 1:
			input = "t"
		case 2:
			input = "k" + string(ids[1][:]) + input
		case 3:
			input = "K" + string(ids[1][:]) + input
		}
		limit := uint64(1<<30) >> rng.IntN(30)
		c := w.push(w.command(input, pays(who, limit)))
		w.pending = nil
		res := w.block()
		out := w.open(c, &res.Outputs[0], &res.Receipt)
		d := res.Receipt.Items[0].Deposit
		if d.Refunded() > pool {
			t.Fatalf("seed %d, command %d: %d is paid out of %d", seed, i, d.Refunded(), pool)
		}
		pool += d.Kept(limit) - d.Refunded()
		if bound := audit(); out.Deposit > bound || d.Kept(limit) > limit {
			t.Fatalf("seed %d, command %d: %d is bound, %d of %d kept", seed, i, out.Deposit, d.Kept(limit), limit)
		}
		if got := audit(); got != pool {
			t.Fatalf("seed %d, command %d (%.3q, %s): %d is bound or free, the chain holds %d", seed, i, input, out.Status, got, pool)
		}
	}
}

// TestReceiptsDoNotCount: what receipts say of deposits is the same whether commands
// store items of any usual size, remove them, or do nothing of the kind.
func TestReceiptsDoNotCount(t *testing.T) {
	seen := map[string]string{}
	for name, input := range map[string]func(i int) string{
		"nothing":    func(int) string { return "e" },
		"one item":   func(int) string { return "pzvalue" },
		"new items":  func(i int) string { return "p" + string('A'+rune(i)) + strings.Repeat("x", i) },
		"and remove": func(i int) string { return []string{"pzvalue", "xz"}[i%2] },
	} {
		w := ready(t)
		s := ""
		for i := range 40 {
			w.push(w.command(input(i), pays(w.bob, 1<<30)))
			w.pending = nil
			s += fmt.Sprint(w.block().Receipt.Items[0].Deposit, " ")
		}
		seen[s] = name
	}
	if len(seen) != 1 {
		t.Errorf("receipts tell commands apart: %v", seen)
	}
}
