package pruntime_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/cluster"
)

// TestWholeWay goes from nothing to a decrypted answer: registration, admission, seat,
// keys, a contract, a command, its receipt, a query.
func TestWholeWay(t *testing.T) {
	w := newWorld(t)
	g := w.add("gatekeeper", proto.RoleGatekeeper).start()
	n := w.add("worker", proto.RoleWorker, func(n *node) { n.cfg.Endpoints = []string{"http://localhost:1"} }).start()
	if st := n.rt.Status(); st.Serving || st.Admitted || st.TrustedHeight != 0 || st.Role != "worker" || !st.Simulated || st.Worker != n.rt.Self() {
		t.Fatalf("before anything: %+v", st)
	}
	if _, _, err := n.rt.Outbox(10); !errors.Is(err, pruntime.ErrNotReady) {
		t.Errorf("outbox before the trust header: %v", err)
	}
	w.until("the gatekeeper is active", g.serving)
	if st := g.rt.Status(); !st.Gatekeeper.Active || st.Gatekeeper.Master == (proto.Hash{}) {
		t.Errorf("gatekeeper: %+v", st.Gatekeeper)
	}
	if info, _ := w.chain.Worker(n.rt.Self()); len(info.Endpoints) != 1 || info.Role != proto.RoleWorker {
		t.Errorf("registered as %+v", info)
	}
	w.cluster = w.chain.CreateCluster([]byte("owner"), 1)
	w.until("the worker serves", n.serving)
	w.until("the cluster has a key", func() bool { return w.chain.Cluster(w.cluster).EpochKey != [32]byte{} })
	id := w.deploy()
	out := w.call(id, "ehello")
	if out.Status != proto.StatusOK || string(out.Return) != "hello" {
		t.Errorf("the command ends with %s %q", out.Status, out.Return)
	}
	out = w.call(id, "f")
	if out.Status != proto.StatusContractError || out.Error != "no! (code 7)" {
		t.Errorf("the refused command ends with %s %q", out.Status, out.Error)
	}
	s := w.push(id, "pkvalue")
	w.answer(s)
	a, err := n.query(id, "gk")
	if err != nil {
		t.Fatal(err)
	}
	st := n.rt.Status()
	cl := w.chain.Cluster(w.cluster)
	if string(a.Return) != "value" || a.Cluster != w.cluster || a.Height != st.Height || a.Seq != cl.FinalSeq || a.StateRoot != cl.FinalRoot || a.StateRoot != *st.StateRoot {
		t.Errorf("answer %+v, status %+v, cluster %+v", a, st, cl)
	}
	if h := w.chain.C.Header(st.TrustedHeight); a.Hash != proto.Hash(h.Hash()) {
		t.Error("the answer names a header that is not the newest")
	}
	for _, taken := range w.chain.Taken() {
		if taken.Err != nil {
			t.Errorf("the chain refused %T: %v", taken.Entry, taken.Err)
		}
	}
}

// TestMoved: a worker that comes back at another address says so, and one that comes back
// where it was changes nothing.
func TestMoved(t *testing.T) {
	w, _, ws := network(t, 1, func(n *node) { n.cfg.Endpoints = []string{"http://localhost:1"} })
	n := ws[0]
	endpoints := func() []string {
		info, _ := w.chain.Worker(n.rt.Self())
		return info.Endpoints
	}
	said := func() (times int) {
		for _, e := range w.chain.Taken() {
			if _, ok := e.Entry.(proto.SetEndpoints); ok {
				times++
			}
		}
		return times
	}
	if said() != 0 {
		t.Errorf("%d entries said what the registration says", said())
	}
	for i, want := range [][]string{{"http://localhost:2", "https://worker.example"}, {"http://localhost:2", "https://worker.example"}, nil} {
		n.stop()
		n.cfg.Endpoints = want
		n.start()
		w.until("the worker serves again", n.serving)
		w.until("the chain knows where", func() bool { return said() == i+1 && slices.Equal(endpoints(), want) })
	}
}

