package storage

import (
	"encoding/binary"

	"golang.org/x/crypto/blake2b"
)

// Twox64 returns the XXH64 of data with seed 0, little-endian.
func Twox64(data []byte) (out [8]byte) {
	binary.LittleEndian.PutUint64(out[:], xxh64(data, 0))
	return out
}

// Twox128 returns the XXH64 of data with seed 0, then with seed 1, little-endian.
func Twox128(data []byte) (out [16]byte) {
	binary.LittleEndian.PutUint64(out[:], xxh64(data, 0))
	binary.LittleEndian.PutUint64(out[8:], xxh64(data, 1))
	return out
}

// Blake2_128 returns the BLAKE2b hash of data with a 16-byte output.
func Blake2_128(data []byte) (out [16]byte) {
	h, _ := blake2b.New(16, nil) // fails for over-long outputs and keys only
	h.Write(data)
	h.Sum(out[:0])
	return out
}

// A Hasher turns an encoded map key into its part of the storage key.
type Hasher func(key []byte) []byte

// Twox64Concat returns twox64(key) ‖ key.
func Twox64Concat(key []byte) []byte {
	h := Twox64(key)
	return append(h[:], key...)
}

// Blake2_128Concat returns blake2_128(key) ‖ key.
func Blake2_128Concat(key []byte) []byte {
	h := Blake2_128(key)
	return append(h[:], key...)
}

// Identity returns the key itself.
func Identity(key []byte) []byte { return append([]byte(nil), key...) }

// Value returns the key of a plain value, which is also the prefix of all keys of a map: 32 bytes.
func Value(pallet, item string) []byte {
	p, i := Twox128([]byte(pallet)), Twox128([]byte(item))
	return append(p[:], i[:]...)
}

// Map returns the key of a map's entry.
func Map(pallet, item string, hash Hasher, key []byte) []byte {
	return append(Value(pallet, item), hash(key)...)
}

// Concat splits what a concat hasher with n bytes of hash (8 for Twox64Concat, 16 for Blake2_128Concat) has made of a
// key of keyLen bytes off the front of b, and checks that the hash belongs to the key.
func Concat(b []byte, hash Hasher, n, keyLen int) (key, rest []byte, ok bool) {
	if n < 0 || keyLen < 0 || len(b) < n+keyLen {
		return nil, nil, false
	}
	key = b[n : n+keyLen]
	if string(hash(key)) != string(b[:n+keyLen]) {
		return nil, nil, false
	}
	return key, b[n+keyLen:], true
}

// ChildRoot returns the key under which the main trie holds the root of the default child trie with the given id.
func ChildRoot(id []byte) []byte { return append([]byte(":child_storage:default:"), id...) }

// GrandpaAuthorities returns the well-known key ":grandpa_authorities", under which old runtimes keep the authority
// list, behind a version byte.
func GrandpaAuthorities() []byte { return []byte(":grandpa_authorities") }
