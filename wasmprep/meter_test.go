package wasmprep_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// start prepares a module and makes an instance of it.
func start(t testing.TB, code []byte) (*image.Instance, *wasmprep.Module) {
	t.Helper()
	m := mustPrepare(t, code, wasmprep.RulesV1())
	c, err := image.Compile(context.Background(), newRuntime(t, true), m)
	if err != nil {
		t.Fatal(err)
	}
	inst, err := image.New(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return inst, m
}

// TestCharges computes the gas of small functions by hand from the cost table.
func TestCharges(t *testing.T) {
	c := wasmprep.RulesV1().Costs
	op := func(list ...byte) (sum uint64) {
		for _, o := range list {
			sum += uint64(c.Op[o])
		}
		return sum
	}
	call := uint64(c.Call)
	i32 := []byte{wasmtest.I32}
	cases := []struct {
		name string
		body []byte
		arg  uint64
		gas  uint64
		fail string
	}{
		{"nothing", cat(), 0, call, ""},
		{"straight line", cat(0x41, 1, 0x41, 2, 0x6a, 0x1a), 0, call + op(0x41, 0x41, 0x6a), ""},
		{"division traps, nothing is lost", cat(0x41, 1, 0x41, 0, 0x6d, 0x1a, 0x41, 5, 0x1a), 0, call + op(0x41, 0x41, 0x6d, 0x41), "integer divide by zero"},
		{"a block is part of the line", cat(0x02, 0x40, 0x41, 1, 0x1a, 0x0b, 0x41, 1, 0x1a), 0, call + op(0x41, 0x41), ""},
		{"code behind a branch is free", cat(0x02, 0x40, 0x0c, 0, 0x41, 1, 0x41, 0, 0x6d, 0x1a, 0x0b), 0, call + op(0x0c), ""},
		{"a long arm taken", cat(0x20, 0, 0x04, 0x40, longArm(), 0x0b), 1, call + op(0x20, 0x04) + 20*op(0x41, 0x41, 0x6d), ""},
		{"a long arm not taken", cat(0x20, 0, 0x04, 0x40, longArm(), 0x0b), 0, call + op(0x20, 0x04), ""},
		{"a short arm is paid for anyway", cat(0x20, 0, 0x04, 0x40, 0x41, 1, 0x1a, 0x0b), 0, call + op(0x20, 0x04, 0x41), ""},
		// n rounds of a loop whose only way on is the br_if at its end.
		{"a loop of seven", cat(0x03, 0x40, longArm(), 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b), 7,
			call + 7*(20*op(0x41, 0x41, 0x6d)+op(0x20, 0x41, 0x6b, 0x22, 0x0d)), ""},
		{"fill by length", cat(0x41, 0, 0x41, 0, 0x20, 0, 0xfc, 11, 0), 4096,
			call + op(0x41, 0x41, 0x20) + uint64(c.Prefixed[11]) + 4096>>c.BulkShift, ""},
		{"a fill that traps is paid for too", cat(0x41, 0, 0x41, 0, 0x20, 0, 0xfc, 11, 0), 1 << 20,
			call + op(0x41, 0x41, 0x20) + uint64(c.Prefixed[11]) + 1<<20>>c.BulkShift, "out of bounds memory access"},
		{"grow by pages", cat(0x20, 0, 0x40, 0, 0x1a), 1, call + op(0x20, 0x40) + uint64(c.GrowPage), ""},
		{"a grow that fails costs what was asked", cat(0x20, 0, 0x40, 0, 0x1a), 1000, call + op(0x20, 0x40) + 1000*uint64(c.GrowPage), ""},
	}
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			inst, _ := start(t, build(func(b *wasmtest.Builder) {
				b.Memory(1, 2)
				b.Func("f", i32, nil, nil, k.body)
			}))
			_, gas, err := inst.Call(context.Background(), "f", 1e9, k.arg)
			if failure(err) != k.fail {
				t.Fatalf("error %v, want %q", err, k.fail)
			}
			if gas != k.gas {
				t.Errorf("gas %d, want %d", gas, k.gas)
			}
		})
	}
}

// longArm is an arm too dear to be folded: twenty divisions.
func longArm() (b []byte) {
	for range 20 {
		b = append(b, 0x41, 7, 0x41, 2, 0x6d, 0x1a)
	}
	return b
}

