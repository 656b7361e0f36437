package contract

import (
	"encoding/json"
	"errors"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type base struct {
	ID   uint64 `json:"id"`
	Note string
}

type Inner struct{ Note, Deep string }

type named struct{ Named uint64 }

// list is a type that refers to itself.
type list struct {
	Head uint64
	Tail *list `json:",omitempty"`
}

type angry struct{}

func (angry) MarshalJSON() ([]byte, error) { panic("on purpose") }

type odd struct{}

func (odd) MarshalJSON() ([]byte, error) { return nil, errors.New("on purpose") }

// flat embeds structs: encoding/json takes their fields for its own, unless they have a name
// or something nearer has theirs.
type flat struct {
	base
	*Inner
	named `json:"named"`
	Note  bool
	Count int64 `json:",string"`
}

// TestTypes: types are described as encoding/json reads and writes them, so that a client
// which checks what was typed refuses nothing that the contract takes.
func TestTypes(t *testing.T) {
	for _, c := range []struct {
		name string
		got  *Type
		want string
	}{
		{"number", typeOf[uint64](), "number"},
		{"duration", typeOf[time.Duration](), "number"},
		{"text", typeOf[string](), "string"},
		{"bytes", typeOf[[]byte](), "string"},
		{"array of bytes", typeOf[[4]byte](), "list of number"},
		{"account", typeOf[Account](), "account"},
		{"contract", typeOf[ID](), "string"},
		{"contracts", typeOf[[]ID](), "list of string"},
		{"big number", typeOf[big.Int](), "number"},
		{"pointer to a big number", typeOf[*big.Int](), "number"},
		{"time", typeOf[time.Time](), "string"},
		{"raw JSON", typeOf[json.RawMessage](), "any"},
		{"interface", typeOf[any](), "any"},
		{"nested maps", typeOf[map[string]map[string]int](), "map of map of number"},
		{"a marshaler that panics", typeOf[angry](), "any"},
		{"a marshaler that fails", typeOf[odd](), "any"},
		{"struct", typeOf[base](), "{id number, Note string}"},
		{"embedded structs", typeOf[flat](), "{id number, Deep string, named {Named number}, Note boolean, Count string}"},
		{"embedded in a list", typeOf[[]struct{ base }](), "list of {id number, Note string}"},
	} {
		if got := text(c.got); got != c.want {
			t.Errorf("%s is described as %s, want %s", c.name, got, c.want)
		}
	}
}

// bush refers to itself in many ways, of which each combination would be a type of its own.
type bush struct {
	A, B, C, D, E, F, G, H, I, J *bush
	Rest                         []bush
	Named                        map[string]bush
	Last                         uint64
}

// wide is deeply nested without referring to itself.
type (
	wide0 struct{ A, B, C, D, E, F, G, H uint8 }
	wide1 struct{ A, B, C, D, E, F, G, H wide0 }
	wide2 struct{ A, B, C, D, E, F, G, H wide1 }
	wide3 struct{ A, B, C, D, E, F, G, H wide2 }
)

// branches takes and returns both.
type branches struct{}

func (*branches) Grow(_ *Command, b bush) (bush, error)     { return b, nil }
func (*branches) Spread(_ *Command, w wide3) (wide3, error) { return w, nil }

// TestBranches: a description is of bounded size whatever the types; its making is part of
// preparing a contract, which would end for want of gas otherwise.
func TestBranches(t *testing.T) {
	if got, want := text(typeOf[list]()), "{Head number, Tail any}"; got != want {
		t.Errorf("a type that refers to itself is described as %s, want %s", got, want)
	}
	if got, want := text(typeOf[bush]()), "{A any, B any, C any, D any, E any, F any, G any, H any, I any, J any, Rest list of any, Named map of any, Last number}"; got != want {
		t.Errorf("a type that branches is described as %s, want %s", got, want)
	}
	p := newProgram(&branches{})
	for _, limit := range []int{p.types, fewTypes} {
		p.types = limit
		b, err := json.Marshal(p.Describe())
		if n := strings.Count(string(b), `"go":`); err != nil || n < limit || n > 10*limit || len(b) > 192<<10 {
			t.Errorf("at most %d types are spelled out, and %d are described in %d bytes: %v", limit, n, len(b), err)
		}
	}
}

func typeOf[T any]() *Type {
	o := outline{left: maxTypes}
	return o.describe(reflect.TypeFor[T]())
}

func text(t *Type) string {
	switch t.Kind {
	case "list", "map":
		return t.Kind + " of " + text(t.Elem)
	case "object":
		var fields []string
		for _, f := range t.Fields {
			fields = append(fields, f.Name+" "+text(f.Type))
		}
		return "{" + strings.Join(fields, ", ") + "}"
	}
	return t.Kind
}
