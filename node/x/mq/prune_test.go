package mq

import (
	"slices"
	"testing"

	dbm "github.com/cosmos/cosmos-db"

	"github.com/phala-go/phala/proto"
)

// TestPrune: what is left after pruning folds from the kept position to the same head,
// a second pass goes on where the first stopped, and nothing young is touched.
func TestPrune(t *testing.T) {
	const topic = "cluster/1"
	b := NewBodies(dbm.NewMemDB())
	start := proto.CreatedCursor("chain", topic)
	end := start
	for seq := uint64(1); seq <= 100; seq++ {
		m := &proto.Message{Topic: topic, Seq: seq, Height: seq * 10, Payload: []byte{byte(seq)}}
		end = end.Fold(m)
		b.Stage(bodyKey(topic, seq), m.Marshal())
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		below, needed uint64
		limit         int
		want          int
	}{{5, 999, 100, 0}, {505, 999, 20, 20}, {505, 31, 100, 10}, {505, 999, 100, 20}, {505, 999, 100, 0}} {
		n, err := b.Prune(topic, start, c.below, c.needed, c.limit)
		if err != nil || n != c.want {
			t.Fatalf("below %d, needed from %d, at most %d: pruned %d, %v; want %d", c.below, c.needed, c.limit, n, err, c.want)
		}
	}
	cursor, err := b.pruned(topic, start)
	if err != nil || cursor.Seq != 50 {
		t.Fatal(cursor, err)
	}
	err = b.Scan(bodyPrefix(topic), nil, func(_, v []byte) bool {
		m, err := proto.ParseMessage(v)
		if err != nil {
			t.Fatal(err)
		}
		cursor = cursor.Fold(m)
		return true
	})
	if err != nil || cursor != end {
		t.Fatalf("what is left folds to %d %s, want %d %s, %v", cursor.Seq, cursor.Head, end.Seq, end.Head, err)
	}
}

// TestPrunedSnapshot: a node that pruned serves snapshots that restore, and a wrong
// position in one does not pass.
func TestPrunedSnapshot(t *testing.T) {
	e := newEnv(t)
	e.fill()
	topic := proto.TopicCluster(1)
	if n, err := e.k.Bodies().Prune(topic, proto.CreatedCursor(chainID(), topic), e.Height()+1, 1<<62, 3); err != nil || n != 3 {
		t.Fatal(n, err)
	}
	entries := e.take(e.Height())
	if key, _ := parts(entries[0]); string(key) != "p/"+topic {
		t.Fatalf("the first entry is %q", key)
	}
	if _, err := e.restore(entries); err != nil {
		t.Fatal(err)
	}
	_, value := parts(entries[0])
	position := func(change func(c *proto.Cursor)) []byte {
		c, err := proto.ParseCursor(value)
		if err != nil {
			t.Fatal(err)
		}
		change(&c)
		return entry([]byte("p/"+topic), c.Marshal())
	}
	first := func(b []byte) [][]byte { return append([][]byte{b}, entries[1:]...) }
	for name, bent := range map[string][][]byte{
		"position left out":     entries[1:],
		"position one too far":  first(position(func(c *proto.Cursor) { c.Seq++ })),
		"position past the end": first(position(func(c *proto.Cursor) { c.Seq += 100 })),
		"another head":          first(position(func(c *proto.Cursor) { c.Head[0] ^= 1 })),
		"of no topic":           first(entry([]byte("p/nothing"), value)),
		"cut":                   first(entry([]byte("p/"+topic), value[:39])),
		"after the bodies":      append(slices.Clone(entries[1:]), entries[0]),
	} {
		if _, err := e.restore(bent); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
}
