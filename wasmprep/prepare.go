package wasmprep

import (
	"cmp"
	"slices"
	"strconv"
)

// Prepare validates a WebAssembly module under the rules and instruments it.
// The error, if any, is an *Error; errors.Is tells its Kind.
//
// Prepare reads each byte once and allocates in proportion to the output,
// which the rules bound. It neither keeps code nor writes to it.
func Prepare(code []byte, rules Rules) (*Module, error) {
	m, err := parse(code, &rules)
	if err != nil {
		return nil, err
	}
	p := &Module{RulesVersion: rules.Version, Imports: m.imports, HasStart: m.start >= 0,
		HasMemory: m.hasMem, MemoryMin: m.memMin, MemoryMax: m.memMax}
	p.Stats.Functions, p.Stats.Elements = len(m.bodies), m.elements
	e := &emitter{m: m, gas: uint32(len(m.globals)), depth: uint32(len(m.globals)) + 1, refill: uint32(len(m.imports))}
	e.out = make([]byte, 0, min(len(code)+len(code)/2+1024, rules.Limits.OutputBytes))
	e.out = append(e.out, "\x00asm\x01\x00\x00\x00"...)

	refillType := e.typeSection()
	e.importSection(refillType)
	e.functionSection()
	e.tableAndMemory()
	e.globalSection()
	e.exportSection(p)
	if m.nElems > 0 {
		e.section(secElement, m.elems)
	}
	if m.dataCnt >= 0 {
		e.section(secDataCount, appendU32(nil, uint32(m.dataCnt)))
	}
	if err := e.codeSection(&p.Stats); err != nil {
		return nil, err
	}
	if err := e.dataSection(&p.Stats); err != nil {
		return nil, err
	}
	if len(e.out) > rules.Limits.OutputBytes {
		return nil, tooLong(len(code), rules.Limits.OutputBytes)
	}
	p.Code = e.out
	return p, nil
}

func tooLong(at, limit int) *Error {
	return &Error{Kind: ErrLimit, Func: -1, Offset: at, Detail: "instrumented module exceeds " + strconv.Itoa(limit) + " bytes"}
}

func (e *emitter) section(id byte, payload []byte) {
	e.out = appendU32(append(e.out, id), uint32(len(payload)))
	e.out = append(e.out, payload...)
}

// typeSection copies the types and appends () -> () and the block types of
// functions that return several values. It returns the index of () -> ().
func (e *emitter) typeSection() uint32 {
	m := e.m
	n := uint32(len(m.types))
	var add []byte
	e.blockTypes = make(map[uint32]uint32)
	refill := n
	add = append(add, 0x60, 0, 0)
	n++
	for _, t := range m.funcs[len(m.imports):] {
		if rs := m.types[t].Results; len(rs) > 1 {
			if _, ok := e.blockTypes[t]; ok {
				continue
			}
			e.blockTypes[t] = n
			n++
			add = appendU32(append(add, 0x60, 0), uint32(len(rs)))
			for _, r := range rs {
				add = append(add, byte(r))
			}
		}
	}
	b := appendU32(nil, n)
	for _, s := range m.typeRaw {
		b = append(b, m.src[s.from:s.to]...)
	}
	e.section(secType, append(b, add...))
	return refill
}

func (e *emitter) importSection(refillType uint32) {
	b := appendU32(nil, uint32(len(e.m.imports))+1)
	for i, imp := range e.m.imports {
		b = appendName(appendName(b, imp.Module), imp.Name)
		b = appendU32(append(b, extFunc), e.m.impType[i])
	}
	b = appendName(appendName(b, GasModule), RefillName)
	b = appendU32(append(b, extFunc), refillType)
	e.section(secImport, b)
}

func (e *emitter) functionSection() {
	own := e.m.funcs[len(e.m.imports):]
	b := appendU32(nil, uint32(len(own)))
	for _, t := range own {
		b = appendU32(b, t)
	}
	e.section(secFunction, b)
}

