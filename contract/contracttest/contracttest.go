package contracttest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// A Kit is a cluster of its own with the contract under test in it, whose methods the
// embedded Contract calls. It is for one goroutine.
type Kit struct {
	*Contract
	t       testing.TB
	native  *world
	wasm    *world // nil: the contract runs natively only
	main    *engine.Program
	others  map[contract.ID]*other
	fetcher func(*contract.HTTPRequest) (*contract.HTTPResponse, error)
	limit   uint64
	gas     uint64 // limit of a command
	height  uint64
	time    uint64
	calls   uint64
	reader  contract.Account // of the call that runs
	last    outcome
	report  report
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
	k := &Kit{t: t, native: newWorld(), height: 1, time: 1_700_000_000_000, limit: 1 << 40, gas: proto.TierGas(proto.MaxTier), others: map[contract.ID]*other{}, report: report{}}
	k.Contract = &Contract{ID: contract.ID(transcript.Hash("contracttest/contract", transcript.U64(0))), k: k}
	if slices.Contains(options, Native) {
		return k
	}
	p, err := prepared(".")
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("contracttest: no go command: the contract runs natively only")
		return k
	}
	if err != nil {
		t.Fatalf("contracttest: %v", err)
	}
	k.main, k.wasm = p, newWorld()
	t.Cleanup(func() {
		if testing.Verbose() && len(k.report) > 0 {
			t.Log("\n" + k.GasReport())
		}
	})
	return k
}

// Account returns a test account: the same name is the same account.
func (k *Kit) Account(name string) contract.Account {
	pub := key("contracttest/account/" + name).Public()
	return contract.Account(pub[:])
}

// NextBlock moves the chain on by n blocks of six seconds.
func (k *Kit) NextBlock(n uint64) { k.height, k.time = k.height+n, k.time+6000*n }

// Height is the height that the next call sees.
func (k *Kit) Height() uint64 { return k.height }

// HTTP answers the requests of queries. f is asked once for each: the Wasm run gets what
// the native one got.
func (k *Kit) HTTP(f func(*contract.HTTPRequest) (*contract.HTTPResponse, error)) { k.fetcher = f }

// DepositLimit sets how much new storage the commands from here on may bind.
func (k *Kit) DepositLimit(limit uint64) { k.limit = limit }

// GasLimit sets the gas limit of the commands from here on; at first it is the largest that
// the chain sells. A command that goes beyond ends with an error and leaves nothing, like
// on the chain. Only the Wasm run counts gas: what a contract does after a callee ran out
// of its own gas differs natively, and fails the test.
func (k *Kit) GasLimit(limit uint64) { k.gas = limit }

// Gas is what the last call used as Wasm; 0 without a Wasm run. A command's is what its
// receipt would say, with the gas of opening it.
func (k *Kit) Gas() uint64 { return k.last.gas }

// Deposit is what the last command bound of its caller's money for storage, beyond what
// others' removals had given back to the caller.
func (k *Kit) Deposit() uint64 { return k.last.deposit }

// Events are what the last command emitted.
func (k *Kit) Events() []Event { return k.last.events }

// Logs are the lines that the last call logged, also when it failed.
func (k *Kit) Logs() []string { return k.last.logs }

// Stored returns the storage of the contract under test, for tests of what is kept.
func (k *Kit) Stored() map[string]string {
	out := map[string]string{}
	for key, it := range k.native.kv[k.ID] {
		out[key] = string(it.value)
	}
	return out
}

// Snapshot keeps the state and returns what brings it back.
func (k *Kit) Snapshot() (restore func()) {
	n, w, h, tm := k.native, k.wasm, k.height, k.time
	return func() { k.native, k.wasm, k.height, k.time = n, w, h, tm }
}

// An Event is one that a command emitted.
type Event struct {
	Contract contract.ID
	Reader   contract.Account // empty: public
	Name     string           // of its type
	Data     json.RawMessage
}

// A Contract is one of the kit's contracts.
type Contract struct {
	ID contract.ID
	k  *Kit
}

// Deploy runs the constructor and fails the test when it refuses.
func (c *Contract) Deploy(caller contract.Account, arg any) {
	c.k.t.Helper()
	if err := c.TryDeploy(caller, arg); err != nil {
		c.k.t.Fatalf("Init: %v", err)
	}
}

// TryDeploy runs the constructor.
func (c *Contract) TryDeploy(caller contract.Account, arg any) error {
	c.k.t.Helper()
	return c.k.run(c.ID, "deploy", caller, "Init", arg, nil)
}

// Call runs a command, reads its answer into out unless that is nil, and fails the test
// when the contract refuses.
func (c *Contract) Call(caller contract.Account, method string, arg, out any) {
	c.k.t.Helper()
	if err := c.TryCall(caller, method, arg, out); err != nil {
		c.k.t.Fatalf("%s: %v", method, err)
	}
}

// TryCall runs a command. A refusal is a *contract.Error, and nothing was written.
func (c *Contract) TryCall(caller contract.Account, method string, arg, out any) error {
	c.k.t.Helper()
	return c.k.run(c.ID, "call", caller, method, arg, out)
}

