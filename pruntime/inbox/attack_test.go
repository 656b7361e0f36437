package inbox_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// scene is an enclave that has everything up to block 4, the honest advance to block
// 8, and the time.
type scene struct {
	*testing.T
	c   *comettest.Chain
	s   *inbox.State
	a   *inbox.Advance
	now time.Time
}

func newScene(t *testing.T) *scene {
	c := busy(30)
	sc := &scene{t, c, stateAt(t, c, 1, all...), nil, c.Header(9).Time}
	apply(t, sc.s, honest(c, sc.s, 4), sc.now)
	sc.a = honest(c, sc.s, 8)
	return sc
}

// refused checks that an advance is refused with an error of the kind, that not a
// byte of the state changed, and that the honest advance then delivers everything.
func (sc *scene) refused(what string, a *inbox.Advance, now time.Time, kinds ...error) {
	sc.Helper()
	before, hash := sc.s.Marshal(), sc.s.Client().TrustedHash()
	batch, err := sc.s.Apply(a, now)
	if err == nil || batch != nil {
		sc.Fatalf("%s: accepted", what)
	}
	if !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
		sc.Errorf("%s: got %v, want %v", what, err, kinds)
	}
	if !bytes.Equal(sc.s.Marshal(), before) || sc.s.Client().TrustedHash() != hash {
		sc.Fatalf("%s: the refused advance changed the state", what)
	}
	// It also has to arrive over the wire as what it is, or not at all.
	if parsed, err := inbox.ParseAdvance(a.Marshal()); err == nil {
		if _, err := sc.s.Apply(parsed, now); err == nil {
			sc.Fatalf("%s: accepted after encoding", what)
		}
	}
}

// recovers checks that nothing was lost by what was refused.
func (sc *scene) recovers() {
	sc.Helper()
	b, err := sc.s.Apply(sc.a, sc.now)
	if err != nil {
		sc.Fatalf("the honest advance after the attack: %v", err)
	}
	if want := 4 * 2 * len(all); len(b.Items) != want || b.Height != 8 {
		sc.Fatalf("%d items up to %d, want %d up to 8", len(b.Items), b.Height, want)
	}
}

// copyOf is a copy of the honest advance that may be edited.
func (sc *scene) copyOf() *inbox.Advance {
	a, err := inbox.ParseAdvance(sc.a.Marshal())
	if err != nil {
		sc.Fatal(err)
	}
	return a
}

// of returns the positions of a topic's messages.
func of(a *inbox.Advance, topic string) (at []int) {
	for i, m := range a.Messages {
		if m.Topic == topic {
			at = append(at, i)
		}
	}
	return at
}

func proven(a *inbox.Advance, topic string) *inbox.Proven {
	for i := range a.Topics {
		if a.Topics[i].Topic == topic {
			return &a.Topics[i]
		}
	}
	return nil
}

// eachTopic runs an attack on every topic.
func eachTopic(t *testing.T, attack func(sc *scene, topic string)) {
	for _, topic := range all {
		t.Run(topic[:min(len(topic), 10)], func(t *testing.T) {
			sc := newScene(t)
			attack(sc, topic)
			sc.recovers()
		})
	}
}

func TestRelayerDropsMessages(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		at := of(sc.a, topic)
		for k, i := range at {
			a := sc.copyOf()
			a.Messages = slices.Delete(a.Messages, i, i+1)
			want := inbox.ErrOrder // the next one does not continue
			if k == len(at)-1 {
				want = inbox.ErrFold
			}
			sc.refused(fmt.Sprintf("message %d of %d", k+1, len(at)), a, sc.now, want)
		}
		a := sc.copyOf()
		a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == topic })
		sc.refused("all", a, sc.now, inbox.ErrFold)
		a = sc.copyOf()
		a.Messages = nil
		sc.refused("all of all topics", a, sc.now, inbox.ErrFold)
		// Dropping the first and renumbering the rest does not close the gap.
		a = sc.copyOf()
		a.Messages = slices.Delete(a.Messages, at[0], at[0]+1)
		for _, i := range of(a, topic) {
			a.Messages[i].Seq--
		}
		sc.refused("the first, the others renumbered", a, sc.now, inbox.ErrFold)
	})
}

