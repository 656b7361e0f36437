package contracts

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"cosmossdk.io/math"
	storetypes "github.com/cosmos/cosmos-sdk/store/v2/types"
	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

func (e *env) chunk(code proto.Hash, i uint32) []byte {
	r, err := e.k.Chunk(e.Context(), &types.QueryChunkRequest{CodeHash: code[:], Index: i})
	if err != nil && !errors.Is(err, ErrNoCode) {
		e.t.Fatal(err)
	}
	return r.Chunk
}

func (e *env) code(hash proto.Hash) *proto.Code {
	c, err := get(e.Context(), e.k, proto.KeyCode(hash), proto.ParseCode)
	if err != nil {
		e.t.Fatal(err)
	}
	return c
}

// served fails the test unless the chain has a whole module and serves it.
func (e *env) served(module []byte) {
	e.t.Helper()
	m := proto.NewCodeManifest(module)
	c := e.code(m.Hash())
	if c == nil || c.Missing() != 0 || !reflect.DeepEqual(c.Manifest, *m) {
		e.t.Fatalf("the code is not complete: %+v", c)
	}
	var all []byte
	for i := range uint32(len(m.Chunks)) {
		chunk, err := m.Unpack(i, e.chunk(m.Hash(), i))
		if err != nil {
			e.t.Fatal(err)
		}
		all = append(all, chunk...)
	}
	if !bytes.Equal(all, module) {
		e.t.Fatal("another module is served")
	}
}

// refused runs a transaction that must fail and leave nothing but its gas.
func (e *env) refused(tx func(sdk.Context) error, want error) {
	e.t.Helper()
	before, money := e.Dump(ModuleName), e.Dump(fakeStore)
	e.Start()
	_, err := e.Tx(tx)
	e.Finish()
	if !errors.Is(err, want) {
		e.t.Fatalf("got %v, want %v", err, want)
	}
	if !reflect.DeepEqual(e.Dump(ModuleName), before) || !reflect.DeepEqual(e.Dump(fakeStore), money) {
		e.t.Fatal("a refused chunk left something")
	}
}

// TestUpload: chunks in any order and from anybody, each paid once, all served.
func TestUpload(t *testing.T) {
	e := newEnv(t)
	module := noise(600<<10, "large")
	m, chunks := packed(module)
	if len(chunks) != 3 {
		t.Fatalf("%d chunks", len(chunks))
	}
	for i, step := range []struct {
		who, chunk int
		missing    int
		paid       int
	}{{1, 2, 2, len(chunks[2])}, {1, 2, 2, 0}, {2, 0, 1, len(chunks[0])}, {1, 1, 0, len(chunks[1])}, {3, 1, 0, 0}, {20, 0, 0, 0}} {
		before := e.balance(step.who)
		var missing uint32
		e.Block(func(ctx sdk.Context) error {
			r, err := e.k.UploadCode(ctx, &types.MsgUploadCode{Uploader: testchain.Account(step.who).String(), Manifest: m.Marshal(), Index: uint32(step.chunk), Chunk: chunks[step.chunk]})
			if err == nil {
				missing = r.Missing
			}
			return err
		})
		if paid := before.Sub(e.balance(step.who)); missing != uint32(step.missing) || !paid.Equal(math.NewInt(int64(step.paid)*1000)) {
			t.Fatalf("step %d: missing %d, paid %s", i, missing, paid)
		}
	}
	e.served(module)
	if n := len(slices.Concat(chunks...)); !e.burnt().Equal(math.NewInt(int64(n)*1000)) || !e.held().IsZero() {
		t.Fatalf("burnt %s, held %s", e.burnt(), e.held())
	}
	hash := m.Hash()
	if _, err := e.k.Chunk(e.Context(), &types.QueryChunkRequest{CodeHash: hash[:31]}); !errors.Is(err, ErrMalformed) {
		t.Fatalf("short hash: %v", err)
	}
	if _, err := e.k.Chunk(e.Context(), &types.QueryChunkRequest{CodeHash: hash[:], Index: 3}); !errors.Is(err, ErrNoCode) {
		t.Fatalf("no such chunk: %v", err)
	}
}

