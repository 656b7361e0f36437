package comet

import (
	"bytes"
	"io"
	"time"
)

// Params are fixed for a client's life.
type Params struct {
	ChainID string
	// TrustingPeriod is how old a header may be and still vouch for the next. It is
	// shorter than the chain's unbonding period: later, its signers can no longer be
	// punished.
	TrustingPeriod time.Duration
	// MaxClockDrift is how far a header may be ahead of the clock.
	MaxClockDrift time.Duration
}

// Verify decides whether b may be trusted given the trusted header. trustedNext is
// the set with the hash that trusted announces; it is needed to skip and may be nil
// otherwise. now is the verifier's clock, rng blinds batch verification.
//
// Cheap checks of what the relayer chose come first, signatures last.
func Verify(p *Params, trusted *Header, trustedNext *ValidatorSet, b *LightBlock, now time.Time, rng io.Reader) error {
	if err := b.checkForm(p.ChainID); err != nil {
		return err
	}
	h := &b.Header
	switch {
	case !trusted.Time.Add(p.TrustingPeriod).After(now):
		return errf(ErrExpired, "header %d of %s at %s", trusted.Height, trusted.Time, now)
	case h.Height <= trusted.Height:
		return errf(ErrNotLater, "height %d after %d", h.Height, trusted.Height)
	case !h.Time.After(trusted.Time):
		return errf(ErrNotLater, "time %s after %s", h.Time, trusted.Time)
	case !h.Time.Before(now.Add(p.MaxClockDrift)):
		return errf(ErrFromFuture, "time %s, clock %s", h.Time, now)
	}
	if err := b.checkValidators(); err != nil {
		return err
	}
	t := newTally(p.ChainID, &b.Commit)
	same := bytes.Equal(h.ValidatorsHash, trusted.NextValidatorsHash)
	switch {
	case h.Height == trusted.Height+1 && !same:
		return errf(ErrValidators, "header %d names %x, header %d announced %x", h.Height, h.ValidatorsHash, trusted.Height, trusted.NextValidatorsHash)
	case same:
		// 2/3 of the announced set contains 1/3 of it: one check serves for both.
	default:
		if trustedNext == nil {
			return errf(ErrNeedNextSet, "from %d to %d", trusted.Height, h.Height)
		}
		if err := trustedNext.check(); err != nil {
			return err
		}
		if got := trustedNext.Hash(); !bytes.Equal(got[:], trusted.NextValidatorsHash) {
			return errf(ErrNeedNextSet, "set hashes to %x, header %d announced %x", got, trusted.Height, trusted.NextValidatorsHash)
		}
		if err := t.trusting(trustedNext); err != nil {
			return err
		}
	}
	if err := t.own(b.Validators); err != nil {
		return err
	}
	return t.check(rng)
}

// Halt stops the client for good, with evidence that a clone of it found. The first
// evidence stays.
func (c *Client) Halt(evidence *Conflict) {
	if c.conflict == nil {
		c.conflict = evidence
	}
}

// A Conflict is the evidence of two valid headers for one height: a third of the
// validators or more broke the protocol.
type Conflict struct {
	Trusted Header
	Other   LightBlock
}

// keep is how many verified headers a client remembers to notice conflicts.
const keep = 128

// A Client holds a trusted header and walks forward from it. It is not safe for
// concurrent use.
type Client struct {
	params   Params
	rng      io.Reader
	trusted  Header
	hash     Hash
	sets     [2]*ValidatorSet // sets seen last, found by hash
	recent   []remembered
	clock    time.Time
	conflict *Conflict
}

type remembered struct {
	header Header
	hash   Hash
}

// NewClient starts from a trusted header: the trust root, whose hash the caller
// compared with the one that it holds, or one that an earlier client verified and
// that was sealed.
func NewClient(p Params, root Header, rng io.Reader) *Client {
	c := &Client{params: p, rng: rng}
	c.trust(root)
	return c
}

func (c *Client) trust(h Header) {
	c.trusted, c.hash = h, h.Hash()
	if len(c.recent) == keep {
		c.recent = append(c.recent[:0], c.recent[1:]...)
	}
	c.recent = append(c.recent, remembered{h, c.hash})
	// The host's clock may only go forward, and never behind what is verified.
	if h.Time.After(c.clock) {
		c.clock = h.Time
	}
}

