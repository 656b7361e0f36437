package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/crypto/identity"
	"github.com/phala-go/phala/proto"
)

func TestCommand(t *testing.T) {
	w := ready(t)
	out := w.one(w.command("pkvalue"))
	wantStatus(t, "put", out, proto.StatusOK)
	if out.Height != w.height-1 || out.GasUsed <= gasOpen || out.GasUsed > 10<<20 || w.stored("k") != "value" {
		t.Errorf("answer %+v, stored %q", out, w.stored("k"))
	}
	out = w.one(w.command("ehello"))
	if string(out.Return) != "hello" {
		t.Errorf("answer %q", out.Return)
	}
	out = w.one(w.command("c", func(c *command) { c.inv.From, c.inv.PublicKey, c.signer = w.bob.id, w.bob.id, w.bob }))
	wantStatus(t, "another account, paid for by alice", out, proto.StatusOK)
	if !bytes.Equal(out.Return, w.bob.id) {
		t.Errorf("the contract was called by %x", out.Return)
	}
}

// TestStatuses has a case for each status that a command can end with, and says
// whether the nonce is used up by it.
func TestStatuses(t *testing.T) {
	big := func(n string) string { return "b" + n }
	for _, c := range []struct {
		name   string
		status proto.Status
		used   bool // the nonce
		opened bool // so that the caller gets an answer
		input  string
		edit   func(w *world, c *command)
	}{
		{"good", proto.StatusOK, true, true, "ehi", nil},
		{"contract refuses", proto.StatusContractError, true, true, "f", nil},
		{"contract traps", proto.StatusTrap, true, true, "t", nil},
		{"out of gas", proto.StatusOutOfGas, true, true, "l", nil},
		{"recursion", proto.StatusDepth, true, true, "d", nil},
		{"answer too large", proto.StatusOutputTooLarge, true, true, big("\x01\x00\x04\x00"), nil},
		{"no gas to run", proto.StatusOutOfGas, true, true, "e", func(_ *world, c *command) { c.inv.GasLimit = gasOpen }},
		{"largest gas limit of the tier", proto.StatusOK, true, true, "e", func(_ *world, c *command) { c.inv.GasLimit = proto.TierGas(tier) }},
		{"last height", proto.StatusOK, true, true, "e", func(w *world, c *command) { c.inv.Expiry = w.height }},
		{"furthest expiry", proto.StatusOK, true, true, "e", func(w *world, c *command) { c.inv.Expiry = w.height + MaxExpiry }},

		{"expired", proto.StatusExpired, false, true, "e", func(w *world, c *command) { c.inv.Expiry = w.height - 1 }},
		{"expiry too far", proto.StatusExpired, false, true, "e", func(w *world, c *command) { c.inv.Expiry = w.height + MaxExpiry + 1 }},
		{"expiry at the end of numbers", proto.StatusExpired, false, true, "e", func(_ *world, c *command) { c.inv.Expiry = 1<<64 - 1 }},
		{"wrong epoch", proto.StatusWrongEpoch, false, false, "e", func(w *world, c *command) {
			c.pushed.Epoch = epoch + 1
			c.ctx = c.pushed.Context(chain, w.id)
		}},
		{"sealed to another key", proto.StatusNotOpened, false, false, "e", func(w *world, c *command) { c.to = mustKey(w, 9) }},
		{"random bytes", proto.StatusNotOpened, false, false, "e", func(w *world, c *command) {
			c.envelope = append([]byte{1}, bytes.Repeat([]byte{0x42}, 400)...)
		}},
		{"no envelope", proto.StatusNotOpened, false, false, "e", func(w *world, c *command) { c.envelope = []byte{} }},
		{"not an invocation", proto.StatusMalformed, false, true, "e", func(_ *world, c *command) { c.plain = []byte("hello") }},
		{"invocation with a tail", proto.StatusMalformed, false, true, "e", func(w *world, c *command) { c.plain = append(c.inv.Marshal(), 0) }},
		{"nothing sealed", proto.StatusMalformed, false, true, "e", func(w *world, c *command) { c.plain = []byte{} }},
		{"signed for another chain", proto.StatusBadSignature, false, true, "e", func(_ *world, c *command) { c.chain = "test-2" }},
		{"signed for another cluster", proto.StatusBadSignature, false, true, "e", func(_ *world, c *command) { c.cluster++ }},
		{"signed as someone else", proto.StatusBadSignature, false, true, "e", func(w *world, c *command) { c.inv.From = w.bob.id }},
		{"someone else's key", proto.StatusBadSignature, false, true, "e", func(w *world, c *command) { c.inv.From, c.inv.PublicKey = w.bob.id, w.bob.id }},
		{"edited after signing", proto.StatusBadSignature, false, true, "e", func(w *world, c *command) {
			w.seal(c)
			c.plain, c.inv.Input = nil, []byte("pk2")
		}},
		{"unknown scheme", proto.StatusBadSignature, false, true, "e", func(_ *world, c *command) { c.inv.Scheme = 9 }},
		{"no signature", proto.StatusBadSignature, false, true, "e", func(_ *world, c *command) { c.inv.Signature = []byte{} }},
		{"no such contract", proto.StatusNoContract, false, true, "e", func(_ *world, c *command) { c.inv.To[5] ^= 1 }},
		{"gas limit above the tier", proto.StatusGasLimit, false, true, "e", func(_ *world, c *command) { c.inv.GasLimit = proto.TierGas(tier) + 1 }},
		{"gas limit below opening", proto.StatusGasLimit, false, true, "e", func(_ *world, c *command) { c.inv.GasLimit = gasOpen - 1 }},
		{"deposit limit not paid for", proto.StatusDepositLimit, false, true, "e", func(_ *world, c *command) { c.inv.DepositLimit = 1 }},
		{"after one that has not run", proto.StatusOutOfOrder, false, true, "e", func(_ *world, c *command) { c.inv.After = [16]byte{0xee} }},
		{"after itself", proto.StatusOutOfOrder, false, true, "e", func(_ *world, c *command) { c.inv.After = c.inv.Nonce }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ready(t)
			before := w.c.Snapshot()
			cmd := w.command(c.input)
			if c.edit != nil {
				c.edit(w, cmd)
			}
			nonce := cmd.inv.Nonce
			w.push(cmd)
			items := w.items
			out := w.run()[0]
			if !c.opened {
				if out != nil {
					t.Fatalf("there is an answer: %+v", out)
				}
			} else {
				wantStatus(t, c.name, out, c.status)
				if c.status != proto.StatusOK && len(out.Return) != 0 {
					t.Errorf("a failed command returns %q", out.Return)
				}
				if out.GasUsed < gasOpen || out.GasUsed > max(cmd.inv.GasLimit, gasOpen) {
					t.Errorf("gas used: %d", out.GasUsed)
				}
			}
			if w.stored("\x00") != "" || w.stored("n") != "" || w.stored("k") != "" {
				t.Error("something is stored")
			}
			// The same nonce again, in a good command: it runs exactly when the first one did not.
			again := w.one(w.command("n", func(c *command) { c.inv.Nonce = nonce }))
			if c.used {
				wantStatus(t, "the nonce again", again, proto.StatusReplayed)
			} else {
				wantStatus(t, "the nonce again", again, proto.StatusOK)
			}
			// What was refused early changed nothing but the position.
			if !c.used {
				keys, _ := testKeys(t)
				r := New(chain, home, keys, programs{w.code: script(t)}, rand.Reader)
				r.state.Store(before)
				if _, err := r.Apply(context.Background(), items); err != nil {
					t.Fatal(err)
				}
				if want := before.m.Set(keyCursor, items[len(items)-1].Cursor.Marshal()).Root(); r.Snapshot().Root() != want {
					t.Error("a refused command changed more than the position")
				}
			}
		})
	}
}

