package cluster

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster/mtreap"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/inbox"
)

const (
	// MaxExpiry is how many blocks ahead a command's expiry may lie: how long nonces
	// are remembered.
	MaxExpiry = 10_000
	// QueryGas bounds a query.
	QueryGas = 1 << 32
)

// What Apply waits for. The batch is applied again once it is there.
var (
	ErrNeedCode = errors.New("cluster: code is not prepared")
	ErrNeedKey  = errors.New("cluster: the epoch's key has not been released to this worker")
)

// Keys are what the gatekeepers released to a cluster's workers, but for the epochs'
// traffic keys, which the opener keeps.
type Keys struct {
	Stable [32]byte            // contract identities, root key: for ever
	Blind  map[uint64][32]byte // blinds receipts, by epoch
	Opener Opener
}

// LabelStable and LabelTraffic are the labels of the distributed PRF.
func LabelStable(c proto.ClusterID) string { return "stable/cluster/" + c.String() }

// LabelTraffic is the label of one epoch's key.
func LabelTraffic(c proto.ClusterID, epoch uint64) string {
	return fmt.Sprintf("traffic/cluster/%s/epoch/%d", c, epoch)
}

// subkey derives a key for one purpose.
func subkey(secret [32]byte, purpose string, fields ...[]byte) [32]byte {
	b, err := hkdf.Key(sha256.New, secret[:], nil, string(transcript.Bytes("phala/cluster/"+purpose, fields...)), 32)
	if err != nil {
		panic("cluster: broken invariant: " + err.Error())
	}
	return [32]byte(b)
}

// EpochKey makes an epoch's traffic key and blinding key from its PRF output.
func EpochKey(secret [32]byte) (*commkey.SecretKey, [32]byte, error) {
	k, err := commkey.FromSeed(subkey(secret, "ecdh/v1"))
	return k, subkey(secret, "blind/v1"), err
}

// A Cluster is one worker's replica. Apply is called by one goroutine; Query and
// Snapshot by any.
type Cluster struct {
	chain    string
	id       proto.ClusterID
	keys     Keys
	programs Programs
	rng      io.Reader
	state    atomic.Pointer[Snapshot]
	fetch    Fetcher
}

// New returns an empty replica.
func New(chain string, id proto.ClusterID, keys Keys, programs Programs, rng io.Reader) *Cluster {
	c := &Cluster{chain: chain, id: id, keys: keys, programs: programs, rng: rng}
	c.state.Store(emptyState(c.rootKey(), chain, id))
	return c
}

// AllowHTTP lets queries make HTTP requests. It is called before the first of them.
func (c *Cluster) AllowHTTP(f Fetcher) { c.fetch = f }

func (c *Cluster) rootKey() [32]byte { return subkey(c.keys.Stable, "root/v1") }

// Restore replaces the state with an encoded one.
func (c *Cluster) Restore(b []byte) error {
	s, err := c.parse(b)
	if err == nil {
		c.state.Store(s)
	}
	return err
}

// ID returns the cluster's number.
func (c *Cluster) ID() proto.ClusterID { return c.id }

// Snapshot returns the last committed state.
func (c *Cluster) Snapshot() *Snapshot { return c.state.Load() }

// AddEpoch tells the replica that its opener has an epoch's key, and gives it the blinding
// key, which is of the same secret. They never change: it reports whether this is the one.
// Those of an epoch that is over are not kept.
func (c *Cluster) AddEpoch(epoch uint64, blind [32]byte) bool {
	if now := c.state.Load().Epoch(); epoch < now {
		c.keys.Opener.Forget(now)
		return true
	}
	if old, ok := c.keys.Blind[epoch]; ok {
		return old == blind
	}
	c.keys.Blind[epoch] = blind
	return true
}

// HasEpoch reports whether the replica has an epoch's keys.
func (c *Cluster) HasEpoch(epoch uint64) bool {
	_, ok := c.keys.Blind[epoch]
	return ok
}

// A Result is what one height of a cluster produced.
type Result struct {
	Receipt proto.Receipt
	Outputs []proto.SealedOutput
	// Started is the epoch that began at this height, 0 for none. The state after it is
	// the epoch's snapshot.
	Started uint64
}

// needs returns the first thing that items need and that is not here.
func (c *Cluster) needs(items []inbox.Item) error {
	s := c.state.Load()
	epoch, rules := s.Epoch(), s.Rules()
	command := func(cmd *proto.PushedCommand) error {
		if cmd.Epoch == epoch && !c.HasEpoch(epoch) {
			return fmt.Errorf("%w: epoch %d", ErrNeedKey, epoch)
		}
		return nil
	}
	for _, it := range items {
		switch e := it.Event.(type) {
		case proto.EpochStarted:
			if epoch = e.Epoch; !c.HasEpoch(epoch) {
				return fmt.Errorf("%w: epoch %d", ErrNeedKey, epoch)
			}
		case proto.RulesActivated:
			if _, err := c.ReadyFor(e.Version, s.Codes()); err != nil {
				return err
			}
			rules = e.Version
		case proto.PushedCommand:
			if err := command(&e); err != nil {
				return err
			}
		case proto.Instantiated:
			if p, err := c.programs.Program(e.Code, rules); p == nil && err == nil {
				return &NeedCode{[]proto.Hash{e.Code}, rules}
			}
			if err := command(&e.Command); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer is an output on its way into a receipt.
type answer struct {
	out     proto.Output
	deposit proto.DepositBucket
	events  []proto.Emitted
	reply   *envelope.Replier // nil: it did not open, and nobody gets an answer
	epoch   uint64
	opened  *Opened // the command, where it is of the epoch in which it is
}

// Apply processes all of the cluster's messages of one height, commits the state and
// returns the receipt. On an error nothing has changed.
func (c *Cluster) Apply(ctx context.Context, items []inbox.Item) (*Result, error) {
	if err := c.needs(items); err != nil {
		return nil, err
	}
	m := c.state.Load().m
	rules := c.rules(m)
	answers := make([]answer, len(items))
	if err := c.open(items, answers); err != nil {
		return nil, err
	}
	for i := range items {
		it := &items[i]
		a := &answers[i]
		a.out = proto.Output{Seq: it.Message.Seq, Height: it.Height, Status: proto.StatusNotCommand}
		var err error
		if m, err = c.dispatch(ctx, m, rules, it, a); err != nil {
			return nil, err
		}
		if _, ok := it.Event.(proto.RulesActivated); ok {
			rules = c.rules(m)
		}
		m = m.Set(keyCursor, it.Cursor.Marshal())
	}
	last := &items[len(items)-1]
	m = forget(expire(m, last.Height), last.Time)
	next := &Snapshot{m, m.Root()}
	r, err := c.receipt(items, answers, next)
	if err != nil {
		return nil, err
	}
	for i := range items {
		if e, ok := items[i].Event.(proto.EpochStarted); ok {
			r.Started = e.Epoch
		}
	}
	c.state.Store(next)
	c.forget(next.Epoch())
	return r, nil
}

// forget erases the keys of epochs that are over.
func (c *Cluster) forget(epoch uint64) {
	before := len(c.keys.Blind)
	for e := range c.keys.Blind {
		if e < epoch {
			delete(c.keys.Blind, e)
		}
	}
	if len(c.keys.Blind) < before {
		c.keys.Opener.Forget(epoch)
	}
}

// dispatch processes one message on a state and returns the next. An error is the
// replica's own failure, not the message's.
func (c *Cluster) dispatch(ctx context.Context, m *mtreap.Map, rules *engine.Rules, it *inbox.Item, a *answer) (*mtreap.Map, error) {
	var cmd *proto.PushedCommand
	var inst *proto.Instantiated
	switch e := it.Event.(type) {
	case proto.EpochStarted:
		return m.Set(keyEpoch, binary.BigEndian.AppendUint64(nil, e.Epoch)), nil
	case proto.RulesWanted:
		return want(m, e.Version, it.Message.Seq), nil
	case proto.RulesActivated:
		return c.activate(m, &e, it.Height)
	case proto.PushedCommand:
		cmd = &e
	case proto.Instantiated:
		cmd, inst = &e.Command, &e
	default:
		return m, nil
	}
	o := c.overlay(m, rules, cmd.Payer, min(cmd.DepositLimit, proto.MaxDeposit))
	err := c.command(ctx, o, it, a, cmd, inst)
	a.out.GasBucket = proto.BucketOf(a.out.GasUsed)
	if inst != nil {
		o.m = constructed(o.m, it.Message.Seq)
	}
	return o.m, err
}

// command opens and runs a command; inst is set for a constructor.
func (c *Cluster) command(ctx context.Context, o *overlay, it *inbox.Item, a *answer, cmd *proto.PushedCommand, inst *proto.Instantiated) error {
	tierGas, gasOpen := proto.TierGas(cmd.GasTier), o.rules.Command.Open
	a.out.GasUsed = min(gasOpen, tierGas)
	refuse := func(s proto.Status, detail string) error {
		a.out.Status, a.out.Error = s, detail
		return nil
	}
	if inst != nil {
		if _, ok := o.m.Get(keyContract(inst.Contract)); ok {
			return refuse(proto.StatusAlreadyExists, "the contract exists")
		}
	}
	// The chain lets only the epoch of the moment through, so this is no client's fault.
	if epoch := (&Snapshot{m: o.m}).Epoch(); cmd.Epoch != epoch {
		return refuse(proto.StatusWrongEpoch, fmt.Sprintf("sealed to epoch %d, the cluster is in %d", cmd.Epoch, epoch))
	}
	if a.opened.Reply == nil {
		return refuse(proto.StatusNotOpened, a.opened.Why)
	}
	a.reply, a.epoch = a.opened.Reply, cmd.Epoch
	inv, err := proto.ParseInvocation(a.opened.Plain)
	if err != nil {
		return refuse(proto.StatusMalformed, err.Error())
	}
	if status, detail := c.check(o, it, inv); status != proto.StatusOK {
		return refuse(status, detail)
	}
	rec := &contractRecord{}
	var revocation *proto.Revocation // for the cluster itself
	if inst != nil {
		if inv.To != inst.Contract || !bytes.Equal(inv.From, inst.Deployer) {
			return refuse(proto.StatusBadSignature, "the constructor is for another contract or by another account")
		}
		rec = &contractRecord{inst.Code, inst.Image, inst.Deployer}
	} else if inv.To == proto.ClusterAddress {
		if revocation, err = proto.ParseRevocation(inv.Input); err != nil {
			return refuse(proto.StatusMalformed, err.Error())
		}
	} else {
		found, ok := (&Snapshot{m: o.m}).contract(inv.To)
		if !ok {
			return refuse(proto.StatusNoContract, fmt.Sprintf("no contract %s in cluster %s", inv.To, c.id))
		}
		rec = found
	}
	if inv.GasLimit > tierGas || inv.GasLimit < gasOpen {
		return refuse(proto.StatusGasLimit, fmt.Sprintf("gas limit %d is not between %d and the %d that were paid for", inv.GasLimit, gasOpen, tierGas))
	}
	if inv.DepositLimit != cmd.DepositLimit || cmd.DepositLimit > proto.MaxDeposit {
		return refuse(proto.StatusDepositLimit, fmt.Sprintf("deposit limit %d was signed, %d was paid for, at most %d is possible", inv.DepositLimit, cmd.DepositLimit, uint64(proto.MaxDeposit)))
	}
	// From here on the nonce is used, whatever happens.
	nonce := nonceHash(inv.From, inv.Nonce)
	o.m = o.m.Set(keyNonce(nonce), binary.BigEndian.AppendUint64(nil, inv.Expiry)).Set(keyExpiry(inv.Expiry, nonce), nil)
	if revocation != nil {
		o.revoke(a, inv, revocation, it.Time)
		return nil
	}
	base := *o
	cl := &call{entry: engine.EntryCall, to: inv.To, rec: rec, caller: inv.From, input: inv.Input, gas: inv.GasLimit - gasOpen, keep: true}
	if inst != nil {
		// The contract exists for what its constructor calls, and only if that succeeds.
		cl.entry = engine.EntryDeploy
		o.m = o.m.Set(keyContract(inst.Contract), rec.Marshal())
	}
	random := func(call uint64) io.Reader {
		return newStream(subkey(c.keys.Stable, "random/v1", []byte(it.Message.Topic), transcript.U64(it.Message.Seq), it.Cursor.Head[:], transcript.U64(call)))
	}
	x := &exec{c: c, o: o, height: it.Height, time: it.Time, random: random}
	res, err := x.run(ctx, cl)
	a.out.GasUsed = gasOpen + res.GasUsed
	if err != nil {
		*o = base
		status, detail, ferr := statusOf(err)
		if ferr != nil {
			return ferr
		}
		a.out.Status, a.out.Error = status, detail
	} else {
		a.out.Status, a.out.Return = proto.StatusOK, res.Output
		a.deposit, a.out.Deposit = o.settle(cmd.DepositLimit)
	}
	a.events, err = x.seal(c.keys.Blind[cmd.Epoch], it.Message.Seq, it.Cursor.Head)
	return err
}

// check is what a command must fulfil before anything of its contract is looked at.
func (c *Cluster) check(o *overlay, it *inbox.Item, inv *proto.Invocation) (proto.Status, string) {
	switch {
	case it.Height > inv.Expiry:
		return proto.StatusExpired, fmt.Sprintf("expired at height %d, now %d", inv.Expiry, it.Height)
	case inv.Expiry > it.Height+MaxExpiry:
		return proto.StatusExpired, fmt.Sprintf("expiry %d is more than %d blocks ahead of %d", inv.Expiry, MaxExpiry, it.Height)
	}
	account, err := identity.VerifyScheme(identity.Scheme(inv.Scheme), inv.PublicKey, inv.SignedBytes(c.chain, c.id), inv.Signature)
	if err != nil || !bytes.Equal(account, inv.From) {
		return proto.StatusBadSignature, "not signed by the account that it names, for this chain and cluster"
	}
	if _, used := o.m.Get(keyNonce(nonceHash(inv.From, inv.Nonce))); used {
		return proto.StatusReplayed, "this nonce was used"
	}
	if inv.After != [16]byte{} {
		if _, ran := o.m.Get(keyNonce(nonceHash(inv.From, inv.After))); !ran {
			return proto.StatusOutOfOrder, "the command that this one comes after has not run"
		}
	}
	return proto.StatusOK, ""
}

// statusOf maps how a call failed to its status. The error is for failures that are
// not the call's: the replica's host or a cancelled context.
func statusOf(err error) (proto.Status, string, error) {
	var e *engine.Error
	if !errors.As(err, &e) {
		return 0, "", err
	}
	detail, code := e.Detail, ""
	if e.Kind == engine.ErrContract {
		code = fmt.Sprintf(" (code %d)", e.Code)
	}
	// Longer than this, the caller could not decode the answer.
	detail = detail[:min(len(detail), proto.MaxError-len(code))] + code
	switch e.Kind {
	case engine.ErrContract:
		return proto.StatusContractError, detail, nil
	case engine.ErrTrap:
		return proto.StatusTrap, detail, nil
	case engine.ErrOutOfGas:
		return proto.StatusOutOfGas, detail, nil
	case engine.ErrDepth:
		return proto.StatusDepth, detail, nil
	case engine.ErrModule:
		return proto.StatusCodeFailed, detail, nil
	case engine.ErrOutput:
		return proto.StatusOutputTooLarge, detail, nil
	case engine.ErrDeposit:
		return proto.StatusDepositLimit, detail, nil
	}
	return 0, "", err
}

// expire forgets nonces whose commands can no longer run.
func expire(m *mtreap.Map, height uint64) *mtreap.Map {
	prefix := []byte("x/")
	for {
		k, _, ok := m.Next(prefix)
		if !ok || !bytes.HasPrefix(k, prefix) || binary.BigEndian.Uint64(k[2:]) >= height {
			return m
		}
		m = m.Delete(k).Delete(keyNonce([32]byte(k[10:])))
	}
}
