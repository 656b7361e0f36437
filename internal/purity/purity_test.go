// Package purity keeps the core packages pure: no I/O, clock, randomness or logging of
// their own. What they need of these is an argument.
package purity

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"iter"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// pure are the core packages.
var pure = []string{"./crypto/...", "./proto/...", "./lightclient/comet", "./lightclient/grandpa", "./lightclient/grandpa/scale", "./lightclient/grandpa/trie",
	"./lightclient/grandpa/storage", "./lightclient/grandpa/reads", "./pruntime/inbox", "./pruntime/cluster/...", "./pruntime/gatekeeper", "./attest", "./attest/dcap", "./attest/snp", "./attest/measure",
	"./npos", "./npos/report", "./npos/snapshot", "./npos/era", "./npos/bags", "./wasmprep"}

// forbidden are packages that reach outside.
var forbidden = []string{"os", "net", "syscall", "log", "log/slog", "crypto/rand", "math/rand", "math/rand/v2", "io/ioutil", "unsafe", "plugin"}

// clock are the functions of package time that read or wait for the clock.
var clock = map[string]bool{"Now": true, "Since": true, "Until": true, "Sleep": true, "After": true, "Tick": true, "NewTimer": true, "NewTicker": true, "AfterFunc": true}

func TestCorePackagesArePure(t *testing.T) {
	packages := 0
	for p := range list[struct {
		ImportPath, Dir string
		GoFiles         []string
	}](t, pure...) {
		packages++
		for _, name := range p.GoFiles {
			check(t, p.ImportPath, filepath.Join(p.Dir, name))
		}
	}
	if packages < len(pure) {
		t.Errorf("only %d packages were looked at", packages)
	}
}

// list gives what "go list" says about packages of this module, in the fields of P.
func list[P any](t *testing.T, patterns ...string) iter.Seq[P] {
	t.Helper()
	var fields []string
	for f := range reflect.TypeFor[P]().Fields() {
		fields = append(fields, f.Name)
	}
	cmd := exec.Command("go", append([]string{"list", "-json=" + strings.Join(fields, ",")}, patterns...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func(P) bool) {
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p P
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if !yield(p) {
				return
			}
		}
	}
}

func check(t *testing.T, pkg, file string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range f.Imports {
		path, _ := strconv.Unquote(im.Path.Value)
		for _, bad := range forbidden {
			if path == bad || strings.HasPrefix(path, bad+"/") {
				t.Errorf("%s: %s imports %s", pkg, filepath.Base(file), path)
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && x.Obj == nil && clock[s.Sel.Name] {
				t.Errorf("%s: %s uses time.%s", pkg, filepath.Base(file), s.Sel.Name)
			}
		}
		if _, ok := n.(*ast.GoStmt); ok {
			t.Errorf("%s: %s starts a goroutine", pkg, filepath.Base(file))
		}
		return true
	})
}
