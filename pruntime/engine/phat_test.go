package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/pruntime/engine/image"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// goldenGas freezes what each host function charges: two enclaves of one rules version
// must agree on it. Arguments are chosen so that the fixed part and the part for each
// byte both show.
var goldenGas = []struct {
	name string
	args []uint64
	gas  uint64
}{
	{"input_len", nil, 300},
	{"input_read", []uint64{0}, 300 + 11},
	{"output", []uint64{0, 100}, 300 + 100},
	{"fail", []uint64{1, 0, 100}, 300 + 100},
	{"fail", []uint64{1, 0, 5000}, 300 + 4096},
	{"kv_get", []uint64{0, 3}, 5_000 + 3 + 1000},
	{"kv_get", []uint64{0, 4}, 5_000 + 4},
	{"staged_read", []uint64{0}, 300},
	{"kv_next", []uint64{0, 2, 0, 3}, 5_000 + 2 + 3 + 3},
	{"kv_next", []uint64{0, 4, 0, 4}, 5_000 + 4 + 4},
	{"kv_put", []uint64{16, 7, 0, 100}, 25_000 + 7 + 2*100},
	{"kv_delete", []uint64{16, 7}, 25_000 + 7},
	{"caller", []uint64{0}, 300},
	{"reader", []uint64{0}, 300},
	{"self", []uint64{0}, 300},
	{"height", nil, 300},
	{"time", nil, 300},
	{"is_query", nil, 300},
	{"random", []uint64{0, 100}, 5_000 + 100},
	{"log", []uint64{0, 100}, 250_000 + 300 + 100},
	{"log", []uint64{0, 5000}, 250_000 + 300 + 4096},
	{"reentry", nil, 300},
	{"hash", []uint64{1, 0, 100, 200}, 1_500 + 12*100},
	{"hash", []uint64{5, 0, 0, 200}, 1_500},
	{"verify", []uint64{1, 0, 32, 0, 100, 0, 64}, 250_000 + 12*100},
	{"verify", []uint64{2, 0, 32, 0, 0, 0, 64}, 200_000},
	{"verify", []uint64{3, 0, 33, 0, 32, 0, 64}, 600_000 + 12*32},
	{"recover", []uint64{0, 0, 200}, 700_000},
	{"public_key", []uint64{1, 0, 5, 200}, 130_000},
	{"public_key", []uint64{18, 0, 5, 200}, 130_000},
	{"public_key", []uint64{3, 0, 5, 200}, 260_000},
	{"sign", []uint64{1, 0, 5, 0, 100, 200}, 310_000 + 12*100},
	{"sign", []uint64{2, 0, 5, 0, 0, 200}, 210_000},
	{"sign", []uint64{19, 0, 5, 0, 32, 200}, 460_000 + 12*32},
	{"derive", []uint64{0, 5, 200}, 10_000},
	{"call", []uint64{0, 0, 0, 100, 0}, 50_000 + 100 + 12_345 + 6},
	{"call", []uint64{1, 0, 0, 0, 7}, 50_000 + 12_345 + 6},
	{"emit", []uint64{0, 0, 0, 100}, 5_000 + 8*100},
	{"emit", []uint64{0, 32, 0, 0}, 255_000},
	{"http", []uint64{0, 100}, 1_000_000 + 100 + 8},
	{"sched_yield", nil, 300},
	{"args_get", []uint64{0, 0}, 300},
	{"args_sizes_get", []uint64{0, 4}, 300},
	{"environ_get", []uint64{0, 0}, 300},
	{"environ_sizes_get", []uint64{0, 4}, 300},
	{"clock_res_get", []uint64{0, 0}, 300},
	{"clock_time_get", []uint64{0, 0, 0}, 300},
	{"random_get", []uint64{0, 100}, 5_000 + 100},
	{"fd_close", []uint64{0}, 300},
	{"fd_read", []uint64{0, 0, 0, 0}, 300},
	{"path_open", make([]uint64, 9), 300},
	{"fd_write", []uint64{2, 32, 1, 8}, 300 + 10},
	{"fd_write", []uint64{2, 32, 2, 8}, 300 + 10 + 300 + 20},
	{"fd_write", []uint64{2, 1024, 1024, 8}, 1024 * 300},
	{"fd_write", []uint64{2, 1024, 1025, 8}, 300},
	{"fd_write", []uint64{3, 32, 2, 8}, 300},
	{"poll_oneoff", []uint64{1024, 2048, 3, 0}, 3 * 300},
	{"poll_oneoff", []uint64{1024, 2048, 0, 0}, 300},
	{"poll_oneoff", []uint64{1024, 2048, 1025, 0}, 300},
	{"proc_exit", []uint64{0}, 0},
}

