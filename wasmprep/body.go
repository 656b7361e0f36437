package wasmprep

import "math"

// A function body is read once. The walk validates it (the specification's
// algorithm: a stack of operand types and a stack of control frames), divides
// it into charging segments (segment.go) and notes every place where the
// output differs from the input; emit.go then copies the body with those edits.

type editKind uint8

const (
	editCharge editKind = iota // insert segment arg's charge
	editCall                   // replace by a call of function arg
	editReturn                 // replace by br arg
	editCanon32
	editCanon64
	editBulk     // insert the charge by length before memory.fill, copy, init
	editGrow     // the same for memory.grow
	editCheck    // insert a test for exhaustion before a branch to a loop
	editLoopBr   // replace a br to loop arg by one that tests
	editLoopBrIf // the same for br_if
)

type edit struct {
	pos  int // offset in the original module
	skip int // bytes replaced
	kind editKind
	off  bool // not wanted after all
	arg  uint32
}

// frame is a control frame.
type frame struct {
	op      byte
	dead    bool // the rest of the frame is unreachable
	params  []ValType
	results []ValType
	height  int // operands below the frame
	// seg was charged when control entered the frame; noSegment in dead code.
	seg int
	// target is the outermost frame that a branch inside leads to.
	target int
	// own is a loop's segment; edgeAt is the last branch to it.
	own, edgeAt int
}

// labelTypes are the operands that a branch to the frame carries.
func (f *frame) labelTypes() []ValType {
	if f.op == opLoop {
		return f.params
	}
	return f.results
}

// operand is a value on the operand stack: its type in the low byte and above
// it, plus one, the index of the edit that would make a NaN in it canonical.
// That edit is switched on when something consumes the operand that could
// tell one NaN from another.
type operand uint64

func (o operand) typ() ValType { return ValType(o) }

// walker holds one body's state; it is reused for the next.
type walker struct {
	reader
	m         *module
	locals    []ValType
	opds      []operand
	ctrl      []frame
	segs      []segment
	edits     []edit
	backEdges []backEdge
	direct    []uint32 // defined functions called
	indirect  bool
	seg       int // current segment, noSegment in dead code
	at        int // offset of the current instruction
	checkAt   int // offset of the last branch with a test for exhaustion
	op        uint32
	single    [4][1]ValType // backing for one-result block types

	start     int // first instruction
	params    int
	localsAt  int // offset of the local declarations
	maxOpds   int
	maxNest   int
	maxLabels int
	instrs    int
	joins     int // places where control divides or meets
	bulk      bool
	canon     int
}

func newWalker(m *module) *walker {
	w := &walker{m: m}
	w.single = [4][1]ValType{{I32}, {I64}, {F32}, {F64}}
	return w
}

// walk reads the body of function fn of type t.
func (w *walker) walk(fn int, t FuncType, body span) {
	m := w.m
	w.reader = reader{b: m.src, p: body.from, end: body.to, fn: fn}
	w.opds, w.ctrl, w.segs, w.edits = w.opds[:0], w.ctrl[:0], w.segs[:0], w.edits[:0]
	w.backEdges = w.backEdges[:0]
	w.checkAt = 0
	w.maxOpds, w.maxNest, w.maxLabels, w.instrs, w.joins, w.canon = 0, 0, 0, 0, 0, 0
	w.direct, w.indirect = w.direct[:0], false
	w.bulk = false
	w.localDecls(t)
	if w.err != nil {
		return
	}
	w.start = w.p
	w.ctrl = append(w.ctrl, frame{op: opBlock, results: t.Results, target: math.MaxInt, own: noSegment})
	w.segs = append(w.segs, segment{})
	w.seg = 0 // the entry's charge is part of the prologue
	w.ctrl[0].seg = 0
	costs := &m.rules.Costs
	for w.err == nil && len(w.ctrl) > 0 {
		w.at = w.p
		op := w.byte()
		if w.err != nil {
			break
		}
		w.op = uint32(op)
		w.instrs++
		if w.seg != noSegment {
			if m.rules.eachOp {
				w.seg = w.newSegmentAt(w.at, segPlain, w.seg)
			}
			w.segs[w.seg].cost += uint64(costs.Op[op])
		}
		o := &ops[op]
		switch o.class {
		case clsMemory:
			w.memArg(o)
			w.simple(o)
		case clsSimple:
			w.simple(o)
			if o.canon {
				w.mayBeNaN(o.out)
			}
		case clsSpecial:
			w.special(op)
		case clsPrefixed:
			w.prefixed()
		case clsRefused:
			w.failOp(o.refuse, "not part of the rules")
		default:
			w.failOp(ErrMalformed, "illegal opcode")
		}
		if w.err != nil {
			w.err.Offset, w.err.Opcode, w.err.HasOpcode = w.at, w.op, true
			break
		}
		if len(w.opds) > w.maxOpds {
			w.maxOpds = len(w.opds)
			if w.maxOpds > m.rules.Limits.Operands {
				w.failOp(ErrLimit, "%d operands, limit %d", w.maxOpds, m.rules.Limits.Operands)
				w.err.Opcode, w.err.HasOpcode = w.op, true
			}
		}
	}
	if w.err == nil && w.p != w.end {
		w.fail(ErrMalformed, w.p, "%d bytes behind the function's end", w.left())
	}
	w.settle()
}

