package grandpa

import (
	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// A Vote is a signed precommit: the authority's statement that the target and all its ancestors are to be final.
type Vote struct {
	Target    BlockID
	Signature [64]byte
	Authority Key
}

// voteSize is the encoded size of a signed precommit.
const voteSize = 32 + 4 + 64 + 32

// A Commit is the outcome of a round: the block to be finalized and the precommits that prove it.
type Commit struct {
	Target BlockID
	Votes  []Vote
}

// A Justification proves that a block is final to somebody who knows the authority set: a commit, the round in which
// it was made, and the headers that link votes for descendants back to the commit's target. The set's id is not in
// it; it is the verifier's own knowledge.
type Justification struct {
	Round      uint64
	Commit     Commit
	Ancestries []*Header
}

// DecodeJustification decodes a GrandpaJustification: round ‖ commit ‖ Vec<Header>.
func DecodeJustification(b []byte) (*Justification, error) {
	d := scale.NewDecoder(b)
	j := readJustification(d)
	if err := d.Finish(); err != nil {
		return nil, decodeError("justification", err)
	}
	return j, nil
}

func readBlockID(d *scale.Decoder) (b BlockID) {
	b.Hash = readHash(d, "target hash")
	b.Number = d.U32("target number")
	return b
}

func readJustification(d *scale.Decoder) *Justification {
	j := &Justification{Round: d.U64("round")}
	j.Commit.Target = readBlockID(d)
	j.Commit.Votes = make([]Vote, d.Len(voteSize, MaxVotes, "precommits"))
	for i := range j.Commit.Votes {
		v := &j.Commit.Votes[i]
		v.Target = readBlockID(d)
		copy(v.Signature[:], d.Raw(64, "signature"))
		copy(v.Authority[:], d.Raw(32, "authority"))
	}
	j.Ancestries = readHeaders(d, MaxAncestries, "votes_ancestries")
	return j
}

func readHeaders(d *scale.Decoder, limit int, what string) []*Header {
	n := d.Len(headerMin, limit, what)
	list := make([]*Header, 0, n)
	for i := 0; i < n && d.Err() == nil; i++ {
		list = append(list, readHeader(d))
	}
	return list
}

// Append appends the SCALE encoding of j to b.
func (j *Justification) Append(b []byte) []byte {
	b = appendU64(b, j.Round)
	b = appendBlockID(b, j.Commit.Target)
	b = scale.AppendCompact(b, uint64(len(j.Commit.Votes)))
	for i := range j.Commit.Votes {
		v := &j.Commit.Votes[i]
		b = appendBlockID(b, v.Target)
		b = append(b, v.Signature[:]...)
		b = append(b, v.Authority[:]...)
	}
	return appendHeaders(b, j.Ancestries)
}

func appendBlockID(b []byte, id BlockID) []byte {
	return appendU32(append(b, id.Hash[:]...), id.Number)
}

func appendHeaders(b []byte, list []*Header) []byte {
	b = scale.AppendCompact(b, uint64(len(list)))
	for _, h := range list {
		b = h.Append(b)
	}
	return b
}

// A CommitMessage is the gossip form of a commit: it names the set but carries no ancestries.
type CommitMessage struct {
	Round  uint64
	SetID  uint64
	Commit Commit
}

// DecodeCommitMessage decodes a gossip commit: round ‖ set id ‖ target ‖ Vec<(hash, number)> ‖ Vec<(signature, key)>.
// The two vectors must be of one length.
func DecodeCommitMessage(b []byte) (*CommitMessage, error) {
	d := scale.NewDecoder(b)
	m := &CommitMessage{Round: d.U64("round"), SetID: d.U64("set id")}
	m.Commit.Target = readBlockID(d)
	m.Commit.Votes = make([]Vote, d.Len(36, MaxVotes, "precommits"))
	for i := range m.Commit.Votes {
		m.Commit.Votes[i].Target = readBlockID(d)
	}
	if n := d.Len(96, MaxVotes, "signatures"); d.Err() == nil && n != len(m.Commit.Votes) {
		return nil, fail(ErrDecode, "commit message: %d precommits but %d signatures", len(m.Commit.Votes), n)
	}
	for i := range m.Commit.Votes {
		copy(m.Commit.Votes[i].Signature[:], d.Raw(64, "signature"))
		copy(m.Commit.Votes[i].Authority[:], d.Raw(32, "authority"))
	}
	if err := d.Finish(); err != nil {
		return nil, decodeError("commit message", err)
	}
	return m, nil
}

// Append appends the SCALE encoding of m to b.
func (m *CommitMessage) Append(b []byte) []byte {
	b = appendU64(appendU64(b, m.Round), m.SetID)
	b = appendBlockID(b, m.Commit.Target)
	b = scale.AppendCompact(b, uint64(len(m.Commit.Votes)))
	for i := range m.Commit.Votes {
		b = appendBlockID(b, m.Commit.Votes[i].Target)
	}
	b = scale.AppendCompact(b, uint64(len(m.Commit.Votes)))
	for i := range m.Commit.Votes {
		b = append(b, m.Commit.Votes[i].Signature[:]...)
		b = append(b, m.Commit.Votes[i].Authority[:]...)
	}
	return b
}

// Verify checks the commit against set as [Justification.Verify] does; the message must name the set's id. A gossip
// commit has no ancestries, so votes for descendants of the target do not verify.
func (m *CommitMessage) Verify(set *AuthoritySet) error {
	if m.SetID != set.id {
		return fail(ErrSetID, "commit message names set %d, trusted set is %d", m.SetID, set.id)
	}
	j := Justification{Round: m.Round, Commit: m.Commit}
	return j.Verify(set)
}

// A FinalityProof is the answer of the RPC grandpa_proveFinality for a block: the last block of the set that
// finalizes it, that block's justification, and the headers after the asked block up to it.
type FinalityProof struct {
	Block          Hash
	Justification  *Justification
	UnknownHeaders []*Header
}

// DecodeFinalityProof decodes a FinalityProof: block hash ‖ justification as Vec<u8> ‖ Vec<Header>.
func DecodeFinalityProof(b []byte) (*FinalityProof, error) {
	if len(b) > MaxProofBytes {
		return nil, fail(ErrLimit, "finality proof of %d bytes, limit %d", len(b), MaxProofBytes)
	}
	d := scale.NewDecoder(b)
	p := &FinalityProof{Block: readHash(d, "block hash")}
	inner := d.Bytes(MaxProofBytes, "justification")
	p.UnknownHeaders = readHeaders(d, MaxHeaders, "unknown_headers")
	if err := d.Finish(); err != nil {
		return nil, decodeError("finality proof", err)
	}
	var err error
	if p.Justification, err = DecodeJustification(inner); err != nil {
		return nil, within("finality proof", err)
	}
	return p, nil
}

// Append appends the SCALE encoding of p to b.
func (p *FinalityProof) Append(b []byte) []byte {
	b = append(b, p.Block[:]...)
	b = scale.AppendBytes(b, p.Justification.Append(nil))
	return appendHeaders(b, p.UnknownHeaders)
}

// A WarpFragment is the last block of an authority set (or the newest finalized one) and its justification.
type WarpFragment struct {
	Header        *Header
	Justification *Justification
}

// A WarpProof is the answer to a warp-sync request: one fragment per set change. Finished says that the last
// fragment is the newest finalized block rather than the point where the answer was cut.
type WarpProof struct {
	Fragments []WarpFragment
	Finished  bool
}

// DecodeWarpProof decodes Vec<(Header, GrandpaJustification)> ‖ bool.
func DecodeWarpProof(b []byte) (*WarpProof, error) {
	if len(b) > MaxProofBytes {
		return nil, fail(ErrLimit, "warp proof of %d bytes, limit %d", len(b), MaxProofBytes)
	}
	d := scale.NewDecoder(b)
	n := d.Len(headerMin+8+36+2, MaxWarpFragments, "warp fragments")
	p := &WarpProof{Fragments: make([]WarpFragment, 0, n)}
	for i := 0; i < n && d.Err() == nil; i++ {
		p.Fragments = append(p.Fragments, WarpFragment{Header: readHeader(d), Justification: readJustification(d)})
	}
	p.Finished = d.Bool("is_finished")
	if err := d.Finish(); err != nil {
		return nil, decodeError("warp proof", err)
	}
	return p, nil
}

// Append appends the SCALE encoding of p to b.
func (p *WarpProof) Append(b []byte) []byte {
	b = scale.AppendCompact(b, uint64(len(p.Fragments)))
	for _, f := range p.Fragments {
		b = f.Justification.Append(f.Header.Append(b))
	}
	return scale.AppendBool(b, p.Finished)
}
