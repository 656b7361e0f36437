package contracts

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/proto"
)

// params changes parameters of the chain.
func (e *env) params(edit func(*Params)) {
	e.t.Helper()
	e.Block(func(ctx sdk.Context) error {
		p := DefaultParams()
		edit(&p)
		return e.k.SetParams(ctx, p)
	})
}

func (e *env) publish(n int, epoch uint64, key int) func(sdk.Context) error {
	return e.outbox(n, proto.PublishEpochKey{Cluster: 1, Epoch: epoch, Public: epochKey(key)})
}

// turn lets a cluster of seats 1 to n go to the next epoch.
func (e *env) turn(seats int) uint64 {
	e.t.Helper()
	next := e.get(1).Next
	for range 1000 {
		if next != 0 {
			break
		}
		e.Block()
		next = e.get(1).Next
	}
	for n := 1; n <= seats; n++ {
		e.Block(e.publish(n, next, int(next)))
	}
	if c := e.get(1); c.Epoch != next || c.EpochKey != epochKey(int(next)) {
		e.t.Fatalf("epoch %d with key %x, want %d", c.Epoch, c.EpochKey[:4], next)
	}
	return next
}

// TestEpochs: an epoch is announced when its time is over, starts when its key has a
// majority, and until then the one before goes on.
func TestEpochs(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks = 5 })
	e.cluster(3)
	began := e.get(1).EpochHeight
	if began == 0 {
		t.Fatal("the first epoch has no beginning")
	}
	for e.Height() < began+4 {
		e.Block()
		if c := e.get(1); c.Next != 0 {
			t.Fatalf("epoch %d announced at height %d, the first began at %d", c.Next, e.Height(), began)
		}
	}
	e.Block()
	if c := e.get(1); c.Next != 2 || c.Epoch != 1 {
		t.Fatalf("%+v", c)
	}
	if !slices.Contains(e.events(proto.TopicGatekeeper), proto.Event(proto.EpochAnnounced{Cluster: 1, Epoch: 2})) {
		t.Error("gatekeepers are not told")
	}
	if err := e.say(1, proto.PublishEpochKey{Cluster: 1, Epoch: 3, Public: epochKey(3)}); !errors.Is(err, ErrEpoch) {
		t.Errorf("a key of an epoch that nobody announced: %v", err)
	}
	if err := e.say(1, proto.PublishEpochKey{Cluster: 1, Epoch: 2, Public: [32]byte{1}}); !errors.Is(err, ErrMalformed) {
		t.Errorf("a key that is none: %v", err)
	}
	e.Block(e.publish(1, 2, 9), e.publish(2, 2, 2))
	if c := e.get(1); c.Epoch != 1 || len(c.NextSealed) != 2 {
		t.Fatalf("started without a majority: %+v", c)
	}
	// The old epoch is accepted until the new one starts, and in its block.
	e.Block(e.push(push(1, 0)), e.publish(3, 2, 2), e.push(push(2, 0)))
	c := e.get(1)
	if c.Epoch != 2 || c.EpochKey != epochKey(2) || c.Next != 0 || c.NextSealed != nil || c.EpochHeight != e.Height() {
		t.Fatalf("%+v", c)
	}
	list := e.events("cluster/1")
	if last := list[len(list)-1]; !reflect.DeepEqual(last, proto.Event(proto.EpochStarted{Cluster: 1, Epoch: 2})) {
		t.Errorf("last message %+v", last)
	}
	e.Start()
	if _, err := e.Tx(e.push(push(1, 0))); !errors.Is(err, ErrEpoch) {
		t.Errorf("sealed to the old epoch: %v", err)
	}
	m := push(1, 0)
	m.Epoch = 2
	if _, err := e.Tx(e.push(m)); err != nil {
		t.Errorf("sealed to the new epoch: %v", err)
	}
	e.Finish()
	// Late words are no error: a worker that restarted says what it knows.
	if err := e.say(1, proto.PublishEpochKey{Cluster: 1, Epoch: 1, Public: epochKey(1)}); err != nil {
		t.Errorf("a late word: %v", err)
	}
}

