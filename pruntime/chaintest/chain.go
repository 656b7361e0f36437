package chaintest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime"
	"github.com/phala-go/phala/pruntime/inbox"
)

// A Refusal is what the chain answers to a transaction that it does not carry out.
type Refusal struct {
	Space string
	Code  uint32
	Log   string
}

// Error returns the log.
func (r *Refusal) Error() string { return fmt.Sprintf("%s %d: %s", r.Space, r.Code, r.Log) }

func refuse(space string, code uint32, format string, args ...any) error {
	return &Refusal{space, code, fmt.Sprintf(format, args...)}
}

// An Entry is a signed outbox entry.
type Entry struct{ Payload, Signature []byte }

// A Chain is safe for concurrent use through its methods; C is for tests that hold
// nothing else running.
type Chain struct {
	mu sync.Mutex
	C  *comettest.Chain

	Expires uint64        // blocks that an admission lasts
	Valid   time.Duration // how long evidence does
	Deny    error         // when not nil, what registrations get
	Roots   *attest.Roots // when not nil, evidence is verified and what it proves is kept
	master  [32]byte
	seqs    map[string]uint64 // messages of a topic, those of the next block included
	workers map[proto.WorkerID]*proto.WorkerInfo
	order   []proto.WorkerID
	// attestations are the verdicts on their newest evidence.
	attestations map[proto.WorkerID]*proto.Attestation
	gone         map[proto.WorkerID]bool // get no seat any more
	outboxes     map[proto.WorkerID]proto.Cursor
	clusters     []*proto.Cluster
	rules        uint32            // version that clusters are to run under
	again        []proto.ClusterID // those whose waiting codes are to be announced again
	codes        map[proto.Hash]*proto.Code
	chunks       map[string][]byte
	waiting      []*proto.Contract
	receipts     map[string]*proto.ReceiptRecord
	taken        map[string]*proto.SnapshotRecord
	commands     map[string]*proto.CommandRecord
	outputs      map[string][][]byte
	accounts     map[string]*accountRecord
	txs          map[string]*txResult
	// collateral is what was brought, by platform.
	collateral map[string]*attest.Collateral
	// Entries lists every outbox entry that the chain took, in order.
	entries []Taken
}

// Taken is an outbox entry that the chain took, with what became of it.
type Taken struct {
	Worker proto.WorkerID
	Seq    uint64
	Entry  proto.Entry
	Err    error // nil: carried out
}

// New returns a chain of three blocks with the topics that every chain has.
func New(cfg comettest.Config) *Chain {
	c := &Chain{C: comettest.New(cfg), rules: 1, Expires: 400_000, Valid: 30 * 24 * time.Hour, seqs: map[string]uint64{}, workers: map[proto.WorkerID]*proto.WorkerInfo{}, attestations: map[proto.WorkerID]*proto.Attestation{}, gone: map[proto.WorkerID]bool{},
		outboxes: map[proto.WorkerID]proto.Cursor{}, codes: map[proto.Hash]*proto.Code{}, chunks: map[string][]byte{}, receipts: map[string]*proto.ReceiptRecord{}, commands: map[string]*proto.CommandRecord{},
		taken: map[string]*proto.SnapshotRecord{}, outputs: map[string][][]byte{}, accounts: map[string]*accountRecord{}, txs: map[string]*txResult{}, collateral: map[string]*attest.Collateral{}}
	c.C.CreateTopic(proto.TopicSystem)
	c.C.CreateTopic(proto.TopicGatekeeper)
	c.C.Run(3)
	return c
}

// Root is the trust root: the first header.
func (c *Chain) Root() pruntime.TrustRoot {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.C.Header(1)
	return pruntime.TrustRoot{Height: 1, Hash: proto.Hash(h.Hash())}
}

// Height is that of the newest block; Time is its time.
func (c *Chain) Height() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.C.Height()
}

// Time is the newest block's.
func (c *Chain) Time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.C.Time()
}

// Next makes n blocks.
func (c *Chain) Next(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		c.next()
	}
}

// next makes a block. The real chain's state has the block's own hash; here it is the
// one before.
func (c *Chain) next() {
	c.endBlock()
	h := c.C.Header(c.C.Height())
	hash := h.Hash()
	c.C.Put(proto.StoreRegistry, proto.KeyBlock(uint64(h.Height)), hash[:])
	c.C.Next()
}