// TestReplicas: three workers with equal inputs sign equal receipts, and the chain needs
// two of them.
func TestReplicas(t *testing.T) {
	w, _, ws := network(t, 3)
	id := w.deploy()
	ws[2].off = true
	for i := range 3 {
		out := w.call(id, "n")
		if out.Status != proto.StatusOK || out.Return[0] != byte(i+1) {
			t.Errorf("call %d: %s %x", i, out.Status, out.Return)
		}
	}
	ws[2].off = false
	seq := w.chain.Cluster(w.cluster).FinalSeq
	w.until("the third catches up", func() bool { return ws[2].rt.Status().Seq == seq })
	w.until("all receipts are there", func() bool {
		rec, _ := w.chain.Receipt(w.cluster, seq)
		return len(rec.Votes) == 3
	})
	for from := uint64(1); from <= seq; from++ {
		if rec, ok := w.chain.Receipt(w.cluster, from); ok && (len(rec.Receipts) != 1 || !rec.Final) {
			t.Errorf("messages from %d: %d receipts, final: %v", from, len(rec.Receipts), rec.Final)
		}
	}
	for _, n := range ws[1:] {
		if *n.rt.Status().StateRoot != *ws[0].rt.Status().StateRoot {
			t.Error("the roots differ")
		}
	}
}

// TestCodeComesLate: a worker that has no code for a contract of its cluster follows the
// chain, answers nothing, and catches up when the code comes; the others go on.
func TestCodeComesLate(t *testing.T) {
	w, _, ws := network(t, 3)
	late := ws[2]
	late.noCodes = true
	id := w.announce(w.module)
	w.until("the others answer", func() bool {
		a, err := ws[0].query(id, "gi")
		return err == nil && string(a.Return) == "1"
	})
	for i := range 3 {
		if out := w.call(id, "n"); out.Return[0] != byte(i+1) {
			t.Errorf("%s %x", out.Status, out.Return)
		}
	}
	st := late.rt.Status()
	if st.Waiting == 0 || st.Serving || st.Height+3 < uint64(w.chain.Height()) {
		t.Errorf("without the code: height %d of %d, waiting %d, serving %v", st.Height, w.chain.Height(), st.Waiting, st.Serving)
	}
	if _, err := late.query(id, "gn"); !errors.Is(err, pruntime.ErrNotServing) || !errors.Is(err, cluster.ErrNeedCode) {
		t.Errorf("it answers: %v", err)
	}
	// Also after a restart.
	late.kill()
	late.start()
	w.until("it has its keys again", func() bool { return late.rt.Status().StateRoot != nil })
	if late.serving() {
		t.Error("it serves after a restart")
	}
	late.noCodes = false
	w.until("it caught up", func() bool {
		a, err := late.query(id, "gn")
		return err == nil && len(a.Return) == 1 && a.Return[0] == 3
	})
	seq := w.chain.Cluster(w.cluster).FinalSeq
	w.until("its word is on the chain", func() bool { rec, _ := w.chain.Receipt(w.cluster, seq); return len(rec.Votes) == 3 })
	if rec, _ := w.chain.Receipt(w.cluster, seq); len(rec.Receipts) != 1 {
		t.Error("it says something else")
	}
}

func TestQuery(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	session := [32]byte(n.rt.Status().Session)
	pub := w.user.Public()
	sign := func(q *proto.Query, session [32]byte) {
		sig, err := w.user.Sign(rand.Reader, q.SignedBytes("comettest-1", session))
		if err != nil {
			t.Fatal(err)
		}
		q.Scheme, q.PublicKey, q.Signature = uint8(identity.SchemeSr25519), pub[:], sig[:]
	}
	height := n.rt.Status().Height
	for _, c := range []struct {
		name   string
		q      proto.Query
		sign   bool
		edit   func(q *proto.Query)
		status proto.Status
		out    string
	}{
		{name: "anonymous", q: proto.Query{To: id, Input: []byte("c")}},
		{name: "signed", q: proto.Query{To: id, Input: []byte("c"), From: pub[:]}, sign: true, out: string(pub[:])},
		{name: "signed, edited", q: proto.Query{To: id, Input: []byte("c"), From: pub[:]}, sign: true, edit: func(q *proto.Query) { q.Input = []byte("h") }, status: proto.StatusBadSignature},
		{name: "as someone else", q: proto.Query{To: id, Input: []byte("c"), From: []byte("someone")}, sign: true, status: proto.StatusBadSignature},
		{name: "signed for another worker", q: proto.Query{To: id, Input: []byte("c"), From: pub[:]}, edit: func(q *proto.Query) { sign(q, [32]byte{1}) }, status: proto.StatusBadSignature},
		{name: "from without a signature", q: proto.Query{To: id, Input: []byte("c"), From: pub[:]}, status: proto.StatusBadSignature},
		{name: "new enough", q: proto.Query{To: id, Input: []byte("gi"), MinHeight: height}, out: "1"},
		{name: "newer than there is", q: proto.Query{To: id, Input: []byte("gi"), MinHeight: height + 1}, status: proto.StatusTooOld},
		{name: "no such contract", q: proto.Query{To: proto.ContractID{1}}, status: proto.StatusNoContract},
		{name: "little gas", q: proto.Query{To: id, Input: []byte("l"), GasLimit: 1000}, status: proto.StatusOutOfGas},
		{name: "trap", q: proto.Query{To: id, Input: []byte("t")}, status: proto.StatusTrap},
	} {
		rand.Read(c.q.Nonce[:])
		if c.sign {
			sign(&c.q, session)
		}
		if c.edit != nil {
			c.edit(&c.q)
		}
		a, err := n.ask(&c.q, session)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if a.Status != c.status || string(a.Return) != c.out || a.Nonce != c.q.Nonce || a.Height != height {
			t.Errorf("%s: %s %q %q at %d, want %s %q", c.name, a.Status, a.Return, a.Error, a.Height, c.status, c.out)
		}
	}
	other, err := commkey.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.ask(&proto.Query{To: id}, other.Public()); !errors.Is(err, pruntime.ErrNotServing) {
		t.Errorf("sealed to another session: %v", err)
	}
	if _, err := n.rt.Query(t.Context(), []byte("nonsense")); err == nil {
		t.Error("nonsense is answered")
	}
	if _, err := w.nodes[0].ask(&proto.Query{To: id}, [32]byte(w.nodes[0].rt.Status().Session)); !errors.Is(err, pruntime.ErrNotServing) {
		t.Errorf("a gatekeeper answers: %v", err)
	}
}

