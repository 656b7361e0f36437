package cluster

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/merkle"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// reader is a key that reads events.
func readerKey(t testing.TB, n byte) *secretKey {
	k, err := commkey.FromSeed([32]byte{n})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// open1 opens a sealed event.
func (w *world) open1(s *proto.SealedOutput, i int, k *secretKey) *proto.ContractEvent {
	w.t.Helper()
	plain, _, err := envelope.Open(proto.EventContext(chain, w.id, s.Seq, uint32(i)), k, s.Events[i].Body)
	if err != nil {
		return nil
	}
	e, err := proto.ParseContractEvent(plain)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

// verify checks that the receipt holds what is posted, as whoever has no key for the
// output does.
func verify(s *proto.SealedOutput, r *proto.Receipt) bool {
	leaf := proto.ReceiptLeaf(s.Commitment, s.Events)
	var proof [][32]byte
	for _, h := range s.Proof {
		proof = append(proof, h)
	}
	return merkle.Verify(r.Outputs, leaf[:], int(s.Index), int(s.Count), proof)
}

func TestEvents(t *testing.T) {
	w, ids := several(t, 2)
	k := readerKey(t, 1)
	pub := k.Public()
	for _, input := range []string{"vpublic", "w" + string(pub[:]) + "for one reader", "w" + string(w.bob.id) + "for bob's account",
		"k" + string(ids[1][:]) + "vof a callee", "k" + string(ids[1][:]) + "Vof a callee that fails", "Vof one that fails", "w" + strings.Repeat("\xff", 32) + "for no key", "q" + string(ids[1][:]) + "vof a query"} {
		w.push(w.command(input))
	}
	cmds := w.pending
	w.pending = nil
	res := w.block()
	for i := range res.Outputs {
		if !verify(&res.Outputs[i], &res.Receipt) || w.open(cmds[i], &res.Outputs[i], &res.Receipt) == nil {
			t.Errorf("output %d is not in the receipt", i)
		}
	}
	public := func(i int) string {
		if len(res.Outputs[i].Events) != 1 || res.Outputs[i].Events[0].Sealed {
			t.Fatalf("command %d: events %+v", i, res.Outputs[i].Events)
		}
		e, err := proto.ParseContractEvent(res.Outputs[i].Events[0].Body)
		if err != nil || e.Log {
			t.Fatal(e, err)
		}
		return string(e.Contract[:1]) + string(e.Data)
	}
	if got := public(0); got != string(ids[0][:1])+"public" {
		t.Errorf("%q", got)
	}
	if got := public(3); got != string(ids[1][:1])+"of a callee" {
		t.Errorf("%q", got)
	}
	for _, i := range []int{4, 5, 6, 7} {
		if len(res.Outputs[i].Events) != 0 {
			t.Errorf("command %d: events %+v", i, res.Outputs[i].Events)
		}
	}
	s := &res.Outputs[1]
	if e := w.open1(s, 0, k); e == nil || e.Contract != ids[0] || e.Log || string(e.Data) != "for one reader" {
		t.Errorf("the reader gets %+v", e)
	}
	if len(s.Events[0].Body) != envelope.Overhead+envelope.MinBucket || bytes.Contains(s.Events[0].Body, ids[0][:]) {
		t.Errorf("a sealed event of %d bytes shows what it is", len(s.Events[0].Body))
	}
	if e := w.open1(s, 0, readerKey(t, 2)); e != nil {
		t.Errorf("another key opens it: %+v", e)
	}
	// An account's own key reads.
	bob, err := commkey.New(w.bob.Secret()[:32])
	if err != nil {
		t.Fatal(err)
	}
	if e := w.open1(&res.Outputs[2], 0, bob); e == nil || string(e.Data) != "for bob's account" {
		t.Errorf("bob gets %+v", e)
	}
	// In another place it does not open, and nothing of it can be changed.
	moved := *s
	moved.Seq++
	if w.open1(&moved, 0, k) != nil {
		t.Error("it opens in another place")
	}
	for _, edit := range []func(*proto.SealedOutput){
		func(o *proto.SealedOutput) { o.Events = nil },
		func(o *proto.SealedOutput) { o.Events[0].Sealed = false },
		func(o *proto.SealedOutput) { o.Events[0].Body[50] ^= 1 },
		func(o *proto.SealedOutput) { o.Events = append(o.Events, o.Events[0]) },
		func(o *proto.SealedOutput) { o.Commitment[0] ^= 1 },
	} {
		o, err := proto.ParseSealedOutput(s.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		edit(o)
		if verify(o, &res.Receipt) {
			t.Errorf("the receipt holds %+v", o)
		}
	}
	// Another replica posts the same events, byte for byte, and has the same receipt.
	twin := New(chain, w.id, w.c.keys, w.c.programs, rand.Reader)
	for i, items := range w.history {
		r, err := twin.Apply(t.Context(), items)
		if err != nil {
			t.Fatal(err)
		}
		if i == len(w.history)-1 && (!sameReceipt(r, res) || !bytes.Equal(r.Outputs[1].Events[0].Body, s.Events[0].Body)) {
			t.Error("another replica seals other events")
		}
	}
}

// TestEventKeysDiffer: two events never share a key or a nonce, equal ones neither.
func TestEventKeysDiffer(t *testing.T) {
	w := ready(t)
	pub := readerKey(t, 1).Public()
	seen := map[string]bool{}
	for range 3 {
		w.push(w.command("w" + string(pub[:]) + "same"))
		w.push(w.command("w" + string(pub[:]) + "same"))
	}
	w.pending = nil
	for _, o := range w.block().Outputs {
		body := o.Events[0].Body
		if seen[string(body[:45])] {
			t.Error("a key or nonce is used twice")
		}
		seen[string(body[:45])] = true
	}
}

// TestLogs: the deployer reads what its contracts logged, also when the command failed,
// and nobody else does.
func TestLogs(t *testing.T) {
	w, ids := several(t, 2)
	alice, err := commkey.New(w.alice.Secret()[:32])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ input, want string }{
		{"oline", "line\n"},
		{"Obefore it broke", "before it broke\n"},
		{"k" + string(ids[1][:]) + "Oin a callee", "in a callee\n"},
		{"o" + strings.Repeat("x", 50_000), strings.Repeat("x", 4096) + "\n"},
	} {
		cmd := w.push(w.command(c.input, pays(w.bob, 1<<30)))
		w.pending = nil
		res := w.block()
		o := &res.Outputs[0]
		w.open(cmd, o, &res.Receipt)
		if !verify(o, &res.Receipt) || len(o.Events) != 1 || !o.Events[0].Sealed {
			t.Fatalf("%.20q: events %+v", c.input, o.Events)
		}
		if e := w.open1(o, 0, alice); e == nil || !e.Log || string(e.Data) != c.want {
			t.Errorf("%.20q: alice reads %+v", c.input, e)
		}
		bob, _ := commkey.New(w.bob.Secret()[:32])
		if e := w.open1(o, 0, bob); e != nil {
			t.Errorf("%.20q: who called reads %+v", c.input, e)
		}
	}
	// A query's log goes nowhere.
	if status, _ := w.query(ids[0], "oline"); status != proto.StatusOK {
		t.Error(status)
	}
}

// TestEventLimits: number and size are bounded, so that an answer always fits its entry.
func TestEventLimits(t *testing.T) {
	w := ready(t)
	h := func() *host {
		return &host{x: &exec{c: w.c, o: &overlay{m: w.c.Snapshot().m, rules: &known[0]}}, call: &call{to: w.target, keep: true, rec: &contractRecord{Deployer: w.alice.id}}}
	}
	pub := readerKey(t, 1).Public()
	key := [32]byte(pub)
	many := h()
	for i := range engine.MaxEvents {
		if err := many.Emit(nil, nil); err != nil {
			t.Fatal(i, err)
		}
	}
	if err := many.Emit(nil, nil); err == nil || !strings.Contains(err.Error(), "64 events") {
		t.Errorf("one too many: %v", err)
	}
	large, n := h(), 0
	for large.Emit(&key, make([]byte, 16<<10)) == nil {
		n++
	}
	if n != 1 { // padded to 32 KiB each
		t.Errorf("%d events of 16 KiB", n)
	}
	logs := h()
	for range 100 {
		logs.Log(make([]byte, 4096))
	}
	if len(logs.x.logs) != 1 || len(logs.x.logs[0].lines) != engine.MaxLogBytes {
		t.Error("a log without end")
	}
	// The worst: the largest answer, all events, logs of every contract.
	x := large.x
	for i := range 2 * maxDepth {
		h := &host{x: x, call: &call{to: proto.ContractID{byte(i)}, keep: true, rec: &contractRecord{Deployer: w.alice.id}}}
		for range 5 {
			h.Log(make([]byte, 4096))
		}
	}
	events, err := x.seal([32]byte{1}, 7, proto.Hash{})
	if err != nil {
		t.Fatal(err)
	}
	o := proto.SealedOutput{Sealed: make([]byte, 256<<10+200), Proof: make([]proto.Hash, 12), Events: events}
	if entry := proto.MarshalEntry(proto.PostOutputs{Outputs: []proto.SealedOutput{o}}); len(entry) > proto.MaxEntry {
		t.Errorf("the largest answer makes an entry of %d bytes, at most %d", len(entry), proto.MaxEntry)
	}
	for _, e := range events {
		if len(e.Body) > proto.MaxEvent {
			t.Errorf("an event of %d bytes", len(e.Body))
		}
	}
}
