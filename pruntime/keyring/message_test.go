package keyring

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/ratls"
	"github.com/phala-go/phala/crypto/envelope"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
	"github.com/phala-go/phala/pruntime/cluster"
	"github.com/phala-go/phala/pruntime/keys"
)

var update = flag.Bool("update", false, "rewrite testdata/messages.golden")

var fixedConfig = Config{DataDir: "/data", Chain: "c", RootHeight: 1, RootHash: proto.Hash{2}, Role: proto.RoleWorker, Operator: []byte{3}, Roots: proto.Hash{4},
	Settings: proto.Settings{Lease: 5, TrustingPeriod: 6, ClockDrift: 7, SessionInterval: 8, WorstLevel: 4}}

var fixedInfo = Info{Worker: proto.WorkerID{1}, TEE: attest.TDX, Ephemeral: true, Made: fixedConfig.Settings, Releases: []proto.Hash{{2}}, Files: [32]byte{3}}

// fixed are messages of each kind, by name.
func fixed(t testing.TB) (names []string, messages map[string][]byte) {
	messages = map[string][]byte{}
	add := func(name string, b []byte) {
		names = append(names, name)
		messages[name] = bytes.Clone(b)
	}
	var asked []byte
	stop := errors.New("asked")
	r := &Ring{chain: "c", do: func(_ context.Context, request []byte) ([]byte, error) { asked = request; return nil, stop }}
	ask := func(name string, err error) {
		if !errors.Is(err, stop) {
			t.Fatalf("%s: %v", name, err)
		}
		add(name, asked)
	}
	ctx := context.Background()
	add("start", marshalStart(&fixedConfig, TEE{"auto", []byte{9}}))
	_, _, _, err := r.Register(ctx, [32]byte{1}, 2, 3, proto.Hash{4}, 5, []string{"a", "bc"})
	ask("register", err)
	_, _, err = r.Certify(ctx, &ratls.Statement{NotBefore: time.Unix(7, 0), Key: []byte{8}})
	ask("certify", err)
	_, err = r.Sign(9, [][]byte{{1}, {2, 3}})
	ask("sign", err)
	_, err = r.NewSession()
	ask("new session", err)
	ask("end sessions", r.EndSessions([32]byte{1}))
	env := append([]byte{envelope.Version}, make([]byte, envelope.Overhead+envelope.MinBucket-1)...)
	_, _, _, err = r.OpenQuery(ctx, env)
	ask("query", err)
	_, err = r.OpenRelease(1, 2, [32]byte{3}, [32]byte{4}, []byte{5})
	ask("release", err)
	c := proto.Instantiated{Command: proto.PushedCommand{Payer: []byte{1}, Epoch: 2, GasTier: 3, DepositLimit: 4}, Contract: proto.ContractID{5}, Deployer: []byte{6}, Code: proto.Hash{7}}
	_, err = r.Opener(1).Open(2, []cluster.Sealed{{Context: c.Command.Context("c", 1), Envelope: []byte{8}}, {Context: c.Context("c", 1), Envelope: []byte{9}}})
	ask("commands", err)
	ask("forget", r.Forget(1, 2))
	add("info", fixedInfo.marshal())
	for i, class := range classes {
		add(fmt.Sprint("failure ", i+1), failure(fmt.Errorf("%w: x", class)))
	}
	add("failure of no class", failure(errors.New("x")))
	var frame bytes.Buffer
	if err := writeFrame(&frame, []byte{1, 2}); err != nil {
		t.Fatal(err)
	}
	add("frame", frame.Bytes())
	return names, messages
}

// TestGolden: the two processes of one build could change their encoding at will; that a
// change is seen is worth the file.
func TestGolden(t *testing.T) {
	names, messages := fixed(t)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s: %s\n", n, hex.EncodeToString(messages[n]))
	}
	const file = "testdata/messages.golden"
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != b.String() {
		t.Errorf("messages changed (%v):\n%s", err, b.String())
	}
}

