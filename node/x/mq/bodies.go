package mq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	dbm "github.com/cosmos/cosmos-db"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// Bodies is the side database: message bodies, code chunks and sealed outputs.
// Nothing in execution reads it, so it is not part of the app hash; what it serves
// is checked by whoever uses it, against a proven head, a code hash or a receipt.
//
// Writes are staged while a block executes and reach the disk when the block is
// committed. A block may execute more than once (optimistic execution, a replay
// after a crash): Begin drops what an earlier execution staged, and writing the
// same body twice is harmless because its key names it.
type Bodies struct {
	db dbm.DB

	mu      sync.Mutex
	staged  map[string][]byte
	dropped [][]byte // prefixes
}

// NewBodies uses db, which the caller closes.
func NewBodies(db dbm.DB) *Bodies { return &Bodies{db: db, staged: map[string][]byte{}} }

// Begin forgets what is staged.
func (b *Bodies) Begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.staged)
	b.dropped = nil
}

// Stage adds a write to the block that executes.
func (b *Bodies) Stage(key, value []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.staged[string(key)] = value
}

// Drop removes what has the prefix when the block is committed: pieces of a snapshot that
// a newer one replaced. It is for the end of a block, which cannot fail as a transaction
// can.
func (b *Bodies) Drop(prefix []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropped = append(b.dropped, prefix)
}

// Commit writes what is staged.
func (b *Bodies) Commit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.staged) == 0 && len(b.dropped) == 0 {
		return nil
	}
	batch := b.db.NewBatch()
	defer batch.Close()
	for _, prefix := range b.dropped {
		var failed error
		err := b.Scan(prefix, nil, func(key, _ []byte) bool {
			failed = batch.Delete(append([]byte(nil), key...))
			return failed == nil
		})
		if err := errors.Join(err, failed); err != nil {
			return fmt.Errorf("mq: drop bodies: %w", err)
		}
	}
	for k, v := range b.staged {
		if err := batch.Set([]byte(k), v); err != nil {
			return fmt.Errorf("mq: stage body: %w", err)
		}
	}
	if err := batch.WriteSync(); err != nil {
		return fmt.Errorf("mq: write bodies: %w", err)
	}
	clear(b.staged)
	b.dropped = nil
	return nil
}

// Get returns a value on disk, nil when there is none.
func (b *Bodies) Get(key []byte) ([]byte, error) { return b.db.Get(key) }

// Scan calls f for every entry with the prefix, in order of keys, until f says
// stop.
func (b *Bodies) Scan(prefix, from []byte, f func(key, value []byte) (more bool)) error {
	it, err := b.db.Iterator(append(append([]byte(nil), prefix...), from...), kv.PrefixEnd(prefix))
	if err != nil {
		return err
	}
	defer it.Close()
	for ; it.Valid(); it.Next() {
		if !f(it.Key(), it.Value()) {
			break
		}
	}
	return it.Error()
}

// Prune removes a topic's bodies of blocks below a height and with sequences below
// needed, at most limit of them. start
// is where the topic's bodies begin on this chain. Up to where it pruned is kept as a
// cursor, so that what is left can still be folded up to the proven head.
func (b *Bodies) Prune(topic string, start proto.Cursor, below, needed uint64, limit int) (int, error) {
	c, err := b.pruned(topic, start)
	if err != nil {
		return 0, err
	}
	batch := b.db.NewBatch()
	defer batch.Close()
	n := 0
	var failed error
	err = b.Scan(bodyPrefix(topic), binary.BigEndian.AppendUint64(nil, c.Seq+1), func(key, value []byte) bool {
		m, err := proto.ParseMessage(value)
		if err == nil && m.Seq != c.Seq+1 {
			err = fmt.Errorf("mq: prune: message %d of %s follows %d", m.Seq, topic, c.Seq)
		}
		if err != nil {
			failed = err
			return false
		}
		if m.Height >= below || m.Seq >= needed || n == limit {
			return false
		}
		c = c.Fold(m)
		n++
		failed = batch.Delete(append([]byte(nil), key...))
		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil || n == 0 {
		return 0, err
	}
	if err := batch.Set(prunedKey(topic), c.Marshal()); err != nil {
		return 0, err
	}
	return n, batch.Write()
}

// pruned is the position up to which a topic's bodies were removed.
func (b *Bodies) pruned(topic string, start proto.Cursor) (proto.Cursor, error) {
	v, err := b.db.Get(prunedKey(topic))
	if err != nil || v == nil {
		return start, err
	}
	c, err := proto.ParseCursor(v)
	if err == nil && c.Seq < start.Seq {
		c = start
	}
	return c, err
}

func prunedKey(topic string) []byte { return append([]byte("p/"), topic...) }

// hasKind reports whether a key is of a kind that the side database holds: "b/" the
// body of a message, "c/" a chunk of code, "o/" a sealed output, "p/" the position up
// to which a topic was pruned, "s/" a piece of a cluster's snapshot.
func hasKind(key []byte) bool {
	return len(key) > 2 && key[1] == '/' && (key[0] == 'b' || key[0] == 'c' || key[0] == 'o' || key[0] == 'p' || key[0] == 's')
}

func isBody(key []byte) bool { return hasKind(key) && key[0] == 'b' }

// bodyPrefix is where a topic's bodies are; a body's key ends in its sequence.
func bodyPrefix(topic string) []byte { return append(append([]byte("b/"), topic...), 0) }

func bodyKey(topic string, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(bodyPrefix(topic), seq)
}
