package collateral

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/fault"
)

// A Chain is what the keeper needs of a chain.
type Chain interface {
	// Held is the collateral that the chain has under a key, nil where it has none.
	Held(ctx context.Context, key string) (*attest.Collateral, error)
	// Greatest is the greatest TCB evaluation number, of Intel's data of a class, that the
	// chain takes.
	Greatest(ctx context.Context, tee attest.TEE) (uint32, error)
	// Update sends a newer one.
	Update(ctx context.Context, c *attest.Collateral) error
	// Admits is nil where the chain's policy takes a worker of this verdict, else it
	// says why not.
	Admits(ctx context.Context, v *attest.Verdict) error
}

// A Source gives verified collateral; see pcs.Client.
type Source interface {
	Collateral(ctx context.Context, key string) (*attest.Collateral, *attest.CollateralInfo, error)
	Early(ctx context.Context, key string) (*attest.Collateral, *attest.CollateralInfo, error)
	Of(ctx context.Context, key string, number uint32) (*attest.Collateral, *attest.CollateralInfo, error)
}

// A Worker is one whose platform is watched.
type Worker struct {
	Name     string
	Evidence attest.Evidence // its collateral is not used
}

// A Keeper keeps the collateral of its workers' platforms fresh.
type Keeper struct {
	Chain   Chain
	Source  Source
	Workers func(ctx context.Context) ([]Worker, error)
	Roots   attest.Roots
	Now     func() time.Time
	Log     *slog.Logger

	mu   sync.Mutex
	last Report
}

// Times of a keeper's work.
const (
	Interval   = 6 * time.Hour      // between rounds
	retry      = time.Minute        // after a round with problems; twice as long after each further one
	expiryNear = 7 * 24 * time.Hour // a platform's collateral should be renewed by then
)

// A Warning is a worker that the chain does not, or will not, take any more.
type Warning struct {
	Worker string
	Key    string
	// Now is true where what counts today refuses it already, and false where the next
	// TCB recovery will.
	Now bool
	// Evaluation is the number of the TCB recovery, of Intel's data.
	Evaluation uint32
	// Reason is a refusal of package fault, or of the chain's policy.
	Reason error
}

func (w Warning) String() string {
	if w.Now {
		return fmt.Sprintf("%s is refused: %v", w.Worker, w.Reason)
	}
	return fmt.Sprintf("%s will be refused once TCB recovery %d counts: %v; update its platform before", w.Worker, w.Evaluation, w.Reason)
}

// A Report is the outcome of a round.
type Report struct {
	Time time.Time
	// Expiry is when what the chain holds ends, by key; zero where it holds nothing that
	// is valid.
	Expiry   map[string]time.Time
	Updated  []string // keys of which the chain was sent a newer one
	Warnings []Warning
	Problems []error
}

// Report returns the newest round's.
func (k *Keeper) Report() Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.last
}

