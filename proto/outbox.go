package proto

import (
	"crypto/sha256"
	"fmt"

	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto/wire"
)

// Limits of the outbox.
const (
	MaxRegistration = 2048
	MaxReleases     = 8
	MaxRelease      = 16 << 10
	MaxEndpoints    = 8
	MaxEndpoint     = 256
	MaxReceiptItems = 4096
	MaxOutputs      = 4096
	MaxOutput       = 1<<20 + 1024
	MaxEntry        = 1 << 20
	MaxEntries      = 256 // in one transaction
)

// OutboxGas is the chain's gas of a transaction with a run of so many entries and bytes of
// payloads. It is all that such a run may cost, whatever others did before: an outbox that
// is too expensive stands still for ever.
func OutboxGas(entries, bytes int) uint64 {
	return 200_000 + 250_000*uint64(entries) + 60*uint64(bytes)
}

// EntryGas is the most that acting on an entry costs of that. The rest is for the bytes in
// the transaction, the signature, and what is read and written for the worker.
func EntryGas(bytes int) uint64 { return 200_000 + 45*uint64(bytes) }

// A Role is what a pruntime does.
type Role uint8

// The roles.
const (
	RoleWorker     Role = 1
	RoleGatekeeper Role = 2
)

// String returns "worker" or "gatekeeper".
func (r Role) String() string {
	switch r {
	case RoleWorker:
		return "worker"
	case RoleGatekeeper:
		return "gatekeeper"
	}
	return fmt.Sprintf("role %d", uint8(r))
}

// A Registration is what an enclave's evidence binds.
type Registration struct {
	Chain       string
	Roots       Hash   // digest of the attestation roots by which it judges others
	TrustHeight uint64 // of the header from which its light client started
	TrustRoot   Hash   // and its hash
	Worker      WorkerID
	Session     [32]byte // session EcdhKey from this registration on
	Operator    []byte   // account that may register it
	Role        Role
	Epoch       uint64 // of its attestation: one more than the last that it saw admitted
	Height      uint64 // a recent block, which dates the evidence
	Hash        Hash
	Settings    Settings
	Releases    []Hash   // gatekeepers: software besides their own that gets keys from them
	Rules       uint32   // workers: the newest version of the rules that they know; gatekeepers: 0
	Endpoints   []string // where the public API is reached
}

// Settings are what an enclave was made with and its host must not stretch: they are
// sealed with its identity, its evidence binds them, and the chain bounds them. Times
// are in milliseconds.
type Settings struct {
	Lease           uint64 `json:"lease_ms"`            // how long an answered challenge lets it answer
	TrustingPeriod  uint64 `json:"trusting_period_ms"`  // how old a header may be and vouch for the next
	ClockDrift      uint64 `json:"clock_drift_ms"`      // how far a header may be ahead of its clock
	SessionInterval uint64 `json:"session_interval_ms"` // how long it uses a session key
	WorstLevel      uint8  `json:"worst_level"`         // gatekeepers: the worst confidence level that gets keys
}

// Beyond names a setting of s that goes further than in o, "" when there is none.
func (s *Settings) Beyond(o *Settings) string {
	switch {
	case s.Lease > o.Lease:
		return "lease"
	case s.TrustingPeriod > o.TrustingPeriod:
		return "trusting period"
	case s.ClockDrift > o.ClockDrift:
		return "clock drift"
	case s.SessionInterval > o.SessionInterval:
		return "session interval"
	case s.WorstLevel > o.WorstLevel:
		return "worst level"
	}
	return ""
}

func (s *Settings) encode(w *wire.Writer) {
	w.U64(s.Lease).U64(s.TrustingPeriod).U64(s.ClockDrift).U64(s.SessionInterval).U8(s.WorstLevel)
}

func readSettings(r *wire.Reader) Settings {
	return Settings{r.U64(), r.U64(), r.U64(), r.U64(), r.U8()}
}

// Marshal encodes r.
func (r *Registration) Marshal() []byte {
	w := new(wire.Writer).String(r.Chain).Fixed(r.Roots[:]).U64(r.TrustHeight).Fixed(r.TrustRoot[:]).Fixed(r.Worker[:]).Fixed(r.Session[:]).
		Blob(r.Operator).U8(uint8(r.Role)).U64(r.Epoch).U64(r.Height).Fixed(r.Hash[:])
	r.Settings.encode(w)
	w.Count(len(r.Releases))
	for _, h := range r.Releases {
		w.Fixed(h[:])
	}
	w.U32(r.Rules).Count(len(r.Endpoints))
	for _, e := range r.Endpoints {
		w.String(e)
	}
	return w.Bytes()
}