// Announce changes the validators with the block after the next.
func (c *Chain) Announce(set *comettest.Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.C.Announce(set)
}

// Send appends an event to a topic, which only modules do on a real chain.
func (c *Chain) Send(topic string, e proto.Event) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send(topic, e)
}

// SendRaw is Send for bytes that need not be an event.
func (c *Chain) SendRaw(topic string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seqs[topic]++
	c.C.SendRaw(topic, "module", payload)
}

func (c *Chain) send(topic string, e proto.Event) uint64 {
	c.seqs[topic]++
	c.C.Send(topic, "module", e)
	return c.seqs[topic]
}

// Set writes a value into a store, which only modules do on a real chain.
func (c *Chain) Set(store string, key, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.C.Put(store, key, value)
}

// Get reads a value of a store, after the newest block.
func (c *Chain) Get(store string, key []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.C.Get(c.C.Height(), store, key)
}

// Amend changes what the registry knows of a worker.
func (c *Chain) Amend(id proto.WorkerID, f func(*proto.WorkerInfo)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.workers[id])
	c.putWorker(c.workers[id])
}

func (c *Chain) putWorker(w *proto.WorkerInfo) {
	c.C.Put(proto.StoreRegistry, proto.KeyWorker(w.Worker), w.Marshal())
}

func (c *Chain) putCluster(cl *proto.Cluster) {
	c.C.Put(proto.StoreContracts, proto.KeyCluster(cl.ID), cl.Marshal())
}

func (c *Chain) putOutbox(w proto.WorkerID, position proto.Cursor) {
	c.outboxes[w] = position
	c.C.Put(proto.StoreMQ, proto.KeyOutbox(w), position.Marshal())
}

// recent is how old a block may be that a registration or a session names.
const recent = 600

func (c *Chain) isBlock(height uint64, hash proto.Hash) bool {
	now := uint64(c.C.Height())
	if height == 0 || height > now || now-height > recent {
		return false
	}
	h := c.C.Header(int64(height))
	return proto.Hash(h.Hash()) == hash
}

// Register admits an enclave, whatever its evidence.
func (c *Chain) Register(registration, signature, evidence []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.register(registration, signature, evidence)
}

// UpdateCollateral takes collateral, whatever its signatures, unless it is older.
func (c *Chain) UpdateCollateral(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.updateCollateral(b)
}

func (c *Chain) updateCollateral(b []byte) error {
	next, err := attest.ParseCollateral(b)
	if err != nil {
		return refuse("registry", 18, "%v", err)
	}
	platform, err := next.Platform()
	if err != nil {
		return refuse("registry", 18, "%v", err)
	}
	if held := c.collateral[platform]; held != nil && !bytes.Equal(held.Marshal(), b) {
		if err := held.Newer(next); err != nil {
			return refuse("registry", 18, "%v", err)
		}
	}
	c.collateral[platform] = next
	c.C.Put(proto.StoreRegistry, proto.KeyCollateral(platform), b)
	return nil
}

// filled is evidence with the chain's collateral, where it has none of its own. What is
// no evidence stays as it is.
func (c *Chain) filled(evidence []byte) []byte {
	ev, err := attest.Parse(evidence)
	if err != nil || ev.Collateral != nil {
		return evidence
	}
	if platform, err := ev.CollateralKey(); err == nil {
		ev.Collateral = c.collateral[platform]
	}
	return ev.Marshal()
}

