package proto

import (
	"fmt"

	"github.com/phala-go/phala/proto/wire"
)

// The stores that hold this project's state, by their names in the app hash.
const (
	StoreMQ        = "mq"
	StoreRegistry  = "registry"
	StoreContracts = "contracts"
)

// KeyTopic is where store mq keeps a topic's Cursor.
func KeyTopic(topic string) []byte { return append([]byte("t/"), topic...) }

// KeyOutbox is where store mq keeps the position of a worker's outbox, a Cursor: Seq
// entries were taken, and Head is what they fold to (see OutboxCursor).
func KeyOutbox(w WorkerID) []byte { return append([]byte("o/"), w[:]...) }

// KeyWorker is where store registry keeps a WorkerInfo.
func KeyWorker(w WorkerID) []byte { return append([]byte("w/"), w[:]...) }

// KeyMasterKey is where store registry keeps the master public key, 32 bytes.
func KeyMasterKey() []byte { return []byte("master") }

// KeyAttestation is where store registry keeps the Attestation of a worker.
func KeyAttestation(w WorkerID) []byte { return append([]byte("v/"), w[:]...) }

// KeyCollateral is where store registry keeps the vendor's collateral (package attest)
// of a family of platforms.
func KeyCollateral(platform string) []byte { return append([]byte("a/"), platform...) }

// KeyBlock is where store registry keeps the hash of a block's header, 32 bytes: of
// recent blocks, and for ever of those from which light clients may start (IsTrustRoot).
func KeyBlock(height uint64) []byte {
	return wire.NewWriter(10).Fixed([]byte("h/")).U64(height).Bytes()
}

// TrustRootInterval is how many blocks are between two trust roots: headers whose hashes
// the chain keeps for ever, so that new enclaves and clients find one that is younger
// than their trusting period, and old enclaves' stay known. At six seconds a block it is
// a hundred minutes, and 5,256 hashes a year.
const TrustRootInterval = 1000

// KeyCluster is where store contracts keeps a Cluster.
func KeyCluster(c ClusterID) []byte { return append([]byte("c/"), c.Bytes()...) }

// KeyContract is where store contracts keeps a Contract.
func KeyContract(c ContractID) []byte { return append([]byte("k/"), c[:]...) }

// KeyCode is where store contracts keeps a Code.
func KeyCode(h Hash) []byte { return append([]byte("d/"), h[:]...) }

// KeyReceipt is where store contracts keeps the ReceiptRecord whose first message
// is from.
func KeyReceipt(c ClusterID, from uint64) []byte {
	return wire.NewWriter(16).Fixed([]byte("r/")).Fixed(c.Bytes()).U64(from).Bytes()
}

// KeyCommand is where store contracts keeps a CommandRecord.
func KeyCommand(c ClusterID, seq uint64) []byte {
	return wire.NewWriter(16).Fixed([]byte("q/")).Fixed(c.Bytes()).U64(seq).Bytes()
}

// A WorkerInfo is what the registry knows of a worker or gatekeeper. WorkerState is
// the part that changes as it works.
type WorkerInfo struct {
	Worker      WorkerID
	Operator    []byte
	Role        Role
	Measurement Hash
	Simulated   bool
	Level       uint8 // confidence level 1 (best) to 5
	Registered  uint64
	Expires     uint64 // height at which the attestation ends
	Rules       uint32 // newest version of the rules that it knows; 0: it runs no contracts
	Endpoints   []string
	State       WorkerState
}

// A WorkerState is the serving state of a worker.
type WorkerState struct {
	Session       [32]byte // its EcdhKey now
	SessionHeight uint64   // when the chain took it
	Heard         uint64   // last height at which its outbox said anything
	Cluster       ClusterID
}

// Marshal encodes w.
func (w *WorkerInfo) Marshal() []byte {
	o := new(wire.Writer).Fixed(w.Worker[:]).Blob(w.Operator).U8(uint8(w.Role)).Fixed(w.Measurement[:]).Bool(w.Simulated).
		U8(w.Level).U64(w.Registered).U64(w.Expires).U32(w.Rules).Count(len(w.Endpoints))
	for _, e := range w.Endpoints {
		o.String(e)
	}
	return o.Fixed(w.State.Session[:]).U64(w.State.SessionHeight).U64(w.State.Heard).U32(uint32(w.State.Cluster)).Bytes()
}

