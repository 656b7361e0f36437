package grandpa_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type scaleVectors struct {
	Headers []struct {
		Number                                           uint32
		Parent, StateRoot, ExtrinsicsRoot, Encoded, Hash string
		Logs                                             int
	}
	Justification struct {
		Encoded, Round, TargetHash string
		TargetNumber               uint32
		Votes                      []struct {
			Hash, Signature, ID string
			Number              uint32
		}
		Ancestries []string
	}
	Payload struct {
		Hash, Round, SetID, Encoded string
		Number                      uint32
	}
	ScheduledChange struct {
		Encoded     string
		Delay       uint32
		Authorities []struct {
			Key    string
			Weight uint64
		}
	}
}

// Structures as @polkadot/types encodes them (testdata/oracle).
func TestOracleVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/scale.json")
	if err != nil {
		t.Fatal(err)
	}
	var v scaleVectors
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Headers) != 8 {
		t.Fatalf("%d headers", len(v.Headers))
	}
	for _, c := range v.Headers {
		h, err := grandpa.DecodeHeader(unhex(t, c.Encoded))
		if err != nil {
			t.Errorf("header #%d: %v", c.Number, err)
			continue
		}
		if h.Number != c.Number || h.ParentHash.String() != "0x"+c.Parent || h.StateRoot.String() != "0x"+c.StateRoot ||
			h.ExtrinsicsRoot.String() != "0x"+c.ExtrinsicsRoot || len(h.Digest) != c.Logs || h.Hash().String() != "0x"+c.Hash {
			t.Errorf("header #%d decodes as %+v with hash %s", c.Number, h, h.Hash())
		}
		for i := range h.Digest {
			item, err := grandpa.DecodeDigestItem(h.Digest[i].Append(nil))
			if err != nil || item.Kind != h.Digest[i].Kind || !bytes.Equal(item.Data, h.Digest[i].Data) {
				t.Errorf("header #%d: log %d: %+v, %v", c.Number, i, item, err)
			}
		}
	}
	j, err := grandpa.DecodeJustification(unhex(t, v.Justification.Encoded))
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(j.Round) != v.Justification.Round || j.Commit.Target.Hash.String() != "0x"+v.Justification.TargetHash ||
		j.Commit.Target.Number != v.Justification.TargetNumber || len(j.Commit.Votes) != len(v.Justification.Votes) ||
		len(j.Ancestries) != len(v.Justification.Ancestries) {
		t.Errorf("justification decodes as %+v", j)
	}
	for i, c := range v.Justification.Votes {
		vote := j.Commit.Votes[i]
		if vote.Target.Hash.String() != "0x"+c.Hash || vote.Target.Number != c.Number || vote.Authority.String() != "0x"+c.ID ||
			hex.EncodeToString(vote.Signature[:]) != c.Signature {
			t.Errorf("vote %d decodes as %+v", i, vote)
		}
	}
	for i, hash := range v.Justification.Ancestries {
		if j.Ancestries[i].Hash().String() != "0x"+hash {
			t.Errorf("ancestry %d has hash %s", i, j.Ancestries[i].Hash())
		}
	}
	if !bytes.Equal(j.Append(nil), unhex(t, v.Justification.Encoded)) {
		t.Error("justification encodes differently")
	}
	round, _ := strconv.ParseUint(v.Payload.Round, 10, 64)
	setID, _ := strconv.ParseUint(v.Payload.SetID, 10, 64)
	target := grandpa.BlockID{Number: v.Payload.Number, Hash: grandpa.Hash(unhex(t, v.Payload.Hash))}
	if got := grandpa.SigningPayload(target, round, setID); !bytes.Equal(got, unhex(t, v.Payload.Encoded)) || len(got) != 53 {
		t.Errorf("payload %x", got)
	}
	h := grandpa.Header{Digest: []grandpa.DigestItem{{Kind: grandpa.DigestConsensus, Engine: grandpa.EngineGRANDPA, Data: unhex(t, v.ScheduledChange.Encoded)}}}
	change, err := h.ScheduledChange()
	if err != nil || change.Delay != v.ScheduledChange.Delay || len(change.Next) != len(v.ScheduledChange.Authorities) {
		t.Fatalf("change %+v, %v", change, err)
	}
	for i, a := range v.ScheduledChange.Authorities {
		if change.Next[i].Key.String() != "0x"+a.Key || change.Next[i].Weight != a.Weight {
			t.Errorf("authority %d is %+v", i, change.Next[i])
		}
	}
	if item := change.DigestItem(); !bytes.Equal(item.Data, unhex(t, v.ScheduledChange.Encoded)) {
		t.Errorf("change encodes as %x", item.Data)
	}
}

