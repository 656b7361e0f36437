package contract

import (
	"encoding"
	"encoding/json"
	"reflect"
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
	for _, n := range p.order {
		m := p.methods[n]
		md := MethodDescription{Name: n, Kind: kind(m.query)}
		if n == "Init" {
			md.Kind = "init"
		}
		if m.arg != nil {
			md.Arg = describe(m.arg, 0)
		}
		if m.out != nil {
			md.Return = describe(m.out, 0)
		}
		d.Methods = append(d.Methods, md)
	}
	return d
}

var accountType = reflect.TypeFor[Account]()

func describe(t reflect.Type, depth int) *Type {
	d := &Type{Kind: "any", Go: t.String()}
	if depth > 8 {
		return d
	}
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
		return describe(t.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		d.Kind, d.Elem = "list", describe(t.Elem(), depth+1)
		if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
			d.Kind, d.Elem = "string", nil // base64
		}
	case reflect.Map:
		d.Kind, d.Elem = "map", describe(t.Elem(), depth+1)
	case reflect.Struct:
		d.Kind, d.Fields = "object", fields(t, depth+1)
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
func fields(t reflect.Type, depth int) (out []Field) {
	list := candidates(nil, t, 0, depth)
	for i, c := range list {
		hidden := false
		for j, o := range list {
			hidden = hidden || i != j && o.Name == c.Name && (o.level < c.level || o.level == c.level && (o.named || !c.named))
		}
		if !hidden {
			out = append(out, c.Field)
		}
	}
	return out
}

func candidates(list []candidate, t reflect.Type, level, depth int) []candidate {
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
				list = candidates(list, ft, level+1, depth)
			}
			continue
		}
		c := candidate{Field{name, nil, strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")}, level, name != ""}
		if name == "" {
			c.Name = f.Name
		}
		if c.Type = describe(f.Type, depth); strings.Contains(opts, "string") && (c.Type.Kind == "number" || c.Type.Kind == "boolean") {
			c.Type.Kind = "string"
		}
		list = append(list, c)
	}
	return list
}

func typeName(t reflect.Type) string {
	d := describe(t, 0)
	if d.Kind != "object" {
		return d.Kind
	}
	var names []string
	for _, f := range d.Fields {
		names = append(names, f.Name+" "+f.Type.Kind)
	}
	return "{" + strings.Join(names, ", ") + "}"
}
