package image

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
)

// Image is the state of an initialised instance: memory and globals. It is
// immutable and safe for concurrent use.
type Image struct {
	code    *Code
	memory  []byte
	globals []uint64
	hash    [32]byte
	store   *store // what instances map; nil for the portable way
}

// Mode selects how instances get their memory back.
type Mode int

const (
	// Auto restores dirty pages where the system can tell which they are, and
	// copies everything elsewhere.
	Auto Mode = iota
	// Portable always copies the whole image.
	Portable
)

// Capture takes the state of an instance between two calls. The instance is
// not changed; usually it is closed next.
func Capture(inst *Instance, mode Mode) (*Image, error) {
	if inst.failed {
		return nil, fmt.Errorf("%w: the instance has failed", ErrState)
	}
	img := &Image{code: inst.code}
	if inst.mem != nil {
		b, ok := inst.mem.Read(0, inst.mem.Size())
		if !ok {
			return nil, fmt.Errorf("%w: memory cannot be read", ErrState)
		}
		img.memory = b
	}
	for _, g := range inst.globals {
		img.globals = append(img.globals, trim(g.Get(), g.Type()))
	}
	if mode == Auto && len(img.memory) > 0 {
		if s, err := newStore(img.memory); err == nil {
			img.store, img.memory = s, s.bytes()
		}
	}
	if img.store == nil {
		img.memory = append([]byte(nil), img.memory...)
	}
	img.hash = hashState(img.memory, img.globals)
	return img, nil
}

// hashState is SHA-256 over a tag, the numbers of bytes and of globals, both
// as 64-bit little-endian, the memory, and each global as 64 bits.
func hashState(memory []byte, globals []uint64) (sum [32]byte) {
	h := sha256.New()
	h.Write([]byte("phala/image/v1\x00"))
	var b [8]byte
	word := func(v uint64) {
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
	word(uint64(len(memory)))
	word(uint64(len(globals)))
	h.Write(memory)
	for _, g := range globals {
		word(g)
	}
	h.Sum(sum[:0])
	return sum
}

// Hash identifies the image; it goes into the code's record.
func (img *Image) Hash() [32]byte { return img.hash }

// Bytes returns the size of the memory.
func (img *Image) Bytes() int { return len(img.memory) }

// DirtyPages reports whether instances are restored page-wise.
func (img *Image) DirtyPages() bool { return img.store != nil }

// Close releases the image. No instance of it may be in use any more.
func (img *Image) Close() error {
	if img.store == nil {
		return nil
	}
	err := img.store.close()
	img.store, img.memory = nil, nil
	return err
}

// Instantiate makes a new instance in the image's state.
func (img *Image) Instantiate(ctx context.Context) (*Instance, error) {
	var inst *Instance
	var err error
	if img.store != nil {
		var v *view
		if v, err = newView(img.store, uint64(img.code.Module.MemoryMax)<<16); err != nil {
			return nil, err
		}
		if inst, err = instantiate(ctx, img.code, v); err != nil {
			v.Free()
			return nil, err
		}
		inst.view = v
	} else if inst, err = instantiate(ctx, img.code, nil); err != nil {
		return nil, err
	}
	if inst.mem != nil {
		delta := (len(img.memory) - int(inst.mem.Size())) >> 16
		if _, ok := inst.mem.Grow(uint32(delta)); !ok {
			inst.Close(ctx)
			return nil, fmt.Errorf("%w: memory cannot grow to %d bytes", ErrInstantiate, len(img.memory))
		}
		if inst.view != nil {
			err = inst.view.reset()
		}
	}
	if err == nil {
		err = img.restore(inst)
	}
	if err != nil {
		inst.Close(ctx)
		return nil, err
	}
	return inst, nil
}

// restore brings an instance back to the image. An error means that it must
// be thrown away.
func (img *Image) restore(inst *Instance) error {
	if inst.failed {
		return fmt.Errorf("%w: the instance has failed", ErrState)
	}
	if inst.mem != nil {
		if int(inst.mem.Size()) != len(img.memory) {
			return fmt.Errorf("%w: memory has grown to %d bytes", ErrState, inst.mem.Size())
		}
		if inst.view != nil {
			if err := inst.view.restore(); err != nil {
				return err
			}
		} else if !inst.mem.Write(0, img.memory) {
			return fmt.Errorf("%w: memory cannot be written", ErrState)
		}
	}
	for i, g := range inst.globals {
		g.Set(img.globals[i])
	}
	inst.gas.Set(0)
	return nil
}

// StateHash hashes an instance's present state as [Image.Hash] does.
func (i *Instance) StateHash() [32]byte {
	var b []byte
	if i.mem != nil {
		b, _ = i.mem.Read(0, i.mem.Size())
	}
	gs := make([]uint64, len(i.globals))
	for j, g := range i.globals {
		gs[j] = trim(g.Get(), g.Type())
	}
	return hashState(b, gs)
}

// Pool keeps instances of one image ready. Its methods may be called from
// many goroutines; an instance is used by one of them at a time.
type Pool struct {
	img     *Image
	maxIdle int
	mu      sync.Mutex
	idle    []*Instance
	private int // bytes of the idle ones that are not shared
	closed  bool
	stats   PoolStats
}

// maxPrivate bounds what a pool's idle instances do not share: beyond it an instance gives
// its own back.
const maxPrivate = 16 << 20

// PoolStats counts a pool's instances.
type PoolStats struct {
	Made, Reused, Discarded uint64
}

// NewPool makes a pool that keeps at most maxIdle unused instances.
func NewPool(img *Image, maxIdle int) *Pool {
	return &Pool{img: img, maxIdle: maxIdle}
}

// Get returns an instance in the image's state.
func (p *Pool) Get(ctx context.Context) (*Instance, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, fmt.Errorf("%w: the pool is closed", ErrState)
	}
	if n := len(p.idle); n > 0 {
		inst := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.private -= inst.private
		p.stats.Reused++
		p.mu.Unlock()
		return inst, nil
	}
	p.stats.Made++
	p.mu.Unlock()
	return p.img.Instantiate(ctx)
}

// Spoiled reports whether Put will throw an instance away for what its calls did: they
// failed or grew its memory. It does not depend on the machine.
func (p *Pool) Spoiled(inst *Instance) bool {
	return inst.failed || inst.mem != nil && int(inst.mem.Size()) != p.img.Bytes()
}

// Put gives an instance back. It is restored at once, so that nothing of a
// call outlives it; one that failed or whose memory grew is thrown away.
func (p *Pool) Put(ctx context.Context, inst *Instance) error {
	err := p.img.restore(inst)
	if inst.private = 0; err == nil && inst.view != nil {
		inst.private = inst.view.private()
	}
	p.mu.Lock()
	if p.private+inst.private > maxPrivate {
		p.mu.Unlock()
		err = inst.view.reset()
		p.mu.Lock()
		inst.private = 0
	}
	keep := err == nil && !p.closed && len(p.idle) < p.maxIdle
	if keep {
		p.idle = append(p.idle, inst)
		p.private += inst.private
	} else {
		p.stats.Discarded++
	}
	p.mu.Unlock()
	if keep {
		return nil
	}
	return inst.Close(ctx)
}

// Stats returns the counts so far.
func (p *Pool) Stats() PoolStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Close releases the idle instances; those in use are released by Put. The
// image stays.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	var first error
	for _, inst := range idle {
		if err := inst.Close(ctx); err != nil && first == nil {
			first = err
		}
	}
	return first
}
