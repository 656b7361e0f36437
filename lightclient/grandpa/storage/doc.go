// Package storage makes the keys of Substrate storage items.
//
// A pallet's plain value is stored under twox128(pallet) ‖ twox128(item); an entry of a map has the hashed map keys
// behind that, one after the other for double maps. How a map key is hashed is the pallet's choice and part of the
// chain's metadata: [Blake2_128Concat] for keys that users choose, [Twox64Concat] for those they cannot, [Identity]
// for keys that are hashes already. The concat forms keep the key itself readable behind its hash, and [Concat]
// recovers it.
//
// The twox hashes are xxHash64 (XXH64, xxHash specification 0.1.1) with the seeds 0, 1, … of which each gives 8 bytes,
// little-endian. They are not collision-resistant and need not be: they name items, the trie proves them.
package storage
