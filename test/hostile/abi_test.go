package hostile

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// An abiFunc is a host function as docs/abi.md describes it.
type abiFunc struct {
	name    string
	params  int // all i32
	results []byte
}

var abiRow = regexp.MustCompile("^\\| `([a-z0-9_]+)` \\| `\\(([^)]*)\\)( -> (i32|i64))?` \\|")

// abi reads the functions of module phat out of the manual: what authors in other
// languages go by is what these tests import.
func abi(t testing.TB) []abiFunc {
	t.Helper()
	b, err := os.ReadFile("../../docs/abi.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "## Host functions, module `phat`")
	text, _, _ = strings.Cut(text, "\n## ")
	if !ok {
		t.Fatal("docs/abi.md has no chapter on host functions")
	}
	var out []abiFunc
	for line := range strings.Lines(text) {
		m := abiRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		f := abiFunc{name: m[1]}
		if m[2] != "" {
			f.params = len(strings.Split(m[2], ","))
		}
		switch m[4] {
		case "i32":
			f.results = []byte{wasmtest.I32}
		case "i64":
			f.results = []byte{wasmtest.I64}
		}
		out = append(out, f)
	}
	if len(out) < 16 {
		t.Fatalf("only %d host functions found in docs/abi.md", len(out))
	}
	return out
}

// A contract is a module under assembly that imports every host function of the manual.
type contract struct {
	wasmtest.Builder
	index map[string]uint32
	funcs map[string]abiFunc
	pages uint32
}

func newContract(t testing.TB) *contract {
	t.Helper()
	c := &contract{index: map[string]uint32{}, funcs: map[string]abiFunc{}, pages: 64}
	for _, f := range abi(t) {
		params := make([]byte, f.params)
		for i := range params {
			params[i] = wasmtest.I32
		}
		c.index[f.name] = c.Import("phat", f.name, params, f.results)
		c.funcs[f.name] = f
	}
	return c
}

func n32(v uint32) []byte { return wasmtest.Const(wasmtest.I32, uint64(v)) }

// do calls a host function and drops its result.
func (c *contract) do(name string, args ...uint32) []byte {
	var body []byte
	for _, a := range args {
		body = append(body, n32(a)...)
	}
	if len(args) != c.funcs[name].params {
		panic("hostile: wrong number of arguments for " + name)
	}
	body = wasmtest.Cat(body, 0x10, wasmtest.U32(c.index[name]))
	if len(c.funcs[name].results) > 0 {
		body = append(body, 0x1a)
	}
	return body
}

// times runs body n times, counting in local 0.
func times(n uint32, body ...any) []byte {
	return wasmtest.Cat(n32(n), 0x21, 0, 0x03, 0x40, wasmtest.Cat(body...), 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b)
}

// forever runs body without end.
func forever(body ...any) []byte {
	return wasmtest.Cat(0x03, 0x40, wasmtest.Cat(body...), 0x0c, 0, 0x0b)
}

// module completes the contract. deploy stores "was" under "k"; call is the body, with
// one i32 local; query answers the value of "k".
func (c *contract) module(body ...any) []byte {
	c.Data(0, []byte("k"))
	c.Data(8, []byte("was"))
	c.Func("deploy", nil, nil, nil, c.do("kv_put", 0, 1, 8, 3))
	c.Func("call", nil, nil, []byte{wasmtest.I32}, body...)
	c.Func("query", nil, nil, nil, c.do("kv_get", 0, 1), c.do("staged_read", 64), c.do("output", 64, 3))
	c.Memory(1, c.pages)
	c.Export("memory", 2, 0)
	return c.Bytes()
}

// accepted tells whether wasmprep takes a module, under the rules that the manual gives.
func accepted(t testing.TB, module []byte) bool {
	add := map[wasmprep.ImportKey]wasmprep.FuncType{}
	for _, f := range abi(t) {
		ft := wasmprep.FuncType{Params: make([]wasmprep.ValType, f.params)}
		for i := range ft.Params {
			ft.Params[i] = wasmprep.I32
		}
		for _, r := range f.results {
			ft.Results = append(ft.Results, wasmprep.ValType(r))
		}
		add[wasmprep.ImportKey{Module: "phat", Name: f.name}] = ft
	}
	_, err := wasmprep.Prepare(module, wasmprep.RulesV1().WithImports(add))
	return err == nil
}
