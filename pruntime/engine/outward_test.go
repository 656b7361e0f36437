package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// caller is a contract that makes one call and answers status, length and what it staged.
func caller(t *testing.T, function string, args ...uint64) *Program {
	t.Helper()
	c := newContract()
	c.Data(0, []byte(strings.Repeat("T", 32)+"input"))
	return prepare(t, c.module(store64(1000, c.do(function, args...)), c.void("staged_read", 1008), c.void("output", 1000, 48)))
}

func statusAnd(out []byte) (uint32, string) {
	v := binary.LittleEndian.Uint64(out)
	return uint32(v >> 32), string(out[8 : 8+uint32(v)])
}

// TestCall: what a caller learns of its callee's end, and what it pays.
func TestCall(t *testing.T) {
	for _, c := range []struct {
		name   string
		res    Result
		err    error
		status uint32
		staged string
		kind   Kind // of the caller's own end
	}{
		{"answer", Result{Output: []byte("hi")}, nil, 0, "hi", ""},
		{"empty answer", Result{}, nil, 0, "", ""},
		{"refusal", Result{}, &Error{Kind: ErrContract, Code: 0x01020304, Detail: "no"}, 1, "\x04\x03\x02\x01no", ""},
		{"trap", Result{}, &Error{Kind: ErrTrap, Detail: "boom"}, 2, "\x00\x00\x00\x00boom", ""},
		{"out of gas", Result{}, &Error{Kind: ErrOutOfGas}, 3, "\x00\x00\x00\x00", ""},
		{"no such contract", Result{}, &Error{Kind: ErrNoCallee}, 8, "\x00\x00\x00\x00", ""},
		{"deposit", Result{}, &Error{Kind: ErrDeposit}, 10, "\x00\x00\x00\x00", ""},
		{"depth", Result{}, &Error{Kind: ErrDepth}, 16, "\x00\x00\x00\x00", ""},
		{"answer too large", Result{}, &Error{Kind: ErrOutput}, 22, "\x00\x00\x00\x00", ""},
		{"re-entry", Result{}, &Error{Kind: ErrReenter}, 23, "\x00\x00\x00\x00", ""},
		{"the host fails", Result{}, errors.New("disk full"), 0, "", ErrHost},
		{"the callee's host fails", Result{}, &Error{Kind: ErrHost, Detail: "disk full"}, 0, "", ErrHost},
	} {
		p := caller(t, "call", 0, 0, 32, 5, 0)
		h := newMemory()
		var asked Outcall
		h.call = func(o *Outcall) (Result, error) { asked = *o; c.res.GasUsed = 1_000_000; return c.res, c.err }
		res, err := run1(p, EntryCall, h, "", enough)
		if c.kind != "" {
			wantKind(t, c.name, err, c.kind)
			if c.err != nil && !errors.Is(err, c.err) && !strings.Contains(err.Error(), "disk full") {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(c.name, err)
		}
		if status, staged := statusAnd(res.Output); status != c.status || staged != c.staged {
			t.Errorf("%s: status %d, %q", c.name, status, staged)
		}
		if string(asked.To[:]) != strings.Repeat("T", 32) || string(asked.Input) != "input" || asked.Query {
			t.Errorf("%s: the host is asked %+v", c.name, asked)
		}
		if res.GasUsed < 1_050_000 || res.GasUsed > 1_060_000 {
			t.Errorf("%s: used %d", c.name, res.GasUsed)
		}
	}
}

// TestCallGas: a callee never gets all that its caller has left, nor more than it is given.
func TestCallGas(t *testing.T) {
	for _, c := range []struct{ ask, lowest, highest uint64 }{
		{0, 920_000, 950_000 - 950_000/64},
		{5, 5, 5},
		{1 << 62, 920_000, 950_000 - 950_000/64},
	} {
		p := caller(t, "call", 0, 0, 0, 0, c.ask)
		h := newMemory()
		var got uint64
		h.call = func(o *Outcall) (Result, error) {
			got = o.Gas
			return Result{GasUsed: o.Gas}, &Error{Kind: ErrOutOfGas}
		}
		if _, err := run1(p, EntryCall, h, "", 1_000_000+p.fresh); err != nil {
			t.Errorf("the caller of a callee that used up %d: %v", got, err)
		}
		if got < c.lowest || got > c.highest {
			t.Errorf("asked for %d, the callee gets %d", c.ask, got)
		}
	}
}

// TestQueriesCallQueries and nothing else.
func TestQueriesCallQueries(t *testing.T) {
	h := newMemory()
	h.call = func(o *Outcall) (Result, error) { return Result{Output: fmt.Append(nil, o.Query)}, nil }
	if _, err := run1(caller(t, "call", 0, 0, 0, 0, 0), EntryQuery, h, "", enough); !errors.Is(err, ErrTrap) || !strings.Contains(err.Error(), "cannot call a command") {
		t.Errorf("a command from a query: %v", err)
	}
	for _, entry := range []string{EntryQuery, EntryCall, EntryDeploy} {
		res, err := run1(caller(t, "call", 1, 0, 0, 0, 0), entry, h, "", enough)
		if err != nil {
			t.Fatal(err)
		}
		if _, out := statusAnd(res.Output); out != "true" {
			t.Errorf("%s: the callee is asked as a query: %s", entry, out)
		}
	}
}

// TestReentry: a contract that is already running does nothing unless it has accepted
// that, and what it does not need to accept cannot hurt.
func TestReentry(t *testing.T) {
	run := func(body []byte, c *contract) (*memory, error) {
		p := prepare(t, c.module(body))
		h := newMemory()
		h.call = func(*Outcall) (Result, error) { return Result{}, nil }
		h.fetch = func([]byte) ([]byte, error) { return nil, nil }
		_, err := p.Run(t.Context(), &Call{Entry: EntryCall, Gas: enough, Host: h, Reentry: true})
		return h, err
	}
	args := map[string][]uint64{"verify": {1, 0, 32, 0, 1, 0, 64}, "hash": {1, 0, 1, 200}, "public_key": {1, 0, 1, 200}, "sign": {1, 0, 1, 0, 1, 200}, "emit": {0, 0, 0, 1}}
	for _, f := range phat {
		c := newContract()
		a := args[f.name]
		if a == nil {
			a = make([]uint64, len(f.params))
		}
		h, err := run(c.void(f.name, a...), c)
		switch {
		case f.name == "reentry":
			if err != nil {
				t.Errorf("accepted: %v", err)
			}
		case f.name == "fail":
			wantKind(t, "refused", err, ErrContract)
		default:
			wantKind(t, f.name, err, ErrReenter)
		}
		if len(h.kv)+len(h.events) > 0 {
			t.Errorf("%s left something", f.name)
		}
		if f.name == "fail" {
			continue
		}
		c = newContract()
		if _, err := run(wasmtest.Cat(c.void("reentry"), c.void(f.name, a...)), c); err != nil {
			t.Errorf("%s after accepting: %v", f.name, err)
		}
	}
	c := newContract()
	_, err := run(nil, c)
	wantKind(t, "a method that does nothing", err, ErrReenter)
	// What ends a call is the function, not the return behind it: a refusal in between
	// would come first.
	for _, f := range slices.Concat(phat, []function{*function1("random_get")}) {
		a := args[f.name]
		if a == nil {
			a = make([]uint64, len(f.params))
		}
		c, want := newContract(), ErrReenter
		if harmless[f.name] {
			want = ErrContract
		}
		_, err := run(wasmtest.Cat(c.void(f.name, a...), c.void("fail", 1, 0, 0)), c)
		wantKind(t, f.name+", then refusing", err, want)
	}
}

func TestEmit(t *testing.T) {
	c := newContract()
	c.Data(0, []byte(strings.Repeat("R", 32)+"data"))
	p := prepare(t, c.module(store32(1000, c.do("emit", 0, 32, 32, 4)), store32(1004, c.do("emit", 0, 0, 32, 4)), store32(1008, c.do("emit", 2000, 32, 32, 4)), c.void("output", 1000, 12)))
	h := newMemory()
	res, err := run1(p, EntryCall, h, "", enough)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "whether the reader is one", res.Output, []byte{0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	if len(h.events) != 2 || h.events[0] != strings.Repeat("52", 32)+" data" || h.events[1] != "public data" {
		t.Errorf("events %q", h.events)
	}
}

func TestHTTP(t *testing.T) {
	h := newMemory()
	h.fetch = func(r []byte) ([]byte, error) { return append([]byte("got "), r...), nil }
	res, err := run1(caller(t, "http", 32, 5), EntryQuery, h, "", enough)
	if err != nil {
		t.Fatal(err)
	}
	if status, out := statusAnd(res.Output); status != 0 || out != "got input" {
		t.Errorf("%d %q", status, out)
	}
	h.fetch = func([]byte) ([]byte, error) { return nil, errors.New("no route") }
	if res, err = run1(caller(t, "http", 32, 5), EntryQuery, h, "", enough); err != nil {
		t.Fatal(err)
	}
	if status, out := statusAnd(res.Output); status != 1 || out != "\x00\x00\x00\x00no route" {
		t.Errorf("%d %q", status, out)
	}
	h.fetch = func([]byte) ([]byte, error) { return nil, &Error{Kind: ErrTrap, Detail: "not here"} }
	_, err = run1(caller(t, "http", 32, 5), EntryCall, h, "", enough)
	wantKind(t, "in a command", err, ErrTrap)
}

// TestNothingInImages: what initialises uses nothing of the chain, or it would be in the
// image, which is public: a signature, an identity, random bytes that are none.
func TestNothingInImages(t *testing.T) {
	for _, f := range phat {
		for _, entry := range []string{entryInitialise, entryWarmup, "a start section"} {
			c := newContract()
			args := make([]uint64, len(f.params))
			body := c.do(f.name, args...)
			if len(f.results) > 0 {
				body = wasmtest.Cat(body, drop)
			}
			fn := c.Func("", nil, nil, nil, body)
			if entry == "a start section" {
				c.Start(fn)
			} else {
				c.Export(entry, 0, fn)
			}
			_, err := sharedEngine(t).Prepare(t.Context(), c.module())
			wantKind(t, f.name+" in "+entry, err, ErrModule)
			if !strings.Contains(err.Error(), "no function of module phat") {
				t.Errorf("%s in %s: %v", f.name, entry, err)
			}
		}
	}
	// A language runtime seeds itself, with what everybody knows.
	c := newContract()
	c.Export(entryInitialise, 0, c.Func("", nil, nil, nil, c.void("random_get", 0, 8)))
	if _, err := sharedEngine(t).Prepare(t.Context(), c.module()); err != nil {
		t.Error(err)
	}
}

// TestStorageDeposit freezes the rule of version 1.
func TestStorageDeposit(t *testing.T) {
	rules := RulesV1()
	for _, c := range []struct {
		key, value int
		want       uint64
	}{{0, 0, 100_000}, {1, 0, 164_000}, {0, 64, 164_000}, {4, 60, 164_000}, {4, 61, 228_000}, {MaxKey, MaxValue, 100_000 + 1000*(1<<10+256<<10)}} {
		if got := rules.StorageDeposit(c.key, c.value); got != c.want {
			t.Errorf("key of %d, value of %d: %d, want %d", c.key, c.value, got, c.want)
		}
	}
}
