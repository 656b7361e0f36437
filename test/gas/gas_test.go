package gas

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
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

func TestGoldenGas(t *testing.T) {
	tally := []string{`{"method":"Add","args":40}`, `{"method":"Add","args":2}`, `{"method":"Add","args":18446744073709551615}`, `{"method":"Add","args":"x"}`, `{"method":"Nothing"}`, ``}
	var golden bytes.Buffer
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
