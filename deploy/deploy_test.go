// Package deploy_test holds the recipes to what the programs are: every flag, variable and
// file that they name exists, and nothing that must be measured is left open.
package deploy_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// flagsOf are the flags that a program defines, read from its source.
func flagsOf(t *testing.T, program string) map[string]bool {
	t.Helper()
	flags := map[string]bool{}
	files, err := filepath.Glob(filepath.Join("..", "cmd", program, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no program %s: %v", program, err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			kind := ""
			if ok {
				kind = strings.TrimSuffix(method.Sel.Name, "Var")
			}
			if !slices.Contains([]string{"String", "Bool", "Int", "Uint", "Uint64", "Duration", "Func"}, kind) {
				return true
			}
			for _, arg := range call.Args[:min(2, len(call.Args))] {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if name, err := strconv.Unquote(lit.Value); err == nil && name != "" {
						flags[name] = true
						break
					}
				}
			}
			return true
		})
	}
	flags["config"], flags["help"] = true, true
	return flags
}

// recipes are the texts of this folder, by path.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil || len(out) < 8 {
		t.Fatalf("%d recipes, %v", len(out), err)
	}
	return out
}

var (
	flagPattern     = regexp.MustCompile(`--([a-z][a-z-]+)`)
	variablePattern = regexp.MustCompile(`PRUNTIME_([A-Z_]+)`)
	commandPattern  = regexp.MustCompile("(?m)(?:^|`)(?:[A-Z_]+=\\S+ )*(pruntime|pherry|phala|tee-simulator)( [^`\n]*)")
	linkPattern     = regexp.MustCompile(`\]\(([^)#]+)\)`)
	pathPattern     = regexp.MustCompile("`((?:attest|deploy|cmd|pherry)/[a-z0-9_./-]+)`")
)

func TestFlagsAndVariablesExist(t *testing.T) {
	flags := map[string]map[string]bool{}
	for _, p := range []string{"pruntime", "pherry", "phala", "tee-simulator"} {
		flags[p] = flagsOf(t, p)
	}
	if !flags["pruntime"]["trust-root"] || !flags["pruntime"]["lease"] || !flags["phala"]["event-log"] || flags["pruntime"]["node"] {
		t.Fatalf("flags are not read right: %v", slices.Sorted(maps.Keys(flags["pruntime"])))
	}
	used := 0
	check := func(path, program, text string) {
		for _, m := range flagPattern.FindAllStringSubmatch(text, -1) {
			used++
			if !flags[program][m[1]] {
				t.Errorf("%s: %s has no flag --%s", path, program, m[1])
			}
		}
	}
	for path, text := range recipes(t) {
		for _, m := range variablePattern.FindAllStringSubmatch(text, -1) {
			if name := strings.ReplaceAll(strings.ToLower(m[1]), "_", "-"); !flags["pruntime"][name] {
				t.Errorf("%s: pruntime reads no PRUNTIME_%s", path, m[1])
			}
		}
		if strings.HasSuffix(path, ".md") {
			for _, m := range commandPattern.FindAllStringSubmatch(text, -1) {
				check(path, m[1], m[2])
			}
			continue
		}
		check(path, "pruntime", text)
	}
	if used < 40 {
		t.Errorf("only %d flags were looked at", used)
	}
}

func TestFilesExist(t *testing.T) {
	for path, text := range recipes(t) {
		for _, m := range linkPattern.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), m[1])); err != nil && !strings.Contains(m[1], "://") {
				t.Errorf("%s: %v", path, err)
			}
		}
		for _, m := range pathPattern.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	dockerfile := recipes(t)["tdx/Dockerfile"]
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	// What the image copies is what make build makes, as a static binary.
	if !strings.Contains(dockerfile, "COPY bin/pruntime") || !strings.Contains(string(makefile), "\nBIN := bin\n") || !strings.Contains(string(makefile), "-o $(BIN)/ ") || !strings.Contains(string(makefile), "./cmd/pruntime") ||
		!strings.Contains(string(makefile), "CGO_ENABLED := 0") || !strings.Contains(string(makefile), "\nreproducible:") {
		t.Error("the Makefile does not build what the image takes")
	}
	if !regexp.MustCompile(`(?m)^FROM scratch$`).MatchString(dockerfile) {
		t.Error("the image has a base")
	}
}

// measuredFlags bound time: each must be in the measured command line.
var measuredFlags = []string{"chain", "trust-root", "lease", "session-interval", "trusting-period", "max-clock-drift", "tee"}

// TestMeasured: what must be fixed by the measurement is, in every recipe, and what
// differs between operators is not.
func TestMeasured(t *testing.T) {
	r := recipes(t)
	for _, path := range []string{"gramine/pruntime.manifest.template", "tdx/compose.yaml", "snp/README.md"} {
		for _, f := range measuredFlags {
			if !strings.Contains(r[path], "--"+f+"=") {
				t.Errorf("%s: --%s is not fixed", path, f)
			}
		}
		for _, f := range []string{"role", "operator", "endpoints", "simulated-roots"} {
			if strings.Contains(r[path], "--"+f) {
				t.Errorf("%s: --%s is in the measured command line", path, f)
			}
		}
	}
	for _, line := range []string{"sgx.debug = false", `sgx.remote_attestation = "dcap"`} {
		if !strings.Contains(r["gramine/pruntime.manifest.template"], line) {
			t.Errorf("the manifest lacks %s", line)
		}
	}
	for _, feature := range []string{"avx", "avx512", "amx", "mpx", "pkru"} {
		if !regexp.MustCompile(`sgx\.cpu_features\.` + feature + ` = "(required|disabled)"`).MatchString(r["gramine/pruntime.manifest.template"]) {
			t.Errorf("the manifest leaves %s to the machine", feature)
		}
	}
	for _, insecure := range []string{"insecure__", "use_host_env"} {
		if strings.Contains(r["gramine/pruntime.manifest.template"], insecure) {
			t.Errorf("the manifest has %s", insecure)
		}
	}
	for _, m := range regexp.MustCompile(`image: (\S+)`).FindAllStringSubmatch(r["tdx/compose.yaml"], -1) {
		if !regexp.MustCompile(`@sha256:[0-9a-f]{64}$`).MatchString(m[1]) {
			t.Errorf("image %s is not pinned by digest", m[1])
		}
	}
	var app struct {
		NoInstanceID bool     `json:"no_instance_id"`
		KMS          bool     `json:"kms_enabled"`
		Envs         []string `json:"allowed_envs"`
	}
	if err := json.Unmarshal([]byte(r["tdx/app-compose.template.json"]), &app); err != nil {
		t.Fatal(err)
	}
	if !app.NoInstanceID || app.KMS {
		t.Errorf("%+v", app)
	}
	for _, env := range app.Envs {
		if !strings.Contains(r["tdx/compose.yaml"], "- "+env+"\n") {
			t.Errorf("%s is allowed and not handed on", env)
		}
	}
}