// samples returns one valid encoding of each structure, with the function that decodes and re-encodes it.
func samples(t testing.TB) map[string]struct {
	enc    []byte
	recode func([]byte) ([]byte, error)
} {
	c := newTree(t)
	l := newLine(t)
	_, change := l.rotate(2, 1)
	l.add(3, change, grandpa.DigestItem{Kind: grandpa.DigestOther, Data: []byte{1}}, grandpa.DigestItem{Kind: grandpa.DigestEnvironmentUpdated})
	best := uint32(7)
	pending := grandpa.PendingChange{Change: grandpa.ScheduledChange{Next: c.set.Authorities(), Delay: 2}, Announced: c.target.ID()}
	forced := pending
	forced.Forced, forced.MedianLastFinalized = true, 6
	set := &grandpa.AuthoritySetState{Current: c.set.Authorities(), SetID: 3, BestFinalized: &best, PendingForced: []grandpa.PendingChange{forced},
		PendingStandard: []grandpa.PendingNode{{Block: c.target.ID(), Pending: pending, Children: []grandpa.PendingNode{{Block: c.a12.ID(), Pending: pending}}}},
		History:         []grandpa.SetChange{{SetID: 2, LastBlock: 5}}}
	message := &grandpa.CommitMessage{Round: 1, SetID: 2, Commit: c.justification.Commit}
	proof := &grandpa.FinalityProof{Block: c.target.Hash(), Justification: c.ancestral, UnknownHeaders: l.blocks}
	warp := &grandpa.WarpProof{Fragments: []grandpa.WarpFragment{{Header: l.blocks[1], Justification: c.ancestral}}, Finished: true}
	type sample = struct {
		enc    []byte
		recode func([]byte) ([]byte, error)
	}
	return map[string]sample{
		"header":         {l.blocks[3].Append(nil), recoder(grandpa.DecodeHeader, (*grandpa.Header).Append)},
		"justification":  {c.ancestral.Append(nil), recoder(grandpa.DecodeJustification, (*grandpa.Justification).Append)},
		"commit message": {message.Append(nil), recoder(grandpa.DecodeCommitMessage, (*grandpa.CommitMessage).Append)},
		"finality proof": {proof.Append(nil), recoder(grandpa.DecodeFinalityProof, (*grandpa.FinalityProof).Append)},
		"warp proof":     {warp.Append(nil), recoder(grandpa.DecodeWarpProof, (*grandpa.WarpProof).Append)},
		"update":         {l.update().Append(nil), recoder(grandpa.DecodeUpdate, (*grandpa.Update).Append)},
		"set state":      {set.Append(nil), recoder(grandpa.DecodeAuthoritySetState, (*grandpa.AuthoritySetState).Append)},
		"state":          {l.state.Append(nil), recoder(grandpa.DecodeState, (*grandpa.State).Append)},
		"digest item": {change.Append(nil), func(b []byte) ([]byte, error) {
			item, err := grandpa.DecodeDigestItem(b)
			return item.Append(nil), err
		}},
		"headers": {grandpa.AppendHeaders(nil, l.blocks), func(b []byte) ([]byte, error) {
			list, err := grandpa.DecodeHeaders(b)
			return grandpa.AppendHeaders(nil, list), err
		}},
		"authorities": {appendList(c.set.Authorities()), func(b []byte) ([]byte, error) {
			list, err := grandpa.DecodeAuthorities(b, false)
			return appendList(list), err
		}},
	}
}

func recoder[T any](decode func([]byte) (*T, error), encode func(*T, []byte) []byte) func([]byte) ([]byte, error) {
	return func(b []byte) ([]byte, error) {
		v, err := decode(b)
		if err != nil {
			return nil, err
		}
		return encode(v, nil), nil
	}
}

