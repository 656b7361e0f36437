package image

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// pagemap entry bits, as Documentation/admin-guide/mm/pagemap.rst has them.
const (
	pagePresent = 1 << 63
	pageSwapped = 1 << 62
	pageFile    = 1 << 61
)

// maxKept is how many bytes of private pages a restored instance keeps for its next call;
// it gives those behind them back to the system. A page costs twenty times as much to fault
// in as to copy back. (The rules charge calls for what is not kept.)
const maxKept = 8 << 20

// store is an image in a sealed memfd. Instances map it privately: what they
// do not write, they share.
type store struct {
	fd   int
	data []byte // read-only mapping
	maps *os.File
	page int
}

var zeroPage [1 << 16]byte

// newStore copies memory into a store. It fails where the system cannot do
// what restoring needs; the caller then uses the portable way.
func newStore(memory []byte) (s *store, err error) {
	page := os.Getpagesize()
	if len(memory)%page != 0 || page > len(zeroPage) {
		return nil, fmt.Errorf("%w: page size %d", ErrState, page)
	}
	fd, err := unix.MemfdCreate("phala-image", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	s = &store{fd: fd, page: page}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err = unix.Ftruncate(fd, int64(len(memory))); err != nil {
		return nil, fmt.Errorf("memfd size: %w", err)
	}
	for off := 0; off < len(memory); off += page {
		p := memory[off : off+page]
		if string(p) == string(zeroPage[:page]) {
			continue // stays a hole
		}
		if n, err := unix.Pwrite(fd, p, int64(off)); err != nil || n != page {
			return nil, fmt.Errorf("memfd write of %d bytes: %w", n, err)
		}
	}
	if _, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, fmt.Errorf("memfd seal: %w", err)
	}
	if s.data, err = unix.Mmap(fd, 0, len(memory), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map image: %w", err)
	}
	if s.maps, err = os.Open("/proc/self/pagemap"); err != nil {
		return nil, fmt.Errorf("pagemap: %w", err)
	}
	if err = s.probe(); err != nil {
		return nil, err
	}
	return s, nil
}

// probe makes sure that the pagemap tells written pages from read ones here.
func (s *store) probe() error {
	v, err := newView(s, 0)
	if err != nil {
		return err
	}
	defer v.Free()
	// Read every page, write the last one: only that one may show.
	last := len(v.buf) - s.page
	sum := byte(1)
	for off := 0; off < len(v.buf); off += s.page {
		sum += v.buf[off]
	}
	before, err := faults()
	if err != nil {
		return err
	}
	v.buf[last] += sum | 1
	after, err := faults()
	if err != nil {
		return err
	}
	if after == before {
		return fmt.Errorf("%w: page faults are not counted", ErrState)
	}
	dirty, err := v.dirty(-1)
	if err != nil {
		return err
	}
	if len(dirty) != 1 || dirty[0] != last/s.page {
		return fmt.Errorf("%w: pagemap does not tell written pages", ErrState)
	}
	if err := v.restore(); err != nil {
		return err
	}
	if v.buf[last] != s.data[last] {
		return fmt.Errorf("%w: restored page differs", ErrState)
	}
	return nil
}

func (s *store) bytes() []byte { return s.data }

func (s *store) close() error {
	var first error
	keep := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	if s.data != nil {
		keep(unix.Munmap(s.data))
	}
	if s.maps != nil {
		keep(s.maps.Close())
	}
	keep(unix.Close(s.fd))
	return first
}

// faults counts the page faults of this process so far, those that waited for a device
// included.
func faults() (int64, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("%w: page faults: %w", ErrState, err)
	}
	return u.Minflt + u.Majflt, nil
}

// view is one instance's memory: the image mapped privately, followed by
// anonymous memory up to the module's maximum.
type view struct {
	store   *store
	buf     []byte // the whole reservation
	scratch []byte
	pages   []int // the private ones, as of the last scan
	// scanned is the count of faults before the last scan. A page becomes private by a
	// fault only, so as long as it stands pages is right.
	scanned int64
}

var (
	_ experimental.MemoryAllocator = (*view)(nil)
	_ experimental.LinearMemory    = (*view)(nil)
)

// newView maps the image with room for max bytes.
func newView(s *store, max uint64) (*view, error) {
	size := uint64(len(s.data))
	if max < size {
		max = size
	}
	buf, err := unix.Mmap(-1, 0, int(max), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("%w: reserve %d bytes: %w", ErrInstantiate, max, err)
	}
	at := unsafe.Pointer(&buf[0])
	if _, err := unix.MmapPtr(s.fd, 0, at, uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED); err != nil {
		unix.Munmap(buf)
		return nil, fmt.Errorf("%w: map image: %w", ErrInstantiate, err)
	}
	return &view{store: s, buf: buf, scanned: -1}, nil
}

// Allocate implements experimental.MemoryAllocator.
func (v *view) Allocate(_, _ uint64) experimental.LinearMemory { return v }

// Reallocate implements experimental.LinearMemory. The address never changes.
func (v *view) Reallocate(size uint64) []byte {
	if size > uint64(len(v.buf)) {
		return nil
	}
	return v.buf[:size:size]
}

// Free implements experimental.LinearMemory.
func (v *view) Free() {
	if v.buf != nil {
		unix.Munmap(v.buf)
		v.buf = nil
	}
}

// reset drops every private page: the memory is the image again.
func (v *view) reset() error {
	v.scanned, v.pages = -1, v.pages[:0]
	return v.drop(0)
}

// drop gives back the private pages from an offset on: there the memory is the image again.
func (v *view) drop(from int) error {
	if err := unix.Madvise(v.buf[from:len(v.store.data)], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("%w: drop pages: %w", ErrState, err)
	}
	return nil
}

// private is how many bytes the view does not share, as of the last restore.
func (v *view) private() int { return len(v.pages) * v.store.page }

// dirty lists the pages that are private to this view, in order; it gives up
// behind limit pages unless limit is negative.
func (v *view) dirty(limit int) ([]int, error) {
	n := len(v.store.data) / v.store.page
	if v.scratch == nil {
		v.scratch = make([]byte, 8*n)
	}
	first := uintptr(unsafe.Pointer(&v.buf[0])) / uintptr(v.store.page)
	if got, err := v.store.maps.ReadAt(v.scratch, int64(first)*8); err != nil || got != len(v.scratch) {
		return nil, fmt.Errorf("%w: pagemap read of %d bytes: %w", ErrState, got, err)
	}
	v.pages = v.pages[:0]
	for i := range n {
		e := binary.LittleEndian.Uint64(v.scratch[8*i:])
		if e&(pagePresent|pageSwapped) != 0 && e&pageFile == 0 {
			v.pages = append(v.pages, i)
			if len(v.pages) > limit && limit >= 0 {
				break
			}
		}
	}
	return v.pages, nil
}

// restore copies the private pages back from the image. They stay private, so a call
// that writes where earlier ones did makes no new ones and needs no scan.
func (v *view) restore() error {
	now, err := faults()
	if err != nil {
		return err
	}
	size := v.store.page
	if now != v.scanned {
		if _, err := v.dirty(maxKept / size); err != nil {
			return err
		}
		if n := maxKept / size; len(v.pages) > n {
			if err := v.drop(v.pages[n] * size); err != nil {
				return err
			}
			v.pages = v.pages[:n]
		}
		v.scanned = now
	}
	for _, p := range v.pages {
		copy(v.buf[p*size:(p+1)*size], v.store.data[p*size:])
	}
	return nil
}
