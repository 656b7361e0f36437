package contract

// Host is what a contract runs on. In Wasm it is the enclave; in tests it is
// contracttest's. A contract does not use it itself.
type Host interface {
	Get(key []byte) ([]byte, bool)
	Put(key, value []byte)
	Delete(key []byte)
	Next(prefix, from []byte) (key []byte, ok bool)
	Caller() []byte
	Reader() []byte // who asks in the caller's name, under a read grant; else empty
	Self() [32]byte
	Height() uint64
	Time() uint64
	Random(b []byte)
	Log(msg []byte)
	// Reentry reports whether the contract is already running further out, and accepts it.
	Reentry() bool

	Hash(algorithm uint32, data []byte) []byte
	Verify(scheme uint32, public, msg, sig []byte) bool
	Recover(digest, sig []byte) (public []byte, ok bool)
	PublicKey(scheme uint32, label []byte) []byte
	Sign(scheme uint32, label, msg []byte) []byte
	Derive(label []byte) [32]byte

	// Call calls another contract; status is 0, or how it failed, and then the answer is a
	// code of four bytes, little-endian, and a message.
	Call(query bool, to [32]byte, input []byte, gas uint64) (status uint32, answer []byte)
	// Emit emits an event, public without a reader; ok is false when that is no key.
	Emit(reader, data []byte) (ok bool)
	// Fetch makes an HTTP request; status is 0, or not, and then the answer is as of Call.
	Fetch(request []byte) (status uint32, answer []byte)
}

// running returns the host of the running call.
func running() Host {
	if current == nil {
		panic("contract: only a method of a running contract can do this; in tests, see package contracttest")
	}
	return current
}
