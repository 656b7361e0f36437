package gatekeeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/proto"
)

// TestPolicy: evidence that is good, of a worker that the gatekeeper's own rules do not
// take. The chain admitted each.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name, why string
		level     uint8
		edit      func(*proto.Registration)
	}{
		{"as strict as the gatekeeper", "", 3, func(*proto.Registration) {}},
		{"stricter", "", 1, func(r *proto.Registration) { r.Settings = proto.Settings{} }},
		{"a worse level", "level 4", 4, func(*proto.Registration) {}},
		{"other attestation roots", "roots", 1, func(r *proto.Registration) { r.Roots[0]++ }},
		{"a longer lease", "settings", 1, func(r *proto.Registration) { r.Settings.Lease++ }},
		{"a longer trusting period", "settings", 1, func(r *proto.Registration) { r.Settings.TrustingPeriod++ }},
		{"a longer drift", "settings", 1, func(r *proto.Registration) { r.Settings.ClockDrift++ }},
		{"longer sessions", "settings", 1, func(r *proto.Registration) { r.Settings.SessionInterval++ }},
		{"no trust root", "trust root", 1, func(r *proto.Registration) { r.TrustHeight = 0 }},
		{"a trust root of its host's making", "it names", 1, func(r *proto.Registration) { r.TrustHeight = 2 }},
		{"a session on a fork", "it names", 1, func(r *proto.Registration) { r.Hash = proto.Hash{0x66} }},
		{"a session that names no block", "names block 0", 1, func(r *proto.Registration) { r.Height = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, s := active(t), newSession(t)
			x.level = c.level
			x.handle(registration(1, s, c.edit), 110)
			x.handle(seated(1, 1), 110)
			releases, refused := x.flush(110), x.g.Refused(wid(1))
			if c.why == "" {
				only(t, "good", releases, s)
				return
			}
			none(t, c.name, releases)
			if refused == nil || !strings.Contains(refused.Error(), c.why) {
				t.Fatalf("refused: %v", refused)
			}
			if list := x.g.Refusals(5); len(list) != 1 || list[0].Reason != refused.Error() {
				t.Fatalf("it says %v", list)
			}
		})
	}
}

// TestOneWorkerForAMachine: keys go to the worker that registered last on a machine.
func TestOneWorkerForAMachine(t *testing.T) {
	x, s, s2 := active(t), newSession(t), newSession(t)
	on := func(e proto.WorkerRegistered, machine string) proto.WorkerRegistered {
		e.Evidence = append(e.Evidence, "machine "+machine...)
		return e
	}
	x.handle(on(registration(1, s), "a"), 110)
	x.handle(seated(1, 1), 110)
	x.handle(seated(2, 1), 110)
	only(t, "the first", x.flush(110), s)
	x.handle(on(registration(2, s2), "a"), 111)
	only(t, "the one that took the machine", x.flush(111), s2)
	x.handle(started(1, s, 112), 112)
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 112)
	only(t, "not the first any more", x.flush(112), s2)
	// After a restart too.
	y := newTester(t, x.g.Share())
	if err := y.g.Restore(x.g.Marshal()); err != nil {
		t.Fatal(err)
	}
	y.handle(on(registration(1, s), "a"), 113)
	each(t, "the machine is taken back", y.flush(113), s, 1, 2)
	y.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 3}, 114)
	only(t, "and the second has none", y.flush(114), s)
	y.handle(on(registration(1, s), "b"), 115)
	y.handle(on(registration(2, s2), "a"), 115)
	if r := y.flush(115); len(r) != 6 { // of three epochs each
		t.Fatalf("on two machines: %d releases", len(r))
	}
}

// TestRepeatedEvidence: an attestation counts once.
func TestRepeatedEvidence(t *testing.T) {
	x, s, s2 := active(t), newSession(t), newSession(t)
	first, second := registration(1, s), registration(1, s2)
	x.handle(first, 110)
	x.handle(second, 111)
	x.handle(seated(1, 1), 111)
	only(t, "the second", x.flush(111), s2)
	x.handle(first, 112)
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 112)
	only(t, "the first, repeated", x.flush(112), s2)
}

// TestConfirm: where the light client did not verify the header that is named, keys wait
// for the proof.
func TestConfirm(t *testing.T) {
	x, s := active(t), newSession(t)
	x.strange = true
	x.handle(registration(1, s, func(r *proto.Registration) { r.TrustHeight, r.TrustRoot = 50, hashAt(50) }), 110)
	if w := x.g.Wants(9); len(w) != 0 {
		t.Fatalf("without a seat it wants %v", w)
	}
	x.handle(seated(1, 1), 110)
	none(t, "nothing is proven", x.flush(110))
	if w := x.g.Wants(9); !slices.Equal(w, []uint64{50, 100}) {
		t.Fatalf("it wants %v", w)
	}
	if w := x.g.Wants(1); len(w) != 1 {
		t.Fatalf("at most one: %v", w)
	}
	x.g.Confirm(Block{100, hashAt(100)})
	x.g.Confirm(Block{})
	none(t, "the trust root is not", x.flush(110))
	// What waits does so over a restart.
	y := newTester(t, x.g.Share())
	if err := y.g.Restore(x.g.Marshal()); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*tester{x, y} {
		g.g.Confirm(Block{50, hashAt(50)})
		only(t, "both are", g.flush(111), s)
		if w := g.g.Wants(9); len(w) != 0 {
			t.Fatalf("it wants %v", w)
		}
	}
	// A session on a fork.
	x.handle(startedOn(1, newSession(t).Public(), 112, hashAt(7)), 112)
	none(t, "not proven", x.flush(112))
	x.g.Confirm(Block{112, hashAt(112)})
	none(t, "on a fork", x.flush(112))
	if err := x.g.Refused(wid(1)); err == nil || !strings.Contains(err.Error(), "it names") {
		t.Fatalf("refused: %v", err)
	}
}

// TestEnd: an admission that the chain ended, and evidence whose time is over.
func TestEnd(t *testing.T) {
	x, s := active(t), newSession(t)
	x.handle(registration(1, s), 110)
	x.handle(seated(1, 1), 110)
	x.handle(proto.AdmissionEnded{Worker: wid(1)}, 110)
	x.handle(proto.AdmissionEnded{Worker: wid(9)}, 110)
	x.handle(started(1, s, 111), 111)
	none(t, "ended", x.flush(111))
	x.handle(registration(1, s), 112)
	only(t, "admitted anew", x.flush(112), s)
	x.handle(proto.EpochAnnounced{Cluster: 1, Epoch: 2}, 113)
	x.sent = nil
	if err := x.g.Flush(113, at.Add(time.Hour)); err != nil || len(x.sent) != 0 {
		t.Fatalf("collateral has expired: %v, %d releases", err, len(x.sent))
	}
	if err := x.g.Refused(wid(1)); err == nil || !strings.Contains(err.Error(), "collateral ended") {
		t.Fatalf("refused: %v", err)
	}
}

// TestHeldCollateral: what a judge used is there for the next.
func TestHeldCollateral(t *testing.T) {
	x := active(t)
	x.handle(registration(1, newSession(t)), 110)
	x.handle(registration(2, newSession(t)), 110)
	bad := registration(3, newSession(t))
	bad.Evidence = []byte("forged")
	x.handle(bad, 110)
	if c := x.g.collateral["tdx/1"]; !slices.Equal(c, []byte{1, 1}) {
		t.Fatalf("held: %v", c)
	}
}
