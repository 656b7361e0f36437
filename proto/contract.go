package proto

import (
	"fmt"
	"math/bits"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of events.
const (
	MaxEmitted = 128 // of a command, logs included
	MaxEvent   = 64 << 10
)

// An Emitted is an event as it is posted: in the clear, or sealed to its reader.
type Emitted struct {
	Sealed bool
	Body   []byte // ContractEvent, or an envelope of one
}

// A ContractEvent is what a contract emitted or logged.
type ContractEvent struct {
	Contract ContractID
	Log      bool // lines for who deployed the contract
	Data     []byte
}

// Marshal encodes e.
func (e *ContractEvent) Marshal() []byte {
	return wire.NewWriter(40 + len(e.Data)).Fixed(e.Contract[:]).Bool(e.Log).Blob(e.Data).Bytes()
}

// ParseContractEvent decodes an event.
func ParseContractEvent(b []byte) (*ContractEvent, error) {
	r := wire.NewReader(b)
	e := &ContractEvent{r.Array32(), r.Bool(), r.Blob(MaxEvent)}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: contract event: %w", err)
	}
	return e, nil
}

// EventContext is what a sealed event is bound to: its place.
func EventContext(chain string, cluster ClusterID, seq uint64, index uint32) envelope.Context {
	return envelope.Context{Purpose: "event", Chain: chain, Cluster: cluster.Bytes(), Outer: new(wire.Writer).U64(seq).U32(index).Bytes()}
}

// ReceiptLeaf is a message's leaf in the tree of its receipt: the blinded commitment to
// its output, and its events as they are posted. Whoever holds an event can therefore
// check it without knowing anything of the output.
func ReceiptLeaf(commitment Hash, events []Emitted) Hash {
	w := new(wire.Writer)
	for i := range events {
		w.Bool(events[i].Sealed).Blob(events[i].Body)
	}
	return transcript.Hash("phala/receipt-leaf/v1", commitment[:], w.Bytes())
}

// MaxDeposit bounds a command's deposit limit, so that no sum of them wraps.
const MaxDeposit = 1 << 60

// DepositUnit is the least that moves in the open: about a hundred small items. What a
// command binds or frees below that stays between the payer and the enclaves, so that
// receipts do not count a contract's items.
const DepositUnit = 1 << 24

// A DepositBucket says in a receipt what becomes of a deposit limit: 0, all of it
// returns; n up to 64, 2^(n-1) of it is kept, or all if it is less; 64+n, all of it
// returns with 2^(n-1) of what earlier commands left.
type DepositBucket uint8

// MaxDepositBucket is the largest bucket.
const MaxDepositBucket = 128

// KeepDeposit is the bucket of keeping at least amount.
func KeepDeposit(amount uint64) DepositBucket {
	if amount == 0 {
		return 0
	}
	return DepositBucket(bits.Len64(max(amount, DepositUnit)-1) + 1)
}

// RefundDeposit is the bucket of paying out at most amount.
func RefundDeposit(amount uint64) DepositBucket {
	if amount < DepositUnit {
		return 0
	}
	return DepositBucket(64 + bits.Len64(amount))
}

// Kept is what is kept of a limit.
func (d DepositBucket) Kept(limit uint64) uint64 {
	if d == 0 || d > 64 {
		return 0
	}
	return min(limit, 1<<(d-1))
}

// Refunded is what is paid out beside the limit.
func (d DepositBucket) Refunded() uint64 {
	if d <= 64 || d > MaxDepositBucket {
		return 0
	}
	return 1 << (d - 65)
}