// Run does rounds until the context ends. A problem may last for days (a service that is
// gone, data that governance does not take yet), and each round has the workers make
// evidence.
func (k *Keeper) Run(ctx context.Context) {
	for wait := retry; ; {
		pause := Interval
		if r := k.Round(ctx); len(r.Problems) > 0 {
			pause, wait = wait, min(2*wait, Interval)
		} else {
			wait = retry
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// Round asks for everything once, sends what is newer, and judges the workers. One
// platform's problem does not keep the others from being served.
func (k *Keeper) Round(ctx context.Context) Report {
	r := Report{Time: k.Now(), Expiry: map[string]time.Time{}}
	problem := func(format string, args ...any) {
		err := fmt.Errorf(format, args...)
		r.Problems = append(r.Problems, err)
		k.Log.Warn("collateral", "error", err)
	}
	workers, err := k.Workers(ctx)
	if err != nil {
		problem("collateral: workers: %w", err)
	}
	byKey := map[string][]Worker{}
	var keys []string
	for _, w := range workers {
		key, err := w.Evidence.CollateralKey()
		if err != nil {
			problem("collateral: evidence of %s: %w", w.Name, err)
			continue
		}
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], w)
	}
	slices.Sort(keys)
	for _, key := range keys {
		current, updated, err := k.refresh(ctx, key)
		if err != nil {
			problem("collateral: %s: %w", key, err)
		}
		if updated {
			r.Updated = append(r.Updated, key)
			k.Log.Info("collateral updated", "key", key)
		}
		r.Expiry[key] = time.Time{}
		if current == nil {
			continue
		}
		if info, err := attest.VerifyCollateral(current, k.Roots, r.Time); err == nil {
			r.Expiry[key] = info.Expiry
			if info.Expiry.Sub(r.Time) < expiryNear {
				problem("collateral: what the chain holds for %s ends %s, and the vendor has nothing newer yet", key, info.Expiry.Format(time.RFC3339))
			}
		}
		warnings, err := k.judge(ctx, key, current, byKey[key])
		if err != nil {
			problem("collateral: %s: %w", key, err)
		}
		r.Warnings = append(r.Warnings, warnings...)
	}
	for _, w := range r.Warnings {
		k.Log.Warn("worker excluded", "worker", w.Worker, "platform", w.Key, "now", w.Now, "tcb_recovery", w.Evaluation, "reason", w.Reason)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = r
	return r
}

// refresh sends the chain what is newer than what it holds, and returns what it holds
// afterwards.
func (k *Keeper) refresh(ctx context.Context, key string) (current *attest.Collateral, updated bool, err error) {
	held, err := k.Chain.Held(ctx, key)
	if err != nil {
		return nil, false, err
	}
	next, greatest, behind, err := k.fetch(ctx, key)
	if err != nil {
		return held, false, err
	}
	check := attest.CheckUpdate
	if held != nil {
		if n, err := held.Evaluation(); err == nil && n > greatest && next.DCAP != nil {
			check = attest.CheckRetraction // governance took the number back, as the chain judges
		}
	}
	_, err = check(held, next, k.Roots, k.Now())
	switch {
	case errors.Is(err, fault.CollateralNotNewer):
		return held, false, behind
	case err != nil:
		return held, false, errors.Join(behind, err)
	}
	if err := k.Chain.Update(ctx, next); err != nil {
		// Somebody else may have been faster: then the chain holds it, or a newer one.
		now, rerr := k.Chain.Held(ctx, key)
		if rerr != nil || now == nil {
			return held, false, err
		}
		if _, check := attest.CheckUpdate(now, next, k.Roots, k.Now()); errors.Is(check, fault.CollateralNotNewer) {
			return now, false, behind
		}
		return held, false, err
	}
	return next, true, behind
}

// fetch asks for what the chain takes: what counts by the vendor's word or, while governance
// has not followed it to the next TCB recovery, which behind says, what it renews of the one
// before. greatest is the greatest evaluation number that the chain takes.
func (k *Keeper) fetch(ctx context.Context, key string) (c *attest.Collateral, greatest uint32, behind, err error) {
	c, info, err := k.Source.Collateral(ctx, key)
	if err != nil || info.DCAP == nil {
		return c, 0, nil, err
	}
	if greatest, err = k.Chain.Greatest(ctx, info.TEE); err != nil {
		return nil, 0, nil, err
	}
	number := max(info.DCAP.Evaluation, info.DCAP.QEEvaluation)
	if number <= greatest {
		return c, greatest, nil, nil
	}
	behind = fmt.Errorf("%w: TCB evaluation number %d of %s, at most %d: governance must raise tcb_evaluations before what is held expires", ErrPolicy, number, info.TEE, greatest)
	if greatest == 0 {
		return nil, 0, nil, behind
	}
	if c, _, err = k.Source.Of(ctx, key, greatest); err != nil {
		return nil, 0, nil, errors.Join(behind, err)
	}
	return c, greatest, behind, nil
}

// judge judges workers by what counts, then by what will.
func (k *Keeper) judge(ctx context.Context, key string, current *attest.Collateral, workers []Worker) (out []Warning, err error) {
	var left []Worker
	for _, w := range workers {
		if number, reason := k.refused(ctx, w, current); reason != nil {
			out = append(out, Warning{Worker: w.Name, Key: key, Now: true, Evaluation: number, Reason: reason})
		} else {
			left = append(left, w)
		}
	}
	if strings.HasPrefix(key, attest.SNP.String()+"/") || len(left) == 0 {
		return out, nil
	}
	early, _, err := k.Source.Early(ctx, key)
	if err != nil {
		return out, fmt.Errorf("the next TCB recovery: %w", err)
	}
	for _, w := range left {
		if number, reason := k.refused(ctx, w, early); reason != nil {
			out = append(out, Warning{Worker: w.Name, Key: key, Evaluation: number, Reason: reason})
		}
	}
	return out, nil
}

// refused says why a worker is not taken with a collateral, and of which TCB recovery
// that is.
func (k *Keeper) refused(ctx context.Context, w Worker, c *attest.Collateral) (number uint32, reason error) {
	info, err := attest.VerifyCollateral(c, k.Roots, k.Now())
	if err != nil {
		return 0, err
	}
	if info.DCAP != nil {
		number = info.DCAP.Evaluation
	}
	ev := w.Evidence
	ev.Collateral = c
	v, err := attest.Verify(ev, k.Roots, k.Now())
	if err != nil {
		return number, err
	}
	return number, k.Chain.Admits(ctx, v)
}
