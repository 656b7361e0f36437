package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/contract/contracttest"
	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
)

func code(err error) uint32 {
	var e *contract.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func TestToken(t *testing.T) {
	k := contracttest.New(t)
	issuer, ann, ben, eve := k.Account("issuer"), k.Account("ann"), k.Account("ben"), k.Account("eve")
	k.Deploy(issuer, Issue{"GLD", 1000})
	for _, who := range []contract.Account{ann, ben, ann} { // a second time does nothing
		k.Call(who, "Open", nil, nil)
	}
	balance := func(who contract.Account, want uint64) {
		t.Helper()
		var n uint64
		if k.Query(who, "Balance", nil, &n); n != want {
			t.Errorf("the balance is %d, want %d", n, want)
		}
	}
	k.Call(issuer, "Transfer", Payment{ann, 600}, nil)
	k.Call(ann, "Transfer", Payment{ben, 100}, nil)
	k.Call(ann, "Transfer", Payment{ann, 500}, nil) // to oneself
	k.Call(ann, "Transfer", Payment{ben, 0}, nil)
	balance(issuer, 400)
	balance(ann, 500)
	balance(ben, 100)

	k.Call(ann, "Approve", Allowance{ben, 50}, nil)
	k.Call(ben, "TransferFrom", Draft{ann, ben, 30}, nil)
	balance(ann, 470)
	balance(ben, 130)
	for _, who := range []contract.Account{ann, ben} {
		var n uint64
		if k.Query(who, "Allowed", Pair{ann, ben}, &n); n != 20 {
			t.Errorf("%d are allowed, want 20", n)
		}
	}
	k.Call(issuer, "Mint", 5, nil)
	balance(issuer, 405)
	var totals Totals
	if k.Query(issuer, "Totals", nil, &totals); totals != (Totals{"GLD", 1005, 3, 5}) {
		t.Errorf("totals are %+v", totals)
	}

	before := fmt.Sprint(k.Stored())
	for _, c := range []struct {
		name string
		err  error
		code uint32
	}{
		{"more than there is", k.TryCall(ben, "Transfer", Payment{ann, 131}, nil), CodeFunds},
		{"the most there can be", k.TryCall(ben, "Transfer", Payment{ann, math.MaxUint64}, nil), CodeFunds},
		{"to a closed account", k.TryCall(ben, "Transfer", Payment{eve, 1}, nil), CodeClosed},
		{"nothing to a closed account", k.TryCall(ben, "Transfer", Payment{eve, 0}, nil), CodeClosed},
		{"to nobody", k.TryCall(ben, "Transfer", Payment{"", 1}, nil), CodeClosed},
		{"from a closed account", k.TryCall(eve, "Transfer", Payment{ann, 1}, nil), CodeClosed},
		{"nothing from a closed account", k.TryCall(eve, "Transfer", Payment{ann, 0}, nil), CodeClosed},
		{"more than is allowed", k.TryCall(ben, "TransferFrom", Draft{ann, ben, 21}, nil), CodeAllowance},
		{"without allowance", k.TryCall(eve, "TransferFrom", Draft{ann, eve, 1}, nil), CodeAllowance},
		{"allowed the other way round", k.TryCall(ann, "TransferFrom", Draft{ben, ann, 1}, nil), CodeAllowance},
		{"approved without an account", k.TryCall(eve, "Approve", Allowance{ann, 1}, nil), CodeClosed},
		{"a negative amount", k.TryCall(ben, "Transfer", map[string]any{"to": ann, "amount": -1}, nil), contract.CodeArguments},
		{"an amount with a fraction", k.TryCall(ben, "Transfer", map[string]any{"to": ann, "amount": 0.5}, nil), contract.CodeArguments},
		{"somebody else mints", k.TryCall(ann, "Mint", 1, nil), contract.CodeNotOwner},
		{"more than can be counted", k.TryCall(issuer, "Mint", uint64(math.MaxUint64-1004), nil), CodeSupply},
		{"a balance without a name", k.TryQuery("", "Balance", nil, nil), CodeClosed},
		{"a balance of nobody", k.TryQuery(eve, "Balance", nil, nil), CodeClosed},
		{"others' allowance", k.TryQuery(eve, "Allowed", Pair{ann, ben}, nil), CodePrivate},
		{"others' allowance without a name", k.TryQuery("", "Allowed", Pair{"", ben}, nil), CodePrivate},
		{"totals for a holder", k.TryQuery(ann, "Totals", nil, nil), contract.CodeNotOwner},
	} {
		if c.err == nil || code(c.err) != c.code {
			t.Errorf("%s: got %v, want code %d", c.name, c.err, c.code)
		}
	}
	if after := fmt.Sprint(k.Stored()); after != before {
		t.Errorf("refusals changed the storage from\n%s to\n%s", before, after)
	}

	// An allowance beyond the balance is worth the balance.
	k.Call(ben, "Approve", Allowance{ann, 1000}, nil)
	if err := k.TryCall(ann, "TransferFrom", Draft{ben, ann, 131}, nil); code(err) != CodeFunds {
		t.Errorf("more than the owner has: %v", err)
	}
	k.Call(ann, "TransferFrom", Draft{ben, ann, 130}, nil)
	balance(ben, 0)
}

// TestAgainstModel runs random commands beside a model that is too simple to be wrong.
func TestAgainstModel(t *testing.T) {
	seed := uint64(20261121)
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	k := contracttest.New(t, contracttest.Native)
	names := []string{"a", "b", "c", "d"}
	balances, allowed := map[string]uint64{"a": 100}, map[[2]string]uint64{}
	k.Deploy(k.Account("a"), Issue{"T", 100})
	refused := 0
	for i := range 3000 {
		from, by, to, n := names[r.IntN(4)], names[r.IntN(4)], names[r.IntN(4)], r.Uint64N(60)
		_, fromOpen := balances[from]
		_, toOpen := balances[to]
		ok := true
		var err error
		switch r.IntN(5) {
		case 0:
			if i > 100 {
				err = k.TryCall(k.Account(from), "Open", nil, nil)
				balances[from] += 0
			}
		case 1:
			err = k.TryCall(k.Account(from), "Approve", Allowance{k.Account(by), n}, nil)
			if ok = fromOpen; ok {
				allowed[[2]string{from, by}] = n
			}
		case 2:
			err = k.TryCall(k.Account(from), "Transfer", Payment{k.Account(to), n}, nil)
			if ok = fromOpen && toOpen && balances[from] >= n; ok {
				balances[from] -= n
				balances[to] += n
			}
		default:
			err = k.TryCall(k.Account(by), "TransferFrom", Draft{k.Account(from), k.Account(to), n}, nil)
			if ok = fromOpen && toOpen && balances[from] >= n && allowed[[2]string{from, by}] >= n; ok {
				balances[from] -= n
				balances[to] += n
				allowed[[2]string{from, by}] -= n
			}
		}
		if ok != (err == nil) {
			t.Fatalf("step %d: got %v, the model says %t", i, err, ok)
		}
		if !ok {
			refused++
		}
	}
	sum := uint64(0)
	for _, name := range names {
		var n uint64
		k.Query(k.Account(name), "Balance", nil, &n)
		if n != balances[name] {
			t.Errorf("%s has %d, the model says %d", name, n, balances[name])
		}
		sum += n
	}
	if sum != 100 || refused == 0 || refused == 3000 {
		t.Errorf("%d exist, %d were refused", sum, refused)
	}
}

// FuzzPayments: whatever people do, money is neither made nor lost. Three bytes are a
// command: what, by whom, to whom and how much.
func FuzzPayments(f *testing.F) {
	f.Add([]byte("\x00\x12\x10\x01\x21\x05\x02\x31\xff"))
	f.Fuzz(func(t *testing.T, script []byte) {
		k := contracttest.New(t, contracttest.Native) // a kit for each input
		people := []contract.Account{k.Account("issuer"), k.Account("ann"), k.Account("ben")}
		k.Deploy(people[0], Issue{"GLD", 1000})
		k.Call(people[1], "Open", nil, nil)
		for ; len(script) >= 3 && len(script) < 300; script = script[3:] {
			by, to, n := people[script[1]%3], people[script[1]/16%3], uint64(script[2])*8
			switch script[0] % 4 {
			case 0:
				k.TryCall(by, "Transfer", Payment{to, n}, nil)
			case 1:
				k.TryCall(by, "Approve", Allowance{to, n}, nil)
			case 2:
				k.TryCall(by, "TransferFrom", Draft{to, people[script[1]/64%3], n}, nil)
			case 3:
				k.TryCall(by, "Open", nil, nil)
			}
		}
		sum := uint64(0)
		for _, who := range people {
			var n uint64
			if err := k.TryQuery(who, "Balance", nil, &n); err == nil {
				sum += n
			}
		}
		if sum != 1000 {
			t.Errorf("1000 were issued, %d are there", sum)
		}
	})
}

// TestNothingBetrays compares what everybody sees of payments that differ in everything:
// the parties, the amount, the balances, and whether they are refused.
func TestNothingBetrays(t *testing.T) {
	w := clustertest.New(t, clustertest.Prepare(t, clustertest.Module(t, "."), ""))
	must := func(s *clustertest.Seen) *clustertest.Seen {
		t.Helper()
		if s.Status != proto.StatusOK {
			t.Fatalf("ends with %s %q", s.Status, s.Error)
		}
		return s
	}
	must(w.Deploy("issuer", Issue{"GLD", math.MaxUint64 - 1000}))
	for _, who := range []string{"ann", "ben", "zoe"} {
		must(w.Call(who, "Open", nil))
	}
	account := clustertest.Account
	// The parties have money and have approved each other before.
	must(w.Call("issuer", "Transfer", Payment{account("zoe"), 1 << 50}))
	for _, spender := range []string{"ann", "ben"} {
		must(w.Call("zoe", "Approve", Allowance{account(spender), 1 << 50}))
	}
	must(w.Call("ann", "Approve", Allowance{account("zoe"), 100}))
	type command struct {
		by, method string
		arg        any
		refused    bool
	}
	var first *clustertest.Seen
	low, high := uint64(math.MaxUint64), uint64(0)
	for _, c := range []command{
		{"issuer", "Transfer", Payment{account("ann"), 1}, false},
		{"issuer", "Transfer", Payment{account("ben"), 1 << 63}, false},
		{"ben", "Transfer", Payment{account("zoe"), 1<<63 - 1}, false},
		{"ben", "Transfer", Payment{account("ann"), 1}, false}, // all that is left
		{"zoe", "Transfer", Payment{account("zoe"), 7_000_000}, false},
		{"zoe", "Transfer", Payment{account("issuer"), 0}, false},
		{"ben", "Transfer", Payment{account("ann"), 1}, true},
		{"ann", "Transfer", Payment{account("ben"), math.MaxUint64}, true},
		{"ann", "Transfer", Payment{account("nobody"), 1}, true},
		{"nobody", "Transfer", Payment{account("ann"), 1}, true},
		{"ann", "TransferFrom", Draft{account("zoe"), account("ann"), 1}, false},
		{"ann", "TransferFrom", Draft{account("zoe"), account("issuer"), 1 << 40}, false},
		{"ben", "TransferFrom", Draft{account("zoe"), account("ben"), 5}, false},
		{"ann", "TransferFrom", Draft{account("zoe"), account("ann"), math.MaxUint64}, true},
		{"zoe", "TransferFrom", Draft{account("ann"), account("zoe"), 101}, true},
		{"zoe", "Approve", Allowance{account("ann"), 0}, false},
		{"zoe", "Approve", Allowance{account("ben"), math.MaxUint64}, false},
		{"ann", "Approve", Allowance{account("zoe"), 100}, false},
	} {
		s := w.Call(c.by, c.method, c.arg)
		what := fmt.Sprintf("%s %s %v (%s %q, %d gas)", c.by, c.method, c.arg, s.Status, s.Error, s.GasUsed)
		if c.refused != (s.Status == proto.StatusContractError) || s.Status != proto.StatusOK && !c.refused {
			t.Fatal(what)
		}
		if first == nil {
			first = s
		}
		if s.Envelope != first.Envelope || s.Tier != first.Tier || s.Sealed != first.Sealed || s.Receipt != first.Receipt || s.Public() != first.Public() {
			t.Errorf("of %s the chain sees %d bytes, tier %d, an answer of %d bytes, %s; of the first (%d gas) %d, %d, %d, %s", what,
				s.Envelope, s.Tier, s.Sealed, s.Public(), first.GasUsed, first.Envelope, first.Tier, first.Sealed, first.Public())
		}
		low, high = min(low, s.GasUsed), max(high, s.GasUsed)
	}
	// A bucket of gas is a power of two. All stay so far from its ends that no other
	// amount or account is beyond: those differ by less than a tenth of it.
	from, to := uint64(1)<<(first.Bucket-1), uint64(1)<<first.Bucket
	t.Logf("%d to %d gas, in a bucket from %d to %d", low, high, from, to)
	if margin := from / 10; low-from < margin || to-high < margin {
		t.Errorf("%d to %d gas is too near the ends of its bucket, %d and %d", low, high, from, to)
	}
}
