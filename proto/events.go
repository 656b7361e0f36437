package proto

import (
	"errors"
	"fmt"

	"github.com/phala-go/phala/proto/wire"
)

// ErrUnknownKind: a payload of a kind that this version does not know. An
// enclave that meets one stops: it cannot know what it would be skipping.
var ErrUnknownKind = errors.New("proto: unknown kind")

// An Event is the payload of an inbox message.
type Event interface {
	eventKind() uint8
	encode(w *wire.Writer)
}

// MarshalEvent encodes an event: its kind, then its fields.
func MarshalEvent(e Event) []byte {
	w := new(wire.Writer).U8(e.eventKind())
	e.encode(w)
	return w.Bytes()
}

// Limits of events.
const (
	MaxEvidence = 64 << 10
	MaxSeats    = 32
	MaxEnvelope = 1<<20 + 1024
	MaxShares   = 64
	MaxSession  = 128 // bytes of a StartSession
)

// WorkerRegistered (topics gatekeeper and worker/<id>): the chain admitted a
// registration. The gatekeeper's copy carries the evidence, which gatekeepers
// check again with their own roots.
type WorkerRegistered struct {
	Registration []byte // canonical Registration
	Evidence     []byte // empty in the worker's copy
	Expires      uint64 // height at which the admission ends
}

// AdmissionEnded (topics gatekeeper and worker/<id>): the worker may not be used any
// more, until it is admitted anew: its attestation ended, policy no longer allows what
// was attested, or its machine serves as another worker.
type AdmissionEnded struct{ Worker WorkerID }

// SessionStarted (topics gatekeeper and worker/<id>): the worker's EcdhKey is now the
// one that Entry names; the older one is void. Entry is the StartSession that the enclave
// put into its outbox at Seq, with its signature: gatekeepers check it, so that a session
// is the enclave's word and not the chain's.
type SessionStarted struct {
	Worker    WorkerID
	Seq       uint64
	Entry     []byte
	Signature [64]byte
}

// Session returns what the entry says.
func (e *SessionStarted) Session() (*StartSession, error) {
	entry, err := ParseEntry(e.Entry)
	if err != nil {
		return nil, err
	}
	s, ok := entry.(StartSession)
	if !ok {
		return nil, fmt.Errorf("proto: %T starts no session", entry)
	}
	return &s, nil
}

// Seated (topics gatekeeper and worker/<id>): the worker has a seat in the cluster. It
// starts from State, or where that is zero from the cluster's first message.
type Seated struct {
	Cluster ClusterID
	Worker  WorkerID
	Epoch   uint64
	State   StateRef
}

// Unseated (topics gatekeeper and worker/<id>): the worker lost its seat.
type Unseated struct {
	Cluster ClusterID
	Worker  WorkerID
}

// EpochAnnounced (topic gatekeeper): the cluster's seats need the key of this epoch,
// which starts once a majority of them published it.
type EpochAnnounced struct {
	Cluster ClusterID
	Epoch   uint64
}

// EpochStarted (topic cluster/<id>): commands are sealed to the key of this epoch from
// the next message on. The state after this message's block is the epoch's snapshot.
type EpochStarted struct {
	Cluster ClusterID
	Epoch   uint64
}

// SnapshotWanted (topic cluster/<id>): a majority of the seats took the same snapshot;
// Holder posts its pieces. When it does not, the next seat is asked.
type SnapshotWanted struct {
	Cluster ClusterID
	State   StateRef
	Holder  WorkerID
}

// SnapshotStored (topics gatekeeper and cluster/<id>): all pieces of the snapshot are
// kept by the nodes. Keys of older epochs are not needed any more.
type SnapshotStored struct {
	Cluster ClusterID
	State   StateRef
}

// ChallengeEchoed (topic worker/<id>): the chain saw the worker's challenge.
type ChallengeEchoed struct{ Nonce [32]byte }

// KeysReleased (topic worker/<id>): a gatekeeper's share of a cluster's keys,
// sealed to the worker's session key.
type KeysReleased struct {
	Gatekeeper WorkerID
	Master     [32]byte // the network's master public key
	Release    []byte   // the ReleaseKeys entry as the gatekeeper signed it
}

// CodeAnnounced (topic cluster/<id>): workers of the cluster prepare this code.
type CodeAnnounced struct {
	Code Hash
	Size uint32
}

// Instantiated (topic cluster/<id>): a contract starts with this constructor.
type Instantiated struct {
	Contract ContractID
	Deployer []byte
	Code     Hash
	Image    Hash // of the code, as a majority of the seats prepared it
	Command  PushedCommand
}

// PushedCommand (topic cluster/<id>): a sealed command.
type PushedCommand struct {
	Payer        []byte
	Epoch        uint64
	GasTier      uint8
	DepositLimit uint64
	Envelope     []byte
}

// MasterKeySet (topic gatekeeper): the network's master public key is decided.
type MasterKeySet struct{ Public [32]byte }

