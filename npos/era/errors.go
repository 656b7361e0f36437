package era

// Code names one class of failure; test with errors.Is.
type Code string

// Error gives the code as text.
func (c Code) Error() string { return string(c) }

// The failure classes of this package.
const (
	// CodeCurve: the parameters of an issuance curve contradict each other.
	CodeCurve Code = "era: bad issuance curve"
	// CodeTime: an era of no or too much time.
	CodeTime Code = "era: bad duration"
	// CodeOverflow: amounts sum to more than 128 bits.
	CodeOverflow Code = "era: amounts overflow"
	// CodeFraction: a fraction above one.
	CodeFraction Code = "era: fraction above one"
	// CodeSpan: an era before the spans that are kept, or out of order.
	CodeSpan Code = "era: era outside the slashing spans"
)

// Error is a failure: its class and what happened to what.
type Error struct {
	Code   Code
	Detail string
}

// Error gives the class and the detail as one line.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Detail }

// Unwrap gives the code, so that errors.Is finds it.
func (e *Error) Unwrap() error { return e.Code }
