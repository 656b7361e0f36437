// Package testchain runs keepers in blocks and transactions as the node does, on a
// real committed store in memory, without the application around them. Only tests
// import it.
package testchain

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand"
	"testing"
	"time"

	"cosmossdk.io/core/store"
	"cosmossdk.io/log/v2"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/runtime"
	storev2 "github.com/cosmos/cosmos-sdk/store/v2"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/crypto/address"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

func init() { sdk.GetConfig().SetBech32PrefixForAccount(address.HRP, address.HRP+"pub") }

// ID is the chain's id.
const ID = "test-1"

// Genesis is the time of height 0; blocks are a second apart.
var Genesis = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// A Chain executes blocks one by one.
type Chain struct {
	t         testing.TB
	MS        storetypes.CommitMultiStore
	keys      map[string]*storetypes.KVStoreKey
	transient map[string]*storetypes.TransientStoreKey
	height    int64
	block     sdk.Context // of the block that executes, or of the last one

	// Begin and End run around the transactions of a block, Commit after End.
	Begin, End []func(sdk.Context) error
	Commit     func() error
}

// New mounts the stores.
func New(t testing.TB, stores, transient []string) *Chain {
	t.Helper()
	db := dbm.NewMemDB()
	c := &Chain{t: t, MS: storev2.NewCommitMultiStore(db, log.NewNopLogger()),
		keys: storetypes.NewKVStoreKeys(stores...), transient: storetypes.NewTransientStoreKeys(transient...)}
	for _, n := range stores {
		c.MS.MountStoreWithDB(c.keys[n], storetypes.StoreTypeIAVL, nil)
	}
	for _, n := range transient {
		c.MS.MountStoreWithDB(c.transient[n], storetypes.StoreTypeTransient, nil)
	}
	if err := c.MS.LoadLatestVersion(); err != nil {
		t.Fatal(err)
	}
	c.block = c.newContext()
	return c
}

// Key returns a store's key.
func (c *Chain) Key(name string) *storetypes.KVStoreKey { return c.keys[name] }

// Store returns a store as keepers take it.
func (c *Chain) Store(name string) store.KVStoreService {
	return runtime.NewKVStoreService(c.keys[name])
}

// Transient returns a transient store as keepers take it.
func (c *Chain) Transient(name string) store.TransientStoreService {
	return runtime.NewTransientStoreService(c.transient[name])
}

// HashAt is the header hash of a height.
func HashAt(h uint64) proto.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("block "), h))
}

// TimeAt is the time of a height.
func TimeAt(h uint64) time.Time { return Genesis.Add(time.Duration(h) * time.Second) }

func (c *Chain) newContext() sdk.Context {
	hash, at := HashAt(uint64(c.height)), TimeAt(uint64(c.height))
	return sdk.NewContext(c.MS.CacheMultiStore(), cmtproto.Header{ChainID: ID, Height: c.height, Time: at}, false, log.NewNopLogger()).WithHeaderHash(hash[:])
}

// Height is the height of the block that executes, or of the last one.
func (c *Chain) Height() uint64 { return uint64(c.height) }

// Context is that of the block that executes: what is read through it includes the
// block's writes.
func (c *Chain) Context() sdk.Context { return c.block }

// Start begins the next block.
func (c *Chain) Start() {
	c.t.Helper()
	c.height++
	c.block = c.newContext()
	for _, f := range c.Begin {
		if err := f(c.block); err != nil {
			c.t.Fatalf("begin block %d: %v", c.height, err)
		}
	}
}

// Tx runs a transaction: an error or panic leaves nothing of it. It returns the
// types of the events that it emitted as well.
func (c *Chain) Tx(f func(sdk.Context) error) (sdk.Events, error) {
	ctx, write := c.block.CacheContext()
	ctx = ctx.WithEventManager(sdk.NewEventManager()).WithGasMeter(storetypes.NewGasMeter(1 << 40))
	err := f(ctx)
	if err == nil {
		write()
	}
	return ctx.EventManager().Events(), err
}

// Must is Tx for one that is accepted.
func (c *Chain) Must(f func(sdk.Context) error) sdk.Events {
	c.t.Helper()
	events, err := c.Tx(f)
	if err != nil {
		c.t.Fatalf("at height %d: %v", c.height, err)
	}
	return events
}

// Finish ends and commits the block; it returns the events of its end.
func (c *Chain) Finish() sdk.Events {
	c.t.Helper()
	for _, f := range c.End {
		if err := f(c.block); err != nil {
			c.t.Fatalf("end block %d: %v", c.height, err)
		}
	}
	if c.Commit != nil {
		if err := c.Commit(); err != nil {
			c.t.Fatalf("commit block %d: %v", c.height, err)
		}
	}
	c.block.MultiStore().(storetypes.CacheMultiStore).Write()
	c.MS.Commit()
	events := c.block.EventManager().Events()
	c.block = c.newContext()
	return events
}

// Abandon forgets the block that executes, as a crash before the commit does.
func (c *Chain) Abandon() {
	c.height--
	c.block = c.newContext()
}

// Block runs each function as a transaction of one block; all must be accepted. It
// returns the events of the transactions and of the block's end.
func (c *Chain) Block(txs ...func(sdk.Context) error) sdk.Events {
	c.t.Helper()
	var all sdk.Events
	c.Start()
	for _, f := range txs {
		all = append(all, c.Must(f)...)
	}
	return append(all, c.Finish()...)
}

// Dump reads a whole store, for comparing states.
func (c *Chain) Dump(name string) map[string]string {
	out := map[string]string{}
	it := c.block.KVStore(c.keys[name]).Iterator(nil, nil)
	defer it.Close()
	for ; it.Valid(); it.Next() {
		out[hex.EncodeToString(it.Key())] = hex.EncodeToString(it.Value())
	}
	return out
}

// Pair is the key pair with a number; the same number gives the same pair.
func Pair(n int) *identity.KeyPair {
	seed := sha256.Sum256(fmt.Appendf(nil, "pair %d", n))
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// Sign signs with a source of randomness that repeats: tests are reproducible.
func Sign(k *identity.KeyPair, msg []byte) []byte {
	sig, err := k.Sign(rand.New(rand.NewSource(int64(len(msg)))), msg)
	if err != nil {
		panic(err)
	}
	return sig[:]
}

// Account is a 32-byte account address with a number.
func Account(n int) sdk.AccAddress {
	p := Pair(1_000_000 + n).Public()
	return sdk.AccAddress(p[:])
}

// Values returns the values of an event's attribute, in order of the events.
func Values(events sdk.Events, kind, attribute string) []string {
	out := []string{}
	for _, e := range events {
		if e.Type != kind {
			continue
		}
		for _, a := range e.Attributes {
			if a.Key == attribute {
				out = append(out, a.Value)
			}
		}
	}
	return out
}
