package comet

import "fmt"

// A Kind is a failure class. Test with errors.Is.
type Kind string

// Error returns the kind's text.
func (k Kind) Error() string { return "light client: " + string(k) }

// The kinds.
const (
	ErrMalformed    Kind = "malformed light block"
	ErrWrongChain   Kind = "header of another chain"
	ErrExpired      Kind = "trusted header is older than the trusting period"
	ErrNotLater     Kind = "header is not later than the trusted one"
	ErrFromFuture   Kind = "header is ahead of the clock"
	ErrValidators   Kind = "validator set is not the one that the header names"
	ErrTooFewSigned Kind = "too few validators signed"
	ErrNotTrusted   Kind = "too few trusted validators signed: a header in between is needed"
	ErrSignature    Kind = "signature does not verify"
	ErrNeedNextSet  Kind = "the trusted header's next validators are needed to skip"
	ErrConflict     Kind = "two valid headers for one height"
	ErrHalted       Kind = "client is halted by a conflict"
	ErrProof        Kind = "state proof does not verify"
)

// An Error is a failure with what happened to what.
type Error struct {
	Kind   Kind
	Detail string
}

// Error returns kind and detail.
func (e *Error) Error() string { return e.Kind.Error() + ": " + e.Detail }

// Is reports whether target is the kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

func errf(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}
