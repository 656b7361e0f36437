package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
)

// A Kind is why a call or a module failed. Test with errors.Is.
type Kind string

// Error returns the kind's text.
func (k Kind) Error() string { return "engine: " + string(k) }

// The kinds.
const (
	ErrModule   Kind = "module refused"
	ErrContract Kind = "contract refused"
	ErrTrap     Kind = "contract broke"
	ErrOutOfGas Kind = "gas limit reached"
	ErrDepth    Kind = "call depth reached"
	ErrOutput   Kind = "output above the limit"
	ErrDeposit  Kind = "storage deposit above the limit"
	ErrNoCallee Kind = "no such contract"
	ErrReenter  Kind = "contract is already running"
	ErrHost     Kind = "host failed"
)

// An Error is a failed call or module.
type Error struct {
	Kind   Kind
	Code   uint32 // the contract's own, with ErrContract
	Detail string
	Err    error // the host's, with ErrHost
}

// Error returns kind and detail.
func (e *Error) Error() string { return e.Kind.Error() + ": " + e.Detail }

// Unwrap returns the host's error.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// The entry points of a contract.
const (
	EntryDeploy = "deploy"
	EntryCall   = "call"
	EntryQuery  = "query"
)

// A Host serves one call. Reads and writes are the contract's own: the host adds the
// contract's name. Gas of a host function is charged before the host is asked.
type Host interface {
	Get(key []byte) (value []byte, ok bool)
	Put(key, value []byte) error
	Delete(key []byte) error
	// Next returns the first key that is at least from and starts with prefix.
	Next(prefix, from []byte) (key, value []byte, ok bool)
	Caller() []byte
	Reader() []byte // who asks in the caller's name, under a read grant; else empty
	Self() [32]byte
	Height() uint64
	Time() uint64 // Unix milliseconds
	Random() io.Reader
	Log(msg []byte)
	// Secret is key material of this contract alone, for one purpose and label.
	Secret(purpose string, label []byte) [32]byte
	// Emit publishes an event, or seals it to the holder of a key. A nil error means that
	// it is part of the receipt if the command succeeds.
	Emit(reader *[32]byte, data []byte) error
	// Call calls another contract. An *Error is how the callee failed, other errors are
	// the host's own failure.
	Call(ctx context.Context, c *Outcall) (Result, error)
	// Fetch makes an HTTP request. An *Error ends the call, other errors are told to it.
	Fetch(ctx context.Context, request []byte) (response []byte, err error)
}

// An Outcall is a call from one contract to another.
type Outcall struct {
	To    [32]byte
	Query bool // of its query entry point; writes are discarded
	Input []byte
	Gas   uint64 // at most this much of the caller's
}

// A Call is one run of an entry point.
type Call struct {
	Entry   string
	Input   []byte
	Gas     uint64
	Host    Host
	Reentry bool // the contract is already running further out: it must accept that
}

// A Result is how a call ended. GasUsed is right with an error too.
type Result struct {
	Output  []byte
	GasUsed uint64
}

// An Engine prepares and runs programs. It is safe for concurrent use.
type Engine struct {
	cacheDir string
	rules    []Rules // by version, from 1
	memory   int     // of programs that are ready, at most
	turn     chan struct{}

	mu       sync.Mutex
	programs map[*Program]bool // all that are not closed
	total    int               // sizes of those that are ready
	clock    uint64
}

// New returns an engine. cacheDir, when not empty, holds compiled code between
// starts. It is native code: whoever can write there runs code in this process, so
// it must be inside the enclave (package keys unseals into such a place). It knows the
// given rules; with none, those of [Known].
func New(cacheDir string, rules ...Rules) (*Engine, error) {
	if len(rules) == 0 {
		rules = Known()
	}
	for i := range rules {
		if rules[i].Version() != uint32(i+1) {
			return nil, fmt.Errorf("engine: rules version %d in place %d: versions count from 1 without a gap", rules[i].Version(), i+1)
		}
	}
	return &Engine{cacheDir: cacheDir, rules: rules, memory: MaxMemory, turn: make(chan struct{}, 1), programs: map[*Program]bool{}}, nil
}

// Close closes all programs.
func (e *Engine) Close(ctx context.Context) (err error) {
	e.mu.Lock()
	programs := slices.Collect(maps.Keys(e.programs))
	e.mu.Unlock()
	for _, p := range programs {
		err = errors.Join(err, p.Close(ctx))
	}
	return err
}

// Newest is the newest version of the rules that the engine knows. It knows all before it.
func (e *Engine) Newest() uint32 { return uint32(len(e.rules)) }

// Rules returns a version of the rules, nil for one that the engine does not know.
func (e *Engine) Rules(version uint32) *Rules {
	if version == 0 || version > e.Newest() {
		return nil
	}
	return &e.rules[version-1]
}

// checkForm checks that a module is a contract, and returns what it exports.
func checkForm(m *wasmprep.Module) (map[string]bool, error) {
	has, plain := map[string]bool{}, wasmprep.FuncType{}
	for _, x := range m.Exports {
		has[x.Name] = true
		switch x.Name {
		case EntryDeploy, EntryCall, EntryQuery, entryInitialise, entryWarmup:
			if !x.Type.Equal(plain) {
				return nil, &Error{Kind: ErrModule, Detail: fmt.Sprintf("its export %q has parameters or results", x.Name)}
			}
		}
	}
	for _, entry := range []string{EntryDeploy, EntryCall, EntryQuery} {
		if !has[entry] {
			return nil, &Error{Kind: ErrModule, Detail: fmt.Sprintf("it does not export %q", entry)}
		}
	}
	if !m.HasMemory {
		return nil, &Error{Kind: ErrModule, Detail: "it has no memory"}
	}
	return has, nil
}