func mustKey(w *world, n byte) *secretKey {
	k, _, err := EpochKey([32]byte{n})
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

// TestMovedEnvelope: a ciphertext opens in the place that it was sealed for and nowhere
// else, even where the key is the same.
func TestMovedEnvelope(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(w *world, c *command) // what is pushed; c.ctx is the place that it was sealed for
	}{
		{"from another cluster", func(w *world, c *command) { c.ctx = c.pushed.Context(chain, w.id+1) }},
		{"from another chain", func(w *world, c *command) { c.ctx = c.pushed.Context("test-2", w.id) }},
		{"copied by another payer", func(w *world, c *command) { c.pushed.Payer = []byte("mallory") }},
		{"under a lower gas tier", func(w *world, c *command) { c.pushed.GasTier-- }},
		{"under a higher gas tier", func(w *world, c *command) { c.pushed.GasTier++ }},
		{"under another deposit limit", func(w *world, c *command) { c.pushed.DepositLimit = 1 }},
		{"from another epoch", func(w *world, c *command) { c.ctx.Epoch++ }},
		{"a constructor as a command", func(w *world, c *command) {
			inst := proto.Instantiated{Contract: w.target, Deployer: w.alice.id, Code: w.code, Command: c.pushed}
			c.ctx = inst.Context(chain, w.id)
		}},
		{"a command as a constructor", func(w *world, c *command) {
			c.inst = &proto.Instantiated{Contract: proto.ContractID{9}, Deployer: w.alice.id, Code: w.code}
		}},
		{"a query as a command", func(w *world, c *command) { c.ctx = proto.QueryContext(chain) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ready(t)
			cmd := w.command("pkmoved")
			c.edit(w, cmd)
			w.push(cmd)
			res := w.block()
			if len(res.Outputs) != 0 || res.Receipt.Items[0].Answered || res.Receipt.Items[0].GasBucket != proto.BucketOf(gasOpen) || w.stored("k") != "" {
				t.Errorf("%d answers, gas bucket %d, stored %q", len(res.Outputs), res.Receipt.Items[0].GasBucket, w.stored("k"))
			}
		})
	}
}