func (e *emitter) tableAndMemory() {
	m := e.m
	if m.hasTab {
		b := []byte{1, 0x70, 0}
		b = appendU32(b, m.tabMin)
		if m.tabLim {
			b[2] = 1
			b = appendU32(b, m.tabMax)
		}
		e.section(secTable, b)
	}
	if m.hasMem {
		e.section(secMemory, appendU32(appendU32([]byte{1, 1}, m.memMin), m.memMax))
	}
}

func (e *emitter) globalSection() {
	m := e.m
	b := appendU32(nil, uint32(len(m.globals))+2)
	for _, g := range m.globals {
		mut := byte(0)
		if g.mutable {
			mut = 1
		}
		b = append(b, byte(g.typ), mut)
		b = append(b, g.init...)
	}
	for _, v := range []int64{0, m.rules.Limits.CallDepth} {
		b = append(b, byte(I64), 1, opI64Const)
		b = append(appendS64(b, v), opEnd)
	}
	e.section(secGlobal, b)
}

func (e *emitter) exportSection(p *Module) {
	m := e.m
	var b []byte
	n := uint32(0)
	add := func(name string, kind byte, idx uint32) {
		b = appendU32(append(appendName(b, name), kind), idx)
		n++
	}
	for _, x := range m.exports {
		idx := x.idx
		if x.kind == extFunc {
			p.Exports = append(p.Exports, Export{x.name, m.types[m.funcs[idx]]})
			idx = m.newFunc(idx)
		}
		add(x.name, x.kind, idx)
	}
	add(GasGlobal, extGlobal, e.gas)
	add(DepthGlobal, extGlobal, e.depth)
	for i, g := range m.globals {
		if g.mutable {
			name := globalPrefix + strconv.Itoa(i)
			add(name, extGlobal, uint32(i))
			p.Snapshot = append(p.Snapshot, Global{name, g.typ})
		}
	}
	p.Snapshot = append(p.Snapshot, Global{DepthGlobal, I64})
	if m.hasMem {
		add(MemoryExport, extMemory, 0)
	}
	if m.start >= 0 {
		add(StartExport, extFunc, m.newFunc(uint32(m.start)))
	}
	e.section(secExport, append(appendU32(nil, n), b...))
}

// codeSection walks and emits every body.
func (e *emitter) codeSection(st *Stats) error {
	m := e.m
	head := e.openSection(len(m.bodies))
	w := newWalker(m)
	fs := make([]summary, len(m.bodies))
	parts := make([]bodyParts, len(m.bodies))
	size := 0
	for _, body := range m.bodies {
		size += body.to - body.from
	}
	e.mid = make([]byte, 0, min(size+size/2, cap(e.out)))
	for i, body := range m.bodies {
		w.walk(len(m.imports)+i, m.types[m.funcs[len(m.imports)+i]], body)
		if w.err != nil {
			return w.err
		}
		var charges int
		if st.CompileWork += w.compileWork(); st.CompileWork > m.rules.Limits.CompileWork {
			w.fail(ErrLimit, body.from, "the functions so far are too much work to compile")
			return w.err
		}
		fs[i] = w.summary()
		parts[i], charges = e.function(w, body)
		if len(e.mid) > m.rules.Limits.OutputBytes {
			return tooLong(body.to, m.rules.Limits.OutputBytes)
		}
		st.add(w, charges, body, fs[i].frame)
	}
	guard(fs, &m.rules.Costs)
	for i := range parts {
		if fs[i].guarded {
			st.Guarded++
		}
		e.finish(parts[i], &fs[i], m.funcs[len(m.imports)+i])
	}
	e.closeSection(head, secCode)
	return nil
}

// sectionRoom is the longest a section's head can be: its identifier and size.
const sectionRoom = 6

