package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

func epochKeys(t testing.TB, n byte) (*commkey.SecretKey, [32]byte) {
	t.Helper()
	key, blind, err := EpochKey([32]byte{n, n})
	if err != nil {
		t.Fatal(err)
	}
	return key, blind
}

// TestEpochs: commands are of the epoch that the topic is in, the old key is erased, and
// a replica without the new one waits and loses nothing.
func TestEpochs(t *testing.T) {
	w := ready(t)
	old := w.epoch
	key, blind := epochKeys(t, 5)
	w.push(w.command("pkold"))
	root := w.c.Snapshot().Root()
	started := append(slices.Clone(w.items), inbox.Item{Event: proto.EpochStarted{Cluster: w.id, Epoch: 5}})
	if _, err := w.c.Apply(context.Background(), started); !errors.Is(err, ErrNeedKey) || w.c.Snapshot().Root() != root {
		t.Fatalf("without the key: %v", err)
	}
	secrets := w.c.keys.Opener.(Secrets)
	secrets[5] = key
	if !w.c.AddEpoch(5, blind) {
		t.Fatal("key refused")
	}
	w.message(proto.EpochStarted{Cluster: w.id, Epoch: 5})
	late := w.command("pklate")
	w.push(late) // sealed to the epoch that has just ended
	cmds := w.pending
	w.pending = nil
	res := w.block()
	if res.Started != 5 || w.c.Snapshot().Epoch() != 5 {
		t.Fatalf("started %d, epoch %d", res.Started, w.c.Snapshot().Epoch())
	}
	if out := w.open(cmds[0], &res.Outputs[0], &res.Receipt); out.Status != proto.StatusOK {
		t.Errorf("before the end: %s", out.Status)
	}
	if len(res.Outputs) != 1 || res.Receipt.Items[2].Answered || w.stored("k") != "old" {
		t.Errorf("after the end: %d answers, stored %q", len(res.Outputs), w.stored("k"))
	}
	if len(secrets) != 1 || len(w.c.keys.Blind) != 1 || secrets[5] == nil {
		t.Error("the old epoch's keys are still there")
	}
	secrets[1] = old
	if !w.c.AddEpoch(1, [32]byte{}) || len(secrets) != 1 || len(w.c.keys.Blind) != 1 {
		t.Error("an old key that comes late is kept")
	}
	w.epoch = key
	w.push(w.command("pknew", func(c *command) {
		c.pushed.Epoch = 5
		c.ctx = c.pushed.Context(chain, w.id)
	}))
	_, other := epochKeys(t, 6)
	if w.c.AddEpoch(5, other) {
		t.Error("an epoch's key changed")
	}
	wantStatus(t, "with the key", w.run()[0], proto.StatusOK)
	if w.stored("k") != "new" {
		t.Errorf("stored %q", w.stored("k"))
	}
	// A replay of the same topic gives the same root.
	keys, _ := testKeys(t)
	twin := New(chain, w.id, keys, w.c.programs, rand.Reader)
	twin.keys.Opener.(Secrets)[5] = key
	twin.AddEpoch(5, blind)
	for _, items := range w.history {
		if _, err := twin.Apply(context.Background(), items); err != nil {
			t.Fatal(err)
		}
	}
	if twin.Snapshot().Root() != w.c.Snapshot().Root() {
		t.Error("two replicas differ")
	}
}

