package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
)

// TestValidatorsFail: with one of four validators away everything goes on, with two the
// chain stands still and the worker falls silent when its lease is over, and once they are
// back everything goes on, what was sent meanwhile included. Two relayers, at two nodes,
// serve the same enclaves all the time.
func TestValidatorsFail(t *testing.T) {
	n, _ := startWith(t, devnet.Options{Workers: 1, Bonds: []int64{million, million, million, million}, Flags: []string{"--lease=8s"}})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	vs, err := n.Validators()
	if err != nil {
		t.Fatal(err)
	}
	hello, worker, gatekeeper := n.State().Contracts["hello"], n.Private("worker-1"), n.Private("gatekeeper")
	if err := n.Also("pherry-2", "pherry", "--node="+vs[1].Node.URL()); err != nil {
		t.Fatal(err)
	}
	net := n.Client.Network()
	net.Node = vs[1].Node.URL()
	second := client.Open(net, n.Client.Sender().Key)
	sent := 0
	call := func(c *client.Client) {
		t.Helper()
		sent++
		if _, err := c.Call(ctx, hello, "SetGreeting", fmt.Sprint("number ", sent), client.CallOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	counted := func() {
		t.Helper()
		until(ctx, t, "the count", func() error {
			a, err := second.Query(ctx, hello, "Count", nil, client.QueryOptions{})
			if err == nil && string(a.Return) != fmt.Sprint(sent) {
				err = fmt.Errorf("%d commands count as %s", sent, a.Return)
			}
			return err
		})
	}

	// The node of the first relayer dies: the second relayer and its node do.
	call(n.Client)
	if err := n.Kill("node"); err != nil {
		t.Fatal(err)
	}
	call(second)
	if err := n.Run("node"); err != nil {
		t.Fatal(err)
	}
	signsAgain(ctx, t, vs[0], vs[1])

	// One stops for good.
	if err := n.End("node-4"); err != nil {
		t.Fatal(err)
	}
	call(n.Client)
	counted()
	serves(ctx, t, worker)
	serves(ctx, t, gatekeeper)

	// A second one dies: nothing is final any more.
	if err := n.Kill("node-3"); err != nil {
		t.Fatal(err)
	}
	stood := height(ctx, t, vs[0].Node)
	sent++
	answered := make(chan error, 1)
	go func() {
		_, err := n.Client.Call(ctx, hello, "SetGreeting", "sent while the chain stood still", client.CallOptions{})
		answered <- err
	}()
	silent(ctx, t, endpoint(ctx, t, n, status(ctx, t, worker).Worker))
	if _, err := second.Query(ctx, hello, "Count", nil, client.QueryOptions{}); !errors.Is(err, client.ErrNoWorker) || !strings.Contains(err.Error(), "no challenge came back") {
		t.Errorf("a query at the worker whose lease is over: %v", err)
	}
	if st := status(ctx, t, worker); st.Serving || st.Fatal != "" || !strings.Contains(st.Why, "no challenge came back") {
		t.Errorf("the worker says %+v", st)
	}
	// What was decided when it died may still have come; the lease is some forty blocks.
	if now := height(ctx, t, vs[0].Node); now > stood+3 {
		t.Errorf("two of four validators made %d blocks", now-stood)
	}
	select {
	case err := <-answered:
		t.Errorf("a command was answered by a chain that stands still: %v", err)
	default:
	}

	// They come back.
	if err := errors.Join(n.Run("node-3"), n.Run("node-4")); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the command that was sent meanwhile: %v", err)
	}
	counted()
	serves(ctx, t, gatekeeper)
	signsAgain(ctx, t, vs[2], vs[0])
	for _, v := range vs {
		reaches(ctx, t, v.Node, height(ctx, t, vs[0].Node))
	}
}

// signsAgain waits until a validator's signature is in a block that another node has.
func signsAgain(ctx context.Context, t *testing.T, v, at *devnet.Validator) {
	t.Helper()
	key := comettest.Signer{Key: v.Consensus}.Validator()
	until(ctx, t, v.Name+" signs again", func() error {
		st, err := at.Node.Status(ctx)
		if err != nil {
			return err
		}
		b, err := at.Node.LightBlock(ctx, st.Height)
		if err != nil {
			return err
		}
		for _, s := range b.Commit.Signatures {
			if s.Flag == comet.FlagCommit && s.Address == key.Address() {
				return nil
			}
		}
		return fmt.Errorf("block %d is without it", st.Height)
	})
}
