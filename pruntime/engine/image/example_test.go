package image_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// A contract is prepared, compiled, initialised and captured once; each call
// then starts from the captured state.
func Example() {
	ctx := context.Background()
	rt := wazero.NewRuntime(ctx)
	defer rt.Close(ctx)
	if err := image.InstantiateGas(ctx, rt); err != nil {
		fmt.Println(err)
		return
	}

	// count() adds one to a global and returns it; spin() never ends.
	var b wasmtest.Builder
	b.Memory(1, 1)
	b.Global(wasmtest.I32, true, 0)
	b.Func("count", nil, []byte{wasmtest.I32}, nil, 0x23, 0, 0x41, 1, 0x6a, 0x24, 0, 0x23, 0)
	b.Func("spin", nil, nil, nil, 0x03, 0x40, 0x0c, 0, 0x0b)

	m, err := wasmprep.Prepare(b.Bytes(), wasmprep.RulesV1())
	if err != nil {
		fmt.Println(err)
		return
	}
	code, err := image.Compile(ctx, rt, m)
	if err != nil {
		fmt.Println(err)
		return
	}
	inst, err := image.New(ctx, code)
	if err != nil {
		fmt.Println(err)
		return
	}
	inst.Call(ctx, "count", 1000) // the image will hold 1
	img, err := image.Capture(inst, image.Auto)
	if err != nil {
		fmt.Println(err)
		return
	}
	inst.Close(ctx)
	defer img.Close()

	pool := image.NewPool(img, 4)
	defer pool.Close(ctx)
	for range 2 {
		inst, err := pool.Get(ctx)
		if err != nil {
			fmt.Println(err)
			return
		}
		res, used, _ := inst.Call(ctx, "count", 1000)
		fmt.Println("count", res[0], "gas", used)
		pool.Put(ctx, inst)
	}
	inst, _ = pool.Get(ctx)
	_, used, err := inst.Call(ctx, "spin", 5000)
	fmt.Println("gas", used, "out of gas:", errors.Is(err, image.ErrOutOfGas))
	pool.Put(ctx, inst)
	// Output:
	// count 2 gas 10
	// count 2 gas 10
	// gas 5000 out of gas: true
}
