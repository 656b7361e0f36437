package cluster_test

import (
	"crypto/rand"
	"fmt"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/engine"
)

// noPrograms: nothing is prepared yet.
type noPrograms struct{}

func (noPrograms) Program(proto.Hash, uint32) (*engine.Program, error) { return nil, nil }

func (noPrograms) Rules(uint32) *engine.Rules {
	v1 := engine.RulesV1()
	return &v1
}

// Two replicas with the same keys and the same messages have the same root; what one takes
// from the other's snapshot it checks against it.
func Example() {
	key, blind, err := cluster.EpochKey([32]byte{7}) // as the gatekeepers released it
	if err != nil {
		fmt.Println(err)
		return
	}
	keys := cluster.Keys{Stable: [32]byte{1}, Blind: map[uint64][32]byte{1: blind}, Opener: cluster.Secrets{1: key}}
	a := cluster.New("phala-1", 1, keys, noPrograms{}, rand.Reader)
	b := cluster.New("phala-1", 1, keys, noPrograms{}, rand.Reader)
	fmt.Println(a.Snapshot().Root() == b.Snapshot().Root())
	if err := b.Restore(a.Snapshot().Marshal()); err != nil {
		fmt.Println(err)
	}
	fmt.Println(a.HasEpoch(1), a.HasEpoch(2))
	// Output:
	// true
	// true false
}
