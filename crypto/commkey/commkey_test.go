package commkey

import (
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"testing"
)

func gen(t testing.TB, seed byte) *SecretKey {
	t.Helper()
	k, err := Generate(rand.NewChaCha8([32]byte{seed}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeysAgree: both sides derive one key, and any change of the label, the
// roles or a party gives another.
func TestKeysAgree(t *testing.T) {
	a, b := gen(t, 1), gen(t, 2)
	base := Label{"command", "phala-1", 3, Request}
	ka, err := a.AsInitiator(b.Public(), base)
	if err != nil {
		t.Fatal(err)
	}
	kb, err := b.AsResponder(a.Public(), base)
	if err != nil || ka != kb {
		t.Fatalf("keys differ: %v", err)
	}
	if got := hex.EncodeToString(ka[:]); got != "fa7f7ca4decd76e55a0fc50bd471a15fc0b665b464ad2177eaaece3c241641cd" {
		t.Fatalf("key %s", got)
	}
	seen := map[Key]string{ka: "base"}
	for name, l := range map[string]Label{
		"purpose": {"query", "phala-1", 3, Request}, "chain": {"command", "phala-2", 3, Request},
		"epoch": {"command", "phala-1", 4, Request}, "direction": {"command", "phala-1", 3, Reply},
		"purpose and chain shifted": {"commandp", "hala-1", 3, Request},
	} {
		k, err := a.AsInitiator(b.Public(), l)
		if err != nil {
			t.Fatal(err)
		}
		if old, ok := seen[k]; ok {
			t.Errorf("%s gives the key of %s", name, old)
		}
		seen[k] = name
	}
	swapped, err := a.AsResponder(b.Public(), base)
	if err != nil || swapped == ka {
		t.Error("roles swapped give the same key", err)
	}
}

func TestRefused(t *testing.T) {
	a := gen(t, 1)
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	for name, pk := range map[string]PublicKey{"identity": {}, "not canonical": {0xff}, "negative": {1}} {
		if _, err := a.Agree(pk); !errors.Is(err, ErrPublicKey) {
			t.Errorf("%s: got %v", name, err)
		}
		if pk.Check() == nil {
			t.Errorf("%s: passes Check", name)
		}
	}
	for name, b := range map[string][]byte{"zero": make([]byte, 32), "the group order": order, "short": make([]byte, 31)} {
		if _, err := New(b); !errors.Is(err, ErrSecretKey) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	back, err := New(a.Bytes())
	if err != nil || back.Public() != a.Public() {
		t.Fatal("a key read back differs", err)
	}
}

func BenchmarkAgree(b *testing.B) {
	x, y := gen(b, 1), gen(b, 2).Public()
	for b.Loop() {
		if _, err := x.Agree(y); err != nil {
			b.Fatal(err)
		}
	}
}
