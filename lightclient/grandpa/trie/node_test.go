package trie

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

func hexBytes(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(s, "0x"), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeNode(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	long := strings.Repeat("12", 40)
	for _, c := range []struct {
		name    string
		enc     string
		nibbles int
		value   string // "-" for none
		hashed  bool
		bitmap  uint16
	}{
		{"leaf, no partial key", "40 08 aabb", 0, "aabb", false, 0},
		{"leaf, odd partial key", "43 01 23 04 aa", 3, "aa", false, 0},
		{"leaf, empty value", "42 12 00", 2, "", false, 0},
		{"leaf, 62 nibbles", "7e" + long[:62] + "00", 62, "", false, 0},
		{"leaf, 63 nibbles", "7f 00 01" + long[:62] + "00", 63, "", false, 0},
		{"leaf, 80 nibbles", "7f 11" + long[:80] + "00", 80, "", false, 0},
		{"leaf, 318 nibbles", "7f ff 00" + strings.Repeat("11", 159) + "00", 318, "", false, 0},
		{"leaf, 317 nibbles", "7f fe 01" + strings.Repeat("11", 158) + "00", 317, "", false, 0},
		{"leaf with hashed value", "22 12" + hash, 2, hash, true, 0},
		{"leaf with hashed value, 31 nibbles", "3f 00 01" + long[:30] + hash, 31, hash, true, 0},
		{"branch, no value", "80 0300 04aa 04bb", 0, "-", false, 3},
		{"branch with value", "c0 0180 04cc 04aa 04bb", 0, "cc", false, 0x8001},
		{"branch with hashed value", "12 12 0100" + hash + "80" + hash, 2, hash, true, 1},
		{"branch with hashed value, 15 nibbles", "1f 00 01" + long[:14] + "0100" + hash + "80" + hash, 15, hash, true, 1},
	} {
		var n node
		b := hexBytes(t, c.enc)
		if err := decodeNode(b, &n); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		value := "-"
		if n.hasValue {
			value = hex.EncodeToString(n.value)
		}
		if n.nibbles != c.nibbles || value != c.value || n.hashed != c.hashed || n.bitmap != c.bitmap || n.leaf != (c.bitmap == 0) {
			t.Errorf("%s: %+v", c.name, n)
		}
		if !bytes.Equal(n.encode(), b) {
			t.Errorf("%s encodes as %x", c.name, n.encode())
		}
		for i := range b {
			if decodeNode(b[:i], &n) == nil {
				t.Errorf("%s: first %d bytes accepted", c.name, i)
			}
		}
		if err := decodeNode(append(bytes.Clone(b), 0), &n); !errors.Is(err, scale.ErrTrailing) {
			t.Errorf("%s with a byte more: %v", c.name, err)
		}
	}
}

func TestDecodeNodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		enc  string
		kind scale.Kind
	}{
		{"nothing", "", scale.ErrShort},
		{"empty node", "00", scale.ErrTag},
		{"escape of compact proofs", "01", scale.ErrTag},
		{"reserved header", "0f", scale.ErrTag},
		{"odd partial key, padding set", "43 f1 23 04 aa", scale.ErrNonCanonical},
		{"branch without children", "80 0000", scale.ErrTag},
		{"child of 33 bytes", "80 0100 84" + strings.Repeat("00", 33), scale.ErrTooLarge},
		{"value longer than the node", "40 fc", scale.ErrTooLarge},
		{"value ends early", "42 12 08 aa", scale.ErrShort},
		{"length not canonical", "42 12 0500 aa", scale.ErrNonCanonical},
		{"value hash cut", "22 12 abab", scale.ErrShort},
		{"partial key beyond 65,535 nibbles", "7f" + strings.Repeat("ff", 300), scale.ErrTooLarge},
	} {
		var n node
		if err := decodeNode(hexBytes(t, c.enc), &n); !errors.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.kind)
		}
	}
}

func FuzzDecodeNode(f *testing.F) {
	for _, s := range []string{"4301 2304aa", "8003 0004 aa04 bb", "c001 8004 cc04 aa04 bb", "7fff 00", "00", "01"} {
		f.Add(hexBytes(f, s))
	}
	f.Add(append([]byte{0x22, 0x12}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var n node
		if decodeNode(in, &n) == nil && !bytes.Equal(n.encode(), in) {
			t.Errorf("%x encodes as %x", in, n.encode())
		}
	})
}