// compileWork estimates the work of compiling the walked body, in units of
// about a microsecond: compilers' dominator and liveness passes can take time
// in proportion to the square of the basic blocks and to blocks times locals.
func (w *walker) compileWork() int64 {
	joins := int64(w.joins + 2*w.canon)
	return joins*joins/16 + joins*int64(len(w.locals)+1) + int64(w.instrs/4)
}

func (w *walker) localDecls(t FuncType) {
	w.localsAt = w.p
	w.locals = append(w.locals[:0], t.Params...)
	w.params = len(t.Params)
	limit := w.m.rules.Limits.Locals
	groups := w.count(limit, "groups of locals")
	for i := 0; i < groups && w.err == nil; i++ {
		at := w.p
		n := w.u32()
		typ := w.valType()
		if w.err == nil && uint64(n)+uint64(len(w.locals)) > uint64(limit) {
			w.fail(ErrLimit, at, "more than %d locals", limit)
			return
		}
		for ; n > 0; n-- {
			w.locals = append(w.locals, typ)
		}
	}
}

func (w *walker) memArg(o *opcode) {
	align := w.u32()
	w.u32()
	switch {
	case w.err != nil:
	case align >= 0x40 && align < 0x80:
		w.failOp(ErrMultiMemory, "memory index in a memory argument")
	case align > uint32(o.align):
		w.failOp(ErrInvalid, "alignment 2**%d", align)
	case !w.m.hasMem:
		w.failOp(ErrInvalid, "module has no memory")
	}
}

// simple types an instruction by its signature.
func (w *walker) simple(o *opcode) {
	n := len(w.opds)
	if o.nIn == 2 && n-2 >= w.ctrl[len(w.ctrl)-1].height && w.opds[n-1] == operand(o.in[1]) && w.opds[n-2] == operand(o.in[0]) {
		w.opds = w.opds[:n-2] // the common case: right types, nothing pending
	} else {
		for i := int(o.nIn) - 1; i >= 0; i-- {
			if o.nanBlind {
				w.take(o.in[i])
			} else {
				w.pop(o.in[i])
			}
		}
	}
	if o.out != 0 {
		w.push(o.out)
	}
}

// mayBeNaN prepares an edit that makes the result on top canonical, to be
// switched on by pop.
func (w *walker) mayBeNaN(t ValType) {
	kind := editCanon64
	if t == F32 {
		kind = editCanon32
	}
	w.edits = append(w.edits, edit{pos: w.p, kind: kind, off: true})
	w.opds[len(w.opds)-1] |= operand(len(w.edits) << 8)
}

// canonicals tells which types' results are made canonical.
func (w *walker) canonicals() (f32, f64 bool) {
	if w.canon == 0 {
		return
	}
	for i := range w.edits {
		f32 = f32 || w.edits[i].kind == editCanon32 && !w.edits[i].off
		f64 = f64 || w.edits[i].kind == editCanon64 && !w.edits[i].off
	}
	return
}

