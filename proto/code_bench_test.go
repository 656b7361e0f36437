package proto_test

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/proto"
)

// costly is as many bytes of DEFLATE as a chunk may have that take longest to unpack to
// nothing: blocks of 34 bytes, each with codes of its own for whose lookup tables the
// decoder fills 36 KiB, and no symbol but the end.
func costly() []byte {
	// A complete code of 257 symbols: one chain down to 15 bits, so that every table of the
	// second level has 64 entries, and as many prefixes of them as there can be.
	var lens []int
	left := 1 << 15
	add := func(l int) { lens = append(lens, l); left -= 1 << (15 - l) }
	for _, l := range []int{15, 15, 14, 13, 12, 11} {
		add(l)
	}
	for range 238 {
		add(10)
	}
	for left > 0 {
		add(16 - bits.Len(uint(left)))
	}
	for len(lens) < 257 {
		lens = append(lens, 0)
	}
	slices.Reverse(lens)   // the end, symbol 256, has 15 bits
	lens = append(lens, 1) // the only distance
	// 16 repeats the length before it; the lengths 0 to 15 have five bits each.
	code := map[int]string{16: "0"}
	for l := range 16 {
		code[l] = fmt.Sprintf("1%04b", l)
	}
	order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
	var b strings.Builder
	b.WriteString("0 01 00000 00000 1111")
	for _, l := range order {
		fmt.Fprint(&b, map[int]string{0: "000", 1: "100", 5: "101"}[len(code[l])])
	}
	for i := 0; i < len(lens); {
		b.WriteString(code[lens[i]])
		last := lens[i]
		run := 0
		for i++; i < len(lens) && lens[i] == last && run < 6; i++ {
			run++
		}
		if run < 3 {
			i -= run
		} else {
			fmt.Fprintf(&b, "0%d%d", (run-3)&1, (run-3)>>1)
		}
	}
	b.WriteString(strings.Repeat("1", 15))
	block := strings.ReplaceAll(b.String(), " ", "")
	return stream(strings.Repeat(block, (proto.ChunkSize+proto.ChunkSize/1024)*8/len(block)))
}

// BenchmarkUnpack measures what x/contracts prices: ns for each packed byte.
func BenchmarkUnpack(b *testing.B) {
	zeros := make([]byte, proto.ChunkSize)
	text := noise(proto.ChunkSize, 1)
	for i := range text {
		text[i] = text[i]&7 | "a contract's code"[i%17]&0xf8
	}
	for _, c := range []struct {
		name          string
		chunk, packed []byte
	}{{"does not compress", noise(proto.ChunkSize, 1), nil}, {"compresses to three fifths", text, nil}, {"bomb", zeros, nil}, {"refused, costly", zeros, costly()}} {
		b.Run(c.name, func(b *testing.B) {
			m, refused := proto.NewCodeManifest(c.chunk), c.packed != nil
			if !refused {
				c.packed = proto.PackChunk(c.chunk)
			}
			for b.Loop() {
				if _, err := m.Unpack(0, c.packed); (err != nil) != refused {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(c.packed)), "ns/packed-B")
			b.ReportMetric(float64(len(c.packed)), "packed-B")
		})
	}
}