// TestMessagesStrict: a message that is cut, longer, or has another form is refused.
func TestMessagesStrict(t *testing.T) {
	w := newWorld(t)
	names, messages := fixed(t)
	parse := func(name string, b []byte) error {
		switch {
		case name == "start":
			_, _, err := parseStart(b)
			return err
		case name == "info":
			_, err := parseInfo(b)
			return err
		case strings.HasPrefix(name, "failure"):
			var known *told
			if _, err := result(b); !errors.As(err, &known) {
				return ErrRequest // not one of the other process
			}
			return nil
		case name == "frame":
			_, err := readFrame(bytes.NewReader(b))
			return err
		}
		if _, err := result(w.k.Handle(context.Background(), b)); errors.Is(err, ErrRequest) {
			return err
		}
		return nil
	}
	for _, name := range names {
		b := messages[name]
		if err := parse(name, b); err != nil && name != "failure 1" && name != "sign" { // entries of one byte are none
			t.Errorf("%s: %v", name, err)
		}
		for n := range b {
			if parse(name, b[:n]) == nil {
				t.Errorf("%s is taken when cut to %d bytes", name, n)
			}
		}
		if name != "frame" && parse(name, append(slices.Clone(b), 0)) == nil {
			t.Errorf("%s is taken with a byte more", name)
		}
	}
	for name, b := range map[string][]byte{"nothing": {}, "a second start": messages["start"], "a kind that is none": {99}, "four thousand entries": new(wire.Writer).U8(opSign).U64(1).Count(4000).Fixed(make([]byte, 20000)).Bytes()} {
		if _, err := result(w.k.Handle(context.Background(), b)); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, b := range map[string][]byte{"empty": {}, "above the limit": {0, 0x40, 0, 1}, "4 GB": {0xff, 0xff, 0xff, 0xff}} {
		if _, err := readFrame(bytes.NewReader(b)); err == nil {
			t.Errorf("frame %s: taken", name)
		}
	}
	if err := writeFrame(&bytes.Buffer{}, make([]byte, maxFrame+1)); !errors.Is(err, errFrame) {
		t.Errorf("frame above the limit: %v", err)
	}
}

// TestFailures: classes and words survive the way between the processes.
func TestFailures(t *testing.T) {
	for _, class := range classes {
		_, err := result(failure(fmt.Errorf("more: %w: here", class)))
		if !errors.Is(err, class) || err.Error() != "more: "+class.Error()+": here" {
			t.Errorf("%v came as %v", class, err)
		}
	}
	_, err := result(failure(errors.New(strings.Repeat("x", 2*maxText))))
	if err == nil || len(err.Error()) != maxText || errors.Is(err, keys.ErrSealed) {
		t.Errorf("of no class: %v", err)
	}
}

// FuzzHandle: no request makes the keyring fail otherwise than by an answer.
func FuzzHandle(f *testing.F) {
	w := newWorld(f)
	w.release(2)
	_, messages := fixed(f)
	for _, b := range messages {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 && (b[0] == opRegister || b[0] == opCertify) && len(b) > 200 {
			return // evidence takes its time
		}
		answer := w.k.Handle(context.Background(), b)
		if _, err := result(answer); err != nil {
			var known *told
			if !errors.As(err, &known) {
				t.Fatalf("%x: %v", answer, err)
			}
		}
	})
}

// FuzzResponses: whatever comes back, the worker gets an answer or an error.
func FuzzResponses(f *testing.F) {
	_, messages := fixed(f)
	for _, b := range messages {
		f.Add(b)
	}
	f.Add(ok().Fixed(make([]byte, 32)).Count(1).Bool(true).Fixed(make([]byte, 32)).Blob([]byte("x")).Bytes())
	f.Add(ok().Count(1).Fixed(make([]byte, 64)).Bytes())
	env := append([]byte{envelope.Version}, make([]byte, envelope.Overhead+envelope.MinBucket-1)...)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &Ring{chain: "c", do: func(context.Context, []byte) ([]byte, error) { return b, nil }}
		parseInfo(b)
		parseStart(b)
		r.Register(context.Background(), [32]byte{}, 1, 1, proto.Hash{}, 0, nil)
		r.Certify(context.Background(), &ratls.Statement{})
		r.OpenQuery(context.Background(), env)
		r.OpenRelease(1, 1, [32]byte{}, [32]byte{}, nil)
		if sigs, err := r.Sign(1, [][]byte{{1}}); err == nil && len(sigs) != 1 {
			t.Fatalf("%d signatures", len(sigs))
		}
		got, err := r.Opener(1).Open(1, []cluster.Sealed{{Context: envelope.Context{Purpose: proto.PurposeCommand}, Envelope: env}})
		if err == nil && len(got) != 1 {
			t.Fatalf("%d commands", len(got))
		}
		if body, err := readFrame(bytes.NewReader(b)); err == nil {
			var back bytes.Buffer
			if err := writeFrame(&back, body); err != nil || !bytes.HasPrefix(b, back.Bytes()) {
				t.Fatalf("frame is not its own form: %v", err)
			}
			if len(body) != int(binary.BigEndian.Uint32(b)) {
				t.Fatal("length")
			}
		}
	})
}