func (c *Chain) register(registration, signature, evidence []byte) error {
	reg, err := proto.ParseRegistration(registration)
	if err != nil {
		return refuse("registry", 2, "%v", err)
	}
	if err := identity.Verify(identity.PublicKey(reg.Worker), reg.SignedBytes(), signature); err != nil {
		return refuse("registry", 3, "%v", err)
	}
	if !c.isBlock(reg.Height, reg.Hash) {
		return refuse("registry", 4, "block %d %s is not a recent one of this chain", reg.Height, reg.Hash)
	}
	if c.Deny != nil {
		return c.Deny
	}
	verdict := &attest.Verdict{TEE: attest.TDX, ConfidenceLevel: 1}
	if c.Roots != nil {
		ev, err := attest.Parse(c.filled(evidence))
		if err == nil {
			verdict, err = attest.Verify(ev, *c.Roots, c.C.Time())
		}
		if err == nil && verdict.ReportData != reg.ReportData() {
			err = errors.New("it binds another registration")
		}
		if err != nil {
			return refuse("registry", 7, "%v", err)
		}
	}
	now := uint64(c.C.Height()) + 1
	a := proto.Attestation{TEE: uint8(verdict.TEE), Machine: verdict.MachineID, Status: string(verdict.TCBStatus), Epoch: reg.Epoch, Verified: uint64(c.C.Time().UnixMilli()), Until: uint64(c.C.Time().Add(c.Valid).UnixMilli()),
		TrustHeight: reg.TrustHeight, TrustRoot: reg.TrustRoot, Settings: reg.Settings}
	c.attestations[reg.Worker] = &a
	c.C.Put(proto.StoreRegistry, proto.KeyAttestation(reg.Worker), a.Marshal())
	w := c.workers[reg.Worker]
	if w == nil {
		w = &proto.WorkerInfo{Worker: reg.Worker}
		c.workers[reg.Worker] = w
		c.order = append(c.order, reg.Worker)
		c.C.CreateTopic(proto.TopicWorker(reg.Worker))
		c.putOutbox(reg.Worker, proto.OutboxCursor(c.C.ChainID(), reg.Worker))
	}
	cluster := w.State.Cluster
	*w = proto.WorkerInfo{Worker: reg.Worker, Operator: reg.Operator, Role: reg.Role, Measurement: verdict.Measurement, Simulated: true, Level: verdict.ConfidenceLevel, Registered: now, Expires: now + c.Expires, Rules: reg.Rules, Endpoints: reg.Endpoints,
		State: proto.WorkerState{Session: reg.Session, SessionHeight: now, Heard: now, Cluster: cluster}}
	c.putWorker(w)
	e := proto.WorkerRegistered{Registration: registration, Expires: w.Expires}
	c.send(proto.TopicWorker(reg.Worker), e)
	e.Evidence = c.filled(evidence)
	c.send(proto.TopicGatekeeper, e)
	return nil
}

// AmendAttestation changes the verdict on a worker's newest evidence.
func (c *Chain) AmendAttestation(id proto.WorkerID, f func(*proto.Attestation)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.attestations[id]
	f(a)
	c.C.Put(proto.StoreRegistry, proto.KeyAttestation(id), a.Marshal())
}

// EndAdmission ends a worker's admission, as expiry or governance does.
func (c *Chain) EndAdmission(id proto.WorkerID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.workers[id]
	w.Expires = uint64(c.C.Height()) + 1
	c.putWorker(w)
	c.send(proto.TopicWorker(id), proto.AdmissionEnded{Worker: id})
	c.send(proto.TopicGatekeeper, proto.AdmissionEnded{Worker: id})
}

// Submit takes a run of an outbox. Entries that the chain has are no-ops.
func (c *Chain) Submit(worker proto.WorkerID, first uint64, entries []Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.submit(worker, first, entries)
}

// freeEntries is how many entries a run may have without a fee.
const freeEntries = 64

func (c *Chain) submit(worker proto.WorkerID, first uint64, entries []Entry) error {
	w, position := c.workers[worker], c.outboxes[worker]
	next := position.Seq + 1
	switch {
	case w == nil || uint64(c.C.Height())+1 >= w.Expires:
		return refuse("mq", 4, "worker %s is not admitted", worker)
	case first == 0 || first > next:
		return refuse("mq", 5, "run starts at %d, the chain expects %d", first, next)
	case first+uint64(len(entries)) <= next:
		return refuse("mq", 9, "the chain has every entry up to %d", next-1)
	case int(first)+len(entries)-int(next) > freeEntries:
		return refuse("sdk", 13, "insufficient fee")
	}
	for i := range entries {
		seq := first + uint64(i)
		if seq < next {
			continue
		}
		e := entries[i]
		if len(e.Payload) > proto.MaxEntry {
			return refuse("mq", 8, "entry of %d bytes", len(e.Payload))
		}
		if err := identity.Verify(identity.PublicKey(worker), proto.EntrySignedBytes(c.C.ChainID(), worker, seq, e.Payload), e.Signature); err != nil {
			return refuse("mq", 6, "entry %d: %v", seq, err)
		}
	}
	for i := range entries {
		seq := first + uint64(i)
		if seq < next {
			continue
		}
		entry, err := proto.ParseEntry(entries[i].Payload)
		if err == nil {
			err = c.carryOut(w, seq, entries[i], entry)
		}
		c.entries = append(c.entries, Taken{worker, seq, entry, err})
		position = position.FoldEntry(worker, entries[i].Payload)
	}
	c.putOutbox(worker, position)
	w.State.Heard = uint64(c.C.Height()) + 1
	c.putWorker(w)
	return nil
}

