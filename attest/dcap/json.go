package dcap

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The JSON that Intel signs is read by a parser of this package: its verdict
// cannot drift with encoding/json, names are compared exactly, and repeated or
// unknown members are refused, so that two readers never see two documents.

const (
	maxJSONDepth   = 12
	maxJSONMembers = 64 // of one object; looking for repeated ones is quadratic
)

type jsonKind uint8

const (
	jsonObject jsonKind = iota + 1
	jsonArray
	jsonString
	jsonNumber
)

// jsonValue is a parsed value; raw is its text.
type jsonValue struct {
	kind   jsonKind
	raw    []byte
	str    string
	num    uint64
	items  []jsonValue
	fields []jsonField
}

type jsonField struct {
	name  string
	value jsonValue
}

type jsonParser struct {
	b     []byte
	off   int
	depth int
}

// parseJSON reads one value and nothing after it. Only what Intel's documents
// use is known: objects, arrays, strings of plain ASCII without escapes, and
// non-negative integers.
func parseJSON(b []byte) (jsonValue, error) {
	p := &jsonParser{b: b}
	v, err := p.value()
	if err != nil {
		return jsonValue{}, fmt.Errorf("JSON at byte %d: %w", p.off, err)
	}
	p.space()
	if p.off != len(b) {
		return jsonValue{}, fmt.Errorf("JSON at byte %d: text after the value", p.off)
	}
	return v, nil
}

func (p *jsonParser) space() {
	for p.off < len(p.b) {
		switch p.b[p.off] {
		case ' ', '\t', '\r', '\n':
			p.off++
		default:
			return
		}
	}
}

// next skips space and returns the next byte without consuming it, 0 at the
// end.
func (p *jsonParser) next() byte {
	p.space()
	if p.off == len(p.b) {
		return 0
	}
	return p.b[p.off]
}

func (p *jsonParser) value() (v jsonValue, err error) {
	if p.depth++; p.depth > maxJSONDepth {
		return v, errors.New("nested too deep")
	}
	defer func() { p.depth-- }()
	c := p.next()
	start := p.off
	switch {
	case c == '{':
		v.kind = jsonObject
		err = p.list('}', func() error {
			if p.next() != '"' {
				return errors.New("expected a member's name")
			}
			name, err := p.text()
			if err != nil {
				return err
			}
			for i := range v.fields {
				if v.fields[i].name == name {
					return errors.New("member " + strconv.Quote(name) + " is repeated")
				}
			}
			if len(v.fields) == maxJSONMembers {
				return errors.New("too many members")
			}
			if p.next() != ':' {
				return errors.New("expected ':'")
			}
			p.off++
			value, err := p.value()
			v.fields = append(v.fields, jsonField{name, value})
			return err
		})
	case c == '[':
		v.kind = jsonArray
		err = p.list(']', func() error {
			item, err := p.value()
			v.items = append(v.items, item)
			return err
		})
	case c == '"':
		v.kind = jsonString
		v.str, err = p.text()
	case c >= '0' && c <= '9':
		v.kind = jsonNumber
		for p.off < len(p.b) && p.b[p.off] >= '0' && p.b[p.off] <= '9' {
			p.off++
		}
		digits := string(p.b[start:p.off])
		if len(digits) > 1 && digits[0] == '0' {
			return v, errors.New("number with a leading zero")
		}
		if v.num, err = strconv.ParseUint(digits, 10, 32); err != nil {
			return v, errors.New("number out of range")
		}
	default:
		err = errors.New("unexpected character or end")
	}
	v.raw = p.b[start:p.off]
	return v, err
}

// list reads comma-separated elements up to and with the closing byte.
func (p *jsonParser) list(closing byte, element func() error) error {
	p.off++
	if p.next() == closing {
		p.off++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch p.next() {
		case ',':
			p.off++
		case closing:
			p.off++
			return nil
		default:
			return errors.New("expected ',' or the closing bracket")
		}
	}
}

func (p *jsonParser) text() (string, error) {
	p.off++
	start := p.off
	for p.off < len(p.b) {
		switch c := p.b[p.off]; {
		case c == '"':
			p.off++
			return string(p.b[start : p.off-1]), nil
		case c == '\\' || c < 0x20 || c > 0x7e:
			return "", errors.New("string with an escape, a control or a non-ASCII character")
		}
		p.off++
	}
	return "", errors.New("string without end")
}

// object gives typed access to a JSON object's members and, in done, refuses
// those that nobody asked for. The first error sticks.
type object struct {
	name   string
	fields []jsonField
	seen   int
	err    error
}

func (v *jsonValue) object(name string) *object {
	o := &object{name: name, fields: v.fields}
	if v.kind != jsonObject {
		o.fail("is not an object")
	}
	return o
}

func (o *object) fail(what string) {
	if o.err == nil {
		o.err = errors.New(o.name + " " + what)
	}
}

func (o *object) done() error {
	if o.err == nil && o.seen != len(o.fields) {
		o.fail("has a member that is not known")
	}
	return o.err
}

func (o *object) get(name string, kind jsonKind, optional bool) *jsonValue {
	for i := range o.fields {
		if o.fields[i].name == name {
			o.seen++
			if o.fields[i].value.kind != kind {
				o.fail("has " + name + " of the wrong type")
				return nil
			}
			return &o.fields[i].value
		}
	}
	if !optional {
		o.fail("lacks " + name)
	}
	return nil
}

func (o *object) str(name string) string {
	if v := o.get(name, jsonString, false); v != nil {
		return v.str
	}
	return ""
}

func (o *object) uint(name string, limit uint64) uint64 {
	v := o.get(name, jsonNumber, false)
	if v == nil {
		return 0
	}
	if v.num > limit {
		o.fail("has " + name + " out of range")
		return 0
	}
	return v.num
}

func (o *object) hex(name string, dst []byte) {
	s := o.str(name)
	if o.err != nil {
		return
	}
	if len(s) != 2*len(dst) {
		o.fail("has " + name + " of the wrong length")
		return
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		o.fail("has " + name + " that is not hexadecimal")
	}
}

func (o *object) time(name string) time.Time {
	s := o.str(name)
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err != nil || t.Format("2006-01-02T15:04:05Z") != s {
		o.fail("has " + name + " that is not a UTC time in seconds")
	}
	return t
}

func (o *object) child(name string) *object {
	if v := o.get(name, jsonObject, false); v != nil {
		return v.object(o.name + "." + name)
	}
	return &object{name: o.name + "." + name, err: o.err}
}

// array returns a member's items, at least one and at most limit.
func (o *object) array(name string, limit int, optional bool) []jsonValue {
	v := o.get(name, jsonArray, optional)
	if v == nil {
		return nil
	}
	if len(v.items) == 0 && !optional || len(v.items) > limit {
		o.fail("has " + name + " with too few or too many items")
		return nil
	}
	return v.items
}
