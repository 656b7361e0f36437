package registry

import (
	"context"
	"sync"

	"cosmossdk.io/core/store"
	sdkerrors "cosmossdk.io/errors"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/mq"
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
	ErrCollateral    = sdkerrors.Register(ModuleName, 18, "collateral refused, or missing")
	ErrDenied        = sdkerrors.Register(ModuleName, 19, "denied by governance")
	ErrFloor         = sdkerrors.Register(ModuleName, 20, "platform's versions are too old")
	ErrFrozen        = sdkerrors.Register(ModuleName, 21, "registrations are frozen")
	ErrSettings      = sdkerrors.Register(ModuleName, 22, "the enclave's settings go too far")
	ErrEvaluation    = sdkerrors.Register(ModuleName, 23, "TCB evaluation number is not taken yet")
)

// A Keeper keeps the registry.
type Keeper struct {
	store     store.KVStoreService
	transient store.TransientStoreService
	mq        *mq.Keeper
	authority string

	mu        sync.Mutex // guards what follows: queries and checks run beside blocks
	rootBytes []byte
	roots     attest.Roots
}

// NewKeeper returns a keeper whose parameters and policy the authority sets.
func NewKeeper(s store.KVStoreService, t store.TransientStoreService, q *mq.Keeper, authority string) *Keeper {
	return &Keeper{store: s, transient: t, mq: q, authority: authority}
}

var (
	keyParams = []byte("params")
	keyRoots  = []byte("roots")
)

func keyMachine(m [32]byte) []byte { return append([]byte("x/"), m[:]...) }

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

// Attestation returns the verdict on a worker's newest evidence, nil when there is none.
func (k *Keeper) Attestation(ctx context.Context, w proto.WorkerID) (*proto.Attestation, error) {
	b, err := k.store.OpenKVStore(ctx).Get(proto.KeyAttestation(w))
	if err != nil || b == nil {
		return nil, err
	}
	return proto.ParseAttestation(b)
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
