package contracttest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phala-go/phala/pruntime/engine"
)

// nativeHost is a frame as a contract in this process sees it: what the engine does
// around the host, by limits and errors, is done here.
type nativeHost struct {
	f        *frame
	accepted bool
}

func trap(format string, args ...any) {
	panic(&engine.Error{Kind: engine.ErrTrap, Detail: fmt.Sprintf(format, args...)})
}

// storage refuses what a re-entry that was not accepted may not do, and long keys.
func (h *nativeHost) storage(key []byte) []byte {
	h.guard()
	if len(key) > engine.MaxKey {
		trap("storage key of %d bytes, at most %d", len(key), engine.MaxKey)
	}
	return key
}

func (h *nativeHost) guard() {
	if h.f.reentry && !h.accepted {
		panic(&engine.Error{Kind: engine.ErrReenter})
	}
}

func (h *nativeHost) Get(key []byte) ([]byte, bool) {
	v, ok := h.f.get(h.storage(key))
	return bytes.Clone(v), ok
}

func (h *nativeHost) Put(key, value []byte) {
	if h.storage(key); len(value) > engine.MaxValue {
		trap("storage value of %d bytes, at most %d", len(value), engine.MaxValue)
	}
	if err := h.f.put(key, value); err != nil {
		panic(err)
	}
}

func (h *nativeHost) Delete(key []byte) { h.f.s.w.remove(h.f.to, string(h.storage(key))) }

func (h *nativeHost) Next(prefix, from []byte) ([]byte, bool) {
	h.storage(from)
	k, ok := h.f.s.w.next(h.f.to, h.storage(prefix), from)
	return []byte(k), ok
}

func (h *nativeHost) Caller() []byte  { return []byte(h.f.caller) }
func (h *nativeHost) Reader() []byte  { return []byte(h.f.reader) }
func (h *nativeHost) Self() [32]byte  { return h.f.to }
func (h *nativeHost) Height() uint64  { return h.f.s.k.height }
func (h *nativeHost) Time() uint64    { return h.f.s.k.time }
func (h *nativeHost) Random(b []byte) { h.guard(); h.f.draw(b) }
func (h *nativeHost) Log(msg []byte)  { h.f.log(msg[:min(len(msg), 4096)]) }
func (h *nativeHost) Reentry() bool   { h.accepted = true; return h.f.reentry }

func (h *nativeHost) Hash(algorithm uint32, data []byte) []byte {
	sum, ok := engine.HashAlgorithm(algorithm).Sum(data)
	if !ok {
		trap("hash algorithm %d", algorithm)
	}
	return sum
}

func (h *nativeHost) Verify(s uint32, public, msg, sig []byte) bool {
	if s < 1 || s > 3 {
		trap("signature scheme %d", s)
	}
	return engine.SignatureScheme(s).Verify(public, msg, sig)
}

func (h *nativeHost) Recover(digest, sig []byte) ([]byte, bool) {
	return engine.RecoverSecp256k1(digest, sig)
}

// seed is the secret of a scheme's key.
func (h *nativeHost) seed(s uint32, label []byte) (engine.SignatureScheme, [32]byte) {
	sch := engine.SignatureScheme(s)
	if k := sch &^ engine.Raw; k < 1 || k > 3 {
		trap("signature scheme %d", s)
	}
	return sch, h.secret(sch.String(), label)
}

func (h *nativeHost) secret(purpose string, label []byte) [32]byte {
	h.guard()
	if len(label) > engine.MaxLabel {
		trap("label of %d bytes, at most %d", len(label), engine.MaxLabel)
	}
	return h.f.secret(purpose, label)
}

func (h *nativeHost) PublicKey(s uint32, label []byte) []byte {
	sch, seed := h.seed(s, label)
	return sch.PublicKey(seed)
}

func (h *nativeHost) Sign(s uint32, label, msg []byte) []byte {
	sch, seed := h.seed(s, label)
	sig, err := sch.Sign(seed, h.f.to, msg)
	if err != nil {
		trap("%v", err)
	}
	return sig
}

func (h *nativeHost) Derive(label []byte) [32]byte { return h.secret("secret", label) }

func (h *nativeHost) Call(query bool, to [32]byte, input []byte, gas uint64) (uint32, []byte) {
	h.guard()
	if !query && h.f.entry == "query" {
		trap("a query cannot call a command")
	}
	if len(input) > engine.MaxInput {
		trap("input of %d bytes, at most %d", len(input), engine.MaxInput)
	}
	limit := h.f.gas
	if gas != 0 {
		limit = min(limit, gas)
	}
	res, err := h.f.call(&engine.Outcall{To: to, Query: query, Input: bytes.Clone(input), Gas: limit})
	var own *engine.Error
	switch {
	case err == nil:
		return 0, res.Output
	case errors.As(err, &own) && own.Kind.Status() != 0:
		return own.Kind.Status(), append(binary.LittleEndian.AppendUint32(nil, own.Code), own.Detail...)
	}
	panic(err)
}

func (h *nativeHost) Emit(reader, data []byte) bool {
	h.guard()
	if len(data) > engine.MaxEvent {
		trap("event of %d bytes, at most %d", len(data), engine.MaxEvent)
	}
	var r *[32]byte
	if len(reader) > 0 {
		k := [32]byte(reader)
		r = &k
	}
	err := h.f.emit(r, data)
	if err != nil && !errors.Is(err, engine.ErrReader) {
		panic(err)
	}
	return err == nil
}

func (h *nativeHost) Fetch(request []byte) (uint32, []byte) {
	h.guard()
	if len(request) > engine.MaxHTTP {
		trap("HTTP request of %d bytes, at most %d", len(request), engine.MaxHTTP)
	}
	b, err := h.f.fetch(request)
	var own *engine.Error
	switch {
	case errors.As(err, &own):
		panic(own)
	case err != nil:
		return 1, append(make([]byte, 4), err.Error()...)
	}
	return 0, b
}
