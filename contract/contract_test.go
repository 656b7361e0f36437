package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
)

// memory is a host for tests of this package.
type memory struct {
	Host    // what is not here is not asked for
	kv      map[string][]byte
	caller  string
	reader  string
	random  uint32
	reentry bool
}

func (m *memory) Get(k []byte) ([]byte, bool) { v, ok := m.kv[string(k)]; return v, ok }
func (m *memory) Put(k, v []byte)             { m.kv[string(k)] = slices.Clone(v) }
func (m *memory) Delete(k []byte)             { delete(m.kv, string(k)) }
func (m *memory) Next(prefix, from []byte) ([]byte, bool) {
	var keys []string
	for k := range m.kv {
		if k >= string(from) && strings.HasPrefix(k, string(prefix)) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, false
	}
	return []byte(slices.Min(keys)), true
}
func (m *memory) Caller() []byte { return []byte(m.caller) }
func (m *memory) Reader() []byte { return []byte(m.reader) }
func (m *memory) Self() [32]byte { return [32]byte{1} }
func (m *memory) Height() uint64 { return 7 }
func (m *memory) Time() uint64   { return 1000 }
func (m *memory) Random(b []byte) {
	for i := range b {
		m.random = m.random*1664525 + 1013904223
		b[i] = byte(m.random >> 24)
	}
}
func (m *memory) Log([]byte)    {}
func (m *memory) Reentry() bool { return m.reentry }

type everything struct {
	Name    Value[string]
	Numbers Map[int64, string]
	Words   Map[string, uint64]
}

func (e *everything) Init(ctx *Command, name string) error { e.Name.Set(name); return nil }
func (e *everything) Fill(ctx *Command) error {
	for _, n := range []int64{5, -3, 0, 1 << 40, -1 << 40} {
		e.Numbers.Set(n, "x")
	}
	e.Words.Set("b", 2)
	e.Words.Set("a", 1)
	return nil
}
func (e *everything) Order(ctx *Query) ([]int64, error) {
	var out []int64
	for n := range e.Numbers.All() {
		out = append(out, n)
	}
	return out, nil
}
func (e *everything) Clear(ctx *Command) error {
	for w := range e.Words.All() {
		e.Words.Delete(w)
	}
	return nil
}
func (e *everything) Die(ctx *Query, n uint64) (uint64, error) { return ctx.RandomN(n), nil }
func (e *everything) Who(ctx *Query) ([]string, error) {
	return []string{string(ctx.Caller()), string(ctx.Reader())}, ctx.RequireOwner("owner")
}
func (e *everything) Helper() {}

func run(t *testing.T, p *Program, h Host, entry, input string) (string, error) {
	t.Helper()
	out, err := p.Run(h, entry, []byte(input))
	return string(out), err
}

func TestStorage(t *testing.T) {
	p, h := newProgram(&everything{}), &memory{kv: map[string][]byte{}}
	if _, err := run(t, p, h, "deploy", `{"method":"Init","args":"n"}`); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t, p, h, "call", `{"method":"Fill"}`); err != nil {
		t.Fatal(err)
	}
	// Numbers iterate by value, negative ones first, whatever order they were written in.
	out, err := run(t, p, h, "query", `{"method":"Order"}`)
	if err != nil || out != "[-1099511627776,-3,0,5,1099511627776]" {
		t.Errorf("order %s, %v", out, err)
	}
	if _, err := run(t, p, h, "call", `{"method":"Clear"}`); err != nil {
		t.Fatal(err)
	}
	for k := range h.kv {
		if strings.HasPrefix(k, "Words/") {
			t.Errorf("%q is left after a loop that deletes", k)
		}
	}
}

// TestFrom: a loop begins where it is told to, between two keys as at one, and never
// leaves its map.
func TestFrom(t *testing.T) {
	h := &memory{kv: map[string][]byte{}}
	defer func(outer Host) { current = outer }(current)
	current = h
	var numbers Map[int64, string]
	var words, behind Map[string, uint64]
	numbers.bind("Numbers")
	words.bind("Words")
	behind.bind("Words2")
	for _, n := range []int64{5, -3, 0, 1 << 40, -1 << 40} {
		numbers.Set(n, "x")
	}
	for i, w := range []string{"ETH/2", "BTC/1", "", "ETH/1", "BTC"} {
		words.Set(w, uint64(i))
	}
	behind.Set("ETH/3", 9)
	for from, want := range map[int64]string{math.MinInt64: "[-1099511627776 -3 0 5 1099511627776]", -3: "[-3 0 5 1099511627776]", -2: "[0 5 1099511627776]", 6: "[1099511627776]", 1<<40 + 1: "[]"} {
		seq := numbers.From(from)
		for range 2 { // a sequence can be gone through again
			got := []int64{}
			for n := range seq {
				got = append(got, n)
			}
			if fmt.Sprint(got) != want {
				t.Errorf("from %d: %v, want %s", from, got, want)
			}
		}
	}
	for from, want := range map[string]string{"": "[ BTC BTC/1 ETH/1 ETH/2]", "BTC": "[BTC BTC/1 ETH/1 ETH/2]", "BTC/": "[BTC/1 ETH/1 ETH/2]", "ETH/2": "[ETH/2]", "F": "[]"} {
		got := []string{}
		for w, n := range words.From(from) {
			if v, ok := words.Get(w); !ok || v != n {
				t.Errorf("%q is %d, and %d in the loop", w, v, n)
			}
			got = append(got, w)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("from %q: %v, want %s", from, got, want)
		}
	}
	for w := range words.From("BTC/") {
		words.Delete(w)
	}
	if fmt.Sprint(slices.Sorted(maps.Keys(h.kv))[5:]) != "[Words/ Words/BTC Words2/ETH/3]" {
		t.Errorf("a loop that deletes left %q", slices.Sorted(maps.Keys(h.kv)))
	}
}

