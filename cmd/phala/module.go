package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/wasmprep"
)

// nowhere is where a module runs to describe itself: there is no state to ask for.
type nowhere struct{ engine.Host }

func (nowhere) Time() uint64 { return 0 }

// inspect prepares a module as the workers will, so that one that they would refuse is
// refused before anything is paid, and asks it what it can do: nil when it does not say.
func inspect(ctx context.Context, module []byte) (d *contract.Description, err error) {
	e, err := engine.New("")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close(ctx)) }()
	p, err := e.Prepare(ctx, module)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("no worker would run this module: %w", err)
	}
	res, err := p.Run(ctx, &engine.Call{Entry: engine.EntryQuery, Input: []byte(`{"method":"describe"}`), Gas: 1 << 30, Host: nowhere{}})
	if err != nil && strings.Contains(err.Error(), "contract.Register") {
		return nil, fmt.Errorf("the module is no contract yet: %w", err)
	}
	d = new(contract.Description)
	if err != nil || json.Unmarshal(res.Output, d) != nil {
		return nil, nil
	}
	return d, nil
}

// judge refuses a module that the newest rules refuse whatever it does, without compiling it.
func judge(module []byte) error {
	known := engine.Known()
	_, err := wasmprep.Prepare(module, known[len(known)-1].Module)
	switch {
	case err == nil:
		return nil
	case len(module) > proto.MaxCode:
		return fmt.Errorf("%d bytes, and a contract has at most %d: import fewer or smaller packages", len(module), proto.MaxCode)
	}
	return fmt.Errorf("no worker would run this module: %w", err)
}

// initArgument makes the constructor's argument of what was typed.
func initArgument(d *contract.Description, words []string) (any, error) {
	if d == nil {
		return plainArgument(words, nil)
	}
	for _, m := range d.Methods {
		if m.Kind == "init" && m.Arg != nil {
			return plainArgument(words, m.Arg)
		}
	}
	if len(words) > 0 {
		return nil, fmt.Errorf("the constructor of %s takes no argument", d.Name)
	}
	return nil, nil
}