// TestHostGas measures each call between its beginning and its end, so that the cost of
// the guest's own instructions is not in the numbers.
func TestHostGas(t *testing.T) {
	for _, c := range goldenGas {
		t.Run(fmt.Sprint(c.name, c.args), func(t *testing.T) {
			f := function1(c.name)
			before, used := f.f, ^uint64(0)
			f.f = func(ctx context.Context, m api.Module, r *run, s []uint64) {
				left := image.Remaining(ctx)
				defer func() { used = left - image.Remaining(ctx) }()
				before(ctx, m, r, s)
			}
			defer func() { f.f = before }()
			e, err := New("") // takes the functions as they are now
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close(context.Background())
			m := newContract()
			m.Data(0, []byte("abc"))
			m.Data(32, []byte{0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0})
			p, err := e.Prepare(context.Background(), m.module(m.void(c.name, c.args...)))
			if err != nil {
				t.Fatal(err)
			}
			h := newMemory()
			h.kv["abc"] = make([]byte, 1000)
			h.call = func(*Outcall) (Result, error) { return Result{Output: []byte("answer"), GasUsed: 12_345}, nil }
			h.fetch = func([]byte) ([]byte, error) { return []byte("response"), nil }
			if _, err := run1(p, EntryCall, h, "eleven byte", enough); err != nil && c.name != "fail" && c.name != "proc_exit" {
				t.Fatal(err)
			}
			if used != c.gas {
				t.Errorf("%s%v charges %d gas, the rules say %d", c.name, c.args, used, c.gas)
			}
		})
	}
	covered := map[string]bool{}
	for _, c := range goldenGas {
		covered[c.name] = true
	}
	for _, f := range phat {
		if !covered[f.name] {
			t.Errorf("no golden gas for phat.%s", f.name)
		}
	}
}

// TestFirstLogLine: a call's lines are sealed together, once, and its first line pays.
func TestFirstLogLine(t *testing.T) {
	used := func(lines int) uint64 {
		c := newContract()
		var body []byte
		for range lines {
			body = append(body, c.void("log", 0, 1)...)
		}
		res, err := run1(prepare(t, c.module(body)), EntryCall, newMemory(), "", enough)
		if err != nil {
			t.Fatal(err)
		}
		return res.GasUsed
	}
	none, one, two := used(0), used(1), used(2)
	if one-none < 250_301 || two-one < 301 || two-one > 400 {
		t.Errorf("%d gas without a line, %d with one, %d with two", none, one, two)
	}
}

// TestHostCallsCostFirst: a host function whose price is not there does nothing.
func TestHostCallsCostFirst(t *testing.T) {
	c := newContract()
	p := prepare(t, c.module(c.void("kv_put", 0, 1, 0, 1)))
	h := newMemory()
	_, err := run1(p, EntryCall, h, "", p.fresh+25_000)
	wantKind(t, "too little gas for a write", err, ErrOutOfGas)
	if len(h.kv) != 0 {
		t.Error("it was written")
	}
	// A length that costs more than there is ends the same way, whatever it would do.
	c = newContract()
	p = prepare(t, c.module(c.void("kv_get", 0, math.MaxUint32)))
	_, err = run1(p, EntryCall, newMemory(), "", 1<<30)
	wantKind(t, "the longest key on little gas", err, ErrOutOfGas)
}

