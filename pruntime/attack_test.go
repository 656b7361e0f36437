package pruntime_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/crypto/dprf"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/gatekeeper"
	"github.com/phala-go/phala/pruntime/inbox"
)

// TestHostileRelayer: an advance that is not what the chain says is refused and changes
// nothing, also not what the enclave asks for; the honest one after it works.
func TestHostileRelayer(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	n.off = true
	w.push(id, "n")
	w.push(id, "n")
	for range 3 {
		w.step()
	}
	other := chainWith(t, "other-1")
	invented := func(e proto.Event) func(*inbox.Advance) {
		return func(a *inbox.Advance) {
			topic := proto.TopicCluster(w.cluster)
			seq := uint64(0)
			for _, p := range a.Topics {
				if p.Topic == topic {
					seq = p.Cursor.Seq
				}
			}
			a.Messages = append(a.Messages, &proto.Message{Topic: topic, Seq: seq + 1, Height: uint64(w.chain.Height()) - 1, Sender: []byte("module"), Payload: proto.MarshalEvent(e)})
		}
	}
	own := proto.TopicWorker(n.rt.Self())
	for _, c := range []struct {
		name string
		edit func(a *inbox.Advance)
		want error
	}{
		{"a message dropped", func(a *inbox.Advance) { a.Messages = a.Messages[:len(a.Messages)-1] }, inbox.ErrFold},
		{"an earlier message dropped", func(a *inbox.Advance) { a.Messages = a.Messages[1:] }, inbox.ErrOrder},
		{"all messages dropped", func(a *inbox.Advance) { a.Messages = nil }, inbox.ErrFold},
		{"two messages swapped", func(a *inbox.Advance) { slices.Reverse(a.Messages) }, inbox.ErrOrder},
		{"a message repeated", func(a *inbox.Advance) { a.Messages = append(a.Messages, a.Messages[len(a.Messages)-1]) }, inbox.ErrOrder},
		{"a message edited", func(a *inbox.Advance) { a.Messages[0].Payload[3] ^= 1 }, inbox.ErrFold},
		{"a command invented", invented(proto.PushedCommand{Epoch: 1}), inbox.ErrFold},
		{"a constructor invented", invented(proto.Instantiated{Code: proto.Hash{0xbad & 0xff}}), inbox.ErrFold},
		{"a code invented", invented(proto.CodeAnnounced{Code: proto.Hash{0xbad & 0xff}}), inbox.ErrFold},
		{"a topic held back", func(a *inbox.Advance) { a.Topics = a.Topics[1:] }, inbox.ErrTopics},
		{"a topic twice", func(a *inbox.Advance) { a.Topics[0] = a.Topics[1] }, inbox.ErrTopics},
		{"the own topic twice", func(a *inbox.Advance) {
			for _, p := range a.Topics {
				if p.Topic == own {
					a.Topics = append(a.Topics, p)
				}
			}
		}, inbox.ErrTopics},
		{"another height's proof", func(a *inbox.Advance) { a.Topics[0].Proof = a.Topics[1].Proof }, comet.ErrProof},
		{"too few signed", func(a *inbox.Advance) {
			a.Blocks[len(a.Blocks)-1] = w.chain.C.Block(w.chain.Height()).Signed(comettest.FirstN(2))
		}, comet.ErrTooFewSigned},
		{"signed for another chain", func(a *inbox.Advance) {
			a.Blocks[len(a.Blocks)-1] = w.chain.C.Block(w.chain.Height()).Signed(comettest.Signing{ChainID: "other-1"})
		}, comet.ErrSignature},
		{"another chain's header", func(a *inbox.Advance) { a.Blocks = other.LightRange(n.rt.Status().TrustedHeight+1, 60) }, comet.ErrWrongChain},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := fmt.Sprintf("%+v", comparable(n))
			a := w.chain.Advance(n.rt.Status())
			c.edit(a)
			if err := n.rt.Advance(a.Marshal()); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if after := fmt.Sprintf("%+v", comparable(n)); after != before {
				t.Errorf("it changed\n%s\nto\n%s", before, after)
			}
		})
	}
	for _, b := range [][]byte{nil, []byte("nonsense"), make([]byte, 100)} {
		if err := n.rt.Advance(b); err == nil {
			t.Errorf("%x is taken", b)
		}
	}
	n.off = false
	if out := w.call(id, "n"); out.Return[0] != 3 {
		t.Errorf("the command ran %x times", out.Return)
	}
}

