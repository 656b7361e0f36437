package registry

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	sdk "github.com/cosmos/cosmos-sdk/types"

	"github.com/phala-go/phala/attest"
	"github.com/phala-go/phala/attest/simulator"
	"github.com/phala-go/phala/node/x/internal/testchain"
	"github.com/phala-go/phala/node/x/mq"
	"github.com/phala-go/phala/node/x/registry/types"
	"github.com/phala-go/phala/proto"
)

func TestRegister(t *testing.T) {
	e := newEnv(t)
	a := e.apply(1)
	m := a.message(t)
	events := e.Block(func(ctx sdk.Context) error { _, err := e.k.RegisterWorker(ctx, m); return err })
	measurement, err := simulator.Measurement(attest.TDX, goodSoftware)
	if err != nil {
		t.Fatal(err)
	}
	want := &proto.WorkerInfo{Worker: id(1), Operator: testchain.Account(1), Role: proto.RoleWorker, Measurement: measurement, Simulated: true, Level: 1,
		Registered: 11, Expires: 111, Rules: 7, Endpoints: a.reg.Endpoints, State: proto.WorkerState{Session: session(1), SessionHeight: 11, Heard: 11}}
	if got := e.worker(1); !reflect.DeepEqual(got, want) {
		t.Fatalf("record\n%+v\nwant\n%+v", got, want)
	}
	if ok, why := e.serving(1); !ok {
		t.Fatal(why)
	}
	if got := testchain.Values(events, "worker_registered", "simulated"); !reflect.DeepEqual(got, []string{"true"}) {
		t.Fatalf("event says simulated: %v", got)
	}
	// The worker's copy is without the evidence; the gatekeepers' has it with the chain's
	// collateral.
	ev, err := attest.Parse(m.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Collateral, err = simulated(t).Collateral(attest.TDX, testchain.Genesis); err != nil {
		t.Fatal(err)
	}
	filled := ev.Marshal()
	for topic, evidence := range map[string][]byte{proto.TopicWorker(id(1)): {}, proto.TopicGatekeeper: filled} {
		msg, ev := e.last(topic)
		if msg.Seq != 1 || string(msg.Sender) != ModuleName || !reflect.DeepEqual(ev, proto.WorkerRegistered{Registration: m.Registration, Evidence: evidence, Expires: 111}) {
			t.Errorf("%s holds %d bytes of %T from %q at %d", topic, len(msg.Payload), ev, msg.Sender, msg.Seq)
		}
	}
}

func TestRegisterRefused(t *testing.T) {
	type edit func(t *testing.T, e *env, a *application)
	for _, c := range []struct {
		name string
		want error
		edit edit
	}{
		{"operator is no address", ErrMalformed, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Operator = "phala1" }
		}},
		{"registration cut", ErrMalformed, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Registration = m.Registration[:len(m.Registration)-1] }
		}},
		{"bytes after the registration", ErrMalformed, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Registration = append(m.Registration, 0) }
		}},
		{"unknown role", ErrMalformed, func(_ *testing.T, _ *env, a *application) { a.reg.Role = 3 }},
		{"evidence too long", ErrEvidence, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Evidence = make([]byte, attest.MaxEvidence+1) }
		}},
		{"session is no key", ErrMalformed, func(_ *testing.T, _ *env, a *application) { a.reg.Session = [32]byte{0xff, 0xff} }},
		{"session is the neutral element", ErrMalformed, func(_ *testing.T, _ *env, a *application) { a.reg.Session = [32]byte{} }},
		{"another chain", ErrWrongChain, func(_ *testing.T, _ *env, a *application) { a.reg.Chain = "other-1" }},
		{"another trust root", ErrWrongChain, func(_ *testing.T, _ *env, a *application) { a.reg.TrustRoot[0] ^= 1 }},
		{"other attestation roots", ErrWrongChain, func(_ *testing.T, _ *env, a *application) {
			a.reg.Roots = proto.Hash(attest.ProductionRoots().Digest())
		}},
		{"a trust root that is not kept", ErrWrongChain, func(_ *testing.T, _ *env, a *application) {
			a.reg.TrustHeight, a.reg.TrustRoot = 2, testchain.HashAt(2)
		}},
		{"a trust root to come", ErrWrongChain, func(_ *testing.T, _ *env, a *application) {
			a.reg.TrustHeight, a.reg.TrustRoot = proto.TrustRootInterval, testchain.HashAt(proto.TrustRootInterval)
		}},
		{"a longer lease than is allowed", ErrSettings, func(_ *testing.T, _ *env, a *application) { a.reg.Settings.Lease = 600_001 }},
		{"a longer trusting period", ErrSettings, func(_ *testing.T, _ *env, a *application) { a.reg.Settings.TrustingPeriod *= 2 }},
		{"a longer drift", ErrSettings, func(_ *testing.T, _ *env, a *application) { a.reg.Settings.ClockDrift = 60_001 }},
		{"longer sessions", ErrSettings, func(_ *testing.T, _ *env, a *application) { a.reg.Settings.SessionInterval *= 8 }},
		{"a worker that would release keys", ErrMalformed, func(t *testing.T, _ *env, a *application) {
			a.reg.Releases = []proto.Hash{digest(t, attest.TDX, goodSoftware)}
		}},
		{"a gatekeeper that would release keys to what is not allowed", ErrMeasurement, func(t *testing.T, _ *env, a *application) {
			a.reg.Role, a.reg.Releases = proto.RoleGatekeeper, []proto.Hash{digest(t, attest.TDX, goodSoftware), digest(t, attest.SGX, goodSoftware)}
		}},
		{"while registrations are frozen", ErrFrozen, func(_ *testing.T, e *env, _ *application) { e.edit(func(p *Params) { p.Frozen = true }) }},
		{"another operator", ErrOperator, func(_ *testing.T, _ *env, a *application) { a.sender = testchain.Account(7) }},
		{"gatekeeper of an operator that may not", ErrNotGatekeeper, func(_ *testing.T, _ *env, a *application) {
			a.reg.Role, a.reg.Operator, a.sender = proto.RoleGatekeeper, testchain.Account(2), testchain.Account(2)
		}},
		{"signed by another identity", ErrSignature, func(_ *testing.T, _ *env, a *application) { a.pair = testchain.Pair(8) }},
		{"signature cut", ErrSignature, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Signature = m.Signature[:63] }
		}},
		{"registration edited after signing", ErrSignature, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Registration[len(m.Registration)-1] ^= 1 }
		}},
		{"a block of another fork", ErrStale, func(_ *testing.T, _ *env, a *application) { a.reg.Hash[31] ^= 1 }},
		{"a future block", ErrStale, func(_ *testing.T, e *env, a *application) {
			a.reg.Height, a.reg.Hash = e.Height()+5, testchain.HashAt(e.Height()+5)
		}},
		{"a block too old", ErrStale, func(_ *testing.T, e *env, a *application) { e.skip(20) }},
		{"the trust root's block when it is too old", ErrStale, func(_ *testing.T, e *env, a *application) {
			e.skip(30)
			a.reg.Height, a.reg.Hash = 1, testchain.HashAt(1)
		}},
		{"a block of height 0", ErrStale, func(_ *testing.T, _ *env, a *application) { a.reg.Height, a.reg.Hash = 0, proto.Hash{} }},
		{"the same again", ErrStale, func(t *testing.T, e *env, a *application) { e.Block(e.register(a)) }},
		{"epoch 0", ErrStale, func(_ *testing.T, _ *env, a *application) { a.reg.Epoch = 0 }},
		{"a later epoch than the next", ErrStale, func(_ *testing.T, _ *env, a *application) { a.reg.Epoch = 2 }},
		{"an epoch that has been", ErrStale, func(t *testing.T, e *env, a *application) {
			e.Block(e.register(a))
			a.reg.Height, a.reg.Hash = e.Height(), testchain.HashAt(e.Height())
		}},
		{"no evidence", ErrEvidence, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Evidence = nil }
		}},
		{"evidence edited", ErrEvidence, func(_ *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) { m.Evidence[700] ^= 1 }
		}},
		{"evidence that brings collateral", ErrEvidence, func(t *testing.T, _ *env, a *application) {
			a.after = func(m *types.MsgRegisterWorker) {
				ev, err := attest.Parse(m.Evidence)
				if err != nil {
					t.Fatal(err)
				}
				if ev.Collateral, err = simulated(t).Collateral(attest.TDX, testchain.Genesis); err != nil {
					t.Fatal(err)
				}
				m.Evidence = ev.Marshal()
			}
		}},
		{"a platform without collateral on the chain", ErrCollateral, func(_ *testing.T, _ *env, a *application) { a.tee = attest.SGX }},
		{"simulated evidence on a real chain", ErrEvidence, func(t *testing.T, e *env, a *application) {
			e.Block(func(ctx sdk.Context) error { return e.k.store.OpenKVStore(ctx).Delete(keyRoots) })
			a.reg.Roots = proto.Hash(attest.ProductionRoots().Digest())
		}},
		{"roots that are none", ErrEvidence, func(t *testing.T, e *env, _ *application) {
			e.Block(func(ctx sdk.Context) error { return e.k.store.OpenKVStore(ctx).Set(keyRoots, []byte{1}) })
		}},
		{"evidence for another session", ErrReportData, func(_ *testing.T, _ *env, a *application) {
			other := a.reg
			other.Session = session(5)
			a.bound = &other
		}},
		{"evidence of another worker, copied", ErrReportData, func(_ *testing.T, e *env, a *application) { a.bound = &e.apply(2).reg }},
		{"other software", ErrMeasurement, func(_ *testing.T, _ *env, a *application) { a.software = otherSoftware }},
		{"good software in another kind of TEE", ErrMeasurement, func(t *testing.T, e *env, a *application) {
			e.bring(attest.SGX, simulated(t))
			a.tee = attest.SGX
		}},
		{"machine of a serving worker", ErrMachine, func(t *testing.T, e *env, a *application) {
			other := e.apply(2)
			other.machine = a.machine
			e.Block(e.register(other))
			a.reg.Height, a.reg.Hash = e.Height(), testchain.HashAt(e.Height())
		}},
		{"machine of a serving worker, through its other kind of TEE", ErrMachine, func(t *testing.T, e *env, a *application) {
			e.bring(attest.SGX, simulated(t))
			e.Block(func(ctx sdk.Context) error { return e.allow(ctx, digest(t, attest.SGX, goodSoftware), 0, 0) })
			other := e.apply(2)
			other.machine, other.tee = a.machine, attest.SGX
			e.Block(e.register(other))
		}},
		{"another role than before", ErrRole, func(t *testing.T, e *env, a *application) {
			e.Block(e.register(a))
			a.reg.Epoch = 2
			a.reg.Role, a.reg.Height, a.reg.Hash = proto.RoleGatekeeper, e.Height(), testchain.HashAt(e.Height())
		}},
		{"another operator than before", ErrRole, func(t *testing.T, e *env, a *application) {
			e.Block(e.register(a))
			a.reg.Epoch = 2
			a.reg.Operator, a.sender = testchain.Account(4), testchain.Account(4)
			a.reg.Height, a.reg.Hash = e.Height(), testchain.HashAt(e.Height())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEnv(t)
			a := e.apply(1)
			c.edit(t, e, a)
			e.Start()
			state, queue := e.Dump(ModuleName), e.Dump("mq")
			_, err := e.Tx(e.register(a))
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if !reflect.DeepEqual(e.Dump(ModuleName), state) {
				t.Fatal("state changed")
			}
			e.Finish()
			if !reflect.DeepEqual(e.Dump("mq"), queue) {
				t.Fatal("a message was sent")
			}
		})
	}
}