// ParseWorkerInfo decodes a WorkerInfo.
func ParseWorkerInfo(b []byte) (*WorkerInfo, error) {
	r := wire.NewReader(b)
	w := &WorkerInfo{Worker: r.Array32(), Operator: r.Blob(MaxSender), Role: Role(r.U8()), Measurement: r.Array32(), Simulated: r.Bool(),
		Level: r.U8(), Registered: r.U64(), Expires: r.U64(), Rules: r.U32(), Endpoints: readEndpoints(r)}
	w.State = WorkerState{r.Array32(), r.U64(), r.U64(), ClusterID(r.U32())}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: worker info: %w", err)
	}
	return w, nil
}

// An Attestation is the verdict on a worker's newest evidence, with what a network's
// policy looks at. Times are Unix milliseconds of blocks.
type Attestation struct {
	TEE         uint8  // class, as package attest numbers them
	Epoch       uint64 // how many times the worker was admitted
	Verified    uint64 // when
	Until       uint64 // when evidence or collateral ends
	Status      string // TCB status
	Advisories  []string
	Platform    string   // key of the collateral, see KeyCollateral
	Revision    uint64   // of that: how often the vendor had changed what it judges
	Machine     [32]byte // identity of the processor
	Serial      []byte   // of Intel's PCK certificate
	Evaluation  uint32   // Intel's TCB evaluation number
	TCB         []byte   // the platform's security versions
	TrustHeight uint64   // where the enclave's light client started
	TrustRoot   Hash
	Settings    Settings
}

// Limits of an attestation.
const (
	maxStatus     = 64
	maxAdvisories = 256
	maxAdvisory   = 64
	maxPlatform   = 64
	maxTCB        = 64
)

// Marshal encodes a.
func (a *Attestation) Marshal() []byte {
	w := new(wire.Writer).U8(a.TEE).U64(a.Epoch).U64(a.Verified).U64(a.Until).String(a.Status).Count(len(a.Advisories))
	for _, s := range a.Advisories {
		w.String(s)
	}
	w.String(a.Platform).U64(a.Revision).Fixed(a.Machine[:]).Blob(a.Serial).U32(a.Evaluation).Blob(a.TCB).U64(a.TrustHeight).Fixed(a.TrustRoot[:])
	a.Settings.encode(w)
	return w.Bytes()
}

// ParseAttestation decodes an Attestation.
func ParseAttestation(b []byte) (*Attestation, error) {
	r := wire.NewReader(b)
	a := &Attestation{TEE: r.U8(), Epoch: r.U64(), Verified: r.U64(), Until: r.U64(), Status: r.String(maxStatus)}
	for range r.Count(maxAdvisories, 4) {
		a.Advisories = append(a.Advisories, r.String(maxAdvisory))
	}
	a.Platform, a.Revision, a.Machine, a.Serial, a.Evaluation = r.String(maxPlatform), r.U64(), r.Array32(), r.Blob(32), r.U32()
	a.TCB, a.TrustHeight, a.TrustRoot, a.Settings = r.Blob(maxTCB), r.U64(), r.Array32(), readSettings(r)
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: attestation: %w", err)
	}
	return a, nil
}

// A Cluster is a committee of workers and what they agreed.
type Cluster struct {
	ID          ClusterID
	Owner       []byte
	Public      bool // anyone may deploy
	SeatsWanted uint32
	Seats       []WorkerID // in order of seating
	Rules       uint32     // version of the rules that is in force
	Epoch       uint64
	EpochKey    [32]byte // zero until a majority published the same
	FinalSeq    uint64   // last message with a final receipt
	FinalHead   Hash
	FinalRoot   Hash
	Sealed      []SealedEpoch // votes for the epoch's key
	EpochHeight uint64        // when that key counted
	Next        uint64        // epoch that is announced and starts when its key counts; 0: none
	NextSealed  []SealedEpoch // votes for its key
	State       StateRef      // newest snapshot that the nodes keep; zero: none
	Wanted      uint32        // newer version of the rules, for which the seats were asked; 0: none
	CodesSeq    uint64        // RulesWanted, or the newest constructor after it: what the seats' words must be of
	Ready       []RulesWord   // those that can run under it
	Held        uint64        // height from which no contract starts for a while, so that they agree on the codes; 0: none
}

