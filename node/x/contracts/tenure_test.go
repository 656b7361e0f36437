package contracts

import (
	"reflect"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// pass lets n blocks pass and returns who lost a seat in them, and why.
func (e *env) pass(n int) (workers, reasons []string) {
	e.t.Helper()
	for range n {
		events := e.Block()
		workers = append(workers, testchain.Values(events, "unseated", "worker")...)
		reasons = append(reasons, testchain.Values(events, "unseated", "reason")...)
	}
	return workers, reasons
}

// ends ends a worker's admission.
func (e *env) ends(n int) func(sdk.Context) error {
	return func(ctx sdk.Context) error {
		w, err := e.regs.Worker(ctx, wid(n))
		if err != nil {
			return err
		}
		w.Expires = 0
		return e.regs.set(ctx, w)
	}
}

// TestKeyless: a seat whose worker serves and shows no key goes to another that waits, after
// as long as it may be silent; in turn, those that were tried longest ago first.
func TestKeyless(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 10 })
	e.cluster(2)
	e.Block(e.ends(1), e.register(3))
	if w, _ := e.pass(30); len(w) != 0 || !e.get(1).HasSeat(wid(3)) {
		t.Fatalf("a seat was taken and nobody waits for it: %v", w)
	}
	// Both that wait are tried: in which order says their identity, because both are new.
	e.Block(e.register(4), e.register(5))
	if e.get(1).HasSeat(wid(3)) {
		t.Fatal("the seat without a key stays")
	}
	first, second := 4, 5
	if !e.get(1).HasSeat(wid(first)) {
		first, second = second, first
	}
	// Then the one that lost its seat first is tried again, and so on.
	for _, turn := range [][2]int{{first, second}, {second, 3}, {3, first}, {first, second}} {
		next := e.get(1).Next
		if w, _ := e.pass(9); len(w) != 0 || !e.get(1).HasSeat(wid(turn[0])) {
			t.Fatalf("%v: too early: %v", turn, w)
		}
		w, why := e.pass(1)
		if !reflect.DeepEqual(w, []string{wid(turn[0]).String()}) || !reflect.DeepEqual(why, []string{reasonKeyless}) || !e.get(1).HasSeat(wid(turn[1])) {
			t.Fatalf("%v: unseated %v: %v; seats %v", turn, w, why, e.get(1).Seats)
		}
		if e.get(1).Next != next+1 {
			t.Fatalf("%v: the key does not change", turn)
		}
	}
	// One that shows the running epoch's key stays, however many wait, and counts as new
	// where it loses its seat for another reason.
	e.Block(e.publish(second, 1, 1))
	if w, _ := e.pass(40); len(w) != 0 {
		t.Fatalf("a seat with a key was taken: %v", w)
	}
	if t1, err := e.k.tenure(e.Context(), wid(second)); err != nil || t1.lost != 0 || t1.since == 0 {
		t.Fatalf("%+v, %v", t1, err)
	}
}

// TestShownForAnEpochThatNeverCame: a new seat gets the key of the epoch that is announced,
// and shows it. When that epoch is left out, because another seat is lost before it starts,
// the seat has as long as a new one to show the next key.
func TestShownForAnEpochThatNeverCame(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 10 })
	e.cluster(2)
	e.Block(e.ends(1), e.register(3))
	e.Block(e.publish(3, 2, 2)) // the other seat's is missing for a majority
	e.pass(12)
	if !e.get(1).HasSeat(wid(3)) || e.get(1).Epoch != 1 {
		t.Fatalf("%+v", e.get(1))
	}
	e.Block(e.ends(2), e.register(4), e.register(5))
	if c := e.get(1); c.Next != 3 || len(c.NextSealed) != 0 {
		t.Fatalf("%+v", c)
	}
	w, why := e.pass(9)
	if len(w) != 0 || !e.get(1).HasSeat(wid(3)) {
		t.Fatalf("unseated %v: %v", w, why)
	}
	// It is not excused for ever.
	if w, _ = e.pass(1); !reflect.DeepEqual(w, []string{wid(3).String()}) {
		t.Errorf("unseated %v, want the one that shows no further key", w)
	}
}

// TestKeylessFromTheStart: a cluster whose only seat gets no key gets another worker.
func TestKeylessFromTheStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		silent uint64
		want   int
	}{{"as long as a seat may be silent", 10, 1}, {"never", 0, 0}} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, c.silent })
			e.Block(e.register(1), e.create(1, 1, true))
			e.Block(e.register(2))
			if w, _ := e.pass(12); len(w) != c.want || e.get(1).HasSeat(wid(1)) != (c.want == 0) {
				t.Fatalf("unseated %v", w)
			}
		})
	}
}

// TestKeylessEnds: each change begins an epoch, of which not too many may begin without a
// snapshot; room is left for workers whose admission ends.
func TestKeylessEnds(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 2 })
	e.cluster(1)
	e.Block(e.ends(1), e.register(2), e.register(3))
	if w, _ := e.pass(200); len(w) < 10 || len(w) > maxUnstored {
		t.Fatalf("%d changes", len(w))
	}
	seated := 2
	if e.get(1).HasSeat(wid(3)) {
		seated = 3
	}
	e.Block(e.ends(seated))
	if e.get(1).HasSeat(wid(seated)) || len(e.get(1).Seats) != 1 {
		t.Fatalf("seats %v", e.get(1).Seats)
	}
}

// TestEndedBehindSilent: a silent seat for which nobody waits keeps none after it from being
// looked at.
func TestEndedBehindSilent(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 10 })
	e.cluster(2)
	seats := e.get(1).Seats
	number := map[proto.WorkerID]int{wid(1): 1, wid(2): 2}
	e.Block(func(ctx sdk.Context) error {
		w, err := e.regs.Worker(ctx, seats[0])
		if err != nil {
			return err
		}
		w.State.SessionHeight = silent
		return e.regs.set(ctx, w)
	})
	e.pass(20)
	e.Block(e.ends(number[seats[1]]))
	if c := e.get(1); !c.HasSeat(seats[0]) || c.HasSeat(seats[1]) {
		t.Fatalf("seats %v", c.Seats)
	}
}
