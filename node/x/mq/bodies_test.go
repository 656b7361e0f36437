package mq

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	dbm "github.com/cosmos/cosmos-db"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/mq/types"
	"github.com/phala-go/phala/proto"
)

func contents(t *testing.T, db dbm.DB) map[string]string {
	t.Helper()
	it, err := db.Iterator(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer it.Close()
	out := map[string]string{}
	for ; it.Valid(); it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	return out
}

// TestStaging: nothing reaches the disk before the commit; what an abandoned
// execution staged is forgotten; committing twice changes nothing.
func TestStaging(t *testing.T) {
	db := dbm.NewMemDB()
	b := NewBodies(db)
	b.Begin()
	b.Stage([]byte("a"), []byte("1"))
	if v, err := b.Get([]byte("a")); v != nil || err != nil {
		t.Fatalf("staged body is served: %q %v", v, err)
	}
	b.Begin()
	b.Stage([]byte("b"), []byte("2"))
	for range 2 {
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := contents(t, db); !reflect.DeepEqual(got, map[string]string{"b": "2"}) {
			t.Fatalf("on disk: %v", got)
		}
	}
}

// failingDB refuses to write while down is set.
type failingDB struct {
	dbm.DB
	down bool
}

type failingBatch struct {
	dbm.Batch
	db *failingDB
}

var errDisk = errors.New("disk is full")

func (d *failingDB) NewBatch() dbm.Batch { return failingBatch{d.DB.NewBatch(), d} }

func (b failingBatch) WriteSync() error {
	if b.db.down {
		return errDisk
	}
	return b.Batch.WriteSync()
}

// TestCommitFails: the bodies stay staged until they are written.
func TestCommitFails(t *testing.T) {
	db := &failingDB{dbm.NewMemDB(), true}
	b := NewBodies(db)
	b.Stage([]byte("a"), []byte("1"))
	if err := b.Commit(); !errors.Is(err, errDisk) {
		t.Fatalf("got %v", err)
	}
	db.down = false
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if v, _ := b.Get([]byte("a")); string(v) != "1" {
		t.Fatalf("lost a body: %q", v)
	}
}

// TestBlockExecutesAgain: a block that was executed, abandoned (optimistic execution,
// or a crash before or after its bodies were written) and executed again leaves the
// same state and the same bodies as one execution.
func TestBlockExecutesAgain(t *testing.T) {
	block := func(e *env, extra bool) {
		e.Start()
		e.Must(e.append(proto.TopicSystem, proto.ChallengeEchoed{Nonce: [32]byte{1}}, nil))
		e.Must(e.append(proto.TopicCluster(1), proto.ChallengeEchoed{Nonce: [32]byte{2}}, nil))
		if extra {
			// The abandoned proposal had more in it than the one that was decided.
			e.Must(e.append(proto.TopicCluster(1), proto.ChallengeEchoed{Nonce: [32]byte{3}}, nil))
			e.Must(func(ctx sdk.Context) error { return e.k.Stage(ctx, []byte("c/x"), []byte("of the abandoned one")) })
		}
		if err := e.k.EndBlock(e.Context()); err != nil {
			t.Fatal(err)
		}
	}
	finish := func(e *env) {
		e.End = nil // block ran it
		e.Finish()
	}
	once := newEnv(t)
	block(once, false)
	finish(once)
	want := contents(t, once.db)
	if len(want) != 2 {
		t.Fatalf("%d bodies", len(want))
	}
	for _, c := range []struct {
		name  string
		extra bool
		crash func(e *env)
	}{
		{"abandoned proposal", true, func(*env) {}},
		{"crash after the bodies were written", false, func(e *env) {
			if err := e.k.Bodies().Commit(); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		e := newEnv(t)
		block(e, c.extra)
		c.crash(e)
		e.Abandon()
		block(e, false)
		finish(e)
		if got := contents(t, e.db); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: bodies differ from those of one execution", c.name)
		}
		if !reflect.DeepEqual(e.Dump(ModuleName), once.Dump(ModuleName)) {
			t.Errorf("%s: state differs", c.name)
		}
	}
}

func TestScan(t *testing.T) {
	b := NewBodies(dbm.NewMemDB())
	topics := []string{"cluster/1", "cluster/10", "cluster/1x", "system"}
	for i, topic := range topics {
		for seq := uint64(1); seq <= 300; seq += 37 {
			b.Stage(bodyKey(topic, seq), fmt.Appendf(nil, "%d %d", i, seq))
		}
	}
	b.Stage([]byte{0xff, 0xff, 1}, []byte("last"))
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	for i, topic := range topics {
		var got []string
		err := b.Scan(bodyPrefix(topic), sdk.Uint64ToBigEndian(38), func(_, v []byte) bool {
			got = append(got, string(v))
			return len(got) < 4
		})
		want := []string{fmt.Sprintf("%d 38", i), fmt.Sprintf("%d 75", i), fmt.Sprintf("%d 112", i), fmt.Sprintf("%d 149", i)}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v", topic, got, err)
		}
	}
	n := 0
	if err := b.Scan([]byte{0xff, 0xff}, nil, func(_, v []byte) bool { n++; return string(v) == "last" }); err != nil || n != 1 {
		t.Errorf("a prefix without a successor: %d entries, %v", n, err)
	}
}

// TestMessagesSize: an answer holds at least one message and not much more than 8 MiB.
func TestMessagesSize(t *testing.T) {
	e := newEnv(t)
	e.Start()
	for range 12 {
		e.Must(e.append(proto.TopicCluster(1), proto.PushedCommand{Envelope: make([]byte, 1<<20)}, nil))
	}
	e.Finish()
	r, err := e.k.Messages(e.Context(), &types.QueryMessagesRequest{Topic: "cluster/1", FromSeq: 1, Limit: 1000})
	if err != nil || len(r.Messages) != 7 {
		t.Fatalf("%d messages of 1 MiB, %v", len(r.Messages), err)
	}
}
