package contract

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// Most of what a small call does is JSON. The plain values that contracts mostly hold
// (numbers, ASCII strings, booleans, accounts) and the form in which clients write an
// invocation are read and written here in a tenth of the gas. Whatever is not exactly of
// that form goes to encoding/json, so that what is accepted, refused and written is what
// that package accepts, refuses and writes.

// marshal is json.Marshal.
func marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case uint64:
		return strconv.AppendUint(nil, v, 10), nil
	case uint32:
		return strconv.AppendUint(nil, uint64(v), 10), nil
	case int64:
		return strconv.AppendInt(nil, v, 10), nil
	case int:
		return strconv.AppendInt(nil, int64(v), 10), nil
	case bool:
		return strconv.AppendBool(nil, v), nil
	case Account:
		return quote(v.String()), nil
	case string:
		if plain(v) {
			return quote(v), nil
		}
	}
	return json.Marshal(v)
}

// unmarshal is json.Unmarshal.
func unmarshal(b []byte, v any) error {
	if unmarshalPlain(b, v) {
		return nil
	}
	return json.Unmarshal(b, v)
}

// unmarshalPlain reads a plain value, or leaves v alone.
func unmarshalPlain(b []byte, v any) bool {
	switch v := v.(type) {
	case *uint64:
		n, ok := digits(b)
		if ok {
			*v = n
		}
		return ok
	case *uint32:
		n, ok := digits(b)
		if ok = ok && n < 1<<32; ok {
			*v = uint32(n)
		}
		return ok
	case *int64:
		n, ok := digits(b)
		if ok = ok && n < 1<<63; ok {
			*v = int64(n)
		}
		return ok
	case *int:
		n, ok := digits(b)
		if ok = ok && n < 1<<31; ok {
			*v = int(n)
		}
		return ok
	case *bool:
		switch string(b) {
		case "true":
			*v = true
		case "false":
			*v = false
		default:
			return false
		}
		return true
	case *string:
		s, ok := unquote(b)
		if ok {
			*v = s
		}
		return ok
	case *Account:
		s, ok := unquote(b)
		return ok && v.UnmarshalText([]byte(s)) == nil
	}
	return false
}

// digits reads a number without sign, of at most 19 digits, as no number in JSON
// overflows then.
func digits(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 19 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// plain reports whether a string is written as it is.
func plain[T string | []byte](s T) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func quote(s string) []byte {
	b := make([]byte, 0, len(s)+2)
	return append(append(append(b, '"'), s...), '"')
}

func unquote(b []byte) (string, bool) {
	if len(b) < 2 || b[0] != '"' || b[len(b)-1] != '"' || !plain(b[1:len(b)-1]) {
		return "", false
	}
	return string(b[1 : len(b)-1]), true
}

// parseInvocation reads the input of an entry point.
func parseInvocation(b []byte) (in invocation, err error) {
	if rest, ok := bytes.CutPrefix(b, []byte(`{"method":"`)); ok {
		name, rest, _ := bytes.Cut(rest, []byte{'"'})
		if plain(name) && string(rest) == "}" {
			return invocation{Method: string(name)}, nil
		}
		args, ok := bytes.CutPrefix(rest, []byte(`,"args":`))
		// One value, and nothing around it, between the key and the closing brace: no
		// second key can hide in it.
		if args, end := bytes.CutSuffix(args, []byte{'}'}); plain(name) && ok && end && !spaced(args) && json.Valid(args) {
			return invocation{string(name), args}, nil
		}
	}
	err = json.Unmarshal(b, &in)
	return in, err
}

// spaced reports whether there is white space at an end of b.
func spaced(b []byte) bool { return len(bytes.TrimSpace(b)) != len(b) }
