package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// An abiFunc is a host function as docs/abi.md describes it.
type abiFunc struct {
	name            string
	params, results []byte
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
			for param := range strings.SplitSeq(m[2], ",") {
				f.params = append(f.params, wasmtest.I32) // unless it says otherwise
				if strings.HasSuffix(param, "i64") {
					f.params[len(f.params)-1] = wasmtest.I64
				}
			}
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

var engineRow = regexp.MustCompile(`(?m)^\t\{"([a-z0-9_]+)", (?:nil|types\(([^)]*)\)), (?:nil|types\(([^)]*)\)), `)

// TestManual: docs/abi.md has every host function of the engine, with its type.
func TestManual(t *testing.T) {
	files, err := filepath.Glob("../../pruntime/engine/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	manual := map[string]string{}
	for _, f := range abi(t) {
		manual[f.name] = fmt.Sprintf("%x -> %x", f.params, f.results)
	}
	types := func(s string) (out []byte) {
		for v := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == ' ' }) {
			out = append(out, map[string]byte{"i32": wasmtest.I32, "i64": wasmtest.I64}[v])
		}
		return out
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || filepath.Base(file) == "wasi.go" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range engineRow.FindAllStringSubmatch(string(b), -1) {
			want := fmt.Sprintf("%x -> %x", types(m[2]), types(m[3]))
			if got, ok := manual[m[1]]; !ok {
				t.Errorf("docs/abi.md leaves out %s", m[1])
			} else if got != want {
				t.Errorf("docs/abi.md gives %s the type %s, it has %s", m[1], got, want)
			}
			delete(manual, m[1])
		}
	}
	for name := range manual {
		t.Errorf("docs/abi.md has %s, the engine does not", name)
	}
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
		c.index[f.name] = c.Import("phat", f.name, f.params, f.results)
		c.funcs[f.name] = f
	}
	return c
}

func n32(v uint32) []byte { return wasmtest.Const(wasmtest.I32, uint64(v)) }

// do calls a host function and drops its result.
func (c *contract) do(name string, args ...uint32) []byte {
	params := c.funcs[name].params
	if len(args) != len(params) {
		panic("hostile: wrong number of arguments for " + name)
	}
	var body []byte
	for i, a := range args {
		body = append(body, wasmtest.Const(params[i], uint64(a))...)
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
		var ft wasmprep.FuncType
		for _, p := range f.params {
			ft.Params = append(ft.Params, wasmprep.ValType(p))
		}
		for _, r := range f.results {
			ft.Results = append(ft.Results, wasmprep.ValType(r))
		}
		add[wasmprep.ImportKey{Module: "phat", Name: f.name}] = ft
	}
	_, err := wasmprep.Prepare(module, wasmprep.RulesV1().WithImports(add))
	return err == nil
}
