package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/inbox"
)

// push puts n greetings into the cluster's topic without waiting for their receipts.
func push(ctx context.Context, t *testing.T, c *client.Client, to proto.ContractID, n int) []*client.Pending {
	t.Helper()
	var out []*client.Pending
	for i := range n {
		input, err := client.Input("SetGreeting", fmt.Sprintf("pushed %d", i))
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Push(ctx, to, input, client.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

// position is what may not change when an attack is refused.
func position(st *pruntime.Status) string {
	b, _ := json.Marshal([]any{st.TrustedHeight, st.Height, st.Topics, st.Seq, st.StateRoot, st.Waiting, st.Fatal})
	return string(b)
}

// TestHostileRelayer plays pherry against a real worker: it drops, reorders, repeats,
// edits and invents messages, holds a topic back, and brings headers and proofs that do
// not fit. Each is refused with its code, nothing changes, and the honest advance is
// taken afterwards.
func TestHostileRelayer(t *testing.T) {
	n, _ := start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	worker, node := n.Private("worker-1"), n.Client.Node()
	if err := n.Kill("pherry"); err != nil {
		t.Fatal(err)
	}
	pending := push(ctx, t, n.Client, n.State().Contracts["hello"], 3)
	cluster := proto.TopicCluster(pending[0].Cluster)
	var height int64
	until(ctx, t, "a block after the commands", func() error {
		st, err := node.Status(ctx)
		if height = st.Height; err == nil && uint64(height) < pending[2].Height+2 {
			err = errors.New("not yet")
		}
		return err
	})
	before, err := worker.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	honest, err := pherry.Build(ctx, node, before, height)
	if err != nil {
		t.Fatal(err)
	}
	older, err := pherry.Build(ctx, node, before, height-1)
	if err != nil {
		t.Fatal(err)
	}
	first, err := pherry.Build(ctx, node, before, before.TrustedHeight) // where the worker is
	if err != nil {
		t.Fatal(err)
	}
	of := func(a *inbox.Advance, topic string) (out []int) {
		for i, m := range a.Messages {
			if m.Topic == topic {
				out = append(out, i)
			}
		}
		return out
	}
	if len(of(honest, cluster)) != 3 {
		t.Fatalf("the advance carries %d messages of the cluster", len(of(honest, cluster)))
	}
	at := func(a *inbox.Advance, topic string) int {
		return slices.IndexFunc(a.Topics, func(p inbox.Proven) bool { return p.Topic == topic })
	}
	for _, c := range []struct {
		name string
		code []string
		bend func(a *inbox.Advance)
	}{
		{"drops a message", []string{"order", "fold"}, func(a *inbox.Advance) { i := of(a, cluster)[1]; a.Messages = slices.Delete(a.Messages, i, i+1) }},
		{"drops the last message", []string{"fold"}, func(a *inbox.Advance) { i := of(a, cluster)[2]; a.Messages = slices.Delete(a.Messages, i, i+1) }},
		{"reorders messages", []string{"order"}, func(a *inbox.Advance) {
			i := of(a, cluster)
			a.Messages[i[0]], a.Messages[i[1]] = a.Messages[i[1]], a.Messages[i[0]]
		}},
		{"repeats a message", []string{"order"}, func(a *inbox.Advance) { a.Messages = append(a.Messages, a.Messages[of(a, cluster)[2]]) }},
		{"edits a message", []string{"fold"}, func(a *inbox.Advance) { m := a.Messages[of(a, cluster)[1]]; m.Payload[len(m.Payload)-1] ^= 1 }},
		{"renames the sender", []string{"fold"}, func(a *inbox.Advance) { a.Messages[of(a, cluster)[1]].Sender[0] ^= 1 }},
		{"moves a message in time", []string{"fold", "order"}, func(a *inbox.Advance) { a.Messages[of(a, cluster)[2]].Time++ }},
		{"invents a message", []string{"fold"}, func(a *inbox.Advance) {
			m := *a.Messages[of(a, cluster)[2]]
			m.Seq++
			a.Messages = append(a.Messages, &m)
		}},
		{"invents a topic", []string{"topics"}, func(a *inbox.Advance) { a.Topics = append(a.Topics, inbox.Proven{Topic: "cluster/9"}) }},
		{"holds a topic back", []string{"topics"}, func(a *inbox.Advance) {
			i := at(a, cluster)
			a.Topics = slices.Delete(a.Topics, i, i+1)
			a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == cluster })
		}},
		{"holds a topic back at its older position", []string{"proof"}, func(a *inbox.Advance) {
			i := at(a, cluster)
			a.Topics[i].Cursor = first.Topics[at(first, cluster)].Cursor
			a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == cluster })
		}},
		{"a proof of another key", []string{"proof"}, func(a *inbox.Advance) { a.Topics[0].Proof, a.Topics[1].Proof = a.Topics[1].Proof, a.Topics[0].Proof }},
		{"a proof of another height", []string{"proof", "fold"}, func(a *inbox.Advance) { a.Topics[at(a, cluster)].Proof = older.Topics[at(older, cluster)].Proof }},
		{"a header that too few signed", []string{"block_too_few_signed"}, func(a *inbox.Advance) { a.Blocks[0].Commit.Signatures[0] = comet.CommitSig{Flag: comet.FlagAbsent} }},
		{"a forged signature", []string{"block_signature"}, func(a *inbox.Advance) { a.Blocks[0].Commit.Signatures[0].Signature[7] ^= 1 }},
		{"a header of another chain", []string{"block_wrong_chain"}, func(a *inbox.Advance) { a.Blocks[0].Header.ChainID = "another" }},
		{"a header with another app hash", []string{"block_malformed"}, func(a *inbox.Advance) { a.Blocks[0].Header.AppHash[0] ^= 1 }},
		{"a header from the future", []string{"block_malformed", "block_from_future"}, func(a *inbox.Advance) { a.Blocks[0].Header.Time = a.Blocks[0].Header.Time.Add(time.Hour) }},
	} {
		a, err := inbox.ParseAdvance(honest.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		c.bend(a)
		_, err = worker.Advance(ctx, a)
		if code := pherry.Code(err); !slices.Contains(c.code, code) {
			t.Errorf("%s: got code %q (%v), want one of %v", c.name, code, err, c.code)
		}
		after, err := worker.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if position(after) != position(before) {
			t.Fatalf("%s: the worker's position changed:\n%s\n%s", c.name, position(before), position(after))
		}
	}
	st, err := worker.Advance(ctx, honest)
	if err != nil {
		t.Fatalf("the honest advance: %v", err)
	}
	if st.Seq != pending[2].Seq {
		t.Errorf("after the honest advance the cluster is at message %d, want %d", st.Seq, pending[2].Seq)
	}
	if _, err := worker.Advance(ctx, honest); err == nil {
		t.Error("the same advance was taken twice")
	}
	hostileOutbox(ctx, t, n, worker)
	if err := n.Run("pherry"); err != nil {
		t.Fatal(err)
	}
	for _, p := range pending {
		if _, err := n.Client.Wait(ctx, p); err != nil {
			t.Errorf("message %d: %v", p.Seq, err)
		}
	}
	if c := count(ctx, t, n); c != 3 {
		t.Errorf("three commands count as %d", c)
	}
}

