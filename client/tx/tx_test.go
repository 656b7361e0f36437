package tx

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/phala-go/phala/crypto/identity"
)

// TestGolden freezes the encoding of a transaction with every message: the chain decodes
// it with the Cosmos SDK's own types.
func TestGolden(t *testing.T) {
	key, err := identity.FromSeed(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	pub := key.Public()
	msgs := []Msg{
		SubmitOutbox(pub[:], [32]byte{1}, 2, []Entry{{[]byte("payload"), []byte("signature")}, {nil, []byte("x")}}),
		RegisterWorker(pub[:], []byte("registration"), []byte("signature"), []byte("evidence")),
		CreateCluster(pub[:], 3, true),
		CreateCluster(pub[:], 1, false),
		UploadCode(pub[:], []byte("manifest"), 1, []byte("chunk")),
		Deploy(pub[:], 1, [32]byte{2}, []byte("salt"), 3, 4, 5, []byte("envelope")),
		PushCommand(pub[:], 1, 2, 3, 0, []byte("envelope")),
		Send(pub[:], pub[:], "1000"),
	}
	b, err := Sign(rand.NewChaCha8([32]byte{}), Signer{key, "chain-1", 7, 9}, 200_000, 200, msgs...)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != "9b2265f80135e8820e2041e8dceeba90262b58a1cec36b343edb7dc0f6120ccb" {
		t.Errorf("%d bytes hash to %s", len(b), got)
	}
}

// TestParseAccount reads accounts as x/auth stores them, and nothing else.
func TestParseAccount(t *testing.T) {
	account := func(fields ...uint64) []byte {
		base := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "phala1xyz")
		for i, v := range fields {
			if v != 0 {
				base = protowire.AppendVarint(protowire.AppendTag(base, protowire.Number(3+i), protowire.VarintType), v)
			}
		}
		b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "/cosmos.auth.v1beta1.BaseAccount")
		return protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), base)
	}
	for _, c := range []struct{ number, sequence uint64 }{{0, 0}, {7, 0}, {0, 9}, {1 << 40, 1 << 50}} {
		n, s, err := ParseAccount(account(c.number, c.sequence))
		if err != nil || n != c.number || s != c.sequence {
			t.Errorf("got %d %d, %v; want %d %d", n, s, err, c.number, c.sequence)
		}
	}
	whole := account(7, 9)
	for i := range whole {
		if _, _, err := ParseAccount(whole[:i]); err == nil {
			t.Errorf("cut to %d of %d bytes, and it is taken", i, len(whole))
		}
	}
}

// FuzzParseAccount: what a node answers never makes it panic.
func FuzzParseAccount(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x12, 4, 0x18, 7, 0x20, 9})
	f.Fuzz(func(_ *testing.T, b []byte) { ParseAccount(b) })
}