func TestUploadRefused(t *testing.T) {
	module := noise(300<<10, "two chunks")
	m, chunks := packed(module)
	last := module[proto.ChunkSize:]
	_, other := packed(noise(300<<10, "another code"))
	with := func(b []byte, more ...byte) []byte { return append(slices.Clone(b), more...) }
	edited := slices.Clone(chunks[0])
	edited[len(edited)/2] ^= 1
	for _, c := range []struct {
		name  string
		m     []byte
		i     uint32
		chunk []byte
		who   string
		want  error
	}{
		{"no manifest", nil, 0, chunks[0], "", ErrMalformed},
		{"bytes after the manifest", with(m.Marshal(), 0), 0, chunks[0], "", ErrMalformed},
		{"uploader is no address", m.Marshal(), 0, chunks[0], "phala1", ErrMalformed},
		{"index beyond the last", m.Marshal(), 2, chunks[0], "", ErrChunk},
		{"index beyond every number", m.Marshal(), 1<<32 - 1, chunks[0], "", ErrChunk},
		{"wrong piece: another chunk's bytes", m.Marshal(), 1, chunks[0], "", ErrChunk},
		{"wrong piece: chunk edited", m.Marshal(), 0, edited, "", ErrChunk},
		{"piece of another code", m.Marshal(), 1, other[1], "", ErrChunk},
		{"wrong size: a byte short", m.Marshal(), 1, proto.PackChunk(last[1:]), "", ErrChunk},
		{"wrong size: a byte long", m.Marshal(), 1, proto.PackChunk(with(last, 0)), "", ErrChunk},
		{"bomb", m.Marshal(), 1, proto.PackChunk(make([]byte, 16<<20)), "", ErrChunk},
		{"bomb that begins as the chunk does", m.Marshal(), 1, proto.PackChunk(with(last, make([]byte, 16<<20)...)), "", ErrChunk},
		{"trailing bytes", m.Marshal(), 1, with(chunks[1], 0), "", ErrChunk},
		{"not packed", m.Marshal(), 1, last, "", ErrChunk},
		{"no bytes", m.Marshal(), 0, nil, "", ErrChunk},
		{"no money", m.Marshal(), 0, chunks[0], testchain.Account(20).String(), ErrFunds},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			if c.who == "" {
				c.who = testchain.Account(1).String()
			}
			e.refused(func(ctx sdk.Context) error {
				_, err := e.k.UploadCode(ctx, &types.MsgUploadCode{Uploader: c.who, Manifest: c.m, Index: c.i, Chunk: c.chunk})
				return err
			}, c.want)
			if !e.burnt().IsZero() || e.chunk(m.Hash(), 0) != nil || e.chunk(m.Hash(), 1) != nil {
				t.Fatal("a refused chunk left something")
			}
			// And the right ones are taken afterwards.
			e.Block(e.upload(1, m, 1, chunks[1]), e.upload(1, m, 0, chunks[0]))
			e.served(module)
		})
	}
}

// TestHostage: no manifest but the module's own claims its code's hash, neither before
// its upload, nor beside it, nor after it.
func TestHostage(t *testing.T) {
	module := noise(300<<10, "victim")
	m, chunks := packed(module)
	garbage := noise(len(module), "garbage")
	_, gchunks := packed(garbage)
	g := proto.NewCodeManifest(garbage)
	for name, wrong := range map[string]*proto.CodeManifest{
		"other chunks":         g,
		"another second chunk": {Size: m.Size, Chunks: []proto.Hash{m.Chunks[0], g.Chunks[1]}},
		"chunks swapped":       {Size: m.Size, Chunks: []proto.Hash{m.Chunks[1], m.Chunks[0]}},
		"another size":         {Size: m.Size + 1, Chunks: m.Chunks},
		"the first chunk only": {Size: proto.ChunkSize, Chunks: m.Chunks[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.cluster(1)
			// What the attacker may bring: all that is known of the victim, and own bytes.
			attack := func() {
				for _, chunk := range slices.Concat(chunks, gchunks) {
					for i := range wrong.Chunks {
						e.Start()
						_, err := e.Tx(e.upload(2, wrong, i, chunk))
						if e.Finish(); err != nil && !errors.Is(err, ErrChunk) {
							t.Fatal(err)
						}
					}
				}
			}
			attack()
			if e.code(m.Hash()) != nil || e.chunk(m.Hash(), 0) != nil {
				t.Fatal("the hash is taken")
			}
			e.Block(e.upload(1, m, 0, chunks[0]))
			attack()
			if c := e.code(m.Hash()); c.Missing() != 1 || !c.Have[0] {
				t.Fatalf("the upload was reset: %+v", c)
			}
			e.Block(e.upload(1, m, 1, chunks[1]))
			attack()
			e.served(module)
			// A word of a seat does not make room either.
			e.Block(e.outbox(1, proto.CodeRefused{Cluster: 1, Rules: 1, Code: m.Hash(), Reason: "no Wasm"}))
			attack()
			e.served(module)
		})
	}
}

