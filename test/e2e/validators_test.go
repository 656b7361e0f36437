package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/phala-go/phala/client"
	"github.com/phala-go/phala/client/rpc"
	"github.com/phala-go/phala/internal/devnet"
	"github.com/phala-go/phala/lightclient/comet"
	"github.com/phala-go/phala/lightclient/comet/comettest"
	"github.com/phala-go/phala/pherry"
	"github.com/phala-go/phala/proto"
	"github.com/phala-go/phala/pruntime/api"
	"github.com/phala-go/phala/pruntime/inbox"
)

// TestFourValidators: on a chain of four validators one with most of the power leaves and
// another joins. The enclaves follow, by a header in between; what whoever has the
// validators' real keys makes of headers is refused with its code and changes nothing;
// and two headers that are both valid stop an enclave, which publishes them.
func TestFourValidators(t *testing.T) {
	bonds := []int64{7 * million, 1 * million, 1 * million, 1 * million, 0}
	n, opt := startWith(t, devnet.Options{Workers: 1, Bonds: bonds, NPoS: shortEras})
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	vs, err := n.Validators()
	if err != nil {
		t.Fatal(err)
	}
	f := &four{n: n, opt: opt, vs: vs, node: n.Client.Node(), hello: n.State().Contracts["hello"],
		old: signers(vs[:4], bonds[:4]...), now: signers(vs[1:], million, million, million, joining)}
	// Each leaves the network as it found it, so that one failure is one failure.
	for _, s := range []struct {
		name string
		run  func(context.Context, *testing.T)
	}{
		{"validators are replaced", f.replace},
		{"hostile headers", f.hostileHeaders},
		{"beyond the trusting period", f.expired},
		{"a node serves another chain", f.otherChain},
		{"two conflicting headers", f.conflict},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.run(ctx, t) }) {
			t.FailNow()
		}
	}
	if c := count(ctx, t, n); c != f.commands {
		t.Errorf("%d commands count as %d", f.commands, c)
	}
}

type four struct {
	n        *devnet.Net
	opt      devnet.Options
	vs       []*devnet.Validator
	node     *rpc.Client
	hello    proto.ContractID
	old, now *comettest.Set // validators before and after
	commands uint64         // that were sent
}

// joining is what the new validator bonds: less than its account has, for the fee.
const joining = 900_000

var both = []string{"worker-1", "gatekeeper"}

// push sends commands and returns how to wait until all are answered.
func (f *four) push(ctx context.Context, t *testing.T, n int) (answered func()) {
	t.Helper()
	pending := push(ctx, t, f.n.Client, f.hello, n)
	f.commands += uint64(n)
	return func() {
		t.Helper()
		for _, p := range pending {
			if _, err := f.n.Client.Wait(ctx, p); err != nil {
				t.Errorf("message %d: %v", p.Seq, err)
			}
		}
	}
}

func (f *four) replace(ctx context.Context, t *testing.T) {
	f.push(ctx, t, 1)()
	if err := f.n.Kill("pherry"); err != nil {
		t.Fatal(err)
	}
	from := status(ctx, t, f.n.Private("worker-1"))
	first, err := f.node.LightBlock(ctx, from.TrustedHeight)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Header.NextValidatorsHash, f.old.Hash()) {
		t.Fatalf("header %d announces validators %x, these are %x", from.TrustedHeight, first.Header.NextValidatorsHash, f.old.Hash())
	}
	join(ctx, t, f.vs[4], joining)
	leave(ctx, t, f.vs[0])
	answered := f.push(ctx, t, 2)
	var last *comet.LightBlock
	until(ctx, t, "the new validators", func() error {
		b, err := f.node.LightBlock(ctx, height(ctx, t, f.node))
		if err == nil && !bytes.Equal(b.Header.ValidatorsHash, f.now.Hash()) {
			err = fmt.Errorf("block %d has validators %x, wanted %x", b.Header.Height, b.Header.ValidatorsHash, f.now.Hash())
		}
		last = b
		return err
	})
	// Those who stayed had 30 % of the old power: nobody can skip to their header.
	for _, name := range both {
		rt := f.n.Private(name)
		before := status(ctx, t, rt)
		a, err := pherry.Build(ctx, f.node, before, last.Header.Height)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Advance(ctx, a); pherry.Code(err) != "block_not_trusted" {
			t.Errorf("%s skips over the change: %v", name, err)
		}
		if after := status(ctx, t, rt); position(after) != position(before) {
			t.Errorf("%s changed:\n%s\n%s", name, position(before), position(after))
		}
	}
	if err := f.n.Run("pherry"); err != nil {
		t.Fatal(err)
	}
	for _, name := range both {
		until(ctx, t, name+" follows", func() error {
			if st := status(ctx, t, f.n.Private(name)); st.TrustedHeight < last.Header.Height {
				return fmt.Errorf("at header %d of %d", st.TrustedHeight, last.Header.Height)
			}
			return nil
		})
	}
	answered()
	f.push(ctx, t, 1)()
}

