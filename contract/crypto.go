package contract

// A Scheme is a signature scheme.
type Scheme uint32

// The schemes. Secp256k1 signs and verifies digests of 32 bytes.
const (
	Sr25519   Scheme = 1 // as Polkadot's accounts, signing context "substrate"
	Ed25519   Scheme = 2 // verified as ZIP-215 says
	Secp256k1 Scheme = 3 // r ‖ s, low s
)

const rawKey = 16

// SHA256 hashes b. Like the other functions here the enclave computes it, many times
// faster than Wasm.
func SHA256(b []byte) [32]byte { return [32]byte(running().Hash(1, b)) }

// SHA512 hashes b.
func SHA512(b []byte) [64]byte { return [64]byte(running().Hash(2, b)) }

// BLAKE2b256 hashes b to 32 bytes.
func BLAKE2b256(b []byte) [32]byte { return [32]byte(running().Hash(3, b)) }

// BLAKE2b512 hashes b to 64 bytes.
func BLAKE2b512(b []byte) [64]byte { return [64]byte(running().Hash(4, b)) }

// Keccak256 hashes b as Ethereum does.
func Keccak256(b []byte) [32]byte { return [32]byte(running().Hash(5, b)) }

// Verify checks a signature over exactly msg; with Secp256k1 msg is a digest. Malformed
// keys and signatures do not verify.
func (s Scheme) Verify(public, msg, sig []byte) bool {
	return running().Verify(uint32(s), public, msg, sig)
}

// RecoverSecp256k1 returns the public key, 33 bytes, that made a signature r ‖ s ‖ v of
// 65 bytes over a digest. v is 0 or 1.
func RecoverSecp256k1(digest [32]byte, sig []byte) (public []byte, ok bool) {
	if len(sig) != 65 {
		return nil, false
	}
	return running().Recover(digest[:], sig)
}

// A Signer is a key pair of this contract: the same in every call and on every replica, for
// as long as the contract exists. Nobody outside the enclaves has the secret.
type Signer struct {
	host   Host
	scheme uint32
	label  []byte
}

// Signer is the contract's key pair of a label. What it signs is bound to this contract: the
// bytes of SignedBytes, of which with Secp256k1 the SHA-256. So its signatures never
// mean anything but "this contract said so".
func (c *context) Signer(s Scheme, label string) Signer {
	return Signer{c.host, uint32(s), []byte(label)}
}

// RawSigner is another key pair of the label, which signs exactly what it is given: for other
// chains, whose transactions have a form of their own. The contract decides alone what
// its signatures mean, so let callers choose no part of the message that you do not
// check. With Secp256k1 a message is a digest of 32 bytes.
func (c *context) RawSigner(s Scheme, label string) Signer {
	return Signer{c.host, uint32(s) | rawKey, []byte(label)}
}

// Public is the public key: 32 bytes, with Secp256k1 33.
func (k Signer) Public() []byte { return k.host.PublicKey(k.scheme, k.label) }

// Sign signs msg. The signature has 64 bytes, with Secp256k1 65, r ‖ s ‖ v, of which the
// first 64 verify. The same message has the same signature.
func (k Signer) Sign(msg []byte) []byte { return k.host.Sign(k.scheme, k.label, msg) }

// Secret is 32 secret bytes of this contract: the same in every call, other ones for
// each label.
func (c *context) Secret(label string) [32]byte { return c.host.Derive([]byte(label)) }

// SignedBytes is what the keys of a contract sign for a message, as opposed to raw ones.
func SignedBytes(contract ID, msg []byte) []byte {
	var b []byte
	for _, field := range [][]byte{[]byte("phala/contract-message/v1"), contract[:], msg} {
		n := len(field)
		b = append(append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)), field...)
	}
	return b
}
