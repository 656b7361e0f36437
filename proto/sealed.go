package proto

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of sealed messages.
const (
	MaxInput  = 192 << 10
	MaxReturn = 192 << 10
	MaxError  = 4096
)

// Gas is bought in tiers and refunded in buckets, so that the chain learns the
// power of two and no more.
const (
	// MinTierGas is the gas of tier 0; tier n has MinTierGas·2^n.
	MinTierGas = 1 << 20
	// MaxTier is the largest tier: some seconds of work, and tens of them where a contract
	// uses what costs most.
	MaxTier = 13
	// MaxBlockGas is how much gas the commands of one block may have bought in a cluster.
	// Seats that are given more work in a block than this take too long over one receipt.
	MaxBlockGas = 1 << 36
)

// TierGas returns the gas of a tier.
func TierGas(tier uint8) uint64 { return MinTierGas << min(tier, MaxTier) }

// TierFor returns the smallest tier that holds gas, and whether there is one.
func TierFor(gas uint64) (uint8, bool) {
	for t := uint8(0); t <= MaxTier; t++ {
		if TierGas(t) >= gas {
			return t, true
		}
	}
	return 0, false
}

// BucketOf returns the bucket of an amount of gas used: 0 for none, else the
// number n with 2^(n-1) ≤ gas < 2^n.
func BucketOf(gas uint64) uint8 { return uint8(bits.Len64(gas)) }

// GasOfBucket is what a bucket is charged: its upper end.
func GasOfBucket(bucket uint8) uint64 {
	if bucket == 0 {
		return 0
	}
	if bucket >= 64 {
		return 1<<64 - 1
	}
	return 1<<bucket - 1
}

// An Invocation is the specification's: {from, payload{to, input}, nonce, sig}, with
// what bounds it.
type Invocation struct {
	From         []byte // account
	To           ContractID
	Input        []byte
	Nonce        [16]byte // unordered; remembered until Expiry
	GasLimit     uint64
	DepositLimit uint64 // most of the payer's money that new storage may bind, base units
	Expiry       uint64 // last height at which it may run
	After        [16]byte
	Scheme       uint8 // crypto/identity.Scheme
	PublicKey    []byte
	Signature    []byte
}

// SignedBytes is what the caller signs. cluster and chain are not in the message:
// the enclave fills in its own, so a command for another place does not verify.
func (v *Invocation) SignedBytes(chain string, cluster ClusterID) []byte {
	return transcript.Bytes("phala/command/v1", []byte(chain), cluster.Bytes(), v.From, v.To[:], v.Input, v.Nonce[:],
		transcript.U64(v.GasLimit), transcript.U64(v.DepositLimit), transcript.U64(v.Expiry), v.After[:])
}

// Marshal encodes v.
func (v *Invocation) Marshal() []byte {
	return wire.NewWriter(256 + len(v.Input)).Blob(v.From).Fixed(v.To[:]).Blob(v.Input).Fixed(v.Nonce[:]).
		U64(v.GasLimit).U64(v.DepositLimit).U64(v.Expiry).Fixed(v.After[:]).U8(v.Scheme).Blob(v.PublicKey).Blob(v.Signature).Bytes()
}

// ParseInvocation decodes an invocation.
func ParseInvocation(b []byte) (*Invocation, error) {
	r := wire.NewReader(b)
	v := &Invocation{From: r.Blob(MaxSender), To: r.Array32(), Input: r.Blob(MaxInput)}
	r.Fixed(v.Nonce[:])
	v.GasLimit, v.DepositLimit, v.Expiry = r.U64(), r.U64(), r.U64()
	r.Fixed(v.After[:])
	v.Scheme, v.PublicKey, v.Signature = r.U8(), r.Blob(64), r.Blob(128)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: invocation: %w", err)
	}
	return v, nil
}

// Purposes of the envelopes that a cluster's enclaves open.
const (
	PurposeCommand     = "command"
	PurposeInstantiate = "instantiate"
)

// Context is what the envelope of c is bound to in a cluster: everything outside of it.
// The payer is part of it, so that a ciphertext which somebody copies from the queue
// opens for nobody but the account that it was made for.
func (c *PushedCommand) Context(chain string, cluster ClusterID) envelope.Context {
	return envelope.Context{Purpose: PurposeCommand, Chain: chain, Cluster: cluster.Bytes(), Epoch: c.Epoch,
		Outer: new(wire.Writer).Blob(c.Payer).U8(c.GasTier).U64(c.DepositLimit).Bytes()}
}

