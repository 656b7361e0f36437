package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/crypto/commkey"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// A crafted is a command whose parts the test chose, with what opens its answer.
type crafted struct {
	proto.PushedCommand
	cluster proto.ClusterID
	ctx     envelope.Context
	fresh   *commkey.SecretKey
	key     [32]byte // epoch key
}

// A forger makes commands that package client would not.
type forger struct {
	n     *devnet.Net
	node  *rpc.Client
	chain string
	nonce uint64
}

func account(k *identity.KeyPair) []byte { pub := k.Public(); return pub[:] }

// invocation is one of a key's own, that expires in a thousand blocks.
func (f *forger) invocation(ctx context.Context, t *testing.T, by *identity.KeyPair, to proto.ContractID, text string) *proto.Invocation {
	t.Helper()
	input, err := client.Input("SetGreeting", text)
	if err != nil {
		t.Fatal(err)
	}
	f.nonce++
	return &proto.Invocation{From: account(by), To: to, Input: input, Nonce: [16]byte{0: 0xf0, 15: byte(f.nonce)}, GasLimit: client.DefaultGas,
		Expiry: uint64(height(ctx, t, f.node)) + 1000, Scheme: uint8(identity.SchemeSr25519), PublicKey: account(by)}
}

// seal signs an invocation for a cluster and seals it as the command of a payer.
func (f *forger) seal(ctx context.Context, t *testing.T, inv *proto.Invocation, signer *identity.KeyPair, signed, cluster proto.ClusterID, payer []byte, epoch uint64) *crafted {
	t.Helper()
	cl, err := f.n.Client.Cluster(ctx, cluster)
	if err != nil {
		t.Fatal(err)
	}
	tier, _ := proto.TierFor(client.DefaultGas)
	c := &crafted{PushedCommand: proto.PushedCommand{Payer: payer, Epoch: epoch, GasTier: tier}, cluster: cluster, key: cl.EpochKey}
	c.ctx = c.Context(f.chain, cluster)
	sig, err := signer.Sign(rand.Reader, inv.SignedBytes(f.chain, signed))
	if err != nil {
		t.Fatal(err)
	}
	inv.Signature = sig[:]
	if c.fresh, err = commkey.Generate(rand.Reader); err != nil {
		t.Fatal(err)
	}
	if c.Envelope, err = envelope.Seal(rand.Reader, c.ctx, c.fresh, c.key, inv.Marshal()); err != nil {
		t.Fatal(err)
	}
	return c
}

// push has an account pay for an envelope and returns the message's number.
func (f *forger) push(ctx context.Context, by *tx.Sender, c *crafted) (uint64, error) {
	res, err := by.Send(ctx, 200_000+60*uint64(len(c.Envelope)), tx.PushCommand(account(by.Key), uint32(c.cluster), c.Epoch, c.GasTier, c.DepositLimit, c.Envelope))
	if err != nil {
		return 0, err
	}
	s, _ := res.Find("command", "seq")
	return strconv.ParseUint(s, 10, 64)
}

// outcome waits for the final receipt of a message and says how it ended: what its
// answer says, or not_opened when the receipt says that there is none.
func (f *forger) outcome(ctx context.Context, t *testing.T, c *crafted, seq uint64) (status string) {
	t.Helper()
	until(ctx, t, fmt.Sprintf("the outcome of message %d of cluster %s", seq, c.cluster), func() error {
		b, err := f.node.Read(ctx, proto.StoreContracts, proto.KeyCommand(c.cluster, seq))
		if err != nil {
			return err
		}
		rec, err := proto.ParseCommandRecord(b)
		if err != nil {
			return err
		}
		if !rec.Done {
			return errors.New("no final receipt")
		}
		r, err := f.n.Client.Receipt(ctx, c.cluster, rec.Receipt)
		if err != nil {
			return err
		}
		if !r.Receipts[r.Agreed].Items[seq-rec.Receipt].Answered {
			status = proto.StatusNotOpened.String()
			return nil
		}
		outputs, err := f.node.Outputs(ctx, uint32(c.cluster), seq)
		if err != nil || len(outputs) == 0 {
			return fmt.Errorf("no answer, %v", err)
		}
		o, err := proto.ParseSealedOutput(outputs[0])
		if err != nil {
			return err
		}
		reply := c.ctx
		reply.Purpose += "-output"
		plain, err := envelope.OpenReply(reply, c.fresh, c.key, o.Sealed)
		if err != nil {
			return err
		}
		out, err := proto.ParseOutput(plain)
		if err == nil {
			status = out.Status.String()
		}
		return err
	})
	return status
}

