package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"sync"
	"testing"

	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/merkle"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
	"github.com/phala-go/phala/pruntime/inbox"
)

const (
	chain = "test-1"
	home  = proto.ClusterID(1)
	epoch = uint64(1)
	tier  = uint8(4) // 16 Mi gas
)

// Gas of version 1 beside the contract's.
const (
	gasOpen   = 150_000
	gasRevoke = 100_000
)

var known = engine.Known()

// programs are those of version 1.
type programs map[proto.Hash]*engine.Program

func (p programs) Program(h proto.Hash, rules uint32) (*engine.Program, error) {
	if rules != 1 {
		return nil, nil
	}
	return p[h], nil
}

func (p programs) Rules(version uint32) *engine.Rules {
	if version != 1 {
		return nil
	}
	return &known[0]
}

var shared struct {
	sync.Once
	p   *engine.Program
	err error
}

// script is the prepared contract of package enginetest.
func script(t testing.TB) *engine.Program {
	t.Helper()
	shared.Do(func() {
		e, err := engine.New("")
		if err != nil {
			shared.err = err
			return
		}
		shared.p, shared.err = e.Prepare(context.Background(), enginetest.Script(""))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.p
}

// An account signs.
type account struct {
	*identity.KeyPair
	id []byte
}

func newAccount(name string) account {
	seed := transcript.Hash("test account", []byte(name))
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	pub := k.Public()
	return account{k, pub[:]}
}

// A world is a cluster on a chain that consists of its topic.
type world struct {
	t       testing.TB
	id      proto.ClusterID
	c       *Cluster
	epoch   *commkey.SecretKey
	cursor  proto.Cursor
	height  uint64
	items   []inbox.Item // of the height that is being made
	alice   account
	bob     account
	code    proto.Hash
	target  proto.ContractID
	nonce   uint64
	pending []*command
	history [][]inbox.Item
	rng     io.Reader // of the callers
}

func testKeys(t testing.TB) (Keys, *commkey.SecretKey) {
	t.Helper()
	key, blind, err := EpochKey([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	return Keys{Stable: [32]byte{1}, Opener: Secrets{epoch: key}, Blind: map[uint64][32]byte{epoch: blind}}, key
}

// newWorld is a cluster without contracts at height 100.
func newWorld(t testing.TB, id proto.ClusterID) *world {
	keys, key := testKeys(t)
	w := &world{t: t, id: id, rng: rand.Reader, epoch: key, height: 100, cursor: proto.CreatedCursor(chain, proto.TopicCluster(id)),
		alice: newAccount("alice"), bob: newAccount("bob"), code: script(t).Hash()}
	w.c = New(chain, id, keys, programs{w.code: script(t)}, rand.Reader)
	return w
}

// ready is a world with the contract instantiated by alice.
func ready(t testing.TB) *world {
	w := newWorld(t, home)
	w.instantiate(nil)
	if out := w.run()[0]; out.Status != proto.StatusOK {
		t.Fatalf("the constructor ends with %s: %s", out.Status, out.Error)
	}
	return w
}

// A command is one on its way: what was signed, sealed and pushed, and the key that
// opens its answer.
type command struct {
	inv      proto.Invocation
	signer   account
	fresh    *commkey.SecretKey
	ctx      envelope.Context // in which it is sealed
	to       *commkey.SecretKey
	chain    string          // for which it is signed
	cluster  proto.ClusterID // likewise
	plain    []byte          // sealed instead of the invocation
	pushed   proto.PushedCommand
	inst     *proto.Instantiated
	envelope []byte // pushed instead of a new one
}

// command makes a good command of alice to the contract; edit changes it before it is
// signed.
func (w *world) command(input string, edit ...func(*command)) *command {
	w.nonce++
	fresh, err := commkey.Generate(w.rng)
	if err != nil {
		w.t.Fatal(err)
	}
	c := &command{signer: w.alice, fresh: fresh, to: w.epoch, chain: chain, cluster: w.id,
		inv:    proto.Invocation{From: w.alice.id, To: w.target, Input: []byte(input), GasLimit: 10 << 20, DepositLimit: 1 << 30, Expiry: w.height + 100, Scheme: uint8(identity.SchemeSr25519), PublicKey: w.alice.id},
		pushed: proto.PushedCommand{Payer: w.alice.id, Epoch: epoch, GasTier: tier, DepositLimit: 1 << 30}}
	binary.BigEndian.PutUint64(c.inv.Nonce[:], w.nonce)
	c.ctx = c.pushed.Context(chain, w.id)
	for _, f := range edit {
		f(c)
	}
	return c
}

func (w *world) seal(c *command) []byte {
	if c.envelope != nil {
		return c.envelope
	}
	if c.inv.Signature == nil {
		sig, err := c.signer.Sign(w.rng, c.inv.SignedBytes(c.chain, c.cluster))
		if err != nil {
			w.t.Fatal(err)
		}
		c.inv.Signature = sig[:]
	}
	if c.plain == nil {
		c.plain = c.inv.Marshal()
	}
	env, err := envelope.Seal(w.rng, c.ctx, c.fresh, c.to.Public(), c.plain)
	if err != nil {
		w.t.Fatal(err)
	}
	return env
}

// push puts a command into the next block.
func (w *world) push(c *command) *command {
	c.pushed.Envelope = w.seal(c)
	w.pending = append(w.pending, c)
	if c.inst != nil {
		c.inst.Command = c.pushed
		w.message(*c.inst)
	} else {
		w.message(c.pushed)
	}
	return c
}

// instantiate pushes a constructor of a new contract by alice.
func (w *world) instantiate(edit func(*command)) *command {
	w.nonce++
	id := proto.NewContractID(chain, w.id, w.alice.id, w.code, fmt.Append(nil, w.nonce))
	c := w.command("pi1", func(c *command) {
		c.inst = &proto.Instantiated{Contract: id, Deployer: w.alice.id, Code: w.code, Image: script(w.t).ImageHash()}
		c.inv.To = id
		c.inst.Command = c.pushed
		c.ctx = c.inst.Context(chain, w.id)
		if edit != nil {
			edit(c)
		}
	})
	w.target = id
	return w.push(c)
}

// message puts an event into the next block.
func (w *world) message(e proto.Event) {
	m := &proto.Message{Topic: proto.TopicCluster(w.id), Seq: w.cursor.Seq + 1, Height: w.height, Time: 1_700_000_000_000 + w.height*1000, Sender: []byte("sender"), Payload: proto.MarshalEvent(e)}
	w.cursor = w.cursor.Fold(m)
	w.items = append(w.items, inbox.Item{Height: m.Height, Time: m.Time, Message: m, Event: e, Cursor: w.cursor})
}

// block ends the block and applies it.
func (w *world) block() *Result {
	w.t.Helper()
	res, err := w.c.Apply(context.Background(), w.items)
	if err != nil {
		w.t.Fatalf("height %d: %v", w.height, err)
	}
	w.history = append(w.history, w.items)
	w.items, w.height = nil, w.height+1
	return res
}

// run ends the block and opens the answers of its commands, in order; nil for one that
// got none.
func (w *world) run() []*proto.Output {
	w.t.Helper()
	first := w.items[0].Message.Seq
	bySeq := map[uint64]int{}
	n := 0
	for _, it := range w.items {
		if _, ok := it.Event.(proto.PushedCommand); !ok {
			if _, ok := it.Event.(proto.Instantiated); !ok {
				continue
			}
		}
		bySeq[it.Message.Seq] = n
		n++
	}
	cmds := w.pending
	w.pending = nil
	res := w.block()
	if res.Receipt.FromSeq != first {
		w.t.Fatalf("the receipt begins at %d, the block at %d", res.Receipt.FromSeq, first)
	}
	outs := make([]*proto.Output, len(cmds))
	for i := range res.Outputs {
		s := &res.Outputs[i]
		c := cmds[bySeq[s.Seq]]
		outs[bySeq[s.Seq]] = w.open(c, s, &res.Receipt)
	}
	return outs
}

// open opens an answer as its caller does and checks that the receipt holds it.
func (w *world) open(c *command, s *proto.SealedOutput, r *proto.Receipt) *proto.Output {
	w.t.Helper()
	ctx := c.ctx
	ctx.Purpose += "-output"
	plain, err := envelope.OpenReply(ctx, c.fresh, c.to.Public(), s.Sealed)
	if err != nil {
		w.t.Fatalf("answer to message %d: %v", s.Seq, err)
	}
	out, err := proto.ParseOutput(plain)
	if err != nil {
		w.t.Fatalf("answer to message %d: %v", s.Seq, err)
	}
	leaf := proto.ReceiptLeaf(out.Commitment(), s.Events)
	var proof [][32]byte
	for _, h := range s.Proof {
		proof = append(proof, h)
	}
	if out.Seq != s.Seq || s.Seq != r.FromSeq+uint64(s.Index) || int(s.Count) != len(r.Items) ||
		!merkle.Verify(r.Outputs, leaf[:], int(s.Index), int(s.Count), proof) {
		w.t.Fatalf("the answer to message %d is not in the receipt", s.Seq)
	}
	if out.GasBucket != r.Items[s.Index].GasBucket || out.GasBucket != proto.BucketOf(out.GasUsed) {
		w.t.Fatalf("message %d: gas %d, bucket %d, in the receipt %d", s.Seq, out.GasUsed, out.GasBucket, r.Items[s.Index].GasBucket)
	}
	return out
}

// one pushes a command, ends the block and returns its answer.
func (w *world) one(c *command) *proto.Output {
	w.t.Helper()
	w.push(c)
	return w.run()[len(w.pending)]
}

// wantStatus fails the test unless out has the status, and says something with a bad one.
func wantStatus(t testing.TB, what string, out *proto.Output, want proto.Status) {
	t.Helper()
	if out == nil {
		t.Fatalf("%s: no answer, want %s", what, want)
	}
	if out.Status != want || (want == proto.StatusOK) != (out.Error == "") {
		t.Fatalf("%s: ends with %s %q, want %s", what, out.Status, out.Error, want)
	}
}

// query asks on the last committed state.
func (w *world) query(to proto.ContractID, input string) (proto.Status, string) {
	w.t.Helper()
	status, out, _, _, err := w.c.Query(context.Background(), w.c.Snapshot(), &proto.Query{To: to, Input: []byte(input), GasLimit: 1 << 30, From: w.bob.id}, w.height, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return status, string(out)
}

// stored is the value of a key of the contract, as a query sees it.
func (w *world) stored(key string) string {
	w.t.Helper()
	status, out := w.query(w.target, "g"+key)
	if status != proto.StatusOK {
		w.t.Fatalf("query: %s", status)
	}
	return out
}

// replica is another replica that processed the same.
func (w *world) replica(rng io.Reader) *Cluster {
	keys, _ := testKeys(w.t)
	c := New(chain, w.id, keys, programs{w.code: script(w.t)}, rng)
	for _, items := range w.history {
		if _, err := c.Apply(context.Background(), items); err != nil {
			w.t.Fatal(err)
		}
	}
	return c
}

func sameReceipt(a, b *Result) bool {
	return bytes.Equal(proto.MarshalEntry(a.Receipt), proto.MarshalEntry(b.Receipt))
}

// secretKey shortens the tests.
type secretKey = commkey.SecretKey

func seeded(seed uint64) *mrand.Rand { return mrand.New(mrand.NewPCG(seed, 1)) }
