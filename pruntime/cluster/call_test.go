package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// several is a world with n contracts of the script by alice.
func several(t testing.TB, n int) (*world, []proto.ContractID) {
	w := newWorld(t, home)
	var ids []proto.ContractID
	for range n {
		w.instantiate(nil)
		ids = append(ids, w.target)
	}
	for _, out := range w.run() {
		wantStatus(t, "constructor", out, proto.StatusOK)
	}
	w.target = ids[0]
	return w, ids
}

// told reads what the script says of a call: its status, and what was staged.
func told(t testing.TB, answer []byte) (uint32, string) {
	t.Helper()
	if len(answer) < 8 {
		t.Fatalf("%q is not what is said of a call", answer)
	}
	v := binary.LittleEndian.Uint64(answer)
	return uint32(v >> 32), string(answer[8:])
}

func (w *world) storedIn(id proto.ContractID, key string) string {
	w.t.Helper()
	status, out := w.query(id, "g"+key)
	if status != proto.StatusOK {
		w.t.Fatalf("query: %s", status)
	}
	return out
}

// TestCalls: what a callee does and how it ends, seen by its caller, which carries on
// each time and keeps what it wrote itself.
func TestCalls(t *testing.T) {
	for _, c := range []struct {
		name, op, input string
		status          uint32
		staged          string
		kept            bool // what the callee wrote under "z"
	}{
		{"answer", "k", "ehello", 0, "hello", false},
		{"write", "k", "pzvalue", 0, "", true},
		{"the caller is the contract", "k", "c", 0, "ID0", false},
		{"refusal", "k", "f", 1, "\x07\x00\x00\x00no!", false},
		{"trap", "k", "t", 2, "", false},
		{"endless", "k", "l", 3, "", false},
		{"recursion", "k", "d", 16, "", false},
		{"answer too large", "k", "b\x01\x00\x04\x00", 22, "", false},
		{"query", "q", "ehello", 0, "hello", false},
		{"a query's writes", "q", "pzvalue", 0, "", false},
		{"a query that writes and traps", "q", "t", 2, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, ids := several(t, 2)
			out := w.one(w.command(c.op + string(ids[1][:]) + c.input))
			wantStatus(t, "the caller", out, proto.StatusOK)
			status, staged := told(t, out.Return)
			want := strings.ReplaceAll(c.staged, "ID0", string(ids[0][:]))
			if status != c.status || (c.staged != "" && staged != want) || (status != 0 && len(staged) < 4) {
				t.Errorf("status %d, %q", status, staged)
			}
			if got := w.storedIn(ids[1], "z"); (got == "value") != c.kept {
				t.Errorf("the callee has stored %q", got)
			}
			if got := w.storedIn(ids[1], "no!"); got != "" {
				t.Error("the callee's failed call has left something")
			}
			if got := w.storedIn(ids[0], "no!"); (got == "no!") != (c.op == "k") {
				t.Errorf("the caller has stored %q", got)
			}
			if out.GasUsed > 10<<20 {
				t.Errorf("it used %d gas of %d", out.GasUsed, 10<<20)
			}
			if twin := w.replica(rand.Reader); twin.Snapshot().Root() != w.c.Snapshot().Root() {
				t.Error("another replica has another root")
			}
		})
	}
}

// TestCallerFails: when the caller fails after all, nothing of its callees stays.
func TestCallerFails(t *testing.T) {
	w, ids := several(t, 2)
	before := w.c.Snapshot().m.Len()
	out := w.one(w.command("K" + string(ids[1][:]) + "pzvalue"))
	wantStatus(t, "the caller", out, proto.StatusTrap)
	if w.storedIn(ids[1], "z") != "" || w.storedIn(ids[0], "no!") != "" || w.c.Snapshot().m.Len() != before+2 { // the nonce
		t.Error("a failed command has left something")
	}
}

// TestCallNobody: a contract that is not there, also one of another cluster.
func TestCallNobody(t *testing.T) {
	w, _ := several(t, 1)
	out := w.one(w.command("k" + strings.Repeat("\xee", 32) + "e"))
	if status, staged := told(t, out.Return); status != 8 || !strings.Contains(staged, "no contract") {
		t.Errorf("%d %q", status, staged)
	}
}

