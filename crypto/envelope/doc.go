// Package envelope seals messages to an EcdhKey with AES-256-GCM.
//
// The sender makes a fresh key pair for each message and derives a CommKey with
// the recipient's EcdhKey (package commkey). An envelope is
//
//	u8  version, 1
//	[32] sender's fresh public key
//	[12] random nonce
//	…   AES-256-GCM ciphertext and 16-byte tag
//
// The additional data is the transcript "phala/envelope/v1" of version, purpose,
// chain, cluster, epoch, both public keys and every outer field that travels
// beside the envelope in the clear. Moved to another cluster, put under another
// payer's gas limit, or relabelled in any other way, it does not open.
//
// The plaintext is padded to a size bucket before it is sealed, so that the
// ciphertext's length tells the bucket and no more: 256 bytes, then each power of
// two. An answer is sealed back to the fresh key with SealReply; the direction is
// in the key, so a request can never be returned as its own answer.
//
// A nonce is drawn at random for each envelope and each request has a key of its
// own; a reply key may be used by every replica that answers, with random nonces
// (2^32 answers to one request would be the limit, SP 800-38D §8.3).
package envelope
