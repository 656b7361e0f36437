package cluster

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"io"

	"github.com/phala-go/phala/proto"
)

// host serves one call of a contract: storage under the contract's prefix, in an
// overlay that the caller keeps or drops.
type host struct {
	o      *overlay
	prefix []byte
	caller []byte
	reader []byte // who asks in the caller's name, under a grant
	self   proto.ContractID
	height uint64
	time   uint64
	random io.Reader
	log    func([]byte)
}

func (h *host) key(k []byte) []byte {
	return append(h.prefix[:len(h.prefix):len(h.prefix)], k...)
}

func (h *host) Get(k []byte) ([]byte, bool) { return h.o.m.Get(h.key(k)) }

func (h *host) Put(k, v []byte) error { h.o.m = h.o.m.Set(h.key(k), v); return nil }

func (h *host) Delete(k []byte) error { h.o.m = h.o.m.Delete(h.key(k)); return nil }

func (h *host) Next(prefix, from []byte) (key, value []byte, ok bool) {
	if bytes.Compare(from, prefix) < 0 {
		from = prefix
	}
	k, v, ok := h.o.m.Next(h.key(from))
	if !ok || !bytes.HasPrefix(k, h.key(prefix)) {
		return nil, nil, false
	}
	return k[len(h.prefix):], v, true
}

func (h *host) Caller() []byte    { return h.caller }
func (h *host) Reader() []byte    { return h.reader }
func (h *host) Self() [32]byte    { return h.self }
func (h *host) Height() uint64    { return h.height }
func (h *host) Time() uint64      { return h.time }
func (h *host) Random() io.Reader { return h.random }
func (h *host) Log(msg []byte)    { h.log(msg) }

// stream is AES-256-CTR under a key that is used for one command only.
type stream struct{ s cipher.Stream }

func newStream(key [32]byte) io.Reader {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("cluster: broken invariant: " + err.Error())
	}
	return stream{cipher.NewCTR(block, make([]byte, aes.BlockSize))}
}

func (s stream) Read(b []byte) (int, error) {
	clear(b)
	s.s.XORKeyStream(b, b)
	return len(b), nil
}
