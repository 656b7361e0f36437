package hostile

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

var shared struct {
	sync.Once
	e   *engine.Engine
	err error
}

func sharedEngine(t testing.TB) *engine.Engine {
	t.Helper()
	shared.Do(func() { shared.e, shared.err = engine.New("") })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.e
}

func repeat(n int, code ...any) []byte {
	return []byte(strings.Repeat(string(wasmtest.Cat(code...)), n))
}

// TestRefusedModules: modules that no worker may run, or spend its time on. Each gets the
// error that says what is wrong, before anything in proportion to what it claims was
// allocated or compiled.
func TestRefusedModules(t *testing.T) {
	i32 := []byte{wasmtest.I32}
	// plain is a contract with something extra.
	plain := func(extra func(c *contract)) func(t *testing.T) []byte {
		return func(t *testing.T) []byte {
			c := newContract(t)
			extra(c)
			return c.module()
		}
	}
	// calls is a contract with a body.
	calls := func(body ...any) func(t *testing.T) []byte {
		return func(t *testing.T) []byte { return newContract(t).module(body...) }
	}
	raw := func(s string) func(t *testing.T) []byte {
		return func(*testing.T) []byte { return []byte("\x00asm\x01\x00\x00\x00" + s) }
	}
	for _, c := range []struct {
		name   string
		module func(t *testing.T) []byte
		says   string
	}{
		// Compile bombs: small modules that would take a compiler minutes or gigabytes.
		{"4000 locals alive over 8000 blocks", plain(func(c *contract) {
			c.RawFunc(c.Type(nil, nil))
			c.RawBody(wasmtest.Cat(1, wasmtest.U32(4000), i32, repeat(8000, 0x02, 0x40, 0x0b), 0x0b))
		}), "wasmprep: limit"},
		{"4000 locals alive over 2400 blocks", plain(func(c *contract) {
			c.RawFunc(c.Type(nil, nil))
			c.RawBody(wasmtest.Cat(1, wasmtest.U32(4000), i32, repeat(2400, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x20, 7, 0x1a, 0x0b), 0x0b))
		}), "wasmprep: limit"},
		{"13,500 branches in 95 KB, which hold the compiler for many seconds", calls(repeat(13_500, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b)), "wasmprep: limit"},
		{"3 functions of 5,000 branches", plain(func(c *contract) {
			for range 3 {
				c.Func("", nil, nil, nil, repeat(5_000, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b))
			}
		}), "wasmprep: limit"},
		{"4 billion locals in six bytes", plain(func(c *contract) {
			c.RawFunc(c.Type(nil, nil))
			c.RawBody(wasmtest.Cat(1, wasmtest.U32(0xffffffff), i32, 0x0b))
		}), "wasmprep: limit"},
		{"100,000 branches to blocks", calls(repeat(100_000, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b)), "wasmprep: limit"},
		{"floats that each need canonicalising", calls(repeat(100_000, 0x43, 0, 0, 0, 0, 0x91, 0xbc, 0x1a)), "wasmprep: limit"},
		{"70,000 functions", plain(func(c *contract) {
			for range 70_000 {
				c.Func("", nil, nil, nil)
			}
		}), "wasmprep: limit"},
		{"a module of 9 MiB", plain(func(c *contract) { c.Custom("fill", make([]byte, 9<<20)) }), "wasmprep: limit"},
		{"a body above 1 MiB", calls(repeat(1<<20+1, 0x01)), "wasmprep: limit"},
		{"10,000 operands on the stack", calls(repeat(10_000, 0x41, 0), repeat(10_000, 0x1a)), "wasmprep: limit"},
		{"65,000 brackets of every limit", plain(func(c *contract) {
			for range 65_000 {
				c.Func("", nil, nil, nil, repeat(60, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b))
			}
		}), "wasmprep: limit"},

		// Nesting and tables.
		{"blocks nested 20,000 deep", calls(repeat(20_000, 0x02, 0x40), repeat(20_000, 0x0b)), "wasmprep: limit"},
		{"ifs nested 20,000 deep", calls(repeat(20_000, 0x41, 1, 0x04, 0x40), repeat(20_000, 0x0b)), "wasmprep: limit"},
		{"br_table of a billion labels", calls(0x41, 0, 0x0e, wasmtest.U32(1<<30)), "wasmprep: limit"},
		{"br_table longer than the module", calls(0x41, 0, 0x0e, wasmtest.U32(10_000)), "wasmprep: malformed"},
		{"16,000 labels in each of 200 br_tables", calls(repeat(200, 0x02, 0x40, 0x41, 0, 0x0e, wasmtest.U32(16_000), make([]byte, 16_001), 0x0b)), "wasmprep: limit"},
		{"a table of a million entries", plain(func(c *contract) { c.Table(1 << 20) }), "wasmprep: limit"},
		{"a memory of 4 GiB", plain(func(c *contract) {
			c.Sections = append(c.Sections, wasmtest.Section{ID: 5, Payload: wasmtest.Cat(1, 1, wasmtest.U32(65536), wasmtest.U32(65536))})
		}), "wasmprep: limit"},

		// Bytes that are not what they say.
		{"overlapping sections", raw("\x01\x03\x02\x60\x00\x00\x03\x01\x00"), "wasmprep: malformed"},
		{"a section past the end", raw("\x01\x7f\x00"), "wasmprep: malformed"},
		{"a section twice", raw("\x01\x01\x00\x01\x01\x00"), "wasmprep: malformed"},
		{"four billion types", raw("\x01\x05\xff\xff\xff\xff\x0f"), "wasmprep: limit"},
		{"an exported name that is not UTF-8", plain(func(c *contract) { c.Func("\xff\xfe", nil, nil, nil) }), "wasmprep: malformed"},
		{"an imported name that is not UTF-8", plain(func(c *contract) { c.RawImport(wasmtest.Cat(wasmtest.Name("phat"), wasmtest.Name("\xc3("), 0, 0)) }), "wasmprep: malformed"},
		{"a section name that is not UTF-8", plain(func(c *contract) { c.Custom("\xc0\x80", nil) }), "wasmprep: malformed"},
		{"data behind the memory", plain(func(c *contract) { c.Data(1<<16-1, []byte("ab")) }), "module refused: image: instantiate: data[1]: out of bounds"},
		{"elements behind the table", plain(func(c *contract) {
			c.Table(1)
			c.Elem(1, 0)
		}), "out of bounds"},

		// Tampering with gas.
		{"an export named like the gas", plain(func(c *contract) {
			c.Export("__phala_gas", 3, c.Global(wasmtest.I64, true, 1<<40))
		}), "wasmprep: reserved-name"},
		{"an export named like the depth", plain(func(c *contract) {
			c.Export("__phala_depth", 3, c.Global(wasmtest.I64, true, 1<<40))
		}), "wasmprep: reserved-name"},
		{"an export of the first free name", plain(func(c *contract) { c.Func("__phala_", nil, nil, nil) }), "wasmprep: reserved-name"},
		{"writing the global that metering adds", calls(0x42, 0, 0x24, 0), "wasmprep: invalid"},
		{"importing the refill", plain(func(c *contract) {
			c.RawImport(wasmtest.Cat(wasmtest.Name("phala_gas"), wasmtest.Name("refill"), 0, 0))
		}), "wasmprep: reserved-name"},
		{"importing anything from the gas module", plain(func(c *contract) { c.RawImport(wasmtest.Cat(wasmtest.Name("phala_gas"), wasmtest.Name("x"), 0, 0)) }), "wasmprep: reserved-name"},
		{"a function of the gas module's name elsewhere", plain(func(c *contract) { c.RawImport(wasmtest.Cat(wasmtest.Name("phat"), wasmtest.Name("refill"), 0, 0)) }), "wasmprep: unknown-import"},
		{"the gas global as an import", plain(func(c *contract) {
			c.RawImport(wasmtest.Cat(wasmtest.Name("env"), wasmtest.Name("__phala_gas"), 3, wasmtest.I64, 1))
		}), "wasmprep: unknown-import"},
		{"a host function of another type", plain(func(c *contract) {
			c.RawImport(wasmtest.Cat(wasmtest.Name("phat"), wasmtest.Name("kv_put"), 0, wasmtest.U32(c.Type(i32, nil))))
		}), "wasmprep: import-type"},

		// Before the first call.
		{"a start function without end", plain(func(c *contract) { c.Start(c.Func("", nil, nil, nil, forever())) }), "start: engine: gas limit reached"},
		{"a start function that recurses", plain(func(c *contract) { c.Start(c.Func("", nil, nil, nil, 0x10, wasmtest.U32(uint32(len(c.index))))) }), "start: engine: call depth reached"},
		{"a start function that writes", plain(func(c *contract) { c.Start(c.Func("", nil, nil, nil, c.do("kv_put", 0, 1, 0, 1))) }), "no function of module phat"},
		{"a start function that traps", plain(func(c *contract) { c.Start(c.Func("", nil, nil, nil, 0x00)) }), "start: engine: contract broke"},
		{"an initialiser that grows without end", plain(func(c *contract) { c.Func("_initialize", nil, nil, nil, forever(n32(1), 0x40, 0, 0x1a)) }), "_initialize: engine: gas limit reached"},
		{"a warm-up without end", plain(func(c *contract) { c.Func("phat_warmup", nil, nil, nil, forever()) }), "phat_warmup: engine: gas limit reached"},
	} {
		t.Run(c.name, func(t *testing.T) {
			module := c.module(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			p, err := sharedEngine(t).Prepare(context.Background(), module)
			took := time.Since(begin)
			runtime.ReadMemStats(&after)
			if err == nil {
				p.Close(context.Background())
				t.Fatal("it is accepted")
			}
			var e *engine.Error
			if !errors.As(err, &e) || e.Kind != engine.ErrModule || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want %q", err, c.says)
			}
			if len(err.Error()) > 500 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			// Slower by far than it needs, so that a busy machine does not fail it.
			if took > 2*time.Minute {
				t.Errorf("the refusal took %s", took)
			}
			if grew := after.TotalAlloc - before.TotalAlloc; grew > 64*uint64(len(module))+(256<<20) {
				t.Errorf("%d bytes were allocated for a module of %d", grew, len(module))
			}
		})
	}
}

