package comet_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

const (
	period = time.Hour
	drift  = 10 * time.Second
)

func blinding() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{7}) }

func params(c *comettest.Chain) comet.Params {
	return comet.Params{ChainID: c.ChainID(), TrustingPeriod: period, MaxClockDrift: drift}
}

func clientAt(c *comettest.Chain, height int64) *comet.Client {
	return comet.NewClient(params(c), c.Header(height), blinding())
}

// world is a chain of 40 blocks: validators A until 10, B (half of A) until 20, C
// (none of B) until 40.
type world struct {
	*comettest.Chain
	a, b, c *comettest.Set
}

func newWorld() *world {
	w := &world{a: comettest.NewSet("a", 4), c: comettest.NewSet("c", 4)}
	w.b = comettest.SetOf(append(w.a.Signers()[:2:2], comettest.NewSet("b", 2).Signers()...))
	w.Chain = comettest.New(comettest.Config{Validators: w.a})
	w.Run(9)
	w.Announce(w.b) // block 10 announces B, which commits 11
	w.Run(19)
	w.Announce(w.c) // block 20 announces C, which commits 21
	w.Run(40)
	return w
}

// edited returns block h after an edit of its header, signed by its validators.
func (w *world) edited(h int64, edit func(*comet.Header)) *comet.LightBlock {
	header := w.Header(h)
	edit(&header)
	return comettest.Sign(header, w.Block(h).Set, comettest.Signing{})
}

