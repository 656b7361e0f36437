package contracts

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/proto"
)

// endOfAll is EndBlock without a look at what is due: each cluster has its turn.
func endOfAll(k *Keeper) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		p, err := k.Params(ctx)
		if err := errors.Join(err, k.finaliseVoted(ctx), k.startDecided(ctx), k.clearGas(ctx), k.followSnapshots(ctx)); err != nil {
			return err
		}
		clusters, err := k.clusters(ctx)
		if err != nil {
			return err
		}
		for _, c := range clusters {
			cached, write := ctx.CacheContext()
			if err := k.turn(cached, c, &p); err != nil {
				failed(ctx, c.ID, err)
				continue
			}
			write()
		}
		return nil
	}
}

// TestDue: a chain that gives a turn only to clusters with something due goes the way of
// one that gives it to all, to the byte, whatever workers, clusters and governance do.
func TestDue(t *testing.T) {
	seeds := []uint64{1, 2, rand.Uint64()}
	if s := os.Getenv("PHALA_SEED"); s != "" {
		seeds = make([]uint64, 1)
		fmt.Sscan(s, &seeds[0])
	}
	seen := map[string]int{}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("PHALA_SEED=", seed), func(t *testing.T) { twins(t, rand.New(rand.NewPCG(seed, 0)), seen) })
	}
	for _, kind := range []string{"unseated", "epoch_key", "rules_activated", "rules_wanted", "started", "expired", "skipped"} {
		if seen[kind] == 0 && len(seeds) > 1 {
			t.Errorf("%s never happened: %v", kind, seen)
		}
	}
}

func twins(t *testing.T, rng *rand.Rand, seen map[string]int) {
	a, b := newEnv(t), newEnv(t)
	b.End[0] = endOfAll(b.k)
	both := func(what string, f func(e *env) func(sdk.Context) error) {
		_, errA := a.Tx(f(a))
		_, errB := b.Tx(f(b))
		if fmt.Sprint(errA) != fmt.Sprint(errB) {
			t.Fatalf("height %d, %s: %v and %v", a.Height(), what, errA, errB)
		}
	}
	params := func(edit func(*Params)) {
		both("parameters", func(e *env) func(sdk.Context) error {
			return func(ctx sdk.Context) error {
				p, err := e.k.Params(ctx)
				edit(&p)
				return errors.Join(err, e.k.SetParams(ctx, p))
			}
		})
	}
	worker := func(n int, edit func(*proto.WorkerInfo)) {
		both("worker", func(e *env) func(sdk.Context) error {
			return func(ctx sdk.Context) error {
				w, err := e.regs.Worker(ctx, wid(n))
				if err != nil {
					return err
				}
				edit(w)
				return e.regs.set(ctx, w)
			}
		})
	}
	say := func(n int, entry proto.Entry) {
		both("outbox", func(e *env) func(sdk.Context) error { return e.outbox(n, entry) })
	}
	code := a.uploaded("a")
	if b.uploaded("a") != code {
		t.Fatal("codes differ")
	}
	workers, clusters, salt := 0, 0, 0
	for range 120 {
		a.Start()
		b.Start()
		if a.Height() == 3 {
			params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 12, 6 })
		}
		for range rng.IntN(8) {
			n := 1 + rng.IntN(max(workers, 1))
			switch r := rng.IntN(30); {
			case r < 2 && workers < 12:
				workers++
				both("register", func(e *env) func(sdk.Context) error { return e.knows(workers, 1+uint32(workers%2)) })
			case r < 4 && clusters < 8:
				clusters++
				seats := 1 + rng.IntN(3)
				both("create", func(e *env) func(sdk.Context) error { return e.create(1, seats, true) })
			case r < 5:
				epoch, silent := uint64(rng.IntN(3))*8, uint64(rng.IntN(3))*5
				params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = epoch, silent })
			case r < 6:
				version := uint32(1 + rng.IntN(2))
				params(func(p *Params) { p.Rules = version })
			case workers == 0 || clusters == 0:
			case r < 7:
				worker(n, func(w *proto.WorkerInfo) { w.Expires = 0 })
			case r < 9:
				worker(n, func(w *proto.WorkerInfo) { w.Expires = 1 << 40 })
			case r < 10:
				worker(n, func(w *proto.WorkerInfo) { w.State.SessionHeight = silent })
			case r < 12:
				heard := a.Height()
				worker(n, func(w *proto.WorkerInfo) { w.State.SessionHeight, w.State.Heard, w.Rules = 0, heard, 2 })
			case r < 14:
				id := proto.ClusterID(1 + rng.IntN(clusters))
				salt++
				both("deploy", func(e *env) func(sdk.Context) error {
					m := deploy(2, code, fmt.Sprint(salt))
					m.Cluster, m.Epoch = uint32(id), e.get(id).Epoch
					return e.deploy(m)
				})
			default:
				w, err := a.regs.Worker(a.Context(), wid(n))
				if err != nil {
					t.Fatal(err)
				}
				if w.State.Cluster == 0 {
					continue
				}
				c := a.get(w.State.Cluster)
				switch rng.IntN(4) {
				case 0:
					say(n, proto.CodePrepared{Cluster: c.ID, Code: code, Rules: c.Rules, Image: proto.Hash{byte(rng.IntN(2))}})
				case 1:
					say(n, proto.RulesReady{Cluster: c.ID, Version: c.Wanted, Seq: c.CodesSeq})
				default:
					epoch := max(c.Epoch, c.Next)
					say(n, proto.PublishEpochKey{Cluster: c.ID, Epoch: epoch, Public: epochKey(int(epoch))})
				}
			}
		}
		seen["skipped"] += skipped(a)
		ea, eb := a.Finish(), b.Finish()
		if !reflect.DeepEqual(ea, eb) {
			t.Fatalf("height %d: events\n%v\nand\n%v", a.Height(), ea, eb)
		}
		for _, kind := range []string{"unseated", "epoch_key", "rules_activated", "rules_wanted"} {
			seen[kind] += len(testchain.Values(ea, kind, "cluster"))
		}
		for _, store := range []string{ModuleName, mq.ModuleName, fakeStore} {
			if !reflect.DeepEqual(a.Dump(store), b.Dump(store)) {
				t.Fatalf("height %d: the stores %q differ", a.Height(), store)
			}
		}
	}
	err := kv.Each(a.k.store.OpenKVStore(a.Context()), []byte("k/"), func(_, v []byte) (bool, error) {
		ct, err := proto.ParseContract(v)
		if err == nil {
			seen[map[uint8]string{proto.ContractStarted: "started", proto.ContractExpired: "expired"}[ct.Phase]]++
		}
		return true, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// skipped counts the clusters that have nothing due as the block stands.
func skipped(e *env) (n int) {
	p, err := e.k.Params(e.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	d := &look{k: e.k, p: &p}
	clusters, err := e.k.clusters(e.Context())
	if err != nil {
		e.t.Fatal(err)
	}
	for _, c := range clusters {
		due, err := d.due(e.Context(), c)
		if err != nil {
			e.t.Fatal(err)
		}
		if !due {
			n++
		}
	}
	return n
}
