package tx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
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
// The messages of phala.npos.v1, by field.
func TestStaking(t *testing.T) {
	key, err := identity.FromSeed(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	pub := key.Public()
	me := bech(pub[:])
	other := bech(make([]byte, 32))
	for _, c := range []struct {
		kind string
		msg  Msg
		want string
	}{
		{"Bond", Bond(pub[:], "12"), "1:" + me + " 2:12"},
		{"Unbond", Unbond(pub[:], "12"), "1:" + me + " 2:12"},
		{"Rebond", Rebond(pub[:], "12"), "1:" + me + " 2:12"},
		{"Withdraw", Withdraw(pub[:]), "1:" + me},
		{"Validate", Validate(pub[:], []byte("key"), 5, "7"), "1:" + me + " 2:key 3=5 4:7"},
		{"Validate", Validate(pub[:], nil, 0, ""), "1:" + me},
		{"Nominate", Nominate(pub[:], [][]byte{make([]byte, 32), pub[:]}, "7"), "1:" + me + " 2:" + other + " 2:" + me + " 3:7"},
		{"Chill", Chill(pub[:]), "1:" + me},
		{"Payout", Payout(pub[:], make([]byte, 32), 300), "1:" + me + " 2:" + other + " 3=300"},
	} {
		var got []string
		for b := c.msg.Value; len(b) > 0; {
			num, typ, n := protowire.ConsumeTag(b)
			b = b[n:]
			if typ == protowire.VarintType {
				v, n := protowire.ConsumeVarint(b)
				got, b = append(got, fmt.Sprintf("%d=%d", num, v)), b[n:]
				continue
			}
			v, n := protowire.ConsumeBytes(b)
			got, b = append(got, fmt.Sprintf("%d:%s", num, v)), b[n:]
		}
		if s := strings.Join(got, " "); s != c.want || c.msg.Type != "/phala.npos.v1.Msg"+c.kind {
			t.Errorf("%s: %s, want %s", c.msg.Type, s, c.want)
		}
	}
}

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