// TestVerifyTable: a client that trusts block 5 (of set A, which commits 6 to 10) is
// given one block. Each failure class has its cases, and so has success.
func TestVerifyTable(t *testing.T) {
	w := newWorld()
	now := w.Header(40).Time
	for _, c := range []struct {
		name  string
		block *comet.LightBlock
		now   time.Time
		want  error
	}{
		{"next block", w.Light(6), now, nil},
		{"next block, three of four sign", w.Block(6).Signed(comettest.FirstN(3)), now, nil},
		{"next block, decided in round 3", w.Block(6).Signed(comettest.Signing{Round: 3}), now, nil},
		{"next block, one votes nil", w.Block(6).Signed(flags(2, 2, 3, 2)), now, nil},
		{"skip within the announced set", w.Light(10), now, nil},
		{"last moment of the trusting period", w.Light(6), w.Header(5).Time.Add(period - 1), nil},
		{"last moment of the drift", w.edited(6, func(h *comet.Header) { h.Time = w.Header(5).Time.Add(drift - 1) }), w.Header(5).Time, nil},

		{"another chain's id", w.edited(6, func(h *comet.Header) { h.ChainID = "other" }), now, comet.ErrWrongChain},
		{"signed for another chain's id", w.Block(6).Signed(comettest.Signing{ChainID: "other"}), now, comet.ErrSignature},

		{"end of the trusting period", w.Light(6), w.Header(5).Time.Add(period), comet.ErrExpired},
		{"long after the trusting period", w.Light(6), w.Header(5).Time.Add(100 * period), comet.ErrExpired},

		{"time of the trusted header", w.edited(6, func(h *comet.Header) { h.Time = w.Header(5).Time }), now, comet.ErrNotLater},
		{"time before the trusted header", w.edited(6, func(h *comet.Header) { h.Time = w.Header(1).Time }), now, comet.ErrNotLater},

		{"at the allowed drift", w.edited(6, func(h *comet.Header) { h.Time = w.Header(5).Time.Add(drift) }), w.Header(5).Time, comet.ErrFromFuture},
		{"far ahead of the clock", w.edited(6, func(h *comet.Header) { h.Time = now.Add(period) }), w.Header(6).Time, comet.ErrFromFuture},

		{"no validators", without(w.Light(6)), now, comet.ErrValidators},
		{"validators of another block", with(w.Light(6), w.b), now, comet.ErrValidators},
		{"next block by a set that was not announced", func() *comet.LightBlock {
			h := w.Header(6)
			h.ValidatorsHash = w.c.Hash()
			return comettest.Sign(h, w.c, comettest.Signing{})
		}(), now, comet.ErrValidators},

		{"two of four sign", w.Block(6).Signed(comettest.FirstN(2)), now, comet.ErrTooFewSigned},
		{"nobody signs", w.Block(6).Signed(comettest.FirstN(0)), now, comet.ErrTooFewSigned},
		{"two vote nil", w.Block(6).Signed(flags(2, 3, 3, 2)), now, comet.ErrTooFewSigned},
		{"skip, two of four sign", w.Block(10).Signed(comettest.FirstN(2)), now, comet.ErrTooFewSigned},

		{"a signature is changed", w.Block(6).Signed(comettest.Signing{Alter: func(i int, s *[64]byte) { s[5] ^= 1 }}), now, comet.ErrSignature},
		{"one deciding signature is changed", w.Block(6).Signed(comettest.Signing{Alter: func(i int, s *[64]byte) {
			if i == 2 {
				s[40] ^= 1
			}
		}}), now, comet.ErrSignature},
		{"a vote's time is changed", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.Signatures[0].Time = now }), now, comet.ErrSignature},
		{"the round is changed", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.Round++ }), now, comet.ErrSignature},
		{"forged by keys of its own under the validators' names", func() *comet.LightBlock {
			b := comettest.Sign(w.Header(6), w.c, comettest.Signing{})
			for i, s := range w.a.Signers() {
				v := s.Validator()
				b.Commit.Signatures[i].Address = v.Address()
			}
			return with(b, w.a)
		}(), now, comet.ErrSignature},

		{"skip to a set without the next one known", w.Light(15), now, comet.ErrNeedNextSet},

		{"header edited after signing", alter(w.Light(6), func(b *comet.LightBlock) { b.Header.AppHash[0] ^= 1 }), now, comet.ErrMalformed},
		{"commit of another block", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit = w.Light(7).Commit }), now, comet.ErrMalformed},
		{"commit of another height", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.Height++ }), now, comet.ErrMalformed},
		{"negative round", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.Round = -1 }), now, comet.ErrMalformed},
		{"a signature less than validators", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.Signatures = b.Commit.Signatures[:3] }), now, comet.ErrMalformed},
		{"no signatures", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.Signatures = nil }), now, comet.ErrMalformed},
		{"more signatures than a set can have", alter(w.Light(6), func(b *comet.LightBlock) {
			b.Commit.Signatures = make([]comet.CommitSig, comet.MaxValidators+1)
		}), now, comet.ErrMalformed},
		{"a signature under another's address", alter(w.Light(6), func(b *comet.LightBlock) {
			s := b.Commit.Signatures
			s[0].Address, s[1].Address = s[1].Address, s[0].Address
		}), now, comet.ErrMalformed},
		{"block id without parts", alter(w.Light(6), func(b *comet.LightBlock) { b.Commit.BlockID.PartsTotal = 0 }), now, comet.ErrMalformed},
		{"another block protocol", w.edited(6, func(h *comet.Header) { h.VersionBlock = 12 }), now, comet.ErrMalformed},
		{"no next validators", w.edited(6, func(h *comet.Header) { h.NextValidatorsHash = nil }), now, comet.ErrMalformed},
		{"a hash of 31 bytes", w.edited(6, func(h *comet.Header) { h.DataHash = h.DataHash[:31] }), now, comet.ErrMalformed},
		{"a proposer of 19 bytes", w.edited(6, func(h *comet.Header) { h.ProposerAddress = h.ProposerAddress[:19] }), now, comet.ErrMalformed},
	} {
		client := clientAt(w.Chain, 5)
		err := client.Advance(c.block, c.now)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if want := int64(5); c.want != nil && (client.Trusted().Height != want || client.Conflict() != nil) {
			t.Errorf("%s: was refused, but the client is at %d", c.name, client.Trusted().Height)
		}
		if c.want == nil && client.Trusted().Height != c.block.Header.Height {
			t.Errorf("%s: was accepted, but the client is at %d", c.name, client.Trusted().Height)
		}
	}
}