// TestReplay: the same bytes pushed again, by anyone, at once or later, run once.
func TestReplay(t *testing.T) {
	w := ready(t)
	c := w.push(w.command("n"))
	w.push(&command{envelope: c.pushed.Envelope, pushed: c.pushed, ctx: c.ctx, fresh: c.fresh, to: c.to})
	outs := w.run()
	wantStatus(t, "first", outs[0], proto.StatusOK)
	wantStatus(t, "in the same block", outs[1], proto.StatusReplayed)
	c.envelope = c.pushed.Envelope
	wantStatus(t, "later", w.one(c), proto.StatusReplayed)
	// Bob pays for a copy: it opens for no payer but the one that it was sealed with.
	c.pushed.Payer = w.bob.id
	w.push(c)
	if res := w.block(); len(res.Outputs) != 0 || res.Receipt.Items[0].Answered {
		t.Errorf("a copy that bob pays for has %d answers", len(res.Outputs))
	}
	w.pending, c.pushed.Payer = nil, w.alice.id
	if w.stored("n") != "\x01" {
		t.Errorf("it ran %x times", w.stored("n"))
	}
	// Another account may use the same nonce.
	other := w.command("n", func(d *command) {
		d.inv.Nonce, d.inv.From, d.inv.PublicKey, d.signer = c.inv.Nonce, w.bob.id, w.bob.id, w.bob
	})
	wantStatus(t, "another account's nonce", w.one(other), proto.StatusOK)
	// Past its expiry the nonce is forgotten, and the command expired.
	size := w.c.Snapshot().m.Len()
	w.height = c.inv.Expiry
	wantStatus(t, "at its last height", w.one(c), proto.StatusReplayed)
	w.height = c.inv.Expiry + 1
	wantStatus(t, "after it", w.one(c), proto.StatusExpired)
	if got := w.c.Snapshot().m.Len(); got >= size-2 {
		t.Errorf("%d entries before, %d after the nonces expired", size, got)
	}
	if w.stored("n") != "\x02" {
		t.Errorf("it ran %x times", w.stored("n"))
	}
}

// TestNoncesAreForgotten: after all expiries the state is as large as before the first
// command.
func TestNoncesAreForgotten(t *testing.T) {
	w := ready(t)
	w.height += 200
	w.message(proto.EpochStarted{Cluster: w.id, Epoch: epoch})
	w.block()
	empty := w.c.Snapshot().m.Len()
	for i := range uint64(30) {
		w.push(w.command("e", func(c *command) { c.inv.Expiry = w.height + 5 + i%7 }))
	}
	w.run()
	if got := w.c.Snapshot().m.Len(); got != empty+2*30 {
		t.Fatalf("%d entries with 30 nonces, %d without", got, empty)
	}
	base := w.height - 1
	for i := range uint64(10) {
		w.height = base + 3 + i
		w.message(proto.EpochStarted{Cluster: w.id, Epoch: epoch})
		w.block()
		left := 0
		for j := range uint64(30) {
			if base+5+j%7 >= base+3+i {
				left++
			}
		}
		if got := w.c.Snapshot().m.Len(); got != empty+2*left {
			t.Errorf("at height +%d: %d entries, want %d nonces", 3+i, got-empty, left)
		}
	}
}

