package inbox_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// A twin is the naive inbox: it is told the chain's messages directly and goes through
// all heights from the first one, every time.
type twin struct {
	next map[string]uint64 // sequence of the next message, of each topic followed
}

func (w *twin) clone() *twin { return &twin{maps.Clone(w.next)} }

func (w *twin) advance(c *comettest.Chain, height int64) string {
	var out []string
	rank := func(topic string) string { // orders as the protocol says, as text
		return fmt.Sprint(map[byte]int{'s': 0, 'g': 1, 'c': 2, 'w': 3}[topic[0]], topic)
	}
	for h := uint64(1); h <= uint64(height); h++ {
		var at []*proto.Message
		for topic, next := range w.next {
			for _, m := range c.Messages(topic, next-1, height) {
				if m.Height == h {
					at = append(at, m)
				}
			}
		}
		slices.SortFunc(at, func(x, y *proto.Message) int {
			return cmp.Or(cmp.Compare(rank(x.Topic), rank(y.Topic)), cmp.Compare(x.Seq, y.Seq))
		})
		for _, m := range at {
			name := m.Topic
			if name == worker1 {
				name = "worker"
			}
			out = append(out, fmt.Sprintf("%d:%s#%d", h, name, m.Seq))
			w.next[m.Topic] = m.Seq + 1
		}
	}
	return strings.Join(out, " ")
}

// mutate bends an advance in a random way. It may leave it as it is.
func mutate(rng *rand.Rand, c *comettest.Chain, a *inbox.Advance) {
	switch n, k := len(a.Messages), len(a.Topics); rng.IntN(8) {
	case 0:
		if n > 0 {
			i := rng.IntN(n)
			a.Messages = slices.Delete(a.Messages, i, i+1)
		}
	case 1:
		if n > 1 {
			i, j := rng.IntN(n), rng.IntN(n)
			a.Messages[i], a.Messages[j] = a.Messages[j], a.Messages[i]
		}
	case 2:
		if n > 0 {
			m := a.Messages[rng.IntN(n)]
			a.Messages = slices.Insert(a.Messages, rng.IntN(n+1), m)
		}
	case 3:
		if n > 0 {
			m := a.Messages[rng.IntN(n)]
			*[]*uint64{&m.Seq, &m.Height, &m.Time}[rng.IntN(3)] += []uint64{1, ^uint64(0)}[rng.IntN(2)]
		}
	case 4:
		if k > 0 {
			i := rng.IntN(k)
			a.Topics = slices.Delete(a.Topics, i, i+1)
		}
	case 5:
		if k > 0 { // an earlier state of one topic
			p := &a.Topics[rng.IntN(k)]
			p.Cursor, p.Proof = c.Cursor(1+rng.Int64N(c.Height()-1), p.Topic)
			a.Messages = slices.DeleteFunc(a.Messages, func(m *proto.Message) bool { return m.Topic == p.Topic && m.Seq > p.Cursor.Seq })
		}
	case 6:
		if len(a.Blocks) > 0 {
			b := a.Blocks[rng.IntN(len(a.Blocks))]
			for i := range b.Commit.Signatures {
				b.Commit.Signatures[i].Signature[rng.IntN(64)] ^= 1
			}
		}
	case 7:
		a.Blocks = a.Blocks[:len(a.Blocks)/2]
	}
}

// TestAgainstTwin: on random chains, with topics followed at random moments, seals
// and restores, and bent advances in between, the inbox delivers what the twin does,
// whatever the sizes of the advances, and refuses without a change what is bent.
func TestAgainstTwin(t *testing.T) {
	runs := 40
	if os.Getenv("PHALA_LONG") != "" {
		runs = 2000
	}
	refused, accepted := 0, 0
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 99))
		set := comettest.NewSet(fmt.Sprint("twin", rng.IntN(8)), 1+rng.IntN(4))
		c := comettest.New(comettest.Config{Validators: set})
		for _, n := range all {
			c.CreateTopic(n)
		}
		for range 60 {
			for range rng.IntN(4) {
				topic := all[rng.IntN(len(all))]
				c.Send(topic, "x", note(rng.Uint64()))
			}
			if rng.IntN(9) == 0 {
				set = comettest.NewSet(fmt.Sprint("twin", rng.IntN(8)), 1+rng.IntN(4))
				c.Announce(set)
			}
			c.Next()
		}
		s := stateAt(t, c, 1)
		w := &twin{next: map[string]uint64{}}
		rest := slices.Clone(all)
		rng.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
		for at := int64(1); at < c.Height()-1; {
			at = min(at+rng.Int64N(12), c.Height()-1)
			for len(rest) > 0 && rng.IntN(3) == 0 {
				if err := s.Follow(rest[0]); err != nil {
					t.Fatal(err)
				}
				w.next[rest[0]] = 1
				rest = rest[1:]
			}
			if rng.IntN(3) == 0 {
				s = again(t, s)
			}
			if rng.IntN(2) == 0 {
				bent := honest(c, s, at)
				mutate(rng, c, bent)
				if !bytes.Equal(bent.Marshal(), honest(c, s, at).Marshal()) {
					before := s.Marshal()
					if b, err := s.Apply(bent, c.Time()); err == nil {
						// Other headers, or signatures that do not decide, do no harm: what is
						// delivered is the twin's.
						accepted++
						if want := w.clone().advance(c, int64(b.Height)); show(b) != want {
							t.Fatalf("seed %d, height %d: a bent advance delivered\n     %s\nwant %s", seed, b.Height, show(b), want)
						}
						if s, err = inbox.Parse(before, newClient); err != nil {
							t.Fatal(err)
						}
					} else if refused++; !bytes.Equal(s.Marshal(), before) {
						t.Fatalf("seed %d: refused with %v, but the state changed", seed, err)
					}
				}
			}
			got, want := show(apply(t, s, honest(c, s, at), c.Time())), w.advance(c, at)
			if got != want {
				t.Fatalf("seed %d, height %d:\ngot  %s\nwant %s", seed, at, got, want)
			}
		}
	}
	t.Logf("%d bent advances refused, %d harmless", refused, accepted)
	if refused < runs {
		t.Errorf("only %d bent advances refused", refused)
	}
}
