package rpc

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
)

type hexBytes []byte

func (h *hexBytes) UnmarshalText(b []byte) error {
	raw, err := hex.DecodeString(string(b))
	*h = raw
	return err
}

type blockID struct {
	Hash  hexBytes
	Parts struct {
		Total uint32
		Hash  hexBytes
	}
}

func (b *blockID) convert() comet.BlockID {
	return comet.BlockID{Hash: b.Hash, PartsTotal: b.Parts.Total, PartsHash: b.Parts.Hash}
}

type header struct {
	Version struct {
		Block uint64 `json:",string"`
		App   uint64 `json:",string"`
	}
	ChainID            string `json:"chain_id"`
	Height             int64  `json:",string"`
	Time               time.Time
	LastBlockID        blockID  `json:"last_block_id"`
	LastCommitHash     hexBytes `json:"last_commit_hash"`
	DataHash           hexBytes `json:"data_hash"`
	ValidatorsHash     hexBytes `json:"validators_hash"`
	NextValidatorsHash hexBytes `json:"next_validators_hash"`
	ConsensusHash      hexBytes `json:"consensus_hash"`
	AppHash            hexBytes `json:"app_hash"`
	LastResultsHash    hexBytes `json:"last_results_hash"`
	EvidenceHash       hexBytes `json:"evidence_hash"`
	ProposerAddress    hexBytes `json:"proposer_address"`
}

func (h *header) convert() comet.Header {
	return comet.Header{VersionBlock: h.Version.Block, VersionApp: h.Version.App, ChainID: h.ChainID, Height: h.Height, Time: h.Time.UTC(),
		LastBlockID: h.LastBlockID.convert(), LastCommitHash: h.LastCommitHash, DataHash: h.DataHash, ValidatorsHash: h.ValidatorsHash,
		NextValidatorsHash: h.NextValidatorsHash, ConsensusHash: h.ConsensusHash, AppHash: h.AppHash, LastResultsHash: h.LastResultsHash,
		EvidenceHash: h.EvidenceHash, ProposerAddress: h.ProposerAddress}
}

type signedHeader struct {
	Header header
	Commit struct {
		Height     int64 `json:",string"`
		Round      int32
		BlockID    blockID `json:"block_id"`
		Signatures []struct {
			Flag      uint8     `json:"block_id_flag"`
			Address   hexBytes  `json:"validator_address"`
			Time      time.Time `json:"timestamp"`
			Signature []byte
		}
	}
}

// Header returns the header at a height.
func (c *Client) Header(ctx context.Context, height int64) (*comet.Header, error) {
	sh, err := c.commit(ctx, height)
	if err != nil {
		return nil, err
	}
	h := sh.Header.convert()
	return &h, nil
}

func (c *Client) commit(ctx context.Context, height int64) (*signedHeader, error) {
	var r struct {
		SignedHeader *signedHeader `json:"signed_header"`
	}
	if err := c.call(ctx, "commit", map[string]any{"height": strconv.FormatInt(height, 10)}, &r); err != nil {
		return nil, err
	}
	if r.SignedHeader == nil {
		return nil, fmt.Errorf("%w: commit %d", ErrNotFound, height)
	}
	return r.SignedHeader, nil
}

// LightBlock returns header, commit and validators at a height.
func (c *Client) LightBlock(ctx context.Context, height int64) (*comet.LightBlock, error) {
	sh, err := c.commit(ctx, height)
	if err != nil {
		return nil, err
	}
	b := &comet.LightBlock{Header: sh.Header.convert(), Commit: comet.Commit{Height: sh.Commit.Height, Round: sh.Commit.Round, BlockID: sh.Commit.BlockID.convert()}}
	for _, s := range sh.Commit.Signatures {
		cs := comet.CommitSig{Flag: s.Flag}
		if s.Flag != comet.FlagAbsent {
			if len(s.Address) != 20 || len(s.Signature) != 64 {
				return nil, fmt.Errorf("%w: commit %d has a signature of %d bytes by %x", ErrUnreachable, height, len(s.Signature), []byte(s.Address))
			}
			cs.Address, cs.Time, cs.Signature = comet.Address(s.Address), s.Time.UTC(), [64]byte(s.Signature)
		}
		b.Commit.Signatures = append(b.Commit.Signatures, cs)
	}
	b.Validators, err = c.validators(ctx, height)
	return b, err
}

func (c *Client) validators(ctx context.Context, height int64) (*comet.ValidatorSet, error) {
	set := &comet.ValidatorSet{}
	for page := 1; ; page++ {
		var r struct {
			Validators []struct {
				PubKey struct {
					Type  string
					Value []byte
				} `json:"pub_key"`
				Power int64 `json:"voting_power,string"`
			}
			Total int `json:",string"`
		}
		err := c.call(ctx, "validators", map[string]any{"height": strconv.FormatInt(height, 10), "page": strconv.Itoa(page), "per_page": "100"}, &r)
		if err != nil {
			return nil, err
		}
		for _, v := range r.Validators {
			if v.PubKey.Type != "tendermint/PubKeyEd25519" || len(v.PubKey.Value) != 32 {
				return nil, fmt.Errorf("%w: validator key of type %s", ErrUnreachable, v.PubKey.Type)
			}
			set.Validators = append(set.Validators, comet.Validator{PublicKey: [32]byte(v.PubKey.Value), Power: v.Power})
		}
		if len(set.Validators) >= r.Total || len(r.Validators) == 0 || len(set.Validators) > comet.MaxValidators {
			return set, nil
		}
	}
}
