package pruntime

import (
	"context"
	"sync"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/engine"
	"github.com/phala-go/phala/pruntime/engine/enginetest"
)

// TestRetire: code of older rules is found by the queries that began before, each of whose
// calls asks for its own, and is freed when they have ended.
func TestRetire(t *testing.T) {
	ctx := context.Background()
	e, err := engine.New("", enginetest.Rules()...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	c := &codes{eng: e, ctx: ctx, log: func(msg string, args ...any) { t.Log(append([]any{msg}, args...)...) },
		wanted: map[proto.Hash][]uint32{}, programs: map[prepared]*engine.Program{}, retired: map[prepared]*engine.Program{}, busy: map[prepared]bool{}, failed: map[prepared]error{}}
	code := proto.Hash{1}
	for version := uint32(1); version <= 2; version++ {
		if c.programs[prepared{code, version}], err = e.PrepareUnder(ctx, version, enginetest.Script("")); err != nil {
			t.Fatal(err)
		}
	}
	old := c.programs[prepared{code, 1}]
	runs := func() error {
		_, err := old.Run(ctx, &engine.Call{Entry: engine.EntryQuery, Input: []byte("eanswer"), Gas: 1 << 24, Host: quiet{}})
		return err
	}
	var queries sync.WaitGroup
	queries.Add(1)
	c.retire(2, &queries)
	c.retire(2, &queries) // what is retired already is not retired twice
	if p, err := c.Program(code, 1); p != old || err != nil {
		t.Errorf("under version 1, while a query runs: %v, %v", p, err)
	}
	if p, err := c.Program(code, 2); p == nil || err != nil {
		t.Errorf("under version 2: %v, %v", p, err)
	}
	if err := runs(); err != nil {
		t.Errorf("a query that began before: %v", err)
	}
	queries.Done()
	c.wg.Wait()
	if p, err := c.Program(code, 1); p != nil || err != nil {
		t.Errorf("under version 1: %v, %v", p, err)
	}
	if err := runs(); err == nil {
		t.Error("it was not freed")
	}
	c.retire(2, &queries) // nothing is left to free
	c.wg.Wait()
}

// quiet is a host for a contract that asks for nothing.
type quiet struct{ engine.Host }

func (quiet) Time() uint64 { return 0 }