// TestAfter: a command that comes after another one runs once that one has, whatever it
// ended with, and its refusal does not use up the nonce.
func TestAfter(t *testing.T) {
	w := ready(t)
	first, second := w.command("t"), w.command("n")
	second.inv.After = first.inv.Nonce
	wantStatus(t, "too early", w.one(second), proto.StatusOutOfOrder)
	w.push(second)
	w.push(first)
	outs := w.run()
	wantStatus(t, "second before first in one block", outs[0], proto.StatusOutOfOrder)
	wantStatus(t, "first", outs[1], proto.StatusTrap)
	wantStatus(t, "second after first", w.one(second), proto.StatusOK)
	// Somebody else's nonce is not what it comes after.
	other := w.command("n", func(c *command) {
		c.inv.From, c.inv.PublicKey, c.signer, c.inv.After = w.bob.id, w.bob.id, w.bob, first.inv.Nonce
	})
	wantStatus(t, "after another account's", w.one(other), proto.StatusOutOfOrder)
}

// TestRollback: what fails leaves nothing, also when commands around it succeed.
func TestRollback(t *testing.T) {
	w := ready(t)
	for _, op := range []string{"n", "t", "n", "f", "n", "l", "d"} {
		w.push(w.command(op))
	}
	outs := w.run()
	for i, want := range []proto.Status{proto.StatusOK, proto.StatusTrap, proto.StatusOK, proto.StatusContractError, proto.StatusOK, proto.StatusOutOfGas, proto.StatusDepth} {
		wantStatus(t, fmt.Sprint("command ", i), outs[i], want)
	}
	if w.stored("n") != "\x03" || w.stored("no!") != "" {
		t.Errorf("counter %x, what the failed ones wrote: %q", w.stored("n"), w.stored("no!"))
	}
	if e := outs[3].Error; e != "no! (code 7)" {
		t.Errorf("the refusal says %q", e)
	}
}

// TestLongRefusal: an answer with the longest message that a contract can give is one
// that its caller can read.
func TestLongRefusal(t *testing.T) {
	w := ready(t)
	out := w.one(w.command("F")) // open fails the test when it does not parse
	wantStatus(t, "long refusal", out, proto.StatusContractError)
	if len(out.Error) > proto.MaxError || !strings.HasSuffix(out.Error, "(code 7)") {
		t.Errorf("%d bytes, ending in %q", len(out.Error), out.Error[max(0, len(out.Error)-20):])
	}
}

func TestInstantiate(t *testing.T) {
	t.Run("good", func(t *testing.T) {
		w := ready(t)
		if w.stored("i") != "1" {
			t.Error("the constructor wrote nothing")
		}
		if codes := w.c.Snapshot().Codes(); len(codes) != 1 || codes[0] != w.code {
			t.Errorf("codes: %v", codes)
		}
	})
	t.Run("twice", func(t *testing.T) {
		w := newWorld(t, home)
		c := w.instantiate(nil)
		w.run()
		for range 2 {
			// The same deployment, with a nonce of its own.
			d := w.command("pi2", func(d *command) { d.inst, d.ctx, d.inv.To = c.inst, c.ctx, c.inv.To })
			w.push(d)
			if res := w.block(); len(res.Outputs) != 0 || res.Receipt.Items[0].GasBucket == 0 {
				t.Errorf("%d answers", len(res.Outputs))
			}
			w.pending, c.pushed.Payer = nil, w.alice.id
		}
		if w.stored("i") != "1" {
			t.Errorf("stored %q", w.stored("i"))
		}
	})
	t.Run("in one block with its first command", func(t *testing.T) {
		w := newWorld(t, home)
		w.instantiate(nil)
		w.push(w.command("gi"))
		outs := w.run()
		if string(outs[1].Return) != "1" {
			t.Errorf("the command got %+v", outs[1])
		}
	})
	for _, c := range []struct {
		name   string
		status proto.Status
		edit   func(w *world, c *command)
	}{
		{"constructor traps", proto.StatusTrap, func(_ *world, c *command) { c.inv.Input = []byte("t") }},
		{"constructor refuses", proto.StatusContractError, func(_ *world, c *command) { c.inv.Input = []byte("f") }},
		{"constructor signed for another contract", proto.StatusBadSignature, func(_ *world, c *command) { c.inv.To[0] ^= 1 }},
		{"constructor signed by another account", proto.StatusBadSignature, func(w *world, c *command) {
			c.inv.From, c.inv.PublicKey, c.signer = w.bob.id, w.bob.id, w.bob
		}},
		{"constructor expired", proto.StatusExpired, func(w *world, c *command) { c.inv.Expiry = w.height - 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, home)
			w.instantiate(func(d *command) { c.edit(w, d) })
			wantStatus(t, c.name, w.run()[0], c.status)
			if status, _ := w.query(w.target, "gi"); status != proto.StatusNoContract {
				t.Errorf("a query answers %s", status)
			}
			wantStatus(t, "a command to it", w.one(w.command("e")), proto.StatusNoContract)
		})
	}
	for _, c := range []struct {
		name string
		edit func(w *world, i *proto.Instantiated)
	}{
		{"under another deployer", func(w *world, i *proto.Instantiated) { i.Deployer = w.bob.id }},
		{"under another id", func(_ *world, i *proto.Instantiated) { i.Contract[0] ^= 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, home)
			w.instantiate(func(d *command) { c.edit(w, d.inst) })
			if res := w.block(); len(res.Outputs) != 0 {
				t.Error("it was opened")
			}
		})
	}
}

