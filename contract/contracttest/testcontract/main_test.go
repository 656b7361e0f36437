package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/contract/contracttest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// kit is one with the contract deployed. Each call that a test makes runs natively and
// as Wasm, and the kit compares.
func kit(t testing.TB) (*contracttest.Kit, contract.Account) {
	k := contracttest.New(t)
	owner := k.Account("owner")
	k.Deploy(owner, nil)
	return k, owner
}

func TestCrypto(t *testing.T) {
	k, owner := kit(t)
	var hashes []string
	k.Query(owner, "Hashes", "abc", &hashes)
	if len(hashes) != 5 || !strings.HasPrefix(hashes[0], "ba7816bf") || !strings.HasPrefix(hashes[4], "4e03657a") {
		t.Errorf("hashes %v", hashes)
	}
	var signed []Signed
	k.Query(owner, "Sign", "message", &signed)
	seen := map[string]bool{}
	for _, s := range signed {
		seen[string(s.Public)] = true
	}
	if len(seen) != 6 {
		t.Errorf("%d keys", len(seen))
	}
	if err := k.TryQuery(owner, "SignRaw", nil, nil); !errors.Is(err, contracttest.ErrPanic) {
		t.Errorf("a raw message that is no digest: %v", err)
	}
	var a, b string
	k.Query(owner, "Secret", "a", &a)
	k.Query(owner, "Secret", "b", &b)
	if len(a) != 64 || a == b {
		t.Errorf("secrets %s, %s", a, b)
	}
	if err := k.TryQuery(owner, "Secret", strings.Repeat("x", 257), nil); !errors.Is(err, contracttest.ErrPanic) {
		t.Errorf("a long label: %v", err)
	}
}

func TestEvents(t *testing.T) {
	k, owner := kit(t)
	reader := k.Account("reader")
	var ok bool
	k.Call(owner, "Move", Moved{reader, 5}, &ok)
	ev := k.Events()
	if !ok || len(ev) != 2 || ev[0].Name != "Moved" || ev[0].Reader != "" || ev[1].Reader != reader || ev[0].Contract != k.ID {
		t.Fatalf("%t, events %+v", ok, ev)
	}
	var m Moved
	if err := json.Unmarshal(ev[1].Data, &m); err != nil || m.Amount != 5 || m.To != reader {
		t.Errorf("%+v, %v", m, err)
	}
	if logs := k.Logs(); len(logs) != 1 || logs[0] != "moved 5" {
		t.Errorf("logs %q", logs)
	}
	// Who has no key for reading, and what fails.
	k.Call(owner, "Move", Moved{contract.Account(strings.Repeat("s", 20)), 5}, &ok)
	if ok || len(k.Events()) != 1 {
		t.Errorf("%t, %d events", ok, len(k.Events()))
	}
	if err := k.TryCall(owner, "Move", Moved{reader, 13}, nil); err == nil || len(k.Events()) != 0 || len(k.Logs()) != 1 {
		t.Errorf("%v, %d events, logs %q", err, len(k.Events()), k.Logs())
	}
}

