//go:build wasip1

package contract

import (
	"errors"
	"runtime"
	"unsafe"
)

// The ABI: module "phat", described in docs/abi.md.

//go:wasmimport phat input_len
func hostInputLen() uint32

//go:wasmimport phat input_read
func hostInputRead(ptr unsafe.Pointer)

//go:wasmimport phat output
func hostOutput(ptr unsafe.Pointer, n uint32)

//go:wasmimport phat fail
func hostFail(code uint32, ptr unsafe.Pointer, n uint32)

//go:wasmimport phat kv_get
func hostGet(key unsafe.Pointer, n uint32) int64

//go:wasmimport phat kv_next
func hostNext(prefix unsafe.Pointer, pn uint32, from unsafe.Pointer, fn uint32) int64

//go:wasmimport phat staged_read
func hostStaged(ptr unsafe.Pointer)

//go:wasmimport phat kv_put
func hostPut(key unsafe.Pointer, kn uint32, value unsafe.Pointer, vn uint32)

//go:wasmimport phat kv_delete
func hostDelete(key unsafe.Pointer, n uint32)

//go:wasmimport phat caller
func hostCaller(ptr unsafe.Pointer) uint32

//go:wasmimport phat reader
func hostReader(ptr unsafe.Pointer) uint32

//go:wasmimport phat self
func hostSelf(ptr unsafe.Pointer)

//go:wasmimport phat height
func hostHeight() uint64

//go:wasmimport phat time
func hostTime() uint64

//go:wasmimport phat random
func hostRandom(ptr unsafe.Pointer, n uint32)

//go:wasmimport phat log
func hostLog(ptr unsafe.Pointer, n uint32)

//go:wasmimport phat reentry
func hostReentry() uint32

