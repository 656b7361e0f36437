package trie

import "fmt"

// Kind classifies a failure. It is itself an error, so that errors.Is(err, trie.ErrMissing) works on any error of
// this package.
type Kind string

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return "trie: " + string(k) }

// The classes of failures.
const (
	ErrMissing Kind = "node missing from the proof" // nothing can be said about the key; another proof may tell
	ErrNode    Kind = "malformed node"              // a node on the path is not an encoding of the trie format
	ErrLimit   Kind = "proof beyond a limit"        // too many nodes, bytes or entries
	ErrEncode  Kind = "malformed proof encoding"    // the list of nodes itself does not decode
)

// Error is a failure with its context.
type Error struct {
	Kind   Kind
	Detail string
	Cause  error
}

// Error describes the failure.
func (e *Error) Error() string {
	s := e.Kind.Error() + ": " + e.Detail
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

func fail(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