// TestPointersOutsideMemory gives every parameter that is a pointer an address outside
// memory, at its end and above.
func TestPointersOutsideMemory(t *testing.T) {
	const page = 1 << 16
	for _, c := range []struct {
		name     string
		args     []uint64
		pointers []int // those that are pointers
		at       []int // how many bytes are touched behind each
	}{
		{"input_read", []uint64{0}, []int{0}, []int{11}},
		{"output", []uint64{0, 10}, []int{0}, []int{10}},
		{"fail", []uint64{1, 0, 10}, []int{1}, []int{10}},
		{"kv_get", []uint64{0, 10}, []int{0}, []int{10}},
		{"kv_next", []uint64{0, 10, 0, 10}, []int{0, 2}, []int{10, 10}},
		{"staged_read", []uint64{0}, []int{0}, []int{4}},
		{"kv_put", []uint64{0, 10, 0, 10}, []int{0, 2}, []int{10, 10}},
		{"kv_delete", []uint64{0, 10}, []int{0}, []int{10}},
		{"caller", []uint64{0}, []int{0}, []int{6}},
		{"reader", []uint64{0}, []int{0}, []int{6}},
		{"self", []uint64{0}, []int{0}, []int{32}},
		{"random", []uint64{0, 10}, []int{0}, []int{10}},
		{"hash", []uint64{1, 0, 10, 64}, []int{1, 3}, []int{10, 32}},
		{"hash", []uint64{4, 0, 10, 64}, []int{3}, []int{64}},
		{"verify", []uint64{1, 0, 32, 0, 10, 0, 64}, []int{1, 3, 5}, []int{32, 10, 64}},
		{"recover", []uint64{0, 0, 200}, []int{0, 1, 2}, []int{32, 65, 33}},
		{"public_key", []uint64{1, 0, 5, 200}, []int{1, 3}, []int{5, 32}},
		{"public_key", []uint64{3, 0, 5, 200}, []int{3}, []int{33}},
		{"sign", []uint64{2, 0, 5, 0, 10, 200}, []int{1, 3, 5}, []int{5, 10, 64}},
		{"sign", []uint64{3, 0, 5, 0, 10, 200}, []int{5}, []int{65}},
		{"derive", []uint64{0, 5, 200}, []int{0, 2}, []int{5, 32}},
		{"call", []uint64{0, 0, 0, 10, 0}, []int{1, 2}, []int{32, 10}},
		{"emit", []uint64{0, 32, 0, 10}, []int{0, 2}, []int{32, 10}},
		{"http", []uint64{0, 10}, []int{0}, []int{10}},
		{"log", []uint64{0, 10}, []int{0}, []int{10}},
		{"args_sizes_get", []uint64{0, 8}, []int{0, 1}, []int{4, 4}},
		{"environ_sizes_get", []uint64{0, 8}, []int{0, 1}, []int{4, 4}},
		{"clock_res_get", []uint64{0, 0}, []int{1}, []int{8}},
		{"clock_time_get", []uint64{0, 0, 0}, []int{2}, []int{8}},
		{"random_get", []uint64{0, 10}, []int{0}, []int{10}},
		{"fd_write", []uint64{2, 64, 1, 8}, []int{1, 3}, []int{8, 4}},
		{"poll_oneoff", []uint64{0, 64, 1, 8}, []int{0, 1, 3}, []int{48, 32, 4}},
	} {
		for i, arg := range c.pointers {
			for _, at := range []uint64{page - uint64(c.at[i]), page - uint64(c.at[i]) + 1, page, 1 << 31, math.MaxUint32} {
				m := newContract()
				m.Data(0, []byte("abc")) // kv_get finds a value of four bytes
				args := append([]uint64(nil), c.args...)
				args[arg] = at
				body := m.void(c.name, args...)
				if c.name == "staged_read" {
					body = append(m.void("kv_get", 0, 3), body...)
				}
				p := prepare(t, m.module(body))
				h := newMemory()
				h.kv["abc"] = []byte("four")
				h.call = func(*Outcall) (Result, error) { return Result{}, nil }
				h.fetch = func([]byte) ([]byte, error) { return nil, nil }
				_, err := run1(p, EntryCall, h, "eleven byte", enough)
				if at == page-uint64(c.at[i]) {
					if err != nil && c.name != "fail" {
						t.Errorf("%s with argument %d at %d, the last that fits: %v", c.name, arg, at, err)
					}
					continue
				}
				wantKind(t, fmt.Sprintf("%s with argument %d at %d", c.name, arg, at), err, ErrTrap)
				if !strings.Contains(err.Error(), "outside memory") || len(h.kv) != 1 || len(h.logs)+len(h.events) != 0 {
					t.Errorf("%s: %v, and %d keys and %d logs", c.name, err, len(h.kv), len(h.logs))
				}
			}
		}
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		f    string
		args []uint64
		kind Kind // empty: it is allowed
	}{
		{"longest key read", "kv_get", []uint64{0, MaxKey}, ""},
		{"key read too long", "kv_get", []uint64{0, MaxKey + 1}, ErrTrap},
		{"longest key written", "kv_put", []uint64{0, MaxKey, 0, 1}, ""},
		{"key written too long", "kv_put", []uint64{0, MaxKey + 1, 0, 1}, ErrTrap},
		{"key deleted too long", "kv_delete", []uint64{0, MaxKey + 1}, ErrTrap},
		{"prefix too long", "kv_next", []uint64{0, MaxKey + 1, 0, 0}, ErrTrap},
		{"start too long", "kv_next", []uint64{0, 0, 0, MaxKey + 1}, ErrTrap},
		{"empty key and value", "kv_put", []uint64{0, 0, 0, 0}, ""},
		{"longest value", "kv_put", []uint64{0, 1, 0, MaxValue}, ""},
		{"value too long", "kv_put", []uint64{0, 1, 0, MaxValue + 1}, ErrTrap},
		{"longest output", "output", []uint64{0, MaxOutput}, ""},
		{"output too long", "output", []uint64{0, MaxOutput + 1}, ErrOutput},
		{"most random bytes", "random", []uint64{0, 1024}, ""},
		{"too many random bytes", "random", []uint64{0, 1025}, ErrTrap},
		{"empty everything", "output", []uint64{0, 0}, ""},
		{"no such hash", "hash", []uint64{0, 0, 1, 200}, ErrTrap},
		{"no such hash, from above", "hash", []uint64{6, 0, 1, 200}, ErrTrap},
		{"no such scheme", "verify", []uint64{4, 0, 32, 0, 1, 0, 64}, ErrTrap},
		{"a raw scheme verifies nothing", "verify", []uint64{17, 0, 32, 0, 1, 0, 64}, ErrTrap},
		{"no such scheme to sign with", "sign", []uint64{16, 0, 1, 0, 1, 200}, ErrTrap},
		{"flags of a scheme", "sign", []uint64{33, 0, 1, 0, 1, 200}, ErrTrap},
		{"raw message that is no digest", "sign", []uint64{19, 0, 1, 0, 31, 200}, ErrTrap},
		{"longest label", "public_key", []uint64{2, 0, MaxLabel, 300}, ""},
		{"label too long", "public_key", []uint64{2, 0, MaxLabel + 1, 300}, ErrTrap},
		{"label of a secret too long", "derive", []uint64{0, MaxLabel + 1, 300}, ErrTrap},
		{"call of an unknown kind", "call", []uint64{2, 0, 0, 1, 0}, ErrTrap},
		{"input too long", "call", []uint64{0, 0, 0, MaxInput + 1, 0}, ErrTrap},
		{"longest event", "emit", []uint64{0, 0, 0, MaxEvent}, ""},
		{"event too long", "emit", []uint64{0, 0, 0, MaxEvent + 1}, ErrTrap},
		{"half a reader", "emit", []uint64{0, 31, 0, 1}, ErrTrap},
		{"request too long", "http", []uint64{0, MaxHTTP + 1}, ErrTrap},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newContract()
			grow := wasmtest.Cat(n32(16), memoryGrow, 0, drop)
			p := prepare(t, m.module(grow, m.void(c.f, c.args...)))
			h := newMemory()
			_, err := run1(p, EntryCall, h, "", enough)
			if c.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, c.name, err, c.kind)
			if len(h.kv) != 0 {
				t.Error("it was written")
			}
		})
	}
}