// A SealedEpoch is one seat's word for an epoch's public key.
type SealedEpoch struct {
	Worker WorkerID
	Public [32]byte
}

// Majority is the number of seats that decide: more than half of the seats that the
// cluster is to have, so that the first ones do not decide alone before the others
// are filled.
func (c *Cluster) Majority() int { return max(len(c.Seats), int(c.SeatsWanted))/2 + 1 }

// HasSeat reports whether w has a seat.
func (c *Cluster) HasSeat(w WorkerID) bool {
	for _, s := range c.Seats {
		if s == w {
			return true
		}
	}
	return false
}

// Marshal encodes c.
func (c *Cluster) Marshal() []byte {
	w := new(wire.Writer).U32(uint32(c.ID)).Blob(c.Owner).Bool(c.Public).U32(c.SeatsWanted).Count(len(c.Seats))
	for _, s := range c.Seats {
		w.Fixed(s[:])
	}
	w.U32(c.Rules).U64(c.Epoch).Fixed(c.EpochKey[:]).U64(c.FinalSeq).Fixed(c.FinalHead[:]).Fixed(c.FinalRoot[:]).Count(len(c.Sealed))
	for _, s := range c.Sealed {
		w.Fixed(s.Worker[:]).Fixed(s.Public[:])
	}
	w.U64(c.EpochHeight).U64(c.Next).Count(len(c.NextSealed))
	for _, s := range c.NextSealed {
		w.Fixed(s.Worker[:]).Fixed(s.Public[:])
	}
	c.State.encode(w)
	w.U32(c.Wanted).U64(c.CodesSeq).Count(len(c.Ready))
	for _, s := range c.Ready {
		w.Fixed(s.Worker[:]).U64(s.Seq).Fixed(s.Images[:])
	}
	return w.U64(c.Held).Bytes()
}

// ParseCluster decodes a Cluster.
func ParseCluster(b []byte) (*Cluster, error) {
	r := wire.NewReader(b)
	c := &Cluster{ID: ClusterID(r.U32()), Owner: r.Blob(MaxSender), Public: r.Bool(), SeatsWanted: r.U32()}
	for range r.Count(MaxSeats, 32) {
		c.Seats = append(c.Seats, r.Array32())
	}
	c.Rules, c.Epoch, c.EpochKey, c.FinalSeq, c.FinalHead, c.FinalRoot = r.U32(), r.U64(), r.Array32(), r.U64(), r.Array32(), r.Array32()
	for range r.Count(MaxSeats, 64) {
		c.Sealed = append(c.Sealed, SealedEpoch{r.Array32(), r.Array32()})
	}
	c.EpochHeight, c.Next = r.U64(), r.U64()
	for range r.Count(MaxSeats, 64) {
		c.NextSealed = append(c.NextSealed, SealedEpoch{r.Array32(), r.Array32()})
	}
	c.State, c.Wanted, c.CodesSeq = readStateRef(r), r.U32(), r.U64()
	for range r.Count(MaxSeats, 72) {
		c.Ready = append(c.Ready, RulesWord{r.Array32(), r.U64(), r.Array32()})
	}
	c.Held = r.U64()
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: cluster: %w", err)
	}
	return c, nil
}

// Phases of a contract.
const (
	ContractWaiting uint8 = 1 // for a majority of seats to prepare the code
	ContractStarted uint8 = 2 // its constructor is in the cluster's topic
	ContractRefused uint8 = 3 // a majority of seats refused the code: it may be deployed again
	ContractExpired uint8 = 4 // its epoch ended before its code was ready: it may be deployed again
)

// A Contract is a deployment.
type Contract struct {
	ID       ContractID
	Cluster  ClusterID
	Deployer []byte
	Code     Hash
	Phase    uint8
	Height   uint64 // of the deployment
	Seq      uint64 // of the constructor in the cluster's topic; 0 while waiting
	Command  PushedCommand
}

// Marshal encodes c.
func (c *Contract) Marshal() []byte {
	w := new(wire.Writer).Fixed(c.ID[:]).U32(uint32(c.Cluster)).Blob(c.Deployer).Fixed(c.Code[:]).U8(c.Phase).U64(c.Height).U64(c.Seq)
	c.Command.encode(w)
	return w.Bytes()
}

