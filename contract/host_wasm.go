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

// warmup runs before the image of the contract's memory is taken: the allocations
// of a first call, of JSON above all, are then in the image.
//
//go:wasmexport phat_warmup
func exportWarmup() {
	if registered == nil {
		return
	}
	runtime.GC()
	for range 3 {
		registered.run(blank{}, "query", []byte(`{"method":"describe"}`))
	}
}
