package contracttest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A report is what the methods used, by "entry method".
type report map[string]*used

type used struct {
	calls, failed  int
	low, high, sum uint64
	deposit        uint64
}

func (r report) add(entry, method string, o *outcome) {
	name := entry + " " + method
	u := r[name]
	if u == nil {
		u = &used{low: o.gas}
		r[name] = u
	}
	u.calls++
	if o.err != nil {
		u.failed++
	}
	u.low, u.high, u.sum, u.deposit = min(u.low, o.gas), max(u.high, o.gas), u.sum+o.gas, max(u.deposit, o.deposit)
}

// GasReport is a table of what each method used as Wasm so far, and of the most that one
// call bound for storage.
func (k *Kit) GasReport() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-32s %6s %6s %12s %12s %12s %14s\n", "method", "calls", "failed", "least gas", "mean gas", "most gas", "most deposit")
	for _, name := range slices.Sorted(maps.Keys(k.report)) {
		u := k.report[name]
		fmt.Fprintf(&b, "%-32s %6d %6d %12d %12d %12d %14d\n", name, u.calls, u.failed, u.low, u.sum/uint64(u.calls), u.high, u.deposit)
	}
	return b.String()
}