// hostileOutbox submits runs of the worker's outbox that are not what it signed, and the
// right one twice at once.
func hostileOutbox(ctx context.Context, t *testing.T, n *devnet.Net, worker *pherry.Runtime) {
	t.Helper()
	st, err := worker.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// What the chain has already is acknowledged first, so that the run is all new.
	value, proof, err := n.Client.Node().Prove(ctx, proto.StoreMQ, proto.KeyOutbox(st.Worker), st.TrustedHeight-1)
	if err != nil {
		t.Fatal(err)
	}
	position, err := proto.ParseCursor(value)
	if err != nil {
		t.Fatal(err)
	}
	wrong := position
	wrong.Seq++
	if _, err := worker.Acknowledge(ctx, wrong, proof); pherry.Code(err) != "proof" {
		t.Errorf("a false position of the outbox: got %v, want proof", err)
	}
	if _, err := worker.Acknowledge(ctx, position, proof); err != nil {
		t.Fatal(err)
	}
	out, err := worker.Outbox(ctx)
	if err != nil || len(out.Entries) < 2 {
		t.Fatalf("the outbox has %d entries, %v", len(out.Entries), err)
	}
	op, err := n.Operator()
	if err != nil {
		t.Fatal(err)
	}
	gk, err := n.Private("gatekeeper").Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// Where the gatekeeper's own outbox goes on: what is before that is old, whoever signed it.
	value, err = n.Client.Node().Read(ctx, proto.StoreMQ, proto.KeyOutbox(gk.Worker))
	if err != nil {
		t.Fatal(err)
	}
	others, err := proto.ParseCursor(value)
	if err != nil {
		t.Fatal(err)
	}
	me := op.Key.Public()
	entries := func() (e []tx.Entry) {
		for _, x := range out.Entries {
			e = append(e, tx.Entry{Payload: bytes.Clone(x.Payload), Signature: bytes.Clone(x.Signature)})
		}
		return e
	}
	size := 0
	for _, e := range out.Entries {
		size += len(e.Payload)
	}
	gas := proto.OutboxGas(len(out.Entries), size)
	edited := entries()
	edited[0].Payload[len(edited[0].Payload)-1] ^= 1
	swapped := entries()
	swapped[0], swapped[1] = swapped[1], swapped[0]
	for _, c := range []struct {
		name   string
		worker proto.WorkerID
		first  uint64
		e      []tx.Entry
		code   uint32
	}{
		{"under another worker's name", gk.Worker, others.Seq + 1, entries(), 6},
		{"with a gap", st.Worker, out.First + 5, entries(), 5},
		{"edited", st.Worker, out.First, edited, 6},
		{"reordered", st.Worker, out.First, swapped, 6},
	} {
		_, err := op.Broadcast(ctx, gas, true, tx.SubmitOutbox(me[:], c.worker, c.first, c.e))
		var refused *tx.Refused
		if !errors.As(err, &refused) || refused.Space != "mq" || refused.Code != c.code {
			t.Errorf("a run %s: got %v, want mq %d", c.name, err, c.code)
		}
	}
	// Two relayers at once: the second run brings nothing new and is refused or skipped.
	alice := n.Client.Sender()
	mine := alice.Key.Public()
	h1, err1 := op.Broadcast(ctx, gas, true, tx.SubmitOutbox(me[:], st.Worker, out.First, entries()))
	h2, err2 := alice.Broadcast(ctx, 5_000_000, false, tx.SubmitOutbox(mine[:], st.Worker, out.First, entries()))
	took := 0
	for i, h := range []string{h1, h2} {
		if h == "" {
			continue
		}
		if _, err := op.Wait(ctx, h); err == nil {
			took++
		} else {
			t.Logf("relayer %d: %v", i+1, err)
		}
	}
	if took == 0 {
		t.Errorf("two relayers raced and neither run was taken: %v, %v", err1, err2)
	}
	// Once it is there, the run is an old one: it does not come into a block again.
	_, err = op.Broadcast(ctx, gas, true, tx.SubmitOutbox(me[:], st.Worker, out.First, entries()))
	var old *tx.Refused
	if !errors.As(err, &old) || old.Space != "mq" || old.Code != 9 {
		t.Errorf("an old run: got %v, want mq 9", err)
	}
}

