package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster/mtreap"
)

// Keys of the state.
var (
	keyCursor = []byte("c")
	keyRules  = []byte("r")
	keyEpoch  = []byte("e")
)

func keyContract(id proto.ContractID) []byte { return append([]byte("k/"), id[:]...) }

func storagePrefix(id proto.ContractID) []byte {
	return append(append([]byte("s/"), id[:]...), '/')
}

func nonceHash(from []byte, nonce [16]byte) [32]byte {
	return transcript.Hash("phala/nonce/v1", from, nonce[:])
}

func keyNonce(h [32]byte) []byte { return append([]byte("n/"), h[:]...) }

func keyExpiry(expiry uint64, h [32]byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte("x/"), expiry), h[:]...)
}

// A Snapshot is a committed state. It never changes; queries read it while the
// cluster goes on.
type Snapshot struct {
	m    *mtreap.Map
	root proto.Hash
}

// Root is the state root.
func (s *Snapshot) Root() proto.Hash { return s.root }

// Cursor is the position in the cluster's topic.
func (s *Snapshot) Cursor() proto.Cursor {
	b, _ := s.m.Get(keyCursor)
	c, err := proto.ParseCursor(b)
	if err != nil {
		panic("cluster: broken invariant: state without a cursor: " + err.Error())
	}
	return c
}

// Epoch is the epoch to whose key commands are sealed.
func (s *Snapshot) Epoch() uint64 {
	b, _ := s.m.Get(keyEpoch)
	return binary.BigEndian.Uint64(b)
}

// A record of a contract in the state.
type contractRecord struct {
	Code     proto.Hash
	Image    proto.Hash // of the code; a replica that has another would compute other results
	Deployer []byte
}

// Marshal encodes r.
func (r *contractRecord) Marshal() []byte {
	return new(wire.Writer).Fixed(r.Code[:]).Fixed(r.Image[:]).Blob(r.Deployer).Bytes()
}

func (s *Snapshot) contract(id proto.ContractID) (*contractRecord, bool) {
	b, ok := s.m.Get(keyContract(id))
	if !ok {
		return nil, false
	}
	return parseContract(b), true
}

func parseContract(b []byte) *contractRecord {
	r := wire.NewReader(b)
	c := &contractRecord{r.Array32(), r.Array32(), r.Blob(proto.MaxSender)}
	if err := r.Close(); err != nil {
		panic("cluster: broken invariant: contract record: " + err.Error())
	}
	return c
}

// Codes returns the codes of all contracts.
func (s *Snapshot) Codes() []proto.Hash {
	var out []proto.Hash
	seen := map[proto.Hash]bool{}
	eachContract(s.m, func(_ []byte, r *contractRecord) {
		if !seen[r.Code] {
			seen[r.Code] = true
			out = append(out, r.Code)
		}
	})
	return out
}

// emptyState is the state of a cluster in which nothing has happened.
func emptyState(rootKey [32]byte, chain string, id proto.ClusterID) *Snapshot {
	m := mtreap.New(rootKey).Set(keyCursor, proto.CreatedCursor(chain, proto.TopicCluster(id)).Marshal()).
		Set(keyRules, binary.BigEndian.AppendUint32(nil, 1)).Set(keyEpoch, binary.BigEndian.AppendUint64(nil, 1))
	return &Snapshot{m, m.Root()}
}

// Marshal encodes the contents in order of keys.
func (s *Snapshot) Marshal() []byte {
	w := wire.NewWriter(s.m.Size() + 8*s.m.Len() + 40).Fixed(s.root[:]).U64(uint64(s.m.Len()))
	s.m.Each(func(k, v []byte) bool { w.Blob(k).Blob(v); return true })
	return w.Bytes()
}

// ErrState: an encoded state is damaged, or was made under another key.
var ErrState = errors.New("cluster: state does not have the root that it names")

// parse decodes a state under rules that this build knows.
func (c *Cluster) parse(b []byte) (*Snapshot, error) {
	s, err := ParseSnapshot(c.rootKey(), b)
	if err == nil && c.programs.Rules(s.Rules()) == nil {
		return nil, unknown(s.Rules())
	}
	return s, err
}

// ParseSnapshot decodes a state and checks its root.
func ParseSnapshot(rootKey [32]byte, b []byte) (*Snapshot, error) {
	r := wire.NewReader(b)
	root, n := proto.Hash(r.Array32()), r.U64()
	m := mtreap.New(rootKey)
	var last []byte
	for i := uint64(0); i < n && r.Err() == nil; i++ {
		k, v := r.Blob(4096), r.Blob(1<<20)
		if i > 0 && bytes.Compare(k, last) <= 0 {
			r.Fail(fmt.Errorf("%w: keys out of order", wire.ErrNotCanonical))
			break
		}
		m, last = m.Set(k, v), k
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("cluster: state: %w", err)
	}
	if proto.Hash(m.Root()) != root {
		return nil, ErrState
	}
	for _, k := range []struct {
		key  []byte
		size int
	}{{keyCursor, 40}, {keyRules, 4}, {keyEpoch, 8}} {
		if v, ok := m.Get(k.key); !ok || len(v) != k.size {
			return nil, ErrState
		}
	}
	if v, ok := m.Get(keyWanted); ok && len(v) != 12 {
		return nil, ErrState
	}
	return &Snapshot{m, root}, nil
}
