package grandpatest

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand"
	"time"

	"golang.org/x/crypto/blake2b"

	"github.com/phala-go/phala/lightclient/grandpa"
	"github.com/phala-go/phala/lightclient/grandpa/scale"
	"github.com/phala-go/phala/lightclient/grandpa/storage"
	"github.com/phala-go/phala/lightclient/grandpa/trie"
)

// RandomEntries returns n or fewer entries with distinct keys that share prefixes of all lengths and values around
// the sizes at which the trie format changes.
func RandomEntries(r *rand.Rand, n int) []trie.Entry {
	stem := make([]byte, r.Intn(20))
	r.Read(stem)
	seen := map[string]bool{}
	var out []trie.Entry
	for range n {
		var key []byte
		switch r.Intn(4) {
		case 0:
			key = make([]byte, 1+r.Intn(3))
		case 1:
			key = make([]byte, 32)
		case 2:
			key = make([]byte, 1+r.Intn(2))
		default:
			key = make([]byte, 1)
		}
		r.Read(key)
		switch r.Intn(3) {
		case 0:
			key = append(append([]byte(nil), stem...), key...)
		case 1:
			key = append(append(append([]byte(nil), stem...), make([]byte, r.Intn(200))...), key...)
		}
		if seen[string(key)] {
			continue
		}
		seen[string(key)] = true
		value := make([]byte, []int{0, 1, 31, 32, 33, 34, 64, 200}[r.Intn(8)])
		r.Read(value)
		out = append(out, trie.Entry{Key: key, Value: value})
	}
	return out
}

// A Voter is a GRANDPA authority with its private key.
type Voter struct {
	grandpa.Authority
	Private ed25519.PrivateKey
	Faulty  bool // signs anything
}

// NewVoter makes a voter whose key follows from seed and index.
func NewVoter(seed int64, index int, weight uint64) *Voter {
	s := blake2b.Sum256(fmt.Appendf(nil, "grandpatest voter %d %d", seed, index))
	v := &Voter{Private: ed25519.NewKeyFromSeed(s[:])}
	copy(v.Key[:], v.Private.Public().(ed25519.PublicKey))
	v.Weight = weight
	return v
}

// Vote signs a precommit.
func (v *Voter) Vote(target grandpa.BlockID, round, setID uint64) grandpa.Vote {
	vote := grandpa.Vote{Target: target, Authority: v.Key}
	copy(vote.Signature[:], ed25519.Sign(v.Private, grandpa.SigningPayload(target, round, setID)))
	return vote
}

// Authorities returns the authority list of voters.
func Authorities(voters []*Voter) []grandpa.Authority {
	out := make([]grandpa.Authority, len(voters))
	for i, v := range voters {
		out[i] = v.Authority
	}
	return out
}

// A Block is a header in the network's block tree, with its state.
type Block struct {
	*grandpa.Header
	ID     grandpa.BlockID
	Parent *Block
	State  *Trie
	// Change is the scheduled change that the block announces, with the voters behind it.
	Change *grandpa.ScheduledChange
	Next   []*Voter
}

// Extends reports whether b is base or a descendant of it.
func (b *Block) Extends(base *Block) bool {
	for ; b != nil && b.Number > base.Number; b = b.Parent {
	}
	return b == base
}

// Options describe a network.
type Options struct {
	Seed        int64
	Voters      int    // voters in each set
	ChangeEvery uint32 // blocks between announced set changes; 0 for none
	MaxDelay    uint32 // largest delay of a change
	RandomState bool   // give each block a state trie with the typed reads' items
}

// A Network is a simulated chain with GRANDPA. Fewer than a third of each set's weight is faulty.
type Network struct {
	Rand      *rand.Rand
	Options   Options
	Genesis   *Block
	Finalized *Block // the highest block that a round has finalized
	Best      *Block // head of the canonical chain, which honest voters never leave
	All       []*Block
	Voters    []*Voter // present set
	SetID     uint64
	Round     uint64
	History   []grandpa.SetChange
	Stored    map[uint32]*grandpa.Justification // justifications of the rounds' targets by number
	// Reachable is the highest canonical block that honest and faulty votes of any one round together could finalize.
	Reachable *Block
	OldVotes  []SignedVote // honest votes of all rounds, for replays

	pendingAt uint32
	pending   []*Voter
	nextVoter int
}

// A SignedVote is a vote with the round and set under which it was signed.
type SignedVote struct {
	grandpa.Vote
	Round, SetID uint64
}

