package wasmprep

import "fmt"

// ValType is a WebAssembly value type in its binary encoding.
type ValType byte

// The value types that a prepared module can contain.
const (
	I32 ValType = 0x7f
	I64 ValType = 0x7e
	F32 ValType = 0x7d
	F64 ValType = 0x7c
)

// unknown is the polymorphic type of dead code's operands.
const unknown ValType = 0

// String returns the text format's name.
func (t ValType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case unknown:
		return "unknown"
	}
	return fmt.Sprintf("type %#02x", byte(t))
}

// Opcodes that the pass names.
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opDrop         = 0x1a
	opSelect       = 0x1b
	opSelectT      = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opRefNull      = 0xd0
	opRefFunc      = 0xd2
	opPrefix       = 0xfc

	opI64LtS    = 0x53
	opF32Ne     = 0x5c
	opF64Ne     = 0x62
	opI64Add    = 0x7c
	opI64Sub    = 0x7d
	opI64Mul    = 0x7e
	opI64Or     = 0x84
	opI64ShrU   = 0x88
	opI64ExtI32 = 0xad

	subTruncSatLast = 7
	subMemoryInit   = 8
	subDataDrop     = 9
	subMemoryCopy   = 10
	subMemoryFill   = 11
	subTableInit    = 12
	subTableFill    = 17
)

// class groups opcodes by how the walker treats them.
type class byte

const (
	clsIllegal  class = iota // not an opcode
	clsSimple                // no immediate, typed by its signature
	clsMemory                // memarg immediate, typed by its signature
	clsSpecial               // handled by name in the walker
	clsRefused               // a known feature outside the rules; see refusal
	clsPrefixed              // 0xfc: sub-opcode follows
)

// opcode describes one opcode: name, treatment, operand types and result.
type opcode struct {
	name   string
	class  class
	nIn    uint8
	in     [2]ValType // operands, the last one on top of the stack
	out    ValType    // 0: none
	align  uint8      // clsMemory: log2 of the natural alignment
	refuse Kind       // clsRefused
	// canon: the result may be a NaN whose bits the specification leaves open.
	canon bool
	// nanBlind: given a NaN operand on top, the outcome does not depend on
	// that NaN's bits (comparisons, truncations, and the canon operations).
	nanBlind bool
}

// ops is the table of single-byte opcodes. It is never written after init.
var ops = buildOps()

