package mq

import (
	"errors"
	"fmt"
	"io"
	"slices"

	snapshot "github.com/cosmos/cosmos-sdk/store/v2/snapshots/types"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

// A Snapshotter carries the bodies in state-sync snapshots. On restore every body
// is folded again and the result compared with the heads in the restored state: a
// peer cannot slip in, drop or reorder a message.
type Snapshotter struct {
	k     *Keeper
	ms    storetypes.MultiStore
	key   storetypes.StoreKey
	chain func() string
}

// NewSnapshotter returns a snapshotter of the keeper's bodies.
func NewSnapshotter(k *Keeper, ms storetypes.MultiStore, key storetypes.StoreKey, chain func() string) *Snapshotter {
	return &Snapshotter{k, ms, key, chain}
}

const snapshotFormat = 1

// SnapshotName names the extension.
func (*Snapshotter) SnapshotName() string { return "phala_bodies" }

// SnapshotFormat is the format written.
func (*Snapshotter) SnapshotFormat() uint32 { return snapshotFormat }

// SupportedFormats are the formats read.
func (*Snapshotter) SupportedFormats() []uint32 { return []uint32{snapshotFormat} }

// keyStart is where the state keeps the position at which a topic's bodies begin on
// this chain, when that is not its creation: the position in the genesis that the
// chain began from.
func keyStart(topic string) []byte { return append([]byte("s/"), topic...) }

// SnapshotExtension writes every entry of the side database that belongs to a state
// of this height. Bodies of later heights may be there already; each carries its
// height. Bodies from before the chain's own genesis may be there too, in a folder
// that an older chain used.
func (s *Snapshotter) SnapshotExtension(height uint64, write snapshot.ExtensionPayloadWriter) error {
	state, err := s.ms.CacheMultiStoreWithVersion(int64(height))
	if err != nil {
		return fmt.Errorf("mq: snapshot of height %d: %w", height, err)
	}
	starts := map[string]proto.Cursor{}
	err = topics(state.GetKVStore(s.key), s.chain(), func(topic string, start, _ proto.Cursor) error {
		starts[topic] = start
		return nil
	})
	if err != nil {
		return err
	}
	var failed error
	entry := func(key, value []byte) bool {
		failed = write(new(wire.Writer).Blob(key).Blob(value).Bytes())
		return failed == nil
	}
	// Where this node pruned comes first: the bodies that follow fold from there. It needs
	// no trust, because they fold to the proven head from no other position.
	prefix := []byte("p/")
	err = s.k.bodies.Scan(prefix, nil, func(key, value []byte) bool {
		c, err := proto.ParseCursor(value)
		if start, ok := starts[string(key[len(prefix):])]; err != nil || !ok || c.Seq <= start.Seq {
			failed = err
			return err == nil
		}
		return entry(key, value)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	err = s.k.bodies.Scan(nil, nil, func(key, value []byte) bool {
		if key[0] == 'p' {
			return true
		}
		if isBody(key) {
			m, err := proto.ParseMessage(value)
			if err != nil {
				failed = fmt.Errorf("mq: body %x: %w", key, err)
				return false
			}
			if start, ok := starts[m.Topic]; !ok || m.Height > height || m.Seq <= start.Seq {
				return true
			}
		}
		return entry(key, value)
	})
	return errors.Join(err, failed)
}

// RestoreExtension reads what SnapshotExtension wrote. Bodies arrive in the order of
// topic and sequence. Nothing is written unless all of it is good.
func (s *Snapshotter) RestoreExtension(_ uint64, format uint32, read snapshot.ExtensionPayloadReader) error {
	if format != snapshotFormat {
		return snapshot.ErrUnknownFormat
	}
	s.k.bodies.Begin()
	err := s.restore(read)
	if err != nil {
		s.k.bodies.Begin()
		return err
	}
	return s.k.bodies.Commit()
}

func (s *Snapshotter) restore(read snapshot.ExtensionPayloadReader) error {
	cursors, want := map[string]proto.Cursor{}, map[string]proto.Cursor{}
	err := topics(s.ms.GetKVStore(s.key), s.chain(), func(topic string, start, now proto.Cursor) error {
		cursors[topic], want[topic] = start, now
		return nil
	})
	if err != nil {
		return err
	}
	for {
		b, err := read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		r := wire.NewReader(b)
		key, value := r.Blob(512), r.Blob(proto.MaxPayload+1024)
		if err := r.Close(); err != nil {
			return fmt.Errorf("mq: snapshot entry: %w", err)
		}
		switch {
		case isBody(key):
			m, err := proto.ParseMessage(value)
			if err != nil {
				return err
			}
			c, ok := cursors[m.Topic]
			if !ok {
				return ErrNoTopic.Wrap(m.Topic)
			}
			if m.Seq != c.Seq+1 || string(bodyKey(m.Topic, m.Seq)) != string(key) {
				return fmt.Errorf("mq: snapshot: entry %x with message %d of %s follows %d", key, m.Seq, m.Topic, c.Seq)
			}
			cursors[m.Topic] = c.Fold(m)
		case hasKind(key) && key[0] == 'p':
			topic := string(key[2:])
			c, err := proto.ParseCursor(value)
			if err != nil {
				return fmt.Errorf("mq: snapshot: pruned position of %s: %w", topic, err)
			}
			if at, ok := cursors[topic]; !ok || c.Seq <= at.Seq || c.Seq > want[topic].Seq {
				return fmt.Errorf("mq: snapshot: %s pruned up to %d, its bodies are at %d of %d", topic, c.Seq, at.Seq, want[topic].Seq)
			}
			cursors[topic] = c
		case !hasKind(key):
			return fmt.Errorf("mq: snapshot: unknown kind of entry %x", key)
		}
		s.k.bodies.Stage(key, value)
	}
	// Every topic of the state is asked, so that a topic left out shows.
	names := make([]string, 0, len(want))
	for topic := range want {
		names = append(names, topic)
	}
	slices.Sort(names)
	for _, topic := range names {
		if c, w := cursors[topic], want[topic]; c != w {
			return fmt.Errorf("mq: snapshot: topic %s folds to %d %s, the state has %d %s", topic, c.Seq, c.Head, w.Seq, w.Head)
		}
	}
	return nil
}

// topics calls f for every topic of a state, with the position at which its bodies
// begin and the one at which it is.
func topics(state storetypes.KVStore, chain string, f func(topic string, start, now proto.Cursor) error) error {
	prefix := []byte("t/")
	it := state.Iterator(prefix, kv.PrefixEnd(prefix))
	defer it.Close()
	for ; it.Valid(); it.Next() {
		topic := string(it.Key()[len(prefix):])
		now, err := proto.ParseCursor(it.Value())
		if err != nil {
			return fmt.Errorf("mq: topic %s: %w", topic, err)
		}
		start := proto.CreatedCursor(chain, topic)
		if b := state.Get(keyStart(topic)); b != nil {
			if start, err = proto.ParseCursor(b); err != nil {
				return fmt.Errorf("mq: start of topic %s: %w", topic, err)
			}
		}
		if err := f(topic, start, now); err != nil {
			return err
		}
	}
	return nil
}
