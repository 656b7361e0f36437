package wasmprep_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// cat and the rest keep the cases readable.
var cat = wasmtest.Cat

func build(f func(b *wasmtest.Builder)) []byte {
	var b wasmtest.Builder
	f(&b)
	return b.Bytes()
}

// body is a module with a memory, a table and two functions, the second of
// which, () -> (), has the given code.
func body(code ...any) []byte {
	return build(func(b *wasmtest.Builder) {
		b.Memory(1, 2)
		b.Table(2)
		b.Global(wasmtest.I32, false, 0)
		b.Func("", nil, nil, nil)
		b.Func("f", nil, nil, []byte{wasmtest.I32}, code...)
	})
}

// TestRefusals is the corpus of modules that must be refused, each with the
// class of error it gets and, for instructions, where and which.
func TestRefusals(t *testing.T) {
	i32, i64 := byte(wasmtest.I32), byte(wasmtest.I64)
	limits := func(change func(l *wasmprep.Limits)) wasmprep.Rules {
		r := wasmprep.RulesV1()
		change(&r.Limits)
		return r
	}
	v1 := wasmprep.RulesV1()
	cases := []struct {
		name   string
		code   []byte
		rules  wasmprep.Rules
		kind   wasmprep.Kind
		opcode string // expected opcode name, "" for none
	}{
		// Features.
		{"simd instruction", body(0xfd, 12, make([]byte, 16), 0x1a), v1, wasmprep.ErrSIMD, "simd prefix"},
		{"simd local", build(func(b *wasmtest.Builder) { b.Func("", nil, nil, []byte{0x7b}) }), v1, wasmprep.ErrSIMD, ""},
		{"simd parameter", build(func(b *wasmtest.Builder) { b.Func("", []byte{0x7b}, nil, nil) }), v1, wasmprep.ErrSIMD, ""},
		{"atomic instruction", body(0xfe, 3, 0), v1, wasmprep.ErrThreads, "atomic prefix"},
		{"shared memory", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 5, Payload: []byte{1, 3, 1, 1}}} }), v1, wasmprep.ErrThreads, ""},
		{"memory64", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 5, Payload: []byte{1, 4, 1}}} }), v1, wasmprep.ErrMemory64, ""},
		{"two memories", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 5, Payload: []byte{2, 0, 1, 0, 1}}} }), v1, wasmprep.ErrMultiMemory, ""},
		{"memory index", body(0x3f, 1, 0x1a), v1, wasmprep.ErrMultiMemory, "memory.size"},
		{"memory index in memarg", body(0x41, 0, 0x28, 0x42, 1, 0, 0x1a), v1, wasmprep.ErrMultiMemory, "i32.load"},
		{"data for second memory", build(func(b *wasmtest.Builder) {
			b.Memory(1, 1)
			b.RawData(cat(2, 1, 0x41, 0, 0x0b, 0))
		}), v1, wasmprep.ErrMultiMemory, ""},
		{"two tables", build(func(b *wasmtest.Builder) {
			b.Sections = []wasmtest.Section{{ID: 4, Payload: []byte{2, 0x70, 0, 1, 0x70, 0, 1}}}
		}), v1, wasmprep.ErrMultiTable, ""},
		{"call through second table", body(0x41, 0, 0x11, 0, 1), v1, wasmprep.ErrMultiTable, "call_indirect"},
		{"tail call", body(0x12, 0), v1, wasmprep.ErrTailCall, "return_call"},
		{"indirect tail call", body(0x41, 0, 0x13, 0, 0), v1, wasmprep.ErrTailCall, "return_call_indirect"},
		{"gc instruction", body(0xfb, 0, 0), v1, wasmprep.ErrGC, "gc prefix"},
		{"struct type", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 1, Payload: []byte{1, 0x5f, 0}}} }), v1, wasmprep.ErrGC, ""},
		{"typed reference", build(func(b *wasmtest.Builder) { b.Func("", []byte{0x63}, nil, nil) }), v1, wasmprep.ErrGC, ""},
		{"try", body(0x06, 0x40, 0x0b), v1, wasmprep.ErrExceptions, "try"},
		{"try_table", body(0x1f, 0x40, 0, 0x0b), v1, wasmprep.ErrExceptions, "try_table"},
		{"throw", body(0x08, 0), v1, wasmprep.ErrExceptions, "throw"},
		{"tag section", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 13, Payload: []byte{0}}} }), v1, wasmprep.ErrExceptions, ""},
		{"ref.null", body(0xd0, 0x70, 0x1a), v1, wasmprep.ErrReferenceTypes, "ref.null"},
		{"table.get", body(0x41, 0, 0x25, 0, 0x1a), v1, wasmprep.ErrReferenceTypes, "table.get"},
		{"table.size", body(0xfc, 16, 0, 0x1a), v1, wasmprep.ErrReferenceTypes, "table.size"},
		{"externref global", build(func(b *wasmtest.Builder) { b.Global(0x6f, true, 0) }), v1, wasmprep.ErrReferenceTypes, ""},
		{"externref table", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 4, Payload: []byte{1, 0x6f, 0, 1}}} }), v1, wasmprep.ErrReferenceTypes, ""},
		{"table.set", body(0x26, 0), v1, wasmprep.ErrTableMutation, "table.set"},
		{"table.init", body(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 12, 0, 0), v1, wasmprep.ErrTableMutation, "table.init"},
		{"elem.drop", body(0xfc, 13, 0), v1, wasmprep.ErrTableMutation, "elem.drop"},
		{"table.grow", body(0xfc, 15, 0), v1, wasmprep.ErrTableMutation, "table.grow"},
		{"data.drop", body(0xfc, 9, 0), v1, wasmprep.ErrDataDrop, "data.drop"},
		{"extended constant", build(func(b *wasmtest.Builder) {
			b.Sections = []wasmtest.Section{{ID: 6, Payload: []byte{1, i32, 0, 0x41, 1, 0x41, 1, 0x6a, 0x0b}}}
		}), v1, wasmprep.ErrExtendedConst, ""},

		// Imports and names.
		{"unknown import", build(func(b *wasmtest.Builder) { b.Import("env", "system", []byte{i32}, nil) }), v1, wasmprep.ErrUnknownImport, ""},
		{"wrong signature", build(func(b *wasmtest.Builder) { b.Import("wasi_snapshot_preview1", "fd_close", []byte{i64}, []byte{i32}) }), v1, wasmprep.ErrImportType, ""},
		{"shadowing the gas call", build(func(b *wasmtest.Builder) { b.Import("phala_gas", "refill", nil, nil) }), v1, wasmprep.ErrReservedName, ""},
		{"imported memory", build(func(b *wasmtest.Builder) { b.RawImport(cat(wasmtest.Name("env"), wasmtest.Name("memory"), 2, 0, 1)) }), v1, wasmprep.ErrUnknownImport, ""},
		{"imported global", build(func(b *wasmtest.Builder) {
			b.RawImport(cat(wasmtest.Name("env"), wasmtest.Name("__phala_gas"), 3, i64, 1))
		}), v1, wasmprep.ErrUnknownImport, ""},
		{"exported gas global", build(func(b *wasmtest.Builder) {
			b.Global(i64, true, 0)
			b.Export("__phala_gas", 3, 0)
		}), v1, wasmprep.ErrReservedName, ""},
		{"exported reserved function", build(func(b *wasmtest.Builder) { b.Func("__phala_start", nil, nil, nil) }), v1, wasmprep.ErrReservedName, ""},
		{"writing the injected gas global", body(0x42, 0, 0x24, 1), v1, wasmprep.ErrInvalid, "global.set"},
		{"reading the injected depth global", body(0x23, 2, 0x1a), v1, wasmprep.ErrInvalid, "global.get"},
		{"calling the injected import", body(0x10, 2), v1, wasmprep.ErrInvalid, "call"},
		{"using an injected local", body(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0, 0x20, 1, 0x1a), v1, wasmprep.ErrInvalid, "local.get"},
		{"export name not UTF-8", build(func(b *wasmtest.Builder) { b.Func("\xff\xfe", nil, nil, nil) }), v1, wasmprep.ErrMalformed, ""},
		{"custom name not UTF-8", build(func(b *wasmtest.Builder) { b.Custom("\xc0\x80", nil) }), v1, wasmprep.ErrMalformed, ""},
		{"export twice", build(func(b *wasmtest.Builder) {
			b.Func("a", nil, nil, nil)
			b.Func("a", nil, nil, nil)
		}), v1, wasmprep.ErrInvalid, ""},
		{"start with parameter", build(func(b *wasmtest.Builder) { b.Start(b.Func("", []byte{i32}, nil, nil)) }), v1, wasmprep.ErrInvalid, ""},
		{"imported start", build(func(b *wasmtest.Builder) {
			b.Import("env", "go", nil, nil)
			b.Start(0)
		}), wasmprep.RulesV1().WithImports(map[wasmprep.ImportKey]wasmprep.FuncType{{Module: "env", Name: "go"}: {}}), wasmprep.ErrUnknownImport, ""},

		// Limits.
		{"module too long", make([]byte, v1.Limits.ModuleBytes+1), v1, wasmprep.ErrLimit, ""},
		{"too many types", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 1, Payload: wasmtest.U32(1 << 31)}} }), v1, wasmprep.ErrLimit, ""},
		{"types beyond the bytes", build(func(b *wasmtest.Builder) { b.Sections = []wasmtest.Section{{ID: 1, Payload: wasmtest.U32(4000)}} }), v1, wasmprep.ErrMalformed, ""},
		{"too many parameters", build(func(b *wasmtest.Builder) { b.Func("", make([]byte, 65), nil, nil) }), v1, wasmprep.ErrLimit, ""},
		{"too many locals", build(func(b *wasmtest.Builder) {
			b.RawFunc(b.Type(nil, nil))
			b.RawBody(cat(1, wasmtest.U32(0xffffffff), i32, 0x0b))
		}), v1, wasmprep.ErrLimit, ""},
		{"compile bomb of locals and blocks", build(func(b *wasmtest.Builder) {
			b.RawFunc(b.Type(nil, nil))
			b.RawBody(cat(1, wasmtest.U32(4000), i32, []byte(strings.Repeat("\x02\x40\x0b", 8000)), 0x0b))
		}), v1, wasmprep.ErrLimit, ""},
		{"compile bomb of branches", body([]byte(strings.Repeat("\x02\x40\x41\x00\x0d\x00\x0b", 100000))), v1, wasmprep.ErrLimit, ""},
		{"compile bomb of floats", body([]byte(strings.Repeat("\x43\x00\x00\x00\x00\x91\xbc\x1a", 100000))), v1, wasmprep.ErrLimit, ""},
		{"too many functions", build(func(b *wasmtest.Builder) {
			for range 10 {
				b.Func("", nil, nil, nil)
			}
		}), limits(func(l *wasmprep.Limits) { l.Functions = 9 }), wasmprep.ErrLimit, ""},
		{"body too long", body([]byte(strings.Repeat("\x01", 200))), limits(func(l *wasmprep.Limits) { l.BodyBytes = 100 }), wasmprep.ErrLimit, ""},
		{"nested too deep", body([]byte(strings.Repeat("\x02\x40", 20000)), []byte(strings.Repeat("\x0b", 20000))), v1, wasmprep.ErrLimit, "block"},
		{"operands too high", body([]byte(strings.Repeat("\x41\x00", 5000)), []byte(strings.Repeat("\x1a", 5000))), v1, wasmprep.ErrLimit, "i32.const"},
		{"huge br_table", body(0x41, 0, 0x0e, wasmtest.U32(1<<30)), v1, wasmprep.ErrLimit, "br_table"},
		{"br_table beyond the bytes", body(0x41, 0, 0x0e, wasmtest.U32(10000)), v1, wasmprep.ErrMalformed, "br_table"},
		{"memory too large", build(func(b *wasmtest.Builder) { b.Memory(1025, 2000) }), v1, wasmprep.ErrLimit, ""},
		{"table too large", build(func(b *wasmtest.Builder) { b.Table(1 << 20) }), v1, wasmprep.ErrLimit, ""},
		{"output too long", body([]byte(strings.Repeat("\x43\x00\x00\x00\x00\x43\x00\x00\x00\x00\x95\xbc\x1a", 70000))), limits(func(l *wasmprep.Limits) { l.OutputBytes = 1 << 20 }), wasmprep.ErrLimit, ""},
		{"name too long", build(func(b *wasmtest.Builder) { b.Func(strings.Repeat("n", 600), nil, nil, nil) }), v1, wasmprep.ErrLimit, ""},

		// Malformed and invalid.
		{"empty", nil, v1, wasmprep.ErrMalformed, ""},
		{"not wasm", []byte("MZ\x90\x00\x03\x00\x00\x00"), v1, wasmprep.ErrMalformed, ""},
		{"version 2", []byte("\x00asm\x02\x00\x00\x00"), v1, wasmprep.ErrMalformed, ""},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), v1, wasmprep.ErrMalformed, ""},
		{"section past the end", []byte("\x00asm\x01\x00\x00\x00\x01\x7f\x00"), v1, wasmprep.ErrMalformed, ""},
		{"overlapping sections", []byte("\x00asm\x01\x00\x00\x00\x01\x03\x02\x60\x00\x00\x03\x01\x00"), v1, wasmprep.ErrMalformed, ""},
		{"section twice", []byte("\x00asm\x01\x00\x00\x00\x01\x01\x00\x01\x01\x00"), v1, wasmprep.ErrMalformed, ""},
		{"sections out of order", []byte("\x00asm\x01\x00\x00\x00\x03\x01\x00\x01\x01\x00"), v1, wasmprep.ErrMalformed, ""},
		{"unknown section", []byte("\x00asm\x01\x00\x00\x00\x0e\x00"), v1, wasmprep.ErrMalformed, ""},
		{"bytes left in section", []byte("\x00asm\x01\x00\x00\x00\x01\x02\x00\x00"), v1, wasmprep.ErrMalformed, ""},
		{"overlong LEB128", []byte("\x00asm\x01\x00\x00\x00\x01\x06\x80\x80\x80\x80\x80\x00"), v1, wasmprep.ErrMalformed, ""},
		{"LEB128 above 32 bits", []byte("\x00asm\x01\x00\x00\x00\x01\x05\xff\xff\xff\xff\x1f"), v1, wasmprep.ErrMalformed, ""},
		{"functions without bodies", build(func(b *wasmtest.Builder) { b.RawFunc(b.Type(nil, nil)) }), v1, wasmprep.ErrMalformed, ""},
		{"illegal opcode", body(0xff), v1, wasmprep.ErrMalformed, "unknown"},
		{"illegal prefixed opcode", body(0xfc, 18), v1, wasmprep.ErrMalformed, "unknown"},
		{"code behind the end", build(func(b *wasmtest.Builder) {
			b.RawFunc(b.Type(nil, nil))
			b.RawBody([]byte{0, 0x0b, 0x01})
		}), v1, wasmprep.ErrMalformed, ""},
		{"no end", build(func(b *wasmtest.Builder) {
			b.RawFunc(b.Type(nil, nil))
			b.RawBody([]byte{0, 0x01})
		}), v1, wasmprep.ErrMalformed, ""},
		{"stack underflow", body(0x1a), v1, wasmprep.ErrInvalid, "drop"},
		{"underflow into the outer block", body(0x41, 0, 0x02, 0x40, 0x1a, 0x0b), v1, wasmprep.ErrInvalid, "drop"},
		{"wrong operand", body(0x41, 0, 0x42, 0, 0x6a, 0x1a), v1, wasmprep.ErrInvalid, "i32.add"},
		{"left-over operand", body(0x41, 0), v1, wasmprep.ErrInvalid, "end"},
		{"unknown label", body(0x0c, 1), v1, wasmprep.ErrInvalid, "br"},
		{"unknown local", body(0x20, 9, 0x1a), v1, wasmprep.ErrInvalid, "local.get"},
		{"unknown function", body(0x10, 99), v1, wasmprep.ErrInvalid, "call"},
		{"immutable global", body(0x41, 0, 0x24, 0), v1, wasmprep.ErrInvalid, "global.set"},
		{"else without if", body(0x02, 0x40, 0x05, 0x0b), v1, wasmprep.ErrInvalid, "else"},
		{"if without else yields", body(0x41, 0, 0x04, i32, 0x41, 0, 0x0b, 0x1a), v1, wasmprep.ErrInvalid, "end"},
		{"too much alignment", body(0x41, 0, 0x28, 3, 0, 0x1a), v1, wasmprep.ErrInvalid, "i32.load"},
		{"nested dead code underflow", body(0x00, 0x02, 0x40, 0x6a, 0x1a, 0x0b), v1, wasmprep.ErrInvalid, "i32.add"},
		{"elements behind the table", build(func(b *wasmtest.Builder) {
			b.Table(2)
			b.Elem(1, b.Func("", nil, nil, nil), 0)
		}), v1, wasmprep.ErrInvalid, ""},
		{"elements at a negative index", build(func(b *wasmtest.Builder) {
			b.Table(2)
			b.Elem(-1, b.Func("", nil, nil, nil))
		}), v1, wasmprep.ErrInvalid, ""},
		{"no elements behind the table", build(func(b *wasmtest.Builder) {
			b.Table(2)
			b.Elem(3)
		}), v1, wasmprep.ErrInvalid, ""},
		{"memory.init without data count", body(0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 8, 0, 0), v1, wasmprep.ErrMalformed, "memory.init"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m, err := wasmprep.Prepare(c.code, c.rules)
			if err == nil {
				t.Fatalf("accepted, want %s", c.kind)
			}
			if m != nil {
				t.Error("a refused module was returned")
			}
			var e *wasmprep.Error
			if !errors.As(err, &e) || !errors.Is(err, c.kind) {
				t.Fatalf("error %v, want %s", err, c.kind)
			}
			if e.Offset < 0 || e.Offset > len(c.code) {
				t.Errorf("offset %d of %d bytes", e.Offset, len(c.code))
			}
			if c.opcode == "" {
				return
			}
			if !e.HasOpcode || wasmprep.OpcodeName(e.Opcode) != c.opcode || e.Func != 1 && e.Func != 0 {
				t.Errorf("error %+v, want opcode %s", e, c.opcode)
			}
			if !strings.Contains(err.Error(), c.opcode) || !strings.Contains(err.Error(), "function") {
				t.Errorf("message %q names neither function nor opcode", err)
			}
			if got := c.code[e.Offset]; e.Opcode < 256 && uint32(got) != e.Opcode {
				t.Errorf("byte at offset %#x is %#x, error says opcode %#x", e.Offset, got, e.Opcode)
			}
		})
	}
}