// ParseRegistration decodes a registration.
func ParseRegistration(b []byte) (*Registration, error) {
	r := wire.NewReader(b)
	reg := &Registration{Chain: r.String(64), Roots: r.Array32(), TrustHeight: r.U64(), TrustRoot: r.Array32(), Worker: r.Array32(), Session: r.Array32(),
		Operator: r.Blob(MaxSender), Role: Role(r.U8()), Epoch: r.U64(), Height: r.U64(), Hash: r.Array32(), Settings: readSettings(r)}
	for range r.Count(MaxReleases, 32) {
		reg.Releases = append(reg.Releases, r.Array32())
	}
	reg.Rules, reg.Endpoints = r.U32(), readEndpoints(r)
	if reg.Role != RoleWorker && reg.Role != RoleGatekeeper && r.Err() == nil {
		r.Fail(fmt.Errorf("%w: role %d", ErrUnknownKind, reg.Role))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: registration: %w", err)
	}
	return reg, nil
}

func readEndpoints(r *wire.Reader) []string {
	var out []string
	for range r.Count(MaxEndpoints, 4) {
		out = append(out, r.String(MaxEndpoint))
	}
	return out
}

// SignedBytes is what the IdentityKey signs.
func (r *Registration) SignedBytes() []byte {
	return transcript.Bytes("phala/registration/v1", r.Marshal())
}

// ReportData is what the attestation report carries: the SHA-256 of SignedBytes
// in its first half, zeros in the second.
func (r *Registration) ReportData() (d [64]byte) {
	h := sha256.Sum256(r.SignedBytes())
	copy(d[:], h[:])
	return d
}

// An Entry is the payload of an outbox entry.
type Entry interface {
	entryKind() uint8
	encode(w *wire.Writer)
}

// EntrySignedBytes is what an enclave signs for entry seq of its outbox.
func EntrySignedBytes(chain string, worker WorkerID, seq uint64, payload []byte) []byte {
	return transcript.Bytes("phala/outbox/v1", []byte(chain), worker[:], transcript.U64(seq), payload)
}

// OutboxCursor is the position of an outbox that has said nothing. The chain folds every
// entry that it takes, so that an enclave sees from a proof not only how many entries the
// chain has but which: after a restart they may be others than it remembers.
func OutboxCursor(chain string, w WorkerID) Cursor { return CreatedCursor(chain, outboxName(w)) }

func outboxName(w WorkerID) string { return "outbox/" + w.String() }

// FoldEntry returns the position after an entry's payload.
func (c Cursor) FoldEntry(w WorkerID, payload []byte) Cursor {
	return c.FoldHash(outboxName(w), sha256.Sum256(payload))
}

// MarshalEntry encodes an entry: its kind, then its fields.
func MarshalEntry(e Entry) []byte {
	w := new(wire.Writer).U8(e.entryKind())
	e.encode(w)
	return w.Bytes()
}

// StartSession: the enclave's EcdhKey is Key from now on. Height and Hash name a
// block that it has verified: a fork or a frozen enclave shows.
type StartSession struct {
	Key    [32]byte
	Height uint64
	Hash   Hash
}

// Challenge asks the chain to echo Nonce into the worker's topic, which renews the
// enclave's lease.
type Challenge struct{ Nonce [32]byte }

// SetEndpoints says where the public API is reached.
type SetEndpoints struct{ Endpoints []string }

// PublishMasterKey is a gatekeeper's: the public key of the master key.
type PublishMasterKey struct{ Public [32]byte }

// ReleaseKeys is a gatekeeper's: its partial evaluations for a cluster's keys,
// sealed to the session of the worker.
type ReleaseKeys struct {
	Worker  WorkerID
	Cluster ClusterID
	Epoch   uint64
	Session [32]byte // the session key that the release is sealed to
	Sealed  []byte   // envelope of KeyShares
}

// PublishEpochKey is a worker's: the public key of a cluster's epoch.
type PublishEpochKey struct {
	Cluster ClusterID
	Epoch   uint64
	Public  [32]byte
}

// CodePrepared is a worker's: under this version of the rules, it compiled the code,
// initialised it to this image and is ready to run it. Seats that differ in the image would
// differ in every result.
type CodePrepared struct {
	Cluster ClusterID
	Code    Hash
	Rules   uint32
	Image   Hash
}

// CodeRefused is a worker's: under this version of the rules the code cannot run.
type CodeRefused struct {
	Cluster ClusterID
	Code    Hash
	Rules   uint32
	Reason  string
}

