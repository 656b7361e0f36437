package pruntime

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// codes finds, prepares and keeps contract codes. Modules are public and lie on disk
// under their hash, which is checked when they are read. Compiled code is native: it
// is kept sealed, and unsealed into a directory of this process before the engine
// sees it.
type codes struct {
	dir    string
	eng    *engine.Engine
	native nativeCache
	done   func() // something was prepared or refused
	log    func(msg string, args ...any)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	turn   chan struct{} // one compilation at a time

	mu       sync.RWMutex
	wanted   map[proto.Hash][]uint32 // not here yet, and under which rules to prepare them
	programs map[prepared]*engine.Program
	busy     map[prepared]bool
	failed   map[prepared]error
}

// prepared names a code under a version of the rules.
type prepared struct {
	code  proto.Hash
	rules uint32
}

func openCodes(ctx context.Context, r *Runtime) (*codes, error) {
	dir := filepath.Join(r.cfg.DataDir, "code")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pruntime: %w", err)
	}
	c := &codes{dir: dir, native: nativeCache{store: r.store}, done: r.codeDone, log: r.cfg.Log.Info, turn: make(chan struct{}, 1),
		wanted: map[proto.Hash][]uint32{}, programs: map[prepared]*engine.Program{}, busy: map[prepared]bool{}, failed: map[prepared]error{}}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if c.native.from = r.cfg.Native; c.native.from != "" && !r.ring.Simulated {
		return nil, fmt.Errorf("%w: %s: only a simulated TEE takes it, this one compiles for itself", ErrNative, c.native.from)
	}
	cache, err := c.native.open()
	if err != nil {
		return nil, err
	}
	if c.eng, err = engine.New(c.ctx, cache, r.cfg.Rules...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *codes) close(ctx context.Context) error {
	c.cancel()
	c.wg.Wait()
	return errors.Join(c.eng.Close(ctx), c.native.close())
}

// Program returns a code under a version of the rules: nil while it is not prepared, an
// error if they refuse it.
func (c *codes) Program(h proto.Hash, rules uint32) (*engine.Program, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	at := prepared{h, rules}
	return c.programs[at], c.failed[at]
}

// Rules returns a version, nil for one that this build does not know.
func (c *codes) Rules(version uint32) *engine.Rules { return c.eng.Rules(version) }

func (c *codes) path(h proto.Hash) string { return filepath.Join(c.dir, h.String()+".wasm") }

// want starts preparing a code from disk, or files it for the relayer to bring. It does
// nothing where that was done before, or where the rules are not known here.
func (c *codes) want(h proto.Hash, rules uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := prepared{h, rules}
	if c.eng.Rules(rules) == nil || c.programs[at] != nil || c.failed[at] != nil || c.busy[at] || slices.Contains(c.wanted[h], rules) {
		return
	}
	if b, err := os.ReadFile(c.path(h)); err == nil && proto.CodeHash(b) == h {
		c.prepare(at, b)
		return
	}
	c.wanted[h] = append(c.wanted[h], rules)
}

// retire frees what was prepared under older rules than a version, when nobody runs it any
// more: it waits for the queries that began before.
func (c *codes) retire(before uint32, queries *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var old []*engine.Program
	for at, p := range c.programs {
		if at.rules < before {
			old = append(old, p)
			delete(c.programs, at)
		}
	}
	if len(old) == 0 {
		return
	}
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		queries.Wait()
		for _, p := range old {
			if err := p.Close(context.WithoutCancel(c.ctx)); err != nil {
				c.log("code of older rules was not freed", "error", err)
			}
		}
	}()
}

// wants lists the codes that the relayer should bring.
func (c *codes) wants() []proto.Hash {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []proto.Hash
	for h := range c.wanted {
		out = append(out, h)
	}
	slices.SortFunc(out, func(a, b proto.Hash) int { return bytes.Compare(a[:], b[:]) })
	return out
}

// ahead prepares a module that nobody asked for yet.
func (c *codes) ahead(module []byte, rules uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at := (prepared{proto.CodeHash(module), rules}); c.programs[at] == nil && !c.busy[at] {
		c.prepare(at, module)
	}
}