// Context is PushedCommand.Context for a constructor, bound to what is public about the
// deployment as well.
func (e *Instantiated) Context(chain string, cluster ClusterID) envelope.Context {
	c := e.Command.Context(chain, cluster)
	c.Purpose = PurposeInstantiate
	c.Outer = new(wire.Writer).Blob(c.Outer).Fixed(e.Contract[:]).Blob(e.Deployer).Fixed(e.Code[:]).Bytes()
	return c
}

// A Status says how a command or query ended. The numbers are on the wire.
type Status uint8

// The statuses.
const (
	StatusOK             Status = 0
	StatusContractError  Status = 1  // the contract refused: its error is in the output
	StatusTrap           Status = 2  // the contract broke: trap, panic
	StatusOutOfGas       Status = 3  // gas limit reached
	StatusNotOpened      Status = 4  // the envelope does not open in this place
	StatusBadSignature   Status = 5  // not signed by From for this chain and cluster
	StatusReplayed       Status = 6  // the nonce was used
	StatusExpired        Status = 7  // past its expiry height, or too far before it
	StatusNoContract     Status = 8  // no such contract in the cluster
	StatusGasLimit       Status = 9  // gas limit above what was paid for
	StatusDepositLimit   Status = 10 // storage deposit above the limit
	StatusOutOfOrder     Status = 11 // After names a nonce that has not run
	StatusWrongEpoch     Status = 12 // sealed to an epoch that is not accepted
	StatusMalformed      Status = 13 // the opened bytes are not an invocation, or its input is not what the cluster itself takes
	StatusNotCommand     Status = 14 // the message was not a command
	StatusDepth          Status = 16 // call depth reached
	StatusCodeFailed     Status = 17 // the code cannot run here
	StatusAlreadyExists  Status = 18 // the contract exists
	StatusNotServing     Status = 19 // the worker may not answer now
	StatusTooOld         Status = 20 // the worker's state is older than asked for
	StatusNotAuthorised  Status = 21 // queries: the grant does not allow it
	StatusOutputTooLarge Status = 22 // the contract's answer is above the limit
)

var statusNames = [...]string{"ok", "contract_error", "trap", "out_of_gas", "not_opened", "bad_signature", "replayed", "expired",
	"no_contract", "gas_limit", "deposit_limit", "out_of_order", "wrong_epoch", "malformed", "not_command", "memory", "depth",
	"code_failed", "already_exists", "not_serving", "too_old", "not_authorised", "output_too_large"}

// String returns the status's stable code.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status_%d", uint8(s))
}

// An Output is the answer to a command, opened.
type Output struct {
	Seq       uint64
	Height    uint64
	Status    Status
	GasUsed   uint64
	Deposit   uint64 // storage deposit bound, base units
	Return    []byte
	Error     string
	Blinding  [32]byte // opens the commitment in the receipt
	GasBucket uint8
}

// Marshal encodes o.
func (o *Output) Marshal() []byte {
	return wire.NewWriter(100 + len(o.Return) + len(o.Error)).U64(o.Seq).U64(o.Height).U8(uint8(o.Status)).U64(o.GasUsed).U64(o.Deposit).
		Blob(o.Return).String(o.Error).Fixed(o.Blinding[:]).U8(o.GasBucket).Bytes()
}

// ParseOutput decodes an output.
func ParseOutput(b []byte) (*Output, error) {
	r := wire.NewReader(b)
	o := &Output{r.U64(), r.U64(), Status(r.U8()), r.U64(), r.U64(), r.Blob(MaxReturn), r.String(MaxError), r.Array32(), r.U8()}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: output: %w", err)
	}
	return o, nil
}

// Commitment is the leaf of the receipt's Merkle tree. The blinding hides status,
// output and gas from whoever sees the tree; without it, answers from a small set
// could be guessed.
func (o *Output) Commitment() Hash {
	ret := sha256.Sum256(o.Return)
	return transcript.Hash("phala/output/v1", o.Blinding[:], transcript.U64(o.Seq), transcript.U64(o.Height), []byte{byte(o.Status), o.GasBucket},
		transcript.U64(o.GasUsed), transcript.U64(o.Deposit), ret[:], []byte(o.Error))
}

// A Query asks one worker. It is sealed to the worker's session key.
type Query struct {
	To        ContractID
	Input     []byte
	Nonce     [16]byte // returned in the answer, which binds it
	MinHeight uint64   // the answer must come from a state at least this new
	GasLimit  uint64   // 0: the worker's limit
	From      []byte   // empty: anonymous
	Grant     []byte   // empty, or an encoded Grant under which From asks in the grantor's name
	Scheme    uint8
	PublicKey []byte
	Signature []byte
}

