package wasmprep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/phala-go/phala/wasmprep"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

// TestDataSegments: joined or not, the segments leave the same memory, and a
// segment outside the memory still prevents instantiation.
func TestDataSegments(t *testing.T) {
	type seg struct {
		at   int32
		text string
	}
	cases := []struct {
		name    string
		segs    []seg
		count   bool // with a data count section
		want    int  // segments left
		outside bool
	}{
		{"one", []seg{{10, "one"}}, false, 1, false},
		{"adjacent", []seg{{10, "one"}, {13, "two"}}, false, 1, false},
		{"short gap", []seg{{10, "one"}, {45, "two"}}, false, 1, false},
		{"long gap", []seg{{10, "one"}, {46, "two"}}, false, 2, false},
		{"descending", []seg{{30, "three"}, {20, "two"}, {10, "one"}}, false, 1, false},
		{"overlapping stay in order", []seg{{10, "abcdef"}, {12, "XY"}, {40, "z"}}, false, 3, false},
		{"one inside a gap", []seg{{10, "ab"}, {30, "cd"}, {20, "xy"}}, false, 1, false},
		{"empty ones", []seg{{10, ""}, {10, "a"}, {11, ""}}, false, 1, false},
		{"named by instructions", []seg{{10, "one"}, {13, "two"}}, true, 2, false},
		{"passive among them", []seg{{10, "one"}, {-1, "passive"}, {13, "two"}}, false, 3, false},
		{"to the last byte", []seg{{65533, "end"}, {65530, "the"}}, false, 1, false},
		{"over the edge", []seg{{65530, "the"}, {65534, "end"}}, false, 1, true},
		{"empty, outside", []seg{{65530, "the"}, {65540, ""}}, false, 1, true},
	}
	ctx := context.Background()
	rt := newRuntime(t, true)
	memory := func(code []byte) ([]byte, error) {
		mod, err := rt.InstantiateWithConfig(ctx, code, wazero.NewModuleConfig().WithName("").WithStartFunctions())
		if err != nil {
			return nil, err
		}
		b, _ := mod.Memory().Read(0, mod.Memory().Size())
		return bytes.Clone(b), nil
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			code := build(func(b *wasmtest.Builder) {
				b.Memory(1, 1)
				b.Export("memory", 2, 0)
				b.DataCount = c.count
				for _, s := range c.segs {
					b.Data(s.at, []byte(s.text))
				}
			})
			m := mustPrepare(t, code, wasmprep.RulesV1())
			want, wantErr := memory(code)
			got, err := memory(m.Code)
			if (err != nil) != c.outside || (wantErr != nil) != c.outside {
				t.Fatalf("original: %v, prepared: %v", wantErr, err)
			}
			if !bytes.Equal(got, want) {
				t.Error("the memory differs from the original's")
			}
			if n := segments(t, m.Code); n != c.want {
				t.Errorf("%d segments left, want %d", n, c.want)
			}
		})
	}
	if n := segments(t, mustPrepare(t, build(func(*wasmtest.Builder) {}), wasmprep.RulesV1()).Code); n != -1 {
		t.Errorf("a module without data got a data section of %d segments", n)
	}
}

// TestManyDataSegments: the Go linker makes up to a hundred thousand, sixty thousand for the
// smallest contract, and they are joined. What an instance would have to keep is less.
func TestManyDataSegments(t *testing.T) {
	for _, c := range []struct {
		name      string
		n, stride int // of segments of one byte
		kind      wasmprep.Kind
	}{
		{"as many as the Go linker makes", 100_000, 20, ""},
		{"as many as may stay apart", 65_536, 40, ""},
		{"one more that stays apart", 65_537, 40, wasmprep.ErrLimit},
		{"one more than is read", 131_073, 2, wasmprep.ErrLimit},
	} {
		code := build(func(b *wasmtest.Builder) {
			b.Memory(64, 64)
			for i := range c.n {
				b.Data(int32(i*c.stride), []byte{1})
			}
		})
		m, err := wasmprep.Prepare(code, wasmprep.RulesV1())
		if c.kind != "" {
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v, want %v", c.name, err, c.kind)
			}
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if want := map[int]int{20: 1, 40: c.n}[c.stride]; m.Stats.DataSegments != want {
			t.Errorf("%s: %d are left, want %d", c.name, m.Stats.DataSegments, want)
		}
	}
}

// segments reads how many data segments a module has, -1 without the section.
func segments(t *testing.T, code []byte) int {
	t.Helper()
	for p := 8; p < len(code); {
		id := code[p]
		size, n := binary.Uvarint(code[p+1:])
		p += 1 + n
		if id == 11 {
			count, _ := binary.Uvarint(code[p:])
			return int(count)
		}
		p += int(size)
	}
	return -1
}
