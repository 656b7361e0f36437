package wasmprep_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
	"github.com/phala-go/phala/wasmprep/wasmtest/corpushost"
)

func corpusRules() wasmprep.Rules { return corpushost.Rules() }

func corpusHost(t testing.TB, rt wazero.Runtime) {
	t.Helper()
	if err := corpushost.Instantiate(context.Background(), rt); err != nil {
		t.Fatal(err)
	}
}

const corpusGas = 1 << 33

// goldenCalls runs a module's calls on one instance and writes a line each.
func goldenCalls(t testing.TB, rt wazero.Runtime, mod wasmtest.Module, m *wasmprep.Module) string {
	t.Helper()
	host := &wasmtest.Host{}
	ctx := corpushost.With(context.Background(), host)
	code, err := image.Compile(ctx, rt, m)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := image.New(ctx, code)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close(ctx)
	var out bytes.Buffer
	calls := mod.Calls
	if m.HasStart {
		calls = append([]wasmtest.Call{{Export: wasmprep.StartExport}}, calls...)
	}
	for _, c := range calls {
		host.Output = nil
		res, gas, err := inst.Call(ctx, c.Export, corpusGas, c.Args...)
		state := inst.StateHash()
		status := "ok"
		var exit wasmtest.Exit
		switch {
		case errors.As(err, &exit):
			status = exit.Reason
		case err != nil:
			status = failure(err)
		}
		fmt.Fprintf(&out, "%s.%s%v = %x gas %d state %x output %x: %s\n", mod.Name, c.Export, c.Args, res, gas, state[:8], sha256.Sum256(host.Output), status)
		if err != nil {
			inst.Revive()
		}
	}
	return out.String()
}

// TestGoldenGas pins results, gas and memory of the corpus under the first
// rules version. A change here without a new version splits the network.
func TestGoldenGas(t *testing.T) {
	compiler, interp := newRuntime(t, true), newRuntime(t, false)
	corpusHost(t, compiler)
	corpusHost(t, interp)
	var golden bytes.Buffer
	for _, mod := range wasmtest.Corpus() {
		m := mustPrepare(t, mod.Code, corpusRules())
		fmt.Fprintf(&golden, "%s: prepared %x\n", mod.Name, sha256.Sum256(m.Code))
		lines := goldenCalls(t, compiler, mod, m)
		golden.WriteString(lines)
		if mod.Name == "deep" || mod.Name == "go" && testing.Short() {
			continue // the interpreter has a lower ceiling of its own
		}
		if other := goldenCalls(t, interp, mod, m); other != lines {
			t.Errorf("%s: the engines differ\ncompiler:\n%sinterpreter:\n%s", mod.Name, lines, other)
		}
	}
	path := filepath.Join("testdata", "gas-v1.golden")
	if *update {
		if err := os.WriteFile(path, golden.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, golden.Bytes()) {
		t.Errorf("gas differs from %s:\n%s", path, golden.String())
	}
}

// TestDeterministicOutput prepares twice, and once from a copy elsewhere in
// memory, and expects the same bytes and an untouched input.
func TestDeterministicOutput(t *testing.T) {
	for _, mod := range wasmtest.Corpus() {
		before := sha256.Sum256(mod.Code)
		a := mustPrepare(t, mod.Code, corpusRules())
		b := mustPrepare(t, append([]byte("x"), mod.Code...)[1:], corpusRules())
		if !bytes.Equal(a.Code, b.Code) {
			t.Errorf("%s: two runs differ", mod.Name)
		}
		if sha256.Sum256(mod.Code) != before {
			t.Errorf("%s: the input was written to", mod.Name)
		}
		if _, err := wasmprep.Prepare(a.Code, corpusRules()); !errors.Is(err, wasmprep.ErrReservedName) {
			t.Errorf("%s: preparing a prepared module: %v, want a reserved name", mod.Name, err)
		}
	}
}
