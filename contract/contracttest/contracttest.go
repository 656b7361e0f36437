// Package contracttest runs contracts in tests, in the process of the test and as
// Wasm in the enclave's own engine, side by side.
//
//	func TestCounter(t *testing.T) {
//		k := contracttest.New(t)
//		alice := k.Account("alice")
//		k.Deploy(alice, nil)
//		k.Call(alice, "Add", 40, nil)
//		var n uint64
//		k.Query(alice, "Current", nil, &n)
//	}
//
// Each call runs natively first; then, where the go command is there to build the
// package under test, as Wasm. A difference in the answer, the error or the storage
// fails the test. Native runs alone, without the engine, come with [Native].
package contracttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/pruntime/engine"
)

// A Kit is one contract on a chain of its own. It is for one goroutine.
type Kit struct {
	t       testing.TB
	native  *world
	wasm    *world
	program *engine.Program
	gas     uint64
	height  uint64
	time    uint64
	calls   uint64
	reader  contract.Account // of the call that runs
}

// An Option changes a Kit.
type Option int

// Native leaves the Wasm run out.
const Native Option = 1

// New returns a kit for the contract that the package under test registered.
func New(t testing.TB, options ...Option) *Kit {
	t.Helper()
	if contract.Registered() == nil {
		t.Fatal("contracttest: the package registers no contract: call contract.Register in an init function")
	}
	k := &Kit{t: t, native: newWorld(), height: 1, time: 1_700_000_000_000}
	if slices.Contains(options, Native) {
		return k
	}
	p, err := program()
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("contracttest: no go command: the contract runs natively only")
		return k
	}
	if err != nil {
		t.Fatalf("contracttest: %v", err)
	}
	k.program, k.wasm = p, newWorld()
	return k
}

var (
	built    sync.Once
	prepared *engine.Program
	buildErr error
)

