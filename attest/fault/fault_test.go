package fault

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// TestCodesAreDistinct reads the codes from the source: each has a step and a
// reason, and no two are one.
func TestCodesAreDistinct(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[a-z]+\.[a-z-]+$`)
	seen := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		lit, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		code, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[code]; ok {
			t.Errorf("%s and %s are both %q", spec.Names[0].Name, other, code)
		}
		if !form.MatchString(code) {
			t.Errorf("%s is %q", spec.Names[0].Name, code)
		}
		seen[code] = spec.Names[0].Name
		return true
	})
	if len(seen) < 60 {
		t.Fatalf("only %d codes found", len(seen))
	}
}

func TestError(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("worker 7: %w", Wrap(PCKChain, "PCK CA", cause))
	if !errors.Is(err, PCKChain) || !errors.Is(err, cause) || errors.Is(err, PCKRoot) {
		t.Error("errors.Is")
	}
	if CodeOf(err) != PCKChain || CodeOf(cause) != "" || CodeOf(nil) != "" || CodeOf(Debug) != Debug {
		t.Error("CodeOf")
	}
	if got, want := err.Error(), "worker 7: attestation refused: pck.chain: PCK CA: cause"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if PCKChain.Step() != "pck" || New(Debug, "").Error() != "attestation refused: policy.debug" {
		t.Error("step or message")
	}
}
