package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/phala-go/phala/client/staking"
	"github.com/phala-go/phala/internal/devnet"
)

// TestElections: over several eras of real nodes one validator is killed while elections
// run and started again, one joins, one leaves. The chain never stands still, and the one
// that was killed makes the same elections as the rest: a node that did not would stop at
// the first block of another state.
func TestElections(t *testing.T) {
	n, _ := startWith(t, devnet.Options{Workers: 1, Bonds: []int64{million, million, million, million, 0}, NPoS: shortEras})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	vs, err := n.Validators()
	if err != nil {
		t.Fatal(err)
	}
	node, victim := n.Client.Node(), vs[2]
	chain := &staking.Client{Node: node}
	seated := func(v *devnet.Validator) bool {
		t.Helper()
		list, err := chain.Validators(ctx, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range list {
			if bytes.Equal(s.ConsensusKey, v.Consensus.Public().(ed25519.PublicKey)) {
				return s.Elected
			}
		}
		return false
	}
	if !seated(vs[1]) || seated(vs[4]) {
		t.Fatal("the first era has other validators than its genesis")
	}
	first, err := chain.Era(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	join(ctx, t, vs[4], million-1)
	leave(ctx, t, vs[1])
	last, killed := uint64(0), 0
	until(ctx, t, "five eras", func() error {
		e, err := chain.Era(ctx, 0)
		if err != nil {
			return err
		}
		if e.Phase != "idle" && e.Active != last && killed < 3 {
			if err := n.Kill(victim.Name); err != nil {
				t.Fatal(err)
			}
			grows(ctx, t, node, 2) // without it
			if err := n.Run(victim.Name); err != nil {
				t.Fatal(err)
			}
			last, killed = e.Active, killed+1
			reaches(ctx, t, victim.Node, height(ctx, t, node))
		}
		if e.Active < first.Active+5 || killed < 3 {
			return fmt.Errorf("era %d, killed %d times", e.Active, killed)
		}
		return nil
	})
	if seated(vs[1]) || !seated(vs[4]) {
		t.Error("who left is elected, or who joined is not")
	}
	// All have the blocks of each other, and so their state.
	top := height(ctx, t, node)
	for _, v := range vs {
		reaches(ctx, t, v.Node, top)
	}
	past, err := chain.Era(ctx, first.Active+3)
	if err != nil || past.Issued.IsZero() || past.Points == 0 {
		t.Errorf("era %+v, %v", past, err)
	}
}