func TestRelayerReordersMessages(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		at := of(sc.a, topic)
		for k := range len(at) - 1 {
			i, j := at[k], at[k+1]
			a := sc.copyOf()
			a.Messages[i], a.Messages[j] = a.Messages[j], a.Messages[i]
			sc.refused("as they are", a, sc.now, inbox.ErrOrder)
			x, y := a.Messages[i], a.Messages[j]
			x.Seq, y.Seq = y.Seq, x.Seq
			sc.refused("renumbered", a, sc.now, inbox.ErrFold, inbox.ErrOrder)
			x.Height, y.Height, x.Time, y.Time = y.Height, x.Height, y.Time, x.Time
			sc.refused("renumbered and redated", a, sc.now, inbox.ErrFold)
		}
	})
}

func TestRelayerRepeatsMessages(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		at := of(sc.a, topic)
		for _, i := range at {
			a := sc.copyOf()
			a.Messages = slices.Insert(a.Messages, i, a.Messages[i])
			sc.refused("one twice", a, sc.now, inbox.ErrOrder)
		}
		last := at[len(at)-1]
		a := sc.copyOf()
		again := *a.Messages[last]
		again.Seq++
		a.Messages = slices.Insert(a.Messages, last+1, &again)
		sc.refused("the last twice, renumbered", a, sc.now, inbox.ErrFold)
		a = sc.copyOf()
		a.Messages = append(sc.c.Messages(topic, 0, 4), a.Messages...)
		sc.refused("what an earlier advance brought", a, sc.now, inbox.ErrOrder)
	})
}

// TestRelayerRepeatsAnAdvance: an advance that was applied is refused as a whole.
func TestRelayerRepeatsAnAdvance(t *testing.T) {
	sc := newScene(t)
	sc.recovers()
	sc.refused("the same again", sc.a, sc.now, inbox.ErrNotLater)
	old := stateAt(t, sc.c, 1, all...)
	sc.refused("an older one", honest(sc.c, old, 4), sc.now, inbox.ErrNotLater)
	sc.refused("an older one without its messages", &inbox.Advance{Topics: honest(sc.c, old, 4).Topics}, sc.now, inbox.ErrFold)
}

func TestRelayerEditsMessages(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		other := all[(slices.Index(all, topic)+1)%len(all)]
		for k, i := range of(sc.a, topic) {
			for what, edit := range map[string]func(m *proto.Message){
				"payload":       func(m *proto.Message) { m.Payload[5] ^= 1 },
				"event":         func(m *proto.Message) { m.Payload = proto.MarshalEvent(note(1 << 31)) },
				"empty payload": func(m *proto.Message) { m.Payload = nil },
				"sender":        func(m *proto.Message) { m.Sender = []byte("other") },
				"byte moved":    func(m *proto.Message) { m.Sender, m.Payload = append(m.Sender, m.Payload[0]), m.Payload[1:] },
				"time":          func(m *proto.Message) { m.Time++ },
				"later height":  func(m *proto.Message) { m.Height++ },
				"sooner height": func(m *proto.Message) { m.Height-- },
				"seq":           func(m *proto.Message) { m.Seq++ },
				"topic":         func(m *proto.Message) { m.Topic = other },
			} {
				a := sc.copyOf()
				edit(a.Messages[i])
				sc.refused(fmt.Sprintf("message %d: %s", k+1, what), a, sc.now, inbox.ErrFold, inbox.ErrOrder, inbox.ErrHeight)
			}
		}
	})
}