// Clone returns a client that goes on from the same state; advancing one does not
// move the other. Prepared validator sets are shared.
func (c *Client) Clone() *Client {
	d := *c
	d.recent = append([]remembered(nil), c.recent...)
	return &d
}

// Trusted returns the newest verified header.
func (c *Client) Trusted() *Header { return &c.trusted }

// TrustedHash returns its hash.
func (c *Client) TrustedHash() Hash { return c.hash }

// Verified returns the hash of the header of a height, where it is one of those that
// this client verified last.
func (c *Client) Verified(height int64) (hash Hash, ok bool) {
	for i := range c.recent {
		if c.recent[i].header.Height == height {
			return c.recent[i].hash, true
		}
	}
	return hash, false
}

// Conflict returns the evidence that halted the client, or nil.
func (c *Client) Conflict() *Conflict { return c.conflict }

func (c *Client) set(hash []byte) *ValidatorSet {
	for _, s := range c.sets {
		if s != nil {
			if h := s.Hash(); bytes.Equal(h[:], hash) {
				return s
			}
		}
	}
	return nil
}

// Err returns ErrHalted once there was a conflict, and nil before.
func (c *Client) Err() error {
	if c.conflict != nil {
		return errf(ErrHalted, "since height %d", c.conflict.Other.Header.Height)
	}
	return nil
}

// Advance verifies b and trusts it. A block for a height that is verified already is
// compared: the same header is no error and changes nothing, another one that is
// validly signed is a conflict. now may go backwards; the client's clock does not. The
// client keeps parts of b, which must not change.
func (c *Client) Advance(b *LightBlock, now time.Time) error {
	if err := c.Err(); err != nil {
		return err
	}
	if now.After(c.clock) {
		c.clock = now
	}
	if known := c.set(b.Header.ValidatorsHash); known != nil {
		b = &LightBlock{b.Header, b.Commit, known}
	}
	if b.Header.Height <= c.trusted.Height {
		return c.compare(b)
	}
	if err := Verify(&c.params, &c.trusted, c.set(c.trusted.NextValidatorsHash), b, c.clock, c.rng); err != nil {
		return err
	}
	if c.sets[0] != b.Validators {
		c.sets[0], c.sets[1] = b.Validators, c.sets[0]
	}
	c.trust(b.Header)
	return nil
}

// compare handles a block at or below the trusted height.
func (c *Client) compare(b *LightBlock) error {
	for i := range c.recent {
		r := &c.recent[i]
		if r.header.Height != b.Header.Height {
			continue
		}
		if b.Header.Hash() == r.hash {
			return nil
		}
		if err := c.verifyOther(r, b); err != nil {
			return err
		}
		c.conflict = &Conflict{r.header, *b}
		return errf(ErrConflict, "height %d: %x and %x", b.Header.Height, r.hash, b.Header.Hash())
	}
	return errf(ErrNotLater, "height %d after %d", b.Header.Height, c.trusted.Height)
}

// verifyOther decides whether another header for a verified height is valid too: its
// validators signed it, and they are those of the verified header or have the trust
// of more than 1/3 of them. If not, it proves nothing.
func (c *Client) verifyOther(r *remembered, b *LightBlock) error {
	if err := b.checkForm(c.params.ChainID); err != nil {
		return err
	}
	if err := b.checkValidators(); err != nil {
		return err
	}
	t := newTally(c.params.ChainID, &b.Commit)
	if !bytes.Equal(b.Header.ValidatorsHash, r.header.ValidatorsHash) {
		known := c.set(r.header.ValidatorsHash)
		if known == nil {
			return errf(ErrValidators, "header %d names %x; the verified one named %x", b.Header.Height, b.Header.ValidatorsHash, r.header.ValidatorsHash)
		}
		if err := t.trusting(known); err != nil {
			return err
		}
	}
	if err := t.own(b.Validators); err != nil {
		return err
	}
	return t.check(c.rng)
}
