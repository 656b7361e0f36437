package proto_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
)

// noise is n bytes that do not compress.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), 7})
	rng.Read(b)
	return b
}

// pack is a module's manifest and packed chunks.
func pack(module []byte) (*proto.CodeManifest, [][]byte) {
	var packed [][]byte
	for chunk := range slices.Chunk(module, proto.ChunkSize) {
		packed = append(packed, proto.PackChunk(chunk))
	}
	return proto.NewCodeManifest(module), packed
}

// stored is DEFLATE's form of b without compression, in blocks of at most max bytes.
// More than one form unpacks to the same bytes.
func stored(b []byte, max int) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.NoCompression)
	for part := range slices.Chunk(b, max) {
		w.Write(part)
		w.Flush()
	}
	w.Close()
	return out.Bytes()
}

// TestPack: every module has one manifest, which decodes, and its chunks unpack to it.
func TestPack(t *testing.T) {
	for _, module := range [][]byte{{0}, []byte("not Wasm"), make([]byte, proto.ChunkSize), noise(proto.ChunkSize, 1), noise(proto.ChunkSize+1, 2),
		bytes.Repeat([]byte("text "), 100_000), noise(proto.MaxCode, 3), make([]byte, proto.MaxCode)} {
		m, packed := pack(module)
		parsed, err := proto.ParseCodeManifest(m.Marshal())
		if err != nil || parsed.Hash() != m.Hash() || proto.CodeHash(module) != m.Hash() || int(m.Size) != len(module) {
			t.Fatalf("manifest of %d bytes: %v", len(module), err)
		}
		var got []byte
		for i := range packed {
			chunk, err := m.Unpack(uint32(i), packed[i])
			if err != nil || len(chunk) != m.ChunkLen(uint32(i)) {
				t.Fatalf("%d bytes: %v", len(module), err)
			}
			got = append(got, chunk...)
		}
		if !bytes.Equal(got, module) {
			t.Fatalf("%d bytes unpack to something else", len(module))
		}
	}
}

