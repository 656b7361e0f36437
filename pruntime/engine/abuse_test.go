package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestAbuse runs a Go contract that misbehaves in every way that a language runtime
// offers. Each call ends with a typed error within its gas, and the next call finds the
// program as it was.
func TestAbuse(t *testing.T) {
	p := abuse(t)
	for _, c := range []struct {
		name, input string
		gas         uint64
		kind        Kind
		detail      string
	}{
		{"loops for ever", "l", 1 << 24, ErrOutOfGas, ""},
		{"allocates without end", "a", 1 << 34, ErrTrap, "out of memory"},
		{"allocates without end on little gas", "a", 1 << 20, ErrOutOfGas, ""},
		{"recurses", "r", 1 << 34, ErrTrap, "stack"},
		{"panics after a write", "w", enough, ErrTrap, "after a write"},
		{"panics in a goroutine", "g", enough, ErrTrap, "in a goroutine"},
		{"waits for ever", "d", enough, ErrTrap, "deadlock"},
		{"exits", "x", enough, ErrTrap, "exit status 3"},
		{"reads input that is not there", "", enough, ErrTrap, "index out of range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newMemory()
			res, err := run1(p, EntryCall, h, c.input, c.gas)
			wantKind(t, c.name, err, c.kind)
			if !strings.Contains(err.Error(), c.detail) || res.Output != nil {
				t.Errorf("got %q and output %q, want it to say %q", err, res.Output, c.detail)
			}
			if res.GasUsed == 0 || res.GasUsed > c.gas || (c.kind == ErrOutOfGas && res.GasUsed != c.gas) {
				t.Errorf("used %d of %d gas", res.GasUsed, c.gas)
			}
			again, err2 := run1(p, EntryCall, newMemory(), c.input, c.gas)
			if again.GasUsed != res.GasUsed || err2.Error() != err.Error() {
				t.Errorf("a second time: %d gas and %q, first %d and %q", again.GasUsed, err2, res.GasUsed, err)
			}
			if out, err := run1(p, EntryCall, newMemory(), "n", enough); err != nil || string(out.Output) != "1" {
				t.Fatalf("the next call answers %q, %v", out.Output, err)
			}
		})
	}
}

// TestGoWorks: what a Go contract may use works, and shows nothing of the machine.
func TestGoWorks(t *testing.T) {
	p := abuse(t)
	for _, c := range []struct{ name, input, want string }{
		{"sleeps an hour at once, on the block's clock", "s", "1700000000000 1h0m0s"},
		{"no arguments, no environment, no files", "o", "0 0 true false"},
		{"a thousand goroutines", "G", "499500"},
		{"memory does not outlive a call", "n", "1"},
	} {
		for _, entry := range []string{EntryDeploy, EntryCall, EntryQuery} {
			begin := time.Now()
			res, err := run1(p, entry, newMemory(), c.input, enough)
			if err != nil || string(res.Output) != c.want {
				t.Errorf("%s: %s answers %q, %v; want %q", c.name, entry, res.Output, err, c.want)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("%s took %s of real time", c.name, took)
			}
		}
	}
}

// TestEqualEverywhere: a hundred runs, on many instances at once and in two engines, give
// one result and one amount of gas; two engines make one image.
func TestEqualEverywhere(t *testing.T) {
	p := abuse(t)
	first, err := run1(p, EntryCall, newMemory(), "m", enough)
	if err != nil {
		t.Fatal(err)
	}
	type outcome struct {
		res Result
		err error
	}
	results := make(chan outcome)
	for range 4 {
		go func() {
			for range 25 {
				res, err := run1(p, EntryCall, newMemory(), "m", enough)
				results <- outcome{res, err}
			}
		}()
	}
	for i := range 100 {
		o := <-results
		if o.err != nil || !bytes.Equal(o.res.Output, first.Output) || o.res.GasUsed != first.GasUsed {
			t.Fatalf("run %d: %d gas, %q, %v; the first: %d gas, %q", i, o.res.GasUsed, o.res.Output, o.err, first.GasUsed, first.Output)
		}
	}
	ctx := context.Background()
	e, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	other, err := e.Prepare(ctx, abuseModule(t))
	if err != nil {
		t.Fatal(err)
	}
	if other.ImageHash() != p.ImageHash() || other.Hash() != p.Hash() {
		t.Errorf("two engines made images %x and %x", p.ImageHash(), other.ImageHash())
	}
	res, err := run1(other, EntryCall, newMemory(), "m", enough)
	if err != nil || !bytes.Equal(res.Output, first.Output) || res.GasUsed != first.GasUsed {
		t.Errorf("another engine: %d gas, %q, %v", res.GasUsed, res.Output, err)
	}
	// The clock and the chain's randomness are inputs like any other.
	h := newMemory()
	h.time++
	if res, err := run1(p, EntryCall, h, "m", enough); err != nil || bytes.Equal(res.Output, first.Output) {
		t.Errorf("at another time it answers the same, %v", err)
	}
	if err := other.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
}

