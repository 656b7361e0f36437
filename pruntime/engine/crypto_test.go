package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/wasmprep/wasmtest"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// TestHashes: published digests of "abc" and of nothing.
func TestHashes(t *testing.T) {
	for _, c := range []struct {
		a          HashAlgorithm
		input, sum string
	}{
		{SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{SHA512, "abc", "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{BLAKE2b512, "abc", "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"},
		{BLAKE2b256, "", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
		{Keccak256, "", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"},
		{Keccak256, "abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"},
	} {
		sum, ok := c.a.Sum([]byte(c.input))
		if !ok || hex.EncodeToString(sum) != c.sum {
			t.Errorf("hash %d of %q is %x", c.a, c.input, sum)
		}
	}
	for _, a := range []HashAlgorithm{0, 6, 1 << 31} {
		if _, ok := a.Sum(nil); ok {
			t.Errorf("there is a hash %d", a)
		}
	}
}

var schemes = []SignatureScheme{Sr25519, Ed25519, Secp256k1, Sr25519 | Raw, Ed25519 | Raw, Secp256k1 | Raw}

// TestSignatures: each scheme's signature verifies over what it says that it signs, and
// nothing else does; every replica makes the same.
func TestSignatures(t *testing.T) {
	contract, other := [32]byte{1}, [32]byte{2}
	msg := sha256.Sum256([]byte("message"))
	for _, s := range schemes {
		t.Run(s.String(), func(t *testing.T) {
			seed := sha256.Sum256([]byte("seed"))
			pub := s.PublicKey(seed)
			sig, err := s.Sign(seed, contract, msg[:])
			if err != nil {
				t.Fatal(err)
			}
			again, _ := s.Sign(seed, contract, msg[:])
			equal(t, "the same signature again", again, sig)
			if s == Secp256k1 || s == Secp256k1|Raw {
				if len(sig) != 65 || len(pub) != 33 {
					t.Fatalf("signature of %d bytes, key of %d", len(sig), len(pub))
				}
			} else if len(sig) != 64 || len(pub) != 32 {
				t.Fatalf("signature of %d bytes, key of %d", len(sig), len(pub))
			}
			signed := func(id [32]byte, m []byte) []byte {
				if s&Raw != 0 {
					return m
				}
				b := BoundMessage(id, m)
				if s == Secp256k1 {
					d := sha256.Sum256(b)
					b = d[:]
				}
				return b
			}
			v := s &^ Raw
			if !v.Verify(pub, signed(contract, msg[:]), sig[:64]) {
				t.Fatal("the signature does not verify")
			}
			if s&Raw == 0 && (v.Verify(pub, signed(other, msg[:]), sig[:64]) || v.Verify(pub, msg[:], sig[:64])) {
				t.Error("a bound signature verifies for another contract, or over the bare message")
			}
			for i := range sig[:64] {
				bad := bytes.Clone(sig[:64])
				bad[i] ^= 1 << (i % 8)
				if v.Verify(pub, signed(contract, msg[:]), bad) {
					t.Fatalf("it verifies with byte %d changed", i)
				}
			}
			for i := range pub {
				bad := bytes.Clone(pub)
				bad[i] ^= 2
				if v.Verify(bad, signed(contract, msg[:]), sig[:64]) {
					t.Fatalf("it verifies under a key with byte %d changed", i)
				}
			}
			for _, n := range []int{0, 31, 32, 33, 63, 64, 65, 66} {
				long := append(bytes.Clone(sig), make([]byte, 2)...)
				if n != 64 && v.Verify(pub, signed(contract, msg[:]), long[:n]) {
					t.Errorf("a signature of %d bytes verifies", n)
				}
				if n != len(pub) && v.Verify(append(bytes.Clone(pub), make([]byte, 40)...)[:n], signed(contract, msg[:]), sig[:64]) {
					t.Errorf("it verifies under a key of %d bytes", n)
				}
			}
		})
	}
	if _, err := (Secp256k1 | Raw).Sign([32]byte{1}, contract, []byte("not a digest")); err == nil {
		t.Error("a raw message that is no digest is signed")
	}
	if Raw.Verify(nil, nil, nil) || (Sr25519|Raw).Verify(make([]byte, 32), nil, make([]byte, 64)) {
		t.Error("an unknown scheme verifies")
	}
}

// TestPublishedSignatures: vectors of others.
func TestPublishedSignatures(t *testing.T) {
	// RFC 8032, section 7.1, test 2.
	if !Ed25519.Verify(unhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"), []byte{0x72},
		unhex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")) {
		t.Error("ed25519")
	}
	// The transaction of EIP-155's example: its signing hash, and the key 0x46…46.
	digest := unhex("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53")
	sig := append(unhex("28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276"), unhex("67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83")...)
	key := [32]byte(bytes.Repeat([]byte{0x46}, 32))
	pub := Secp256k1.PublicKey(key)
	if !Secp256k1.Verify(pub, digest, sig) {
		t.Error("secp256k1")
	}
	own, err := (Secp256k1 | Raw).Sign(key, [32]byte{}, digest)
	if err != nil || !bytes.Equal(own, append(bytes.Clone(sig), 0)) {
		t.Errorf("signed as %x, %v", own, err)
	}
	back, ok := RecoverSecp256k1(digest, own)
	if !ok || !bytes.Equal(back, pub) {
		t.Errorf("recovered %x", back)
	}
}

// TestHighS: the second form of a signature does not verify.
func TestHighS(t *testing.T) {
	digest := sha256.Sum256(nil)
	sig, _ := (Secp256k1 | Raw).Sign([32]byte{5}, [32]byte{}, digest[:])
	_, s, _ := scalars(sig)
	high := bytes.Clone(sig)
	b := s.Negate().Bytes()
	copy(high[32:], b[:])
	pub := Secp256k1.PublicKey([32]byte{5})
	if Secp256k1.Verify(pub, digest[:], high[:64]) {
		t.Error("a high s verifies")
	}
	if _, ok := RecoverSecp256k1(digest[:], append(high[:64:64], sig[64]^1)); ok {
		t.Error("a key is recovered from a high s")
	}
	for name, bad := range map[string][]byte{"zero": make([]byte, 65), "order": append(bytes.Repeat([]byte{0xff}, 64), 0), "v": append(sig[:64:64], 2), "short": sig[:64]} {
		if _, ok := RecoverSecp256k1(digest[:], bad); ok {
			t.Errorf("a key is recovered from %s", name)
		}
	}
}

// TestKeysAreApart: raw and bound keys, schemes, labels and contracts do not share keys.
func TestKeysAreApart(t *testing.T) {
	h := newMemory()
	seen := map[string]string{}
	for _, s := range schemes {
		for _, label := range []string{"", "a", "b"} {
			k := string(s.PublicKey(h.Secret(s.String(), []byte(label))))
			name := s.String() + " " + label
			if o, twice := seen[k]; twice {
				t.Errorf("%s and %s have one key", o, name)
			}
			seen[k] = name
		}
	}
}

// TestBoundMessage freezes what contracts sign: others verify it.
func TestBoundMessage(t *testing.T) {
	id := [32]byte{0xaa}
	want := append([]byte("\x00\x00\x00\x19phala/contract-message/v1\x00\x00\x00\x20"), id[:]...)
	want = append(want, "\x00\x00\x00\x03msg"...)
	equal(t, "bound message", BoundMessage(id, []byte("msg")), want)
	if bytes.Equal(BoundMessage(id, nil), transcript.Bytes("phala/command/v1", id[:], nil)) {
		t.Error("it is a command's")
	}
}

// TestCryptoFromGuest: the functions do for a guest what they do here.
func TestCryptoFromGuest(t *testing.T) {
	c := newContract()
	c.Data(0, []byte("labelmessage"))
	body := wasmtest.Cat(
		c.void("hash", 5, 5, 7, 1000),
		store32(1100, c.do("public_key", 2, 0, 5, 1104)),
		store32(1140, c.do("sign", 2, 0, 5, 5, 7, 1144)),
		c.void("derive", 0, 5, 1300),
		store32(1340, c.do("sign", 19, 0, 5, 1000, 32, 1344)),
		store32(1420, c.do("recover", 1000, 1344, 1424)),
		store32(1460, c.do("public_key", 19, 0, 5, 1464)),
		store32(1500, c.do("verify", 3, 1464, 33, 1000, 32, 1344, 64)),
		store32(1504, c.do("verify", 3, 1464, 33, 1001, 32, 1344, 64)),
		c.void("output", 1000, 508))
	p := prepare(t, c.module(body))
	h := newMemory()
	res, err := run1(p, EntryCall, h, "", enough)
	if err != nil {
		t.Fatal(err)
	}
	out := res.Output
	sum, _ := Keccak256.Sum([]byte("message"))
	equal(t, "keccak", out[:32], sum)
	seed := h.Secret("ed25519", []byte("label"))
	equal(t, "public key", out[100:136], append([]byte{32, 0, 0, 0}, Ed25519.PublicKey(seed)...))
	sig, _ := Ed25519.Sign(seed, h.Self(), []byte("message"))
	equal(t, "signature", out[140:208], append([]byte{64, 0, 0, 0}, sig...))
	secret := h.Secret("secret", []byte("label"))
	equal(t, "secret", out[300:332], secret[:])
	equal(t, "recovered", out[420:457], append([]byte{1, 0, 0, 0}, out[464:497]...))
	equal(t, "verified", out[500:508], []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// FuzzVerify: arbitrary keys and signatures never break anything.
func FuzzVerify(f *testing.F) {
	for _, s := range schemes[:3] {
		digest := sha256.Sum256(nil)
		sig, _ := (s | Raw).Sign([32]byte{1}, [32]byte{}, digest[:])
		f.Add(uint32(s), s.PublicKey([32]byte{1}), digest[:], sig)
	}
	f.Fuzz(func(t *testing.T, s uint32, public, msg, sig []byte) {
		SignatureScheme(s).Verify(public, msg, sig)
		RecoverSecp256k1(msg, sig)
	})
}