// TestPackedFits: whatever the chunk, what PackChunk makes of it is within the bound.
func TestPackedFits(t *testing.T) {
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, seed))
	for range 300 {
		n := 1 + rng.IntN(1<<rng.IntN(19))
		chunk := noise(min(n, proto.ChunkSize), rng.Uint64())
		// Parts of it repeat, at distances that a match costs most for.
		for range rng.IntN(2000) {
			l, from, to := 3+rng.IntN(4), rng.IntN(len(chunk)), rng.IntN(len(chunk))
			copy(chunk[to:min(len(chunk), to+l)], chunk[from:])
		}
		if _, err := proto.NewCodeManifest(chunk).Unpack(0, proto.PackChunk(chunk)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestCodeHash: the hash commits to the size, to every chunk and to their order, and no
// module's hash is the SHA-256 of other bytes that somebody could pass for it.
func TestCodeHash(t *testing.T) {
	module := noise(2*proto.ChunkSize+10, 1)
	swapped := slices.Concat(module[proto.ChunkSize:2*proto.ChunkSize], module[:proto.ChunkSize], module[2*proto.ChunkSize:])
	seen := map[proto.Hash]string{}
	for name, b := range map[string][]byte{"the module": module, "swapped chunks": swapped, "a byte less": module[:len(module)-1], "a byte more": append(module[:len(module):len(module)], 0),
		"first chunk": module[:proto.ChunkSize], "two chunks": module[:2*proto.ChunkSize], "nothing": nil, "a zero": {0}} {
		h := proto.CodeHash(b)
		if old, ok := seen[h]; ok {
			t.Errorf("%s and %s have one hash", old, name)
		}
		seen[h] = name
	}
	m := proto.NewCodeManifest(module)
	for name, edit := range map[string]func(*proto.CodeManifest){
		"size":         func(m *proto.CodeManifest) { m.Size-- },
		"first chunk":  func(m *proto.CodeManifest) { m.Chunks[0][0] ^= 1 },
		"last chunk":   func(m *proto.CodeManifest) { m.Chunks[2][31] ^= 1 },
		"order":        func(m *proto.CodeManifest) { m.Chunks[0], m.Chunks[1] = m.Chunks[1], m.Chunks[0] },
		"a chunk less": func(m *proto.CodeManifest) { m.Chunks = m.Chunks[:2] },
		"a chunk more": func(m *proto.CodeManifest) { m.Chunks = append(m.Chunks, proto.Hash{}) },
	} {
		other := proto.CodeManifest{Size: m.Size, Chunks: slices.Clone(m.Chunks)}
		edit(&other)
		if other.Hash() == m.Hash() {
			t.Errorf("%s: the same hash", name)
		}
	}
}

func TestUnpackRefused(t *testing.T) {
	module := noise(proto.ChunkSize+1000, 1)
	m, packed := pack(module)
	zeros := make([]byte, proto.ChunkSize)
	bomb := func(n int) []byte { return proto.PackChunk(make([]byte, n)) }
	first, last := packed[0], packed[1]
	zm, zpacked := pack(zeros)
	with := func(b []byte, edit func([]byte)) []byte { b = slices.Clone(b); edit(b); return b }
	for _, c := range []struct {
		name   string
		m      *proto.CodeManifest
		i      uint32
		packed []byte
		why    string // "": accepted
	}{
		{"first chunk", m, 0, first, ""},
		{"last chunk", m, 1, last, ""},
		{"last chunk in another form", m, 1, stored(module[proto.ChunkSize:], 500), ""},
		{"zeros", zm, 0, zpacked[0], ""},
		{"no bytes", m, 0, nil, "unexpected EOF"},
		{"cut in the middle", m, 0, first[:len(first)/2], "unexpected EOF"},
		{"cut by a byte", m, 1, last[:len(last)-1], "unexpected EOF"},
		{"a byte follows", m, 1, append(slices.Clone(last), 0), "1 bytes follow"},
		{"the same again follows", m, 1, append(slices.Clone(last), last...), "at most"},
		{"empty blocks before the end", m, 1, stored(module[proto.ChunkSize:], 60), "at most"},
		{"wrong chunk of the same code", m, 1, proto.PackChunk(module[:1000]), "something else"},
		{"wrong size: a byte short", m, 1, proto.PackChunk(module[proto.ChunkSize : len(module)-1]), "unexpected EOF"},
		{"wrong size: a byte long", m, 1, proto.PackChunk(append(module[proto.ChunkSize:len(module):len(module)], 0)), "more than 1000"},
		{"longer chunk in place of the last", m, 1, first, "at most"},
		{"shorter chunk in place of the first", m, 0, last, "unexpected EOF"},
		{"chunk of another code", m, 0, zpacked[0], "something else"},
		{"bomb that begins as the chunk does", zm, 0, bomb(64 << 20), "more than 262144"},
		{"bomb in place of the last", m, 1, bomb(1 << 20), "more than 1000"},
		{"edited", m, 0, with(first, func(b []byte) { b[len(b)/2] ^= 1 }), "something else"},
		{"index beyond the last", m, 2, last, "the code has 2"},
		{"index beyond every number", m, 1<<32 - 1, last, "the code has 2"},
		{"manifest that no decoder gives", &proto.CodeManifest{Size: 10, Chunks: make([]proto.Hash, 2)}, 1, last, "the code has 2"},
		{"gzip form", m, 1, append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, last...), "flate"},
	} {
		chunk, err := c.m.Unpack(c.i, c.packed)
		if c.why == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, proto.ErrChunk) || !strings.Contains(fmt.Sprint(err), c.why) || chunk != nil {
			t.Errorf("%s: %d bytes, %v; want %q", c.name, len(chunk), err, c.why)
		}
	}
}

// TestBombIsCheap: what a bomb would unpack to is never made.
func TestBombIsCheap(t *testing.T) {
	m := proto.NewCodeManifest([]byte{0})
	bomb := proto.PackChunk(make([]byte, 64<<10)) // 64 KiB for a chunk of a byte
	large := proto.PackChunk(make([]byte, 64<<20))
	for name, packed := range map[string][]byte{"small": bomb, "large": large} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := m.Unpack(0, packed)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, proto.ErrChunk) || n > 128<<10 {
			t.Errorf("%s: %v, and %d bytes are allocated for one", name, err, n)
		}
	}
}

// stream makes bytes of bits in the order in which DEFLATE reads them; "|" fills up the
// byte, and spaces are for the reader.
func stream(bits string, after ...byte) (out []byte) {
	n := 0
	for _, c := range bits {
		switch c {
		case '0', '1':
			if n%8 == 0 {
				out = append(out, 0)
			}
			out[n/8] |= byte(c-'0') << (n % 8)
			n++
		case '|':
			n = 8 * len(out)
		}
	}
	return append(out, after...)
}

// dynamic is a last block with code lengths of its own: those of literals and of distances.
func dynamic(literals map[int]int, distances []int, body string) []byte {
	var b strings.Builder
	little := func(v, n int) {
		for i := range n {
			fmt.Fprint(&b, v>>i&1)
		}
	}
	n := 257
	for symbol := range literals {
		n = max(n, symbol+1)
	}
	b.WriteString("1 01 ")
	little(n-257, 5)
	little(len(distances)-1, 5)
	little(19-4, 4)
	for range 3 {
		little(0, 3) // no runs
	}
	for range 16 {
		little(4, 3) // a length is written as itself, in body bits
	}
	for symbol := range n {
		fmt.Fprintf(&b, "%04b", literals[symbol])
	}
	for _, l := range distances {
		fmt.Fprintf(&b, "%04b", l)
	}
	return stream(b.String() + body)
}

