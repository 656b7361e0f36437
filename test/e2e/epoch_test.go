package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/proto"
)

// TestErasedDisks: epochs turn under load, and every disk on which a cluster's state was
// is lost, one worker after the other. Others get the seats, continue from the snapshots
// that the nodes keep, and nothing is lost.
func TestErasedDisks(t *testing.T) {
	n, opt := startWith(t, devnet.Options{Workers: 3, Seats: 2, Flags: []string{"--lease=6s"}, Registry: map[string]any{"lease_blocks": 80},
		Contracts: map[string]any{"epoch_blocks": "30", "silent_blocks": "60"}})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	hello := n.State().Contracts["hello"]
	cluster := func() *proto.Cluster {
		c, err := n.Client.Cluster(ctx, n.State().Cluster)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	names := []string{"worker-1", "worker-2", "worker-3"}
	ids := map[string]proto.WorkerID{}
	for _, name := range names {
		until(ctx, t, name+" to say who it is", func() error {
			st, err := n.Private(name).Status(ctx)
			if err == nil {
				ids[name] = st.Worker
			}
			return err
		})
	}
	calls := 0
	call := func() {
		t.Helper()
		until(ctx, t, fmt.Sprintf("command %d", calls+1), func() error {
			_, err := n.Client.Call(ctx, hello, "SetGreeting", fmt.Sprint("greeting ", calls), client.CallOptions{Nonce: [16]byte{1, byte(calls)}})
			return err
		})
		calls++
	}
	stored := func(epoch uint64) {
		t.Helper()
		until(ctx, t, fmt.Sprintf("the snapshot of epoch %d or later", epoch), func() error {
			call()
			if c := cluster(); c.State.Epoch < epoch {
				return fmt.Errorf("epoch %d, announced %d, stored %d", c.Epoch, c.Next, c.State.Epoch)
			}
			return nil
		})
	}
	stored(3)
	for _, round := range []string{"the first disk", "the second disk"} {
		before := cluster()
		var victim string
		for _, name := range names {
			if slices.Contains(before.Seats, ids[name]) && (round == "the first disk" || name != "worker-1") {
				victim = name
			}
		}
		if err := n.Kill(victim); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(opt.Dir, victim)); err != nil {
			t.Fatal(err)
		}
		lost := ids[victim]
		if round == "the second disk" {
			// Nobody is left but this machine, which starts with nothing.
			if err := n.Run(victim); err != nil {
				t.Fatal(err)
			}
		}
		until(ctx, t, round+": another worker has the seat", func() error {
			if c := cluster(); c.HasSeat(lost) || len(c.Seats) < 2 || c.Epoch == before.Epoch {
				return fmt.Errorf("%d seats, epoch %d, announced %d", len(c.Seats), c.Epoch, c.Next)
			}
			return nil
		})
		call()
		stored(before.Epoch + 1)
		until(ctx, t, round+": every seat counts the same", func() error {
			targets, err := n.Client.Targets(ctx, hello)
			if err != nil || len(targets) != 2 {
				return fmt.Errorf("%d targets, %w", len(targets), err)
			}
			in, err := client.Input("Count", nil)
			if err != nil {
				return err
			}
			for _, target := range targets {
				a, err := n.Client.Ask(ctx, target, hello, in, client.QueryOptions{})
				if err != nil {
					return err
				}
				if string(a.Return) != fmt.Sprint(calls) {
					return fmt.Errorf("%s counts %s of %d", target.Worker, a.Return, calls)
				}
			}
			return nil
		})
		t.Logf("%s: %s lost everything at epoch %d, now it is epoch %d and the count %d", round, victim, before.Epoch, cluster().Epoch, calls)
	}
}
