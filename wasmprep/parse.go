package wasmprep

import (
	"fmt"
	"strings"
)

// Section identifiers.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

// sectionOrder is each section's place in the required order.
var sectionOrder = [...]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secTag: 6, secGlobal: 7,
	secExport: 8, secStart: 9, secElement: 10, secDataCount: 11, secCode: 12, secData: 13}

// External kinds of imports and exports.
const (
	extFunc = iota
	extTable
	extMemory
	extGlobal
	extTag
)

type rawExport struct {
	name string
	kind byte
	idx  uint32
}

type rawGlobal struct {
	typ     ValType
	mutable bool
	init    []byte
}

// span is a range of the original module.
type span struct{ from, to int }

// dataSegment is a data segment; at is where an active one goes.
type dataSegment struct {
	passive bool
	at      uint32
	bytes   []byte
}

// module is what the pass knows about its input.
type module struct {
	rules    *Rules
	src      []byte
	types    []FuncType
	typeRaw  []span // each type's bytes, to be copied
	imports  []Import
	impType  []uint32
	funcs    []uint32 // type index of every function, imports first
	hasTab   bool
	tabMin   uint32
	tabMax   uint32
	tabLim   bool // tabMax is given
	hasMem   bool
	memMin   uint32
	memMax   uint32
	globals  []rawGlobal
	exports  []rawExport
	start    int // function index or -1
	elements int
	elems    []byte
	nElems   int
	bodies   []span
	dataCnt  int // data count section's value, -1 without
	datas    []dataSegment
}