// TestEndlessLoopYields: a loop without host calls holds up neither the collector nor
// other calls: some get their turn while it runs. One that does not yield is waited for by
// the first collection.
func TestEndlessLoopYields(t *testing.T) {
	c := newContract()
	loop := prepare(t, c.module(c.void("kv_put", 0, 1, 0, 1), 0x03, 0x40, 0x0c, 0, 0x0b))
	c = newContract()
	quick := prepare(t, c.module(c.void("output", 0, 4)))
	begun, done := make(chan bool, 2), make(chan error, 2)
	for range 2 {
		go func() {
			_, err := run1(loop, EntryCall, begins{newMemory(), begun}, "", 1<<31)
			done <- err
		}()
	}
	for range 2 {
		<-begun
	}
	turns := 0
	for len(done) == 0 {
		runtime.GC()
		if _, err := run1(quick, EntryCall, newMemory(), "", enough); err != nil {
			t.Fatal(err)
		}
		if len(done) == 0 {
			turns++
		}
	}
	for range 2 {
		wantKind(t, "endless loop", <-done, ErrOutOfGas)
	}
	if turns == 0 {
		t.Error("no collection and call ended before a loop did")
	}
	t.Logf("%d collections and calls while the loops ran", turns)
}

// begins tells of the first write.
type begins struct {
	*memory
	begun chan bool
}

func (b begins) Put(k, v []byte) error { b.begun <- true; return b.memory.Put(k, v) }

