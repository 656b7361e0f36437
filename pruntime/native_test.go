package pruntime

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/producer"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
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
// more is compiled again and replaced. In the open it is only meanwhile.
func TestNativeCache(t *testing.T) {
	ctx := context.Background()
	t.Setenv("TMPDIR", t.TempDir())
	module := enginetest.Script("cached")
	code := proto.CodeHash(module)
	n := nativeCache{store: sealedFiles{}, log: func(msg string, args ...any) { t.Error(append([]any{msg}, args...)...) }}
	store := n.store.(sealedFiles)
	files := func(dir string) (count int) {
		if err := eachFile(dir, func(string) error { count++; return nil }); err != nil {
			t.Fatal(err)
		}
		return count
	}
	// start is a process: it returns the image, and the cache's files before and after.
	start := func() (image [32]byte, before, after int) {
		e, err := engine.New("")
		if err != nil {
			t.Fatal(err)
		}
		p, err := e.PrepareFrom(ctx, 1, func(use func([]byte, string) error) error {
			return n.use(code, func(dir string, _ bool) error {
				before = files(dir)
				err := use(module, dir)
				after = files(dir)
				return err
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if left := files(os.TempDir()); left != 0 {
			t.Errorf("%d files of native code are left in the open", left)
		}
		return p.ImageHash(), before, after
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
	err := n.use(proto.Hash{1}, func(dir string, _ bool) error {
		if files(dir) != 0 {
			t.Error("another code finds it")
		}
		return errDamaged
	})
	if !errors.Is(err, errDamaged) || files(os.TempDir()) != 0 {
		t.Errorf("after a failure: %v, %d files in the open", err, files(os.TempDir()))
	}
	// Compiled at build time, on this machine.
	n.from = filepath.Join(t.TempDir(), "from")
	e, err := engine.New(n.from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Prepare(ctx, module); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	clear(store)
	again, before, afterwards = start()
	if again != first || before != after || afterwards != after || len(store) != 0 {
		t.Errorf("compiled before: %d files, then %d, were %d, %d kept", before, afterwards, after, len(store))
	}
}

// TestSweepNative: what a killed process left is removed, what another one uses is not.
func TestSweepNative(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	left, lock, err := nativeDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.Close(), os.WriteFile(filepath.Join(left, "native"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	used, lock, err := nativeDir()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	other := filepath.Join(os.TempDir(), "somebody-else")
	if err := errors.Join(os.Mkdir(other, 0o700), sweepNative()); err != nil {
		t.Fatal(err)
	}
	for dir, stays := range map[string]bool{left: false, used: true, other: true} {
		if _, err := os.Stat(dir); (err == nil) != stays {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestSweepWhileMaking: processes that start sweep the folders of those that are gone, and
// leave alone what another one is just making.
func TestSweepWhileMaking(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var sweepers sync.WaitGroup
	end := make(chan bool)
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					if err := sweepNative(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for range 500 {
		dir, lock, err := nativeDir()
		if err != nil {
			t.Error(err)
			break
		}
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
			break
		}
		os.RemoveAll(dir)
		lock.Close()
	}
	close(end)
	sweepers.Wait()
}

// TestSource: the engine gets a code again from disk, with its compiled code; one that is
// not on disk any more is asked for again.
func TestSource(t *testing.T) {
	ctx := context.Background()
	t.Setenv("TMPDIR", t.TempDir())
	e, err := engine.New("")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 10)
	c := &codes{dir: t.TempDir(), eng: e, turn: make(chan struct{}, 1), done: func() { done <- struct{}{} }, log: func(string, ...any) {},
		native: nativeCache{store: sealedFiles{}, log: func(string, ...any) {}},
		wanted: map[proto.Hash][]uint32{}, programs: map[prepared]*engine.Program{}, busy: map[prepared]bool{}, failed: map[prepared]error{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	defer func() {
		if err := c.close(ctx); err != nil {
			t.Error(err)
		}
	}()
	module := enginetest.Script("once")
	at := prepared{proto.CodeHash(module), 1}
	if err := c.ahead(module, at.rules); err != nil {
		t.Fatal(err)
	}
	<-done
	p, err := c.Program(at.code, at.rules)
	if p == nil || err != nil {
		t.Fatal(p, err)
	}
	get := func() error {
		return c.source(at)(func(b []byte, dir string) error {
			compiled := 0
			err := eachFile(dir, func(string) error { compiled++; return nil })
			if !bytes.Equal(b, module) || compiled == 0 {
				t.Errorf("%d bytes of %d, %d files of compiled code", len(b), len(module), compiled)
			}
			return err
		})
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path(at.code), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := get(); !errors.Is(err, cluster.ErrNeedCode) {
		t.Errorf("a damaged module: %v", err)
	}
	if q, _ := c.Program(at.code, at.rules); q != nil || !slices.Contains(c.wants(), at.code) {
		t.Errorf("a damaged module is still there, and these are wanted: %v", c.wants())
	}
	if _, err := p.Run(ctx, &engine.Call{Entry: engine.EntryQuery, Gas: 1 << 24, Host: quiet{}}); err == nil {
		t.Error("its program was not freed")
	}
	if err := c.put(at.code, module); err != nil {
		t.Fatal(err)
	}
	<-done
	if q, _ := c.Program(at.code, at.rules); q == nil || q.ImageHash() != p.ImageHash() || get() != nil {
		t.Errorf("brought again: %v", q)
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