// TestHeaviestModules: what is just inside the limits compiles, in a time that an operator
// can bear. The figures are in the log.
func TestHeaviestModules(t *testing.T) {
	if os.Getenv("PHALA_LONG") != "1" {
		t.Skip("compiles for a minute: PHALA_LONG=1 runs it")
	}
	for _, c := range []struct {
		name string
		body func(n int) []byte
	}{
		{"branches", func(n int) []byte { return repeat(n, 0x02, 0x40, 0x41, 0, 0x0d, 0, 0x0b) }},
		{"floats", func(n int) []byte { return repeat(n, 0x43, 0, 0, 0, 0, 0x91, 0xbc, 0x1a) }},
		{"integers", func(n int) []byte { return repeat(n, 0x20, 0, 0x41, 3, 0x6a, 0x21, 0) }},
		{"host calls", func(n int) []byte { return repeat(n, 0x10, 0, 0x1a) }},
		{"br_tables", func(n int) []byte {
			return repeat(n/16, 0x02, 0x40, 0x41, 0, 0x0e, wasmtest.U32(16), make([]byte, 17), 0x0b)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// The largest number of functions, each with a hundred of them, that is accepted.
			build := func(funcs int) []byte {
				m := newContract(t)
				for range funcs {
					m.Func("", nil, nil, []byte{wasmtest.I32}, c.body(100))
				}
				return m.module()
			}
			low, high := 1, 20_000
			for low+1 < high {
				mid := (low + high) / 2
				if accepted(t, build(mid)) {
					low = mid
				} else {
					high = mid
				}
			}
			module := build(low)
			begin := time.Now()
			p, err := sharedEngine(t).Prepare(context.Background(), module)
			took := time.Since(begin)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d functions, %d bytes: ready in %s", low, len(module), took)
			if err := p.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if took > 3*time.Minute {
				t.Errorf("preparing took %s", took)
			}
		})
	}
}