// comparable is a status without what is behind pointers.
func comparable(n *node) pruntime.Status {
	st := n.rt.Status()
	st.Why, st.StateRoot = "", nil
	return st
}

func chainWith(t *testing.T, id string) *comettest.Chain {
	t.Helper()
	c := comettest.New(comettest.Config{ChainID: id})
	c.Run(60)
	return c
}

// TestOwnTopicTooEarly: a relayer that claims the enclave's own topic before there is one,
// in whatever form, leaves it able to register.
func TestOwnTopicTooEarly(t *testing.T) {
	w := newWorld(t)
	n := w.add("worker", proto.RoleWorker).start()
	h := w.chain.C.Header(1)
	if err := n.rt.TrustHeader(h.Marshal()); err != nil {
		t.Fatal(err)
	}
	w.chain.Next(2)
	for copies := 1; copies <= 3; copies++ {
		a := w.chain.Advance(n.rt.Status())
		for range copies {
			a.Topics = append(a.Topics, inbox.Proven{Topic: proto.TopicWorker(n.rt.Self()), Cursor: proto.CreatedCursor("comettest-1", proto.TopicWorker(n.rt.Self())), Proof: a.Topics[0].Proof})
		}
		if err := n.rt.Advance(a.Marshal()); err == nil {
			t.Fatal("it is taken")
		}
		if topics := n.rt.Status().Topics; len(topics) != 1 {
			t.Fatalf("with %d copies it follows %v", copies, topics)
		}
	}
	w.until("it is admitted", func() bool { return n.rt.Status().Admitted })
}