// TestLongMessages: what a contract says when it refuses, logs or writes to standard
// error is cut, not refused.
func TestLongMessages(t *testing.T) {
	c := newContract()
	p := prepare(t, c.module(c.void("log", 0, 60000), c.void("fail", 9, 0, 60000)))
	h := newMemory()
	_, err := run1(p, EntryCall, h, "", enough)
	wantKind(t, "fail", err, ErrContract)
	if e := err.(*Error); e.Code != 9 || len(e.Detail) != 4096 || len(h.logs) != 1 || len(h.logs[0]) != 4096 {
		t.Errorf("code %d with %d bytes, log of %d bytes", e.Code, len(e.Detail), len(h.logs[0]))
	}
	c = newContract()
	c.Data(0, []byte{16, 0, 0, 0, 0xff, 0xff, 0, 0}) // one piece of 65519 bytes and more
	c.Data(4, []byte{0xe0, 0xff, 0, 0})
	p = prepare(t, c.module(c.void("fd_write", 2, 0, 1, 8), c.void("fd_write", 2, 0, 1, 8), unreachable))
	_, err = run1(p, EntryCall, newMemory(), "", enough)
	wantKind(t, "standard error, then a trap", err, ErrTrap)
	if e := err.(*Error); len(e.Detail) != maxStderr {
		t.Errorf("%d bytes of standard error are kept, want %d", len(e.Detail), maxStderr)
	}
}