// TestBadSets: sets that no chain has are refused before anything is computed with them.
func TestBadSets(t *testing.T) {
	w := newWorld()
	signer := func(i int, p int64) comettest.Signer { return comettest.NewSigner("s", i, p) }
	for _, c := range []struct {
		name string
		set  *comettest.Set
		want error
	}{
		{"power at the protocol's bound", comettest.SetOf([]comettest.Signer{signer(0, 1<<60-2), signer(1, 1)}), nil},
		{"power above the bound", comettest.SetOf([]comettest.Signer{signer(0, 1<<60-2), signer(1, 2)}), comet.ErrMalformed},
		{"sum overflows", comettest.SetOf([]comettest.Signer{signer(0, 1<<63-1), signer(1, 1<<63-1), signer(2, 3)}), comet.ErrMalformed},
		{"no power", comettest.SetOf([]comettest.Signer{signer(0, 5), signer(1, 0)}), comet.ErrMalformed},
		{"negative power", comettest.SetOf([]comettest.Signer{signer(0, 5), signer(1, -1)}), comet.ErrMalformed},
		{"one validator twice", comettest.SetOf([]comettest.Signer{signer(0, 5), signer(0, 4)}), comet.ErrMalformed},
		{"too many", comettest.NewSet("many", comet.MaxValidators+1), comet.ErrMalformed},
	} {
		h, trusted := w.Header(6), w.Header(5)
		h.ValidatorsHash, trusted.NextValidatorsHash = c.set.Hash(), c.set.Hash()
		p := params(w.Chain)
		b := comettest.Sign(h, c.set, comettest.Signing{})
		if err := comet.Verify(&p, &trusted, nil, b, w.Time(), blinding()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		// The same set as the one that vouches for a skip.
		if c.want != nil {
			next := w.Light(15)
			if err := comet.Verify(&p, &trusted, c.set.Validators(), next, w.Time(), blinding()); !errors.Is(err, c.want) {
				t.Errorf("%s, as trusted set: got %v, want %v", c.name, err, c.want)
			}
		}
	}
}

// TestVerifyAlone: rules that a Client keeps by itself hold for the function too.
func TestVerifyAlone(t *testing.T) {
	w := newWorld()
	p := params(w.Chain)
	trusted := w.Header(5)
	for _, c := range []struct {
		name  string
		next  *comet.ValidatorSet
		block *comet.LightBlock
		want  error
	}{
		{"skip with the announced set", w.a.Validators(), w.Light(15), nil},
		{"skip with another set", w.b.Validators(), w.Light(15), comet.ErrNeedNextSet},
		{"skip without a set", nil, w.Light(15), comet.ErrNeedNextSet},
		{"the trusted height again, later", nil, w.edited(5, func(h *comet.Header) { h.Time = h.Time.Add(time.Second) }), comet.ErrNotLater},
		{"an earlier height, later", nil, w.edited(4, func(h *comet.Header) { h.Time = h.Time.Add(time.Minute) }), comet.ErrNotLater},
	} {
		if err := comet.Verify(&p, &trusted, c.next, c.block, w.Header(40).Time.Add(time.Hour/2), blinding()); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// TestThresholds: more than 2/3 of the power has to sign, exactly 2/3 is not enough.
func TestThresholds(t *testing.T) {
	for _, c := range []struct {
		powers []int64
		sign   int
		want   error
	}{
		{[]int64{10}, 1, nil},
		{[]int64{10}, 0, comet.ErrTooFewSigned},
		{[]int64{10, 10, 10}, 2, comet.ErrTooFewSigned},
		{[]int64{10, 10, 10}, 3, nil},
		{[]int64{10, 10, 10, 10, 10}, 3, comet.ErrTooFewSigned},
		{[]int64{10, 10, 10, 10, 10}, 4, nil},
		{[]int64{21, 10}, 1, nil},
		{[]int64{20, 10}, 1, comet.ErrTooFewSigned},
		{[]int64{1 << 59, 1 << 58, 1<<58 - 1}, 2, nil},
		{[]int64{1 << 59, 1 << 58, 1<<58 - 1}, 1, comet.ErrTooFewSigned},
	} {
		chain := comettest.New(comettest.Config{Validators: comettest.NewSetOf("t", c.powers...)})
		chain.Run(2)
		if err := clientAt(chain, 1).Advance(chain.Block(2).Signed(comettest.FirstN(c.sign)), chain.Time()); !errors.Is(err, c.want) {
			t.Errorf("%d of %v sign: got %v, want %v", c.sign, c.powers, err, c.want)
		}
	}
}

// TestOneTraitorCountedTwice: one of four validators helps a forger. Its signature is
// in the commit twice, the second time behind the ones that the forger's own set needs,
// where nobody looks at addresses. It must not count as half of the trusted power.
func TestOneTraitorCountedTwice(t *testing.T) {
	w := newWorld()
	traitor := w.a.Signers()[0]
	own := comettest.SetOf(append(comettest.NewSetOf("forger", 1000, 1, 1).Signers(), comettest.Signer{Key: traitor.Key, Power: 2}))
	h := w.Header(9)
	h.ValidatorsHash = own.Hash()
	b := comettest.Sign(h, own, comettest.Signing{})
	client := clientAt(w.Chain, 5)
	if err := client.Advance(w.Light(6), w.Time()); err != nil {
		t.Fatal(err)
	}
	if err := client.Advance(b, w.Time()); !errors.Is(err, comet.ErrNotTrusted) {
		t.Fatalf("counted once: %v", err)
	}
	b.Commit.Signatures[2] = b.Commit.Signatures[1]
	if err := client.Advance(b, w.Time()); !errors.Is(err, comet.ErrMalformed) || client.Trusted().Height != 6 {
		t.Fatalf("counted twice: %v", err)
	}
}

func flags(f ...uint8) comettest.Signing {
	return comettest.Signing{Flag: func(i int) uint8 { return f[i] }}
}

func without(b *comet.LightBlock) *comet.LightBlock { b.Validators = nil; return b }

func with(b *comet.LightBlock, s *comettest.Set) *comet.LightBlock {
	b.Validators = s.Validators()
	return b
}

func alter(b *comet.LightBlock, f func(*comet.LightBlock)) *comet.LightBlock { f(b); return b }

// TestSkipping: with the announced set known, a client skips to where a third of it
// still signs, and no further.
func TestSkipping(t *testing.T) {
	w := newWorld()
	walk := func(heights ...int64) error {
		client := clientAt(w.Chain, heights[0])
		for _, h := range heights[1:] {
			if err := client.Advance(w.Light(h), w.Time()); err != nil {
				return fmt.Errorf("block %d: %w", h, err)
			}
		}
		return nil
	}
	for _, c := range []struct {
		name string
		path []int64
		want error
	}{
		{"every block", []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22}, nil},
		{"one per set: each announces the next", []int64{1, 10, 20, 40}, nil},
		{"half of the set is enough", []int64{1, 2, 15}, nil},
		{"half of the set, then a new one through its announcement", []int64{1, 2, 15, 20, 30}, nil},
		{"nobody of the set is left", []int64{1, 2, 30}, comet.ErrNotTrusted},
		{"nobody of the set is left, from its last block but one", []int64{12, 19, 22}, comet.ErrNotTrusted},
		{"the set is not known", []int64{1, 15}, comet.ErrNeedNextSet},
		{"the set of the block before is not the announced one", []int64{5, 10, 25}, comet.ErrNeedNextSet},
	} {
		if err := walk(c.path...); !errors.Is(err, c.want) {
			t.Errorf("%s %v: got %v, want %v", c.name, c.path, err, c.want)
		}
	}
}

// TestTrustNeedsMoreThanAThird: of six validators with equal power, two that stay are
// not enough, three are. The forger's own validators make up the rest.
func TestTrustNeedsMoreThanAThird(t *testing.T) {
	set := comettest.NewSet("six", 6)
	for n, want := range map[int]error{0: comet.ErrNotTrusted, 2: comet.ErrNotTrusted, 3: nil} {
		c := comettest.New(comettest.Config{Validators: set})
		c.Run(2)
		c.Announce(comettest.SetOf(append(set.Signers()[:n:n], comettest.NewSet("forger", 40).Signers()...)))
		c.Run(10)
		client := clientAt(c, 1)
		if err := client.Advance(c.Light(2), c.Time()); err != nil {
			t.Fatal(err)
		}
		if err := client.Advance(c.Light(9), c.Time()); !errors.Is(err, want) {
			t.Errorf("%d of 6 stay: got %v, want %v", n, err, want)
		}
	}
}

// TestReplacedSet: after the chain replaced its validators, the old ones cannot
// continue it, however many of them sign.
func TestReplacedSet(t *testing.T) {
	w := newWorld()
	client := clientAt(w.Chain, 20)
	old := w.Header(21)
	old.ValidatorsHash = w.b.Hash()
	if err := client.Advance(comettest.Sign(old, w.b, comettest.Signing{}), w.Time()); !errors.Is(err, comet.ErrValidators) {
		t.Errorf("the old set, honest about itself: %v", err)
	}
	forged := comettest.Sign(w.Header(21), w.b, comettest.Signing{})
	if err := client.Advance(with(forged, w.c), w.Time()); !errors.Is(err, comet.ErrMalformed) {
		t.Errorf("the old set, in the new set's place: %v", err)
	}
	later := w.Header(30)
	later.ValidatorsHash = w.b.Hash()
	if err := client.Advance(comettest.Sign(later, w.b, comettest.Signing{}), w.Time()); !errors.Is(err, comet.ErrNeedNextSet) && !errors.Is(err, comet.ErrNotTrusted) {
		t.Errorf("the old set, later: %v", err)
	}
	if err := client.Advance(w.Light(21), w.Time()); err != nil {
		t.Fatal(err)
	}
	if err := client.Advance(comettest.Sign(later, w.b, comettest.Signing{}), w.Time()); !errors.Is(err, comet.ErrNotTrusted) {
		t.Errorf("the old set, later, when the new one is known: %v", err)
	}
}

// TestConflict: two headers for one height that are both validly signed stop the
// client for good and are handed out; anything less changes nothing.
func TestConflict(t *testing.T) {
	w := newWorld()
	f := comettest.New(comettest.Config{Validators: w.a})
	f.Run(5)
	fork := f.Fork("fork")
	fork.Run(9)
	start := func(t *testing.T) *comet.Client {
		client := clientAt(w.Chain, 5)
		for h := int64(6); h <= 8; h++ {
			if err := client.Advance(w.Light(h), w.Time()); err != nil {
				t.Fatal(err)
			}
		}
		return client
	}
	lunatic := func(set *comettest.Set) *comet.LightBlock {
		h := w.Header(7)
		h.ValidatorsHash, h.AppHash = set.Hash(), make([]byte, 32)
		return comettest.Sign(h, set, comettest.Signing{})
	}
	for _, c := range []struct {
		name  string
		block *comet.LightBlock
		want  error
	}{
		{"the same block again", w.Light(7), nil},
		{"the same block, signed by others of its set", w.Block(7).Signed(comettest.FirstN(3)), nil},
		{"a block that was never verified", w.Light(4), comet.ErrNotLater},
		{"the newest height, forked", fork.Light(8), comet.ErrConflict},
		{"an older height, forked", fork.Light(6), comet.ErrConflict},
		{"forked, without validators: they are known", without(fork.Light(7)), comet.ErrConflict},
		{"forked, signed by too few", fork.Block(7).Signed(comettest.FirstN(2)), comet.ErrTooFewSigned},
		{"forked, badly signed", fork.Block(7).Signed(comettest.Signing{Alter: func(_ int, s *[64]byte) { s[0] ^= 1 }}), comet.ErrSignature},
		{"forked, of another chain", fork.Block(7).Signed(comettest.Signing{ChainID: "other"}), comet.ErrSignature},
		{"another set, with half of the validators", lunatic(w.b), comet.ErrConflict},
		{"another set, with none of the validators", lunatic(w.c), comet.ErrNotTrusted},
		{"another set, without it", without(lunatic(w.b)), comet.ErrValidators},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := start(t)
			before := client.TrustedHash()
			if err := client.Advance(c.block, w.Time()); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if client.TrustedHash() != before {
				t.Error("the trusted header changed")
			}
			next := client.Advance(w.Light(9), w.Time())
			if c.want != comet.ErrConflict {
				if next != nil || client.Conflict() != nil {
					t.Fatalf("the client does not go on: %v", next)
				}
				return
			}
			e := client.Conflict()
			if !errors.Is(next, comet.ErrHalted) || e == nil || client.TrustedHash() != before {
				t.Fatalf("the client goes on after a conflict: %v", next)
			}
			mine := w.Header(c.block.Header.Height)
			if e.Trusted.Hash() != mine.Hash() || e.Other.Header.Hash() != c.block.Header.Hash() || e.Other.Validators == nil {
				t.Error("the evidence is not of the two headers")
			}
		})
	}
}

