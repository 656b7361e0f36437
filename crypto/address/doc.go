// Package address writes account bytes as text and reads them back: bech32 with
// the prefix "phala", which the chain and this project's tools use, and SS58,
// which Polkadot's tools use. An sr25519 account's bytes are its 32-byte public
// key, so both forms name the same key; a secp256k1 account has 20 bytes and no
// SS58 form.
package address