func TestTrustHeader(t *testing.T) {
	w := newWorld(t)
	n := w.add("worker", proto.RoleWorker).start()
	right, second, other := w.chain.C.Header(1), w.chain.C.Header(2), chainWith(t, "other-1").Header(1)
	for name, b := range map[string][]byte{"another height": second.Marshal(), "another chain": other.Marshal()} {
		if err := n.rt.TrustHeader(b); !errors.Is(err, pruntime.ErrTrustRoot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := n.rt.TrustHeader([]byte("nonsense")); !errors.Is(err, comet.ErrMalformed) {
		t.Errorf("nonsense: %v", err)
	}
	for name, err := range map[string]error{
		"advance":     n.rt.Advance((&inbox.Advance{}).Marshal()),
		"headers":     n.rt.SyncHeaders((&inbox.Advance{}).Marshal()),
		"acknowledge": n.rt.Acknowledge(proto.Cursor{}, comet.StoreProof{}),
		"register":    func() error { _, _, _, err := n.rt.Register(context.Background()); return err }(),
	} {
		if !errors.Is(err, pruntime.ErrNotReady) {
			t.Errorf("%s before the trust header: %v", name, err)
		}
	}
	if err := errors.Join(n.rt.TrustHeader(right.Marshal()), n.rt.TrustHeader(right.Marshal())); err != nil {
		t.Error(err)
	}
}

// TestFalseAcknowledgement: the outbox moves by proof only; what the chain does not have
// stays.
func TestFalseAcknowledgement(t *testing.T) {
	w, g, ws := network(t, 1)
	n := ws[0]
	n.off = true
	n.ahead += lease // so that it has something to say
	w.chain.Next(3)
	if err := n.rt.Advance(w.chain.Advance(n.rt.Status()).Marshal()); err != nil {
		t.Fatal(err)
	}
	st := n.rt.Status()
	if st.Outbox.Count == 0 {
		t.Fatal("nothing to say")
	}
	h := st.TrustedHeight - 1
	value, p := w.chain.C.Prove(h, proto.StoreMQ, proto.KeyOutbox(st.Worker))
	right, err := proto.ParseCursor(value)
	if err != nil {
		t.Fatal(err)
	}
	edited := func(edit func(p *comettest.Proof)) comet.StoreProof {
		_, q := w.chain.C.Prove(h, proto.StoreMQ, proto.KeyOutbox(st.Worker))
		edit(&q)
		return q.Marshal()
	}
	more := right
	more.Seq += uint64(st.Outbox.Count)
	head := right
	head.Head[0] ^= 1
	otherValue, otherProof := w.chain.C.Prove(h, proto.StoreMQ, proto.KeyOutbox(g.rt.Self()))
	others, err := proto.ParseCursor(otherValue)
	if err != nil {
		t.Fatal(err)
	}
	_, old := w.chain.C.Prove(h-3, proto.StoreMQ, proto.KeyTopic(proto.TopicSystem))
	for _, c := range []struct {
		name     string
		position proto.Cursor
		proof    comet.StoreProof
	}{
		{"more entries than the proof says", more, p.Marshal()},
		{"another head", head, p.Marshal()},
		{"another worker's position", others, otherProof.Marshal()},
		{"another worker's proof", right, otherProof.Marshal()},
		{"another key of the store", right, old.Marshal()},
		{"an edited proof", more, edited(func(p *comettest.Proof) { p.IAVL.Value = more.Marshal() })},
		{"another store's proof", right, edited(func(p *comettest.Proof) { p.Store.Key = []byte("bank") })},
		{"no proof", more, comet.StoreProof{}},
	} {
		if err := n.rt.Acknowledge(c.position, c.proof); !errors.Is(err, pruntime.ErrProof) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := n.rt.Status().Outbox; got != st.Outbox {
			t.Errorf("%s: the outbox is %+v, was %+v", c.name, got, st.Outbox)
		}
	}
	if err := n.rt.Acknowledge(right, p.Marshal()); err != nil {
		t.Error(err)
	}
}

// TestUnknownMessage: a message of a kind that this version does not know stops the
// enclave for good, when the chain really has it.
func TestUnknownMessage(t *testing.T) {
	for _, topic := range []string{proto.TopicSystem, "own"} {
		w, g, ws := network(t, 1)
		id, n := w.deploy(), ws[0]
		name := topic
		if topic == "own" {
			name = proto.TopicWorker(n.rt.Self())
		}
		// Invented by a relayer, it stops nothing.
		w.chain.Next(2)
		st := n.rt.Status()
		a := w.chain.Advance(st)
		a.Messages = append(a.Messages, &proto.Message{Topic: name, Seq: st.Topics[name] + 1, Height: uint64(w.chain.Height()) - 1, Payload: []byte{99}})
		if err := n.rt.Advance(a.Marshal()); !errors.Is(err, inbox.ErrFold) && !errors.Is(err, inbox.ErrOrder) {
			t.Errorf("invented: %v", err)
		}
		w.step()
		if !n.serving() {
			t.Fatal("an invented message stops it")
		}
		w.chain.SendRaw(name, []byte{99, 1, 2, 3})
		w.chain.Next(2)
		if err := n.relay(); !errors.Is(err, pruntime.ErrFatal) || !errors.Is(err, inbox.ErrUnknown) {
			t.Errorf("got %v", err)
		}
		st = n.rt.Status()
		if st.Serving || st.Fatal == "" {
			t.Errorf("status %+v", st)
		}
		if _, err := n.query(id, "gi"); !errors.Is(err, pruntime.ErrFatal) {
			t.Errorf("it answers: %v", err)
		}
		if _, _, err := n.rt.Outbox(1); !errors.Is(err, pruntime.ErrFatal) {
			t.Errorf("it speaks: %v", err)
		}
		if topic == proto.TopicSystem {
			if err := g.relay(); !errors.Is(err, pruntime.ErrFatal) {
				t.Errorf("the gatekeeper goes on: %v", err)
			}
		}
		// A restart does not help: the message is still there.
		n.stop()
		n.start()
		w.step()
		if !errors.Is(n.lastErr, pruntime.ErrFatal) {
			t.Errorf("after a restart: %v", n.lastErr)
		}
	}
}

// TestConflictingHeaders: two validly signed headers of one height stop the enclave, and
// it gives out the evidence.
func TestConflictingHeaders(t *testing.T) {
	for _, by := range []string{"advance", "headers"} {
		w, _, ws := network(t, 1)
		id, n := w.deploy(), ws[0]
		fork := w.chain.C.Fork("fork")
		w.step()
		for fork.Height() < w.chain.Height() {
			fork.Next()
		}
		height := n.rt.Status().TrustedHeight
		if _, _, ok := n.rt.Conflict(); ok {
			t.Error("a conflict before there is one")
		}
		// Signed by too few, the other header proves nothing.
		a := &inbox.Advance{Blocks: []*comet.LightBlock{fork.Block(height).Signed(comettest.FirstN(2))}}
		if err := n.rt.SyncHeaders(a.Marshal()); err == nil || errors.Is(err, pruntime.ErrFatal) {
			t.Errorf("signed by too few: %v", err)
		}
		a.Blocks[0] = fork.Light(height)
		var err error
		if by == "headers" {
			err = n.rt.SyncHeaders(a.Marshal())
		} else {
			err = n.rt.Advance(a.Marshal())
		}
		if !errors.Is(err, pruntime.ErrFatal) || !errors.Is(err, comet.ErrConflict) {
			t.Errorf("%s: %v", by, err)
		}
		trusted, other, ok := n.rt.Conflict()
		if !ok {
			t.Fatal("no evidence")
		}
		th, err1 := comet.ParseHeader(trusted)
		ob, err2 := comet.ParseLightBlock(other)
		if err := errors.Join(err1, err2); err != nil || th.Height != height || ob.Header.Height != height || th.Hash() == ob.Header.Hash() {
			t.Errorf("the evidence is of heights %d and %d, %v", th.Height, ob.Header.Height, err)
		}
		if _, err := n.query(id, "gi"); !errors.Is(err, pruntime.ErrFatal) {
			t.Errorf("it answers: %v", err)
		}
		if err := n.rt.Advance(w.chain.Advance(n.rt.Status()).Marshal()); !errors.Is(err, pruntime.ErrFatal) {
			t.Errorf("it goes on: %v", err)
		}
	}
}

// TestOldFork: a fork that validators sign too late, or ahead of the clock, is not
// followed.
func TestOldFork(t *testing.T) {
	w, _, ws := network(t, 1, func(n *node) { n.cfg.TrustingPeriod = time.Hour })
	n := ws[0]
	n.off = true
	w.chain.Next(100)
	skip := func() error {
		a := w.chain.Advance(n.rt.Status())
		a.Blocks = a.Blocks[len(a.Blocks)-1:]
		return n.rt.Advance(a.Marshal())
	}
	n.ahead = -2 * time.Minute
	if err := skip(); !errors.Is(err, comet.ErrFromFuture) {
		t.Errorf("ahead of the clock: %v", err)
	}
	n.ahead = 2 * time.Hour
	if err := skip(); !errors.Is(err, comet.ErrExpired) {
		t.Errorf("beyond the trusting period: %v", err)
	}
	n.ahead = 0
	if err := skip(); !errors.Is(err, comet.ErrExpired) {
		t.Errorf("the host's clock goes back: %v", err)
	}
}

// TestValidatorsChange: the enclave follows real changes of the validators.
func TestValidatorsChange(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	set := comettest.NewSet("genesis", 4)
	for i := range 4 {
		set = comettest.SetOf(append(set.Signers()[1:], comettest.NewSigner("new", i, 10)))
		w.chain.Announce(set)
		for range 3 {
			w.step()
		}
	}
	if out := w.call(id, "n"); out.Status != proto.StatusOK || !n.serving() {
		t.Errorf("%s; %s", out.Status, n.rt.Status().Why)
	}
}

// TestSeatLost: a worker whose seat is taken away stops, also when more of the cluster's
// messages come in the same advance, and takes another seat later.
func TestSeatLost(t *testing.T) {
	for _, together := range []bool{false, true} {
		w, _, ws := network(t, 2)
		id, n := w.deploy(), ws[0]
		w.call(id, "n")
		n.off = together
		w.push(id, "n")
		w.step()
		w.chain.Unseat(n.rt.Self())
		w.step()
		for range 3 {
			w.push(id, "n") // for the other worker
			w.step()
		}
		n.off = false
		w.step()
		if n.lastErr != nil {
			t.Fatal(n.lastErr)
		}
		refuses(t, "without a seat", n, id)
		if topics := n.rt.Status().Topics; len(topics) != 2 {
			t.Errorf("it follows %v", topics)
		}
		if _, err := ws[1].query(id, "gn"); err != nil {
			t.Error(err)
		}
		second := w.chain.CreateCluster([]byte("owner"), 1)
		w.until("it serves the second cluster", n.serving)
		if st := n.rt.Status(); st.Cluster != second || st.Seq != 0 {
			t.Errorf("%+v", st)
		}
		// The same code in the new cluster is voted for again.
		w.until("the second cluster has a key", func() bool { return w.chain.Cluster(second).EpochKey != [32]byte{} })
		w.cluster = second
		id = w.announce(w.module)
		w.until("the contract answers", func() bool { a, err := n.query(id, "gi"); return err == nil && string(a.Return) == "1" })
	}
}

// TestForgedKeys: keys that do not come from the network's master key, or are not for this
// worker's session, are not taken; whoever controls the chain cannot move a worker to keys
// of his own.
func TestForgedKeys(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	w.call(id, "pkv")
	share, err := dprf.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// A gatekeeper of the attacker, with a master key of his own, releases to the session.
	var forged []proto.Entry
	evil := gatekeeper.New(gatekeeper.Config{Chain: "comettest-1", Self: proto.WorkerID{0xe}, Policy: gatekeeper.Policy{Root: gatekeeper.Block{Height: 1}},
		Judge: func([]byte, [64]byte, time.Time, func(string) []byte) (*gatekeeper.Verdict, error) {
			return &gatekeeper.Verdict{Until: w.chain.Time().Add(time.Hour)}, nil
		},
		Known: func(uint64) (proto.Hash, bool) { return proto.Hash{}, true }, RNG: rand.Reader, Send: func(e proto.Entry) { forged = append(forged, e) }}, share)
	reg := proto.Registration{Chain: "comettest-1", TrustHeight: 1, Worker: n.rt.Self(), Session: [32]byte(n.rt.Status().Session), Role: proto.RoleWorker, Epoch: 1, Height: 1}
	evil.Handle(proto.MasterKeySet{Public: share.Public()}, 1, w.chain.Time())
	evil.Handle(proto.WorkerRegistered{Registration: reg.Marshal(), Expires: 1 << 40}, 1, w.chain.Time())
	for _, epoch := range []uint64{1, 2} {
		evil.Handle(proto.Seated{Cluster: w.cluster, Worker: n.rt.Self(), Epoch: epoch}, 1, w.chain.Time())
		if err := evil.Flush(1, w.chain.Time()); err != nil {
			t.Fatal(err)
		}
	}
	published := func() (count int) {
		for _, x := range w.chain.Taken() {
			if _, ok := x.Entry.(proto.PublishEpochKey); ok {
				count++
			}
		}
		return count
	}
	if len(forged) < 2 {
		t.Fatalf("the attacker made %d releases", len(forged))
	}
	before := published()
	own := proto.TopicWorker(n.rt.Self())
	for _, e := range forged {
		release := proto.MarshalEntry(e)
		w.chain.Send(own, proto.KeysReleased{Master: share.Public(), Release: release})
		w.chain.Send(own, proto.KeysReleased{Master: [32]byte{1}, Release: release})
	}
	w.chain.Send(own, proto.KeysReleased{Release: proto.MarshalEntry(proto.Challenge{})})
	for range 6 {
		w.step()
	}
	if n.lastErr != nil {
		t.Fatal(n.lastErr)
	}
	if published() != before {
		t.Error("it published a key of the attacker")
	}
	if out := w.call(id, "gk"); string(out.Return) != "v" {
		t.Errorf("%s %q", out.Status, out.Return)
	}
	if cluster.LabelStable(1) == cluster.LabelTraffic(1, 1) {
		t.Error("two labels are one")
	}
}

// TestOtherSoftware: the chain admits a worker of other software, or under other roots;
// the gatekeeper gives it no keys.
func TestOtherSoftware(t *testing.T) {
	w := newWorld(t)
	g := w.add("gatekeeper", proto.RoleGatekeeper).start()
	fake := w.add("fake", proto.RoleWorker, func(n *node) { n.tee.measurement = []byte("something else") }).start()
	w.until("the gatekeeper is active", g.serving)
	w.cluster = w.chain.CreateCluster([]byte("owner"), 2)
	w.until("it has a seat", func() bool { return fake.rt.Status().Cluster == w.cluster })
	good := w.add("worker", proto.RoleWorker).start()
	w.until("the good one has keys", func() bool { return good.rt.Status().StateRoot != nil })
	for range 10 {
		w.step()
	}
	if fake.rt.Status().StateRoot != nil {
		t.Error("other software has keys")
	}
	for _, x := range w.chain.Taken() {
		if r, ok := x.Entry.(proto.ReleaseKeys); ok && r.Worker == fake.rt.Self() {
			t.Error("keys were released to other software")
		}
	}
}

// TestGatekeeperRuns nothing.
func TestGatekeeperRole(t *testing.T) {
	_, g, ws := network(t, 1)
	if err := g.rt.PutCode(proto.Hash{}, nil); !errors.Is(err, pruntime.ErrRole) {
		t.Errorf("a code for a gatekeeper: %v", err)
	}
	if err := g.rt.Prepare(nil); !errors.Is(err, pruntime.ErrRole) {
		t.Errorf("a module for a gatekeeper: %v", err)
	}
	if ws[0].rt.Status().Gatekeeper != nil {
		t.Error("a worker says it is a gatekeeper")
	}
}
