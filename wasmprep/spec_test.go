package wasmprep_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
)

var update = flag.Bool("update", false, "rewrite golden files")

// specDir finds the official test suite, which wazero carries in its module.
func specDir(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "internal", "integration_test", "spectest")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "v2", "testdata"))
	}
	if err != nil {
		t.Skipf("official test suite not found: looked for %s in the wazero module: %v", dir, err)
	}
	return dir
}

type specCommand struct {
	Type       string     `json:"type"`
	Line       int        `json:"line"`
	Name       string     `json:"name"`
	As         string     `json:"as"`
	Filename   string     `json:"filename"`
	ModuleType string     `json:"module_type"`
	Action     specAction `json:"action"`
	Expected   []specVal  `json:"expected"`
}

type specAction struct {
	Type   string    `json:"type"`
	Field  string    `json:"field"`
	Module string    `json:"module"`
	Args   []specVal `json:"args"`
}

type specVal struct {
	Type  string `json:"type"`
	Value any    `json:"value"`
}

// bits returns the value, or a NaN pattern's name.
func (v specVal) bits() (uint64, string) {
	s, _ := v.Value.(string)
	if strings.HasPrefix(s, "nan:") {
		return 0, s
	}
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		return n, ""
	}
	n, _ := strconv.ParseInt(s, 10, 64)
	if v.Type == "i32" || v.Type == "f32" {
		return uint64(uint32(n)), ""
	}
	return uint64(n), ""
}

// matches checks a prepared module's result. NaN results of arithmetic must be
// the canonical one, whatever the suite leaves open.
func (v specVal) matches(got uint64) bool {
	want, nan := v.bits()
	switch {
	case nan != "" && v.Type == "f32":
		return uint32(got) == 0x7fc00000 || nan == "nan:arithmetic" && math.IsNaN(float64(math.Float32frombits(uint32(got))))
	case nan != "":
		return got == 0x7ff8000000000000 || nan == "nan:arithmetic" && math.IsNaN(math.Float64frombits(got))
	case v.Type == "i32" || v.Type == "f32":
		return uint32(want) == uint32(got)
	}
	return want == got
}

// specRules are the rules with the suite's own host functions, and with room
// for its size tests.
func specRules() wasmprep.Rules {
	r := wasmprep.RulesV1().WithImports(map[wasmprep.ImportKey]wasmprep.FuncType{
		{Module: "spectest", Name: "print"}:         {},
		{Module: "spectest", Name: "print_i32"}:     {Params: []wasmprep.ValType{wasmprep.I32}},
		{Module: "spectest", Name: "print_i64"}:     {Params: []wasmprep.ValType{wasmprep.I64}},
		{Module: "spectest", Name: "print_f32"}:     {Params: []wasmprep.ValType{wasmprep.F32}},
		{Module: "spectest", Name: "print_f64"}:     {Params: []wasmprep.ValType{wasmprep.F64}},
		{Module: "spectest", Name: "print_i32_f32"}: {Params: []wasmprep.ValType{wasmprep.I32, wasmprep.F32}},
		{Module: "spectest", Name: "print_f64_f64"}: {Params: []wasmprep.ValType{wasmprep.F64, wasmprep.F64}},
	})
	r.Limits.MemoryPages = 65536
	r.Limits.TableEntries, r.Limits.BrTableLabels = 1<<24, 1<<20
	r.Limits.Params, r.Limits.Results = 1024, 1024
	r.Limits.CompileWork = 1 << 30 // it has a table of 24,000 labels
	return r
}