// endless are guests that never stop by themselves.
func endless() map[string][]byte {
	return map[string][]byte{
		"tight loop":                    build(func(b *wasmtest.Builder) { b.Func("f", nil, nil, nil, 0x03, 0x40, 0x0c, 0, 0x0b) }),
		"loop by br_if":                 build(func(b *wasmtest.Builder) { b.Func("f", nil, nil, nil, 0x03, 0x40, 0x41, 1, 0x0d, 0, 0x0b) }),
		"loop by br_table":              build(func(b *wasmtest.Builder) { b.Func("f", nil, nil, nil, 0x03, 0x40, 0x41, 1, 0x0e, 1, 0, 0, 0x0b) }),
		"loop inside block":             build(func(b *wasmtest.Builder) { b.Func("f", nil, nil, nil, 0x03, 0x40, 0x02, 0x40, 0x0c, 1, 0x0b, 0x0b) }),
		"outer loop from an inner head": build(func(b *wasmtest.Builder) { b.Func("f", nil, nil, nil, 0x03, 0x40, 0x03, 0x40, 0x0c, 1, 0x0b, 0x0b) }),
		"around a loop that runs once": build(func(b *wasmtest.Builder) {
			b.Func("f", nil, nil, nil, 0x03, 0x40, 0x03, 0x40, 0x01, 0x0b, 0x0c, 0, 0x0b)
		}),
		"dispatcher": build(func(b *wasmtest.Builder) {
			// Three nested loops, each of which branches to the next outer one.
			b.Func("f", nil, nil, nil, 0x03, 0x40, 0x03, 0x40, 0x03, 0x40, 0x41, 0, 0x0e, 2, 1, 2, 1, 0x0b, 0x0b, 0x0b)
		}),
		"loop with a parameter": build(func(b *wasmtest.Builder) {
			t := b.Type([]byte{wasmtest.I32}, []byte{wasmtest.I32})
			b.Func("f", nil, nil, nil, 0x41, 1, 0x03, t2b(t), 0x0c, 0, 0x0b, 0x1a)
		}),
		"growing in a loop": build(func(b *wasmtest.Builder) {
			b.Memory(1, 100)
			b.Func("f", nil, nil, nil, 0x03, 0x40, 0x41, 1, 0x40, 0, 0x1a, 0x0c, 0, 0x0b)
		}),
		"filling in a loop": build(func(b *wasmtest.Builder) {
			b.Memory(16, 16)
			b.Func("f", nil, nil, nil, 0x03, 0x40, 0x41, 0, 0x41, 0, 0x41, wasmtest.S64(1<<20), 0xfc, 11, 0, 0x0c, 0, 0x0b)
		}),
		"call tree": build(func(b *wasmtest.Builder) {
			// 64 levels that each call the next one twice: no loop anywhere.
			for i := range 64 {
				name := ""
				if i == 0 {
					name = "f"
				}
				if i == 63 {
					b.Func(name, nil, nil, nil, 0x01)
					break
				}
				b.Func(name, nil, nil, nil, 0x10, i+1, 0x10, i+1)
			}
		}),
	}
}

func t2b(i uint32) []byte { return wasmtest.S64(int64(i)) }

// TestEndlessGuests: each ends with exactly the limit used, and other goroutines get their
// turn meanwhile: a collection, which stops every goroutine twice, begins and ends within
// one call. How long that takes is the machine's business.
func TestEndlessGuests(t *testing.T) {
	for name, code := range endless() {
		t.Run(name, func(t *testing.T) {
			inst, _ := start(t, code)
			inst.SetSlice(1 << 20)
			const limit = 200 << 20
			var entered, left atomic.Int64 // calls
			var within atomic.Bool
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
					}
					n := entered.Load()
					runtime.GC()
					if n > 0 && left.Load() < n {
						within.Store(true)
					}
				}
			}()
			for calls := 0; calls == 0 || !within.Load() && calls < 50; calls++ {
				entered.Add(1)
				_, gas, err := inst.Call(context.Background(), "f", limit)
				left.Add(1)
				if !errors.Is(err, image.ErrOutOfGas) || gas != limit {
					t.Fatalf("error %v after %d gas, want out of gas after %d", err, gas, limit)
				}
				inst.Revive()
			}
			close(stop)
			<-done
			if !within.Load() {
				t.Error("no collection ended within a call: the guest does not yield")
			}
		})
	}
}