func TestRelayerInventsMessages(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		at := of(sc.a, topic)
		for _, place := range []int{at[0], at[len(at)/2], at[len(at)-1] + 1} {
			a := sc.copyOf()
			m := *a.Messages[at[0]]
			m.Payload, m.Seq, m.Height = proto.MarshalEvent(note(1<<31)), uint64(8+place-at[0])-1, uint64(5+(place-at[0])/2)
			a.Messages = slices.Insert(a.Messages, place, &m)
			sc.refused("one", a, sc.now, inbox.ErrOrder, inbox.ErrFold, inbox.ErrHeight)
			for n, i := range of(a, topic) {
				a.Messages[i].Seq = uint64(7 + n)
			}
			sc.refused("one, all renumbered", a, sc.now, inbox.ErrFold, inbox.ErrHeight, inbox.ErrOrder)
		}
		a := sc.copyOf()
		m := *a.Messages[0]
		m.Topic, m.Seq = "cluster/99", 1
		a.Messages = append(a.Messages, &m)
		sc.refused("in a topic that is not followed", a, sc.now, inbox.ErrTopics)
		// A cursor that fits the invented message has no proof.
		a = sc.copyOf()
		last := a.Messages[at[len(at)-1]]
		m = *last
		m.Seq++
		a.Messages = slices.Insert(a.Messages, at[len(at)-1]+1, &m)
		p := proven(a, topic)
		p.Cursor = p.Cursor.Fold(&m)
		sc.refused("one, with a cursor that fits", a, sc.now, comet.ErrProof)
	})
}

// TestRelayerHoldsOneTopicBack: others advance, one does not.
func TestRelayerHoldsOneTopicBack(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		drop := func(a *inbox.Advance) {
			a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == topic })
		}
		a := sc.copyOf()
		drop(a)
		a.Topics = slices.DeleteFunc(a.Topics, func(p inbox.Proven) bool { return p.Topic == topic })
		sc.refused("left out", a, sc.now, inbox.ErrTopics)
		// Its place is taken by another topic, so that the number is right.
		twice := a.Topics[0]
		a.Topics = append(a.Topics, twice)
		sc.refused("another one twice", a, sc.now, inbox.ErrTopics)
		a.Topics[len(a.Topics)-1].Topic = "cluster/99"
		sc.refused("another one in its place", a, sc.now, inbox.ErrTopics)

		a = sc.copyOf()
		drop(a)
		p := proven(a, topic)
		p.Cursor, _ = sc.s.Cursor(topic)
		sc.refused("at its old cursor, with the new proof", a, sc.now, comet.ErrProof)
		_, p.Proof = sc.c.Cursor(4, topic)
		sc.refused("at its old cursor, with the old proof", a, sc.now, comet.ErrProof)

		// Part of its messages, up to a true cursor of an earlier block.
		a = sc.copyOf()
		a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == topic && m.Height > 6 })
		p = proven(a, topic)
		p.Cursor, p.Proof = sc.c.Cursor(6, topic)
		sc.refused("up to an earlier block", a, sc.now, comet.ErrProof)
	})
}

// TestRelayerRunsAhead: messages of a block that the header does not cover yet.
func TestRelayerRunsAhead(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		a := sc.copyOf()
		p := proven(a, topic)
		p.Cursor, p.Proof = sc.c.Cursor(9, topic)
		next := sc.c.Messages(topic, 14, 9)
		at := of(a, topic)
		a.Messages = slices.Insert(a.Messages, at[len(at)-1]+1, next...)
		sc.refused("with the later state's proof", a, sc.now, inbox.ErrHeight)
	})
}

