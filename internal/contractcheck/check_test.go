package contractcheck

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a module of files given as "path\ncontents".
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to list packages with")
	}
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	modMain = "module example.com/c\n\ngo 1.26\n"
	modDep  = modMain + "\nrequire example.com/dep v0.0.0\n\nreplace example.com/dep => ./dep\n"
)

// source is a contract's file with an import and a body of main.
func source(imp, body string) string {
	return "package main\n\nimport " + imp + "\n\nfunc main() { " + body + " }\n"
}

// dependency is a contract that imports a module that has the given file.
func dependency(file string) map[string]string {
	return map[string]string{"go.mod": modDep, "dep/go.mod": "module example.com/dep\n\ngo 1.26\n", "dep/deep/deep.go": file,
		"dep/dep.go": "package dep\n\nimport _ \"example.com/dep/deep\"\n", "main.go": source(`_ "example.com/dep"`, "")}
}

func TestRefused(t *testing.T) {
	one := func(text string) map[string]string { return map[string]string{"go.mod": modMain, "main.go": text} }
	type want struct{ at, what, says string }
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []want
	}{
		{"math/rand", one(source(`"math/rand"`, "rand.Int()")), []want{{"main.go:3:8", `import "math/rand"`, "use the context's Random"}}},
		{"math/rand/v2 under another name", one(source(`dice "math/rand/v2"`, "dice.Int()")), []want{{"main.go:3:8", `import "math/rand/v2"`, "everybody can compute"}}},
		{"crypto/rand", one(source(`"crypto/rand"`, "rand.Text()")), []want{{"main.go:3:8", `import "crypto/rand"`, "use the context's Random"}}},
		{"hash/maphash", one(source(`"hash/maphash"`, "maphash.MakeSeed()")), []want{{"main.go:3:8", `import "hash/maphash"`, "hash/fnv"}}},
		{"net", one(source(`"net"`, `net.Dial("tcp", "")`)), []want{{"main.go:3:8", `import "net"`, "no sockets"}}},
		{"net/http", one(source(`"net/http"`, `http.Get("")`)), []want{{"main.go:3:8", `import "net/http"`, "context's Fetch"}}},
		{"crypto/tls", one(source(`_ "crypto/tls"`, "")), []want{{"main.go:3:8", `import "crypto/tls"`, "no sockets"}}},
		{"os/exec", one(source(`"os/exec"`, `exec.Command("")`)), []want{{"main.go:3:8", `import "os/exec"`, "no processes"}}},
		{"os/signal", one(source(`_ "os/signal"`, "")), []want{{"main.go:3:8", `import "os/signal"`, "signals"}}},
		{"os/user", one(source(`_ "os/user"`, "")), []want{{"main.go:3:8", `import "os/user"`, "users"}}},
		{"plugin", one(source(`_ "plugin"`, "")), []want{{"main.go:3:8", `import "plugin"`, "one Wasm module"}}},
		{"os", one(source(`"os"`, "os.Exit(1)")), []want{{"main.go:3:8", `import "os"`, "contract.Value"}}},
		{"flag", one(source(`_ "flag"`, "")), []want{{"main.go:3:8", `import "flag"`, "Init's argument"}}},
		{"syscall", one(source(`_ "syscall"`, "")), []want{{"main.go:3:8", `import "syscall"`, "no processes"}}},
		{"log", one(source(`"log"`, "log.Print()")), []want{{"main.go:3:8", `import "log"`, "context's Log"}}},
		{"log/slog", one(source(`_ "log/slog"`, "")), []want{{"main.go:3:8", `import "log/slog"`, "context's Log"}}},
		{"runtime", one(source(`"runtime"`, "runtime.GC()")), []want{{"main.go:3:8", `import "runtime"`, "collector"}}},
		{"runtime/debug", one(source(`_ "runtime/debug"`, "")), []want{{"main.go:3:8", `import "runtime/debug"`, "collector"}}},
		{"unsafe", one(source(`"unsafe"`, "_ = unsafe.Sizeof(1)")), []want{{"main.go:3:8", `import "unsafe"`, "addresses"}}},
		{"linkname", one("package main\n\nimport _ \"unsafe\"\n\n//go:linkname now time.now\nfunc now()\n\nfunc main() {}\n"),
			[]want{{"main.go:3:8", `import "unsafe"`, ""}, {"main.go:5:1", "//go:linkname", "behind the language"}}},
		{"wasmimport", one("package main\n\n//go:wasmimport phat height\nfunc height() uint64\n\nfunc main() {}\n"), []want{{"main.go:3:1", "//go:wasmimport", "package contract"}}},
		{"wasmexport", one("package main\n\n//go:wasmexport extra\nfunc extra() {}\n\nfunc main() {}\n"), []want{{"main.go:3:1", "//go:wasmexport", "method"}}},
		{"cgo", map[string]string{"go.mod": modMain, "main.go": "package main\n\nfunc main() {}\n", "c.go": "package main\n\nimport \"C\"\n"},
			[]want{{"c.go:3:8", `import "C"`, "without a C compiler"}}},
		{"assembly", map[string]string{"go.mod": modMain, "main.go": "package main\n\nfunc f()\n\nfunc main() { f() }\n", "f_wasm.s": "TEXT ·f(SB), 4, $0\n\tRET\n"},
			[]want{{"f_wasm.s:1:1", "assembly", "portable Go"}}},
		{"time.Now", one(source(`"time"`, "_ = time.Now()")), []want{{"main.go:5:19", "time.Now", "ctx.Time()"}}},
		{"time.Since as a value", one(source(`clock "time"`, "f := clock.Since; _ = f")), []want{{"main.go:5:20", "time.Since", "ctx.Time()"}}},
		{"time.Until by a dot import", one(source(`. "time"`, "_ = Until(Time{})")), []want{{"main.go:5:19", "time.Until", "ctx.Time()"}}},
		{"time.Local", one(source(`"time"`, "_ = time.Local")), []want{{"main.go:5:19", "time.Local", "UTC"}}},
		{"time.LoadLocation", one(source(`"time"`, `time.LoadLocation("")`)), []want{{"main.go:5:15", "time.LoadLocation", "UTC"}}},
		{"in another package of the module", map[string]string{"go.mod": modMain, "main.go": source(`_ "example.com/c/game"`, ""),
			"game/dice.go": "package game\n\nimport _ \"os\"\n"}, []want{{"game/dice.go:3:8", `import "os" (reached through example.com/c/game)`, ""}}},
		{"two in one file, and one in the next", map[string]string{"go.mod": modMain, "main.go": "package main\n\nimport (\n\t_ \"os\"\n\t_ \"net\"\n)\n\nfunc main() {}\n", "a.go": "package main\n\nimport _ \"log\"\n"},
			[]want{{"a.go:3:8", `import "log"`, ""}, {"main.go:4:2", `import "os"`, ""}, {"main.go:5:2", `import "net"`, ""}}},
		{"math/rand in a dependency", dependency("package deep\n\nimport _ \"math/rand\"\n"),
			[]want{{"dep/deep/deep.go:3:8", `import "math/rand" (reached through example.com/dep, example.com/dep/deep)`, "everybody can compute"}}},
		{"net/http in a dependency", dependency("package deep\n\nimport _ \"net/http\"\n"), []want{{"dep/deep/deep.go:3:8", `import "net/http"`, ""}}},
		{"wasmimport in a dependency", dependency("package deep\n\n//go:wasmimport phat height\nfunc height() uint64\n"), []want{{"dep/deep/deep.go:3:1", "//go:wasmimport", ""}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, c.files)
			err := Check(context.Background(), dir)
			var r *Refused
			if !errors.As(err, &r) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if len(r.Findings) != len(c.want) {
				t.Fatalf("%d findings, want %d:\n%v", len(r.Findings), len(c.want), err)
			}
			for i, w := range c.want {
				f := r.Findings[i]
				if begin := filepath.Join(dir, w.at) + ": " + w.what; !strings.HasPrefix(f.String(), begin) {
					t.Errorf("got  %s\nwant %s", f, begin)
				}
				if !strings.Contains(f.String(), w.says) || f.Why == "" || f.Instead == "" {
					t.Errorf("%s\ndoes not say %q", f, w.says)
				}
				if !strings.Contains(err.Error(), f.String()) {
					t.Errorf("the error leaves out %s", f)
				}
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	one := func(text string) map[string]string { return map[string]string{"go.mod": modMain, "main.go": text} }
	for _, c := range []struct {
		name  string
		files map[string]string
	}{
		{"what contracts are made of", one("package main\n\nimport (\n\t_ \"crypto/ed25519\"\n\t_ \"encoding/json\"\n\t_ \"errors\"\n\t_ \"fmt\"\n\t_ \"maps\"\n\t_ \"math/big\"\n\t_ \"net/netip\"\n\t_ \"net/url\"\n\t_ \"sync\"\n\t_ \"time\"\n)\n\nfunc main() {}\n")},
		{"time without its clock", one(source(`"time"`, "_ = time.UnixMilli(1).UTC().Add(time.Hour)"))},
		{"a variable that is called time", one("package main\n\ntype clock struct{ Now int }\n\nfunc main() { var time clock; _ = time.Now }\n")},
		{"a parameter that hides the package", one("package main\n\nimport \"time\"\n\ntype clock struct{ Now int }\n\nfunc f(time clock) int { return time.Now }\n\nfunc main() { f(clock{}); _ = time.Hour }\n")},
		{"a comment about it", one("package main\n\n// import \"math/rand\" and time.Now and a go:linkname are spoken of only.\nfunc main() {}\n")},
		{"in a test", map[string]string{"go.mod": modMain, "main.go": "package main\n\nfunc main() {}\n", "main_test.go": "package main\n\nimport _ \"math/rand\"\n"}},
		{"for another system", map[string]string{"go.mod": modMain, "main.go": "package main\n\nfunc main() {}\n", "x_linux.go": "package main\n\nimport _ \"net\"\n"}},
		{"os, unsafe and the clock in a dependency", dependency("package deep\n\nimport (\n\t_ \"crypto/rand\"\n\t_ \"os\"\n\t\"time\"\n\t_ \"unsafe\"\n)\n\nvar Now = time.Now\n")},
		{"linkname in a dependency", dependency("package deep\n\nimport _ \"unsafe\"\n\n//go:linkname now time.now\nvar now int\n")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := Check(context.Background(), write(t, c.files)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestExamples: every example passes, with the SDK that speaks to the enclave by itself.
func TestExamples(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to list packages with")
	}
	files, err := filepath.Glob("../../examples/*/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	dirs := map[string]bool{}
	for _, f := range files {
		dirs[filepath.Dir(f)] = true
	}
	for dir := range dirs {
		if err := Check(context.Background(), dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestNoContract(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		says  string
	}{
		{"a library", map[string]string{"go.mod": modMain, "c.go": "package c\n"}, "a contract is a package main"},
		{"nothing", map[string]string{"go.mod": modMain}, "no Go files"},
		{"a dependency that is not there", map[string]string{"go.mod": modMain, "main.go": source(`_ "example.com/c/missing"`, "")}, "missing"},
		{"no module", map[string]string{"main.go": "package main\n\nfunc main() {}\n"}, "go.mod"},
		{"not Go", map[string]string{"go.mod": modMain, "main.go": "package main\n\nfunc {\n"}, "main.go"},
	} {
		err := Check(context.Background(), write(t, c.files))
		var r *Refused
		if err == nil || errors.As(err, &r) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want an error that says %q", c.name, err, c.says)
		}
	}
}
