package cluster

import (
	"crypto/sha256"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
)

// An emission is an event of a command.
type emission struct {
	contract proto.ContractID
	reader   *[32]byte // nil: public
	data     []byte
}

// logged is what one contract logged in a command. It is for who deployed it.
type logged struct {
	contract proto.ContractID
	deployer []byte
	lines    []byte
}

// size is what an event takes in the post.
func (e *emission) size() int { return engine.EventSize(e.reader != nil, len(e.data)) }

// Emit keeps an event for the receipt.
func (h *host) Emit(reader *[32]byte, data []byte) error {
	if reader != nil && commkey.PublicKey(*reader).Check() != nil {
		return engine.ErrReader
	}
	if !h.call.keep {
		return nil
	}
	e := emission{h.call.to, reader, data}
	total := e.size()
	for i := range h.x.events {
		total += h.x.events[i].size()
	}
	if len(h.x.events) == engine.MaxEvents || total > engine.MaxEventBytes {
		return engine.ErrEvents()
	}
	h.x.events = append(h.x.events, e)
	return nil
}

// Log keeps a line for the contract's deployer. Lines survive a failed command: they are
// for finding out why. A query's go nowhere.
func (h *host) Log(msg []byte) {
	if h.x.query {
		return
	}
	i := 0
	for i < len(h.x.logs) && h.x.logs[i].contract != h.call.to {
		i++
	}
	if i == len(h.x.logs) {
		if i == maxDepth {
			return
		}
		h.x.logs = append(h.x.logs, logged{h.call.to, h.call.rec.Deployer, nil})
	}
	l := &h.x.logs[i]
	l.lines = append(append(l.lines, msg...), '\n')
	l.lines = l.lines[:min(len(l.lines), engine.MaxLogBytes)]
}

// seal makes of a command's events and logs what is posted. Every replica makes the same:
// an event's one-use key follows from its contents, so that no two contents ever share
// one. Keys hang under the epoch's secret.
func (x *exec) seal(secret [32]byte, seq uint64, head proto.Hash) ([]proto.Emitted, error) {
	var out []proto.Emitted
	sealed := func(reader [32]byte, plain []byte) error {
		index := uint32(len(out))
		digest := sha256.Sum256(plain)
		fields := [][]byte{transcript.U64(seq), head[:], transcript.U64(uint64(index)), reader[:], digest[:]}
		key, err := commkey.FromSeed(subkey(secret, "event-key/v1", fields...))
		if err != nil {
			return err
		}
		nonce := newStream(subkey(secret, "event-nonce/v1", fields...))
		b, err := envelope.Seal(nonce, proto.EventContext(x.c.chain, x.c.id, seq, index), key, reader, plain)
		if err == nil {
			out = append(out, proto.Emitted{Sealed: true, Body: b})
		}
		return err
	}
	for _, e := range x.events {
		ev := proto.ContractEvent{Contract: e.contract, Data: e.data}
		if e.reader == nil {
			out = append(out, proto.Emitted{Body: ev.Marshal()})
		} else if err := sealed(*e.reader, ev.Marshal()); err != nil {
			return nil, err
		}
	}
	for _, l := range x.logs {
		if len(l.deployer) != 32 || commkey.PublicKey(l.deployer).Check() != nil {
			continue // an account whose key cannot agree reads no logs
		}
		ev := proto.ContractEvent{Contract: l.contract, Log: true, Data: l.lines}
		if err := sealed([32]byte(l.deployer), ev.Marshal()); err != nil {
			return nil, err
		}
	}
	return out, nil
}
