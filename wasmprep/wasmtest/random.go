package wasmtest

import "math"

// Random builds a valid module out of arbitrary bytes: the same bytes give the
// same module, and every choice the bytes make is a legal one. The module
// imports nothing, has a memory, a table, mutable globals of every type and
// functions named f0, f1, … that call each other directly and through the
// table, loop, branch, trap and, in half of the modules, compute floats. It
// need not terminate.
func Random(entropy []byte) []byte {
	g := &gen{src: entropy, types: valTypes}
	if g.n(2) == 1 {
		g.types = valTypes[:2]
	}
	g.b.Memory(1, 1+uint32(g.n(3)))
	for _, t := range g.types {
		g.globals = append(g.globals, t)
		g.b.Global(t, true, uint64(g.n(256)))
	}
	count := 1 + g.n(6)
	for range count {
		var f signature
		for range g.n(4) {
			f.params = append(f.params, g.typ())
		}
		for range g.n(3) {
			f.results = append(f.results, g.typ())
		}
		g.funcs = append(g.funcs, f)
	}
	g.b.Table(uint32(count + 2)) // two entries stay null
	var refs []uint32
	for i := range g.funcs {
		refs = append(refs, uint32(i))
	}
	g.b.Elem(1, refs...)
	g.b.Data(int32(g.n(200)), entropy[:min(len(entropy), 64)])
	g.b.Data(-1, []byte("passive segment"))
	g.b.DataCount = true
	for i, f := range g.funcs {
		g.function(i, f)
	}
	g.b.Export("memory", 2, 0)
	return g.b.Bytes()
}

var valTypes = []byte{I32, I64, F32, F64}

type signature struct{ params, results []byte }

type label struct {
	types []byte // what a branch carries
	loop  bool
}

type gen struct {
	src     []byte
	types   []byte // those used
	pos     int
	b       Builder
	funcs   []signature
	globals []byte
	locals  []byte
	results []byte
	labels  []label
	budget  int // instructions left for this function
}

// n draws a number below limit; without bytes left it draws 0.
func (g *gen) n(limit int) int {
	if g.pos >= len(g.src) || limit <= 1 {
		return 0
	}
	v := int(g.src[g.pos])
	g.pos++
	return v % limit
}

func (g *gen) typ() byte { return g.types[g.n(len(g.types))] }

func (g *gen) function(i int, f signature) {
	g.locals = append([]byte(nil), f.params...)
	var extra []byte
	for range g.n(5) {
		extra = append(extra, g.typ())
	}
	g.locals = append(g.locals, extra...)
	g.results, g.labels = f.results, []label{{types: f.results}}
	g.budget = 150
	body := g.statements(1 + g.n(8))
	for _, t := range f.results {
		body = append(body, g.expr(t, 3)...)
	}
	g.b.Func("f"+string(rune('0'+i)), f.params, f.results, extra, body)
}

func (g *gen) statements(n int) []byte {
	var out []byte
	for range n {
		if g.budget <= 0 {
			break
		}
		out = append(out, g.statement()...)
	}
	return out
}

// nested generates a body under a new label.
func (g *gen) nested(l label, n int) []byte {
	g.labels = append(g.labels, l)
	body := g.statements(n)
	g.labels = g.labels[:len(g.labels)-1]
	return body
}

// emptyLabel picks a label that carries nothing, or -1.
func (g *gen) emptyLabel() int {
	want := g.n(len(g.labels))
	for i := range g.labels {
		d := (want + i) % len(g.labels)
		if len(g.labels[len(g.labels)-1-d].types) == 0 {
			return d
		}
	}
	return -1
}

