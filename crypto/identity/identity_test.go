package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/commkey"
)

var updateGo = flag.Bool("update-go", false, "write testdata/polkadot/go.json, what Node then checks")

const vectorDir = "../testdata/polkadot/"

type signature struct{ Lib, Msg, Pub, Sig string }

type agreement struct{ Seed, Peer, Shared string }

type vectors struct {
	Seeds      []struct{ Seed, Pub string }
	Phrases    []struct{ Phrase, Password, Seed string }
	URIs       []struct{ URI, Pub string }
	Signatures []signature
	Agreements []agreement
	SS58       []struct {
		Prefix       uint16
		Pub, Address string
	}
}

func load(t *testing.T, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(vectorDir + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rng(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

// TestPolkadotVectors: keys, phrases, paths, signatures, agreements and addresses
// are those of Polkadot's own libraries.
func TestPolkadotVectors(t *testing.T) {
	var v vectors
	load(t, "vectors.json", &v)
	if len(v.Seeds) != 8 || len(v.Phrases) != 14 || len(v.URIs) != 9 || len(v.Signatures) != 16 || len(v.Agreements) != 8 || len(v.SS58) != 8 {
		t.Fatalf("vectors.json is incomplete: %d %d %d %d %d %d", len(v.Seeds), len(v.Phrases), len(v.URIs), len(v.Signatures), len(v.Agreements), len(v.SS58))
	}
	for _, s := range v.Seeds {
		k, err := FromSeed(unhex(t, s.Seed))
		if err != nil || k.Public().Hex() != s.Pub {
			t.Errorf("seed %s: got %v, %v; want %s", s.Seed, k, err, s.Pub)
		}
	}
	for _, p := range v.Phrases {
		seed, err := SeedFromPhrase(p.Phrase, p.Password)
		if err != nil || hex.EncodeToString(seed[:]) != p.Seed {
			t.Errorf("phrase %q password %q: %v", p.Phrase, p.Password, err)
		}
	}
	for _, u := range v.URIs {
		k, err := FromURI(u.URI)
		if err != nil || k.Public().Hex() != u.Pub {
			t.Errorf("URI %q: got %v, %v; want %s", u.URI, k, err, u.Pub)
		}
	}
	for _, s := range v.Signatures {
		pub := PublicKey(unhex(t, s.Pub))
		if err := Verify(pub, unhex(t, s.Msg), unhex(t, s.Sig)); err != nil {
			t.Errorf("%s signature: %v", s.Lib, err)
		}
		if err := Verify(pub, append(unhex(t, s.Msg), 0), unhex(t, s.Sig)); !errors.Is(err, ErrSignature) {
			t.Errorf("%s signature over a longer message: got %v, want ErrSignature", s.Lib, err)
		}
	}
	for _, a := range v.Agreements {
		checkAgreement(t, a)
	}
	for _, s := range v.SS58 {
		got, err := address.SS58(s.Prefix, [32]byte(unhex(t, s.Pub)))
		if err != nil || got != s.Address {
			t.Errorf("SS58 prefix %d: got %s, %v; want %s", s.Prefix, got, err, s.Address)
		}
		prefix, account, err := address.ParseSS58(s.Address)
		if err != nil || prefix != s.Prefix || hex.EncodeToString(account[:]) != s.Pub {
			t.Errorf("parse %s: got prefix %d account %x, %v", s.Address, prefix, account, err)
		}
	}
}

func ecdhOf(t *testing.T, seed string) *commkey.SecretKey {
	t.Helper()
	k, err := commkey.FromSeed([32]byte(unhex(t, seed)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func checkAgreement(t *testing.T, a agreement) {
	t.Helper()
	got, err := ecdhOf(t, a.Seed).Agree(commkey.PublicKey(unhex(t, a.Peer)))
	if err != nil || hex.EncodeToString(got[:]) != a.Shared {
		t.Errorf("agreement of seed %s: got %x, %v; want %s", a.Seed, got, err, a.Shared)
	}
}

// TestGoVectors: go.json is what Node accepted (make.mjs check); it still is what
// this code makes.
func TestGoVectors(t *testing.T) {
	type file struct {
		Signatures []signature `json:"signatures"`
		Agreements []agreement `json:"agreements"`
	}
	if *updateGo {
		var f file
		var prev [32]byte
		for i := range 8 {
			k, seed, err := Generate(rng(byte(i)))
			if err != nil {
				t.Fatal(err)
			}
			msg := []byte(strings.Repeat("go signs ", i))
			sig, err := k.Sign(rng(byte(100+i)), msg)
			if err != nil {
				t.Fatal(err)
			}
			f.Signatures = append(f.Signatures, signature{"go", hex.EncodeToString(msg), k.Public().Hex(), hex.EncodeToString(sig[:])})
			peer := ecdhOf(t, hex.EncodeToString(prev[:])).Public()
			shared, err := ecdhOf(t, hex.EncodeToString(seed[:])).Agree(peer)
			if err != nil {
				t.Fatal(err)
			}
			f.Agreements = append(f.Agreements, agreement{hex.EncodeToString(seed[:]), hex.EncodeToString(peer[:]), hex.EncodeToString(shared[:])})
			prev = seed
		}
		b, _ := json.MarshalIndent(f, "", " ")
		b = []byte(strings.NewReplacer(`"Lib"`, `"lib"`, `"Msg"`, `"msg"`, `"Pub"`, `"pub"`, `"Sig"`, `"sig"`, `"Seed"`, `"seed"`, `"Peer"`, `"peer"`, `"Shared"`, `"shared"`).Replace(string(b)))
		if err := os.WriteFile(vectorDir+"go.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var f file
	load(t, "go.json", &f)
	if len(f.Signatures) != 8 || len(f.Agreements) != 8 {
		t.Fatal("go.json is incomplete")
	}
	for _, s := range f.Signatures {
		if err := Verify(PublicKey(unhex(t, s.Pub)), unhex(t, s.Msg), unhex(t, s.Sig)); err != nil {
			t.Error(err)
		}
	}
	for _, a := range f.Agreements {
		checkAgreement(t, a)
	}
}

func TestRefused(t *testing.T) {
	k, _, err := Generate(rng(1))
	if err != nil {
		t.Fatal(err)
	}
	msg := []byte("pay 1 PHA")
	sig, err := k.Sign(rng(2), msg)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, i int) []byte { b = append([]byte(nil), b...); b[i] ^= 1; return b }
	notPoint := PublicKey{0xff, 0xff}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"seed of 31 bytes", second(FromSeed(make([]byte, 31))), ErrSeed},
		{"signature bit flipped", Verify(k.Public(), msg, flip(sig[:], 0)), ErrSignature},
		{"scalar bit flipped", Verify(k.Public(), msg, flip(sig[:], 40)), ErrSignature},
		{"signature cut", Verify(k.Public(), msg, sig[:63]), ErrSignature},
		{"signature without the sr25519 mark", Verify(k.Public(), msg, append(sig[:63:63], sig[63]&0x7f)), ErrSignature},
		{"another key", Verify(PublicKey(flip(k.pub[:], 1)), msg, sig[:]), nil},
		{"not a point", Verify(notPoint, msg, sig[:]), ErrPublicKey},
		{"word not on the list", second(SeedFromPhrase("bottom drive obey lake curtain smoke basket hold race lonely fit walkk", "")), ErrPhrase},
		{"checksum of the phrase", second(SeedFromPhrase("bottom drive obey lake curtain smoke basket hold race lonely fit fit", "")), ErrPhrase},
		{"eleven words", second(SeedFromPhrase("bottom drive obey lake curtain smoke basket hold race lonely fit", "")), ErrPhrase},
		{"path without slash", second(k.Derive("Alice")), ErrPath},
		{"empty junction", second(k.Derive("//Alice//")), ErrPath},
		{"short seed in URI", second(FromURI("0x1234//Alice")), ErrSeed},
		{"unknown scheme", second(VerifyScheme(9, k.pub[:], msg, sig[:])), ErrScheme},
		{"raw signature offered as wrapped", second(VerifyScheme(SchemeSr25519Bytes, k.pub[:], msg, sig[:])), ErrSignature},
		{"sr25519 key offered as secp256k1", second(VerifyScheme(SchemeSecp256k1, k.pub[:], msg, sig[:])), ErrPublicKey},
	} {
		if c.err == nil || (c.want != nil && !errors.Is(c.err, c.want)) {
			t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestWrappedBytes(t *testing.T) {
	k, _, _ := Generate(rng(3))
	msg := []byte("invocation")
	sig, _ := k.Sign(rng(4), []byte("<Bytes>invocation</Bytes>"))
	account, err := VerifyScheme(SchemeSr25519Bytes, k.pub[:], msg, sig[:])
	if err != nil || PublicKey(account) != k.Public() {
		t.Fatalf("got %x, %v", account, err)
	}
}

func TestADR36(t *testing.T) {
	key := secp256k1.PrivKeyFromBytes([]byte(strings.Repeat("k", 32)))
	pub := key.PubKey().SerializeCompressed()
	account, err := AccountOf(SchemeSecp256k1, pub)
	if err != nil || len(account) != 20 {
		t.Fatal(account, err)
	}
	signer, _ := address.Bech32(address.HRP, account)
	msg := []byte{1, 2, 3}
	digest := sha256.Sum256(ADR36Document(signer, msg))
	compact := ecdsa.SignCompact(key, digest[:], true)[1:]
	got, err := VerifyScheme(SchemeSecp256k1, pub, msg, compact)
	if err != nil || string(got) != string(account) {
		t.Fatalf("got %x, %v", got, err)
	}
	// The same signature with s mirrored verifies in plain ECDSA: a second encoding
	// of one signature must be refused.
	var s secp256k1.ModNScalar
	s.SetByteSlice(compact[32:])
	s.Negate()
	high := append(append([]byte(nil), compact[:32]...), make([]byte, 32)...)
	s.PutBytesUnchecked(high[32:])
	for name, bad := range map[string][]byte{"high s": high, "zero r": make([]byte, 64), "short": compact[:63]} {
		if _, err := VerifyScheme(SchemeSecp256k1, pub, msg, bad); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got %v, want ErrSignature", name, err)
		}
	}
	if _, err := VerifyScheme(SchemeSecp256k1, pub, []byte{1, 2, 4}, compact); !errors.Is(err, ErrSignature) {
		t.Errorf("other message: got %v", err)
	}
	// The frozen document: wallets sign these bytes.
	const want = `{"account_number":"0","chain_id":"","fee":{"amount":[],"gas":"0"},"memo":"","msgs":[{"type":"sign/MsgSignData","value":{"data":"AQID","signer":"phala1x"}}],"sequence":"0"}`
	if got := string(ADR36Document("phala1x", msg)); got != want {
		t.Errorf("document %s", got)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	k, seed, _ := Generate(rng(5))
	ecdh, _ := commkey.FromSeed(seed)
	secret := hex.EncodeToString(k.Secret()[:32])
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, v := range []any{k, ecdh, commkey.Key(seed)} {
			out := fmt.Sprintf(verb, v)
			if strings.Contains(out, secret) || strings.Contains(out, hex.EncodeToString(seed[:])) || strings.Contains(out, hex.EncodeToString(ecdh.Bytes())) {
				t.Errorf("%s of %T prints the secret", verb, v)
			}
		}
	}
}

func TestSecretRoundTrip(t *testing.T) {
	k, err := FromURI("//Alice/soft")
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromSecret(k.Secret())
	if err != nil || back.Public() != k.Public() {
		t.Fatal(back, err)
	}
	sig, err := back.Sign(rng(6), []byte("m"))
	if err != nil || Verify(k.Public(), []byte("m"), sig[:]) != nil {
		t.Fatal("a key read back does not sign for the original")
	}
	phrase, err := NewPhrase(rng(7))
	if err != nil || len(strings.Fields(phrase)) != 12 {
		t.Fatal(phrase, err)
	}
	if _, err := SeedFromPhrase(phrase, ""); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkVerify(b *testing.B) {
	k, _, _ := Generate(rng(1))
	sig, _ := k.Sign(rng(2), []byte("m"))
	for b.Loop() {
		if Verify(k.Public(), []byte("m"), sig[:]) != nil {
			b.Fatal("refused")
		}
	}
}