// TestContractOfOldEpoch: a constructor that waited for its code over the end of an epoch
// is not run: its money returns, and it can be deployed again.
func TestContractOfOldEpoch(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks = 5 })
	e.cluster(1)
	hash := e.uploaded("a")
	before := e.balance(2)
	e.Block(e.deploy(deploy(2, hash, "")))
	e.Start()
	if _, err := e.Tx(e.deploy(deploy(2, hash, ""))); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	e.Finish()
	next := e.turn(1)
	e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
	if ct := e.contract(2, hash, ""); ct.Phase != proto.ContractExpired || ct.Seq != 0 {
		t.Fatalf("%+v", ct)
	}
	if !e.balance(2).Equal(before) {
		t.Errorf("%s of %s returned", e.balance(2), before)
	}
	again := deploy(2, hash, "")
	again.Epoch = next
	e.Block(e.deploy(again))
	if ct := e.contract(2, hash, ""); ct.Phase != proto.ContractStarted {
		t.Fatalf("%+v", ct)
	}
}

// TestSilent: a seat that does not serve any more goes to another worker, which starts
// from the newest snapshot, and the key changes; where nobody waits for a seat, or the
// worker was heard of, nothing changes.
func TestSilent(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 10 })
	e.cluster(2)
	quiet := func(n int, heard uint64) func(sdk.Context) error {
		return func(ctx sdk.Context) error {
			w, err := e.regs.Worker(ctx, wid(n))
			if err != nil {
				return err
			}
			w.State.SessionHeight, w.State.Heard = silent, heard
			return e.regs.set(ctx, w)
		}
	}
	e.Block(quiet(1, e.Height()))
	for range 15 {
		e.Block()
	}
	if c := e.get(1); len(c.Seats) != 2 || !c.HasSeat(wid(1)) {
		t.Fatalf("a seat was taken and nobody waits for it: %+v", c)
	}
	e.Block(e.register(3))
	c := e.get(1)
	if c.HasSeat(wid(1)) || !c.HasSeat(wid(2)) || !c.HasSeat(wid(3)) || c.Next != 2 {
		t.Fatalf("%+v", c)
	}
	for _, topic := range []string{proto.TopicGatekeeper, proto.TopicWorker(wid(1))} {
		if !slices.Contains(e.events(topic), proto.Event(proto.Unseated{Cluster: 1, Worker: wid(1)})) {
			t.Errorf("%s does not say so", topic)
		}
	}
	if info, err := e.regs.Worker(e.Context(), wid(1)); err != nil || info.State.Cluster != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := e.say(1, proto.PublishEpochKey{Cluster: 1, Epoch: 2, Public: epochKey(2)}); !errors.Is(err, ErrSeat) {
		t.Errorf("who lost the seat still has a word: %v", err)
	}
	// A seat whose word is missing for the new key is replaced as well, and the key that
	// it may know is left out.
	e.Block(e.publish(3, 1, 1), e.publish(3, 2, 2), quiet(2, e.Height()), e.register(4))
	for range 15 {
		e.Block()
	}
	if c := e.get(1); c.HasSeat(wid(2)) || !c.HasSeat(wid(4)) || c.Next != 3 || len(c.NextSealed) != 0 {
		t.Fatalf("%+v", c)
	}
	e.Block(e.publish(4, 1, 1), e.publish(4, 3, 3))
	// One that gave its word is not, before the key counts.
	e.Block(quiet(4, e.Height()), e.register(5))
	for range 15 {
		e.Block()
	}
	if c := e.get(1); !c.HasSeat(wid(4)) {
		t.Fatalf("%+v", c)
	}
	e.Block(e.publish(3, 3, 3))
	if c := e.get(1); c.Epoch != 3 {
		t.Fatalf("%+v", c)
	}
	e.Block()
	if c := e.get(1); c.HasSeat(wid(4)) || !c.HasSeat(wid(5)) {
		t.Fatalf("%+v", c)
	}
}

