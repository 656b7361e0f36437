package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// TestVersions: a module is another program under each version of the rules, and an engine
// prepares it under those that it knows.
func TestVersions(t *testing.T) {
	ctx := context.Background()
	rules := enginetest.Rules()
	for name, bad := range map[string][]engine.Rules{"without the first": rules[1:], "twice": {rules[0], rules[0]}, "out of order": {rules[1], rules[0]}} {
		if e, err := engine.New("", bad...); err == nil {
			t.Errorf("%s: an engine", name)
			if err := e.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	e, err := engine.New("", rules...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if e.Newest() != 2 || e.Rules(0) != nil || e.Rules(3) != nil || e.Rules(1).Version() != 1 || e.Rules(2).Version() != 2 {
		t.Errorf("it knows up to %d", e.Newest())
	}
	gas := func(p *engine.Program) uint64 {
		res, err := p.Run(ctx, &engine.Call{Entry: engine.EntryQuery, Input: []byte("s\x00\x10\x00\x00"), Gas: 1 << 26, Host: nothing{}})
		if err != nil {
			t.Fatal(err)
		}
		return res.GasUsed
	}
	var used []uint64
	module := enginetest.Script("")
	for version := uint32(1); version <= 2; version++ {
		p, err := e.PrepareUnder(ctx, version, module)
		if err != nil {
			t.Fatal(err)
		}
		used = append(used, gas(p))
	}
	newest, err := e.Prepare(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	if used[1] <= 2*used[0] || gas(newest) != used[1] {
		t.Errorf("gas by version %v, %d under the newest", used, gas(newest))
	}
	// What the rules refuse is a word about the module; a version that this build does not
	// know is none.
	large := enginetest.Script(strings.Repeat("x", enginetest.SmallModule))
	for version, want := range map[uint32]bool{1: false, 2: true} {
		if _, err := e.PrepareUnder(ctx, version, large); errors.Is(err, engine.ErrModule) != want {
			t.Errorf("the large one under version %d: %v", version, err)
		}
	}
	for _, version := range []uint32{0, 3} {
		if _, err := e.PrepareUnder(ctx, version, module); err == nil || errors.Is(err, engine.ErrModule) {
			t.Errorf("under version %d: %v", version, err)
		}
	}
}

// TestKnown: what a build knows are versions from 1 on, of which the first never changes
// (test/gas has its numbers for whole contracts).
func TestKnown(t *testing.T) {
	known := engine.Known()
	if !slices.IsSortedFunc(known, func(a, b engine.Rules) int { return int(a.Version()) - int(b.Version()) }) || known[0].Version() != 1 {
		t.Fatal("versions")
	}
	first := known[0]
	if first.Command != (engine.CommandGas{Open: 150_000, Revoke: 100_000}) || first.Deposit != (engine.DepositPrice{Item: 100_000, Byte: 1_000, Step: 64}) ||
		first.Instance != (engine.InstanceGas{Base: 30_000, Element: 60, Segment: 40, TwoBytes: 1, Fault: 1_500, Page: 100, Written: 8_192, Kept: 128}) || first.Initialise != 1<<26 || first.Warmup != 1<<27 {
		t.Errorf("version 1 is %+v", first)
	}
	h := first.Host
	if h.Call != 300 || h.Byte != 1 || h.Read != 5_000 || h.Write != 25_000 || h.Random != 5_000 || h.Derive != 10_000 || h.Hash != 1_500 || h.HashByte != 12 || h.Recover != 700_000 ||
		h.Contract != 50_000 || h.Event != 5_000 || h.EventByte != 8 || h.Sealed != 250_000 || h.HTTP != 1_000_000 {
		t.Errorf("version 1's host functions cost %+v", h)
	}
}

// nothing is a host for a contract that asks for nothing.
type nothing struct{ engine.Host }

func (nothing) Time() uint64 { return 0 }