// TestHostileClient: what a client can do with commands, its own and those of others.
// Each ends with a typed refusal, of the chain or inside the enclave; none runs what its
// sender may not run, or keeps the command that it copied from running.
func TestHostileClient(t *testing.T) {
	n, _ := startWith(t, devnet.Options{Workers: 2, Seats: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	alice, hello := n.Client.Sender(), n.State().Contracts["hello"]
	if _, err := alice.Send(ctx, 400_000, tx.CreateCluster(account(alice.Key), 1, true)); err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "the second cluster's keys", func() error {
		c, err := n.Client.Cluster(ctx, 2)
		if err == nil && c.EpochKey == [32]byte{} {
			err = errors.New("none")
		}
		return err
	})
	f := &forger{n: n, node: n.Client.Node(), chain: n.State().Chain}
	sender := func(name, money string) *tx.Sender {
		t.Helper()
		key, err := identity.FromURI("//" + name)
		if err != nil {
			t.Fatal(err)
		}
		if money != "" {
			if _, err := alice.Send(ctx, 200_000, tx.Send(account(alice.Key), account(key), money)); err != nil {
				t.Fatal(err)
			}
		}
		return &tx.Sender{Node: f.node, Chain: f.chain, Key: key}
	}
	mallory, poor, nobody := sender("Mallory", "1000000000000"), sender("Poor", "290000000"), sender("Nobody", "") // enough for a fee, not for an escrow
	invoke := func(by *tx.Sender, text string) *proto.Invocation { return f.invocation(ctx, t, by.Key, hello, text) }
	own := func(by *tx.Sender, inv *proto.Invocation) *crafted {
		return f.seal(ctx, t, inv, by.Key, 1, 1, account(by.Key), 1)
	}
	ran := 0
	ends := func(name string, by *tx.Sender, c *crafted, want proto.Status) {
		t.Helper()
		seq, err := f.push(ctx, by, c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := f.outcome(ctx, t, c, seq); got != want.String() {
			t.Errorf("%s: it ended with %s, want %s", name, got, want)
		}
		if want == proto.StatusOK {
			ran++
		}
		if c := count(ctx, t, n); c != uint64(ran) {
			t.Fatalf("%s: %d commands ran, want %d", name, c, ran)
		}
	}
	refused := func(name string, by *tx.Sender, c *crafted, space string, code uint32) {
		t.Helper()
		_, err := f.push(ctx, by, c)
		var r *tx.Refused
		if !errors.As(err, &r) || r.Space != space || r.Code != code {
			t.Errorf("%s: got %v, want %s %d", name, err, space, code)
		}
	}

	first := own(alice, invoke(alice, "first"))
	ends("the honest command", alice, first, proto.StatusOK)
	ends("it is replayed", alice, first, proto.StatusReplayed)
	again := invoke(alice, "again")
	again.Nonce = [16]byte{0: 0xf0, 15: 1}
	ends("its nonce is used again", alice, own(alice, again), proto.StatusReplayed)

	late := invoke(alice, "late")
	late.Expiry = uint64(height(ctx, t, f.node))
	sealedLate := own(alice, late)
	reaches(ctx, t, f.node, int64(late.Expiry)+1)
	ends("it expired", alice, sealedLate, proto.StatusExpired)
	early := invoke(alice, "early")
	early.Expiry += 20_000
	ends("it expires too far ahead", alice, own(alice, early), proto.StatusExpired)

	inv := invoke(alice, "another epoch")
	other := f.seal(ctx, t, inv, alice.Key, 1, 1, account(alice.Key), 2)
	refused("of an epoch that is not", alice, other, "contracts", 5)
	other.Epoch = 1
	ends("sealed for another epoch", alice, other, proto.StatusNotOpened)

	moved := own(alice, invoke(alice, "moved"))
	moved.cluster = 2
	ends("moved to the other cluster", alice, moved, proto.StatusNotOpened)
	inv = invoke(alice, "signed for the other cluster")
	ends("sealed to the other cluster, signed for this one", alice, f.seal(ctx, t, inv, alice.Key, 1, 2, account(alice.Key), 1), proto.StatusBadSignature)
	inv = invoke(alice, "a contract elsewhere")
	ends("to a contract of the other cluster", alice, f.seal(ctx, t, inv, alice.Key, 2, 2, account(alice.Key), 1), proto.StatusNoContract)

	inv = invoke(alice, "as someone else")
	ends("in Alice's name, signed by another", mallory, f.seal(ctx, t, inv, mallory.Key, 1, 1, account(mallory.Key), 1), proto.StatusBadSignature)
	inv = invoke(alice, "as someone else")
	inv.PublicKey = account(mallory.Key)
	ends("in Alice's name, with another's key", mallory, f.seal(ctx, t, inv, mallory.Key, 1, 1, account(mallory.Key), 1), proto.StatusBadSignature)

	// Copies that come before the original, as whoever watches the mempool can have them.
	original := own(alice, invoke(alice, "original"))
	stolen := *original
	ends("copied", mallory, &stolen, proto.StatusNotOpened)
	stolen.GasTier--
	ends("copied with a lower gas limit", mallory, &stolen, proto.StatusNotOpened)
	stolen.GasTier = 0
	ends("with a lower gas limit, by its payer", alice, &stolen, proto.StatusNotOpened)
	ends("the original, after its copies", alice, original, proto.StatusOK)
	greedy := invoke(alice, "greedy")
	greedy.GasLimit = client.DefaultGas + 1
	ends("signed for more gas than was paid", alice, own(alice, greedy), proto.StatusGasLimit)

	refused("without the balance", poor, own(poor, invoke(poor, "poor")), "contracts", 14)
	if _, err := f.push(ctx, nobody, own(nobody, invoke(nobody, "nobody"))); !errors.Is(err, tx.ErrNoAccount) {
		t.Errorf("without an account: %v", err)
	}
	ends("the next honest command", alice, own(alice, invoke(alice, "last")), proto.StatusOK)

	t.Run("a contract misbehaves", func(t *testing.T) { misbehaves(ctx, t, n) })
	t.Run("random bytes", func(t *testing.T) { randomBytes(ctx, t, n) })
	for _, name := range []string{"worker-1", "worker-2", "gatekeeper"} {
		if st := status(ctx, t, n.Private(name)); st.Fatal != "" {
			t.Errorf("%s stopped: %s", name, st.Fatal)
		}
	}
	if c := count(ctx, t, n); c != uint64(ran) {
		t.Errorf("%d commands ran, want %d", c, ran)
	}
}

// misbehaves deploys a contract that does what a contract should not, and calls it.
func misbehaves(ctx context.Context, t *testing.T, n *devnet.Net) {
	wasm := filepath.Join(t.TempDir(), "abuse.wasm")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-buildmode=c-shared", "-ldflags", "-s -w", "-o", wasm, "../../pruntime/engine/testdata/abuse")
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d, err := n.Client.Deploy(ctx, 1, read(t, wasm), []byte("abuse"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, input string
		gas         uint64
		want        proto.Status
	}{
		{"loops for ever", "l", 1 << 24, proto.StatusOutOfGas},
		{"allocates without end", "a", 1 << 33, proto.StatusTrap},
		{"recurses", "r", 1 << 33, proto.StatusTrap},
		{"traps after a write", "w", client.DefaultGas, proto.StatusTrap},
		{"panics in a goroutine", "g", client.DefaultGas, proto.StatusTrap},
		{"waits for ever", "d", client.DefaultGas, proto.StatusTrap},
		{"exits", "x", client.DefaultGas, proto.StatusTrap},
	} {
		p, err := n.Client.Push(ctx, d.Contract, []byte(c.input), client.CallOptions{GasLimit: c.gas})
		if err != nil {
			t.Fatal(err)
		}
		before, err := n.Client.Cluster(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.Client.Wait(ctx, p)
		var ended *client.CallError
		if !errors.As(err, &ended) || ended.Receipt.Status != c.want.String() {
			t.Errorf("a contract that %s: %v, want %s", c.name, err, c.want)
		}
		// The next call finds the contract as it was, and the cluster goes on.
		p, err = n.Client.Push(ctx, d.Contract, []byte("n"), client.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := n.Client.Wait(ctx, p)
		if err != nil {
			t.Fatalf("after a contract that %s: %v", c.name, err)
		}
		if string(r.Return) != "1" {
			t.Errorf("after a contract that %s: %q", c.name, r.Return)
		}
		if after, err := n.Client.Cluster(ctx, 1); err != nil || after.FinalSeq <= before.FinalSeq {
			t.Errorf("after a contract that %s the cluster stands at %d: %v", c.name, after.FinalSeq, err)
		}
	}
	// One that calls itself before it is done is told 23, reentry, and what the inner call
	// wrote is not there.
	script, err := n.Client.Deploy(ctx, 1, enginetest.Script(""), []byte("script"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, input string
		status      []byte // what the call out ended with, in its answer
	}{
		{"calls itself", "k" + string(script.Contract[:]) + "pzv", []byte{23, 0, 0, 0}},
		{"was called by itself and reads", "gz", nil},
	} {
		p, err := n.Client.Push(ctx, script.Contract, []byte(c.input), client.CallOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := n.Client.Wait(ctx, p)
		if err != nil {
			t.Fatalf("a contract that %s: %v", c.name, err)
		}
		if !bytes.Equal(r.Return[min(len(r.Return), 4):min(len(r.Return), 8)], c.status) {
			t.Errorf("a contract that %s: %q", c.name, r.Return)
		}
	}
}

// randomBytes posts garbage to every door of a worker: each is refused with a code.
func randomBytes(ctx context.Context, t *testing.T, n *devnet.Net) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PHALA_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("PHALA_SEED=%d repeats this", seed)
	rng := mrand.NewChaCha8([32]byte(binarySeed(seed)))
	pick := mrand.New(rng)
	before := status(ctx, t, n.Private("worker-1"))
	ports := n.State().Ports
	for _, door := range []struct {
		port         int
		method, path string
		ignored      bool // a code that nobody asked for is passed over
	}{
		{ports.Public[1], "POST", "/v1/query", false}, {ports.Private[1], "POST", "/v1/query", false}, {ports.Private[1], "POST", "/v1/advance", false},
		{ports.Private[1], "POST", "/v1/headers", false}, {ports.Private[1], "POST", "/v1/acknowledge", false},
		{ports.Private[1], "PUT", "/v1/code/00", false}, {ports.Private[1], "PUT", fmt.Sprintf("/v1/code/%064x", 7), true},
	} {
		for range 40 {
			body := make([]byte, pick.IntN(1<<(pick.IntN(14)+1)))
			rng.Read(body)
			req, err := http.NewRequestWithContext(ctx, door.method, fmt.Sprintf("http://127.0.0.1:%d%s", door.port, door.path), bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatalf("%s %s with %d bytes: %v", door.method, door.path, len(body), err)
			}
			var e struct{ Error api.Error }
			err = json.NewDecoder(res.Body).Decode(&e)
			res.Body.Close()
			if door.ignored {
				if err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("%s %s with %d bytes: HTTP %d, %v", door.method, door.path, len(body), res.StatusCode, err)
				}
			} else if err != nil || res.StatusCode == http.StatusOK || e.Error.Code == "" || e.Error.Code == "internal" {
				t.Errorf("%s %s with %d bytes: HTTP %d %q, %v", door.method, door.path, len(body), res.StatusCode, e.Error.Code, err)
			}
		}
	}
	after := status(ctx, t, n.Private("worker-1"))
	if after.Fatal != "" || after.Worker != before.Worker || after.TrustedHeight < before.TrustedHeight || after.Seq != before.Seq || !after.Serving {
		t.Errorf("before:\n%+v\nafter:\n%+v", before, after)
	}
}

func binarySeed(seed uint64) []byte {
	b := make([]byte, 32)
	for i := range 8 {
		b[i] = byte(seed >> (8 * i))
	}
	return b
}