func TestRefused(t *testing.T) {
	p, h := newProgram(&everything{}), &memory{kv: map[string][]byte{}}
	for _, c := range []struct {
		name, entry, input string
		code               uint32
	}{
		{"not JSON", "call", "x", CodeArguments},
		{"no such method", "call", `{"method":"Nope"}`, CodeNoMethod},
		{"a helper", "call", `{"method":"Helper"}`, CodeNoMethod},
		{"the constructor as a command", "call", `{"method":"Init","args":"x"}`, CodeNoMethod},
		{"a command as a query", "query", `{"method":"Fill"}`, CodeNoMethod},
		{"wrong type", "deploy", `{"method":"Init","args":5}`, CodeArguments},
		{"argument too many", "call", `{"method":"Fill","args":1}`, CodeArguments},
		{"another constructor", "deploy", `{"method":"Fill"}`, CodeNoMethod},
	} {
		_, err := run(t, p, h, c.entry, c.input)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.code {
			t.Errorf("%s: got %v, want code %d", c.name, err, c.code)
		}
	}
}

// TestReader: under a grant the caller is the grantor, and the contract can tell.
func TestReader(t *testing.T) {
	p, h := newProgram(&everything{}), &memory{kv: map[string][]byte{}}
	for _, c := range []struct{ caller, reader, want string }{
		{"owner", "", `["owner",""]`},
		{"owner", "auditor", `["owner","auditor"]`},
		{"auditor", "owner", ""},
		{"", "", ""},
	} {
		h.caller, h.reader = c.caller, c.reader
		out, err := run(t, p, h, "query", `{"method":"Who"}`)
		var e *Error
		if out != c.want || (err == nil) != (c.want != "") || (err != nil && (!errors.As(err, &e) || e.Code != CodeNotOwner)) {
			t.Errorf("%q for %q: %s, %v", c.reader, c.caller, out, err)
		}
	}
}

func TestRandomN(t *testing.T) {
	p, h := newProgram(&everything{}), &memory{kv: map[string][]byte{}}
	seen := map[string]bool{}
	for range 200 {
		out, err := run(t, p, h, "query", `{"method":"Die","args":6}`)
		if err != nil || out < "0" || out > "5" {
			t.Fatal(out, err)
		}
		seen[out] = true
	}
	if len(seen) != 6 {
		t.Errorf("200 throws gave %d faces", len(seen))
	}
}

type bad1 struct{ x int }

type bad2 struct{}

func (*bad2) Add(*Command, ...uint64) error { return nil }

// Of an account that is the key of a Go map, encoding/json makes text without asking it.
type bad3 struct {
	Balances Value[map[Account]uint64]
}

type bad4 struct {
	Games Map[uint64, struct{ Players []*map[Account]bool }]
}

type bad5 struct{}

func (*bad5) Balances(*Query) (map[Account]uint64, error) { return nil, nil }

type bad6 struct{}

func (*bad6) Pay(*Command, map[Account]uint64) error { return nil }

func TestMistakesShowAtOnce(t *testing.T) {
	for name, c := range map[string]any{"not a pointer": everything{}, "a field that is not storage": &bad1{}, "a variable number of arguments": &bad2{},
		"a map of accounts": &bad3{}, "a map of accounts further in": &bad4{}, "a map of accounts as an answer": &bad5{}, "a map of accounts as an argument": &bad6{}} {
		func() {
			defer func() {
				if v := recover(); v == nil || !strings.HasPrefix(v.(string), "contract: ") {
					t.Errorf("%s: recovered %v", name, v)
				}
			}()
			newProgram(c)
		}()
	}
}

func TestAccountText(t *testing.T) {
	var raw [32]byte
	for i := range raw {
		raw[i] = byte(i)
	}
	a := Account(raw[:])
	// The same text as package crypto/address gives.
	const want = "phala1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s6hljsj"
	if a.String() != want {
		t.Errorf("got %s", a)
	}
	b, err := json.Marshal(map[string]any{"who": a})
	if err != nil || string(b) != `{"who":"`+want+`"}` {
		t.Errorf("%s, %v", b, err)
	}
	var back Account
	if err := json.Unmarshal([]byte(`"`+want+`"`), &back); err != nil || back != a {
		t.Errorf("%x, %v", string(back), err)
	}
	for _, wrong := range []string{want[:len(want)-1], strings.Replace(want, "q", "p", 1), "cosmos1x", "phala1"} {
		if err := back.UnmarshalText([]byte(wrong)); err == nil {
			t.Errorf("%s is read as an address", wrong)
		}
	}
	if err := back.UnmarshalText(nil); err != nil || back != "" {
		t.Error("nobody has no address", err)
	}
}

// TestRefusal: an error's code reaches the caller from wherever it is, and all of its
// words do.
func TestRefusal(t *testing.T) {
	own := Errorf(107, "not enough")
	for _, c := range []struct {
		err  error
		want Error
	}{
		{own, Error{107, "not enough"}},
		{errors.New("plain"), Error{CodeError, "plain"}},
		{fmt.Errorf("order 5: %w", own), Error{107, "order 5: not enough"}},
		{fmt.Errorf("order 5: %w (of 8)", fmt.Errorf("leg 2: %w", own)), Error{107, "order 5: leg 2: not enough (of 8)"}},
		{errors.Join(errors.New("plain"), own), Error{107, "plain\nnot enough"}},
	} {
		if got := refusal(c.err); *got != c.want {
			t.Errorf("%v reaches the caller as %+v, want %+v", c.err, *got, c.want)
		}
	}
}