// chain is a call of each contract by the one before it, and at last input.
func chainOf(op string, ids []proto.ContractID, input string) string {
	s := ""
	for _, id := range ids {
		s += op + string(id[:])
	}
	return s + input
}

// TestCallDepth: eight contracts may run at once, one calling the other.
func TestCallDepth(t *testing.T) {
	w, ids := several(t, maxDepth+1)
	for _, op := range []string{"k", "q"} {
		for _, n := range []int{1, maxDepth - 1, maxDepth} {
			out := w.one(w.command(chainOf(op, ids[1:1+n], "ehello")))
			wantStatus(t, "the outermost", out, proto.StatusOK)
			answer := out.Return
			var last uint32
			for range n {
				status, staged := told(t, answer)
				last, answer = status, []byte(staged)
			}
			if want := uint32(0); n < maxDepth && (last != want || string(answer) != "hello") {
				t.Errorf("%s through %d: %d %q", op, n, last, answer)
			}
			if n == maxDepth && last != engine.ErrDepth.Status() {
				t.Errorf("%s through %d: %d %q", op, n, last, answer)
			}
		}
	}
}

// TestReentry: a contract is not called while it runs, by whatever way round, unless it
// accepts; and what it then writes is seen by the call further out.
func TestReentry(t *testing.T) {
	w, ids := several(t, 3)
	a, b, c := ids[0], ids[1], ids[2]
	for _, x := range []struct {
		name   string
		way    []proto.ContractID
		input  string
		status uint32
	}{
		{"itself", []proto.ContractID{a}, "pzv", 23},
		{"over another", []proto.ContractID{b, a}, "pzv", 23},
		{"over two others", []proto.ContractID{b, c, a}, "pzv", 23},
		{"another one again", []proto.ContractID{b, c, b}, "pzv", 23},
		{"only reading", []proto.ContractID{b, a}, "gz", 23},
		{"doing nothing", []proto.ContractID{b, a}, "?", 23},
		{"a refusal of its own", []proto.ContractID{b, a}, "F", 1},
		{"accepted", []proto.ContractID{b, a}, "azv", 0},
	} {
		out := w.one(w.command(chainOf("k", x.way, x.input)))
		wantStatus(t, x.name, out, proto.StatusOK)
		answer := out.Return
		var status uint32
		for range x.way {
			var staged string
			status, staged = told(t, answer)
			answer = []byte(staged)
		}
		if status != x.status {
			t.Errorf("%s: %d %q", x.name, status, answer)
		}
		if got := w.storedIn(a, "z"); (got == "v") != (x.status == 0) {
			t.Errorf("%s: stored %q", x.name, got)
		}
	}
	// As a query, in a query, too.
	status, out := w.query(a, chainOf("q", []proto.ContractID{b, a}, "gz"))
	if status != proto.StatusOK {
		t.Fatal(status)
	}
	_, inner := told(t, []byte(out))
	if s, _ := told(t, []byte(inner)); s != 23 {
		t.Errorf("a query over another contract: %d", s)
	}
}

// TestQueriesCall: a query calls queries and nothing else, and nothing is written.
func TestQueriesCall(t *testing.T) {
	w, ids := several(t, 2)
	before := w.c.Snapshot().Root()
	status, out := w.query(ids[0], "q"+string(ids[1][:])+"c")
	if status != proto.StatusOK {
		t.Fatal(status)
	}
	if s, caller := told(t, []byte(out)); s != 0 || caller != string(ids[0][:]) {
		t.Errorf("%d %x", s, caller)
	}
	if status, _ := w.query(ids[0], "k"+string(ids[1][:])+"c"); status != proto.StatusTrap {
		t.Errorf("a command from a query: %s", status)
	}
	if w.c.Snapshot().Root() != before {
		t.Error("a query has written")
	}
}

