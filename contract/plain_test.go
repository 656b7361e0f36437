package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/phala-go/phala/crypto/address"
)

// targets are pointers to each plain type, and to some that are not.
func targets() []any {
	type cents uint64
	return []any{new(uint64), new(uint32), new(int64), new(int), new(bool), new(string), new(Account), new(cents), new(uint8), new(float64), new(*uint64), new([]string)}
}

// agree compares reading b with encoding/json, and writing what was read.
func agree(t *testing.T, b []byte) {
	t.Helper()
	ours, theirs := targets(), targets()
	for i := range ours {
		err, want := unmarshal(b, ours[i]), json.Unmarshal(b, theirs[i])
		if fmt.Sprint(err) != fmt.Sprint(want) || !reflect.DeepEqual(ours[i], theirs[i]) {
			t.Errorf("%q as %T: %v, %v; encoding/json: %v, %v", b, ours[i], reflect.ValueOf(ours[i]).Elem(), err, reflect.ValueOf(theirs[i]).Elem(), want)
		}
		if want != nil {
			continue
		}
		v := reflect.ValueOf(theirs[i]).Elem().Interface()
		got, err := marshal(v)
		if text, want := json.Marshal(v); fmt.Sprint(err) != fmt.Sprint(want) || !bytes.Equal(got, text) {
			t.Errorf("%T %v is written as %s, %v; encoding/json: %s, %v", v, v, got, err, text, want)
		}
	}
}

// agreeInvocation compares taking an input apart with encoding/json.
func agreeInvocation(t *testing.T, b []byte) {
	t.Helper()
	got, err := parseInvocation(b)
	var want invocation
	werr := json.Unmarshal(b, &want)
	if fmt.Sprint(err) != fmt.Sprint(werr) || got.Method != want.Method || !bytes.Equal(got.Args, want.Args) {
		t.Errorf("%q: %q %q %v; encoding/json: %q %q %v", b, got.Method, got.Args, err, want.Method, want.Args, werr)
	}
}

var samples = []string{"0", "1", "40", "-0", "-1", "00", "01", "1e3", "1.0", "4294967295", "4294967296", "2147483648", "9223372036854775807", "9223372036854775808",
	"18446744073709551615", "18446744073709551616", "9999999999999999999", "true", "false", "null", "True", `""`, `"a"`, `"a b~"`, `"<&>"`, `"ü"`, "\"\x7f\"", "\"\x00\"", "\"\xff\"",
	`"\n"`, `"a"b"`, `"a`, `"`, ``, ` 1`, `1 `, `1 2`, `"phala1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s6hljsj"`, `"phala1qqqsyqcyq5rqwzqfpg9scrgwpugpzysnzs23v9ccrydpk8qarc0s6hljsq"`, `[]`, `{"a":1}`, `"\u0041"`}

func TestPlainIsJSON(t *testing.T) {
	for _, v := range samples {
		agree(t, []byte(v))
		for _, form := range []string{`{"method":"M","args":%s}`, `{"method":%s}`, `{"method":"M","args":%s,"args":2}`, `{"method":"M","args": %s}`, `{"method":"M","args":%s }`,
			`{"args":%s,"method":"M"}`, `{"method":"M","args":%s}}`, `{"method":"M","more":%s}`, ` {"method":"M","args":%s}`, `{"method":"M","args":%s`, `{"Method":"M","ARGS":%s}`} {
			agreeInvocation(t, fmt.Appendf(nil, form, v))
		}
	}
	for _, b := range []string{"", "{}", "null", `{"method":""}`, `{"method":"a\"}`, `{"method":"a","args":}`, `{"method":"a",}`, `{"method":"a"}x`, `{"method":"é"}`, `{"method":"<"}`} {
		agreeInvocation(t, []byte(b))
	}
	for _, v := range []any{uint64(math.MaxUint64), int64(math.MinInt64), int64(math.MaxInt64), math.MinInt, math.MaxInt, uint32(math.MaxUint32), "\u2028", "a\\b", Account("no account")} {
		got, err := marshal(v)
		if want, werr := json.Marshal(v); fmt.Sprint(err) != fmt.Sprint(werr) || !bytes.Equal(got, want) {
			t.Errorf("%T %v is written as %s, %v; encoding/json: %s, %v", v, v, got, err, want, werr)
		}
	}
}

func FuzzPlain(f *testing.F) {
	for _, v := range samples {
		f.Add([]byte(v))
		f.Add([]byte(`{"method":"M","args":` + v + `}`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		agree(t, b)
		agreeInvocation(t, b)
	})
}

// TestAccountTwin compares addresses with package crypto/address, damaged ones too.
func TestAccountTwin(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		raw := make([]byte, []int{20, 32}[r.IntN(2)])
		for i := range raw {
			raw[i] = byte(r.Uint32())
		}
		want, err := address.Bech32(hrp, raw)
		if err != nil || Account(raw).String() != want {
			t.Fatalf("seed %d: %x is %s, want %s, %v", seed, raw, Account(raw), want, err)
		}
		var back Account
		if err := back.UnmarshalText([]byte(want)); err != nil || string(back) != string(raw) {
			t.Fatalf("seed %d: %s is %x, %v", seed, want, string(back), err)
		}
		wrong := []byte(want)
		wrong[r.IntN(len(wrong))] ^= byte(1 + r.IntN(255))
		if r.IntN(4) == 0 {
			wrong = wrong[:r.IntN(len(wrong))]
		}
		if _, err := address.ParseBech32(hrp, string(wrong)); err != nil && len(wrong) > 0 && back.UnmarshalText(wrong) == nil {
			t.Fatalf("seed %d: %q is read as %x; package address: %v", seed, wrong, string(back), err)
		}
	}
}

type picky struct{ N int }

func (picky) MarshalJSON() ([]byte, error) { panic("warming up ran a method") }

var ran []string

// huge is a type whose zero value takes long to encode.
type huge [1 << 16]uint64

type warmed struct {
	By    Map[Account, picky]
	Count Value[uint64]
	Huge  Value[huge]
	Many  Map[string, huge]
}

func (*warmed) Large(*Command, *huge) error { ran = append(ran, "Large"); return nil }
func (*warmed) Array(*Command, huge) error  { ran = append(ran, "Array"); return nil }

func (*warmed) Init(*Command, string) error   { ran = append(ran, "Init"); return nil }
func (*warmed) Set(*Command, picky) error     { ran = append(ran, "Set"); return nil }
func (*warmed) Get(*Query) (*warmed, error)   { ran = append(ran, "Get"); return nil, nil }
func (*warmed) Bad(*Query) (picky, error)     { ran = append(ran, "Bad"); return picky{}, nil }
func (*warmed) Last(*Query) ([]string, error) { ran = append(ran, "Last"); return nil, nil }

// asked counts who asks for what a call asks before its method runs.
type asked struct {
	memory
	calls int
}

func (a *asked) Reentry() bool { a.calls++; return false }

// TestWarm: warming up goes through methods and fields, also behind those whose zero
// value does not encode, without running a method or leaving a host behind.
func TestWarm(t *testing.T) {
	h := &asked{memory: memory{kv: map[string][]byte{}}}
	newProgram(&warmed{}).warm(h)
	if len(ran) != 0 || current != nil {
		t.Errorf("%v ran, the host is %v", ran, current)
	}
	if h.calls != 6 || string(h.kv["Count"]) != "0" || len(h.kv["Huge"]) > 0 { // describe and all methods but Set and Array
		t.Errorf("%d calls, %q", h.calls, h.kv)
	}
}
