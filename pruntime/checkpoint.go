package pruntime

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/inbox"
	"github.com/phala-go/phala/pruntime/keys"
)

// Checkpoints are sealed files named by height; the newest good one is used. An older
// one brought back by the host is harmless: the enclave answers nothing until a
// challenge of its own came back through the chain, and by then it has caught up.
const (
	checkpointPrefix = "checkpoint-"
	keepCheckpoints  = 3
)

// checkpoint seals the state. The caller holds both locks; queries go on meanwhile.
func (r *Runtime) checkpoint() error {
	if r.state == nil || r.fatal != nil {
		return nil
	}
	w := new(wire.Writer).Blob(r.state.Marshal()).U64(r.epoch).U64(r.expires)
	w.Count(len(r.outbox.queue))
	for _, q := range r.outbox.queue {
		w.Blob(q.payload)
	}
	w.Bool(r.seat != nil)
	if s := r.seat; s != nil {
		state := s.sealed
		if s.replica != nil {
			state = s.replica.Snapshot().Marshal()
		}
		w.U32(uint32(s.cluster)).Fixed(s.stored.Marshal()).Bool(state != nil).Blob(state).Count(len(s.pending))
		for i := range s.pending {
			w.Blob(s.pending[i].Message.Marshal()).Fixed(s.pending[i].Cursor.Marshal())
		}
	}
	w.Count(len(r.voting))
	for _, h := range hashes(r.voting) {
		w.Fixed(h[:])
	}
	w.Bool(r.gk != nil)
	if r.gk != nil {
		w.Blob(r.gk.Marshal())
	}
	name := fmt.Sprintf("%s%020d", checkpointPrefix, r.state.Height())
	r.mu.Unlock()
	err := r.store.Put(name, w.Bytes())
	r.mu.Lock()
	r.saved = r.now() // a full disk is tried again after the interval, not in every round
	if err != nil {
		r.cfg.Log.Warn("the state was not sealed; a restart would continue from an older one", "error", err)
		return err
	}
	names, err := r.store.List(checkpointPrefix)
	if err != nil {
		return err
	}
	// The one that was just written stays, also below files that do not open.
	names = slices.DeleteFunc(names, func(n string) bool { return n == name })
	for len(names) >= keepCheckpoints {
		if err := r.store.Delete(names[0]); err != nil {
			return err
		}
		names = names[1:]
	}
	return nil
}

// restore continues from the newest checkpoint that opens and decodes.
func (r *Runtime) restore() error {
	if err := r.store.Sweep(checkpointPrefix); err != nil {
		r.cfg.Log.Warn("a checkpoint that was cut off was not removed", "error", err)
	}
	names, err := r.store.List(checkpointPrefix)
	if err != nil {
		return err
	}
	for i := len(names) - 1; i >= 0; i-- {
		b, err := r.store.Get(names[i])
		if err == nil {
			err = r.load(b)
		}
		if err == nil {
			r.cfg.Log.Info("continuing", "checkpoint", strings.TrimPrefix(names[i], checkpointPrefix), "height", r.state.Height())
			return nil
		}
		if errors.Is(err, keys.ErrNone) {
			continue
		}
		r.cfg.Log.Warn("checkpoint not used", "file", names[i], "error", err)
	}
	return nil
}

const maxState = 1 << 30

func (r *Runtime) load(b []byte) error {
	rd := wire.NewReader(b)
	state, admitted := rd.Blob(1<<20), admission{rd.U64(), rd.U64()}
	var queue []queued
	for range rd.Count(1<<20, 4) {
		if payload := rd.Blob(proto.MaxEntry); !again(payload) {
			queue = append(queue, queued{payload: payload})
		}
	}
	var s *seat
	if rd.Bool() {
		s = newSeat(proto.ClusterID(rd.U32()))
		var stored [112]byte
		rd.Fixed(stored[:])
		ref, err := proto.ParseStateRef(stored[:])
		if err != nil {
			return err
		}
		s.stored = *ref
		has := rd.Bool()
		s.sealed = rd.Blob(maxState)
		if !has {
			s.sealed = nil
		}
		for range rd.Count(1<<20, 44) {
			m, err := proto.ParseMessage(rd.Blob(proto.MaxPayload + 1024))
			if err != nil {
				return err
			}
			e, err := proto.ParseEvent(m.Payload)
			if err != nil {
				return err
			}
			s.pending = append(s.pending, inbox.Item{Height: m.Height, Time: m.Time, Message: m, Event: e, Cursor: proto.Cursor{Seq: rd.U64(), Head: rd.Array32()}})
		}
	}
	voting := map[proto.Hash]bool{}
	for range rd.Count(1<<20, 32) {
		voting[rd.Array32()] = true
	}
	var gk []byte
	if rd.Bool() {
		gk = rd.Blob(maxState)
	}
	if err := rd.Close(); err != nil {
		return err
	}
	st, err := inbox.Parse(state, r.newClient)
	if err != nil {
		return err
	}
	if r.gk != nil {
		if err := r.gk.Restore(gk); err != nil {
			return err
		}
	}
	r.state, r.admission, r.outbox.queue, r.seat, r.voting = st, admitted, queue, s, voting
	for h := range voting {
		r.codes.want(h, r.rulesLikely())
	}
	if s != nil {
		for i := range s.pending {
			if e, ok := s.pending[i].Event.(proto.Instantiated); ok {
				r.codes.want(e.Code, r.rulesLikely())
			}
		}
	}
	return nil
}