// TestRecursion: endless recursion, direct, mutual and through the table,
// ends in the depth's own error, and the budget is whole again after a call
// that returned.
func TestRecursion(t *testing.T) {
	i32 := []byte{wasmtest.I32}
	cases := map[string][]byte{
		"direct": build(func(b *wasmtest.Builder) { b.Func("f", i32, i32, nil, 0x20, 0, 0x10, 0) }),
		"mutual": build(func(b *wasmtest.Builder) {
			b.Func("f", i32, i32, nil, 0x20, 0, 0x10, 1)
			b.Func("", i32, i32, nil, 0x20, 0, 0x10, 0)
		}),
		"indirect": build(func(b *wasmtest.Builder) {
			b.Table(1)
			b.Elem(0, b.Func("f", i32, i32, nil, 0x20, 0, 0x41, 0, 0x11, 0, 0))
		}),
	}
	for name, code := range cases {
		t.Run(name, func(t *testing.T) {
			inst, _ := start(t, code)
			if _, _, err := inst.Call(context.Background(), "f", 1e9, 1); !errors.Is(err, image.ErrCallDepth) {
				t.Errorf("error %v, want call depth", err)
			}
		})
	}
	t.Run("ways out restore the budget", func(t *testing.T) {
		inst, m := start(t, build(func(b *wasmtest.Builder) {
			callee := []any{0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 1, 0x0f, 0x0b}
			b.Func("return", i32, []byte{wasmtest.I32, wasmtest.I64}, nil, 0x20, 0, 0x10, 1, 0x20, 0, 0x42, 3, 0x0f)
			b.Func("", i32, nil, nil, callee...)
			b.Func("br", i32, i32, nil, 0x20, 0, 0x10, 1, 0x41, 8, 0x02, 0x40, 0x41, 9, 0x0c, 1, 0x0b)
			b.Func("br_if", i32, i32, nil, 0x20, 0, 0x10, 1, 0x41, 8, 0x20, 0, 0x0d, 0)
			b.Func("br_table", i32, i32, nil, 0x20, 0, 0x10, 1, 0x41, 8, 0x20, 0, 0x0e, 1, 0, 0)
		}))
		before := inst.StateHash()
		for _, x := range m.Exports {
			for range 3 {
				if _, _, err := inst.Call(context.Background(), x.Name, 1e9, 5); err != nil {
					t.Fatalf("%s: %v", x.Name, err)
				}
				if inst.StateHash() != before {
					t.Fatalf("%s leaves the depth budget changed", x.Name)
				}
			}
		}
	})
}

