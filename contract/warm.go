package contract

import (
	"encoding/json"
	"maps"
	"reflect"
)

// warm does what calls do around a contract's own code, for each of its methods and
// fields: encoding/json and reflect build plans for a type when they first meet it, which
// costs as much as several calls. The methods themselves do not run.
func (p *Program) warm(h Host) {
	stubs := *p
	stubs.methods, stubs.types = maps.Clone(p.methods), fewTypes
	for _, name := range p.order {
		m := *p.methods[name]
		m.fn = stub(m.fn.Type())
		stubs.methods[name] = &m
	}
	try(func() { stubs.run(h, "query", []byte(`{"method":"`+describeMethod+`"}`)) })
	for _, name := range p.order {
		m := p.methods[name]
		if !small(m.arg) || !small(m.out) {
			continue
		}
		entry := "call"
		switch {
		case name == "Init":
			entry = "deploy"
		case m.query:
			entry = "query"
		}
		try(func() {
			in := invocation{Method: name}
			if m.arg != nil {
				in.Args, _ = json.Marshal(reflect.Zero(m.arg).Interface())
			}
			if input, err := json.Marshal(in); err == nil {
				stubs.run(h, entry, input)
			}
		})
	}
	defer func(outer Host) { current = outer }(current)
	current = h
	for _, f := range p.fields {
		try(f.warm)
	}
}

// small reports whether a type's zero value is: arrays can be of any size, and preparing a
// contract has a limit of gas.
func small(t reflect.Type) bool { return t == nil || t.Size() <= 512 }

// stub is a function that returns zero values.
func stub(t reflect.Type) reflect.Value {
	out := make([]reflect.Value, t.NumOut())
	for i := range out {
		out[i] = reflect.Zero(t.Out(i))
	}
	return reflect.MakeFunc(t, func([]reflect.Value) []reflect.Value { return out })
}

// try runs f and forgets how it ends: a type's own encoding may not like the zero value.
func try(f func()) {
	defer func() { recover() }()
	f()
}
