package contracts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"cosmossdk.io/core/store"
	sdkerrors "cosmossdk.io/errors"
	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

// ModuleName names the module, its store and its account, which holds escrow.
const ModuleName = proto.StoreContracts

// The module's errors. Their codes are on the wire and never change.
var (
	ErrMalformed  = sdkerrors.Register(ModuleName, 2, "malformed")
	ErrNoCluster  = sdkerrors.Register(ModuleName, 3, "no such cluster")
	ErrNoEpochKey = sdkerrors.Register(ModuleName, 4, "cluster has no key yet: wait until a majority of its seats published it")
	ErrEpoch      = sdkerrors.Register(ModuleName, 5, "sealed to an epoch that is not the cluster's")
	ErrPermission = sdkerrors.Register(ModuleName, 6, "only the cluster's owner may deploy here")
	ErrNoCode     = sdkerrors.Register(ModuleName, 7, "code is not uploaded")
	ErrChunk      = sdkerrors.Register(ModuleName, 8, "chunk is not the one that the manifest names")
	ErrExists     = sdkerrors.Register(ModuleName, 9, "contract exists: use another salt")
	ErrSeat       = sdkerrors.Register(ModuleName, 10, "worker has no seat in the cluster")
	ErrReceipt    = sdkerrors.Register(ModuleName, 11, "receipt refused")
	ErrAuthority  = sdkerrors.Register(ModuleName, 12, "only governance may do this")
	ErrParams     = sdkerrors.Register(ModuleName, 13, "invalid parameters")
	ErrFunds      = sdkerrors.Register(ModuleName, 14, "not enough money for gas tier, base fee and deposit limit, or for what is burnt")
	ErrDeposit    = sdkerrors.Register(ModuleName, 15, "deposit limit is above the largest")
	ErrRefused    = sdkerrors.Register(ModuleName, 16, "the cluster's workers refused this code")
	ErrSnapshot   = sdkerrors.Register(ModuleName, 18, "snapshot refused")
	ErrBusy       = sdkerrors.Register(ModuleName, 17, "this block has as much work for the cluster as one receipt can answer: submit again, or with a smaller gas tier")
)

// Denom is the base unit of PHA, 10^-12.
const Denom = "ppha"

// Bank is what the module asks of x/bank.
type Bank interface {
	SendCoinsFromAccountToModule(ctx context.Context, from sdk.AccAddress, module string, amt sdk.Coins) error
	SendCoinsFromModuleToAccount(ctx context.Context, module string, to sdk.AccAddress, amt sdk.Coins) error
	BurnCoins(ctx context.Context, module string, amt sdk.Coins) error
}

// Registry is what the module asks of x/registry.
type Registry interface {
	Worker(ctx context.Context, w proto.WorkerID) (*proto.WorkerInfo, error)
	Serving(ctx context.Context, w proto.WorkerID) (bool, string)
	SetCluster(ctx context.Context, w proto.WorkerID, c proto.ClusterID) error
	Each(ctx context.Context, f func(*proto.WorkerInfo) (bool, error)) error
}

// A Keeper keeps clusters and contracts.
type Keeper struct {
	store     store.KVStoreService
	mq        *mq.Keeper
	registry  Registry
	bank      Bank
	authority string
}

// NewKeeper returns a keeper.
func NewKeeper(s store.KVStoreService, q *mq.Keeper, r Registry, b Bank, authority string) *Keeper {
	return &Keeper{s, q, r, b, authority}
}

var (
	keyParams = []byte("params")
	keyCount  = []byte("count")
)

// waitKey indexes contracts that wait for a code in a cluster.
func waitPrefix(c proto.ClusterID, code proto.Hash) []byte {
	return append(append([]byte("z/"), c.Bytes()...), code[:]...)
}

// decidedPrefix lists the codes of a cluster whose seats decided and for which
// contracts still wait: whether they prepared it, under which rules, to which image.
var decidedPrefix = []byte("v/")

