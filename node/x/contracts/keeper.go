package contracts

import (
	"bytes"
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
	ErrFunds      = sdkerrors.Register(ModuleName, 14, "not enough money for gas tier, base fee and deposit limit")
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
	p, err := k.Params(ctx)
	if err != nil {
		return err
	}
	var clusters []*proto.Cluster
	err = kv.Each(k.store.OpenKVStore(ctx), []byte("c/"), func(_, v []byte) (bool, error) {
		c, err := proto.ParseCluster(v)
		clusters = append(clusters, c)
		return true, err
	})
	if err != nil {
		return err
	}
	for _, c := range clusters {
		cached, write := ctx.CacheContext()
		if err := errors.Join(k.expireWaiting(cached, c), k.turnEpoch(cached, c, &p), k.replaceSilent(cached, c, &p), k.fillSeats(cached, c, &p),
			k.announceAgain(cached, c), k.followRules(cached, c, &p)); err != nil {
			failed(ctx, c.ID, err)
			continue
		}
		write()
	}
	return nil
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

func chunkKey(code proto.Hash, i uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte("c/"), code[:]...), i)
}

// Gas of unpacking a chunk, in the chain's gas, in which a signature check of some 50 µs
// is 1,000. Packed bytes of the worst kind, codes of which no symbol is used, take 0.6 µs
// each (BenchmarkUnpack in proto), bytes that come out at most a nanosecond or two.
const (
	gasPerPacked   = 20
	gasPerUnpacked = 1
)