// TestSnapshot: replicas make the same bytes; whoever has the cluster's keys continues
// from them like the others, and nothing else opens or passes.
func TestSnapshot(t *testing.T) {
	w := ready(t)
	w.one(w.command("pkvalue"))
	keys, _ := testKeys(t)
	twin := New(chain, w.id, keys, w.c.programs, rand.Reader)
	for _, items := range w.history {
		if _, err := twin.Apply(context.Background(), items); err != nil {
			t.Fatal(err)
		}
	}
	s, pieces, err := w.c.Seal(w.c.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	s2, pieces2, err := twin.Seal(twin.Snapshot())
	if err != nil || s.Ref() != s2.Ref() || !slices.EqualFunc(pieces, pieces2, bytes.Equal) {
		t.Fatal("two replicas make different snapshots", err)
	}
	for i, p := range pieces {
		if sha256.Sum256(p) != s.Pieces[i] || len(p) != s.PieceLen(i) {
			t.Fatalf("piece %d", i)
		}
		if bytes.Contains(p, []byte("value")) {
			t.Fatal("a snapshot shows the state")
		}
	}
	fresh := New(chain, w.id, keys, w.c.programs, rand.Reader)
	state, err := fresh.Unseal(s, pieces)
	if err != nil || state.Root() != w.c.Snapshot().Root() {
		t.Fatal(err)
	}
	if err := fresh.Adopt(state); err != nil {
		t.Fatal(err)
	}
	if err := fresh.Adopt(state); !errors.Is(err, ErrSnapshot) {
		t.Errorf("adopted twice: %v", err)
	}
	// It goes on like the others.
	w.push(w.command("pkmore"))
	items := w.items
	w.run()
	res, err := fresh.Apply(context.Background(), items)
	if err != nil || res.Receipt.StateRoot != w.c.Snapshot().Root() {
		t.Fatalf("%v", err)
	}
	for _, c := range []struct {
		name string
		edit func(c *Cluster, s *proto.Snapshot, p [][]byte) (*Cluster, [][]byte)
	}{
		{"a flipped bit", func(c *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) { p[0][7] ^= 1; return c, p }},
		{"a piece missing", func(c *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) { return c, p[1:] }},
		{"another root", func(c *Cluster, s *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) { s.Root[0] ^= 1; return c, p }},
		{"another position", func(c *Cluster, s *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) { s.Cursor.Seq++; return c, p }},
		{"another epoch", func(c *Cluster, s *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) { s.Epoch++; return c, p }},
		{"another cluster", func(_ *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) {
			return New(chain, w.id+1, keys, nil, rand.Reader), p
		}},
		{"another chain", func(_ *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) {
			return New("test-2", w.id, keys, nil, rand.Reader), p
		}},
		{"no key of the epoch", func(_ *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) {
			k := keys
			k.Blind = nil
			return New(chain, w.id, k, nil, rand.Reader), p
		}},
		{"the key of another epoch", func(_ *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) {
			k := keys
			k.Blind = map[uint64][32]byte{1: {8}}
			return New(chain, w.id, k, nil, rand.Reader), p
		}},
		{"other keys", func(_ *Cluster, _ *proto.Snapshot, p [][]byte) (*Cluster, [][]byte) {
			k := keys
			k.Stable = [32]byte{9}
			return New(chain, w.id, k, nil, rand.Reader), p
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *s
			var p [][]byte
			for _, b := range pieces {
				p = append(p, bytes.Clone(b))
			}
			opener, p := c.edit(New(chain, w.id, keys, nil, rand.Reader), &s, p)
			if _, err := opener.Unseal(&s, p); !errors.Is(err, ErrSnapshot) && !errors.Is(err, ErrNeedKey) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSnapshotSizes: a state of any size is cut into pieces and comes back, and its exact
// size does not show.
func TestSnapshotSizes(t *testing.T) {
	sizes := map[uint64]bool{}
	for _, n := range []int{0, 1, 100, 20_000, pieceText - 500, pieceText, 2*pieceText + 5} {
		w := newWorld(t, home)
		o := &overlay{m: w.c.Snapshot().m, rules: &known[0]}
		for i := 0; n > 0; i++ {
			part := min(n, 100_000)
			o.m = o.m.Set([]byte{'s', '/', byte(i)}, make([]byte, part))
			n -= part
		}
		big := &Snapshot{o.m, o.m.Root()}
		s, pieces, err := w.c.Seal(big)
		if err != nil {
			t.Fatal(err)
		}
		back, err := w.c.Unseal(s, pieces)
		if err != nil || back.Root() != big.Root() {
			t.Fatal(err)
		}
		if _, err := proto.ParseSnapshot(s.Marshal()); err != nil {
			t.Fatal(err)
		}
		sizes[s.Size] = true
	}
	if len(sizes) != 5 { // 0, 1 and 100 bytes look alike
		t.Errorf("sizes %v", sizes)
	}
}
