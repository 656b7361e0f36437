// Package contractcheck refuses contracts whose source uses what cannot be the same on
// every replica, or means nothing inside an enclave.
//
// The sandbox stops none of it from running: the clock there is the block's, randomness
// the chain's, there are no files and no sockets. But math/rand would give numbers that
// everybody can compute, net only errors, and time.Now would make go test and the enclave
// differ. So the author is told where it is used, why it cannot be, and what to use.
//
// Checked are the packages of the contract's module and of its dependencies, as they are
// compiled for Wasm. What the standard library uses inside is fine, as math/big does
// with math/rand, and so is package contract itself.
package contractcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sdk is the package that speaks to the enclave for every contract.
const sdk = "github.com/phala-go/phala/contract"

// A Finding is one use of what a contract must not use.
type Finding struct {
	File         string // absolute
	Line, Column int
	What         string // the import, function or directive
	Why, Instead string
	Via          []string // packages from the contract's to the one at fault, where that is another
}

// String is the finding in the compiler's form.
func (f Finding) String() string {
	via := ""
	if len(f.Via) > 0 {
		via = " (reached through " + strings.Join(f.Via, ", ") + ")"
	}
	return fmt.Sprintf("%s:%d:%d: %s%s: %s; %s", short(f.File), f.Line, f.Column, f.What, via, f.Why, f.Instead)
}

// short is a path relative to the current folder, where it is below.
func short(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && filepath.IsLocal(rel) {
			return rel
		}
	}
	return path
}

// Refused is a contract with findings.
type Refused struct{ Findings []Finding }

// Error lists the findings, one on a line.
func (r *Refused) Error() string {
	var b strings.Builder
	b.WriteString("the contract uses what cannot work, or not the same everywhere, in an enclave:")
	for _, f := range r.Findings {
		b.WriteString("\n" + f.String())
	}
	return b.String()
}

// pkg is what the go command says about a package.
type pkg struct {
	ImportPath, Dir, Name string
	Standard              bool
	Module                *struct{ Path string }
	GoFiles               []string
	IgnoredGoFiles        []string
	SFiles, SysoFiles     []string
	Imports               []string
}

// Check looks at the contract in dir. The error is a *Refused, or says why the source
// could not be looked at.
func Check(ctx context.Context, dir string) error {
	pkgs, err := list(ctx, dir)
	if err != nil {
		return err
	}
	main := pkgs[len(pkgs)-1] // dependencies come first
	if main.Name != "main" {
		return fmt.Errorf("%s is package %s: a contract is a package main", main.Dir, main.Name)
	}
	var findings []Finding
	for _, p := range pkgs {
		if p.Standard || p.ImportPath == sdk {
			continue
		}
		mine := p.Module == nil || main.Module == nil || p.Module.Path == main.Module.Path
		found, err := check(p, mine)
		if err != nil {
			return err
		}
		if len(found) > 0 && p != main {
			via := path(pkgs, main, p)
			for i := range found {
				found[i].Via = via
			}
		}
		findings = append(findings, found...)
	}
	if len(findings) == 0 {
		return nil
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if a.File != b.File {
			return strings.Compare(a.File, b.File)
		}
		return a.Line - b.Line
	})
	return &Refused{findings}
}

// list returns the contract's package and all below it, as compiled for Wasm.
func list(ctx context.Context, dir string) ([]*pkg, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=ImportPath,Dir,Name,Standard,Module,GoFiles,IgnoredGoFiles,SFiles,SysoFiles,Imports", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWASM=", "GOFLAGS=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("building a contract needs the go command: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	var pkgs []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list in %s: %w", dir, err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("no package in %s", dir)
	}
	return pkgs, nil
}

func check(p *pkg, mine bool) (out []Finding, err error) {
	for _, name := range slices.Concat(p.SFiles, p.SysoFiles) {
		out = append(out, Finding{File: filepath.Join(p.Dir, name), Line: 1, Column: 1, What: "assembly", Why: ruleAsm.why, Instead: ruleAsm.instead})
	}
	for _, name := range p.GoFiles {
		found, err := checkFile(filepath.Join(p.Dir, name), mine)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	// Files with import "C" are left out of a build without C, silently.
	for _, name := range p.IgnoredGoFiles {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
		if err != nil || !mine {
			continue // not ours to judge: the build does not read it
		}
		for _, imp := range f.Imports {
			if imp.Path.Value == `"C"` {
				out = append(out, at(fset, imp.Pos(), "import \"C\"", ruleC))
			}
		}
	}
	return out, nil
}

func at(fset *token.FileSet, pos token.Pos, what string, r rule) Finding {
	p := fset.Position(pos)
	return Finding{File: p.Filename, Line: p.Line, Column: p.Column, What: what, Why: r.why, Instead: r.instead}
}

func checkFile(file string, mine bool) (out []Finding, err error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	names := map[string]string{} // by which the file calls the packages of used
	for _, imp := range f.Imports {
		path, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", file, imp.Path.Value, err)
		}
		if r, ok := refusedImport(path, mine); ok {
			out = append(out, at(fset, imp.Pos(), "import "+imp.Path.Value, r))
		}
		if used[path] != nil {
			name := path
			if imp.Name != nil {
				name = imp.Name.Name
			}
			names[name] = path
		}
	}
	for _, g := range f.Comments {
		for _, c := range g.List {
			word, _, _ := strings.Cut(c.Text, " ")
			if d, ok := directives[word]; ok && (mine || !d.dependencies) {
				out = append(out, at(fset, c.Pos(), word, d.rule))
			}
		}
	}
	if mine {
		out = append(out, uses(fset, f, names)...)
	}
	return out, nil
}

// uses finds functions that used lists. An identifier that the file itself declares is
// resolved by the parser; those left are packages.
func uses(fset *token.FileSet, f *ast.File, names map[string]string) (out []Finding) {
	unresolved := map[*ast.Ident]bool{}
	for _, id := range f.Unresolved {
		unresolved[id] = true
		if path := names["."]; path != "" {
			if r, ok := used[path][id.Name]; ok {
				out = append(out, at(fset, id.Pos(), path+"."+id.Name, r))
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		id, ok := s.X.(*ast.Ident)
		if !ok || !unresolved[id] {
			return true
		}
		path := names[id.Name]
		if r, ok := used[path][s.Sel.Name]; ok {
			out = append(out, at(fset, s.Pos(), path+"."+s.Sel.Name, r))
		}
		return true
	})
	return out
}

// path is the shortest way of imports from one package to another, the first left out.
func path(pkgs []*pkg, from, to *pkg) []string {
	byPath := map[string]*pkg{}
	for _, p := range pkgs {
		byPath[p.ImportPath] = p
	}
	before := map[*pkg]*pkg{from: nil}
	for queue := []*pkg{from}; len(queue) > 0; queue = queue[1:] {
		if queue[0] == to {
			var way []string
			for p := to; p != from; p = before[p] {
				way = append(way, p.ImportPath)
			}
			slices.Reverse(way)
			return way
		}
		for _, name := range queue[0].Imports {
			next := byPath[name]
			if next == nil {
				continue
			}
			if _, seen := before[next]; !seen {
				before[next] = queue[0]
				queue = append(queue, next)
			}
		}
	}
	return []string{to.ImportPath}
}
