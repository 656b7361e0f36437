package image

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// deep is a module whose export f calls itself n times, in frames that hold few values for
// wide 0 and for which the compiler needs tens of kilobytes otherwise: functions with many
// results make them without much code.
func deep() []byte {
	i32 := func(n int) []byte { return bytes.Repeat([]byte{wasmtest.I32}, n) }
	many := func(n int) []byte { return bytes.Repeat([]byte{wasmtest.I64}, n) }
	var b wasmtest.Builder
	b.Memory(1, 1)
	var results []byte
	for i := range 16 {
		results = append(results, wasmtest.Cat(0x41, 0, 0x29, 3, 8*i)...)
	}
	b.Func("", nil, many(16), nil, results)
	b.Func("", nil, nil, nil, 0x01)
	b.Func("", many(64), nil, nil, 0x01)
	hold := bytes.Repeat(wasmtest.Cat(0x10, 0, 0x10, 0, 0x10, 0, 0x10, 0, 0x10, 1, 0x10, 2), 100)
	down := func(self int) []byte {
		return wasmtest.Cat(0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, self, 0x0b)
	}
	b.Func("", i32(1), nil, nil, hold, down(3))
	b.Func("", i32(1), nil, nil, down(4))
	b.Func("f", i32(2), nil, nil, 0x20, 0, 0x20, 1, 0x04, wasmtest.S64(int64(b.Type(i32(1), nil))), 0x10, 3, 0x05, 0x10, 4, 0x0b)
	return b.Bytes()
}

// TestStackIsNew: how deep a call can go does not depend on what ran in the instance
// before. wazero doubles a stack that is full, from whatever it has grown to, and up to a
// limit; replicas have answered different queries and must end a command alike.
func TestStackIsNew(t *testing.T) {
	img, ctx := setup(t, deep(), "", Auto)
	pool := NewPool(img, 1)
	defer pool.Close(ctx)
	// call runs f on a new instance, behind the calls of others that end well.
	call := func(wide, n uint64, before ...uint64) error {
		inst, err := img.Instantiate(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, narrow := range before {
			if _, _, err := inst.Call(ctx, "f", gasLimit, narrow, 0); err != nil {
				t.Fatal(err)
			}
			if err := img.restore(inst); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err = inst.Call(context.WithoutCancel(ctx), "f", gasLimit, n, wide)
		inst.Close(ctx)
		return err
	}
	lo, hi := uint64(1), uint64(1<<14) // the deepest call that ends well is between them
	if call(1, lo) != nil || call(1, hi) == nil {
		t.Fatal("calls are not bounded")
	}
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; call(1, mid) == nil {
			lo = mid
		} else {
			hi = mid
		}
	}
	for _, before := range []uint64{1000, 100_000} {
		if err := call(1, lo, before); err != nil {
			t.Errorf("%d levels end well in a new instance, and behind a call of %d levels with %v", lo, before, err)
		}
		if call(1, hi, before) == nil {
			t.Errorf("%d levels are too many for a new instance, and end well behind a call of %d levels", hi, before)
		}
	}
}

// TestStackIsFound: in the version of wazero that this is built with, functions keep their
// stacks where they are looked for; else each call would need a new function. What a stack
// grew to is dropped, and the collector may take it while the function is used again.
func TestStackIsFound(t *testing.T) {
	img, ctx := setup(t, deep(), "", Auto)
	inst, err := img.Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer inst.Close(ctx)
	fn := inst.function("f")
	if fn.stack.stack == nil {
		t.Fatalf("the stack of a %T is not found", fn.Function)
	}
	home := &inst.stack[0]
	for _, levels := range []uint64{1, 1000, 10, 100_000, 2} {
		if _, _, err := inst.Call(ctx, "f", gasLimit, levels, 0); err != nil {
			t.Fatalf("%d levels: %v", levels, err)
		}
		if s := *fn.stack.stack; len(s) != stackSize || &s[0] != home || *fn.stack.bottom != home {
			t.Errorf("after %d levels the stack has %d bytes", levels, len(s))
		}
		if inst.function("f") != fn {
			t.Error("the function is made anew")
		}
		if err := img.restore(inst); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
	}
}
