package pruntime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/engine"
)

// codes finds, prepares and keeps contract codes. Modules are public and lie on disk
// under their hash, which is checked when they are read. The engine takes those that ran
// longest ago out of memory, and gets module and compiled code from here again when they
// run.
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
	retired  map[prepared]*engine.Program // of older rules, for queries that began before
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
	c := &codes{dir: dir, native: nativeCache{store: r.store, log: r.cfg.Log.Warn}, done: r.codeDone, log: r.cfg.Log.Info, turn: make(chan struct{}, 1),
		wanted: map[proto.Hash][]uint32{}, programs: map[prepared]*engine.Program{}, retired: map[prepared]*engine.Program{}, busy: map[prepared]bool{}, failed: map[prepared]error{}}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if c.native.from = r.cfg.Native; c.native.from != "" && !r.ring.Simulated {
		return nil, fmt.Errorf("%w: %s: only a simulated TEE takes it, this one compiles for itself", ErrNative, c.native.from)
	}
	if c.native.from != "" {
		if _, err := os.ReadDir(c.native.from); err != nil {
			return nil, fmt.Errorf("pruntime: compiled code: %w", err)
		}
	}
	if err := sweepNative(); err != nil {
		c.log("compiled code of an earlier process was not removed", "error", err)
	}
	var err error
	c.eng, err = engine.New("", r.cfg.Rules...)
	return c, err
}

func (c *codes) close(ctx context.Context) error {
	c.cancel()
	c.wg.Wait()
	return c.eng.Close(ctx)
}

// Program returns a code under a version of the rules: nil while it is not prepared, an
// error if they refuse it.
func (c *codes) Program(h proto.Hash, rules uint32) (*engine.Program, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	at := prepared{h, rules}
	if p := c.programs[at]; p != nil {
		return p, nil
	}
	return c.retired[at], c.failed[at]
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
		c.prepare(at)
		return
	}
	c.wanted[h] = append(c.wanted[h], rules)
}

// source gives the engine a code from disk, now and whenever it needs it again, which is
// within a call: native code that was kept and that the host took away is compiled in the
// background meanwhile, and the call waits as for any code that is not prepared. Where the
// disk keeps none, waiting would not help.
func (c *codes) source(at prepared) engine.Source {
	compiled := false
	return func(use func(module []byte, cacheDir string) error) error {
		need := &cluster.NeedCode{Codes: []proto.Hash{at.code}, Rules: at.rules}
		b, err := os.ReadFile(c.path(at.code))
		if err != nil || proto.CodeHash(b) != at.code {
			c.lost(at, false)
			return need
		}
		return c.native.use(at.code, func(dir string, found bool) error {
			if _, kept := c.native.kept.Load(at.code); compiled && kept && !found {
				c.lost(at, true)
				return need
			}
			err := use(b, dir)
			compiled = compiled || err == nil
			return err
		})
	}
}

// lost prepares a code again of which the native code is gone, or, where it is not on disk
// any more, has the relayer bring it.
func (c *codes) lost(at prepared, onDisk bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.programs[at]; p != nil {
		delete(c.programs, at)
		if err := p.Close(c.ctx); err != nil {
			c.log("lost code was not freed", "code", at.code, "error", err)
		}
	}
	if onDisk {
		if !c.busy[at] {
			c.prepare(at)
		}
		return
	}
	if !slices.Contains(c.wanted[at.code], at.rules) {
		c.wanted[at.code] = append(c.wanted[at.code], at.rules)
	}
}

// keep puts a module on disk.
func (c *codes) keep(h proto.Hash, module []byte) error {
	tmp := c.path(h) + ".tmp"
	err := os.WriteFile(tmp, module, 0o600)
	if err == nil {
		err = os.Rename(tmp, c.path(h))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("pruntime: keep code: %w", err), os.RemoveAll(tmp))
	}
	return nil
}

// retire frees what was prepared under older rules than a version, when nobody runs it any
// more: it waits for the queries that began before.
func (c *codes) retire(before uint32, queries *sync.WaitGroup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := map[prepared]*engine.Program{}
	for at, p := range c.programs {
		if at.rules < before {
			old[at], c.retired[at] = p, p
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
		c.mu.Lock()
		for at := range old {
			delete(c.retired, at)
		}
		c.mu.Unlock()
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
func (c *codes) ahead(module []byte, rules uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := prepared{proto.CodeHash(module), rules}
	if c.programs[at] != nil || c.busy[at] {
		return nil
	}
	if err := c.keep(at.code, module); err != nil {
		return err
	}
	c.prepare(at)
	return nil
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
	if err := c.keep(h, module); err != nil {
		return err
	}
	delete(c.wanted, h)
	for _, rules := range under {
		c.prepare(prepared{h, rules})
	}
	return nil
}

// prepare compiles in the background what is on disk; the caller holds the lock.
func (c *codes) prepare(at prepared) {
	c.busy[at] = true
	c.wg.Add(1)
	go func() {
		defer c.wg.Done()
		c.turn <- struct{}{}
		p, err := c.eng.PrepareFrom(c.ctx, at.rules, c.source(at))
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
			if !slices.Contains(c.wanted[at.code], at.rules) {
				c.wanted[at.code] = append(c.wanted[at.code], at.rules)
			}
			c.mu.Unlock()
			c.log("code not prepared, will be tried again", "code", at.code, "rules", at.rules, "error", err)
			return
		}
		c.mu.Unlock()
		if err == nil {
			c.log("code prepared", "code", at.code, "rules", at.rules)
		} else {
			c.log("code refused", "code", at.code, "rules", at.rules, "error", err)
		}
		c.done()
	}()
}
