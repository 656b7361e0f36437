package cluster

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// maxDepth is how many contracts may be running at once in one command or query.
const maxDepth = 8

// maxFetches is how many HTTP requests one query makes.
const maxFetches = 8

// A Fetcher makes a contract's HTTP request in a query. Its errors are told to the contract.
type Fetcher func(ctx context.Context, contract [32]byte, request []byte) (response []byte, err error)

// An exec is one command or query: what all the calls in it share.
type exec struct {
	c       *Cluster
	o       *overlay
	height  uint64
	time    uint64
	random  func(call uint64) io.Reader // a stream for each call
	calls   uint64                      // so far
	query   bool
	stack   []proto.ContractID
	events  []emission
	logs    []logged
	fetches int
	written int // bytes of keys and values that were put, whatever became of them
}

// A call is one contract's run within an exec.
type call struct {
	entry  string
	to     proto.ContractID
	rec    *contractRecord
	caller []byte
	reader []byte // who asks in the caller's name, under a grant
	input  []byte
	gas    uint64
	// keep is whether what the contract writes may stay: not in a query, nor in what a
	// query calls.
	keep bool
}

// mark is what a failed call is brought back to. Logs stay: they are for finding out why.
type mark struct {
	o      overlay
	events int
}

func (x *exec) mark() mark { return mark{*x.o, len(x.events)} }

func (x *exec) revert(m mark) { *x.o, x.events = m.o, x.events[:m.events] }

// run runs a call. What it wrote is gone if it failed or may keep nothing.
func (x *exec) run(ctx context.Context, c *call) (engine.Result, error) {
	program, err := x.program(c.rec)
	if err != nil {
		return engine.Result{}, err
	}
	reentry := false
	for _, id := range x.stack {
		reentry = reentry || id == c.to
	}
	before := x.mark()
	x.stack = append(x.stack, c.to)
	h := x.host(c)
	res, err := program.Run(ctx, &engine.Call{Entry: c.entry, Input: c.input, Gas: c.gas, Host: h, Reentry: reentry})
	x.stack = x.stack[:len(x.stack)-1]
	if err != nil || !c.keep {
		x.revert(before)
	}
	return res, err
}

// host serves one call: storage under the contract's prefix, and what its exec knows.
type host struct {
	x      *exec
	prefix []byte
	call   *call
	number uint64    // of the call within the exec
	random io.Reader // once it was asked for
}

func (x *exec) host(c *call) *host {
	x.calls++
	return &host{x: x, prefix: storagePrefix(c.to), call: c, number: x.calls - 1}
}

func (h *host) key(k []byte) []byte {
	return append(h.prefix[:len(h.prefix):len(h.prefix)], k...)
}

func (h *host) Get(k []byte) ([]byte, bool) {
	b, ok := h.x.o.m.Get(h.key(k))
	if !ok {
		return nil, false
	}
	_, _, v := splitItem(b)
	return v, true
}

func (h *host) Put(k, v []byte) error {
	if h.x.written += len(k) + len(v); h.x.written > engine.MaxWritten {
		return engine.ErrWritten()
	}
	return h.x.o.put(h.key(k), v, len(k), h.call.keep)
}

func (h *host) Delete(k []byte) error {
	h.x.o.remove(h.key(k), len(k), h.call.keep)
	return nil
}

func (h *host) Next(prefix, from []byte) (key, value []byte, ok bool) {
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	k, b, ok := h.x.o.m.Next(h.key(from))
	if !ok || !bytes.HasPrefix(k, h.key(prefix)) {
		return nil, nil, false
	}
	_, _, v := splitItem(b)
	return k[len(h.prefix):], v, true
}

func (h *host) Caller() []byte { return h.call.caller }
func (h *host) Reader() []byte { return h.call.reader }
func (h *host) Self() [32]byte { return h.call.to }
func (h *host) Height() uint64 { return h.x.height }
func (h *host) Time() uint64   { return h.x.time }

// Random is the call's own stream, so that no contract learns from what it draws how much
// those that it calls have drawn, nor steers what they will.
func (h *host) Random() io.Reader {
	if h.random == nil {
		h.random = h.x.random(h.number)
	}
	return h.random
}

func (h *host) Secret(purpose string, label []byte) [32]byte {
	return subkey(h.x.c.keys.Stable, "contract/v1", h.call.to[:], []byte(purpose), label)
}

// Call calls another contract of the cluster, as this one.
func (h *host) Call(ctx context.Context, o *engine.Outcall) (engine.Result, error) {
	if len(h.x.stack) == maxDepth {
		return engine.Result{}, &engine.Error{Kind: engine.ErrDepth, Detail: fmt.Sprintf("%d contracts are running already, one calling the other", maxDepth)}
	}
	rec, ok := (&Snapshot{m: h.x.o.m}).contract(o.To)
	if !ok {
		return engine.Result{}, &engine.Error{Kind: engine.ErrNoCallee, Detail: fmt.Sprintf("no contract %s in cluster %s", proto.ContractID(o.To), h.x.c.id)}
	}
	c := &call{entry: engine.EntryCall, to: o.To, rec: rec, caller: bytes.Clone(h.call.to[:]), input: o.Input, gas: o.Gas, keep: h.call.keep && !o.Query}
	if o.Query {
		c.entry = engine.EntryQuery
	}
	return h.x.run(ctx, c)
}

// Fetch makes an HTTP request. Replicas would get different answers, so a command has
// none, nor a query that a command calls.
func (h *host) Fetch(ctx context.Context, request []byte) ([]byte, error) {
	switch {
	case !h.x.query:
		return nil, &engine.Error{Kind: engine.ErrTrap, Detail: "HTTP is for queries: each replica of a command would get another answer"}
	case h.x.c.fetch == nil:
		return nil, fmt.Errorf("this worker's operator does not allow HTTP")
	case h.x.fetches == maxFetches:
		return nil, fmt.Errorf("a query may make %d HTTP requests", maxFetches)
	}
	h.x.fetches++
	return h.x.c.fetch(ctx, h.call.to, request)
}

// stream is AES-256-CTR under a key that is used for one call of one command only.
type stream struct{ s cipher.Stream }

func newStream(key [32]byte) io.Reader {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("cluster: broken invariant: " + err.Error())
	}
	return stream{cipher.NewCTR(block, make([]byte, aes.BlockSize))}
}

func (s stream) Read(b []byte) (int, error) {
	clear(b)
	s.s.XORKeyStream(b, b)
	return len(b), nil
}
