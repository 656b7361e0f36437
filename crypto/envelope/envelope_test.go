package envelope

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/phala-go/phala/crypto/commkey"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

func rng(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func key(t testing.TB, seed byte) *commkey.SecretKey {
	t.Helper()
	k, err := commkey.Generate(rng(seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var ctx = Context{Purpose: "command", Chain: "phala-test", Cluster: []byte{1}, Epoch: 7, Outer: []byte("outer")}

func TestRoundTrip(t *testing.T) {
	sender, recipient := key(t, 1), key(t, 2)
	for _, n := range []int{0, 1, 252, 253, 508, 509, 5000, MaxPlaintext} {
		msg := bytes.Repeat([]byte{0xab}, n)
		env, err := Seal(rng(3), ctx, sender, recipient.Public(), msg)
		if err != nil {
			t.Fatal(err)
		}
		if len(env) != Overhead+Bucket(n) {
			t.Errorf("%d bytes sealed to %d, want %d", n, len(env), Overhead+Bucket(n))
		}
		got, from, err := Open(ctx, recipient, env)
		if err != nil || !bytes.Equal(got, msg) || from != sender.Public() {
			t.Fatalf("%d bytes: %v", n, err)
		}
		reply, err := SealReply(rng(4), ctx, recipient, from, msg)
		if err != nil {
			t.Fatal(err)
		}
		got, err = OpenReply(ctx, sender, recipient.Public(), reply)
		if err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("reply of %d bytes: %v", n, err)
		}
	}
	if _, err := Seal(rng(3), ctx, sender, recipient.Public(), make([]byte, MaxPlaintext+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: got %v", err)
	}
}

// TestMovedOrChanged: an envelope opens in its own context only, and no bit of it
// can change.
func TestMovedOrChanged(t *testing.T) {
	sender, recipient := key(t, 1), key(t, 2)
	env, err := Seal(rng(3), ctx, sender, recipient.Public(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(f func(*Context)) Context { c := ctx; f(&c); return c }
	for _, c := range []struct {
		name string
		ctx  Context
	}{
		{"another purpose", with(func(c *Context) { c.Purpose = "query" })},
		{"another chain", with(func(c *Context) { c.Chain = "phala-main" })},
		{"another cluster", with(func(c *Context) { c.Cluster = []byte{2} })},
		{"another epoch", with(func(c *Context) { c.Epoch = 8 })},
		{"a lower gas limit", with(func(c *Context) { c.Outer = []byte("outeR") })},
		{"a byte moved from one field to the next", with(func(c *Context) { c.Purpose, c.Chain = "commandp", "hala-test" })},
	} {
		if _, _, err := Open(c.ctx, recipient, env); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: got %v, want ErrOpen", c.name, err)
		}
	}
	if _, _, err := Open(ctx, key(t, 9), env); !errors.Is(err, ErrOpen) {
		t.Errorf("another recipient: got %v", err)
	}
	if _, err := OpenReply(ctx, sender, recipient.Public(), env[33:]); !errors.Is(err, ErrOpen) {
		t.Errorf("a request reflected as its own reply: got %v", err)
	}
	for i := range len(env) * 8 {
		bad := bytes.Clone(env)
		bad[i/8] ^= 1 << (i % 8)
		if _, _, err := Open(ctx, recipient, bad); err == nil {
			t.Fatalf("bit %d of byte %d may change", i%8, i/8)
		}
	}
	for n := range len(env) {
		if _, _, err := Open(ctx, recipient, env[:n]); err == nil {
			t.Fatalf("cut to %d bytes it opens", n)
		}
	}
}

type vector struct {
	Name, Sender, Recipient, Purpose, Chain, Cluster, Outer string
	Epoch                                                   uint64
	Plaintext, Envelope, Reply                              string
	Failure                                                 string `json:",omitempty"`
}

func (v vector) context(t *testing.T) Context {
	return Context{v.Purpose, v.Chain, unhex(t, v.Cluster), v.Epoch, unhex(t, v.Outer)}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var failures = map[string]error{"malformed": ErrMalformed, "version": ErrVersion, "open": ErrOpen, "public key": commkey.ErrPublicKey}

// TestVectors: the frozen encoding, and refusals with their failure class.
func TestVectors(t *testing.T) {
	const file = "../testdata/envelope.json"
	if *update {
		var out []vector
		add := func(name string, msg string, change func(env []byte) []byte, failure string) {
			s, r := key(t, byte(10+len(out))), key(t, byte(50+len(out)))
			env, err := Seal(rng(byte(100+len(out))), ctx, s, r.Public(), []byte(msg))
			if err != nil {
				t.Fatal(err)
			}
			reply, err := SealReply(rng(byte(150+len(out))), ctx, r, s.Public(), []byte(msg))
			if err != nil {
				t.Fatal(err)
			}
			v := vector{Name: name, Sender: hex.EncodeToString(s.Bytes()), Recipient: hex.EncodeToString(r.Bytes()), Purpose: ctx.Purpose, Chain: ctx.Chain,
				Cluster: hex.EncodeToString(ctx.Cluster), Outer: hex.EncodeToString(ctx.Outer), Epoch: ctx.Epoch, Plaintext: hex.EncodeToString([]byte(msg)), Failure: failure}
			if failure == "" {
				v.Reply = hex.EncodeToString(reply)
			}
			v.Envelope = hex.EncodeToString(change(env))
			out = append(out, v)
		}
		keep := func(b []byte) []byte { return b }
		add("empty", "", keep, "")
		add("short", "hello", keep, "")
		add("two buckets", string(bytes.Repeat([]byte("x"), 300)), keep, "")
		add("cut inside the header", "hello", func(b []byte) []byte { return b[:40] }, "malformed")
		add("version 2", "hello", func(b []byte) []byte { b[0] = 2; return b }, "version")
		add("last bit of the tag", "hello", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "open")
		add("nonce changed", "hello", func(b []byte) []byte { b[33] ^= 1; return b }, "open")
		add("sender is not a point", "hello", func(b []byte) []byte { copy(b[1:33], bytes.Repeat([]byte{0xff}, 32)); return b }, "public key")
		add("sender is the identity", "hello", func(b []byte) []byte { copy(b[1:33], make([]byte, 32)); return b }, "public key")
		b, _ := json.MarshalIndent(out, "", " ")
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(b, &vs); err != nil || len(vs) != 9 {
		t.Fatal(len(vs), err)
	}
	for _, v := range vs {
		r, err := commkey.New(unhex(t, v.Recipient))
		if err != nil {
			t.Fatal(err)
		}
		s, err := commkey.New(unhex(t, v.Sender))
		if err != nil {
			t.Fatal(err)
		}
		msg, from, err := Open(v.context(t), r, unhex(t, v.Envelope))
		if v.Failure != "" {
			if want := failures[v.Failure]; want == nil || !errors.Is(err, want) {
				t.Errorf("%s: got %v, want class %q", v.Name, err, v.Failure)
			}
			continue
		}
		if err != nil || hex.EncodeToString(msg) != v.Plaintext || from != s.Public() {
			t.Errorf("%s: %v", v.Name, err)
		}
		msg, err = OpenReply(v.context(t), s, r.Public(), unhex(t, v.Reply))
		if err != nil || hex.EncodeToString(msg) != v.Plaintext {
			t.Errorf("%s reply: %v", v.Name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	recipient := key(f, 2)
	env, _ := Seal(rng(3), ctx, key(f, 1), recipient.Public(), []byte("hello"))
	f.Add(env)
	f.Add(env[:60])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, _, err := Open(ctx, recipient, b)
		if err == nil && (!bytes.Equal(b, env) || string(msg) != "hello") {
			t.Fatalf("forged: %x", b)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	recipient := key(b, 2)
	env, _ := Seal(rng(3), ctx, key(b, 1), recipient.Public(), []byte("hello"))
	for b.Loop() {
		if _, _, err := Open(ctx, recipient, env); err != nil {
			b.Fatal(err)
		}
	}
}

// TestOpenToReply: it opens what Open opens, refuses what Open refuses, and its answers
// are those of SealReply.
func TestOpenToReply(t *testing.T) {
	rng := rand.NewChaCha8([32]byte{3})
	caller, err := commkey.Generate(rng)
	if err != nil {
		t.Fatal(err)
	}
	worker, err := commkey.Generate(rng)
	if err != nil {
		t.Fatal(err)
	}
	c := Context{Purpose: "command", Chain: "test-1", Epoch: 5, Outer: []byte("outer")}
	env, err := Seal(rng, c, caller, worker.Public(), []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	msg, reply, err := OpenToReply(c, "command-output", worker, env)
	if err != nil || string(msg) != "hello" {
		t.Fatalf("%q, %v", msg, err)
	}
	out := c
	out.Purpose += "-output"
	a, err := reply.Seal(rand.NewChaCha8([32]byte{4}), []byte("answer"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := SealReply(rand.NewChaCha8([32]byte{4}), out, worker, caller.Public(), []byte("answer"))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the answers differ: %v", err)
	}
	if got, err := OpenReply(out, caller, worker.Public(), a); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	moved := NewReplier(out, caller.Public(), worker.Public(), reply.Key())
	if b, err := moved.Seal(rand.NewChaCha8([32]byte{4}), []byte("answer")); err != nil || !bytes.Equal(a, b) {
		t.Errorf("made again of its parts, it answers otherwise: %v", err)
	}
	if got := fmt.Sprintf("%v %x %+v", reply, reply, *reply); strings.Contains(got, fmt.Sprintf("%x", [32]byte(reply.Key()))) || !strings.Contains(got, "secret") {
		t.Errorf("prints %s", got)
	}
	other := c
	other.Epoch++
	if _, reply, err := OpenToReply(other, "", worker, env); !errors.Is(err, ErrOpen) || reply != nil {
		t.Errorf("in another context: %v, %v", reply, err)
	}
	if _, reply, err := OpenToReply(c, "", worker, env[:10]); !errors.Is(err, ErrMalformed) || reply != nil {
		t.Errorf("cut: %v, %v", reply, err)
	}
}
