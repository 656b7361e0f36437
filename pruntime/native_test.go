package pruntime

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// sealedFiles is a store whose files may be damaged.
type sealedFiles map[string][]byte

var errDamaged = errors.New("damaged")

func (s sealedFiles) Put(name string, b []byte) error { s[name] = slices.Clone(b); return nil }
func (s sealedFiles) Delete(name string) error        { delete(s, name); return nil }
func (s sealedFiles) Get(name string) ([]byte, error) {
	if s[name] == nil {
		return nil, errDamaged
	}
	return slices.Clone(s[name]), nil
}
func (s sealedFiles) List(prefix string) (names []string, _ error) {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// TestNativeCache: what was compiled is found by the next process; what does not open any
// more is compiled again and replaced.
func TestNativeCache(t *testing.T) {
	ctx := context.Background()
	store, from := sealedFiles{}, ""
	// start is a process: it returns the image, and the cache's files before and after.
	start := func() (image [32]byte, before, after int) {
		n := nativeCache{store: store, from: from}
		dir, err := n.open()
		if err != nil {
			t.Fatal(err)
		}
		files := func() (count int) {
			err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					count++
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return count
		}
		before = files()
		e, err := engine.New(ctx, dir)
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.Prepare(ctx, enginetest.Script("cached"))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.seal(); err != nil {
			t.Fatal(err)
		}
		after, image = files(), p.ImageHash()
		if err := errors.Join(e.Close(ctx), n.close()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("native code is left in the open: %v", err)
		}
		return image, before, after
	}
	first, before, after := start()
	if before != 0 || after == 0 || len(store) != after {
		t.Fatalf("the first start: %d files, then %d, %d kept", before, after, len(store))
	}
	kept := maps.Clone(store)
	again, before, afterwards := start()
	if again != first || before != after || afterwards != after || !maps.EqualFunc(kept, store, slices.Equal) {
		t.Errorf("a hit: %d files, then %d, were %d", before, afterwards, after)
	}
	for name := range store {
		store[name] = nil
	}
	again, before, afterwards = start()
	if again != first || before != 0 || afterwards != after || !maps.EqualFunc(kept, store, func(a, b []byte) bool { return len(a) == len(b) && len(b) > 0 }) {
		t.Errorf("damaged: %d files, then %d, were %d", before, afterwards, after)
	}
	// Compiled at build time, on this machine.
	from = t.TempDir()
	e, err := engine.New(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Prepare(ctx, enginetest.Script("cached")); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	clear(store)
	again, before, afterwards = start()
	if again != first || before != after || afterwards != after || len(store) != after {
		t.Errorf("compiled before: %d files, then %d, were %d, %d kept", before, afterwards, after, len(store))
	}
}

// TestNativeCodeIntoARealTEE: what the host compiled could be anything, so a real enclave
// does not start with it.
func TestNativeCodeIntoARealTEE(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir, cfg.Chain, cfg.Role, cfg.Native = t.TempDir(), "chain", proto.RoleWorker, t.TempDir()
	if _, err := Open(context.Background(), cfg, realTEE{}); !errors.Is(err, ErrNative) {
		t.Errorf("got %v", err)
	}
}

// realTEE is one that is not simulated.
type realTEE struct{ producer.Producer }

func (realTEE) TEE() attest.TEE { return attest.SGX }
func (realTEE) Simulated() bool { return false }

func (realTEE) SealingKey(context.Context, []byte) ([32]byte, error) { return [32]byte{1}, nil }
