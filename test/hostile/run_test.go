package hostile

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

func prepare(t testing.TB, module []byte) *engine.Program {
	t.Helper()
	p, err := sharedEngine(t).Prepare(context.Background(), module)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestHostileCalls: contracts that a worker accepts and that then misbehave. Each command
// is sealed, ordered, run and receipted like any other, ends with the status it must, and
// leaves no trace in the contract's storage, nor in the next command.
func TestHostileCalls(t *testing.T) {
	const page = 1 << 16
	type build func(c *contract) []byte
	body := func(parts ...any) build { return func(*contract) []byte { return wasmtest.Cat(parts...) } }
	do := func(name string, args ...uint32) build {
		return func(c *contract) []byte { return c.do(name, args...) }
	}
	grow := wasmtest.Cat(n32(1), 0x40, 0, 0x1a)
	for _, c := range []struct {
		name   string
		body   build
		status proto.Status
		says   string
	}{
		{"a loop without end", body(forever()), proto.StatusOutOfGas, "gas limit"},
		{"an empty loop with a host call", func(c *contract) []byte { return forever(c.do("input_len")) }, proto.StatusOutOfGas, ""},
		{"recursion without end", func(c *contract) []byte {
			self := uint32(len(c.index)) + 1 // deploy comes first
			return wasmtest.Cat(0x10, wasmtest.U32(self))
		}, proto.StatusDepth, "recursion"},
		{"recursion through the table", func(c *contract) []byte {
			c.Table(1)
			c.Elem(0, uint32(len(c.index))+1)
			return wasmtest.Cat(n32(0), 0x11, wasmtest.U32(c.Type(nil, nil)), 0)
		}, proto.StatusDepth, "recursion"},
		{"growing to the limit in a loop", body(forever(grow)), proto.StatusOutOfGas, ""},
		{"growing to the limit, then filling it all in a loop", body(n32(63), 0x40, 0, 0x1a, forever(n32(0), n32(0x5a), n32(64*page), 0xfc, 11, 0)), proto.StatusOutOfGas, ""},
		{"growing by more pages than there are", body(n32(0xffffffff), 0x40, 0, 0x1a), proto.StatusOutOfGas, ""},
		{"growing to the limit, then writing behind it", body(n32(63), 0x40, 0, 0x1a, n32(64*page), n32(1), 0x36, 2, 0), proto.StatusTrap, "access out of bounds of memory"},
		{"a fill over the end of memory", body(n32(page-1), n32(1), n32(2), 0xfc, 11, 0), proto.StatusTrap, "access out of bounds of memory"},
		{"a trap in the middle of writes", func(c *contract) []byte {
			return wasmtest.Cat(c.do("kv_put", 0, 1, 0, 1), c.do("kv_put", 1, 1, 0, 1), c.do("kv_delete", 0, 1), 0x00)
		}, proto.StatusTrap, "unreachable"},
		{"gas that ends between two writes", func(c *contract) []byte {
			return wasmtest.Cat(c.do("kv_put", 0, 1, 0, 1), forever(c.do("kv_put", 1, 1, 0, 8192)))
		}, proto.StatusOutOfGas, ""},
		{"a refusal after a write", func(c *contract) []byte {
			return wasmtest.Cat(c.do("kv_put", 0, 1, 0, 1), c.do("fail", 7, 8, 3))
		}, proto.StatusContractError, "was (code 7)"},
		{"a value that begins in memory and ends outside", do("kv_put", 0, 1, page-4, 8), proto.StatusTrap, "outside memory"},
		{"a key outside memory", do("kv_put", page, 1, 0, 1), proto.StatusTrap, "outside memory"},
		{"a key of four gigabytes", do("kv_get", 0, 0xffffffff), proto.StatusOutOfGas, ""},
		{"a value above the limit", func(c *contract) []byte {
			return wasmtest.Cat(n32(8), 0x40, 0, 0x1a, c.do("kv_put", 0, 1, 0, 256<<10+1))
		}, proto.StatusTrap, "storage value"},
		{"a million reads of the input's length", func(c *contract) []byte { return times(1_000_000, c.do("input_len")) }, proto.StatusOutOfGas, ""},
		{"a million writes", func(c *contract) []byte { return times(1_000_000, c.do("kv_put", 0, 1, 0, 64)) }, proto.StatusOutOfGas, ""},
		{"a million log lines", func(c *contract) []byte { return times(1_000_000, c.do("log", 0, 4096)) }, proto.StatusOutOfGas, ""},
		{"a million answers, each the longest", func(c *contract) []byte {
			return wasmtest.Cat(n32(8), 0x40, 0, 0x1a, times(1_000_000, c.do("output", 0, 192<<10)))
		}, proto.StatusOutOfGas, ""},
		{"an answer above the limit", func(c *contract) []byte { return wasmtest.Cat(n32(8), 0x40, 0, 0x1a, c.do("output", 0, 192<<10+1)) }, proto.StatusOutputTooLarge, ""},
		{"an answer of four gigabytes", do("output", 0, 0xffffffff), proto.StatusOutputTooLarge, ""},
		{"an answer from outside memory", do("output", page-1, 2), proto.StatusTrap, "outside memory"},
		{"a refusal that says four gigabytes", do("fail", 1, page-1, 0xffffffff), proto.StatusTrap, "outside memory"},
		{"random bytes without end", func(c *contract) []byte { return forever(c.do("random", 0, 1024)) }, proto.StatusOutOfGas, ""},
		{"calling itself without end", func(c *contract) []byte {
			return wasmtest.Cat(c.do("reentry"), c.do("self", 256), forever(c.do("call", 0, 256, 0, 0, 0)))
		}, proto.StatusOutOfGas, ""},
		{"calling itself where that is not allowed", func(c *contract) []byte {
			return wasmtest.Cat(c.do("self", 256), c.do("call", 0, 256, 0, 0, 0), c.do("staged_read", 300), c.do("fail", 9, 304, 20))
		}, proto.StatusContractError, "(code 9)"},
		{"writing, then calling itself to trap, then trapping", func(c *contract) []byte {
			return wasmtest.Cat(c.do("kv_put", 0, 1, 0, 1), c.do("self", 256), c.do("call", 0, 256, 0, 0, 1000), 0x00)
		}, proto.StatusTrap, "unreachable"},
		{"calls to a contract that is not there", func(c *contract) []byte { return forever(c.do("call", 0, 256, 0, 0, 0)) }, proto.StatusOutOfGas, ""},
		{"a call with an input of four gigabytes", do("call", 0, 256, 0, 0xffffffff, 0), proto.StatusOutOfGas, ""},
		{"a call of a kind that is not there", do("call", 2, 256, 0, 0, 0), proto.StatusTrap, "kind 2"},
		{"events without end", func(c *contract) []byte { return forever(c.do("emit", 0, 0, 0, 1)) }, proto.StatusTrap, "at most 64 events"},
		{"large events without end", func(c *contract) []byte { return forever(c.do("emit", 0, 0, 0, 16<<10)) }, proto.StatusTrap, "at most 64 events and 65536 bytes"},
		{"an event of four gigabytes", do("emit", 0, 0, 0, 0xffffffff), proto.StatusOutOfGas, ""},
		{"an event for a key of five bytes", do("emit", 0, 5, 0, 1), proto.StatusTrap, "reader"},
		{"HTTP in a command", do("http", 0, 10), proto.StatusTrap, "HTTP is for queries"},
		{"hashing four gigabytes", do("hash", 1, 0, 0xffffffff, 0), proto.StatusOutOfGas, ""},
		{"hashing to the end of memory", do("hash", 1, 0, 1, page-31), proto.StatusTrap, "outside memory"},
		{"a hash that is not there", do("hash", 99, 0, 1, 0), proto.StatusTrap, "hash algorithm 99"},
		{"signing without end", func(c *contract) []byte { return forever(c.do("sign", 1, 0, 1, 0, 1, 512)) }, proto.StatusOutOfGas, ""},
		{"verifying without end", func(c *contract) []byte { return forever(c.do("verify", 3, 0, 33, 0, 32, 0, 64)) }, proto.StatusOutOfGas, ""},
		{"a scheme that is not there", do("sign", 7, 0, 1, 0, 1, 512), proto.StatusTrap, "signature scheme 7"},
		{"a label too long", do("derive", 0, 257, 512), proto.StatusTrap, "label"},
		{"a raw signature over no digest", do("sign", 19, 0, 1, 0, 31, 512), proto.StatusTrap, "digest"},
		{"storing beyond the deposit", func(c *contract) []byte {
			return wasmtest.Cat(n32(8), 0x40, 0, 0x1a, times(5000, n32(64), 0x20, 0, 0x36, 2, 0, c.do("kv_put", 64, 4, 0, 200<<10)))
		}, proto.StatusDepositLimit, "raise the deposit limit"},
		{"a conversion without a result", body(0x43, 0, 0, 0xc0, 0x7f, 0xa8, 0x1a), proto.StatusTrap, "invalid conversion"},
		{"a call through an empty entry", func(c *contract) []byte {
			c.Table(2)
			return wasmtest.Cat(n32(1), 0x11, wasmtest.U32(c.Type(nil, nil)), 0)
		}, proto.StatusTrap, "table entry"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newContract(t)
			w := clustertest.New(t, prepare(t, m.module(c.body(m))))
			if s := w.Deploy("alice", nil); s.Status != proto.StatusOK {
				t.Fatalf("the constructor ends with %s: %s", s.Status, s.Error)
			}
			var gas uint64
			for i := range 2 { // the second finds an instance that the first used
				begin := time.Now()
				s := w.Input("mallory", []byte("x"))
				if took := time.Since(begin); took > 2*time.Minute {
					t.Errorf("it took %s", took)
				}
				if s.Status != c.status || !strings.Contains(s.Error, c.says) || len(s.Return) != 0 {
					t.Fatalf("ends with %s %q and answer %q, want %s %q", s.Status, s.Error, s.Return, c.status, c.says)
				}
				if i > 0 && s.GasUsed != gas {
					t.Errorf("%d gas, the first time %d", s.GasUsed, gas)
				}
				gas = s.GasUsed
				if c.status == proto.StatusOutOfGas && gas != w.Gas || gas > w.Gas {
					t.Errorf("%d of %d gas", gas, w.Gas)
				}
				if out, err := w.Query("alice", "", nil); err != nil || string(out) != "was" {
					t.Fatalf("the storage says %q, %v", out, err)
				}
			}
		})
	}
}

