package pruntime

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
)

// rulesDelivered is the version of the rules after the newest message that was delivered,
// 0 while that is not known: for want of keys, or of the state that the messages follow.
// The replica may be behind it. The caller holds mu, and the batch is in pending.
func (r *Runtime) rulesDelivered(s *seat) uint32 {
	if s.replica == nil || r.needsState(s) {
		return 0
	}
	version := s.replica.Snapshot().Rules()
	for i := range s.pending {
		if e, ok := s.pending[i].Event.(proto.RulesActivated); ok {
			version = e.Version
		}
	}
	return version
}

// rulesLikely is the version under which a code will be needed, as far as can be said
// before the cluster's state is here.
func (r *Runtime) rulesLikely() uint32 {
	if s := r.seat; s != nil && s.replica != nil {
		return s.replica.Snapshot().Rules()
	}
	return r.codes.eng.Newest()
}

func hashes(set map[proto.Hash]bool) []proto.Hash {
	return slices.SortedFunc(maps.Keys(set), func(a, b proto.Hash) int { return bytes.Compare(a[:], b[:]) })
}

// vote gives this worker's word for the codes that its cluster announced, as far as they
// are prepared or refused under the rules in force. The others begin to be, also under
// the rules that are wanted, so that a change of rules need not wait for them.
func (r *Runtime) vote() {
	s := r.seat
	if s == nil || len(r.voting) == 0 {
		return
	}
	rules := r.rulesDelivered(s)
	if rules == 0 {
		return // once it is known
	}
	announced := hashes(r.voting)
	for _, code := range announced {
		p, err := r.codes.Program(code, rules)
		switch {
		case err != nil:
			reason := err.Error()
			r.outbox.push(proto.CodeRefused{Cluster: s.cluster, Code: code, Rules: rules, Reason: reason[:min(len(reason), 512)]})
		case p != nil:
			r.outbox.push(proto.CodePrepared{Cluster: s.cluster, Code: code, Rules: rules, Image: p.ImageHash()})
		default:
			r.codes.want(code, rules)
			continue
		}
		delete(r.voting, code)
	}
	if wanted, _, ok := s.replica.Snapshot().Wanted(); ok {
		for _, code := range announced {
			r.codes.want(code, wanted)
		}
	}
}

// codeDone is called when a code has been prepared or refused.
func (r *Runtime) codeDone() {
	r.lock()
	defer r.unlock()
	if r.closed {
		return // the vote is in the checkpoint as one to give
	}
	r.vote()
	if err := r.runCluster(); err != nil {
		r.cfg.Log.Error("cluster", "error", err)
	}
}

// needCode begins to prepare what the replica waits for.
func (r *Runtime) needCode(err error) {
	var need *cluster.NeedCode
	if errors.As(err, &need) {
		for _, code := range need.Codes {
			r.codes.want(code, need.Rules)
		}
	}
}

// A ready is what a seat can do for a version of the rules that is wanted.
type ready struct {
	version uint32
	seq     uint64       // of the message after which these are the cluster's codes
	codes   []proto.Hash // all of them
	said    bool
}

// followRules does what a change of rules asks of a seat that has processed all that was
// delivered: it prepares the cluster's codes under the version that is wanted, and says so
// when all are. After the change it frees what was prepared under the rules of before.
func (r *Runtime) followRules(s *seat) {
	state := s.replica.Snapshot()
	if now := state.Rules(); s.rules != now {
		if s.rules != 0 {
			r.cfg.Log.Info("rules changed", "cluster", s.cluster, "from", s.rules, "to", now)
		}
		s.rules = now
		// No query that begins from here on has a state under the rules of before.
		before := r.queries
		r.queries = new(sync.WaitGroup)
		r.codes.retire(now, before)
	}
	version, seq, ok := state.Wanted()
	if !ok {
		s.ready = ready{}
		return
	}
	if s.ready.version != version || s.ready.seq != seq {
		s.ready = ready{version: version, seq: seq, codes: state.Codes()}
		if r.codes.Rules(version) == nil {
			r.cfg.Log.Warn("the cluster is to run under rules that this build does not know: install a release that does", "rules", version, "known", r.codes.eng.Newest())
		}
	}
	if s.ready.said {
		return
	}
	images, err := s.replica.ReadyFor(version, s.ready.codes)
	if err != nil {
		r.needCode(err)
		return // nothing to say, or once they are prepared
	}
	s.ready.said = true
	r.outbox.push(proto.RulesReady{Cluster: s.cluster, Version: version, Seq: seq, Images: images})
	r.cfg.Log.Info("ready for other rules", "cluster", s.cluster, "rules", version, "codes", len(s.ready.codes))
}