// TestSecrets: a contract's keys are its own, the same for each call and replica.
func TestSecrets(t *testing.T) {
	w, ids := several(t, 2)
	_, a := w.query(ids[0], "ilabel")
	_, b := w.query(ids[1], "ilabel")
	_, other := w.query(ids[0], "ilabem")
	out := w.one(w.command("ilabel"))
	if len(a) != 32 || a == b || a == other || string(out.Return) != a {
		t.Errorf("secrets %x, %x, %x, in a command %x", a, b, other, out.Return)
	}
	h := func(id proto.ContractID) *host {
		return &host{x: &exec{c: w.c}, call: &call{to: id}}
	}
	seen := map[[32]byte]string{}
	for _, id := range ids {
		for _, purpose := range []string{"secret", "sr25519", "raw/sr25519", "ed25519", "secp256k1"} {
			for _, label := range []string{"", "a", "ab"} {
				s := h(id).Secret(purpose, []byte(label))
				if o, twice := seen[s]; twice {
					t.Errorf("%s/%s of %s is that of %s", purpose, label, id, o)
				}
				seen[s] = purpose + label
			}
		}
	}
	for what, key := range map[string][32]byte{"state-root": w.c.rootKey(), "stable": w.c.keys.Stable} {
		if _, is := seen[key]; is {
			t.Errorf("a contract has the %s key", what)
		}
	}
}