// program builds and prepares the package under test, once.
func program() (*engine.Program, error) {
	built.Do(func() {
		dir, err := os.MkdirTemp("", "contracttest-")
		if err != nil {
			buildErr = err
			return
		}
		defer os.RemoveAll(dir)
		out := filepath.Join(dir, "contract.wasm")
		cmd := exec.Command("go", "build", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", out, ".")
		cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		if b, err := cmd.CombinedOutput(); err != nil {
			buildErr = fmt.Errorf("build the contract: %w\n%s", err, b)
			return
		}
		module, err := os.ReadFile(out)
		if err != nil {
			buildErr = err
			return
		}
		e, err := engine.New(context.Background(), "")
		if err != nil {
			buildErr = err
			return
		}
		prepared, buildErr = e.Prepare(context.Background(), module)
	})
	return prepared, buildErr
}

// Account returns a test account: the same name is the same account.
func (k *Kit) Account(name string) contract.Account {
	sum := transcript.Hash("contracttest/account", []byte(name))
	return contract.Account(sum[:])
}

// NextBlock moves the chain on by n blocks of six seconds.
func (k *Kit) NextBlock(n uint64) { k.height, k.time = k.height+n, k.time+6000*n }

// Height is the height that the next call sees.
func (k *Kit) Height() uint64 { return k.height }

// Gas is what the last call used as Wasm; 0 without a Wasm run.
func (k *Kit) Gas() uint64 { return k.gas }

// Deploy runs the constructor and fails the test when it refuses.
func (k *Kit) Deploy(caller contract.Account, arg any) {
	k.t.Helper()
	if err := k.TryDeploy(caller, arg); err != nil {
		k.t.Fatalf("Init: %v", err)
	}
}

// TryDeploy runs the constructor.
func (k *Kit) TryDeploy(caller contract.Account, arg any) error {
	k.t.Helper()
	return k.run("deploy", caller, "Init", arg, nil)
}

// Call runs a command, reads its answer into out unless that is nil, and fails the test
// when the contract refuses.
func (k *Kit) Call(caller contract.Account, method string, arg, out any) {
	k.t.Helper()
	if err := k.TryCall(caller, method, arg, out); err != nil {
		k.t.Fatalf("%s: %v", method, err)
	}
}

// TryCall runs a command. A refusal is a *contract.Error, and nothing was written.
func (k *Kit) TryCall(caller contract.Account, method string, arg, out any) error {
	k.t.Helper()
	return k.run("call", caller, method, arg, out)
}

// Query asks, reads the answer into out unless that is nil, and fails the test when the
// contract refuses.
func (k *Kit) Query(caller contract.Account, method string, arg, out any) {
	k.t.Helper()
	if err := k.TryQuery(caller, method, arg, out); err != nil {
		k.t.Fatalf("%s: %v", method, err)
	}
}

// TryQuery asks. An empty caller is an anonymous one.
func (k *Kit) TryQuery(caller contract.Account, method string, arg, out any) error {
	k.t.Helper()
	return k.run("query", caller, method, arg, out)
}

// TryGranted asks as reader, in the name of grantor and under a grant of it.
func (k *Kit) TryGranted(grantor, reader contract.Account, method string, arg, out any) error {
	k.t.Helper()
	k.reader = reader
	defer func() { k.reader = "" }()
	return k.run("query", grantor, method, arg, out)
}

func (k *Kit) run(entry string, caller contract.Account, method string, arg, out any) error {
	k.t.Helper()
	in := map[string]any{"method": method}
	if arg != nil {
		in["args"] = arg
	}
	input, err := json.Marshal(in)
	if err != nil {
		k.t.Fatalf("contracttest: argument of %s: %v", method, err)
	}
	k.calls++
	w := k.native.fork()
	h := &host{w: w, caller: caller, k: k}
	h.seed(k.calls)
	result, runErr := runNative(h, entry, input)
	if runErr == nil && entry != "query" {
		k.native = w
	}
	if k.program != nil {
		k.compare(entry, caller, method, input, result, runErr)
	}
	if runErr != nil {
		return runErr
	}
	if out != nil {
		if err := json.Unmarshal(result, out); err != nil {
			k.t.Fatalf("contracttest: answer of %s, %s, does not fit %T: %v", method, result, out, err)
		}
	}
	return nil
}

// ErrPanic is a native call that panicked; as Wasm it is a trap.
var ErrPanic = errors.New("the contract panicked")

func runNative(h *host, entry string, input []byte) (out []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			out, err = nil, fmt.Errorf("%w: %v", ErrPanic, v)
		}
	}()
	return contract.Registered().Run(h, entry, input)
}

// compare runs the same call as Wasm.
func (k *Kit) compare(entry string, caller contract.Account, method string, input, want []byte, wantErr error) {
	k.t.Helper()
	w := k.wasm.fork()
	h := &host{w: w, caller: caller, k: k}
	h.seed(k.calls)
	res, err := k.program.Run(context.Background(), &engine.Call{Entry: entry, Input: input, Gas: 1 << 34, Host: engineHost{h}})
	k.gas = res.GasUsed
	if err == nil && entry != "query" {
		k.wasm = w
	}
	var ee *engine.Error
	errors.As(err, &ee)
	switch {
	case wantErr == nil && err == nil:
		if !bytes.Equal(want, res.Output) {
			k.t.Fatalf("%s: natively it answers %s, as Wasm %s", method, want, res.Output)
		}
	case wantErr == nil || err == nil:
		k.t.Fatalf("%s: natively it ends with %v, as Wasm with %v", method, wantErr, err)
	case errors.Is(wantErr, ErrPanic) != (ee != nil && ee.Kind == engine.ErrTrap):
		k.t.Fatalf("%s: natively it ends with %v, as Wasm with %v", method, wantErr, err)
	default:
		var own *contract.Error
		if errors.As(wantErr, &own) && (ee == nil || ee.Kind != engine.ErrContract || ee.Code != own.Code || ee.Detail != own.Message) {
			k.t.Fatalf("%s: natively it refuses with code %d %q, as Wasm with %v", method, own.Code, own.Message, err)
		}
	}
	if a, b := k.native.digest(), k.wasm.digest(); a != b {
		k.t.Fatalf("%s: the storage differs between the native run and Wasm:\nnative: %s\nWasm:   %s", method, k.native, k.wasm)
	}
}

