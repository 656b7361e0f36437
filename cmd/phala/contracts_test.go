package main

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/phala-go/phala/contract"
)

// TestArguments: what cannot be of the type that a contract describes is refused before
// anything is paid, and what is sent is what was typed.
func TestArguments(t *testing.T) {
	number, text := &contract.Type{Kind: "number", Go: "uint64"}, &contract.Type{Kind: "string", Go: "string"}
	bytes, anything := &contract.Type{Kind: "string", Go: "[]uint8"}, &contract.Type{Kind: "any", Go: "interface {}"}
	object := &contract.Type{Kind: "object", Go: "main.Bid", Fields: []contract.Field{{Name: "amount", Type: &contract.Type{Kind: "number", Go: "int8"}}, {Name: "note", Type: text, Optional: true}}}
	for _, c := range []struct {
		name  string
		words []string
		of    *contract.Type
		want  string // JSON; or of the error, after a !
	}{
		{"number", []string{"18446744073709551615"}, number, `18446744073709551615`},
		{"too large", []string{"18446744073709551616"}, number, `!is not number (uint64)`},
		{"negative", []string{"-1"}, number, `!is not number (uint64)`},
		{"fraction", []string{"1.5"}, number, `!is not number (uint64)`},
		{"text of digits", []string{`"5"`}, number, `!is not number (uint64)`},
		{"boolean for a number", []string{"true"}, number, `!is not number (uint64)`},
		{"object for a number", []string{`{"x":1}`}, number, `!is not number (uint64)`},
		{"no JSON", []string{"five"}, number, `!is not number`},
		{"fraction for a float", []string{"1.5e3"}, &contract.Type{Kind: "number", Go: "float64"}, `1.5e3`},
		{"null for an optional number", []string{"null"}, number, `null`},
		{"type with a name", []string{`"5 PHA"`}, &contract.Type{Kind: "number", Go: "main.Amount"}, `"5 PHA"`},
		{"number for a boolean", []string{"1"}, &contract.Type{Kind: "boolean", Go: "bool"}, `!is not boolean (bool)`},
		{"boolean", []string{"false"}, &contract.Type{Kind: "boolean", Go: "bool"}, `false`},
		{"text", []string{"Hi there"}, text, `"Hi there"`},
		{"text with quotes", []string{`"Hi there"`}, text, `"Hi there"`},
		{"text of digits for text", []string{"12"}, text, `"12"`},
		{"empty text", []string{""}, text, `""`},
		{"text beyond ASCII", []string{"grüß \u2603"}, text, `"grüß ☃"`},
		{"not UTF-8", []string{"\xff\xfe"}, text, `!not UTF-8`},
		{"not UTF-8, of no known type", []string{"\"\xff\""}, nil, `!not UTF-8`},
		{"not UTF-8 in a field", []string{"amount=1", "note=\xff"}, object, `!not UTF-8`},
		{"fields", []string{"amount=-128", "note=a=b"}, object, `{"amount":-128,"note":"a=b"}`},
		{"field out of range", []string{"amount=128"}, object, `!is not number (int8)`},
		{"field that is missing", []string{"note=x"}, object, `!amount is missing`},
		{"no such field", []string{"sum=1"}, object, `!no field "sum"`},
		{"field twice", []string{"amount=5", "amount=50"}, object, `!amount is given twice`},
		{"null for an object", []string{"null"}, object, `null`},
		{"bytes", []string{"AP8="}, bytes, `"AP8="`},
		{"bytes with quotes", []string{`"AP8="`}, bytes, `"AP8="`},
		{"no bytes", []string{""}, bytes, `""`},
		{"bytes that are none", []string{"hello!"}, bytes, `!"hello!" is not bytes in base64`},
		{"bytes that are none, with quotes", []string{`"0x00ff"`}, bytes, `!is not bytes in base64`},
		{"text where anything may be", []string{"hello"}, anything, `!"hello" is not JSON; here a text has quotes`},
		{"quoted text where anything may be", []string{`"hello"`}, anything, `"hello"`},
		{"any", []string{`[1, "two"]`}, nil, `[1,"two"]`},
		{"any, not JSON", []string{"two"}, nil, `"two"`},
		{"two for one", []string{"a", "b"}, text, `!quote a text with spaces`},
	} {
		v, err := plainArgument(c.words, c.of)
		if says, refused := strings.CutPrefix(c.want, "!"); refused {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s: got %v, %v, want an error that says %q", c.name, v, err, says)
			}
			continue
		}
		b, merr := json.Marshal(v)
		if err != nil || merr != nil || string(b) != c.want {
			t.Errorf("%s: got %s, %v, %v, want %s", c.name, b, err, merr, c.want)
		}
	}
}

// TestAnswersAreJSON: whatever a contract returns, --output json is JSON and UTF-8.
func TestAnswersAreJSON(t *testing.T) {
	for in, want := range map[string]string{`{"a":1}`: `{"a":1}`, "plain": `"plain"`, "\"\xff\"": "\"\\\"\ufffd\\\"\"", "\x00\x01": `"\u0000\u0001"`, "": ""} {
		got := jsonOrString([]byte(in))
		if string(got) != want && strings.ReplaceAll(string(got), `\ufffd`, "\ufffd") != want || len(got) > 0 && (!json.Valid(got) || !utf8.Valid(got)) {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
