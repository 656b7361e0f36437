// Package identity holds IdentityKeys: the sr25519 keys that name users, workers
// and gatekeepers and sign for them, and the check of every signature scheme that
// a user's account may have.
//
// Keys are made as Polkadot's tools make them, so a phrase from a Polkadot wallet
// gives the same key here: a BIP-39 phrase's entropy (not its words) goes through
// PBKDF2 to a 32-byte mini secret, which expands in ed25519 mode; a derivation
// path "//hard/soft" follows the schnorrkel HDKD transcripts. Signatures use the
// context "substrate"; the purpose of a signature is inside the signed bytes
// (package transcript), never in the context, because wallets fix the context.
//
// Three schemes verify:
//
//	SchemeSr25519       sr25519 over the bytes
//	SchemeSr25519Bytes  sr25519 over "<Bytes>" ‖ bytes ‖ "</Bytes>", what
//	                    Polkadot wallets sign for a web page
//	SchemeSecp256k1     ECDSA over an ADR-36 document, what Cosmos wallets sign
//	                    for a web page; 64-byte r‖s, s in the lower half
//
// Nothing here reads a clock or a random source by itself: whoever needs one
// passes it. No error and no String method contains secret bytes.
package identity