// TestMillionHostCalls: with gas for them, a million host calls end well and soon, and so
// do a million pages asked for in vain.
func TestMillionHostCalls(t *testing.T) {
	for _, c := range []struct {
		name string
		body func(c *contract) []byte
	}{
		{"host calls", func(c *contract) []byte { return times(1_000_000, c.do("input_len")) }},
		{"memory.grow beyond the limit", func(c *contract) []byte { return times(1_000_000, n32(1), 0x40, 0, 0x1a) }},
	} {
		m := newContract(t)
		p := prepare(t, m.module(c.body(m)))
		w := clustertest.New(t, p)
		w.Deploy("alice", nil)
		w.Gas = 1 << 33
		begin := time.Now()
		s := w.Input("mallory", nil)
		took := time.Since(begin)
		t.Logf("a million %s: %d gas, %s", c.name, s.GasUsed, took)
		if s.Status != proto.StatusOK || s.GasUsed < 300_000_000 || took > 2*time.Minute {
			t.Errorf("a million %s: %s %q, %d gas, %s", c.name, s.Status, s.Error, s.GasUsed, took)
		}
	}
}

// TestGoContract: a Go contract that breaks in the ways of its language, seen by its
// caller. The message says what happened; nothing stays.
func TestGoContract(t *testing.T) {
	p := clustertest.Prepare(t, clustertest.Module(t, "testdata/broken"), "")
	w := clustertest.New(t, p)
	if s := w.Deploy("alice", nil); s.Status != proto.StatusOK {
		t.Fatalf("the constructor ends with %s: %s", s.Status, s.Error)
	}
	for _, c := range []struct {
		method string
		arg    any
		status proto.Status
		says   string
	}{
		{"Panic", nil, proto.StatusTrap, "on purpose"},
		{"PanicInGoroutine", nil, proto.StatusTrap, "in a goroutine"},
		{"NilMap", nil, proto.StatusTrap, "nil map"},
		{"Deadlock", nil, proto.StatusTrap, "deadlock"},
		{"Recurse", nil, proto.StatusOutOfGas, ""},
		{"RecurseJSON", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), proto.StatusContractError, "depth"},
		{"Allocate", nil, proto.StatusOutOfGas, ""},
		{"Spin", nil, proto.StatusOutOfGas, ""},
		{"Spawn", nil, proto.StatusOutOfGas, ""},
		{"Long", 192 << 10, proto.StatusOutputTooLarge, ""},
		{"LongError", nil, proto.StatusContractError, "(code 1)"},
		{"Set", 7, proto.StatusOK, ""},
	} {
		s := w.Call("mallory", c.method, c.arg)
		if s.Status != c.status || !strings.Contains(s.Error, c.says) {
			t.Errorf("%s ends with %s %.200q, want %s %q", c.method, s.Status, s.Error, c.status, c.says)
		}
		want := "0"
		if c.method == "Set" {
			want = "7" // after all that, it works
		}
		if out, err := w.Query("alice", "Get", nil); err != nil || string(out) != want {
			t.Fatalf("after %s the storage says %s, %v", c.method, out, err)
		}
	}
}

// TestBrokenInputs: what callers send that is no input of a Go contract.
func TestBrokenInputs(t *testing.T) {
	w := clustertest.New(t, clustertest.Prepare(t, clustertest.Module(t, "testdata/broken"), ""))
	w.Deploy("alice", nil)
	for _, input := range []string{"", "x", "{}", "null", `{"method":"Set","args":"7"}`, `{"method":"Set","args":1e99}`, `{"method":"Set","args":7,"more":1}x`,
		`{"method":"` + strings.Repeat("S", 10_000) + `"}`, strings.Repeat("[", 100_000), "\xff\xfe", `{"method":"Get"}`, `{"method":"Init"}`} {
		s := w.Input("mallory", []byte(input))
		if s.Status != proto.StatusContractError || !strings.Contains(s.Error, "(code ") {
			t.Errorf("%.40q ends with %s %.200q", input, s.Status, s.Error)
		}
	}
}
