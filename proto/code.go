package proto

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of codes. A packed chunk fits a transaction with room to spare.
const (
	MaxCode   = 8 << 20 // bytes of a module, as the Wasm validator's limit
	ChunkSize = 256 << 10
	MaxChunks = MaxCode / ChunkSize
)

// ErrChunk means that bytes are not the chunk of a code that they are said to be.
var ErrChunk = errors.New("not the chunk that the manifest names")

// A CodeManifest is what a code's hash commits to: the size of a Wasm module and the
// hash of each of its chunks. A module has one manifest and a hash one manifest, so
// whoever has a chunk checks it alone, and nobody can announce other chunks for a hash.
type CodeManifest struct {
	Size   uint32 // bytes of the module
	Chunks []Hash // SHA-256 of each chunk; all but the last have ChunkSize bytes
}

// NewCodeManifest returns the manifest of a module.
func NewCodeManifest(module []byte) *CodeManifest {
	m := &CodeManifest{Size: uint32(len(module))}
	for chunk := range slices.Chunk(module, ChunkSize) {
		m.Chunks = append(m.Chunks, sha256.Sum256(chunk))
	}
	return m
}

// CodeHash names a module.
func CodeHash(module []byte) Hash { return NewCodeManifest(module).Hash() }

// Hash is the code's hash, its name everywhere.
func (m *CodeManifest) Hash() Hash {
	fields := [][]byte{transcript.U64(uint64(m.Size))}
	for i := range m.Chunks {
		fields = append(fields, m.Chunks[i][:])
	}
	return transcript.Hash("phala/code/v1", fields...)
}

// ChunkLen is the number of bytes of chunk i, 0 when there is none.
func (m *CodeManifest) ChunkLen(i uint32) int {
	if uint64(i) >= uint64(len(m.Chunks)) {
		return 0
	}
	return max(0, min(ChunkSize, int(m.Size)-int(i)*ChunkSize))
}

// PackChunk compresses a chunk to raw DEFLATE (RFC 1951). Any form of it will do, so the
// level is a matter of taste: the best one takes four times as long for 1.5 percent.
func PackChunk(chunk []byte) []byte {
	if packed := deflate(chunk, 5); len(packed) < len(chunk) {
		return packed
	}
	return deflate(chunk, flate.NoCompression) // a little more, for which maxPacked leaves room
}

func deflate(chunk []byte, level int) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err == nil {
		_, err = w.Write(chunk)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a wrong level or a failing writer: neither can be
	}
	return out.Bytes()
}

// maxPacked bounds the packed form of a chunk of n bytes. Compressors of other makes stay
// below it too, and nobody stores more than the chunk and a little.
func maxPacked(n int) int { return n + n/1024 + 64 }

// Unpack returns chunk i from its packed form, which must hold the chunk and nothing
// else. It never makes more than the chunk's bytes, whatever packed says.
func (m *CodeManifest) Unpack(i uint32, packed []byte) ([]byte, error) {
	n := m.ChunkLen(i)
	fail := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("proto: chunk %d of code %s: %w: %s", i, m.Hash(), ErrChunk, fmt.Sprintf(format, args...))
	}
	switch {
	case n == 0:
		return fail("the code has %d", len(m.Chunks))
	case len(packed) > maxPacked(n):
		return fail("packed to %d bytes, at most %d", len(packed), maxPacked(n))
	}
	src := bytes.NewReader(packed) // an io.ByteReader, from which flate reads no byte too many
	z := flate.NewReader(src)
	chunk := make([]byte, n)
	if _, err := io.ReadFull(z, chunk); err != nil {
		return fail("it has %d bytes: %v", n, err)
	}
	if _, err := io.ReadFull(z, make([]byte, 1)); err == nil {
		return fail("unpacks to more than %d bytes", n)
	} else if err != io.EOF {
		return fail("%v", err)
	}
	if src.Len() > 0 {
		return fail("%d bytes follow", src.Len())
	}
	if sha256.Sum256(chunk) != m.Chunks[i] {
		return fail("unpacks to something else")
	}
	return chunk, nil
}

// Marshal encodes m.
func (m *CodeManifest) Marshal() []byte {
	w := new(wire.Writer)
	m.encode(w)
	return w.Bytes()
}

func (m *CodeManifest) encode(w *wire.Writer) {
	w.U32(m.Size).Count(len(m.Chunks))
	for _, h := range m.Chunks {
		w.Fixed(h[:])
	}
}

func readManifest(r *wire.Reader) CodeManifest {
	m := CodeManifest{Size: r.U32()}
	for range r.Count(MaxChunks, 32) {
		m.Chunks = append(m.Chunks, r.Array32())
	}
	if r.Err() == nil && (m.Size == 0 || m.Size > MaxCode || (m.Size+ChunkSize-1)/ChunkSize != uint32(len(m.Chunks))) {
		r.Fail(fmt.Errorf("%w: code of %d bytes in %d chunks", wire.ErrNotCanonical, m.Size, len(m.Chunks)))
	}
	return m
}

// ParseCodeManifest decodes a manifest.
func ParseCodeManifest(b []byte) (*CodeManifest, error) {
	r := wire.NewReader(b)
	m := readManifest(r)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: code manifest: %w", err)
	}
	return &m, nil
}