// openSection starts a large section of n entries in place. Its size is known at the end
// only, so there is room for the longest head, which closeSection closes up. It returns
// where the section begins.
func (e *emitter) openSection(n int) (head int) {
	head = len(e.out)
	e.out = append(e.out, make([]byte, sectionRoom)...)
	e.out = appendU32(e.out, uint32(n))
	return head
}

func (e *emitter) closeSection(head int, id byte) {
	payload := e.out[head+sectionRoom:]
	hdr := appendU32(append(make([]byte, 0, sectionRoom), id), uint32(len(payload)))
	n := copy(e.out[head:], hdr)
	n += copy(e.out[head+n:], payload)
	e.out = e.out[:head+n]
}

// add accounts one function.
func (st *Stats) add(w *walker, charges int, body span, frame int64) {
	st.Charges += charges
	st.Instructions += w.instrs
	st.Canonical += w.canon
	st.LargestBody = max(st.LargestBody, body.to-body.from)
	st.MostLocals = max(st.MostLocals, len(w.locals))
	st.MostOperands = max(st.MostOperands, w.maxOpds)
	st.MostNesting = max(st.MostNesting, w.maxNest)
	st.MostLabels = max(st.MostLabels, w.maxLabels)
	st.MostFrame = max(st.MostFrame, frame)
}

// dataGap is the longest run of zeros that joins two data segments.
const dataGap = 32

// dataSection writes the data segments. Where no instruction can name a
// segment and no two overlap, their order does not matter and those that
// follow each other closely become one: the Go linker makes tens of thousands
// of them, each of which costs every instance a bookkeeping entry.
func (e *emitter) dataSection(s *Stats) error {
	m := e.m
	if len(m.datas) == 0 {
		return nil
	}
	byPlace := func(a, b dataSegment) int { return cmp.Compare(a.at, b.at) }
	ds := m.datas
	if !slices.IsSortedFunc(ds, byPlace) {
		ds = slices.Clone(ds)
		slices.SortStableFunc(ds, byPlace)
	}
	join := m.dataCnt < 0
	for i := range ds {
		join = join && !ds[i].passive && (i == 0 || ds[i-1].end() <= uint64(ds[i].at))
	}
	if !join {
		ds = m.datas
	}
	// next is behind the segments that become one with the i-th.
	next := func(i int) (j int) {
		for j = i + 1; join && j < len(ds) && uint64(ds[j].at)-ds[j-1].end() <= dataGap; j++ {
		}
		return j
	}
	for i := 0; i < len(ds); i = next(i) {
		s.DataSegments++
	}
	if limit := m.rules.Limits.Joined; s.DataSegments > limit {
		return &Error{Kind: ErrLimit, Func: -1, Offset: len(m.src), Detail: strconv.Itoa(s.DataSegments) + " data segments that cannot be joined, limit " + strconv.Itoa(limit)}
	}
	head := e.openSection(s.DataSegments)
	b := e.out
	for i := 0; i < len(ds); {
		d, j := &ds[i], next(i)
		size := uint64(len(d.bytes))
		if j > i+1 {
			size = ds[j-1].end() - uint64(d.at)
		}
		if uint64(len(b))+size > uint64(m.rules.Limits.OutputBytes) {
			return tooLong(len(m.src), m.rules.Limits.OutputBytes)
		}
		if d.passive {
			b = append(b, 1)
		} else {
			b = append(appendS64(append(b, 0, opI32Const), int64(int32(d.at))), opEnd)
		}
		b = append(appendU32(b, uint32(size)), d.bytes...)
		for k := i + 1; k < j; k++ {
			b = append(b, zeros[:uint64(ds[k].at)-ds[k-1].end()]...)
			b = append(b, ds[k].bytes...)
		}
		s.DataBytes += int(size)
		i = j
	}
	e.out = b
	e.closeSection(head, secData)
	return nil
}

func (d *dataSegment) end() uint64 { return uint64(d.at) + uint64(len(d.bytes)) }

var zeros [dataGap]byte