// firstSlot is the slot of block 1: 2026-01-01 with slots of 6 s.
const firstSlot = 1_767_225_600 / 6

// Params returns the client parameters that fit the network.
func Params() grandpa.Params { return grandpa.PolkadotParams() }

// NewNetwork makes a network at its genesis block.
func NewNetwork(o Options) *Network {
	n := &Network{Rand: rand.New(rand.NewSource(o.Seed)), Options: o, Stored: map[uint32]*grandpa.Justification{}}
	n.Voters = n.newSet(nil)
	n.Genesis = n.block(nil, "", nil)
	n.Finalized, n.Best, n.Reachable = n.Genesis, n.Genesis, n.Genesis
	return n
}

// newSet makes a set: part of the present voters, the rest new; or, now and then, the same list once more. Faulty
// voters have less than a third of the weight.
func (n *Network) newSet(present []*Voter) []*Voter {
	if present != nil && n.Rand.Intn(5) == 0 {
		return present
	}
	var set []*Voter
	var total uint64
	for _, v := range present {
		if n.Rand.Intn(3) > 0 && len(set) < n.Options.Voters {
			set = append(set, v)
		}
	}
	for len(set) < n.Options.Voters {
		weight := uint64(1)
		if n.Options.Seed%2 == 1 {
			weight = 1 + uint64(n.Rand.Intn(5))
		}
		set = append(set, NewVoter(n.Options.Seed, n.nextVoter, weight))
		n.nextVoter++
	}
	n.Rand.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	for i, v := range set {
		c := *v
		c.Faulty = false
		set[i], total = &c, total+v.Weight
	}
	var faulty uint64
	for _, v := range set {
		if 3*(faulty+v.Weight) < total {
			v.Faulty, faulty = true, faulty+v.Weight
		}
	}
	return set
}

// Set returns the present authority set.
func (n *Network) Set() *grandpa.AuthoritySet {
	set, err := grandpa.NewAuthoritySet(n.SetID, Authorities(n.Voters))
	if err != nil {
		panic(err)
	}
	return set
}

// Now returns a time just after the newest block.
func (n *Network) Now() time.Time {
	slot, _ := n.All[len(n.All)-1].Slot()
	best, _ := n.Best.Slot()
	t, _ := Params().SlotTime(max(slot, best))
	return t.Add(10 * time.Second)
}

// block adds a child of parent to the tree. extra logs follow the pre-runtime digest.
func (n *Network) block(parent *Block, salt string, extra []grandpa.DigestItem) *Block {
	h := &grandpa.Header{}
	b := &Block{Header: h, Parent: parent}
	slot := uint64(firstSlot)
	if parent != nil {
		h.ParentHash, h.Number = parent.ID.Hash, parent.Number+1
		slot, _ = parent.Slot()
		slot += 1 + uint64(n.Rand.Intn(3))
	}
	h.ExtrinsicsRoot = blake2b.Sum256([]byte(salt))
	h.StateRoot = blake2b.Sum256(fmt.Appendf(nil, "state %d %s", h.Number, salt))
	if n.Options.RandomState {
		b.State = BuildTrie(StateEntries(h.Number, slot), Version1)
		h.StateRoot = b.State.Root
	}
	pre := binary.LittleEndian.AppendUint64([]byte{2, 0, 0, 0, 0}, slot)
	h.Digest = append([]grandpa.DigestItem{{Kind: grandpa.DigestPreRuntime, Engine: grandpa.EngineBABE, Data: pre}}, extra...)
	h.Digest = append(h.Digest, grandpa.DigestItem{Kind: grandpa.DigestSeal, Engine: grandpa.EngineBABE, Data: make([]byte, 64)})
	b.ID = h.ID()
	n.All = append(n.All, b)
	return b
}

// Extend adds a block to the canonical chain; when a change is due and none pending, the block announces it.
func (n *Network) Extend() *Block {
	var extra []grandpa.DigestItem
	if n.Rand.Intn(4) == 0 {
		extra = append(extra, grandpa.DigestItem{Kind: grandpa.DigestConsensus, Engine: grandpa.EngineGRANDPA,
			Data: append([]byte{3}, make([]byte, 8)...)}) // OnDisabled(0)
	}
	number := n.Best.Number + 1
	every := n.Options.ChangeEvery
	announce := every > 0 && n.pending == nil && number%every == 0
	if !announce {
		n.Best = n.block(n.Best, "canonical", extra)
		return n.Best
	}
	next := n.newSet(n.Voters)
	change := &grandpa.ScheduledChange{Next: Authorities(next)}
	if n.Options.MaxDelay > 0 {
		change.Delay = uint32(n.Rand.Intn(int(n.Options.MaxDelay) + 1))
	}
	n.Best = n.block(n.Best, "canonical", append(extra, change.DigestItem()))
	n.Best.Change, n.Best.Next = change, next
	n.pending, n.pendingAt = next, number+change.Delay
	return n.Best
}