func decidedKey(c proto.ClusterID, code proto.Hash) []byte {
	return append(append(append([]byte(nil), decidedPrefix...), c.Bytes()...), code[:]...)
}

// votedPrefix lists the clusters with votes that may have made a receipt final.
var votedPrefix = []byte("f/")

func votedKey(c proto.ClusterID) []byte {
	return append(append([]byte(nil), votedPrefix...), c.Bytes()...)
}

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

// UpdateParams replaces the parameters; the sender must be governance.
func (k *Keeper) UpdateParams(c context.Context, m *types.MsgUpdateParams) (*types.MsgUpdateParamsResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	if m.Authority != k.authority {
		return nil, ErrAuthority.Wrapf("%s is not %s", m.Authority, k.authority)
	}
	p, err := ParseParams([]byte(m.Params))
	if err != nil {
		return nil, ErrParams.Wrap(err.Error())
	}
	old, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	if p.Rules > old.Rules {
		if err := k.checkRules(ctx, p.Rules); err != nil {
			return nil, err
		}
	}
	return &types.MsgUpdateParamsResponse{}, k.SetParams(ctx, p)
}

func get[T any](ctx context.Context, k *Keeper, key []byte, parse func([]byte) (*T, error)) (*T, error) {
	b, err := k.store.OpenKVStore(ctx).Get(key)
	if err != nil || b == nil {
		return nil, err
	}
	return parse(b)
}

func set(ctx context.Context, k *Keeper, key []byte, v interface{ Marshal() []byte }) error {
	return k.store.OpenKVStore(ctx).Set(key, v.Marshal())
}

// Cluster returns a cluster, or ErrNoCluster.
func (k *Keeper) Cluster(ctx context.Context, id proto.ClusterID) (*proto.Cluster, error) {
	c, err := get(ctx, k, proto.KeyCluster(id), proto.ParseCluster)
	if err == nil && c == nil {
		err = ErrNoCluster.Wrap(id.String())
	}
	return c, err
}

// account reads an address that fits into records and messages.
func account(bech32 string) (sdk.AccAddress, error) {
	a, err := sdk.AccAddressFromBech32(bech32)
	if err == nil && len(a) > proto.MaxSender {
		err = fmt.Errorf("address of %d bytes, at most %d", len(a), proto.MaxSender)
	}
	if err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	return a, nil
}

