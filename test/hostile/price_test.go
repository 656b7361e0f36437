package hostile

import (
	"context"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// manualRows are the rows of a table of the manual: the first column, without its quotes,
// and the last.
func manualRows(t *testing.T, chapter string) (rows [][2]string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/abi.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n## "+chapter)
	if !ok {
		t.Fatalf("docs/abi.md has no chapter %q", chapter)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if strings.HasPrefix(line, "| ") && len(cells) > 1 {
			rows = append(rows, [2]string{strings.TrimPrefix(cells[0], "| "), strings.TrimSuffix(cells[len(cells)-1], " |")})
		}
	}
	return rows
}

// A priced is one way of calling a host function, with the values of the words that its
// price is given in.
type priced struct {
	name   string
	args   []uint32
	words  map[string]uint64
	scheme int  // from 1, where the price is by scheme
	more   bool // what the manual says that comes on top does
	first  bool // it is the first call of its kind that costs more
	query  bool
	before string // a function that stages something
}

// What priceHost answers.
const (
	inputLen, valueLen, keyLen, answerLen, calleeGas = 9, 17, 5, 23, 1234
	anyKeyLen                                        = 3 // of what the module gives
)

// priceHost answers with things of known length.
type priceHost struct{}

func (priceHost) Get([]byte) ([]byte, bool) { return make([]byte, valueLen), true }
func (priceHost) Put(_, _ []byte) error     { return nil }
func (priceHost) Delete([]byte) error       { return nil }
func (priceHost) Next(_, _ []byte) (key, value []byte, ok bool) {
	return make([]byte, keyLen), make([]byte, valueLen), true
}
func (priceHost) Caller() []byte                                { return make([]byte, 32) }
func (priceHost) Reader() []byte                                { return nil }
func (priceHost) Self() [32]byte                                { return [32]byte{} }
func (priceHost) Height() uint64                                { return 1 }
func (priceHost) Time() uint64                                  { return 1 }
func (priceHost) Random() io.Reader                             { return zeros{} }
func (priceHost) Log([]byte)                                    {}
func (priceHost) Secret(string, []byte) [32]byte                { return [32]byte{7} }
func (priceHost) Emit(*[32]byte, []byte) error                  { return nil }
func (priceHost) Fetch(context.Context, []byte) ([]byte, error) { return make([]byte, answerLen), nil }
func (priceHost) Call(context.Context, *engine.Outcall) (engine.Result, error) {
	return engine.Result{Output: make([]byte, answerLen), GasUsed: calleeGas}, nil
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

var (
	number = regexp.MustCompile(`^[0-9,]+$`)
	times_ = regexp.MustCompile(`^([0-9]+)·(.+)$`)
	onTop  = regexp.MustCompile(`^(.*), (?:sealed )?([0-9,]+) more`)
)

// price works out a price as the manual writes it.
func (p *priced) price(t *testing.T, cell string) (sum uint64) {
	t.Helper()
	read := func(s string) uint64 {
		n, err := strconv.ParseUint(strings.ReplaceAll(s, ",", ""), 10, 64)
		if err != nil {
			t.Fatalf("%s costs %q: %v", p.name, cell, err)
		}
		return n
	}
	text := cell
	if m := onTop.FindStringSubmatch(text); m != nil {
		text = m[1]
		if p.more || p.first {
			sum = read(m[2])
		}
	}
	text = strings.TrimSuffix(strings.ReplaceAll(text, ", + ", " + "), " each")
	for term := range strings.SplitSeq(text, " + ") {
		if list, ok := strings.CutPrefix(term, "by scheme "); ok {
			term = strings.Split(list, "; ")[p.scheme-1]
		}
		factor := uint64(1)
		if m := times_.FindStringSubmatch(term); m != nil {
			factor, term = read(m[1]), m[2]
		}
		value, ok := p.words[term]
		if number.MatchString(term) {
			value = read(term)
		} else if !ok {
			t.Fatalf("%s costs %q: what is %q?", p.name, cell, term)
		}
		sum += factor * value
	}
	return sum
}

// TestPrices: host functions cost what the manual says, whatever the engine calls its
// constants: each is called once more, and the difference counts.
func TestPrices(t *testing.T) {
	word := func(kv ...any) map[string]uint64 {
		m := map[string]uint64{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = uint64(kv[i+1].(int))
		}
		return m
	}
	const k, out = anyKeyLen, 1024
	cases := []priced{
		{name: "input_len"},
		{name: "input_read", args: []uint32{out}, words: word("length", inputLen)},
		{name: "output", args: []uint32{0, 40}, words: word("len", 40)},
		{name: "fail", args: []uint32{1, 0, 40}, words: word("len", 40)},
		{name: "kv_get", args: []uint32{0, k}, words: word("klen", k, "length", valueLen)},
		{name: "kv_next", args: []uint32{0, k, 0, 8}, words: word("plen", k, "flen", 8, "length", keyLen)},
		{name: "staged_read", args: []uint32{out}, words: word("length", valueLen), before: "kv_get"},
		{name: "kv_put", args: []uint32{0, k, 0, 40}, words: word("klen", k, "vlen", 40)},
		{name: "kv_delete", args: []uint32{0, k}, words: word("klen", k)},
		{name: "caller", args: []uint32{out}},
		{name: "reader", args: []uint32{out}, query: true},
		{name: "self", args: []uint32{out}},
		{name: "height"},
		{name: "time"},
		{name: "is_query"},
		{name: "random", args: []uint32{out, 100}, words: word("len", 100)},
		{name: "log", args: []uint32{0, 40}, words: word("len", 40)},
		{name: "log", args: []uint32{0, 40}, words: word("len", 40), first: true},
		{name: "recover", args: []uint32{0, 32, out}},
		{name: "derive", args: []uint32{0, 4, out}},
		{name: "call", args: []uint32{0, 0, 0, 40, 100_000}, words: word("ilen", 40, "answer", answerLen, "what the callee used", calleeGas)},
		{name: "call", args: []uint32{1, 0, 0, 0, 0}, words: word("ilen", 0, "answer", answerLen, "what the callee used", calleeGas)},
		{name: "emit", args: []uint32{0, 0, 0, 40}, words: word("dlen", 40)},
		{name: "emit", args: []uint32{0, 32, 0, 40}, words: word("dlen", 40), more: true},
		{name: "http", args: []uint32{0, 40}, words: word("len", 40, "answer", answerLen), query: true},
		{name: "reentry"},
	}
	for algorithm := range uint32(5) {
		cases = append(cases, priced{name: "hash", args: []uint32{1 + algorithm, 0, 100, out}, words: word("len", 100)})
	}
	for i := range 3 {
		s := uint32(i + 1)
		keys, sigs := []uint32{32, 32, 33}, []uint32{64, 64, 64}
		msg := uint32(32)
		cases = append(cases,
			priced{name: "verify", args: []uint32{s, 0, keys[i], 0, msg, 0, sigs[i]}, words: word("mlen", int(msg)), scheme: i + 1},
			priced{name: "sign", args: []uint32{s, 0, 4, 0, msg, out}, words: word("mlen", int(msg)), scheme: i + 1},
			priced{name: "sign", args: []uint32{s + 16, 0, 4, 0, msg, out}, words: word("mlen", int(msg)), scheme: i + 1},
			priced{name: "public_key", args: []uint32{s, 0, 4, out}, scheme: i + 1})
	}
	cells, seen := map[string]string{}, map[string]bool{}
	for _, row := range manualRows(t, "Host functions, module `phat`") {
		cells[strings.Trim(row[0], "`")] = row[1]
	}
	for _, f := range abi(t) {
		seen[f.name] = false
	}
	for _, p := range cases {
		seen[p.name] = true
		got, want := p.measure(t), p.price(t, cells[p.name])
		if got != want {
			t.Errorf("%s%v costs %d; docs/abi.md: %q, which is %d", p.name, p.args, got, cells[p.name], want)
		}
	}
	for name, ok := range seen {
		if !ok {
			t.Errorf("nobody looks at what %s costs", name)
		}
	}
}

// measure is the gas of one call of the host function, without that of the instructions
// around it.
func (p *priced) measure(t *testing.T) uint64 {
	t.Helper()
	gas := func(calls int) uint64 {
		c := newContract(t)
		var body []byte
		if p.before != "" {
			body = c.do(p.before, 0, anyKeyLen)
		}
		for range calls {
			body = append(body, c.do(p.name, p.args...)...)
		}
		entry := engine.EntryCall
		if p.query {
			entry = engine.EntryQuery
		}
		for _, e := range []string{engine.EntryDeploy, engine.EntryCall, engine.EntryQuery} {
			c.Func(e, nil, nil, nil, body)
		}
		c.Memory(1, 1)
		c.Export("memory", 2, 0)
		res, err := prepare(t, c.Bytes()).Run(t.Context(), &engine.Call{Entry: entry, Input: make([]byte, inputLen), Gas: 1 << 30, Host: priceHost{}})
		if err != nil && p.name != "fail" {
			t.Fatalf("%s%v: %v", p.name, p.args, err)
		}
		return res.GasUsed
	}
	calls := 2
	if p.first {
		calls = 1
	}
	costs := wasmprep.RulesV1().Costs
	around := uint64(costs.Op[0x10]) + uint64(costs.Op[0x41])*uint64(len(p.args)) // call; constants of both types cost the same
	return gas(calls) - gas(calls-1) - around
}

// TestWASIPrices is the same for the functions of WASI.
func TestWASIPrices(t *testing.T) {
	cells := map[string]string{}
	for _, row := range manualRows(t, "WASI preview 1") {
		cells[row[0]] = row[1]
	}
	i32, i64 := byte(wasmtest.I32), byte(wasmtest.I64)
	for _, c := range []struct {
		row    string
		name   string
		params []byte
		args   []uint64
		words  map[string]uint64
		times  uint64
	}{
		{"`clock_time_get`", "clock_time_get", []byte{i32, i64, i32}, []uint64{0, 0, 64}, nil, 1},
		{"`clock_res_get`", "clock_res_get", []byte{i32, i32}, []uint64{0, 64}, nil, 1},
		{"`random_get`", "random_get", []byte{i32, i32}, []uint64{64, 50}, map[string]uint64{"len": 50}, 1},
		{"`poll_oneoff`", "poll_oneoff", []byte{i32, i32, i32, i32}, []uint64{0, 256, 3, 1024}, nil, 3},
		{"`fd_write`", "fd_write", []byte{i32, i32, i32, i32}, []uint64{2, 0, 0, 64}, map[string]uint64{"bytes": 0}, 1},
		{"`fd_write`", "fd_write", []byte{i32, i32, i32, i32}, []uint64{2, 2048, 1, 64}, map[string]uint64{"bytes": 33}, 1},
		{"`fd_write`", "fd_write", []byte{i32, i32, i32, i32}, []uint64{2, 2048, 2, 64}, map[string]uint64{"bytes": 33, "more": 1}, 1},
		{"`args_*`, `environ_*`", "environ_sizes_get", []byte{i32, i32}, []uint64{64, 68}, nil, 1},
		{"`sched_yield`", "sched_yield", nil, nil, nil, 1},
		{"all other `fd_*`, `path_*`, `sock_accept`, `sock_shutdown`", "fd_close", []byte{i32}, []uint64{3}, nil, 1},
	} {
		gas := func(calls int) uint64 {
			var b wasmtest.Builder
			f := b.Import("wasi_snapshot_preview1", c.name, c.params, []byte{i32})
			var body []byte
			for range calls {
				for i, a := range c.args {
					body = append(body, wasmtest.Const(c.params[i], a)...)
				}
				body = append(wasmtest.Cat(body, 0x10, wasmtest.U32(f)), 0x1a)
			}
			for _, e := range []string{engine.EntryDeploy, engine.EntryCall, engine.EntryQuery} {
				b.Func(e, nil, nil, nil, body)
			}
			b.Data(2048, []byte{0, 4, 0, 0, 33, 0, 0, 0}) // an iovec of 33 bytes
			b.Memory(1, 1)
			b.Export("memory", 2, 0)
			res, err := prepare(t, b.Bytes()).Run(t.Context(), &engine.Call{Entry: engine.EntryCall, Gas: 1 << 30, Host: priceHost{}})
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			return res.GasUsed
		}
		costs := wasmprep.RulesV1().Costs
		around := uint64(costs.Op[0x10]) + uint64(costs.Op[0x41])*uint64(len(c.args))
		p := priced{name: c.name, words: c.words, more: c.words["more"] > 0}
		if got, want := gas(2)-gas(1)-around, c.times*p.price(t, cells[c.row]); got != want {
			t.Errorf("%s costs %d; docs/abi.md: %q, which is %d", c.name, got, cells[c.row], want)
		}
	}
}

// TestInstructionPrices: the manual's table of instructions is that of the rules.
func TestInstructionPrices(t *testing.T) {
	c := wasmprep.RulesV1().Costs
	op := func(list ...int) (out []uint64) {
		for _, o := range list {
			out = append(out, uint64(c.Op[o]))
		}
		return out
	}
	span := func(from, to int) (list []int) {
		for o := from; o <= to; o++ {
			list = append(list, o)
		}
		return list
	}
	join := func(lists ...[]int) (out []int) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	named := map[int]bool{}
	rows := map[string]func() [][]uint64{} // for each number in a row's price, all that costs it
	row := func(text string, lists ...[]int) {
		for _, l := range lists {
			for _, o := range l {
				named[o] = true
			}
		}
		rows[text] = func() (out [][]uint64) {
			for _, l := range lists {
				out = append(out, op(l...))
			}
			return out
		}
	}
	row("loads, stores, multiplication, `if`, `br`, `br_if`, `return`, `select`", join(span(0x28, 0x3e), []int{0x6c, 0x7e, 0x04, 0x0c, 0x0d, 0x0f, 0x1b, 0x1c}))
	row("float arithmetic that may make a NaN", join(span(0x8d, 0x90), span(0x92, 0x94), span(0x96, 0x97), span(0x9b, 0x9e), span(0xa0, 0xa2), span(0xa4, 0xa5), []int{0xb6, 0xbb}))
	row("`call_indirect`", []int{0x11})
	row("integer division and remainder: 32, 64 bits", span(0x6d, 0x70), span(0x7f, 0x82))
	row("float division, square root", []int{0x91, 0x95, 0x9f, 0xa3})
	row("`nop`, `block`, `loop`, `else`, `end`, `drop`, `unreachable`", []int{0x01, 0x02, 0x03, 0x05, 0x0b, 0x1a, 0x00})
	row("`call`, `br_table`, saturating truncation; trapping float-to-int", join([]int{0x10, 0x0e}, span(0xa8, 0xab), span(0xae, 0xb1)))
	row("`memory.grow`", []int{0x40})
	calls := rows["`call`, `br_table`, saturating truncation; trapping float-to-int"]
	rows["`call`, `br_table`, saturating truncation; trapping float-to-int"] = func() [][]uint64 {
		out := calls()
		for sub := range 8 {
			out[0] = append(out[0], uint64(c.Prefixed[sub]))
		}
		return out
	}
	grow := rows["`memory.grow`"]
	rows["`memory.grow`"] = func() [][]uint64 { return append(grow(), []uint64{uint64(c.GrowPage)}) }
	rows["`memory.fill`, `copy`, `init`"] = func() [][]uint64 {
		return [][]uint64{{uint64(c.Prefixed[8]), uint64(c.Prefixed[10]), uint64(c.Prefixed[11])}, {1 << c.BulkShift}}
	}
	rows["entering a function, on top"] = func() [][]uint64 { return [][]uint64{{uint64(c.Call)}} }
	rows["most: integer arithmetic, constants, locals, globals, comparisons"] = func() [][]uint64 {
		var rest []uint64
		for _, o := range join(span(0x20, 0x24), span(0x3f, 0x44), span(0x45, 0xc4)) {
			if !named[o] {
				rest = append(rest, uint64(c.Op[o]))
			}
		}
		return [][]uint64{rest}
	}
	digits := regexp.MustCompile(`[0-9,]*[0-9]`)
	for _, r := range manualRows(t, "Gas of instructions (rules version 1)") {
		want, ok := rows[r[0]]
		if r[0] == "instruction" {
			continue
		}
		if !ok {
			t.Errorf("docs/abi.md prices %q, which this test does not know", r[0])
			continue
		}
		delete(rows, r[0])
		numbers := digits.FindAllString(r[1], -1)
		if costs := want(); len(costs) != len(numbers) {
			t.Errorf("%s: %q has %d numbers, want %d", r[0], r[1], len(numbers), len(costs))
		} else {
			for i, list := range costs {
				for _, got := range list {
					if n := strings.ReplaceAll(numbers[i], ",", ""); strconv.FormatUint(got, 10) != n {
						t.Errorf("%s: docs/abi.md says %s, the rules %d", r[0], n, got)
					}
				}
			}
		}
	}
	for text := range rows {
		t.Errorf("docs/abi.md leaves out %q", text)
	}
}
