// Package npos elects validators by nominated proof of stake: sequential Phragmén and
// PhragMMS, star balancing, scores, reduction, and the check for proportional justified
// representation. It is pure: integers only, no I/O, clock, randomness, goroutines or
// state, and the same input gives the same output on every machine.
//
// # From input to result
//
// Setup (by identity) or NewInstance (by number) makes an Instance of candidates and
// voters with stakes. Order matters: the earlier candidate wins a tie, and balancing
// goes through the voters in order. SeqPhragmen elects; its Result names the winners in
// the order of their election and how each voter's stake is spread over them, to the
// last unit. Result.Supports turns that into exposures, Result.Score measures it,
// CheckStandardPJR certifies it, Reduce thins it out.
//
// Results from elsewhere (a stored exposure, another program) enter by NewResult, which
// refuses what the instance does not allow. Functions that take an instance and a result
// expect them to belong together.
//
// # Exactness
//
// Amounts are U128, in the chain's smallest unit; all stakes together are at most
// MaxTotalStake. Loads and scores of sequential Phragmén are fractions over MaxU128,
// each term rounded down. The arithmetic, the order of ties and the normalising of
// weights follow Substrate's sp-npos-elections, so that results can be compared bit for
// bit. Where that saturates at 128 bits this package is exact, with one exception kept
// for equality: loads saturate at MaxU128, which takes a stake smaller than the number
// of seats it alone supports.
//
// SeqPhragmen keeps scores up to date and SeqPhragmenPlain recomputes them; both must
// agree on everything, and tests hold them to it. Both finish the same way: weights from
// loads, normalised, balanced.
//
// # Differences from the reference
//
// Results are weights rather than shares in billionths (Assignment.Shares converts).
// Balancing whose rounding made the score worse is discarded. PhragMMS multiplies in 256
// bits. The PJR slack is rounded so that a certificate is never wrong. An empty set of
// supports has the zero score.
//
// # Methods and their guarantees
//
// Cevallos and Stewart, "Validator Election in Nominated Proof-of-Stake"
// (arXiv 2004.12990): sequential Phragmén gives proportional justified representation
// (no group is under-represented by more than rounding) and no constant factor of the
// best smallest support; PhragMMS gives both, with a factor of 3.15, at a higher cost.
//
// # Errors
//
// Every error is an *Error whose Code says the class; test with errors.Is. Nothing
// panics on any input that an Instance or a Result of it can hold.
//
// The sub-packages: report judges a set and draws it, snapshot reads and writes
// elections as files, era divides and takes money by exposure, bags orders nominators.
package npos
