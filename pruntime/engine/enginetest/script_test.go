package enginetest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

type host struct {
	engine.Host // what is not here is not asked for
	kv          map[string]string
}

func (h host) Get(k []byte) ([]byte, bool)             { v, ok := h.kv[string(k)]; return []byte(v), ok }
func (h host) Put(k, v []byte) error                   { h.kv[string(k)] = string(v); return nil }
func (h host) Delete(k []byte) error                   { delete(h.kv, string(k)); return nil }
func (h host) Next(_, _ []byte) ([]byte, []byte, bool) { return nil, nil, false }
func (h host) Caller() []byte                          { return []byte("somebody") }
func (h host) Reader() []byte                          { return []byte("another") }
func (h host) Self() [32]byte                          { return [32]byte{} }
func (h host) Height() uint64                          { return 3 }
func (h host) Time() uint64                            { return 4 }
func (h host) Random() io.Reader                       { return rand.NewChaCha8([32]byte{}) }
func (h host) Secret(_ string, label []byte) (s [32]byte) {
	copy(s[:], label)
	return s
}
func (h host) Call(_ context.Context, c *engine.Outcall) (engine.Result, error) {
	return engine.Result{Output: append(c.To[:1], c.Input...)}, nil
}
func (h host) Emit(r *[32]byte, data []byte) error {
	h.kv["event"] = fmt.Sprint(r != nil, string(data))
	return nil
}
func (h host) Fetch(_ context.Context, r []byte) ([]byte, error) { return r, nil }
func (h host) Log([]byte)                                        {}

// TestScript: each operation does what the package says.
func TestScript(t *testing.T) {
	ctx := context.Background()
	e, err := engine.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(ctx)
	p, err := e.Prepare(ctx, enginetest.Script("a"))
	if err != nil {
		t.Fatal(err)
	}
	if q, err := e.Prepare(ctx, enginetest.Script("b")); err != nil || q.Hash() == p.Hash() {
		t.Fatal("another salt is not another code", err)
	}
	h := host{kv: map[string]string{}}
	big := make([]byte, 190<<10)
	for _, c := range []struct {
		input, want string
		kind        engine.Kind
	}{
		{"ehello", "hello", ""},
		{"e", "", ""},
		{"pkvalue", "", ""},
		{"gk", "value", ""},
		{"gz", "", ""},
		{"n", "\x01", ""},
		{"n", "\x02", ""},
		{"gn", "\x02", ""},
		{"t", "", engine.ErrTrap},
		{"f", "", engine.ErrContract},
		{"F", "", engine.ErrContract},
		{"l", "", engine.ErrOutOfGas},
		{"d", "", engine.ErrDepth},
		{"m", "\x80\x00\x00\x00", ""},
		{"b\x00\xf8\x02\x00", string(big), ""},
		{"s\x10\x00\x00\x00", "", ""},
		{"c", "somebody", ""},
		{"R", "another", ""},
		{"h", "\x03\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00", ""},
		{"xk", "", ""},
		{"gk", "", ""},
		{"k" + strings.Repeat("I", 32) + "in", "\x03\x00\x00\x00\x00\x00\x00\x00Iin", ""},
		{"q" + strings.Repeat("I", 32) + "in", "\x03\x00\x00\x00\x00\x00\x00\x00Iin", ""},
		{"K" + strings.Repeat("I", 32) + "in", "", engine.ErrTrap},
		{"vdata", "", ""},
		{"gevent", "falsedata", ""},
		{"w" + strings.Repeat("I", 32) + "data", "", ""},
		{"gevent", "truedata", ""},
		{"V", "", engine.ErrTrap},
		{"oline", "", ""},
		{"Oline", "", engine.ErrTrap},
		{"ilabel", "label" + strings.Repeat("\x00", 27), ""},
		{"Hreq", "\x03\x00\x00\x00\x00\x00\x00\x00req", ""},
		{"akv", "", ""},
		{"gk", "v", ""},
		{"?", "", ""},
	} {
		res, err := p.Run(ctx, &engine.Call{Entry: engine.EntryCall, Input: []byte(c.input), Gas: 1 << 26, Host: h})
		if string(res.Output) != c.want || (c.kind == "") != (err == nil) || (err != nil && !errors.Is(err, c.kind)) {
			t.Errorf("%.6q answers %.20q, %v", c.input, res.Output, err)
		}
	}
	res, err := p.Run(ctx, &engine.Call{Entry: engine.EntryCall, Input: []byte("r"), Gas: 1 << 26, Host: h})
	if err != nil || len(res.Output) != 32 {
		t.Errorf("random: %x, %v", res.Output, err)
	}
}