func snapshotOf(e *env, epoch uint64, name string, size int) (proto.Snapshot, [][]byte) {
	s := proto.Snapshot{Epoch: epoch, Cursor: e.cursor("cluster/1"), Root: sha256.Sum256([]byte(name)), Size: uint64(size)}
	var pieces [][]byte
	for left := size; left > 0; left -= proto.PieceSize {
		b := make([]byte, min(left, proto.PieceSize))
		copy(b, fmt.Sprint(name, left))
		pieces, s.Pieces = append(pieces, b), append(s.Pieces, sha256.Sum256(b))
	}
	return s, pieces
}

// TestSnapshots: a majority agrees on a snapshot, one seat after the other is asked for
// its pieces, and when all are there it is the state from which seats continue.
func TestSnapshots(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks = 5 })
	e.cluster(3)
	e.Block(e.push(push(1, 0)))
	if seq, err := e.k.Needed(e.Context(), "cluster/1"); err != nil || seq != 1 {
		t.Errorf("needed from %d, %v", seq, err)
	}
	epoch := e.turn(3)
	e.params(func(p *Params) { p.EpochBlocks = 0 })
	s, pieces := snapshotOf(e, epoch, "state", proto.PieceSize+1000)
	lie, lies := snapshotOf(e, epoch, "lie", 10)
	for _, c := range []struct {
		name  string
		entry proto.Entry
		want  error
	}{
		{"of an epoch that has not begun", func() proto.Entry { s := s; s.Epoch++; return proto.SnapshotTaken{Cluster: 1, Snapshot: s} }(), ErrEpoch},
		{"of an epoch that is over", func() proto.Entry { s := s; s.Epoch--; return proto.SnapshotTaken{Cluster: 1, Snapshot: s} }(), nil},
		{"of messages that do not exist", func() proto.Entry {
			s := s
			s.Cursor.Seq++
			return proto.SnapshotTaken{Cluster: 1, Snapshot: s}
		}(), ErrSnapshot},
		{"a piece before anybody agreed", proto.SnapshotPiece{Cluster: 1, Epoch: epoch, Piece: pieces[0]}, ErrSnapshot},
	} {
		if err := e.say(1, c.entry); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	taken := func(n int, s proto.Snapshot) func(sdk.Context) error {
		return e.outbox(n, proto.SnapshotTaken{Cluster: 1, Snapshot: s})
	}
	e.Block(taken(1, lie))
	e.Block(taken(1, s), taken(2, s)) // the first one does not change its word
	if got := e.wanted(); len(got) != 0 {
		t.Fatalf("asked before a majority agreed: %v", got)
	}
	e.Block(taken(3, s))
	if got := e.wanted(); len(got) != 1 || got[0].State != s.Ref() || (got[0].Holder != wid(2) && got[0].Holder != wid(3)) {
		t.Fatalf("asked %v", got)
	}
	for range holderBlocks {
		e.Block()
	}
	got := e.wanted()
	if len(got) != 2 || got[0].Holder == got[1].Holder || (got[1].Holder != wid(2) && got[1].Holder != wid(3)) {
		t.Fatalf("asked %v", got)
	}
	piece := func(i uint32, b []byte) proto.SnapshotPiece {
		return proto.SnapshotPiece{Cluster: 1, Epoch: epoch, Index: i, Piece: b}
	}
	for name, p := range map[string]proto.SnapshotPiece{
		"piece of another snapshot": piece(0, lies[0]), "piece in another place": piece(1, pieces[0]), "piece that there is none of": piece(2, pieces[0]),
		"cut piece": piece(0, pieces[0][:10]), "piece of another epoch": {Cluster: 1, Epoch: 1, Piece: pieces[0]},
	} {
		if err := e.say(2, p); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e.Block(e.outbox(2, piece(1, pieces[1])))
	e.Block(e.outbox(3, piece(1, pieces[1])))
	if c := e.get(1); !c.State.IsZero() {
		t.Fatalf("stored without a piece: %+v", c.State)
	}
	e.Block(e.outbox(3, piece(0, pieces[0])))
	if c := e.get(1); !c.State.IsZero() {
		t.Fatal("stored before the messages in it are final")
	}
	e.settled(s.Cursor.Seq)
	e.Block()
	if c := e.get(1); c.State != s.Ref() {
		t.Fatalf("%+v", c.State)
	}
	stored := proto.Event(proto.SnapshotStored{Cluster: 1, State: s.Ref()})
	for _, topic := range []string{proto.TopicGatekeeper, "cluster/1"} {
		if !slices.Contains(e.events(topic), stored) {
			t.Errorf("%s does not say so", topic)
		}
	}
	for i, p := range pieces {
		if b, err := e.mq.Bodies().Get(pieceKey(1, epoch, uint32(i))); err != nil || !slices.Equal(b, p) {
			t.Errorf("piece %d: %d bytes, %v", i, len(b), err)
		}
		r, err := e.k.Piece(e.Context(), &types.QueryPieceRequest{Cluster: 1, Epoch: epoch, Index: uint32(i)})
		if err != nil || !slices.Equal(r.Piece, p) {
			t.Errorf("piece %d served: %v", i, err)
		}
	}
	if _, err := e.k.Piece(e.Context(), &types.QueryPieceRequest{Cluster: 1, Epoch: epoch, Index: 2}); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a piece that there is none of: %v", err)
	}
	if seq, err := e.k.Needed(e.Context(), "cluster/1"); err != nil || seq != 1 {
		t.Errorf("needed from %d, %v: seats may be on the way from the beginning", seq, err)
	}
	if seq, err := e.k.Needed(e.Context(), proto.TopicSystem); err != nil || seq != 1<<64-1 {
		t.Errorf("of the system's needed from %d, %v", seq, err)
	}
	// A new seat is told of it.
	e.Block(func(ctx sdk.Context) error {
		c := e.get(1)
		c.SeatsWanted++
		return set(ctx, e.k, proto.KeyCluster(1), c)
	}, e.register(4))
	if !slices.Contains(e.events(proto.TopicWorker(wid(4))), proto.Event(proto.Seated{Cluster: 1, Worker: wid(4), Epoch: epoch, State: s.Ref()})) {
		t.Errorf("the new seat is told %v", e.events(proto.TopicWorker(wid(4))))
	}
	// The next epoch's snapshot takes its place.
	e.params(func(p *Params) { p.EpochBlocks = 1 })
	later := e.turn(4)
	e.params(func(p *Params) { p.EpochBlocks = 0 })
	s2, pieces2 := snapshotOf(e, later, "later", 10)
	for n := 1; n <= 3; n++ {
		e.Block(taken(n, s2))
	}
	e.settled(s2.Cursor.Seq)
	e.Block(e.outbox(1, proto.SnapshotPiece{Cluster: 1, Epoch: later, Piece: pieces2[0]}))
	if seq, err := e.k.Needed(e.Context(), "cluster/1"); err != nil || seq != s.Cursor.Seq+1 {
		t.Errorf("needed from %d, %v", seq, err)
	}
	if c := e.get(1); c.State != s2.Ref() {
		t.Fatalf("%+v", c.State)
	}
	if b, err := e.mq.Bodies().Get(pieceKey(1, epoch, 0)); err != nil || b == nil {
		t.Errorf("the older snapshot went while workers may be on the way from it: %v", err)
	}
	// With a third one, the first goes.
	e.params(func(p *Params) { p.EpochBlocks = 1 })
	third := e.turn(4)
	e.params(func(p *Params) { p.EpochBlocks = 0 })
	s3, pieces3 := snapshotOf(e, third, "third", 10)
	for n := 1; n <= 3; n++ {
		e.Block(taken(n, s3))
	}
	e.settled(s3.Cursor.Seq)
	e.Block(e.outbox(1, proto.SnapshotPiece{Cluster: 1, Epoch: third, Piece: pieces3[0]}))
	if c := e.get(1); c.State != s3.Ref() {
		t.Fatalf("%+v", c.State)
	}
	if b, err := e.mq.Bodies().Get(pieceKey(1, later, 0)); err != nil || b == nil {
		t.Errorf("the newest but one: %v", err)
	}
	if b, err := e.mq.Bodies().Get(pieceKey(1, epoch, 0)); err != nil || b != nil {
		t.Errorf("the oldest snapshot is still there: %d bytes, %v", len(b), err)
	}
	if rec, err := get(e.Context(), e.k, proto.KeySnapshot(1, epoch), proto.ParseSnapshotRecord); err != nil || rec != nil {
		t.Errorf("the oldest snapshot's record is still there: %v, %v", rec, err)
	}
}

