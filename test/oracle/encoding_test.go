package oracle

import (
	"bytes"
	"math/rand/v2"
	"testing"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

func randomHeader(rng *rand.Rand) *comet.Header {
	hash := func() []byte {
		if rng.IntN(4) == 0 {
			return nil
		}
		return bytesOf(rng, 32)
	}
	h := &comet.Header{VersionBlock: 11, VersionApp: rng.Uint64N(3), ChainID: string(bytes.Repeat([]byte{'c'}, rng.IntN(51))), Height: rng.Int64(), Time: instant(rng),
		LastCommitHash: hash(), DataHash: hash(), ValidatorsHash: bytesOf(rng, 32), NextValidatorsHash: hash(), ConsensusHash: hash(), AppHash: bytesOf(rng, rng.IntN(33)),
		LastResultsHash: hash(), EvidenceHash: hash(), ProposerAddress: bytesOf(rng, 20)}
	if rng.IntN(4) > 0 {
		h.LastBlockID = comet.BlockID{Hash: hash(), PartsTotal: rng.Uint32() >> rng.IntN(32), PartsHash: hash()}
	}
	if rng.IntN(4) == 0 {
		h.VersionBlock, h.VersionApp, h.Height = rng.Uint64(), rng.Uint64(), 1+rng.Int64N(3)
	}
	return h
}

// TestHeaderHash: our hash of a header is CometBFT's, byte for byte, for headers of
// every shape that the type can hold.
func TestHeaderHash(t *testing.T) {
	rng := source(t, 1)
	for i := range cases(5000) {
		h := randomHeader(rng)
		got := h.Hash()
		if want := toHeader(h).Hash(); !bytes.Equal(got[:], want) {
			t.Fatalf("case %d: %+v\ngot  %x\nwant %s", i, h, got, want)
		}
	}
}

// TestFirstBlock: block 1 has an empty LastBlockID, whose encoding is the easiest to
// get wrong.
func TestFirstBlock(t *testing.T) {
	c := comettest.New(comettest.Config{})
	c.Next()
	h := c.Header(1)
	if len(h.LastBlockID.Hash) != 0 {
		t.Fatal("block 1 names a block before it")
	}
	got := h.Hash()
	if want := toHeader(&h).Hash(); !bytes.Equal(got[:], want) {
		t.Fatalf("got %x, want %s", got, want)
	}
}

// TestValidatorSetHash: our hash of a set is CometBFT's.
func TestValidatorSetHash(t *testing.T) {
	rng := source(t, 2)
	for i := range cases(300) {
		s := new(comet.ValidatorSet)
		for range 1 + rng.IntN(40) {
			s.Validators = append(s.Validators, comet.Validator{PublicKey: [32]byte(bytesOf(rng, 32)), Power: 1 + rng.Int64N(1<<54>>rng.IntN(54))})
		}
		theirs, err := toSet(s)
		if err != nil {
			t.Fatal(err)
		}
		got := s.Hash()
		if want := theirs.Hash(); !bytes.Equal(got[:], want) {
			t.Fatalf("case %d: got %x, want %x", i, got, want)
		}
	}
}

// TestVoteSignBytes: what the synthetic chain's validators sign is what CometBFT's do,
// for blocks and for nil. Package comet's own tests hold its bytes against these.
func TestVoteSignBytes(t *testing.T) {
	rng := source(t, 3)
	for i := range cases(3000) {
		var id comet.BlockID
		if rng.IntN(4) > 0 {
			id = comet.BlockID{Hash: bytesOf(rng, 32), PartsTotal: 1 + rng.Uint32()>>rng.IntN(32), PartsHash: bytesOf(rng, 32)}
		}
		chain, height, round, at := string(bytesOf(rng, rng.IntN(51))), rng.Int64(), rng.Int32()>>rng.IntN(32), instant(rng)
		v := &types.Vote{Type: cmtproto.PrecommitType, Height: height, Round: round, BlockID: toBlockID(id), Timestamp: at, ValidatorAddress: bytesOf(rng, 20)}
		want := types.VoteSignBytes(chain, v.ToProto())
		if got := comettest.VoteSignBytes(chain, height, round, id, at); !bytes.Equal(got, want) {
			t.Fatalf("case %d: %+v\ngot  %x\nwant %x", i, v, got, want)
		}
	}
}

// TestSyntheticChain: CometBFT accepts every commit of a synthetic chain with all
// its signatures, through changes of the set, and the set is in CometBFT's order.
func TestSyntheticChain(t *testing.T) {
	c := comettest.New(comettest.Config{Validators: comettest.NewSetOf("a", 3, 50, 7, 7, 7, 1)})
	for i := range int64(30) {
		if i%7 == 3 {
			c.Announce(comettest.NewSet(string(rune('a'+i)), int(i%9)+1))
		}
		c.Next()
	}
	for h := int64(1); h <= 30; h++ {
		b := c.Light(h)
		set, err := toSet(b.Validators)
		if err != nil {
			t.Fatal(err)
		}
		signed := toSigned(b)
		if err := signed.ValidateBasic(c.ChainID()); err != nil {
			t.Fatalf("block %d: %v", h, err)
		}
		if err := types.VerifyCommit(c.ChainID(), set, signed.Commit.BlockID, h, signed.Commit); err != nil {
			t.Fatalf("block %d: %v", h, err)
		}
		sorted := types.NewValidatorSet(set.Copy().Validators)
		if !bytes.Equal(sorted.Hash(), set.Hash()) {
			t.Fatalf("block %d: the set is not in the chain's order", h)
		}
	}
}
