package contracts

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/node/x/contracts/types"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/proto"
)

// ready is a seat's word for version 2, of the codes up to message seq.
func (e *env) ready(n int, seq uint64, images byte) func(sdk.Context) error {
	return e.outbox(n, proto.RulesReady{Cluster: 1, Version: 2, Seq: seq, Images: proto.Hash{images}})
}

// want lets governance want a version.
func (e *env) want(version uint32) { e.t.Helper(); e.params(func(p *Params) { p.Rules = version }) }

// last is the newest message of the cluster.
func (e *env) last() proto.Event {
	e.t.Helper()
	list := e.events("cluster/1")
	return list[len(list)-1]
}

// TestRulesChange: the seats are asked once governance wants a version, and it comes with
// the block after the one in which the last of them spoke.
func TestRulesChange(t *testing.T) {
	e := newEnv(t)
	e.cluster(3)
	e.want(2)
	c := e.get(1)
	if c.Rules != 1 || c.Wanted != 2 || c.CodesSeq != e.cursor("cluster/1").Seq || e.last() != proto.Event(proto.RulesWanted{Version: 2}) {
		t.Fatalf("%+v, last message %+v", c, e.last())
	}
	asked := len(e.events("cluster/1"))
	e.Block(e.ready(1, c.CodesSeq, 7))
	e.Block(e.ready(3, c.CodesSeq, 7), e.ready(3, c.CodesSeq, 7))
	if c := e.get(1); c.Rules != 1 || !reflect.DeepEqual(c.RulesMissing(), []proto.WorkerID{wid(2)}) || c.Held != 0 {
		t.Fatalf("two of three: %+v", c)
	}
	for range 300 {
		e.Block()
	}
	if c := e.get(1); c.Rules != 1 || len(e.events("cluster/1")) != asked {
		t.Fatalf("without the third: %+v", c)
	}
	events := e.Block(e.push(push(1, 0)), e.ready(2, c.CodesSeq, 7), e.push(push(2, 0)))
	want := proto.RulesActivated{Version: 2, EffectiveHeight: e.Height() + 1, Images: proto.Hash{7}}
	if e.last() != proto.Event(want) {
		t.Errorf("the last message is %+v, want %+v", e.last(), want)
	}
	if c := e.get(1); c.Rules != 2 || c.Wanted != 0 || c.CodesSeq != 0 || c.Ready != nil || c.Held != 0 {
		t.Errorf("%+v", c)
	}
	if v := testchain.Values(events, "rules_activated", "version"); !slices.Equal(v, []string{"2"}) {
		t.Errorf("events %v", v)
	}
	// Words that come late, and governance that wants an older version, change nothing.
	e.Block(e.ready(1, 1, 9))
	e.want(1)
	e.Block()
	if c := e.get(1); c.Rules != 2 || c.Wanted != 0 || len(c.Ready) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestRulesWords: whose word counts.
func TestRulesWords(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	e.Block(e.knows(9, 2)) // a worker without a seat
	e.want(2)
	at := e.get(1).CodesSeq
	for _, c := range []struct {
		name string
		n    int
		e    proto.RulesReady
		want error
		says int // words after it
	}{
		{"good", 1, proto.RulesReady{Cluster: 1, Version: 2, Seq: at}, nil, 1},
		{"of older codes", 1, proto.RulesReady{Cluster: 1, Version: 2, Seq: at - 1}, nil, 1},
		{"no seat", 9, proto.RulesReady{Cluster: 1, Version: 2, Seq: at}, ErrSeat, 0},
		{"no cluster", 1, proto.RulesReady{Cluster: 2, Version: 2, Seq: at}, ErrNoCluster, 0},
		{"of a message that is not there", 1, proto.RulesReady{Cluster: 1, Version: 2, Seq: at + 1}, ErrMalformed, 0},
		{"of a version that nobody wants", 1, proto.RulesReady{Cluster: 1, Version: 3, Seq: at}, nil, 0},
		{"of the version in force", 1, proto.RulesReady{Cluster: 1, Version: 1, Seq: at}, nil, 0},
	} {
		if err := e.say(c.n, c.e); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		e.Start()
		_, err := e.Tx(func(ctx sdk.Context) error {
			if cl, err := e.k.Cluster(ctx, 1); err != nil || cl.HasSeat(wid(c.n)) && c.e.Cluster == 1 {
				if err := errors.Join(err, e.k.rulesReady(ctx, cl, wid(c.n), c.e)); err != nil && c.want == nil {
					return err
				}
			}
			if cl, err := e.k.Cluster(ctx, 1); err != nil || len(cl.Ready) != c.says {
				t.Errorf("%s: %d words, %v", c.name, len(cl.Ready), err)
			}
			return errUndo
		})
		e.Finish()
		if !errors.Is(err, errUndo) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Seats that prepared other images keep the old rules, and are named.
	e.Block(e.ready(1, at, 1))
	events := e.Block(e.ready(2, at, 2))
	if v := testchain.Values(events, "rules_disputed", "worker"); !slices.Equal(v, []string{wid(2).String()}) {
		t.Errorf("named %v", v)
	}
	for range 3 {
		e.Block()
	}
	if c := e.get(1); c.Rules != 1 || c.Held != 0 || len(c.RulesMissing()) != 0 {
		t.Errorf("%+v", c)
	}
	e.Block(e.ready(2, at, 1))
	if c := e.get(1); c.Rules != 2 {
		t.Errorf("%+v", c)
	}
}

// TestRulesAndContracts: what starts meanwhile is part of what the seats must agree on, so
// contracts wait a little once all seats can; those that wait over the change are decided
// under the new rules.
func TestRulesAndContracts(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	one, two, three := e.uploaded("one"), e.uploaded("two"), e.uploaded("three")
	prepare := func(rules uint32, code proto.Hash) []func(sdk.Context) error {
		return []func(sdk.Context) error{e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: rules, Code: code, Image: proto.Hash{byte(rules)}}),
			e.outbox(2, proto.CodePrepared{Cluster: 1, Rules: rules, Code: code, Image: proto.Hash{byte(rules)}})}
	}
	e.Block(e.deploy(deploy(3, one, "")))
	e.Block(prepare(1, one)...)
	e.want(2)
	asked := e.get(1).CodesSeq
	e.Block(e.ready(1, asked, 1))
	e.Block(e.deploy(deploy(3, two, "")))
	e.Block(prepare(1, two)...)
	started := e.get(1).CodesSeq
	if ct := e.contract(3, two, ""); ct.Phase != proto.ContractStarted || ct.Seq != started || started <= asked {
		t.Fatalf("%+v, codes up to %d", ct, started)
	}
	e.Block(e.ready(2, started, 2))
	c := e.get(1)
	if c.Rules != 1 || c.Held != e.Height() {
		t.Fatalf("one has not seen the second code: %+v", c)
	}
	// Of a code that is decided, and of one that is not.
	e.Block(e.deploy(deploy(3, one, "again")), e.deploy(deploy(3, three, "")))
	e.Block(prepare(1, three)...)
	e.Block()
	for _, ct := range []*proto.Contract{e.contract(3, one, "again"), e.contract(3, three, "")} {
		if ct.Phase != proto.ContractWaiting {
			t.Fatalf("%+v", ct)
		}
	}
	before := len(e.events("cluster/1"))
	e.Block(e.ready(1, started, 2))
	if c := e.get(1); c.Rules != 2 || c.Held != 0 {
		t.Fatalf("%+v", c)
	}
	e.Block()
	news := e.events("cluster/1")[before:]
	announced := []proto.Event{proto.CodeAnnounced{Code: one, Size: 100}, proto.CodeAnnounced{Code: three, Size: 100}}
	if bytes.Compare(one[:], three[:]) > 0 {
		slices.Reverse(announced)
	}
	if _, ok := news[0].(proto.RulesActivated); !ok || !reflect.DeepEqual(news[1:], announced) {
		t.Fatalf("%+v", news)
	}
	// A word under the old rules, still on its way, is none any more.
	e.Block(prepare(1, one)...)
	if ct := e.contract(3, one, "again"); ct.Phase != proto.ContractWaiting {
		t.Fatalf("%+v", ct)
	}
	e.Block(prepare(2, one)...)
	e.Block(prepare(2, three)...)
	for _, ct := range []*proto.Contract{e.contract(3, one, "again"), e.contract(3, three, "")} {
		list := e.events("cluster/1")
		if ct.Phase != proto.ContractStarted || list[ct.Seq-1].(proto.Instantiated).Image != (proto.Hash{2}) {
			t.Fatalf("%+v", ct)
		}
	}
	// The votes of before are gone, and a code that has none under the new rules is asked for.
	code, err := get(e.Context(), e.k, proto.KeyCode(one), proto.ParseCode)
	if err != nil || len(code.Prepared) != 2 {
		t.Errorf("%d votes, %v", len(code.Prepared), err)
	}
	e.Block(e.deploy(deploy(3, two, "again")))
	if ct := e.contract(3, two, "again"); ct.Phase != proto.ContractWaiting || e.last() != proto.Event(proto.CodeAnnounced{Code: two, Size: 100}) {
		t.Errorf("%+v, last message %+v", ct, e.last())
	}
}

