package pruntime_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// newer is an enclave of a build that knows version 2 of the rules.
func newer(n *node) { n.cfg.Rules = enginetest.Rules() }

// older is one that knows version 1 only.
func older(n *node) { n.cfg.Rules = enginetest.Rules()[:1] }

func (w *world) record() proto.Cluster { return w.chain.Cluster(w.cluster) }

// under waits until the chain and these workers run the cluster under a version.
func (w *world) under(version uint32, ws ...*node) {
	w.t.Helper()
	w.until("the rules are in force", func() bool {
		return w.record().Rules == version && !slices.ContainsFunc(ws, func(n *node) bool { return n.rt.Status().Rules != version })
	})
}

// messages are those of the cluster's topic.
func (w *world) messages() (out []proto.Event) {
	w.t.Helper()
	for _, m := range w.chain.C.Messages(proto.TopicCluster(w.cluster), 0, w.chain.Height()) {
		e, err := proto.ParseEvent(m.Payload)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// agreed fails the test if two seats ever said different things of the same messages, or
// seats differ now.
func (w *world) agreed(ws ...*node) {
	w.t.Helper()
	for from := uint64(1); from <= w.record().FinalSeq; {
		rec, ok := w.chain.Receipt(w.cluster, from)
		if !ok || !rec.Final || len(rec.Receipts) != 1 {
			w.t.Fatalf("messages from %d: %d different receipts, final: %t", from, len(rec.Receipts), rec.Final)
		}
		from = rec.Receipts[0].ToSeq + 1
	}
	w.until("all seats have the same state", func() bool {
		for _, n := range ws {
			if a, b := n.rt.Status(), ws[0].rt.Status(); *a.StateRoot != *b.StateRoot || a.Rules != b.Rules {
				return false
			}
		}
		return true
	})
}

// TestRulesChange: a cluster under load changes its rules. What came before the message is
// run under the old ones, what came after it under the new ones, and the seats agree on
// all of it.
func TestRulesChange(t *testing.T) {
	w, g, ws := network(t, 3, newer)
	id := w.deploy()
	w.call(id, "n")
	before := w.call(id, "n").GasUsed
	w.chain.WantRules(2)
	var all []*sent
	w.until("the rules are in force", func() bool {
		all = append(all, w.push(id, "n"))
		return w.record().Rules == 2
	})
	all = append(all, w.push(id, "n"))
	activated := uint64(slices.IndexFunc(w.messages(), func(e proto.Event) bool { _, ok := e.(proto.RulesActivated); return ok }) + 1)
	was, is, after := 0, 0, uint64(0)
	for _, s := range all {
		out := w.answer(s)
		if out.Status != proto.StatusOK {
			t.Fatal(out.Status, out.Error)
		}
		switch {
		case s.seq < activated && out.GasUsed == before:
			was++
		case s.seq > activated && out.GasUsed > before+50_000:
			is++
			after = out.GasUsed
		default:
			t.Errorf("message %d used %d gas, the rules changed at message %d, before it was %d", s.seq, out.GasUsed, activated, before)
		}
	}
	if was < 2 || is < 1 {
		t.Errorf("%d commands under the old rules, %d under the new ones", was, is)
	}
	w.under(2, ws...)
	w.agreed(ws...)
	if out := w.call(id, "n"); out.GasUsed != after {
		t.Errorf("%d gas, then %d", after, out.GasUsed)
	}
	for _, n := range ws {
		n.has(id, "gi", "1")
	}
	if g.lastErr != nil {
		t.Errorf("gatekeeper: %v", g.lastErr)
	}
	// Whoever deploys the same code again waits for words under the new rules.
	if again := w.deploy(); again == id {
		t.Fatal("the same contract")
	}
	w.agreed(ws...)
}

// TestNewCluster: a cluster that is made when governance wants a version begins under it.
func TestNewCluster(t *testing.T) {
	w, _, ws := network(t, 2, newer, func(n *node) { n.w.chain.WantRules(2) })
	if c := w.record(); c.Rules != 2 || c.Wanted != 0 {
		t.Fatalf("%+v", c)
	}
	id := w.deploy()
	if out := w.call(id, "n"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.under(2, ws...)
	w.agreed(ws...)
	if _, ok := w.messages()[0].(proto.RulesActivated); !ok {
		t.Errorf("the first message is %+v", w.messages()[0])
	}
}

// TestRulesWaitForAll: as long as one seat's build does not know the version, the cluster
// goes on under the old rules, and the chain says who is missing; a newer release on that
// machine is what helps.
func TestRulesWaitForAll(t *testing.T) {
	w, _, ws := network(t, 2, newer, func(n *node) {
		if n.name == "worker-1" {
			older(n)
		}
	})
	id, late := w.deploy(), ws[1]
	for _, n := range ws {
		if info, ok := w.chain.Worker(n.rt.Self()); !ok || info.Rules != uint32(len(n.cfg.Rules)) {
			t.Errorf("%s is registered as knowing version %d", n.name, info.Rules)
		}
	}
	w.chain.WantRules(2)
	w.until("one seat is ready", func() bool { c := w.record(); return len(c.Ready) == 1 })
	for range 20 {
		w.step()
	}
	c := w.record()
	if c.Rules != 1 || !slices.Equal(c.RulesMissing(), []proto.WorkerID{late.rt.Self()}) || c.Held != 0 {
		t.Fatalf("%+v", c)
	}
	if out := w.call(id, "n"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.deploy() // contracts start meanwhile
	late.stop()
	newer(late)
	late.start()
	w.under(2, ws...)
	if out := w.call(id, "n"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.agreed(ws...)
	if st := late.rt.Status(); st.KnownRules != 2 || st.Rules != 2 {
		t.Errorf("%+v", st)
	}
}

// TestRulesAndCodes: codes that come while the cluster changes its rules, one that the new
// rules refuse among them. Their contracts run, or fail with a status of its own; nothing
// halts.
func TestRulesAndCodes(t *testing.T) {
	w, _, ws := network(t, 2, newer)
	large, late, last := enginetest.Script(strings.Repeat("x", enginetest.SmallModule)), enginetest.Script("late"), enginetest.Script("last")
	w.more = map[proto.Hash][]byte{}
	for _, m := range [][]byte{large, late, last} {
		w.more[proto.CodeHash(m)] = m
	}
	ready := func(id proto.ContractID) func() bool {
		return func() bool {
			return !slices.ContainsFunc(ws, func(n *node) bool {
				a, err := n.query(id, "gi")
				return err != nil || string(a.Return) != "1"
			})
		}
	}
	id := w.deploy()
	refused := w.announce(large)
	w.until("the large one answers", ready(refused))
	for _, c := range []proto.ContractID{id, refused} {
		if out := w.call(c, "pkvalue"); out.Status != proto.StatusOK {
			t.Fatal(out.Status, out.Error)
		}
	}
	w.chain.WantRules(2)
	// One relayer brings no codes for a while: that seat is not ready, and a code comes.
	ws[1].noCodes = true
	during := w.announce(late)
	w.until("the first has prepared it", func() bool { return len(ws[0].rt.Status().WantCodes) == 0 && len(ws[1].rt.Status().WantCodes) > 0 })
	ws[1].noCodes = false
	w.until("it answers", ready(during))
	w.under(2, ws...)
	after := w.announce(last)
	w.until("one that came last answers", ready(after))

	for _, c := range []proto.ContractID{id, during, after} {
		if out := w.call(c, "n"); out.Status != proto.StatusOK {
			t.Errorf("%s: %s %s", c, out.Status, out.Error)
		}
	}
	out := w.call(refused, "n")
	if out.Status != proto.StatusCodeFailed || !strings.Contains(out.Error, "version 2 of the rules refuses") {
		t.Errorf("refused code: %s %q", out.Status, out.Error)
	}
	for _, n := range ws {
		if a, err := n.query(refused, "gk"); err != nil || a.Status != proto.StatusCodeFailed || len(a.Error) == 0 {
			t.Errorf("%s answers %+v, %v", n.name, a, err)
		}
	}
	if out := w.call(id, "k"+string(refused[:])+"n"); out.Status != proto.StatusOK || out.Return[4] != 17 {
		t.Errorf("a call of it: %s %q", out.Status, out.Return)
	}
	// Under these rules nobody can deploy it.
	w.announce(large)
	if again := w.announce(large); again == refused {
		t.Fatal("the same contract")
	}
	for range 20 {
		w.step()
	}
	if code, ok := w.chain.Get(proto.StoreContracts, proto.KeyCode(proto.CodeHash(large))); ok {
		rec, err := proto.ParseCode(code)
		c := w.record()
		if err != nil || !rec.Hopeless(&c) {
			t.Errorf("%+v, %v", rec, err)
		}
	}
	w.agreed(ws...)
}

// TestRulesRestart: a seat is killed after it said that it is ready, and another one goes
// back to what it had before it was asked: both come to the same state.
func TestRulesRestart(t *testing.T) {
	w, _, ws := network(t, 3, newer)
	id := w.deploy()
	old := snapshot(t, ws[1].cfg.DataDir)
	ws[2].off = true // so that the version does not come yet
	w.chain.WantRules(2)
	w.until("two are ready", func() bool { c := w.record(); return len(c.Ready) == 2 })
	ws[0].kill()
	ws[0].start()
	w.call(id, "n")
	ws[2].off = false
	w.under(2, ws...)
	if out := w.call(id, "n"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	ws[1].kill()
	old.restore(t)
	ws[1].start()
	w.under(2, ws...)
	w.agreed(ws...)
	for _, n := range ws {
		n.has(id, "gi", "1")
		n.kill()
		n.start()
	}
	w.under(2, ws...)
	if out := w.call(id, "n"); out.Status != proto.StatusOK {
		t.Fatal(out.Status, out.Error)
	}
	w.agreed(ws...)
}

// TestRulesAndSeats: a seat goes to a worker that knows the cluster's rules. One that comes
// while others are wanted speaks as well, although it was not there when the seats were
// asked; one that comes after the change replays it from the snapshot of before.
func TestRulesAndSeats(t *testing.T) {
	w, _, ws := network(t, 2, newer, func(n *node) {
		if n.name == "worker-1" {
			older(n)
		}
	})
	id := w.deploy()
	w.call(id, "pkvalue")
	w.chain.WantRules(2)
	w.until("one seat is ready", func() bool { c := w.record(); return len(c.Ready) == 1 })
	w.turn() // the snapshot is of after the question
	replace := func(gone *node, name string) *node {
		gone.off = true
		w.chain.Replace(gone.rt.Self())
		n := w.add(name, proto.RoleWorker, newer).start()
		w.until(name+" has a seat", func() bool { c := w.record(); return c.HasSeat(n.rt.Self()) })
		return n
	}
	second := replace(ws[1], "second")
	w.under(2, ws[0], second)
	second.has(id, "gk", "value")
	w.agreed(ws[0], second)

	// The newest snapshot is of before the change, the third replays it.
	if c := w.record(); c.State.Cursor.Seq >= uint64(slices.IndexFunc(w.messages(), func(e proto.Event) bool { _, ok := e.(proto.RulesActivated); return ok })+1) {
		t.Fatalf("the snapshot is of message %d", c.State.Cursor.Seq)
	}
	third := replace(ws[0], "third")
	w.under(2, second, third)
	third.has(id, "gk", "value")

	// Who knows less gets no seat.
	stranger := w.add("stranger", proto.RoleWorker, older).start()
	w.until("it is registered", func() bool { _, ok := w.chain.Worker(stranger.rt.Self()); return ok })
	second.off = true
	w.chain.Replace(second.rt.Self())
	for range 10 {
		w.step()
	}
	if c := w.record(); c.HasSeat(stranger.rt.Self()) {
		t.Error("it got a seat in a cluster whose rules it does not know")
	}
	fourth := w.add("fourth", proto.RoleWorker, newer).start()
	w.under(2, third)
	w.until("it continues from a state under the new rules", func() bool { return fourth.serving() && fourth.rt.Status().Rules == 2 })
	fourth.has(id, "gk", "value")
	w.agreed(third, fourth)
}

// TestUnknownRules: a worker stops where rules come into force that it does not know; it
// would compute other results than the rest of its cluster.
func TestUnknownRules(t *testing.T) {
	fatal := func(n *node) error {
		t.Helper()
		if n.lastErr == nil || !strings.Contains(n.lastErr.Error(), "install a release") {
			t.Errorf("%s: %v", n.name, n.lastErr)
		}
		if _, err := n.query(proto.ContractID{}, "gi"); !errors.Is(err, pruntime.ErrFatal) || !errors.Is(err, cluster.ErrRules) {
			t.Errorf("%s answers: %v", n.name, err)
		}
		return nil
	}
	t.Run("a message that no chain sends", func(t *testing.T) {
		w, g, ws := network(t, 1, older)
		w.deploy()
		w.chain.Send(proto.TopicCluster(w.cluster), proto.RulesActivated{Version: 2, EffectiveHeight: uint64(w.chain.Height()) + 2})
		for range 3 {
			w.step()
		}
		fatal(ws[0])
		if errors.Is(g.lastErr, pruntime.ErrFatal) {
			t.Errorf("a gatekeeper runs no contracts, and stops: %v", g.lastErr)
		}
	})
	t.Run("a state that a newer build left", func(t *testing.T) {
		w, _, ws := network(t, 1, newer)
		w.deploy()
		w.chain.WantRules(2)
		w.under(2, ws...)
		ws[0].stop()
		older(ws[0])
		ws[0].start()
		w.until("it has stopped", func() bool { return ws[0].rt.Status().Fatal != "" })
		w.step()
		fatal(ws[0])
	})
	t.Run("a snapshot", func(t *testing.T) {
		w, _, ws := network(t, 1, newer)
		w.deploy()
		w.chain.WantRules(2)
		w.under(2, ws...)
		w.turn()
		n := w.add("second", proto.RoleWorker, older).start()
		w.until("it is registered", func() bool { _, ok := w.chain.Worker(n.rt.Self()); return ok })
		// The chain believes that it knows more than it does.
		w.chain.Amend(n.rt.Self(), func(i *proto.WorkerInfo) { i.Rules = 2 })
		w.chain.Replace(ws[0].rt.Self())
		w.until("it has stopped", func() bool { return n.rt.Status().Fatal != "" })
		w.step()
		fatal(n)
	})
}

// TestOtherImages: a seat that prepared other images than all agreed on stops before it
// runs anything of them.
func TestOtherImages(t *testing.T) {
	w, _, ws := network(t, 1, newer)
	id := w.deploy()
	w.chain.Send(proto.TopicCluster(w.cluster), proto.RulesActivated{Version: 2, EffectiveHeight: uint64(w.chain.Height()) + 2, Images: proto.Hash{1}})
	w.until("it has stopped", func() bool { return ws[0].rt.Status().Fatal != "" })
	if _, err := ws[0].query(id, "gi"); !errors.Is(err, cluster.ErrImage) {
		t.Errorf("got %v", err)
	}
}
