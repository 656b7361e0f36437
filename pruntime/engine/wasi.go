package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/pruntime/engine/image"
)

// WASI error numbers.
const (
	errnoSuccess = 0
	errnoBadf    = 8
	errnoInval   = 28
)

// wasi is WASI preview 1 as far as a language runtime needs it: no files, no
// arguments, no environment, the block's clock, and standard error, which is where a
// Go panic's message arrives. What opens or moves files is here because linking package
// os brings it along; there is no file for it to work on.
var wasi = []function{
	{"sched_yield", nil, types(i32), constant(errnoSuccess)},
	{"proc_exit", types(i32), nil, func(_ context.Context, _ api.Module, r *run, s []uint64) {
		detail := fmt.Sprintf("exit status %d", uint32(s[0]))
		if len(r.stderr) > 0 {
			detail = string(r.stderr)
		}
		panic(&Error{Kind: ErrTrap, Detail: detail})
	}},
	{"args_get", types(i32, i32), types(i32), constant(errnoSuccess)},
	{"args_sizes_get", types(i32, i32), types(i32), zeroSizes},
	{"environ_get", types(i32, i32), types(i32), constant(errnoSuccess)},
	{"environ_sizes_get", types(i32, i32), types(i32), zeroSizes},
	{"clock_res_get", types(i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		binary.LittleEndian.PutUint64(view(m, uint32(s[1]), 8), 1)
		s[0] = errnoSuccess
	}},
	{"clock_time_get", types(i32, i64, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		binary.LittleEndian.PutUint64(view(m, uint32(s[2]), 8), r.clock)
		s[0] = errnoSuccess
	}},
	{"random_get", types(i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n := uint32(s[1])
		image.Charge(ctx, r.gas.Random+r.gas.Byte*uint64(n))
		random := io.Reader(zeros{}) // of a module that initialises: its image is public
		if r.host != nil {
			random = r.host.Random()
		}
		if _, err := io.ReadFull(random, view(m, uint32(s[0]), n)); err != nil {
			panic(&Error{Kind: ErrHost, Detail: err.Error()})
		}
		s[0] = errnoSuccess
	}},
	{"fd_close", types(i32), types(i32), constant(errnoBadf)},
	{"fd_datasync", types(i32), types(i32), constant(errnoBadf)},
	{"fd_sync", types(i32), types(i32), constant(errnoBadf)},
	{"fd_fdstat_get", types(i32, i32), types(i32), constant(errnoBadf)},
	{"fd_fdstat_set_flags", types(i32, i32), types(i32), constant(errnoBadf)},
	{"fd_prestat_get", types(i32, i32), types(i32), constant(errnoBadf)},
	{"fd_filestat_get", types(i32, i32), types(i32), constant(errnoBadf)},
	{"fd_prestat_dir_name", types(i32, i32, i32), types(i32), constant(errnoBadf)},
	{"fd_read", types(i32, i32, i32, i32), types(i32), constant(errnoBadf)},
	{"fd_seek", types(i32, i64, i32, i32), types(i32), constant(errnoBadf)},
	{"fd_filestat_set_size", types(i32, i64), types(i32), constant(errnoBadf)},
	{"fd_pread", types(i32, i32, i32, i64, i32), types(i32), constant(errnoBadf)},
	{"fd_pwrite", types(i32, i32, i32, i64, i32), types(i32), constant(errnoBadf)},
	{"fd_readdir", types(i32, i32, i32, i64, i32), types(i32), constant(errnoBadf)},
	{"path_create_directory", types(i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_filestat_get", types(i32, i32, i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_filestat_set_times", types(i32, i32, i32, i32, i64, i64, i32), types(i32), constant(errnoBadf)},
	{"path_link", types(i32, i32, i32, i32, i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_open", types(i32, i32, i32, i32, i32, i64, i64, i32, i32), types(i32), constant(errnoBadf)},
	{"path_readlink", types(i32, i32, i32, i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_remove_directory", types(i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_rename", types(i32, i32, i32, i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_symlink", types(i32, i32, i32, i32, i32), types(i32), constant(errnoBadf)},
	{"path_unlink_file", types(i32, i32, i32), types(i32), constant(errnoBadf)},
	{"sock_accept", types(i32, i32, i32), types(i32), constant(errnoBadf)},
	{"sock_shutdown", types(i32, i32), types(i32), constant(errnoBadf)},
	{"fd_write", types(i32, i32, i32, i32), types(i32), fdWrite},
	{"poll_oneoff", types(i32, i32, i32, i32), types(i32), pollOneoff},
}

func constant(errno uint64) func(context.Context, api.Module, *run, []uint64) {
	return func(ctx context.Context, _ api.Module, r *run, s []uint64) {
		image.Charge(ctx, r.gas.Call)
		s[0] = errno
	}
}

func zeroSizes(ctx context.Context, m api.Module, r *run, s []uint64) {
	image.Charge(ctx, r.gas.Call)
	clear(view(m, uint32(s[0]), 4))
	clear(view(m, uint32(s[1]), 4))
	s[0] = errnoSuccess
}

// fdWrite keeps the beginning of what goes to standard output and error.
func fdWrite(ctx context.Context, m api.Module, r *run, s []uint64) {
	fd, iovs, n, out := uint32(s[0]), uint32(s[1]), uint32(s[2]), uint32(s[3])
	image.Charge(ctx, r.gas.Call)
	if fd != 1 && fd != 2 {
		s[0] = errnoBadf
		return
	}
	if n > 1024 {
		s[0] = errnoInval
		return
	}
	image.Charge(ctx, r.gas.Call*uint64(max(n, 1)-1)) // an empty vector is work, too
	total := uint32(0)
	for i := range n {
		v := view(m, iovs+8*i, 8)
		ptr, size := binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[4:])
		image.Charge(ctx, r.gas.Byte*uint64(size))
		b := view(m, ptr, size)
		total += size
		if room := maxStderr - len(r.stderr); room > 0 {
			r.stderr = append(r.stderr, b[:min(len(b), room)]...)
		}
	}
	binary.LittleEndian.PutUint32(view(m, out, 4), total)
	s[0] = errnoSuccess
}

// pollOneoff answers at once: with an error for each subscription that is not to a
// clock, or, where all are, with those that are due at the earliest of their times,
// after moving the virtual clock there. A guest that sleeps wakes without time passing.
// The Go collector polls when it restarts the world, so this must not fail.
func pollOneoff(ctx context.Context, m api.Module, r *run, s []uint64) {
	in, out, n, nevents := uint32(s[0]), uint32(s[1]), uint32(s[2]), uint32(s[3])
	if n == 0 || n > 1024 {
		image.Charge(ctx, r.gas.Call)
		s[0] = errnoInval
		return
	}
	image.Charge(ctx, r.gas.Call*uint64(n))
	// subscription: userdata u64, tag u8, pad; clock: id u32, pad, timeout u64,
	// precision u64, flags u16 (1: absolute). 48 bytes. event: userdata u64, error
	// u16, type u8, pad, 16 bytes. 32 bytes.
	from, due, clocks := r.clock, uint64(math.MaxUint64), true
	deadline := func(sub []byte) uint64 {
		t := binary.LittleEndian.Uint64(sub[24:])
		if binary.LittleEndian.Uint16(sub[40:])&1 == 0 {
			t += min(from, math.MaxUint64-t)
		}
		return t
	}
	for i := range n {
		if sub := view(m, in+48*i, 48); sub[8] == 0 {
			due = min(due, deadline(sub))
		} else {
			clocks = false
		}
	}
	if due = max(due, from); clocks {
		r.clock = due
	}
	events := uint32(0)
	for i := range n {
		sub := view(m, in+48*i, 48)
		var e [32]byte
		copy(e[:8], sub[:8])
		e[10] = sub[8]
		if sub[8] != 0 {
			binary.LittleEndian.PutUint16(e[8:], errnoBadf)
		} else if deadline(sub) > r.clock {
			continue
		}
		copy(view(m, out+32*events, 32), e[:])
		events++
	}
	binary.LittleEndian.PutUint32(view(m, nevents, 4), events)
	s[0] = errnoSuccess
}

func instantiateWASI(ctx context.Context, rt wazero.Runtime) error {
	return build(ctx, rt, "wasi_snapshot_preview1", wasi)
}
