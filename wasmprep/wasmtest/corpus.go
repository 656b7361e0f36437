package wasmtest

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

//go:embed testdata/*.wasm.gz
var files embed.FS

// Call is one call of a corpus module.
type Call struct {
	Export string
	Args   []uint64
}

// Module is a corpus module with the calls that tests make on one instance,
// in order.
type Module struct {
	Name  string
	Code  []byte
	Calls []Call
}

// Corpus returns the modules: compiled from Go, C and AssemblyScript (see
// testdata/build.sh) and written by hand.
func Corpus() []Module {
	load := func(name string) []byte {
		f, err := files.Open("testdata/" + name + ".wasm.gz")
		if err != nil {
			panic(err)
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			panic(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			panic(err)
		}
		return b
	}
	return []Module{
		{"go", load("go"), []Call{
			{"_initialize", nil}, {"transfer", nil}, {"transfer", nil}, {"nop", nil}, {"hostcalls", []uint64{100}},
			{"hash", []uint64{16}}, {"sorting", []uint64{2000}}, {"modexp", []uint64{256}}, {"mandel", []uint64{20, 50}},
			{"garbage", []uint64{4}}, {"recurse", []uint64{500}}, {"goroutines", []uint64{10}}, {"ranges", nil}, {"panics", []uint64{3}},
		}},
		{"c", load("c"), []Call{
			{"sha", []uint64{40}}, {"sort", []uint64{3000}}, {"ack", []uint64{2, 9}}, {"bulk", []uint64{5000}}, {"floats", []uint64{100}},
			{"indirect", []uint64{100}}, {"divide", []uint64{84, 2}}, {"divide", []uint64{1, 0}},
		}},
		{"as", load("as"), []Call{
			{"state", nil}, {"strings", []uint64{200}}, {"maps", []uint64{300}}, {"sort", []uint64{500}}, {"floats", []uint64{50}},
			{"state", nil}, {"fails", nil},
		}},
		{"c-oob", load("c"), []Call{{"oob", []uint64{1}}}},
		{"hand", hand(), []Call{
			{"start-was", nil}, {"loop", []uint64{1000}}, {"table", []uint64{0}}, {"table", []uint64{2}}, {"table", []uint64{9}},
			{"grow", []uint64{1}}, {"grow", []uint64{100000}}, {"fill", []uint64{1, 3000}}, {"init", []uint64{5}}, {"pair", []uint64{8}}, {"nan", nil},
			{"even", []uint64{500}}, {"early", []uint64{0}}, {"early", []uint64{3}},
		}},
		// Deeper than some engines' own stacks.
		{"deep", hand(), []Call{{"deep", []uint64{1000}}, {"deep", []uint64{1 << 20}}}},
	}
}

// hand is the hand-written module: every construct that metering treats
// specially, in its smallest form.
func hand() []byte {
	var b Builder
	i := []byte{I32}
	b.Memory(1, 4)
	b.Table(3)
	b.Global(I32, true, 1)
	b.Global(F64, true, math.Float64bits(0.5))
	start := b.Func("", nil, nil, nil, 0x41, S64(77), 0x24, 0)
	b.Start(start)
	b.Func("start-was", nil, i, nil, 0x23, 0)
	// A loop with an early way out: block loop br_if br end end.
	b.Func("loop", i, i, i, 0x02, 0x40, 0x03, 0x40, 0x20, 0, 0x45, 0x0d, 1, 0x20, 1, 0x20, 0, 0x6a, 0x21, 1, 0x20, 0, 0x41, 1, 0x6b, 0x21, 0, 0x0c, 0, 0x0b, 0x0b, 0x20, 1)
	b.Func("table", i, i, nil, 0x02, 0x40, 0x02, 0x40, 0x02, 0x40, 0x20, 0, 0x0e, 2, 0, 1, 2, 0x0b, 0x41, 10, 0x0f, 0x0b, 0x41, 20, 0x0f, 0x0b, 0x41, 30)
	b.Func("grow", i, i, nil, 0x20, 0, 0x40, 0)
	b.Func("fill", []byte{I32, I32}, nil, nil, 0x41, S64(100), 0x20, 0, 0x20, 1, 0xfc, 11, 0, 0x41, S64(4096), 0x41, S64(100), 0x20, 1, 0xfc, 10, 0, 0)
	b.Func("init", i, i, nil, 0x41, 8, 0x41, 0, 0x20, 0, 0xfc, 8, 0, 0, 0x41, 8, 0x28, 2, 0)
	two := b.Func("", i, []byte{I32, I64}, nil, 0x20, 0, 0x20, 0, 0xac, 0x10, U32(10), 0x0f)
	b.Func("pair", i, i, nil, 0x20, 0, 0x10, U32(two), 0xa7, 0x6a)
	b.Func("nan", nil, []byte{I64}, nil, F64Const(0), F64Const(0), 0xa3, 0x9a, 0x24, 1, 0x23, 1, F64Const(1), 0xa0, 0xbd)
	b.Func("", []byte{I64}, []byte{I64}, nil, 0x20, 0, 0x42, 3, 0x7e)
	// Mutual recursion: even calls odd calls even.
	even := b.Func("even", i, i, nil, 0x20, 0, 0x45, 0x04, I32, 0x41, 1, 0x05, 0x20, 0, 0x41, 1, 0x6b, 0x10, U32(12), 0x0b)
	b.Func("", i, i, nil, 0x20, 0, 0x45, 0x04, I32, 0x41, 0, 0x05, 0x20, 0, 0x41, 1, 0x6b, 0x10, U32(even), 0x0b)
	// Calls through the table and returns from inside a loop.
	b.Func("early", i, i, nil, 0x03, I32, 0x20, 0, 0x04, 0x40, 0x20, 0, 0x20, 0, 0x11, U32(b.Type(i, i)), 0, 0x0f, 0x0b, 0x41, 60, 0x0b)
	b.Func("deep", i, i, nil, 0x20, 0, 0x45, 0x04, 0x40, 0x41, 0, 0x0f, 0x0b, 0x20, 0, 0x41, 1, 0x6b, 0x10, U32(14), 0x41, 1, 0x6a)
	b.Elem(1, even)
	b.RawData(Cat(1, U32(12), "passive data"))
	b.DataCount = true
	b.Export("memory", 2, 0)
	return b.Bytes()
}

// Host is a deterministic host for the corpus, independent of any engine:
// WASI as far as the Go runtime needs it, a key-value store for the Go
// contract, and AssemblyScript's abort.
type Host struct {
	clock  uint64
	random uint64
	store  map[string][]byte
	Output []byte // of the last call
}

// Exit is what Func's functions panic with when the guest ends itself.
type Exit struct{ Reason string }

// Error implements error.
func (e Exit) Error() string { return "guest ended: " + e.Reason }

var input = []byte(`{"from":"alice","to":"bob","amount":7,"memo":"für dich","tags":["a","b"]}`)

// Func returns the implementation of an imported function, which takes the
// memory and the arguments and returns the result; nil for an unknown one.
func (h *Host) Func(module, name string) func(mem []byte, a []uint64) uint64 {
	le := binary.LittleEndian
	at := func(mem []byte, p uint64) []byte { return mem[uint32(p):] }
	const badFile = 8
	switch module + "." + name {
	case "wasi_snapshot_preview1.sched_yield":
		return func([]byte, []uint64) uint64 { return 0 }
	case "wasi_snapshot_preview1.proc_exit":
		return func(_ []byte, a []uint64) uint64 { panic(Exit{fmt.Sprintf("exit code %d", uint32(a[0]))}) }
	case "wasi_snapshot_preview1.args_get", "wasi_snapshot_preview1.environ_get":
		return func([]byte, []uint64) uint64 { return 0 }
	case "wasi_snapshot_preview1.args_sizes_get", "wasi_snapshot_preview1.environ_sizes_get":
		return func(mem []byte, a []uint64) uint64 {
			le.PutUint32(at(mem, a[0]), 0)
			le.PutUint32(at(mem, a[1]), 0)
			return 0
		}
	case "wasi_snapshot_preview1.clock_time_get":
		return func(mem []byte, a []uint64) uint64 {
			h.clock += 1000
			le.PutUint64(at(mem, a[2]), 1_700_000_000_000_000_000+h.clock)
			return 0
		}
	case "wasi_snapshot_preview1.random_get":
		return func(mem []byte, a []uint64) uint64 {
			b := at(mem, a[0])[:uint32(a[1])]
			for i := range b {
				h.random = h.random*6364136223846793005 + 1442695040888963407
				b[i] = byte(h.random >> 56)
			}
			return 0
		}
	case "wasi_snapshot_preview1.fd_write":
		return func(mem []byte, a []uint64) uint64 {
			total := uint32(0)
			for i := range a[2] {
				total += le.Uint32(at(mem, a[1]+8*i+4))
			}
			le.PutUint32(at(mem, a[3]), total)
			return 0
		}
	case "wasi_snapshot_preview1.poll_oneoff":
		return func(mem []byte, a []uint64) uint64 {
			for i := range a[2] {
				sub, ev := at(mem, a[0]+48*i), at(mem, a[1]+32*i)
				copy(ev[:8], sub[:8])
				clear(ev[8:32])
				ev[10] = sub[8]
			}
			h.clock += 1_000_000
			le.PutUint32(at(mem, a[3]), uint32(a[2]))
			return 0
		}
	case "phat.input_len":
		return func([]byte, []uint64) uint64 { return uint64(len(input)) }
	case "phat.input_read":
		return func(mem []byte, a []uint64) uint64 { copy(at(mem, a[0]), input); return 0 }
	case "phat.output":
		return func(mem []byte, a []uint64) uint64 {
			h.Output = bytes.Clone(at(mem, a[0])[:uint32(a[1])])
			return 0
		}
	case "phat.kv_get":
		return func(mem []byte, a []uint64) uint64 {
			v, ok := h.store[string(at(mem, a[0])[:uint32(a[1])])]
			if !ok {
				v = []byte{0, 0, 0, 0, 0, 0, 1, 0}
			}
			return uint64(copy(at(mem, a[2])[:uint32(a[3])], v))
		}
	case "phat.kv_put":
		return func(mem []byte, a []uint64) uint64 {
			if h.store == nil {
				h.store = make(map[string][]byte)
			}
			h.store[string(at(mem, a[0])[:uint32(a[1])])] = bytes.Clone(at(mem, a[2])[:uint32(a[3])])
			return 0
		}
	case "phat.empty":
		return func([]byte, []uint64) uint64 { return 0 }
	case "env.abort":
		return func([]byte, []uint64) uint64 { panic(Exit{"abort"}) }
	}
	if module == "wasi_snapshot_preview1" {
		return func([]byte, []uint64) uint64 { return badFile }
	}
	return nil
}

// HostImports lists the functions of Host that are not WASI, with their
// parameter and result types.
func HostImports() map[[2]string][2][]byte {
	i := func(n int) []byte { return bytes.Repeat([]byte{I32}, n) }
	return map[[2]string][2][]byte{
		{"phat", "input_len"}:  {nil, i(1)},
		{"phat", "input_read"}: {i(1), nil},
		{"phat", "output"}:     {i(2), nil},
		{"phat", "kv_get"}:     {i(4), i(1)},
		{"phat", "kv_put"}:     {i(4), nil},
		{"phat", "empty"}:      {nil, nil},
		{"env", "abort"}:       {i(4), nil},
	}
}