// TestEndedAdmission: whose admission ended has no seat, whether another one waits or not.
func TestEndedAdmission(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks = 0 })
	e.cluster(2)
	e.Block(func(ctx sdk.Context) error {
		w, err := e.regs.Worker(ctx, wid(1))
		if err != nil {
			return err
		}
		w.Expires = uint64(ctx.BlockHeight())
		return e.regs.set(ctx, w)
	})
	if c := e.get(1); c.HasSeat(wid(1)) || !c.HasSeat(wid(2)) || c.Next != 2 || c.Majority() != 2 {
		t.Fatalf("%+v", c)
	}
	if err := e.say(1, proto.PublishEpochKey{Cluster: 1, Epoch: 2, Public: epochKey(2)}); !errors.Is(err, ErrSeat) {
		t.Errorf("its word: %v", err)
	}
}

// settled makes a cluster's messages final without their receipts.
func (e *env) settled(seq uint64) {
	e.t.Helper()
	e.Block(func(ctx sdk.Context) error {
		c := e.get(1)
		c.FinalSeq = seq
		return set(ctx, e.k, proto.KeyCluster(1), c)
	})
}

// wanted lists what the cluster was asked for.
func (e *env) wanted() (out []proto.SnapshotWanted) {
	for _, ev := range e.events("cluster/1") {
		if w, ok := ev.(proto.SnapshotWanted); ok {
			out = append(out, w)
		}
	}
	return out
}

