package oracle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/types"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

// A question is one call of the verifier.
type question struct {
	params  comet.Params
	trusted comet.Header
	next    *comet.ValidatorSet // the set that trusted announces
	block   *comet.LightBlock
	now     time.Time
}

func (q *question) ours() error {
	fresh := func(s *comet.ValidatorSet) *comet.ValidatorSet {
		return &comet.ValidatorSet{Validators: slices.Clone(s.Validators)}
	}
	b := &comet.LightBlock{Header: q.block.Header, Commit: q.block.Commit, Validators: fresh(q.block.Validators)}
	return comet.Verify(&q.params, &q.trusted, fresh(q.next), b, q.now, blinding())
}

// theirs is CometBFT's verdict. It panics on some sets that its own types refuse to
// make; that counts as a refusal.
func (q *question) theirs() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	trusted := &types.SignedHeader{Header: toHeader(&q.trusted)}
	set, err := toSet(q.block.Validators)
	if err != nil {
		return err
	}
	next, err := toSet(q.next)
	if err != nil {
		return err
	}
	signed := toSigned(q.block)
	if signed.Height == trusted.Height+1 {
		return light.VerifyAdjacent(trusted, signed, set, q.params.TrustingPeriod, q.now, q.params.MaxClockDrift)
	}
	return light.VerifyNonAdjacent(trusted, next, signed, set, q.params.TrustingPeriod, q.now, q.params.MaxClockDrift, light.DefaultTrustLevel)
}

// stricter names the reason for which we refuse a block that CometBFT may accept, or
// is empty. These are all the places where the two differ. None of them can occur on
// a chain: its full nodes refuse such blocks.
func (q *question) stricter() string {
	for _, s := range []*comet.ValidatorSet{q.next, q.block.Validators} {
		if len(s.Validators) > comet.MaxValidators {
			return "more validators than this network can have"
		}
		seen := map[[32]byte]bool{}
		for _, v := range s.Validators {
			if v.Power == 0 {
				return "a validator without power"
			}
			if seen[v.PublicKey] {
				return "a validator twice"
			}
			seen[v.PublicKey] = true
		}
	}
	id := q.block.Commit.BlockID
	if id.PartsTotal == 0 || len(id.PartsHash) != 32 {
		return "a commit whose block id has no parts"
	}
	if len(q.block.Header.NextValidatorsHash) != 32 {
		return "a header that announces no next validators"
	}
	return ""
}

// compare asks both and fails when they differ for a reason that is not listed.
func (q *question) compare(t *testing.T, what string, tally map[string]int) {
	t.Helper()
	ours, theirs := q.ours(), q.theirs()
	switch reason := q.stricter(); {
	case (ours == nil) == (theirs == nil):
		if ours == nil {
			tally["accepted"]++
		} else {
			var e *comet.Error
			if !errors.As(ours, &e) {
				t.Fatalf("%s: untyped error %v", what, ours)
			}
			tally[string(e.Kind)]++
		}
	case ours != nil && reason != "":
		tally["stricter: "+reason]++
	default:
		t.Fatalf("%s:\nours:   %v\ntheirs: %v", what, ours, theirs)
	}
}

// A world is a random pair of a trusted header and a later block.
type world struct {
	rng  *rand.Rand
	sets []*comettest.Set
}

func newWorld(rng *rand.Rand) *world {
	w := &world{rng: rng}
	for n := range 60 {
		powers := make([]int64, 1+rng.IntN(9))
		for i := range powers {
			powers[i] = []int64{1, 10, 10, 10, 1 + rng.Int64N(1000), 1 << 40}[rng.IntN(6)]
		}
		w.sets = append(w.sets, comettest.NewSetOf(fmt.Sprint("w", n), powers...))
	}
	return w
}

func (w *world) set() *comettest.Set { return w.sets[w.rng.IntN(len(w.sets))] }

// mix keeps some of a set's validators and adds others.
func (w *world) mix(old *comettest.Set) *comettest.Set {
	keep := w.rng.IntN(old.Len() + 1)
	s := append(old.Signers()[:keep:keep], w.set().Signers()...)
	seen := map[string]bool{}
	return comettest.SetOf(slices.DeleteFunc(s, func(x comettest.Signer) bool {
		dup := seen[string(x.Key)]
		seen[string(x.Key)] = true
		return dup
	}))
}

