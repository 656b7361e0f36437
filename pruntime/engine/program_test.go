package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// shelf is an engine with programs that answer their number, and how often each was loaded.
type shelf struct {
	*Engine
	programs []*Program
	mu       sync.Mutex
	loads    []int
	now      int   // that are being loaded
	most     int   // so far
	fail     error // what sources say from now on
}

// newShelf makes programs of one size each, of which the engine keeps only some in memory.
func newShelf(t *testing.T, programs, ready int) *shelf {
	t.Helper()
	e, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{Engine: e, loads: make([]int, programs)}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if e.total != 0 || len(e.programs) != 0 {
			t.Errorf("%d bytes of %d programs are left", e.total, len(e.programs))
		}
	})
	for i := range programs {
		m := newContract()
		m.Data(0, []byte{'0' + byte(i)})
		module := m.module(m.void("output", 0, 1))
		p, err := e.PrepareFrom(context.Background(), 1, func(use func([]byte, string) error) error {
			s.mu.Lock()
			s.loads[i]++
			s.now++
			s.most = max(s.most, s.now)
			err := s.fail
			s.mu.Unlock()
			defer func() {
				s.mu.Lock()
				s.now--
				s.mu.Unlock()
			}()
			if err != nil {
				return err
			}
			return use(module, "")
		})
		if err != nil {
			t.Fatal(err)
		}
		s.programs = append(s.programs, p)
		e.memory = ready * p.size
	}
	return s
}

func (s *shelf) run(t *testing.T, i int) { t.Helper(); s.runAs(t, EntryCall, i) }

func (s *shelf) runAs(t *testing.T, entry string, i int) {
	t.Helper()
	if res, err := run1(s.programs[i], entry, newMemory(), "", enough); err != nil || string(res.Output) != fmt.Sprint(i) {
		t.Errorf("program %d: %q, %v", i, res.Output, err)
	}
}

// inMemory is which programs are.
func (s *shelf) inMemory() (list []int) {
	s.Engine.mu.Lock()
	defer s.Engine.mu.Unlock()
	for i, p := range s.programs {
		if p.ready != nil {
			list = append(list, i)
		}
	}
	return list
}

// TestPrograms: the programs that ran last stay in memory, the others come back when they
// run, with the same image.
func TestPrograms(t *testing.T) {
	s := newShelf(t, 4, 2)
	images := make([][32]byte, 4)
	for i, p := range s.programs {
		images[i] = p.ImageHash()
	}
	for _, c := range []struct {
		run  int
		want []int
	}{{0, []int{0, 3}}, {1, []int{0, 1}}, {0, []int{0, 1}}, {2, []int{0, 2}}, {3, []int{2, 3}}, {3, []int{2, 3}}} {
		s.run(t, c.run)
		if got := s.inMemory(); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("after a run of %d in memory: %v, want %v", c.run, got, c.want)
		}
	}
	if got := fmt.Sprint(s.loads); got != "[2 2 2 2]" {
		t.Errorf("loaded %v times", got)
	}
	for i, p := range s.programs {
		if p.ImageHash() != images[i] {
			t.Errorf("program %d has another image", i)
		}
	}
	// One that is closed comes back no more.
	if err := s.programs[3].Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := run1(s.programs[3], EntryCall, newMemory(), "", enough); !errors.Is(err, ErrHost) {
		t.Errorf("a closed program runs: %v", err)
	}
	// What the source says reaches the caller, and the next run tries again.
	s.fail = errors.New("no module")
	if _, err := run1(s.programs[0], EntryCall, newMemory(), "", enough); !errors.Is(err, s.fail) {
		t.Errorf("without its module: %v", err)
	}
	s.fail = nil
	s.run(t, 0)
}

