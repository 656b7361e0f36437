package inbox_test

import (
	"crypto/rand"
	"testing"
	"time"

	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/inbox"
)

// BenchmarkFold applies an advance of 8,192 messages of 200 bytes under one header with
// one validator. inbox_fold_ns is the time per message from parsed advance to ordered
// batch; parse_ns that of decoding it before. sha256_ns is the physical limit: hashing
// as many bytes as the fold hashes.
func BenchmarkFold(b *testing.B) {
	c := comettest.New(comettest.Config{Validators: comettest.NewSet("one", 1)})
	topics := []string{system, cluster1, cluster2, worker1}
	for _, n := range topics {
		c.CreateTopic(n)
	}
	c.Next()
	event := proto.PushedCommand{Payer: make([]byte, 32), Envelope: make([]byte, 147)}
	for i := range inbox.MaxMessages {
		c.Send(topics[i%len(topics)], "payer", event)
		if i%64 == 63 {
			c.Next()
		}
	}
	c.Run(c.Height() + 2)
	sealed := stateAt(b, c, 1, topics...).Marshal()
	s, err := inbox.Parse(sealed, newClient)
	if err != nil {
		b.Fatal(err)
	}
	a := honest(c, s, c.Height()-1)
	a.Blocks = a.Blocks[len(a.Blocks)-1:]
	raw := a.Marshal()
	var parse, fold time.Duration
	for b.Loop() {
		if s, err = inbox.Parse(sealed, newClient); err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		a, err := inbox.ParseAdvance(raw)
		if err != nil {
			b.Fatal(err)
		}
		parse += time.Since(start)
		start = time.Now()
		batch, err := s.Apply(a, c.Time())
		if err != nil || len(batch.Items) != inbox.MaxMessages {
			b.Fatal(len(batch.Items), err)
		}
		fold += time.Since(start)
	}
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(b.N) / inbox.MaxMessages }
	b.ReportMetric(per(fold), "inbox_fold_ns")
	b.ReportMetric(per(parse), "parse_ns")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSync1M syncs a chain of 1,000,000 blocks with 100 validators, of which all
// are replaced every 1,000 blocks, and 1,000 messages, from the first header to the
// last: ten advances, parsed from bytes and applied. Each set announces the next, so
// one header of each is enough. Making the chain is not counted; it takes some ten
// seconds.
func BenchmarkSync1M(b *testing.B) {
	const blocks, era, perAdvance = 1_000_000, 1_000, 100_000
	c := comettest.New(comettest.Config{Validators: comettest.NewSet("era 0", 100),
		Keep: func(h int64) bool { return h%era == 0 || h%era == era-1 || h == 1 }})
	for _, n := range all {
		c.CreateTopic(n)
	}
	for c.Height() < blocks {
		h := c.Height() + 1
		if h%era == 0 {
			c.Announce(comettest.NewSet("era "+time.Duration(h).String(), 100))
		}
		if h%era == 500 {
			c.Send(all[int(h/era)%len(all)], "sender", note(uint64(h)))
		}
		c.Next()
	}
	client := func(h comet.Header) *comet.Client { // 11.6 days of blocks within 14
		return comet.NewClient(comet.Params{ChainID: h.ChainID, TrustingPeriod: 14 * 24 * time.Hour, MaxClockDrift: drift}, h, rand.Reader)
	}
	sealed := stateAt(b, c, 1, all...).Marshal()
	var raw [][]byte
	seq := map[string]uint64{}
	size := 0
	for to := int64(perAdvance); to <= blocks; to += perAdvance {
		a := new(inbox.Advance)
		for h := to - perAdvance + era; h <= to; h += era {
			a.Blocks = append(a.Blocks, c.Light(h))
		}
		for _, n := range all {
			cur, p := c.Cursor(to-1, n)
			a.Topics = append(a.Topics, inbox.Proven{Topic: n, Cursor: cur, Proof: p})
			a.Messages = append(a.Messages, c.Messages(n, seq[n], to-1)...)
			seq[n] = cur.Seq
		}
		raw = append(raw, a.Marshal())
		size += len(raw[len(raw)-1])
	}
	for b.Loop() {
		s, err := inbox.Parse(sealed, client)
		if err != nil {
			b.Fatal(err)
		}
		messages := 0
		for _, r := range raw {
			a, err := inbox.ParseAdvance(r)
			if err != nil {
				b.Fatal(err)
			}
			batch, err := s.Apply(a, c.Time())
			if err != nil {
				b.Fatal(err)
			}
			messages += len(batch.Items)
		}
		if messages != blocks/era || s.Height() != blocks-1 {
			b.Fatalf("%d messages up to %d", messages, s.Height())
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "sync_1m_blocks_s")
	b.ReportMetric(float64(size)/1e6, "MB")
	b.ReportMetric(0, "ns/op")
}
