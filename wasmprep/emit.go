package wasmprep

// emitter writes the instrumented module.
type emitter struct {
	m          *module
	out        []byte
	mid        []byte // rewritten bodies without their guards
	guard      []byte // scratch
	gas, depth uint32 // global indices
	refill     uint32 // function index
	// blockTypes maps the type of a function with several results to the
	// type () -> results.
	blockTypes map[uint32]uint32
}

// bodyParts locates a function's rewritten body in emitter.mid: the locals
// and the entry charge, then the instructions. Whether the function is guarded
// is known only when all have been read; the guard goes in between and behind.
type bodyParts struct{ from, code, to int }

// function rewrites the body that w has walked.
func (e *emitter) function(w *walker, body span) (p bodyParts, charges int) {
	c := &e.m.rules.Costs
	b := e.mid
	src := e.m.src
	p.from = len(b)

	// Scratch locals follow the guest's own.
	use32, use64 := w.canonicals()
	next, extra := uint32(len(w.locals)), uint32(0)
	var decl []byte
	scratch := func(used bool, t ValType) uint32 {
		if !used {
			return 0
		}
		extra++
		decl = append(decl, 1, byte(t))
		next++
		return next - 1
	}
	t32, t64, tLen := scratch(use32, F32), scratch(use64, F64), scratch(w.bulk, I32)
	r := reader{b: src, p: w.localsAt, end: w.start, fn: -1}
	b = appendU32(b, r.u32()+extra)
	b = append(b, src[r.p:w.start]...)
	b = append(b, decl...)
	b = e.charge(b, w.entryCost())
	charges++

	p.code = len(b)
	from := w.start
	for i := range w.edits {
		d := &w.edits[i]
		if d.off {
			continue
		}
		b = append(b, src[from:d.pos]...)
		from = d.pos + d.skip
		switch d.kind {
		case editCharge:
			if cost := w.segs[d.arg].cost; cost > 0 {
				b = e.charge(b, cost)
				charges++
			}
		case editCall:
			b = appendU32(append(b, opCall), d.arg)
		case editReturn:
			// A branch to the outermost label returns, and in a guarded
			// function leads to the epilogue.
			b = appendU32(append(b, opBr), d.arg)
		case editCanon32:
			b = canonical(b, t32, opF32Ne, opF32Const, 0, 0, 0xc0, 0x7f)
		case editCanon64:
			b = canonical(b, t64, opF64Ne, opF64Const, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f)
		case editCheck:
			b = e.refillIfNegative(e.get(b, e.gas))
		case editLoopBr:
			b = e.loopBranch(b, d.arg)
		case editLoopBrIf:
			b = append(b, opIf, 0x40)
			b = append(e.loopBranch(b, d.arg+1), opEnd)
		case editBulk:
			b = e.length(b, tLen, opI64ShrU, int64(c.BulkShift))
			charges++
		case editGrow:
			b = e.length(b, tLen, opI64Mul, int64(c.GrowPage))
			charges++
		}
	}
	e.mid = append(b, src[from:body.to]...)
	p.to = len(e.mid)
	return p, charges
}

// finish appends a rewritten body to the output, guarded if need be: the
// frame is taken from the depth budget and both counters are tested; a block
// around the code makes every way out but a trap pass the epilogue, where a
// function that is not cheap tests the gas again.
func (e *emitter) finish(p bodyParts, sum *summary, typeIdx uint32) {
	var pre, post []byte
	if sum.guarded {
		units := sum.frame + sum.below
		pre = e.addDepth(e.guard[:0], opI64Sub, units)
		pre = append(e.get(e.get(pre, e.gas), e.depth), opI64Or)
		pre = e.refillIfNegative(pre)
		pre = e.blockType(append(pre, opBlock), typeIdx)
		n := len(pre)
		e.guard = e.addDepth(pre, opI64Add, units)
		if sum.total > e.m.rules.Costs.Unguarded {
			// Its callers go on untested, and where calls are deep they are many.
			e.guard = e.refillIfNegative(e.get(e.guard, e.gas))
		}
		e.guard = append(e.guard, opEnd)
		pre, post = e.guard[:n], e.guard[n:]
	}
	e.out = appendU32(e.out, uint32(p.to-p.from+len(pre)+len(post)))
	e.out = append(e.out, e.mid[p.from:p.code]...)
	e.out = append(e.out, pre...)
	e.out = append(e.out, e.mid[p.code:p.to]...)
	e.out = append(e.out, post...)
}

func (e *emitter) get(b []byte, global uint32) []byte {
	return appendU32(append(b, opGlobalGet), global)
}

// charge takes a constant amount of gas.
func (e *emitter) charge(b []byte, cost uint64) []byte {
	b = e.get(b, e.gas)
	b = appendS64(append(b, opI64Const), int64(cost))
	b = append(b, opI64Sub)
	return appendU32(append(b, opGlobalSet), e.gas)
}

func (e *emitter) addDepth(b []byte, op byte, units int64) []byte {
	b = e.get(b, e.depth)
	b = appendS64(append(b, opI64Const), units)
	b = append(b, op)
	return appendU32(append(b, opGlobalSet), e.depth)
}

// refillIfNegative calls the host when the i64 on top is negative.
func (e *emitter) refillIfNegative(b []byte) []byte {
	b = append(b, opI64Const, 0, opI64LtS, opIf, 0x40, opCall)
	return append(appendU32(b, e.refill), opEnd)
}

// canonical replaces the float on top by the given constant if it is a NaN.
func canonical(b []byte, tmp uint32, ne byte, constant ...byte) []byte {
	b = appendU32(append(b, opLocalTee), tmp)
	b = appendU32(append(b, opLocalGet), tmp)
	b = append(b, ne, opIf, 0x40)
	b = appendU32(append(append(b, constant...), opLocalSet), tmp)
	return appendU32(append(b, opEnd, opLocalGet), tmp)
}

// loopBranch branches to a loop, calling the host first when the gas is
// negative. It is laid out so that the usual way has no join behind the rare
// call, across which a compiler would have to keep its registers.
func (e *emitter) loopBranch(b []byte, label uint32) []byte {
	b = e.get(append(b, opBlock, 0x40), e.gas)
	b = append(b, opI64Const, 0, opI64LtS, opBrIf, 0)
	b = appendU32(append(b, opBr), label+1)
	b = appendU32(append(b, opEnd, opCall), e.refill)
	return appendU32(append(b, opBr), label)
}

// length takes gas in proportion to the i32 on top, which it leaves there.
func (e *emitter) length(b []byte, tmp uint32, op byte, by int64) []byte {
	b = appendU32(append(b, opLocalTee), tmp)
	b = e.get(b, e.gas)
	b = appendU32(append(b, opLocalGet), tmp)
	b = appendS64(append(b, opI64ExtI32, opI64Const), by)
	b = append(b, op, opI64Sub)
	b = appendU32(append(b, opGlobalSet), e.gas)
	return e.refillIfNegative(e.get(b, e.gas))
}

// blockType appends the type of a block that yields the function's results.
func (e *emitter) blockType(b []byte, typeIdx uint32) []byte {
	switch rs := e.m.types[typeIdx].Results; len(rs) {
	case 0:
		return append(b, 0x40)
	case 1:
		return append(b, byte(rs[0]))
	}
	return appendS64(b, int64(e.blockTypes[typeIdx]))
}