// edit changes the parameters in a block of their own.
func (e *env) edit(f func(*Params)) {
	e.t.Helper()
	e.Block(func(ctx sdk.Context) error {
		p, err := e.k.Params(ctx)
		f(&p)
		return errors.Join(err, e.k.SetParams(ctx, p))
	})
}

// TestLevel: a platform that is not up to date has a worse confidence level, which
// the network may refuse.
func TestLevel(t *testing.T) {
	dir := t.TempDir()
	st, err := simulator.Open(dir, testchain.Genesis, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SetState(testchain.Genesis, func(s *simulator.State) error { s.Status = "OutOfDate"; return nil }); err != nil {
		t.Fatal(err)
	}
	simulated(t)
	old := vendor.store
	vendor.store = st
	t.Cleanup(func() { vendor.store = old })
	e := newEnv(t)
	e.edit(func(p *Params) { p.WorstLevel = 2 })
	e.Start()
	if _, err := e.Tx(e.register(e.apply(1))); !errors.Is(err, ErrLevel) {
		t.Fatalf("got %v", err)
	}
	e.Finish()
	e.edit(func(p *Params) { p.WorstLevel = 5 })
	e.Block(e.register(e.apply(1)))
	if w := e.worker(1); w.Level <= 2 {
		t.Fatalf("level %d", w.Level)
	}
}

// TestEvidenceAge: collateral is judged at the block's time.
func TestEvidenceAge(t *testing.T) {
	e := newEnv(t)
	m := e.apply(1).message(t)
	e.Start()
	for at, want := range map[time.Duration]error{365 * 24 * time.Hour: ErrEvidence, -365 * 24 * time.Hour: ErrEvidence, 0: errUndo} {
		if _, err := e.Tx(func(ctx sdk.Context) error {
			if _, err := e.k.RegisterWorker(ctx.WithBlockTime(ctx.BlockTime().Add(at)), m); err != nil {
				return err
			}
			return errUndo
		}); !errors.Is(err, want) {
			t.Errorf("%s from now: %v, want %v", at, err, want)
		}
	}
}

var errUndo = errors.New("undo")

// TestRenewal keeps seat and topic and replaces session, endpoints and expiry.
func TestRenewal(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)))
	e.Block(func(ctx sdk.Context) error { return e.k.SetCluster(ctx, id(1), 7) })
	a := e.apply(1)
	a.reg.Session, a.reg.Endpoints = session(50), nil
	e.Block(e.register(a))
	w := e.worker(1)
	if w.State.Cluster != 7 || w.State.Session != session(50) || w.Expires != e.Height()+100 || len(w.Endpoints) != 0 {
		t.Fatalf("%+v", w)
	}
	if m, _ := e.last(proto.TopicWorker(id(1))); m.Seq != 2 {
		t.Fatalf("worker's topic is at %d", m.Seq)
	}
	if err := e.k.SetCluster(e.Context(), id(5), 1); !errors.Is(err, ErrNotRegistered) {
		t.Fatalf("seat of an unknown worker: %v", err)
	}
}

