package contracttest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/fetch"
)

func key(name string) *identity.KeyPair {
	seed := transcript.Hash(name)
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// These are those of pruntime/cluster.
const (
	maxDepth   = 8
	maxFetches = 8
	queryGas   = 1 << 32
)

// rules are those under which the engine prepares the contract.
var rules = engine.Known()[len(engine.Known())-1]

// A stage is one command or query on one of the worlds: what all calls in it share.
type stage struct {
	k       *Kit
	w       *world
	wasm    bool // the contract under test runs as Wasm
	query   bool
	payer   contract.Account
	random  [32]byte
	drawn   uint64
	written int
	emitted int // bytes, as they would be posted
	logged  map[contract.ID]int
	running []contract.ID
	replay  []exchange // what the native run fetched
	o       outcome
}

// An exchange is a request and its answer.
type exchange struct {
	request  []byte
	response []byte
	err      error
}

// play runs a call on a world and returns the next.
func (k *Kit) play(w *world, wasm bool, replay []exchange, to contract.ID, entry string, caller contract.Account, input []byte) (*world, outcome) {
	s := &stage{k: k, w: w.fork(), wasm: wasm, query: entry == "query", payer: caller, replay: replay, logged: map[contract.ID]int{}, random: transcript.Hash("contracttest/random", transcript.U64(k.calls))}
	s.w.credit[caller] += k.limit
	gas, opening := uint64(queryGas), uint64(0)
	if !s.query {
		opening = min(k.gas, rules.Command.Open)
		gas = k.gas - opening
	}
	res, err := s.run(&frame{s: s, entry: entry, to: to, caller: caller, reader: k.reader, input: input, gas: gas, keep: !s.query})
	s.o.answer, s.o.gas, s.o.err = res.Output, res.GasUsed, err
	if wasm {
		s.o.gas += opening
	}
	if err != nil || s.query {
		s.o.events = nil
		return w, s.o
	}
	// What is left of the limit returns, and so does the credit.
	if left := s.w.credit[caller]; left < k.limit {
		s.o.deposit = k.limit - left
	}
	delete(s.w.credit, caller)
	return s.w, s.o
}

// A frame is one contract's run on a stage.
type frame struct {
	s       *stage
	entry   string
	to      contract.ID
	caller  contract.Account
	reader  contract.Account
	input   []byte
	gas     uint64
	keep    bool
	reentry bool
}

func (s *stage) run(f *frame) (engine.Result, error) {
	for _, id := range s.running {
		f.reentry = f.reentry || id == f.to
	}
	s.running = append(s.running, f.to)
	before, events, emitted := s.w.fork(), len(s.o.events), s.emitted
	var res engine.Result
	var err error
	switch o := s.k.others[f.to]; {
	case o != nil && o.double != nil:
		res, err = f.double(o)
	case o != nil:
		res, err = f.engine(o.program)
	case s.wasm:
		res, err = f.engine(s.k.main)
	default:
		res, err = f.native()
	}
	s.running = s.running[:len(s.running)-1]
	if err != nil || !f.keep {
		s.w, s.o.events, s.emitted = before, s.o.events[:events], emitted
	}
	return res, err
}

func (f *frame) engine(p *engine.Program) (engine.Result, error) {
	return p.Run(context.Background(), &engine.Call{Entry: f.entry, Input: f.input, Gas: f.gas, Host: engineHost{f}, Reentry: f.reentry})
}

// native runs the contract under test in this process. Where the engine would end the
// call, the host's functions panic with the error.
func (f *frame) native() (res engine.Result, err error) {
	h := &nativeHost{f: f}
	defer func() {
		if v := recover(); v != nil {
			if e, ok := v.(*engine.Error); ok {
				res, err = engine.Result{}, e
			} else {
				res, err = engine.Result{}, &engine.Error{Kind: engine.ErrTrap, Detail: fmt.Sprint(v)}
			}
		}
	}()
	out, err := contract.Registered().Run(h, f.entry, f.input)
	if err != nil {
		return engine.Result{}, refused(err)
	}
	if f.reentry && !h.accepted {
		return engine.Result{}, &engine.Error{Kind: engine.ErrReenter}
	}
	return answered(out)
}

// answered is an answer of the size that the engine takes.
func answered(out []byte) (engine.Result, error) {
	if len(out) > engine.MaxOutput {
		return engine.Result{}, &engine.Error{Kind: engine.ErrOutput, Detail: fmt.Sprintf("%d bytes, at most %d", len(out), engine.MaxOutput)}
	}
	return engine.Result{Output: out}, nil
}

func (f *frame) double(o *other) (engine.Result, error) {
	var in struct {
		Method string          `json:"method"`
		Args   json.RawMessage `json:"args"`
	}
	if err := json.Unmarshal(f.input, &in); err != nil {
		return engine.Result{}, &engine.Error{Kind: engine.ErrTrap, Detail: err.Error()}
	}
	v, err := o.double(f.caller, in.Method, in.Args)
	if err != nil {
		return engine.Result{}, refused(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		f.s.o.strange = fmt.Sprintf("a double's answer to %s: %v", in.Method, err)
		return engine.Result{}, refused(err)
	}
	return answered(out)
}

func refused(err error) *engine.Error {
	own := &contract.Error{Code: contract.CodeError}
	errors.As(err, &own)
	return &engine.Error{Kind: engine.ErrContract, Code: own.Code, Detail: err.Error()[:min(len(err.Error()), 4096)]}
}

func (f *frame) get(key []byte) ([]byte, bool) {
	it, ok := f.s.w.kv[f.to][string(key)]
	return it.value, ok
}

func (f *frame) put(key, value []byte) error {
	if f.s.written += len(key) + len(value); f.s.written > engine.MaxWritten {
		return engine.ErrWritten()
	}
	payer := f.s.payer
	if !f.keep {
		payer = "nobody"
		f.s.w.credit[payer] = 1 << 62
	}
	return f.s.w.put(f.to, string(key), value, payer, f.s.k.limit)
}

func (f *frame) draw(b []byte) {
	for len(b) > 0 {
		block := transcript.Hash("contracttest/stream", f.s.random[:], transcript.U64(f.s.drawn))
		f.s.drawn++
		b = b[copy(b, block[:]):]
	}
}

func (f *frame) secret(purpose string, label []byte) [32]byte {
	return transcript.Hash("contracttest/secret", f.to[:], []byte(purpose), label)
}

// log keeps as many lines as a command keeps on the chain, and a query's, which go
// nowhere there.
func (f *frame) log(msg []byte) {
	room := engine.MaxLogBytes - f.s.logged[f.to]
	if room <= 0 {
		return
	}
	f.s.logged[f.to] += len(msg) + 1
	f.s.o.logs = append(f.s.o.logs, string(msg[:min(len(msg), room)]))
}

func (f *frame) emit(reader *[32]byte, data []byte) error {
	e := Event{Contract: f.to}
	if reader != nil {
		if commkey.PublicKey(*reader).Check() != nil {
			return engine.ErrReader
		}
		e.Reader = contract.Account(reader[:])
	}
	var in struct {
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data"`
	}
	if json.Unmarshal(data, &in) == nil {
		e.Name, e.Data = in.Event, in.Data
	} else {
		e.Data = data
	}
	if f.keep {
		f.s.emitted += engine.EventSize(reader != nil, len(data))
		if len(f.s.o.events) == engine.MaxEvents || f.s.emitted > engine.MaxEventBytes {
			return engine.ErrEvents()
		}
		f.s.o.events = append(f.s.o.events, e)
	}
	return nil
}

func (f *frame) call(o *engine.Outcall) (engine.Result, error) {
	if len(f.s.running) == maxDepth {
		return engine.Result{}, &engine.Error{Kind: engine.ErrDepth, Detail: fmt.Sprintf("%d contracts are running already, one calling the other", maxDepth)}
	}
	id := contract.ID(o.To)
	if _, ok := f.s.k.others[id]; !ok && id != f.s.k.ID {
		return engine.Result{}, &engine.Error{Kind: engine.ErrNoCallee, Detail: fmt.Sprintf("no contract %s in cluster 1", id)}
	}
	c := &frame{s: f.s, entry: "call", to: id, caller: f.to.Account(), input: o.Input, gas: o.Gas, keep: f.keep && !o.Query}
	if o.Query {
		c.entry = "query"
	}
	return f.s.run(c)
}

func (f *frame) fetch(request []byte) ([]byte, error) {
	s := f.s
	switch {
	case !s.query:
		return nil, &engine.Error{Kind: engine.ErrTrap, Detail: "HTTP is for queries: each replica of a command would get another answer"}
	case s.k.fetcher == nil:
		return nil, errors.New("this worker's operator does not allow HTTP")
	case len(s.o.fetched) == maxFetches:
		return nil, fmt.Errorf("a query may make %d HTTP requests", maxFetches)
	}
	e := exchange{request: request}
	if s.wasm {
		i := len(s.o.fetched)
		if i >= len(s.replay) || !bytes.Equal(s.replay[i].request, request) {
			s.o.strange = fmt.Sprintf("as Wasm the contract makes another HTTP request than natively:\n%s", request)
			return nil, errors.New("another request than natively")
		}
		e = s.replay[i]
	} else {
		e.response, e.err = s.k.ask(request)
	}
	s.o.fetched = append(s.o.fetched, e)
	return e.response, e.err
}

// ask asks the test's server.
func (k *Kit) ask(request []byte) ([]byte, error) {
	r, err := fetch.ParseRequest(request)
	if err != nil {
		return nil, err
	}
	in := &contract.HTTPRequest{Method: r.Method, URL: r.URL, Body: r.Body}
	for _, f := range r.Header {
		in.Header = append(in.Header, contract.HTTPField(f))
	}
	res, err := k.fetcher(in)
	if err != nil {
		return nil, err
	}
	out := &fetch.Response{Status: res.Status, Body: res.Body}
	for _, f := range res.Header {
		out.Header = append(out.Header, fetch.Field(f))
	}
	b := out.Marshal()
	if len(b) > fetch.MaxResponse {
		return nil, fetch.ErrLarge
	}
	return b, nil
}

// engineHost is a frame as the engine sees it.
type engineHost struct{ f *frame }

func (h engineHost) Get(key []byte) ([]byte, bool) { return h.f.get(key) }
func (h engineHost) Put(key, value []byte) error   { return h.f.put(key, value) }
func (h engineHost) Delete(key []byte) error       { h.f.s.w.remove(h.f.to, string(key)); return nil }
func (h engineHost) Next(prefix, from []byte) (key, value []byte, ok bool) {
	k, ok := h.f.s.w.next(h.f.to, prefix, from)
	return []byte(k), h.f.s.w.kv[h.f.to][k].value, ok
}
func (h engineHost) Caller() []byte    { return []byte(h.f.caller) }
func (h engineHost) Reader() []byte    { return []byte(h.f.reader) }
func (h engineHost) Self() [32]byte    { return h.f.to }
func (h engineHost) Height() uint64    { return h.f.s.k.height }
func (h engineHost) Time() uint64      { return h.f.s.k.time }
func (h engineHost) Random() io.Reader { return reader{h.f} }
func (h engineHost) Log(msg []byte)    { h.f.log(msg) }
func (h engineHost) Secret(purpose string, label []byte) [32]byte {
	return h.f.secret(purpose, label)
}
func (h engineHost) Emit(r *[32]byte, data []byte) error { return h.f.emit(r, data) }
func (h engineHost) Call(_ context.Context, o *engine.Outcall) (engine.Result, error) {
	return h.f.call(o)
}
func (h engineHost) Fetch(_ context.Context, request []byte) ([]byte, error) {
	return h.f.fetch(request)
}

type reader struct{ f *frame }

func (r reader) Read(b []byte) (int, error) { r.f.draw(b); return len(b), nil }