func (g *gen) statement() []byte {
	g.budget -= 2
	switch g.n(20) {
	case 0, 1:
		if i := g.n(len(g.locals)); len(g.locals) > 0 {
			return Cat(g.expr(g.locals[i], 3), 0x21, U32(uint32(i)))
		}
	case 2:
		i := g.n(len(g.globals))
		return Cat(g.expr(g.globals[i], 3), 0x24, U32(uint32(i)))
	case 3, 4:
		s := [][3]int{{0x36, I32, 2}, {0x37, I64, 3}, {0x3a, I32, 0}, {0x3e, I64, 2}, {0x38, F32, 2}, {0x39, F64, 3}}[g.n(2+len(g.types))]
		return Cat(g.address(), g.expr(byte(s[1]), 2), s[0], g.n(s[2]+1), U32(uint32(g.n(64))))
	case 5:
		c := g.expr(I32, 2)
		then := g.nested(label{}, 1+g.n(3))
		if g.n(2) == 0 {
			return Cat(c, 0x04, 0x40, then, 0x0b)
		}
		return Cat(c, 0x04, 0x40, then, 0x05, g.nested(label{}, 1+g.n(3)), 0x0b)
	case 6:
		return Cat(0x02, 0x40, g.nested(label{}, 1+g.n(4)), 0x0b)
	case 7, 8:
		// A loop that goes on while a local counts down, if there is one.
		body := g.nested(label{loop: true}, 1+g.n(4))
		for i, t := range g.locals {
			if t == I32 {
				return Cat(0x03, 0x40, body, 0x20, i, 0x41, 1, 0x6b, 0x22, i, 0x41, 31, 0x71, 0x0d, 0, 0x0b)
			}
		}
		return Cat(0x03, 0x40, body, 0x0b)
	case 9, 10:
		if d := g.emptyLabel(); d >= 0 {
			return Cat(g.expr(I32, 2), 0x0d, U32(uint32(d)))
		}
	case 11:
		if d := g.emptyLabel(); d >= 0 && g.n(3) == 0 {
			return Cat(0x0c, U32(uint32(d)), g.deadCode())
		}
	case 12:
		var ls []byte
		n := g.n(4)
		for range n + 1 {
			d := g.emptyLabel()
			if d < 0 {
				return []byte{0x01}
			}
			ls = append(ls, U32(uint32(d))...)
		}
		return Cat(0x02, 0x40, g.expr(I32, 2), 0x0e, U32(uint32(n)), bump(ls), 0x0b)
	case 13:
		i := g.n(len(g.funcs))
		return Cat(g.call(i), drops(g.funcs[i].results))
	case 14:
		i := g.n(len(g.funcs))
		f := g.funcs[i]
		return Cat(g.args(f), g.expr(I32, 1), 0x41, 7, 0x71, 0x11, U32(g.b.Type(f.params, f.results)), 0, drops(f.results))
	case 15:
		return g.bulk()
	case 16:
		return Cat(g.expr(I32, 1), 0x41, 1, 0x71, 0x40, 0, 0x1a) // memory.grow by 0 or 1
	case 17:
		if g.n(4) == 0 {
			var out []byte
			for _, t := range g.results {
				out = append(out, g.expr(t, 2)...)
			}
			return Cat(0x41, 0, 0x04, 0x40, out, 0x0f, 0x0b, out, 0x0f, g.deadCode())
		}
	case 18:
		if g.n(8) == 0 {
			return Cat(0x00, g.deadCode())
		}
	}
	t := g.typ()
	return Cat(g.expr(t, 3), 0x1a)
}

// bump raises the labels of a br_table by one for the block around it.
func bump(ls []byte) []byte {
	out := make([]byte, len(ls))
	for i, l := range ls {
		out[i] = l + 1
	}
	return out
}

// deadCode follows an unconditional branch; it must only validate.
func (g *gen) deadCode() []byte {
	switch g.n(4) {
	case 0:
		return []byte{0x6a, 0x1a} // i32.add of nothing, dropped
	case 1:
		return []byte{0x02, 0x40, 0x03, 0x40, 0x0c, 0, 0x0b, 0x0b}
	case 2:
		return []byte{0x92, 0x8c, 0x1a}
	}
	return nil
}

func drops(ts []byte) []byte {
	var out []byte
	for range ts {
		out = append(out, 0x1a)
	}
	return out
}

func (g *gen) args(f signature) []byte {
	var out []byte
	for _, t := range f.params {
		out = append(out, g.expr(t, 1)...)
	}
	return out
}

func (g *gen) call(i int) []byte { return Cat(g.args(g.funcs[i]), 0x10, U32(uint32(i))) }

// address yields an address that is mostly inside the first page.
func (g *gen) address() []byte {
	if g.n(16) == 0 {
		return g.expr(I32, 1)
	}
	return Cat(g.expr(I32, 1), 0x41, S64(0x7fff), 0x71)
}

func (g *gen) bulk() []byte {
	size := Cat(g.expr(I32, 1), 0x41, S64(0x3ff), 0x71)
	switch g.n(3) {
	case 0:
		return Cat(g.address(), g.address(), size, 0xfc, 10, 0, 0)
	case 1:
		return Cat(g.address(), g.expr(I32, 1), size, 0xfc, 11, 0)
	}
	return Cat(g.address(), 0x41, g.n(8), 0x41, g.n(8), 0xfc, 8, 1, 0)
}

var (
	special32 = []uint32{0, 0x80000000, 0x3f800000, 0x7f800000, 0x7fc00000, 0xffc00001, 0x7fa00000, 1}
	special64 = []uint64{0, 1 << 63, 0x3ff0000000000000, 0x7ff0000000000000, 0x7ff8000000000000, 0xfff8000000000001, 0x7ff4000000000000, 1}
	ints      = []uint64{0, 1, 2, 0xffffffffffffffff, 0x80000000, 0x7fffffff, 0x8000000000000000, 31}
)

