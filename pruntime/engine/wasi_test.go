package engine

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestNoFiles: every function that works on files says that there is none, whatever it
// is given, and so does closing the standard descriptors.
func TestNoFiles(t *testing.T) {
	n := 0
	for _, f := range wasi {
		if !strings.HasPrefix(f.name, "fd_") && !strings.HasPrefix(f.name, "path_") && !strings.HasPrefix(f.name, "sock_") || f.name == "fd_write" {
			continue
		}
		n++
		for _, arg := range []uint64{0, 1, 3, 1 << 31} {
			args := make([]uint64, len(f.params))
			for i := range args {
				args[i] = arg
			}
			c := newContract()
			p := prepare(t, c.module(store32(0, c.do(f.name, args...)), c.void("output", 0, 4)))
			res, err := run1(p, EntryCall, newMemory(), "", enough)
			if err != nil || binary.LittleEndian.Uint32(res.Output) != errnoBadf {
				t.Errorf("%s(%d, …) answers %x, %v", f.name, arg, res.Output, err)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d functions on files", n)
	}
}

// TestWASIValues: no arguments, no environment, the block's clock, the host's randomness.
func TestWASIValues(t *testing.T) {
	c := newContract()
	c.Data(0, []byte(strings.Repeat("\xee", 64)))
	body := wasmtest.Cat(
		c.void("args_sizes_get", 0, 4), c.void("environ_sizes_get", 8, 12), c.void("clock_time_get", 0, 0, 16),
		c.void("clock_time_get", 1, 0, 24), c.void("clock_res_get", 0, 32), c.void("random_get", 40, 8), store32(48, c.do("sched_yield")),
		store32(52, c.do("random_get", 56, 0)), c.void("output", 0, 60))
	p := prepare(t, c.module(body))
	res, err := run1(p, EntryCall, newMemory(), "", enough)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 60)
	for _, at := range []int{16, 24} {
		binary.LittleEndian.PutUint64(want[at:], 1_700_000_000_000*1e6)
	}
	want[32] = 1
	newMemory().random.Read(want[40:48])
	copy(want[56:], "\xee\xee\xee\xee")
	equal(t, "values", res.Output, want)
	// Before the first block's time, the clock is still one that a Go runtime accepts.
	h := newMemory()
	h.time = 0
	if res, err = run1(p, EntryCall, h, "", enough); err != nil || binary.LittleEndian.Uint64(res.Output[16:]) != firstClock {
		t.Errorf("at time 0 the clock says %x, %v", res.Output[16:24], err)
	}
}

// TestFdWrite: standard output and error go into the detail of a trap and nowhere else.
func TestFdWrite(t *testing.T) {
	c := newContract()
	c.Data(0, append(iovec(100, 5), iovec(105, 3)...))
	c.Data(100, []byte("hello wo"))
	write := func(fd, iovs uint64) []byte { return c.do("fd_write", fd, 0, iovs, 200) }
	p := prepare(t, c.module(store32(300, write(1, 2)), store32(304, write(2, 1)), store32(308, write(0, 1)), store32(312, write(2, 1025)), store32(316, write(2, 0)),
		c.void("output", 200, 120), c.do("input_len"), 0x04, 0x40, unreachable, 0x0b))
	res, err := run1(p, EntryCall, newMemory(), "", enough)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{errnoSuccess, errnoSuccess, errnoBadf, errnoInval, errnoSuccess} {
		if got := binary.LittleEndian.Uint32(res.Output[100+4*i:]); got != want {
			t.Errorf("write %d answers %d, want %d", i, got, want)
		}
	}
	if n := binary.LittleEndian.Uint32(res.Output); n != 0 {
		t.Errorf("the last write, of nothing, wrote %d bytes", n)
	}
	_, err = run1(p, EntryCall, newMemory(), "trap", enough)
	wantKind(t, "trap", err, ErrTrap)
	if d := err.(*Error).Detail; d != "hello wohello" {
		t.Errorf("the trap says %q", d)
	}
}

func iovec(ptr, n uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, ptr), n)
}

