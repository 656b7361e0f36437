// Package image runs prepared contract modules: it meters their calls,
// snapshots an initialised instance as an image, and keeps pools of instances
// that each start every call from exactly that image.
//
// # Calls and gas
//
// [Instance.Call] gives a call its gas limit. The guest counts down a slice in
// a global of its own; when it is spent, the guest calls the host function
// that [InstantiateGas] registers, which yields to the Go scheduler and hands
// out the next slice, or ends the call with [ErrOutOfGas] (or [ErrCallDepth]
// when it is the depth budget that ran out). The gas used is exact, the same
// on every engine, and never above the limit. Host functions take gas with
// [Charge] before they act.
//
// There is no time limit: gas is the only clock. A slice bounds how long a
// guest can hold up a garbage collection of the host.
//
// # Images
//
// An image is the linear memory and the mutable globals of an instance
// between two calls, usually after initialising, collecting and a few warm-up
// calls: a warmed-up Go contract answers several times faster than a fresh
// one. [Image.Hash] identifies it. The format hashed is SHA-256 of the tag
// "phala/image/v1" and a zero byte, the number of bytes and of globals as
// 64-bit little-endian numbers, the memory, and each global as 64 bits in the
// order of wasmprep's Module.Snapshot.
//
// Memory reaches an instance in one of two ways. On Linux the image lies in a
// sealed memfd that each instance maps privately, so that instances share what
// they do not write; after a call /proc/self/pagemap tells which pages this one and
// earlier calls wrote, and those are copied back. A page becomes private only by
// a page fault: as long as the process's count of them (getrusage) stands, the
// last scan of the pagemap is still right and none is made, which is the usual
// case, since calls of one contract mostly write the same pages. What exceeds eight megabytes of private
// pages, or sixteen of a pool's idle instances together, is dropped and faulted in anew
// instead, which bounds what they take. Opening an image probes that the pagemap
// really tells and that faults are counted; where not, and elsewhere than on Linux, the whole
// image is copied (mode [Portable], which can also be asked for). Either way
// the memory is bit-identical to the image afterwards.
//
// A [Pool] restores an instance when it is put back, so nothing of a call
// outlives it, and throws it away if the call failed or the memory grew. Each
// call begins on the same empty stack: how deep it can go depends on nothing before it.
//
// # Concurrency
//
// Images and pools may be used by many goroutines; an instance by one at a
// time.
package image
