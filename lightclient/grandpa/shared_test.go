package grandpa_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/grandpatest"
)

// polkadotGenesisKeys are the six authorities of Polkadot's set 0.
var polkadotGenesisKeys = []string{
	"dea6f4a727d3b2399275d6ee8817881f10597471dc1d27f144295ad6fb933c7a",
	"48b623941c2a4d41cf25ef495408690fc853f777192498c0922eab1e9df4f061",
	"f72daf2e560e4f0f22fb5cbb04ad1d7fee850aab238fd014c178769e7e3a9b84",
	"1c151c11cb72334d26d70769e3af7bbff3801a4e2dca2b09b7cce0af8dd81307",
	"680d278213f908658a49a1025a7f466c197e8fb6fabb5e62220a7bd75f860cab",
	"8e59368700ea89e2bf8922cc9e4b86d6651d1c689a0d57813f9768dbaadecf71",
}

func mustSet(t testing.TB, id uint64, list []grandpa.Authority) *grandpa.AuthoritySet {
	t.Helper()
	s, err := grandpa.NewAuthoritySet(id, list)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// signers makes a set of n authorities, of which the first ones are those that voted. It stands in where the real
// list is not among the data: the votes and signatures are the chain's.
func signers(t testing.TB, id uint64, votes []grandpa.Vote, n int) *grandpa.AuthoritySet {
	t.Helper()
	var list []grandpa.Authority
	for _, v := range votes {
		list = append(list, grandpa.Authority{Key: v.Authority, Weight: 1})
	}
	for i := 0; len(list) < n; i++ {
		list = append(list, grandpatest.NewVoter(450, i, 1).Authority)
	}
	return mustSet(t, id, list)
}

func polkadotGenesisSet(t testing.TB) *grandpa.AuthoritySet {
	var list []grandpa.Authority
	for _, k := range polkadotGenesisKeys {
		b, err := hex.DecodeString(k)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, grandpa.Authority{Key: grandpa.Key(b), Weight: 1})
	}
	return mustSet(t, 0, list)
}

func TestSharedPolkadot302592(t *testing.T) {
	raw := grandpatest.Shared(t, "polkadot-302592-set0.justification.scale")
	j, err := grandpa.DecodeJustification(raw)
	if err != nil {
		t.Fatal(err)
	}
	set := polkadotGenesisSet(t)
	if j.Round != 439559 || j.Commit.Target.Number != 302592 || len(j.Commit.Votes) != 5 || len(j.Ancestries) != 0 ||
		!strings.HasPrefix(j.Commit.Target.Hash.String(), "0x29f1abec") || !strings.HasSuffix(j.Commit.Target.Hash.String(), "58d2") {
		t.Errorf("round %d, target %s, %d votes, %d ancestries", j.Round, j.Commit.Target, len(j.Commit.Votes), len(j.Ancestries))
	}
	if set.Threshold() != 5 {
		t.Errorf("threshold %d, want 5", set.Threshold())
	}
	if err := j.Verify(set); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(j.Append(nil), raw) {
		t.Error("encoding differs from the file")
	}
	wrong := mustSet(t, 1, set.Authorities())
	if err := j.Verify(wrong); !errors.Is(err, grandpa.ErrSignature) {
		t.Errorf("under set id 1: %v", err)
	}
	everyBit(t, raw, rand.New(rand.NewSource(1)), 1, func(b []byte) error {
		j, err := grandpa.DecodeJustification(b)
		if err != nil {
			return err
		}
		return j.Verify(set)
	})
}

func TestSharedWestendCommit(t *testing.T) {
	raw := grandpatest.Shared(t, "westend-5105457-set3490.commit-message.scale")
	m, err := grandpa.DecodeCommitMessage(raw)
	if err != nil {
		t.Fatal(err)
	}
	if m.Round != 3669 || m.SetID != 3490 || m.Commit.Target.Number != 5105457 || len(m.Commit.Votes) != 7 {
		t.Errorf("round %d, set %d, target %s, %d votes", m.Round, m.SetID, m.Commit.Target, len(m.Commit.Votes))
	}
	set := signers(t, 3490, m.Commit.Votes, 10)
	if set.Threshold() != 7 {
		t.Errorf("threshold %d, want 7", set.Threshold())
	}
	if err := m.Verify(set); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(m.Append(nil), raw) {
		t.Error("encoding differs from the file")
	}
	if err := m.Verify(signers(t, 3491, m.Commit.Votes, 10)); !errors.Is(err, grandpa.ErrSetID) {
		t.Errorf("under set id 3491: %v", err)
	}
	everyBit(t, raw, rand.New(rand.NewSource(2)), 2, func(b []byte) error {
		m, err := grandpa.DecodeCommitMessage(b)
		if err != nil {
			return err
		}
		return m.Verify(set)
	})
}

