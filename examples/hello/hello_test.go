package main

import (
	"errors"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/contract/contracttest"
)

func TestHello(t *testing.T) {
	k := contracttest.New(t)
	alice, bob := k.Account("alice"), k.Account("bob")
	k.Deploy(alice, "")
	var greeting string
	k.Query(bob, "GetGreeting", nil, &greeting)
	if greeting != "Hello, confidential world!" {
		t.Errorf("the first greeting is %q", greeting)
	}
	var n uint64
	k.Call(bob, "SetGreeting", "Hi", &n)
	k.Query("", "GetGreeting", nil, &greeting)
	k.Query("", "Count", nil, &n)
	if greeting != "Hi" || n != 1 {
		t.Errorf("greeting %q after %d changes", greeting, n)
	}
}

func TestRefused(t *testing.T) {
	k := contracttest.New(t)
	alice := k.Account("alice")
	k.Deploy(alice, "first")
	for _, c := range []struct {
		name string
		err  error
		code uint32
	}{
		{"empty greeting", k.TryCall(alice, "SetGreeting", "", nil), CodeEmpty},
		{"a number for a text", k.TryCall(alice, "SetGreeting", 7, nil), contract.CodeArguments},
		{"no such method", k.TryCall(alice, "Nothing", nil, nil), contract.CodeNoMethod},
		{"a query as a command", k.TryCall(alice, "GetGreeting", nil, nil), contract.CodeNoMethod},
		{"the constructor again", k.TryCall(alice, "Init", "second", nil), contract.CodeNoMethod},
		{"an argument too many", k.TryQuery(alice, "Count", 1, nil), contract.CodeArguments},
	} {
		var e *contract.Error
		if !errors.As(c.err, &e) || e.Code != c.code {
			t.Errorf("%s: got %v, want code %d", c.name, c.err, c.code)
		}
	}
	var greeting string
	k.Query(alice, "GetGreeting", nil, &greeting)
	if greeting != "first" {
		t.Errorf("a refused command changed the greeting to %q", greeting)
	}
}