// Query asks, reads the answer into out unless that is nil, and fails the test when the
// contract refuses.
func (c *Contract) Query(caller contract.Account, method string, arg, out any) {
	c.k.t.Helper()
	if err := c.TryQuery(caller, method, arg, out); err != nil {
		c.k.t.Fatalf("%s: %v", method, err)
	}
}

// TryQuery asks. An empty caller is an anonymous one.
func (c *Contract) TryQuery(caller contract.Account, method string, arg, out any) error {
	c.k.t.Helper()
	return c.k.run(c.ID, "query", caller, method, arg, out)
}

// ErrInput is an argument that is too large: a client would not send it.
var ErrInput = errors.New("the input is larger than any enclave takes")

// ErrPanic is a call that broke: natively a panic, as Wasm a trap.
var ErrPanic = errors.New("the contract panicked")

// An outcome is what a call came to.
type outcome struct {
	answer  []byte
	err     error // *engine.Error
	gas     uint64
	deposit uint64
	events  []Event
	logs    []string
	fetched []exchange
	strange string // what fails the test, found inside of a call
}

// TryGranted asks as reader, in the name of grantor and under a grant of it.
func (c *Contract) TryGranted(grantor, reader contract.Account, method string, arg, out any) error {
	c.k.t.Helper()
	c.k.reader = reader
	defer func() { c.k.reader = "" }()
	return c.k.run(c.ID, "query", grantor, method, arg, out)
}

func (k *Kit) run(to contract.ID, entry string, caller contract.Account, method string, arg, out any) error {
	k.t.Helper()
	// As clients write it: what reads it is part of a call's gas.
	input, err := json.Marshal(struct {
		Method string `json:"method"`
		Args   any    `json:"args,omitempty"`
	}{method, arg})
	if err != nil {
		k.t.Fatalf("contracttest: argument of %s: %v", method, err)
	}
	if len(input) > proto.MaxInput {
		return fmt.Errorf("%w: %s and its argument have %d bytes, at most %d", ErrInput, method, len(input), proto.MaxInput)
	}
	k.calls++
	native, o := k.play(k.native, false, nil, to, entry, caller, input)
	if o.strange != "" {
		k.t.Fatalf("%s: %s", method, o.strange)
	}
	if k.wasm != nil {
		wasm, p := k.play(k.wasm, true, o.fetched, to, entry, caller, input)
		if p.strange != "" {
			k.t.Fatalf("%s: %s", method, p.strange)
		}
		if errors.Is(p.err, engine.ErrOutOfGas) {
			native, o.answer, o.err, o.events, o.deposit = k.native, nil, p.err, nil, 0
		} else {
			k.compare(method, native, wasm, &o, &p)
		}
		k.wasm, o.gas = wasm, p.gas
	}
	k.native, k.last = native, o
	k.report.add(entry, method, &o)
	for _, l := range o.logs {
		k.t.Logf("contract: %s", l)
	}
	if o.err != nil {
		return publicError(o.err)
	}
	if out != nil {
		if err := json.Unmarshal(o.answer, out); err != nil {
			k.t.Fatalf("contracttest: answer of %s, %s, does not fit %T: %v", method, o.answer, out, err)
		}
	}
	return nil
}

// publicError is what a test sees: a contract's refusal is its own error.
func publicError(err error) error {
	var e *engine.Error
	switch {
	case !errors.As(err, &e):
		return err
	case e.Kind == engine.ErrContract:
		return &contract.Error{Code: e.Code, Message: e.Detail}
	case e.Kind == engine.ErrTrap:
		return fmt.Errorf("%w: %s", ErrPanic, e.Detail)
	}
	return err
}

// compare fails the test unless the native run and the Wasm run came to the same.
func (k *Kit) compare(method string, native, wasm *world, a, b *outcome) {
	k.t.Helper()
	describe := func(o *outcome) string {
		if o.err != nil {
			return o.err.Error()
		}
		return string(o.answer)
	}
	same := func(a, b error) bool {
		var x, y *engine.Error
		if !errors.As(a, &x) || !errors.As(b, &y) {
			return a == nil && b == nil
		}
		// The words of a trap differ: a Go panic prints more as Wasm.
		return x.Kind == y.Kind && (x.Kind != engine.ErrContract || x.Code == y.Code && x.Detail == y.Detail)
	}
	if !same(a.err, b.err) || string(a.answer) != string(b.answer) {
		k.t.Fatalf("%s: natively it ends with %s, as Wasm with %s", method, describe(a), describe(b))
	}
	if x, y := fmt.Sprint(a.events), fmt.Sprint(b.events); x != y {
		k.t.Fatalf("%s: the events differ between the native run and Wasm:\nnative: %s\nWasm:   %s", method, x, y)
	}
	if x, y := native.String(), wasm.String(); x != y || a.deposit != b.deposit {
		k.t.Fatalf("%s: the storage differs between the native run and Wasm:\nnative: %s, deposit %d\nWasm:   %s, deposit %d", method, x, a.deposit, y, b.deposit)
	}
}
