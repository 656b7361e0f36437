package engine

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

// BenchmarkCrypto is what the gas of the cryptographic functions was set by.
func BenchmarkCrypto(b *testing.B) {
	seed, msg := [32]byte{1}, make([]byte, 32)
	for a := SHA256; a <= Keccak256; a++ {
		for _, n := range []int{0, 16 << 10} {
			data := make([]byte, n)
			b.Run(fmt.Sprintf("hash-%d-%d", a, n), func(b *testing.B) {
				for b.Loop() {
					a.Sum(data)
				}
			})
		}
	}
	for s := Sr25519; s <= Secp256k1; s++ {
		digest := sha256.Sum256(msg)
		pub := s.PublicKey(seed)
		sig, err := (s | Raw).Sign(seed, [32]byte{}, digest[:])
		if err != nil {
			b.Fatal(err)
		}
		b.Run("public-"+s.String(), func(b *testing.B) {
			for b.Loop() {
				s.PublicKey(seed)
			}
		})
		b.Run("sign-"+s.String(), func(b *testing.B) {
			for b.Loop() {
				s.Sign(seed, [32]byte{}, msg)
			}
		})
		b.Run("verify-"+s.String(), func(b *testing.B) {
			for b.Loop() {
				if !s.Verify(pub, digest[:], sig[:64]) {
					b.Fatal("it does not verify")
				}
			}
		})
		if s == Secp256k1 {
			b.Run("recover", func(b *testing.B) {
				for b.Loop() {
					RecoverSecp256k1(digest[:], sig)
				}
			})
		}
	}
}
