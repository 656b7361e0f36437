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
	if got := text(typeOf[list]()); !strings.HasPrefix(got, "{Head number, Tail {Head number, Tail {") || len(got) > 300 {
		t.Errorf("a type that refers to itself is described as %s", got)
	}
}

func typeOf[T any]() *Type { return describe(reflect.TypeFor[T](), 0) }

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
