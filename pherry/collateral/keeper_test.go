package collateral_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/dcap"
	"github.com/phala-go/phala/attest/fault"
	"github.com/phala-go/phala/attest/pcs"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/pherry/collateral"
)

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// A chain holds collateral as x/registry does: newer ones only.
type chain struct {
	t        *testing.T
	roots    attest.Roots
	now      func() time.Time
	held     map[string]*attest.Collateral
	updates  int
	fail     error
	faster   *attest.Collateral // what somebody else brings just before us
	worst    uint8              // worst confidence level that is taken
	greatest uint32             // TCB evaluation number that is taken
}

func (c *chain) Greatest(context.Context, attest.TEE) (uint32, error) { return c.greatest, nil }

func (c *chain) Held(_ context.Context, key string) (*attest.Collateral, error) {
	return c.held[key], nil
}

func (c *chain) Update(_ context.Context, next *attest.Collateral) error {
	if c.faster != nil {
		next, c.faster = c.faster, nil
		c.take(next)
		return errors.New("not newer")
	}
	if c.fail != nil {
		return c.fail
	}
	c.take(next)
	c.updates++
	return nil
}

func (c *chain) take(next *attest.Collateral) {
	info, err := attest.VerifyCollateral(next, c.roots, c.now())
	if err != nil {
		c.t.Errorf("the chain was sent %v", err)
		return
	}
	held, check := c.held[info.Key], attest.CheckUpdate
	if held != nil {
		if n, _ := held.Evaluation(); n > c.greatest {
			check = attest.CheckRetraction
		}
	}
	if n, _ := next.Evaluation(); n > c.greatest {
		c.t.Errorf("the chain was sent number %d, it takes %d", n, c.greatest)
	}
	if _, err := check(held, next, c.roots, c.now()); err != nil {
		c.t.Errorf("the chain was sent %v", err)
		return
	}
	c.held[info.Key] = next
}

var errPolicy = errors.New("below the floor")

func (c *chain) Admits(_ context.Context, v *attest.Verdict) error {
	if v.ConfidenceLevel > c.worst {
		return fmt.Errorf("%w: level %d", errPolicy, v.ConfidenceLevel)
	}
	return nil
}

// A world is a simulated vendor with one machine for each class, and a chain.
type world struct {
	*chain
	network       *simulator.Network
	current, next simulator.State // what the vendor publishes
	older         simulator.State // and renews, though it does not count any more
	issued        time.Time       // when it did
	down          error
	keeper        *collateral.Keeper
	clock         time.Time
}

// network is made once: its RSA keys take seconds.
var network = sync.OnceValues(func() (*simulator.Network, error) { return simulator.NewNetwork(start, true) })

