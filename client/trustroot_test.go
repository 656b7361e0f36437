package client_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/chaintest"
)

func TestParseTrustRoot(t *testing.T) {
	const hash = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	for in, want := range map[string]string{"7:" + hash: "7:" + hash, "7:" + "00112233445566778899AABBCCDDEEFF00112233445566778899AABBCCDDEEFF": "7:" + hash,
		"": "", "7": "", hash: "", "0:" + hash: "", "-1:" + hash: "", "7:" + hash[2:]: "", "7:" + hash + "00": "", "x:" + hash: ""} {
		r, err := client.ParseTrustRoot(in)
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken", in)
			}
		} else if err != nil || r.String() != want {
			t.Errorf("%q: %s, %v", in, r, err)
		}
	}
}

// TestNewestTrustRoot: a young chain has its first block; an older one has a newer block
// to start from, which is proven, and from which a new client gets as far.
func TestNewestTrustRoot(t *testing.T) {
	chain := chaintest.New(comettest.Config{Start: time.Now().UTC().Add(-5 * time.Minute).Truncate(time.Millisecond), Interval: 100 * time.Millisecond})
	node := httptest.NewServer(chain.Server())
	t.Cleanup(node.Close)
	first := chain.Root()
	net := client.Network{Chain: "comettest-1", Node: node.URL, RootHeight: first.Height, Root: first.Hash}
	ctx := context.Background()
	c := client.Open(net, nil)
	root, err := c.NewestTrustRoot(ctx)
	if err != nil || root.Height != first.Height || root.Hash != first.Hash {
		t.Fatalf("%s, %v", root, err)
	}
	chain.Next(proto.TrustRootInterval)
	if root, err = c.NewestTrustRoot(ctx); err != nil || root.Height != proto.TrustRootInterval {
		t.Fatalf("%s, %v", root, err)
	}
	h := chain.C.Header(proto.TrustRootInterval)
	if root.Hash != proto.Hash(h.Hash()) {
		t.Fatalf("it is %x", h.Hash())
	}
	net.RootHeight, net.Root = root.Height, root.Hash
	if h, err := client.Open(net, nil).Sync(ctx); err != nil || h.Height != chain.Height() {
		t.Fatalf("from there: %v", err)
	}
	net.Root[0] ^= 1
	if _, err := client.Open(net, nil).Sync(ctx); !errors.Is(err, client.ErrTrustRoot) {
		t.Fatalf("from a header that is none: %v", err)
	}
}