// Operators by operand and result types.
type operator struct {
	op      byte
	in, out byte
	arity   int
}

var operators = makeOperators()

func makeOperators() map[byte][]operator {
	m := make(map[byte][]operator)
	add := func(first, last int, in, out byte, arity int) {
		for op := first; op <= last; op++ {
			m[out] = append(m[out], operator{byte(op), in, out, arity})
		}
	}
	add(0x45, 0x45, I32, I32, 1)
	add(0x46, 0x4f, I32, I32, 2)
	add(0x50, 0x50, I64, I32, 1)
	add(0x51, 0x5a, I64, I32, 2)
	add(0x5b, 0x60, F32, I32, 2)
	add(0x61, 0x66, F64, I32, 2)
	add(0x67, 0x69, I32, I32, 1)
	add(0x6a, 0x78, I32, I32, 2)
	add(0x79, 0x7b, I64, I64, 1)
	add(0x7c, 0x8a, I64, I64, 2)
	add(0x8b, 0x91, F32, F32, 1)
	add(0x92, 0x98, F32, F32, 2)
	add(0x99, 0x9f, F64, F64, 1)
	add(0xa0, 0xa6, F64, F64, 2)
	add(0xa7, 0xa7, I64, I32, 1)
	add(0xa8, 0xa9, F32, I32, 1)
	add(0xac, 0xad, I32, I64, 1)
	add(0xb0, 0xb1, F64, I64, 1)
	add(0xb2, 0xb3, I32, F32, 1)
	add(0xb6, 0xb6, F64, F32, 1)
	add(0xb9, 0xba, I64, F64, 1)
	add(0xbb, 0xbb, F32, F64, 1)
	add(0xbc, 0xbc, F32, I32, 1)
	add(0xbd, 0xbd, F64, I64, 1)
	add(0xbe, 0xbe, I32, F32, 1)
	add(0xbf, 0xbf, I64, F64, 1)
	add(0xc0, 0xc1, I32, I32, 1)
	add(0xc2, 0xc4, I64, I64, 1)
	return m
}

// expr generates code that pushes one value of type t.
func (g *gen) expr(t byte, depth int) []byte {
	g.budget--
	if depth > 0 && g.budget > 0 {
		switch g.n(10) {
		case 0, 1, 2, 3:
			ops := operators[t]
			o := ops[g.n(len(ops))]
			if len(g.types) == 2 && (o.in == F32 || o.in == F64) {
				return Const(t, uint64(o.op))
			}
			out := g.expr(o.in, depth-1)
			if o.arity == 2 {
				out = append(out, g.expr(o.in, depth-1)...)
			}
			return append(out, o.op)
		case 4:
			load := map[byte]int{I32: 0x28, I64: 0x29, F32: 0x2a, F64: 0x2b}[t]
			return Cat(g.address(), load, 0, U32(uint32(g.n(64))))
		case 5:
			return Cat(g.expr(t, depth-1), g.expr(t, depth-1), g.expr(I32, depth-1), 0x1b)
		case 6:
			// A block with a result, left early or by its end.
			a, c := g.expr(t, depth-1), g.expr(I32, depth-1)
			return Cat(0x02, t, a, c, 0x0d, 0, 0x1a, g.expr(t, depth-1), 0x0b)
		case 7:
			return Cat(g.expr(I32, depth-1), 0x04, t, g.expr(t, depth-1), 0x05, g.expr(t, depth-1), 0x0b)
		case 8:
			for i, f := range g.funcs {
				if len(f.results) == 1 && f.results[0] == t && g.n(3) == 0 {
					return g.call(i)
				}
			}
			if t == I32 {
				// Saturating truncation, or the memory's size.
				if g.n(2) == 0 && len(g.types) == 4 {
					return Cat(g.expr(F64, depth-1), 0xfc, 2+g.n(2))
				}
				return []byte{0x3f, 0}
			}
		}
	}
	switch g.n(3) {
	case 0:
		want := g.n(len(g.locals))
		for i := range g.locals {
			if j := (want + i) % len(g.locals); g.locals[j] == t {
				return Cat(0x20, U32(uint32(j)))
			}
		}
	case 1:
		for i, gt := range g.globals {
			if gt == t {
				return Cat(0x23, U32(uint32(i)))
			}
		}
	}
	switch t {
	case F32:
		return Const(F32, uint64(special32[g.n(8)]))
	case F64:
		if g.n(4) == 0 {
			return F64Const(math.Sqrt(float64(g.n(256))))
		}
		return Const(F64, special64[g.n(8)])
	}
	return Const(t, ints[g.n(8)])
}
