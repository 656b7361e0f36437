package contract

import (
	"encoding"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// A Description says what a contract can do. Every contract answers the query
// "describe" with it; the command line checks arguments against it and prints help.
type Description struct {
	Name    string              `json:"name"`
	Methods []MethodDescription `json:"methods"`
}

// A MethodDescription is one method.
type MethodDescription struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // init, command, query
	Arg    *Type  `json:"arg,omitempty"`
	Return *Type  `json:"return,omitempty"`
}

// A Type describes a JSON value.
type Type struct {
	Kind   string  `json:"kind"`             // string, number, boolean, account, list, map, object, any
	Go     string  `json:"go"`               // the Go type
	Elem   *Type   `json:"elem,omitempty"`   // of list and map
	Fields []Field `json:"fields,omitempty"` // of object
}

// A Field is one field of an object.
type Field struct {
	Name     string `json:"name"`
	Type     *Type  `json:"type"`
	Optional bool   `json:"optional,omitempty"`
}

// Describe returns the contract's description.
func (p *Program) Describe() Description {
	d := Description{Name: p.name, Methods: []MethodDescription{}}
	o := outline{left: p.types}
	for _, n := range p.order {
		m := p.methods[n]
		md := MethodDescription{Name: n, Kind: kind(m.query)}
		if n == "Init" {
			md.Kind = "init"
		}
		if m.arg != nil {
			md.Arg = o.describe(m.arg)
		}
		if m.out != nil {
			md.Return = o.describe(m.out)
		}
		d.Methods = append(d.Methods, md)
	}
	return d
}

var accountType = reflect.TypeFor[Account]()

// maxTypes is how many types a description spells out, because it has to fit an answer;
// fewTypes are enough to warm up, which has a limit of gas, and for an error.
const (
	maxTypes = 1000
	fewTypes = 200
)

// An outline is a description that is being made. A type within itself, one that is deep
// inside of others and one too many are "any".
type outline struct {
	within []reflect.Type // the types around, from the outermost
	left   int            // how many more there may be
}

func (o *outline) describe(t reflect.Type) *Type {
	d := &Type{Kind: "any", Go: t.String()}
	if o.left == 0 || len(o.within) > 8 || t.Kind() == reflect.Struct && slices.Contains(o.within, t) {
		return d
	}
	o.left--
	o.within = append(o.within, t)
	defer func() { o.within = o.within[:len(o.within)-1] }()
	if t == accountType {
		d.Kind = "account"
		return d
	}
	if own := ownKind(t); own != "" {
		d.Kind = own
		return d
	}
	switch t.Kind() {
	case reflect.String:
		d.Kind = "string"
	case reflect.Bool:
		d.Kind = "boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		d.Kind = "number"
	case reflect.Pointer:
		return o.describe(t.Elem())
	case reflect.Slice, reflect.Array:
		d.Kind, d.Elem = "list", o.describe(t.Elem())
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			d.Kind, d.Elem = "string", nil // base64
		}
	case reflect.Map:
		d.Kind, d.Elem = "map", o.describe(t.Elem())
	case reflect.Struct:
		d.Kind, d.Fields = "object", o.fields(t)
	}
	return d
}

// ownKind is the kind of a type that reads and writes itself: that of its zero value, where
// it tells. It is empty for other types.
func ownKind(t reflect.Type) (kind string) {
	if t.Kind() == reflect.Pointer {
		return ""
	}
	v := reflect.New(t).Interface()
	switch v.(type) {
	case json.Marshaler:
		kind = "any"
		try(func() {
			switch b, _ := json.Marshal(v); {
			case len(b) == 0:
			case b[0] == '"':
				kind = "string"
			case b[0] == '-' || '0' <= b[0] && b[0] <= '9':
				kind = "number"
			}
		})
	case json.Unmarshaler:
		kind = "any"
	case encoding.TextMarshaler, encoding.TextUnmarshaler:
		kind = "string"
	}
	return kind
}

// A candidate is a field that may be one of a struct's.
type candidate struct {
	Field
	level int  // how many structs it is embedded in
	named bool // by its tag
}

// fields are a struct's as encoding/json finds them: an embedded struct's are its own,
// unless that has a name. Of several with one name, the least embedded one counts.
func (o *outline) fields(t reflect.Type) (out []Field) {
	list := o.candidates(nil, t, 0)
	for i, c := range list {
		hidden := false
		for j, other := range list {
			hidden = hidden || i != j && other.Name == c.Name && (other.level < c.level || other.level == c.level && (other.named || !c.named))
		}
		if !hidden {
			out = append(out, c.Field)
		}
	}
	return out
}

func (o *outline) candidates(list []candidate, t reflect.Type, level int) []candidate {
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		ft := f.Type
		if f.Anonymous && ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		embedded := f.Anonymous && ft.Kind() == reflect.Struct
		switch {
		case !f.IsExported() && !embedded || f.Tag.Get("json") == "-":
			continue
		case embedded && name == "":
			if level < 8 {
				list = o.candidates(list, ft, level+1)
			}
			continue
		}
		c := candidate{Field{name, nil, strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")}, level, name != ""}
		if name == "" {
			c.Name = f.Name
		}
		if c.Type = o.describe(f.Type); strings.Contains(opts, "string") && (c.Type.Kind == "number" || c.Type.Kind == "boolean") {
			c.Type.Kind = "string"
		}
		list = append(list, c)
	}
	return list
}

func typeName(t reflect.Type) string {
	o := outline{left: fewTypes}
	d := o.describe(t)
	if d.Kind != "object" {
		return d.Kind
	}
	var names []string
	for _, f := range d.Fields {
		names = append(names, f.Name+" "+f.Type.Kind)
	}
	return "{" + strings.Join(names, ", ") + "}"
}
