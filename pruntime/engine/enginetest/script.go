package enginetest

import "github.com/phala-go/phala/wasmprep/wasmtest"

// Where the contract keeps things in its memory.
const (
	input = 4096 // up to 60 KiB
	aside = 512
)

func n32(v uint32) []byte { return wasmtest.Const(wasmtest.I32, uint64(v)) }

var i32, i64 = []byte{wasmtest.I32}, []byte{wasmtest.I64}

// Script returns the contract. Different salts are different codes that do the same.
func Script(salt string) []byte {
	b := new(wasmtest.Builder)
	b.Custom("salt", []byte(salt))
	inputLen := b.Import("phat", "input_len", nil, i32)
	inputRead := b.Import("phat", "input_read", i32, nil)
	output := b.Import("phat", "output", wasmtest.Cat(i32, i32), nil)
	fail := b.Import("phat", "fail", wasmtest.Cat(i32, i32, i32), nil)
	get := b.Import("phat", "kv_get", wasmtest.Cat(i32, i32), i64)
	staged := b.Import("phat", "staged_read", i32, nil)
	put := b.Import("phat", "kv_put", wasmtest.Cat(i32, i32, i32, i32), nil)
	caller := b.Import("phat", "caller", i32, i32)
	reader := b.Import("phat", "reader", i32, i32)
	height := b.Import("phat", "height", nil, i64)
	clock := b.Import("phat", "time", nil, i64)
	random := b.Import("phat", "random", wasmtest.Cat(i32, i32), nil)
	del := b.Import("phat", "kv_delete", wasmtest.Cat(i32, i32), nil)
	callOut := b.Import("phat", "call", wasmtest.Cat(i32, i32, i32, i32, i64), i64)
	emit := b.Import("phat", "emit", wasmtest.Cat(i32, i32, i32, i32), i32)
	logLine := b.Import("phat", "log", wasmtest.Cat(i32, i32), nil)
	derive := b.Import("phat", "derive", wasmtest.Cat(i32, i32, i32), nil)
	http := b.Import("phat", "http", wasmtest.Cat(i32, i32), i64)
	reentry := b.Import("phat", "reentry", nil, i32)

	call := func(f uint32, args ...[]byte) []byte {
		var out []byte
		for _, a := range args {
			out = append(out, a...)
		}
		return wasmtest.Cat(out, 0x10, wasmtest.U32(f))
	}
	get0 := []byte{0x20, 0}                       // length of the input
	rest := wasmtest.Cat(get0, n32(1), 0x6b)      // less the operation
	arg := wasmtest.Cat(n32(input+1), 0x28, 0, 0) // four bytes behind it
	op := func(c byte, body ...any) []byte {      // if input[0] == c { body; return }
		return wasmtest.Cat(n32(input), 0x2d, 0, 0, n32(uint32(c)), 0x46, 0x04, 0x40, wasmtest.Cat(body...), 0x0f, 0x0b)
	}
	behind := wasmtest.Cat(get0, n32(33), 0x6b) // the length behind an operation and 32 bytes
	// Put what a host function returned in eight bytes and what it staged behind them, and answer both.
	told := func(body []byte) []byte {
		return wasmtest.Cat(n32(aside), body, 0x37, 0, 0, call(staged, n32(aside+8)), call(output, n32(aside), wasmtest.Cat(n32(aside), 0x28, 0, 0, n32(8), 0x6a)))
	}
	outcall := func(kind uint32) []byte {
		return call(callOut, n32(kind), n32(input+1), n32(input+33), behind, wasmtest.Const(wasmtest.I64, 0))
	}
	write := call(put, n32(0), n32(3), n32(0), n32(3))
	deep := wasmtest.U32(uint32(19)) // the first function behind the imports
	b.Func("", nil, nil, nil, 0x10, deep)
	b.Data(0, []byte("no!"))
	b.Data(8, []byte("n"))
	f := b.Func("call", nil, nil, wasmtest.Cat(i32, i32), wasmtest.Cat(
		call(inputLen), 0x21, 0, call(inputRead, n32(input)),
		op('e', call(output, n32(input+1), rest)),
		op('p', call(put, n32(input+1), n32(1), n32(input+2), wasmtest.Cat(get0, n32(2), 0x6b))),
		op('g', call(get, n32(input+1), rest), 0xa7, 0x22, 1, n32(0), 0x48, 0x04, 0x40, 0x0f, 0x0b, call(staged, n32(input)), call(output, n32(input), []byte{0x20, 1})),
		op('n', call(get, n32(8), n32(1)), 0x1a, call(staged, n32(aside)), n32(aside), n32(aside), 0x2d, 0, 0, n32(1), 0x6a, 0x3a, 0, 0,
			call(put, n32(8), n32(1), n32(aside), n32(1)), call(output, n32(aside), n32(1))),
		op('t', write, 0x00),
		op('f', write, call(fail, n32(7), n32(0), n32(3))),
		op('F', call(fail, n32(7), n32(0), n32(4096))),
		op('l', 0x03, 0x40, 0x0c, 0, 0x0b),
		op('d', 0x10, deep),
		op('m', 0x03, 0x40, n32(1), 0x40, 0, n32(0xffffffff), 0x47, 0x0d, 0, 0x0b, n32(aside), 0x3f, 0, 0x36, 0, 0, call(output, n32(aside), n32(4))),
		op('r', call(random, n32(aside), n32(32)), call(output, n32(aside), n32(32))),
		op('b', n32(64), 0x40, 0, 0x1a, call(output, n32(1<<17), arg)),
		op('s', arg, 0x21, 1, 0x03, 0x40, 0x20, 1, n32(1), 0x6b, 0x22, 1, 0x0d, 0, 0x0b),
		op('c', n32(aside), call(caller, n32(aside+4)), 0x36, 0, 0, call(output, n32(aside+4), wasmtest.Cat(n32(aside), 0x28, 0, 0))),
		op('R', n32(aside), call(reader, n32(aside+4)), 0x36, 0, 0, call(output, n32(aside+4), wasmtest.Cat(n32(aside), 0x28, 0, 0))),
		op('x', call(del, n32(input+1), n32(1))),
		op('k', write, told(outcall(0))),
		op('q', told(outcall(1))),
		op('K', write, outcall(0), 0x1a, 0x00),
		op('v', call(emit, n32(0), n32(0), n32(input+1), rest), 0x1a),
		op('w', call(emit, n32(input+1), n32(32), n32(input+33), behind), 0x1a),
		op('V', call(emit, n32(0), n32(0), n32(input+1), rest), 0x1a, 0x00),
		op('o', call(logLine, n32(input+1), rest)),
		op('O', call(logLine, n32(input+1), rest), 0x00),
		op('i', call(derive, n32(input+1), rest, n32(aside)), call(output, n32(aside), n32(32))),
		op('H', told(call(http, n32(input+1), rest))),
		op('a', call(reentry), 0x1a, call(put, n32(input+1), n32(1), n32(input+2), wasmtest.Cat(get0, n32(2), 0x6b))),
		op('h', n32(aside), call(height), 0x37, 0, 0, n32(aside), call(clock), 0x37, 0, 8, call(output, n32(aside), n32(16))),
	))
	b.Export("deploy", 0, f)
	b.Export("query", 0, f)
	b.Memory(1, 128)
	b.Export("memory", 2, 0)
	return b.Bytes()
}
