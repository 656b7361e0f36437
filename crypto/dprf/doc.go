// Package dprf is a distributed pseudorandom function on Ristretto: holders of
// shares of a secret evaluate it together, and nobody has to hold the secret.
//
// The function maps a label to a 32-byte key:
//
//	P      = point of SHA-512(transcript "phala/dprf/v1": label), by Ristretto's map
//	F(x)   = HKDF-SHA256(ikm = x·P compressed, info = transcript "phala/dprf/out/v1": label)
//
// A holder with share x_i publishes Y_i = x_i·G once and answers a label with its
// partial evaluation x_i·P and a proof, by Chaum and Pedersen, that the logarithm of
// x_i·P to P is that of Y_i to G. Any t partial evaluations of a t-of-n sharing
// combine by Lagrange interpolation in the exponent. One holder of the whole secret
// is the sharing 1 of 1 and runs the same protocol.
//
// The construction is that of Naor, Pinkas and Reingold, "Distributed Pseudo-random
// Functions and KDCs" (EUROCRYPT 1999), with hashing to the group.
package dprf