func TestCalls(t *testing.T) {
	k, owner := kit(t)
	other := k.Add("other")
	other.Deploy(owner, nil)
	travel := func(trip Trip) string {
		t.Helper()
		trip.To = other.ID
		var out string
		k.Call(owner, "Travel", trip, &out)
		return out
	}
	if got := travel(Trip{Method: "Add", Arg: 5}); got != "5" || len(k.Events()) != 1 || k.Events()[0].Contract != other.ID {
		t.Errorf("%s, events %v", got, k.Events())
	}
	if got := travel(Trip{Method: "Total", Ask: true}); got != "5 "+k.ID.Account().String() {
		t.Errorf("%s", got)
	}
	for _, c := range []struct {
		trip Trip
		want string
	}{
		{Trip{Method: "Add", Arg: 2000}, "contract_error: 2000 is too much"},
		{Trip{Method: "Add", Arg: "x"}, "contract_error: Add takes number"},
		{Trip{Method: "Nope"}, "contract_error: Other has no command"},
		{Trip{Method: "Total"}, "contract_error: Other has no command"},
		{Trip{Method: "Add", Arg: 1, Ask: true}, "contract_error: Other has no query"},
		{Trip{Method: "Burn", Gas: 10_000_000}, "out_of_gas"},
		{Trip{Method: "Back", Arg: "Store"}, "is already running"},
		{Trip{Method: "Back", Arg: "Welcome"}, "Back"},
	} {
		if got := travel(c.trip); !strings.Contains(got, c.want) {
			t.Errorf("%+v: %s, want %s", c.trip, got, c.want)
		}
	}
	var total, welcome string
	other.Query(owner, "Total", nil, &total)
	k.Query(owner, "Load", "welcome", &welcome)
	if !strings.HasPrefix(total, "6 ") || welcome != "Back" {
		t.Errorf("total %s, welcomed %q: a failed callee left something, or a call back did not see the caller's writes", total, welcome)
	}
	// A callee's code passes through, and then nothing stays.
	err := k.TryCall(owner, "Travel", Trip{To: other.ID, Method: "Add", Arg: 5000, Pass: true}, nil)
	var refused *contract.Error
	if !errors.As(err, &refused) || refused.Code != 107 || !strings.Contains(refused.Message, "on the way") {
		t.Errorf("passed through: %v", err)
	}
	err = k.TryCall(owner, "Travel", Trip{To: contract.ID{1}, Method: "Add", Pass: true}, nil)
	if !errors.As(err, &refused) || refused.Code != contract.CodeCall {
		t.Errorf("nobody there: %v", err)
	}
	var looked string
	k.Query(owner, "Look", Trip{To: other.ID, Method: "Total"}, &looked)
	if looked != total {
		t.Errorf("%s", looked)
	}
}

func TestDouble(t *testing.T) {
	k, owner := kit(t)
	d := k.Double(func(caller contract.Account, method string, args json.RawMessage) (any, error) {
		if method == "Refuse" {
			return nil, contract.Errorf(200, "no")
		}
		return fmt.Sprint(caller == k.ID.Account(), method, string(args)), nil
	})
	var out string
	k.Call(owner, "Travel", Trip{To: d.ID, Method: "Do", Arg: 7}, &out)
	if out != "trueDo7" {
		t.Errorf("%q", out)
	}
	if err := k.TryCall(owner, "Travel", Trip{To: d.ID, Method: "Refuse", Pass: true}, nil); err == nil {
		t.Error("it does not refuse")
	}
}

func TestHTTP(t *testing.T) {
	k, owner := kit(t)
	if err := k.TryQuery(owner, "Fetch", "https://example.org/", nil); err == nil || !strings.Contains(err.Error(), "does not allow HTTP") {
		t.Errorf("without a server: %v", err)
	}
	asked := 0
	k.HTTP(func(r *contract.HTTPRequest) (*contract.HTTPResponse, error) {
		asked++
		if strings.Contains(r.URL, "down") {
			return nil, errors.New("no route")
		}
		return &contract.HTTPResponse{Status: 200, Header: []contract.HTTPField{{Name: "A", Value: "b"}}, Body: []byte(fmt.Sprint(r.Method, r.Header, string(r.Body), asked))}, nil
	})
	var out string
	k.Query(owner, "Fetch", "https://example.org/", &out)
	if out != "200 [{A b}]POST[{X-Key k}]body1" || asked != 1 {
		t.Errorf("%q, asked %d times", out, asked)
	}
	for _, url := range []string{"https://down.example/", "ftp://example.org/", "https://example.org/\nHost: x", ""} {
		if err := k.TryQuery(owner, "Fetch", url, nil); err == nil {
			t.Errorf("%q is fetched", url)
		}
	}
}

func TestDeposits(t *testing.T) {
	k, owner := kit(t)
	other := k.Account("other")
	k.Call(other, "Store", Item{"a", "x"}, nil)
	if k.Deposit() != 164_000 {
		t.Errorf("an item binds %d", k.Deposit())
	}
	k.DepositLimit(100_000)
	if err := k.TryCall(owner, "Store", Item{"b", "x"}, nil); err == nil || !strings.Contains(err.Error(), "deposit") {
		t.Errorf("above the limit: %v", err)
	}
	k.Call(owner, "Store", Item{"a", "y"}, nil) // as large as before
	if k.Deposit() != 0 {
		t.Errorf("overwriting binds %d", k.Deposit())
	}
	k.Call(owner, "Remove", "a", nil)
}

// TestLimits: what ends a command on the chain ends it here, natively too.
func TestLimits(t *testing.T) {
	k, owner := kit(t)
	k.Call(owner, "Churn", 66, nil)
	if err := k.TryCall(owner, "Churn", 70, nil); !errors.Is(err, contracttest.ErrPanic) || !strings.Contains(err.Error(), "at most 16777216 bytes") {
		t.Errorf("storing 17 MB in one command: %v", err)
	}
	k.Call(owner, "Flood", Flood{Events: 64, Bytes: 10}, nil)
	for _, f := range []Flood{{Events: 65, Bytes: 10}, {Events: 10, Bytes: 8000}} {
		if err := k.TryCall(owner, "Flood", f, nil); !errors.Is(err, contracttest.ErrPanic) || !strings.Contains(err.Error(), "at most 64 events and 65536 bytes") {
			t.Errorf("%+v: %v", f, err)
		}
	}
	k.Call(owner, "Flood", Flood{Lines: 30, Bytes: 1000}, nil)
	if n := len(strings.Join(k.Logs(), "\n")); n > 16<<10 || n < 16<<10-2 {
		t.Errorf("%d bytes of log lines", n)
	}
	k.Call(owner, "Store", Item{"gas", "1"}, nil)
	k.GasLimit(k.Gas() - 1)
	if err := k.TryCall(owner, "Store", Item{"gas", "2"}, nil); !errors.Is(err, engine.ErrOutOfGas) {
		t.Errorf("with too little gas: %v", err)
	}
	if k.Stored()["Items/gas"] != `"1"` {
		t.Errorf("without the gas for it, it stored %q", k.Stored()["Items/gas"])
	}
	k.GasLimit(1 << 24)
	k.Call(owner, "Store", Item{"gas", "3"}, nil)
}

// TestSizes: inputs and answers have the limits that they have on the network.
func TestSizes(t *testing.T) {
	k, owner := kit(t)
	var n int
	around := len(`{"method":"Size","args":""}`)
	k.Query(owner, "Size", strings.Repeat("x", proto.MaxInput-around), &n)
	if n != proto.MaxInput-around {
		t.Errorf("a text of %d bytes arrives as one of %d", proto.MaxInput-around, n)
	}
	if err := k.TryQuery(owner, "Size", strings.Repeat("x", proto.MaxInput-around+1), nil); !errors.Is(err, contracttest.ErrInput) {
		t.Errorf("an input above the limit: %v", err)
	}
	if err := k.TryCall(owner, "Grow", Bush{Leaves: engine.MaxOutput + 1}, nil); !errors.Is(err, engine.ErrOutput) {
		t.Errorf("an answer above the limit: %v", err)
	}
	if _, there := k.Stored()["Items/grown"]; there {
		t.Error("an answer above the limit left something")
	}
	var leaves string
	k.Call(owner, "Grow", Bush{A: &Bush{Rest: []Bush{{}}}, Leaves: engine.MaxOutput}, &leaves)
	if len(leaves) != engine.MaxOutput-2 {
		t.Errorf("an answer of %d bytes", len(leaves))
	}
}