// ParseContract decodes a Contract.
func ParseContract(b []byte) (*Contract, error) {
	r := wire.NewReader(b)
	c := &Contract{r.Array32(), ClusterID(r.U32()), r.Blob(MaxSender), r.Array32(), r.U8(), r.U64(), r.U64(), readPushedCommand(r)}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: contract: %w", err)
	}
	return c, nil
}

// A CommandRecord is a command's money until its receipt is final.
type CommandRecord struct {
	Payer        []byte
	GasTier      uint8
	DepositLimit uint64
	GasPrice     uint64 // base units per 2^20 gas, when it was pushed
	Escrow       uint64 // base units held
	Height       uint64
	Done         bool // receipt final, escrow settled
	Charged      uint64
	Receipt      uint64 // when Done: first message of the final receipt, see KeyReceipt
}

// Marshal encodes c.
func (c *CommandRecord) Marshal() []byte {
	return new(wire.Writer).Blob(c.Payer).U8(c.GasTier).U64(c.DepositLimit).U64(c.GasPrice).U64(c.Escrow).U64(c.Height).Bool(c.Done).U64(c.Charged).U64(c.Receipt).Bytes()
}

// ParseCommandRecord decodes a CommandRecord.
func ParseCommandRecord(b []byte) (*CommandRecord, error) {
	r := wire.NewReader(b)
	c := &CommandRecord{r.Blob(MaxSender), r.U8(), r.U64(), r.U64(), r.U64(), r.U64(), r.Bool(), r.U64(), r.U64()}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: command record: %w", err)
	}
	return c, nil
}

// A ReceiptVote is one seat's signed word: the outbox entry as it signed it, so
// that the proof of what it said stays.
type ReceiptVote struct {
	Worker    WorkerID
	OutboxSeq uint64
	Digest    Hash // SHA-256 of the receipt's encoding
	Signature [64]byte
}

// A ReceiptRecord collects what the seats said about one height of a cluster.
type ReceiptRecord struct {
	Receipts []Receipt // distinct contents, in order of arrival
	Votes    []ReceiptVote
	Final    bool
	Agreed   uint32 // index of the final receipt, when Final
}

// Marshal encodes r.
func (rr *ReceiptRecord) Marshal() []byte {
	w := new(wire.Writer).Count(len(rr.Receipts))
	for i := range rr.Receipts {
		w.Blob(MarshalEntry(rr.Receipts[i]))
	}
	w.Count(len(rr.Votes))
	for _, v := range rr.Votes {
		w.Fixed(v.Worker[:]).U64(v.OutboxSeq).Fixed(v.Digest[:]).Fixed(v.Signature[:])
	}
	return w.Bool(rr.Final).U32(rr.Agreed).Bytes()
}

// ParseReceiptRecord decodes a ReceiptRecord.
func ParseReceiptRecord(b []byte) (*ReceiptRecord, error) {
	r := wire.NewReader(b)
	rr := new(ReceiptRecord)
	for range r.Count(MaxSeats, 4) {
		raw := r.Blob(MaxEntry)
		if r.Err() != nil {
			break
		}
		e, err := ParseEntry(raw)
		rec, ok := e.(Receipt)
		if r.Err() == nil && (err != nil || !ok) {
			r.Fail(fmt.Errorf("%w: not a receipt: %v", wire.ErrNotCanonical, err))
		}
		rr.Receipts = append(rr.Receipts, rec)
	}
	for range r.Count(MaxSeats, 136) {
		v := ReceiptVote{Worker: r.Array32(), OutboxSeq: r.U64(), Digest: r.Array32()}
		r.Fixed(v.Signature[:])
		rr.Votes = append(rr.Votes, v)
	}
	rr.Final, rr.Agreed = r.Bool(), r.U32()
	if r.Err() == nil && rr.Final && int(rr.Agreed) >= len(rr.Receipts) {
		r.Fail(fmt.Errorf("%w: agreed receipt %d of %d", wire.ErrNotCanonical, rr.Agreed, len(rr.Receipts)))
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("proto: receipt record: %w", err)
	}
	return rr, nil
}
