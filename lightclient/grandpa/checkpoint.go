package grandpa

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/phala-go/phala/lightclient/grandpa/scale"
)

// Limits on checkpoints.
const (
	MaxCheckpointBytes = 64 << 20 // bytes of a chain specification (those with raw genesis state are large)
	maxHistory         = 1 << 20  // past sets (one each 4 hours for 500 years)
	maxForkDepth       = 32       // nesting of pending changes
	maxForkNodes       = 1024     // pending changes in all
)

// A SetChange is an entry of a checkpoint's history: the last block that the set with this id finalized.
type SetChange struct {
	SetID     uint64
	LastBlock uint32
}

// A PendingChange is an authority change that a node had seen but not enacted when it made the checkpoint.
type PendingChange struct {
	Change    ScheduledChange
	Announced BlockID
	// Forced changes count their delay from the best block instead of the finalized one and carry the median of the
	// last finalized numbers.
	Forced              bool
	MedianLastFinalized uint32
}

// A PendingNode is a standard pending change with those pending on forks above it.
type PendingNode struct {
	Block    BlockID
	Pending  PendingChange
	Children []PendingNode
}

// AuthoritySetState is the GRANDPA state of a full node (sc-consensus-grandpa AuthoritySet) as chain specifications
// carry it in lightSyncState.grandpaAuthoritySet.
type AuthoritySetState struct {
	Current         []Authority
	SetID           uint64
	PendingStandard []PendingNode
	BestFinalized   *uint32
	PendingForced   []PendingChange
	History         []SetChange
}

// A Checkpoint is a trusted finalized block with the authority set that finalizes the blocks after it. Whoever
// supplies it is trusted: take it from the own release, a signature of those one trusts or governance, never from a
// relayer.
type Checkpoint struct {
	ChainID          string // the chain specification's id, such as "polkadot"
	GenesisStateRoot *Hash  // if the specification names it
	Header           *Header
	Set              *AuthoritySet
	State            *AuthoritySetState
}

// ParseCheckpoint reads a chain specification in JSON with a lightSyncState. Members it does not need are ignored.
func ParseCheckpoint(spec []byte) (*Checkpoint, error) {
	if len(spec) > MaxCheckpointBytes {
		return nil, fail(ErrLimit, "chain specification of %d bytes, limit %d", len(spec), MaxCheckpointBytes)
	}
	var file struct {
		ID      string `json:"id"`
		Genesis struct {
			StateRootHash string `json:"stateRootHash"`
		} `json:"genesis"`
		LightSyncState *struct {
			Header       string `json:"finalizedBlockHeader"`
			AuthoritySet string `json:"grandpaAuthoritySet"`
		} `json:"lightSyncState"`
	}
	if err := json.Unmarshal(spec, &file); err != nil {
		return nil, decodeError("chain specification", err)
	}
	if file.LightSyncState == nil {
		return nil, fail(ErrCheckpoint, "chain specification %q has no lightSyncState", file.ID)
	}
	rawHeader, err := unhex("finalizedBlockHeader", file.LightSyncState.Header)
	if err != nil {
		return nil, err
	}
	rawSet, err := unhex("grandpaAuthoritySet", file.LightSyncState.AuthoritySet)
	if err != nil {
		return nil, err
	}
	header, err := DecodeHeader(rawHeader)
	if err != nil {
		return nil, within("finalizedBlockHeader", err)
	}
	state, err := DecodeAuthoritySetState(rawSet)
	if err != nil {
		return nil, err
	}
	cp, err := NewCheckpoint(file.ID, header, state)
	if err != nil {
		return nil, err
	}
	if file.Genesis.StateRootHash != "" {
		root, err := unhex("genesis.stateRootHash", file.Genesis.StateRootHash)
		if err != nil {
			return nil, err
		}
		if len(root) != 32 {
			return nil, fail(ErrDecode, "genesis.stateRootHash has %d bytes, expected 32", len(root))
		}
		cp.GenesisStateRoot = (*Hash)(root)
	}
	return cp, nil
}