func (w *walker) special(op byte) {
	switch op {
	case opNop:
	case opUnreachable:
		w.kill()
	case opBlock, opLoop, opIf:
		w.enter(op)
	case opElse:
		w.elseArm()
	case opEnd:
		w.endFrame()
	case opBr:
		if f := w.branch(w.u32()); f != nil {
			w.popAll(f.labelTypes())
			w.kill()
		}
	case opBrIf:
		w.pop(I32)
		f := w.branch(w.u32())
		if f == nil {
			return
		}
		ts := f.labelTypes()
		w.popAll(ts)
		w.pushAll(ts)
		w.joins += 2
		if w.seg != noSegment {
			w.seg = w.newSegment(segArm, w.seg)
		}
	case opBrTable:
		w.brTable()
	case opReturn:
		w.popAll(w.ctrl[0].results)
		w.branch(uint32(len(w.ctrl) - 1))
		w.edits = append(w.edits, edit{pos: w.at, skip: 1, kind: editReturn, arg: uint32(len(w.ctrl) - 1)})
		w.kill()
	case opCall:
		f := w.m.funcIndex(&w.reader)
		if w.err != nil {
			return
		}
		if own := int(f) - len(w.m.imports); own >= 0 {
			w.direct = append(w.direct, uint32(own))
		}
		w.edits = append(w.edits, edit{pos: w.at, skip: w.p - w.at, kind: editCall, arg: w.m.newFunc(f)})
		w.apply(w.m.types[w.m.funcs[f]])
	case opCallIndirect:
		t := w.m.typeIndex(&w.reader)
		if tab := w.u32(); w.err == nil && tab != 0 {
			w.failOp(ErrMultiTable, "table %d", tab)
		} else if w.err == nil && !w.m.hasTab {
			w.failOp(ErrInvalid, "module has no table")
		}
		if w.err != nil {
			return
		}
		w.indirect = true
		w.pop(I32)
		w.apply(w.m.types[t])
	case opDrop:
		w.take(unknown)
	case opSelect:
		w.pop(I32)
		a := w.pop(unknown)
		b := w.pop(unknown)
		if a != b && a != unknown && b != unknown {
			w.failOp(ErrInvalid, "select between %s and %s", b, a)
		}
		if a == unknown {
			a = b
		}
		w.push(a)
	case opSelectT:
		if n := w.u32(); w.err == nil && n != 1 {
			w.failOp(ErrInvalid, "select of %d types", n)
		}
		t := w.valType()
		w.pop(I32)
		w.pop(t)
		w.pop(t)
		w.push(t)
	case opLocalGet:
		w.push(w.local())
	case opLocalSet:
		w.pop(w.local())
	case opLocalTee:
		t := w.local()
		w.pop(t)
		w.push(t)
	case opGlobalGet, opGlobalSet:
		i := w.u32()
		if w.err != nil {
			return
		}
		if uint64(i) >= uint64(len(w.m.globals)) {
			w.failOp(ErrInvalid, "global %d of %d", i, len(w.m.globals))
			return
		}
		g := &w.m.globals[i]
		if op == opGlobalGet {
			w.push(g.typ)
			return
		}
		if !g.mutable {
			w.failOp(ErrInvalid, "global %d is immutable", i)
		}
		w.pop(g.typ)
	case opMemorySize, opMemoryGrow:
		w.memIndex()
		if op == opMemoryGrow {
			w.pop(I32)
			w.bulk = true
			w.joins += 2
			w.edits = append(w.edits, edit{pos: w.at, kind: editGrow})
		}
		w.push(I32)
	case opI32Const:
		if w.p < w.end && w.b[w.p] < 0x80 {
			w.p++
		} else {
			w.signed(32)
		}
		w.push(I32)
	case opI64Const:
		if w.p < w.end && w.b[w.p] < 0x80 {
			w.p++
		} else {
			w.signed(64)
		}
		w.push(I64)
	case opF32Const:
		w.bytes(4)
		w.push(F32)
	case opF64Const:
		w.bytes(8)
		w.push(F64)
	}
}

func (w *walker) apply(t FuncType) {
	w.popAll(t.Params)
	w.pushAll(t.Results)
}

// local reads a local's index and returns its type.
func (w *walker) local() ValType {
	i := w.u32()
	if uint64(i) >= uint64(len(w.locals)) {
		w.failOp(ErrInvalid, "local %d of %d", i, len(w.locals))
		return I32
	}
	return w.locals[i]
}

func (w *walker) memIndex() {
	if mem := w.byte(); w.err == nil && mem != 0 {
		w.failOp(ErrMultiMemory, "memory index %d", mem)
	} else if w.err == nil && !w.m.hasMem {
		w.failOp(ErrInvalid, "module has no memory")
	}
}

