// Package ratls is TLS whose certificates carry attestation evidence instead of a name:
// who connects knows that the other end of this very connection is a given enclave,
// whoever operates machine, network and name service.
//
// The enclave makes a TLS key that never leaves it and lives for a day at most
// ([Issue]). Its self-signed certificate has one extension of its own, which holds
//
//   - evidence, whose report data is the hash of a [Statement]: chain, worker, validity,
//     and the TLS key itself
//   - a signature over the same statement by the worker's IdentityKey
//
// So the key is bound twice. The report data says that hardware of the vendor runs
// software of that measurement and that this software made the key: no certificate of the
// identity alone says so, and a stolen identity key cannot make one. The identity's
// signature says that it is the worker which the chain has registered: quotes have been
// forged, and an enclave of the same software is not the one with the seat. Either alone
// would let one broken part speak for the other. What else the identity stands for (trust
// root, role, operator) is fixed with it for ever, and bound by its registration.
//
// The client ([Verifier]) decides in the handshake, before it has sent a byte. Possession
// of the key is TLS's own proof, so a copied certificate is of no use; an old one has
// ended, and its key is gone. What a verifier cannot know by itself, which measurement and
// machine the chain admitted, it asks [Verifier.Admit].
//
// Not covered: whoever controls the enclave's clock can have certificates made for a later
// day, for keys that only this enclave, kept running, holds. Queries do not rely on it:
// they are sealed to a session that the chain has.
package ratls
