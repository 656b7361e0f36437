package client_test

import (
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/tx"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest/stack"
)

// TestUpload: what somebody else began is finished, what is there is not paid for again,
// and a module without a chunk or with too many is refused before anything is sent.
func TestUpload(t *testing.T) {
	s := stack.New(t)
	s.Server.Eager = true
	s.Chain.Next(1)
	ctx := within(t, 2*time.Minute)
	module := make([]byte, 2*proto.ChunkSize+10)
	m := proto.NewCodeManifest(module)
	sent := 0
	s.Server.Intercept(func(method string, _ map[string]any) (any, error) {
		if method == "broadcast_tx_sync" {
			sent++
		}
		return nil, nil
	})
	first, second := client.Open(s.Network(), s.Key("first")), client.Open(s.Network(), s.Key("second"))
	msg := tx.UploadCode(first.Account(), m.Marshal(), 1, proto.PackChunk(module[proto.ChunkSize:][:proto.ChunkSize]))
	if _, err := s.Sender("first").Send(ctx, 1000, msg); err != nil {
		t.Fatal(err)
	}
	s.Chain.Next(2)
	var done []int
	for _, c := range []*client.Client{second, first, second} {
		if _, err := c.Sync(ctx); err != nil {
			t.Fatal(err)
		}
		h, err := c.Upload(ctx, module, func(n, total int) { done = append(done, n*10+total) })
		if err != nil || h != m.Hash() {
			t.Fatal(h, err)
		}
		s.Chain.Next(2)
	}
	if sent != 3 || !slices.Equal(done, []int{13, 23, 33}) {
		t.Errorf("%d transactions for three chunks, progress %v", sent, done)
	}
	if code, err := first.Code(ctx, m.Hash()); err != nil || code.Missing() != 0 {
		t.Errorf("%+v, %v", code, err)
	}
	for _, bad := range [][]byte{nil, make([]byte, proto.MaxCode+1)} {
		if _, err := first.Upload(ctx, bad, nil); err == nil || sent != 3 {
			t.Errorf("%d bytes are uploaded", len(bad))
		}
	}
}