// UploadCode takes one chunk. It is checked here, against the manifest that the code's
// hash commits to: whatever is stored for a code belongs to it, whoever brought it.
func (k *Keeper) UploadCode(c context.Context, m *types.MsgUploadCode) (*types.MsgUploadCodeResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	uploader, err := account(m.Uploader)
	if err != nil {
		return nil, err
	}
	mf, err := proto.ParseCodeManifest(m.Manifest)
	if err != nil {
		return nil, ErrMalformed.Wrap(err.Error())
	}
	hash := mf.Hash()
	code, err := get(ctx, k, proto.KeyCode(hash), proto.ParseCode)
	if err != nil {
		return nil, err
	}
	if code == nil {
		code = &proto.Code{Manifest: *mf, Have: make([]bool, len(mf.Chunks))}
	}
	if uint64(m.Index) < uint64(len(code.Have)) && code.Have[m.Index] {
		return &types.MsgUploadCodeResponse{Missing: uint32(code.Missing())}, nil
	}
	ctx.GasMeter().ConsumeGas(gasPerPacked*uint64(len(m.Chunk))+gasPerUnpacked*uint64(mf.ChunkLen(m.Index)), "unpack chunk")
	if _, err := mf.Unpack(m.Index, m.Chunk); err != nil {
		return nil, ErrChunk.Wrap(err.Error())
	}
	p, err := k.Params(ctx)
	if err != nil {
		return nil, err
	}
	if err := k.burn(ctx, uploader, uint64(len(m.Chunk))*p.CodePrice); err != nil {
		return nil, err
	}
	if err := k.mq.Stage(ctx, chunkKey(hash, m.Index), m.Chunk); err != nil {
		return nil, err
	}
	code.Have[m.Index] = true
	return &types.MsgUploadCodeResponse{Missing: uint32(code.Missing())}, set(ctx, k, proto.KeyCode(hash), code)
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

// Deploy makes a contract.
func (k *Keeper) Deploy(c context.Context, m *types.MsgDeploy) (*types.MsgDeployResponse, error) {
	ctx := sdk.UnwrapSDKContext(c)
	deployer, err := account(m.Deployer)
	if err != nil {
		return nil, err
	}
	if len(m.CodeHash) != 32 || len(m.Salt) > 64 {
		return nil, ErrMalformed.Wrapf("code hash of %d bytes, salt of %d", len(m.CodeHash), len(m.Salt))
	}
	code, err := get(ctx, k, proto.KeyCode(proto.Hash(m.CodeHash)), proto.ParseCode)
	if err != nil {
		return nil, err
	}
	if code == nil || code.Missing() > 0 {
		return nil, ErrNoCode.Wrapf("%x", m.CodeHash)
	}
	cl, rec, err := k.accept(ctx, deployer, m.Cluster, m.Epoch, m.GasTier, m.DepositLimit, m.Envelope)
	if err != nil {
		return nil, err
	}
	if !cl.Public && !bytes.Equal(cl.Owner, deployer) {
		return nil, ErrPermission
	}
	hash := proto.Hash(m.CodeHash)
	ct := &proto.Contract{ID: proto.NewContractID(ctx.ChainID(), cl.ID, deployer, hash, m.Salt), Cluster: cl.ID, Deployer: deployer,
		Code: hash, Phase: proto.ContractWaiting, Height: rec.Height,
		Command: proto.PushedCommand{Payer: deployer, Epoch: m.Epoch, GasTier: rec.GasTier, DepositLimit: m.DepositLimit, Envelope: m.Envelope}}
	if old, err := get(ctx, k, proto.KeyContract(ct.ID), proto.ParseContract); err != nil {
		return nil, err
	} else if old != nil && old.Phase != proto.ContractRefused && old.Phase != proto.ContractExpired {
		return nil, ErrExists.Wrap(ct.ID.String())
	}
	// The escrow waits under the contract's key until the constructor has a sequence.
	if err := set(ctx, k, pendingKey(ct.ID), rec); err != nil {
		return nil, err
	}
	image, agreed := code.Agreed(cl)
	switch {
	case agreed && held(cl, rec.Height):
		// It starts as one does whose code has just been decided, when it may.
		err = errors.Join(k.store.OpenKVStore(ctx).Set(append(waitPrefix(cl.ID, hash), ct.ID[:]...), []byte{1}), set(ctx, k, proto.KeyContract(ct.ID), ct),
			k.decide(ctx, cl, hash, image, true))
	case agreed:
		err = k.start(ctx, ct, image)
	case code.Hopeless(cl):
		err = ErrRefused.Wrapf("%x in cluster %s", m.CodeHash, cl.ID)
	default:
		err = k.wait(ctx, cl, ct, code)
	}
	return &types.MsgDeployResponse{Contract: ct.ID[:]}, err
}

func pendingKey(c proto.ContractID) []byte { return append([]byte("e/"), c[:]...) }

// wait files a contract under its code; the first one of an epoch announces the
// code, because seats that are new since then have not heard of it.
func (k *Keeper) wait(ctx sdk.Context, cl *proto.Cluster, ct *proto.Contract, code *proto.Code) error {
	s, prefix := k.store.OpenKVStore(ctx), waitPrefix(cl.ID, ct.Code)
	first := true
	err := kv.Each(s, prefix, func(key, _ []byte) (bool, error) {
		other, err := get(ctx, k, proto.KeyContract(proto.ContractID(key)), proto.ParseContract)
		if err == nil && other != nil && other.Command.Epoch == cl.Epoch {
			first = false
		}
		return first, err
	})
	if err != nil {
		return err
	}
	if first {
		if _, err := k.mq.Append(ctx, proto.TopicCluster(cl.ID), ct.Deployer, proto.CodeAnnounced{Code: ct.Code, Size: code.Manifest.Size}); err != nil {
			return err
		}
	}
	return errors.Join(s.Set(append(prefix, ct.ID[:]...), []byte{1}), set(ctx, k, proto.KeyContract(ct.ID), ct))
}

// start puts a contract's constructor into its cluster's topic, with the image of its
// code that the seats agreed on.
func (k *Keeper) start(ctx sdk.Context, ct *proto.Contract, image proto.Hash) error {
	c, err := k.Cluster(ctx, ct.Cluster)
	if err != nil {
		return err
	}
	if ct.Command.Epoch != c.Epoch {
		// The seats have erased the key that its constructor is sealed to.
		return k.refuse(ctx, ct, proto.ContractExpired)
	}
	rec, err := get(ctx, k, pendingKey(ct.ID), proto.ParseCommandRecord)
	if err != nil {
		return err
	}
	if err := k.spendGas(ctx, ct.Cluster, ct.Command.GasTier); err != nil {
		return err
	}
	ct.Phase = proto.ContractStarted
	ct.Seq, err = k.mq.Append(ctx, proto.TopicCluster(ct.Cluster), ct.Deployer, proto.Instantiated{Contract: ct.ID, Deployer: ct.Deployer, Code: ct.Code, Image: image, Command: ct.Command})
	if err != nil {
		return err
	}
	ct.Command.Envelope = nil // it is in the topic now
	if c.Wanted != 0 {
		// Its code may be one that the cluster did not have: the seats speak again.
		c.CodesSeq = ct.Seq
		if err := set(ctx, k, proto.KeyCluster(c.ID), c); err != nil {
			return err
		}
	}
	return errors.Join(set(ctx, k, proto.KeyCommand(ct.Cluster, ct.Seq), rec), set(ctx, k, proto.KeyContract(ct.ID), ct),
		k.store.OpenKVStore(ctx).Delete(pendingKey(ct.ID)))
}