// TestRulesHold: a seat that does not catch up holds contracts only for a while, and only
// again after as long.
func TestRulesHold(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	hash := e.uploaded("one")
	e.Block(e.deploy(deploy(3, hash, "")))
	e.want(2)
	asked := e.get(1).CodesSeq
	e.Block(e.ready(1, asked, 1), e.ready(2, asked-1, 2)) // the second is behind
	from := e.get(1).Held
	e.Block(e.outbox(1, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}), e.outbox(2, proto.CodePrepared{Cluster: 1, Rules: 1, Code: hash}))
	waits := func() bool { return e.contract(3, hash, "").Phase == proto.ContractWaiting }
	for e.Height() < from+holdBlocks-1 {
		if e.Block(); !waits() {
			t.Fatalf("held from %d, started by %d", from, e.Height())
		}
	}
	if e.Block(); waits() {
		t.Fatalf("held from %d, still at %d", from, e.Height())
	}
	for e.Height() < from+2*holdBlocks-1 {
		if e.Block(); e.get(1).Held != from {
			t.Fatalf("held again at %d", e.Height())
		}
	}
	if e.Block(); e.get(1).Held != from+2*holdBlocks {
		t.Fatalf("%+v", e.get(1))
	}
	seq := e.get(1).CodesSeq
	e.Block(e.ready(1, seq, 3), e.ready(2, seq, 3))
	if c := e.get(1); c.Rules != 2 {
		t.Fatalf("%+v", c)
	}
}