func unhex(what, s string) ([]byte, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return nil, fail(ErrDecode, "%s does not start with 0x", what)
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, decodeError(what, err)
	}
	return b, nil
}

// NewCheckpoint makes a checkpoint of a finalized header and the authority set state at it. It refuses states that
// contradict themselves or the header, and those in the middle of a change whose outcome they leave open: one with a
// forced change pending, or with a delayed change announced at or below the header. Another checkpoint, a few blocks
// later or earlier, has neither.
func NewCheckpoint(chainID string, header *Header, state *AuthoritySetState) (*Checkpoint, error) {
	set, err := NewAuthoritySet(state.SetID, state.Current)
	if err != nil {
		return nil, within("checkpoint", err)
	}
	for i, c := range state.History {
		// The ids must grow. The blocks do so too, except around forced changes: Westend's set 5674 ends below 5673.
		if i > 0 && c.SetID <= state.History[i-1].SetID {
			return nil, fail(ErrCheckpoint, "history of sets is out of order at set %d", c.SetID)
		}
	}
	if n := len(state.History); n > 0 {
		last := state.History[n-1]
		if last.SetID+1 != state.SetID || last.LastBlock > header.Number {
			return nil, fail(ErrCheckpoint, "history ends with set %d at #%d, but the current set is %d at #%d",
				last.SetID, last.LastBlock, state.SetID, header.Number)
		}
	}
	if len(state.PendingForced) != 0 {
		return nil, fail(ErrCheckpoint, "a forced authority change is pending at #%d", header.Number)
	}
	for _, p := range state.PendingStandard {
		if p.Block.Number <= header.Number {
			return nil, fail(ErrCheckpoint, "an authority change announced at #%d is pending at #%d",
				p.Block.Number, header.Number)
		}
	}
	change, err := header.ScheduledChange()
	if err != nil {
		return nil, &Error{Kind: ErrCheckpoint, Detail: "finalized header", Cause: err}
	}
	if change != nil {
		if change.Delay != 0 || !slices.Equal(change.Next, state.Current) {
			return nil, fail(ErrCheckpoint, "header #%d announces authorities other than the current set", header.Number)
		}
		if n := len(state.History); n == 0 || state.History[n-1].LastBlock != header.Number {
			return nil, fail(ErrCheckpoint, "header #%d changes the set, but the history does not say so", header.Number)
		}
	}
	return &Checkpoint{ChainID: chainID, Header: header, Set: set, State: state}, nil
}

// SetAt returns the id of the set that finalizes the block with the given number, as far as the checkpoint's history
// tells: it does not for blocks after the checkpoint, in gaps, and where a forced change made two sets overlap.
func (c *Checkpoint) SetAt(number uint32) (setID uint64, ok bool) {
	if number > c.Header.Number {
		return 0, false
	}
	found := 0
	next, first, all := uint64(0), uint32(0), true // the id and first block that the next entry should have
	for _, e := range append(c.State.History[:len(c.State.History):len(c.State.History)], SetChange{c.Set.id, c.Header.Number}) {
		if number >= first && number <= e.LastBlock {
			setID, all = e.SetID, e.SetID == next
			found++
		}
		next = e.SetID + 1
		if e.LastBlock == ^uint32(0) {
			break
		}
		first = e.LastBlock + 1
	}
	return setID, found == 1 && all
}

