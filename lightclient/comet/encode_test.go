package comet_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

// golden is a small block with one signature of every kind.
func golden() *comettest.Chain {
	c := comettest.New(comettest.Config{Validators: comettest.NewSetOf("golden", 30, 20, 10)})
	c.CreateTopic("system")
	c.Run(3)
	return c
}

func goldenBlock() *comet.LightBlock {
	return golden().Block(2).Signed(comettest.Signing{Round: 1, Flag: func(i int) uint8 {
		return []uint8{comet.FlagCommit, comet.FlagNil, comet.FlagAbsent}[i]
	}})
}

// checkGolden compares with testdata/name.hex. To make a new file, delete the old one
// and set PHALA_GOLDEN=1; a change of an existing one is a change of the format.
func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) && os.Getenv("PHALA_GOLDEN") != "" {
		var lines strings.Builder
		for s := hex.EncodeToString(got); s != ""; {
			n := min(len(s), 128)
			lines.WriteString(s[:n] + "\n")
			s = s[n:]
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.ReplaceAll(string(raw), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
	}
}

// TestGolden freezes the encodings, the hash of a header and of a set, the bytes that
// validators sign, and a state proof.
func TestGolden(t *testing.T) {
	c, b := golden(), goldenBlock()
	h := c.Header(2)
	hash, set := h.Hash(), b.Validators.Hash()
	checkGolden(t, "header", h.Marshal())
	checkGolden(t, "header_hash", hash[:])
	checkGolden(t, "first_header", func() []byte { h := c.Header(1); return h.Marshal() }())
	checkGolden(t, "validators_hash", set[:])
	checkGolden(t, "light_block", b.Marshal())
	checkGolden(t, "vote_sign_bytes", comet.VoteSignBytes(c.ChainID(), &b.Commit, b.Commit.Signatures[0].Time))
	_, p := c.Cursor(2, "system")
	checkGolden(t, "proof_iavl", p.IAVL)
	checkGolden(t, "proof_store", p.Store)
}

// TestVoteSignBytes: the bytes are those of comettest, which test/oracle holds against
// CometBFT's.
func TestVoteSignBytes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 3000 {
		c := &comet.Commit{Height: rng.Int64(), Round: rng.Int32() >> rng.IntN(32),
			BlockID: comet.BlockID{Hash: randomBytes(rng, 32), PartsTotal: 1 + rng.Uint32()>>rng.IntN(32), PartsHash: randomBytes(rng, 32)}}
		chain := string(randomBytes(rng, rng.IntN(51)))
		at := time.Unix(rng.Int64N(1<<35)-1<<33, []int64{0, rng.Int64N(1e9)}[rng.IntN(2)])
		got, want := comet.VoteSignBytes(chain, c, at), comettest.VoteSignBytes(chain, c.Height, c.Round, c.BlockID, at)
		if !bytes.Equal(got, want) {
			t.Fatalf("case %d: %+v of %q at %s:\ngot  %x\nwant %x", i, c, chain, at, got, want)
		}
	}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	w := newWorld()
	for _, b := range []*comet.LightBlock{w.Light(1), w.Light(15), without(w.Light(2)), w.Block(3).Signed(comettest.FirstN(0)), goldenBlock()} {
		got, err := comet.ParseLightBlock(b.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Marshal(), b.Marshal()) || got.Header.Hash() != b.Header.Hash() || !got.Header.Time.Equal(b.Header.Time) ||
			!reflect.DeepEqual(got.Commit, b.Commit) || (got.Validators == nil) != (b.Validators == nil) {
			t.Fatalf("got  %+v\nwant %+v", got, b)
		}
		h, err := comet.ParseHeader(b.Header.Marshal())
		if err != nil || h.Hash() != b.Header.Hash() {
			t.Fatal(h, err)
		}
	}
}

// TestDecodersRefuse: each rule of the two decoders.
func TestDecodersRefuse(t *testing.T) {
	block := goldenBlock()
	header := block.Header.Marshal()
	// Offsets in the encoding of the golden block.
	const chainLen, timeAt = 16, 16 + 4 + len("comettest-1") + 8
	sigs := len(header) + 8 + 4 + (4 + 32 + 4 + 4 + 32)
	edit := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	full := block.Marshal()
	for _, c := range []struct {
		name string
		in   []byte
		head bool
	}{
		{"nothing", nil, true},
		{"cut", header[:len(header)-1], true},
		{"trailing byte", append(bytes.Clone(header), 0), true},
		{"chain id longer than allowed", edit(header, chainLen, 0, 0, 0, 65), true},
		{"chain id longer than the input", edit(header, chainLen, 0xff, 0xff, 0xff, 0xff), true},
		{"year 0", edit(header, timeAt, 0xff, 0xff, 0xff, 0xf1, 0x88, 0x6e, 0x08, 0xff), true},
		{"year 10000", edit(header, timeAt, 0, 0, 0, 0x3a, 0xff, 0xf4, 0x41, 0x80), true},
		{"a second of a billion nanoseconds", edit(header, timeAt+8, 0x3b, 0x9a, 0xca, 0x00), true},
		{"nothing", nil, false},
		{"header alone", header, false},
		{"cut", full[:len(full)-1], false},
		{"trailing byte", append(bytes.Clone(full), 0), false},
		{"more signatures than a set can have", edit(full, sigs, 0, 0, 0x03, 0xe9), false},
		{"more signatures than the input holds", edit(full, sigs, 0, 0, 0x03, 0xe8), false},
		{"flag 0", edit(full, sigs+4, 0), false},
		{"flag 4", edit(full, sigs+4, 4), false},
		{"more validators than the input holds", edit(full, len(full)-3*40-4, 0, 0, 0, 4), false},
	} {
		var err error
		if c.head {
			_, err = comet.ParseHeader(c.in)
		} else {
			_, err = comet.ParseLightBlock(c.in)
		}
		if !errors.Is(err, comet.ErrMalformed) {
			t.Errorf("%s (header %v): %v", c.name, c.head, err)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	c := golden()
	for h := int64(1); h <= 3; h++ {
		head := c.Header(h)
		f.Add(head.Marshal())
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := comet.ParseHeader(in)
		if err != nil {
			if !errors.Is(err, comet.ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(h.Marshal(), in) {
			t.Fatalf("%x encodes as %x", in, h.Marshal())
		}
		h.Hash()
	})
}

// FuzzParseLightBlock: what parses has one encoding, and no block makes the client
// panic, nor move unless it is validly signed.
func FuzzParseLightBlock(f *testing.F) {
	c := golden()
	f.Add(c.Light(2).Marshal())
	f.Add(goldenBlock().Marshal())
	f.Add(without(c.Light(3)).Marshal())
	f.Add(c.Block(3).Signed(comettest.FirstN(0)).Marshal())
	fork := c.Fork("x")
	fork.Next()
	f.Add(fork.Block(4).Signed(comettest.FirstN(1)).Marshal())
	c.Next()
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := comet.ParseLightBlock(in)
		if err != nil {
			if !errors.Is(err, comet.ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(b.Marshal(), in) {
			t.Fatalf("%x encodes as %x", in, b.Marshal())
		}
		client := clientAt(c, 1)
		if client.Advance(b, c.Time()) == nil {
			want := c.Header(client.Trusted().Height)
			if client.TrustedHash() != want.Hash() {
				t.Fatalf("trusts a block that the chain does not have: %x", in)
			}
		}
	})
}