func (WorkerRegistered) eventKind() uint8 { return 2 }
func (SessionStarted) eventKind() uint8   { return 3 }
func (Seated) eventKind() uint8           { return 4 }
func (Unseated) eventKind() uint8         { return 5 }
func (EpochStarted) eventKind() uint8     { return 6 }
func (ChallengeEchoed) eventKind() uint8  { return 7 }
func (KeysReleased) eventKind() uint8     { return 8 }
func (CodeAnnounced) eventKind() uint8    { return 9 }
func (Instantiated) eventKind() uint8     { return 10 }
func (PushedCommand) eventKind() uint8    { return 11 }
func (MasterKeySet) eventKind() uint8     { return 12 }
func (EpochAnnounced) eventKind() uint8   { return 13 }
func (SnapshotWanted) eventKind() uint8   { return 14 }
func (SnapshotStored) eventKind() uint8   { return 15 }
func (AdmissionEnded) eventKind() uint8   { return 16 }

func (e WorkerRegistered) encode(w *wire.Writer) {
	w.Blob(e.Registration).Blob(e.Evidence).U64(e.Expires)
}
func (e SessionStarted) encode(w *wire.Writer) {
	w.Fixed(e.Worker[:]).U64(e.Seq).Blob(e.Entry).Fixed(e.Signature[:])
}
func (e Seated) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).Fixed(e.Worker[:]).U64(e.Epoch)
	e.State.encode(w)
}
func (e Unseated) encode(w *wire.Writer) { w.U32(uint32(e.Cluster)).Fixed(e.Worker[:]) }
func (e EpochStarted) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).U64(e.Epoch)
}
func (e ChallengeEchoed) encode(w *wire.Writer) { w.Fixed(e.Nonce[:]) }
func (e KeysReleased) encode(w *wire.Writer) {
	w.Fixed(e.Gatekeeper[:]).Fixed(e.Master[:]).Blob(e.Release)
}
func (e CodeAnnounced) encode(w *wire.Writer) { w.Fixed(e.Code[:]).U32(e.Size) }
func (e Instantiated) encode(w *wire.Writer) {
	w.Fixed(e.Contract[:]).Blob(e.Deployer).Fixed(e.Code[:]).Fixed(e.Image[:])
	e.Command.encode(w)
}
func (e PushedCommand) encode(w *wire.Writer) {
	w.Blob(e.Payer).U64(e.Epoch).U8(e.GasTier).U64(e.DepositLimit).Blob(e.Envelope)
}
func (e MasterKeySet) encode(w *wire.Writer) { w.Fixed(e.Public[:]) }
func (e EpochAnnounced) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster)).U64(e.Epoch)
}
func (e SnapshotWanted) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster))
	e.State.encode(w)
	w.Fixed(e.Holder[:])
}
func (e SnapshotStored) encode(w *wire.Writer) {
	w.U32(uint32(e.Cluster))
	e.State.encode(w)
}
func (e AdmissionEnded) encode(w *wire.Writer) { w.Fixed(e.Worker[:]) }

func readPushedCommand(r *wire.Reader) PushedCommand {
	return PushedCommand{r.Blob(MaxSender), r.U64(), r.U8(), r.U64(), r.Blob(MaxEnvelope)}
}

// ParseEvent decodes a payload.
func ParseEvent(b []byte) (Event, error) {
	r := wire.NewReader(b)
	var e Event
	switch kind := r.U8(); kind {
	case 1:
		e = RulesActivated{r.U32(), r.U64(), r.Array32()}
	case 2:
		e = WorkerRegistered{r.Blob(MaxRegistration), r.Blob(MaxEvidence), r.U64()}
	case 3:
		s := SessionStarted{Worker: r.Array32(), Seq: r.U64(), Entry: r.Blob(MaxSession)}
		r.Fixed(s.Signature[:])
		e = s
	case 4:
		e = Seated{ClusterID(r.U32()), r.Array32(), r.U64(), readStateRef(r)}
	case 5:
		e = Unseated{ClusterID(r.U32()), r.Array32()}
	case 6:
		e = EpochStarted{ClusterID(r.U32()), r.U64()}
	case 7:
		e = ChallengeEchoed{r.Array32()}
	case 8:
		e = KeysReleased{r.Array32(), r.Array32(), r.Blob(MaxRelease)}
	case 9:
		e = CodeAnnounced{r.Array32(), r.U32()}
	case 10:
		e = Instantiated{r.Array32(), r.Blob(MaxSender), r.Array32(), r.Array32(), readPushedCommand(r)}
	case 11:
		e = readPushedCommand(r)
	case 12:
		e = MasterKeySet{r.Array32()}
	case 13:
		e = EpochAnnounced{ClusterID(r.U32()), r.U64()}
	case 14:
		e = SnapshotWanted{ClusterID(r.U32()), readStateRef(r), r.Array32()}
	case 15:
		e = SnapshotStored{ClusterID(r.U32()), readStateRef(r)}
	case 16:
		e = AdmissionEnded{r.Array32()}
	case 17:
		e = RulesWanted{r.U32()}
	default:
		if r.Err() == nil {
			r.Fail(fmt.Errorf("%w: event %d", ErrUnknownKind, kind))
		}
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: event: %w", err)
	}
	return e, nil
}