func appendList(list []grandpa.Authority) []byte {
	item := (&grandpa.ScheduledChange{Next: list}).DigestItem()
	return item.Data[1 : len(item.Data)-4]
}

// Every structure survives, no proper prefix and no extension of an encoding decodes.
func TestStrictDecoders(t *testing.T) {
	for name, s := range samples(t) {
		got, err := s.recode(s.enc)
		if err != nil || !bytes.Equal(got, s.enc) {
			t.Errorf("%s: %x became %x, %v", name, s.enc, got, err)
		}
		for n := range s.enc {
			if _, err := s.recode(s.enc[:n]); err == nil {
				t.Errorf("%s: accepted the first %d of %d bytes", name, n, len(s.enc))
			}
		}
		_, err = s.recode(append(bytes.Clone(s.enc), 0))
		if !errors.Is(err, scale.ErrTrailing) || !errors.Is(err, grandpa.ErrDecode) {
			t.Errorf("%s with a byte more: %v", name, err)
		}
	}
}

// Lengths are held against the input before anything is allocated; what fits passes (TestStrictDecoders).
func TestPitfall8HostileLengths(t *testing.T) {
	huge := unhex(t, "03ffffffff") // 2^32-1 elements
	c := newTree(t)
	header := c.target.Append(nil)
	digestAt := len(header) - 1
	for name, b := range map[string][]byte{
		"votes":      append(bytes.Repeat([]byte{0}, 8+36), huge...),
		"ancestries": append(append(bytes.Repeat([]byte{0}, 8+36), 0), huge...),
	} {
		if _, err := grandpa.DecodeJustification(b); !errors.Is(err, scale.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := grandpa.DecodeHeader(append(bytes.Clone(header[:digestAt]), huge...)); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("digest items: %v", err)
	}
	if _, err := grandpa.DecodeHeader(append(append(bytes.Clone(header[:digestAt]), 4, 0), huge...)); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("digest data: %v", err)
	}
	if _, err := grandpa.DecodeUpdate(huge); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("headers: %v", err)
	}
	if _, err := grandpa.DecodeAuthorities(huge, false); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("authorities: %v", err)
	}
	// Pending changes nest without end in 79 bytes each.
	leaf := append(make([]byte, 36), make([]byte, 1+4+4+32+1)...)
	nested := bytes.Repeat(append([]byte{4}, leaf...), 200)
	if _, err := grandpa.DecodeAuthoritySetState(append(append([]byte{0}, make([]byte, 8)...), nested...)); !errors.Is(err, scale.ErrTooLarge) {
		t.Errorf("nesting: %v", err)
	}
	big := make([]byte, grandpa.MaxProofBytes+1)
	for name, decode := range map[string]func([]byte) error{
		"finality proof": func(b []byte) error { _, err := grandpa.DecodeFinalityProof(b); return err },
		"warp proof":     func(b []byte) error { _, err := grandpa.DecodeWarpProof(b); return err },
		"update":         func(b []byte) error { _, err := grandpa.DecodeUpdate(b); return err },
		"headers":        func(b []byte) error { _, err := grandpa.DecodeHeaders(b); return err },
	} {
		if err := decode(big); !errors.Is(err, grandpa.ErrLimit) {
			t.Errorf("%s of %d bytes: %v", name, len(big), err)
		}
	}
}

func TestDigestItemKinds(t *testing.T) {
	for kind := range 256 {
		_, err := grandpa.DecodeDigestItem([]byte{byte(kind), 'a', 'b', 'c', 'd', 0})
		known := kind == 4 || kind == 5 || kind == 6
		if (err == nil) != known {
			t.Errorf("kind %d with engine: %v", kind, err)
		}
		_, err = grandpa.DecodeDigestItem([]byte{byte(kind), 0})
		if (err == nil) != (kind == 0) {
			t.Errorf("kind %d with data: %v", kind, err)
		}
		_, err = grandpa.DecodeDigestItem([]byte{byte(kind)})
		if (err == nil) != (kind == 8) {
			t.Errorf("kind %d alone: %v", kind, err)
		}
	}
}