func TestSharedPolkadot4635975(t *testing.T) {
	raw := grandpatest.Shared(t, "polkadot-4635975-set450.justification.scale")
	j, err := grandpa.DecodeJustification(raw)
	if err != nil {
		t.Fatal(err)
	}
	if j.Round != 6971 || j.Commit.Target.Number != 4635975 || len(j.Commit.Votes) != 199 || len(j.Ancestries) != 0 ||
		!strings.HasPrefix(j.Commit.Target.Hash.String(), "0x2a82146e") || !strings.HasSuffix(j.Commit.Target.Hash.String(), "7022") {
		t.Errorf("round %d, target %s, %d votes", j.Round, j.Commit.Target, len(j.Commit.Votes))
	}
	set := signers(t, 450, j.Commit.Votes, 297)
	if set.Threshold() != 199 {
		t.Errorf("threshold of 297 is %d, want 199", set.Threshold())
	}
	if err := j.Verify(set); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(j.Append(nil), raw) {
		t.Error("encoding differs from the file")
	}
	for _, id := range []uint64{0, 449, 451, 1 << 40} {
		if err := j.VerifySignatures(id); !errors.Is(err, grandpa.ErrSignature) {
			t.Errorf("under set id %d: %v", id, err)
		}
	}
	// Every vote is judged by itself, so that all 210,520 bits can be tried: a change in one vote leaves the signatures
	// of the others as they were. The sample, and all changes outside the votes, go through the whole of Verify.
	whole := rand.New(rand.NewSource(4))
	everyBit(t, raw, rand.New(rand.NewSource(3)), 10, func(b []byte) error {
		got, err := grandpa.DecodeJustification(b)
		if err != nil {
			return err
		}
		var changed []grandpa.Vote
		for i, v := range got.Commit.Votes {
			if v != j.Commit.Votes[i] {
				changed = append(changed, v)
			}
		}
		if len(changed) == 1 && whole.Intn(200) != 0 {
			got.Commit.Votes = changed
			return got.VerifySignatures(450)
		}
		return got.Verify(set)
	})
}

// everyBit flips each bit of raw in turn, or one in sample of them unless PHALA_LONG=1, and expects check to fail.
func everyBit(t *testing.T, raw []byte, r *rand.Rand, sample int, check func([]byte) error) {
	t.Helper()
	if os.Getenv("PHALA_LONG") == "1" {
		sample = 1
	}
	if err := check(raw); err != nil {
		t.Fatalf("unchanged input: %v", err)
	}
	tried := 0
	for bit := range 8 * len(raw) {
		if r.Intn(sample) != 0 {
			continue
		}
		b := bytes.Clone(raw)
		b[bit/8] ^= 1 << (bit % 8)
		if err := check(b); err == nil {
			t.Errorf("accepted with bit %d of byte %d flipped", bit%8, bit/8)
		}
		tried++
	}
	if tried < 100 {
		t.Errorf("only %d bits tried", tried)
	}
}

func TestSharedCheckpoints(t *testing.T) {
	for _, c := range []struct {
		file        string
		id          string
		number      uint32
		authorities int
		setID       uint64
		genesisRoot string
	}{
		{"checkpoint-polkadot-29378183.json", "polkadot", 29378183, 600, 3195, "0x29d0d972cd27cbc511e9589fcb7a4506d5eb6a9e8df205f00472e5ab354a4e17"},
		{"checkpoint-westend-29233814.json", "westend2", 29233814, 20, 10077, "0x7e92439a94f79671f9cade9dff96a094519b9001a7432244d46ab644bb6f746f"},
	} {
		cp, err := grandpa.ParseCheckpoint(grandpatest.Shared(t, c.file))
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		if cp.ChainID != c.id || cp.Header.Number != c.number || cp.Set.Len() != c.authorities || cp.Set.ID() != c.setID ||
			cp.GenesisStateRoot.String() != c.genesisRoot || len(cp.State.History) != int(c.setID) {
			t.Errorf("%s: %s #%d, %d authorities, set %d, %d past sets", c.file, cp.ChainID, cp.Header.Number, cp.Set.Len(),
				cp.Set.ID(), len(cp.State.History))
		}
		again, err := grandpa.ParseCheckpoint(cp.JSON())
		if err != nil || again.Header.Hash() != cp.Header.Hash() || !bytes.Equal(again.State.Append(nil), cp.State.Append(nil)) {
			t.Errorf("%s does not survive being written: %v", c.file, err)
		}
		s, err := grandpa.NewState(cp, grandpa.PolkadotParams())
		if err != nil {
			t.Fatal(err)
		}
		if y := s.Time().Year(); y < 2025 || y > 2026 {
			t.Errorf("%s: slot time %s", c.file, s.Time())
		}
		if err := s.CheckTrust(s.Time().Add(20 * 24 * time.Hour)); err != nil {
			t.Error(err)
		}
		if err := s.CheckTrust(s.Time().Add(22 * 24 * time.Hour)); !errors.Is(err, grandpa.ErrNewCheckpoint) {
			t.Errorf("after 22 days: %v", err)
		}
	}
	cp, err := grandpa.ParseCheckpoint(grandpatest.Shared(t, "checkpoint-polkadot-29378183.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(cp.Header.Hash().String(), "0xb59a") || !strings.HasSuffix(cp.Header.Hash().String(), "2fad") {
		t.Errorf("hash of #29378183 is %s", cp.Header.Hash()) // as smoldot prints it
	}
	// The history is an independent witness for the set that signed a block: set 450 ended at exactly #4,635,975.
	for number, want := range map[uint32]uint64{0: 0, 302592: 0, 4635975: 450, 4635976: 451, 29378183: 3195} {
		if id, ok := cp.SetAt(number); !ok || id != want {
			t.Errorf("set of #%d is %d, %v; want %d", number, id, ok, want)
		}
	}
	if _, ok := cp.SetAt(29378184); ok {
		t.Error("the checkpoint claims to know a later block's set")
	}
}