// TestOlderState brings an older sealed checkpoint back, and edited and cut ones: the
// worker uses what is good, answers nothing until it has caught up, and ends where it was.
func TestOlderState(t *testing.T) {
	n, opt := start(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	hello, dir := n.State().Contracts["hello"], filepath.Join(opt.Dir, "worker-1")
	call := func(text string) {
		t.Helper()
		if _, err := n.Client.Call(ctx, hello, "SetGreeting", text, client.CallOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	call("first")
	n.Stop() // seals a checkpoint
	old := snapshotFiles(t, dir)
	restart := func() {
		t.Helper()
		var err error
		if n, err = devnet.Start(ctx, opt); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Stop)
	}
	restart()
	call("second")
	n.Stop()
	newest := snapshotFiles(t, dir)
	for name, files := range map[string]map[string][]byte{
		"an older state":          old,
		"an edited checkpoint":    bend(newest, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		"a cut checkpoint":        bend(newest, func(b []byte) []byte { return b[:len(b)-9] }),
		"a checkpoint of nothing": bend(newest, func([]byte) []byte { return nil }),
	} {
		put(t, dir, files)
		restart()
		if c := count(ctx, t, n); c != 2 {
			t.Errorf("%s: the contract counts %d changes, want 2", name, c)
		}
		n.Stop()
	}
	// Without its own identity the worker does not start, and says why.
	own := read(t, filepath.Join(dir, "identity"))
	edited := bytes.Clone(own)
	edited[len(edited)/2] ^= 1
	for name, b := range map[string][]byte{"another enclave's": read(t, filepath.Join(opt.Dir, "gatekeeper", "identity")), "an edited": edited, "a cut": own[:len(own)-9], "an empty": nil} {
		put(t, dir, map[string][]byte{"identity": b})
		if _, err := devnet.Start(ctx, opt); err == nil || !strings.Contains(err.Error(), "sealed file does not open") {
			t.Errorf("%s identity: got %v", name, err)
		}
	}
	put(t, dir, map[string][]byte{"identity": own})
	restart()
	if c := count(ctx, t, n); c != 2 {
		t.Errorf("with its identity again: the contract counts %d changes, want 2", c)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func snapshotFiles(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "checkpoint-*"))
	if err != nil || len(names) == 0 {
		t.Fatal("no checkpoint", err)
	}
	out := map[string][]byte{}
	for _, f := range names {
		out[filepath.Base(f)] = read(t, f)
	}
	return out
}

// bend changes the newest checkpoint only.
func bend(files map[string][]byte, f func([]byte) []byte) map[string][]byte {
	newest := ""
	out := map[string][]byte{}
	for name, b := range files {
		out[name] = bytes.Clone(b)
		newest = max(newest, name)
	}
	out[newest] = f(out[newest])
	return out
}

// put replaces the checkpoints, or other files by name.
func put(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name := range files {
		if strings.HasPrefix(name, "checkpoint-") {
			old, err := filepath.Glob(filepath.Join(dir, "checkpoint-*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range old {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
			break
		}
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