// TestNeedCode: a block that needs a code which is not here changes nothing and works
// once the code is.
func TestNeedCode(t *testing.T) {
	w := newWorld(t, home)
	here := w.c.programs.(programs)
	p := here[w.code]
	delete(here, w.code)
	root := w.c.Snapshot().Root()
	w.push(w.command("e", func(c *command) { c.inv.To = proto.ContractID{1} }))
	w.instantiate(nil)
	if _, err := w.c.Apply(context.Background(), w.items); !errors.Is(err, ErrNeedCode) {
		t.Fatalf("got %v", err)
	}
	if w.c.Snapshot().Root() != root {
		t.Errorf("root %s", w.c.Snapshot().Root())
	}
	here[w.code] = p
	wantStatus(t, "with the code", w.run()[1], proto.StatusOK)
	// A restarted replica has contracts before their codes are compiled again.
	delete(here, w.code)
	root = w.c.Snapshot().Root()
	w.push(w.command("n"))
	if _, err := w.c.Apply(context.Background(), w.items); !errors.Is(err, ErrNeedCode) || w.c.Snapshot().Root() != root {
		t.Fatalf("got %v", err)
	}
	if status, _ := w.query(w.target, "e"); status != proto.StatusCodeFailed {
		t.Errorf("a query meanwhile answers %s", status)
	}
	here[w.code] = p
	wantStatus(t, "with the code", w.run()[0], proto.StatusOK)
}

// TestSchemes: accounts of every scheme may call.
func TestSchemes(t *testing.T) {
	w := ready(t)
	c := w.command("c", func(c *command) {
		c.inv.Scheme = uint8(identity.SchemeSr25519Bytes)
		sig, err := c.signer.Sign(rand.Reader, identity.WrapBytes(c.inv.SignedBytes(chain, home)))
		if err != nil {
			t.Fatal(err)
		}
		c.inv.Signature = sig[:]
	})
	wantStatus(t, "a wallet that wraps", w.one(c), proto.StatusOK)
	c = w.command("c", func(c *command) { c.inv.Scheme = uint8(identity.SchemeSr25519Bytes) })
	wantStatus(t, "claimed to be wrapped", w.one(c), proto.StatusBadSignature)
}

