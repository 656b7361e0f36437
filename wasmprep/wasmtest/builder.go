package wasmtest

import (
	"encoding/binary"
	"math"
)

// Value types in their binary encoding.
const (
	I32 = 0x7f
	I64 = 0x7e
	F32 = 0x7d
	F64 = 0x7c
)

// Builder assembles a module section by section. It checks nothing, so that
// it can build invalid modules too.
type Builder struct {
	types, imports, funcs, exports, globals, elems, codes, datas, customs [][]byte
	typeKeys                                                              map[string]uint32
	nImports                                                              uint32
	memory, table, start                                                  []byte
	Sections                                                              []Section // replaces or adds whole sections at the end
	DataCount                                                             bool
}

// Section is a raw section.
type Section struct {
	ID      byte
	Payload []byte
}

// U32 encodes an unsigned LEB128.
func U32(v uint32) []byte { return binary.AppendUvarint(nil, uint64(v)) }

// S64 encodes a signed LEB128.
func S64(v int64) []byte {
	var b []byte
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if v == 0 && c&0x40 == 0 || v == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

// Cat concatenates bytes, integers (as single bytes) and byte slices.
func Cat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case byte:
			b = append(b, p)
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, p...)
		default:
			panic("wasmtest.Cat: unsupported part")
		}
	}
	return b
}

// Name encodes a name.
func Name(s string) []byte { return append(U32(uint32(len(s))), s...) }

// Vec encodes a vector of encoded elements.
func Vec(items [][]byte) []byte {
	b := U32(uint32(len(items)))
	for _, it := range items {
		b = append(b, it...)
	}
	return b
}

// Type returns the index of a function type, adding it if it is new.
func (b *Builder) Type(params, results []byte) uint32 {
	enc := Cat(0x60, U32(uint32(len(params))), params, U32(uint32(len(results))), results)
	if b.typeKeys == nil {
		b.typeKeys = make(map[string]uint32)
	}
	if i, ok := b.typeKeys[string(enc)]; ok {
		return i
	}
	i := uint32(len(b.types))
	b.types = append(b.types, enc)
	b.typeKeys[string(enc)] = i
	return i
}

// Import adds an imported function; all imports come before any Func.
func (b *Builder) Import(module, name string, params, results []byte) uint32 {
	b.RawImport(Cat(Name(module), Name(name), 0, U32(b.Type(params, results))))
	b.nImports++
	return b.nImports - 1
}

// RawImport adds an encoded import.
func (b *Builder) RawImport(enc []byte) { b.imports = append(b.imports, enc) }

// Func adds a function; body excludes the final end. It returns the index.
func (b *Builder) Func(export string, params, results, locals []byte, body ...any) uint32 {
	idx := b.nImports + uint32(len(b.funcs))
	b.funcs = append(b.funcs, U32(b.Type(params, results)))
	var groups [][]byte
	for _, l := range locals {
		groups = append(groups, []byte{1, l})
	}
	b.RawBody(Cat(Vec(groups), Cat(body...), 0x0b))
	if export != "" {
		b.Export(export, 0, idx)
	}
	return idx
}

// RawFunc adds a function of type t without a body.
func (b *Builder) RawFunc(t uint32) { b.funcs = append(b.funcs, U32(t)) }

// RawBody adds a body: locals and code.
func (b *Builder) RawBody(body []byte) {
	b.codes = append(b.codes, Cat(U32(uint32(len(body))), body))
}

// Export adds an export of the given kind (0 function, 1 table, 2 memory, 3 global).
func (b *Builder) Export(name string, kind byte, idx uint32) {
	b.exports = append(b.exports, Cat(Name(name), kind, U32(idx)))
}

// Memory declares the memory.
func (b *Builder) Memory(lo, hi uint32) { b.memory = Cat(1, 1, U32(lo), U32(hi)) }

// Table declares a table of functions.
func (b *Builder) Table(n uint32) { b.table = Cat(1, 0x70, 1, U32(n), U32(n)) }

// Elem adds an active element segment.
func (b *Builder) Elem(at int32, funcs ...uint32) {
	var items [][]byte
	for _, f := range funcs {
		items = append(items, U32(f))
	}
	b.RawElem(Cat(0, 0x41, S64(int64(at)), 0x0b, Vec(items)))
}

// RawElem adds an encoded element segment.
func (b *Builder) RawElem(enc []byte) { b.elems = append(b.elems, enc) }

// Global adds a global and returns its index.
func (b *Builder) Global(typ byte, mutable bool, bits uint64) uint32 {
	mut := 0
	if mutable {
		mut = 1
	}
	b.globals = append(b.globals, Cat(typ, mut, Const(typ, bits), 0x0b))
	return uint32(len(b.globals) - 1)
}

// Data adds an active data segment, or a passive one if at is negative.
func (b *Builder) Data(at int32, data []byte) {
	if at < 0 {
		b.RawData(Cat(1, U32(uint32(len(data))), data))
		return
	}
	b.RawData(Cat(0, 0x41, S64(int64(at)), 0x0b, U32(uint32(len(data))), data))
}

// RawData adds an encoded data segment.
func (b *Builder) RawData(enc []byte) { b.datas = append(b.datas, enc) }

// Start sets the start function.
func (b *Builder) Start(f uint32) { b.start = U32(f) }

// Custom adds a custom section.
func (b *Builder) Custom(name string, data []byte) {
	b.customs = append(b.customs, Cat(Name(name), data))
}

// Const encodes a constant instruction.
func Const(typ byte, bits uint64) []byte {
	switch typ {
	case I32:
		return Cat(0x41, S64(int64(int32(bits))))
	case I64:
		return Cat(0x42, S64(int64(bits)))
	case F32:
		return binary.LittleEndian.AppendUint32([]byte{0x43}, uint32(bits))
	}
	return binary.LittleEndian.AppendUint64([]byte{0x44}, bits)
}

// F64Const encodes f64.const v.
func F64Const(v float64) []byte { return Const(F64, math.Float64bits(v)) }

// Bytes encodes the module.
func (b *Builder) Bytes() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, payload []byte) {
		for _, s := range b.Sections {
			if s.ID == id {
				payload = s.Payload
			}
		}
		if payload != nil {
			out = Cat(out, id, U32(uint32(len(payload))), payload)
		}
	}
	vec := func(id byte, items [][]byte) {
		if len(items) > 0 {
			section(id, Vec(items))
		} else {
			section(id, nil)
		}
	}
	vec(1, b.types)
	vec(2, b.imports)
	vec(3, b.funcs)
	section(4, b.table)
	section(5, b.memory)
	section(13, nil)
	vec(6, b.globals)
	vec(7, b.exports)
	section(8, b.start)
	vec(9, b.elems)
	if b.DataCount {
		section(12, U32(uint32(len(b.datas))))
	}
	vec(10, b.codes)
	vec(11, b.datas)
	for _, c := range b.customs {
		out = Cat(out, 0, U32(uint32(len(c))), c)
	}
	return out
}
