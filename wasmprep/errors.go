package wasmprep

import (
	"fmt"
	"strings"
)

// Kind is the class of a refusal. A Kind is itself an error, so that
// errors.Is(err, wasmprep.ErrSIMD) works on whatever Prepare returned.
type Kind string

// Error returns the kind's stable code.
func (k Kind) Error() string { return "wasmprep: " + string(k) }

// The classes of refusal. The strings are stable: they reach users and logs.
const (
	// ErrMalformed: the bytes are not a WebAssembly binary (bad header, bad
	// LEB128, section sizes that do not add up, names that are not UTF-8).
	ErrMalformed Kind = "malformed"
	// ErrInvalid: the module decodes but does not validate (types, indices).
	ErrInvalid Kind = "invalid"
	// ErrLimit: a size exceeds the rules' limits.
	ErrLimit Kind = "limit"
	// ErrSIMD: a 128-bit vector type or instruction.
	ErrSIMD Kind = "simd"
	// ErrThreads: a shared memory or an atomic instruction.
	ErrThreads Kind = "threads"
	// ErrMemory64: a 64-bit memory or table.
	ErrMemory64 Kind = "memory64"
	// ErrMultiMemory: more than one memory, or a memory index other than 0.
	ErrMultiMemory Kind = "multi-memory"
	// ErrMultiTable: more than one table, or a table index other than 0.
	ErrMultiTable Kind = "multi-table"
	// ErrTailCall: return_call and its variants.
	ErrTailCall Kind = "tail-call"
	// ErrGC: struct, array, recursive and typed reference types.
	ErrGC Kind = "gc"
	// ErrExceptions: tags, try, throw.
	ErrExceptions Kind = "exceptions"
	// ErrReferenceTypes: reference values in functions or globals, and the
	// instructions that read or make them.
	ErrReferenceTypes Kind = "reference-types"
	// ErrTableMutation: table.set, grow, fill, copy, init and elem.drop.
	ErrTableMutation Kind = "table-mutation"
	// ErrDataDrop: data.drop, whose effect no snapshot could see.
	ErrDataDrop Kind = "data-drop"
	// ErrExtendedConst: arithmetic in a constant expression.
	ErrExtendedConst Kind = "extended-const"
	// ErrUnknownImport: an import that the rules do not list.
	ErrUnknownImport Kind = "unknown-import"
	// ErrImportType: a listed import with another signature.
	ErrImportType Kind = "import-type"
	// ErrReservedName: an export that starts with the reserved prefix, or an
	// import from the reserved module.
	ErrReservedName Kind = "reserved-name"
)

// Error is a refusal: its class and where in the original module it arose.
type Error struct {
	Kind   Kind
	Func   int    // function index (imports included), or -1 outside a body
	Offset int    // byte offset in the module handed to Prepare
	Opcode uint32 // the opcode, 0xfc00|sub for prefixed ones; meaningful when HasOpcode
	// HasOpcode tells whether an instruction is at fault.
	HasOpcode bool
	Detail    string
}

// Error describes the refusal in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.Error())
	if e.Func >= 0 {
		fmt.Fprintf(&b, ": function %d", e.Func)
	}
	fmt.Fprintf(&b, " at byte %#x", e.Offset)
	if e.HasOpcode {
		fmt.Fprintf(&b, ", opcode %#02x (%s)", e.Opcode, opcodeName(e.Opcode))
	}
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	return b.String()
}

// Unwrap returns the Kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }
