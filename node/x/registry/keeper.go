package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"cosmossdk.io/core/store"
	sdkerrors "cosmossdk.io/errors"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

// ModuleName names the module and its store; TransientKey its transient store.
const (
	ModuleName   = proto.StoreRegistry
	TransientKey = "transient_registry"
)

// The module's errors. Their codes are on the wire and never change.
var (
	ErrMalformed     = sdkerrors.Register(ModuleName, 2, "malformed registration")
	ErrWrongChain    = sdkerrors.Register(ModuleName, 3, "registration is for another chain or trust root")
	ErrOperator      = sdkerrors.Register(ModuleName, 4, "registration names another operator")
	ErrSignature     = sdkerrors.Register(ModuleName, 5, "registration is not signed by its IdentityKey")
	ErrStale         = sdkerrors.Register(ModuleName, 6, "registration or session does not name a recent block")
	ErrEvidence      = sdkerrors.Register(ModuleName, 7, "evidence refused")
	ErrReportData    = sdkerrors.Register(ModuleName, 8, "evidence binds another registration")
	ErrMeasurement   = sdkerrors.Register(ModuleName, 9, "measurement is not allowed")
	ErrMachine       = sdkerrors.Register(ModuleName, 10, "machine already has an active worker")
	ErrNotGatekeeper = sdkerrors.Register(ModuleName, 11, "operator may not run gatekeepers")
	ErrBusy          = sdkerrors.Register(ModuleName, 12, "too many registrations in this block: submit again")
	ErrAuthority     = sdkerrors.Register(ModuleName, 13, "only governance may do this")
	ErrParams        = sdkerrors.Register(ModuleName, 14, "invalid parameters")
	ErrRole          = sdkerrors.Register(ModuleName, 15, "not allowed in this role")
	ErrNotRegistered = sdkerrors.Register(ModuleName, 16, "worker is not registered")
	ErrLevel         = sdkerrors.Register(ModuleName, 17, "confidence level is too low")
)

// A Verdict is what the registry keeps of verified evidence.
type Verdict struct {
	ReportData  [64]byte
	Measurement proto.Hash
	Simulated   bool
	Level       uint8
	Machine     [32]byte
	Expires     time.Time // when the collateral ends; zero for none
}

// A Verifier judges evidence at a time. It is deterministic: roots are fixed at
// genesis, time is the block's.
type Verifier func(evidence []byte, now time.Time) (*Verdict, error)

// A Keeper keeps the registry.
type Keeper struct {
	store     store.KVStoreService
	transient store.TransientStoreService
	mq        *mq.Keeper
	verify    func(roots []byte) (Verifier, error)
	authority string
}

// NewKeeper returns a keeper. verify makes the verifier of the network's roots.
func NewKeeper(s store.KVStoreService, t store.TransientStoreService, q *mq.Keeper, verify func(roots []byte) (Verifier, error), authority string) *Keeper {
	return &Keeper{s, t, q, verify, authority}
}

var (
	keyParams = []byte("params")
	keyRoots  = []byte("roots")
)

func keyBlock(h uint64) []byte         { return binary.BigEndian.AppendUint64([]byte("h/"), h) }
func keyMachine(m [32]byte) []byte     { return append([]byte("x/"), m[:]...) }
func keyDated(w proto.WorkerID) []byte { return append([]byte("l/"), w[:]...) }
func keyOn(w proto.WorkerID) []byte    { return append([]byte("y/"), w[:]...) }

// Params returns the parameters.
func (k *Keeper) Params(ctx context.Context) (Params, error) {
	var p Params
	err := kv.GetJSON(k.store.OpenKVStore(ctx), keyParams, &p)
	return p, err
}

// SetParams replaces the parameters.
func (k *Keeper) SetParams(ctx context.Context, p Params) error {
	if err := p.Validate(); err != nil {
		return ErrParams.Wrap(err.Error())
	}
	return kv.SetJSON(k.store.OpenKVStore(ctx), keyParams, p)
}

// Worker returns a worker's record, nil when there is none.
func (k *Keeper) Worker(ctx context.Context, w proto.WorkerID) (*proto.WorkerInfo, error) {
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyWorker(w))
	if err != nil || b == nil {
		return nil, err
	}
	return proto.ParseWorkerInfo(b)
}

func (k *Keeper) set(ctx context.Context, w *proto.WorkerInfo) error {
	return k.store.OpenKVStore(ctx).Set(proto.KeyWorker(w.Worker), w.Marshal())
}

// Each calls f for every worker in order of identity.
func (k *Keeper) Each(ctx context.Context, f func(*proto.WorkerInfo) (more bool, err error)) error {
	return kv.Each(k.store.OpenKVStore(ctx), []byte("w/"), func(_, v []byte) (bool, error) {
		w, err := proto.ParseWorkerInfo(v)
		if err != nil {
			return false, err
		}
		return f(w)
	})
}

// SetCluster notes in which cluster a worker has its seat; 0 for none.
func (k *Keeper) SetCluster(ctx context.Context, id proto.WorkerID, c proto.ClusterID) error {
	w, err := k.Worker(ctx, id)
	if err != nil {
		return err
	}
	if w == nil {
		return ErrNotRegistered.Wrap(id.String())
	}
	w.State.Cluster = c
	return k.set(ctx, w)
}

// BeginBlock remembers the hash of the block that begins and forgets old ones. The
// first one stays: it is the trust root that registrations name.
func (k *Keeper) BeginBlock(ctx sdk.Context) error {
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	s, h := k.store.OpenKVStore(ctx), uint64(ctx.BlockHeight())
	if hash := ctx.HeaderHash(); len(hash) == 32 {
		if err := s.Set(keyBlock(h), hash); err != nil {
			return err
		}
	}
	first, err := k.firstBlock(ctx)
	if err != nil {
		return err
	}
	if old := h - min(h, p.RecentBlocks+1); old > first {
		return s.Delete(keyBlock(old))
	}
	return nil
}

// firstBlock is the height of the oldest block that is remembered: the chain's first.
func (k *Keeper) firstBlock(ctx context.Context) (first uint64, err error) {
	err = kv.Each(k.store.OpenKVStore(ctx), []byte("h/"), func(key, _ []byte) (bool, error) {
		first = binary.BigEndian.Uint64(key)
		return false, nil
	})
	return first, err
}

// TrustRoot returns the hash of the chain's first block.
func (k *Keeper) TrustRoot(ctx context.Context) (root proto.Hash, err error) {
	err = kv.Each(k.store.OpenKVStore(ctx), []byte("h/"), func(_, v []byte) (bool, error) {
		root = proto.Hash(v)
		return false, nil
	})
	return root, err
}

// recent checks that (height, hash) names a block of this chain that is at most
// RecentBlocks old.
func (k *Keeper) recent(ctx sdk.Context, p *Params, height uint64, hash proto.Hash) error {
	now := uint64(ctx.BlockHeight())
	b, err := k.store.OpenKVStore(ctx).Get(keyBlock(height))
	if err != nil {
		return err
	}
	if height > now || now-height > p.RecentBlocks || !bytes.Equal(b, hash[:]) {
		return ErrStale.Wrapf("block %d %s at height %d: let the enclave sync and ask it again", height, hash, now)
	}
	return nil
}

const gasVerify = 400_000

// RegisterWorker admits an enclave or renews its admission.
func (k *Keeper) RegisterWorker(c context.Context, m *types.MsgRegisterWorker) (*types.MsgRegisterWorkerResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	operator, err := sdk.AccAddressFromBech32(m.Operator)
	if err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	reg, err := proto.ParseRegistration(m.Registration)
	if err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	if len(m.Evidence) > proto.MaxEvidence {
		return nil, ErrMalformed.Wrapf("evidence of %d bytes, at most %d", len(m.Evidence), proto.MaxEvidence)
	}
	root, err := k.TrustRoot(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case reg.Chain != ctx.ChainID():
		return nil, ErrWrongChain.Wrapf("chain %q, this is %q", reg.Chain, ctx.ChainID())
	case reg.TrustRoot != root:
		return nil, ErrWrongChain.Wrapf("trust root %s, this chain's is %s", reg.TrustRoot, root)
	case !bytes.Equal(reg.Operator, operator):
		return nil, ErrOperator.Wrapf("%s registers for %x", m.Operator, reg.Operator)
	}
	if err := commkey.PublicKey(reg.Session).Check(); err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	if reg.Role == proto.RoleGatekeeper && !slices.Contains(p.GatekeeperOperators, m.Operator) {
		return nil, ErrNotGatekeeper.Wrap(m.Operator)
	}
	if err := identity.Verify(identity.PublicKey(reg.Worker), reg.SignedBytes(), m.Signature); err != nil {
		return nil, ErrSignature.Wrap(err.Error())
	}
	if err := k.recent(ctx, &p, reg.Height, reg.Hash); err != nil {
		return nil, err
	}
	s := k.store.OpenKVStore(ctx)
	// One evidence counts once: a later registration must name a later block.
	dated, err := s.Get(keyDated(reg.Worker))
	if err != nil {
		return nil, err
	}
	if dated != nil && binary.BigEndian.Uint64(dated) >= reg.Height {
		return nil, ErrStale.Wrapf("block %d; the last registration named %d", reg.Height, binary.BigEndian.Uint64(dated))
	}
	t := k.transient.OpenTransientStore(ctx)
	n, err := counter(t)
	if err != nil {
		return nil, err
	}
	if n >= p.RegistrationsPerBlock {
		return nil, ErrBusy
	}
	if err := t.Set([]byte("n"), binary.BigEndian.AppendUint64(nil, n+1)); err != nil {
		return nil, err
	}
	ctx.GasMeter().ConsumeGas(gasVerify, "attestation")
	v, err := k.judge(ctx, &p, reg, m.Evidence)
	if err != nil {
		return nil, err
	}
	return &types.MsgRegisterWorkerResponse{}, k.admit(ctx, &p, reg, v, m)
}

func counter(s store.KVStore) (uint64, error) {
	b, err := s.Get([]byte("n"))
	if err != nil || b == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b), nil
}

// judge verifies evidence and the policy on its verdict.
func (k *Keeper) judge(ctx sdk.Context, p *Params, reg *proto.Registration, evidence []byte) (*Verdict, error) {
	s := k.store.OpenKVStore(ctx)
	roots, err := s.Get(keyRoots)
	if err != nil {
		return nil, err
	}
	verify, err := k.verify(roots)
	if err != nil {
		return nil, ErrEvidence.Wrap(err.Error())
	}
	v, err := verify(evidence, ctx.BlockTime())
	if err != nil {
		return nil, ErrEvidence.Wrap(err.Error())
	}
	switch {
	case v.ReportData != reg.ReportData():
		return nil, ErrReportData
	case !p.allows(v.Measurement, uint64(ctx.BlockHeight())):
		return nil, ErrMeasurement.Wrap(v.Measurement.String())
	case v.Level > p.WorstLevel:
		return nil, ErrLevel.Wrapf("level %d, at worst %d", v.Level, p.WorstLevel)
	}
	holder, err := s.Get(keyMachine(v.Machine))
	if err != nil {
		return nil, err
	}
	if holder != nil && !bytes.Equal(holder, reg.Worker[:]) {
		w, err := k.Worker(ctx, proto.WorkerID(holder))
		if err != nil {
			return nil, err
		}
		if serving, _ := k.serving(ctx, p, w); serving {
			return nil, ErrMachine.Wrapf("%x is serving as %x", v.Machine[:8], holder)
		}
	}
	return v, nil
}

// admit writes the verdict and tells worker and gatekeepers.
func (k *Keeper) admit(ctx sdk.Context, p *Params, reg *proto.Registration, v *Verdict, m *types.MsgRegisterWorker) error {
	s, now := k.store.OpenKVStore(ctx), uint64(ctx.BlockHeight())
	old, err := k.Worker(ctx, reg.Worker)
	if err != nil {
		return err
	}
	w := &proto.WorkerInfo{Worker: reg.Worker, Operator: reg.Operator, Role: reg.Role, Measurement: v.Measurement, Simulated: v.Simulated,
		Level: v.Level, Registered: now, Expires: now + p.AttestationBlocks, Endpoints: reg.Endpoints,
		State: proto.WorkerState{Session: reg.Session, SessionHeight: now, Heard: now}}
	if old != nil {
		if old.Role != reg.Role || !bytes.Equal(old.Operator, reg.Operator) {
			return ErrRole.Wrapf("%s is registered as %s of %x", reg.Worker, old.Role, old.Operator)
		}
		w.State.Cluster = old.State.Cluster
	}
	topic := proto.TopicWorker(reg.Worker)
	if has, err := k.mq.HasTopic(ctx, topic); err != nil {
		return err
	} else if !has {
		if err := errors.Join(k.mq.CreateTopic(ctx, topic), k.mq.OpenOutbox(ctx, reg.Worker)); err != nil {
			return err
		}
	}
	if err := errors.Join(k.set(ctx, w), k.place(ctx, reg.Worker, v.Machine),
		s.Set(keyDated(reg.Worker), binary.BigEndian.AppendUint64(nil, reg.Height))); err != nil {
		return err
	}
	e := proto.WorkerRegistered{Registration: m.Registration, Expires: w.Expires}
	if _, err := k.mq.Append(ctx, topic, []byte(ModuleName), e); err != nil {
		return err
	}
	e.Evidence = m.Evidence
	_, err = k.mq.Append(ctx, proto.TopicGatekeeper, []byte(ModuleName), e)
	ctx.EventManager().EmitEvent(sdk.NewEvent("worker_registered", sdk.NewAttribute("worker", reg.Worker.String()),
		sdk.NewAttribute("role", reg.Role.String()), sdk.NewAttribute("simulated", fmt.Sprint(v.Simulated))))
	return err
}

// place notes on which machine a worker runs: x/ maps machines to workers, y/ workers
// to machines. The worker that had the machine before is not admitted any more, or its
// outbox could bring it back beside the new one; the machine that the worker left is
// free.
func (k *Keeper) place(ctx sdk.Context, id proto.WorkerID, machine [32]byte) error {
	s := k.store.OpenKVStore(ctx)
	holder, err := s.Get(keyMachine(machine))
	if err != nil {
		return err
	}
	if holder != nil && !bytes.Equal(holder, id[:]) {
		w, err := k.Worker(ctx, proto.WorkerID(holder))
		if err != nil {
			return err
		}
		if w != nil {
			w.Expires = min(w.Expires, uint64(ctx.BlockHeight()))
			if err := k.set(ctx, w); err != nil {
				return err
			}
		}
	}
	left, err := s.Get(keyOn(id))
	if err != nil {
		return err
	}
	if left != nil && !bytes.Equal(left, machine[:]) {
		holder, err := s.Get(keyMachine([32]byte(left)))
		if err != nil {
			return err
		}
		if bytes.Equal(holder, id[:]) {
			if err := s.Delete(keyMachine([32]byte(left))); err != nil {
				return err
			}
		}
	}
	return errors.Join(s.Set(keyMachine(machine), id[:]), s.Set(keyOn(id), machine[:]))
}

// Heard notes that a worker's outbox spoke.
func (k *Keeper) Heard(ctx sdk.Context, id proto.WorkerID) (bool, error) {
	w, err := k.Worker(ctx, id)
	if err != nil || w == nil {
		return false, err
	}
	w.State.Heard = uint64(ctx.BlockHeight())
	return true, k.set(ctx, w)
}

// Serving says whether a worker may be used now, and if not, why: it is registered,
// its attestation has not ended, and its outbox spoke within the lease.
func (k *Keeper) Serving(ctx context.Context, id proto.WorkerID) (bool, string) {
	p, err := k.Params(ctx)
	if err != nil {
		return false, err.Error()
	}
	w, err := k.Worker(ctx, id)
	if err != nil {
		return false, err.Error()
	}
	return k.serving(sdk.UnwrapSDKContext(ctx), &p, w)
}

func (k *Keeper) serving(ctx sdk.Context, p *Params, w *proto.WorkerInfo) (bool, string) {
	now := uint64(ctx.BlockHeight())
	switch {
	case w == nil:
		return false, "not registered"
	case now >= w.Expires:
		return false, fmt.Sprintf("attestation ended at height %d", w.Expires)
	case now-w.State.Heard > p.LeaseBlocks:
		return false, fmt.Sprintf("silent since height %d", w.State.Heard)
	}
	return true, ""
}

