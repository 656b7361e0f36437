package grandpa

import "fmt"

// Kind classifies a failure. It is itself an error, so that errors.Is(err, grandpa.ErrThreshold) works on any error
// of this package. Decoding failures carry a [scale.Kind] as well.
type Kind string

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return "grandpa: " + string(k) }

// The classes of failures. Those above ErrNewCheckpoint say that an input is wrong and another one may do; the
// trusted state stays usable.
const (
	ErrDecode     Kind = "malformed encoding"        // not the strict encoding of the structure
	ErrLimit      Kind = "input beyond a limit"      // more headers, votes or fragments than this client takes at once
	ErrSet        Kind = "bad authority set"         // empty, a repeated key, a zero weight, or too heavy
	ErrSetID      Kind = "wrong authority set id"    // a message names a set other than the trusted one
	ErrVoter      Kind = "vote of an unknown voter"  // signer is not in the authority set
	ErrDuplicate  Kind = "voter votes twice"         // one authority, two precommits, equal or not
	ErrSignature  Kind = "bad signature"             // a precommit's signature does not verify
	ErrThreshold  Kind = "too little weight"         // votes below total - (total-1)/3
	ErrAncestry   Kind = "vote not linked to target" // a vote does not descend from the commit target, or links are missing
	ErrUnused     Kind = "unused ancestry header"    // votes_ancestries carries a header no vote needs, or one twice
	ErrNotGHOST   Kind = "target is not the highest block with a supermajority"
	ErrTarget     Kind = "target mismatch"                   // justification, header and proof do not name the same block
	ErrFork       Kind = "header off the trusted chain"      // a header does not extend the block before it
	ErrStale      Kind = "not newer than trusted state"      // nothing to gain from this input
	ErrChangeSkip Kind = "authority change passed over"      // a set change before the last header, or past its block
	ErrIncomplete Kind = "incomplete warp proof"             // a fragment without a set change that is not the final one
	ErrTime       Kind = "header time out of bounds"         // no slot, slot not increasing, or slot in the future
	ErrTooOld     Kind = "trusted block too old to act upon" // older than the reader's own limit; newer proofs help
	ErrCheckpoint Kind = "bad checkpoint"                    // checkpoint is inconsistent or not one to start from

	// ErrNewCheckpoint is in every failure that no further input can repair: the chain of trust from the present
	// state is broken and the client must be given a new checkpoint by those it trusts.
	ErrNewCheckpoint Kind = "a new checkpoint is needed"
	ErrForcedChange  Kind = "forced authority change"                  // enacted without finality
	ErrPause         Kind = "GRANDPA paused or resumed"                // finality stops by decree
	ErrUnknownDigest Kind = "unknown digest"                           // a log this client cannot weigh
	ErrManyChanges   Kind = "more than one scheduled change"           // in one header, or while another is pending
	ErrUnusableSet   Kind = "announced authority set is unusable"      // empty, a repeated key, a zero weight, or too heavy
	ErrExpired       Kind = "trusted state older than trusting period" // its authorities may have unbonded
)

// needsCheckpoint tells which kinds imply ErrNewCheckpoint.
func (k Kind) needsCheckpoint() bool {
	switch k {
	case ErrForcedChange, ErrPause, ErrUnknownDigest, ErrManyChanges, ErrUnusableSet, ErrExpired:
		return true
	}
	return false
}

// Error is a failure: its class, what happened to what, and the cause if there is one.
type Error struct {
	Kind   Kind
	Detail string
	Cause  error
}

// Error describes the failure.
func (e *Error) Error() string {
	s := e.Kind.Error()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	if e.Kind.needsCheckpoint() {
		s += "; " + string(ErrNewCheckpoint)
	}
	return s
}

// Is reports whether target is the error's kind, or ErrNewCheckpoint where the kind implies it.
func (e *Error) Is(target error) bool {
	return target == e.Kind || target == ErrNewCheckpoint && e.Kind.needsCheckpoint()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func fail(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

func decodeError(what string, err error) error {
	return &Error{Kind: ErrDecode, Detail: what, Cause: err}
}

// within prefixes the detail of an error of this package with the place where it arose.
func within(place string, err error) error {
	if e, ok := err.(*Error); ok {
		return &Error{Kind: e.Kind, Detail: place + ": " + e.Detail, Cause: e.Cause}
	}
	return err
}
