// Broken is a Go contract that breaks in the ways of its language.
package main

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/phala-go/phala/contract"
)

// Broken writes in every method before it breaks.
type Broken struct{ N contract.Value[int] }

// Set works.
func (b *Broken) Set(ctx *contract.Command, n int) error { b.N.Set(n); return nil }

// Get works.
func (b *Broken) Get(ctx *contract.Query) (int, error) { return b.N.Get(), nil }

// Panic panics.
func (b *Broken) Panic(ctx *contract.Command) error {
	b.N.Set(1)
	panic("on purpose")
}

// PanicInGoroutine panics where no caller can recover.
func (b *Broken) PanicInGoroutine(ctx *contract.Command) error {
	b.N.Set(1)
	done := make(chan bool)
	go func() { panic("in a goroutine") }()
	<-done
	return nil
}

// NilMap writes to a map that is not there.
func (b *Broken) NilMap(ctx *contract.Command) error {
	b.N.Set(1)
	var m map[string]int
	m["x"] = 1
	return nil
}

// Deadlock waits for ever.
func (b *Broken) Deadlock(ctx *contract.Command) error {
	b.N.Set(1)
	select {}
}

// Recurse never returns.
func (b *Broken) Recurse(ctx *contract.Command) (int, error) {
	b.N.Set(1)
	return deep(0), nil
}

func deep(n int) int { return deep(n+1) + n }

// RecurseJSON decodes what is nested deeply.
func (b *Broken) RecurseJSON(ctx *contract.Command, text string) error {
	b.N.Set(1)
	var v any
	return json.Unmarshal([]byte(text), &v)
}

// Allocate keeps what it allocates.
func (b *Broken) Allocate(ctx *contract.Command) error {
	b.N.Set(1)
	var all [][]byte
	for {
		all = append(all, make([]byte, 1<<16))
	}
}

// Spin loops.
func (b *Broken) Spin(ctx *contract.Command) error {
	b.N.Set(1)
	for n := 0; ; n++ {
		if n < 0 {
			return nil
		}
	}
}

// Spawn starts goroutines without end.
func (b *Broken) Spawn(ctx *contract.Command) error {
	b.N.Set(1)
	stop := make(chan bool)
	for {
		go func() { <-stop }()
	}
}

// Long answers n bytes.
func (b *Broken) Long(ctx *contract.Command, n int) (string, error) {
	b.N.Set(1)
	return strings.Repeat("x", n), nil
}

// LongError refuses at length.
func (b *Broken) LongError(ctx *contract.Command) error {
	b.N.Set(1)
	return errors.New(strings.Repeat("no ", 10_000))
}

func init() { contract.Register(&Broken{}) }

func main() {}