// HandleEntry acts on the outbox entries that belong to the registry.
func (k *Keeper) HandleEntry(ctx sdk.Context, from mq.From, entry proto.Entry) error {
	w, err := k.Worker(ctx, from.Worker)
	if err != nil {
		return err
	}
	if w == nil {
		return ErrNotRegistered.Wrap(from.Worker.String())
	}
	switch e := entry.(type) {
	case proto.StartSession:
		p, err := k.Params(ctx)
		if err != nil {
			return err
		}
		if err := commkey.PublicKey(e.Key).Check(); err != nil {
			return ErrMalformed.Wrap(err.Error())
		}
		if err := k.recent(ctx, &p, e.Height, e.Hash); err != nil {
			return err
		}
		w.State.Session, w.State.SessionHeight = e.Key, uint64(ctx.BlockHeight())
		if err := k.set(ctx, w); err != nil {
			return err
		}
		started := proto.SessionStarted{Worker: from.Worker, Key: e.Key, Height: e.Height, Hash: e.Hash}
		_, err = k.mq.Append(ctx, proto.TopicWorker(from.Worker), from.Worker[:], started)
		if err == nil {
			_, err = k.mq.Append(ctx, proto.TopicGatekeeper, from.Worker[:], started)
		}
		return err
	case proto.Challenge:
		_, err := k.mq.Append(ctx, proto.TopicWorker(from.Worker), from.Worker[:], proto.ChallengeEchoed(e))
		return err
	case proto.SetEndpoints:
		w.Endpoints = e.Endpoints
		return k.set(ctx, w)
	case proto.PublishMasterKey:
		return k.setMasterKey(ctx, w, e)
	case proto.ReleaseKeys:
		if w.Role != proto.RoleGatekeeper {
			return ErrRole.Wrapf("%s releases keys as %s", from.Worker, w.Role)
		}
		if target, err := k.Worker(ctx, e.Worker); err != nil {
			return err
		} else if target == nil {
			return ErrNotRegistered.Wrap(e.Worker.String())
		}
		master, err := k.store.OpenKVStore(ctx).Get(proto.KeyMasterKey())
		if err != nil {
			return err
		}
		if master == nil {
			return ErrRole.Wrap("there is no master key yet")
		}
		_, err = k.mq.Append(ctx, proto.TopicWorker(e.Worker), from.Worker[:], proto.KeysReleased{Gatekeeper: from.Worker, Master: [32]byte(master), Release: from.Payload})
		return err
	}
	return ErrMalformed.Wrapf("entry %T", entry)
}

func (k *Keeper) setMasterKey(ctx sdk.Context, w *proto.WorkerInfo, e proto.PublishMasterKey) error {
	if w.Role != proto.RoleGatekeeper {
		return ErrRole.Wrapf("%s publishes a master key as %s", w.Worker, w.Role)
	}
	if err := commkey.PublicKey(e.Public).Check(); err != nil {
		return ErrMalformed.Wrap(err.Error())
	}
	s := k.store.OpenKVStore(ctx)
	old, err := s.Get(proto.KeyMasterKey())
	if err != nil {
		return err
	}
	if old != nil {
		if bytes.Equal(old, e.Public[:]) {
			return nil
		}
		return ErrRole.Wrapf("the master key is %x; changing it is a rotation", old)
	}
	if err := s.Set(proto.KeyMasterKey(), e.Public[:]); err != nil {
		return err
	}
	_, err = k.mq.Append(ctx, proto.TopicGatekeeper, w.Worker[:], proto.MasterKeySet(e))
	return err
}

// UpdateParams replaces the parameters; the sender must be governance.
func (k *Keeper) UpdateParams(ctx context.Context, m *types.MsgUpdateParams) (*types.MsgUpdateParamsResponse, error) {
	if m.Authority != k.authority {
		return nil, ErrAuthority.Wrapf("%s is not %s", m.Authority, k.authority)
	}
	p, err := ParseParams([]byte(m.Params))
	if err != nil {
		return nil, ErrParams.Wrap(err.Error())
	}
	return &types.MsgUpdateParamsResponse{}, k.SetParams(ctx, p)
}
