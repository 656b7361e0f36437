package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// memory is a Host whose storage is a Go map: the naive twin of the cluster's state.
type memory struct {
	kv     map[string][]byte
	caller []byte
	reader []byte
	height uint64
	time   uint64
	random io.Reader
	logs   []string
	events []string
	call   func(c *Outcall) (Result, error)
	fetch  func(request []byte) ([]byte, error)
}

func newMemory() *memory {
	return &memory{kv: map[string][]byte{}, caller: []byte("caller"), reader: []byte("reader"), height: 7, time: 1_700_000_000_000, random: rand.NewChaCha8([32]byte{1})}
}

func (m *memory) Get(k []byte) ([]byte, bool) { v, ok := m.kv[string(k)]; return v, ok }
func (m *memory) Put(k, v []byte) error       { m.kv[string(k)] = v; return nil }
func (m *memory) Delete(k []byte) error       { delete(m.kv, string(k)); return nil }
func (m *memory) Next(prefix, from []byte) ([]byte, []byte, bool) {
	var keys []string
	for k := range m.kv {
		if strings.HasPrefix(k, string(prefix)) && k >= string(from) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, nil, false
	}
	k := slices.Min(keys)
	return []byte(k), m.kv[k], true
}
func (m *memory) Caller() []byte    { return m.caller }
func (m *memory) Reader() []byte    { return m.reader }
func (m *memory) Self() [32]byte    { return [32]byte{0x5e, 0x1f} }
func (m *memory) Height() uint64    { return m.height }
func (m *memory) Time() uint64      { return m.time }
func (m *memory) Random() io.Reader { return m.random }
func (m *memory) Log(msg []byte)    { m.logs = append(m.logs, string(msg)) }

func (m *memory) Secret(purpose string, label []byte) [32]byte {
	return sha256.Sum256([]byte(purpose + "/" + string(label)))
}
func (m *memory) Emit(reader *[32]byte, data []byte) error {
	if reader != nil && *reader == [32]byte{} {
		return ErrReader
	}
	who := "public"
	if reader != nil {
		who = fmt.Sprintf("%x", *reader)
	}
	m.events = append(m.events, who+" "+string(data))
	return nil
}
func (m *memory) Call(_ context.Context, c *Outcall) (Result, error) { return m.call(c) }
func (m *memory) Fetch(_ context.Context, request []byte) ([]byte, error) {
	return m.fetch(request)
}

var shared struct {
	sync.Once
	e *Engine
}

// engine is one for all tests.
func sharedEngine(t testing.TB) *Engine {
	t.Helper()
	shared.Do(func() {
		e, err := New("")
		if err != nil {
			t.Fatal(err)
		}
		shared.e = e
	})
	return shared.e
}

// A contract is a module under assembly that imports every host function.
type contract struct {
	wasmtest.Builder
	f map[string]uint32
}

// Instructions that the tests use, without those that Cat writes as one byte.
const (
	unreachable = 0x00
	drop        = 0x1a
	i32Add      = 0x6a
	i32Eqz      = 0x45
	memoryGrow  = 0x40
)

func newContract() *contract {
	c := &contract{f: map[string]uint32{}}
	for _, set := range []struct {
		module string
		fs     []function
	}{{"phat", phat}, {"wasi_snapshot_preview1", wasi}} {
		for _, f := range set.fs {
			var params, results []byte
			for _, p := range f.params {
				params = append(params, byte(p))
			}
			for _, r := range f.results {
				results = append(results, byte(r))
			}
			c.f[f.name] = c.Import(set.module, f.name, params, results)
		}
	}
	return c
}

func n32(v uint32) []byte { return wasmtest.Const(wasmtest.I32, uint64(v)) }
func n64(v uint64) []byte { return wasmtest.Const(wasmtest.I64, v) }

// do calls a host function with constant arguments and leaves its result, if any, on
// the stack.
func (c *contract) do(name string, args ...uint64) []byte {
	var body []byte
	for i, p := range function1(name).params {
		if p == i64 {
			body = append(body, n64(args[i])...)
		} else {
			body = append(body, n32(uint32(args[i]))...)
		}
	}
	return wasmtest.Cat(body, 0x10, wasmtest.U32(c.f[name]))
}

// void is do with the result dropped.
func (c *contract) void(name string, args ...uint64) []byte {
	b := c.do(name, args...)
	if len(function1(name).results) > 0 {
		b = append(b, drop)
	}
	return b
}

func function1(name string) *function {
	for _, fs := range [][]function{phat, wasi} {
		for i := range fs {
			if fs[i].name == name {
				return &fs[i]
			}
		}
	}
	panic("no host function " + name)
}

// store32 stores what body leaves on the stack.
func store32(at uint32, body []byte) []byte {
	return wasmtest.Cat(n32(at), body, 0x36, 2, 0)
}

func store64(at uint32, body []byte) []byte {
	return wasmtest.Cat(n32(at), body, 0x37, 3, 0)
}

// module completes a contract whose entry points are all the same body.
func (c *contract) module(body ...any) []byte {
	f := c.Func("call", nil, nil, nil, body...)
	c.Export("deploy", 0, f)
	c.Export("query", 0, f)
	c.Memory(1, 64)
	c.Export("memory", 2, 0)
	return c.Bytes()
}

func prepare(t testing.TB, module []byte) *Program {
	t.Helper()
	p, err := sharedEngine(t).Prepare(context.Background(), module)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

const enough = 1 << 30

func run1(p *Program, entry string, h Host, input string, gas uint64) (Result, error) {
	return p.Run(context.Background(), &Call{Entry: entry, Input: []byte(input), Gas: gas, Host: h})
}

// wantKind fails the test unless err is an *Error of the kind.
func wantKind(t *testing.T, what string, err error, kind Kind) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, kind) {
		t.Fatalf("%s: got %v, want %q", what, err, kind)
	}
}

var abuseBuild struct {
	sync.Once
	module []byte
	err    error
}

// abuse is the contract of testdata/abuse, built once.
func abuseModule(t testing.TB) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to build testdata/abuse with")
	}
	abuseBuild.Do(func() {
		dir, err := os.MkdirTemp("", "abuse-")
		if err != nil {
			abuseBuild.err = err
			return
		}
		defer os.RemoveAll(dir)
		out := filepath.Join(dir, "abuse.wasm")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", out, "./testdata/abuse")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
		if b, err := cmd.CombinedOutput(); err != nil {
			abuseBuild.err = errors.New(string(b))
			return
		}
		abuseBuild.module, abuseBuild.err = os.ReadFile(out)
	})
	if abuseBuild.err != nil {
		t.Fatal(abuseBuild.err)
	}
	return abuseBuild.module
}

var abusePrepared struct {
	sync.Once
	p   *Program
	err error
}

func abuse(t testing.TB) *Program {
	t.Helper()
	m, e := abuseModule(t), sharedEngine(t)
	abusePrepared.Do(func() { abusePrepared.p, abusePrepared.err = e.Prepare(context.Background(), m) })
	if abusePrepared.err != nil {
		t.Fatal(abusePrepared.err)
	}
	return abusePrepared.p
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, want %x", what, got, want)
	}
}
