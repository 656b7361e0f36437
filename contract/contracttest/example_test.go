package contracttest_test

import (
	"testing"

	"github.com/phala-go/phala/contract/contracttest"
)

// A contract's test: accounts by name, every call natively and as Wasm.
func Example() {
	_ = func(t *testing.T) { // func TestCounter(t *testing.T)
		k := contracttest.New(t)
		alice, bob := k.Account("alice"), k.Account("bob")
		k.Deploy(alice, nil)
		k.Call(alice, "Add", 40, nil)
		k.NextBlock(1)
		var n uint64
		k.Query(alice, "Current", nil, &n)
		if n != 40 {
			t.Errorf("the counter is at %d", n)
		}
		if err := k.TryQuery(bob, "Current", nil, &n); err == nil {
			t.Error("anybody may ask")
		}
		if k.Gas() > 2_000_000 {
			t.Errorf("a query used %d gas", k.Gas())
		}
	}
}
