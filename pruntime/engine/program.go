package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
)

// MaxMemory is how many bytes of programs an engine keeps ready, about thirty Go contracts.
const MaxMemory = 1 << 30

// A Source gives a module to whoever prepares it, each time that this is necessary, and the
// folder of its compiled code, which may be empty (see [New]). It returns what use returns,
// or why there is no module.
type Source func(use func(module []byte, cacheDir string) error) error

// A Program is a module ready to run under one version of the rules. It is safe for
// concurrent use. Its native code and its image are in memory while it is one of those that
// ran last, and are made anew from its source when it runs again.
type Program struct {
	e      *Engine
	rules  *Rules
	source Source
	hash   [32]byte
	image  [32]byte
	fresh  uint64 // gas of a new instance
	pages  uint64 // gas of each call, for the pages that it may write
	size   int    // estimate of the bytes that it takes while it is ready

	// Guarded by e.mu.
	ready   *ready        // nil while it is not in memory
	loading chan struct{} // closed when whoever brings it back is done
	users   int           // calls that run
	used    uint64        // when it last began to run or was loaded, by e.clock
	closed  bool
}

// ready is what a program needs to run.
type ready struct {
	rt    wazero.Runtime
	cache wazero.CompilationCache
	code  *image.Code
	img   *image.Image
	pool  *image.Pool
}

func (r *ready) close(ctx context.Context) error {
	var err error
	if r.pool != nil {
		err = r.pool.Close(ctx)
	}
	if r.img != nil {
		err = errors.Join(err, r.img.Close())
	}
	err = errors.Join(err, r.rt.Close(ctx))
	if r.cache != nil {
		err = errors.Join(err, r.cache.Close(ctx))
	}
	return err
}

// Hash is the SHA-256 of the module; ImageHash that of its image.
func (p *Program) Hash() [32]byte { return p.hash }

// ImageHash is equal on every machine that prepared the module under these rules.
func (p *Program) ImageHash() [32]byte { return p.image }

// Prepare checks, instruments, compiles and initialises a module under the newest rules.
// It takes seconds for a Go contract that is not in the compilation cache.
func (e *Engine) Prepare(ctx context.Context, module []byte) (*Program, error) {
	return e.PrepareUnder(ctx, e.Newest(), module)
}

// PrepareUnder is Prepare under a version of the rules.
func (e *Engine) PrepareUnder(ctx context.Context, version uint32, module []byte) (*Program, error) {
	return e.PrepareFrom(ctx, version, func(use func([]byte, string) error) error { return use(module, e.cacheDir) })
}

// PrepareFrom is PrepareUnder of a module that is asked for when it is needed.
func (e *Engine) PrepareFrom(ctx context.Context, version uint32, source Source) (*Program, error) {
	rules := e.Rules(version)
	if rules == nil {
		return nil, fmt.Errorf("engine: rules version %d, this build knows up to %d", version, e.Newest())
	}
	p := &Program{e: e, rules: rules, source: source}
	r, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.programs[p] = true
	idle := e.enters(p, r)
	e.mu.Unlock()
	return p, closeAll(ctx, idle)
}

// load makes a program ready. All of it follows from the module and the rules; that the
// context ended meanwhile says nothing of the module.
func (p *Program) load(ctx context.Context) (*ready, error) {
	var r *ready
	err := p.source(func(module []byte, cacheDir string) (err error) {
		r, err = p.prepare(ctx, module, cacheDir)
		return err
	})
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return r, err
}

func (p *Program) prepare(ctx context.Context, module []byte, cacheDir string) (*ready, error) {
	m, err := wasmprep.Prepare(module, p.rules.Module)
	if err != nil {
		return nil, &Error{Kind: ErrModule, Detail: err.Error()}
	}
	has, err := checkForm(m)
	if err != nil {
		return nil, err
	}
	r, err := compile(ctx, m, cacheDir)
	if err != nil && cacheDir != "" {
		// It may be the cache's disk, and no module is refused for that.
		r, err = compile(ctx, m, "")
	}
	if err != nil {
		return nil, err
	}
	if r.img, err = p.rules.initialise(ctx, m, r.code, has); err != nil {
		return nil, errors.Join(err, r.close(ctx))
	}
	r.pool = image.NewPool(r.img, 16)
	p.hash, p.image = sha256.Sum256(module), r.img.Hash()
	p.fresh, p.pages = p.rules.instance(&m.Stats, r.img.Bytes()), p.rules.written(r.img.Bytes())
	// Native code takes three to four times what the module does, and so does what wazero
	// knows about it; idle instances share the image.
	p.size = 5*len(m.Code) + r.img.Bytes()
	m.Code = nil // compiled
	return r, nil
}