func (w *walker) elseArm() {
	f := w.leave()
	if w.err != nil {
		return
	}
	if f.op != opIf {
		w.failOp(ErrInvalid, "else without if")
		return
	}
	f.op, f.dead = opElse, false
	w.ctrl = append(w.ctrl, f)
	w.pushAll(f.params)
	w.seg = noSegment
	if f.seg != noSegment {
		w.seg = w.newSegment(segArm, f.seg)
	}
}

func (w *walker) endFrame() {
	f := w.leave()
	if w.err != nil {
		return
	}
	if f.op == opIf && !sameTypes(f.params, f.results) {
		w.failOp(ErrInvalid, "if without else changes the operands")
		return
	}
	i := len(w.ctrl) // the closed frame's index
	if i == 0 {
		return
	}
	w.pushAll(f.results)
	parent := &w.ctrl[i-1]
	if f.target < i {
		parent.target = min(parent.target, f.target)
	}
	w.seg = f.seg
	if w.seg != noSegment && f.target < i {
		w.seg = w.newSegment(segPlain, f.seg)
	}
}

func sameTypes(a, b []ValType) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (w *walker) brTable() {
	w.pop(I32)
	n := w.count(w.m.rules.Limits.BrTableLabels, "labels")
	if w.err != nil {
		return
	}
	w.maxLabels = max(w.maxLabels, n)
	w.joins += n
	var first []ValType
	arity := -1
	for i := 0; i <= n && w.err == nil; i++ {
		label := w.u32()
		if w.err != nil {
			return
		}
		f := w.branch(label)
		if f == nil {
			return
		}
		ts := f.labelTypes()
		if arity >= 0 && len(ts) != arity {
			w.failOp(ErrInvalid, "labels of different arity")
			return
		}
		if arity < 0 || !sameTypes(first, ts) {
			// In dead code the operands may be of unknown type and labels of
			// different types can coexist: test each against the stack.
			first, arity = ts, len(ts)
			w.peekAll(ts)
		}
	}
	if w.err == nil {
		w.popAll(first)
		w.kill()
	}
}

// peekAll checks the operands without consuming them.
func (w *walker) peekAll(ts []ValType) {
	h := w.ctrl[len(w.ctrl)-1]
	for i := range ts {
		want := ts[len(ts)-1-i]
		at := len(w.opds) - 1 - i
		if at < h.height {
			if !h.dead {
				w.failOp(ErrInvalid, "operand stack is empty, want %s", want)
			}
			return
		}
		if got := w.opds[at].typ(); got != want && got != unknown {
			w.failOp(ErrInvalid, "operand is %s, want %s", got, want)
			return
		}
	}
}

func (w *walker) prefixed() {
	sub := w.u32()
	if w.err != nil {
		return
	}
	w.op = opPrefix<<8 | min(sub, 0xff)
	if sub >= uint32(len(prefixNames)) {
		w.failOp(ErrMalformed, "illegal opcode")
		return
	}
	if w.seg != noSegment {
		w.segs[w.seg].cost += uint64(w.m.rules.Costs.Prefixed[sub])
	}
	switch {
	case sub <= subTruncSatLast:
		from, to := F32, I32
		if sub&2 != 0 {
			from = F64
		}
		if sub&4 != 0 {
			to = I64
		}
		w.take(from)
		w.push(to)
		return
	case sub == subDataDrop:
		w.failOp(ErrDataDrop, "not part of the rules")
		return
	case sub == 16:
		w.failOp(ErrReferenceTypes, "not part of the rules")
		return
	case sub >= subTableInit && sub <= subTableFill:
		w.failOp(ErrTableMutation, "not part of the rules")
		return
	}
	at := w.at
	if sub == subMemoryInit {
		seg := w.u32()
		switch {
		case w.err != nil:
		case w.m.dataCnt < 0:
			w.failOp(ErrMalformed, "no data count section")
		case uint64(seg) >= uint64(w.m.dataCnt):
			w.failOp(ErrInvalid, "data segment %d of %d", seg, w.m.dataCnt)
		}
	}
	w.memIndex()
	if sub == subMemoryCopy {
		w.memIndex()
	}
	w.pop(I32)
	w.pop(I32)
	w.pop(I32)
	w.bulk = true
	w.joins += 2
	w.edits = append(w.edits, edit{pos: at, kind: editBulk})
}
