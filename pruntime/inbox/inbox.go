package inbox

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/proto/wire"
)

// A Kind is a failure class. Test with errors.Is. Failures of headers and proofs
// are those of package comet.
type Kind string

// Error returns the kind's text.
func (k Kind) Error() string { return "inbox: " + string(k) }

// The kinds.
const (
	ErrMalformed   Kind = "malformed advance"
	ErrTopics      Kind = "an advance must carry every topic that the enclave follows, once"
	ErrFold        Kind = "messages do not fold to the proven head"
	ErrOrder       Kind = "message out of order"
	ErrHeight      Kind = "message of a height that this advance does not cover"
	ErrNotLater    Kind = "advance does not go forward"
	ErrUnknown     Kind = "message of a kind that this version does not know: upgrade the enclave"
	ErrTopicExists Kind = "topic is followed already"
)

// An Error is a failure with what happened to what.
type Error struct {
	Kind   Kind
	Detail string
}

// Error returns kind and detail.
func (e *Error) Error() string { return e.Kind.Error() + ": " + e.Detail }

// Is reports whether target is the kind.
func (e *Error) Is(target error) bool { return target == e.Kind }

func errf(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

// Limits of a sealed state. What an enclave holds itself may be as long as it gets.
const (
	maxChain  = 64
	maxHeader = 4096
)

// Limits of one advance. A relayer that has more sends several.
const (
	MaxBlocks   = 4096
	MaxTopics   = 64
	MaxMessages = 8192
	MaxAdvance  = 64 << 20 // bytes
)

// A Proven is a topic's cursor as the chain's state holds it, with its proof.
type Proven struct {
	Topic  string
	Cursor proto.Cursor
	Proof  comet.StoreProof
}

// An Advance is what a relayer brings.
type Advance struct {
	Blocks   []*comet.LightBlock // from the trusted header forward; the last is H+1
	Topics   []Proven            // all topics, in the state after H
	Messages []*proto.Message    // those between the cursors, in order within each topic
}

// An Item is one message to process.
type Item struct {
	Height  uint64
	Time    uint64 // Unix milliseconds
	Message *proto.Message
	Event   proto.Event
	Cursor  proto.Cursor // the topic's cursor after the message
}

// A Batch is what an advance delivers.
type Batch struct {
	Height uint64 // H: everything up to it has been delivered
	Items  []Item
}

// A topic that the enclave follows.
type topic struct {
	cursor proto.Cursor
	last   uint64 // height of the last message
	synced bool   // has been part of an advance: older heights cannot come any more
}

// A State is an enclave's position. It is not safe for concurrent use.
type State struct {
	chain  string
	client *comet.Client
	height uint64
	topics map[string]topic
	held   map[string][]*proto.Message // of topics that join, brought before the advance that proves them
}

// New starts at a client's trusted header with no topic.
func New(chain string, client *comet.Client) *State {
	return &State{chain: chain, client: client, topics: map[string]topic{}}
}

// Client returns the light client. The caller does not advance it.
func (s *State) Client() *comet.Client { return s.client }

// Height is the last height whose messages have been delivered.
func (s *State) Height() uint64 { return s.height }

// Topics returns the topics in order of their names.
func (s *State) Topics() []string { return slices.Sorted(maps.Keys(s.topics)) }

// Cursor returns a topic's cursor.
func (s *State) Cursor(name string) (proto.Cursor, bool) {
	t, ok := s.topics[name]
	return t.cursor, ok
}

// Follow adds a topic from its beginning. Its next advance brings all its messages,
// however old.
func (s *State) Follow(name string) error {
	return s.FollowFrom(name, proto.CreatedCursor(s.chain, name))
}

// FollowFrom adds a topic from a position in its past that the caller trusts, because a
// message that the chain finalised names it. Its next advance brings all messages after.
func (s *State) FollowFrom(name string, at proto.Cursor) error {
	if err := checkName(name); err != nil {
		return err
	}
	if _, ok := s.topics[name]; ok {
		return errf(ErrTopicExists, "%s", name)
	}
	if len(s.topics) >= MaxTopics {
		return errf(ErrTopics, "more than %d", MaxTopics)
	}
	s.topics[name] = topic{cursor: at}
	return nil
}

func checkName(name string) error {
	if len(name) == 0 || len(name) > proto.MaxTopic {
		return errf(ErrTopics, "name of %d bytes", len(name))
	}
	return nil
}

// Unfollow drops a topic. To follow it again is to start it again, with all its
// messages.
func (s *State) Unfollow(name string) {
	delete(s.topics, name)
	delete(s.held, name)
}

// Joining reports whether a followed topic has not been part of an advance yet.
func (s *State) Joining(name string) bool {
	t, ok := s.topics[name]
	return ok && !t.synced
}

// Next is the sequence of a topic's next message that is to be brought: after those that
// were delivered, and those that are held.
func (s *State) Next(name string) uint64 {
	return s.topics[name].cursor.Seq + uint64(len(s.held[name])) + 1
}

// maxHeld bounds the messages that are held for one topic.
const maxHeld = 1 << 20

// Hold takes messages of a topic that joins ahead of the advance that delivers them: the
// past of a topic may be more than one advance brings. Nothing of them is believed before
// an advance proves the head to which they fold; if they do not fold, they are dropped.
func (s *State) Hold(msgs []*proto.Message) error {
	if err := s.client.Err(); err != nil {
		return err
	}
	for _, m := range msgs {
		if !s.Joining(m.Topic) {
			return errf(ErrTopics, "%s does not join", m.Topic)
		}
		if next := s.Next(m.Topic); m.Seq != next {
			return errf(ErrOrder, "message %d of %s, the next one is %d", m.Seq, m.Topic, next)
		}
		if len(s.held[m.Topic]) >= maxHeld {
			return errf(ErrTopics, "more than %d messages of %s", maxHeld, m.Topic)
		}
		if s.held == nil {
			s.held = map[string][]*proto.Message{}
		}
		s.held[m.Topic] = append(s.held[m.Topic], m)
	}
	return nil
}

// Join adds topics at the positions that the state under the trusted header proves,
// without their past. The caller takes the configuration and state that belong to
// these positions from proofs under the same header. On an error nothing has changed.
func (s *State) Join(at []Proven) error {
	if err := s.client.Err(); err != nil {
		return err
	}
	add := map[string]topic{}
	for _, p := range at {
		if err := checkName(p.Topic); err != nil {
			return err
		}
		if _, ok := s.topics[p.Topic]; ok {
			return errf(ErrTopicExists, "%s", p.Topic)
		}
		if _, ok := add[p.Topic]; ok {
			return errf(ErrTopics, "%s twice", p.Topic)
		}
		if len(s.topics)+len(add) >= MaxTopics {
			return errf(ErrTopics, "more than %d", MaxTopics)
		}
		if err := s.prove(s.client, &p); err != nil {
			return err
		}
		add[p.Topic] = topic{cursor: p.Cursor, last: uint64(s.client.Trusted().Height - 1), synced: true}
	}
	if len(s.topics) == 0 && len(add) > 0 {
		s.height = uint64(s.client.Trusted().Height - 1)
	}
	maps.Copy(s.topics, add)
	return nil
}

// SyncHeaders verifies light blocks without delivering anything. A failure keeps
// what was verified before it.
func (s *State) SyncHeaders(blocks []*comet.LightBlock, now time.Time) error {
	for _, b := range blocks {
		if err := s.client.Advance(b, now); err != nil {
			return err
		}
	}
	return nil
}

func (s *State) prove(c *comet.Client, p *Proven) error {
	h := c.Trusted()
	if err := comet.VerifyExistence(h.AppHash, proto.StoreMQ, proto.KeyTopic(p.Topic), p.Cursor.Marshal(), p.Proof); err != nil {
		return fmt.Errorf("topic %s at header %d: %w", p.Topic, h.Height, err)
	}
	return nil
}

// Apply verifies an advance and returns what it delivers. On an error nothing has
// changed, except that a conflict of headers halts the client where it is.
func (s *State) Apply(a *Advance, now time.Time) (*Batch, error) {
	if err := s.client.Err(); err != nil {
		return nil, err
	}
	client := s.client.Clone()
	for i, b := range a.Blocks {
		if err := client.Advance(b, now); err != nil {
			if errors.Is(err, comet.ErrConflict) {
				s.client.Halt(client.Conflict())
			}
			return nil, fmt.Errorf("block %d of %d: %w", i+1, len(a.Blocks), err)
		}
	}
	height := uint64(client.Trusted().Height - 1)
	if height < s.height || (height == s.height && len(a.Messages) > 0 && !s.joining()) {
		return nil, errf(ErrNotLater, "to height %d from %d", height, s.height)
	}
	msgs := a.Messages
	for _, name := range slices.Sorted(maps.Keys(s.held)) {
		msgs = append(slices.Clone(s.held[name]), msgs...)
	}
	topics, after, err := s.fold(client, a.Topics, msgs, height)
	if err != nil {
		// Whoever brought the held ones, they are not needed to try again.
		s.held = nil
		return nil, err
	}
	batch, err := s.order(msgs, after, height)
	if err != nil {
		return nil, err
	}
	s.client, s.height, s.topics, s.held = client, height, topics, nil
	return batch, nil
}

// joining reports whether some topic has not been part of an advance yet.
func (s *State) joining() bool {
	for _, t := range s.topics {
		if !t.synced {
			return true
		}
	}
	return false
}

// fold folds the messages, compares with the proven cursors of all topics and checks
// their proofs. It returns the topics after that, and the cursor after each message.
func (s *State) fold(client *comet.Client, proven []Proven, msgs []*proto.Message, height uint64) (map[string]topic, []proto.Cursor, error) {
	if len(proven) != len(s.topics) {
		return nil, nil, errf(ErrTopics, "%d topics, %d followed", len(proven), len(s.topics))
	}
	topics := maps.Clone(s.topics)
	after := make([]proto.Cursor, len(msgs))
	for i, m := range msgs {
		t, ok := topics[m.Topic]
		if !ok {
			return nil, nil, errf(ErrTopics, "message of %s, which is not followed", m.Topic)
		}
		switch {
		case m.Seq != t.cursor.Seq+1:
			return nil, nil, errf(ErrOrder, "message %d of %s after %d", m.Seq, m.Topic, t.cursor.Seq)
		case m.Height < t.last:
			return nil, nil, errf(ErrOrder, "message %d of %s has height %d after %d", m.Seq, m.Topic, m.Height, t.last)
		case m.Height > height || (t.synced && m.Height <= s.height):
			return nil, nil, errf(ErrHeight, "message %d of %s has height %d; this advance covers %d to %d", m.Seq, m.Topic, m.Height, s.height+1, height)
		}
		t.cursor, t.last = t.cursor.Fold(m), m.Height
		topics[m.Topic], after[i] = t, t.cursor
	}
	seen := map[string]bool{}
	for i := range proven {
		p := &proven[i]
		t, ok := topics[p.Topic]
		if !ok || seen[p.Topic] {
			return nil, nil, errf(ErrTopics, "%s is not followed, or comes twice", p.Topic)
		}
		seen[p.Topic] = true
		if t.cursor != p.Cursor {
			return nil, nil, errf(ErrFold, "%s folds to %d %s, proven is %d %s", p.Topic, t.cursor.Seq, t.cursor.Head, p.Cursor.Seq, p.Cursor.Head)
		}
		if err := s.prove(client, p); err != nil {
			return nil, nil, err
		}
		t.synced = true
		topics[p.Topic] = t
	}
	return topics, after, nil
}

// order sorts the messages of all topics.
func (s *State) order(msgs []*proto.Message, after []proto.Cursor, height uint64) (*Batch, error) {
	// The place of each topic among those of one height.
	names := slices.SortedFunc(maps.Keys(s.topics), func(x, y string) int {
		return cmp.Or(cmp.Compare(proto.TopicRank(x), proto.TopicRank(y)), cmp.Compare(x, y))
	})
	place := make(map[string]int, len(names))
	for i, n := range names {
		place[n] = i
	}
	type position struct {
		height uint64
		place  int
		seq    uint64
		index  int
	}
	sorted := make([]position, len(msgs))
	for i, m := range msgs {
		sorted[i] = position{m.Height, place[m.Topic], m.Seq, i}
	}
	slices.SortFunc(sorted, func(x, y position) int {
		return cmp.Or(cmp.Compare(x.height, y.height), cmp.Compare(x.place, y.place), cmp.Compare(x.seq, y.seq))
	})
	b := &Batch{Height: height, Items: make([]Item, 0, len(msgs))}
	for _, at := range sorted {
		m := msgs[at.index]
		e, err := proto.ParseEvent(m.Payload)
		if err != nil {
			return nil, errf(ErrUnknown, "message %d of %s: %v", m.Seq, m.Topic, err)
		}
		b.Items = append(b.Items, Item{Height: m.Height, Time: m.Time, Message: m, Event: e, Cursor: after[at.index]})
	}
	return b, nil
}

// Marshal encodes the state for sealing. A halt is not in it: whoever can restore a
// state can restore one from before the halt.
func (s *State) Marshal() []byte {
	w := new(wire.Writer).String(s.chain).Blob(s.client.Trusted().Marshal()).U64(s.height).Count(len(s.topics))
	for _, name := range s.Topics() {
		t := s.topics[name]
		w.String(name).Fixed(t.cursor.Marshal()).U64(t.last).Bool(t.synced)
	}
	return w.Bytes()
}

// Parse decodes what Marshal returned; newClient makes a client from the trusted
// header.
func Parse(b []byte, newClient func(comet.Header) *comet.Client) (*State, error) {
	r := wire.NewReader(b)
	chain, raw := r.String(maxChain), r.Blob(maxHeader)
	s := &State{chain: chain, height: r.U64(), topics: map[string]topic{}}
	last := ""
	for range r.Count(MaxTopics, 53) {
		name := r.String(proto.MaxTopic)
		if name <= last && r.Err() == nil {
			r.Fail(errf(ErrMalformed, "topic %q after %q", name, last))
		}
		last = name
		s.topics[name] = topic{cursor: proto.Cursor{Seq: r.U64(), Head: r.Array32()}, last: r.U64(), synced: r.Bool()}
	}
	if err := r.Close(); err != nil {
		return nil, errf(ErrMalformed, "state: %v", err)
	}
	h, err := comet.ParseHeader(raw)
	if err != nil {
		return nil, err
	}
	if h.Height < 1 || s.height >= uint64(h.Height) {
		return nil, errf(ErrMalformed, "state after height %d under header %d", s.height, h.Height)
	}
	s.client = newClient(*h)
	return s, nil
}

// Marshal encodes an advance.
func (a *Advance) Marshal() []byte {
	w := new(wire.Writer).Count(len(a.Blocks))
	for _, b := range a.Blocks {
		w.Blob(b.Marshal())
	}
	w.Count(len(a.Topics))
	for i := range a.Topics {
		a.Topics[i].write(w)
	}
	w.Count(len(a.Messages))
	for _, m := range a.Messages {
		w.Blob(m.Marshal())
	}
	return w.Bytes()
}

func (p *Proven) write(w *wire.Writer) {
	w.String(p.Topic).Fixed(p.Cursor.Marshal()).Blob(p.Proof.IAVL).Blob(p.Proof.Store)
}

// maxLightBlock bounds the encoding of a light block of the largest set.
const maxLightBlock = 1024 + comet.MaxValidators*(97+40)

// ParseAdvance decodes an advance.
func ParseAdvance(in []byte) (*Advance, error) {
	if len(in) > MaxAdvance {
		return nil, errf(ErrMalformed, "%d bytes, at most %d", len(in), MaxAdvance)
	}
	r := wire.NewReader(in)
	a := new(Advance)
	for range r.Count(MaxBlocks, 200) {
		b, err := comet.ParseLightBlock(r.Blob(maxLightBlock))
		if err != nil {
			r.Fail(err)
			break
		}
		a.Blocks = append(a.Blocks, b)
	}
	for range r.Count(MaxTopics, 52) {
		a.Topics = append(a.Topics, Proven{r.String(proto.MaxTopic), proto.Cursor{Seq: r.U64(), Head: r.Array32()},
			comet.StoreProof{IAVL: r.Blob(comet.MaxProof), Store: r.Blob(comet.MaxProof)}})
	}
	for range r.Count(MaxMessages, 36) {
		m, err := proto.ParseMessage(r.Blob(proto.MaxPayload + 1024))
		if err != nil {
			r.Fail(err)
			break
		}
		a.Messages = append(a.Messages, m)
	}
	if err := r.Close(); err != nil {
		return nil, errf(ErrMalformed, "%v", err)
	}
	return a, nil
}