// Taken returns the outbox entries that the chain took so far.
func (c *Chain) Taken() []Taken {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.entries)
}

func (c *Chain) carryOut(w *proto.WorkerInfo, seq uint64, raw Entry, entry proto.Entry) error {
	own, now := proto.TopicWorker(w.Worker), uint64(c.C.Height())+1
	switch e := entry.(type) {
	case proto.StartSession:
		if !c.isBlock(e.Height, e.Hash) {
			return refuse("registry", 4, "block %d %s is not a recent one of this chain", e.Height, e.Hash)
		}
		w.State.Session, w.State.SessionHeight = e.Key, now
		started := proto.SessionStarted{Worker: w.Worker, Seq: seq, Entry: raw.Payload, Signature: [64]byte(raw.Signature)}
		c.send(own, started)
		c.send(proto.TopicGatekeeper, started)
	case proto.Challenge:
		c.send(own, proto.ChallengeEchoed(e))
	case proto.SetEndpoints:
		w.Endpoints = e.Endpoints
	case proto.PublishMasterKey:
		if w.Role != proto.RoleGatekeeper {
			return refuse("registry", 6, "published by a %s", w.Role)
		}
		if c.master == [32]byte{} {
			c.master = e.Public
			c.C.Put(proto.StoreRegistry, proto.KeyMasterKey(), e.Public[:])
			c.send(proto.TopicGatekeeper, proto.MasterKeySet(e))
		}
	case proto.ReleaseKeys:
		if w.Role != proto.RoleGatekeeper || c.workers[e.Worker] == nil {
			return refuse("registry", 6, "released by a %s", w.Role)
		}
		c.send(proto.TopicWorker(e.Worker), proto.KeysReleased{Gatekeeper: w.Worker, Master: c.master, Release: raw.Payload})
	default:
		return c.clusterEntry(w, seq, raw, entry)
	}
	return nil
}

// Worker returns what the registry knows of a worker.
func (c *Chain) Worker(id proto.WorkerID) (proto.WorkerInfo, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.workers[id]; w != nil {
		return *w, true
	}
	return proto.WorkerInfo{}, false
}

// NextOutbox is the sequence that the chain expects next from a worker.
func (c *Chain) NextOutbox(id proto.WorkerID) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outboxes[id].Seq + 1
}

// Advance is what an honest relayer brings to an enclave to take it to the newest
// height that can be proven.
func (c *Chain) Advance(st pruntime.Status) *inbox.Advance {
	return c.AdvanceTo(st, c.Height())
}

// AdvanceTo is Advance to the state that the header of a height proves.
func (c *Chain) AdvanceTo(st pruntime.Status, header int64) *inbox.Advance {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &inbox.Advance{Blocks: c.C.LightRange(st.TrustedHeight+1, header)}
	topics := []string{}
	for t := range st.Topics {
		topics = append(topics, t)
	}
	if own := proto.TopicWorker(st.Worker); !slices.Contains(topics, own) {
		if _, ok := c.C.Get(header-1, proto.StoreMQ, proto.KeyTopic(own)); ok {
			topics = append(topics, own)
		}
	}
	slices.Sort(topics)
	for _, t := range topics {
		cur, proof := c.C.Cursor(header-1, t)
		a.Topics = append(a.Topics, inbox.Proven{Topic: t, Cursor: cur, Proof: proof})
		a.Messages = append(a.Messages, c.C.Messages(t, st.Topics[t], header-1)...)
	}
	return a
}