// TestFlate freezes which streams are DEFLATE. All validators must agree on it, and they
// do as long as they run one binary; when a release of Go changes an answer, this test
// says so, and that is a change of the protocol.
func TestFlate(t *testing.T) {
	chunk := bytes.Repeat([]byte("abc"), 40)
	m := proto.NewCodeManifest(chunk)
	stored := func(head string) []byte { return stream(head+"|", append([]byte{120, 0, 0x87, 0xff}, chunk...)...) }
	const a, b, c, match117, end = "10010001", "10010010", "10010011", "11000000 0100", "0000000"
	abc := map[int]int{'a': 2, 'b': 2, 'c': 2, 256: 2}
	body := strings.Repeat("000110", 40) + "11"
	for _, c := range []struct {
		name   string
		packed []byte
		ok     bool
	}{
		{"stored", stored("1 00"), true},
		{"stored, bits set before the next byte", stored("1 00 11111"), true},
		{"stored, then an empty last block", append(stored("0 00"), stream("1 10"+end)...), true},
		{"empty blocks, then stored", append(stream("0 10"+end+"0 10"+end+"0 10"+end+"0 00|", 0, 0, 0xff, 0xff), stored("1 00")...), true},
		{"stored, length and complement differ", stream("1 00|", append([]byte{120, 0, 0x87, 0xfe}, chunk...)...), false},
		{"stored, no last block", stored("0 00"), false},
		{"fixed codes with a match", stream("1 10" + a + b + c + match117 + "00010" + end), true},
		{"fixed codes, bits set after the end", stream("1 10" + a + b + c + match117 + "00010" + end + "1"), true},
		{"match before the beginning", stream("1 10" + a + b + c + match117 + "00011" + end), false},
		{"distance that there is not", stream("1 10" + a + b + c + match117 + "11110" + end), false},
		{"length that there is not", stream("1 10" + a + b + c + "11000110" + "00010" + end), false},
		{"block of type 3", stream("1 11" + a + b + c + match117 + "00010" + end), false},
		{"own codes, no distance", dynamic(abc, []int{0}, body), true},
		{"own codes, one distance of a bit", dynamic(abc, []int{1}, body), true},
		{"own codes, one distance of two bits", dynamic(abc, []int{2}, body), false},
		{"own codes, three distances of a bit", dynamic(abc, []int{1, 1, 1}, body), false},
		{"own codes, too few literals", dynamic(map[int]int{'a': 2, 'b': 2, 256: 2}, []int{0}, body), false},
		{"own codes, too many literals", dynamic(map[int]int{'a': 1, 'b': 1, 'c': 1, 256: 1}, []int{0}, body), false},
		{"own codes, no end", dynamic(map[int]int{'a': 2, 'b': 2, 'c': 2, 'd': 2}, []int{0}, body), false},
		{"own codes, 287 literals", dynamic(map[int]int{'a': 2, 'b': 2, 'c': 2, 256: 2, 286: 0}, []int{0}, body), false},
	} {
		if got, err := m.Unpack(0, c.packed); (err == nil) != c.ok {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
	}
}

// FuzzUnpack: whatever is uploaded, what is accepted is the chunk, and nothing panics.
func FuzzUnpack(f *testing.F) {
	chunk := bytes.Repeat([]byte("a chunk "), 50)
	packed := proto.PackChunk(chunk)
	for _, b := range [][]byte{packed, packed[:10], append(slices.Clone(packed), 0), stored(chunk, 100), proto.PackChunk(make([]byte, 1<<20)), {}} {
		f.Add(b)
	}
	m := proto.NewCodeManifest(chunk)
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := m.Unpack(0, b); err == nil && !bytes.Equal(got, chunk) {
			t.Fatalf("%q is taken for the chunk", got)
		}
		// Where the hash is right for whatever comes out, the length still is exact.
		all, err := readAll(b, len(chunk)+1)
		if err != nil || len(all) == 0 || len(all) > len(chunk) {
			return
		}
		own := proto.NewCodeManifest(all)
		got, err := own.Unpack(0, b)
		if err == nil && !bytes.Equal(got, all) {
			t.Fatal("unpacks to something else")
		}
		longer := proto.NewCodeManifest(append(slices.Clone(all), 0))
		if _, err := longer.Unpack(0, b); err == nil {
			t.Fatal("a chunk is shorter than its manifest says")
		}
	})
}

func readAll(packed []byte, limit int) ([]byte, error) {
	out := make([]byte, limit)
	n, r := 0, flate.NewReader(bytes.NewReader(packed))
	for n < limit {
		k, err := r.Read(out[n:])
		n += k
		if err != nil {
			if err.Error() == "EOF" {
				err = nil
			}
			return out[:n], err
		}
	}
	return out[:n], nil
}