func TestServing(t *testing.T) {
	e := newEnv(t)
	if ok, why := e.serving(1); ok || why != "not registered" {
		t.Fatal(ok, why)
	}
	e.Block(e.register(e.apply(1)))
	registered := e.Height()
	e.skip(10)
	if ok, why := e.serving(1); !ok {
		t.Fatalf("at the end of the lease: %s", why)
	}
	e.skip(1)
	if ok, why := e.serving(1); ok || !strings.Contains(why, "silent since height 11") {
		t.Fatalf("after the lease: %v %s", ok, why)
	}
	e.Block(e.outbox(1, 1, proto.Challenge{Nonce: [32]byte{1}}))
	if ok, why := e.serving(1); !ok {
		t.Fatalf("after it spoke: %s", why)
	}
	seq := uint64(2)
	for ; e.Height() < registered+99; seq++ {
		e.Block(e.outbox(1, seq, proto.Challenge{Nonce: [32]byte{1}}))
	}
	if ok, why := e.serving(1); !ok {
		t.Fatalf("in the last block of its attestation: %s", why)
	}
	e.refused(e.outbox(1, seq, proto.Challenge{Nonce: [32]byte{1}}), mq.ErrNoWorker)
	if ok, why := e.serving(1); ok || !strings.Contains(why, "attestation ended at height 111") {
		t.Fatalf("after its attestation ended: %v %s", ok, why)
	}
	// Nothing of the outbox is lost: admitted anew, the same entry is taken.
	e.Block(e.register(e.apply(1)))
	e.Block(e.outbox(1, seq, proto.Challenge{Nonce: [32]byte{1}}))
	if ok, why := e.serving(1); !ok {
		t.Fatalf("admitted anew: %s", why)
	}
}