// ask makes a question whose block is honest but for how many signed: a coin decides
// between everyone and a random choice around the thresholds.
func (w *world) ask() (*question, *comettest.Set) {
	rng := w.rng
	own := w.set()
	next := own
	if rng.IntN(2) == 0 {
		next = w.mix(own)
	}
	c := comettest.New(comettest.Config{Validators: own})
	c.Next()
	c.Announce(next)
	c.Next()
	trusted := c.Header(2)
	signers := next
	c.Next()
	if rng.IntN(2) == 0 { // skipping, perhaps into another set
		if rng.IntN(3) > 0 {
			signers = w.mix(next)
			c.Announce(signers)
		}
		c.Run(5 + rng.Int64N(3))
	}
	b := c.Block(c.Height())
	how := comettest.Signing{}
	if rng.IntN(3) > 0 {
		odds := 1 + rng.IntN(12)
		flags := make([]uint8, signers.Len())
		for i := range flags {
			flags[i] = comet.FlagCommit
			if rng.IntN(odds) == 0 {
				flags[i] = []uint8{comet.FlagAbsent, comet.FlagNil}[rng.IntN(2)]
			}
		}
		how.Flag = func(i int) uint8 { return flags[i] }
	}
	if rng.IntN(4) == 0 {
		how.Round = rng.Int32N(5)
	}
	return &question{comet.Params{ChainID: c.ChainID(), TrustingPeriod: time.Hour, MaxClockDrift: 10 * time.Second},
		trusted, next.Validators(), b.Signed(how), c.Time()}, b.Set
}

// nextSigners are the signers of set that the trusted header announces.
func (q *question) nextSigners(set *comettest.Set) []comettest.Signer {
	return slices.DeleteFunc(set.Signers(), func(s comettest.Signer) bool { return !slices.Contains(q.next.Validators, s.Validator()) })
}

// resign signs the question's block again after its header was edited.
func (q *question) resign(set *comettest.Set) {
	q.block = comettest.Sign(q.block.Header, set, comettest.Signing{})
}

