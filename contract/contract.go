package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// An Error is a refusal with a code that callers can rely on.
type Error struct {
	Code    uint32
	Message string
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Codes below 100 are this package's; a contract's own start at 100.
const (
	CodeError     = 1 // an error without a code of its own
	CodeNoMethod  = 2 // no such method, or of the other kind
	CodeArguments = 3 // the arguments are not what the method takes
	CodeNotOwner  = 4 // see Command.RequireOwner
	CodeReentry   = 5 // the contract is already running, and this method does not allow that
	CodeCall      = 6 // another contract that was called broke; see CallError
)

// Errorf returns an *Error.
func Errorf(code uint32, format string, args ...any) error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// context is what commands and queries have in common.
type context struct{ host Host }

// Caller is the account that signed, or in whose name a query is asked (see
// [Query.Reader]). Of an anonymous query it is empty.
func (c *context) Caller() Account { return Account(c.host.Caller()) }

// Self is the contract's id. As the caller of another contract, it is an account.
func (c *context) Self() ID { return c.host.Self() }

// Height is the block's height.
func (c *context) Height() uint64 { return c.host.Height() }

// Time is the block's time, Unix milliseconds.
func (c *context) Time() uint64 { return c.host.Time() }

// Log writes a line to the contract's log, which only who deployed the contract can
// read. A command's log stays when the command fails; a query has none.
func (c *context) Log(format string, args ...any) { c.host.Log([]byte(fmt.Sprintf(format, args...))) }

// Random fills b. In a command every replica gets the same bytes, and nobody outside
// the enclaves can know them, before or after; in a query they are the worker's own.
func (c *context) Random(b []byte) { c.host.Random(b) }

// RandomN returns a uniform number below n, which is positive.
func (c *context) RandomN(n uint64) uint64 {
	if n == 0 {
		panic("contract: RandomN(0)")
	}
	// Reject what would make small numbers more likely.
	limit := ^uint64(0) - (^uint64(0)%n+1)%n
	for {
		var b [8]byte
		c.Random(b[:])
		v := uint64(0)
		for _, x := range b {
			v = v<<8 | uint64(x)
		}
		if v <= limit {
			return v % n
		}
	}
}

// A Command is the context of a method that may change state.
type Command struct{ context }

// RequireOwner refuses with CodeNotOwner unless the caller is owner.
func (c *Command) RequireOwner(owner Account) error {
	if owner == "" || c.Caller() != owner {
		return Errorf(CodeNotOwner, "only the owner may do this")
	}
	return nil
}

// A Query is the context of a method that reads. What it writes is discarded.
type Query struct{ context }

// Reader is the account that asks in the caller's name, under a read grant that the
// caller gave it; it is empty when the caller itself asks. A method that is for the
// caller alone, such as one that returns a secret key, refuses unless it is empty.
func (c *Query) Reader() Account { return Account(c.host.Reader()) }

// RequireOwner refuses with CodeNotOwner unless the signed caller is owner, or gave the
// reader a grant.
func (c *Query) RequireOwner(owner Account) error {
	switch c.Caller() {
	case "":
		return Errorf(CodeNotOwner, "only the owner may ask this: sign the query")
	case owner:
		return nil
	}
	return Errorf(CodeNotOwner, "only the owner may ask this")
}

type method struct {
	name      string
	query     bool
	reentrant bool
	fn        reflect.Value // takes the contract first
	arg       reflect.Type  // nil for none
	out       reflect.Type  // nil for none
}

// A Program is a registered contract.
type Program struct {
	name    string
	self    reflect.Value // the contract
	methods map[string]*method
	order   []string
	fields  []binder
	types   int // how many a description spells out
}

var (
	registered  *Program
	commandType = reflect.TypeFor[*Command]()
	queryType   = reflect.TypeFor[*Query]()
	errorType   = reflect.TypeFor[error]()
)

// An Option changes how a contract is registered.
type Option func(*Program)

// Reentrant allows methods to be called while the contract is already running: when a
// contract that it called calls back. All others refuse that, because their caller may
// be half-way through a change.
func Reentrant(methods ...string) Option {
	return func(p *Program) {
		for _, name := range methods {
			if p.methods[name] == nil {
				panic("contract: Reentrant: there is no method " + name)
			}
			p.methods[name].reentrant = true
		}
	}
}

// Register makes c the package's contract. It panics when a method has a form that
// cannot be called, so a mistake shows in the first test.
func Register(c any, options ...Option) {
	if registered != nil {
		panic("contract: Register called twice")
	}
	registered = newProgram(c, options...)
}

// Registered returns the registered contract, nil before Register. It is for
// contracttest.
func Registered() *Program { return registered }

func newProgram(c any, options ...Option) *Program {
	v := reflect.ValueOf(c)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		panic("contract: Register takes a pointer to a struct")
	}
	t := v.Type()
	p := &Program{name: t.Elem().Name(), self: v, methods: map[string]*method{}, types: maxTypes}
	for i := range t.NumMethod() {
		m := t.Method(i)
		ft := m.Type // receiver, context, [argument]
		if ft.NumIn() < 2 || (ft.In(1) != commandType && ft.In(1) != queryType) {
			continue // a helper, not callable from outside
		}
		me := &method{name: m.Name, query: ft.In(1) == queryType, fn: m.Func}
		switch {
		case ft.IsVariadic():
			panic("contract: " + m.Name + " takes a variable number of arguments: use a slice")
		case ft.NumIn() > 3:
			panic("contract: " + m.Name + " takes more than one argument: use a struct")
		case ft.NumIn() == 3:
			me.arg = ft.In(2)
		}
		switch n := ft.NumOut(); {
		case n == 0 || n > 2 || ft.Out(n-1) != errorType:
			panic("contract: " + m.Name + " must return an error, or a value and an error")
		case n == 2:
			me.out = ft.Out(0)
		}
		for _, t := range []reflect.Type{me.arg, me.out} {
			if mapOfAccounts(t, map[reflect.Type]bool{}) {
				panic("contract: " + m.Name + " takes or returns " + noMapOfAccounts)
			}
		}
		p.methods[m.Name] = me
		p.order = append(p.order, m.Name)
	}
	s := v.Elem()
	for i := range s.NumField() {
		f := s.Type().Field(i)
		var b binder
		if f.IsExported() {
			b, _ = s.Field(i).Addr().Interface().(binder)
		}
		if b == nil {
			panic("contract: field " + f.Name + " is not storage: use an exported contract.Value or contract.Map; a contract keeps nothing else between calls")
		}
		if mapOfAccounts(b.holds(), map[reflect.Type]bool{}) {
			panic("contract: field " + f.Name + " holds " + noMapOfAccounts + ", or store a contract.Map")
		}
		b.bind(f.Name)
		p.fields = append(p.fields, b)
	}
	for _, o := range options {
		o(p)
	}
	return p
}

