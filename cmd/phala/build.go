package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"unicode"

	"github.com/phala-go/phala/internal/contractcheck"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

// buildContract checks the source and runs the stock Go toolchain. The result depends
// on the source and the toolchain alone.
func buildContract(ctx context.Context, dir, out string, stderr io.Writer) error {
	if err := contractcheck.Check(ctx, dir); err != nil {
		return err
	}
	abs, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", abs, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWASM=", "GOFLAGS=")
	cmd.Stdout, cmd.Stderr = stderr, stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build: %w", err)
	}
	return nil
}

func runBuild(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala build [DIR]", "Builds the contract in DIR, or here, to Wasm with the Go toolchain.")
	out := f.String("o", "", "output file; NAME.wasm in the current folder without it")
	pos, err := need(f, args, 0, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	dir := "."
	if len(pos) == 1 {
		dir = pos[0]
	}
	if *out == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		*out = filepath.Base(abs) + ".wasm"
	}
	if err := buildContract(ctx, dir, *out, a.err); err != nil {
		return err
	}
	b, err := os.ReadFile(*out)
	if err != nil {
		return err
	}
	if err := judge(b); err != nil {
		return fmt.Errorf("%s: %w", *out, err)
	}
	return a.print(map[string]any{"file": *out, "bytes": len(b), "code": proto.CodeHash(b)}, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d bytes, code %s\n", *out, len(b), proto.CodeHash(b))
	})
}

const scaffoldCode = `// %[1]s is a confidential contract.
package main

import "github.com/phala-go/phala/contract"

// %[1]s keeps a number that only its owner may see.
type %[1]s struct {
	Owner contract.Value[contract.Account]
	Total contract.Value[uint64]
}

// Init makes the deployer the owner.
func (c *%[1]s) Init(ctx *contract.Command) error {
	c.Owner.Set(ctx.Caller())
	return nil
}

// Add adds n. Anyone may.
func (c *%[1]s) Add(ctx *contract.Command, n uint64) error {
	c.Total.Set(c.Total.Get() + n)
	return nil
}

// Current returns the total. Only the owner may ask.
func (c *%[1]s) Current(ctx *contract.Query) (uint64, error) {
	if err := ctx.RequireOwner(c.Owner.Get()); err != nil {
		return 0, err
	}
	return c.Total.Get(), nil
}

func init() { contract.Register(&%[1]s{}) }

func main() {}
`

const scaffoldTest = `package main

import (
	"testing"

	"github.com/phala-go/phala/contract/contracttest"
)

func Test%[1]s(t *testing.T) {
	k := contracttest.New(t)
	owner, other := k.Account("owner"), k.Account("other")
	k.Deploy(owner, nil)

	k.Call(other, "Add", 40, nil)
	k.Call(owner, "Add", 2, nil)

	var total uint64
	k.Query(owner, "Current", nil, &total)
	if total != 42 {
		t.Errorf("total is %%d, want 42", total)
	}
	if err := k.TryQuery(other, "Current", nil, nil); err == nil {
		t.Error("another account could look")
	}
}
`

func runNew(ctx context.Context, a *app, args []string) error {
	f := a.flags("phala new NAME", "Makes a folder with a contract and its test.")
	source := f.String("source", "", "folder of this project's source, for a contract that is built against it; a released version without it")
	pos, err := need(f, args, 1, 1)
	if err != nil {
		return ignoreHelp(err)
	}
	name := pos[0]
	typ := typeName(filepath.Base(name))
	if typ == "" {
		return fmt.Errorf("%q is not a contract's name: it starts with a letter, and has letters of ASCII and digits", name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(name, 0o755); errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s exists", name)
	} else if err != nil {
		return err
	}
	if err := scaffold(ctx, a, name, typ, *source); err != nil {
		// Half of one would be in the way of the next try.
		return errors.Join(err, os.RemoveAll(name))
	}
	return a.print(map[string]string{"folder": name}, func(w io.Writer) {
		me, dir, contract := devnet.Quote(os.Args[0]), devnet.Quote(name), filepath.Base(name)
		fmt.Fprintf(w, "%s is ready:\n\n  (cd %s && go test)            natively and as Wasm\n  %[3]s build %[2]s\n  %[3]s deploy %[4]s.wasm\n  %[3]s call %[4]s Add 40\n  %[3]s query %[4]s Current\n",
			name, dir, me, devnet.Quote(contract))
	})
}

// scaffold fills a contract's folder.
func scaffold(ctx context.Context, a *app, name, typ, source string) error {
	mod := fmt.Sprintf("module %s\n\ngo 1.26.5\n", strings.ToLower(typ))
	if source == "" {
		source = sourceDir()
	}
	if source != "" {
		abs, err := filepath.Abs(source)
		if err != nil {
			return err
		}
		mod += fmt.Sprintf("\nrequire github.com/phala-go/phala v0.0.0\n\nreplace github.com/phala-go/phala => %s\n", abs)
	}
	for file, text := range map[string]string{"go.mod": mod, strings.ToLower(typ) + ".go": fmt.Sprintf(scaffoldCode, typ), strings.ToLower(typ) + "_test.go": fmt.Sprintf(scaffoldTest, typ)} {
		if err := os.WriteFile(filepath.Join(name, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy")
	cmd.Dir, cmd.Stderr = name, a.err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go mod tidy in %s: %w", name, err)
	}
	return nil
}

// sourceDir is where this program was built from, when that is a checkout.
func sourceDir() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	dir := filepath.Dir(filepath.Dir(exe))
	b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if info, ok := debug.ReadBuildInfo(); err != nil || !ok || !strings.Contains(string(b), "module "+info.Main.Path+"\n") {
		return ""
	}
	return dir
}

// typeName is "" for what no Go module can be called.
func typeName(s string) string {
	var b strings.Builder
	up := true
	for _, r := range s {
		if r > unicode.MaxASCII {
			return ""
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			up = true
			continue
		}
		if up {
			r = unicode.ToUpper(r)
		}
		up = false
		b.WriteRune(r)
	}
	out := b.String()
	if out == "" || !unicode.IsLetter(rune(out[0])) {
		return ""
	}
	return out
}