// TestBlockHashes: recent ones and the first stay, the others go.
func TestBlockHashes(t *testing.T) {
	e := newEnv(t)
	e.skip(40)
	if err := e.k.trustRoot(e.Context(), 1, testchain.HashAt(1)); err != nil {
		t.Fatal(err)
	}
	p := params(t)
	for h := uint64(0); h <= e.Height()+1; h++ {
		kept, err := e.k.store.OpenKVStore(e.Context()).Get(proto.KeyBlock(h))
		if err != nil {
			t.Fatal(err)
		}
		want := h == 1 || (h+p.RecentBlocks >= e.Height() && h <= e.Height())
		if (kept != nil) != want {
			t.Errorf("height %d of %d kept: %v, want %v", h, e.Height(), kept != nil, want)
		}
		if err := e.k.recent(e.Context(), &p, h, testchain.HashAt(h)); (err == nil) != (want && h != 1) {
			t.Errorf("height %d is recent at %d: %v", h, e.Height(), err)
		}
	}
}

func TestUpdateParams(t *testing.T) {
	e := newEnv(t)
	good := `{"gatekeeper_operators":[],"recent_blocks":1,"attestation_blocks":1,"renewal_blocks":1,"lease_blocks":1,"worst_level":1,"registrations_per_block":1,` +
		`"settings":{"lease_ms":1,"trusting_period_ms":1,"clock_drift_ms":1,"session_interval_ms":1},"frozen":false}`
	for _, c := range []struct {
		name, sender, params string
		want                 error
	}{
		{"governance", authority, good, nil},
		{"anybody else", testchain.Account(1).String(), good, ErrAuthority},
		{"nobody", "", good, ErrAuthority},
		{"no JSON", authority, "{", ErrParams},
		{"unknown field", authority, `{"recent":1}`, ErrParams},
		{"two values", authority, good + good, ErrParams},
		{"nothing positive", authority, `{}`, ErrParams},
		{"level 0", authority, strings.Replace(good, `"worst_level":1`, `"worst_level":0`, 1), ErrParams},
		{"level 6", authority, strings.Replace(good, `"worst_level":1`, `"worst_level":6`, 1), ErrParams},
		{"settings that are left out", authority, strings.Replace(good, `"clock_drift_ms":1,`, "", 1), ErrParams},
		{"no grace", authority, strings.Replace(good, `"renewal_blocks":1`, `"renewal_blocks":0`, 1), ErrParams},
		{"no lease", authority, strings.Replace(good, `"lease_blocks":1`, `"lease_blocks":0`, 1), ErrParams},
		{"more recent blocks than there are numbers", authority, strings.Replace(good, `"recent_blocks":1`, `"recent_blocks":18446744073709551615`, 1), ErrParams},
		{"an admission without end", authority, strings.Replace(good, `"attestation_blocks":1`, `"attestation_blocks":18446744073709551615`, 1), ErrParams},
		{"operator is no address", authority, strings.Replace(good, `"gatekeeper_operators":[]`, `"gatekeeper_operators":["x"]`, 1), ErrParams},
	} {
		t.Run(c.name, func(t *testing.T) {
			e.Start()
			before := e.Dump(ModuleName)
			_, err := e.Tx(func(ctx sdk.Context) error {
				_, err := e.k.UpdateParams(ctx, &types.MsgUpdateParams{Authority: c.sender, Params: c.params})
				return err
			})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if reflect.DeepEqual(e.Dump(ModuleName), before) != (c.want != nil) {
				t.Fatal("parameters changed, or did not")
			}
			e.Finish()
		})
	}
}

func TestEach(t *testing.T) {
	e := newEnv(t)
	e.Block(e.register(e.apply(1)), e.register(e.apply(2)), e.register(e.apply(3)))
	var seen []proto.WorkerID
	if err := e.k.Each(e.Context(), func(w *proto.WorkerInfo) (bool, error) { seen = append(seen, w.Worker); return true, nil }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 3 || bytes.Compare(seen[0][:], seen[1][:]) >= 0 || bytes.Compare(seen[1][:], seen[2][:]) >= 0 {
		t.Fatalf("order %v", seen)
	}
}

// BenchmarkRegister is the cost of one registration to a validator.
func BenchmarkRegister(b *testing.B) {
	e := newEnv(b)
	f := e.register(e.apply(1))
	e.Start()
	for b.Loop() {
		if _, err := e.Tx(func(ctx sdk.Context) error { return errors.Join(f(ctx), errUndo) }); !errors.Is(err, errUndo) || errors.Is(err, ErrEvidence) {
			b.Fatal(err)
		}
	}
}
