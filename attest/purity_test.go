package attest_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/phala-go/phala"

// pure are the packages of the verifier.
var pure = []string{"attest", "attest/dcap", "attest/fault", "attest/internal/pki", "attest/snp"}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return root
}

// goFiles calls f with every Go file below dir that is not a test.
func goFiles(t *testing.T, dir string, f func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != dir:
			return nil // removed since its folder was read
		case err != nil:
			return err
		case d.IsDir() && path != dir && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || path == filepath.Join(dir, "bin")):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil // not this test's concern; the compiler says it
		}
		f(path, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestVerifierIsPure: no verifier can read a clock, the network or a file. All
// that it is linked from is the standard library without net and crypto/x509,
// and itself; its own code imports nothing that does input or output; and of
// package time it uses values only.
func TestVerifierIsPure(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{.Standard}}", ".")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	var linked []string
	for line := range strings.Lines(string(out)) {
		path, standard, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, own := strings.CutPrefix(path, module+"/")
		switch {
		case own:
			linked = append(linked, name)
		case standard != "true":
			t.Errorf("the verifier links %s, which is neither its own nor Go's", path)
		case path == "net" || strings.HasPrefix(path, "net/") || strings.HasPrefix(path, "os/") || path == "crypto/x509" || path == "encoding/json":
			t.Errorf("the verifier links %s", path)
		}
	}
	slices.Sort(linked)
	if !slices.Equal(linked, pure) {
		t.Errorf("the verifier links %v, expected %v", linked, pure)
	}
	imports := []string{
		"bytes", "crypto", "crypto/ecdsa", "crypto/elliptic", "crypto/rsa", "crypto/sha256", "crypto/sha512",
		"embed", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/pem", "errors", "fmt", "math/big",
		"slices", "strconv", "strings", "sync", "time",
	}
	clock := []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer", "Local", "LoadLocation"}
	for _, name := range pure {
		entries, err := os.ReadDir(filepath.Join(repository(t), name))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() || !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
				continue
			}
			path := filepath.Join(repository(t), name, e.Name())
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range file.Imports {
				p, _ := strconv.Unquote(spec.Path.Value)
				if !slices.Contains(imports, p) && !strings.HasPrefix(p, module+"/attest/") {
					t.Errorf("%s/%s imports %s", name, e.Name(), p)
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				switch x, ok := sel.X.(*ast.Ident); {
				case ok && x.Name == "time" && slices.Contains(clock, sel.Sel.Name):
					t.Errorf("%s/%s uses time.%s", name, e.Name(), sel.Sel.Name)
				case ok && x.Name == "fmt" && !slices.Contains([]string{"Errorf", "Sprintf"}, sel.Sel.Name):
					t.Errorf("%s/%s uses fmt.%s", name, e.Name(), sel.Sel.Name)
				}
				return true
			})
		}
	}
}

// TestNoIssuerInProduction: the package that issues simulated evidence is used by its own
// program and by tests, by nothing else in the repository; no production binary can
// contain it. One package that is no test file has it, which helps tests: that one may be
// imported by tests only.
func TestNoIssuerInProduction(t *testing.T) {
	const issuer, helper = module + "/attest/simulator", module + "/pruntime/chaintest/stack"
	users := importers(t, issuer, helper)
	if got := users[issuer]; !slices.Equal(got, []string{"cmd/tee-simulator", "pruntime/chaintest/stack"}) {
		t.Errorf("%s is imported by %v; only cmd/tee-simulator and %s may", issuer, got, helper)
	}
	if got := users[helper]; got != nil {
		t.Errorf("%s is imported by %v; only tests may", helper, got)
	}
}

// importers returns the folders of all modules whose Go files, tests apart, import these
// packages or one below them.
func importers(t *testing.T, packages ...string) map[string][]string {
	t.Helper()
	root, users := repository(t), map[string][]string{}
	goFiles(t, root, func(path string, file *ast.File) {
		for _, spec := range file.Imports {
			p, _ := strconv.Unquote(spec.Path.Value)
			for _, pkg := range packages {
				if p != pkg && !strings.HasPrefix(p, pkg+"/") {
					continue
				}
				rel, err := filepath.Rel(root, filepath.Dir(path))
				if err != nil {
					t.Fatal(err)
				}
				if rel = filepath.ToSlash(rel); !slices.Contains(users[pkg], rel) {
					users[pkg] = append(users[pkg], rel)
				}
			}
		}
	})
	return users
}
