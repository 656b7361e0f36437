// Package examples tests the examples in other languages than Go, which have no tests of
// their own: built where the compiler is installed, run in the enclave's engine.
package examples

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
)

// compile runs a compiler in dir and returns the module it writes to the file that comes
// last among the arguments.
func compile(t *testing.T, dir, tool string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "tally.wasm")
	cmd := exec.CommandContext(t.Context(), tool, append(args, "-o", out)...)
	cmd.Dir = dir
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func buildC(t *testing.T) []byte {
	clang, err := exec.LookPath("clang")
	if err != nil {
		t.Skip("no clang to build tally-c with (Debian: apt install clang lld)")
	}
	// Clang has a linker for Wasm only with lld beside it.
	if out, err := exec.Command(clang, "--target=wasm32", "-print-prog-name=wasm-ld").Output(); err != nil || !filepath.IsAbs(strings.TrimSpace(string(out))) {
		t.Skip("clang finds no wasm-ld to link tally-c with (Debian: apt install lld)")
	}
	return compile(t, "tally-c", clang, "--target=wasm32", "-O2", "-mbulk-memory", "-nostdlib", "-Wall", "-Wextra", "-Werror", "-Wl,--no-entry", "-Wl,--strip-all", "tally.c")
}

func buildAS(t *testing.T) []byte {
	asc := os.Getenv("ASC")
	if asc == "" {
		local, err := filepath.Abs("tally-as/node_modules/.bin/asc")
		if err != nil {
			t.Fatal(err)
		}
		if asc, err = exec.LookPath(local); err != nil {
			asc, err = exec.LookPath("asc")
		}
		if err != nil {
			t.Skip("no asc to build tally-as with (npm install in examples/tally-as, or ASC names it)")
		}
	}
	return compile(t, "tally-as", asc, "tally.ts", "-O2", "--runtime", "stub", "--use", "abort=tally/abort")
}

// TestTally: contracts in other languages do what the manual says, refusals included, and
// look the same from outside.
func TestTally(t *testing.T) {
	for name, build := range map[string]func(*testing.T) []byte{"C": buildC, "AssemblyScript": buildAS} {
		t.Run(name, func(t *testing.T) { tally(t, build(t)) })
	}
}

func tally(t *testing.T, module []byte) {
	w := clustertest.New(t, clustertest.Prepare(t, module, ""))
	if s := w.Deploy("owner", 7); s.Status != proto.StatusContractError {
		t.Errorf("a constructor with an argument ends with %s", s.Status)
	}
	if s := w.Deploy("owner", nil); s.Status != proto.StatusOK {
		t.Fatalf("the constructor ends with %s %q", s.Status, s.Error)
	}
	for _, c := range []struct {
		input, says string
		total       string
	}{
		{`{"method":"Add","args":40}`, "", "40"},
		{`{"method":"Add","args":2}`, "", "42"},
		{`{"method":"Add","args":0}`, "", "42"},
		{`{"method":"Add","args":18446744073709551573}`, "", "18446744073709551615"},
		{`{"method":"Add","args":1}`, "would not fit 64 bits (code 100)", ""},
		{`{"method":"Add","args":18446744073709551616}`, "whole number (code 3)", ""},
		{`{"method":"Add","args":-1}`, "whole number (code 3)", ""},
		{`{"method":"Add","args":1.5}`, "whole number (code 3)", ""},
		{`{"method":"Add","args":01}`, "whole number (code 3)", ""},
		{`{"method":"Add","args":}`, "whole number (code 3)", ""},
		{`{"method":"Add","args":1`, "whole number (code 3)", ""},
		{`{"method":"Add"}`, "whole number (code 3)", ""},
		{`{"method":"Add","args":1}}`, "whole number (code 3)", ""},
		{`{"method":"Sub","args":1}`, "the commands are: Add (code 2)", ""},
		{`{"method":"Current"}`, "the commands are: Add (code 2)", ""},
		{`{"method":"Init"}`, "the commands are: Add (code 2)", ""},
		{``, "the commands are: Add (code 2)", ""},
		{`{"method":"Add","args":` + strings.Repeat("1", 600) + `}`, "(code ", ""},
	} {
		before, err := w.Query("owner", "Current", nil)
		if err != nil {
			t.Fatal(err)
		}
		s := w.Input("anyone", []byte(c.input))
		want := string(before)
		if c.says == "" {
			want = c.total
			if s.Status != proto.StatusOK || string(s.Return) != "null" {
				t.Errorf("%s ends with %s %q, answer %q", c.input, s.Status, s.Error, s.Return)
			}
		} else if s.Status != proto.StatusContractError || !strings.Contains(s.Error, c.says) {
			t.Errorf("%.60s ends with %s %q, want %q", c.input, s.Status, s.Error, c.says)
		}
		if got, err := w.Query("owner", "Current", nil); err != nil || string(got) != want {
			t.Errorf("after %.60s the total is %s, %v; want %s", c.input, got, err, want)
		}
	}
	for by, method := range map[string]string{"anyone": "Current", "": "Current", "owner": "Add"} {
		_, err := w.Query(by, method, nil)
		if err == nil || !strings.Contains(err.Error(), "(code ") {
			t.Errorf("%q may query %s: %v", by, method, err)
		}
	}
	// The description is what the tools understand.
	b, err := w.Query("", "describe", nil)
	if err != nil {
		t.Fatal(err)
	}
	var d contract.Description
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil || d.Name != "Tally" || len(d.Methods) != 3 {
		t.Errorf("described as %s, %v", b, err)
	}
}