func TestProofForAnotherKeyOrHeight(t *testing.T) {
	eachTopic(t, func(sc *scene, topic string) {
		other := all[(slices.Index(all, topic)+1)%len(all)]
		for what, edit := range map[string]func(p *inbox.Proven){
			"another topic's":       func(p *inbox.Proven) { _, p.Proof = sc.c.Cursor(8, other) },
			"the block before":      func(p *inbox.Proven) { _, p.Proof = sc.c.Cursor(7, topic) },
			"the block after":       func(p *inbox.Proven) { _, p.Proof = sc.c.Cursor(9, topic) },
			"none":                  func(p *inbox.Proven) { p.Proof = comet.StoreProof{} },
			"the two parts swapped": func(p *inbox.Proven) { p.Proof.IAVL, p.Proof.Store = p.Proof.Store, p.Proof.IAVL },
			"cut":                   func(p *inbox.Proven) { p.Proof.IAVL = p.Proof.IAVL[:len(p.Proof.IAVL)-1] },
			"another store's": func(p *inbox.Proven) {
				f := sc.c.Fork("")
				f.Put(proto.StoreRegistry, proto.KeyTopic(topic), p.Cursor.Marshal())
				f.Next()
				f.Next()
				_, proof := f.Prove(f.Height()-1, proto.StoreRegistry, proto.KeyTopic(topic))
				p.Proof = proof.Marshal()
			},
		} {
			a := sc.copyOf()
			edit(proven(a, topic))
			sc.refused(what, a, sc.now, comet.ErrProof)
		}
		a := sc.copyOf()
		proven(a, topic).Cursor.Head[0] ^= 1
		sc.refused("another head", a, sc.now, inbox.ErrFold)
	})
}

// TestCursorInAnotherStore: a chain whose users can write to another store puts a
// topic's key there, with a cursor of their choice. Only store mq counts.
func TestCursorInAnotherStore(t *testing.T) {
	c := busy(6)
	forged := proto.CreatedCursor(c.ChainID(), system)
	m := &proto.Message{Topic: system, Seq: 1, Height: 5, Time: 1, Sender: []byte("x"), Payload: proto.MarshalEvent(note(1))}
	forged = forged.Fold(m)
	c.Put("bank", proto.KeyTopic(system), forged.Marshal())
	c.Run(8)
	_, p := c.Prove(7, "bank", proto.KeyTopic(system))
	s := stateAt(t, c, 1, system)
	before := s.Marshal()
	a := &inbox.Advance{Blocks: c.LightRange(2, 8), Topics: []inbox.Proven{{Topic: system, Cursor: forged, Proof: p.Marshal()}}, Messages: []*proto.Message{m}}
	if _, err := s.Apply(a, c.Time()); !errors.Is(err, comet.ErrProof) || !bytes.Equal(s.Marshal(), before) {
		t.Fatal(err)
	}
}

// TestBadHeaders: the advance is honest but for one header, in the middle or at the end.
func TestBadHeaders(t *testing.T) {
	sc := newScene(t)
	n := len(sc.a.Blocks)
	signed := func(h int64, how comettest.Signing) *comet.LightBlock { return sc.c.Block(h).Signed(how) }
	edited := func(h int64, edit func(*comet.Header)) *comet.LightBlock {
		header := sc.c.Header(h)
		edit(&header)
		return comettest.Sign(header, sc.c.Block(h).Set, comettest.Signing{})
	}
	for _, i := range []int{1, n - 1} {
		h := sc.a.Blocks[i].Header.Height
		for _, c := range []struct {
			name  string
			block *comet.LightBlock
			now   time.Time
			want  error
		}{
			{"signed by too few", signed(h, comettest.FirstN(2)), sc.now, comet.ErrTooFewSigned},
			{"signed by nobody", signed(h, comettest.FirstN(0)), sc.now, comet.ErrTooFewSigned},
			{"signed by a set of the relayer's own", comettest.Sign(sc.c.Header(h), comettest.NewSet("own", 4), comettest.Signing{}), sc.now, comet.ErrMalformed},
			{"of a set of the relayer's own", func() *comet.LightBlock {
				own := comettest.NewSet("own", 4)
				header := sc.c.Header(h)
				header.ValidatorsHash = own.Hash()
				return comettest.Sign(header, own, comettest.Signing{})
			}(), sc.now, comet.ErrValidators},
			{"another chain id", edited(h, func(h *comet.Header) { h.ChainID = "comettest-2" }), sc.now, comet.ErrWrongChain},
			{"signed for another chain id", signed(h, comettest.Signing{ChainID: "comettest-2"}), sc.now, comet.ErrSignature},
			{"ahead of the allowed drift", edited(h, func(h *comet.Header) { h.Time = sc.now.Add(drift) }), sc.now, comet.ErrFromFuture},
			{"beyond the trusting period", sc.a.Blocks[i], sc.c.Header(5).Time.Add(period + time.Minute), comet.ErrExpired},
			{"with an app hash of the relayer's own", func() *comet.LightBlock {
				b := signed(h, comettest.Signing{})
				b.Header.AppHash[0] ^= 1
				return b
			}(), sc.now, comet.ErrMalformed},
		} {
			a := sc.copyOf()
			a.Blocks[i] = c.block
			sc.refused(fmt.Sprintf("header %d: %s", h, c.name), a, c.now, c.want)
		}
		a := sc.copyOf()
		a.Blocks = append(a.Blocks[:i:i], a.Blocks[i+1:]...)
		if i == n-1 { // the proofs are of the next header
			sc.refused("the last header left out", a, sc.now, inbox.ErrHeight)
		}
	}
	sc.recovers()
}

