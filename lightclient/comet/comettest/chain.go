package comettest

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
)

// A Config says what chain to make. Zero fields have the defaults named beside them.
type Config struct {
	ChainID    string           // "comettest-1"
	Validators *Set             // of the first block: NewSet("genesis", 4)
	Start      time.Time        // of the first block: 2026-01-01 00:00 UTC
	Interval   time.Duration    // between blocks: one second
	Keep       func(int64) bool // which blocks to remember: all
}

// A Block is one block of a chain.
type Block struct {
	Header comet.Header
	Set    *Set // the validators that commit it
	state  *state
}

// Light returns the block signed by all its validators.
func (b *Block) Light() *comet.LightBlock { return Sign(b.Header, b.Set, Signing{}) }

// Signed returns the block signed as how says.
func (b *Block) Signed(how Signing) *comet.LightBlock { return Sign(b.Header, b.Set, how) }

// A Chain makes blocks. It is not safe for concurrent use.
type Chain struct {
	cfg      Config
	salt     string
	last     *Block // nil before the first block
	lastHash comet.Hash
	set      *Set // of the next block
	next     *Set // announced by the next block
	state    *state
	writes   map[string]map[string][]byte
	sends    []*proto.Message
	blocks   map[int64]*Block
	messages map[string][]*proto.Message
	cursors  map[string]proto.Cursor
}