// A ReceiptItem is what a receipt says in the clear about one message.
type ReceiptItem struct {
	GasBucket uint8 // see GasOfBucket; 0 for a message that is not a command
	// Answered: there is an output for whoever sealed the message. There is none for a
	// message that is not a command, and for one that did not open.
	Answered bool
	Deposit  DepositBucket
}

// answered is the bit of an item's byte that says so; the others are the bucket.
const answered = 0x80

func (i ReceiptItem) byte() byte {
	b := i.GasBucket
	if i.Answered {
		b |= answered
	}
	return b
}

func readItem(r *wire.Reader) ReceiptItem {
	b := r.U8()
	i := ReceiptItem{GasBucket: b &^ answered, Answered: b&answered != 0, Deposit: DepositBucket(r.U8())}
	if (i.GasBucket > 64 || i.Deposit > MaxDepositBucket) && r.Err() == nil {
		r.Fail(fmt.Errorf("%w: gas bucket %d, deposit bucket %d", wire.ErrNotCanonical, i.GasBucket, i.Deposit))
	}
	return i
}

// A Receipt is what one replica says about all of a cluster's messages of one
// height. It is final when a majority of the seats said the same.
type Receipt struct {
	Cluster   ClusterID
	FromSeq   uint64
	ToSeq     uint64
	Head      Hash // head of the topic at ToSeq
	StateRoot Hash // root of the cluster's state after ToSeq
	Outputs   Hash // Merkle root over the blinded commitments, see LeafHash
	Items     []ReceiptItem
}

// SnapshotTaken is a seat's word for the snapshot of an epoch.
type SnapshotTaken struct {
	Cluster  ClusterID
	Snapshot Snapshot
}

// SnapshotPiece is one piece of a snapshot that a majority took.
type SnapshotPiece struct {
	Cluster ClusterID
	Epoch   uint64
	Index   uint32
	Piece   []byte
}

// PostOutputs carries the sealed answers of final or not yet final receipts.
type PostOutputs struct {
	Cluster ClusterID
	Outputs []SealedOutput
}

// A SealedOutput is one answer: the Output sealed to the command's fresh key, what its
// contracts emitted, and the proof that both are in the receipt.
type SealedOutput struct {
	Seq        uint64
	Index      uint32 // position in the receipt
	Count      uint32 // number of messages in the receipt
	Proof      []Hash
	Sealed     []byte
	Commitment Hash // to the Output; with Events, the leaf of the receipt
	Events     []Emitted
}

func (StartSession) entryKind() uint8     { return 1 }
func (Challenge) entryKind() uint8        { return 2 }
func (SetEndpoints) entryKind() uint8     { return 3 }
func (PublishMasterKey) entryKind() uint8 { return 4 }
func (ReleaseKeys) entryKind() uint8      { return 5 }
func (PublishEpochKey) entryKind() uint8  { return 6 }
func (CodePrepared) entryKind() uint8     { return 7 }
func (CodeRefused) entryKind() uint8      { return 8 }
func (Receipt) entryKind() uint8          { return 9 }
func (PostOutputs) entryKind() uint8      { return 10 }
func (SnapshotTaken) entryKind() uint8    { return 11 }
func (SnapshotPiece) entryKind() uint8    { return 12 }

func (e StartSession) encode(w *wire.Writer) { w.Fixed(e.Key[:]).U64(e.Height).Fixed(e.Hash[:]) }
func (e Challenge) encode(w *wire.Writer)    { w.Fixed(e.Nonce[:]) }
func (e SetEndpoints) encode(w *wire.Writer) {
	w.Count(len(e.Endpoints))
	for _, s := range e.Endpoints {
		w.String(s)
	}
}
func (e PublishMasterKey) encode(w *wire.Writer) { w.Fixed(e.Public[:]) }
func (e ReleaseKeys) encode(w *wire.Writer) {
	w.Fixed(e.Worker[:]).U32(uint32(e.Cluster)).U64(e.Epoch).Fixed(e.Session[:]).Blob(e.Sealed)
}
func (e PublishEpochKey) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).U64(e.Epoch).Fixed(e.Public[:])
}
func (e CodePrepared) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).Fixed(e.Code[:]).U32(e.Rules).Fixed(e.Image[:])
}
func (e CodeRefused) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).Fixed(e.Code[:]).U32(e.Rules).String(e.Reason)
}
func (e Receipt) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).U64(e.FromSeq).U64(e.ToSeq).Fixed(e.Head[:]).Fixed(e.StateRoot[:]).Fixed(e.Outputs[:]).Count(len(e.Items))
	for _, i := range e.Items {
		w.U8(i.byte()).U8(uint8(i.Deposit))
	}
}
func (e SnapshotTaken) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster))
	e.Snapshot.encode(w)
}
func (e SnapshotPiece) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).U64(e.Epoch).U32(e.Index).Blob(e.Piece)
}
func (e PostOutputs) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).Count(len(e.Outputs))
	for i := range e.Outputs {
		e.Outputs[i].encode(w)
	}
}

