package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// calling answers calls, and remembers the last one.
type calling struct {
	memory
	status uint32
	answer []byte
	asked  string
}

func (c *calling) Call(query bool, to [32]byte, input []byte, gas uint64) (uint32, []byte) {
	c.asked = fmt.Sprint(query, to[0], string(input), gas)
	return c.status, c.answer
}

func TestInvoke(t *testing.T) {
	h := &calling{answer: []byte(`{"N":7}`)}
	ctx, q := &Command{context{h}}, &Query{context{h}}
	type answer struct{ N int }
	got, err := Call[answer](ctx, ID{5}, "Do", "arg", Gas(9))
	if err != nil || got.N != 7 || h.asked != `false 5{"method":"Do","args":"arg"}9` {
		t.Errorf("%+v, %v, asked %s", got, err, h.asked)
	}
	for _, c := range []Context{ctx, q} {
		if _, err := Ask[answer](c, ID{5}, "Do", nil); err != nil || h.asked != `true 5{"method":"Do"}0` {
			t.Errorf("%v, asked %s", err, h.asked)
		}
	}
	if _, err := Ask[int](q, ID{5}, "Do", nil); err == nil || !strings.Contains(err.Error(), "not a int") {
		t.Errorf("an answer of another type: %v", err)
	}
	if _, err := Call[any](ctx, ID{5}, "Do", func() {}); err == nil {
		t.Error("an argument that does not encode")
	}
	h.answer = nil
	if _, err := Call[any](ctx, ID{5}, "Do", nil); err != nil {
		t.Errorf("an empty answer: %v", err)
	}
}

// TestCallErrors: each way in which a callee ends has its word, and its refusal a code
// that reaches the outermost caller.
func TestCallErrors(t *testing.T) {
	for status, word := range callStatus {
		h := &calling{status: status, answer: append([]byte{0x6b, 0, 0, 0}, "why"...)}
		_, err := Call[any](&Command{context{h}}, ID{5}, "Do", nil)
		var e *CallError
		if !errors.As(err, &e) || e.Status != word || e.Detail != "why" || e.Method != "Do" || e.Contract != (ID{5}) || !strings.Contains(err.Error(), word) {
			t.Errorf("%d: %v", status, err)
		}
		var own *Error
		if errors.As(err, &own) != (status == 1) || (own != nil && own.Code != 107) {
			t.Errorf("%d: refusal %v", status, own)
		}
		want := uint32(CodeCall)
		if status == 1 {
			want = 107
		}
		if got := refusal(fmt.Errorf("outer: %w", err)); got.Code != want || !strings.HasPrefix(got.Message, "outer: ") {
			t.Errorf("%d passes on as %+v", status, got)
		}
	}
	h := &calling{status: 3}
	if _, err := Call[any](&Command{context{h}}, ID{5}, "Do", nil); err == nil {
		t.Error("a failure without words")
	}
}

type reentrant struct{ V Value[uint64] }

func (r *reentrant) Open(ctx *Command) error   { return nil }
func (r *reentrant) Closed(ctx *Command) error { return nil }

func TestReentrant(t *testing.T) {
	p, h := newProgram(&reentrant{}, Reentrant("Open")), &memory{kv: map[string][]byte{}, reentry: true}
	if _, err := p.Run(h, "call", []byte(`{"method":"Open"}`)); err != nil {
		t.Errorf("a method that allows it: %v", err)
	}
	_, err := p.Run(h, "call", []byte(`{"method":"Closed"}`))
	var e *Error
	if !errors.As(err, &e) || e.Code != CodeReentry {
		t.Errorf("one that does not: %v", err)
	}
	if _, err := p.Run(h, "query", []byte(`{"method":"describe"}`)); err != nil {
		t.Errorf("describe: %v", err)
	}
	func() {
		defer func() {
			if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "no method Nope") {
				t.Errorf("a misspelt method: %v", v)
			}
		}()
		newProgram(&reentrant{}, Reentrant("Nope"))
	}()
}

// TestCurrent: a contract that comes back to itself finds its own host again afterwards.
func TestCurrent(t *testing.T) {
	outer, inner := &memory{kv: map[string][]byte{}}, &memory{kv: map[string][]byte{}}
	current = outer
	defer func() { current = nil }()
	newProgram(&reentrant{}).Run(inner, "call", []byte(`{"method":"Open"}`))
	if current != Host(outer) {
		t.Error("the outer call has lost its host")
	}
}

func TestID(t *testing.T) {
	id := ID{0xab, 31: 1}
	b, err := json.Marshal(id)
	if err != nil || string(b) != `"ab`+strings.Repeat("00", 30)+`01"` {
		t.Fatal(string(b), err)
	}
	var back ID
	if err := json.Unmarshal(b, &back); err != nil || back != id || ID([]byte(id.Account())) != id {
		t.Error(back, err)
	}
	for _, bad := range []string{"", "ab", strings.Repeat("0", 63), strings.Repeat("g", 64), strings.Repeat("0", 66)} {
		if back.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is an id", bad)
		}
	}
}

func TestEventNames(t *testing.T) {
	type Sent struct {
		N int `json:"n"`
	}
	if got := string(encodeEvent(&Sent{5})); got != `{"event":"Sent","data":{"n":5}}` {
		t.Error(got)
	}
	for name, bad := range map[string]any{"nothing": nil, "no name": struct{ N int }{}, "does not encode": Named(nil)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s is an event", name)
				}
			}()
			encodeEvent(bad)
		}()
	}
}

// Named does not encode.
type Named func()

func TestHTTPForm(t *testing.T) {
	r := &HTTPRequest{URL: "https://a.example/", Header: []HTTPField{{"A", "b"}}, Body: []byte("x\n\ny")}
	b, err := r.encode()
	if err != nil || string(b) != "GET https://a.example/\nA: b\n\nx\n\ny" {
		t.Errorf("%q, %v", b, err)
	}
	for _, bad := range []*HTTPRequest{{URL: "https://a.example/\nHost: b"}, {Method: "GET\n", URL: "u"}, {URL: "u", Header: []HTTPField{{"A", "b\nC: d"}}}, {URL: "u", Header: []HTTPField{{"A\n", "b"}}}} {
		if b, err := bad.encode(); err == nil {
			t.Errorf("%q", b)
		}
	}
	got, err := decodeResponse([]byte("200\nA: b\nC: \n\nx\n\ny"))
	if err != nil || !reflect.DeepEqual(got, &HTTPResponse{200, []HTTPField{{"A", "b"}, {"C", ""}}, []byte("x\n\ny")}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "200", "x\n\n", "200\nA\n\n"} {
		if got, err := decodeResponse([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}

// TestSignedBytes is what the enclave signs (pruntime/engine has the same vector).
func TestSignedBytes(t *testing.T) {
	want := "\x00\x00\x00\x19phala/contract-message/v1\x00\x00\x00\x20\xaa" + strings.Repeat("\x00", 31) + "\x00\x00\x00\x03msg"
	if got := string(SignedBytes(ID{0xaa}, []byte("msg"))); got != want {
		t.Errorf("%q", got)
	}
}