// compile makes native code of a module, or takes it from the cache, in a runtime of its own.
func compile(ctx context.Context, m *wasmprep.Module, cacheDir string) (*ready, error) {
	r, err := newRuntime(ctx, cacheDir)
	if err != nil {
		return nil, &Error{Kind: ErrHost, Detail: err.Error(), Err: err}
	}
	if r.code, err = image.Compile(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), r.rt, m); err != nil {
		return nil, errors.Join(&Error{Kind: ErrModule, Detail: err.Error()}, r.close(ctx))
	}
	return r, nil
}

// newRuntime makes a runtime for one program, with the functions that it can import. It
// takes a millisecond, and nothing of the program stays behind it.
func newRuntime(ctx context.Context, cacheDir string) (*ready, error) {
	r, cfg := new(ready), wazero.NewRuntimeConfig()
	if cacheDir != "" {
		c, err := wazero.NewCompilationCacheWithDir(cacheDir)
		if err != nil {
			return nil, fmt.Errorf("engine: compilation cache: %w", err)
		}
		r.cache, cfg = c, cfg.WithCompilationCache(c)
	}
	r.rt = wazero.NewRuntimeWithConfig(ctx, cfg)
	if err := errors.Join(image.InstantiateGas(ctx, r.rt), instantiateWASI(ctx, r.rt), instantiatePhat(ctx, r.rt)); err != nil {
		return nil, errors.Join(fmt.Errorf("engine: host modules: %w", err), r.close(ctx))
	}
	return r, nil
}

// enter returns what a program needs for a call, bringing it back if need be. leave is
// called when the call has ended. Queries, of which many run at once, bring back one program
// at a time, because that takes memory of its own.
func (p *Program) enter(ctx context.Context, query bool) (*ready, error) {
	e := p.e
	var idle []*ready
	e.mu.Lock()
	for p.ready == nil {
		if p.closed {
			e.mu.Unlock()
			return nil, &Error{Kind: ErrHost, Detail: "the program is closed"}
		}
		if wait := p.loading; wait != nil {
			e.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			e.mu.Lock()
			continue
		}
		done := make(chan struct{})
		p.loading = done
		e.mu.Unlock()
		if query {
			e.turn <- struct{}{}
		}
		again := &Program{e: e, rules: p.rules, source: p.source}
		r, err := again.load(context.WithoutCancel(ctx)) // for all who wait
		if query {
			<-e.turn
		}
		if refused := (*Error)(nil); errors.As(err, &refused) {
			// It was accepted before, so it is this machine that fails, and not the code.
			err = &Error{Kind: ErrHost, Detail: "the code did not come back: " + refused.Error()}
		}
		if err == nil && again.image != p.image {
			err = errors.Join(&Error{Kind: ErrHost, Detail: fmt.Sprintf("the module's image is %x now and was %x", again.image, p.image)}, r.close(ctx))
		}
		e.mu.Lock()
		p.loading = nil
		close(done)
		if err == nil && p.closed {
			err = errors.Join(&Error{Kind: ErrHost, Detail: "the program was closed"}, r.close(ctx))
		}
		if err != nil {
			e.mu.Unlock()
			return nil, err
		}
		idle = e.enters(p, r)
	}
	p.users++
	e.clock++
	p.used = e.clock
	r := p.ready
	e.mu.Unlock()
	closeAll(ctx, idle) // what cannot be freed is no reason for this call to fail
	return r, nil
}

func (p *Program) leave(ctx context.Context) {
	e := p.e
	e.mu.Lock()
	var idle []*ready
	if p.users--; p.users == 0 && p.closed {
		idle = append(idle, e.leaves(p))
	}
	idle = append(idle, e.trim(nil)...)
	e.mu.Unlock()
	closeAll(ctx, idle)
}

// enters and leaves count a program in memory. The caller holds mu, and closes what is
// returned.
func (e *Engine) enters(p *Program, r *ready) (idle []*ready) {
	p.ready = r
	e.clock++
	p.used = e.clock
	e.total += p.size
	return e.trim(p)
}

func (e *Engine) leaves(p *Program) *ready {
	r := p.ready
	p.ready = nil
	e.total -= p.size
	return r
}

// trim takes programs out of memory until the rest fits, those that ran longest ago first.
// What runs stays, and so does p.
func (e *Engine) trim(p *Program) (idle []*ready) {
	for e.total > e.memory {
		var oldest *Program
		for q := range e.programs {
			if q != p && q.ready != nil && q.users == 0 && (oldest == nil || q.used < oldest.used) {
				oldest = q
			}
		}
		if oldest == nil {
			break
		}
		idle = append(idle, e.leaves(oldest))
	}
	return idle
}

func closeAll(ctx context.Context, list []*ready) (err error) {
	for _, r := range list {
		err = errors.Join(err, r.close(ctx))
	}
	return err
}

// Close frees the program, when the calls that run in it have ended.
func (p *Program) Close(ctx context.Context) error {
	e := p.e
	e.mu.Lock()
	p.closed = true
	delete(e.programs, p)
	var idle []*ready
	if p.ready != nil && p.users == 0 {
		idle = append(idle, e.leaves(p))
	}
	e.mu.Unlock()
	return closeAll(ctx, idle)
}
