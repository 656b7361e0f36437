package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero/api"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/pruntime/engine/image"
)

// Limits of what reaches beyond the contract.
const (
	MaxInput = 192 << 10 // of a call to another contract
	MaxEvent = 16 << 10
	MaxHTTP  = 256 << 10 // a request, and an answer
)

// Limits of one command's events and logs, so that its answer with all of them fits one
// outbox entry. Hosts keep them.
const (
	MaxEvents     = 64
	MaxEventBytes = 64 << 10 // as they are posted
	MaxLogBytes   = 16 << 10 // of one contract
)

// EventSize is what an event of some bytes takes in the post.
func EventSize(sealed bool, data int) int {
	n := 32 + data
	if sealed {
		n = envelope.Overhead + envelope.Bucket(1+n)
	}
	return n
}

// ErrEvents ends a call whose command has emitted too much.
func ErrEvents() *Error {
	return &Error{Kind: ErrTrap, Detail: fmt.Sprintf("a command has at most %d events and %d bytes of them, padded and sealed", MaxEvents, MaxEventBytes)}
}

// callStatus is how a call of another contract ended, as the ABI counts it: the numbers
// are those of a command's status where there is one.
var callStatus = map[Kind]uint64{ErrContract: 1, ErrTrap: 2, ErrOutOfGas: 3, ErrNoCallee: 8, ErrDeposit: 10, ErrDepth: 16, ErrModule: 17, ErrOutput: 22, ErrReenter: 23}

// Status is a kind's number in the ABI, 0 for one that is never told to a contract.
func (k Kind) Status() uint32 { return uint32(callStatus[k]) }

func errReentered() *Error {
	return &Error{Kind: ErrReenter, Detail: "the contract is already running further out, and this method does not allow that"}
}

// outward is calls, events and HTTP.
var outward = []function{
	{"call", types(i32, i32, i32, i32, i64), types(i64), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		kind, n := uint32(s[0]), uint32(s[3])
		image.Charge(ctx, r.gas.Contract+r.gas.Byte*uint64(n))
		switch {
		case kind > 1:
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("call of kind %d, neither a command (0) nor a query (1)", kind)})
		case kind == 0 && r.query:
			panic(&Error{Kind: ErrTrap, Detail: "a query cannot call a command"})
		case n > MaxInput:
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("input of %d bytes, at most %d", n, MaxInput)})
		}
		// A part always stays, so that the caller can deal with a callee that used up what
		// it was given.
		left := image.Remaining(ctx)
		limit := left - left/64
		if s[4] != 0 {
			limit = min(limit, s[4])
		}
		c := &Outcall{To: [32]byte(view(m, uint32(s[1]), 32)), Query: kind == 1, Input: bytes.Clone(view(m, uint32(s[2]), n)), Gas: limit}
		res, err := r.host.Call(ctx, c)
		image.Charge(ctx, res.GasUsed)
		if err == nil {
			r.stageStatus(ctx, 0, res.Output, s)
			return
		}
		var own *Error
		if !errors.As(err, &own) {
			panic(hostError(err))
		}
		status, told := callStatus[own.Kind]
		if !told {
			panic(own)
		}
		r.stageStatus(ctx, status, append(binary.LittleEndian.AppendUint32(nil, own.Code), own.Detail...), s)
	}},
	{"emit", types(i32, i32, i32, i32), types(i32), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n, gas := uint32(s[3]), r.gas.Event
		if s[1] != 0 {
			gas += r.gas.Sealed
		}
		image.Charge(ctx, gas+r.gas.EventByte*uint64(n))
		if n > MaxEvent {
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("event of %d bytes, at most %d", n, MaxEvent)})
		}
		var reader *[32]byte
		switch uint32(s[1]) {
		case 0:
		case 32:
			k := [32]byte(view(m, uint32(s[0]), 32))
			reader = &k
		default:
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("reader's key of %d bytes, not 32", uint32(s[1]))})
		}
		err := r.host.Emit(reader, bytes.Clone(view(m, uint32(s[2]), n)))
		switch {
		case errors.Is(err, ErrReader):
			s[0] = 1
		case err != nil:
			panic(hostError(err))
		default:
			s[0] = 0
		}
	}},
	{"http", types(i32, i32), types(i64), func(ctx context.Context, m api.Module, r *run, s []uint64) {
		n := uint32(s[1])
		image.Charge(ctx, r.gas.HTTP+r.gas.Byte*uint64(n))
		if n > MaxHTTP {
			panic(&Error{Kind: ErrTrap, Detail: fmt.Sprintf("HTTP request of %d bytes, at most %d", n, MaxHTTP)})
		}
		res, err := r.host.Fetch(ctx, bytes.Clone(view(m, uint32(s[0]), n)))
		var own *Error
		switch {
		case errors.As(err, &own):
			panic(own)
		case err != nil:
			r.stageStatus(ctx, 1, append(make([]byte, 4), err.Error()...), s)
		default:
			r.stageStatus(ctx, 0, res, s)
		}
	}},
}

// ErrReader: an event's reader is not a public key.
var ErrReader = errors.New("engine: not a reader's public key")

// stageStatus keeps an answer, or why there is none, and returns status and length.
func (r *run) stageStatus(ctx context.Context, status uint64, b []byte, s []uint64) {
	image.Charge(ctx, r.gas.Byte*uint64(len(b)))
	r.staged = b
	s[0] = status<<32 | uint64(len(b))
}