// stop takes the relayer away and returns when there is something to relay: commands
// that wait.
func (f *four) stop(ctx context.Context, t *testing.T) (answered func()) {
	t.Helper()
	if err := f.n.Kill("pherry"); err != nil {
		t.Fatal(err)
	}
	answered = f.push(ctx, t, 2)
	grows(ctx, t, f.node, 2)
	return answered
}

func (f *four) hostileHeaders(ctx context.Context, t *testing.T) {
	answered := f.stop(ctx, t)
	for _, name := range both {
		f.hostileTo(ctx, t, name)
	}
	if err := f.n.Run("pherry"); err != nil {
		t.Fatal(err)
	}
	answered()
}

func (f *four) hostileTo(ctx context.Context, t *testing.T, name string) {
	rt := f.n.Private(name)
	before := status(ctx, t, rt)
	top := height(ctx, t, f.node)
	honest, err := pherry.Build(ctx, f.node, before, top)
	if err != nil {
		t.Fatal(err)
	}
	b := honest.Blocks[0]
	next, err := f.node.LightBlock(ctx, before.TrustedHeight+1)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(h *comet.Header) { h.ValidatorsHash, h.NextValidatorsHash = f.old.Hash(), f.old.Hash() }
	nobody := comettest.NewSet("nobody", 4)
	thinned := *b
	thinned.Commit.Signatures = slices.Clone(b.Commit.Signatures)
	for i := range 2 {
		thinned.Commit.Signatures[i] = comet.CommitSig{Flag: comet.FlagAbsent}
	}
	retired, all := f.vs[0], comettest.Signing{}
	for _, c := range []struct {
		name  string
		code  string
		block *comet.LightBlock
	}{
		{"half of the signatures taken out of a real commit", "block_too_few_signed", &thinned},
		{"signed by half of the validators", "block_too_few_signed", forge(b, f.now, only(f.now, f.vs[1], f.vs[2]), nil)},
		{"signed by half, the others voted for nothing", "block_too_few_signed", forge(b, f.now, comettest.Signing{Flag: func(i int) uint8 { return []uint8{comet.FlagCommit, comet.FlagNil}[i%2] }}, nil)},
		{"signed by the set that was replaced", "block_not_trusted", forge(b, f.old, only(f.old, retired), replaced)},
		{"signed by the replaced set and one that stayed", "block_not_trusted", forge(b, f.old, only(f.old, retired, f.vs[1]), replaced)},
		{"signed by the replaced set, for the next height", "block_validators", forge(next, f.old, all, replaced)},
		{"signed by the replaced set in the name of the present one", "block_malformed", forge(b, f.old, all, nil)},
		{"signed by nobody's keys", "block_not_trusted", forge(b, nobody, all, func(h *comet.Header) { h.ValidatorsHash, h.NextValidatorsHash = nobody.Hash(), nobody.Hash() })},
		{"of another chain", "block_wrong_chain", forge(b, f.now, all, func(h *comet.Header) { h.ChainID = "another-1" })},
		{"signed for another chain", "block_signature", forge(b, f.now, comettest.Signing{ChainID: "another-1"}, nil)},
		{"ahead of the allowed drift", "block_from_future", forge(b, f.now, all, func(h *comet.Header) { h.Time = time.Now().UTC().Add(time.Hour) })},
		{"before the trusted one in time", "block_not_later", forge(b, f.now, all, func(h *comet.Header) { h.Time = h.Time.Add(-time.Hour) })},
		{"that everyone signed, with a state that is not the chain's", "proof", forge(b, f.now, all, nil)},
	} {
		a := &inbox.Advance{Blocks: []*comet.LightBlock{c.block}, Topics: honest.Topics, Messages: honest.Messages}
		if _, err := rt.Advance(ctx, a); pherry.Code(err) != c.code {
			t.Errorf("%s, a header %s: got %v, want %s", name, c.name, err, c.code)
		}
		if c.code != "proof" { // without a state to prove it would be taken, rightly
			if _, err := rt.Headers(ctx, c.block); pherry.Code(err) != c.code {
				t.Errorf("%s, a header %s, alone: got %v, want %s", name, c.name, err, c.code)
			}
		}
		if after := status(ctx, t, rt); position(after) != position(before) {
			t.Fatalf("%s, a header %s: the position changed:\n%s\n%s", name, c.name, position(before), position(after))
		}
	}
	if _, err := rt.Advance(ctx, honest); err != nil {
		t.Errorf("%s, the honest advance: %v", name, err)
	}
}