func buildOps() *[256]opcode {
	var t [256]opcode
	vt := map[byte]ValType{'i': I32, 'l': I64, 'f': F32, 'd': F64}
	sig := func(o *opcode, s string) {
		for i := 0; i < len(s) && s[i] != ':'; i++ {
			o.in[o.nIn] = vt[s[i]]
			o.nIn++
		}
		if last := s[len(s)-1]; last != ':' {
			o.out = vt[last]
		}
	}
	// run fills consecutive opcodes with one signature.
	run := func(first byte, s string, names ...string) {
		for i, n := range names {
			o := &t[int(first)+i]
			o.name, o.class = n, clsSimple
			sig(o, s)
		}
	}
	mem := func(first byte, s string, aligns string, names ...string) {
		run(first, s, names...)
		for i := range names {
			o := &t[int(first)+i]
			o.class, o.align = clsMemory, aligns[i]-'0'
		}
	}
	special := func(op byte, name string) { t[op].name, t[op].class = name, clsSpecial }
	refuse := func(k Kind, op byte, name string) {
		t[op].name, t[op].class, t[op].refuse = name, clsRefused, k
	}

	for op, name := range map[byte]string{
		opUnreachable: "unreachable", opNop: "nop", opBlock: "block", opLoop: "loop", opIf: "if", opElse: "else",
		opEnd: "end", opBr: "br", opBrIf: "br_if", opBrTable: "br_table", opReturn: "return", opCall: "call",
		opCallIndirect: "call_indirect", opDrop: "drop", opSelect: "select", opSelectT: "select t",
		opLocalGet: "local.get", opLocalSet: "local.set", opLocalTee: "local.tee", opGlobalGet: "global.get",
		opGlobalSet: "global.set", opMemorySize: "memory.size", opMemoryGrow: "memory.grow",
		opI32Const: "i32.const", opI64Const: "i64.const", opF32Const: "f32.const", opF64Const: "f64.const",
	} {
		special(op, name)
	}
	refuse(ErrExceptions, 0x06, "try")
	refuse(ErrExceptions, 0x07, "catch")
	refuse(ErrExceptions, 0x08, "throw")
	refuse(ErrExceptions, 0x09, "rethrow")
	refuse(ErrExceptions, 0x0a, "throw_ref")
	refuse(ErrTailCall, 0x12, "return_call")
	refuse(ErrTailCall, 0x13, "return_call_indirect")
	refuse(ErrGC, 0x14, "call_ref")
	refuse(ErrTailCall, 0x15, "return_call_ref")
	refuse(ErrExceptions, 0x18, "delegate")
	refuse(ErrExceptions, 0x19, "catch_all")
	refuse(ErrExceptions, 0x1f, "try_table")
	refuse(ErrReferenceTypes, 0x25, "table.get")
	refuse(ErrTableMutation, 0x26, "table.set")
	refuse(ErrReferenceTypes, 0xd0, "ref.null")
	refuse(ErrReferenceTypes, 0xd1, "ref.is_null")
	refuse(ErrReferenceTypes, 0xd2, "ref.func")
	refuse(ErrGC, 0xd3, "ref.eq")
	refuse(ErrGC, 0xd4, "ref.as_non_null")
	refuse(ErrGC, 0xd5, "br_on_null")
	refuse(ErrGC, 0xd6, "br_on_non_null")
	refuse(ErrGC, 0xfb, "gc prefix")
	refuse(ErrSIMD, 0xfd, "simd prefix")
	refuse(ErrThreads, 0xfe, "atomic prefix")
	t[opPrefix] = opcode{name: "0xfc prefix", class: clsPrefixed}

	mem(0x28, "i:i", "2", "i32.load")
	mem(0x29, "i:l", "3", "i64.load")
	mem(0x2a, "i:f", "2", "f32.load")
	mem(0x2b, "i:d", "3", "f64.load")
	mem(0x2c, "i:i", "0011", "i32.load8_s", "i32.load8_u", "i32.load16_s", "i32.load16_u")
	mem(0x30, "i:l", "001122", "i64.load8_s", "i64.load8_u", "i64.load16_s", "i64.load16_u", "i64.load32_s", "i64.load32_u")
	mem(0x36, "ii:", "2", "i32.store")
	mem(0x37, "il:", "3", "i64.store")
	mem(0x38, "if:", "2", "f32.store")
	mem(0x39, "id:", "3", "f64.store")
	mem(0x3a, "ii:", "01", "i32.store8", "i32.store16")
	mem(0x3c, "il:", "012", "i64.store8", "i64.store16", "i64.store32")

	run(0x45, "i:i", "i32.eqz")
	run(0x46, "ii:i", "i32.eq", "i32.ne", "i32.lt_s", "i32.lt_u", "i32.gt_s", "i32.gt_u", "i32.le_s", "i32.le_u", "i32.ge_s", "i32.ge_u")
	run(0x50, "l:i", "i64.eqz")
	run(0x51, "ll:i", "i64.eq", "i64.ne", "i64.lt_s", "i64.lt_u", "i64.gt_s", "i64.gt_u", "i64.le_s", "i64.le_u", "i64.ge_s", "i64.ge_u")
	run(0x5b, "ff:i", "f32.eq", "f32.ne", "f32.lt", "f32.gt", "f32.le", "f32.ge")
	run(0x61, "dd:i", "f64.eq", "f64.ne", "f64.lt", "f64.gt", "f64.le", "f64.ge")
	run(0x67, "i:i", "i32.clz", "i32.ctz", "i32.popcnt")
	run(0x6a, "ii:i", "i32.add", "i32.sub", "i32.mul", "i32.div_s", "i32.div_u", "i32.rem_s", "i32.rem_u", "i32.and", "i32.or", "i32.xor",
		"i32.shl", "i32.shr_s", "i32.shr_u", "i32.rotl", "i32.rotr")
	run(0x79, "l:l", "i64.clz", "i64.ctz", "i64.popcnt")
	run(0x7c, "ll:l", "i64.add", "i64.sub", "i64.mul", "i64.div_s", "i64.div_u", "i64.rem_s", "i64.rem_u", "i64.and", "i64.or", "i64.xor",
		"i64.shl", "i64.shr_s", "i64.shr_u", "i64.rotl", "i64.rotr")
	run(0x8b, "f:f", "f32.abs", "f32.neg", "f32.ceil", "f32.floor", "f32.trunc", "f32.nearest", "f32.sqrt")
	run(0x92, "ff:f", "f32.add", "f32.sub", "f32.mul", "f32.div", "f32.min", "f32.max", "f32.copysign")
	run(0x99, "d:d", "f64.abs", "f64.neg", "f64.ceil", "f64.floor", "f64.trunc", "f64.nearest", "f64.sqrt")
	run(0xa0, "dd:d", "f64.add", "f64.sub", "f64.mul", "f64.div", "f64.min", "f64.max", "f64.copysign")
	run(0xa7, "l:i", "i32.wrap_i64")
	run(0xa8, "f:i", "i32.trunc_f32_s", "i32.trunc_f32_u")
	run(0xaa, "d:i", "i32.trunc_f64_s", "i32.trunc_f64_u")
	run(0xac, "i:l", "i64.extend_i32_s", "i64.extend_i32_u")
	run(0xae, "f:l", "i64.trunc_f32_s", "i64.trunc_f32_u")
	run(0xb0, "d:l", "i64.trunc_f64_s", "i64.trunc_f64_u")
	run(0xb2, "i:f", "f32.convert_i32_s", "f32.convert_i32_u")
	run(0xb4, "l:f", "f32.convert_i64_s", "f32.convert_i64_u")
	run(0xb6, "d:f", "f32.demote_f64")
	run(0xb7, "i:d", "f64.convert_i32_s", "f64.convert_i32_u")
	run(0xb9, "l:d", "f64.convert_i64_s", "f64.convert_i64_u")
	run(0xbb, "f:d", "f64.promote_f32")
	run(0xbc, "f:i", "i32.reinterpret_f32")
	run(0xbd, "d:l", "i64.reinterpret_f64")
	run(0xbe, "i:f", "f32.reinterpret_i32")
	run(0xbf, "l:d", "f64.reinterpret_i64")
	run(0xc0, "i:i", "i32.extend8_s", "i32.extend16_s")
	run(0xc2, "l:l", "i64.extend8_s", "i64.extend16_s", "i64.extend32_s")

	// The operations whose NaN bits the specification leaves open: all that
	// compute a float, but not abs, neg and copysign, which move bits.
	for _, r := range [][2]int{{0x8d, 0x97}, {0x9b, 0xa5}, {0xb6, 0xb6}, {0xbb, 0xbb}} {
		for op := r[0]; op <= r[1]; op++ {
			t[op].canon, t[op].nanBlind = true, true
		}
	}
	for _, r := range [][2]int{{0x5b, 0x66}, {0xa8, 0xab}, {0xae, 0xb1}} {
		for op := r[0]; op <= r[1]; op++ {
			t[op].nanBlind = true
		}
	}
	return &t
}

// prefixNames names the 0xfc opcodes.
var prefixNames = [...]string{
	"i32.trunc_sat_f32_s", "i32.trunc_sat_f32_u", "i32.trunc_sat_f64_s", "i32.trunc_sat_f64_u",
	"i64.trunc_sat_f32_s", "i64.trunc_sat_f32_u", "i64.trunc_sat_f64_s", "i64.trunc_sat_f64_u",
	"memory.init", "data.drop", "memory.copy", "memory.fill",
	"table.init", "elem.drop", "table.copy", "table.grow", "table.size", "table.fill",
}

// opcodeName returns the text format's name of an opcode as Error holds it.
func opcodeName(op uint32) string {
	if op>>8 == opPrefix {
		if i := op & 0xff; int(i) < len(prefixNames) {
			return prefixNames[i]
		}
		return "unknown"
	}
	if op < 256 && ops[op].name != "" {
		return ops[op].name
	}
	return "unknown"
}
