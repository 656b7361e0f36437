package engine

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// shapes are modules whose instances cost something to make. Their call traps, their
// query grows the memory, their deploy returns.
func shapes() map[string]*wasmtest.Builder {
	shape := func(pages uint32, more func(b *wasmtest.Builder)) *wasmtest.Builder {
		b := new(wasmtest.Builder)
		b.Func("call", nil, nil, nil, []byte{0})
		b.Func("query", nil, nil, nil, n32(1), []byte{0x40, 0, 0x1a})
		b.Func("deploy", nil, nil, nil)
		more(b)
		b.Memory(pages, 1024)
		b.Export("memory", 2, 0)
		return b
	}
	return map[string]*wasmtest.Builder{
		"nothing in it":  shape(1, func(*wasmtest.Builder) {}),
		"a large memory": shape(1000, func(*wasmtest.Builder) {}),
		"a full table":   shape(1, func(b *wasmtest.Builder) { b.Table(50_000); b.Elem(0, make([]uint32, 50_000)...) }),
		"much data":      shape(64, func(b *wasmtest.Builder) { b.Data(0, []byte(strings.Repeat("x", 4<<20))) }),
		"data everywhere": shape(1000, func(b *wasmtest.Builder) {
			for i := range int32(1000) {
				b.Data(i<<16, []byte("x"))
			}
		}),
	}
}

// TestSpoiledInstanceIsPaid: who makes a worker throw an instance away pays for the next
// one, and who has not the gas for that runs nothing.
func TestSpoiledInstanceIsPaid(t *testing.T) {
	for name, b := range shapes() {
		p := prepare(t, b.Bytes())
		if p.fresh < 30_000 {
			t.Fatalf("%s: an instance costs %d gas", name, p.fresh)
		}
		need := p.fresh + p.pages
		for _, c := range []struct {
			entry string
			gas   uint64
			kind  Kind // empty: it ends well
			pays  bool
			all   bool
		}{
			{EntryDeploy, enough, "", false, false},
			{EntryCall, enough, ErrTrap, true, false},
			{EntryQuery, enough, "", true, false},
			{EntryDeploy, need - 1, ErrOutOfGas, true, true},
			{EntryDeploy, 0, ErrOutOfGas, false, true},
			{EntryQuery, need + 5, ErrOutOfGas, true, true},
		} {
			made := p.ready.pool.Stats().Made
			res, err := run1(p, c.entry, newMemory(), "", c.gas)
			if c.kind != "" {
				wantKind(t, name, err, c.kind)
			} else if err != nil {
				t.Errorf("%s: %s: %v", name, c.entry, err)
			}
			if paid := res.GasUsed >= need; !c.all && paid != c.pays || c.all && res.GasUsed != c.gas {
				t.Errorf("%s: %s with %d gas used %d; an instance costs %d", name, c.entry, c.gas, res.GasUsed, p.fresh)
			}
			if c.gas < need && p.ready.pool.Stats().Made != made {
				t.Errorf("%s: an instance was made for %d gas", name, c.gas)
			}
		}
	}
}

// room multiplies what the measurements below may be. Other processes, and machines on
// which memory is dear to get, make several times of them; what is not paid for at all
// comes out hundreds of times too large. PHALA_LONG=1 holds a quiet machine to the figures.
func room() float64 {
	if os.Getenv("PHALA_LONG") == "1" {
		return 1
	}
	return 10
}

// TestFailureCostsItsGas: nanoseconds for each unit of gas, of calls that spoil their
// instance, are those of a loop, give or take the machine.
func TestFailureCostsItsGas(t *testing.T) {
	loop := perGas(t, abuse(t), "l", 1<<26)
	t.Logf("a loop: %.2f ns/gas", loop)
	check := func(name string, got float64) {
		t.Logf("%s: %.2f ns/gas", name, got)
		if got > room()*20*loop {
			t.Errorf("%s: %.2f ns for a unit of gas, a loop %.2f", name, got, loop)
		}
	}
	for name, b := range shapes() {
		check(name, perGas(t, prepare(t, b.Bytes()), "", enough))
	}
	check("a Go contract that exits", perGas(t, abuse(t), "x", enough))
	check("a Go contract that exits, little gas", perGas(t, abuse(t), "x", abuse(t).fresh+abuse(t).pages))
}

// TestPagesCostTheirGas: the same for calls that write one byte in each page of their
// memory, and return or trap then. The least that gets such a call is another contract's,
// which pays for that.
func TestPagesCostTheirGas(t *testing.T) {
	loop := perGas(t, abuse(t), "l", 1<<26)
	t.Logf("a loop: %.2f ns/gas", loop)
	least := RulesV1().Host.Contract
	for _, pages := range []uint32{1, 16, 64, 128, 129, 256, 1024} {
		b := new(wasmtest.Builder)
		write := wasmtest.Cat(n32(pages<<16), 0x21, 0, 0x03, 0x40, 0x20, 0, n32(4096), 0x6b, 0x22, 0, n32(1), 0x3a, 0, 0, 0x20, 0, 0x0d, 0, 0x0b)
		b.Func("call", nil, nil, []byte{wasmtest.I32}, write, 0)
		b.Func("query", nil, nil, []byte{wasmtest.I32}, write)
		b.Func("deploy", nil, nil, nil)
		b.Data(100, []byte("x"))
		b.Memory(pages, 1024)
		b.Export("memory", 2, 0)
		p := prepare(t, b.Bytes())
		for _, entry := range []string{EntryQuery, EntryCall} {
			got := perGasOf(t, p, entry, "", enough, least)
			t.Logf("%d pages, %s: %.2f ns/gas", pages, entry, got)
			if got > room()*60*loop {
				t.Errorf("%d pages, %s: %.2f ns for a unit of gas, a loop %.2f", pages, entry, got, loop)
			}
		}
	}
}

// perGas is the best of some runs that fail.
func perGas(t *testing.T, p *Program, input string, gas uint64) float64 {
	t.Helper()
	if _, err := run1(p, EntryCall, newMemory(), input, gas); err == nil {
		t.Fatal("the call ended well")
	}
	return perGasOf(t, p, EntryCall, input, gas, 0)
}

// perGasOf is the best of some runs, in processor time: others may use the machine. Each
// has cost some gas before.
func perGasOf(t *testing.T, p *Program, entry, input string, gas, before uint64) float64 {
	t.Helper()
	best := 0.0
	for i := range 10 {
		begin := processorTime(t)
		res, _ := run1(p, entry, newMemory(), input, gas)
		if got := float64(processorTime(t)-begin) / float64(before+res.GasUsed); i == 0 || got < best {
			best = got
		}
	}
	return best
}

// processorTime is what this process has used, nanoseconds.
func processorTime(t *testing.T) int64 {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