// expired starts a new enclave with a trusting period that is over: its trust root vouches
// for nothing any more, neither for the chain's own headers nor for a past that those make
// up who were the validators then and have nothing to lose now.
func (f *four) expired(ctx context.Context, t *testing.T) {
	root, err := f.node.LightBlock(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.node.LightBlock(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(root.Header.Time); age < time.Second {
		t.Fatalf("the chain is %s old", age)
	}
	late, inTime := f.newEnclave(ctx, t, "late", "--trusting-period=1s"), f.newEnclave(ctx, t, "in-time")
	for _, rt := range []*pherry.Runtime{late, inTime} {
		if _, err := rt.TrustHeader(ctx, &root.Header); err != nil {
			t.Fatal(err)
		}
	}
	before := status(ctx, t, late)
	honest, err := pherry.Build(ctx, f.node, before, height(ctx, t, f.node))
	if err != nil {
		t.Fatal(err)
	}
	past := forge(second, f.old, comettest.Signing{}, nil)
	for _, b := range []*comet.LightBlock{second, honest.Blocks[0], past} {
		if _, err := late.Headers(ctx, b); pherry.Code(err) != "block_expired" {
			t.Errorf("header %d: got %v, want block_expired", b.Header.Height, err)
		}
	}
	if _, err := late.Advance(ctx, honest); pherry.Code(err) != "block_expired" {
		t.Errorf("an advance: got %v, want block_expired", err)
	}
	if after := status(ctx, t, late); position(after) != position(before) {
		t.Errorf("the position changed:\n%s\n%s", position(before), position(after))
	}
	if st, err := inTime.Headers(ctx, second); err != nil || st.TrustedHeight != 2 {
		t.Errorf("within the trusting period: %v", err)
	}
	if err := errors.Join(f.n.Kill("late"), f.n.Kill("in-time")); err != nil {
		t.Fatal(err)
	}
}

// newEnclave starts a pruntime that knows nothing yet.
func (f *four) newEnclave(ctx context.Context, t *testing.T, name string, flags ...string) *pherry.Runtime {
	t.Helper()
	private := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	if err := f.n.Also(name, "worker-1", append(flags, "--data="+filepath.Join(f.opt.Dir, name), "--private="+private, fmt.Sprintf("--public=127.0.0.1:%d", freePort(t)))...); err != nil {
		t.Fatal(err)
	}
	rt := pherry.NewRuntime("http://" + private)
	until(ctx, t, name+" has an API", func() error { _, err := rt.Status(ctx); return err })
	return rt
}

// otherChain starts nodes of two other chains, as real as the first: one of another id,
// one of the same.
func (f *four) otherChain(ctx context.Context, t *testing.T) {
	answered := f.stop(ctx, t)
	foreign, other := otherNode(ctx, t, f.opt, "another-1"), otherNode(ctx, t, f.opt, f.n.State().Chain)
	reaches(ctx, t, foreign, 3)
	reaches(ctx, t, other, 3)
	// A new enclave takes no first header but its trust root.
	young := f.newEnclave(ctx, t, "fresh")
	for _, x := range []struct {
		node   *rpc.Client
		height int64
	}{{foreign, 1}, {other, 1}, {f.node, 2}} {
		h, err := x.node.Header(ctx, x.height)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := young.TrustHeader(ctx, h); pherry.Code(err) != "trust_root" {
			t.Errorf("a new enclave, header %d %x: got %v, want trust_root", h.Height, h.Hash(), err)
		}
	}
	h, err := f.node.Header(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := young.TrustHeader(ctx, h); err != nil || st.TrustedHeight != 1 {
		t.Errorf("a new enclave, the right header: %v", err)
	}
	if err := f.n.Kill("fresh"); err != nil {
		t.Fatal(err)
	}
	// Those that know the chain stay with it.
	op, err := f.n.Operator()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range both {
		rt := f.n.Private(name)
		before := status(ctx, t, rt)
		for _, node := range []*rpc.Client{foreign, other} {
			reaches(ctx, t, node, before.TrustedHeight+2)
			relayer := &pherry.Relayer{Node: node, Runtime: rt, Operator: op, Interval: time.Millisecond, Log: slog.New(slog.DiscardHandler)}
			if err := relayer.Round(ctx); err == nil {
				t.Errorf("%s: a relayer of another chain has a good round", name)
			}
		}
		b, err := foreign.LightBlock(ctx, before.TrustedHeight+1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Headers(ctx, b); pherry.Code(err) != "block_wrong_chain" {
			t.Errorf("%s, a header of another chain: got %v, want block_wrong_chain", name, err)
		}
		for at, code := range map[int64]string{before.TrustedHeight + 1: "block_validators", before.TrustedHeight + 2: "block_not_trusted"} {
			b, err := other.LightBlock(ctx, at)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := rt.Headers(ctx, b); pherry.Code(err) != code {
				t.Errorf("%s, the other chain's header %d at %d: got %v, want %s", name, at, before.TrustedHeight, err, code)
			}
		}
		if after := status(ctx, t, rt); position(after) != position(before) {
			t.Errorf("%s changed:\n%s\n%s", name, position(before), position(after))
		}
	}
	// Nor does a client take them.
	for _, node := range []*rpc.Client{foreign, other} {
		net := f.n.Client.Network()
		net.Node = node.URL()
		if _, err := client.Open(net, nil).Sync(ctx); !errors.Is(err, client.ErrTrustRoot) {
			t.Errorf("a client of another chain's node: %v", err)
		}
	}
	if err := f.n.Run("pherry"); err != nil {
		t.Fatal(err)
	}
	answered()
}

// conflict shows the worker, then the gatekeeper, two headers of one height.
func (f *four) conflict(ctx context.Context, t *testing.T) {
	answered := f.stop(ctx, t)
	ports := f.n.State().Ports.Public
	f.conflictTo(ctx, t, "worker-1", fmt.Sprintf("http://127.0.0.1:%d", ports[1]))
	// Who was not shown both goes on.
	if st := status(ctx, t, f.n.Private("gatekeeper")); !st.Serving {
		t.Errorf("the gatekeeper: %s", st.Why)
	}
	f.conflictTo(ctx, t, "gatekeeper", fmt.Sprintf("http://127.0.0.1:%d", ports[0]))
	// Restarted, they follow the chain again, and nothing is lost.
	for _, name := range both {
		if err := errors.Join(f.n.Kill(name), f.n.Run(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.n.Run("pherry"); err != nil {
		t.Fatal(err)
	}
	answered()
	serves(ctx, t, f.n.Private("gatekeeper"))
}

func (f *four) conflictTo(ctx context.Context, t *testing.T, name, public string) {
	t.Helper()
	rt := f.n.Private(name)
	before := status(ctx, t, rt)
	real, err := f.node.LightBlock(ctx, before.TrustedHeight)
	if err != nil {
		t.Fatal(err)
	}
	var none api.Conflict
	if err := ask(ctx, http.MethodGet, public+"/v1/conflict", &none); err != nil || none.Other != nil {
		t.Errorf("%s has evidence before there is any: %v, %v", name, none, err)
	}
	// Half of the validators can sign what they like: it proves nothing.
	few := forge(real, f.now, only(f.now, f.vs[1], f.vs[2]), nil)
	if _, err := rt.Headers(ctx, few); pherry.Code(err) != "block_too_few_signed" {
		t.Errorf("%s, signed by half: %v", name, err)
	}
	if after := status(ctx, t, rt); position(after) != position(before) {
		t.Fatalf("%s: the position changed:\n%s\n%s", name, position(before), position(after))
	}
	other := forge(real, f.now, only(f.now, f.vs[1], f.vs[2], f.vs[3]), nil)
	if _, err := rt.Headers(ctx, other); pherry.Code(err) != "stopped" {
		t.Fatalf("%s, two valid headers of height %d: %v", name, before.TrustedHeight, err)
	}
	// It stands still, says so, and gives both out.
	honest, err := pherry.Build(ctx, f.node, before, height(ctx, t, f.node))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Advance(ctx, honest); pherry.Code(err) != "stopped" {
		t.Errorf("%s goes on: %v", name, err)
	}
	if code, why, err := refusal(ctx, public); code != "stopped" {
		t.Errorf("%s answers %s: %s, %v", name, code, why, err)
	}
	after := status(ctx, t, rt)
	if after.Fatal == "" || after.Serving || after.TrustedHeight != before.TrustedHeight || after.Seq != before.Seq {
		t.Errorf("%s says %+v", name, after)
	}
	var c api.Conflict
	if err := ask(ctx, http.MethodGet, public+"/v1/conflict", &c); err != nil {
		t.Fatal(err)
	}
	trusted, err1 := comet.ParseHeader(c.Trusted)
	given, err2 := comet.ParseLightBlock(c.Other)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if trusted.Hash() != real.Header.Hash() || given.Header.Hash() != other.Header.Hash() || trusted.Hash() == given.Header.Hash() {
		t.Errorf("%s: the evidence is of %x and %x, wanted %x and %x", name, trusted.Hash(), given.Header.Hash(), real.Header.Hash(), other.Header.Hash())
	}
	// Whoever trusts the block before would have taken either.
	parent, err := f.node.Header(ctx, before.TrustedHeight-1)
	if err != nil {
		t.Fatal(err)
	}
	params := comet.Params{ChainID: before.Chain, TrustingPeriod: time.Hour, MaxClockDrift: time.Minute}
	for _, b := range []*comet.LightBlock{real, given} {
		if err := comet.Verify(&params, parent, nil, b, time.Now(), rand.Reader); err != nil {
			t.Errorf("%s: a header of the evidence is not valid: %v", name, err)
		}
	}
}