// New returns a chain at height 0. What is put, created or sent before the first
// block belongs to that block.
func New(cfg Config) *Chain {
	if cfg.ChainID == "" {
		cfg.ChainID = "comettest-1"
	}
	if cfg.Validators == nil {
		cfg.Validators = NewSet("genesis", 4)
	}
	if cfg.Start.IsZero() {
		cfg.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	c := &Chain{cfg: cfg, set: cfg.Validators, next: cfg.Validators, writes: map[string]map[string][]byte{},
		blocks: map[int64]*Block{}, messages: map[string][]*proto.Message{}, cursors: map[string]proto.Cursor{}}
	genesis := map[string]map[string][]byte{}
	for _, name := range []string{"acc", "bank", proto.StoreContracts, proto.StoreMQ, proto.StoreRegistry, "staking", "upgrade"} {
		genesis[name] = map[string][]byte{}
		for i := range len(name) {
			genesis[name][fmt.Sprintf("genesis/%d", i)] = []byte(name)
		}
	}
	c.state = (&state{stores: map[string]*store{}}).with(genesis, 1)
	return c
}

// ChainID returns the chain's name.
func (c *Chain) ChainID() string { return c.cfg.ChainID }

// Height is that of the newest block, 0 before the first.
func (c *Chain) Height() int64 {
	if c.last == nil {
		return 0
	}
	return c.last.Header.Height
}

// Time is that of the newest block, or of the start.
func (c *Chain) Time() time.Time {
	if c.last == nil {
		return c.cfg.Start
	}
	return c.last.Header.Time
}

// Put writes a key in the next block; a nil value deletes it.
func (c *Chain) Put(store string, key, value []byte) {
	if c.writes[store] == nil {
		c.writes[store] = map[string][]byte{}
	}
	c.writes[store][string(key)] = value
}

// CreateTopic makes an empty topic in the next block.
func (c *Chain) CreateTopic(topic string) {
	if _, ok := c.cursors[topic]; ok {
		panic("comettest: topic exists: " + topic)
	}
	c.cursors[topic] = proto.CreatedCursor(c.cfg.ChainID, topic)
	c.Put(proto.StoreMQ, proto.KeyTopic(topic), c.cursors[topic].Marshal())
}

// Send appends an event to a topic in the next block.
func (c *Chain) Send(topic, sender string, e proto.Event) {
	c.SendRaw(topic, sender, proto.MarshalEvent(e))
}

// SendRaw is Send for a payload that need not be an event.
func (c *Chain) SendRaw(topic, sender string, payload []byte) {
	if _, ok := c.cursors[topic]; !ok {
		panic("comettest: no topic " + topic)
	}
	c.sends = append(c.sends, &proto.Message{Topic: topic, Sender: []byte(sender), Payload: payload})
}

// Announce has the next block announce set: the block after it is the first that set
// commits. On a chain this is the second block after the change was decided.
func (c *Chain) Announce(set *Set) { c.next = set }

// Next makes a block.
func (c *Chain) Next() *Block {
	height := c.Height() + 1
	h := comet.Header{VersionBlock: 11, ChainID: c.cfg.ChainID, Height: height,
		Time:           c.cfg.Start.Add(time.Duration(height-1) * c.cfg.Interval),
		LastCommitHash: emptyHash[:], DataHash: emptyHash[:], ValidatorsHash: c.set.Hash(), NextValidatorsHash: c.next.Hash(),
		ConsensusHash: paramsHash[:], AppHash: c.state.root.hash[:], LastResultsHash: emptyHash[:], EvidenceHash: emptyHash[:],
		ProposerAddress: c.set.addresses[int(height)%c.set.Len()][:]}
	if c.last != nil {
		parts := sha256.Sum256(append([]byte("parts"), c.lastHash[:]...))
		h.LastBlockID = comet.BlockID{Hash: slices.Clone(c.lastHash[:]), PartsTotal: 1, PartsHash: parts[:]}
		commit := sha256.Sum256(append([]byte("commit"), c.lastHash[:]...))
		h.LastCommitHash = commit[:]
	}
	if c.salt != "" {
		data := sha256.Sum256([]byte(c.salt))
		h.DataHash = data[:]
	}
	for _, m := range c.sends {
		cur := c.cursors[m.Topic]
		m.Seq, m.Height, m.Time = cur.Seq+1, uint64(height), uint64(h.Time.UnixMilli())
		c.cursors[m.Topic] = cur.Fold(m)
		c.messages[m.Topic] = append(c.messages[m.Topic], m)
		c.Put(proto.StoreMQ, proto.KeyTopic(m.Topic), c.cursors[m.Topic].Marshal())
	}
	c.sends = nil
	c.state = c.state.with(c.writes, height)
	clear(c.writes)
	b := &Block{h, c.set, c.state}
	if c.cfg.Keep == nil || c.cfg.Keep(height) {
		c.blocks[height] = b
	}
	c.last, c.lastHash, c.set = b, h.Hash(), c.next
	return b
}

var (
	emptyHash  = sha256.Sum256(nil)
	paramsHash = sha256.Sum256([]byte("consensus parameters"))
)

// Run makes blocks up to a height.
func (c *Chain) Run(to int64) {
	for c.Height() < to {
		c.Next()
	}
}

// Block returns a block that is remembered.
func (c *Chain) Block(height int64) *Block {
	b := c.blocks[height]
	if b == nil {
		panic(fmt.Sprintf("comettest: block %d is not made or not kept", height))
	}
	return b
}

// Header returns a copy of a block's header.
func (c *Chain) Header(height int64) comet.Header { return CloneHeader(c.Block(height).Header) }

// Light returns a block signed by all its validators.
func (c *Chain) Light(height int64) *comet.LightBlock { return c.Block(height).Light() }

// LightRange returns the light blocks from one height to another, both included.
func (c *Chain) LightRange(from, to int64) []*comet.LightBlock {
	var out []*comet.LightBlock
	for h := from; h <= to; h++ {
		out = append(out, c.Light(h))
	}
	return out
}

// Get returns a key's value in the state after a block.
func (c *Chain) Get(height int64, store string, key []byte) ([]byte, bool) {
	return c.Block(height).state.get(store, key)
}

// Prove proves a key in the state after block height: the proof is against the app
// hash of header height+1. It panics when the key is not there.
func (c *Chain) Prove(height int64, store string, key []byte) (value []byte, p Proof) {
	p, ok := c.Block(height).state.prove(store, key)
	if !ok {
		panic(fmt.Sprintf("comettest: no key %q in store %s after block %d", key, store, height))
	}
	return p.IAVL.Value, p
}

// Cursor returns a topic's cursor in the state after block height, with its proof.
func (c *Chain) Cursor(height int64, topic string) (proto.Cursor, comet.StoreProof) {
	v, p := c.Prove(height, proto.StoreMQ, proto.KeyTopic(topic))
	cur, err := proto.ParseCursor(v)
	if err != nil {
		panic(err)
	}
	return cur, p.Marshal()
}

// Messages returns copies of a topic's messages after sequence seq up to a height,
// in order.
func (c *Chain) Messages(topic string, seq uint64, height int64) []*proto.Message {
	var out []*proto.Message
	for _, m := range c.messages[topic] {
		if m.Seq > seq && m.Height <= uint64(height) {
			n := *m
			n.Sender, n.Payload = slices.Clone(m.Sender), slices.Clone(m.Payload)
			out = append(out, &n)
		}
	}
	return out
}

// Fork returns a chain that shares every block so far and differs in all later ones,
// even when the same is done on both: salt is in their headers. The validators'
// keys are the same.
func (c *Chain) Fork(salt string) *Chain {
	f := *c
	f.salt = salt
	f.writes = make(map[string]map[string][]byte)
	for s, w := range c.writes {
		f.writes[s] = maps.Clone(w)
	}
	f.sends = nil
	for _, m := range c.sends {
		n := *m
		f.sends = append(f.sends, &n)
	}
	f.blocks, f.cursors = maps.Clone(c.blocks), maps.Clone(c.cursors)
	f.messages = make(map[string][]*proto.Message)
	for t, m := range c.messages {
		f.messages[t] = slices.Clone(m)
	}
	return &f
}