// TestRulesWithdrawn: governance may want something else before the seats are ready.
func TestRulesWithdrawn(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	e.want(2)
	first := e.get(1).CodesSeq
	e.want(1)
	if c := e.get(1); c.Wanted != 0 || c.CodesSeq != 0 || e.last() != proto.Event(proto.RulesWanted{Version: 1}) {
		t.Fatalf("%+v, last message %+v", c, e.last())
	}
	e.Block(e.ready(1, first, 1))
	if c := e.get(1); c.Rules != 1 || c.Ready != nil {
		t.Fatalf("%+v", c)
	}
	e.want(3)
	e.Block(e.ready(1, first, 1)) // still of version 2
	if c := e.get(1); c.Rules != 1 || c.Wanted != 3 {
		t.Fatalf("%+v", c)
	}
	e.Block(e.outbox(1, proto.RulesReady{Cluster: 1, Version: 3, Seq: e.get(1).CodesSeq, Images: proto.Hash{4}}))
	if c := e.get(1); c.Rules != 3 || e.last() != proto.Event(proto.RulesActivated{Version: 3, EffectiveHeight: e.Height() + 1, Images: proto.Hash{4}}) {
		t.Fatalf("%+v, last message %+v", c, e.last())
	}
}

// TestRulesAndSeats: a seat goes to who knows the cluster's rules, first to who knows the
// wanted ones; whoever gets one must speak as well.
func TestRulesAndSeats(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	e.want(2)
	at := e.get(1).CodesSeq
	e.Block(e.ready(1, at, 1))
	end := func(n int) func(sdk.Context) error {
		return func(ctx sdk.Context) error {
			w, err := e.regs.Worker(ctx, wid(n))
			if err != nil {
				return err
			}
			w.Expires = uint64(ctx.BlockHeight())
			return e.regs.set(ctx, w)
		}
	}
	// The newer worker gets the seat of who is gone, whatever the order of their names.
	var txs []func(sdk.Context) error
	for n := 10; n < 20; n++ {
		txs = append(txs, e.register(n))
	}
	e.Block(append(txs, e.knows(3, 2), end(2))...)
	if c := e.get(1); !c.HasSeat(wid(3)) || c.Rules != 1 || !slices.Equal(c.RulesMissing(), []proto.WorkerID{wid(3)}) {
		t.Fatalf("%+v", c)
	}
	e.Block(e.ready(3, at, 1))
	if c := e.get(1); c.Rules != 2 {
		t.Fatalf("%+v", c)
	}
	// Under the new rules the ones who do not know them get none.
	e.Block(end(3))
	for range 5 {
		e.Block()
	}
	if c := e.get(1); len(c.Seats) != 1 {
		t.Fatalf("seats %v", c.Seats)
	}
	e.Block(e.knows(4, 3))
	if c := e.get(1); !c.HasSeat(wid(4)) {
		t.Fatalf("seats %v", c.Seats)
	}
	// A new cluster begins with the rules that are wanted.
	e.Block(e.create(1, 1, true), e.knows(5, 2))
	c := e.get(2)
	want := proto.RulesActivated{Version: 2, EffectiveHeight: e.Height() + 1, Images: proto.ImagesDigest(2, nil)}
	if c.Rules != 2 || !c.HasSeat(wid(5)) || !reflect.DeepEqual(e.events("cluster/2"), []proto.Event{want}) {
		t.Fatalf("%+v, messages %+v", c, e.events("cluster/2"))
	}
}