// TestRepacked: the same chunk in another packed form does not replace the first one,
// and whichever came first unpacks to the chunk.
func TestRepacked(t *testing.T) {
	e := newEnv(t)
	module := bytes.Repeat([]byte("a module "), 1000)
	m, chunks := packed(module)
	long := storedBlocks(module)
	if bytes.Equal(long, chunks[0]) {
		t.Fatal("one form")
	}
	e.Block(e.upload(2, m, 0, long))
	e.served(module)
	before := e.balance(1)
	e.Block(e.upload(1, m, 0, chunks[0]))
	if !bytes.Equal(e.chunk(m.Hash(), 0), long) || !e.balance(1).Equal(before) {
		t.Fatal("replaced, or paid for twice")
	}
}

// storedBlocks is DEFLATE's form of less than 64 KiB without compression.
func storedBlocks(b []byte) []byte {
	n := len(b)
	return append([]byte{1, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}, b...)
}

// TestUploadGas: unpacking is paid for before it is done, in proportion to what is read
// and to what may be written, whether the chunk is right or not.
func TestUploadGas(t *testing.T) {
	m, chunks := packed(make([]byte, proto.ChunkSize+100))
	bomb := proto.PackChunk(make([]byte, 64<<20))
	long := noise(4<<20, "long")
	for _, c := range []struct {
		name  string
		i     int
		chunk []byte
		want  error
	}{
		{"a chunk", 0, chunks[0], nil},
		{"bomb", 0, bomb, ErrChunk},
		{"bomb for a short chunk", 1, bomb, ErrChunk},
		{"long garbage", 1, long, ErrChunk},
		{"no such chunk", 2, long, ErrChunk},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			e.Start()
			defer e.Finish()
			least := gasPerPacked*uint64(len(c.chunk)) + gasPerUnpacked*uint64(m.ChunkLen(uint32(c.i)))
			run := func(limit uint64) (used uint64, outOfGas bool, err error) {
				meter := storetypes.NewGasMeter(limit)
				_, err = e.Tx(func(ctx sdk.Context) (err error) {
					defer func() {
						if r := recover(); r != nil {
							outOfGas, err = true, errUndo
						}
					}()
					return errors.Join(e.upload(1, m, c.i, c.chunk)(ctx.WithGasMeter(meter)), errUndo)
				})
				return meter.GasConsumed(), outOfGas, err
			}
			if used, out, err := run(1 << 40); used < least || used > least+100_000 || out || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("used %d gas, at least %d; out of gas %v, %v", used, least, out, err)
			}
			if _, out, _ := run(least - 1); !out {
				t.Error("less gas than that is enough")
			}
		})
	}
}

// TestFailedUploadLeavesNoBody: a transaction that uploads and then fails writes no
// chunk on any node.
func TestFailedUploadLeavesNoBody(t *testing.T) {
	e := newEnv(t)
	m, chunks := packed(noise(300<<10, "victim"))
	e.Block(e.upload(1, m, 0, chunks[0]))
	e.refused(func(ctx sdk.Context) error {
		if err := e.upload(2, m, 1, chunks[1])(ctx); err != nil {
			t.Fatalf("it does not get far enough: %v", err)
		}
		return errUndo
	}, errUndo)
	if !bytes.Equal(e.chunk(m.Hash(), 0), chunks[0]) || e.chunk(m.Hash(), 1) != nil {
		t.Fatal("a transaction that failed wrote a chunk")
	}
}