// initialise runs what a module runs before its first call, and keeps the image.
func (r *Rules) initialise(ctx context.Context, m *wasmprep.Module, code *image.Code, has map[string]bool) (*image.Image, error) {
	inst, err := image.New(ctx, code)
	if err != nil {
		if strings.Contains(err.Error(), "out of bounds memory access") {
			return nil, &Error{Kind: ErrModule, Detail: err.Error()} // its data does not fit its memory
		}
		// Nothing else in an accepted module can fail here (wasmprep checks its elements): it
		// is this machine that has no room for it.
		return nil, &Error{Kind: ErrHost, Detail: err.Error(), Err: err}
	}
	defer inst.Close(ctx)
	state := &run{gas: &r.Host, clock: firstClock}
	ctx = withCall(ctx, state)
	run := func(name string, gas uint64) error {
		_, _, err := inst.Call(ctx, name, gas)
		if err != nil {
			return &Error{Kind: ErrModule, Detail: fmt.Sprintf("%s: %v", name, state.classify(err))}
		}
		return nil
	}
	if m.HasStart {
		if err := run(wasmprep.StartExport, r.Initialise); err != nil {
			return nil, err
		}
	}
	if has[entryInitialise] {
		if err := run(entryInitialise, r.Initialise); err != nil {
			return nil, err
		}
	}
	if has[entryWarmup] {
		if err := run(entryWarmup, r.Warmup); err != nil {
			return nil, err
		}
	}
	img, err := image.Capture(inst, image.Auto)
	if err != nil {
		return nil, &Error{Kind: ErrHost, Detail: err.Error(), Err: err}
	}
	return img, nil
}

// firstClock is the clock while a module initialises, nanoseconds: the Go runtime
// refuses a clock at zero.
const firstClock = 1e9

// entryInitialise is the start of a WASI reactor.
const entryInitialise = "_initialize"

// entryWarmup, where a module exports it, runs before the image is taken: what a
// language runtime allocates on its first call is then in the image.
const entryWarmup = "phat_warmup"

// Run runs a call. A call that fails or grows its memory spoils its instance, and pays for
// the next one; so that it can, each call keeps that much of its gas in reserve. A large
// image costs each call gas. The error is an *Error, or the context's.
func (p *Program) Run(ctx context.Context, c *Call) (res Result, err error) {
	if need := p.fresh + p.pages; c.Gas < need {
		return Result{GasUsed: c.Gas}, &Error{Kind: ErrOutOfGas, Detail: fmt.Sprintf("a call of this contract needs %d gas in reserve: raise the gas limit", need)}
	}
	ready, err := p.enter(ctx, c.Entry == EntryQuery)
	if err != nil {
		return Result{}, err
	}
	defer p.leave(ctx)
	inst, err := ready.pool.Get(ctx)
	if err != nil {
		return Result{}, &Error{Kind: ErrHost, Detail: err.Error()}
	}
	r := &run{gas: &p.rules.Host, host: c.Host, input: c.Input, query: c.Entry == EntryQuery, reentry: c.Reentry, clock: max(firstClock, c.Host.Time()*1e6)}
	_, used, err := inst.Call(withCall(ctx, r), c.Entry, c.Gas-p.fresh-p.pages)
	used += p.pages
	if ready.pool.Spoiled(inst) {
		used += p.fresh
	}
	if perr := ready.pool.Put(ctx, inst); perr != nil && err == nil {
		err = &Error{Kind: ErrHost, Detail: perr.Error()}
	}
	if err != nil {
		return Result{GasUsed: used}, r.classify(err)
	}
	if r.failed != nil {
		return Result{GasUsed: used}, r.failed
	}
	if r.reentry && !r.accepted {
		return Result{GasUsed: used}, errReentered()
	}
	return Result{r.output, used}, nil
}

// classify turns what ended a call into an *Error.
func (r *run) classify(err error) error {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, image.ErrOutOfGas):
		return &Error{Kind: ErrOutOfGas, Detail: "raise the gas limit, or do less in one call"}
	case errors.Is(err, image.ErrCallDepth):
		return &Error{Kind: ErrDepth, Detail: "recursion is too deep"}
	case len(r.stderr) > 0:
		return &Error{Kind: ErrTrap, Detail: string(r.stderr)}
	}
	return &Error{Kind: ErrTrap, Detail: trapDetail(err)}
}

// traps are the ways in which code itself traps, by what wazero calls them, and what a
// caller is told. These words are in the output that seats agree on, and a calling
// contract pays for their length: they are the rules', not the library's.
var traps = map[string]string{
	"unreachable":                   "unreachable code was reached",
	"out of bounds memory access":   "access out of bounds of memory",
	"integer divide by zero":        "integer division by zero",
	"integer overflow":              "integer overflow",
	"invalid conversion to integer": "invalid conversion to an integer",
	"invalid table access":          "call of a table entry that is not there",
	"indirect call type mismatch":   "call of a table entry of another type",
}

// trapDetail is "trap" for what is not in the list: its words may differ by machine.
func trapDetail(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	_, what, _ := strings.Cut(line, "wasm error: ")
	if own, ok := traps[what]; ok {
		return own
	}
	return "trap"
}