func (o *SealedOutput) encode(w *wire.Writer) {
	w.U64(o.Seq).U32(o.Index).U32(o.Count).Count(len(o.Proof))
	for _, h := range o.Proof {
		w.Fixed(h[:])
	}
	w.Blob(o.Sealed).Fixed(o.Commitment[:]).Count(len(o.Events))
	for i := range o.Events {
		w.Bool(o.Events[i].Sealed).Blob(o.Events[i].Body)
	}
}

// Marshal encodes o.
func (o *SealedOutput) Marshal() []byte {
	w := new(wire.Writer)
	o.encode(w)
	return w.Bytes()
}

func readSealedOutput(r *wire.Reader) SealedOutput {
	o := SealedOutput{Seq: r.U64(), Index: r.U32(), Count: r.U32()}
	for range r.Count(32, 32) {
		o.Proof = append(o.Proof, r.Array32())
	}
	o.Sealed, o.Commitment = r.Blob(MaxOutput), r.Array32()
	for range r.Count(MaxEmitted, 5) {
		o.Events = append(o.Events, Emitted{r.Bool(), r.Blob(MaxEvent)})
	}
	return o
}

// ParseSealedOutput decodes a sealed output.
func ParseSealedOutput(b []byte) (*SealedOutput, error) {
	r := wire.NewReader(b)
	o := readSealedOutput(r)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: sealed output: %w", err)
	}
	return &o, nil
}

// ParseEntry decodes an entry's payload.
func ParseEntry(b []byte) (Entry, error) {
	r := wire.NewReader(b)
	var e Entry
	switch kind := r.U8(); kind {
	case 1:
		e = StartSession{r.Array32(), r.U64(), r.Array32()}
	case 2:
		e = Challenge{r.Array32()}
	case 3:
		e = SetEndpoints{readEndpoints(r)}
	case 4:
		e = PublishMasterKey{r.Array32()}
	case 5:
		e = ReleaseKeys{r.Array32(), ClusterID(r.U32()), r.U64(), r.Array32(), r.Blob(MaxRelease)}
	case 6:
		e = PublishEpochKey{ClusterID(r.U32()), r.U64(), r.Array32()}
	case 7:
		e = CodePrepared{ClusterID(r.U32()), r.Array32(), r.U32(), r.Array32()}
	case 8:
		e = CodeRefused{ClusterID(r.U32()), r.Array32(), r.U32(), r.String(512)}
	case 9:
		rc := Receipt{Cluster: ClusterID(r.U32()), FromSeq: r.U64(), ToSeq: r.U64(), Head: r.Array32(), StateRoot: r.Array32(), Outputs: r.Array32()}
		for range r.Count(MaxReceiptItems, 2) {
			rc.Items = append(rc.Items, readItem(r))
		}
		if r.Err() == nil && (rc.FromSeq == 0 || rc.ToSeq < rc.FromSeq || rc.ToSeq-rc.FromSeq+1 != uint64(len(rc.Items))) {
			r.Fail(fmt.Errorf("%w: receipt of %d items for messages %d to %d", wire.ErrNotCanonical, len(rc.Items), rc.FromSeq, rc.ToSeq))
		}
		e = rc
	case 10:
		po := PostOutputs{Cluster: ClusterID(r.U32())}
		for range r.Count(MaxOutputs, 60) {
			po.Outputs = append(po.Outputs, readSealedOutput(r))
		}
		e = po
	case 11:
		e = SnapshotTaken{ClusterID(r.U32()), readSnapshot(r)}
	case 12:
		e = SnapshotPiece{ClusterID(r.U32()), r.U64(), r.U32(), r.Blob(PieceSize)}
	case 13:
		e = RulesReady{ClusterID(r.U32()), r.U32(), r.U64(), r.Array32()}
	default:
		if r.Err() == nil {
			r.Fail(fmt.Errorf("%w: outbox entry %d", ErrUnknownKind, kind))
		}
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: outbox entry: %w", err)
	}
	return e, nil
}
