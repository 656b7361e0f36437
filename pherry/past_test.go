package pherry_test

import (
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
)

// TestLongPast: a worker gets a seat in a cluster with a longer past than one advance
// brings, and no snapshot.
func TestLongPast(t *testing.T) {
	s := stack.Ready(t, 2)
	topic := proto.TopicCluster(s.Cluster)
	for range 10 {
		for range 900 {
			s.Chain.Send(topic, proto.ChallengeEchoed{})
		}
		s.Step()
	}
	for range 5 {
		s.Step()
	}
	old := s.List[2]
	old.Off = true
	s.Chain.Replace(old.RT.Self())
	n := s.Add("new", proto.RoleWorker)
	s.Until("the new worker serves", func() bool {
		return n.RT.Status().Serving
	})
}