// TestAnswersAreSealed: an answer opens with the caller's key for this request and
// nothing else, and says nothing to whoever sees the receipt.
func TestAnswersAreSealed(t *testing.T) {
	w := ready(t)
	first, second := w.push(w.command("esecret")), w.push(w.command("esecret"))
	res := w.block()
	for i, c := range []*command{first, second} {
		out := w.open(c, &res.Outputs[i], &res.Receipt)
		if string(out.Return) != "secret" {
			t.Errorf("answer %q", out.Return)
		}
	}
	ctx := first.ctx
	ctx.Purpose += "-output"
	for name, c := range map[string]struct {
		ctx    envelope.Context
		key    *secretKey
		sealed []byte
	}{
		"another request's key": {ctx, second.fresh, res.Outputs[0].Sealed},
		"another answer":        {ctx, first.fresh, res.Outputs[1].Sealed},
		"the epoch key":         {ctx, w.epoch, res.Outputs[0].Sealed},
		"as a request":          {first.ctx, first.fresh, res.Outputs[0].Sealed},
		"edited":                {ctx, first.fresh, append([]byte{res.Outputs[0].Sealed[0] ^ 1}, res.Outputs[0].Sealed[1:]...)},
	} {
		if _, err := envelope.OpenReply(c.ctx, c.key, w.epoch.Public(), c.sealed); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
	entry := append(proto.MarshalEntry(res.Receipt), proto.MarshalEntry(proto.PostOutputs{Cluster: home, Outputs: res.Outputs})...)
	for name, secret := range map[string][]byte{"answer": []byte("secret"), "caller": w.alice.id, "contract": w.target[:]} {
		if bytes.Contains(entry, secret) {
			t.Errorf("the %s is in what the chain sees", name)
		}
	}
	// Equal answers have unlike commitments, and another replica's are the same.
	a, b := w.open(first, &res.Outputs[0], &res.Receipt), w.open(second, &res.Outputs[1], &res.Receipt)
	b.Seq = a.Seq
	if a.Commitment() == b.Commitment() || a.Blinding == b.Blinding {
		t.Error("two answers have one blinding")
	}
}

func TestQuery(t *testing.T) {
	w := ready(t)
	w.one(w.command("pk1"))
	root := w.c.Snapshot().Root()
	for _, c := range []struct {
		to     proto.ContractID
		input  string
		status proto.Status
		out    string
	}{
		{w.target, "gk", proto.StatusOK, "1"},
		{w.target, "pk2", proto.StatusOK, ""},
		{w.target, "gk", proto.StatusOK, "1"},
		{w.target, "n", proto.StatusOK, "\x01"},
		{w.target, "n", proto.StatusOK, "\x01"},
		{w.target, "c", proto.StatusOK, string(w.bob.id)},
		{w.target, "f", proto.StatusContractError, ""},
		{w.target, "t", proto.StatusTrap, ""},
		{w.target, "l", proto.StatusOutOfGas, ""},
		{w.target, "d", proto.StatusDepth, ""},
		{w.target, "b\x01\x00\x04\x00", proto.StatusOutputTooLarge, ""},
		{proto.ContractID{1}, "e", proto.StatusNoContract, ""},
	} {
		if status, out := w.query(c.to, c.input); status != c.status || out != c.out {
			t.Errorf("%q answers %s %q, want %s %q", c.input, status, out, c.status, c.out)
		}
	}
	if w.c.Snapshot().Root() != root {
		t.Error("a query changed the state")
	}
	// An old state stays what it was while the cluster goes on.
	old := w.c.Snapshot()
	w.one(w.command("pk2"))
	status, out, _, _, err := w.c.Query(context.Background(), old, &proto.Query{To: w.target, Input: []byte("gk")}, w.height, 0)
	if err != nil || status != proto.StatusOK || string(out) != "1" {
		t.Errorf("the old state answers %s %q, %v", status, out, err)
	}
	if _, out := w.query(w.target, "h"); out[:8] != string([]byte{byte(w.height), 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("height in a query: %x", out)
	}
}

// TestStorageIsSeparate: two contracts of one code and with equal keys do not see each
// other's storage.
func TestStorageIsSeparate(t *testing.T) {
	w := ready(t)
	one := w.target
	w.one(w.command("pkone"))
	w.instantiate(nil)
	w.run()
	two := w.target
	w.one(w.command("pktwo"))
	if _, a := w.query(one, "gk"); a != "one" {
		t.Errorf("the first has %q", a)
	}
	if _, b := w.query(two, "gk"); b != "two" {
		t.Errorf("the second has %q", b)
	}
}

// TestRandomness: a command's randomness is the same on every replica, another for
// every command, and not that of a query.
func TestRandomness(t *testing.T) {
	w := ready(t)
	a, b := w.push(w.command("r")), w.push(w.command("r"))
	res := w.block()
	x, y := w.open(a, &res.Outputs[0], &res.Receipt).Return, w.open(b, &res.Outputs[1], &res.Receipt).Return
	_, q := w.query(w.target, "r")
	_, q2 := w.query(w.target, "r")
	if bytes.Equal(x, y) || string(x) == q || q == q2 || len(x) != 32 || bytes.Equal(x, make([]byte, 32)) {
		t.Errorf("commands drew %x and %x, queries %x and %x", x, y, q, q2)
	}
	// The same command at another position of the chain draws others.
	v := ready(t)
	v.message(proto.EpochStarted{Cluster: home, Epoch: epoch})
	c := v.push(v.command("r"))
	res = v.block()
	if bytes.Equal(v.open(c, &res.Outputs[0], &res.Receipt).Return, x) {
		t.Error("another head gives the same randomness")
	}
}