// TestNaNs: what arithmetic makes of NaNs has the canonical bits however it
// is looked at; what only moves bits keeps them.
func TestNaNs(t *testing.T) {
	const odd64, odd32 = 0xfff4dead00000001, 0xffa00001 // signalling, negative, with payload
	f64, f32 := wasmtest.Const(wasmtest.F64, odd64), wasmtest.Const(wasmtest.F32, odd32)
	one64, one32 := wasmtest.F64Const(1), wasmtest.Const(wasmtest.F32, uint64(math.Float32bits(1)))
	const quiet64, quiet32 = 0x7ff8000000000000, 0x7fc00000
	cases := []struct {
		name string
		code []byte // leaves an i64
		want uint64
	}{
		{"f64.add, reinterpreted", cat(f64, one64, 0xa0, 0xbd), quiet64},
		{"f64.add, second operand", cat(one64, f64, 0xa0, 0xbd), quiet64},
		{"f64.sub", cat(f64, one64, 0xa1, 0xbd), quiet64},
		{"f64.mul", cat(f64, one64, 0xa2, 0xbd), quiet64},
		{"f64.div of zeros", cat(wasmtest.F64Const(0), wasmtest.F64Const(0), 0xa3, 0xbd), quiet64},
		{"f64.min", cat(f64, one64, 0xa4, 0xbd), quiet64},
		{"f64.max", cat(one64, f64, 0xa5, 0xbd), quiet64},
		{"f64.sqrt of -1", cat(wasmtest.F64Const(-1), 0x9f, 0xbd), quiet64},
		{"f64.ceil", cat(f64, 0x9b, 0xbd), quiet64},
		{"f64.floor", cat(f64, 0x9c, 0xbd), quiet64},
		{"f64.trunc", cat(f64, 0x9d, 0xbd), quiet64},
		{"f64.nearest", cat(f64, 0x9e, 0xbd), quiet64},
		{"f64.promote", cat(f32, 0xbb, 0xbd), quiet64},
		{"f32.demote", cat(f64, 0xb6, 0xbc, 0xad), quiet32},
		{"f32.add", cat(f32, one32, 0x92, 0xbc, 0xad), quiet32},
		{"f32.sqrt", cat(wasmtest.Const(wasmtest.F32, 0xbf800000), 0x91, 0xbc, 0xad), quiet32},
		{"chain", cat(f64, one64, 0xa0, one64, 0xa2, one64, 0xa1, 0xbd), quiet64},
		{"chain, held below another value", cat(f64, one64, 0xa0, 0x41, 3, 0x1a, 0xbd), quiet64},
		{"through a local", cat(f64, one64, 0xa0, 0x21, 0, 0x20, 0, 0xbd), quiet64},
		{"through memory", cat(0x41, 0, f64, one64, 0xa0, 0x39, 3, 0, 0x41, 0, 0x29, 3, 0), quiet64},
		{"through select", cat(f64, one64, 0xa0, f64, 0x41, 1, 0x1b, 0xbd), quiet64},
		{"through a block's result", cat(0x02, wasmtest.F64, f64, one64, 0xa0, 0x0b, 0xbd), quiet64},
		{"through br_if", cat(0x02, wasmtest.F64, f64, one64, 0xa0, 0x41, 1, 0x0d, 0, 0x0b, 0xbd), quiet64},
		{"sign copied from a NaN made", cat(one64, f64, one64, 0xa0, 0xa6, 0xbd), math.Float64bits(1)},
		{"negated after", cat(f64, one64, 0xa0, 0x9a, 0xbd), quiet64 | 1<<63},
		{"compared", cat(f64, one64, 0xa0, one64, 0x62, 0xad), 1},
		{"truncated, saturating", cat(f64, one64, 0xa0, 0xfc, 6), 0},

		{"f64.neg keeps", cat(f64, 0x9a, 0xbd), odd64 &^ (1 << 63)},
		{"f64.abs keeps", cat(f64, 0x99, 0xbd), odd64 &^ (1 << 63)},
		{"f64.copysign keeps", cat(f64, one64, 0xa6, 0xbd), odd64 &^ (1 << 63)},
		{"constant keeps", cat(f64, 0xbd), odd64},
		{"memory keeps", cat(0x41, 0, f64, 0x39, 3, 0, 0x41, 0, 0x2b, 3, 0, 0xbd), odd64},
		{"f32.neg keeps", cat(f32, 0x8c, 0xbc, 0xad), odd32 &^ (1 << 31)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code := build(func(b *wasmtest.Builder) {
				b.Memory(1, 1)
				b.Func("f", nil, []byte{wasmtest.I64}, []byte{wasmtest.F64}, c.code)
			})
			m := mustPrepare(t, code, wasmprep.RulesV1())
			for _, compiler := range []bool{true, false} {
				o := prepared(t, newRuntime(t, compiler), m, 1e6)[0]
				if o.failure != "" || o.results[0] != c.want {
					t.Errorf("compiler %v: %s, want %x", compiler, describe(o), c.want)
				}
			}
		})
	}
}

// TestStartSection: the start function does not run when a module is
// instantiated, and is metered when it is called.
func TestStartSection(t *testing.T) {
	inst, m := start(t, build(func(b *wasmtest.Builder) {
		b.Global(wasmtest.I32, true, 1)
		b.Start(b.Func("", nil, nil, nil, 0x03, 0x40, 0x0c, 0, 0x0b))
		b.Func("get", nil, []byte{wasmtest.I32}, nil, 0x23, 0)
	}))
	if !m.HasStart {
		t.Fatal("the start function is not reported")
	}
	if _, gas, err := inst.Call(context.Background(), wasmprep.StartExport, 1e6); !errors.Is(err, image.ErrOutOfGas) || gas != 1e6 {
		t.Errorf("endless start function: %d gas, %v", gas, err)
	}
}