// DecodeAuthoritySetState decodes the SCALE encoding of a node's GRANDPA state.
func DecodeAuthoritySetState(b []byte) (*AuthoritySetState, error) {
	d := scale.NewDecoder(b)
	s := &AuthoritySetState{Current: readAuthorities(d), SetID: d.U64("set id")}
	nodes := 0
	s.PendingStandard = readForkNodes(d, maxForkDepth, &nodes)
	if d.Option("best finalized number") {
		n := d.U32("best finalized number")
		s.BestFinalized = &n
	}
	n := d.Len(pendingMin, maxForkNodes, "pending forced changes")
	for i := 0; i < n && d.Err() == nil; i++ {
		s.PendingForced = append(s.PendingForced, readPending(d))
	}
	s.History = make([]SetChange, d.Len(12, maxHistory, "authority set changes"))
	for i := range s.History {
		s.History[i] = SetChange{SetID: d.U64("past set id"), LastBlock: d.U32("last block of set")}
	}
	if err := d.Finish(); err != nil {
		return nil, decodeError("authority set state", err)
	}
	return s, nil
}

const pendingMin = 1 + 4 + 4 + 32 + 1

func readForkNodes(d *scale.Decoder, depth int, total *int) (list []PendingNode) {
	n := d.Len(36+pendingMin+1, maxForkNodes-*total, "pending changes")
	if n > 0 && depth == 0 {
		d.Fail(scale.ErrTooLarge, "nesting of pending changes")
	}
	*total += n
	for i := 0; i < n && d.Err() == nil; i++ {
		node := PendingNode{Block: readBlockID(d), Pending: readPending(d)}
		node.Children = readForkNodes(d, depth-1, total)
		list = append(list, node)
	}
	return list
}

func readPending(d *scale.Decoder) (p PendingChange) {
	p.Change = ScheduledChange{Next: readAuthorities(d), Delay: d.U32("delay")}
	p.Announced.Number = d.U32("announcing block")
	p.Announced.Hash = readHash(d, "announcing block")
	if p.Forced = d.Bool("delay kind"); p.Forced {
		p.MedianLastFinalized = d.U32("median last finalized")
	}
	return p
}

// Append appends the SCALE encoding of s to b.
func (s *AuthoritySetState) Append(b []byte) []byte {
	b = appendU64(appendAuthorities(b, s.Current), s.SetID)
	b = appendForkNodes(b, s.PendingStandard)
	b = scale.AppendBool(b, s.BestFinalized != nil)
	if s.BestFinalized != nil {
		b = appendU32(b, *s.BestFinalized)
	}
	b = scale.AppendCompact(b, uint64(len(s.PendingForced)))
	for i := range s.PendingForced {
		b = s.PendingForced[i].append(b)
	}
	b = scale.AppendCompact(b, uint64(len(s.History)))
	for _, c := range s.History {
		b = appendU32(appendU64(b, c.SetID), c.LastBlock)
	}
	return b
}

func appendForkNodes(b []byte, list []PendingNode) []byte {
	b = scale.AppendCompact(b, uint64(len(list)))
	for i := range list {
		b = appendBlockID(b, list[i].Block)
		b = list[i].Pending.append(b)
		b = appendForkNodes(b, list[i].Children)
	}
	return b
}

func (p *PendingChange) append(b []byte) []byte {
	b = appendU32(appendAuthorities(b, p.Change.Next), p.Change.Delay)
	b = append(appendU32(b, p.Announced.Number), p.Announced.Hash[:]...)
	b = scale.AppendBool(b, p.Forced)
	if p.Forced {
		b = appendU32(b, p.MedianLastFinalized)
	}
	return b
}

// JSON returns the checkpoint as a chain specification that [ParseCheckpoint] reads.
func (c *Checkpoint) JSON() []byte {
	genesis := ""
	if c.GenesisStateRoot != nil {
		genesis = fmt.Sprintf("\n  \"genesis\": {\"stateRootHash\": %q},", c.GenesisStateRoot.String())
	}
	id, _ := json.Marshal(c.ChainID) // a string always encodes
	return fmt.Appendf(nil, "{\n  \"id\": %s,%s\n  \"lightSyncState\": {\n    \"finalizedBlockHeader\": \"0x%x\",\n"+
		"    \"grandpaAuthoritySet\": \"0x%x\"\n  }\n}\n", id, genesis, c.Header.Append(nil), c.State.Append(nil))
}
