package devnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/phala-go/phala/proto"
)

// TestNamesAreKept: of contracts that are deployed at once none loses its name, and none
// loses it to the devnet that starts meanwhile.
func TestNamesAreKept(t *testing.T) {
	dir := t.TempDir()
	n := &Net{opt: Options{Dir: dir}, state: State{Contracts: map[string]proto.ContractID{"hello": {1}}}}
	if err := n.save(); err != nil {
		t.Fatal(err)
	}
	const each = 20
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() {
			for i := range each {
				if err := Remember(dir, fmt.Sprintf("c-%d-%d", who, i), proto.ContractID{byte(who), byte(i)}); err != nil {
					t.Error(err)
				}
				if who > 0 {
					continue
				}
				if err := n.save(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Contracts) != 1+4*each || s.Contracts["hello"] != (proto.ContractID{1}) || s.Contracts["c-3-7"] != (proto.ContractID{3, 7}) {
		t.Errorf("%d names", len(s.Contracts))
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left beside the state: %v, %v", left, err)
	}
}

// TestRewriteFails: a change that fails leaves the file as it was.
func TestRewriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := Rewrite(path, func(old []byte) ([]byte, error) {
		if old != nil {
			t.Errorf("a file that is not there has %q", old)
		}
		return []byte("one"), nil
	}); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := Rewrite(path, func([]byte) ([]byte, error) { return nil, no }); !errors.Is(err, no) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "one\n" {
		t.Errorf("the file has %q, %v", b, err)
	}
	if _, err := os.Stat(path + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a temporary file is left: %v", err)
	}
	if err := Rewrite(filepath.Join(path, "below"), func([]byte) ([]byte, error) { return nil, nil }); err == nil {
		t.Error("a folder that is none")
	}
}

// TestCommandsCanBePasted: a shell reads a folder's name in a command as it is.
func TestCommandsCanBePasted(t *testing.T) {
	for in, want := range map[string]string{"/tmp/net-1_a.b": "/tmp/net-1_a.b", "/tmp/my net": "'/tmp/my net'", "it's": `'it'\''s'`, "a$b": "'a$b'", "": "''", "ä/ö": "ä/ö"} {
		if got := Quote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
	o := Options{Dir: "/tmp/my net", Workers: 2}
	if got := o.afresh(); !strings.HasSuffix(got, " --workers 2 --devnet '/tmp/my net'") {
		t.Errorf("got %s", got)
	}
}
