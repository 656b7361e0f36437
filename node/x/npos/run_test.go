package npos

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/kv"
	"github.com/phala-go/phala/node/x/npos/types"
	"github.com/phala-go/phala/npos"
)

// script is a run in which things happen while elections go on; f is called before
// each block.
func script(t *testing.T, f func(e *env)) *env {
	e := started(t, quick(), 6, func(e *env) []tx { return []tx{e.nominate(20, 800, 1, 2), e.nominate(21, 500, 3, 4, 5)} })
	rng := rand.New(rand.NewPCG(7, 7))
	for range 60 {
		f(e)
		var txs []tx
		if n := 20 + rng.IntN(20); rng.IntN(2) == 0 {
			txs = append(txs, e.nominate(n, 10+rng.Uint64N(100), 1+rng.IntN(6)))
		}
		e.Block(txs...)
	}
	return e
}

// TestRestart: a node that restarts before any block, in the midst of an election too,
// and a node that executes each block twice, have the state of one that did not.
func TestRestart(t *testing.T) {
	want := script(t, func(*env) {})
	for _, c := range []struct {
		name   string
		before func(*env)
	}{
		{"restarts before each block", func(e *env) { e.k.runs.run = nil }},
		{"executes each block twice", func(e *env) {
			e.Start()
			if err := e.k.EndBlock(e.Context()); err != nil {
				t.Fatal(err)
			}
			e.Abandon()
		}},
	} {
		got := script(t, c.before)
		if !bytes.Equal(got.MS.LastCommitID().Hash, want.MS.LastCommitID().Hash) || got.active() < 6 {
			t.Errorf("a node that %s differs at height %d", c.name, got.Height())
		}
	}
}

// TestParamsChangeDuringElection: an election keeps the parameters that it began with,
// whenever governance changes them, and a node that restarted elects the same. Nothing
// else changes, so that each snapshot has the candidates and voters of the one before.
func TestParamsChangeDuringElection(t *testing.T) {
	for phase := range uint8(phaseReady + 1) {
		t.Run(phaseNames[phase], func(t *testing.T) {
			run := func(restarts bool) *env {
				e := started(t, quick(), 8, func(e *env) []tx { return []tx{e.nominate(20, 800, 1, 2), e.nominate(21, 500, 3, 4, 5)} })
				block := func(txs ...tx) {
					if restarts {
						e.k.runs.run = nil
					}
					e.Block(txs...)
				}
				for e.active() < 3 || e.phase() != phase {
					block()
				}
				now := e.active()
				block(func(ctx sdk.Context) error {
					p, err := e.k.Params(ctx)
					p.Seats, p.BalancingIterations, p.MaxElectingVoters = 7, 0, 1
					return errors.Join(err, e.k.SetParams(ctx, p))
				})
				for n := now + 1; n <= now+3; n++ {
					for e.active() < n {
						block()
						e.check()
					}
					want := 7
					if n == now+1 && phase != phaseIdle { // which had begun
						want = 4
					}
					if got := e.elected(); len(got) != want {
						t.Errorf("era %d elected %v, not %d", n, got, want)
					}
				}
				if e.k.runs.run != nil {
					t.Error("an election that is over stays in memory")
				}
				return e
			}
			if a, b := run(false), run(true); !bytes.Equal(a.MS.LastCommitID().Hash, b.MS.LastCommitID().Hash) {
				t.Errorf("a node that restarted differs at height %d", a.Height())
			}
		})
	}
}

// TestFailedStep: a step that fails does so again when a block is executed again.
func TestFailedStep(t *testing.T) {
	fresh := func() (*run, error) {
		in, err := npos.NewInstance(1, []npos.U128{pha(5)}, [][]uint32{{0}})
		if err != nil {
			return nil, err
		}
		e := npos.NewElection(in, 1, npos.Balancing{})
		e.Step(1 << 20)
		r, err := e.Result()
		if err != nil {
			return nil, err
		}
		r.Assignments = append(r.Assignments, r.Assignments...) // which no election gives
		return &run{election: e}, nil
	}
	var c runCache
	for range 3 {
		if done, err := c.reached([32]byte{}, 2, fresh); done || !errors.Is(err, npos.CodeDuplicateVoter) {
			t.Fatalf("done %v, %v", done, err)
		}
	}
}