// TestWordsOfTheReplaced: in a cluster with as many seats as there may be, the words of
// those who lost theirs make room for those who came.
func TestWordsOfTheReplaced(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 5 })
	e.cluster(proto.MaxSeats)
	e.Block(e.push(push(1, 0)))
	r := receipt(1, 1, 1)
	for n := 2; n <= proto.MaxSeats/2; n++ {
		e.Block(e.outbox(n, r))
	}
	for i := range 3 {
		e.Block(func(ctx sdk.Context) error {
			w, err := e.regs.Worker(ctx, wid(i+2))
			if err != nil {
				return err
			}
			w.Expires = 0
			return e.regs.set(ctx, w)
		}, e.register(100+i))
		for range 8 {
			e.Block()
		}
		c := e.get(1)
		if c.HasSeat(wid(i+2)) || !c.HasSeat(wid(100+i)) {
			t.Fatalf("round %d: %+v", i, c.Seats)
		}
		// It says what it knows of the running epoch, and what it thinks of the message.
		e.Block(e.publish(100+i, 1, 1), e.outbox(100+i, r))
		if c := e.get(1); len(c.Sealed) > proto.MaxSeats || !slices.ContainsFunc(c.Sealed, func(s proto.SealedEpoch) bool { return s.Worker == wid(100+i) }) {
			t.Fatalf("round %d: %d words", i, len(c.Sealed))
		}
	}
	for n := proto.MaxSeats/2 + 1; n <= proto.MaxSeats; n++ {
		e.Block(e.outbox(n, r))
	}
	if c := e.get(1); c.FinalSeq != 1 {
		t.Fatalf("final up to %d", c.FinalSeq)
	}
	if rec := e.record(1); len(rec.Votes) > proto.MaxSeats {
		t.Errorf("%d votes", len(rec.Votes))
	}
}