// The mutations. Each takes an honest question and its block's signers.
var mutations = []struct {
	name string
	do   func(rng *rand.Rand, q *question, set *comettest.Set)
}{
	{"none", func(*rand.Rand, *question, *comettest.Set) {}},
	{"a bit of a signature", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		q.block.Commit.Signatures[rng.IntN(len(q.block.Commit.Signatures))].Signature[rng.IntN(64)] ^= 1 << rng.IntN(8)
	}},
	{"an address", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		q.block.Commit.Signatures[rng.IntN(len(q.block.Commit.Signatures))].Address[rng.IntN(20)] ^= 1
	}},
	{"two signatures swapped", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		s := q.block.Commit.Signatures
		i, j := rng.IntN(len(s)), rng.IntN(len(s))
		s[i], s[j] = s[j], s[i]
	}},
	{"one signature twice", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		s := q.block.Commit.Signatures
		s[rng.IntN(len(s))] = s[rng.IntN(len(s))]
	}},
	{"a signature more", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		c := &q.block.Commit
		c.Signatures = append(c.Signatures, c.Signatures[rng.IntN(len(c.Signatures))])
	}},
	{"a signature less", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		c := &q.block.Commit
		c.Signatures = c.Signatures[:len(c.Signatures)-1]
	}},
	{"a vote's time", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		q.block.Commit.Signatures[rng.IntN(len(q.block.Commit.Signatures))].Time = instant(rng)
	}},
	{"a flag", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		q.block.Commit.Signatures[rng.IntN(len(q.block.Commit.Signatures))].Flag = 1 + uint8(rng.IntN(3))
	}},
	{"round", func(rng *rand.Rand, q *question, _ *comettest.Set) { q.block.Commit.Round = rng.Int32N(4) - 2 }},
	{"commit height", func(rng *rand.Rand, q *question, _ *comettest.Set) { q.block.Commit.Height += rng.Int64N(3) - 1 }},
	{"block id", func(rng *rand.Rand, q *question, _ *comettest.Set) { q.block.Commit.BlockID.Hash = bytesOf(rng, 32) }},
	{"parts", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		q.block.Commit.BlockID.PartsTotal = rng.Uint32N(3)
		q.block.Commit.BlockID.PartsHash = bytesOf(rng, 31+rng.IntN(2))
	}},
	{"a header field", func(rng *rand.Rand, q *question, _ *comettest.Set) { editHeader(rng, &q.block.Header) }},
	{"a header field, signed again", func(rng *rand.Rand, q *question, set *comettest.Set) {
		editHeader(rng, &q.block.Header)
		q.resign(set)
	}},
	{"a validator's power", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		v := q.block.Validators.Validators
		v[rng.IntN(len(v))].Power = []int64{0, -1, 1, 1 << 60, 1<<63 - 1, 1 << 40}[rng.IntN(6)]
	}},
	{"powers, signed again", func(rng *rand.Rand, q *question, set *comettest.Set) {
		// The sum is often at, or one off, the largest that the protocol allows.
		signers := set.Signers()
		var sum int64
		for i := range signers[1:] {
			sum += signers[i+1].Power
		}
		signers[0].Power = []int64{0, 1, 1<<60 - 1 - sum, 1<<60 - sum, 1<<60 + 1 - sum, 1<<63 - 1}[rng.IntN(6)]
		set = comettest.SetOf(signers)
		q.block.Header.ValidatorsHash = set.Hash()
		q.resign(set)
		if rng.IntN(2) == 0 {
			q.next = set.Validators()
			q.trusted.NextValidatorsHash = set.Hash()
		}
	}},
	{"a validator twice, with another power, signed again", func(rng *rand.Rand, q *question, set *comettest.Set) {
		s := set.Signers()
		again := s[rng.IntN(len(s))]
		again.Power = 1 + rng.Int64N(2*again.Power)
		set = comettest.SetOf(append(s, again))
		q.block.Header.ValidatorsHash = set.Hash()
		q.resign(set)
		if rng.IntN(2) == 0 {
			q.next = set.Validators()
			q.trusted.NextValidatorsHash = set.Hash()
		} else { // the same validator counts once, with its first power, to trust
			q.next = comettest.SetOf(append(q.nextSigners(set), again)).Validators()
			hash := q.next.Hash()
			q.trusted.NextValidatorsHash = hash[:]
		}
	}},
	{"validators reordered", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		v := q.block.Validators.Validators
		rng.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
	}},
	{"another set", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		q.block.Validators = comettest.NewSet("other", 1+rng.IntN(6)).Validators()
	}},
	{"signed by another set under the same names", func(rng *rand.Rand, q *question, set *comettest.Set) {
		fake := comettest.NewSet("forger", set.Len())
		b := comettest.Sign(q.block.Header, fake, comettest.Signing{})
		for i := range b.Commit.Signatures {
			v := q.block.Validators.Validators[i]
			b.Commit.Signatures[i].Address = v.Address()
		}
		b.Validators = q.block.Validators
		q.block = b
	}},
	{"signed for another chain", func(rng *rand.Rand, q *question, set *comettest.Set) {
		q.block = comettest.Sign(q.block.Header, set, comettest.Signing{ChainID: "other"})
	}},
	{"a set of its own, as a forger makes it", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		fake := comettest.NewSet("forger", 1+rng.IntN(6))
		q.block.Header.ValidatorsHash = fake.Hash()
		q.resign(fake)
	}},
	{"time edges", func(rng *rand.Rand, q *question, set *comettest.Set) {
		off := []time.Duration{-time.Nanosecond, 0, time.Nanosecond}[rng.IntN(3)]
		switch rng.IntN(3) {
		case 0: // the end of the trusting period
			q.now = q.trusted.Time.Add(q.params.TrustingPeriod + off)
			q.params.MaxClockDrift = 2 * time.Hour
		case 1: // the header's own time
			q.block.Header.Time = q.trusted.Time.Add(off)
			q.resign(set)
		case 2: // the drift
			q.now = q.block.Header.Time.Add(-q.params.MaxClockDrift + off)
		}
	}},
	{"height", func(rng *rand.Rand, q *question, set *comettest.Set) {
		q.block.Header.Height = []int64{0, -1, q.trusted.Height - 1, q.trusted.Height, q.trusted.Height + 1, 1<<63 - 1}[rng.IntN(6)]
		q.resign(set)
	}},
	{"the trusted header announces something else", func(rng *rand.Rand, q *question, _ *comettest.Set) {
		// The question hands over the set that the header announces; both verifiers
		// are asked with the same.
		other := comettest.NewSet("announced", 1+rng.IntN(5))
		q.trusted.NextValidatorsHash = other.Hash()
		q.next = other.Validators()
	}},
}

func editHeader(rng *rand.Rand, h *comet.Header) {
	hashes := []*[]byte{&h.LastCommitHash, &h.DataHash, &h.ValidatorsHash, &h.NextValidatorsHash, &h.ConsensusHash, &h.LastResultsHash, &h.EvidenceHash,
		&h.AppHash, &h.LastBlockID.Hash, &h.LastBlockID.PartsHash, &h.ProposerAddress}
	switch n := rng.IntN(len(hashes) + 4); n {
	case len(hashes):
		h.ChainID = string(bytesOf(rng, rng.IntN(64)))
	case len(hashes) + 1:
		h.VersionBlock = rng.Uint64N(20)
	case len(hashes) + 2:
		h.VersionApp = rng.Uint64()
	case len(hashes) + 3:
		h.LastBlockID = comet.BlockID{}
	default:
		*hashes[n] = bytesOf(rng, []int{0, 1, 19, 20, 21, 31, 32, 32, 32}[rng.IntN(9)])
	}
}

