package contracts

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"cosmossdk.io/math"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/proto"
)

// A code is uploaded in chunks. A contract of it waits until the seats have decided about
// the code, and then starts or is refused.

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

// Chunk serves one chunk of a code.
func (k *Keeper) Chunk(_ context.Context, q *types.QueryChunkRequest) (*types.QueryChunkResponse, error) {
	if len(q.CodeHash) != 32 {
		return nil, ErrMalformed.Wrapf("code hash of %d bytes", len(q.CodeHash))
	}
	b, err := k.mq.Bodies().Get(chunkKey(proto.Hash(q.CodeHash), q.Index))
	if err == nil && b == nil {
		err = ErrNoCode.Wrapf("chunk %d of %x", q.Index, q.CodeHash)
	}
	return &types.QueryChunkResponse{Chunk: b}, err
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

// codeVote counts a seat's word for a code. When a majority prepared it to the same
// image, the contracts that wait for it start; when no image can get a majority any
// more, they are refused and their escrow returns. EndBlock does that: the work is as
// large as the number of contracts, and whoever deploys them must not make a worker's
// outbox too expensive to submit.
func (k *Keeper) codeVote(ctx sdk.Context, c *proto.Cluster, vote proto.CodeVote, hash proto.Hash, ok bool) error {
	code, err := get(ctx, k, proto.KeyCode(hash), proto.ParseCode)
	if err != nil {
		return err
	}
	if code == nil {
		return ErrNoCode.Wrap(hash.String())
	}
	if vote.Rules != c.Rules {
		return nil // of rules that are no longer in force, it is asked again
	}
	// The first word stays. One that was given at this cluster before its seat was lost counts
	// again with the seat: then it decides now.
	said := code.Voted(c, vote.Worker)
	if !said {
		// What was said under the rules of before does not count any more.
		for _, list := range []*[]proto.CodeVote{&code.Prepared, &code.Refused} {
			*list = slices.DeleteFunc(*list, func(v proto.CodeVote) bool { return v.Cluster == c.ID && v.Rules != c.Rules })
		}
		list := &code.Refused
		if ok {
			list = &code.Prepared
		}
		*list = append(*list, vote)
		if err := set(ctx, k, proto.KeyCode(hash), code); err != nil {
			return err
		}
	}
	image, agreed := code.Agreed(c)
	if agreed && ok && !said && vote.Image != image {
		// This seat's results will differ from the others': it must not run the code.
		ctx.EventManager().EmitEvent(sdk.NewEvent("code_diverged", sdk.NewAttribute("cluster", c.ID.String()), sdk.NewAttribute("code", hash.String()), sdk.NewAttribute("worker", vote.Worker.String())))
	}
	if !agreed && !code.Hopeless(c) {
		return nil
	}
	s := k.store.OpenKVStore(ctx)
	waiting := false
	err = kv.Each(s, waitPrefix(c.ID, hash), func(_, _ []byte) (bool, error) { waiting = true; return false, nil })
	if err != nil || !waiting {
		return err
	}
	return k.decide(ctx, c, hash, image, agreed)
}

// decide files what the seats decided about a code for which contracts wait.
func (k *Keeper) decide(ctx sdk.Context, c *proto.Cluster, hash, image proto.Hash, prepared bool) error {
	v := []byte{0}
	if prepared {
		v[0] = 1
	}
	return k.store.OpenKVStore(ctx).Set(decidedKey(c.ID, hash), append(binary.BigEndian.AppendUint32(v, c.Rules), image[:]...))
}

// Bounds of what startDecided does in one block.
const (
	startsPerBlock     = 256
	startBytesPerBlock = 4 << 20
)

// startDecided starts or refuses contracts whose code was decided, as many as a block
// has room for; the others follow in the next blocks.
func (k *Keeper) startDecided(ctx sdk.Context) error {
	s := k.store.OpenKVStore(ctx)
	type decision struct {
		cluster  proto.ClusterID
		code     proto.Hash
		prepared bool
		rules    uint32
		image    proto.Hash
	}
	var decisions []decision
	err := kv.Each(s, decidedPrefix, func(key, v []byte) (bool, error) {
		decisions = append(decisions, decision{proto.ClusterID(binary.BigEndian.Uint32(key)), proto.Hash(key[4:]), v[0] == 1, binary.BigEndian.Uint32(v[1:]), proto.Hash(v[5:])})
		return true, nil
	})
	if err != nil {
		return err
	}
	left, bytesLeft := startsPerBlock, startBytesPerBlock
	for _, d := range decisions {
		c, err := k.Cluster(ctx, d.cluster)
		if err != nil {
			return err
		}
		if d.rules != c.Rules {
			// Other rules came before the contracts: the seats decide again.
			if err := s.Delete(decidedKey(d.cluster, d.code)); err != nil {
				return err
			}
			continue
		}
		if d.prepared && held(c, uint64(ctx.BlockHeight())) {
			continue
		}
		room, err := k.room(ctx, d.cluster)
		if err != nil {
			return err
		}
		prefix := waitPrefix(d.cluster, d.code)
		var waiting []proto.ContractID
		done := true
		err = kv.Each(s, prefix, func(key, _ []byte) (bool, error) {
			if left == 0 || (d.prepared && room == 0) {
				done = false
				return false, nil
			}
			left, room = left-1, room-1
			waiting = append(waiting, proto.ContractID(key))
			return true, nil
		})
		if err != nil {
			return err
		}
		for _, id := range waiting {
			if bytesLeft <= 0 {
				done = false
				break
			}
			ct, err := get(ctx, k, proto.KeyContract(id), proto.ParseContract)
			if err != nil {
				return err
			}
			if d.prepared {
				if gas, err := k.gasRoom(ctx, d.cluster); err != nil {
					return err
				} else if gas < proto.TierGas(ct.Command.GasTier) {
					done = false
					break
				}
			}
			bytesLeft -= len(ct.Command.Envelope)
			act := func(ctx sdk.Context, ct *proto.Contract) error { return k.refuse(ctx, ct, proto.ContractRefused) }
			if d.prepared {
				act = func(ctx sdk.Context, ct *proto.Contract) error { return k.start(ctx, ct, d.image) }
			}
			cached, write := ctx.CacheContext()
			if err := act(cached, ct); err != nil {
				// One contract that cannot go on must not stop the chain.
				ctx.EventManager().EmitEvent(sdk.NewEvent("contract_failed", sdk.NewAttribute("contract", id.String()), sdk.NewAttribute("reason", err.Error())))
			} else {
				write()
			}
			if err := s.Delete(append(prefix[:len(prefix):len(prefix)], id[:]...)); err != nil {
				return err
			}
		}
		if done {
			if err := s.Delete(decidedKey(d.cluster, d.code)); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuse returns a waiting contract's escrow.
func (k *Keeper) refuse(ctx sdk.Context, ct *proto.Contract, phase uint8) error {
	rec, err := get(ctx, k, pendingKey(ct.ID), proto.ParseCommandRecord)
	if err != nil {
		return err
	}
	ct.Phase, ct.Command.Envelope = phase, nil
	if err := k.pay(ctx, rec.Payer, math.NewIntFromUint64(rec.Escrow+rec.DepositLimit)); err != nil {
		return err
	}
	return errors.Join(set(ctx, k, proto.KeyContract(ct.ID), ct), k.store.OpenKVStore(ctx).Delete(pendingKey(ct.ID)))
}