// TestStakeCountsOnce: who stands in a snapshot and then becomes a nominator has one
// vote, wherever the snapshot's reading has come to.
func TestStakeCountsOnce(t *testing.T) {
	p := quick()
	p.SessionBlocks = 20
	const crowd = votersPerBlock + 20 // so that the snapshot takes two blocks
	for blocks := range 2 {
		e := started(t, p, 6, func(e *env) (txs []tx) {
			for n := 100; n < 100+crowd; n++ {
				e.fund(account(n), pha(100))
				txs = append(txs, e.nominate(n, 20, 2))
			}
			return txs
		})
		e.Block(e.validate(7, 1000, 0), e.bond(1, 2000))
		for e.phase() != phaseSnapshot {
			e.Block()
		}
		e.skip(blocks)
		if e.phase() != phaseSnapshot {
			t.Fatal("the snapshot is complete")
		}
		e.Block(e.chill(1), e.nominate(1, 0, 7))
		e.era(2)
		var all npos.U128
		for _, v := range e.elected() {
			list, err := e.k.page(e.Context(), 2, account(v), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range append(list, share{account(v), e.exposure(2, v).Own}) {
				if h.Staker.Equals(account(1)) {
					all = all.SaturatingAdd(h.Amount)
				}
			}
		}
		if all != pha(3000) {
			t.Errorf("a stake of %v stands with %v", pha(3000), all)
		}
		e.check()
	}
}

// TestSnapshotWhileTheListChanges: nominators who change their stake while the list is
// read over several blocks are in the snapshot once each.
func TestSnapshotWhileTheListChanges(t *testing.T) {
	const crowd = 3*votersPerBlock - 50
	p := quick()
	p.SessionBlocks = 30
	e := started(t, p, 3, func(e *env) (txs []tx) {
		for n := 100; n < 100+crowd; n++ {
			e.fund(account(n), pha(1000))
			txs = append(txs, e.nominate(n, 20+uint64(n%7)*10, 1+n%3))
		}
		return txs
	})
	rng := rand.New(rand.NewPCG(3, 3))
	phase := func() uint8 {
		x, err := e.k.progress(e.Context())
		if err != nil {
			t.Fatal(err)
		}
		return x.Phase
	}
	for phase() != phaseSnapshot {
		e.Block()
	}
	moved := 0
	for phase() == phaseSnapshot {
		var txs []tx
		for range 100 {
			n := 100 + rng.IntN(crowd)
			switch rng.IntN(3) {
			case 0:
				txs = append(txs, e.bond(n, 1+rng.Uint64N(50)))
			case 1:
				if l := e.ledger(n); pha(30).Less(l.Active) {
					txs = append(txs, func(ctx sdk.Context) error {
						_, err := e.k.Unbond(ctx, &types.MsgUnbond{Staker: name(n), Amount: "1000000000000"})
						if ErrMinimum.Is(err) {
							return nil
						}
						return err
					})
				}
			case 2: // out of the list and into it again
				txs = append(txs, e.chill(n), e.nominate(n, 0, 2))
			}
		}
		moved += len(txs)
		e.Block(txs...)
		e.check()
	}
	seen := map[string]int{}
	for _, prefix := range []string{prefixVoters, prefixExtra} {
		err := kv.Each(e.k.kv(e.Context()), []byte(prefix), func(_, b []byte) (bool, error) {
			list, err := parseVoters(b)
			for _, v := range list {
				seen[string(v.Staker)]++
			}
			return true, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := 100; n < 100+crowd; n++ {
		if seen[string(account(n))] != 1 {
			t.Errorf("nominator %d is in the snapshot %d times", n, seen[string(account(n))])
		}
	}
	if len(seen) != crowd || moved < 200 {
		t.Fatalf("%d voters of %d, %d transactions", len(seen), crowd, moved)
	}
	e.era(2)
	e.check()
}

// TestElectionsAreForgottenSlowly: whatever moved while an election read the list, no block
// removes more of it than its share, and the next election begins when all of it is gone:
// who was marked in the one before is read again.
func TestElectionsAreForgottenSlowly(t *testing.T) {
	p := quick()
	p.SessionBlocks, p.SessionsPerEra = 10, 1 // an election begins as soon as it may
	e := started(t, p, 3, func(e *env) []tx { return []tx{e.nominate(20, 800, 1)} })
	e.era(2)
	for e.phase() != phaseSnapshot {
		e.Block()
	}
	const strangers = 3*leftPerBlock + 7
	e.Start()
	for n := range strangers {
		if err := e.k.kv(e.Context()).Set(key(prefixMoved, u32(uint32(n))), []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	e.Must(e.chill(20))
	e.Must(e.nominate(20, 0, 2))
	if err := e.k.kv(e.Context()).Set(key(prefixMoved, account(20)), []byte{1}); err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		t.Helper()
		for _, prefix := range []string{prefixMoved, prefixVoters, prefixExtra} {
			if err := kv.Each(e.k.kv(e.Context()), []byte(prefix), func(_, _ []byte) (bool, error) { n++; return true, nil }); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	now, before, slowly := e.active(), left(), 0
	for e.Finish(); e.active() < now+2 || e.phase() == phaseIdle; e.Block() {
		e.check()
		after := left()
		if before > after+leftPerBlock {
			t.Fatalf("height %d: a block removes %d", e.Height(), before-after)
		}
		if before > after {
			slowly++
		}
		if before = after; e.active() == now+1 && e.phase() == phaseSnapshot && after > 0 {
			t.Fatalf("height %d: an election begins with %d of the one before", e.Height(), after)
		}
	}
	if slowly < 4 {
		t.Errorf("all was removed in %d blocks", slowly)
	}
	if x := e.exposure(e.active(), 2); x == nil || x.Backers != 1 {
		t.Errorf("who was marked is not read again: %+v", x)
	}
}