// TestComesBackOrFails: a module that was prepared once and is refused when it is to come
// back, for want of memory, say, is this machine's failure. A kind of error that a receipt
// takes for the contract's would make this replica's receipts differ.
func TestComesBackOrFails(t *testing.T) {
	e, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(context.Background())
	c := newContract()
	module := c.module(c.void("output", 0, 1))
	p, err := e.PrepareFrom(context.Background(), 1, func(use func([]byte, string) error) error { return use(module, "") })
	if err != nil {
		t.Fatal(err)
	}
	e.memory, module = 0, []byte("refused")
	if _, err := run1(p, EntryCall, newMemory(), "", enough); err != nil { // still in memory
		t.Fatal(err)
	}
	_, err = run1(p, EntryCall, newMemory(), "", enough)
	wantKind(t, "a module that is refused now", err, ErrHost)
}

// TestBringingBackIsBounded: what runs before an image is taken is paid for by nobody, and
// runs again whenever a code comes back, within somebody's call. 2^28 gas take a third of a
// second at worst, on memory that is in no cache.
func TestBringingBackIsBounded(t *testing.T) {
	for _, r := range Known() {
		if most := 2*r.Initialise + r.Warmup; most > 1<<28 { // a start section, too
			t.Errorf("version %d: up to %d gas", r.Version(), most)
		}
	}
	spin := func(turns uint32) []byte {
		c := newContract()
		f := c.Func("", nil, nil, []byte{wasmtest.I32}, n32(turns), 0x21, 0, 0x03, 0x40, 0x20, 0, n32(1), 0x6b, 0x22, 0, 0x0d, 0, 0x0b)
		c.Export(entryInitialise, 0, f)
		return c.module(c.void("output", 0, 1))
	}
	prepare(t, spin(1<<22))
	_, err := sharedEngine(t).Prepare(context.Background(), spin(1<<25))
	wantKind(t, "a module that initialises for long", err, ErrModule)
}

// TestProgramsInUse: what runs is not taken away, however little may stay; a program that is
// closed meanwhile is freed when the last call has ended.
func TestProgramsInUse(t *testing.T) {
	s := newShelf(t, 2, 1)
	m := newContract()
	m.Data(0, make([]byte, 64))
	caller, err := s.Prepare(context.Background(), m.module(m.void("call", 0, 0, 0, 0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	h := newMemory()
	h.call = func(*Outcall) (Result, error) {
		for i := range s.programs {
			s.run(t, i)
		}
		if caller.ready == nil || len(s.inMemory()) > 1 {
			t.Errorf("in memory: the caller %v, %v", caller.ready != nil, s.inMemory())
		}
		if err := caller.Close(context.Background()); err != nil {
			t.Error(err)
		}
		// It may call itself even now.
		again := newMemory()
		again.call = func(*Outcall) (Result, error) { return Result{}, nil }
		if _, err := run1(caller, EntryCall, again, "", enough); err != nil {
			t.Errorf("within its own call: %v", err)
		}
		return Result{}, nil
	}
	if _, err := run1(caller, EntryCall, h, "", enough); err != nil {
		t.Fatal(err)
	}
	if caller.ready != nil {
		t.Error("it is not freed after its last call")
	}
}

// TestProgramsAtOnce: many queries run more programs than may stay; each load serves all who
// wait for it, and there is one at a time.
func TestProgramsAtOnce(t *testing.T) {
	s := newShelf(t, 3, 1)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 30 {
				s.runAs(t, EntryQuery, (g+i)%3)
			}
		})
	}
	wg.Wait()
	if got := s.inMemory(); len(got) != 1 {
		t.Errorf("in memory: %v", got)
	}
	if s.most != 1 {
		t.Errorf("%d programs were loaded at once", s.most)
	}
	t.Logf("loaded %v times for 240 queries", s.loads)
}

// TestInterruptedIsNoVerdict: a module is not refused because whoever prepares it was
// interrupted.
func TestInterruptedIsNoVerdict(t *testing.T) {
	e, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	_, err = e.PrepareFrom(ctx, 1, func(func([]byte, string) error) error {
		cancel()
		return &Error{Kind: ErrModule, Detail: "compile: interrupted"} // as the compiler says it
	})
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrModule) {
		t.Errorf("got %v, want the context's error", err)
	}
}
