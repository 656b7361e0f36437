package hostile

import (
	"strings"
	"testing"

	"github.com/phala-go/phala/internal/clustertest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestWrittenBytes: queries and failed calls bind no deposit, so a bound of its own keeps
// one command or query from filling the memory of every replica with what it will discard.
func TestWrittenBytes(t *testing.T) {
	const most = "stores at most 16777216 bytes"
	// puts stores n values of 256 KiB: 64 of them and their keys are above the limit.
	puts := func(c *contract, n uint32, body ...any) []byte {
		return wasmtest.Cat(n32(8), 0x40, 0, 0x1a, times(n, n32(64), 0x20, 0, 0x36, 2, 0, c.do("kv_put", 64, 4, 0, 256<<10)), wasmtest.Cat(body...))
	}
	// told refuses with the message of the callee.
	told := func(c *contract) []byte {
		return wasmtest.Cat(c.do("staged_read", 300), c.do("fail", 9, 304, 60))
	}
	i32 := []byte{wasmtest.I32}
	for _, c := range []struct {
		name        string
		call, query func(c *contract) []byte
		status      proto.Status
		says        string
		direct      bool // ask the query itself
	}{
		{name: "a query", direct: true, query: func(c *contract) []byte { return puts(c, 2000) }, says: "trap: a command or query " + most},
		{name: "a query below the limit", direct: true, query: func(c *contract) []byte { return puts(c, 63) }},
		{
			name: "a query that a command calls",
			call: func(c *contract) []byte {
				return wasmtest.Cat(c.do("self", 256), c.do("call", 1, 256, 0, 0, 0), told(c))
			},
			query:  func(c *contract) []byte { return wasmtest.Cat(c.do("reentry"), puts(c, 2000)) },
			status: proto.StatusContractError, says: most,
		},
		{
			name: "two calls that each stay below it",
			call: func(c *contract) []byte {
				one := wasmtest.Cat(c.do("self", 256), c.do("call", 1, 256, 0, 0, 0))
				return wasmtest.Cat(one, one, told(c))
			},
			query:  func(c *contract) []byte { return wasmtest.Cat(c.do("reentry"), puts(c, 40)) },
			status: proto.StatusContractError, says: most,
		},
		{
			name: "a command that stores and removes",
			call: func(c *contract) []byte {
				return puts(c, 1, times(70, c.do("kv_delete", 64, 4), c.do("kv_put", 64, 4, 0, 256<<10)))
			},
			status: proto.StatusTrap, says: most,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newContract(t)
			m.Func("deploy", nil, nil, nil)
			entry := func(name string, body func(c *contract) []byte) {
				if body == nil {
					body = func(*contract) []byte { return nil }
				}
				m.Func(name, nil, nil, i32, body(m))
			}
			entry("call", c.call)
			entry("query", c.query)
			m.Memory(1, m.pages)
			m.Export("memory", 2, 0)
			w := clustertest.New(t, prepare(t, m.Bytes()))
			w.Gas = 1 << 28
			w.Deploy("alice", nil)
			if c.direct {
				_, err := w.Query("mallory", "", nil)
				if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
					t.Fatalf("%v, want %q", err, c.says)
				}
				return
			}
			if s := w.Input("mallory", nil); s.Status != c.status || !strings.Contains(s.Error, c.says) {
				t.Fatalf("%s %q, want %s %q", s.Status, s.Error, c.status, c.says)
			}
		})
	}
}