func newWorld(t *testing.T, classes ...attest.TEE) *world {
	t.Helper()
	w := &world{clock: start, issued: start, current: simulator.State{Evaluation: 3}, next: simulator.State{Evaluation: 3}}
	var err error
	if w.network, err = network(); err != nil {
		t.Fatal(err)
	}
	encoded, err := w.network.Roots()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := attest.SimulatedRoots(encoded)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return w.clock }
	w.chain = &chain{t: t, roots: roots, now: now, held: map[string]*attest.Collateral{}, worst: 4, greatest: 100}
	m, err := w.network.NewMachine(start)
	if err != nil {
		t.Fatal(err)
	}
	var workers []collateral.Worker
	for _, tee := range classes {
		ev, err := m.Evidence(tee, []byte{1}, [64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		workers = append(workers, collateral.Worker{Name: "worker on " + tee.String(), Evidence: ev})
	}
	service := &simulator.Service{Network: w.network, Publish: func(tee attest.TEE, of simulator.Edition) (*attest.Collateral, error) {
		state := w.current
		if of.Early {
			state = w.next
		}
		if of.Number != 0 && of.Number == w.older.Evaluation {
			state = w.older
		}
		return w.network.Collateral(w.network.Publication(tee, w.issued, state))
	}}
	server := httptest.NewServer(service.Handler())
	t.Cleanup(server.Close)
	client, err := pcs.New(pcs.Options{Intel: server.URL, AMD: server.URL, Roots: roots, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	w.keeper = &collateral.Keeper{
		Chain: w.chain, Source: source{client, w}, Roots: roots, Now: now, Log: slog.New(slog.DiscardHandler),
		Workers: func(context.Context) ([]collateral.Worker, error) { return workers, nil },
	}
	return w
}

// source fails when the world says so.
type source struct {
	*pcs.Client
	w *world
}

func (s source) Collateral(ctx context.Context, key string) (*attest.Collateral, *attest.CollateralInfo, error) {
	if s.w.down != nil {
		return nil, nil, s.w.down
	}
	return s.Client.Collateral(ctx, key)
}

// round does a round and checks that what it says is what was remembered.
func (w *world) round(t *testing.T, problems int) collateral.Report {
	t.Helper()
	r := w.keeper.Round(t.Context())
	if len(r.Problems) != problems {
		t.Errorf("problems: %v, want %d", r.Problems, problems)
	}
	if last := w.keeper.Report(); !last.Time.Equal(r.Time) || len(last.Updated) != len(r.Updated) {
		t.Errorf("remembered %+v of %+v", last, r)
	}
	return r
}

func (w *world) pass(d time.Duration) {
	w.clock = w.clock.Add(d)
	w.issued = w.clock
}

func TestFresh(t *testing.T) {
	w := newWorld(t, attest.TDX, attest.SGX, attest.SNP, attest.TDX)
	r := w.round(t, 0)
	want := []string{"sgx/deadbeef0001/platform", "snp/Milan", "tdx/deadbeef0001/platform"}
	if fmt.Sprint(r.Updated) != fmt.Sprint(want) || len(r.Warnings) != 0 || len(r.Expiry) != 3 {
		t.Fatalf("%+v", r)
	}
	for key, at := range r.Expiry {
		if left := at.Sub(start); left < 20*24*time.Hour {
			t.Errorf("%s ends after %s", key, left)
		}
	}
	if r = w.round(t, 0); len(r.Updated) != 0 || w.updates != 3 {
		t.Errorf("sent again: %v", r.Updated)
	}
	// A day later the vendor has newer ones.
	w.pass(24 * time.Hour)
	if r = w.round(t, 0); len(r.Updated) != 3 || w.updates != 6 {
		t.Errorf("%v, %d updates", r.Updated, w.updates)
	}
}

func TestTroubles(t *testing.T) {
	w := newWorld(t, attest.TDX)
	const key = "tdx/deadbeef0001/platform"
	w.down = errors.New("no answer")
	if r := w.round(t, 1); len(r.Updated) != 0 || !r.Expiry[key].IsZero() {
		t.Errorf("%+v", r)
	}
	w.down = nil
	w.fail = errors.New("no fee")
	if r := w.round(t, 1); len(r.Updated) != 0 || !errors.Is(r.Problems[0], w.fail) {
		t.Errorf("%+v", r)
	}
	w.fail = nil
	w.round(t, 0)

	// The vendor falls silent: its last word goes on until it ends, and the operator is
	// told a week before.
	w.down = errors.New("no answer")
	w.clock = start.Add(25 * 24 * time.Hour)
	r := w.round(t, 2)
	if r.Expiry[key].IsZero() || !strings.Contains(fmt.Sprint(r.Problems), "nothing newer yet") {
		t.Errorf("%+v", r)
	}
	w.clock = start.Add(31 * 24 * time.Hour)
	if r = w.round(t, 1); !r.Expiry[key].IsZero() || len(r.Warnings) != 1 || !r.Warnings[0].Now || !errors.Is(r.Warnings[0].Reason, fault.CRLExpired) {
		t.Errorf("%+v", r)
	}

	// Another relayer is faster: no problem, and nothing is sent again.
	w.down = nil
	w.pass(0)
	faster, err := w.network.Collateral(w.network.Publication(attest.TDX, w.clock, w.current))
	if err != nil {
		t.Fatal(err)
	}
	w.faster = faster
	if r = w.round(t, 0); len(r.Updated) != 0 || w.held[key] != faster {
		t.Errorf("%+v", r)
	}

	w.keeper.Workers = func(context.Context) ([]collateral.Worker, error) {
		return []collateral.Worker{{Name: "odd", Evidence: attest.Evidence{TEE: attest.TDX, Report: []byte("x")}}}, nil
	}
	if r = w.round(t, 1); !errors.Is(r.Problems[0], fault.QuoteMalformed) {
		t.Errorf("%+v", r)
	}
}

// TestGovernanceBehind: the vendor's standard data are of a TCB recovery that the chain does
// not take yet. Those that it takes are kept fresh for as long as the vendor renews them, and
// it is said that governance must follow.
func TestGovernanceBehind(t *testing.T) {
	const key = "tdx/deadbeef0001/platform"
	w := newWorld(t, attest.TDX)
	w.greatest = 3
	w.round(t, 0)
	holds := func() uint32 {
		n, err := w.held[key].Evaluation()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	w.current, w.next, w.older = simulator.State{Evaluation: 5}, simulator.State{Evaluation: 5}, simulator.State{Evaluation: 3}
	for range 3 {
		w.pass(24 * time.Hour)
		r := w.round(t, 1)
		if len(r.Updated) != 1 || holds() != 3 || !errors.Is(r.Problems[0], collateral.ErrPolicy) || !r.Expiry[key].After(w.clock.Add(20*24*time.Hour)) {
			t.Fatalf("%+v, it holds number %d", r, holds())
		}
	}
	// The vendor renews them no more, and the chain takes none at all.
	w.older = simulator.State{}
	for _, greatest := range []uint32{3, 0} {
		w.greatest = greatest
		w.pass(24 * time.Hour)
		if r := w.round(t, 1); len(r.Updated) != 0 || holds() != 3 || !errors.Is(r.Problems[0], collateral.ErrPolicy) || errors.Is(r.Problems[0], pcs.CodeStatus) != (greatest != 0) {
			t.Fatalf("at most %d: %+v", greatest, r)
		}
	}
	w.greatest = 5
	if r := w.round(t, 0); len(r.Updated) != 1 || holds() != 5 {
		t.Fatalf("%+v, it holds number %d", r, holds())
	}
	// It was too early: governance takes the number back, and the chain takes the one before.
	w.greatest, w.older = 4, simulator.State{Evaluation: 4}
	if r := w.round(t, 1); len(r.Updated) != 1 || holds() != 4 {
		t.Fatalf("%+v, it holds number %d", r, holds())
	}
}

func TestWarnsAhead(t *testing.T) {
	w := newWorld(t, attest.TDX, attest.SNP)
	for _, c := range []struct {
		name          string
		current, next simulator.State
		worst         uint8
		warning       string // beginning of the only one; "" for none
		reason        error
	}{
		{"all well", simulator.State{Evaluation: 3}, simulator.State{Evaluation: 4}, 4, "", nil},
		{"a recovery that does not matter", simulator.State{Evaluation: 5}, simulator.State{Evaluation: 6, Status: string(dcap.SWHardeningNeeded)}, 4, "", nil},
		{"one that puts it below the floor", simulator.State{Evaluation: 7}, simulator.State{Evaluation: 8, Status: string(dcap.OutOfDate)}, 4, "worker on tdx will be refused once TCB recovery 8 counts", errPolicy},
		{"one that revokes it", simulator.State{Evaluation: 9}, simulator.State{Evaluation: 10, Status: string(dcap.Revoked)}, 4, "worker on tdx will be refused once TCB recovery 10 counts", fault.TCBRevoked},
		{"it counts", simulator.State{Evaluation: 11, Status: string(dcap.Revoked)}, simulator.State{Evaluation: 11, Status: string(dcap.Revoked)}, 4, "worker on tdx is refused", fault.TCBRevoked},
	} {
		w.current, w.next, w.worst = c.current, c.next, c.worst
		w.pass(time.Hour)
		r := w.round(t, 0)
		if c.warning == "" {
			if len(r.Warnings) != 0 {
				t.Errorf("%s: %v", c.name, r.Warnings)
			}
			continue
		}
		if len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0].String(), c.warning) || !errors.Is(r.Warnings[0].Reason, c.reason) {
			t.Errorf("%s: %v", c.name, r.Warnings)
		}
	}
}

// Rounds come every six hours; sooner while something is wrong, and ever less often.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		began := time.Now()
		var failing atomic.Bool
		failing.Store(true)
		k := &collateral.Keeper{Now: time.Now, Log: slog.New(slog.DiscardHandler), Workers: func(context.Context) ([]collateral.Worker, error) {
			asked = append(asked, time.Since(began))
			if failing.Load() {
				return nil, errors.New("not yet")
			}
			return nil, nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		go k.Run(ctx)
		at := func(d time.Duration) { time.Sleep(d - time.Since(began)); synctest.Wait() }
		at(5 * time.Minute)
		failing.Store(false)
		at(8 * time.Hour)
		failing.Store(true)
		at(30 * time.Hour)
		cancel()
		synctest.Wait()
		var want []time.Duration
		for _, minutes := range []int{0, 1, 3, 7, 367, 727, 728, 730, 734, 742, 758, 790, 854, 982, 1238, 1598} {
			want = append(want, time.Duration(minutes)*time.Minute)
		}
		if fmt.Sprint(asked) != fmt.Sprint(want) {
			t.Errorf("asked after %v, want %v", asked, want)
		}
	})
}