// Stored returns the contract's storage, for tests of what is kept.
func (k *Kit) Stored() map[string]string {
	out := map[string]string{}
	for key, v := range k.native.kv {
		out[key] = string(v)
	}
	return out
}

// Snapshot keeps the state and returns what brings it back.
func (k *Kit) Snapshot() (restore func()) {
	n, w, h, tm := k.native, k.wasm, k.height, k.time
	return func() { k.native, k.wasm, k.height, k.time = n, w, h, tm }
}

// A world is the contract's storage.
type world struct{ kv map[string][]byte }

func newWorld() *world { return &world{map[string][]byte{}} }

func (w *world) fork() *world {
	c := newWorld()
	for k, v := range w.kv {
		c.kv[k] = v
	}
	return c
}

func (w *world) keys() []string {
	var out []string
	for k := range w.kv {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (w *world) digest() [32]byte {
	var parts [][]byte
	for _, k := range w.keys() {
		parts = append(parts, []byte(k), w.kv[k])
	}
	return transcript.Hash("contracttest/world", parts...)
}

// String lists the storage.
func (w *world) String() string {
	var b bytes.Buffer
	for _, k := range w.keys() {
		fmt.Fprintf(&b, "%q=%q ", k, w.kv[k])
	}
	return b.String()
}

// host is the contract's view in a native run.
type host struct {
	w      *world
	caller contract.Account
	k      *Kit
	random [32]byte
	n      uint64
}

// seed makes the randomness of a call: the same natively and as Wasm.
func (h *host) seed(call uint64) {
	h.random = transcript.Hash("contracttest/random", transcript.U64(call))
}

func (h *host) Get(key []byte) ([]byte, bool) { v, ok := h.w.kv[string(key)]; return v, ok }
func (h *host) Put(key, value []byte)         { h.w.kv[string(key)] = bytes.Clone(value) }
func (h *host) Delete(key []byte)             { delete(h.w.kv, string(key)) }
func (h *host) Next(prefix, from []byte) ([]byte, bool) {
	for _, k := range h.w.keys() {
		if k >= string(from) && k >= string(prefix) {
			if !bytes.HasPrefix([]byte(k), prefix) {
				return nil, false
			}
			return []byte(k), true
		}
	}
	return nil, false
}
func (h *host) Caller() []byte { return []byte(h.caller) }
func (h *host) Reader() []byte { return []byte(h.k.reader) }
func (h *host) Self() [32]byte { return sha256.Sum256([]byte("contracttest")) }
func (h *host) Height() uint64 { return h.k.height }
func (h *host) Time() uint64   { return h.k.time }
func (h *host) Log(msg []byte) { h.k.t.Logf("contract: %s", msg) }
func (h *host) Random(b []byte) {
	for len(b) > 0 {
		block := transcript.Hash("contracttest/stream", h.random[:], transcript.U64(h.n))
		h.n++
		b = b[copy(b, block[:]):]
	}
}

// engineHost is the same view for the engine.
type engineHost struct{ *host }

func (h engineHost) Put(key, value []byte) error { h.host.Put(key, value); return nil }
func (h engineHost) Delete(key []byte) error     { h.host.Delete(key); return nil }
func (h engineHost) Next(prefix, from []byte) (key, value []byte, ok bool) {
	k, ok := h.host.Next(prefix, from)
	return k, h.w.kv[string(k)], ok
}
func (h engineHost) Random() io.Reader { return reader{h.host} }

type reader struct{ h *host }

func (r reader) Read(b []byte) (int, error) { r.h.Random(b); return len(b), nil }