// TestAccepted are valid modules near the edge of the rules.
func TestAccepted(t *testing.T) {
	cases := []struct {
		name string
		code []byte
	}{
		{"empty module", []byte("\x00asm\x01\x00\x00\x00")},
		{"custom sections", build(func(b *wasmtest.Builder) { b.Custom("name", []byte{0xff}); b.Custom("", nil) })},
		{"dead operands", body(0x00, 0x6a, 0x1a)},
		{"nested to the limit", body([]byte(strings.Repeat("\x02\x40", 16000)), []byte(strings.Repeat("\x0b", 16000)))},
		{"null element", build(func(b *wasmtest.Builder) {
			b.Table(1)
			b.RawElem(cat(4, 0x41, 0, 0x0b, 1, 0xd0, 0x70, 0x0b))
		})},
		{"elements to the end of the table, and none behind them", build(func(b *wasmtest.Builder) {
			b.Table(2)
			b.Elem(1, b.Func("", nil, nil, nil))
			b.Elem(2)
		})},
		{"declared element", build(func(b *wasmtest.Builder) {
			b.Func("", nil, nil, nil)
			b.RawElem(cat(3, 0, 1, 0))
		})},
		{"multi-byte zero table index", build(func(b *wasmtest.Builder) {
			b.Table(1)
			b.Func("f", nil, nil, nil, 0x41, 0, 0x11, 0, 0x80, 0x80, 0x00)
		})},
		{"maximum above the limit", build(func(b *wasmtest.Builder) { b.Memory(1, 65536) })},
	}
	rt := newRuntime(t, true)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := mustPrepare(t, c.code, wasmprep.RulesV1())
			prepared(t, rt, m, 1e6)
			if m.HasMemory && m.MemoryMax > wasmprep.RulesV1().Limits.MemoryPages {
				t.Errorf("memory may grow to %d pages", m.MemoryMax)
			}
		})
	}
}
