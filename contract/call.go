package contract

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// An ID names a contract. As text it is 64 hexadecimal digits.
type ID [32]byte

// String returns the digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Account is the contract as a caller of other contracts.
func (id ID) Account() Account { return Account(id[:]) }

// MarshalText returns the digits.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the digits.
func (id *ID) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	if err != nil || len(raw) != len(id) {
		return errors.New("not a contract's id of 64 hexadecimal digits: " + string(b))
	}
	copy(id[:], raw)
	return nil
}

// A Context is a *Command or a *Query.
type Context interface{ base() *context }

func (c *context) base() *context { return c }

// A CallError is a call to another contract that failed. Nothing that the callee wrote
// stays; the caller goes on as it likes. Where the callee refused, its *Error is inside.
type CallError struct {
	Contract ID
	Method   string
	Status   string // contract_error, trap, out_of_gas, no_contract, deposit_limit, depth, output_too_large or reentry
	Refusal  *Error // with contract_error
	Detail   string
}

// Error says what failed and how.
func (e *CallError) Error() string {
	return fmt.Sprintf("call of %s of contract %s: %s: %s", e.Method, e.Contract, e.Status, e.Detail)
}

// Unwrap returns the callee's refusal.
func (e *CallError) Unwrap() error {
	if e.Refusal == nil {
		return nil
	}
	return e.Refusal
}

func (e *CallError) code() uint32 {
	if e.Refusal != nil {
		return e.Refusal.Code
	}
	return CodeCall
}

var callStatus = map[uint32]string{1: "contract_error", 2: "trap", 3: "out_of_gas", 8: "no_contract", 10: "deposit_limit", 15: "memory", 16: "depth", 17: "code_failed", 22: "output_too_large", 23: "reentry"}

// A CallOption bounds a call.
type CallOption func(*callOptions)

type callOptions struct{ gas uint64 }

// Gas is the most that a call may use. Without it a callee gets all that is left but a
// sixty-fourth.
func Gas(limit uint64) CallOption { return func(o *callOptions) { o.gas = limit } }

// Call runs a command of another contract of the cluster, within this command: the
// callee sees this contract as its caller, and what it changes stays if this command
// succeeds. R is what the method returns, any for nothing of interest; arg is nil for a
// method without argument.
//
//	_, err := contract.Call[any](ctx, token, "Transfer", Transfer{To: who, Amount: 5})
//
// An error is a *CallError; returned from a method, the callee's code reaches the caller.
func Call[R any](ctx *Command, to ID, method string, arg any, options ...CallOption) (R, error) {
	return invoke[R](&ctx.context, false, to, method, arg, options)
}

// Ask runs a query of another contract of the cluster, from a command or a query.
//
//	balance, err := contract.Ask[uint64](ctx, token, "Balance", nil)
func Ask[R any](ctx Context, to ID, method string, arg any, options ...CallOption) (R, error) {
	return invoke[R](ctx.base(), true, to, method, arg, options)
}

func invoke[R any](c *context, query bool, to ID, method string, arg any, options []CallOption) (out R, err error) {
	var o callOptions
	for _, f := range options {
		f(&o)
	}
	in := invocation{Method: method}
	if arg != nil {
		if in.Args, err = json.Marshal(arg); err != nil {
			return out, fmt.Errorf("argument of %s: %w", method, err)
		}
	}
	input, err := json.Marshal(in)
	if err != nil {
		return out, err
	}
	status, answer := c.host.Call(query, to, input, o.gas)
	if status != 0 {
		e := &CallError{Contract: to, Method: method, Status: callStatus[status]}
		code, detail := failure(answer)
		if e.Detail = detail; status == 1 {
			e.Refusal = &Error{code, detail}
		}
		return out, e
	}
	if len(answer) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return out, fmt.Errorf("the answer of %s of contract %s is not a %T: %w", method, to, out, err)
	}
	return out, nil
}

// failure reads what a host function says about a failure.
func failure(b []byte) (code uint32, detail string) {
	if len(b) < 4 {
		return 0, ""
	}
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24, string(b[4:])
}