// TestGasOfReceipts: the gas of a command is that of a receipt: with what opening it costs,
// and with its input in the form that clients write, which is the cheap one to read.
func TestGasOfReceipts(t *testing.T) {
	k, owner := kit(t)
	k.Call(owner, "Remove", "b", nil)
	t.Log("gas", k.Gas())
	opening := engine.Known()[len(engine.Known())-1].Command.Open
	if k.Gas() < opening+25_000 || k.Gas() > opening+90_000 {
		t.Errorf("a command that removes nothing used %d gas", k.Gas())
	}
	k.GasLimit(100_000)
	if err := k.TryCall(owner, "Remove", "b", nil); !errors.Is(err, engine.ErrOutOfGas) || k.Gas() != 100_000 {
		t.Errorf("with less gas than opening takes it ended with %v, and %d gas", err, k.Gas())
	}
}

func TestSnapshotAndGas(t *testing.T) {
	k, owner := kit(t)
	k.Call(owner, "Store", Item{"a", "1"}, nil)
	restore, height := k.Snapshot(), k.Height()
	k.Call(owner, "Store", Item{"a", "2"}, nil)
	k.NextBlock(10)
	restore()
	var v string
	k.Query(owner, "Load", "a", &v)
	if v != "1" || k.Height() != height || k.Gas() == 0 {
		t.Errorf("%q at %d, gas %d", v, k.Height(), k.Gas())
	}
	if err := k.TryCall(owner, "Break", nil, nil); !errors.Is(err, contracttest.ErrPanic) {
		t.Errorf("a panic: %v", err)
	}
	if _, there := k.Stored()["Items/broken"]; there {
		t.Error("a panic left something")
	}
	r := k.GasReport()
	for _, want := range []string{"call Store", "query Load", "call Break", "deploy Init"} {
		if !strings.Contains(r, want) {
			t.Errorf("no %s in\n%s", want, r)
		}
	}
}

// failing is a test that remembers its failure instead of failing.
type failing struct {
	testing.TB
	why string
}

type failed struct{}

func (f *failing) Helper() {}
func (f *failing) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	panic(failed{})
}

// TestDifferences: whatever differs between the native run and Wasm fails a test.
func TestDifferences(t *testing.T) {
	for how, want := range map[string]string{"answer": "natively it ends with", "storage": "storage differs", "event": "events differ", "error": "natively it ends with", "code": "natively it ends with", "end": "natively it ends with", "request": "another HTTP request"} {
		f := &failing{TB: t}
		func() {
			defer func() {
				if v := recover(); v != nil && v != (failed{}) {
					panic(v)
				}
			}()
			k, owner := kit(f)
			if how == "request" {
				k.HTTP(func(*contract.HTTPRequest) (*contract.HTTPResponse, error) {
					return &contract.HTTPResponse{Status: 200}, nil
				})
				k.TryQuery(owner, "DifferQuery", nil, nil)
			} else {
				k.TryCall(owner, "Differ", how, nil)
			}
		}()
		if !strings.Contains(f.why, want) {
			t.Errorf("%s: the test fails with %q", how, f.why)
		}
	}
}

// TestNative: without Wasm nothing is compared, and no gas is known.
func TestNative(t *testing.T) {
	k := contracttest.New(t, contracttest.Native)
	k.Deploy(k.Account("owner"), nil)
	k.Call(k.Account("owner"), "Differ", "answer", nil)
	if k.Gas() != 0 {
		t.Error("gas of a native run")
	}
}

// FuzzStore: a fuzz test with a kit for each input.
func FuzzStore(f *testing.F) {
	f.Add("a", "1")
	f.Add("", "")
	f.Add("\x00\xff", "é\u2028")
	contracttest.Build(f)
	f.Fuzz(func(t *testing.T, key, value string) {
		k, owner := kit(t)
		if err := k.TryCall(owner, "Store", Item{key, value}, nil); err != nil {
			return
		}
		var in, got string
		b, _ := json.Marshal(value)
		json.Unmarshal(b, &in) // as JSON keeps it
		b, _ = json.Marshal(key)
		json.Unmarshal(b, &key)
		k.Query(owner, "Load", key, &got)
		if got != in {
			t.Errorf("stored %q, loaded %q", in, got)
		}
	})
}
