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

// A Code is an uploaded or partly uploaded code.
type Code struct {
	Manifest CodeManifest
	Have     []bool // which chunks are here
	// Prepared and Refused are the words of workers, by cluster.
	Prepared []CodeVote
	Refused  []CodeVote
}

// A CodeVote is one seat's word for a code in its cluster.
type CodeVote struct {
	Cluster ClusterID
	Worker  WorkerID
	Rules   uint32 // version of the rules under which it was said; it counts while the cluster runs under that one
	Image   Hash   // of the memory that it prepared; zero where it refused
}

func (v *CodeVote) counts(cl *Cluster) bool {
	return v.Cluster == cl.ID && v.Rules == cl.Rules && cl.HasSeat(v.Worker)
}

// Agreed is the image that a majority of a cluster's seats prepared the code to.
func (c *Code) Agreed(cl *Cluster) (image Hash, ok bool) {
	image, n, _ := c.leading(cl)
	return image, n >= cl.Majority()
}

// Hopeless reports whether no image can get a majority any more: too many of the
// cluster's seats refused the code, or prepared it to other images.
func (c *Code) Hopeless(cl *Cluster) bool {
	_, n, voted := c.leading(cl)
	return n+max(len(cl.Seats), int(cl.SeatsWanted))-voted < cl.Majority()
}

// leading is the image that most of a cluster's seats prepared, the first such one, and
// how many did and how many voted.
func (c *Code) leading(cl *Cluster) (image Hash, most, voted int) {
	for i := range c.Refused {
		if c.Refused[i].counts(cl) {
			voted++
		}
	}
	for i := range c.Prepared {
		v := &c.Prepared[i]
		if !v.counts(cl) {
			continue
		}
		voted++
		n := 0
		for j := range c.Prepared {
			if o := &c.Prepared[j]; o.Image == v.Image && o.counts(cl) {
				n++
			}
		}
		if n > most {
			image, most = v.Image, n
		}
	}
	return image, most, voted
}

// Voted reports whether a worker has given its word in a cluster, under the rules that are
// in force there.
func (c *Code) Voted(cl *Cluster, w WorkerID) bool {
	for _, votes := range [][]CodeVote{c.Prepared, c.Refused} {
		for _, v := range votes {
			if v.Cluster == cl.ID && v.Worker == w && v.Rules == cl.Rules {
				return true
			}
		}
	}
	return false
}

// DeployGas is the chain's gas of a deployment of a code, as the chain has it, with an
// envelope of so many bytes. A deployment reads the code's record, which holds what the seats
// of all clusters said about it.
func DeployGas(c *Code, envelope int) uint64 {
	return 200_000 + 60*uint64(envelope) + 4*uint64(len(c.Marshal()))
}

// Missing is the number of chunks still to come.
func (c *Code) Missing() int {
	n := 0
	for _, h := range c.Have {
		if !h {
			n++
		}
	}
	return n
}

// Marshal encodes c.
func (c *Code) Marshal() []byte {
	w := new(wire.Writer)
	c.Manifest.encode(w)
	w.Count(len(c.Have))
	for _, h := range c.Have {
		w.Bool(h)
	}
	for _, votes := range [][]CodeVote{c.Prepared, c.Refused} {
		w.Count(len(votes))
		for _, v := range votes {
			w.U32(uint32(v.Cluster)).Fixed(v.Worker[:]).U32(v.Rules).Fixed(v.Image[:])
		}
	}
	return w.Bytes()
}

// ParseCode decodes a Code.
func ParseCode(b []byte) (*Code, error) {
	r := wire.NewReader(b)
	c := &Code{Manifest: readManifest(r)}
	for range r.Count(MaxChunks, 1) {
		c.Have = append(c.Have, r.Bool())
	}
	votes := func() (out []CodeVote) {
		for range r.Count(1<<16, 72) {
			out = append(out, CodeVote{ClusterID(r.U32()), r.Array32(), r.U32(), r.Array32()})
		}
		return out
	}
	c.Prepared, c.Refused = votes(), votes()
	if r.Err() == nil && len(c.Have) != len(c.Manifest.Chunks) {
		r.Fail(fmt.Errorf("%w: %d flags for %d chunks", wire.ErrNotCanonical, len(c.Have), len(c.Manifest.Chunks)))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: code: %w", err)
	}
	return c, nil
}
