package inbox_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// golden is a small chain, a state in the middle of it and the next advance.
func golden(t testing.TB) (*comettest.Chain, *inbox.State, *inbox.Advance) {
	c := comettest.New(comettest.Config{Validators: comettest.NewSetOf("golden", 30, 20, 10)})
	c.CreateTopic(system)
	c.CreateTopic(cluster1)
	c.Send(system, "gov", note(2))
	c.Next()
	c.Send(cluster1, "a", note(1))
	c.Run(4)
	s := stateAt(t, c, 1, system)
	apply(t, s, honest(c, s, 2), c.Time())
	if err := s.Follow(cluster1); err != nil {
		t.Fatal(err)
	}
	return c, s, honest(c, s, 3)
}

// checkGolden compares with testdata/name.hex. To make a new file, delete the old one
// and set PHALA_GOLDEN=1; a change of an existing one is a change of the format.
func checkGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) && os.Getenv("PHALA_GOLDEN") != "" {
		var lines strings.Builder
		for s := hex.EncodeToString(got); s != ""; {
			n := min(len(s), 128)
			lines.WriteString(s[:n] + "\n")
			s = s[n:]
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(lines.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.ReplaceAll(string(raw), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot  %x\nwant %x", name, got, want)
	}
}

// TestGolden freezes the encodings of an advance and of a sealed state.
func TestGolden(t *testing.T) {
	_, s, a := golden(t)
	checkGolden(t, "state", s.Marshal())
	checkGolden(t, "advance", a.Marshal())
}

func TestAdvanceRoundTrip(t *testing.T) {
	c, s, a := golden(t)
	for _, x := range []*inbox.Advance{a, {}, {Topics: a.Topics}, {Messages: a.Messages}} {
		got, err := inbox.ParseAdvance(x.Marshal())
		if err != nil || !bytes.Equal(got.Marshal(), x.Marshal()) {
			t.Fatal(err)
		}
	}
	parsed, err := inbox.ParseAdvance(a.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if b := apply(t, s, parsed, c.Time()); show(b) != "2:cluster/1#1" {
		t.Fatal(show(b))
	}
}

// TestParseAdvanceRefuses: each bound, before anything of that size is allocated.
func TestParseAdvanceRefuses(t *testing.T) {
	_, _, a := golden(t)
	raw := a.Marshal()
	many := func(blocks, topics, messages int) []byte {
		x := new(inbox.Advance)
		for range blocks {
			x.Blocks = append(x.Blocks, a.Blocks[0])
		}
		for range topics {
			x.Topics = append(x.Topics, a.Topics[0])
		}
		for range messages {
			x.Messages = append(x.Messages, a.Messages[0])
		}
		return x.Marshal()
	}
	long := *a.Messages[0]
	long.Payload = make([]byte, proto.MaxPayload+1)
	for name, in := range map[string][]byte{
		"nothing":                   nil,
		"cut":                       raw[:len(raw)-1],
		"trailing byte":             append(bytes.Clone(raw), 0),
		"too many blocks":           many(inbox.MaxBlocks+1, 0, 0),
		"too many topics":           many(0, inbox.MaxTopics+1, 0),
		"too many messages":         many(0, 0, inbox.MaxMessages+1),
		"blocks beyond the input":   {0, 0, 0x10, 0},
		"topics beyond the input":   {0, 0, 0, 0, 0, 0, 0, 64},
		"messages beyond the input": {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0},
		"a block that is none":      append([]byte{0, 0, 0, 1, 0, 0, 0, 200}, make([]byte, 208)...),
		"a topic's name too long":   (&inbox.Advance{Topics: []inbox.Proven{{Topic: strings.Repeat("x", proto.MaxTopic+1)}}}).Marshal(),
		"a proof too long":          (&inbox.Advance{Topics: []inbox.Proven{{Proof: comet.StoreProof{IAVL: make([]byte, comet.MaxProof+1)}}}}).Marshal(),
		"a message too long":        (&inbox.Advance{Messages: []*proto.Message{&long}}).Marshal(),
		"more bytes than allowed":   make([]byte, inbox.MaxAdvance+1),
	} {
		if _, err := inbox.ParseAdvance(in); !errors.Is(err, inbox.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := inbox.ParseAdvance(many(10, inbox.MaxTopics, inbox.MaxMessages)); err != nil {
		t.Errorf("at the bounds: %v", err)
	}
}

// TestParseStateRefuses: a sealed state has one form.
func TestParseStateRefuses(t *testing.T) {
	c, s, _ := golden(t)
	raw := s.Marshal()
	head := 4 + len(c.ChainID()) + 4 + len(s.Client().Trusted().Marshal())
	entry := 4 + len(cluster1) + 40 + 8 + 1 // cluster/1 comes before system
	swap := func() []byte {
		b := bytes.Clone(raw[:head+8+4])
		b = append(b, raw[head+8+4+entry:head+8+4+entry+4+len(system)+49]...)
		return append(b, raw[head+8+4:head+8+4+entry]...)
	}
	set := func(at int, v ...byte) []byte {
		b := bytes.Clone(raw)
		copy(b[at:], v)
		return b
	}
	for name, in := range map[string][]byte{
		"nothing":                     nil,
		"cut":                         raw[:len(raw)-1],
		"trailing byte":               append(bytes.Clone(raw), 0),
		"topics out of order":         swap(),
		"more topics than allowed":    set(head+8, 0, 0, 0, inbox.MaxTopics+1),
		"more topics than there are":  set(head+8, 0, 0, 0, 60),
		"a flag of 2":                 set(head+8+4+entry-1, 2),
		"delivered beyond the header": set(head, 0, 0, 0, 0, 0, 0, 0, 9),
		"no header":                   append(append(bytes.Clone(raw[:4+len(c.ChainID())]), 0, 0, 0, 0), raw[head:]...),
	} {
		_, err := inbox.Parse(in, newClient)
		if !errors.Is(err, inbox.ErrMalformed) && !errors.Is(err, comet.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := inbox.Parse(raw, newClient); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseAdvance(f *testing.F) {
	c, s, a := golden(f)
	f.Add(a.Marshal())
	f.Add((&inbox.Advance{}).Marshal())
	f.Add((&inbox.Advance{Topics: a.Topics, Messages: a.Messages}).Marshal())
	sealed, want := s.Marshal(), s.Client().TrustedHash()
	f.Fuzz(func(t *testing.T, in []byte) {
		x, err := inbox.ParseAdvance(in)
		if err != nil {
			if !errors.Is(err, inbox.ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(x.Marshal(), in) {
			t.Fatalf("%x encodes as %x", in, x.Marshal())
		}
		s, err := inbox.Parse(sealed, newClient)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Apply(x, c.Time())
		if err != nil {
			if !bytes.Equal(s.Marshal(), sealed) || s.Client().TrustedHash() != want {
				t.Fatalf("refused with %v, but the state changed: %x", err, in)
			}
			return
		}
		// Only what the chain has can be accepted.
		cur, _ := s.Cursor(cluster1)
		if is, _ := c.Cursor(int64(b.Height), cluster1); is != cur {
			t.Fatalf("accepted what the chain does not have: %x", in)
		}
	})
}

func FuzzParseState(f *testing.F) {
	_, s, _ := golden(f)
	f.Add(s.Marshal())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := inbox.Parse(in, newClient)
		if err != nil {
			if !errors.Is(err, inbox.ErrMalformed) && !errors.Is(err, comet.ErrMalformed) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		if !bytes.Equal(s.Marshal(), in) {
			t.Fatalf("%x encodes as %x", in, s.Marshal())
		}
	})
}