// SignedBytes is what the caller of a signed query signs: session names the worker.
func (q *Query) SignedBytes(chain string, session [32]byte) []byte {
	return transcript.Bytes("phala/query/v1", []byte(chain), session[:], q.From, q.To[:], q.Input, q.Nonce[:],
		transcript.U64(q.MinHeight), transcript.U64(q.GasLimit), q.Grant)
}

// Marshal encodes q.
func (q *Query) Marshal() []byte {
	return wire.NewWriter(256 + len(q.Input)).Fixed(q.To[:]).Blob(q.Input).Fixed(q.Nonce[:]).U64(q.MinHeight).U64(q.GasLimit).
		Blob(q.From).Blob(q.Grant).U8(q.Scheme).Blob(q.PublicKey).Blob(q.Signature).Bytes()
}

// ParseQuery decodes a query.
func ParseQuery(b []byte) (*Query, error) {
	r := wire.NewReader(b)
	q := &Query{To: r.Array32(), Input: r.Blob(MaxInput)}
	r.Fixed(q.Nonce[:])
	q.MinHeight, q.GasLimit = r.U64(), r.U64()
	q.From, q.Grant, q.Scheme, q.PublicKey, q.Signature = r.Blob(MaxSender), r.Blob(MaxGrant), r.U8(), r.Blob(64), r.Blob(128)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: query: %w", err)
	}
	return q, nil
}

// QueryContext is what a query's envelope is bound to.
func QueryContext(chain string) envelope.Context {
	return envelope.Context{Purpose: "query", Chain: chain}
}

// An Answer is a worker's reply to a query, sealed to the query's fresh key. It
// binds the caller's nonce and the state that it was computed on.
type Answer struct {
	Nonce     [16]byte
	Height    uint64 // every message up to it is in the state that answered
	Hash      Hash   // hash of the newest header that the worker verified
	Cluster   ClusterID
	Seq       uint64 // last message of the cluster in this state
	StateRoot Hash
	Status    Status
	GasUsed   uint64
	Return    []byte
	Error     string
}

// Marshal encodes a.
func (a *Answer) Marshal() []byte {
	return wire.NewWriter(160 + len(a.Return) + len(a.Error)).Fixed(a.Nonce[:]).U64(a.Height).Fixed(a.Hash[:]).U32(uint32(a.Cluster)).U64(a.Seq).
		Fixed(a.StateRoot[:]).U8(uint8(a.Status)).U64(a.GasUsed).Blob(a.Return).String(a.Error).Bytes()
}

// ParseAnswer decodes an answer.
func ParseAnswer(b []byte) (*Answer, error) {
	r := wire.NewReader(b)
	a := new(Answer)
	r.Fixed(a.Nonce[:])
	a.Height, a.Hash, a.Cluster, a.Seq, a.StateRoot = r.U64(), r.Array32(), ClusterID(r.U32()), r.U64(), r.Array32()
	a.Status, a.GasUsed, a.Return, a.Error = Status(r.U8()), r.U64(), r.Blob(MaxReturn), r.String(MaxError)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: answer: %w", err)
	}
	return a, nil
}

// A KeyShare is one gatekeeper's partial evaluation of the distributed PRF for one
// label, with the proof that it used its share.
type KeyShare struct {
	Label   string
	Partial [32]byte
	Proof   [64]byte // DLEQ: challenge ‖ response
}

// MarshalKeyShares encodes a list of shares.
func MarshalKeyShares(shares []KeyShare) []byte {
	w := new(wire.Writer).Count(len(shares))
	for i := range shares {
		w.String(shares[i].Label).Fixed(shares[i].Partial[:]).Fixed(shares[i].Proof[:])
	}
	return w.Bytes()
}

// ParseKeyShares decodes a list of shares.
func ParseKeyShares(b []byte) ([]KeyShare, error) {
	r := wire.NewReader(b)
	var out []KeyShare
	for range r.Count(MaxShares, 100) {
		s := KeyShare{Label: r.String(128), Partial: r.Array32()}
		r.Fixed(s.Proof[:])
		out = append(out, s)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: key shares: %w", err)
	}
	return out, nil
}

// ReleaseContext is what the envelope of a key release is bound to.
func ReleaseContext(chain string, worker WorkerID, cluster ClusterID, epoch uint64) envelope.Context {
	return envelope.Context{Purpose: "key-release", Chain: chain, Cluster: cluster.Bytes(), Epoch: epoch, Outer: worker[:]}
}