// TestStorage drives the storage functions from a guest against the host's map.
func TestStorage(t *testing.T) {
	c := newContract()
	c.Data(0, []byte("aabacbXYZ"))
	// put ab=XYZ, ba=XY, ac=Z, b="" (deleted again); get ab; get what is not there.
	body := wasmtest.Cat(
		c.void("kv_put", 1, 2, 6, 3), c.void("kv_put", 2, 2, 6, 2), c.void("kv_put", 3, 2, 8, 1), c.void("kv_put", 2, 1, 0, 0), c.void("kv_delete", 2, 1),
		store64(1000, c.do("kv_get", 1, 2)), c.void("staged_read", 1008),
		store64(1016, c.do("kv_get", 4, 2)), c.void("staged_read", 1024), // -1, and nothing is staged
		c.void("output", 1000, 32))
	p := prepare(t, c.module(body))
	h := newMemory()
	res, err := run1(p, EntryCall, h, "", enough)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%d %q", len(h.kv), h.kv); got != `3 map["ab":"XYZ" "ac":"Z" "ba":"XY"]` {
		t.Errorf("storage is %s", got)
	}
	want := make([]byte, 32)
	want[0] = 3
	copy(want[8:], "XYZ")
	binary.LittleEndian.PutUint64(want[16:], math.MaxUint64)
	equal(t, "what was read", res.Output, want)
}

// TestIteration walks over the keys of a prefix with kv_next, as package contract does:
// the next key is looked for from the last one with a zero byte behind it.
func TestIteration(t *testing.T) {
	h := newMemory()
	for _, k := range []string{"", "a", "m", "m\x00", "m/1", "m/10", "m/2", "m/2\x00", "m/\xff", "m0", "z"} {
		h.kv[k] = []byte("v" + k)
	}
	walk := func(t *testing.T, prefix, from string) (keys []string) {
		t.Helper()
		for range 20 {
			c := newContract()
			c.Data(0, []byte(prefix))
			c.Data(100, []byte(from))
			c.Data(1000, make([]byte, 8))
			// output: the length as it was returned, then the key
			p := prepare(t, c.module(store64(1000, c.do("kv_next", 0, uint64(len(prefix)), 100, uint64(len(from)))), c.void("staged_read", 1008), c.void("output", 1000, 40)))
			res, err := run1(p, EntryQuery, h, "", enough)
			if err != nil {
				t.Fatal(err)
			}
			n := int64(binary.LittleEndian.Uint64(res.Output))
			if n < 0 {
				return keys
			}
			from = string(res.Output[8:8+n]) + "\x00"
			keys = append(keys, string(res.Output[8:8+n]))
		}
		t.Fatal("the walk does not end")
		return nil
	}
	for _, c := range []struct{ prefix, from, want string }{
		{"m/", "", `["m/1" "m/10" "m/2" "m/2\x00" "m/\xff"]`},
		{"m/", "m/2", `["m/2" "m/2\x00" "m/\xff"]`},
		{"m/", "zzz", `[]`},
		{"m", "", `["m" "m\x00" "m/1" "m/10" "m/2" "m/2\x00" "m/\xff" "m0"]`},
		{"", "n", `["z"]`},
		{"q", "", `[]`},
	} {
		if got := fmt.Sprintf("%q", walk(t, c.prefix, c.from)); got != c.want {
			t.Errorf("prefix %q from %q: got %s, want %s", c.prefix, c.from, got, c.want)
		}
	}
}

// TestContext: what a contract learns about its call.
func TestContext(t *testing.T) {
	c := newContract()
	body := wasmtest.Cat(
		store64(0, c.do("height")), store64(8, c.do("time")), store32(16, c.do("is_query")),
		store32(20, c.do("caller", 24)), c.void("self", 30), store32(64, c.do("input_len")), c.void("input_read", 68),
		c.void("random", 100, 32), store32(132, c.do("reader", 136)), c.void("output", 0, 142))
	p := prepare(t, c.module(body))
	for _, entry := range []string{EntryDeploy, EntryCall, EntryQuery} {
		res, err := run1(p, entry, newMemory(), "input", enough)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]byte, 142)
		binary.LittleEndian.PutUint64(want, 7)
		binary.LittleEndian.PutUint64(want[8:], 1_700_000_000_000)
		if entry == EntryQuery {
			want[16] = 1
		}
		want[20] = 6
		copy(want[24:], "caller")
		want[30], want[31], want[64] = 0x5e, 0x1f, 5
		copy(want[68:], "input")
		newMemory().random.Read(want[100:132])
		want[132] = 6
		copy(want[136:], "reader")
		equal(t, entry, res.Output, want)
	}
}
