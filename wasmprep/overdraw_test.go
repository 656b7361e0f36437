package wasmprep_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestOverdraw: whatever a guest's functions look like, it does little more than its gas
// limit pays for. Each body calls a short function that counts how often it runs.
func TestOverdraw(t *testing.T) {
	const limit, adds = 100_000, 120
	c := wasmprep.RulesV1().Costs
	const leafCost = 5 + 4*adds
	counting := bytes.Repeat(cat(0x23, 0, 0x41, 1, 0x6a, 0x24, 0), adds)
	leaf := cat(0x10, 0)
	// descend calls function 1 with one less, or ends; what stands behind it runs when the
	// recursion returns.
	descend := cat(0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 1, 0x05, 0x0f, 0x0b)
	i32 := []byte{wasmtest.I32}
	for _, k := range []struct {
		name string
		arg  uint64
		more func(b *wasmtest.Builder)
	}{
		{"one body of many calls", 0, func(b *wasmtest.Builder) {
			b.Func("f", i32, nil, nil, bytes.Repeat(leaf, 100_000))
		}},
		{"one body of many calls, in blocks", 0, func(b *wasmtest.Builder) {
			b.Func("f", i32, nil, nil, bytes.Repeat(cat(0x02, 0x40, 0x20, 0, 0x0d, 0, bytes.Repeat(leaf, 64), 0x0b), 2000))
		}},
		{"many bodies of calls, one within the other", 1800, func(b *wasmtest.Builder) {
			b.Func("f", i32, nil, nil, descend, bytes.Repeat(leaf, 8192))
		}},
		{"many bodies of few calls", 3000, func(b *wasmtest.Builder) {
			b.Func("f", i32, nil, nil, descend, bytes.Repeat(leaf, 100))
		}},
		{"many bodies through the table", 2000, func(b *wasmtest.Builder) {
			b.Table(1)
			b.Elem(0, 1)
			b.Func("f", i32, nil, nil, 0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x41, 0, 0x11, wasmtest.U32(b.Type(i32, nil)), 0, 0x05, 0x0f, 0x0b, bytes.Repeat(leaf, 100))
		}},
		{"many bodies of code", 3000, func(b *wasmtest.Builder) {
			b.Func("f", i32, nil, nil, descend, bytes.Repeat(counting, 10))
		}},
	} {
		t.Run(k.name, func(t *testing.T) {
			inst, m := start(t, build(func(b *wasmtest.Builder) {
				b.Global(wasmtest.I32, true, 0)
				b.Func("", nil, nil, nil, counting)
				k.more(b)
			}))
			if c.Op[0x23]+c.Op[0x41]+c.Op[0x6a]+c.Op[0x24] != 4 || leafCost > c.Unguarded {
				t.Fatal("the counting function is not what this test takes it for")
			}
			_, gas, err := inst.Call(context.Background(), "f", limit, k.arg)
			if !errors.Is(err, image.ErrOutOfGas) || gas != limit {
				t.Fatalf("%d gas, error %v, want out of gas", gas, err)
			}
			ran := inst.Module().ExportedGlobal(m.Snapshot[0].Name).Get() / adds
			if work := ran * leafCost; work > limit+2*c.Unpaid {
				t.Errorf("with a limit of %d gas it did work of %d", limit, work)
			} else {
				t.Logf("work of %d gas", work)
			}
		})
	}
}