func TestTraps(t *testing.T) {
	for _, c := range []struct {
		name string
		kind Kind
		body func(c *contract) []byte
	}{
		{"unreachable", ErrTrap, func(c *contract) []byte { return []byte{unreachable} }},
		{"division by zero", ErrTrap, func(c *contract) []byte { return wasmtest.Cat(n32(1), n32(0), 0x6e, drop) }},
		{"load outside memory", ErrTrap, func(c *contract) []byte { return wasmtest.Cat(n32(1<<31), 0x28, 2, 0, drop) }},
		{"grows as far as it goes, then writes behind it", ErrTrap, func(c *contract) []byte {
			return wasmtest.Cat(0x03, 0x40, n32(1), memoryGrow, 0, n32(0xffffffff), 0x47, 0x0d, 0, 0x0b, n32(64<<16), n32(1), 0x36, 2, 0)
		}},
		{"fail, then traps", ErrTrap, func(c *contract) []byte { return wasmtest.Cat(c.void("fail", 7, 0, 4), unreachable) }},
		{"fail", ErrContract, func(c *contract) []byte { return wasmtest.Cat(c.void("fail", 7, 0, 4), c.void("output", 0, 4)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newContract()
			p := prepare(t, m.module(c.body(m)))
			for range 3 {
				res, err := run1(p, EntryCall, newMemory(), "", enough)
				wantKind(t, c.name, err, c.kind)
				if res.Output != nil || strings.Contains(err.Error(), "\n") {
					t.Errorf("output %q with %q", res.Output, err)
				}
			}
		})
	}
}

func TestRecursion(t *testing.T) {
	c := newContract()
	self := uint32(len(c.f))
	p := prepare(t, c.module(0x10, wasmtest.U32(self)))
	_, err := run1(p, EntryCall, newMemory(), "", 1<<40)
	wantKind(t, "a function that calls itself", err, ErrDepth)
	_, err = run1(p, EntryCall, newMemory(), "", 1000)
	wantKind(t, "the same on little gas", err, ErrOutOfGas)
}

// TestMemoryDoesNotStay: what a call wrote into memory and globals is gone in the next,
// whether it ended well, trapped or grew its memory.
func TestMemoryDoesNotStay(t *testing.T) {
	c := newContract()
	g := byte(c.Global(wasmtest.I32, true, 5))
	// output is memory[100] and the global before they are written; then, by the length of
	// the input, nothing, a trap or growth.
	body := wasmtest.Cat(
		store32(8, wasmtest.Cat(n32(100), 0x28, 2, 0)), store32(12, wasmtest.Cat(0x23, g)), c.void("output", 8, 8),
		store32(100, n32(77)), n32(78), 0x24, g,
		c.do("input_len"), n32(1), 0x46, 0x04, 0x40, unreachable, 0x0b,
		c.do("input_len"), n32(2), 0x46, 0x04, 0x40, n32(3), memoryGrow, 0, drop, 0x0b)
	p := prepare(t, c.module(body))
	for _, input := range []string{"", "", "1", "", "22", "", "22", "1", "333"} {
		res, err := run1(p, EntryCall, newMemory(), input, enough)
		if input == "1" {
			wantKind(t, "trap", err, ErrTrap)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		equal(t, fmt.Sprintf("after input %q", input), res.Output, []byte{0, 0, 0, 0, 5, 0, 0, 0})
	}
}

// TestRefusedModules: what cannot be a contract is refused when it is prepared, with a
// reason, and costs bounded time.
func TestRefusedModules(t *testing.T) {
	good := func() *contract { return newContract() }
	for _, c := range []struct {
		name, says string
		module     func() []byte
	}{
		{"nothing", "", func() []byte { return nil }},
		{"not Wasm", "", func() []byte { return []byte("#!/bin/sh") }},
		{"cut", "", func() []byte { b := good().module(); return b[:len(b)-3] }},
		{"no query", `does not export "query"`, func() []byte {
			c := good()
			f := c.Func("call", nil, nil, nil)
			c.Export("deploy", 0, f)
			c.Memory(1, 1)
			return c.Bytes()
		}},
		{"call with a parameter", `"call"`, func() []byte {
			c := good()
			f := c.Func("call", []byte{wasmtest.I32}, nil, nil)
			c.Export("deploy", 0, f)
			c.Export("query", 0, f)
			c.Memory(1, 1)
			return c.Bytes()
		}},
		{"call with a result", `"call"`, func() []byte {
			c := good()
			f := c.Func("call", nil, []byte{wasmtest.I32}, nil, n32(1))
			c.Export("deploy", 0, f)
			c.Export("query", 0, f)
			c.Memory(1, 1)
			return c.Bytes()
		}},
		{"no memory", "memory", func() []byte {
			c := good()
			f := c.Func("call", nil, nil, nil)
			c.Export("deploy", 0, f)
			c.Export("query", 0, f)
			return c.Bytes()
		}},
		{"unknown import", "", func() []byte {
			c := good()
			c.Import("phat", "http", nil, nil)
			return c.module()
		}},
		{"initialiser traps", "_initialize", func() []byte {
			c := good()
			c.Func("_initialize", nil, nil, nil, unreachable)
			return c.module()
		}},
		{"initialiser does not end", "gas limit", func() []byte {
			c := good()
			c.Func("_initialize", nil, nil, nil, 0x03, 0x40, 0x0c, 0, 0x0b)
			return c.module()
		}},
		{"initialiser writes", "no function of module phat", func() []byte {
			c := good()
			c.Func("_initialize", nil, nil, nil, c.void("kv_put", 0, 1, 0, 1))
			return c.module()
		}},
		{"initialiser deletes", "no function of module phat", func() []byte {
			c := good()
			c.Func("_initialize", nil, nil, nil, c.void("kv_delete", 0, 1))
			return c.module()
		}},
		{"warm-up traps", "phat_warmup", func() []byte {
			c := good()
			c.Func("phat_warmup", nil, nil, nil, unreachable)
			return c.module()
		}},
		{"start function traps", "start", func() []byte {
			c := good()
			f := c.Func("", nil, nil, nil, unreachable)
			c.Start(f)
			return c.module()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := sharedEngine(t).Prepare(context.Background(), c.module())
			wantKind(t, c.name, err, ErrModule)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %q, want %q in it", err, c.says)
			}
		})
	}
}

// TestCompiledCodeIsKept: an engine that starts with the cache of another runs the same
// code; a damaged cache is compiled again or refused, never run.
func TestCompiledCodeIsKept(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	c := newContract()
	module := c.module(c.void("output", 0, 4))
	var images [2][32]byte
	for i := range images {
		e, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Prepare(ctx, module)
		if err != nil {
			t.Fatal(err)
		}
		images[i] = p.ImageHash()
		if res, err := run1(p, EntryCall, newMemory(), "", enough); err != nil || len(res.Output) != 4 {
			t.Fatal(res, err)
		}
		if err := errors.Join(p.Close(ctx), e.Close(ctx)); err != nil {
			t.Fatal(err)
		}
	}
	if images[0] != images[1] {
		t.Error("the image changed with the cache")
	}
}

// TestRefusedCodeIsFreed: a module that fails after it was compiled leaves no machine
// code behind; whoever uploads many must not fill the enclave.
func TestRefusedCodeIsFreed(t *testing.T) {
	executable := func() (n int) {
		runtime.GC()
		runtime.GC()
		b, err := os.ReadFile("/proc/self/maps")
		if err != nil {
			t.Skip("needs /proc/self/maps: ", err)
		}
		for line := range strings.Lines(string(b)) {
			var from, to int
			if strings.Contains(line, "r-xp 00000000 00:00 0") {
				if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
					t.Fatal(line, err)
				}
				n += to - from
			}
		}
		return n
	}
	e := sharedEngine(t)
	before := executable()
	for i := range 40 {
		c := newContract()
		c.Func("_initialize", nil, nil, nil, n32(uint32(i)), drop, unreachable)
		_, err := e.Prepare(context.Background(), c.module())
		wantKind(t, "initialiser traps", err, ErrModule)
	}
	// Finalizers free it, which run when they get to.
	after := executable()
	for end := time.Now().Add(time.Minute); after > before+10*4096 && time.Now().Before(end); after = executable() {
		time.Sleep(time.Millisecond)
	}
	if after > before+10*4096 {
		t.Errorf("%d bytes of machine code before, %d after 40 refused modules", before, after)
	}
}

