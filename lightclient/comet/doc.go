// Package comet is a light client for CometBFT chains: it decides, from bytes that
// an untrusted relayer hands over, which headers the chain's validators committed
// and what the chain's state says.
//
// Everything is a function of its arguments: the current time, the randomness of
// batch verification and all input are passed in. There is no I/O.
//
// # Headers
//
// [Verify] takes a header that is trusted and a [LightBlock] (header, commit,
// validator set) and says whether the new header may be trusted, by the rules of the
// CometBFT light-client specification:
//
//   - adjacent: the new header's validators are those that the trusted header
//     announced, and more than 2/3 of their power signed;
//   - skipping: more than 1/3 of the power that the trusted header announced signed
//     the new header, and more than 2/3 of its own validators' power did;
//   - in both cases the trusted header is younger than the trusting period, the new
//     one is later in height and time, of this chain, and not ahead of the clock by
//     more than the allowed drift.
//
// Signatures are ed25519 under ZIP-215 rules, as on the chain itself: accepting
// more or less than the chain does would let a validator split them.
//
// The verdict is CometBFT's own for every block that a full node can have made. It is
// stricter for five kinds that none makes: a set with more than [MaxValidators], with
// the same validator twice or with one without power, a commit whose block id names no
// parts, and a header that announces no next validators.
//
// A [Client] keeps a trusted header and walks. To skip beyond the announced set it must
// have seen that set: the header after the trusted one brings it. Where a relayer
// hands over the last header of each validator set, one header per set is enough,
// because that header announces the next set.
//
// Two valid headers for one height are a [Conflict]: the client halts and hands the
// evidence out. It notices them at the newest 128 heights that it verified. The second
// header is valid when the validators of the first signed it, or when it has a set of
// its own and more than 1/3 of the first one's validators are behind it.
//
// # State
//
// [VerifyExistence] checks an ICS-23 proof that a key of a named store has a value
// under an app hash. The app hash in header H+1 is that of the state after block H.
package comet