// TestHeaderOfReplacedSet: validators that the chain replaced go on signing headers
// with a state of their own.
func TestHeaderOfReplacedSet(t *testing.T) {
	old, young := comettest.NewSet("old", 4), comettest.NewSet("young", 4)
	c := comettest.New(comettest.Config{Validators: old})
	c.CreateTopic(system)
	c.Run(3)
	c.Announce(young)
	c.Run(4)
	fork := c.Fork("by the old set")
	c.Run(8)
	fork.Send(system, "x", note(1))
	fork.Run(8)
	s := stateAt(t, c, 1, system)
	apply(t, s, honest(c, s, 3), c.Time())
	sc := &scene{T: t, c: c, s: s, now: c.Time()}
	forged := func(blocks ...int64) *inbox.Advance {
		a := honest(fork, s, 7)
		a.Blocks = nil
		for _, h := range blocks {
			header := fork.Header(h)
			header.ValidatorsHash, header.NextValidatorsHash = old.Hash(), old.Hash()
			a.Blocks = append(a.Blocks, comettest.Sign(header, old, comettest.Signing{}))
		}
		return a
	}
	sc.refused("header by header", forged(5, 6, 7, 8), sc.now, comet.ErrValidators)
	sc.refused("skipping", forged(8), sc.now, comet.ErrNeedNextSet, comet.ErrNotTrusted)
	apply(t, s, honest(c, s, 4), c.Time())
	sc.refused("skipping, when the new set is known", forged(8), sc.now, comet.ErrNotTrusted)
	if b := apply(t, s, honest(c, s, 7), c.Time()); len(b.Items) != 0 {
		t.Fatal("the old set's message was delivered")
	}
}

