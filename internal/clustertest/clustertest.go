// Package clustertest runs one cluster without a chain, for tests of a whole command:
// sealed and signed by its caller, ordered, opened, run, committed, answered. All keys
// and all randomness are derived from fixed seeds, so two worlds that do the same are
// the same, byte for byte.
package clustertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/contract"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/crypto/transcript"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/inbox"
)

const (
	chain = "test-1"
	id    = proto.ClusterID(1)
	epoch = 1
)

// Module builds the Go contract in dir, as phala build does.
func Module(t testing.TB, dir string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to build a contract with")
	}
	out := filepath.Join(t.TempDir(), "contract.wasm")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOWASM=", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the contract in %s: %v\n%s", dir, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Prepare makes a module ready in an engine of its own, which keeps compiled code in
// cache unless that is empty.
func Prepare(t testing.TB, module []byte, cache string) *engine.Program {
	t.Helper()
	e, err := engine.New(cache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p, err := e.Prepare(context.Background(), module)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var known = engine.Known()

// programs are of the newest rules, and stand for every version: the numbers of the one
// code here are the newest's from the first command on.
type programs map[proto.Hash]*engine.Program

func (p programs) Program(h proto.Hash, _ uint32) (*engine.Program, error) { return p[h], nil }

func (p programs) Rules(uint32) *engine.Rules { return &known[len(known)-1] }

// A World is a cluster with one code, on a chain that consists of its topic. It is for
// one goroutine. Each command is a block of its own.
type World struct {
	Height   uint64
	Contract proto.ContractID // the last one deployed
	Gas      uint64           // limit of a command; at first the client's usual one

	t       testing.TB
	cluster *cluster.Cluster
	code    proto.Hash
	image   proto.Hash
	key     *commkey.SecretKey
	cursor  proto.Cursor
	nonce   uint64
	rng     *rand.ChaCha8
}

// New returns a world at height 100.
func New(t testing.TB, p *engine.Program) *World {
	t.Helper()
	key, blind, err := cluster.EpochKey([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	keys := cluster.Keys{Stable: [32]byte{1}, Opener: cluster.Secrets{epoch: key}, Blind: map[uint64][32]byte{epoch: blind}}
	rng := rand.NewChaCha8([32]byte{5})
	return &World{Height: 100, Gas: client.DefaultGas, t: t, cluster: cluster.New(chain, id, keys, programs{p.Hash(): p}, rng), code: p.Hash(), image: p.ImageHash(),
		key: key, cursor: proto.CreatedCursor(chain, proto.TopicCluster(id)), rng: rng}
}

func key(name string) *identity.KeyPair {
	seed := transcript.Hash("clustertest/account", []byte(name))
	k, err := identity.FromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// Account returns the account of a name.
func Account(name string) contract.Account {
	pub := key(name).Public()
	return contract.Account(pub[:])
}

// AllowHTTP lets queries make requests.
func (w *World) AllowHTTP(f cluster.Fetcher) { w.cluster.AllowHTTP(f) }

// Root is the state root.
func (w *World) Root() proto.Hash { return w.cluster.Snapshot().Root() }

// A Seen is a finished command: what its caller gets, and what everybody sees.
type Seen struct {
	proto.Output       // the caller alone
	Envelope     int   // bytes pushed to the chain
	Tier         uint8 // paid for
	Receipt      int   // bytes signed by the seats
	Bucket       uint8 // of gas, in the receipt
	Sealed       int   // bytes of the sealed answer
	item         proto.ReceiptItem
}

// Public is what the receipt says of the command to everybody.
func (s *Seen) Public() string { return fmt.Sprintf("%+v", s.item) }

// Deploy makes a new contract of the code.
func (w *World) Deploy(by string, arg any) *Seen {
	w.t.Helper()
	w.nonce++
	deployer := Account(by)
	w.Contract = proto.NewContractID(chain, id, []byte(deployer), w.code, fmt.Append(nil, w.nonce))
	input, err := client.Input("Init", arg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(by, input, &proto.Instantiated{Contract: w.Contract, Deployer: []byte(deployer), Code: w.code, Image: w.image})
}

// Call runs a command.
func (w *World) Call(by, method string, arg any) *Seen {
	w.t.Helper()
	input, err := client.Input(method, arg)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Input(by, input)
}

// Input runs a command with any input.
func (w *World) Input(by string, input []byte) *Seen {
	w.t.Helper()
	w.nonce++
	return w.run(by, input, nil)
}

// run runs a command, or the constructor of inst.
func (w *World) run(by string, input []byte, inst *proto.Instantiated) *Seen {
	w.t.Helper()
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	tier, ok := proto.TierFor(w.Gas)
	if !ok {
		w.t.Fatalf("no tier holds %d gas", w.Gas)
	}
	cmd := proto.PushedCommand{Payer: []byte("somebody"), Epoch: epoch, GasTier: tier, DepositLimit: client.DefaultDeposit}
	ctx := cmd.Context(chain, id)
	if inst != nil {
		inst.Command = cmd
		ctx = inst.Context(chain, id)
	}
	signer := key(by)
	pub := signer.Public()
	inv := proto.Invocation{From: pub[:], To: w.Contract, Input: input, GasLimit: w.Gas, DepositLimit: client.DefaultDeposit, Expiry: w.Height + 100, Scheme: uint8(identity.SchemeSr25519), PublicKey: pub[:]}
	binary.BigEndian.PutUint64(inv.Nonce[:], w.nonce)
	sig, err := signer.Sign(w.rng, inv.SignedBytes(chain, id))
	must(err)
	inv.Signature = sig[:]
	fresh, err := commkey.Generate(w.rng)
	must(err)
	cmd.Envelope, err = envelope.Seal(w.rng, ctx, fresh, w.key.Public(), inv.Marshal())
	must(err)

	var e proto.Event = cmd
	if inst != nil {
		inst.Command = cmd
		e = *inst
	}
	m := &proto.Message{Topic: proto.TopicCluster(id), Seq: w.cursor.Seq + 1, Height: w.Height, Time: w.time(), Sender: []byte("sender"), Payload: proto.MarshalEvent(e)}
	w.cursor = w.cursor.Fold(m)
	res, err := w.cluster.Apply(context.Background(), []inbox.Item{{Height: m.Height, Time: m.Time, Message: m, Event: e, Cursor: w.cursor}})
	must(err)
	w.Height++
	if len(res.Outputs) != 1 {
		w.t.Fatalf("%d answers to one command", len(res.Outputs))
	}
	ctx.Purpose += "-output"
	plain, err := envelope.OpenReply(ctx, fresh, w.key.Public(), res.Outputs[0].Sealed)
	must(err)
	out, err := proto.ParseOutput(plain)
	must(err)
	return &Seen{Output: *out, Envelope: len(cmd.Envelope), Tier: tier, Receipt: len(proto.MarshalEntry(res.Receipt)), Bucket: res.Receipt.Items[0].GasBucket, Sealed: len(res.Outputs[0].Sealed), item: res.Receipt.Items[0]}
}

func (w *World) time() uint64 { return 1_700_000_000_000 + w.Height*6000 }

// Query asks on the last state.
func (w *World) Query(by, method string, arg any) ([]byte, error) {
	w.t.Helper()
	input, err := client.Input(method, arg)
	if err != nil {
		w.t.Fatal(err)
	}
	q := &proto.Query{To: w.Contract, Input: input}
	if by != "" {
		q.From = []byte(Account(by))
	}
	status, out, _, detail, err := w.cluster.Query(context.Background(), w.cluster.Snapshot(), q, w.Height, w.time())
	if err == nil && status != proto.StatusOK {
		err = errors.New(status.String() + ": " + detail)
	}
	return out, err
}
