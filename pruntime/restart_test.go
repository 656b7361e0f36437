package pruntime_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/chaintest"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
	"github.com/phala-go/phala/pruntime/keys"
)

func checkpoints(t *testing.T, n *node) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(n.cfg.DataDir, "checkpoint-*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// TestRestart stops and starts both enclaves, cleanly and not, with what the host may do
// to the files in between. Each time the network goes on with its state.
func TestRestart(t *testing.T) {
	damage := func(edit func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, name string) {
			b, err := os.ReadFile(name)
			if err == nil {
				err = os.WriteFile(name, edit(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := func(f func(*testing.T, string)) func(*testing.T, []string) {
		return func(t *testing.T, names []string) { f(t, names[len(names)-1]) }
	}
	cut := damage(func(b []byte) []byte { return b[:len(b)/2] })
	for _, c := range []struct {
		name  string
		stop  func(*node)
		files func(t *testing.T, names []string)
		lost  bool // nothing is left to continue from
	}{
		{"clean", (*node).stop, nil, false},
		{"killed", (*node).kill, nil, false},
		{"newest checkpoint cut", (*node).stop, newest(cut), false},
		{"newest checkpoint edited", (*node).kill, newest(damage(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })), false},
		{"newest checkpoint empty", (*node).kill, newest(damage(func([]byte) []byte { return nil })), false},
		{"newest checkpoint gone", (*node).kill, newest(func(t *testing.T, name string) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}), false},
		{"an older checkpoint under the newest name", (*node).kill, func(t *testing.T, names []string) {
			b, err := os.ReadFile(names[0])
			if err == nil {
				err = os.WriteFile(names[len(names)-1], b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, false},
		{"every checkpoint cut", (*node).kill, func(t *testing.T, names []string) {
			for _, n := range names {
				cut(t, n)
			}
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, g, ws := network(t, 1)
			id, n := w.deploy(), ws[0]
			w.call(id, "pkbefore")
			for range 15 {
				w.step()
			}
			s := w.push(id, "n") // on its way when the lights go out
			self, trusted := n.rt.Self(), n.rt.Status().TrustedHeight
			for _, x := range []*node{n, g} {
				c.stop(x)
				names := checkpoints(t, x)
				if len(names) != 3 {
					t.Fatalf("%d checkpoints", len(names))
				}
				if c.files != nil {
					c.files(t, names)
				}
				x.start()
			}
			st := n.rt.Status()
			if n.rt.Self() != self || st.Serving || st.Outbox.Base != 0 || (st.TrustedHeight == 0) != c.lost || st.TrustedHeight > trusted {
				t.Errorf("after the start: %+v", st)
			}
			if _, err := n.query(id, "gk"); err == nil {
				t.Error("it answers before it heard from the chain")
			}
			if out := w.answer(s); out.Status != proto.StatusOK || out.Return[0] != 1 {
				t.Errorf("the command on its way: %s %x", out.Status, out.Return)
			}
			w.until("it serves", n.serving)
			if a, err := n.query(id, "gk"); err != nil || string(a.Return) != "before" {
				t.Errorf("the state from before: %v, %v", a, err)
			}
			if out := w.call(id, "n"); out.Return[0] != 2 {
				t.Errorf("it ran %x times", out.Return)
			}
			for range 10 {
				w.step()
			}
			if names := checkpoints(t, n); len(names) > 4 {
				t.Errorf("%d checkpoints", len(names))
			}
			// What is written after the damage is the next start's state.
			height := n.rt.Status().Height
			n.stop()
			n.start()
			if got := n.rt.Status().Height; got != height {
				t.Errorf("stopped cleanly at height %d, it starts at %d", height, got)
			}
		})
	}
}

// TestKills kills the worker at seeded moments while commands come in: none is lost, none
// runs twice, and everything becomes final. What the dead enclave had said may arrive
// while the new one speaks.
func TestKills(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("PHALA_LONG") != "" {
		seeds = 60
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 4))
		w, g, ws := network(t, 1)
		id, n := w.deploy(), ws[0]
		n.lag, g.lag = int(seed)%4, int(seed)%3 // what is on its way survives the kill
		var all []*sent
		for range 12 {
			for range rng.IntN(4) {
				all = append(all, w.push(id, "n"))
			}
			for range rng.IntN(9) {
				w.step()
			}
			switch rng.IntN(4) {
			case 0:
				n.kill()
				n.start()
			case 1:
				n.stop()
				n.start()
			case 2:
				g.kill()
				g.start()
			}
		}
		for i, s := range all {
			if out := w.answer(s); out.Status != proto.StatusOK || int(out.Return[0]) != i+1 {
				t.Fatalf("seed %d: command %d ends with %s %x", seed, i, out.Status, out.Return)
			}
		}
	}
}

// TestAnnouncedCode: a code that was announced is prepared and voted for also when the
// enclave stops before it has it.
func TestAnnouncedCode(t *testing.T) {
	for name, stop := range map[string]func(*node){"clean": (*node).stop, "killed": (*node).kill} {
		t.Run(name, func(t *testing.T) {
			w, _, ws := network(t, 1)
			n := ws[0]
			code := w.code
			w.code = proto.Hash{} // the relayer does not deliver
			id := w.announce(w.module)
			for range 12 {
				w.step()
			}
			if want := n.rt.Status().WantCodes; len(want) != 1 || want[0] != code {
				t.Fatalf("it wants %v", want)
			}
			stop(n)
			n.start()
			w.code = code
			w.until("the contract answers", func() bool {
				a, err := n.query(id, "gi")
				return err == nil && string(a.Return) == "1"
			})
		})
	}
}

// TestBadCode: a code that cannot run is refused with a reason, once, and nothing stops;
// bytes that are not the code are not taken for it.
func TestBadCode(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	for _, module := range [][]byte{[]byte("not Wasm"), enginetest.Script("x")[:500]} {
		bad := w.announce(module)
		w.until("the code is wanted", func() bool { return len(n.rt.Status().WantCodes) == 1 })
		hash := n.rt.Status().WantCodes[0]
		if err := n.rt.PutCode(hash, []byte("something else")); !errors.Is(err, pruntime.ErrCode) {
			t.Errorf("something else is taken: %v", err)
		}
		if err := n.rt.PutCode(proto.Hash{1}, []byte("not asked for")); err != nil {
			t.Errorf("not asked for: %v", err)
		}
		if err := n.rt.PutCode(hash, module); err != nil {
			t.Error(err)
		}
		w.until("it is refused", func() bool {
			return slices.ContainsFunc(w.chain.Taken(), func(x chaintest.Taken) bool {
				e, ok := x.Entry.(proto.CodeRefused)
				return ok && e.Code == hash && e.Reason != ""
			})
		})
		for range 5 {
			w.step()
		}
		if len(n.rt.Status().WantCodes) != 0 {
			t.Error("a refused code is wanted again")
		}
		if a, err := n.query(bad, "e"); err != nil || a.Status != proto.StatusNoContract {
			t.Errorf("a contract of it: %v %v", a, err)
		}
	}
	refused := 0
	for _, x := range w.chain.Taken() {
		if _, ok := x.Entry.(proto.CodeRefused); ok {
			refused++
		}
	}
	if out := w.call(id, "n"); out.Status != proto.StatusOK || refused != 2 {
		t.Errorf("the other contract: %s; %d refusals of two codes", out.Status, refused)
	}
}

// TestCodesOnDisk: a restarted enclave has its codes; one that was edited on disk is
// asked for again.
func TestCodesOnDisk(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	n.stop()
	path := filepath.Join(n.cfg.DataDir, "code", w.code.String()+".wasm")
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(b, w.module) {
		t.Fatal("the code is not on disk", err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	asked := false
	w.until("it serves again", func() bool {
		asked = asked || len(n.rt.Status().WantCodes) > 0
		a, err := n.query(id, "gi")
		asked = asked || len(n.rt.Status().WantCodes) > 0
		return err == nil && string(a.Return) == "1"
	})
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, w.module) {
		t.Error("the edited code is still on disk", err)
	}
}

// TestForeignFiles: what was sealed by another enclave, on another network or for another
// operator is refused with a reason.
func TestForeignFiles(t *testing.T) {
	w := newWorld(t)
	n := w.add("worker", proto.RoleWorker).start()
	n.stop()
	files := snapshot(t, n.cfg.DataDir)
	for _, c := range []struct {
		name string
		edit func(*node)
		want error
	}{
		{"another-machine", func(m *node) {}, keys.ErrSealed},
		{"another-build", func(m *node) { m.tee.machine, m.tee.measurement = n.tee.machine, []byte("other") }, keys.ErrSealed},
		{"another-chain", func(m *node) { m.tee, m.cfg.Chain = n.tee, "other-1" }, keys.ErrSealed},
		{"another-root", func(m *node) { m.tee, m.cfg.Root.Hash = n.tee, proto.Hash{1} }, keys.ErrSealed},
		{"another-role", func(m *node) { m.tee, m.cfg.Role = n.tee, proto.RoleGatekeeper }, keys.ErrSealed},
		{"another-operator", func(m *node) { m.tee, m.cfg.Operator = n.tee, []byte("mallory") }, pruntime.ErrIdentity},
	} {
		m := w.add(c.name, proto.RoleWorker, c.edit)
		files.into(t, m.cfg.DataDir)
		rt, err := pruntime.Open(context.Background(), m.cfg, m.tee)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if rt != nil {
			t.Errorf("%s: a runtime with an error", c.name)
		}
	}
	// The secrets are not in the files.
	n.start()
	for name, b := range files.files {
		if bytes.Contains(b, []byte("operator")) {
			t.Errorf("%s is readable", name)
		}
	}
}

// TestOlderCheckpoint: an older state that the host brings back answers nothing until it
// has caught up.
func TestOlderCheckpoint(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	w.call(id, "pkold")
	n.stop()
	old := snapshot(t, n.cfg.DataDir)
	n.start()
	w.until("it serves", n.serving)
	w.call(id, "pknew")
	n.stop()
	old.restore(t)
	n.start()
	n.off = true
	for range 5 {
		w.step()
	}
	if a, err := n.query(id, "gk"); err == nil {
		t.Fatalf("the older state answers %q", a.Return)
	}
	// It learns the chain step by step; at no moment does it give the old value.
	n.off = false
	w.until("it serves", func() bool {
		if a, err := n.query(id, "gk"); err == nil && string(a.Return) != "new" {
			t.Fatalf("it answers %q of height %d at %d", a.Return, a.Height, w.chain.Height())
		}
		return n.serving()
	})
	if a, err := n.query(id, "gk"); err != nil || string(a.Return) != "new" {
		t.Errorf("%v %v", a, err)
	}
}

// TestCheckpointsKept: a good checkpoint is never thrown away for files that do not open.
func TestCheckpointsKept(t *testing.T) {
	w, _, ws := network(t, 1)
	n := ws[0]
	n.stop()
	for _, name := range checkpoints(t, n) {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(n.cfg.DataDir, fmt.Sprintf("checkpoint-%020d", 1_000_000+i)), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	w.until("it serves", n.serving)
	height := n.rt.Status().Height
	n.stop()
	n.start()
	if got := n.rt.Status().Height; got != height {
		t.Errorf("stopped at height %d, it starts at %d; files %s", height, got, strings.Join(checkpoints(t, n), " "))
	}
}

// TestFullDisk: what cannot be sealed is said once in an interval, not in every round; the
// worker goes on; and nothing of what was begun stays, neither of the tries nor of a process
// that was killed in one.
func TestFullDisk(t *testing.T) {
	w, _, ws := network(t, 1)
	n := ws[0]
	n.stop()
	cut := filepath.Join(n.cfg.DataDir, "checkpoint-00000000000000000001.tmp")
	if err := os.WriteFile(cut, []byte("cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	if _, err := os.Stat(cut); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed process left is still there: %v", err)
	}
	w.until("it serves", n.serving)
	// A folder in the place of each file to come is refused as a full disk is.
	var taken []string
	for i := range 40 {
		dir := filepath.Join(n.cfg.DataDir, fmt.Sprintf("checkpoint-%020d", w.chain.Height()+int64(i)))
		if err := os.MkdirAll(filepath.Join(dir, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
		taken = append(taken, dir)
	}
	refused, from := 0, n.rt.Status().Height
	for range 30 {
		w.step()
		if n.lastErr != nil {
			refused++
		}
	}
	if got := n.rt.Status().Height; got < from+25 || !n.serving() {
		t.Errorf("from height %d it came to %d, serving: %t", from, got, n.serving())
	}
	if refused < 1 || refused > 10 {
		t.Errorf("%d of 30 rounds were refused", refused)
	}
	for _, dir := range taken {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	w.until("it is sealed again", func() bool {
		names := checkpoints(t, n)
		return len(names) > 0 && filepath.Base(names[len(names)-1]) > filepath.Base(taken[0])
	})
	for _, name := range checkpoints(t, n) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s was left behind", name)
		}
	}
}

// TestClosedWhileBusy: a stop while codes are being prepared and queries run is clean.
func TestClosedWhileBusy(t *testing.T) {
	asked, answer := make(chan bool, 16), make(chan bool)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- true; <-answer }))
	defer s.Close()
	defer close(answer)
	w, _, ws := network(t, 1, func(n *node) { n.cfg.HTTP = pruntime.HTTPPrivate })
	id, n := w.deploy(), ws[0]
	if err := n.rt.Prepare(enginetest.Script("another")); err != nil {
		t.Fatal(err)
	}
	rt, twin := n.rt, *n
	for range 8 {
		go twin.query(id, "s\x00\x00\x10\x00")
	}
	n.stop()
	for name, err := range map[string]error{
		"query":   func() error { _, err := rt.Query(context.Background(), []byte("x")); return err }(),
		"advance": rt.Advance(w.chain.Advance(rt.Status()).Marshal()),
		"code":    rt.PutCode(w.code, w.module),
	} {
		if err == nil && name != "code" {
			t.Errorf("a stopped runtime takes a %s", name)
		}
	}
	if err := rt.Close(context.Background()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	// A query that outlasts the patience of whoever stops the enclave keeps what it uses.
	n.start()
	w.until("the contract answers", func() bool { a, err := n.query(id, "gi"); return err == nil && string(a.Return) == "1" })
	rt, twin = n.rt, *n
	ended := make(chan error, 1)
	go func() { _, err := twin.query(id, "HGET "+s.URL+"/\n\n"); ended <- err }()
	select {
	case <-asked:
	case err := <-ended:
		t.Fatal("the query ended: ", err)
	}
	n.rt = nil
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := rt.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closed under a running query: %v", err)
	}
}