// TestVerdicts: on thousands of random blocks, honest and mutated, adjacent and
// not, our verdict is CometBFT's, but for the listed reasons to be stricter.
func TestVerdicts(t *testing.T) {
	rng := source(t, 4)
	w := newWorld(rng)
	tally := map[string]int{}
	for i := range cases(6000) {
		q, set := w.ask()
		m := mutations[i%len(mutations)]
		m.do(rng, q, set)
		if rng.IntN(10) == 0 {
			m2 := mutations[rng.IntN(len(mutations))]
			if len(q.block.Commit.Signatures) == set.Len() && len(q.block.Validators.Validators) == set.Len() {
				m2.do(rng, q, set)
				m.name += " + " + m2.name
			}
		}
		q.compare(t, fmt.Sprintf("case %d, %s", i, m.name), tally)
	}
	t.Log(tally)
	// The test is worth something only if it reaches everything.
	for _, k := range []comet.Kind{comet.ErrMalformed, comet.ErrWrongChain, comet.ErrExpired, comet.ErrNotLater, comet.ErrFromFuture, comet.ErrValidators,
		comet.ErrTooFewSigned, comet.ErrNotTrusted, comet.ErrSignature} {
		if tally[string(k)] == 0 {
			t.Errorf("no case of: %s", string(k))
		}
	}
	if tally["accepted"] < cases(6000)/6 {
		t.Errorf("only %d accepted", tally["accepted"])
	}
}

// TestStricter: each listed reason to be stricter is real: CometBFT's light verifier
// accepts, we refuse.
func TestStricter(t *testing.T) {
	honest := func() (*question, *comettest.Set) {
		c := comettest.New(comettest.Config{})
		c.Run(3)
		b := c.Block(3)
		return &question{comet.Params{ChainID: c.ChainID(), TrustingPeriod: time.Hour, MaxClockDrift: time.Second}, c.Header(2), b.Set.Validators(), b.Light(), c.Time()}, b.Set
	}
	for _, c := range []struct {
		reason string
		do     func(q *question, set *comettest.Set)
		want   comet.Kind
	}{
		{"more validators than this network can have", func(q *question, _ *comettest.Set) {
			set := comettest.NewSet("large", comet.MaxValidators+1)
			q.trusted.NextValidatorsHash, q.next, q.block.Header.ValidatorsHash = set.Hash(), set.Validators(), set.Hash()
			q.resign(set)
		}, comet.ErrMalformed},
		{"a validator without power", func(q *question, _ *comettest.Set) {
			set := comettest.NewSetOf("none", 5, 0)
			q.trusted.NextValidatorsHash, q.next, q.block.Header.ValidatorsHash = set.Hash(), set.Validators(), set.Hash()
			q.resign(set)
		}, comet.ErrMalformed},
		{"a validator twice", func(q *question, set *comettest.Set) {
			set = comettest.SetOf(append(set.Signers(), comettest.NewSigner("genesis", 0, 3)))
			q.trusted.NextValidatorsHash, q.next, q.block.Header.ValidatorsHash = set.Hash(), set.Validators(), set.Hash()
			q.resign(set)
		}, comet.ErrMalformed},
		{"a commit whose block id has no parts", func(q *question, set *comettest.Set) {
			id := &q.block.Commit.BlockID
			id.PartsTotal, id.PartsHash = 0, nil
			for i, s := range set.Signers() {
				sig := &q.block.Commit.Signatures[i]
				sigBytes, err := s.Key.Sign(nil, comettest.VoteSignBytes(q.params.ChainID, 3, 0, *id, sig.Time), noHash)
				if err != nil {
					t.Fatal(err)
				}
				copy(sig.Signature[:], sigBytes)
			}
		}, comet.ErrMalformed},
		{"a header that announces no next validators", func(q *question, set *comettest.Set) {
			q.block.Header.NextValidatorsHash = nil
			q.resign(set)
		}, comet.ErrMalformed},
	} {
		q, set := honest()
		if q.ours() != nil || q.theirs() != nil {
			t.Fatal("the honest block is refused", q.ours(), q.theirs())
		}
		c.do(q, set)
		if got := q.stricter(); got != c.reason {
			t.Errorf("%s: listed as %q", c.reason, got)
		}
		if err := q.theirs(); err != nil {
			t.Errorf("%s: CometBFT refuses too: %v", c.reason, err)
		}
		if err := q.ours(); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", c.reason, err)
		}
	}
}
