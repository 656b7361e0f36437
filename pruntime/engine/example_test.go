package engine_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// world is what this call may use: the block's time, and nothing else.
type world struct{ engine.Host }

func (world) Time() uint64 { return 1_700_000_000_000 }

// A module is prepared once, compiled and captured; each call then starts from the captured
// state, with what it may use.
func Example() {
	ctx := context.Background()
	e, err := engine.New("") // no cache on disk
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close(ctx)
	var b wasmtest.Builder
	b.Memory(1, 1)
	b.Func(engine.EntryDeploy, nil, nil, nil)
	b.Func(engine.EntryCall, nil, nil, nil, 0x03, 0x40, 0x0c, 0, 0x0b) // loops for ever
	b.Func(engine.EntryQuery, nil, nil, nil)
	p, err := e.Prepare(ctx, b.Bytes())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = p.Run(ctx, &engine.Call{Entry: engine.EntryCall, Gas: 5_000_000, Host: world{}})
	fmt.Println(errors.Is(err, engine.ErrOutOfGas))
	_, err = p.Run(ctx, &engine.Call{Entry: engine.EntryQuery, Gas: 5_000_000, Host: world{}})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