// TestWaitingContractOfOldEpoch: a contract whose code nobody decides about does not hold
// its money, and its code, for ever.
func TestWaitingContractOfOldEpoch(t *testing.T) {
	e := newEnv(t)
	e.params(func(p *Params) { p.EpochBlocks = 5 })
	e.cluster(1)
	hash := e.uploaded("a")
	before := e.balance(2)
	e.Block(e.deploy(deploy(2, hash, "")))
	next := e.turn(1)
	e.Block()
	if ct := e.contract(2, hash, ""); ct.Phase != proto.ContractExpired || !e.balance(2).Equal(before) {
		t.Fatalf("%+v, %s of %s", ct, e.balance(2), before)
	}
	announced := func() (n int) {
		for _, ev := range e.events("cluster/1") {
			if _, ok := ev.(proto.CodeAnnounced); ok {
				n++
			}
		}
		return n
	}
	if announced() != 1 {
		t.Fatal(announced())
	}
	for i, salt := range []string{"", "b"} {
		m := deploy(2, hash, salt)
		m.Epoch = next
		e.Block(e.deploy(m))
		if announced() != 2 {
			t.Fatalf("contract %d of the new epoch: announced %d times", i, announced())
		}
	}
}

// TestWordOfBefore: a seat that gave its word for a code in an earlier time at its cluster
// is asked again when it is back, and its word decides then.
func TestWordOfBefore(t *testing.T) {
	for _, tc := range []struct {
		name  string
		say   func(code proto.Hash) proto.Entry
		phase uint8
	}{
		{"prepared", func(code proto.Hash) proto.Entry {
			return proto.CodePrepared{Cluster: 1, Code: code, Rules: 1, Image: proto.Hash{7}}
		}, proto.ContractStarted},
		{"refused", func(code proto.Hash) proto.Entry {
			return proto.CodeRefused{Cluster: 1, Code: code, Rules: 1, Reason: "it is too large"}
		}, proto.ContractRefused},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t)
			e.params(func(p *Params) { p.EpochBlocks, p.SilentBlocks = 0, 0 })
			e.cluster(3)
			hash := e.uploaded("a")
			e.Block(e.outbox(3, tc.say(hash)))
			e.Block(e.ends(3))
			e.Block(e.publish(1, 2, 2), e.publish(2, 2, 2))
			if c := e.get(1); c.Epoch != 2 || c.HasSeat(wid(3)) {
				t.Fatalf("epoch %d, seats %v", c.Epoch, c.Seats)
			}
			m := deploy(2, hash, "")
			m.Epoch = 2
			e.Block(e.deploy(m), e.outbox(1, tc.say(hash)))
			e.Block(func(ctx sdk.Context) error {
				w, err := e.regs.Worker(ctx, wid(3))
				if err != nil {
					return err
				}
				w.Expires = 1 << 40
				return e.regs.set(ctx, w)
			})
			e.Block()
			if c := e.get(1); c.Epoch != 2 || c.Next != 0 || !c.HasSeat(wid(3)) {
				t.Fatalf("epoch %d, next %d, seats %v", c.Epoch, c.Next, c.Seats)
			}
			if ct := e.contract(2, hash, ""); ct.Phase != proto.ContractWaiting {
				t.Fatalf("with one word the contract is in phase %d", ct.Phase)
			}
			e.Block(e.outbox(3, tc.say(hash)))
			if ct := e.contract(2, hash, ""); ct.Phase != tc.phase {
				t.Errorf("the contract is in phase %d, not %d", ct.Phase, tc.phase)
			}
			if code := e.code(hash); len(code.Prepared)+len(code.Refused) != 2 {
				t.Errorf("%d words for it, %d against", len(code.Prepared), len(code.Refused))
			}
		})
	}
}