// TestTwoConflictingHeaders: both are validly signed. The enclave stops, the evidence is
// there, the state is the one before, whichever block of the advance it was.
func TestTwoConflictingHeaders(t *testing.T) {
	c := busy(6)
	fork := c.Fork("other")
	fork.Send(system, "x", note(9999))
	c.Run(12)
	fork.Run(12)
	for what, a := range map[string]func(s *inbox.State) *inbox.Advance{
		"against what was applied": func(*inbox.State) *inbox.Advance { return &inbox.Advance{Blocks: fork.LightRange(7, 12)} },
		"within one advance": func(s *inbox.State) *inbox.Advance {
			a := honest(c, s, 11)
			a.Blocks = append(a.Blocks, fork.Light(10))
			return a
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := stateAt(t, c, 1, all...)
			apply(t, s, honest(c, s, 8), c.Time())
			before, good := s.Marshal(), honest(c, s, 11)
			if _, err := s.Apply(a(s), c.Time()); !errors.Is(err, comet.ErrConflict) {
				t.Fatal(err)
			}
			if !bytes.Equal(s.Marshal(), before) || s.Client().Trusted().Height != 9 {
				t.Error("the state changed")
			}
			e := s.Client().Conflict()
			if e == nil || e.Trusted.Height != e.Other.Header.Height || e.Trusted.Hash() == e.Other.Header.Hash() {
				t.Fatal("no evidence")
			}
			for what, err := range map[string]error{
				"an honest advance": func() error { _, err := s.Apply(good, c.Time()); return err }(),
				"an advance without headers": func() error {
					good.Blocks, good.Messages = nil, nil
					_, err := s.Apply(good, c.Time())
					return err
				}(),
				"headers alone": s.SyncHeaders(c.LightRange(10, 12), c.Time()),
				"joining":       s.Join(nil),
			} {
				if !errors.Is(err, comet.ErrHalted) {
					t.Errorf("%s after the conflict: %v", what, err)
				}
			}
		})
	}
}

// TestNodeServesAnotherChain: a whole chain with other validators and the same id.
func TestNodeServesAnotherChain(t *testing.T) {
	sc := newScene(t)
	other := comettest.New(comettest.Config{Validators: comettest.NewSet("other", 4)})
	for _, n := range all {
		other.CreateTopic(n)
	}
	other.Run(9)
	a := honest(other, sc.s, 8)
	sc.refused("from the beginning", a, sc.now, comet.ErrValidators)
	sc.recovers()
}

// TestChainBreaksItsRules: what validators commit to a topic has heights that cannot
// be. The heads fold, so only the enclave's own rules stand against it.
func TestChainBreaksItsRules(t *testing.T) {
	for _, c := range []struct {
		name    string
		heights []uint64 // of the messages that block 8 commits
		join    bool     // at block 6, instead of following
		want    error
	}{
		{"as they should be", []uint64{8, 8}, false, nil},
		{"as they should be, joined", []uint64{8, 8}, true, nil},
		{"of the blocks since the last advance", []uint64{7, 8}, false, nil},
		{"going back", []uint64{8, 7}, false, inbox.ErrOrder},
		{"from the last advance's block", []uint64{6, 8}, false, inbox.ErrHeight},
		{"from the block at which it joined", []uint64{6, 8}, true, inbox.ErrHeight},
		{"long gone", []uint64{1}, false, inbox.ErrHeight},
		{"not yet there", []uint64{9}, false, inbox.ErrHeight},
	} {
		ch := comettest.New(comettest.Config{})
		ch.CreateTopic(system)
		ch.Run(7)
		cur := proto.CreatedCursor(ch.ChainID(), system)
		var msgs []*proto.Message
		for i, h := range c.heights {
			m := &proto.Message{Topic: system, Seq: uint64(i + 1), Height: h, Payload: proto.MarshalEvent(note(1))}
			msgs, cur = append(msgs, m), cur.Fold(m)
		}
		ch.Put(proto.StoreMQ, proto.KeyTopic(system), cur.Marshal())
		ch.Run(9)
		s := stateAt(t, ch, 1)
		if c.join {
			at, p := ch.Cursor(6, system)
			if err := errors.Join(s.SyncHeaders(ch.LightRange(2, 7), ch.Time()), s.Join([]inbox.Proven{{Topic: system, Cursor: at, Proof: p}})); err != nil {
				t.Fatal(err)
			}
		} else {
			s = stateAt(t, ch, 1, system)
			apply(t, s, honest(ch, s, 6), ch.Time())
		}
		a := honest(ch, s, 8)
		a.Messages = msgs
		before := s.Marshal()
		_, err := s.Apply(a, ch.Time())
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err != nil && !bytes.Equal(s.Marshal(), before) {
			t.Errorf("%s: the refused advance changed the state", c.name)
		}
	}
}
