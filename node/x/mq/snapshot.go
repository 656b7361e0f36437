package mq

import (
	"errors"
	"fmt"
	"io"

	snapshot "github.com/cosmos/cosmos-sdk/store/v2/snapshots/types"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"

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

// SnapshotExtension writes every entry of the side database that belongs to a state
// of this height. Bodies of later heights may be there already; each carries its
// height.
func (s *Snapshotter) SnapshotExtension(height uint64, write snapshot.ExtensionPayloadWriter) error {
	var failed error
	err := s.k.bodies.Scan(nil, nil, func(key, value []byte) bool {
		if len(key) > 2 && key[0] == 'b' {
			m, err := proto.ParseMessage(value)
			if err != nil {
				failed = err
				return false
			}
			if m.Height > height {
				return true
			}
		}
		failed = write(new(wire.Writer).Blob(key).Blob(value).Bytes())
		return failed == nil
	})
	return errors.Join(err, failed)
}

// RestoreExtension reads what SnapshotExtension wrote. Bodies arrive in the order of
// topic and sequence.
func (s *Snapshotter) RestoreExtension(height uint64, format uint32, read snapshot.ExtensionPayloadReader) error {
	if format != snapshotFormat {
		return snapshot.ErrUnknownFormat
	}
	cursors := map[string]proto.Cursor{}
	s.k.bodies.Begin()
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
		if len(key) > 2 && key[0] == 'b' {
			m, err := proto.ParseMessage(value)
			if err != nil {
				return err
			}
			c, ok := cursors[m.Topic]
			if !ok {
				c = proto.CreatedCursor(s.chain(), m.Topic)
			}
			if m.Seq != c.Seq+1 || string(bodyKey(m.Topic, m.Seq)) != string(key) {
				return fmt.Errorf("mq: snapshot: message %d of %s follows %d", m.Seq, m.Topic, c.Seq)
			}
			cursors[m.Topic] = c.Fold(m)
		}
		s.k.bodies.Stage(key, value)
	}
	for topic, c := range cursors {
		want, err := s.restored(topic)
		if err != nil {
			return err
		}
		if c != want {
			return fmt.Errorf("mq: snapshot: topic %s folds to %d %s, the state has %d %s", topic, c.Seq, c.Head, want.Seq, want.Head)
		}
	}
	return s.k.bodies.Commit()
}

func (s *Snapshotter) restored(topic string) (proto.Cursor, error) {
	b := s.ms.GetKVStore(s.key).Get(proto.KeyTopic(topic))
	if b == nil {
		return proto.Cursor{}, ErrNoTopic.Wrap(topic)
	}
	return proto.ParseCursor(b)
}
