package comet

import (
	"bytes"
	"io"
	"time"

	"github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// Flags of a commit's signatures.
const (
	FlagAbsent uint8 = 1
	FlagCommit uint8 = 2
	FlagNil    uint8 = 3
)

// A CommitSig is one validator's precommit.
type CommitSig struct {
	Flag      uint8
	Address   Address
	Time      time.Time
	Signature [64]byte
}

// A Commit is the set of precommits that decided a block. Signature i belongs to
// validator i of the block's set.
type Commit struct {
	Height     int64
	Round      int32
	BlockID    BlockID
	Signatures []CommitSig
}

// A LightBlock is what a header needs to be verified. Validators may be nil where
// the client has the set already.
type LightBlock struct {
	Header     Header
	Commit     Commit
	Validators *ValidatorSet
}

var zip215 = &ed25519.Options{Verify: ed25519.VerifyOptionsZIP_215}

// A tally collects the signatures of a commit on which a verdict depends and checks
// them in one batch. A signature that counts twice, for the trusted set and for the
// block's own, is in it once.
type tally struct {
	commit *Commit
	sign   signBytes
	by     []voter // of each signature, as far as it is collected
	batch  *ed25519.BatchVerifier
	n      int
}

type voter struct {
	key      [32]byte
	expanded *ed25519.ExpandedPublicKey
	vote     []byte
}

func newTally(chainID string, c *Commit) *tally {
	return &tally{commit: c, sign: newSignBytes(chainID, c), by: make([]voter, len(c.Signatures)),
		batch: ed25519.NewBatchVerifierWithCapacity(len(c.Signatures))}
}

// add collects signature i as that of validator v of a set.
func (t *tally) add(set *ValidatorSet, v, i int) error {
	s, by := &t.commit.Signatures[i], &t.by[i]
	if by.expanded != nil {
		if by.key != set.Validators[v].PublicKey {
			return errf(ErrMalformed, "two keys have the address %x", s.Address)
		}
		return nil
	}
	key, err := set.key(v)
	if err != nil {
		return err
	}
	*by = voter{set.Validators[v].PublicKey, key, t.sign.vote(s.Time)}
	t.batch.AddExpandedWithOptions(key, by.vote, s.Signature[:], zip215)
	t.n++
	return nil
}

// check verifies every signature that was collected.
func (t *tally) check(rng io.Reader) error {
	if t.n > 1 && t.batch.VerifyBatchOnly(rng) {
		return nil
	}
	for i := range t.by {
		by := &t.by[i]
		if by.expanded != nil && !ed25519.VerifyExpandedWithOptions(by.expanded, by.vote, t.commit.Signatures[i].Signature[:], zip215) {
			return errf(ErrSignature, "signature %d of %d, of validator %x, does not verify", i, len(t.by), t.commit.Signatures[i].Address)
		}
	}
	return nil
}

// own collects signatures of more than 2/3 of the power of set, which is checked and
// is that of the block itself. It stops when the power suffices, as the chain's own
// verifier does.
func (t *tally) own(set *ValidatorSet) error {
	c := t.commit
	if len(c.Signatures) != len(set.Validators) {
		return errf(ErrMalformed, "%d signatures for %d validators", len(c.Signatures), len(set.Validators))
	}
	var power int64
	for i := range c.Signatures {
		s := &c.Signatures[i]
		if s.Flag != FlagCommit {
			continue
		}
		if s.Address != set.addresses[i] {
			return errf(ErrMalformed, "signature %d is of %x, validator %d is %x", i, s.Address, i, set.addresses[i])
		}
		if err := t.add(set, i, i); err != nil {
			return err
		}
		if power += set.Validators[i].Power; power > set.total*2/3 {
			return nil
		}
	}
	return errf(ErrTooFewSigned, "power %d of %d signed block %d", power, set.total, c.Height)
}

// trusting collects signatures of more than 1/3 of the power of a trusted set, which
// is checked, whatever set the commit itself is of.
func (t *tally) trusting(set *ValidatorSet) error {
	var power int64
	seen := make([]bool, len(set.Validators))
	for i := range t.commit.Signatures {
		s := &t.commit.Signatures[i]
		if s.Flag != FlagCommit {
			continue
		}
		v, ok := set.index[s.Address]
		if !ok {
			continue
		}
		if seen[v] {
			return errf(ErrMalformed, "validator %x signed twice", s.Address)
		}
		seen[v] = true
		if err := t.add(set, v, i); err != nil {
			return err
		}
		if power += set.Validators[v].Power; power > set.total/3 {
			return nil
		}
	}
	return errf(ErrNotTrusted, "power %d of %d of the trusted set signed block %d", power, set.total, t.commit.Height)
}

// checkForm checks a light block by itself: it is of the chain, its commit is for
// its header, its sizes are possible.
func (b *LightBlock) checkForm(chainID string) error {
	h, c := &b.Header, &b.Commit
	if h.ChainID != chainID {
		return errf(ErrWrongChain, "header of %q, want %q", h.ChainID, chainID)
	}
	if err := h.check(); err != nil {
		return err
	}
	if c.Round < 0 {
		return errf(ErrMalformed, "commit of round %d", c.Round)
	}
	hash := h.Hash()
	if c.Height != h.Height || !bytes.Equal(c.BlockID.Hash, hash[:]) || len(c.BlockID.PartsHash) != 32 || c.BlockID.PartsTotal == 0 {
		return errf(ErrMalformed, "commit is for block %d %x, header is %d %x", c.Height, c.BlockID.Hash, h.Height, hash)
	}
	if len(c.Signatures) == 0 || len(c.Signatures) > MaxValidators {
		return errf(ErrMalformed, "%d signatures", len(c.Signatures))
	}
	return nil
}

// checkValidators checks that the block came with the set that its header names.
func (b *LightBlock) checkValidators() error {
	h := &b.Header
	if b.Validators == nil {
		return errf(ErrValidators, "header %d came without its validators", h.Height)
	}
	if err := b.Validators.check(); err != nil {
		return err
	}
	if got := b.Validators.Hash(); !bytes.Equal(got[:], h.ValidatorsHash) {
		return errf(ErrValidators, "set hashes to %x, header %d names %x", got, h.Height, h.ValidatorsHash)
	}
	return nil
}
