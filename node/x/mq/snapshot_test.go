package mq

import (
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	dbm "github.com/cosmos/cosmos-db"
	snapshot "github.com/cosmos/cosmos-sdk/store/v2/snapshots/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

func chainID() string { return testchain.ID }

// take returns the entries of a snapshot of a height.
func (e *env) take(height uint64) [][]byte {
	e.t.Helper()
	var out [][]byte
	s := NewSnapshotter(e.k, e.MS, e.Key(ModuleName), chainID)
	if err := s.SnapshotExtension(height, func(b []byte) error { out = append(out, slices.Clone(b)); return nil }); err != nil {
		e.t.Fatal(err)
	}
	return out
}

// restore gives entries to a node that has the same state and no bodies.
func (e *env) restore(entries [][]byte) (*dbm.MemDB, error) {
	db := dbm.NewMemDB()
	k := NewKeeper(e.Store(ModuleName), e.Transient(TransientKey), NewBodies(db))
	i := 0
	err := NewSnapshotter(k, e.MS, e.Key(ModuleName), chainID).RestoreExtension(e.Height(), snapshotFormat, func() ([]byte, error) {
		if i == len(entries) {
			return nil, io.EOF
		}
		i++
		return entries[i-1], nil
	})
	// Whatever is still staged would be written with the next block.
	return db, errors.Join(err, k.Bodies().Commit())
}

// fill writes six messages in two blocks to two of the three topics, and a chunk.
func (e *env) fill() {
	for i := range byte(2) {
		e.Block(e.append(proto.TopicSystem, proto.ChallengeEchoed{Nonce: [32]byte{i}}, nil),
			e.append(proto.TopicCluster(1), proto.ChallengeEchoed{Nonce: [32]byte{i, 1}}, nil),
			e.append(proto.TopicCluster(1), proto.ChallengeEchoed{Nonce: [32]byte{i, 2}}, nil),
			func(ctx sdk.Context) error { return e.k.Stage(ctx, []byte("c/chunk"), []byte("of a code")) })
	}
}

func entry(key, value []byte) []byte { return new(wire.Writer).Blob(key).Blob(value).Bytes() }

func parts(b []byte) (key, value []byte) {
	r := wire.NewReader(b)
	return r.Blob(1 << 20), r.Blob(1 << 22)
}

func TestSnapshotRoundTrip(t *testing.T) {
	e := newEnv(t)
	e.fill()
	entries := e.take(e.Height())
	db, err := e.restore(entries)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := contents(t, db), contents(t, e.db); !reflect.DeepEqual(got, want) || len(want) != 7 {
		t.Fatalf("restored %d entries of %d", len(got), len(want))
	}
	t.Run("of an older height", func(t *testing.T) {
		if n := len(e.take(e.Height() - 1)); n != 4 {
			t.Fatalf("%d entries belong to the block before", n)
		}
	})
	t.Run("of a chain without messages", func(t *testing.T) {
		e := newEnv(t)
		if _, err := e.restore(e.take(e.Height())); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSnapshotRefused(t *testing.T) {
	e := newEnv(t)
	e.fill()
	good := e.take(e.Height())
	// The order is: four of cluster/1, two of system, the chunk.
	index := func(topic string, seq uint64) int {
		i := slices.IndexFunc(good, func(b []byte) bool { k, _ := parts(b); return string(k) == string(bodyKey(topic, seq)) })
		if i < 0 {
			t.Fatalf("message %d of %s is not in the snapshot", seq, topic)
		}
		return i
	}
	without := func(drop ...int) (out [][]byte) {
		for i, b := range good {
			if !slices.Contains(drop, i) {
				out = append(out, b)
			}
		}
		return out
	}
	edited := func(i int, f func(m *proto.Message)) [][]byte {
		out := slices.Clone(good)
		k, v := parts(out[i])
		m, err := proto.ParseMessage(v)
		if err != nil {
			t.Fatal(err)
		}
		f(m)
		out[i] = entry(k, m.Marshal())
		return out
	}
	c1, c2, c4, s1, s2 := index("cluster/1", 1), index("cluster/1", 2), index("cluster/1", 4), index("system", 1), index("system", 2)
	swapped := slices.Clone(good)
	swapped[c1], swapped[c2] = swapped[c2], swapped[c1]
	renumbered := slices.Clone(good)
	_, v1 := parts(good[c1])
	_, v2 := parts(good[c2])
	renumbered[c1], renumbered[c2] = entry(bodyKey("cluster/1", 1), v2), entry(bodyKey("cluster/1", 2), v1)
	moved := slices.Clone(good)
	moved[s2] = entry(bodyKey("gatekeeper", 1), v1)
	later := func(b []byte) [][]byte { return append(slices.Clone(good), b) }
	invented := &proto.Message{Topic: "system", Seq: 3, Height: e.Height(), Payload: []byte{1}}
	unknown := &proto.Message{Topic: "cluster/7", Seq: 1, Height: e.Height(), Payload: []byte{1}}
	for _, c := range []struct {
		name    string
		entries [][]byte
		want    string
	}{
		{"first body dropped", without(c1), "follows 0"},
		{"body in the middle dropped", without(c2), "follows 1"},
		{"last body dropped", without(c4), "topic cluster/1 folds to 3"},
		{"a whole topic dropped", without(s1, s2), "topic system folds to 0"},
		{"everything dropped", nil, "folds to 0"},
		{"payload edited", edited(c2, func(m *proto.Message) { m.Payload[3] ^= 1 }), "topic cluster/1 folds to 4"},
		{"sender edited", edited(c2, func(m *proto.Message) { m.Sender = nil }), "topic cluster/1 folds to 4"},
		{"height edited", edited(s1, func(m *proto.Message) { m.Height++ }), "topic system folds to 2"},
		{"time edited", edited(s1, func(m *proto.Message) { m.Time++ }), "topic system folds to 2"},
		{"two bodies swapped", swapped, "follows 0"},
		{"two bodies swapped under each other's keys", renumbered, "follows 0"},
		{"filed under another topic", moved, "message 1 of cluster/1 follows 4"},
		{"repeated", slices.Insert(slices.Clone(good), c2, good[c1]), "follows 1"},
		{"invented", later(entry(bodyKey("system", 3), invented.Marshal())), "topic system folds to 3"},
		{"topic that the state does not have", later(entry(bodyKey("cluster/7", 1), unknown.Marshal())), "no such topic"},
		{"body that is no message", later(entry([]byte("b/x"), []byte{1})), "proto: message"},
		{"key of no kind", later(entry([]byte("x/y"), []byte{1})), "unknown kind of entry"},
		{"key without a kind", later(entry(nil, []byte{1})), "unknown kind of entry"},
		{"bytes after an entry", later(append(entry([]byte("c/x"), nil), 0)), wire.ErrTrailing.Error()},
		{"entry cut", later(entry([]byte("c/x"), []byte("y"))[:6]), wire.ErrShort.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, err := e.restore(c.entries)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q in it", err, c.want)
			}
			if left := contents(t, db); len(left) != 0 {
				t.Fatalf("%d entries are on the disk", len(left))
			}
		})
	}
	s := NewSnapshotter(e.k, e.MS, e.Key(ModuleName), chainID)
	if err := s.RestoreExtension(1, 2, nil); !errors.Is(err, snapshot.ErrUnknownFormat) {
		t.Errorf("unknown format: %v", err)
	}
	if err := s.RestoreExtension(1, 1, func() ([]byte, error) { return nil, errDisk }); !errors.Is(err, errDisk) {
		t.Errorf("a reader that fails: %v", err)
	}
	if s.SnapshotName() != "phala_bodies" || s.SnapshotFormat() != 1 || !reflect.DeepEqual(s.SupportedFormats(), []uint32{1}) {
		t.Error("name or format changed")
	}
	if err := s.SnapshotExtension(e.Height(), func([]byte) error { return errDisk }); !errors.Is(err, errDisk) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// TestSnapshotAfterImport: a chain that began from an export has no bodies from
// before, and its snapshots are restored all the same.
func TestSnapshotAfterImport(t *testing.T) {
	old := newEnv(t)
	old.fill()
	exported := Module{old.k}.ExportGenesis(old.Context(), nil)

	e := &env{Chain: testchain.New(t, []string{ModuleName}, []string{TransientKey}), t: t, db: dbm.NewMemDB()}
	e.k = NewKeeper(e.Store(ModuleName), e.Transient(TransientKey), NewBodies(e.db))
	e.End, e.Commit = append(e.End, e.k.EndBlock), e.k.Bodies().Commit
	e.Block(func(ctx sdk.Context) error { Module{e.k}.InitGenesis(ctx, nil, exported); return nil })
	if _, err := e.restore(e.take(e.Height())); err != nil {
		t.Fatalf("before the first message: %v", err)
	}
	e.fill()
	if e.cursor(proto.TopicCluster(1)).Seq != 8 {
		t.Fatalf("cluster/1 is at %d", e.cursor(proto.TopicCluster(1)).Seq)
	}
	good := e.take(e.Height())
	if _, err := e.restore(good); err != nil {
		t.Fatal(err)
	}
	if _, err := e.restore(good[1:]); err == nil {
		t.Fatal("a dropped body is accepted")
	}
	// An operator may go on with the old node's folder: what is older than the chain's
	// beginning stays there and is not part of a snapshot.
	for k, v := range contents(t, old.db) {
		if err := e.db.Set([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.restore(e.take(e.Height())); err != nil {
		t.Fatalf("in the old folder: %v", err)
	}
}
