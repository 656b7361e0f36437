package purity

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestManuals: a package that others import says in doc.go what it is for, and shows it
// with an Example. Programs, what only tests import, and internal packages need none.
func TestManuals(t *testing.T) {
	public := 0
	for p := range list[struct {
		ImportPath, Dir, Name     string
		TestGoFiles, XTestGoFiles []string
	}](t, "./...") {
		_, path, _ := strings.Cut(p.ImportPath, "/phala/")
		if p.Name == "main" || !isPublic(path) {
			continue
		}
		public++
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, "doc.go"), nil, parser.ParseComments)
		if err != nil || !strings.HasPrefix(f.Doc.Text(), "Package "+p.Name+" ") {
			t.Errorf("%s has no manual in doc.go: %v", path, err)
		}
		example := false
		for _, name := range append(p.TestGoFiles, p.XTestGoFiles...) {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range f.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				example = example || ok && strings.HasPrefix(fn.Name.Name, "Example")
			}
		}
		if !example {
			t.Errorf("%s has no Example", path)
		}
	}
	if public < 40 {
		t.Errorf("only %d packages were looked at", public)
	}
}

// isPublic reports whether a package is for others: not a test, an example, nor what only
// tests import, whose folder says so. The contracts' testing kit is for others.
func isPublic(path string) bool {
	for i, dir := range strings.Split(path, "/") {
		switch {
		case dir == "internal", i == 0 && (dir == "test" || dir == "examples" || dir == "deploy"):
			return false
		case strings.HasSuffix(dir, "test") && dir != "contracttest":
			return false
		}
	}
	return true
}
