// Hello is the first contract of the tutorial: a greeting and a counter. Who sees
// only the chain sees neither the greeting nor who changed it to what.
package main

import "github.com/phala-go/phala/contract"

// Hello keeps a greeting and counts its changes.
type Hello struct {
	Greeting contract.Value[string]
	Changes  contract.Value[uint64]
}

// CodeEmpty refuses an empty greeting.
const CodeEmpty = 100

// Init sets the first greeting.
func (h *Hello) Init(ctx *contract.Command, greeting string) error {
	if greeting == "" {
		greeting = "Hello, confidential world!"
	}
	h.Greeting.Set(greeting)
	return nil
}

// SetGreeting replaces the greeting and returns how often it has been replaced.
func (h *Hello) SetGreeting(ctx *contract.Command, greeting string) (uint64, error) {
	if greeting == "" {
		return 0, contract.Errorf(CodeEmpty, "a greeting needs at least one letter")
	}
	n := h.Changes.Get() + 1
	h.Greeting.Set(greeting)
	h.Changes.Set(n)
	return n, nil
}

// GetGreeting returns the greeting.
func (h *Hello) GetGreeting(ctx *contract.Query) (string, error) { return h.Greeting.Get(), nil }

// Count returns how often the greeting has been replaced.
func (h *Hello) Count(ctx *contract.Query) (uint64, error) { return h.Changes.Get(), nil }

func init() { contract.Register(&Hello{}) }

func main() {}
