package substrate

import "fmt"

// Kind classifies a failure. It is itself an error, so that errors.Is(err, substrate.ErrNotFound) works on any error
// of this package.
type Kind string

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return "substrate rpc: " + string(k) }

// The classes of failures.
const (
	ErrAddress  Kind = "bad address"                // not an http, https, ws or wss URL
	ErrConnect  Kind = "connection failed"          // no connection, or lost while waiting; trying again may help
	ErrProtocol Kind = "answer breaks the protocol" // not WebSocket, JSON-RPC or the shape that the method has
	ErrRPC      Kind = "node answers with an error"
	ErrNotFound Kind = "node does not have it" // null: an unknown block, or finality not proven yet
	ErrTooLarge Kind = "message beyond the limit"
	ErrNoStream Kind = "no subscriptions over HTTP"
	ErrClosed   Kind = "client is closed"
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

func fail(kind Kind, cause error, format string, args ...any) error {
	return &Error{Kind: kind, Detail: fmt.Sprintf(format, args...), Cause: cause}
}

// RPCError is an error answer of the node.
type RPCError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
}

// Error returns code, message and data.
func (e *RPCError) Error() string {
	if e.Data != nil {
		return fmt.Sprintf("code %d: %s (%v)", e.Code, e.Message, e.Data)
	}
	return fmt.Sprintf("code %d: %s", e.Code, e.Message)
}