func spectestHost(t *testing.T, rt wazero.Runtime) {
	b := rt.NewHostModuleBuilder("spectest")
	for k, f := range specRules().Imports {
		if k.Module != "spectest" {
			continue
		}
		var ps []api.ValueType
		for _, p := range f.Params {
			ps = append(ps, api.ValueType(p))
		}
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(context.Context, []uint64) {}), ps, nil).Export(k.Name)
	}
	if _, err := b.Instantiate(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// specInstance is one accepted module on both engines, prepared, and as it was.
type specInstance struct {
	plain    api.Module
	prepared [2]*image.Instance // compiler, interpreter
}

const (
	specGas   = 1 << 40
	specSlice = 1 << 30
)

// specTally counts what happened; it is compared with the golden file.
type specTally struct {
	accepted, calls, traps, invalid int
	refused                         map[string]int
	// lenient counts modules that the suite calls invalid or malformed and
	// that both wasmprep and wazero accept.
	lenient int
}

func (s *specTally) String() string {
	kinds := make([]string, 0, len(s.refused))
	for k, n := range s.refused {
		kinds = append(kinds, fmt.Sprintf("%s=%d", k, n))
	}
	slices.Sort(kinds)
	return strings.TrimSpace(fmt.Sprintf("accepted=%d calls=%d traps=%d invalid=%d lenient=%d %s", s.accepted, s.calls, s.traps, s.invalid, s.lenient, strings.Join(kinds, " ")))
}

func kindOf(t *testing.T, err error) string {
	var e *wasmprep.Error
	if !errors.As(err, &e) {
		t.Fatalf("untyped error %v", err)
	}
	return string(e.Kind)
}

// TestOfficialSuite runs the WebAssembly core test suite through Prepare.
// Every accepted module must behave as before and as the suite demands, on
// both engines and for the same gas; refusals are counted in a golden file.
func TestOfficialSuite(t *testing.T) {
	dir := specDir(t)
	total := &specTally{refused: map[string]int{}}
	var golden strings.Builder
	for _, version := range []string{"v1", "v2"} {
		files, err := filepath.Glob(filepath.Join(dir, version, "testdata", "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no test files in %s", dir)
		}
		slices.Sort(files)
		for _, f := range files {
			name := version + "/" + strings.TrimSuffix(filepath.Base(f), ".json")
			if testing.Short() && version == "v2" {
				continue
			}
			s := &specTally{refused: map[string]int{}}
			t.Run(name, func(t *testing.T) { runSpec(t, f, s) })
			fmt.Fprintf(&golden, "%s: %s\n", name, s)
			total.accepted, total.calls, total.traps = total.accepted+s.accepted, total.calls+s.calls, total.traps+s.traps
			total.invalid, total.lenient = total.invalid+s.invalid, total.lenient+s.lenient
			for k, n := range s.refused {
				total.refused[k] += n
			}
		}
	}
	t.Logf("total: %s", total)
	if testing.Short() || t.Failed() {
		return
	}
	fmt.Fprintf(&golden, "total: %s\n", total)
	path := filepath.Join("testdata", "spec.golden")
	if *update {
		if err := os.WriteFile(path, []byte(golden.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != golden.String() {
		t.Errorf("the counts differ from %s; see the change with -update", path)
	}
}

func runSpec(t *testing.T, file string, tally *specTally) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Commands []specCommand `json:"commands"`
	}
	if err := json.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	rts := [2]wazero.Runtime{newRuntime(t, true), newRuntime(t, false)}
	for _, rt := range rts {
		spectestHost(t, rt)
	}
	rules := specRules()
	named := map[string]*specInstance{}
	// Once a module that would have shared a table or memory with another has
	// been refused, the suite's expectations no longer hold; the comparison
	// with the original goes on.
	shared := false
	var last *specInstance
	for _, c := range suite.Commands {
		var code []byte
		if c.Filename != "" && c.ModuleType != "text" {
			if code, err = os.ReadFile(filepath.Join(filepath.Dir(file), c.Filename)); err != nil {
				t.Fatal(err)
			}
		}
		switch c.Type {
		case "module":
			last = nil
			m, err := wasmprep.Prepare(code, rules)
			if err != nil {
				tally.refused[kindOf(t, err)]++
				shared = shared || errors.Is(err, wasmprep.ErrUnknownImport)
			} else {
				tally.accepted++
				last = instantiateSpec(t, ctx, rts, code, m)
			}
			if c.Name != "" {
				named[c.Name] = last
			}
		case "assert_return", "action", "assert_trap":
			inst := last
			if c.Action.Module != "" {
				inst = named[c.Action.Module]
			}
			if inst == nil || c.Action.Type != "invoke" {
				continue
			}
			tally.calls++
			specCall(t, ctx, inst, c, shared)
			if c.Type == "assert_trap" {
				tally.traps++
			}
		case "assert_invalid", "assert_malformed":
			if code == nil {
				continue
			}
			tally.invalid++
			m, err := wasmprep.Prepare(code, rules)
			if err == nil {
				_, err = rts[0].CompileModule(ctx, m.Code)
			}
			if err == nil {
				tally.lenient++
				t.Logf("%s line %d: accepted although %s", c.Filename, c.Line, c.Type)
			}
		}
	}
}

func instantiateSpec(t *testing.T, ctx context.Context, rts [2]wazero.Runtime, code []byte, m *wasmprep.Module) *specInstance {
	inst := &specInstance{}
	var startErr [3]string
	c, err := rts[0].CompileModule(ctx, code)
	if err != nil {
		t.Fatalf("wasmprep accepts what wazero refuses: %v", err)
	}
	if inst.plain, err = rts[0].InstantiateModule(ctx, c, wazero.NewModuleConfig().WithName("").WithStartFunctions()); err != nil {
		startErr[2] = trap(err)
	}
	for i, rt := range rts {
		code, err := image.Compile(ctx, rt, m)
		if err != nil {
			t.Fatal(err)
		}
		p, err := image.New(ctx, code)
		if err != nil {
			startErr[i] = trap(err)
			continue
		}
		p.SetSlice(specSlice)
		inst.prepared[i] = p
		if m.HasStart {
			if _, _, err := p.Call(ctx, wasmprep.StartExport, specGas); err != nil {
				startErr[i] = trap(err)
			}
		}
	}
	if (startErr[0] == "") != (startErr[2] == "") || startErr[0] != startErr[1] {
		t.Errorf("instantiation: original %q, prepared %q and %q", startErr[2], startErr[0], startErr[1])
	}
	if startErr[2] != "" {
		return nil
	}
	return inst
}

func specCall(t *testing.T, ctx context.Context, inst *specInstance, c specCommand, shared bool) {
	t.Helper()
	fn := inst.plain.ExportedFunction(c.Action.Field)
	if fn == nil {
		t.Fatalf("line %d: no function %q", c.Line, c.Action.Field)
	}
	args := make([]uint64, len(c.Action.Args))
	for i, a := range c.Action.Args {
		args[i], _ = a.bits()
	}
	plain, plainErr := fn.Call(ctx, slices.Clone(args)...)
	var gas [2]uint64
	var res [2][]uint64
	var errs [2]error
	for i, p := range inst.prepared {
		p.Revive()
		res[i], gas[i], errs[i] = p.Call(ctx, c.Action.Field, specGas, args...)
	}
	at := fmt.Sprintf("line %d, %s(%x)", c.Line, c.Action.Field, args)
	if plainErr != nil {
		if c.Type != "assert_trap" && !shared {
			t.Errorf("%s: original fails: %v", at, plainErr)
		}
		for i, err := range errs {
			if err == nil || trap(err) != trap(plainErr) && !errors.Is(err, image.ErrCallDepth) {
				t.Errorf("%s: engine %d: error %v, original %v", at, i, err, plainErr)
			}
		}
	} else {
		for i, err := range errs {
			if err != nil {
				t.Fatalf("%s: engine %d: %v", at, i, err)
			}
		}
		if !slices.Equal(res[0], res[1]) {
			t.Errorf("%s: compiler %x, interpreter %x", at, res[0], res[1])
		}
		for i, v := range c.Expected {
			if !shared && !v.matches(res[0][i]) {
				t.Errorf("%s: result %x, want %v", at, res[0][i], v)
			}
			if _, nan := v.bits(); nan == "" && trim32(v.Type, plain[i]) != res[0][i] {
				t.Errorf("%s: result %x, original %x", at, res[0][i], plain[i])
			}
		}
	}
	if gas[0] != gas[1] {
		t.Errorf("%s: gas %d compiled, %d interpreted", at, gas[0], gas[1])
	}
}

// trim32 clears the upper half of a 32-bit value, which wazero leaves open.
func trim32(typ string, v uint64) uint64 {
	if typ == "i32" || typ == "f32" {
		return uint64(uint32(v))
	}
	return v
}