// noMapOfAccounts is what to do about one.
const noMapOfAccounts = "a Go map with accounts as keys, whose bytes encoding/json would replace: use a.String() as the key"

// mapOfAccounts tells whether a type has one in it, where encoding/json would write it.
func mapOfAccounts(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t == nil || seen[t] || ownKind(t) != "" {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Map:
		return t.Key() == accountType || mapOfAccounts(t.Elem(), seen)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return mapOfAccounts(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if f := t.Field(i); (f.IsExported() || f.Anonymous) && f.Tag.Get("json") != "-" && mapOfAccounts(f.Type, seen) {
				return true
			}
		}
	}
	return false
}

// An invocation is the input of every entry point.
type invocation struct {
	Method string          `json:"method"`
	Args   json.RawMessage `json:"args,omitempty"`
}

// describeMethod is the query that every contract answers with its Description.
const describeMethod = "describe"

// current is the host of the running call: one at a time, as in an enclave. In tests
// that run natively a contract may come back to itself through another one.
var current Host

func (p *Program) run(h Host, entry string, input []byte) (out []byte, err error) {
	defer func(outer Host) { current = outer }(current)
	current = h
	var in invocation
	if entry == "deploy" && len(input) == 0 {
		in.Method = "Init"
	} else if in, err = parseInvocation(input); err != nil {
		return nil, Errorf(CodeArguments, "the input is not {\"method\", \"args\"}: %v", err)
	}
	if entry == "deploy" {
		if in.Method != "Init" && in.Method != "" {
			return nil, Errorf(CodeNoMethod, "the constructor is Init, not %q", in.Method)
		}
		if p.methods["Init"] == nil {
			if len(in.Args) > 0 && string(in.Args) != "null" {
				return nil, Errorf(CodeArguments, "%s has no constructor and takes no arguments", p.name)
			}
			return nil, nil
		}
		in.Method = "Init"
	}
	if entry == "query" && in.Method == describeMethod {
		h.Reentry()
		return json.Marshal(p.Describe())
	}
	m := p.methods[in.Method]
	if m == nil || m.query != (entry == "query") || (m.name == "Init" && entry != "deploy") {
		return nil, Errorf(CodeNoMethod, "%s has no %s %q; it has %s", p.name, kind(entry == "query"), in.Method, p.list(entry == "query"))
	}
	if h.Reentry() && !m.reentrant {
		return nil, Errorf(CodeReentry, "%s is already running, and %s does not allow to be called meanwhile", p.name, m.name)
	}
	args := []reflect.Value{p.self, {}, {}}[:2]
	if m.query {
		args[1] = reflect.ValueOf(&Query{context{h}})
	} else {
		args[1] = reflect.ValueOf(&Command{context{h}})
	}
	if m.arg != nil {
		a := reflect.New(m.arg)
		raw := in.Args
		if len(raw) == 0 {
			raw = json.RawMessage("null")
		}
		if !unmarshalPlain(raw, a.Interface()) {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.DisallowUnknownFields()
			if err := d.Decode(a.Interface()); err != nil {
				return nil, Errorf(CodeArguments, "%s takes %s: %v", m.name, typeName(m.arg), err)
			}
		}
		args = append(args, a.Elem())
	} else if len(in.Args) > 0 && string(in.Args) != "null" {
		return nil, Errorf(CodeArguments, "%s takes no argument", m.name)
	}
	res := m.fn.Call(args)
	if e := res[len(res)-1]; !e.IsNil() {
		err := e.Interface().(error)
		return nil, refusal(err)
	}
	if m.out == nil {
		return []byte("null"), nil
	}
	return marshal(res[0].Interface())
}

// refusal gives an error its code: its own, or that of the contract that refused a call.
func refusal(err error) *Error {
	var own *Error
	var call *CallError
	switch {
	case errors.As(err, &call):
		return &Error{call.code(), err.Error()}
	case errors.As(err, &own):
		return &Error{own.Code, err.Error()} // with what it was wrapped in
	}
	return &Error{CodeError, err.Error()}
}

func kind(query bool) string {
	if query {
		return "query"
	}
	return "command"
}

func (p *Program) list(query bool) string {
	var names []string
	for _, n := range p.order {
		if m := p.methods[n]; m.query == query && n != "Init" {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Run runs an entry point ("deploy", "call", "query") on a host. It is for
// contracttest; a contract does not call it.
func (p *Program) Run(h Host, entry string, input []byte) ([]byte, error) {
	return p.run(h, entry, input)
}
