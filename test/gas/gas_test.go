package gas

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/wasmprep"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func load(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".wasm.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header is the first line of the golden file: the rules version, and a hash of the costs
// of instructions and the limits of modules under it.
func header(t *testing.T) string {
	t.Helper()
	rules := wasmprep.RulesV1()
	b, err := json.Marshal(struct {
		Costs  wasmprep.Costs
		Limits wasmprep.Limits
	}{rules.Costs, rules.Limits})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("rules %d, costs and limits %x\n", rules.Version, sha256.Sum256(b))
}

// sameRules tells whether two golden files are of different versions, or of one version
// that is the same in both.
func sameRules(a, b string) bool {
	a, _, _ = strings.Cut(a, "\n")
	b, _, _ = strings.Cut(b, "\n")
	va, _, ok := strings.Cut(a, ", ")
	vb, _, _ := strings.Cut(b, ", ")
	return !ok || va != vb || a == b
}

func TestRulesNeedAVersion(t *testing.T) {
	for _, c := range []struct {
		old, new string
		same     bool
	}{
		{"rules 1, costs and limits aa\nx", "rules 1, costs and limits aa\ny", true},
		{"rules 1, costs and limits aa\nx", "rules 1, costs and limits bb\nx", false},
		{"rules 1, costs and limits aa\nx", "rules 2, costs and limits bb\nx", true},
		{"", "rules 1, costs and limits bb\nx", true},
	} {
		if got := sameRules(c.old, c.new); got != c.same {
			t.Errorf("%q, %q: %t", c.old, c.new, got)
		}
	}
}

func TestGoldenGas(t *testing.T) {
	tally := []string{`{"method":"Add","args":40}`, `{"method":"Add","args":2}`, `{"method":"Add","args":18446744073709551615}`, `{"method":"Add","args":"x"}`, `{"method":"Nothing"}`, ``}
	var golden bytes.Buffer
	golden.WriteString(header(t))
	for _, c := range []struct {
		name   string
		module []byte
		inputs []string
	}{
		{"tally-c", load(t, "tally-c"), tally},
		{"tally-as", load(t, "tally-as"), tally},
		{"tally-go", load(t, "tally-go"), tally},
		{"script", load(t, "script"), []string{"ehello", "pkvalue", "gk", "gz", "n", "n", "t", "f", "F", "l", "d", "m", "r", "b\x00\x10\x00\x00", "s\x10\x27\x00\x00", "c", "h", "?"}},
	} {
		w := clustertest.New(t, clustertest.Prepare(t, c.module, ""))
		line := func(what string, s *clustertest.Seen) {
			ret := fmt.Sprintf("%q", s.Return)
			if strings.Contains(ret, `\x`) || len(ret) > 100 { // random, or long
				ret = fmt.Sprint(len(s.Return), " bytes")
			}
			fmt.Fprintf(&golden, "%s %s: %s, gas %d, bucket %d, answer %s %.60q\n", c.name, what, s.Status, s.GasUsed, s.Bucket, ret, s.Error)
		}
		s := w.Deploy("owner", nil)
		line("deploy", s)
		if s.Status != proto.StatusOK {
			t.Fatalf("%s: the constructor ends with %s %q", c.name, s.Status, s.Error)
		}
		for _, input := range c.inputs {
			line(fmt.Sprintf("%q", input), w.Input("anyone", []byte(input)))
		}
	}
	path := filepath.Join("testdata", "gas-v1.golden")
	if old, err := os.ReadFile(path); err == nil && !sameRules(string(old), golden.String()) {
		t.Fatalf("costs or limits have changed and the rules version has not: %.100s\nthe golden file, which no flag rewrites then, has\n%.100s", golden.String(), old)
	}
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
