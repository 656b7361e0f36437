package cluster

import (
	"context"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestQueryGas: a query uses no more than QueryGas, whatever its caller allows. The contract
// asks for more memory than any gas buys, which is charged before it is looked at.
func TestQueryGas(t *testing.T) {
	var b wasmtest.Builder
	b.Func("deploy", nil, nil, nil)
	b.Func("call", nil, nil, nil)
	b.Func("query", nil, nil, nil, 0x41, 0x7f, 0x40, 0, 0x1a)
	b.Memory(1, 1)
	e, err := engine.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	p, err := e.Prepare(context.Background(), b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, home)
	w.c.programs = programs{w.code: p}
	w.instantiate(func(c *command) { c.inst.Image = p.ImageHash() })
	wantStatus(t, "constructor", w.run()[0], proto.StatusOK)
	for _, c := range []struct{ asked, used uint64 }{{0, QueryGas}, {1 << 62, QueryGas}, {1 << 20, 1 << 20}} {
		status, _, gas, _, err := w.c.Query(context.Background(), w.c.Snapshot(), &proto.Query{To: w.target, GasLimit: c.asked}, w.height, 0)
		if err != nil || status != proto.StatusOutOfGas || gas != c.used {
			t.Errorf("with a limit of %d: %s after %d gas, %v, want %d", c.asked, status, gas, err, c.used)
		}
	}
}