// CreateCluster makes a cluster.
func (k *Keeper) CreateCluster(c context.Context, m *types.MsgCreateCluster) (*types.MsgCreateClusterResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	owner, err := account(m.Owner)
	if err != nil {
		return nil, err
	}
	if m.Seats == 0 || m.Seats > proto.MaxSeats {
		return nil, ErrMalformed.Wrapf("%d seats, at least 1 and at most %d", m.Seats, proto.MaxSeats)
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	if err := k.burn(ctx, owner, p.ClusterPrice); err != nil {
		return nil, err
	}
	s := k.store.OpenKVStore(ctx)
	b, err := s.Get(keyCount)
	if err != nil {
		return nil, err
	}
	id := proto.ClusterID(1)
	if b != nil {
		id = proto.ClusterID(binary.BigEndian.Uint32(b)) + 1
	}
	cl := &proto.Cluster{ID: id, Owner: owner, Public: m.Public, SeatsWanted: m.Seats, Rules: p.Rules, Epoch: 1,
		FinalHead: proto.CreatedCursor(ctx.ChainID(), proto.TopicCluster(id)).Head}
	if err := errors.Join(s.Set(keyCount, id.Bytes()), set(ctx, k, proto.KeyCluster(id), cl), k.mq.CreateTopic(ctx, proto.TopicCluster(id))); err != nil {
		return nil, err
	}
	if cl.Rules > 1 {
		// Every cluster begins under version 1; this one has no code yet that could differ.
		err = k.sendRules(ctx, cl, proto.ImagesDigest(cl.Rules, nil))
	}
	return &types.MsgCreateClusterResponse{Cluster: uint32(id)}, err
}

// EndBlock makes receipts final, starts or refuses contracts that waited for their
// code and fills free seats.
func (k *Keeper) EndBlock(ctx sdk.Context) error {
	if err := errors.Join(k.finaliseVoted(ctx), k.startDecided(ctx), k.clearGas(ctx), k.followSnapshots(ctx)); err != nil {
		return err
	}
	return k.turnClusters(ctx)
}

// fillSeats gives a cluster's free seats to serving workers that have none, in the order
// of free.
func (k *Keeper) fillSeats(ctx sdk.Context, c *proto.Cluster, p *Params) error {
	if len(c.Seats) >= int(c.SeatsWanted) {
		return nil
	}
	free, err := k.free(ctx, c, p)
	if err != nil {
		return err
	}
	for len(c.Seats) < int(c.SeatsWanted) && len(free) > 0 {
		if err := k.seat(ctx, c, free[0]); err != nil {
			return err
		}
		free = free[1:]
	}
	return nil
}

func (k *Keeper) seat(ctx sdk.Context, c *proto.Cluster, w proto.WorkerID) error {
	c.Seats = append(c.Seats, w)
	t, err := k.tenure(ctx, w)
	t.since = uint64(ctx.BlockHeight())
	if err := errors.Join(err, k.setTenure(ctx, w, t), set(ctx, k, proto.KeyCluster(c.ID), c), k.registry.SetCluster(ctx, w, c.ID)); err != nil {
		return err
	}
	e := proto.Seated{Cluster: c.ID, Worker: w, Epoch: max(c.Epoch, c.Next), State: c.State}
	for _, topic := range []string{proto.TopicWorker(w), proto.TopicGatekeeper} {
		if _, err := k.mq.Append(ctx, topic, []byte(ModuleName), e); err != nil {
			return err
		}
	}
	return nil
}

func coins(amount uint64) sdk.Coins {
	return sdk.NewCoins(sdk.NewCoin(Denom, math.NewIntFromUint64(amount)))
}

func (k *Keeper) burn(ctx sdk.Context, from sdk.AccAddress, amount uint64) error {
	if amount == 0 {
		return nil
	}
	if err := k.bank.SendCoinsFromAccountToModule(ctx, from, ModuleName, coins(amount)); err != nil {
		return ErrFunds.Wrap(err.Error())
	}
	return k.bank.BurnCoins(ctx, ModuleName, coins(amount))
}

// checkEnvelope refuses sizes that no client makes, which would tell more about a
// command than its bucket.
func checkEnvelope(env []byte) error {
	n := len(env) - envelope.Overhead
	if n < envelope.MinBucket || bits.OnesCount(uint(n)) != 1 || len(env) > proto.MaxEnvelope {
		return ErrMalformed.Wrapf("envelope of %d bytes is not of a size bucket", len(env))
	}
	return nil
}

// room is how many messages the block may still hold for a cluster: all messages of
// one height are answered in one receipt.
func (k *Keeper) room(ctx sdk.Context, c proto.ClusterID) (uint64, error) {
	n, err := k.mq.InBlock(ctx, proto.TopicCluster(c))
	return proto.MaxReceiptItems - min(n, proto.MaxReceiptItems), err
}

// gasPrefix counts the gas that a block's commands have bought, by cluster. EndBlock
// clears it.
var gasPrefix = []byte("g/")

func gasKey(c proto.ClusterID) []byte { return append(gasPrefix[:2:2], c.Bytes()...) }

// gasRoom is how much gas the block's commands may still buy in a cluster.
func (k *Keeper) gasRoom(ctx sdk.Context, c proto.ClusterID) (uint64, error) {
	b, err := k.store.OpenKVStore(ctx).Get(gasKey(c))
	if err != nil || b == nil {
		return proto.MaxBlockGas, err
	}
	return proto.MaxBlockGas - binary.BigEndian.Uint64(b), nil
}

// spendGas takes a tier's gas from the block's.
func (k *Keeper) spendGas(ctx sdk.Context, c proto.ClusterID, tier uint8) error {
	room, err := k.gasRoom(ctx, c)
	if err != nil {
		return err
	}
	if gas := proto.TierGas(tier); gas <= room {
		return k.store.OpenKVStore(ctx).Set(gasKey(c), binary.BigEndian.AppendUint64(nil, proto.MaxBlockGas-room+gas))
	}
	return ErrBusy.Wrapf("cluster %s: commands have bought %d of %d gas", c, proto.MaxBlockGas-room, uint64(proto.MaxBlockGas))
}

// clearGas forgets what the block's commands bought.
func (k *Keeper) clearGas(ctx sdk.Context) error {
	s := k.store.OpenKVStore(ctx)
	var clusters [][]byte
	err := kv.Each(s, gasPrefix, func(key, _ []byte) (bool, error) {
		clusters = append(clusters, append(gasPrefix[:2:2], key...))
		return true, nil
	})
	for _, key := range clusters {
		err = errors.Join(err, s.Delete(key))
	}
	return err
}

// accept checks what a command and a constructor have in common and holds the money.
func (k *Keeper) accept(ctx sdk.Context, payer sdk.AccAddress, cluster uint32, epoch uint64, tier uint32, deposit uint64, env []byte) (*proto.Cluster, *proto.CommandRecord, error) {
	c, err := k.Cluster(ctx, proto.ClusterID(cluster))
	if err != nil {
		return nil, nil, err
	}
	switch {
	case c.EpochKey == [32]byte{}:
		return nil, nil, ErrNoEpochKey.Wrap(c.ID.String())
	case epoch != c.Epoch:
		return nil, nil, ErrEpoch.Wrapf("epoch %d, cluster %s is in %d: seal it again", epoch, c.ID, c.Epoch)
	case tier > proto.MaxTier:
		return nil, nil, ErrMalformed.Wrapf("gas tier %d, at most %d", tier, proto.MaxTier)
	case deposit > proto.MaxDeposit:
		return nil, nil, ErrDeposit.Wrapf("%d base units, at most %d", deposit, uint64(proto.MaxDeposit))
	}
	if err := checkEnvelope(env); err != nil {
		return nil, nil, err
	}
	if room, err := k.room(ctx, c.ID); err != nil {
		return nil, nil, err
	} else if room == 0 {
		return nil, nil, ErrBusy.Wrap(c.ID.String())
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, nil, err
	}
	rec := &proto.CommandRecord{Payer: payer, GasTier: uint8(tier), DepositLimit: deposit, GasPrice: p.GasPrice,
		Escrow: p.escrowFor(uint8(tier)), Height: uint64(ctx.BlockHeight())}
	if hold := rec.Escrow + deposit; hold > 0 {
		if err := k.bank.SendCoinsFromAccountToModule(ctx, payer, ModuleName, coins(hold)); err != nil {
			return nil, nil, ErrFunds.Wrap(err.Error())
		}
	}
	return c, rec, nil
}

// PushCommand appends a sealed command.
func (k *Keeper) PushCommand(c context.Context, m *types.MsgPushCommand) (*types.MsgPushCommandResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	payer, err := account(m.Payer)
	if err != nil {
		return nil, err
	}
	cl, rec, err := k.accept(ctx, payer, m.Cluster, m.Epoch, m.GasTier, m.DepositLimit, m.Envelope)
	if err != nil {
		return nil, err
	}
	if err := k.spendGas(ctx, cl.ID, rec.GasTier); err != nil {
		return nil, err
	}
	seq, err := k.mq.Append(ctx, proto.TopicCluster(cl.ID), payer, proto.PushedCommand{Payer: payer, Epoch: m.Epoch,
		GasTier: rec.GasTier, DepositLimit: m.DepositLimit, Envelope: m.Envelope})
	if err != nil {
		return nil, err
	}
	ctx.EventManager().EmitEvent(sdk.NewEvent("command", sdk.NewAttribute("cluster", cl.ID.String()), sdk.NewAttribute("seq", fmt.Sprint(seq))))
	return &types.MsgPushCommandResponse{}, set(ctx, k, proto.KeyCommand(cl.ID, seq), rec)
}