// TestRulesWordEndsWithSeat: who lost its seat and gets it back says anew what it can.
func TestRulesWordEndsWithSeat(t *testing.T) {
	e := newEnv(t)
	e.cluster(2)
	e.want(2)
	at := e.get(1).CodesSeq
	e.Block(e.ready(1, at, 1))
	expires := func(height uint64) func(sdk.Context) error {
		return func(ctx sdk.Context) error {
			w, err := e.regs.Worker(ctx, wid(1))
			if err != nil {
				return err
			}
			w.Expires = height
			return e.regs.set(ctx, w)
		}
	}
	e.Block(expires(1))
	if c := e.get(1); c.HasSeat(wid(1)) || len(c.Ready) != 0 {
		t.Fatalf("%+v", c)
	}
	e.Block(expires(1 << 40))
	e.Block(e.ready(2, at, 1))
	if c := e.get(1); !c.HasSeat(wid(1)) || c.Rules != 1 || !slices.Equal(c.RulesMissing(), []proto.WorkerID{wid(1)}) {
		t.Fatalf("%+v", c)
	}
	e.Block(e.ready(1, at, 1))
	if c := e.get(1); c.Rules != 2 {
		t.Fatalf("%+v", c)
	}
}

// TestRulesParameter: governance cannot want what no admitted worker knows.
func TestRulesParameter(t *testing.T) {
	e := newEnv(t)
	e.Block(e.knows(1, 3), func(ctx sdk.Context) error {
		gone := &proto.WorkerInfo{Worker: wid(2), Role: proto.RoleWorker, Rules: 4, Expires: 1}
		gatekeeper := &proto.WorkerInfo{Worker: wid(3), Role: proto.RoleGatekeeper, Rules: 5, Expires: 1 << 40}
		return errors.Join(e.regs.set(ctx, gone), e.regs.set(ctx, gatekeeper))
	})
	update := func(rules uint32) error {
		_, err := e.Tx(func(ctx sdk.Context) error {
			_, err := e.k.UpdateParams(ctx, &types.MsgUpdateParams{Authority: authority, Params: fmt.Sprintf(`{"base_fee":"1","gas_price":"1","code_price":"1","rules":%d,"epoch_blocks":"0","silent_blocks":"0"}`, rules)})
			return err
		})
		return err
	}
	e.Start()
	for _, c := range []struct {
		rules uint32
		want  error
	}{{3, nil}, {4, ErrParams}, {1, nil}, {2, nil}, {0, ErrParams}} {
		if err := update(c.rules); !errors.Is(err, c.want) {
			t.Errorf("version %d: %v, want %v", c.rules, err, c.want)
		}
	}
	e.Finish()
}

// TestAnnounceAgain: however many codes contracts wait for, a block announces a bounded
// number, each once.
func TestAnnounceAgain(t *testing.T) {
	e := newEnv(t)
	e.cluster(1)
	var codes []proto.Hash
	for i := range againPerBlock + 3 {
		code := e.uploaded(fmt.Sprint(i))
		codes = append(codes, code)
		e.Block(e.deploy(deploy(4, code, "a")), e.deploy(deploy(4, code, "b")))
	}
	e.want(2)
	e.Block(e.ready(1, e.get(1).CodesSeq, 1))
	slices.SortFunc(codes, func(a, b proto.Hash) int { return bytes.Compare(a[:], b[:]) })
	for _, want := range []int{againPerBlock, 3, 0} {
		before := len(e.events("cluster/1"))
		e.Block()
		news := e.events("cluster/1")[before:]
		if len(news) != want {
			t.Fatalf("%d messages, want %d", len(news), want)
		}
		for i, n := range news {
			if n.(proto.CodeAnnounced).Code != codes[i] {
				t.Fatalf("message %d: %+v", i, n)
			}
		}
		codes = codes[want:]
	}
}