//go:wasmimport phat hash
func hostHash(algorithm uint32, ptr unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport phat verify
func hostVerify(scheme uint32, key unsafe.Pointer, kn uint32, msg unsafe.Pointer, mn uint32, sig unsafe.Pointer, sn uint32) uint32

//go:wasmimport phat recover
func hostRecover(digest, sig, out unsafe.Pointer) uint32

//go:wasmimport phat public_key
func hostPublicKey(scheme uint32, label unsafe.Pointer, n uint32, out unsafe.Pointer) uint32

//go:wasmimport phat sign
func hostSign(scheme uint32, label unsafe.Pointer, ln uint32, msg unsafe.Pointer, mn uint32, out unsafe.Pointer) uint32

//go:wasmimport phat derive
func hostDerive(label unsafe.Pointer, n uint32, out unsafe.Pointer)

//go:wasmimport phat call
func hostCall(kind uint32, to, input unsafe.Pointer, n uint32, gas uint64) uint64

//go:wasmimport phat emit
func hostEmit(reader unsafe.Pointer, rn uint32, data unsafe.Pointer, n uint32) uint32

//go:wasmimport phat http
func hostHTTP(request unsafe.Pointer, n uint32) uint64

func at(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

type enclave struct{}

func staged(n int64) ([]byte, bool) {
	if n < 0 {
		return nil, false
	}
	b := make([]byte, n)
	p, _ := at(b)
	hostStaged(p)
	runtime.KeepAlive(b)
	return b, true
}

func (enclave) Get(key []byte) ([]byte, bool) {
	p, n := at(key)
	return staged(hostGet(p, n))
}

func (enclave) Put(key, value []byte) {
	k, kn := at(key)
	v, vn := at(value)
	hostPut(k, kn, v, vn)
}

func (enclave) Delete(key []byte) {
	p, n := at(key)
	hostDelete(p, n)
}

func (enclave) Next(prefix, from []byte) ([]byte, bool) {
	p, pn := at(prefix)
	f, fn := at(from)
	return staged(hostNext(p, pn, f, fn))
}

func (enclave) Caller() []byte {
	var b [64]byte
	n := hostCaller(unsafe.Pointer(&b))
	return b[:n]
}

func (enclave) Reader() []byte {
	var b [64]byte
	n := hostReader(unsafe.Pointer(&b))
	return b[:n]
}

func (enclave) Self() (id [32]byte) {
	hostSelf(unsafe.Pointer(&id))
	return id
}

func (enclave) Height() uint64 { return hostHeight() }
func (enclave) Time() uint64   { return hostTime() }

func (enclave) Random(b []byte) {
	for len(b) > 0 {
		piece := b[:min(len(b), 1024)]
		p, n := at(piece)
		hostRandom(p, n)
		b = b[len(piece):]
	}
}

func (enclave) Log(msg []byte) {
	p, n := at(msg)
	hostLog(p, n)
}

func (enclave) Reentry() bool { return hostReentry() != 0 }

func (enclave) Hash(algorithm uint32, data []byte) []byte {
	size := 32
	if algorithm == 2 || algorithm == 4 {
		size = 64
	}
	out := make([]byte, size)
	p, n := at(data)
	o, _ := at(out)
	hostHash(algorithm, p, n, o)
	return out
}

func (enclave) Verify(scheme uint32, public, msg, sig []byte) bool {
	k, kn := at(public)
	m, mn := at(msg)
	s, sn := at(sig)
	return hostVerify(scheme, k, kn, m, mn, s, sn) != 0
}

func (enclave) Recover(digest, sig []byte) ([]byte, bool) {
	out := make([]byte, 33)
	d, _ := at(digest)
	s, _ := at(sig)
	o, _ := at(out)
	ok := hostRecover(d, s, o) != 0
	return out, ok
}

func (enclave) PublicKey(scheme uint32, label []byte) []byte {
	out := make([]byte, 64)
	l, ln := at(label)
	o, _ := at(out)
	n := hostPublicKey(scheme, l, ln, o)
	return out[:n]
}

func (enclave) Sign(scheme uint32, label, msg []byte) []byte {
	out := make([]byte, 96)
	l, ln := at(label)
	m, mn := at(msg)
	o, _ := at(out)
	n := hostSign(scheme, l, ln, m, mn, o)
	return out[:n]
}

func (enclave) Derive(label []byte) (secret [32]byte) {
	l, n := at(label)
	hostDerive(l, n, unsafe.Pointer(&secret))
	return secret
}

// answer reads status and length, and what was staged.
func answer(v uint64) (uint32, []byte) {
	b, _ := staged(int64(uint32(v)))
	return uint32(v >> 32), b
}

func (enclave) Call(query bool, to [32]byte, input []byte, gas uint64) (uint32, []byte) {
	kind := uint32(0)
	if query {
		kind = 1
	}
	p, n := at(input)
	return answer(hostCall(kind, unsafe.Pointer(&to), p, n, gas))
}

func (enclave) Emit(reader, data []byte) bool {
	r, rn := at(reader)
	p, n := at(data)
	return hostEmit(r, rn, p, n) == 0
}

func (enclave) Fetch(request []byte) (uint32, []byte) {
	p, n := at(request)
	return answer(hostHTTP(p, n))
}

func entry(name string) {
	input := make([]byte, hostInputLen())
	if p, n := at(input); n > 0 {
		hostInputRead(p)
	}
	if registered == nil {
		panic("contract: nothing is registered: call contract.Register in an init function")
	}
	out, err := registered.run(enclave{}, name, input)
	if err != nil {
		own := &Error{CodeError, err.Error()}
		errors.As(err, &own)
		msg := []byte(own.Message)
		p, n := at(msg)
		hostFail(own.Code, p, n)
		runtime.KeepAlive(msg)
		return
	}
	p, n := at(out)
	hostOutput(p, n)
	runtime.KeepAlive(out)
}

//go:wasmexport deploy
func exportDeploy() { entry("deploy") }

//go:wasmexport call
func exportCall() { entry("call") }

//go:wasmexport query
func exportQuery() { entry("query") }

// warmup runs before the image of the contract's memory is taken: what a first call
// allocates and finds out about the contract's types is then in the image.
//
//go:wasmexport phat_warmup
func exportWarmup() {
	if registered == nil {
		return
	}
	// Room for a call's garbage is in the image too: an instance whose memory had to grow
	// is not used again, and making another one costs more than most calls.
	room := make([][]byte, 32)
	for i := range room {
		room[i] = make([]byte, 64<<10)
	}
	runtime.KeepAlive(room)
	room = nil
	runtime.GC()
	for range 3 {
		registered.warm(blank{})
	}
}