// put takes a module that was asked for.
func (c *codes) put(h proto.Hash, module []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	under := c.wanted[h]
	if under == nil {
		return nil // asked for no longer, or never: a relayer may repeat itself
	}
	if proto.CodeHash(module) != h {
		return fmt.Errorf("%w: %d bytes do not hash to %s", ErrCode, len(module), h)
	}
	tmp := c.path(h) + ".tmp"
	if err := errors.Join(os.WriteFile(tmp, module, 0o600), os.Rename(tmp, c.path(h))); err != nil {
		return fmt.Errorf("pruntime: keep code: %w", err)
	}
	delete(c.wanted, h)
	for _, rules := range under {
		c.prepare(prepared{h, rules}, module)
	}
	return nil
}

// prepare compiles in the background; the caller holds the lock.
func (c *codes) prepare(at prepared, module []byte) {
	c.busy[at] = true
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.turn <- struct{}{}
		p, err := c.eng.PrepareUnder(c.ctx, at.rules, module)
		<-c.turn
		if c.ctx.Err() != nil {
			return
		}
		debug.FreeOSMemory() // compiling leaves a hundred megabytes of garbage
		c.mu.Lock()
		delete(c.busy, at)
		switch {
		case err == nil:
			c.programs[at] = p
		case errors.Is(err, engine.ErrModule):
			c.failed[at] = err
		default:
			// This machine's failure is no vote: the relayer brings the code again.
			c.wanted[at.code] = append(c.wanted[at.code], at.rules)
			c.mu.Unlock()
			c.log("code not prepared, will be tried again", "code", at.code, "rules", at.rules, "error", err)
			return
		}
		c.mu.Unlock()
		if err == nil {
			if serr := c.native.seal(); serr != nil {
				c.log("compiled code was not kept", "error", serr)
			}
			c.log("code prepared", "code", at.code, "rules", at.rules)
		} else {
			c.log("code refused", "code", at.code, "rules", at.rules, "error", err)
		}
		c.done()
	}()
}

// nativeCache keeps the engine's compilation cache sealed.
type nativeCache struct {
	store interface {
		Put(name string, b []byte) error
		Get(name string) ([]byte, error)
		List(prefix string) ([]string, error)
		Delete(name string) error
	}
	from string // Config.Native
	dir  string
	mu   sync.Mutex
	kept map[string]bool
}

const nativePrefix = "native-"

// open unseals the cache into a new directory. In a TEE the directory for temporary
// files is inside the enclave; elsewhere nothing is protected anyway.
func (n *nativeCache) open() (string, error) {
	dir, err := os.MkdirTemp("", "pruntime-native-")
	if err != nil {
		return "", fmt.Errorf("pruntime: %w", err)
	}
	n.dir, n.kept = dir, map[string]bool{}
	if n.from != "" {
		if err := os.CopyFS(dir, os.DirFS(n.from)); err != nil {
			return "", fmt.Errorf("pruntime: compiled code: %w", err)
		}
	}
	names, err := n.store.List(nativePrefix)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		rel, err := hex.DecodeString(strings.TrimPrefix(name, nativePrefix))
		if err != nil || !filepath.IsLocal(string(rel)) {
			continue
		}
		b, err := n.store.Get(name)
		if err != nil {
			// It is only a cache: what does not open is compiled again.
			if derr := n.store.Delete(name); derr != nil {
				return "", derr
			}
			continue
		}
		path := filepath.Join(dir, string(rel))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			return "", fmt.Errorf("pruntime: %w", err)
		}
		n.kept[string(rel)] = true
	}
	return dir, nil
}

// seal keeps what the engine added.
func (n *nativeCache) seal() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(n.dir, path)
		if err != nil || n.kept[rel] || strings.HasSuffix(rel, ".tmp") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := n.store.Put(nativePrefix+hex.EncodeToString([]byte(rel)), b); err != nil {
			return err
		}
		n.kept[rel] = true
		return nil
	})
}

func (n *nativeCache) close() error { return os.RemoveAll(n.dir) }
