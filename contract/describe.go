package contract

import (
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
	switch {
	case t == accountType:
		d.Kind = "account"
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
		d.Kind = "object"
		for i := range t.NumField() {
			f := t.Field(i)
			name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.IsExported() || name == "-" {
				continue
			}
			if name == "" {
				name = f.Name
			}
			d.Fields = append(d.Fields, Field{name, describe(f.Type, depth+1), strings.Contains(opts, "omitempty") || strings.Contains(opts, "omitzero")})
		}
	}
	return d
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
