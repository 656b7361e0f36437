package oracle

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/version"
	"github.com/cometbft/cometbft/types"

	"github.com/phala-go/phala/lightclient/comet"
)

// cases is how many random cases a test tries.
func cases(n int) int {
	if os.Getenv("PHALA_LONG") != "" {
		return 20 * n
	}
	return n
}

// source is a random source with a seed that failures can name.
func source(t testing.TB, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// blinding is the randomness of batch verification.
func blinding() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

func toBlockID(id comet.BlockID) types.BlockID {
	return types.BlockID{Hash: id.Hash, PartSetHeader: types.PartSetHeader{Total: id.PartsTotal, Hash: id.PartsHash}}
}

func toHeader(h *comet.Header) *types.Header {
	return &types.Header{Version: cmtversion.Consensus{Block: h.VersionBlock, App: h.VersionApp}, ChainID: h.ChainID, Height: h.Height, Time: h.Time,
		LastBlockID: toBlockID(h.LastBlockID), LastCommitHash: h.LastCommitHash, DataHash: h.DataHash, ValidatorsHash: h.ValidatorsHash,
		NextValidatorsHash: h.NextValidatorsHash, ConsensusHash: h.ConsensusHash, AppHash: h.AppHash, LastResultsHash: h.LastResultsHash,
		EvidenceHash: h.EvidenceHash, ProposerAddress: h.ProposerAddress}
}

func toCommit(c *comet.Commit) *types.Commit {
	out := &types.Commit{Height: c.Height, Round: c.Round, BlockID: toBlockID(c.BlockID)}
	for _, s := range c.Signatures {
		sig := types.CommitSig{BlockIDFlag: types.BlockIDFlag(s.Flag)}
		if s.Flag != comet.FlagAbsent {
			sig.ValidatorAddress, sig.Timestamp, sig.Signature = s.Address[:], s.Time, s.Signature[:]
		}
		out.Signatures = append(out.Signatures, sig)
	}
	return out
}

func toSigned(b *comet.LightBlock) *types.SignedHeader {
	return &types.SignedHeader{Header: toHeader(&b.Header), Commit: toCommit(&b.Commit)}
}

// toSet takes the way of a set that arrives over the network: order and powers stay
// as they are. It fails where CometBFT refuses the set itself.
func toSet(s *comet.ValidatorSet) (*types.ValidatorSet, error) {
	p := new(cmtproto.ValidatorSet)
	for _, v := range s.Validators {
		val := types.NewValidator(ed25519.PubKey(v.PublicKey[:]), v.Power)
		pv, err := val.ToProto()
		if err != nil {
			return nil, err
		}
		p.Validators = append(p.Validators, pv)
	}
	if len(p.Validators) > 0 {
		p.Proposer = p.Validators[0]
	}
	return types.ValidatorSetFromProto(p)
}

func bytesOf(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func instant(rng *rand.Rand) time.Time {
	s := []int64{0, 1, -1, 1767225600, 253402300799, -62135596800, rng.Int64N(1 << 34)}[rng.IntN(7)]
	n := []int64{0, 1, 999999999, rng.Int64N(1e9)}[rng.IntN(4)]
	return time.Unix(s, n).UTC()
}