// TestConflictMemory: conflicts are noticed at the newest 128 verified heights; older
// ones are forgotten.
func TestConflictMemory(t *testing.T) {
	c := comettest.New(comettest.Config{Validators: comettest.NewSet("one", 1)})
	c.Run(3)
	fork := c.Fork("fork")
	c.Run(140)
	fork.Run(140)
	client := clientAt(c, 1)
	for h := int64(2); h <= 140; h++ {
		if err := client.Advance(c.Light(h), c.Time()); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Advance(fork.Light(12), c.Time()); !errors.Is(err, comet.ErrNotLater) {
		t.Errorf("129 back: %v", err)
	}
	c.Run(145)
	clone := client.Clone()
	for h := int64(141); h <= 145; h++ { // a clone that goes on forgets for itself alone
		if err := clone.Advance(c.Light(h), c.Time()); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Advance(fork.Light(13), c.Time()); !errors.Is(err, comet.ErrConflict) {
		t.Errorf("128 back: %v", err)
	}
	if clone.Conflict() != nil {
		t.Error("a conflict of one client reached its clone")
	}
	clone.Halt(client.Conflict())
	if err := clone.Advance(c.Light(145), c.Time()); !errors.Is(err, comet.ErrHalted) {
		t.Errorf("halted clone: %v", err)
	}
}

// TestClockMonotone: the host's clock may be turned back, but the client's stays where
// it was: it never makes an expired header valid again.
func TestClockMonotone(t *testing.T) {
	w := newWorld()
	client := clientAt(w.Chain, 5)
	late := w.Header(5).Time.Add(period)
	if err := client.Advance(w.Light(6), late); !errors.Is(err, comet.ErrExpired) {
		t.Fatal(err)
	}
	if err := client.Advance(w.Light(6), w.Header(6).Time); !errors.Is(err, comet.ErrExpired) {
		t.Fatalf("turning the clock back renewed trust: %v", err)
	}
	// A clock that is turned back, or was never set, is at least at the newest header.
	client = clientAt(w.Chain, 5)
	if err := client.Advance(w.Light(6), time.Time{}); err != nil {
		t.Fatalf("a clock that is behind the trusted header: %v", err)
	}
	far := w.edited(7, func(h *comet.Header) { h.Time = w.Header(6).Time.Add(drift) })
	if err := client.Advance(far, time.Time{}); !errors.Is(err, comet.ErrFromFuture) {
		t.Fatalf("a stopped clock allowed a jump: %v", err)
	}
}

// TestLongRangeFork: validators that left long ago sell their keys. A client whose
// trusted header is too old refuses what they sign, at every height.
func TestLongRangeFork(t *testing.T) {
	w := newWorld()
	fork := w.Fork("old keys")
	client := clientAt(w.Chain, 40)
	fork.Announce(w.c)
	fork.Run(60)
	now := w.Header(40).Time.Add(period + time.Second)
	for h := int64(41); h <= 60; h++ {
		if err := client.Advance(fork.Light(h), now); !errors.Is(err, comet.ErrExpired) {
			t.Fatalf("block %d: %v", h, err)
		}
	}
}

// TestClone: advancing a clone leaves the original where it was.
func TestClone(t *testing.T) {
	w := newWorld()
	client := clientAt(w.Chain, 5)
	before := client.TrustedHash()
	clone := client.Clone()
	for h := int64(6); h <= 25; h++ {
		if err := clone.Advance(w.Light(h), w.Time()); err != nil {
			t.Fatal(err)
		}
	}
	if client.TrustedHash() != before || client.Trusted().Height != 5 || clone.Trusted().Height != 25 {
		t.Fatal("clones share their position")
	}
	if err := client.Advance(w.Light(6), w.Time()); err != nil {
		t.Fatal(err)
	}
}

// TestSmallOrderKeyUnderZIP215: the chain accepts such signatures, so this client must.
// The standard library's verifier, which has no cofactor, would not.
func TestSmallOrderKeyUnderZIP215(t *testing.T) {
	w := newWorld()
	key := [32]byte{1} // the identity
	set := &comet.ValidatorSet{Validators: []comet.Validator{{PublicKey: key, Power: 5}}}
	hash := set.Hash()
	trusted, h := w.Header(5), w.Header(6)
	trusted.NextValidatorsHash, h.ValidatorsHash = hash[:], hash[:]
	b := comettest.Sign(h, comettest.NewSet("x", 1), comettest.Signing{})
	b.Validators = set
	s := &b.Commit.Signatures[0]
	s.Address, s.Signature = set.Validators[0].Address(), [64]byte{}
	// R is the point of order 4 whose encoding is zero, S is 0.
	if ed25519.Verify(key[:], comet.VoteSignBytes(w.ChainID(), &b.Commit, s.Time), s.Signature[:]) {
		t.Fatal("this signature does not tell the two rules apart")
	}
	p := params(w.Chain)
	if err := comet.Verify(&p, &trusted, nil, b, w.Time(), blinding()); err != nil {
		t.Fatal(err)
	}
}

func TestErrors(t *testing.T) {
	w := newWorld()
	err := clientAt(w.Chain, 5).Advance(w.Block(6).Signed(comettest.FirstN(2)), w.Time())
	const want = "light client: too few validators signed: power 20 of 40 signed block 6"
	if err == nil || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
	var e *comet.Error
	if !errors.As(err, &e) || e.Kind != comet.ErrTooFewSigned || errors.Is(err, comet.ErrSignature) {
		t.Fatalf("%#v", err)
	}
}
