package wasmprep

import "math"

// failOp records an error of the current instruction.
func (w *walker) failOp(kind Kind, format string, args ...any) {
	w.fail(kind, w.at, format, args...)
}

func (w *walker) push(t ValType) {
	w.opds = append(w.opds, operand(t))
}

func (w *walker) pushAll(ts []ValType) {
	for _, t := range ts {
		w.opds = append(w.opds, operand(t))
	}
}

// pop takes an operand of the given type (unknown: of any).
func (w *walker) pop(want ValType) ValType {
	o := w.take(want)
	if e := o >> 8; e != 0 {
		w.edits[e-1].off = false
		w.canon++
	}
	return o.typ()
}

// take is pop for a consumer that does not look at a NaN's bits.
func (w *walker) take(want ValType) operand {
	f := &w.ctrl[len(w.ctrl)-1]
	if len(w.opds) == f.height {
		if !f.dead {
			w.failOp(ErrInvalid, "operand stack is empty, want %s", want)
		}
		return operand(want)
	}
	o := w.opds[len(w.opds)-1]
	w.opds = w.opds[:len(w.opds)-1]
	got := o.typ()
	if got != want && got != unknown && want != unknown {
		w.failOp(ErrInvalid, "operand is %s, want %s", got, want)
	}
	if got == unknown {
		return operand(want)
	}
	return o
}

func (w *walker) popAll(ts []ValType) {
	for i := len(ts) - 1; i >= 0; i-- {
		w.pop(ts[i])
	}
}

// kill marks the rest of the frame unreachable.
func (w *walker) kill() {
	f := &w.ctrl[len(w.ctrl)-1]
	w.opds = w.opds[:f.height]
	f.dead = true
	w.seg = noSegment
}

// newSegment starts a segment at the reader's position.
func (w *walker) newSegment(kind segKind, parent int) int {
	return w.newSegmentAt(w.p, kind, parent)
}

func (w *walker) newSegmentAt(pos int, kind segKind, parent int) int {
	w.segs = append(w.segs, segment{kind: kind, parent: parent})
	i := len(w.segs) - 1
	w.edits = append(w.edits, edit{pos: pos, kind: editCharge, arg: uint32(i)})
	return i
}

// blockType reads a block type.
func (w *walker) blockType() (params, results []ValType) {
	at := w.p
	if at < w.end {
		switch c := w.b[at]; c {
		case 0x40:
			w.p++
			return nil, nil
		case byte(I32), byte(I64), byte(F32), byte(F64):
			w.p++
			return nil, w.single[byte(I32)-c][:]
		}
	}
	t := w.signed(33)
	switch {
	case w.err != nil:
	case t < 0:
		w.checkValType(at, byte(t)&0x7f)
		w.fail(ErrMalformed, at, "block type %d", t)
	case t >= int64(len(w.m.types)):
		w.failOp(ErrInvalid, "block type %d of %d", t, len(w.m.types))
	default:
		return w.m.types[t].Params, w.m.types[t].Results
	}
	return nil, nil
}

// enter opens a control frame for block, loop or if.
func (w *walker) enter(op byte) {
	if op == opIf {
		w.pop(I32)
	}
	params, results := w.blockType()
	if w.err != nil {
		return
	}
	w.popAll(params)
	if len(w.ctrl) > w.m.rules.Limits.Nesting {
		w.failOp(ErrLimit, "nested deeper than %d", w.m.rules.Limits.Nesting)
		return
	}
	w.joins++
	w.ctrl = append(w.ctrl, frame{op: op, params: params, results: results, height: len(w.opds),
		seg: w.seg, target: math.MaxInt, own: noSegment})
	w.pushAll(params)
	w.maxNest = max(w.maxNest, len(w.ctrl))
	if w.seg == noSegment {
		return
	}
	switch op {
	case opIf:
		w.seg = w.newSegment(segArm, w.seg)
	case opLoop:
		w.seg = w.newSegment(segLoop, w.seg)
		w.ctrl[len(w.ctrl)-1].own = w.seg
	}
}

// leave checks the operands at a frame's end and closes it.
func (w *walker) leave() frame {
	i := len(w.ctrl) - 1
	f := w.ctrl[i]
	w.popAll(f.results)
	if w.err == nil && len(w.opds) != f.height {
		w.failOp(ErrInvalid, "%d operands left over", len(w.opds)-f.height)
	}
	w.ctrl = w.ctrl[:i]
	return f
}

// branch returns the frame that label names, noting the branch.
func (w *walker) branch(label uint32) *frame {
	if uint64(label) >= uint64(len(w.ctrl)) {
		w.failOp(ErrInvalid, "label %d of %d", label, len(w.ctrl))
		return nil
	}
	i := len(w.ctrl) - 1 - int(label)
	if w.seg != noSegment {
		top := &w.ctrl[len(w.ctrl)-1]
		top.target = min(top.target, i)
		if own := w.ctrl[i].own; own != noSegment {
			if w.ctrl[i].edgeAt != w.at { // a br_table may name it many times
				w.ctrl[i].edgeAt = w.at
				w.backEdges = append(w.backEdges, backEdge{w.seg, w.segs[own].edges})
				w.segs[own].edges = len(w.backEdges)
			}
			if w.checkAt != w.at {
				w.checkAt = w.at
				e := edit{pos: w.at, kind: editCheck}
				if op := byte(w.op); op != opBrTable && len(w.ctrl[i].params) == 0 {
					e = edit{pos: w.at, skip: w.p - w.at, kind: editLoopBr, arg: label}
					if op == opBrIf {
						e.kind = editLoopBrIf
					}
				}
				w.edits = append(w.edits, e)
			}
		}
	}
	return &w.ctrl[i]
}
