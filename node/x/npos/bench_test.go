package npos

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"
	"time"

	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/npos"
)

// crowd is a chain of Polkadot's size, as large as the parameters allow: a thousand
// candidates, 300 seats, 22,500 nominators of 16 targets each with stakes over four
// decades.
func crowd(b *testing.B) *env {
	b.Helper()
	p := DefaultParams()
	p.Seats, p.SessionBlocks, p.SessionsPerEra, p.UnbondingEras, p.SlashDeferEras, p.HistoryEras = maxSeats, 120, 1, 2, 1, 3
	p.MaxCandidates, p.MaxElectingVoters = maxCandidates, maxVoters
	e := newEnv(b, p)
	ctx := e.Context()
	rng := rand.New(rand.NewPCG(2026, 11))
	who := func(kind string, n int) sdk.AccAddress {
		h := sha256.Sum256(fmt.Appendf(nil, "%s %d", kind, n))
		return h[:]
	}
	var all npos.U128
	enter := func(a sdk.AccAddress, l *ledger) {
		all = all.SaturatingAdd(l.Active)
		if err := e.k.place(ctx, a, l); err != nil {
			b.Fatal(err)
		}
	}
	for n := range maxCandidates {
		op := who("candidate", n)
		enter(op, &ledger{Active: pha(10_000 + rng.Uint64N(1000)), Role: roleCandidate})
		if err := e.k.setKey(ctx, op, consKey(n), &p); err != nil {
			b.Fatal(err)
		}
		if err := e.k.kv(ctx).Set(key(prefixCandidate, op), []byte{1}); err != nil {
			b.Fatal(err)
		}
	}
	for n := range maxVoters {
		stake := 100 + rng.Uint64N(900)
		for range rng.IntN(4) {
			stake *= 10
		}
		l := &ledger{Active: pha(stake), Role: roleNominator}
		picks := map[int]bool{}
		for len(l.Targets) < MaxTargets {
			if c := min(rng.IntN(maxCandidates), rng.IntN(maxCandidates)); !picks[c] {
				picks[c] = true
				l.Targets = append(l.Targets, who("candidate", c))
			}
		}
		enter(who("nominator", n), l)
	}
	if err := e.bank.MintCoins(ctx, "faucet", e.k.coins(all)); err != nil {
		b.Fatal(err)
	}
	if err := e.bank.SendCoinsFromModuleToModule(ctx, "faucet", ModuleName, e.k.coins(all)); err != nil {
		b.Fatal(err)
	}
	updates, err := GenesisStaking{e.staking, e.k}.ApplyAndReturnValidatorSetUpdates(ctx)
	if err != nil || len(updates) != maxSeats {
		b.Fatal(len(updates), err)
	}
	first := map[string]int64{}
	for _, u := range updates {
		first[string(consAddress(u.PubKey.GetEd25519()))] = u.Power
	}
	e.sets[1] = first
	ctx.MultiStore().(storetypes.CacheMultiStore).Write()
	return e
}

// reconsider gives a tenth of the nominators the targets of another one.
func (e *env) reconsider(ctx sdk.Context, rng *rand.Rand) error {
	var all []sdk.AccAddress
	err := e.k.eachNominator(ctx, nil, func(_ []byte, who sdk.AccAddress, _ *ledger) (bool, error) {
		all = append(all, slices.Clone(who))
		return true, nil
	})
	if err != nil {
		return err
	}
	for range len(all) / 10 {
		a, b := all[rng.IntN(len(all))], all[rng.IntN(len(all))]
		la, err := e.k.ledger(ctx, a)
		if err != nil {
			return err
		}
		lb, err := e.k.ledger(ctx, b)
		if err != nil {
			return err
		}
		la.Targets = lb.Targets
		if err := e.k.place(ctx, a, la); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkEra runs eras of 22,500 nominators with 16 targets each, a tenth of whom
// changes its targets in each era, and reports what the slowest block takes in addition
// to an ordinary one, which has the signatures of 300 validators to count. On a machine
// that does other things too era_block_cpu_ms, the processor time of the process, tells
// more.
func BenchmarkEra(b *testing.B) {
	// The database is on the heap here, where a node's is not: collecting it is no part
	// of an era's work.
	defer debug.SetGCPercent(debug.SetGCPercent(1000))
	e := crowd(b)
	e.era(2)
	var worst, worstCPU, usual time.Duration
	phases := map[string][]time.Duration{}
	rng := rand.New(rand.NewPCG(2026, 12))
	for b.Loop() {
		b.StopTimer()
		e.Start()
		e.Must(func(ctx sdk.Context) error { return e.reconsider(ctx, rng) })
		e.Finish()
		runtime.GC()
		b.StartTimer()
		var took, cpu []time.Duration
		for now := e.active(); e.active() == now; {
			x, err := e.k.progress(e.Context())
			if err != nil {
				b.Fatal(err)
			}
			start, used := time.Now(), processor()
			e.Block()
			took, cpu = append(took, time.Since(start)), append(cpu, processor()-used)
			name := phaseNames[x.Phase]
			if e.active() != now {
				name = "boundary"
			}
			phases[name] = append(phases[name], cpu[len(cpu)-1])
		}
		slices.Sort(took)
		slices.Sort(cpu)
		n := len(took)
		worst, worstCPU = max(worst, took[n-1]-took[n/2]), max(worstCPU, cpu[n-1]-cpu[n/2])
		usual = max(usual, cpu[n/2])
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(worst), "era_block_ms")
	b.ReportMetric(ms(worstCPU), "era_block_cpu_ms")
	b.ReportMetric(ms(usual), "usual_block_cpu_ms")
	for _, name := range append(phaseNames[:], "boundary") {
		if list := phases[name]; len(list) > 0 {
			slices.Sort(list)
			b.Logf("%-9s %d blocks, median %v, slowest %v of the processor", name, len(list), list[len(list)/2], list[max(0, len(list)-3):])
		}
	}
}

// processor is the processor time that the process has used.
func processor() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
