// Package commkey makes CommKeys: the AES-256 keys that two parties share.
//
// Each party holds an EcdhKey, a pair on the Ristretto group (the same keys as
// sr25519). The shared point is the Diffie-Hellman product; it is never a key by
// itself. A CommKey is HKDF-SHA256 over it:
//
//	ikm  = compressed point of secret·peer, 32 bytes
//	salt = initiator's public key ‖ responder's public key
//	info = transcript "phala/commkey/v1" of purpose, chain, epoch, direction
//
// The specification leaves the one-way function open and suggests BIP-32's; HKDF
// is the same construction with labels. Because the label holds the direction, a
// message can never be reflected to the one who sent it, and because it holds
// purpose, chain and epoch, a ciphertext opens in one place only.
package commkey
