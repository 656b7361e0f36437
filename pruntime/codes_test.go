package pruntime

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/cluster"
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

// TestHostDeletesNativeCode: a call does not compile a code that has to come back to memory.
// It waits while that is done in the background.
func TestHostDeletesNativeCode(t *testing.T) {
	ctx := context.Background()
	e, err := engine.New("")
	if err != nil {
		t.Fatal(err)
	}
	files := sealedFiles{}
	log := func(msg string, args ...any) { t.Log(append([]any{msg}, args...)...) }
	c := &codes{dir: t.TempDir(), eng: e, ctx: ctx, log: log, native: nativeCache{store: files, log: log}, turn: make(chan struct{}, 1), done: func() {},
		wanted: map[proto.Hash][]uint32{}, programs: map[prepared]*engine.Program{}, busy: map[prepared]bool{}, failed: map[prepared]error{}}
	defer func() {
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	module := enginetest.Script("")
	at := prepared{proto.CodeHash(module), e.Newest()}
	if err := c.ahead(module, at.rules); err != nil {
		t.Fatal(err)
	}
	c.wg.Wait()
	first := c.programs[at]
	if first == nil || len(files) == 0 {
		t.Fatal("not prepared, or nothing was kept")
	}
	used := 0
	source := c.source(at)
	again := func() error {
		return source(func([]byte, string) error { used++; return nil })
	}
	if err := errors.Join(again(), again()); err != nil || used != 2 {
		t.Fatalf("with native code: %v, used %d times", err, used)
	}
	clear(files)
	if err := again(); !errors.Is(err, cluster.ErrNeedCode) || used != 2 {
		t.Errorf("without native code: %v, used %d times", err, used)
	}
	c.wg.Wait()
	if p := c.programs[at]; p == nil || p == first || len(files) == 0 {
		t.Error("it was not prepared again")
	}
	if err := again(); err != nil || used != 3 {
		t.Errorf("prepared again: %v, used %d times", err, used)
	}
	// A disk that keeps nothing: whoever waited for it would wait for ever.
	c.native = nativeCache{store: fullDisk{}, log: log}
	if err := errors.Join(again(), again()); err != nil || used != 5 {
		t.Errorf("with a full disk: %v, used %d times", err, used)
	}
}

// fullDisk keeps nothing.
type fullDisk struct{ sealedFiles }

func (fullDisk) Put(string, []byte) error { return errDamaged }

// quiet is a host for a contract that asks for nothing.
type quiet struct{ engine.Host }

func (quiet) Time() uint64 { return 0 }