// TestTrapWords: what a trap is called is a rule, whatever the library calls it.
func TestTrapWords(t *testing.T) {
	null := wasmtest.Cat(n32(0), []byte{0x11, 0, 0})
	for _, c := range []struct {
		want string
		body []byte
	}{
		{"unreachable code was reached", []byte{0}},
		{"access out of bounds of memory", wasmtest.Cat(n32(0xffffffff), []byte{0x28, 0, 0, 0x1a})},
		{"integer division by zero", wasmtest.Cat(n32(1), n32(0), []byte{0x6d, 0x1a})},
		{"integer overflow", wasmtest.Cat(n32(1<<31), n32(0xffffffff), []byte{0x6d, 0x1a})},
		{"invalid conversion to an integer", []byte{0x43, 0, 0, 0xc0, 0x7f, 0xa8, 0x1a}},
		{"integer overflow", []byte{0x43, 0, 0, 0x80, 0x7f, 0xa8, 0x1a}},
		{"call of a table entry that is not there", null},
		{"call of a table entry of another type", wasmtest.Cat(n32(1), null[len(n32(0)):])},
	} {
		b := new(wasmtest.Builder)
		b.Type(nil, nil)
		b.Func("call", nil, nil, nil, c.body)
		b.Func("deploy", nil, nil, nil)
		b.Func("query", nil, nil, nil)
		other := b.Func("", []byte{wasmtest.I32}, nil, nil)
		b.Table(2)
		b.Elem(1, other)
		b.Memory(1, 1)
		b.Export("memory", 2, 0)
		_, err := run1(prepare(t, b.Bytes()), EntryCall, newMemory(), "", enough)
		wantKind(t, c.want, err, ErrTrap)
		var own *Error
		if !errors.As(err, &own) || own.Detail != c.want {
			t.Errorf("%q, want %q", err, c.want)
		}
	}
	for _, strange := range []string{"wasm error: a new way to trap", "index out of range [5] with length 3 (recovered by wazero)", "wasm error: unreachable!"} {
		if got := trapDetail(errors.New(strange)); got != "trap" {
			t.Errorf("%q becomes %q", strange, got)
		}
	}
}

// TestMachineFailureRefusesNothing: what the machine cannot do is no fault of the module,
// or a worker short of memory would vote against it for ever.
func TestMachineFailureRefusesNothing(t *testing.T) {
	ctx := context.Background()
	rules := RulesV1()
	m, err := wasmprep.Prepare(newContract().module(), rules.Module)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRuntime(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	code, err := image.Compile(ctx, r.rt, m)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.close(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = rules.initialise(ctx, m, code, nil)
	wantKind(t, "no instance can be made", err, ErrHost)
	if errors.Is(err, ErrModule) {
		t.Error("the module is refused")
	}
}