// parse reads every section but the function bodies' insides.
func parse(code []byte, rules *Rules) (*module, *Error) {
	m := &module{rules: rules, src: code, start: -1, dataCnt: -1}
	r := &reader{b: code, end: len(code), fn: -1}
	if len(code) > rules.Limits.ModuleBytes {
		r.fail(ErrLimit, 0, "module of %d bytes, limit %d", len(code), rules.Limits.ModuleBytes)
		return nil, r.err
	}
	if h := r.bytes(8); r.err == nil && string(h) != "\x00asm\x01\x00\x00\x00" {
		r.fail(ErrMalformed, 0, "not a WebAssembly 1 module")
	}
	last := 0
	for r.err == nil && r.p < r.end {
		at := r.p
		id := r.byte()
		size := r.u32()
		if r.err != nil {
			break
		}
		if int64(size) > int64(r.left()) {
			r.fail(ErrMalformed, at, "section %d of %d bytes, %d left", id, size, r.left())
			break
		}
		s := &reader{b: code, p: r.p, end: r.p + int(size), fn: -1}
		r.p = s.end
		if id == secCustom {
			s.name(int(size))
			if s.err != nil {
				return nil, s.err
			}
			continue // dropped: names and debug data have no meaning on chain
		}
		if id == secTag {
			s.fail(ErrExceptions, at, "tag section")
		} else if int(id) >= len(sectionOrder) {
			s.fail(ErrMalformed, at, "unknown section %d", id)
		} else if o := sectionOrder[id]; o <= last {
			s.fail(ErrMalformed, at, "section %d repeated or out of order", id)
		} else {
			last = o
			m.section(s, id)
		}
		if s.err == nil && s.p != s.end {
			s.fail(ErrMalformed, s.p, "%d bytes left in section %d", s.left(), id)
		}
		if s.err != nil {
			return nil, s.err
		}
	}
	if r.err == nil && len(m.bodies) != len(m.funcs)-len(m.imports) {
		r.fail(ErrMalformed, len(code), "%d functions, %d bodies", len(m.funcs)-len(m.imports), len(m.bodies))
	}
	if r.err == nil && m.dataCnt >= 0 && m.dataCnt != len(m.datas) {
		r.fail(ErrMalformed, len(code), "data count section says %d, %d segments", m.dataCnt, len(m.datas))
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

func (m *module) section(r *reader, id byte) {
	switch id {
	case secType:
		m.typeSection(r)
	case secImport:
		m.importSection(r)
	case secFunction:
		n := r.count(m.rules.Limits.Functions, "functions")
		for i := 0; i < n && r.err == nil; i++ {
			m.funcs = append(m.funcs, m.typeIndex(r))
		}
	case secTable:
		m.tableSection(r)
	case secMemory:
		m.memorySection(r)
	case secGlobal:
		m.globalSection(r)
	case secExport:
		m.exportSection(r)
	case secStart:
		at := r.p
		f := m.funcIndex(r)
		if r.err == nil && !m.types[m.funcs[f]].Equal(FuncType{}) {
			r.fail(ErrInvalid, at, "start function takes or returns values")
		}
		if r.err == nil && int(f) < len(m.imports) {
			r.fail(ErrUnknownImport, at, "start function is an import")
		}
		m.start = int(f)
	case secElement:
		m.elementSection(r)
	case secCode:
		n := r.count(m.rules.Limits.Functions, "function bodies")
		if want := len(m.funcs) - len(m.imports); r.err == nil && n != want {
			r.fail(ErrMalformed, r.p, "%d bodies for %d functions", n, want)
		}
		m.bodies = make([]span, 0, n)
		for i := 0; i < n && r.err == nil; i++ {
			size := r.u32()
			if int64(size) > int64(m.rules.Limits.BodyBytes) {
				r.fn = len(m.imports) + i
				r.fail(ErrLimit, r.p, "body of %d bytes, limit %d", size, m.rules.Limits.BodyBytes)
			}
			from := r.p
			r.bytes(int(size))
			m.bodies = append(m.bodies, span{from, r.p})
		}
	case secDataCount:
		m.dataCnt = r.count0(m.rules.Limits.DataSegments, "data segments")
	case secData:
		m.dataSection(r)
	}
}

// count0 is count for a number whose elements follow elsewhere.
func (r *reader) count0(limit int, what string) int {
	at := r.p
	n := r.u32()
	if r.err == nil && uint64(n) > uint64(limit) {
		r.fail(ErrLimit, at, "%d %s, limit %d", n, what, limit)
		return 0
	}
	return int(n)
}

// valType reads a value type that a prepared module may contain.
func (r *reader) valType() ValType {
	at := r.p
	t := r.byte()
	r.checkValType(at, t)
	return ValType(t)
}

func (r *reader) checkValType(at int, t byte) {
	switch t {
	case byte(I32), byte(I64), byte(F32), byte(F64):
	case 0x7b:
		r.fail(ErrSIMD, at, "v128 type")
	case 0x70, 0x6f:
		r.fail(ErrReferenceTypes, at, "reference type as a value")
	case 0x69:
		r.fail(ErrExceptions, at, "exnref type")
	case 0x63, 0x64, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x71, 0x72, 0x73:
		r.fail(ErrGC, at, "typed reference %#02x", t)
	default:
		r.fail(ErrMalformed, at, "unknown value type %#02x", t)
	}
}

func (r *reader) valTypes(limit int, what string) []ValType {
	n := r.count(limit, what)
	if n == 0 {
		return nil
	}
	ts := make([]ValType, n)
	for i := range ts {
		ts[i] = r.valType()
		if r.err != nil {
			return nil
		}
	}
	return ts
}

func (m *module) typeSection(r *reader) {
	n := r.count(m.rules.Limits.Types, "types")
	for i := 0; i < n && r.err == nil; i++ {
		at := r.p
		switch form := r.byte(); form {
		case 0x60:
		case 0x4e, 0x4f, 0x50, 0x5e, 0x5f:
			r.fail(ErrGC, at, "type form %#02x", form)
		default:
			r.fail(ErrMalformed, at, "type form %#02x", form)
		}
		t := FuncType{Params: r.valTypes(m.rules.Limits.Params, "parameters")}
		t.Results = r.valTypes(m.rules.Limits.Results, "results")
		m.types = append(m.types, t)
		m.typeRaw = append(m.typeRaw, span{at, r.p})
	}
}

func (m *module) typeIndex(r *reader) uint32 {
	at := r.p
	t := r.u32()
	if r.err == nil && uint64(t) >= uint64(len(m.types)) {
		r.fail(ErrInvalid, at, "type %d of %d", t, len(m.types))
		return 0
	}
	return t
}

func (m *module) funcIndex(r *reader) uint32 {
	at := r.p
	f := r.u32()
	if r.err == nil && uint64(f) >= uint64(len(m.funcs)) {
		r.fail(ErrInvalid, at, "function %d of %d", f, len(m.funcs))
		return 0
	}
	return f
}

func (m *module) importSection(r *reader) {
	n := r.count(m.rules.Limits.Imports, "imports")
	for i := 0; i < n && r.err == nil; i++ {
		at := r.p
		key := ImportKey{r.name(m.rules.Limits.NameBytes), r.name(m.rules.Limits.NameBytes)}
		kind := r.byte()
		if r.err != nil {
			return
		}
		what := [...]string{"function", "table", "memory", "global", "tag"}
		switch {
		case kind > extTag:
			r.fail(ErrMalformed, at, "import of kind %d", kind)
		case key.Module == GasModule:
			r.fail(ErrReservedName, at, "import of %s.%s", key.Module, key.Name)
		case kind == extTag:
			r.fail(ErrExceptions, at, "imported tag")
		case kind != extFunc:
			r.fail(ErrUnknownImport, at, "import of %s %s.%s: only functions can be imported", what[kind], key.Module, key.Name)
		}
		t := m.typeIndex(r)
		if r.err != nil {
			return
		}
		want, ok := m.rules.Imports[key]
		if !ok {
			r.fail(ErrUnknownImport, at, "function %s.%s", key.Module, key.Name)
		} else if !want.Equal(m.types[t]) {
			r.fail(ErrImportType, at, "function %s.%s is %s, the host offers %s", key.Module, key.Name, m.types[t], want)
		}
		m.imports = append(m.imports, Import{key, m.types[t]})
		m.impType = append(m.impType, t)
		m.funcs = append(m.funcs, t)
	}
}

// String writes the signature as (i32, i64) -> (i32).
func (t FuncType) String() string {
	list := func(ts []ValType) string {
		s := make([]string, len(ts))
		for i, t := range ts {
			s[i] = t.String()
		}
		return "(" + strings.Join(s, ", ") + ")"
	}
	return fmt.Sprintf("%s -> %s", list(t.Params), list(t.Results))
}

// limits reads a table's or memory's limits.
func (r *reader) limits(memory bool) (lo, hi uint32, hasHi bool) {
	at := r.p
	switch flag := r.byte(); {
	case r.err != nil:
	case flag == 0, flag == 1:
		hasHi = flag == 1
	case memory && (flag == 2 || flag == 3):
		r.fail(ErrThreads, at, "shared memory")
	case flag >= 4 && flag <= 7:
		r.fail(ErrMemory64, at, "64-bit limits")
	default:
		r.fail(ErrMalformed, at, "limits flag %#x", flag)
	}
	lo = r.u32()
	if hasHi {
		hi = r.u32()
		if r.err == nil && hi < lo {
			r.fail(ErrInvalid, at, "maximum %d below minimum %d", hi, lo)
		}
	}
	return lo, hi, hasHi
}

func (m *module) tableSection(r *reader) {
	at := r.p
	n := r.count(1<<30, "tables")
	if n > 1 {
		r.fail(ErrMultiTable, at, "%d tables", n)
	}
	if n == 0 || r.err != nil {
		return
	}
	at = r.p
	switch t := r.byte(); t {
	case 0x70:
	case 0x6f:
		r.fail(ErrReferenceTypes, at, "table of external references")
	case 0x40, 0x63, 0x64:
		r.fail(ErrGC, at, "table of typed references")
	default:
		r.fail(ErrMalformed, at, "table of type %#02x", t)
	}
	m.hasTab = true
	m.tabMin, m.tabMax, m.tabLim = r.limits(false)
	if r.err == nil && uint64(m.tabMin) > uint64(m.rules.Limits.TableEntries) {
		r.fail(ErrLimit, at, "table of %d entries, limit %d", m.tabMin, m.rules.Limits.TableEntries)
	}
}

func (m *module) memorySection(r *reader) {
	at := r.p
	n := r.count(1<<30, "memories")
	if n > 1 {
		r.fail(ErrMultiMemory, at, "%d memories", n)
	}
	if n == 0 || r.err != nil {
		return
	}
	lo, hi, hasHi := r.limits(true)
	if !hasHi {
		hi = 65536
	}
	lim := m.rules.Limits.MemoryPages
	switch {
	case r.err != nil:
	case lo > 65536 || hi > 65536:
		r.fail(ErrInvalid, at, "memory of %d..%d pages", lo, hi)
	case lo > lim:
		r.fail(ErrLimit, at, "memory of %d pages, limit %d", lo, lim)
	}
	m.hasMem, m.memMin, m.memMax = true, lo, min(hi, lim)
}

// constExpr reads a constant expression of type want and returns its bytes.
func (m *module) constExpr(r *reader, want ValType) []byte {
	at := r.p
	op := r.byte()
	var got ValType
	switch op {
	case opI32Const:
		got = I32
		r.signed(32)
	case opI64Const:
		got = I64
		r.signed(64)
	case opF32Const:
		got = F32
		r.bytes(4)
	case opF64Const:
		got = F64
		r.bytes(8)
	case opGlobalGet:
		// Only imported globals may be named here, and there are none.
		r.fail(ErrInvalid, at, "constant expression reads a global that is not imported")
	case opEnd:
		r.fail(ErrInvalid, at, "empty constant expression")
	case 0xd0, 0xd2:
		r.fail(ErrReferenceTypes, at, "reference in a constant expression")
	case 0xfd:
		r.fail(ErrSIMD, at, "vector in a constant expression")
	default:
		r.fail(ErrInvalid, at, "opcode %#02x in a constant expression", op)
	}
	if r.err == nil && got != want {
		r.fail(ErrInvalid, at, "constant expression is %s, want %s", got, want)
	}
	m.constEnd(r)
	return r.b[at:r.p]
}

// constEnd reads the end of a constant expression.
func (m *module) constEnd(r *reader) {
	at := r.p
	switch op := r.byte(); {
	case r.err != nil || op == opEnd:
	case op >= opI32Const && op <= opF64Const, op == opGlobalGet, op == 0x6a, op == 0x6b, op == 0x6c, op == 0x7c, op == 0x7d, op == 0x7e:
		r.fail(ErrExtendedConst, at, "constant expression of several instructions")
	default:
		r.fail(ErrInvalid, at, "opcode %#02x in a constant expression", op)
	}
}

func (m *module) globalSection(r *reader) {
	n := r.count(m.rules.Limits.Globals, "globals")
	for i := 0; i < n && r.err == nil; i++ {
		g := rawGlobal{typ: r.valType()}
		at := r.p
		switch mut := r.byte(); {
		case r.err != nil:
		case mut > 1:
			r.fail(ErrMalformed, at, "mutability %d", mut)
		default:
			g.mutable = mut == 1
		}
		g.init = m.constExpr(r, g.typ)
		m.globals = append(m.globals, g)
	}
}

func (m *module) exportSection(r *reader) {
	n := r.count(m.rules.Limits.Exports, "exports")
	seen := make(map[string]bool, n)
	for i := 0; i < n && r.err == nil; i++ {
		at := r.p
		e := rawExport{name: r.name(m.rules.Limits.NameBytes), kind: r.byte()}
		e.idx = r.u32()
		if r.err != nil {
			return
		}
		bound := 0
		switch e.kind {
		case extFunc:
			bound = len(m.funcs)
		case extTable:
			if m.hasTab {
				bound = 1
			}
		case extMemory:
			if m.hasMem {
				bound = 1
			}
		case extGlobal:
			bound = len(m.globals)
		case extTag:
			r.fail(ErrExceptions, at, "exported tag")
		default:
			r.fail(ErrMalformed, at, "export of kind %d", e.kind)
		}
		switch {
		case uint64(e.idx) >= uint64(bound):
			r.fail(ErrInvalid, at, "export %q: index %d of %d", e.name, e.idx, bound)
		case seen[e.name]:
			r.fail(ErrInvalid, at, "export %q repeated", e.name)
		case strings.HasPrefix(e.name, ReservedPrefix):
			r.fail(ErrReservedName, at, "export %q", e.name)
		}
		seen[e.name] = true
		m.exports = append(m.exports, e)
	}
}

// elementSection validates the segments and re-encodes them with shifted
// function indices into m.elems.
func (m *module) elementSection(r *reader) {
	n := r.count(m.rules.Limits.Elements, "element segments")
	out := appendU32(nil, uint32(n))
	total := 0
	for i := 0; i < n && r.err == nil; i++ {
		at := r.p
		flag := r.u32()
		if flag > 7 {
			r.fail(ErrMalformed, at, "element segment flag %d", flag)
		}
		out = appendU32(out, flag)
		passive, exprs, offset := flag&1 != 0, flag&4 != 0, uint32(0)
		if !passive {
			if flag&2 != 0 {
				if t := r.u32(); t != 0 && r.err == nil {
					r.fail(ErrMultiTable, at, "element segment for table %d", t)
				}
				out = append(out, 0)
			}
			if r.err == nil && !m.hasTab {
				r.fail(ErrInvalid, at, "element segment without a table")
			}
			e := m.constExpr(r, I32)
			if r.err == nil {
				c := reader{b: e, p: 1, end: len(e), fn: -1}
				offset = uint32(c.signed(32))
			}
			out = append(out, e...)
		}
		if flag&3 != 0 { // element kind or reference type
			p, k := r.p, r.byte()
			switch {
			case r.err != nil:
			case exprs && k == 0x6f:
				r.fail(ErrReferenceTypes, p, "element segment of external references")
			case exprs && k != 0x70:
				r.fail(ErrGC, p, "element segment of type %#02x", k)
			case !exprs && k != 0:
				r.fail(ErrMalformed, p, "element kind %#02x", k)
			}
			out = append(out, k)
		}
		cnt := r.count(m.rules.Limits.Elements-total, "element entries")
		total += cnt
		// Instantiating it would trap. wazero leaves it and the segments behind it out
		// instead, which another engine would not.
		if !passive && r.err == nil && uint64(offset)+uint64(cnt) > uint64(m.tabMin) {
			r.fail(ErrInvalid, at, "%d elements at %d, out of bounds of a table of %d", cnt, offset, m.tabMin)
		}
		out = appendU32(out, uint32(cnt))
		for j := 0; j < cnt && r.err == nil; j++ {
			if !exprs {
				out = appendU32(out, m.newFunc(m.funcIndex(r)))
				continue
			}
			p := r.p
			switch op := r.byte(); op {
			case opRefFunc:
				out = appendU32(append(out, op), m.newFunc(m.funcIndex(r)))
			case opRefNull:
				if t := r.byte(); r.err == nil && t != 0x70 {
					r.fail(ErrInvalid, p, "null of another type")
				}
				out = append(out, op, 0x70)
			default:
				r.fail(ErrInvalid, p, "opcode %#02x in an element expression", op)
			}
			m.constEnd(r)
			out = append(out, opEnd)
		}
	}
	m.elems, m.nElems, m.elements = out, n, total
}

// newFunc maps a function index to the output: the refill import comes last
// among the imports, so defined functions move up by one.
func (m *module) newFunc(f uint32) uint32 {
	if int(f) < len(m.imports) {
		return f
	}
	return f + 1
}

func (m *module) dataSection(r *reader) {
	n := r.count(m.rules.Limits.DataSegments, "data segments")
	m.datas = make([]dataSegment, 0, n)
	for i := 0; i < n && r.err == nil; i++ {
		at := r.p
		flag := r.u32()
		switch {
		case r.err != nil:
		case flag > 2:
			r.fail(ErrMalformed, at, "data segment flag %d", flag)
		case flag == 2:
			if mem := r.u32(); mem != 0 && r.err == nil {
				r.fail(ErrMultiMemory, at, "data segment for memory %d", mem)
			}
		}
		seg := dataSegment{passive: flag == 1}
		if !seg.passive {
			if r.err == nil && !m.hasMem {
				r.fail(ErrInvalid, at, "data segment without a memory")
			}
			if e := m.constExpr(r, I32); r.err == nil {
				c := reader{b: e, p: 1, end: len(e), fn: -1}
				seg.at = uint32(c.signed(32))
			}
		}
		seg.bytes = r.bytes(int(r.u32()))
		m.datas = append(m.datas, seg)
	}
}