// TestHTTPInQueriesOnly: with a fetcher, without one, too often, and never in a command
// or in what a command asks.
func TestHTTPInQueriesOnly(t *testing.T) {
	w, ids := several(t, 2)
	if _, out := w.query(w.target, "Hx"); !strings.Contains(out, "does not allow HTTP") {
		t.Errorf("without a fetcher: %q", out)
	}
	asked := 0
	var asker proto.ContractID
	w.c.AllowHTTP(func(_ context.Context, contract [32]byte, r []byte) ([]byte, error) {
		asked++
		asker = contract
		if string(r) == "bad" {
			return nil, errors.New("no route")
		}
		return append([]byte("got "), r...), nil
	})
	for input, want := range map[string]string{"Hx": "\x05\x00\x00\x00\x00\x00\x00\x00got x", "Hbad": "\x0c\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00no route"} {
		if status, out := w.query(w.target, input); status != proto.StatusOK || out != want {
			t.Errorf("%s: %s %q", input, status, out)
		}
	}
	if _, out := w.query(w.target, "q"+string(ids[1][:])+"Hx"); !strings.Contains(out, "got x") {
		t.Errorf("a query that a query asks: %q", out)
	}
	if asker != ids[1] {
		t.Errorf("the request counts for %s, %s made it", asker, ids[1])
	}
	asked = 0
	wantStatus(t, "in a command", w.one(w.command("Hx")), proto.StatusTrap)
	out := w.one(w.command("q" + string(ids[1][:]) + "Hx"))
	if status, _ := told(t, out.Return); status != 2 {
		t.Errorf("in a query of a command: %d", status)
	}
	if asked != 0 {
		t.Error("a command has made a request")
	}
	x := &exec{c: w.c, query: true}
	h := &host{x: x, call: &call{}}
	for range maxFetches {
		if _, err := h.Fetch(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Fetch(context.Background(), nil); err == nil || !strings.Contains(err.Error(), "8 HTTP requests") {
		t.Errorf("one too many: %v", err)
	}
}

// TestImage: a replica that prepared another image runs nothing of the code, and says so.
func TestImage(t *testing.T) {
	w := newWorld(t, home)
	c := w.instantiate(func(c *command) { c.inst.Image[0] ^= 1 })
	_, err := w.c.Apply(context.Background(), w.items)
	if !errors.Is(err, ErrImage) || !strings.Contains(err.Error(), c.inst.Image.String()) {
		t.Fatalf("got %v", err)
	}
	if w.c.Snapshot().Cursor().Seq != 0 {
		t.Error("the message counts as processed")
	}
}

// TestCalleeNotPrepared: a command waits for the code of what it calls; a query is told.
func TestCalleeNotPrepared(t *testing.T) {
	w, ids := several(t, 2)
	// Another code for the second contract.
	m := w.c.Snapshot().m
	rec := &contractRecord{proto.Hash{9}, proto.Hash{9}, w.alice.id}
	m = m.Set(keyContract(ids[1]), rec.Marshal())
	w.c.state.Store(&Snapshot{m, m.Root()})
	status, _, _, detail, err := w.c.Query(context.Background(), w.c.Snapshot(), &proto.Query{To: ids[0], Input: []byte("q" + string(ids[1][:]) + "e")}, 1, 0)
	if status != proto.StatusCodeFailed || err != nil {
		t.Errorf("query: %s %q %v", status, detail, err)
	}
	w.push(w.command("k" + string(ids[1][:]) + "e"))
	root := w.c.Snapshot().Root()
	if _, err := w.c.Apply(context.Background(), w.items); !errors.Is(err, ErrNeedCode) {
		t.Errorf("command: %v", err)
	}
	if w.c.Snapshot().Root() != root {
		t.Error("the state has changed")
	}
}

// TestAtomicity runs random commands, calls and failures against a model that knows only
// which of them succeeded: what a failed one wrote is nowhere.
func TestAtomicity(t *testing.T) {
	const seed = 7
	rng := seeded(seed)
	w, ids := several(t, 3)
	model := map[string]string{}
	n := 0
	// plan is an input for a contract, and what it will have written, nil if it fails.
	var plan func(at int, depth int) (string, map[string]string, bool)
	plan = func(at, depth int) (string, map[string]string, bool) {
		n++
		switch k := rng.IntN(8); {
		case k < 3 || depth == 0:
			key, v := string('A'+rune(rng.IntN(4))), fmt.Sprint("v", n)
			return "p" + key + v, map[string]string{fmt.Sprint(at, key): v}, true
		case k == 3:
			return "t", nil, false
		case k == 4:
			return "f", nil, false
		case k == 5:
			to := (at + 1) % len(ids) // never back: depth is less than the number of contracts
			in, _, _ := plan(to, depth-1)
			return "K" + string(ids[to][:]) + in, nil, false
		default:
			to := (at + 1) % len(ids)
			in, wrote, ok := plan(to, depth-1)
			all := map[string]string{fmt.Sprint(at, "no!"): "no!"}
			if ok {
				for k, v := range wrote {
					all[k] = v
				}
			}
			return "k" + string(ids[to][:]) + in, all, true
		}
	}
	for range 300 {
		in, wrote, ok := plan(0, 2)
		out := w.one(w.command(in))
		if (out.Status == proto.StatusOK) != ok {
			t.Fatalf("seed %d: %q ends with %s", seed, in, out.Status)
		}
		if ok {
			for k, v := range wrote {
				model[k] = v
			}
		}
	}
	got := map[string]string{}
	for i, id := range ids {
		for at := storagePrefix(id); ; {
			k, v, ok := w.c.Snapshot().m.Next(at)
			if !ok || !bytes.HasPrefix(k, storagePrefix(id)) {
				break
			}
			_, _, value := splitItem(v)
			if key := string(k[len(storagePrefix(id)):]); key != "i" { // the constructor's
				got[fmt.Sprint(i, key)] = string(value)
			}
			at = append(bytes.Clone(k), 0)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(model) {
		t.Errorf("seed %d:\nstored %v\nwant   %v", seed, got, model)
	}
}

// TestRandomPerCall: each call of a command draws from a stream of its own.
func TestRandomPerCall(t *testing.T) {
	draw := func(h *host, n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(h.Random(), b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	command := func(inner int) (outer, callee []byte) {
		x := &exec{random: func(call uint64) io.Reader { return newStream(subkey([32]byte{1}, "test", transcript.U64(call))) }}
		caller, called := x.host(&call{}), x.host(&call{})
		first := draw(caller, 8)
		callee = draw(called, inner)
		return append(first, draw(caller, 8)...), callee
	}
	a, x := command(16)
	b, y := command(500)
	if !bytes.Equal(a, b) || !bytes.Equal(x, y[:16]) {
		t.Error("what one call draws changes what another gets")
	}
	if bytes.Equal(a, x) || bytes.Equal(a[:8], a[8:]) {
		t.Error("bytes come twice")
	}
}

// TestRandomFrom: what a command draws follows from the stable key, its place in the topic,
// the history up to there and the number of the call, and from nothing less.
func TestRandomFrom(t *testing.T) {
	w, ids := several(t, 2)
	drawn := w.one(w.command("r")).Return
	_, called := told(t, w.one(w.command("k"+string(ids[1][:])+"r")).Return)
	blocks := w.history[len(w.history)-2:]
	for call, got := range []string{string(drawn), called} {
		it := blocks[call][0]
		want := make([]byte, 32)
		stream := newStream(subkey(w.c.keys.Stable, "random/v1", []byte(it.Message.Topic), transcript.U64(it.Message.Seq), it.Cursor.Head[:], transcript.U64(uint64(call))))
		if _, err := io.ReadFull(stream, want); err != nil || got != string(want) {
			t.Errorf("call %d of message %d drew %x, want %x", call, it.Message.Seq, got, want)
		}
	}
}
