package contracttest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/pruntime/engine"
)

// programs are the contracts that this process has built, by folder.
var programs struct {
	sync.Mutex
	byDir map[string]*engine.Program
}

// Build builds the contract under test ahead of its first use. A fuzz test calls it
// before f.Fuzz, because an input that takes ten seconds ends the run.
func Build(t testing.TB) {
	t.Helper()
	if _, err := prepared("."); err != nil && !errors.Is(err, exec.ErrNotFound) {
		t.Fatalf("contracttest: %v", err)
	}
}

// prepared builds and prepares the contract in a folder, once.
func prepared(dir string) (*engine.Program, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	programs.Lock()
	defer programs.Unlock()
	if p := programs.byDir[abs]; p != nil {
		return p, nil
	}
	module, err := build(abs)
	if err != nil {
		return nil, err
	}
	e, err := engine.New(cacheDir(abs, module))
	if err != nil {
		return nil, err
	}
	p, err := e.Prepare(context.Background(), module)
	if err != nil {
		return nil, err
	}
	if programs.byDir == nil {
		programs.byDir = map[string]*engine.Program{}
	}
	programs.byDir[abs] = p
	return p, nil
}

// cacheDir is where a contract's compiled code is kept between runs of its tests, for the
// newest module only; "" where there is no place for it.
func cacheDir(dir string, module []byte) string {
	base, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	base = filepath.Join(base, "phala", "contracttest", fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:16])
	own := filepath.Join(base, fmt.Sprintf("%x", sha256.Sum256(module))[:16])
	old, _ := filepath.Glob(filepath.Join(base, "*"))
	for _, o := range old {
		if o != own {
			os.RemoveAll(o)
		}
	}
	if os.MkdirAll(own, 0o700) != nil {
		return ""
	}
	return own
}

func build(dir string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "contracttest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "contract.wasm")
	// As phala build does it: the module that is tested is the one that is deployed.
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWASM=", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the contract in %s: %w\n%s", dir, err, b)
	}
	return os.ReadFile(out)
}

// other is a contract of the kit beside the one under test.
type other struct {
	program *engine.Program
	double  func(caller contract.Account, method string, args json.RawMessage) (any, error)
}

func (k *Kit) newID() contract.ID {
	return contract.ID(transcript.Hash("contracttest/contract", transcript.U64(uint64(len(k.others)+1))))
}

// Add builds the contract in a folder and adds it to the cluster, as Wasm; it is to be
// deployed like the one under test. Without the go command it skips the test.
func (k *Kit) Add(dir string) *Contract {
	k.t.Helper()
	p, err := prepared(dir)
	if errors.Is(err, exec.ErrNotFound) {
		k.t.Skip("contracttest: no go command to build another contract with")
	}
	if err != nil {
		k.t.Fatalf("contracttest: %v", err)
	}
	c := &Contract{k.newID(), k}
	k.others[c.ID] = &other{program: p}
	return c
}

// Double adds a contract that is a function: it answers commands and queries alike, and
// an error is a refusal. It must answer the same question the same way twice, because
// both runs ask it.
func (k *Kit) Double(f func(caller contract.Account, method string, args json.RawMessage) (any, error)) *Contract {
	c := &Contract{k.newID(), k}
	k.others[c.ID] = &other{double: f}
	return c
}