// TestQueriesDoNotWait: queries go on while the enclave is busy with a long command, on
// the state before it.
func TestQueriesDoNotWait(t *testing.T) {
	meanwhile(t, "20 answers while the commands ran", func() bool { return answersOfBusy(t) >= 20 })
}

// answersOfBusy counts the answers that an enclave gives while commands run.
func answersOfBusy(t *testing.T) (answers int) {
	t.Helper()
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	w.call(id, "n")
	for range 40 { // each some milliseconds
		w.push(id, "s\x00\x00\x40\x00")
	}
	w.push(id, "n")
	n.off = true
	w.step()
	w.step()
	st := n.rt.Status()
	done := make(chan error)
	go func() { done <- n.rt.Advance(w.chain.Advance(st).Marshal()) }()
	for busy := true; busy; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			busy = false
		default:
			a, err := n.query(id, "gn")
			if err != nil || (a.Return[0] != 1 && a.Return[0] != 2) {
				t.Fatal(a, err)
			}
			if a.Return[0] == 1 {
				answers++
			}
			if a.Return[0] == 1 && a.Height > st.Height+1 {
				t.Fatalf("the state before height %d is said to be of %d", st.Height+1, a.Height)
			}
		}
	}
	if a, err := n.query(id, "gn"); err != nil || a.Return[0] != 2 {
		t.Errorf("after them: %v, %v", a, err)
	}
	return answers
}

// TestManyQueries: they run at once, also while commands come in; those above the limit
// are turned away and told so.
func TestManyQueries(t *testing.T) {
	w, _, ws := network(t, 1)
	id, n := w.deploy(), ws[0]
	results := make(chan error)
	for range 100 {
		go func() {
			a, err := n.query(id, "s\x00\x00\x10\x00")
			if err == nil && a.Status != proto.StatusOK {
				err = fmt.Errorf("%s %s", a.Status, a.Error)
			}
			results <- err
		}()
	}
	w.call(id, "n")
	ok := 0
	for range 100 {
		switch err := <-results; {
		case err == nil:
			ok++
		case !errors.Is(err, pruntime.ErrBusy):
			t.Error(err)
		}
	}
	if ok < 30 {
		t.Errorf("%d of 100 were answered", ok)
	}
}

// TestLargeAnswers: the longest answers of many commands in one block reach their callers.
func TestLargeAnswers(t *testing.T) {
	w, _, _ := network(t, 1)
	id := w.deploy()
	var all []*sent
	for range 6 {
		all = append(all, w.push(id, "b\x00\x00\x03\x00")) // 192 KiB
	}
	for range 50 {
		all = append(all, w.push(id, "e"+string(bytes.Repeat([]byte("x"), 5000))))
	}
	for i, s := range all {
		if out := w.answer(s); out.Status != proto.StatusOK || len(out.Return) < 5000 {
			t.Errorf("answer %d: %s %q of %d bytes", i, out.Status, out.Error, len(out.Return))
		}
	}
}
