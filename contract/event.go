package contract

import (
	"encoding/json"
	"reflect"
)

// Emit emits an event for everybody: the contract, the event's type and its fields are
// public. An event is part of the receipt if the command succeeds. Events are any types
// that encoding/json writes; the type's name is the event's.
func Emit(ctx *Command, event any) { ctx.host.Emit(nil, encodeEvent(event)) }

// EmitTo emits an event for one reader, who holds the key: an sr25519 account, or a key
// that was made for reading. Everybody sees that there is an event, and its size as a
// power of two; nobody else can tell whose or what it is. It reports whether reader is a
// key: a secp256k1 account is none.
func EmitTo(ctx *Command, reader Account, event any) bool {
	return len(reader) == 32 && ctx.host.Emit([]byte(reader), encodeEvent(event))
}

func encodeEvent(event any) []byte {
	t := reflect.TypeOf(event)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Name() == "" {
		panic("contract: an event must have a named type")
	}
	b, err := json.Marshal(struct {
		Event string `json:"event"`
		Data  any    `json:"data"`
	}{t.Name(), event})
	if err != nil {
		panic("contract: event " + t.Name() + " does not encode: " + err.Error())
	}
	return b
}