// A subscription to poll_oneoff.
func clockAt(userdata, nanoseconds uint64, absolute bool) []byte {
	b := make([]byte, 48)
	binary.LittleEndian.PutUint64(b, userdata)
	binary.LittleEndian.PutUint64(b[24:], nanoseconds)
	if absolute {
		b[40] = 1
	}
	return b
}

func fdRead(userdata uint64, fd uint32) []byte {
	b := make([]byte, 48)
	binary.LittleEndian.PutUint64(b, userdata)
	b[8] = 1
	binary.LittleEndian.PutUint32(b[16:], fd)
	return b
}

// TestPollOneoff: a poll with a clock in it returns at once with the events that are due
// at the earliest of its times, and the clock has moved there.
func TestPollOneoff(t *testing.T) {
	const start = 1_700_000_000_000 * 1_000_000 // nanoseconds
	const second = 1_000_000_000
	type event struct {
		userdata uint64
		errno    uint16
		kind     byte
	}
	for _, c := range []struct {
		name   string
		subs   [][]byte
		events []event
		moved  uint64
	}{
		{"relative", [][]byte{clockAt(7, second, false)}, []event{{7, 0, 0}}, second},
		{"relative, now", [][]byte{clockAt(7, 0, false)}, []event{{7, 0, 0}}, 0},
		{"absolute", [][]byte{clockAt(8, start+2*second, true)}, []event{{8, 0, 0}}, 2 * second},
		{"absolute, past", [][]byte{clockAt(8, 5, true)}, []event{{8, 0, 0}}, 0},
		{"the earlier of two", [][]byte{clockAt(1, 5*second, false), clockAt(2, second, false)}, []event{{2, 0, 0}}, second},
		{"two at the same time", [][]byte{clockAt(1, second, false), clockAt(2, start+second, true)}, []event{{1, 0, 0}, {2, 0, 0}}, second},
		{"a descriptor that is not there", [][]byte{fdRead(3, 0)}, []event{{3, errnoBadf, 1}}, 0},
		{"a descriptor does not wait for the clock", [][]byte{clockAt(1, second, false), fdRead(3, 0)}, []event{{3, errnoBadf, 1}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newContract()
			for i, s := range c.subs {
				m.Data(int32(1000+48*i), s)
			}
			p := prepare(t, m.module(store32(0, m.do("poll_oneoff", 1000, 100, uint64(len(c.subs)), 4)), m.void("clock_time_get", 1, 0, 8), m.void("output", 0, 300)))
			res, err := run1(p, EntryCall, newMemory(), "", enough)
			if err != nil {
				t.Fatal(err)
			}
			out := res.Output
			if errno, n := binary.LittleEndian.Uint32(out), binary.LittleEndian.Uint32(out[4:]); errno != 0 || int(n) != len(c.events) {
				t.Fatalf("errno %d, %d events, want %d", errno, n, len(c.events))
			}
			for i, want := range c.events {
				e := out[100+32*i:]
				if got := (event{binary.LittleEndian.Uint64(e), binary.LittleEndian.Uint16(e[8:]), e[10]}); got != want {
					t.Errorf("event %d is %+v, want %+v", i, got, want)
				}
			}
			if moved := binary.LittleEndian.Uint64(out[8:]) - start; moved != c.moved {
				t.Errorf("the clock moved by %d ns, want %d", moved, c.moved)
			}
		})
	}
	for _, n := range []uint64{0, 1025} {
		m := newContract()
		p := prepare(t, m.module(store32(0, m.do("poll_oneoff", 1000, 100, n, 4)), m.void("output", 0, 4)))
		if res, err := run1(p, EntryCall, newMemory(), "", enough); err != nil || binary.LittleEndian.Uint32(res.Output) != errnoInval {
			t.Error(fmt.Sprint(n), " subscriptions: ", res, err)
		}
	}
}