// Fork adds a chain of blocks, not canonical, above base and returns its head.
func (n *Network) Fork(base *Block, length int) *Block {
	for range length {
		base = n.block(base, fmt.Sprintf("fork %d", len(n.All)), nil)
	}
	return base
}

// Canonical returns the canonical block with the given number.
func (n *Network) Canonical(number uint32) *Block {
	b := n.Best
	for b.Number > number {
		b = b.Parent
	}
	return b
}

// Headers returns the headers after base up to and including head.
func Headers(base, head *Block) []*grandpa.Header {
	var out []*grandpa.Header
	for b := head; b != nil && b.Number > base.Number; b = b.Parent {
		out = append(out, b.Header)
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

// RunRound lets the chain grow, the voters precommit, and finalizes what they agree on. Honest voters vote for the
// canonical chain, some of them for forks above the last block that is sure to be finalized, few enough that with
// all faulty votes those forks stay below the threshold. It returns the update from the block finalized before.
func (n *Network) RunRound() *grandpa.Update {
	for range 1 + n.Rand.Intn(3) {
		n.Extend()
	}
	limit := n.Best // no vote goes past the end of the set
	if n.pending != nil && limit.Number > n.pendingAt {
		limit = n.Canonical(n.pendingAt)
	}
	base := n.Finalized
	common := n.Canonical(base.Number + 1 + uint32(n.Rand.Intn(int(limit.Number-base.Number))))
	fork := n.Fork(common, 1+n.Rand.Intn(3))
	n.Round++
	set := n.Set()
	var votes []grandpa.Vote
	targets := map[grandpa.BlockID]*Block{}
	var faultyWeight, forkWeight uint64
	for _, v := range n.Voters {
		if v.Faulty {
			faultyWeight += v.Weight
		}
	}
	for _, v := range n.Voters {
		if v.Faulty && n.Rand.Intn(2) == 0 {
			continue // silent
		}
		target := common
		for target != limit && n.Rand.Intn(3) == 0 {
			target = n.Canonical(target.Number + 1)
		}
		if common != limit && !v.Faulty && n.Rand.Intn(4) == 0 && forkWeight+v.Weight+faultyWeight < set.Threshold() {
			target, forkWeight = fork, forkWeight+v.Weight
		}
		vote := v.Vote(target.ID, n.Round, n.SetID)
		votes, targets[target.ID] = append(votes, vote), target
		if !v.Faulty {
			n.OldVotes = append(n.OldVotes, SignedVote{Vote: vote, Round: n.Round, SetID: n.SetID})
		}
	}
	n.noteReachable(set, votes, targets, faultyWeight)
	ghost := n.ghost(set, votes, targets)
	u := &grandpa.Update{Headers: Headers(base, ghost), Justification: n.justify(ghost, n.Round, votes, targets)}
	n.Stored[ghost.Number] = u.Justification
	n.Finalized = ghost
	if n.pending != nil && ghost.Number == n.pendingAt {
		n.History = append(n.History, grandpa.SetChange{SetID: n.SetID, LastBlock: ghost.Number})
		n.Voters, n.pending = n.pending, nil
		n.SetID++
		n.Round = 0
	}
	return u
}

// justify makes a justification of the votes for target and its descendants, as a node gathers them, with the ancestry
// that they need.
func (n *Network) justify(target *Block, round uint64, votes []grandpa.Vote, targets map[grandpa.BlockID]*Block) *grandpa.Justification {
	j := &grandpa.Justification{Round: round, Commit: grandpa.Commit{Target: target.ID}}
	done := map[*Block]bool{}
	for _, v := range votes {
		if !targets[v.Target].Extends(target) {
			continue
		}
		j.Commit.Votes = append(j.Commit.Votes, v)
		for b := targets[v.Target]; b != nil && b.Number > target.Number; b = b.Parent {
			if !done[b] {
				done[b] = true
				j.Ancestries = append(j.Ancestries, b.Header)
			}
		}
	}
	return j
}

// ghost finds, by trying every block, the highest one with the threshold behind it.
func (n *Network) ghost(set *grandpa.AuthoritySet, votes []grandpa.Vote, targets map[grandpa.BlockID]*Block) *Block {
	best := n.Finalized
	for _, b := range n.All[max(0, len(n.All)-40):] {
		if b.Number > best.Number && n.support(b, votes, targets, nil) >= set.Threshold() {
			best = b
		}
	}
	return best
}

func (n *Network) support(b *Block, votes []grandpa.Vote, targets map[grandpa.BlockID]*Block, only func(*Voter) bool) (weight uint64) {
	for _, vote := range votes {
		for _, v := range n.Voters {
			if v.Key == vote.Authority && (only == nil || only(v)) && targets[vote.Target].Extends(b) {
				weight += v.Weight
			}
		}
	}
	return weight
}

func (n *Network) noteReachable(set *grandpa.AuthoritySet, votes []grandpa.Vote, targets map[grandpa.BlockID]*Block, faulty uint64) {
	honest := func(v *Voter) bool { return !v.Faulty }
	for _, b := range n.All[max(0, len(n.All)-40):] {
		if n.support(b, votes, targets, honest)+faulty < set.Threshold() || b.Number <= n.Reachable.Number {
			continue
		}
		if !n.Best.Extends(b) {
			panic(fmt.Sprintf("seed %d: simulation lets fork block %s be finalized", n.Options.Seed, b.ID))
		}
		n.Reachable = b
	}
}

// Checkpoint returns a checkpoint at the finalized block. It panics while a delayed change is pending.
func (n *Network) Checkpoint() *grandpa.Checkpoint {
	state := &grandpa.AuthoritySetState{Current: Authorities(n.Voters), SetID: n.SetID, History: n.History}
	finalized := n.Finalized.Number
	state.BestFinalized = &finalized
	cp, err := grandpa.NewCheckpoint("synthetic", n.Finalized.Header, state)
	if err != nil {
		panic(err)
	}
	if n.pending != nil && n.Canonical(n.pendingAt).Number <= finalized {
		panic("a delayed change is pending")
	}
	root := n.Genesis.StateRoot
	cp.GenesisStateRoot = &root
	return cp
}

// StateEntries returns a small state with the items that package reads knows, for block number at slot.
func StateEntries(number uint32, slot uint64) []trie.Entry {
	u32 := binary.LittleEndian.AppendUint32
	u64 := binary.LittleEndian.AppendUint64
	u128 := func(b []byte, v uint64) []byte { return scale.AppendU128(b, scale.U128{Lo: v}) }
	account := make([]byte, 32)
	account[0] = 1
	info := u32(u32(u32(u32(nil, 7), 1), 2), 0)
	info = u128(u128(u128(u128(info, 1_000_000), 500), 20), 0)
	paraHeader := &grandpa.Header{Number: number / 2, StateRoot: BuildTrie(ParaEntries(number/2), Version1).Root}
	entries := []trie.Entry{
		{Key: storage.Value("System", "Number"), Value: u32(nil, number)},
		{Key: storage.Value("System", "EventCount"), Value: u32(nil, 2)},
		{Key: storage.Value("System", "Events"), Value: fmt.Appendf(nil, "\x08events of block %d, which are long enough for a node", number)},
		{Key: storage.Value("Timestamp", "Now"), Value: u64(nil, slot*6000)},
		{Key: storage.Map("System", "Account", storage.Blake2_128Concat, account), Value: info},
		{Key: storage.Map("Paras", "Heads", storage.Twox64Concat, u32(nil, 2000)), Value: scale.AppendBytes(nil, paraHeader.Append(nil))},
	}
	for i := range 40 { // other accounts, to give the trie depth
		key := blake2b.Sum256([]byte{byte(i)})
		entries = append(entries, trie.Entry{Key: storage.Map("System", "Account", storage.Blake2_128Concat, key[:]), Value: info})
	}
	return entries
}

// ParaEntries returns the state of the synthetic parachain 2000 at its block number.
func ParaEntries(number uint32) []trie.Entry {
	return []trie.Entry{
		{Key: storage.Value("System", "Number"), Value: binary.LittleEndian.AppendUint32(nil, number)},
		{Key: storage.Value("Timestamp", "Now"), Value: binary.LittleEndian.AppendUint64(nil, uint64(number)*12_000)},
		{Key: storage.Value("ParachainInfo", "ParachainId"), Value: binary.LittleEndian.AppendUint32(nil, 2000)},
	}
}