func TestDecodeCommitMessageLengths(t *testing.T) {
	c := newTree(t)
	m := &grandpa.CommitMessage{Round: 1, SetID: 2, Commit: c.justification.Commit}
	b := m.Append(nil)
	signatures := 8 + 8 + 36 + 1 + 3*36
	b[signatures] = 2 << 2
	b = b[:len(b)-96]
	if _, err := grandpa.DecodeCommitMessage(b); !errors.Is(err, grandpa.ErrDecode) {
		t.Errorf("three precommits with two signatures: %v", err)
	}
}

func TestDecodeAuthorities(t *testing.T) {
	list := grandpatest.Authorities([]*grandpatest.Voter{grandpatest.NewVoter(1, 1, 3)})
	enc := appendList(list)
	if got, err := grandpa.DecodeAuthorities(append([]byte{1}, enc...), true); err != nil || got[0] != list[0] {
		t.Errorf("versioned: %v, %v", got, err)
	}
	if _, err := grandpa.DecodeAuthorities(append([]byte{2}, enc...), true); !errors.Is(err, scale.ErrTag) {
		t.Errorf("version 2: %v", err)
	}
}

func fuzzDecoder(f *testing.F, names ...string) {
	all := samples(f)
	for i, name := range names {
		f.Add(byte(i), all[name].enc)
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		s := all[names[int(which)%len(names)]]
		out, err := s.recode(in)
		if err == nil && !bytes.Equal(in, out) {
			t.Errorf("%s: accepted %x, which encodes as %x", names[int(which)%len(names)], in, out)
		}
		var e *grandpa.Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("untyped error %v", err)
		}
	})
}

func FuzzHeader(f *testing.F)        { fuzzDecoder(f, "header", "digest item") }
func FuzzJustification(f *testing.F) { fuzzDecoder(f, "justification", "commit message") }
func FuzzProofs(f *testing.F)        { fuzzDecoder(f, "finality proof", "warp proof", "update", "headers") }
func FuzzStates(f *testing.F)        { fuzzDecoder(f, "set state", "state", "authorities") }

// Whatever a header's logs hold, the scan ends with a change, nothing or a typed error.
func FuzzDigestLogs(f *testing.F) {
	_, change := newLine(f).rotate(2, 1)
	for _, b := range [][]byte{change.Data, {2, 0, 0, 0, 0, 0}, {3, 0, 0, 0, 0, 0, 0, 0, 0}, {4, 0, 0, 0, 0}, {}} {
		f.Add(b, []byte{1, 0, 0, 0, 0})
	}
	f.Fuzz(func(t *testing.T, log, pre []byte) {
		h := &grandpa.Header{Digest: []grandpa.DigestItem{{Kind: grandpa.DigestPreRuntime, Engine: grandpa.EngineBABE, Data: pre}, frnk(log...)}}
		h.Slot()
		change, err := h.ScheduledChange()
		if err != nil && !errors.Is(err, grandpa.ErrNewCheckpoint) {
			t.Errorf("error without advice: %v", err)
		}
		if change != nil {
			if item := change.DigestItem(); !bytes.Equal(item.Data, log) {
				t.Errorf("accepted %x, which encodes as %x", log, item.Data)
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	c := newTree(f)
	cp, err := grandpa.NewCheckpoint("fuzz", c.target, &grandpa.AuthoritySetState{Current: c.set.Authorities()})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(cp.JSON())
	f.Fuzz(func(t *testing.T, in []byte) {
		cp, err := grandpa.ParseCheckpoint(in)
		if err != nil {
			return
		}
		if again, err := grandpa.ParseCheckpoint(cp.JSON()); err != nil || again.Header.Hash() != cp.Header.Hash() {
			t.Errorf("does not survive being written: %v", err)
		}
	})
}

// Verification never panics, whatever decodes.
func FuzzVerify(f *testing.F) {
	c := newTree(f)
	f.Add(c.justification.Append(nil))
	f.Add(c.ancestral.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		j, err := grandpa.DecodeJustification(in)
		if err != nil {
			return
		}
		if got, want := j.Verify(c.set) == nil, naiveVerify(j, c.set); got != want {
			t.Errorf("Verify says %v, its twin %v for %x", got, want, in)
		}
		j.Trim(c.set)
	})
}
